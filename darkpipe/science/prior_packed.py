"""The prior of eight pixels at once, from what was measured of them; `shape_prior` says what it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel
from darkpipe.science.packed import (
    LANES,
    Packed,
    larger,
    load,
    logarithm,
    magnitude,
    smaller,
    splat,
    store,
    where_above,
)

F8 = NDArray[np.float64]

TURNS = 4  # of the iteration of a pixel's distance from the prior
COLUMNS = 10
"""Of a node: mean (2), covariance (3), its shared part (3), growth of the mean by the logarithm of the level (2)."""


class Nodes(NamedTuple):
    """Nodes in the order of their levels: levels and their logarithms (N,), columns (N, 10), 0 for a parameter that
    the shape does not have; start (2,), the shape that levels are told by; range of the level over the sum of two
    currents; freedom and own_word: see `shape_prior`."""

    level: F8
    log: F8
    columns: F8
    start: F8
    low: float
    high: float
    freedom: float
    own_word: float


class Levels(NamedTuple):
    """As `signal_level.Measured`: level (P,), departure and overlap (m, P), information (m², P)."""

    level: F8
    departure: F8
    information: F8
    overlap: F8


@inlined
def _or_nothing(x: Packed) -> Packed:
    """0 for what is no number."""
    return where_above(math.inf, magnitude(x), x, 0.0)


@inlined
def _inverse(m: int, a: Packed, b: Packed, c: Packed) -> tuple[Packed, Packed, Packed]:
    """Of a symmetric matrix (m, m), m = 1 or 2, by its elements 00, 01 and 11."""
    if m == 1:
        return 1.0 / a, splat(0.0), splat(0.0)
    det = a * c - b * b
    return c / det, -b / det, a / det


@inlined
def _interpolate(nodes: Nodes, level: Packed, log_level: Packed, scratch: F8) -> None:
    """Columns at the logarithms of the levels, those of the first or last node beyond; growth is 0 there."""
    n = nodes.level.size
    for j in range(COLUMNS):
        store(scratch, j, 0, splat(nodes.columns[0, j]))
    for s in range(n - 1):
        part = (log_level - nodes.log[s]) / (nodes.log[s + 1] - nodes.log[s])
        part = smaller(larger(part, 0.0), 1.0)
        for j in range(COLUMNS):
            step = nodes.columns[s + 1, j] - nodes.columns[s, j]
            store(scratch, j, 0, load(scratch, j, 0) + part * step)
    for j in (8, 9):
        inside = where_above(nodes.level[0], level, splat(0.0), where_above(level, nodes.level[n - 1], splat(0.0), 1.0))
        store(scratch, j, 0, load(scratch, j, 0) * inside)


@inlined
def _strength(
    m: int, nodes: Nodes, t00: Packed, t01: Packed, t11: Packed, o00: Packed, o01: Packed, o11: Packed, word: Packed,
    d0: Packed, d1: Packed,
) -> Packed:  # fmt: skip
    """Factor on the prior's precision t, at most 1, for a pixel whose own data have the information o and depart by d
    from its mean."""
    weight = splat(1.0)
    v0, v1 = o00 * d0 + o01 * d1, o01 * d0 + o11 * d1
    for _ in range(TURNS):
        a00, a01, a11 = _inverse(m, t00 * weight + o00, t01 * weight + o01, t11 * weight + o11)
        e0, e1 = a00 * v0 + a01 * v1, a01 * v0 + a11 * v1
        distance = e0 * (t00 * e0 + 2.0 * (t01 * e1)) + t11 * (e1 * e1)
        distance = distance + a00 * t00 + 2.0 * (a01 * t01) + a11 * t11
        weight = smaller((nodes.freedom + m) / (nodes.freedom - 2.0 + distance), 1.0)
    word = word / nodes.own_word
    return weight / larger(word * word, 1.0)


@inlined
def _rows(
    m: int, slots: NDArray[np.int64], share: bool, nodes: Nodes, level: Packed, o0: Packed, o1: Packed, scratch: F8,
    mean: F8, i: int,
) -> None:  # fmt: skip
    """Mean of the prior, and what it holds of the parameters: rows (2, 3) into the scratch, whose products with the
    departures from the mean are those of the shape from that of the pixel's true level.

    A level was measured with the shape `start`: it is amplitude (1 + overlap (theta - start)). It has an error: of the
    true one, L', the shape is theta(L) + dtheta/dlnL (L' - L)/L, so that what is open of the level is so of the shape.
    Of two currents G and D, ((1 - f) G - f D)/(G + D) is the departure of the share of G from f, and their sum has no
    prior.
    """
    theta0, theta1 = load(scratch, 0, 0), load(scratch, 1, 0)
    g0, g1 = load(scratch, 8, 0), load(scratch, 9, 0)
    part = 1.0 + (theta0 - nodes.start[0]) * o0 + (theta1 - nodes.start[1]) * o1
    part = smaller(larger(part, nodes.low), nodes.high)
    amplitude = larger(level, nodes.level[0]) / part
    for slot in range(6):
        store(scratch, COLUMNS + slot, 0, splat(0.0))
    if share:
        first = nodes.start[0]
        g0 = g0 / part
        store(mean, 0, i, theta0 * amplitude)
        store(mean, 1, i, (1.0 - theta0) * amplitude)
        store(scratch, COLUMNS, 0, (1.0 - theta0 - g0 * (1.0 + (1.0 - first) * o0)) / amplitude)
        store(scratch, COLUMNS + 1, 0, (-theta0 - g0 * (1.0 - first * o0)) / amplitude)
        return
    store(mean, 0, i, amplitude)
    store(mean, slots[0], i, theta0)
    store(scratch, COLUMNS, 0, -g0 / amplitude)
    store(scratch, COLUMNS + slots[0], 0, 1.0 - g0 * o0)
    if m == 2:
        store(mean, slots[1], i, theta1)
        store(scratch, COLUMNS + slots[1], 0, -(g0 * o1))
        store(scratch, COLUMNS + 3, 0, -g1 / amplitude)
        store(scratch, COLUMNS + 3 + slots[0], 0, -(g1 * o0))
        store(scratch, COLUMNS + 3 + slots[1], 0, 1.0 - g1 * o1)


@inlined
def _spread(scratch: F8, t00: Packed, t01: Packed, t11: Packed, weakest: F8, out: F8, i: int) -> None:
    """rowsᵀ t rows and the weakest precision, as 00, 01, 02, 11, 12, 22."""
    slot = 0
    for a in range(3):
        for b in range(a, 3):
            ra, rb = load(scratch, COLUMNS + a, 0), load(scratch, COLUMNS + b, 0)
            sa, sb = load(scratch, COLUMNS + 3 + a, 0), load(scratch, COLUMNS + 3 + b, 0)
            value = ra * (t00 * rb + t01 * sb) + sa * (t01 * rb + t11 * sb)
            store(out, slot, i, value if weakest.shape[0] == 0 else value + load(weakest, slot, i))
            slot += 1


@kernel
def prior_of_levels(
    found: Levels, nodes: Nodes, m: int, slots: NDArray[np.int64], share: bool, weakest: F8, mean: F8, precision: F8,
    twice: F8,
) -> None:  # fmt: skip
    """Write precision and twice (6, P), and the rows of mean (3, P) that the prior tells.

    Parameters
    ----------
    m, slots : parameters of the shape, 1 or 2, and their slots (m,). share : the shape is the share of the first of two
    currents. weakest : (6, P) precision of the weakest prior.
    """
    scratch = np.empty((COLUMNS + 6, LANES))
    nothing = np.empty((0, 0))
    for begin in range(0, found.level.size, LANES):
        i = min(begin, found.level.size - LANES)
        level = _or_nothing(load(found.level, 0, i))
        positive = larger(level, 0.0)
        inside = smaller(larger(level, nodes.level[0]), nodes.level[nodes.level.size - 1])
        _interpolate(nodes, level, logarithm(inside), scratch)
        square = positive * positive
        i00, i01, i11 = _or_nothing(load(found.information, 0, i)) * square, splat(0.0), splat(0.0)
        o0, o1, d0, d1 = _or_nothing(load(found.overlap, 0, i)), splat(0.0), load(found.departure, 0, i), splat(0.0)
        d0 = _or_nothing(where_above(positive, 0.0, d0 / positive, 0.0)) - (load(scratch, 0, 0) - nodes.start[0])
        if m == 2:
            i01, i11 = (
                _or_nothing(load(found.information, 1, i)) * square,
                _or_nothing(load(found.information, 3, i)) * square,
            )
            o1, d1 = _or_nothing(load(found.overlap, 1, i)), load(found.departure, 1, i)
            d1 = _or_nothing(where_above(positive, 0.0, d1 / positive, 0.0)) - (load(scratch, 1, 0) - nodes.start[1])
        c00, c01, c11 = load(scratch, 2, 0), load(scratch, 3, 0), load(scratch, 4, 0)
        word = (i00 * c00 + 2.0 * (i01 * c01) + i11 * c11) / m
        t00, t01, t11 = _inverse(m, c00, c01, c11)
        strength = _strength(m, nodes, t00, t01, t11, i00, i01, i11, word, d0, d1)
        t00, t01, t11 = t00 * strength, t01 * strength, t11 * strength
        _rows(m, slots, share, nodes, level, o0, o1, scratch, mean, i)
        _spread(scratch, t00, t01, t11, weakest, precision, i)
        s00, s01, s11 = load(scratch, 5, 0), load(scratch, 6, 0), load(scratch, 7, 0)
        x00, x01 = i00 * s00 + i01 * s01, i00 * s01 + i01 * s11
        x10, x11 = i01 * s00 + i11 * s01, i01 * s01 + i11 * s11
        y01, y10 = x00 * t01 + x01 * t11, x10 * t00 + x11 * t01
        y00, y11 = x00 * t00 + x01 * t01, x10 * t01 + x11 * t11
        _spread(scratch, 2.0 * y00, y01 + y10, 2.0 * y11, nothing, twice, i)


@kernel
def add_common_error(covariance: F8, twice: F8, out: F8) -> None:
    """C + C T C of symmetric matrices, (6, P) each, as 00, 01, 02, 11, 12, 22."""
    pixels = covariance.shape[1]
    for begin in range(0, pixels, LANES):
        i = min(begin, pixels - LANES)
        a, b, c = load(covariance, 0, i), load(covariance, 1, i), load(covariance, 2, i)
        d, e, f = load(covariance, 3, i), load(covariance, 4, i), load(covariance, 5, i)
        t00, t01, t02 = load(twice, 0, i), load(twice, 1, i), load(twice, 2, i)
        t11, t12, t22 = load(twice, 3, i), load(twice, 4, i), load(twice, 5, i)
        x00, x10, x20 = t00 * a + t01 * b + t02 * c, t01 * a + t11 * b + t12 * c, t02 * a + t12 * b + t22 * c
        x01, x11, x21 = t00 * b + t01 * d + t02 * e, t01 * b + t11 * d + t12 * e, t02 * b + t12 * d + t22 * e
        x02, x12, x22 = t00 * c + t01 * e + t02 * f, t01 * c + t11 * e + t12 * f, t02 * c + t12 * e + t22 * f
        store(out, 0, i, a + a * x00 + b * x10 + c * x20)
        store(out, 1, i, b + a * x01 + b * x11 + c * x21)
        store(out, 2, i, c + a * x02 + b * x12 + c * x22)
        store(out, 3, i, d + b * x01 + d * x11 + e * x21)
        store(out, 4, i, e + b * x02 + d * x12 + e * x22)
        store(out, 5, i, f + c * x02 + e * x12 + f * x22)
