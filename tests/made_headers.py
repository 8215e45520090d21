"""Headers of a good dark with some cards changed, for tests of their reading."""

from __future__ import annotations

from astropy.io import fits

from darkpipe.files.headers import FrameInfo, read_info


def info_of(**cards: object) -> FrameInfo:
    """Of a header with these cards ('_' stands for '-'; a tuple is value and comment) in a dark's header."""
    return read_info(header_of(**cards))


def header_of(**cards: object) -> fits.Header:
    header = fits.Header()
    base: dict[str, object] = {"IMAGETYP": "Dark Frame", "EXPTIME": 60.0, "CCD_TEMP": -10.0}
    for key, value in (base | cards).items():
        if value is not None:
            header[key.replace("_", "-")] = value
    return header
