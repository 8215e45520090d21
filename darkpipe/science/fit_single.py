"""The first steps of the fit of sixteen pixels at once, in single precision.

Two steps from the start bring most pixels so near to their minimum that one evaluation in double precision
(`fit_packed`) says so and gives everything that is kept. Those two need a few digits only, for which sixteen pixels
fit where eight do. Where single precision does not do (a matrix that is nearly singular, numbers beyond its range), a
pixel stays where it is, and double precision takes it from there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import Law, Pixels
from darkpipe.science.fit_packed import Block, Order, bounded, fill_tables, growth_of, inverse_of, share_of
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import LINEAR, evaluate_packed
from darkpipe.science.packed import (
    SINGLES,
    Packed,
    fetch,
    larger,
    like,
    load,
    load_single,
    magnitude,
    row,
    set_row,
    where_above,
)

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

STEPS, STEPS_LINEAR = 2, 3  # a step without an exponential costs next to nothing
REGULAR = 1e-5  # of the unit diagonal: below, nothing is left of seven digits
HUGE = 1e30
AHEAD = 64  # pixels: so far ahead memory is asked for, of more rows than a processor looks after by itself


class Rough(NamedTuple):
    """Scratch for sixteen pixels, rows of sixteen float32: of each cell y, base and shot; the precision of each group;
    tables of exponentials; about (3): how many cells and unknowns a pixel has, and 1 where its errors are numbers.
    p (3): where the steps end."""

    y: F4
    base: F4
    shot: F4
    precision: F4
    first: F4
    second: F4
    about: F4
    p: F4


@kernel
def new_rough(n: int, groups: int, order: Order) -> Rough:
    """Scratch for sixteen pixels of n cells."""
    single = np.float32
    return Rough(
        np.empty((n, SINGLES), single), np.empty((n, SINGLES), single), np.empty((n, SINGLES), single),
        np.empty((groups, SINGLES), single), np.empty((order.first.size, SINGLES), single),
        np.empty((order.second.size, SINGLES), single), np.empty((3, SINGLES), single), np.empty((3, SINGLES), single),
    )  # fmt: skip


@inlined
def load_sixteen(law: Law, tile: Pixels, i: int, order: Order, rough: Rough) -> None:
    """Fill the scratch with pixels i to i + 15. An absent cell gets an infinite variance."""
    read = load_single(tile.read_variance_adu2, 0, i)
    here, unknowns, fine = like(read, 0.0), like(read, 0.0), like(read, 1.0)
    for a in range(3):
        unknowns = unknowns + 1.0 * law.free[a]
    for q in range(rough.precision.shape[0]):
        variance = load_single(tile.group_variance_adu2, q, i)
        known = 1.0 / variance
        set_row(rough.precision, q, known)
        fine = where_above(variance, -1.0, fine, 0.0)
        of_group = like(read, 0.0)
        for at in range(order.group_start[q], order.group_start[q + 1]):
            k = order.cells[at]
            y, c = load_single(tile.signal_adu, k, i), load_single(tile.frames, k, i)
            fetch(tile.signal_adu, k, i + AHEAD)
            fetch(tile.frames, k, i + AHEAD)
            there = where_above(c, 0.0, where_above(math.inf, magnitude(y), 1.0, 0.0), 0.0)
            share = 1.0 / larger(c, 1.0)
            base = read * tile.read_scale[k] * share + tile.extra_variance_adu2[k]
            set_row(rough.y, k, where_above(there, 0.5, y, 0.0))
            set_row(rough.base, k, where_above(there, 0.5, base, math.inf))
            set_row(rough.shot, k, where_above(there, 0.5, tile.inverse_gain * share, 0.0))
            of_group = of_group + there
        here = here + of_group
        unknowns = unknowns + where_above(known, 0.0, 0.0, where_above(of_group, 0.5, like(read, 1.0), 0.0))
    set_row(rough.about, 0, here)
    set_row(rough.about, 1, unknowns)
    set_row(rough.about, 2, fine)


@inlined
def widen(tile: Pixels, i: int, rough: Rough, half: int, block: Block) -> tuple[Packed, Packed, Packed]:
    """Eight of the sixteen pixels, from `half` on, in double precision; returns how many cells they have, their
    unknowns, and 1 where their errors are numbers."""
    for k in range(block.y.shape[0]):
        set_row(block.y, k, load(rough.y, k, half))
        set_row(block.base, k, load(rough.base, k, half))
        set_row(block.shot, k, load(rough.shot, k, half))
    for q in range(block.precision.shape[0]):
        set_row(block.precision, q, 1.0 / load(tile.group_variance_adu2, q, i + half))
    return load(rough.about, 0, half), load(rough.about, 1, half), load(rough.about, 2, half)


@inlined
def _step(
    law: Law, order: Order, rough: Rough, relative: F8, own: Packed, mean: F8, precision: F8, i: int, p0: Packed,
    p1: Packed, p2: Packed,
) -> tuple[Packed, Packed, Packed, Packed]:  # fmt: skip
    """A Gauss-Newton step of pixels i to i + 15, and 1 where it can be taken; sums as in `fit_packed`."""
    w00, w01, w02 = load_single(precision, 0, i), load_single(precision, 1, i), load_single(precision, 2, i)
    w11, w12, w22 = load_single(precision, 3, i), load_single(precision, 4, i), load_single(precision, 5, i)
    d0, d1, d2 = load_single(mean, 0, i) - p0, load_single(mean, 1, i) - p1, load_single(mean, 2, i) - p2
    m00, m01, m02, m11, m12, m22 = w00, w01, w02, w11, w12, w22
    g0, g1, g2 = w00 * d0 + w01 * d1 + w02 * d2, w01 * d0 + w11 * d1 + w12 * d2, w02 * d0 + w12 * d1 + w22 * d2
    for q in range(rough.precision.shape[0]):
        sw, s0, s1, s2, sr = like(p0, 0.0), like(p0, 0.0), like(p0, 0.0), like(p0, 0.0), like(p0, 0.0)
        for at in range(order.group_start[q], order.group_start[q + 1]):
            k = order.cells[at]
            growth = growth_of(law, order, rough.first, rough.second, k, p1, p2)
            s, j0, j1, j2 = evaluate_packed(law.family, law.x, k, p0, p1, p2, growth)
            r = row(rough.y, k) - s
            noise = row(rough.base, k) + row(rough.shot, k) * larger(s, 0.0)
            w = 1.0 / (noise + (own + relative[k]) * (s * s))
            a0, a1, a2 = w * j0, w * j1, w * j2
            m00, m01, m02 = m00 + a0 * j0, m01 + a0 * j1, m02 + a0 * j2
            m11, m12, m22 = m11 + a1 * j1, m12 + a1 * j2, m22 + a2 * j2
            g0, g1, g2 = g0 + a0 * r, g1 + a1 * r, g2 + a2 * r
            sw, sr = sw + w, sr + w * r
            s0, s1, s2 = s0 + a0, s1 + a1, s2 + a2
        share = share_of(row(rough.precision, q), sw)
        b0, b1, b2 = s0 * share, s1 * share, s2 * share
        m00, m01, m02 = m00 - s0 * b0, m01 - s0 * b1, m02 - s0 * b2
        m11, m12, m22 = m11 - s1 * b1, m12 - s1 * b2, m22 - s2 * b2
        g0, g1, g2 = g0 - b0 * sr, g1 - b1 * sr, g2 - b2 * sr
    f0, f1, f2 = 1.0 * law.free[0], 1.0 * law.free[1], 1.0 * law.free[2]  # a fixed parameter does not move
    m00, m11, m22 = m00 * f0 + (1.0 - f0), m11 * f1 + (1.0 - f1), m22 * f2 + (1.0 - f2)
    m01, m02, m12 = m01 * (f0 * f1), m02 * (f0 * f2), m12 * (f1 * f2)
    g0, g1, g2 = g0 * f0, g1 * f1, g2 * f2
    c00, c01, c02, c11, c12, c22, well = inverse_of(m00, m01, m02, m11, m12, m22, REGULAR)
    t0, t1, t2 = c00 * g0 + c01 * g1 + c02 * g2, c01 * g0 + c11 * g1 + c12 * g2, c02 * g0 + c12 * g1 + c22 * g2
    return t0, t1, t2, where_above(HUGE, magnitude(t0 * g0 + t1 * g1 + t2 * g2), well, 0.0)


@inlined
def first_steps(
    law: Law, order: Order, rough: Rough, relative: F8, own: Packed, mean: F8, precision: F8, start: F8, i: int
) -> None:
    """From the start of pixels i to i + 15 towards their minimum; fills rough.p."""
    p0, p1, p2 = load_single(start, 0, i), load_single(start, 1, i), load_single(start, 2, i)
    for _ in range(STEPS_LINEAR if law.family == LINEAR else STEPS):
        fill_tables(law, order, rough.first, rough.second, p1, p2)
        t0, t1, t2, well = _step(law, order, rough, relative, own, mean, precision, i, p0, p1, p2)
        p0 = where_above(well, 0.5, bounded(law, 0, p0 + t0), p0)
        p1 = where_above(well, 0.5, bounded(law, 1, p1 + t1), p1)
        p2 = where_above(well, 0.5, bounded(law, 2, p2 + t2), p2)
    set_row(rough.p, 0, p0)
    set_row(rough.p, 1, p1)
    set_row(rough.p, 2, p2)
