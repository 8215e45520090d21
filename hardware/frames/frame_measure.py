"""What the checks look at, measured in one go over a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

BLOCKS = 16  # a side, at most
LEAST_BLOCK = 16  # pixels a side: fewer give no steady median
LEAST_BLOCKS = 4  # a side: fewer give no robust plane
SAMPLE = 1024  # pixels of a block that are looked at
CLIP = 5.0  # sigma; cosmic rays and hot pixels lie beyond
LEAST_CLIP_ADU = 20.0  # converters with steps of 16 have no finer sigma

_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class FrameMeasure:
    """Numbers of one frame.

    digest : of its pixels. lowest, highest [ADU]. zeros : fraction of pixels at 0. flat_rows, flat_cols : of
    one value.
    blocks : (n, m) clipped means of blocks around their medians [ADU]. level_adu : median of these.
    sigma_adu : typical robust noise within a block, at least 1.
    """

    digest: str
    lowest: int
    highest: int
    zeros: float
    flat_rows: int
    flat_cols: int
    blocks: NDArray[np.float64]
    level_adu: float
    sigma_adu: float

    @classmethod
    def of(cls, pixels: NDArray[np.uint16]) -> FrameMeasure:
        """Measure pixels (rows, cols), not empty."""
        whole = np.ascontiguousarray(pixels)
        low, high = whole.min(axis=1), whole.max(axis=1)
        lowest = int(low.min())
        blocks, sigma_adu = _blocks(whole)
        return cls(
            digest=xxhash.xxh3_128_hexdigest(whole.reshape(-1).view(np.uint8).data),
            lowest=lowest,
            highest=int(high.max()),
            zeros=1.0 - np.count_nonzero(whole) / whole.size if lowest == 0 else 0.0,
            flat_rows=int(np.count_nonzero(low == high)),
            flat_cols=int(np.count_nonzero(whole.min(axis=0) == whole.max(axis=0))),
            blocks=blocks,
            level_adu=float(np.median(blocks)),
            sigma_adu=max(sigma_adu, 1.0),
        )


def _blocks(pixels: NDArray[np.uint16]) -> tuple[NDArray[np.float64], float]:
    """Robust means of blocks and their typical sigma, from an even sample of the pixels of each block."""
    rows, cols = (max(1, min(BLOCKS, side // LEAST_BLOCK)) for side in pixels.shape)
    height, width = pixels.shape[0] // rows, pixels.shape[1] // cols
    step = 1  # odd: all colours of a filter array are met
    while (height // step) * (width // step) > SAMPLE:
        step += 2
    whole = pixels[: rows * height, : cols * width].reshape(rows, height, cols, width)
    sample = whole[:, ::step, :, ::step].swapaxes(1, 2).reshape(rows * cols, -1).astype(np.float32)
    median = np.median(sample, axis=1, keepdims=True)
    away = np.abs(sample - median)
    sigma = _TO_SIGMA * np.median(away, axis=1, keepdims=True)
    inside = away <= np.maximum(CLIP * sigma, LEAST_CLIP_ADU)
    means = np.where(inside, sample, 0.0).sum(axis=1, dtype=np.float64) / inside.sum(axis=1)
    return means.reshape(rows, cols), float(np.median(sigma))


@dataclass(frozen=True)
class Gradient:
    """The plane through the majority of the blocks.

    range_adu : from its darkest corner to its brightest. scatter_adu : robust, of the blocks around it.
    evenness : slope in the flatter half of the frame against that in the steeper half, along the steeper axis: 1 for a
        plane, far below for glow, which falls off from its source; 0 where one half does not rise at all.
    """

    range_adu: float
    scatter_adu: float
    evenness: float

    @classmethod
    def of(cls, blocks: NDArray[np.float64]) -> Gradient | None:
        """Slopes are medians of differences between blocks that lie half a frame apart, so that what covers less than
        half of either side of the frame (glow in a corner, hot columns) moves them little. None for too few blocks."""
        rows, cols = blocks.shape
        if min(rows, cols) < LEAST_BLOCKS:
            return None
        down, across = _slope(blocks), _slope(blocks.T)
        rest = blocks - down * np.arange(rows)[:, None] - across * np.arange(cols)
        scatter_adu = _TO_SIGMA * float(np.median(np.abs(rest - np.median(rest))))
        steeper = blocks if abs(down) * rows >= abs(across) * cols else blocks.T
        return cls(abs(down) * rows + abs(across) * cols, scatter_adu, _evenness(steeper))


def _slope(blocks: NDArray[np.float64]) -> float:
    """Robust slope along the first axis [ADU a block]."""
    half = len(blocks) // 2
    return float(np.median(blocks[half:] - blocks[:-half])) / half


def _evenness(blocks: NDArray[np.float64]) -> float:
    half = len(blocks) // 2
    flatter, steeper = sorted((_slope(blocks[:half]), _slope(blocks[half:])), key=abs)
    return max(flatter / steeper, 0.0) if steeper else 0.0
