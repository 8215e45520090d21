"""A sorting network: which values are compared does not depend on what they are, so that loops of it are packed."""

from __future__ import annotations


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
