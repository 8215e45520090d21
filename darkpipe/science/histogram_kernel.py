"""Counting of sixteen-bit values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

_TABLES = 4


def count_uint16(values: NDArray[np.uint16]) -> NDArray[np.int64]:
    """How often each of the 65536 values occurs in an array of any shape."""
    tables = np.zeros((_TABLES, 1 << 16), np.uint32)
    _count(np.ascontiguousarray(values).reshape(-1), tables)
    return np.asarray(tables.sum(axis=0, dtype=np.int64))


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
