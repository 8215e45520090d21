"""Images reduced by blocks: what pictures of large sensors are drawn from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.jit import kernel


@kernel
def _reduce(image: NDArray[Any], side: int, largest: bool, out: NDArray[np.float32]) -> None:
    """Mean or maximum of the finite pixels of each block of side x side; NaN where a block has none."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total, top, n = 0.0, -np.inf, 0
            for row in range(i * side, min((i + 1) * side, image.shape[0])):
                for column in range(j * side, min((j + 1) * side, image.shape[1])):
                    value = float(image[row, column])
                    if math.isfinite(value):
                        total += value
                        top = max(top, value)
                        n += 1
            if n == 0:
                out[i, j] = np.nan
            else:
                out[i, j] = top if largest else total / n


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
    return _blocks(image, max_side, largest=False)


def block_side(shape: tuple[int, ...], max_side: int) -> int:
    """Side of the blocks that reduce an image (rows, columns) to at most ``max_side`` pixels a side."""
    return max(1, math.ceil(max(shape) / max_side))


def block_mean_of(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """As `block_mean`, of blocks of a given side: for rows of a larger image that part no block of it."""
    out = np.empty((math.ceil(image.shape[0] / side), math.ceil(image.shape[1] / side)), np.float32)
    run: Any = _reduce
    run(np.ascontiguousarray(image), side, False, out)
    return out


def block_max(image: ArrayLike, max_side: int) -> NDArray[np.float32]:
    """As `block_mean`, with the largest finite value of each block: single hot pixels stay visible."""
    return _blocks(image, max_side, largest=True)


def _blocks(image: ArrayLike, max_side: int, *, largest: bool) -> NDArray[np.float32]:
    pixels = np.asarray(image)
    if pixels.ndim != 2 or max_side < 1:
        raise ValueError(f"blocks need an image and a side of at least 1, not shape {pixels.shape}, side {max_side}")
    if pixels.dtype != np.float32:
        pixels = pixels.astype(np.float64)
    side = max(1, math.ceil(max(pixels.shape) / max_side))
    out = np.empty((math.ceil(pixels.shape[0] / side), math.ceil(pixels.shape[1] / side)), np.float32)
    kernel: Any = _reduce
    kernel(np.ascontiguousarray(pixels), side, largest, out)
    return out
