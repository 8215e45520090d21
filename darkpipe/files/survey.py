"""The survey of a raw frame: read once, everything measured that later steps decide by, or the reason why not."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from darkpipe.errors import FrameError, ProductError
from darkpipe.files.counted import CountedPixels
from darkpipe.files.fits_bytes import ImageLayout, locate_image, named_images
from darkpipe.files.headers import NO_SYNONYMS, FrameInfo, read_cards
from darkpipe.files.pixels import (
    Histogram,
    Pixels,
    canonical_bytes,
    corner_medians,
    decode,
    divisor_of,
    is_whole,
    top_of,
)
from darkpipe.files.sources import XISF_ADVICE, BytesSource, GzipSource, Source, open_source, source_of
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.regular import regular
from darkpipe.same_file import Identity

_LARGEST_BYTES = 8 << 30  # MAX_PIXELS in double precision, twice over
_PIECE_BYTES = 1 << 19
_COPY_AGAIN = "Copy the frame again, or leave it out."


@dataclass(frozen=True)
class FrameSurvey:
    """What was found in one file. Pixel values are raw counts as the camera gave them (after BZERO and BSCALE).

    rejected: why the file cannot be used at all; None if it can be read (its header may still make it no dark).
    bit_mask: OR of all values; change_mask: OR of all values XOR the first (integers; 0 otherwise).
    divisor: largest power of two that divides the values not at 0 or at the top; 0: no vote (constant, fractions).
    n_low: values at the lowest a converter gives (0, or the type's lowest where there are negative ones);
    n_high: values at or above `top_adu`, the highest (with the divisor's bits taken off). n_nan: not finite.
    median_adu, corner_medians_adu: interpolated within the histogram. sigma_adu: robust, from quartiles.
    corner_medians_adu: top left, top right, bottom left, bottom right, with row 0 on top.
    file_digest, pixel_digest: xxh3_128 of the file, and of the values (little-endian, uint16 where these hold them).
    """

    info: FrameInfo | None = None
    rejected: str | None = None
    rows: int = 0
    cols: int = 0
    hdu: int = 0
    dtype: str = ""
    bit_mask: int = 0
    change_mask: int = 0
    divisor: int = 0
    minimum: float = nan
    maximum: float = nan
    top_adu: float = nan
    n_low: int = 0
    n_high: int = 0
    n_nan: int = 0
    constant: bool = False
    median_adu: float = nan
    sigma_adu: float = nan
    corner_medians_adu: tuple[float, float, float, float] = (nan, nan, nan, nan)
    p999_adu: float = nan
    file_digest: str = ""
    pixel_digest: str = ""
    bytes: int = 0

    def to_json(self) -> str:
        """One line of JSON, the same for the same survey; NaN and infinity are null."""
        info = None if self.info is None else vars(self.info)
        return json.dumps(_plain(vars(self) | {"info": info}), sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> FrameSurvey:
        """The survey back from `to_json`.

        Raises
        ------
        ProductError : the text is no such survey.
        """
        try:
            found = json.loads(text)
            fields = {f.name: _back(f.default, found[f.name]) for f in dataclasses.fields(cls) if f.name != "info"}
            info = found["info"]
            if info is not None:
                defaults = {f.name: f.default for f in dataclasses.fields(FrameInfo)}
                info = FrameInfo(**{name: _back(defaults[name], value) for name, value in info.items()})
            return cls(info=info, **fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ProductError(f"the survey of a frame is damaged: {error!r}", do="Run step 1 again.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _back(default: Any, value: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(nan if item is None else item for item in value)
    return nan if value is None and isinstance(default, float) else value


def survey_frame(
    path: Path,
    *,
    synonyms: Mapping[str, Sequence[str]] = NO_SYNONYMS,
    bias_max_exposure_s: float = 0.01,
    detector: str = "",
    file_digest: str = "",
) -> FrameSurvey:
    """Read a file once and say what it holds; a file that is no frame comes back with `rejected` set.

    Parameters as for `headers.read_info`. The frame's kind is not judged here (see `headers.usable_as`).
    detector : name of the image in a file of many (see `fits_bytes.named_images`); '' for the only or first one.
    file_digest : of the whole file, for which it is then not read: a focal plane in one file is read once by each
        detector, and that part alone.

    Raises
    ------
    SettingsError : `synonyms` names an unknown quantity.
    """
    path = Path(path)
    reading = {"synonyms": synonyms, "bias_max_exposure_s": bias_max_exposure_s}
    if detector and file_digest:
        return _survey_part(path, detector, file_digest, reading)
    counted = CountedPixels()
    try:
        content, digest = _read_whole(path, None if detector else counted)
    except FrameError as error:
        return FrameSurvey(rejected=_reason(error))
    found: dict[str, Any] = {"file_digest": digest, "bytes": len(content)}
    try:
        if path.suffix.lower() == ".xisf":
            raise FrameError(XISF_ADVICE[0], do=XISF_ADVICE[1])
        return _survey_image(open_source(content), detector, found, reading, counted)
    except FrameError as error:
        return FrameSurvey(**found, rejected=_reason(error))


def _survey_part(path: Path, detector: str, file_digest: str, reading: Mapping[str, Any]) -> FrameSurvey:
    """The survey of one image of a file whose digest is known."""
    found: dict[str, Any] = {"file_digest": file_digest}
    try:
        with open(path, "rb", opener=regular) as stream:
            found["bytes"] = os.fstat(stream.fileno()).st_size
            return _survey_image(source_of(stream, found["bytes"]), detector, found, reading)
    except OSError as error:
        return FrameSurvey(**found, rejected=f"cannot be read: {error.strerror or error}. Check the file.")


def _survey_image(
    source: Source,
    detector: str,
    found: dict[str, Any],
    reading: Mapping[str, Any],
    counted: CountedPixels | None = None,
) -> FrameSurvey:
    """The survey of one image, with what is found put into `found`; `counted`: it, where that was possible."""
    layout = None if counted is None else counted.layout
    try:
        if layout is None:
            layout = locate_image(source, _unit_of(source, detector) if detector else None)
        found |= {"rows": layout.rows, "cols": layout.cols, "hdu": layout.hdu}
        found["info"] = read_cards(layout.cards, **reading)
        if counted is not None and counted.layout is not None:
            pixels: Pixels = counted.pixels
            found |= measure_pixels(pixels, counted.measured())
        else:
            pixels = decode(source, layout, _room(source, layout) if layout.is_uint16 else None)
            if isinstance(source, GzipSource):
                source.check_rest()
            found |= measure_pixels(pixels)
        _judge(pixels, layout, found)
    except FrameError as error:
        return FrameSurvey(**found, rejected=_reason(error))
    except MemoryError:
        return FrameSurvey(**found, rejected="the frame does not fit into memory")
    return FrameSurvey(**found)


def _room(source: Source, layout: ImageLayout) -> NDArray[np.uint16]:
    """Where sixteen unsigned bits may be put: over the bytes that they are made of, where these stand in a buffer of
    this module and are not asked for again, so that a frame is in memory once."""
    stored = source.read_at(layout.begin, layout.count) if isinstance(source, BytesSource) else b""
    if isinstance(stored, memoryview) and not stored.readonly and len(stored) == layout.count and len(stored) % 2 == 0:
        here = np.frombuffer(stored, np.uint16)
        if here.flags.aligned:
            return here
    return _BUFFERS.array("pixels", layout.count).view(np.uint16)


def _unit_of(source: Source, detector: str) -> int:
    units = named_images(source)
    if detector not in units:
        few = ", ".join(list(units)[:5]) or "none"
        raise FrameError(f"no image of this file is called {detector} (there are: {few})", do="Leave the file out.")
    return units[detector]


def _reason(error: FrameError) -> str:
    return error.what + (f". {error.do}" if error.do else "")


_BUFFERS = ThreadMemory()


def _read_whole(path: Path, counted: CountedPixels | None = None) -> tuple[memoryview, str]:
    """A regular file's bytes, in a buffer that the next frame will use, and their digest, taken while they are at hand;
    FrameError if it cannot be read or is being written. counted : is given the pieces, and may decode them."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise FrameError("not a regular file", do="Leave it out.")
        with open(path, "rb", buffering=0) as stream:
            before = os.fstat(stream.fileno())
            if before.st_size > _LARGEST_BYTES:
                raise FrameError(f"{before.st_size} bytes: larger than any frame", do="Leave it out.")
            content = _BUFFERS.array("file", before.st_size).data[: before.st_size]
            digest, count = _read_into(stream, content, counted)
            longer = bool(stream.read(1))
        after = os.stat(path)
    except OSError as error:
        link = " (a link that leads nowhere)" if path.is_symlink() else ""
        raise FrameError(f"cannot be read: {error.strerror or error}{link}", do="Check the file.") from error
    except MemoryError:
        raise FrameError("the file does not fit into memory", do="Leave it out.") from None
    if Identity.of(before) != Identity.of(after) or longer or count != before.st_size:
        raise FrameError("the file changed while it was read", do="Run again when nothing writes to it.")
    return content, digest


def read_whole(path: Path) -> bytes:
    """A regular file's bytes.

    Raises
    ------
    FrameError : it cannot be read, is being written, or is larger than any frame.
    """
    return bytes(read_shared(path))


def read_shared(path: Path) -> memoryview:
    """As `read_whole`, in memory that the next frame of this thread will be read into."""
    return _read_whole(path)[0]


def _read_into(stream: FileIO, content: memoryview, counted: CountedPixels | None) -> tuple[str, int]:
    hasher, done = xxhash.xxh3_128(), 0
    while done < len(content):
        count = stream.readinto(content[done : done + _PIECE_BYTES])
        if not count:
            break
        hasher.update(content[done : done + count])
        done += count
        if counted is not None:
            counted.take(content, done)
    return hasher.hexdigest(), done


def measure_pixels(pixels: Pixels, counted: tuple[Histogram, str] | None = None) -> dict[str, Any]:
    """The fields of a survey that the pixels tell; `counted`: their histogram and digest, where these are known."""
    histogram, digest = counted or (Histogram.of(pixels), xxhash.xxh3_128_hexdigest(canonical_bytes(pixels)))
    values, counts = histogram.values, histogram.counts
    finite = int(counts.sum())
    found: dict[str, Any] = {
        "dtype": pixels.dtype.name,
        "n_nan": int(pixels.size) - finite,
        "pixel_digest": digest,
    }
    if not finite:
        return found
    minimum, maximum = float(values[0]), float(values[-1])
    top = top_of(pixels, maximum)
    lattice = histogram.step > 0
    divisor = divisor_of(values, top) if lattice and values.size > 1 else 0
    step = float(divisor or 1) if lattice else 0.0
    histogram = dataclasses.replace(histogram, step=step)
    if divisor > 1:
        top -= divisor - 1
    bits = values if values.dtype.kind in "ui" else values.astype(np.int64) if lattice else values
    low = 0.0 if minimum >= 0 or pixels.dtype.kind not in "ui" else float(np.iinfo(pixels.dtype).min)
    return found | {
        "minimum": minimum,
        "maximum": maximum,
        "top_adu": top,
        "constant": minimum == maximum,
        "divisor": divisor,
        "bit_mask": int(np.bitwise_or.reduce(bits)) if lattice else 0,
        "change_mask": int(np.bitwise_or.reduce(bits ^ bits[0])) if lattice else 0,
        "n_low": int(counts[values <= low].sum()),
        "n_high": int(counts[values >= top].sum()),
        "median_adu": histogram.quantile(0.5),
        "sigma_adu": histogram.sigma(),
        "p999_adu": histogram.quantile(0.999),
        "corner_medians_adu": corner_medians(pixels, step),
    }


def _judge(pixels: Pixels, layout: ImageLayout, found: Mapping[str, Any]) -> None:
    """Refuse pixels that no camera gives."""
    info: FrameInfo = found["info"]
    if found["n_nan"] == pixels.size:
        raise FrameError("all pixels are NaN or infinite", do=_COPY_AGAIN)
    if layout.bitpix < 0 and info.kind in ("dark", "bias") and not is_whole(pixels[np.isfinite(pixels)]):
        raise FrameError(
            f"BITPIX = {layout.bitpix} with fractions in its pixels: a calibrated or master frame, not a raw one",
            do="Use the raw frames as the camera wrote them.",
        )
