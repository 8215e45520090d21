"""Medians of many numbers without sorting them: counted by the bits of the numbers, exactly.

Floating-point numbers of one sign are in the order of their bits. So a count by the upper half of the bits tells the
bucket that holds the middle, about a hundredth of the numbers, and the middle of these is the median: a few nanoseconds
a number, half a million bytes of memory, and the numbers are only looked at, not moved.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]
Ints = NDArray[np.int64]
Bits = NDArray[np.uint16]
Bytes = NDArray[np.uint8]

NO_CLASS = 255
_HALF = 1 << 16
_BLOCK = 4096
_SAMPLE = 1 << 16  # values that tell roughly where the median of many more lies
_WIDTH = 5.0  # 1 sigma of that, to both sides
_LARGEST = np.float32(3.4028234663852886e38)


@kernel
def _upper(bits: NDArray[np.uint32], kind: NDArray[np.uint8], counts: Ints) -> None:
    """Count the upper halves of the ordered bits of the numbers, class by class."""
    for i in range(bits.size):
        k = kind[i]
        if k < counts.shape[0]:
            b = bits[i]
            flip = np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000)
            counts[k, (b ^ flip) >> np.uint32(16)] += 1


@kernel
def _inside(bits: NDArray[np.uint32], kind: NDArray[np.uint8], buckets: Ints, place: Ints, out: F4) -> None:
    """The numbers whose upper half lies from the first to the last bucket (classes, 2) of their class, each class from
    its place in `out` on; places are moved on."""
    values = bits.view(np.float32)
    for i in range(bits.size):
        k = kind[i]
        if k < buckets.shape[0]:
            b = bits[i]
            flip = np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000)
            top = np.int64((b ^ flip) >> np.uint32(16))
            if buckets[k, 0] <= top <= buckets[k, 1]:
                out[place[k]] = values[i]
                place[k] += 1


@kernel
def _place(values: F4, dq: Bits, bits: np.uint16, low: np.float32, high: np.float32, place: Bytes) -> None:
    """0 for a value that does not count, 1 for one below the bounds, 2 above them, 4 within."""
    one = np.uint8(1)
    for i in range(values.size):
        v = values[i]
        counts = np.uint8((dq[i] & bits) == np.uint16(0)) & np.uint8(abs(v) <= _LARGEST)
        below, above = np.uint8(v < low), np.uint8(v > high)
        inside = one - (below | above)
        place[i] = np.uint8(counts * np.uint8(below + np.uint8(above << one) + np.uint8(inside << np.uint8(2))))


@kernel
def _number(place: Bytes, of: np.uint8) -> int:
    """How many places, fewer than 2^16, have one of these bits."""
    number = np.uint16(0)
    for i in range(place.size):
        number = np.uint16(number + np.uint16((place[i] & of) != np.uint8(0)))
    return int(number)


@kernel
def _between(values: F4, dq: Bits, bits: np.uint16, low: np.float32, high: np.float32, out: F4) -> tuple[int, int, int]:
    """The values that count within bounds, into `out`, as far as it reaches; returns how many count, how many of these
    are below the bounds, and how many within."""
    place = np.zeros(_BLOCK, np.uint8)
    eight = place.view(np.uint64)
    number, below, found = 0, 0, 0
    for first in range(0, values.size, _BLOCK):
        here, flags = values[first : first + _BLOCK], dq[first : first + _BLOCK]
        place[here.size :] = np.uint8(0)
        _place(here, flags, bits, low, high, place[: here.size])
        number += _number(place, np.uint8(7))
        below += _number(place, np.uint8(1))
        for k in range(eight.size):
            if eight[k] & np.uint64(0x0404040404040404):
                for i in range(8 * k, 8 * k + 8):
                    if place[i] == np.uint8(4):
                        if found < out.size:
                            out[found] = here[i]
                        found += 1
    return number, below, found


def median_without(values: F4, dq: Bits, bits: int) -> float:
    """Median of the finite values of pixels that have none of the bits, as `numpy.median` gives it in single precision;
    NaN of none.

    A sample tells two bounds that the median lies between almost certainly; one pass counts what is below and takes out
    what is within. Where it does lie there, that is exact, and else all values are looked at again.

    Parameters
    ----------
    values, dq : one shape.
    """
    flat, flags = np.ascontiguousarray(values).reshape(-1), np.ascontiguousarray(dq).reshape(-1)
    step = flat.size // _SAMPLE | 1
    sample = flat[::step][((flags[::step] & bits) == 0) & np.isfinite(flat[::step])]
    if step > 1 and sample.size:
        reach = int(0.5 * _WIDTH * math.sqrt(sample.size)) + 2
        ends = np.clip([sample.size // 2 - reach, sample.size // 2 + reach], 0, sample.size - 1)
        low, high = np.partition(sample, ends)[ends]
        inside = np.empty(flat.size // 8, np.float32)
        run: Any = _between
        number, below, found = run(flat, flags, np.uint16(bits), low, high, inside)
        ranks = np.array([max(number - 1, 0) // 2, number // 2]) - below
        if found <= inside.size and ranks[0] >= 0 and ranks[1] < found:
            pair = np.partition(inside[:found], ranks)[ranks]
            return float(pair[0] if pair[0] == pair[1] else pair.mean())
    return median(flat[((flags & bits) == 0) & np.isfinite(flat)])


def class_medians(values: F4, kind: NDArray[np.uint8], classes: int) -> tuple[F4, Ints]:
    """Median of each class, as `numpy.median` gives it, and how many values it has; NaN of none.

    Parameters
    ----------
    values : (n,) numbers, none of those that count NaN. kind : (n,) class of each, from 0; from `classes` on: no class.
    """
    pairs, number = _middles(values, kind, classes)
    return np.where(pairs[:, 0] == pairs[:, 1], pairs[:, 0], pairs.mean(axis=1)).astype(np.float32), number


def median(values: F4) -> float:
    """Median of all values, any shape, none of which is NaN, in single precision; NaN of none."""
    return float(class_medians(values.ravel(), np.zeros(values.size, np.uint8), 1)[0][0])


def _middles(values: F4, kind: NDArray[np.uint8], classes: int) -> tuple[F4, Ints]:
    """(classes, 2) the lower and the upper middle value of each class, and how many it has."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    upper = np.zeros((classes, _HALF), np.int64)
    count: Any = _upper
    count(bits, kind, upper)
    upto = np.cumsum(upper, axis=1)
    number = upto[:, -1]
    ranks = np.stack([np.maximum(number - 1, 0) // 2, number // 2], axis=1)
    buckets = np.zeros((classes, 2), np.int64)
    for c in range(classes):
        buckets[c] = np.minimum(np.searchsorted(upto[c], ranks[c], side="right"), _HALF - 1)
    every = np.arange(classes)
    below = upto[every, buckets[:, 0]] - upper[every, buckets[:, 0]]
    ends = np.cumsum(np.where(number > 0, upto[every, buckets[:, 1]] - below, 0))
    inside = np.empty(int(ends[-1]), np.float32)
    starts = np.concatenate([[0], ends[:-1]])
    count = _inside
    count(bits, kind, buckets, starts.copy(), inside)
    out = np.full((classes, 2), np.float32(np.nan))
    for k in np.flatnonzero(number):
        at = ranks[k] - below[k]
        out[k] = np.partition(inside[starts[k] : ends[k]], at)[at]
    return out, number
