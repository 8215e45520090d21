"""The fit of eight pixels at once: what `fit_kernel` and `fit_residuals` do for one, where nothing is out of the way.

Gauss-Newton with weights from the noise model at the current signal, refreshed at each step, errors of shared biases
marginalised, and a prior. Full steps without a look at the cost: of pixels with a sensible start, two steps in single
precision behind them (`fit_single`), 98 of 100 are at the minimum when they are looked at once. Pixels that are not (no
convergence, a bound, too few cells, a matrix that is nearly singular) are left to the careful fit of single pixels,
those with an outlier to a fit without it (`fit_again`). The careful fit is also what judges this one: both end at the
same minimum, within 2e-4 of its errors (5e-4 with outliers); of pixels without a signal, whose minimum is flat, within
2e-3.

A lane that has converged stands still whatever its neighbours do, so a pixel comes out the same in any company.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import Law
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import LINEAR, evaluate_packed, growth_packed, warming_packed
from darkpipe.science.packed import (
    LANES,
    Packed,
    any_above,
    larger,
    load,
    magnitude,
    row,
    set_row,
    smaller,
    splat,
    square_root,
    where_above,
)

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Rows = NDArray[Any]  # of float64, or of float32 in which there are twice as many pixels

TURNS = 12  # after which a pixel is left to the careful fit
NEAR = 1e-5  # predicted decrease of chi² below which the next step, a linear one, ends at the minimum
REGULAR = 1e-9  # of the unit diagonal: below, a matrix is left to the careful fit
HUGE = 1e30
NO_LAW = 1e-300  # a smaller variance of a pixel's own law is none [K²]


class Order(NamedTuple):
    """How the cells are gone through: cells (n,) by group and, within it, by station; of each group, and of each run of
    cells of one group and station, where it begins (and the end); group and station of the runs, and where the runs of
    each group begin (and the end): group_run. first, second: the
    different values of both columns of the design, and which each cell has: exponentials are products of theirs. Not
    `tabled`: these would be more than one a cell."""

    cells: I8
    group_start: I8
    run_start: I8
    run_group: I8
    run_station: I8
    group_run: I8
    first: F8
    first_of: I8
    second: F8
    second_of: I8
    tabled: bool


class Block(NamedTuple):
    """Scratch for eight pixels, rows of eight: of each cell y, base, shot, signal, weight, warm and the derivatives jac
    (3n); tables of exponentials; of each group Σw, ΣwJ (3), Σwr and 1/(π + Σw): sums (6G), and precision π. Of an error
    of 1 K at a station: what it does to the sums of groups, warm_sums (runs), and to the parameters, shift h (3S);
    Σ h hᵀ (0-5) and the same weighted with the variances of the stations (6-11): heats. matrix: normal matrix (0-5),
    gradient (6-8), covariance (9-14)."""

    y: F8
    base: F8
    shot: F8
    signal: F8
    weight: F8
    warm: F8
    jac: F8
    first: F8
    second: F8
    sums: F8
    precision: F8
    warm_sums: F8
    shift: F8
    heats: F8
    matrix: F8


def order_of(group: I8, groups: int, station: I8, design: F8) -> Order:
    """The order of cells (n,) of these groups, stations and design (3, n)."""
    cells = np.lexsort((station, group))
    first, first_of = np.unique(design[0], return_inverse=True)
    second, second_of = np.unique(design[1], return_inverse=True)
    pairs = np.stack([group[cells], station[cells]])
    runs = np.flatnonzero(np.concatenate([[True], (np.diff(pairs) != 0).any(axis=0)]))
    return Order(
        cells.astype(np.int64),
        np.searchsorted(group[cells], np.arange(groups + 1)).astype(np.int64),
        np.append(runs, cells.size).astype(np.int64),
        pairs[0, runs].astype(np.int64),
        pairs[1, runs].astype(np.int64),
        np.searchsorted(pairs[0, runs], np.arange(groups + 1)).astype(np.int64),
        first,
        first_of.astype(np.int64),
        second,
        second_of.astype(np.int64),
        first.size + second.size <= cells.size,
    )


@kernel
def new_block(n: int, groups: int, stations: int, order: Order) -> Block:
    """Scratch for eight pixels of n cells."""
    first, second, runs = order.first.size, order.second.size, order.run_group.size
    return Block(
        np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES)),
        np.zeros((n, LANES)), np.empty((3 * n, LANES)), np.empty((first, LANES)), np.empty((second, LANES)),
        np.empty((6 * groups, LANES)), np.empty((groups, LANES)), np.zeros((runs, LANES)),
        np.zeros((3 * stations, LANES)), np.zeros((12, LANES)), np.empty((15, LANES)),
    )  # fmt: skip


@inlined
def fill_tables(law: Law, order: Order, first: Rows, second: Rows, p1: Packed, p2: Packed) -> None:
    """The exponentials whose products are those of the cells, in rows; of eight pixels or sixteen."""
    if law.family == LINEAR or not order.tabled:
        return
    for j in range(order.first.size):
        set_row(first, j, growth_packed(law.family, order.first[j], 0.0, p1, p2))
    for j in range(order.second.size):
        set_row(second, j, growth_packed(law.family, 0.0, order.second[j], p1, p2))


@inlined
def growth_of(law: Law, order: Order, first: Rows, second: Rows, k: int, p1: Packed, p2: Packed) -> Packed:
    """The exponential of cell k, from `fill_tables` where there are any."""
    if law.family == LINEAR:
        return p1
    if order.tabled:
        return row(first, order.first_of[k]) * row(second, order.second_of[k])
    return growth_packed(law.family, law.x[0, k], law.x[1, k], p1, p2)


@inlined
def share_of(precision: Packed, weights: Packed) -> Packed:
    """1/(π + Σw), as `fit_kernel.group_share`."""
    return where_above(weights, 0.0, 1.0 / (precision + weights), 0.0)


@inlined
def _add_cells(
    law: Law, order: Order, block: Block, relative: F8, own: Packed, p0: Packed, p1: Packed, p2: Packed
) -> None:
    """Normal matrix and gradient of the cells, the groups' common offsets marginalised; fills signal, weight, jac and
    sums."""
    m00, m01, m02 = splat(0.0), splat(0.0), splat(0.0)
    m11, m12, m22 = splat(0.0), splat(0.0), splat(0.0)
    g0, g1, g2 = splat(0.0), splat(0.0), splat(0.0)
    for q in range(block.precision.shape[0]):
        sw, s0, s1, s2, sr = splat(0.0), splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for at in range(order.group_start[q], order.group_start[q + 1]):
            k = order.cells[at]
            growth = growth_of(law, order, block.first, block.second, k, p1, p2)
            s, j0, j1, j2 = evaluate_packed(law.family, law.x, k, p0, p1, p2, growth)
            r = row(block.y, k) - s
            noise = row(block.base, k) + row(block.shot, k) * larger(s, 0.0)
            w = 1.0 / (noise + (own + relative[k]) * (s * s))
            set_row(block.signal, k, s)
            set_row(block.weight, k, w)
            set_row(block.jac, 3 * k, j0)
            set_row(block.jac, 3 * k + 1, j1)
            set_row(block.jac, 3 * k + 2, j2)
            a0, a1, a2 = w * j0, w * j1, w * j2
            m00, m01, m02 = m00 + a0 * j0, m01 + a0 * j1, m02 + a0 * j2
            m11, m12, m22 = m11 + a1 * j1, m12 + a1 * j2, m22 + a2 * j2
            g0, g1, g2 = g0 + a0 * r, g1 + a1 * r, g2 + a2 * r
            sw, sr = sw + w, sr + w * r
            s0, s1, s2 = s0 + a0, s1 + a1, s2 + a2
        share = share_of(row(block.precision, q), sw)
        b0, b1, b2 = s0 * share, s1 * share, s2 * share
        m00, m01, m02 = m00 - s0 * b0, m01 - s0 * b1, m02 - s0 * b2
        m11, m12, m22 = m11 - s1 * b1, m12 - s1 * b2, m22 - s2 * b2
        g0, g1, g2 = g0 - b0 * sr, g1 - b1 * sr, g2 - b2 * sr
        set_row(block.sums, 6 * q, sw)
        set_row(block.sums, 6 * q + 1, s0)
        set_row(block.sums, 6 * q + 2, s1)
        set_row(block.sums, 6 * q + 3, s2)
        set_row(block.sums, 6 * q + 4, sr)
        set_row(block.sums, 6 * q + 5, share)
    for slot, value in enumerate((m00, m01, m02, m11, m12, m22, g0, g1, g2)):
        set_row(block.matrix, slot, value)


@inlined
def _add_prior(block: Block, mean: F8, precision: F8, i: int, p0: Packed, p1: Packed, p2: Packed) -> None:
    d0, d1, d2 = p0 - load(mean, 0, i), p1 - load(mean, 1, i), p2 - load(mean, 2, i)
    w00, w01, w02 = load(precision, 0, i), load(precision, 1, i), load(precision, 2, i)
    w11, w12, w22 = load(precision, 3, i), load(precision, 4, i), load(precision, 5, i)
    for slot, value in enumerate((w00, w01, w02, w11, w12, w22)):
        set_row(block.matrix, slot, row(block.matrix, slot) + value)
    set_row(block.matrix, 6, row(block.matrix, 6) - (w00 * d0 + w01 * d1 + w02 * d2))
    set_row(block.matrix, 7, row(block.matrix, 7) - (w01 * d0 + w11 * d1 + w12 * d2))
    set_row(block.matrix, 8, row(block.matrix, 8) - (w02 * d0 + w12 * d1 + w22 * d2))


@inlined
def _fixed(law: Law, block: Block) -> None:
    """Take fixed parameters out of normal matrix and gradient."""
    for i in range(3):
        if not law.free[i]:
            set_row(block.matrix, 6 + i, splat(0.0))
            for j in range(3):
                a, b = min(i, j), max(i, j)
                set_row(block.matrix, a * (5 - a) // 2 + b, splat(1.0 if i == j else 0.0))


@inlined
def inverse_of(
    a: Packed, m01: Packed, m02: Packed, b: Packed, m12: Packed, c: Packed, regular: float
) -> tuple[Packed, Packed, Packed, Packed, Packed, Packed, Packed]:
    """Inverse of a symmetric matrix as 00, 01, 02, 11, 12, 22, and 1 where it is well conditioned, else 0: where the
    determinants of the matrix scaled to a unit diagonal are above `regular`."""
    ra, rb, rc = 1.0 / square_root(a), 1.0 / square_root(b), 1.0 / square_root(c)
    d, e, f = m01 * ra * rb, m02 * ra * rc, m12 * rb * rc
    first = 1.0 - d * d
    det = first - e * e - f * f + 2.0 * d * e * f
    inverse = 1.0 / det
    fine = where_above(first, regular, where_above(det, first * regular, 1.0, 0.0), 0.0)
    return (
        (1.0 - f * f) * inverse * ra * ra, (e * f - d) * inverse * ra * rb, (d * f - e) * inverse * ra * rc,
        (1.0 - e * e) * inverse * rb * rb, (d * e - f) * inverse * rb * rc, first * inverse * rc * rc, fine,
    )  # fmt: skip


@inlined
def _invert(law: Law, block: Block) -> Packed:
    """Covariance, 0 for fixed parameters; returns 1 where the matrix is well conditioned, else 0."""
    c00, c01, c02, c11, c12, c22, fine = inverse_of(
        row(block.matrix, 0), row(block.matrix, 1), row(block.matrix, 2), row(block.matrix, 3),
        row(block.matrix, 4), row(block.matrix, 5), REGULAR,
    )  # fmt: skip
    f0, f1, f2 = 1.0 * law.free[0], 1.0 * law.free[1], 1.0 * law.free[2]
    set_row(block.matrix, 9, c00 * f0)
    set_row(block.matrix, 10, c01 * (f0 * f1))
    set_row(block.matrix, 11, c02 * (f0 * f2))
    set_row(block.matrix, 12, c11 * f1)
    set_row(block.matrix, 13, c12 * (f1 * f2))
    set_row(block.matrix, 14, c22 * f2)
    return fine


@inlined
def times_covariance(block: Block, x0: Packed, x1: Packed, x2: Packed) -> tuple[Packed, Packed, Packed]:
    """C x."""
    c00, c01, c02 = row(block.matrix, 9), row(block.matrix, 10), row(block.matrix, 11)
    c11, c12, c22 = row(block.matrix, 12), row(block.matrix, 13), row(block.matrix, 14)
    return c00 * x0 + c01 * x1 + c02 * x2, c01 * x0 + c11 * x1 + c12 * x2, c02 * x0 + c12 * x1 + c22 * x2


@inlined
def bounded(law: Law, i: int, p: Packed) -> Packed:
    """A parameter within its domain; a fixed one as it is."""
    return larger(smaller(p, law.upper[i]), law.lower[i]) if law.free[i] else p


@inlined
def inside(law: Law, i: int, p: Packed, fine: Packed) -> Packed:
    """`fine` where the parameter lies within its domain, else 0; 0 for NaN."""
    if not law.free[i]:
        return fine
    return where_above(p, law.lower[i], where_above(law.upper[i], p, fine, 0.0), splat(0.0))


@inlined
def _last_step(block: Block, t0: Packed, t1: Packed, t2: Packed) -> None:
    """Signals and Σwr after a step so small that they are linear over it."""
    for k in range(block.y.shape[0]):
        moved = row(block.jac, 3 * k) * t0 + row(block.jac, 3 * k + 1) * t1 + row(block.jac, 3 * k + 2) * t2
        set_row(block.signal, k, row(block.signal, k) + moved)
    for q in range(block.precision.shape[0]):
        moved = row(block.sums, 6 * q + 1) * t0 + row(block.sums, 6 * q + 2) * t1
        moved = moved + row(block.sums, 6 * q + 3) * t2
        set_row(block.sums, 6 * q + 4, row(block.sums, 6 * q + 4) - moved)


@inlined
def descend_packed(
    law: Law, order: Order, block: Block, relative: F8, own: Packed, mean: F8, precision: F8, i: int, p0: Packed,
    p1: Packed, p2: Packed, fine: Packed,
) -> tuple[Packed, Packed, Packed, Packed]:  # fmt: skip
    """From parameters p of pixels i to i + 7 to their minimum, where matrix, sums, signals and weights are left;
    returns the parameters, and `fine` where that went well, else 0."""
    moving = splat(1.0)
    t0, t1, t2 = splat(0.0), splat(0.0), splat(0.0)
    for _ in range(TURNS):
        fill_tables(law, order, block.first, block.second, p1, p2)
        _add_cells(law, order, block, relative, own, p0, p1, p2)
        _add_prior(block, mean, precision, i, p0, p1, p2)
        _fixed(law, block)
        regular = _invert(law, block)
        g0, g1, g2 = row(block.matrix, 6), row(block.matrix, 7), row(block.matrix, 8)
        t0, t1, t2 = times_covariance(block, g0, g1, g2)
        predicted = t0 * g0 + t1 * g1 + t2 * g2
        fine = where_above(regular, 0.5, where_above(HUGE, magnitude(predicted), fine, 0.0), splat(0.0))
        moving = where_above(fine, 0.5, where_above(predicted, NEAR, moving, 0.0), splat(0.0))
        if not any_above(moving, splat(0.5)):
            break
        p0 = where_above(moving, 0.5, bounded(law, 0, p0 + t0), p0)
        p1 = where_above(moving, 0.5, bounded(law, 1, p1 + t1), p1)
        p2 = where_above(moving, 0.5, bounded(law, 2, p2 + t2), p2)
    fine = where_above(moving, 0.5, splat(0.0), fine)
    p0, p1, p2 = p0 + t0, p1 + t1, p2 + t2
    _last_step(block, t0, t1, t2)
    fine = inside(law, 2, p2, inside(law, 1, p1, inside(law, 0, p0, fine)))
    return p0, p1, p2, fine


@inlined
def heat_packed(law: Law, order: Order, block: Block, p0: Packed, p1: Packed, p2: Packed, station_variance: F8) -> None:
    """What errors of the temperatures do, as `fit_residuals.heat`: fills warm, warm_sums, shift and heats."""
    stations = station_variance.size
    if stations == 0:
        return
    for slot in range(3 * stations):
        set_row(block.shift, slot, splat(0.0))
    for run in range(order.run_group.size):
        q, s = order.run_group[run], order.run_station[run]
        total, a0, a1, a2 = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for at in range(order.run_start[run], order.run_start[run + 1]):
            k = order.cells[at]
            u = warming_packed(law.family, law.x, law.dx, k, p0, p1, p2, row(block.signal, k))
            set_row(block.warm, k, u)
            wu = row(block.weight, k) * u
            total = total + wu
            a0 = a0 + wu * row(block.jac, 3 * k)
            a1 = a1 + wu * row(block.jac, 3 * k + 1)
            a2 = a2 + wu * row(block.jac, 3 * k + 2)
        set_row(block.warm_sums, run, total)
        pull = total * row(block.sums, 6 * q + 5)
        a0 = a0 - row(block.sums, 6 * q + 1) * pull
        a1 = a1 - row(block.sums, 6 * q + 2) * pull
        a2 = a2 - row(block.sums, 6 * q + 3) * pull
        set_row(block.shift, 3 * s, row(block.shift, 3 * s) + a0)
        set_row(block.shift, 3 * s + 1, row(block.shift, 3 * s + 1) + a1)
        set_row(block.shift, 3 * s + 2, row(block.shift, 3 * s + 2) + a2)
    _heats(block, station_variance)


@inlined
def _heats(block: Block, station_variance: F8) -> None:
    """From the gradients by each station to the parameters, and the sums of their squares."""
    for slot in range(12):
        set_row(block.heats, slot, splat(0.0))
    for s in range(station_variance.size):
        a0, a1, a2 = row(block.shift, 3 * s), row(block.shift, 3 * s + 1), row(block.shift, 3 * s + 2)
        h0, h1, h2 = times_covariance(block, a0, a1, a2)
        set_row(block.shift, 3 * s, h0)
        set_row(block.shift, 3 * s + 1, h1)
        set_row(block.shift, 3 * s + 2, h2)
        for slot, value in enumerate((h0 * h0, h0 * h1, h0 * h2, h1 * h1, h1 * h2, h2 * h2)):
            set_row(block.heats, slot, row(block.heats, slot) + value)
            set_row(block.heats, 6 + slot, row(block.heats, 6 + slot) + value * station_variance[s])


@inlined
def _square(block: Block, first: int, z0: Packed, z1: Packed, z2: Packed) -> Packed:
    """zᵀ H z of one of the two sums in heats."""
    h00, h01, h02 = row(block.heats, first), row(block.heats, first + 1), row(block.heats, first + 2)
    h11, h12, h22 = row(block.heats, first + 3), row(block.heats, first + 4), row(block.heats, first + 5)
    return z0 * (h00 * z0 + 2.0 * (h01 * z1 + h02 * z2)) + z1 * (h11 * z1 + 2.0 * (h12 * z2)) + h22 * (z2 * z2)


@inlined
def heat_squares(
    order: Order, block: Block, run: int, law_variance: Packed, station_variance: F8, own: Packed, scale: Packed,
    z0: Packed, z1: Packed, z2: Packed,
) -> tuple[Packed, Packed]:  # fmt: skip
    """Variance by the pixel's own law and by the errors of the stations, where an error of 1 K at a station moves
    something by e = b - z·h: b is `scale` times what it does to the sum of a group, that of `run`, and at the station
    of this run `own` more."""
    if station_variance.size == 0:
        return splat(0.0), splat(0.0)
    without_law = where_above(NO_LAW, law_variance, splat(1.0), 0.0)
    some_law = any_above(splat(0.5), without_law)
    one, weighted = splat(0.0), _square(block, 6, z0, z1, z2)
    if some_law:
        one = _square(block, 0, z0, z1, z2)
    q = order.run_group[run]
    for other in range(order.group_run[q], order.group_run[q + 1]):
        s = order.run_station[other]
        b = scale * row(block.warm_sums, other)
        if other == run:
            b = b + own
        z = z0 * row(block.shift, 3 * s) + z1 * row(block.shift, 3 * s + 1) + z2 * row(block.shift, 3 * s + 2)
        e = b * (b - 2.0 * z)
        one = one + e
        weighted = weighted + e * station_variance[s]
    return where_above(without_law, 0.5, splat(0.0), law_variance * larger(one, 0.0)), larger(weighted, 0.0)


@inlined
def chi2_packed(order: Order, block: Block, law_variance: Packed, stations: int) -> Packed:
    """As `fit`'s chi² of a pixel without outliers."""
    total = splat(0.0)
    for q in range(block.precision.shape[0]):
        known = row(block.precision, q)
        offset = row(block.sums, 6 * q + 4) * row(block.sums, 6 * q + 5)
        for at in range(order.group_start[q], order.group_start[q + 1]):
            k = order.cells[at]
            w, r = row(block.weight, k), row(block.y, k) - row(block.signal, k) - offset
            if stations > 0:
                u = row(block.warm, k)
                w = w / (1.0 + w * law_variance * (u * u))
            total = total + w * (r * r)
        total = total + where_above(math.inf, known, known * (offset * offset), 0.0)
    return total
