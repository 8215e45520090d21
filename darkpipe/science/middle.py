"""Medians of numbers that come band by band, several times over, and are never in memory together: exact.

Floating-point numbers of one sign are in the order of their bits, so a median is found digit by digit, of 16 bits each:
one time through the numbers counts the first digit of all, which tells the first digit of the median; the next counts
the second digit of those that share the first, and so on. That takes half a million bytes, however many numbers there
are and however many of them are alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel

F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

_DIGIT = 16
_VALUES = 1 << _DIGIT
_FEW = 1 << 21  # numbers that may be kept, once that spares the counts of further digits


@inlined
def _ordered(value: np.float32) -> np.uint64:
    """A number as a whole one of the same order, in the upper half of 64 bits; one zero."""
    b = np.float32(value + np.float32(0)).view(np.uint32)
    flip = np.uint32(0xFFFFFFFF) if b >> np.uint32(31) else np.uint32(0x80000000)
    return np.uint64(b ^ flip) << np.uint64(32)


@inlined
def _distance(value: np.float32, centre: float) -> np.uint64:
    """The distance from a centre likewise, in double precision: it is not negative."""
    return np.uint64(np.float64(abs(np.float64(value) - centre)).view(np.uint64))


@kernel
def _count(values: F4, use: Bools, centre: float, far: bool, begins: Words, shift: np.uint64, counts: Ints) -> None:
    """Count the next digit of those numbers in use whose digits before are one of `begins`, each in its row."""
    for i in range(values.size):
        if use[i]:
            key = _distance(values[i], centre) if far else _ordered(values[i])
            digits = key >> shift
            for k in range(begins.size):
                if digits >> np.uint64(16) == begins[k]:
                    counts[k, digits & np.uint64(0xFFFF)] += 1


@kernel
def _keep(
    values: F4, use: Bools, centre: float, far: bool, begins: Words, shift: np.uint64, out: Words, place: int
) -> int:
    """Those numbers in use whose digits begin as one of `begins`, put into `out` from a place on; returns the next."""
    for i in range(values.size):
        if use[i]:
            key = _distance(values[i], centre) if far else _ordered(values[i])
            for k in range(begins.size):
                if key >> shift == begins[k]:
                    out[place] = key
                    place += 1
    return place


class Middle:
    """The two middle ones of some numbers, or of their distances from a centre, which are taken in double precision.

    All numbers are given with `add`, then `turn` is called, as long as it is `open`; `settle` does that.
    """

    def __init__(self, centre: float | None = None) -> None:
        self.number = 0
        self.open = True
        self._centre, self._far = (0.0, False) if centre is None else (centre, True)
        self._known = 0  # digits
        self._begins = np.zeros(1, np.uint64)
        self._ranks: list[tuple[int, int]] = []  # of the lower and the upper one: which beginning, which place there
        self._counts = np.zeros((1, _VALUES), np.int64)
        self._kept: Words | None = None
        self._place = 0
        self._pair = (math.nan, math.nan)

    def add(self, values: F4, use: Bools) -> None:
        """More numbers, any shape, and which of them count; none of these is NaN."""
        flat, chosen = np.ascontiguousarray(values, np.float32).reshape(-1), np.ascontiguousarray(use).reshape(-1)
        shift = np.uint64(64 - _DIGIT * (self._known + (self._kept is None)))
        given = flat, chosen, self._centre, self._far, self._begins, shift
        run: Any = _count if self._kept is None else _keep
        if self._kept is None:
            run(*given, self._counts)
        else:
            self._place = run(*given, self._kept, self._place)

    def turn(self) -> None:
        """All numbers were given once more."""
        if self._kept is not None:
            self._choose(self._kept[: self._place])
            return
        if not self._known:
            self.number = n = int(self._counts.sum())
            if not n:
                self.open = False
                return
            self._ranks = [(0, (n - 1) // 2), (0, n // 2)]
        begins, inside, ranks = [], [], []
        for row, rank in self._ranks:
            upto = np.cumsum(self._counts[row])
            digit = int(np.searchsorted(upto, rank, side="right"))
            begins.append(int(self._begins[row]) << _DIGIT | digit)
            inside.append(int(self._counts[row, digit]))
            ranks.append(rank - int(upto[digit]) + inside[-1])
        rows = [0, int(begins[1] != begins[0])]
        self._ranks = list(zip(rows, ranks, strict=True))
        self._begins = np.array(sorted(set(begins)), np.uint64)
        self._known += 1
        if self._known == (4 if self._far else 2):
            self._end([begin << (64 - _DIGIT * self._known) for begin in begins])
        elif self._far and sum(inside[: 1 + rows[1]]) <= _FEW:
            self._kept = np.empty(sum(inside[: 1 + rows[1]]), np.uint64)
        else:
            self._counts = np.zeros((self._begins.size, _VALUES), np.int64)

    @property
    def double(self) -> float:
        """The median in double precision; NaN of none."""
        return 0.5 * (self._pair[0] + self._pair[1])

    @property
    def single(self) -> float:
        """The median as `numpy.median` gives it of numbers in single precision; NaN of none."""
        return float(np.float32(self.double))

    def _choose(self, kept: Words) -> None:
        """The two out of those that were kept: of one beginning, or of two that follow each other."""
        below = 0 if self._begins.size == 1 else int(np.count_nonzero(kept < self._begins[1] << self._shift))
        places = [rank + (below if row else 0) for row, rank in self._ranks]
        self._end([int(key) for key in np.partition(kept, places)[places]])

    @property
    def _shift(self) -> np.uint64:
        return np.uint64(64 - _DIGIT * self._known)

    def _end(self, keys: Sequence[int]) -> None:
        self.open, self._kept = False, None
        self._pair = (self._number(keys[0]), self._number(keys[1]))

    def _number(self, key: int) -> float:
        if self._far:
            return float(np.uint64(key).view(np.float64))
        upper = key >> 32
        bits = upper ^ (0x80000000 if upper >> 31 else 0xFFFFFFFF)
        return float(np.uint32(bits).view(np.float32))


Bands = Callable[[], Iterable[Sequence[tuple[F4, Bools]]]]
"""Gives all bands anew each time; of each band and each set of numbers that are asked for: these, and which count."""


def settle(bands: Bands, middles: Sequence[Middle]) -> None:
    """Go through the bands until all of some medians are known."""
    while any(middle.open for middle in middles):
        for sets in bands():
            for middle, (values, use) in zip(middles, sets, strict=True):
                if middle.open:
                    middle.add(values, use)
        for middle in middles:
            if middle.open:
                middle.turn()
