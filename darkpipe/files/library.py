"""A library of master darks as a whole: its table, and the page that says how programs take it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from darkpipe.files.atomic import replace_text
from darkpipe.files.products import read_header
from darkpipe.files.tables import table_of, write_table

_PAGE = """Master darks for other programs
===============================

{count} darks of {camera}, made by darkpipe from a model of its dark signal: none of them was taken.
Temperatures {temperatures} °C, exposures {exposures} s. library.ecsv lists them.

{pixels}
{bias}
{extrapolated}
{blank}

The headers hold IMAGETYP = '{image_type}', EXPTIME, EXPOSURE, CCD-TEMP, SET-TEMP, and what the raw frames of the
camera say of it: INSTRUME, GAIN, OFFSET, XBINNING, YBINNING and the like. EXTRAPOL = T marks a dark outside of the
temperatures and exposures that the model was fitted to.

Do not scale or optimise these darks: each is made for its own exposure and temperature. Choose the temperature by the
set point of the light frames; most programs do not look at it.

Siril
    set32bits
    calibrate light_ -dark=FOLDER/master_dark_....fits   (1.0: preprocess)
    {siril} All kinds of pixels will do. Give the name with .fits: it has
    dots of its own. Without set32bits values below 0 are cut off. 1.0 also replaces pixels that are hot in the dark;
    since 1.2 that is -cc=dark.
PixInsight, WeightedBatchPreprocessing
    Add the file as a dark. A master is known by the word "master" in IMAGETYP. Darks are matched by exposure and
    binning, so add those of one temperature alone. Needs pixels of type uint16, or float32 of the range 0 to 1.
N.I.N.A., Live Stack plugin
    Add the file to the dark library. It is matched by gain, offset, exposure and size, not by temperature: add those of
    one temperature alone. IMAGETYP = 'DARK' is known by itself, for any other the wizard asks for the type. Needs
    pixels of type uint16, or float32 of the range 0 to 1.
Ekos
    Its dark library knows only the darks that it has taken itself, by a database of its own: these files cannot be
    added to it. Use them in one of the other programs after the night.
ccdproc, astropy
    dark = CCDData.read(path), light.data = light.data.astype(float), then
    ccdproc.subtract_dark(light, dark, exposure_time="EXPTIME", exposure_unit=u.s).
    Without astype two frames of uint16 wrap around where the light is fainter than the dark.

If a program puts the rows the other way round than the lights, compare ROWORDER of both: it is that of the raw frames
the model was made of, and the rows stand as they stand there.
"""


def library_rows(files: Sequence[Path], folder: Path, darks: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """A row a dark of a library: temperature and exposure as given, and what the headers of the files say."""
    rows: list[dict[str, Any]] = []
    for path, (temperature_c, exposure_s) in zip(files, darks, strict=True):
        header = read_header(path)
        rows.append(
            {
                "file": path.relative_to(folder).as_posix(),
                "temperature_c": temperature_c,
                "exposure_s": exposure_s,
                "model": str(header["MODEL"]),
                "extrapolated": bool(header["EXTRAPOL"]),
                "n_clipped": int(header.get("N_CLIP", 0)),
                "n_blank": int(header["N_BLANK"]),
            }
        )
    return rows


def write_library_table(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write library.ecsv; returns its digest."""
    return write_table(path, table_of(rows))


def write_page(
    path: Path, rows: Sequence[dict[str, Any]], form: dict[str, Any], camera: str, scale_factor: float
) -> str:
    """Write the README of a library; returns its digest.

    Parameters
    ----------
    form : 'type', 'include_bias', 'unit_range', 'image_type' of `Form`. camera : its name. scale_factor : raw counts
        per native ADU.
    """
    beyond = [row for row in rows if row["extrapolated"]]
    clipped, blank = sum(row["n_clipped"] for row in rows), max(row["n_blank"] for row in rows)
    if form["type"] == "uint16":
        pixels = "Pixels are uint16 raw counts, rounded (0.29 counts rms)"
        pixels += f"; in all darks {clipped} were cut off at 0 or 65535." if clipped else "; none is cut off."
    elif form["unit_range"]:
        pixels = "Pixels are float32 from 0 to 1: 1 stands for 65535 raw counts."
    else:
        pixels = "Pixels are float32 in raw counts."
    if scale_factor != 1.0:
        pixels += f" A count of the converter is {scale_factor:g} raw counts."
    text = _PAGE.format(
        count=len(rows),
        camera=camera or "a camera",
        temperatures=_listed(row["temperature_c"] for row in rows),
        exposures=_listed(row["exposure_s"] for row in rows),
        pixels=pixels,
        bias="The bias is in them: subtract them from raw lights, and no bias."
        if form["include_bias"]
        else "The bias is not in them: subtract a master bias from the lights, too.",
        extrapolated=f"{len(beyond)} of them are extrapolated: column `extrapolated` of library.ecsv."
        if beyond
        else "None of them is extrapolated.",
        blank=f"Up to {blank} pixels have no model; they hold the median around them."
        if blank
        else "Every pixel has a model.",
        image_type=form["image_type"],
        siril="No -bias, no -opt: the bias is in the dark."
        if form["include_bias"]
        else "With -bias=...: the bias is not in the dark.",
    )
    return replace_text(path, text)


def _listed(numbers: Any) -> str:
    return ", ".join(f"{number:g}" for number in sorted(set(numbers)))
