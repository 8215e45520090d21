"""Pixels out of a file's bytes, and their statistics in one pass over the histogram."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError, one_line
from darkpipe.files.fits_bytes import BLOCK, EMPTY_PRIMARY, ImageLayout
from darkpipe.files.quiet import late_fits, quietly
from darkpipe.files.sources import Source
from darkpipe.science.bit_planes import unsigned_of

Pixels = NDArray[Any]

_WIDEST_HISTOGRAM = 1 << 22
_CHUNK = 1 << 20
_DAMAGED = "the compressed image is damaged"


def decode(source: Source, layout: ImageLayout, buffer: NDArray[np.uint16] | None = None) -> Pixels:
    """The image as physical values.

    Parameters
    ----------
    buffer : flat array that sixteen unsigned bits may be put into where it is large enough: memory that is used again
        and again costs less than new one.

    Returns
    -------
    array (rows, cols), native byte order: the narrowest integer type that holds what was stored (uint16 for
    BITPIX 16 with BZERO 32768), float32 or float64 where pixels are real, scaled by BSCALE, or undefined (NaN).

    Raises
    ------
    FrameError : a compressed image is damaged.
    """
    if layout.compressed:
        return _decompress(source, layout)
    stored = np.frombuffer(source.read_at(layout.begin, layout.count), stored_type(layout))
    if layout.is_uint16 and buffer is not None and buffer.size >= stored.size:
        values = buffer[: stored.size]
        unsigned_of(stored, values)
        return values.reshape(layout.rows, layout.cols)
    return physical(stored.reshape(layout.rows, layout.cols), layout)


def stored_type(layout: ImageLayout) -> np.dtype[Any]:
    """Type of the pixels in the file (big-endian)."""
    return np.dtype({8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}[layout.bitpix])


def physical(stored: Pixels, layout: ImageLayout) -> Pixels:
    """Physical values of stored ones (any shape, as in the file): BZERO + BSCALE * stored, undefined ones NaN."""
    if layout.is_uint16:
        unsigned: NDArray[np.uint16] = stored.view(">u2").astype(np.uint16)
        unsigned ^= np.uint16(0x8000)
        return unsigned
    native: Pixels = stored.astype(stored.dtype.newbyteorder("="))
    if layout.bitpix < 0:
        if layout.bzero == 0.0 and layout.bscale == 1.0:
            return native
        with np.errstate(all="ignore"):  # what becomes infinite is counted as undefined
            scaled: Pixels = native * native.dtype.type(layout.bscale) + native.dtype.type(layout.bzero)
        return scaled
    undefined = native == layout.blank if layout.blank is not None else None
    values = _scaled(native, layout)
    if undefined is not None and undefined.any():
        values = values.astype(np.float32 if layout.bitpix <= 16 else np.float64)
        values[undefined] = np.nan
    return values


def _scaled(native: Pixels, layout: ImageLayout) -> Pixels:
    if layout.bscale == 1.0 and layout.bzero == int(layout.bzero) and abs(layout.bzero) <= 2**63:
        zero = int(layout.bzero)
        if zero == 0:
            return native
        if layout.bitpix >= 16 and zero == 1 << (layout.bitpix - 1):  # unsigned integers: flip the top bit
            unsigned: Pixels = native.view(f"u{native.dtype.itemsize}")
            unsigned ^= unsigned.dtype.type(zero)
            return unsigned
        if layout.bitpix <= 32 and abs(zero) <= 2**62:
            wide = native.astype(np.int64) + zero
            return wide.astype(np.int32) if abs(zero) < 2**30 and layout.bitpix <= 16 else wide
    with np.errstate(all="ignore"):
        scaled: Pixels = native.astype(np.float64) * layout.bscale + layout.bzero
    return scaled


def _decompress(source: Source, layout: ImageLayout) -> Pixels:
    # nothing but this unit: what stands before it is not astropy's to judge
    unit = bytes(source.read_at(layout.start, layout.begin + layout.count - layout.start))
    content = EMPTY_PRIMARY + unit + bytes(-len(unit) % BLOCK)
    fits = late_fits()
    with quietly():
        try:
            with fits.open(io.BytesIO(content), memmap=False) as units:
                data = units[1].data
        except Exception as error:  # the decoders' own errors have no common base
            raise FrameError(f"{_DAMAGED}: {one_line(error)}", do="Copy the frame again.") from error
    if data is None or data.shape[-2:] != (layout.rows, layout.cols) or data.size != layout.rows * layout.cols:
        raise FrameError(_DAMAGED, do="Copy the frame again.")
    data = np.asarray(data).reshape(layout.rows, layout.cols)
    return np.ascontiguousarray(data, data.dtype.newbyteorder("="))


@dataclass(frozen=True)
class Histogram:
    """Distinct finite values, ascending, and how often each occurs; `step` is their spacing (0: no lattice)."""

    values: NDArray[Any]
    counts: NDArray[np.int64]
    step: float

    @classmethod
    def of(cls, pixels: Pixels, step: float | None = None) -> Histogram:
        """Histogram of finite values; `step` as found unless given."""
        if pixels.dtype == np.uint16:
            from darkpipe.science.histogram_kernel import Counts  # the compiler takes its time to import

            every = Counts()
            every.add(pixels)
            values, counts = every.distinct()
            return cls(values, counts, float(divisor_of(values) or 1) if step is None else step)
        flat = pixels.reshape(-1)
        if flat.dtype.kind == "f":
            flat = flat[np.isfinite(flat)]
        if flat.size and is_whole(flat):
            low, high = int(flat.min()), int(flat.max())
            if high - low < _WIDEST_HISTOGRAM:
                values, counts = _count(flat, low, high)
                return cls(values, counts, float(divisor_of(values) or 1) if step is None else step)
        values, counts = np.unique(flat, return_counts=True)
        return cls(values, counts.astype(np.int64), 0.0 if step is None else step)

    @cached_property
    def _upto(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts)

    def quantile(self, fraction: float) -> float:
        """Quantile, with the pixels of one value spread evenly over one step around it (sub-ADU)."""
        if not self.values.size:
            return float("nan")
        if self.values.size == 1:
            return float(self.values[0])
        total = self._upto
        wanted = fraction * float(total[-1])
        index = min(int(np.searchsorted(total, wanted)), self.values.size - 1)
        inside = (wanted - float(total[index] - self.counts[index])) / float(self.counts[index])
        return float(self.values[index]) + self.step * (min(max(inside, 0.0), 1.0) - 0.5)

    def sigma(self) -> float:
        """Robust standard deviation from the quartiles (1.349 sigma apart in a normal distribution)."""
        return (self.quantile(0.75) - self.quantile(0.25)) / 1.3489795


def _count(flat: Pixels, low: int, high: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    counts = np.zeros(high - low + 1, np.int64)
    wide = high > np.iinfo(np.int64).max
    for begin in range(0, flat.size, _CHUNK):
        chunk = flat[begin : begin + _CHUNK]
        if wide:  # beyond what int64 holds
            chunk = chunk - np.uint64(low)
        chunk = chunk.astype(np.int64)
        if low and not wide:
            chunk -= low
        counts += np.bincount(chunk, minlength=counts.size)
    occupied = np.flatnonzero(counts)
    return (occupied.astype(np.uint64) + np.uint64(low) if wide else occupied + low), counts[occupied]


def is_whole(flat: Pixels) -> bool:
    """True where all values are whole numbers (NaN counts as none)."""
    if flat.dtype.kind != "f":
        return True
    return bool(np.all(np.abs(flat) < 2.0**53) and np.all(flat == np.rint(flat)))


def divisor_of(values: NDArray[Any], top: float = float("inf")) -> int:
    """Largest power of two that divides all values but 0 and those at or above the top; 0 if fewer than two are left.

    12 bits aligned to the left of 16 give 16.
    """
    inner = values[(values != 0) & (values < top)].astype(np.int64)
    if inner.size < 2:
        return 0
    together = int(np.bitwise_or.reduce(inner))
    return together & -together


def top_of(pixels: Pixels, maximum: float) -> float:
    """Highest value that the stored type holds; 65535 for wider types as long as nothing stands above it."""
    if pixels.dtype.kind in "ui" and pixels.dtype.itemsize <= 2:
        return float(np.iinfo(pixels.dtype).max)
    if maximum <= 65535.0:
        return 65535.0
    return float(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else float("inf")


def corner_medians(pixels: Pixels, step: float) -> tuple[float, float, float, float]:
    """Medians of the corner boxes (an eighth of each side): top left, top right, bottom left, bottom right."""
    rows, cols = pixels.shape
    r, c = max(1, rows // 8), max(1, cols // 8)
    boxes = (pixels[:r, :c], pixels[:r, -c:], pixels[-r:, :c], pixels[-r:, -c:])
    top_left, top_right, bottom_left, bottom_right = (Histogram.of(box, step).quantile(0.5) for box in boxes)
    return top_left, top_right, bottom_left, bottom_right


def canonical_bytes(pixels: Pixels) -> memoryview:
    """Values as little-endian bytes, as uint16 wherever these hold them: copies in another type give the same."""
    flat = pixels
    if flat.dtype != np.uint16 and flat.size and is_whole(flat) and flat.min() >= 0 and flat.max() <= 65535:
        flat = flat.astype(np.uint16)
    flat = np.ascontiguousarray(flat, flat.dtype.newbyteorder("<"))
    return flat.reshape(-1).view(np.uint8).data
