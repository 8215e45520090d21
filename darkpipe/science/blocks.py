"""Images reduced by blocks: what pictures of large sensors are drawn from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.jit import kernel


@kernel
def _reduce(image: NDArray[Any], side: int, out: NDArray[np.float32]) -> None:
    """Mean of the finite pixels of each block of side x side; NaN where a block has none."""
    rows, columns = image.shape
    total, n = np.empty(columns), np.empty(columns)
    for i in range(out.shape[0]):
        total[:], n[:] = 0.0, 0.0
        for row in range(i * side, min((i + 1) * side, rows)):
            for column in range(columns):  # down the columns first: the machine adds several of them at once
                value = float(image[row, column])
                finite = abs(value) < math.inf
                total[column] += value if finite else 0.0
                n[column] += 1.0 if finite else 0.0
        for j in range(out.shape[1]):
            whole, number = 0.0, 0.0
            for column in range(j * side, min((j + 1) * side, columns)):
                whole += total[column]
                number += n[column]
            out[i, j] = whole / number if number else np.nan


def block_mean(image: ArrayLike, max_side: int) -> NDArray[np.float32]:
    """The image reduced to at most ``max_side`` pixels a side, by the mean over square blocks.

    Only finite pixels count; a block without any is NaN. The last row and column of blocks may be narrower.

    Parameters
    ----------
    image : (rows, columns).
    max_side : longest side of the result, at least 1.

    Raises
    ------
    ValueError : not an image, or ``max_side`` below 1.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2 or max_side < 1:
        raise ValueError(f"blocks need an image and a side of at least 1, not shape {pixels.shape}, side {max_side}")
    if pixels.dtype != np.float32:
        pixels = pixels.astype(np.float64)
    return block_mean_of(pixels, block_side(pixels.shape, max_side))


def block_side(shape: tuple[int, ...], max_side: int) -> int:
    """Side of the blocks that reduce an image (rows, columns) to at most ``max_side`` pixels a side."""
    return max(1, math.ceil(max(shape) / max_side))


def block_mean_of(image: NDArray[Any], side: int) -> NDArray[np.float32]:
    """As `block_mean`, of blocks of a given side: for rows of a larger image that part no block of it."""
    if side == 1:  # a process that draws need not import numba for that
        return np.where(np.isfinite(image), image, np.nan).astype(np.float32)
    out = np.empty((math.ceil(image.shape[0] / side), math.ceil(image.shape[1] / side)), np.float32)
    run: Any = _reduce
    run(np.ascontiguousarray(image), side, out)
    return out
