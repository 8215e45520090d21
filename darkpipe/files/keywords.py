"""Which keyword says what, in the headers of the programs that take frames. Trust goes from left to right.

The only table of raw keywords; `headers` is its only reader. Keywords are compared in upper case, HIERARCH or not.
"""

from __future__ import annotations

import re
from types import MappingProxyType

KEYWORDS = MappingProxyType(
    {
        "exposure": ("EXPTIME", "EXPOSURE", "EXP", "EXP_TIME", "EXPOSED", "XPOSURE", "DARKTIME", "EXPOSURETIME"),
        "temperature": (
            "CCD-TEMP",
            "CCD_TEMP",
            "CCDTEMP",
            "DET-TEMP",
            "DET_TEMP",
            "TEMPERAT",
            "DETTEMP",
            "TEMPDET",
            "CAMTEMP",
            "CCDATEMP",
            "TEMP",
            "TEMPERATURE",
            "UNSTTEMP",  # Andor: the sensor's temperature while it is not stabilised (TEMP is then -999)
        ),
        "set_point": ("SET-TEMP", "SETTEMP", "SET_TEMP", "CCDSTEMP", "COOLTEMP"),
        "type": (
            "IMAGETYP",
            "IMAGETYPE",
            "FRAME",
            "FRAMETYP",
            "FRAMETYPE",
            "OBSTYPE",
            "IMG_TYPE",
            "PICTTYPE",
            "CCDSFPT",
        ),
        "object": ("OBJECT",),
        "gain": ("GAIN", "CAM-GAIN", "ISOSPEED"),
        "egain": ("EGAIN", "E-GAIN", "CVF", "EPERDN", "EPERADU"),
        "offset": ("OFFSET", "BLKLEVEL", "BLKLVL", "CAM-OFFS"),
        "em_gain": ("EMGAIN", "EM-GAIN", "EMGAIN_C", "EMGAIN_A", "EMREALGN"),
        "binning": ("CCDSUM", "BINNING"),
        "readout_mode": ("READOUTM", "READMODE"),
        "usb_limit": ("USBLIMIT",),
        "subframe": ("DETSEC",),
        "camera": ("INSTRUME", "CAMERAID", "SERIAL", "DETECTOR", "CAM-MOD"),
        "serial": ("SERIAL", "SERIALNO", "SERIALNUMBER", "CAMSN", "CAM-ID", "SERNO", "DETSER"),
        "filter": ("FILTER",),
        "pedestal": ("PEDESTAL",),
        "saturation": ("DATAMAX", "SATURATE", "SATLEVEL"),
        "roworder": ("ROWORDER",),
        "flip": ("FLIPSTAT",),
        "bayer": ("BAYERPAT", "COLORTYP", "CFAIMAGE"),
    }
)

BINNING_PAIRS = (
    ("XBINNING", "YBINNING"),
    ("CCDXBIN", "CCDYBIN"),
    ("BINX", "BINY"),
    ("XBIN", "YBIN"),
    ("HBIN", "VBIN"),
)
SUBFRAME_PAIRS = (("XORGSUBF", "YORGSUBF"), ("CCDSUBFL", "CCDSUBFT"))
ANDOR_RECTANGLE = "SUBRECT"  # 'left, top, right, bottom', counted from 1
BAYER_OFFSETS = ("XBAYROFF", "YBAYROFF")

NUMERIC_TYPES = ("PICTTYPE", "CCDSFPT")  # SBIG, CCDSoft, TheSkyX: 1 light, 2 bias, 3 dark, 4 flat
DATE_KEYWORDS = ("DATE-OBS", "DATE-BEG", "DATE_OBS", "FRAME", "DATEOBS")
TIME_KEYWORDS = ("TIME-OBS", "UT", "UTC", "UTSTART", "TIME_OBS", "UT-OBS")
MJD_KEYWORDS = ("MJD-OBS", "MJD-BEG", "MJD")
JD_KEYWORDS = ("JD", "JD-OBS", "JD_UTC")
DATE_END = "DATE-END"

COMBINED = ("NCOMBINE", "STACKCNT", "SNAPSHOT", "NCOADDS", "COADDS", "NCOADD", "NSTACK", "NUMACC", "NIMAGES")
"""Numbers of frames in this one: more than one is a stack."""

SUB_EXPOSURE = "SUBEXP"  # SharpCap: exposure of one of the frames that were stacked

CALIBRATED = (
    "CALSTAT",
    "ZEROCOR",
    "ZEROCORR",
    "BIASCOR",
    "BIASCORR",
    "BIASSUB",
    "DARKCOR",
    "DARKCORR",
    "DARKSUB",
    "FLATCOR",
    "FLATCORR",
    "CCDPROC",
    "SUBBIAS",
    "SUBDARK",
    "SUBTRACT_BIAS",
    "SUBTRACT_DARK",
    "FLAT_CORRECT",
    "CALFRAME",
    "INTEGRAT",
    "SYNTHET",
)
"""Marks of frames that were calibrated or made from others, unless they say that nothing was done."""

CREATOR, OURS = "CREATOR", "darkpipe "
"""The keyword that names the program, and how that of a product of this one begins."""

HISTORY = "HISTORY"

OF_CAMERA = frozenset(
    (
        *(
            keyword
            for quantity in (
                *("gain", "egain", "offset", "em_gain", "binning", "readout_mode", "usb_limit", "subframe"),
                *("camera", "serial", "roworder", "flip", "bayer", "pedestal"),
            )
            for keyword in KEYWORDS[quantity]
        ),
        *(keyword for pair in (*BINNING_PAIRS, *SUBFRAME_PAIRS, BAYER_OFFSETS) for keyword in pair),
        *("XPIXSZ", "YPIXSZ", "PIXSIZE1", "PIXSIZE2", "PIXSIZE", "SENSOR", ANDOR_RECTANGLE),
    )
)
"""What holds for every frame of a camera with these settings, so for a dark made of them as well."""

OF_RAW_PIXELS = re.compile(
    "SIMPLE|XTENSION|BITPIX|EXTEND|[PGT]COUNT|GROUPS|BZERO|BSCALE|BLANK|END|CHECKSUM|DATASUM|EXTNAME|EXTVER|INHERIT"
    "|BUNIT|DATAMIN|DATAMAX|CBLACK|CWHITE|CONTINUE|TFIELDS|THEAP|Z?NAXIS.*|(?:TTYPE|TFORM|ZTILE|ZNAME|ZVAL).*"
    "|ZIMAGE|ZBITPIX|ZCMPTYPE|ZSIMPLE|ZEXTEND|ZHECKSUM|ZDATASUM|ZBLANK|ZQUANTIZ|ZDITHER0|ZPCOUNT|ZGCOUNT|ZTENSION"
)
"""What holds for the stored pixels of a raw frame and not for what is made of it."""

COORDINATES = re.compile(
    r"(?:WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX"
    r"|(?:CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA)\d[A-Z]?|(?:CD|PC|PV|PS)\d+_\d+[A-Z]?"
    r"|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d_\d))"
)
"""Cards of world coordinates (FITS standard 4.0, section 8; SIP)."""
