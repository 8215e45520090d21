"""What a picture shows of a plane, gathered band by band: means of blocks, a sample of the pixels, and what is missing.

The same numbers come out however high the bands are, as long as none parts a block (`block_side`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.blocks import block_side
from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]
SAMPLE_SIDE = 512  # pixels a side, and up to twice as many, that percentiles are taken of


@kernel
def _reduce_band(image: F4, side: int, out: F4) -> tuple[int, np.float32]:
    """Means of the finite pixels of blocks, NaN of none; returns how many pixels are finite, and the largest."""
    largest, number = np.float32(-np.inf), 0
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, n = 0.0, 0
            for row in range(i * side, min((i + 1) * side, image.shape[0])):
                for column in range(j * side, min((j + 1) * side, image.shape[1])):
                    value = image[row, column]
                    if math.isfinite(value):
                        total += float(value)
                        n += 1
                        largest = max(largest, value)
            number += n
            out[i, j] = total / n if n else np.nan
    return number, largest


@kernel
def _reduce_errors(
    signal: F4, master: F4, sigma: F4, sigmas: np.float32, side: int, absolute: F4, bright: F4, model: F4
) -> None:
    """Of blocks, the means of the finite of: |signal - master|; master where it is above so many sigma; signal."""
    for i in range(model.shape[0]):
        for j in range(model.shape[1]):
            errors, masters, signals, n_errors, n_masters, n_signals = 0.0, 0.0, 0.0, 0, 0, 0
            for row in range(i * side, min((i + 1) * side, signal.shape[0])):
                for column in range(j * side, min((j + 1) * side, signal.shape[1])):
                    value, truth = signal[row, column], master[row, column]
                    size = abs(value - truth)
                    here = math.isfinite(size)
                    errors += float(size) if here else 0.0
                    n_errors += here
                    here = math.isfinite(truth) & (truth > sigmas * sigma[row, column])
                    masters += float(truth) if here else 0.0
                    n_masters += here
                    here = math.isfinite(value)
                    signals += float(value) if here else 0.0
                    n_signals += here
            absolute[i, j] = errors / n_errors if n_errors else np.nan
            bright[i, j] = masters / n_masters if n_masters else np.nan
            model[i, j] = signals / n_signals if n_signals else np.nan


@kernel
def _count_flags(dq: Bits, flags: Bits, side: int, counts: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
    """Pixels with none of the flags, and with each; of each block, 1 + the last flag that one of its pixels has."""
    for row in range(dq.shape[0]):
        for column in range(dq.shape[1]):
            bits, last = dq[row, column], 0
            if bits:
                for k in range(flags.size):
                    if bits & flags[k]:
                        counts[k + 1] += 1
                        last = k + 1
            if last == 0:
                counts[0] += 1
            else:
                out[row // side, column // side] = max(out[row // side, column // side], last)


@dataclass(frozen=True, eq=False)
class Reduced:
    """What a picture shows of an image.

    Attributes
    ----------
    shape : (rows, columns) of the image. small : means of square blocks, NaN of those without a finite pixel.
    sample : finite pixels of a grid. missing : pixels that are not finite. largest : of the finite ones.
    """

    shape: tuple[int, int]
    small: F4
    sample: F4
    missing: int
    largest: float

    @classmethod
    def of(cls, image: ArrayLike, max_side: int) -> Reduced:
        """Of an image in memory, (rows, columns).

        Raises
        ------
        ValueError : not an image.
        """
        pixels = np.asarray(image, np.float32)
        if pixels.ndim != 2 or pixels.size == 0:
            raise ValueError(f"a picture needs an image, not shape {pixels.shape}")
        return cls.of_bands((pixels.shape[0], pixels.shape[1]), [(0, pixels)], max_side)

    @classmethod
    def of_bands(cls, shape: tuple[int, int], bands: Iterable[tuple[int, F4]], max_side: int) -> Reduced:
        """Of bands of rows, each with the number of its first row; no block (`block_side`) may lie in two."""
        side = block_side(shape, max_side)
        grid = [max(1, length // SAMPLE_SIDE) for length in shape]
        small = np.empty((math.ceil(shape[0] / side), math.ceil(shape[1] / side)), np.float32)
        sample, number, largest = [], 0, -math.inf
        run: Any = _reduce_band
        for first, band in bands:
            pixels = np.ascontiguousarray(band, np.float32)
            n, top = run(pixels, side, small[first // side : math.ceil((first + len(pixels)) / side)])
            number, largest = number + n, max(largest, float(top))
            some = pixels[-first % grid[0] :: grid[0], :: grid[1]]
            sample.append(some[np.isfinite(some)])
        return cls(shape, small, np.concatenate(sample), shape[0] * shape[1] - number, largest)

    def percentiles(self, percents: Sequence[float]) -> list[float]:
        """Of the sample; NaN of none."""
        found = np.percentile(self.sample, percents) if self.sample.size else np.full(len(percents), np.nan)
        return [float(value) for value in found]


def reduced(image: ArrayLike | Reduced, max_side: int) -> Reduced:
    """An image in memory, or one that was reduced before, to this side.

    Raises
    ------
    ValueError : not an image.
    """
    return image if isinstance(image, Reduced) else Reduced.of(image, max_side)


@dataclass(frozen=True, eq=False)
class ReducedFlags:
    """What a picture shows of a plane of bits: shape (rows, columns); counts: pixels with none of the flags, and with
    each; small: of each block 1 + the last flag that one of its pixels has, 0 where all have none."""

    shape: tuple[int, int]
    counts: tuple[int, ...]
    small: NDArray[np.uint8]

    @classmethod
    def of_bands(
        cls, shape: tuple[int, int], bands: Iterable[tuple[int, NDArray[Any]]], flags: Sequence[int], max_side: int
    ) -> ReducedFlags:
        """Of bands of rows, each with the number of its first row; no block may lie in two. flags : in rising order."""
        side = block_side(shape, max_side)
        small = np.zeros((math.ceil(shape[0] / side), math.ceil(shape[1] / side)), np.uint8)
        counts, wanted = np.zeros(len(flags) + 1, np.int64), np.array(flags, np.uint16)
        run: Any = _count_flags
        for first, band in bands:
            bits = np.ascontiguousarray(band, np.uint16)
            run(bits, wanted, side, counts, small[first // side : math.ceil((first + len(bits)) / side)])
        return cls(shape, tuple(counts.tolist()), small)


def error_blocks(signal: F4, master: F4, sigma: F4, sigmas: float, side: int) -> tuple[F4, F4, F4]:
    """Of a band of rows that parts no block of this side, the means over blocks of |signal - master|, of the master
    where it is above so many of its errors, and of the signal; only finite values count, NaN of none."""
    shape = math.ceil(signal.shape[0] / side), math.ceil(signal.shape[1] / side)
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    run: Any = _reduce_errors
    run(*(np.ascontiguousarray(plane, np.float32) for plane in (signal, master, sigma)), np.float32(sigmas), side, *out)
    return out
