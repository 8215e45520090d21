"""Counting of sixteen-bit values."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

_TABLES = 4
_VALUES = 1 << 16
_EMPTY = 32  # values that are passed over together where none of them occurs
_NEAR = 2048  # values that stay in the nearest cache
_spare = threading.local()  # tables of a thread: new memory costs more than the counting


class Counts:
    """How often each sixteen-bit value occurs, piece by piece."""

    def __init__(self) -> None:
        tables = vars(_spare).pop("tables", None)
        self._tables: NDArray[np.uint32] = np.zeros((_TABLES, _VALUES), np.uint32) if tables is None else tables

    def add(self, values: NDArray[np.uint16]) -> None:
        """Count an array of any shape."""
        _count(np.ascontiguousarray(values).reshape(-1), self._tables)

    def decode(self, stored: NDArray[np.uint16]) -> None:
        """Count values (n,) as FITS stores them, the bytes in the other order and 32768 taken off; they are put into
        their place."""
        _decode_and_count(stored, self._tables)

    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values that occurred, ascending, and how often. To be asked once: the tables are empty then, and the next
        counting of this thread takes them."""
        values, counts = np.empty(_VALUES, np.int64), np.empty(_VALUES, np.int64)
        number = int(_distinct(self._tables, values, counts))
        _spare.tables = self._tables
        return values[:number], counts[:number]


@kernel
def _count(values: Any, tables: Any) -> None:
    # neighbours are often alike: with one table each increment would wait for the last one
    a, b, c, d = tables[0], tables[1], tables[2], tables[3]
    fours = values.size // 4 * 4
    for k in range(0, fours, 4):
        a[values[k]] += np.uint32(1)
        b[values[k + 1]] += np.uint32(1)
        c[values[k + 2]] += np.uint32(1)
        d[values[k + 3]] += np.uint32(1)
    for k in range(fours, values.size):
        a[values[k]] += np.uint32(1)


@kernel
def _decode_and_count(stored: Any, tables: Any) -> None:
    for first in range(0, stored.size, _NEAR):
        part = stored[first : first + _NEAR]
        for k in range(part.size):
            v = part[k]
            part[k] = ((v >> np.uint16(8)) | (v << np.uint16(8))) ^ np.uint16(0x8000)
        _count(part, tables)


@kernel
def _distinct(tables: Any, values: Any, counts: Any) -> int:
    a, b, c, d = tables[0], tables[1], tables[2], tables[3]
    twos = tables.view(np.uint64)
    p, q, r, s = twos[0], twos[1], twos[2], twos[3]
    number = 0
    for first in range(0, a.size, _EMPTY):
        some = np.uint64(0)
        for v in range(first // 2, (first + _EMPTY) // 2):
            some |= p[v] | q[v] | r[v] | s[v]
        if some == 0:
            continue
        for v in range(first, first + _EMPTY):
            together = np.int64(a[v]) + np.int64(b[v]) + np.int64(c[v]) + np.int64(d[v])
            values[number] = v
            counts[number] = together
            number += int(together > 0)
            a[v] = b[v] = c[v] = d[v] = 0
    return number
