"""Sums over the pixels of blocks that are ordinary in every cell, the loops of `glow.reduce_blocks`; sums over masks.

The quantiles of a block are found without sorting it: by halving the interval of ordered bits that holds them, where
each step only counts the values below its middle, many at an instruction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Ints = NDArray[np.int32]

LOW, MIDDLE, HIGH = 0.158655, 0.5, 0.841345


@kernel
def count_below(keys: Ints, limit: np.int32) -> int:
    """How many whole numbers are at most the limit."""
    found = np.int32(0)
    for i in range(keys.size):
        found += np.int32(keys[i] <= limit)
    return int(found)


@inlined
def _ordered(bits: np.int32) -> np.int32:
    """Bits of a float32 as a whole number of the same order; its own inverse."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@inlined
def order_statistic(keys: Ints, rank: int, low: int, high: int) -> int:
    """The whole number of this rank, from 0, among some that lie from low to high."""
    while low < high:
        middle = (low + high) >> 1
        if count_below(keys, np.int32(middle)) > rank:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def _quantiles(keys: Ints, found: Ints) -> None:
    """The three quantiles of some whole numbers."""
    low, high = keys[0], keys[0]
    for i in range(keys.size):
        low, high = min(low, keys[i]), max(high, keys[i])
    start, last = int(low), keys.size - 1
    for j, q in enumerate((LOW, MIDDLE, HIGH)):
        start = order_statistic(keys, min(max(int(q * last + 0.5), 0), last), start, int(high))
        found[j] = start


@kernel
def _clip(signal: F4, place: Ints, clip: np.float32, keys: Ints, keep: NDArray[np.bool_], found: Ints) -> None:
    """Take out of `keep` what lies more than `clip` robust sigma from the median of the block, in one cell."""
    values = keys.view(np.float32)
    for i in range(place.size):
        values[i] = signal[place[i]]
    for i in range(place.size):
        keys[i] = _ordered(keys[i])
    _quantiles(keys, found)
    for j in range(3):
        found[j] = _ordered(found[j])
    low, middle, high = found.view(np.float32)
    width = clip * max(np.float32(0.5) * (high - low), np.float32(1e-6))
    for i in range(place.size):
        keys[i] = _ordered(keys[i])
    for i in range(place.size):
        keep[i] &= abs(values[i] - middle) <= width


@inlined
def _sum(plane: F4, place: Ints) -> float:
    """Sum of some pixels, in double precision and in their order."""
    total = 0.0
    for i in range(place.size):
        total += plane[place[i]]
    return total


@kernel
def sum_blocks(
    signal: F4,
    count: NDArray[np.uint16],
    group_variance: F4,
    read_variance: F4,
    usable: NDArray[np.bool_],
    rows: int,
    cols: int,
    side: int,
    clip: np.float32,
    signals: F8,
    counts: F8,
    variances: F8,
    reads: F8,
    pixels: NDArray[np.int64],
) -> None:
    """Sums over the pixels of each block that are usable, measured in every cell and nowhere far from the others.

    Parameters
    ----------
    signal, count : (n, rows·cols) of cells. group_variance : (G, rows·cols). read_variance, usable : (rows·cols,).
    signals, counts : (n, blocks), variances : (G, blocks), reads, pixels : (blocks,) results.
    """  # fmt: skip
    across = -(-cols // side)
    place, keys, found = np.empty(side * side, np.int32), np.empty(side * side, np.int32), np.empty(3, np.int32)
    keep = np.empty(side * side, np.bool_)
    for block in range(signals.shape[1]):
        top, left = block // across * side, block % across * side
        number = 0
        for row in range(top, min(top + side, rows)):
            first, last = row * cols + left, row * cols + min(left + side, cols)
            some = keep[: last - first]
            some[:] = usable[first:last]
            for k in range(signal.shape[0]):
                for i in range(last - first):
                    some[i] &= (count[k, first + i] > 0) & (abs(signal[k, first + i]) < np.float32(np.inf))
            for i in range(last - first):
                if some[i]:
                    place[number] = first + i
                    number += 1
        keep[:number] = True
        if number:
            for k in range(signal.shape[0]):
                _clip(signal[k], place[:number], clip, keys[:number], keep[:number], found)
        kept = 0
        for i in range(number):
            if keep[i]:
                place[kept] = place[i]
                kept += 1
        pixels[block], reads[block] = kept, _sum(read_variance, place[:kept])
        for k in range(signal.shape[0]):
            signals[k, block] = _sum(signal[k], place[:kept])
            total = 0
            for i in range(kept):
                total += count[k, place[i]]
            counts[k, block] = total
        for g in range(group_variance.shape[0]):
            variances[g, block] = _sum(group_variance[g], place[:kept])


@kernel
def masked_sums(values: F4, use: NDArray[np.bool_], out: F8) -> None:
    """Sums in double precision of the pixels in use of each of n planes: values (n, P), use (P,), out (n,)."""
    for k in range(values.shape[0]):
        plane = values[k]
        even: Any = 0.0  # two sums: an addition waits for the one before it
        odd: Any = 0.0
        for i in range(0, use.size - 1, 2):
            even += plane[i] if use[i] else np.float32(0.0)
            odd += plane[i + 1] if use[i + 1] else np.float32(0.0)
        if use.size % 2 and use[use.size - 1]:
            even += plane[use.size - 1]
        out[k] = even + odd
