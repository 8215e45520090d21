"""Frames of an EM-CCD in electrons: their EM gain and exposure by their headers, their pixels, errors and masks.

The image stands in the primary HDU or in the first image extension; extensions ERR (1 sigma, also as a cube of one
plane) and DQ (bits, any of which masks a pixel) are optional.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from darkpipe.errors import FrameError, PipelineError, one_line
from darkpipe.files.fits_bytes import check_structure
from darkpipe.files.headers import NO_SYNONYMS, read_info
from darkpipe.files.quiet import quietly
from darkpipe.files.sources import GzipSource, opened_source
from darkpipe.regular import regular

_ERROR, _QUALITY, _OF_PRODUCTS = "ERR", "DQ", "INPUTS"
_COUNTS = ("adu", "dn", "count", "counts")  # units that electrons must not have
_DIVIDED = ("detected electron", "detected electrons")  # corgidrp's words for what was divided by the EM gain


@dataclass(frozen=True)
class EmFrame:
    """A frame that can be used.

    hdu : place of its image. shape : (rows, cols). divided : its unit says that it was divided by the EM gain.
    """

    path: Path
    em_gain: float
    exposure_s: float
    shape: tuple[int, int]
    hdu: int
    with_errors: bool
    with_mask: bool
    divided: bool = False


def describe_em_frame(
    path: Path, *, synonyms: Mapping[str, Sequence[str]] = NO_SYNONYMS, assume_electrons: bool = False
) -> EmFrame:
    """One frame by its headers.

    assume_electrons : take whole numbers without a unit for electrons.

    Raises
    ------
    FrameError : it cannot be used, with the reason.
    """
    with _opened(path) as hdus:
        place = next((i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS", 0) == 2), None)
        if place is None:
            raise FrameError("no image of two dimensions", where=path)
        header = hdus[0].header.copy()
        if place:
            header.extend(hdus[place].header, update=True)
        image = hdus[place].header
        rows, cols, whole = int(image["NAXIS2"]), int(image["NAXIS1"]), int(image["BITPIX"]) > 0
        names = {hdu.name for hdu in hdus}
        unit = " ".join(str(header.get("BUNIT", "")).lower().split())
    if _OF_PRODUCTS in names:
        raise FrameError("a product of this pipeline, no frame", where=path)
    if unit in _COUNTS:
        raise FrameError(f"the unit is {unit}, not electrons", where=path, do="convert the frames to electrons first")
    if whole and not unit and not assume_electrons:
        raise FrameError("whole numbers without a unit (BUNIT): raw counts, not electrons", where=path)
    info = read_info(header, synonyms=synonyms)
    if info.kind in ("light", "flat") and not info.kind_assumed:
        raise FrameError(info.refusal, where=path)
    if info.em_gain is None:
        raise FrameError("no EM gain in the header", where=path, do="name its keyword in the settings")
    if info.exposure_s is None:
        raise FrameError("no exposure time in the header", where=path)
    return EmFrame(
        path, info.em_gain, info.exposure_s, (rows, cols), place, _ERROR in names, _QUALITY in names, unit in _DIVIDED
    )  # fmt: skip


def read_em_frame(frame: EmFrame) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """Pixels [e-], mask bits and errors [e-] of a frame, (rows, cols) each; None where the file has none.

    Raises
    ------
    FrameError : the file cannot be read, or its planes differ in shape.
    """
    with _opened(frame.path) as hdus:
        planes = [hdus[frame.hdu].data]
        planes.append(hdus[_QUALITY].data if frame.with_mask else None)
        planes.append(hdus[_ERROR].data if frame.with_errors else None)
    out: list[NDArray[Any] | None] = []
    for name, plane in zip(("image", _QUALITY, _ERROR), planes, strict=True):
        array = None if plane is None else np.asarray(plane)
        if array is not None and array.ndim == 3 and array.shape[0] == 1:
            array = array[0]
        if array is not None and array.shape != frame.shape:
            raise FrameError(f"{name} has shape {array.shape}, the image {frame.shape}", where=frame.path)
        out.append(array)
    assert out[0] is not None
    return out[0], out[1], out[2]


def read_undivided(frame: EmFrame) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    """As `read_em_frame`, in electrons after the gain register: what was divided by the gain is multiplied again.

    Raises
    ------
    FrameError : as `read_em_frame`.
    """
    pixels, masks, errors = read_em_frame(frame)
    if not frame.divided:
        return pixels, masks, errors
    return pixels * frame.em_gain, masks, None if errors is None else errors * frame.em_gain


class _opened:
    """An open file; whatever astropy says of a broken one becomes a FrameError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = contextlib.ExitStack()

    def __enter__(self) -> fits.HDUList:
        try:
            with opened_source(self.path) as source:
                check_structure(source)
                # in a gzip stream, of which it knows no size, astropy reads a damaged unit again without end
                packed = io.BytesIO(source.unpacked()) if isinstance(source, GzipSource) else None
            # astropy forgets to close what it cannot read
            stream = self._held.enter_context(packed or open(self.path, "rb", opener=regular))
            with quietly():
                self.hdus = fits.open(stream, memmap=False, lazy_load_hdus=False)
        except FrameError as error:
            what = f"the file cannot be read ({error.what})"
            raise FrameError(what, where=self.path, do=error.do) from error
        except Exception as error:  # astropy's own errors have no common base
            self._held.close()
            raise FrameError(f"the file cannot be read ({one_line(error)})", where=self.path) from error
        return self.hdus

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.hdus.close()
        self._held.close()
        if isinstance(error, Exception) and not isinstance(error, PipelineError):
            raise FrameError(f"the file cannot be read ({one_line(error)})", where=self.path) from error
