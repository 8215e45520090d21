"""The surroundings of single pixels: what stands there without them, however the sky or a star slopes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.neighbours_kernel import levels
from darkpipe.science.noise import MAD_TO_SIGMA

F8 = NDArray[np.float64]
Ints = NDArray[np.int64]

REACH = 2  # half width of the box around a pixel
STRUCTURE = 1.5  # times the noise: surroundings that scatter more are not level: the slope of a star, say


def box_offsets(stride: int = 1) -> Ints:
    """(24, 2) row and column offsets of the 5 x 5 box around a pixel, without the pixel; `stride` 2 keeps to pixels of
    one colour of a Bayer mosaic."""
    steps = np.arange(-REACH, REACH + 1)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.asarray(grid[(grid != 0).any(axis=1)] * stride, np.int64)


def gather(plane: NDArray[Any], rows: Ints, cols: Ints, offsets: Ints) -> F8:
    """(n, m) values of a plane (rows, cols) at m offsets from n pixels; NaN beyond its edges."""
    r, c = rows[:, None] + offsets[None, :, 0], cols[:, None] + offsets[None, :, 1]
    inside = (r >= 0) & (r < plane.shape[0]) & (c >= 0) & (c < plane.shape[1])
    found = plane[np.where(inside, r, 0), np.where(inside, c, 0)].astype(np.float64)
    return np.where(inside, found, np.nan)


def level_and_scatter(values: F8) -> tuple[F8, F8, Ints]:
    """Median (n,) of the finite ones of m values (n, m), their robust spread (1.4826 MAD), and how many there are."""
    across = np.ascontiguousarray(values.T, np.float64)
    middle, distance, count = levels(across, across, scatter=True)
    return middle, MAD_TO_SIGMA * distance, count
