"""The loops of `neighbours`: medians of the columns of a table, sixty-four at a time through a sorting network.

A column is a few dozen values, so to sort it alone is all branches. A network compares the same places of all columns,
eight columns an instruction (Batcher's merge exchange: Knuth, *The Art of Computer Programming*, 5.2.2 M).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science import network
from darkpipe.science.jit import kernel
from darkpipe.science.packed import LANES, larger, load, smaller, store

F8 = NDArray[np.float64]
Ints = NDArray[np.int64]

_COLUMNS = 128


@cache
def exchanges(n: int) -> Ints:
    """`network.exchanges` as an array (k, 2)."""
    return np.array(network.exchanges(n), np.int64).reshape(-1, 2)


@kernel
def sort_columns(table: F8, pairs: Ints) -> None:
    """Sort the columns of a table (m, n), n a multiple of eight, none of which is NaN."""
    for k in range(pairs.shape[0]):
        upper, lower = pairs[k, 0], pairs[k, 1]
        for i in range(0, table.shape[1], LANES):
            u, v = load(table, upper, i), load(table, lower, i)
            store(table, upper, i, smaller(u, v))
            store(table, lower, i, larger(u, v))


@kernel
def _distances(values: F8, middle: F8, out: F8) -> None:
    """From the middle; what is not there, infinity, stays infinite."""
    for k in range(values.size):
        out[k] = abs(values[k] - middle[k])


@kernel
def _middles(table: F8, count: Ints, pairs: Ints, middle: F8) -> None:
    """Sort the columns of a table (m, n), in which infinity stands for what is not there, and take the median of so
    many; NaN of none."""
    sort_columns(table, pairs)
    last = table.shape[0] - 1
    for i in range(middle.size):
        n = count[i]
        pair = table[max(n - 1, 0) // 2, i] + table[min(n // 2, last), i]
        middle[i] = 0.5 * pair if n > 0 else np.nan


@kernel
def _fill(values: F8, like: F8, table: F8, count: Ints) -> None:
    for k in range(values.size):
        there = abs(like[k]) < np.inf
        table[k] = values[k] if there else np.inf
        count[k] += np.int64(there)


@kernel
def _levels(values: F8, like: F8, pairs: Ints, level: F8, scatter: F8, count: Ints) -> None:
    m, n = values.shape
    table, copied = np.empty((m, _COLUMNS)), np.empty((m, _COLUMNS))
    for first in range(0, n, _COLUMNS):
        last = min(first + _COLUMNS, n)
        number, middle, width = count[first:last], level[first:last], last - first
        number[:] = 0
        table[:, width:] = np.inf
        for j in range(m):
            _fill(values[j, first:last], like[j, first:last], table[j, :width], number)
        if scatter.size:
            copied[:] = table
        _middles(table, number, pairs, middle)
        if scatter.size:
            for j in range(m):
                _distances(copied[j, :width], middle, table[j, :width])
            _middles(table, number, pairs, scatter[first:last])


def levels(values: F8, like: F8, *, scatter: bool) -> tuple[F8, F8, Ints]:
    """Median (n,) of those of m values (m, n) where `like` (m, n) is finite, the median of their distances from it
    (empty unless asked for), and how many there are.

    Values are finite where `like` is.
    """
    n = values.shape[1]
    level, distance, count = np.empty(n), np.empty(n if scatter else 0), np.empty(n, np.int64)
    run: Any = _levels
    run(np.ascontiguousarray(values), np.ascontiguousarray(like), exchanges(values.shape[0]), level, distance, count)
    return level, distance, count
