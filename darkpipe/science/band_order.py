"""Order of the values of planes that come band by band and are never in memory together.

Floating-point numbers of one sign are in the order of their bits: a count by the upper half of the bits tells where
each value stands, to a part in 128.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]

_BUCKETS = 1 << 16
_POSITIVE = 1 << 15  # the first bucket of numbers that are not negative
_INFINITE = _POSITIVE + 0x7F80


@kernel
def _count(bits: NDArray[np.uint32], counts: NDArray[np.int64]) -> None:
    """Count values that are not NaN by the upper halves of their ordered bits."""
    for b in bits:
        if b & np.uint32(0x7FFFFFFF) <= np.uint32(0x7F800000):
            flip = np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000)
            counts[(b ^ flip) >> np.uint32(16)] += 1


@kernel
def _between(bits: NDArray[np.uint32], first: int, last: int, out: F4, place: int) -> int:
    """The values in the buckets from first to last, into `out` from a place on, which has one to spare; returns the
    next place. Buckets tell what comparing values would not: -0 from 0."""
    values = bits.view(np.float32)
    for i in range(bits.size):
        b = bits[i]
        flip = np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000)
        top = np.int64((b ^ flip) >> np.uint32(16))
        out[place] = values[i]
        place += (first <= top) & (top <= last) & (b & np.uint32(0x7FFFFFFF) <= np.uint32(0x7F800000))
    return place


@dataclass(frozen=True, eq=False)
class ValueCounts:
    """How many values that are not NaN lie in each of 2^16 buckets, in rising order (`bucket_values`)."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BUCKETS, np.int64))

    def add(self, values: F4) -> None:
        """Count more values, of any shape."""
        run: Any = _count
        run(_bits(values), self.counts)

    def above(self, most: int) -> tuple[F4, NDArray[np.int64], int]:
        """How many values reach each of at most so many levels above zero, evenly by ratio, from the level that 1 in
        100 of all finite values stay below, and no lower than a millionth of the largest, or 0.001; and how many are
        finite. Levels rise; there are none where nothing lies above."""
        finite = self.counts.copy()
        finite[_INFINITE:] = 0
        finite[: _BUCKETS - _INFINITE] = 0
        upto = np.cumsum(finite)
        number = int(upto[-1])
        if not finite[_POSITIVE:].any():
            return np.zeros(0, np.float32), np.zeros(0, np.int64), number
        last = int(np.flatnonzero(finite)[-1])
        lowest = max(float(bucket_values(np.array([last]))[0]) * 1e-6, 1e-3)
        faint = int(np.searchsorted(upto, 0.01 * number))
        first = max(faint, _POSITIVE + (int(np.float32(lowest).view(np.uint32)) >> 16))
        levels = np.arange(first, last + 1)
        levels = levels[:: max(1, math.ceil(levels.size / most))]
        return bucket_values(levels), number - upto[levels - 1], number

    @property
    def number(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def around(self, rank: int) -> tuple[np.float32, np.float32, int]:
        """Of the value of this rank, counted from 0: the lowest and the last one of its bucket, and how many values lie
        in buckets below."""
        upto = np.cumsum(self.counts)
        bucket = np.searchsorted(upto, [rank], side="right")
        low, high = bucket_values(bucket)[0], bucket_values(bucket, last=True)[0]
        return low, high, int(upto[bucket[0]] - self.counts[bucket[0]])

    def median(self, bands: Iterable[F4]) -> float:
        """Median of the values, as `numpy.median` gives it in single precision; NaN of none.

        bands : the values once more, in pieces of any shape; only those of the buckets that hold the middle are kept.
        """
        upto = np.cumsum(self.counts)
        number = int(upto[-1])
        if not number:
            return math.nan
        ranks = np.array([(number - 1) // 2, number // 2])
        first, last = (int(k) for k in np.searchsorted(upto, ranks, side="right"))
        below = int(upto[first] - self.counts[first])
        inside, place = np.empty(int(upto[last]) - below + 1, np.float32), 0
        run: Any = _between
        for band in bands:
            place = run(_bits(band), first, last, inside, place)
        lower, upper = np.partition(inside[:place], ranks - below)[ranks - below]
        return float(np.float32((float(lower) + float(upper)) / 2))


def bucket_values(buckets: NDArray[Any], last: bool = False) -> F4:
    """The lowest value of each bucket, or the last one; of those where the bits hold no number, NaN."""
    bits = (np.asarray(buckets, np.uint32) << np.uint32(16)) | np.uint32(0xFFFF if last else 0)
    flip = np.where(bits >> np.uint32(31), np.uint32(0x80000000), np.uint32(0xFFFFFFFF)).astype(np.uint32)
    return (bits ^ flip).view(np.float32)


def _bits(values: F4) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)
