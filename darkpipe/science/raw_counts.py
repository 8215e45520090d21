"""From native ADU back to the counts that a camera writes, and into sixteen bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.neighbours import box_offsets, gather, level_and_scatter

F8 = NDArray[np.float64]

TOP_COUNT = 65535  # of sixteen bits
ROUNDING_SIGMA = 12**-0.5  # counts: of values that lie anywhere between two whole ones


def to_raw_counts(native_adu: NDArray[Any], scale_factor: float, pedestal_adu: float = 0.0) -> F8:
    """Raw counts (rows, cols) that a camera writes for zero-based native ADU: what is done to raw frames, undone.

    Parameters
    ----------
    scale_factor : raw counts per native ADU.
    pedestal_adu : number that is added to the native ADU of a raw frame to make them zero-based (header PEDESTAL).
    """
    return (np.asarray(native_adu, np.float64) - pedestal_adu) * scale_factor


def fill_missing(plane: NDArray[Any], stride: int = 1) -> tuple[F8, int]:
    """The plane (rows, cols) with the median of its surroundings where a pixel has no value, and their number.

    Where the surroundings (5 x 5 pixels; `stride` 2 keeps to one colour of a Bayer mosaic) have none either, that of
    the whole plane; 0 where nothing has a value.
    """
    filled = np.array(plane, np.float64)
    rows, cols = np.nonzero(~np.isfinite(filled))
    if rows.size == 0:
        return filled, 0
    around, _, count = level_and_scatter(gather(filled, rows, cols, box_offsets(stride)))
    known = filled[np.isfinite(filled)]
    filled[rows, cols] = np.where(count > 0, around, np.median(known) if known.size else 0.0)
    return filled, int(rows.size)


def to_uint16(counts: NDArray[Any]) -> tuple[NDArray[np.uint16], int]:
    """Counts (rows, cols), all finite, rounded to sixteen bits, and the number of those below 0 or above 65535.

    Halves go to the even neighbour, so that the mean stays; the error is `ROUNDING_SIGMA` counts. No dither: that would
    make it 0.41 counts, and buys nothing, since the noise of the lights themselves dithers them.
    """
    rounded = np.rint(counts)
    outside = int(np.count_nonzero((rounded < 0) | (rounded > TOP_COUNT)))
    return np.clip(rounded, 0, TOP_COUNT).astype(np.uint16), outside
