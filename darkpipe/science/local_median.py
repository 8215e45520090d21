"""Median of the box around every pixel, exactly, by a network of comparisons for thousands of pixels at once.

A network sorts without a branch: each of its steps puts the smaller of two values in one place and the larger in
another. So a step over a row of pixels is packed, sixteen pixels an instruction. Of a network that sorts the box
(Batcher's odd-even merge sort: Knuth, *The Art of Computer Programming*, 5.2.2 M) only the steps that the middle
depends on are made; and the columns of a box are sorted once for all boxes that share them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine_kernels import comparators
from darkpipe.science.jit import kernel
from darkpipe.science.network import BOTH, exchange, needed_steps

F4 = NDArray[np.float32]
Ints = NDArray[np.int32]

SIZES = (3, 5)
_BLOCK = 256  # pixels that go through the network together: their boxes stay in the first-level cache


def local_median(image: F4, size: int = 5) -> F4:
    """(rows, cols) median of the size x size box around every pixel; the image is mirrored at its edges (b a | a b).

    The same numbers as `scipy.ndimage.median_filter(image, size)`. NaN counts as larger than all numbers.

    Parameters
    ----------
    image : (rows, cols), of at least size // 2 pixels a side.

    Raises
    ------
    ValueError : another size than 3 or 5, no image, or one that is too small to be mirrored.
    """
    if size not in SIZES or image.ndim != 2 or min(image.shape) < size // 2:
        raise ValueError(f"a local median needs an image and a size of 3 or 5, not shape {image.shape}, size {size}")
    out = np.empty(image.shape, np.float32)
    run: Any = _filter
    bits = np.ascontiguousarray(image, np.float32).view(np.int32)
    run(bits, _sorted_columns(size), _network(size), out.view(np.int32))
    return out


@cache
def _sorted_columns(size: int) -> Ints:
    """(m, 3) steps that sort a column: rows i < j, both results are needed."""
    return np.array([(i, i + 1, BOTH) for last in range(size - 1, 0, -1) for i in range(last)], np.int32)


@cache
def _network(size: int) -> Ints:
    """(m, 3) steps as `needed_steps` has them, after which place size²//2 holds the median of a box whose columns, one
    behind the other, are sorted already.

    A step that never finds anything to exchange, in all boxes of zeros and ones that there are, never will (the
    principle of zeros and ones: Knuth, 5.3.4, theorem Z).
    """
    column = np.tri(size + 1, size, -1, dtype=np.uint8)[:, ::-1]
    boxes = column
    for _ in range(size - 1):
        boxes = np.concatenate([np.repeat(boxes, size + 1, 0), np.tile(column, (len(boxes), 1))], axis=1)
    places, steps = boxes.T.copy(), []
    for i, j, _ in comparators(size * size):
        low, high = np.minimum(places[i], places[j]), np.maximum(places[i], places[j])
        if (low != places[i]).any():
            steps.append((int(i), int(j)))
            places[i], places[j] = low, high
    return needed_steps(steps, {size * size // 2})


@kernel
def _ordered(bits: Ints, out: Ints) -> None:
    """Bits of float32 as whole numbers of the same order; its own inverse."""
    for k in range(bits.size):
        out[k] = bits[k] ^ ((bits[k] >> np.int32(31)) & np.int32(0x7FFFFFFF))


@kernel
def _row(bits: Ints, at: int, half: int, out: Ints) -> None:
    """A row of an image by its ordered bits, mirrored at both ends; a row beyond the image is that of its mirror."""
    rows, cols = bits.shape
    at = -at - 1 if at < 0 else at
    at = 2 * rows - at - 1 if at >= rows else at
    _ordered(bits[at], out[half : half + cols])
    for k in range(half):
        out[half - 1 - k] = out[half + k]
        out[half + cols + k] = out[half + cols - 1 - k]


@kernel
def _filter(bits: Ints, columns: Ints, network: Ints, out: Ints) -> None:
    """The median of the box of every pixel, as bits."""
    rows, cols = bits.shape
    size = columns[:, 1].max() + 1
    half = size // 2
    strips = np.empty((size, cols + 2 * half), np.int32)
    ordered = np.empty((size, cols + 2 * half), np.int32)
    box = np.empty((size * size, _BLOCK), np.int32)
    for k in range(size - 1):
        _row(bits, k - half, half, strips[k])
    for row in range(rows):
        _row(bits, row + half, half, strips[(row + size - 1) % size])
        for k in range(size):
            ordered[k] = strips[k]
        for m in range(columns.shape[0]):
            exchange(ordered[columns[m, 0]], ordered[columns[m, 1]], BOTH)
        for first in range(0, cols, _BLOCK):
            width = min(_BLOCK, cols - first)
            for c in range(size):
                for r in range(size):
                    box[c * size + r, :width] = ordered[r, first + c : first + c + width]
            for m in range(network.shape[0]):
                exchange(box[network[m, 0], :width], box[network[m, 1], :width], network[m, 2])
            _ordered(box[size * size // 2, :width], out[row, first : first + width])
