"""A sorting network: which values are compared does not depend on what they are, so that loops of it are packed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

BOTH, LOW_ONLY, HIGH_ONLY = 3, 1, 2  # results of a step that are needed


def exchanges(n: int) -> list[tuple[int, int]]:
    """Places i < j of n values; the smaller one goes to i, in this order, and all are sorted.

    Source: Batcher's merge exchange, Knuth, TAOCP vol. 3, 5.2.2, algorithm M.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max((n - 1).bit_length() - 1, 0)
    p = top
    while p:
        q, r, d = top, 0, p
        while True:
            pairs.extend((i, i + d) for i in range(n - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return pairs


def needed_steps(pairs: Iterable[tuple[int, int]], wanted: Iterable[int]) -> NDArray[np.int32]:
    """(m, 3) steps i, j, op: of the exchanges `pairs`, in their order, those that the values in the places `wanted`
    depend on, and which of their results is needed."""
    needed, kept = set(wanted), []
    for i, j in reversed(list(pairs)):
        op = (LOW_ONLY if i in needed else 0) | (HIGH_ONLY if j in needed else 0)
        if op:
            kept.append((i, j, op))
            needed |= {i, j}
    return np.array(kept[::-1], np.int32).reshape(-1, 3)


@kernel
def exchange(a: Any, b: Any, op: int) -> None:
    """A step for two rows, element by element: the smaller values to a, the larger to b, as far as they are needed."""
    if op == BOTH:
        for k in range(a.size):
            u = a[k]
            v = b[k]
            a[k] = u if u < v else v
            b[k] = v if v > u else u
    elif op == LOW_ONLY:
        for k in range(a.size):
            a[k] = min(a[k], b[k])
    else:
        for k in range(a.size):
            b[k] = max(a[k], b[k])
