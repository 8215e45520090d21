"""Cells left out of the fit of eight pixels at once, and the outliers among them: as `left_out` and `fit_residuals`
for one, by one step from the fit of all cells.

Where such a step is not near enough, or a cell alone decides a parameter, the pixel's cell is left to a fit without it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import Law
from darkpipe.science.fit_packed import Block, Order, heat_squares, share_of, times_covariance
from darkpipe.science.fit_residuals import LONELY, OUTLIER_SIGMA
from darkpipe.science.jit import inlined
from darkpipe.science.left_out import NEAR_RELATIVE, NEAR_SIGMA
from darkpipe.science.models.families import LINEAR, evaluate_packed, growth_packed
from darkpipe.science.packed import (
    Packed,
    any_above,
    larger,
    magnitude,
    row,
    smaller,
    splat,
    store,
    where_above,
)

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]


@inlined
def _parts(
    block: Block, q: int, k: int
) -> tuple[Packed, Packed, Packed, Packed, Packed, Packed, Packed, Packed]:  # fmt: skip
    """Pₖₖ, (Pr)ₖ, slope (3) and C·slope (3) of cell k of group q, as `fit_residuals.residual_parts`."""
    w, share = row(block.weight, k), row(block.sums, 6 * q + 5)
    a0 = w * (row(block.jac, 3 * k) - row(block.sums, 6 * q + 1) * share)
    a1 = w * (row(block.jac, 3 * k + 1) - row(block.sums, 6 * q + 2) * share)
    a2 = w * (row(block.jac, 3 * k + 2) - row(block.sums, 6 * q + 3) * share)
    residual = w * (row(block.y, k) - row(block.signal, k) - row(block.sums, 6 * q + 4) * share)
    c0, c1, c2 = times_covariance(block, a0, a1, a2)
    pkk = w - w * w * share - (a0 * c0 + a1 * c1 + a2 * c2)
    return pkk, residual, a0, a1, a2, c0, c1, c2


@inlined
def _worse(
    order: Order, block: Block, run: int, k: int, law_variance: Packed, station_variance: F8, pkk: Packed,
    residual: Packed, a0: Packed, a1: Packed, a2: Packed, worst: Packed, largest: Packed,
) -> tuple[Packed, Packed]:  # fmt: skip
    """The worst cell and the square of its `fit_residuals.studentised` with cell k looked at, unless that alone decides
    a parameter."""
    if not any_above(residual * residual, pkk * (OUTLIER_SIGMA * OUTLIER_SIGMA)):
        return worst, largest  # errors of the temperatures could only make it less
    w = row(block.weight, k)
    scale = -(w * row(block.sums, 6 * order.run_group[run] + 5))
    own = w * row(block.warm, k)
    by_law, common = heat_squares(order, block, run, law_variance, station_variance, own, scale, a0, a1, a2)
    square = residual * residual / (pkk + by_law + common)
    square = where_above(pkk, LONELY * w, square, 0.0)
    return where_above(square, largest, 1.0 * k, worst), larger(square, largest)


@inlined
def _others_of_group(
    block: Block, q: int, k: int, d0: Packed, d1: Packed, d2: Packed
) -> tuple[Packed, Packed, Packed, Packed, Packed]:
    """Sums of the group without cell k (Σw, ΣwJ, Σwr), at parameters that moved by d."""
    w = row(block.weight, k)
    whole = row(block.sums, 6 * q)
    left = whole - w
    s0 = row(block.sums, 6 * q + 1) - w * row(block.jac, 3 * k)
    s1 = row(block.sums, 6 * q + 2) - w * row(block.jac, 3 * k + 1)
    s2 = row(block.sums, 6 * q + 3) - w * row(block.jac, 3 * k + 2)
    sr = row(block.sums, 6 * q + 4) - w * (row(block.y, k) - row(block.signal, k))
    sr = sr - s0 * d0 - s1 * d1 - s2 * d2
    limit = 1e-9 * whole
    alone = splat(0.0)  # it was the only one of its bias
    return (
        where_above(limit, left, alone, left), where_above(limit, left, alone, s0), where_above(limit, left, alone, s1),
        where_above(limit, left, alone, s2), where_above(limit, left, alone, sr),
    )  # fmt: skip


@inlined
def _variance(
    block: Block, known: Packed, share: Packed, free: Packed, inverse: Packed, c0: Packed, c1: Packed, c2: Packed,
    j0: Packed, j1: Packed, j2: Packed, s0: Packed, s1: Packed, s2: Packed,
) -> Packed:  # fmt: skip
    """As `fit_residuals.prediction_variance`, of the covariance C + c cᵀ/Pₖₖ; s: ΣwJ of the group's others over
    π + Σw. `inverse`: 1/Pₖₖ; `free`: 1 where the level is free."""
    x0, x1, x2 = j0 - free * s0, j1 - free * s1, j2 - free * s2
    left0, left1, left2 = times_covariance(block, x0, x1, x2)
    along = c0 * x0 + c1 * x1 + c2 * x2
    double = 2.0 * (1.0 - free)
    r0, r1, r2 = x0 - double * s0, x1 - double * s1, x2 - double * s2
    spread = left0 * r0 + left1 * r1 + left2 * r2 + along * (c0 * r0 + c1 * r1 + c2 * r2) * inverse
    own = where_above(free, 0.5, where_above(share, 0.0, share, math.inf), 1.0 / known)
    return larger(own + spread, 0.0)


@inlined
def _step_out(
    law: Law, order: Order, block: Block, run: int, k: int, law_variance: Packed, station_variance: F8, p0: Packed,
    p1: Packed, p2: Packed, pkk: Packed, a0: Packed, a1: Packed, a2: Packed, c0: Packed, c1: Packed, c2: Packed,
    residual: Packed,
) -> tuple[Packed, Packed, Packed, Packed]:  # fmt: skip
    """Cell k by one step from the fit of all: (1 where that is near enough, prediction, variance, variance by the
    temperatures)."""
    q = order.run_group[run]
    w, signal = row(block.weight, k), row(block.signal, k)
    inverse = where_above(w, 0.0, 1.0 / pkk, 0.0)  # an absent cell moves nothing
    rest = residual * inverse
    n0 = larger(smaller(p0 - c0 * rest, law.upper[0]), law.lower[0])
    n1 = larger(smaller(p1 - c1 * rest, law.upper[1]), law.lower[1])
    n2 = larger(smaller(p2 - c2 * rest, law.upper[2]), law.lower[2])
    sw, s0, s1, s2, sr = _others_of_group(block, q, k, n0 - p0, n1 - p1, n2 - p2)
    growth = p1 if law.family == LINEAR else growth_packed(law.family, law.x[0, k], law.x[1, k], n1, n2)
    value, j0, j1, j2 = evaluate_packed(law.family, law.x, k, n0, n1, n2, growth)
    moved = magnitude(value - signal)
    near = where_above(NEAR_SIGMA * NEAR_SIGMA, moved * moved * w, splat(1.0), splat(0.0))
    near = where_above(NEAR_RELATIVE * magnitude(signal), moved, splat(1.0), near)
    near = where_above(w, 0.0, where_above(pkk, LONELY * w, near, 0.0), splat(1.0))
    j0, j1, j2 = j0 * (1.0 * law.free[0]), j1 * (1.0 * law.free[1]), j2 * (1.0 * law.free[2])
    known = row(block.precision, q)
    free = where_above(known, 0.0, splat(0.0), splat(1.0))
    share = share_of(known, sw)
    s0, s1, s2 = s0 * share, s1 * share, s2 * share
    variance = _variance(block, known, share, free, inverse, c0, c1, c2, j0, j1, j2, s0, s1, s2)
    along = (c0 * j0 + c1 * j1 + c2 * j2) * inverse
    across = free * (c0 * s0 + c1 * s1 + c2 * s2) * inverse
    by = along - across
    scale = -(by * w * row(block.sums, 6 * q + 5)) - free * share
    warm = row(block.warm, k) * (1.0 + w * (by + free * share))
    z0, z1, z2 = j0 + by * a0 - free * s0, j1 + by * a1 - free * s1, j2 + by * a2 - free * s2
    by_law, common = heat_squares(order, block, run, law_variance, station_variance, warm, scale, z0, z1, z2)
    variance = variance + by_law
    value = where_above(free, 0.5, value + sr * share, value)
    return near, value, variance, common


@inlined
def worst_packed(order: Order, block: Block, law_variance: Packed, station_variance: F8) -> Packed:
    """Which cell of each pixel disagrees most, beyond the noise; -1: none does."""
    worst, largest = splat(-1.0), splat(OUTLIER_SIGMA * OUTLIER_SIGMA)
    for run in range(order.run_group.size):
        for at in range(order.run_start[run], order.run_start[run + 1]):
            k = order.cells[at]
            pkk, residual, a0, a1, a2, _, _, _ = _parts(block, order.run_group[run], k)
            worst, largest = _worse(
                order, block, run, k, law_variance, station_variance, pkk, residual, a0, a1, a2, worst, largest
            )
    return worst


@inlined
def cells_packed(
    law: Law, order: Order, block: Block, law_variance: Packed, station_variance: F8, leave_out: NDArray[np.bool_],
    p0: Packed, p1: Packed, p2: Packed, spare: Packed, i: int, held: F4, variance: F4, common: F4,
) -> tuple[Packed, Packed]:  # fmt: skip
    """Predict cells that are to be left out of pixels i to i + 7 by one step; returns 1 where that does for all, and
    what `worst_packed` does. Predictions go into rows of (n, P), NaN where one step is not near enough. `spare`: above
    0 where a pixel has more cells than unknowns."""
    all_near, worst, largest = splat(1.0), splat(-1.0), splat(OUTLIER_SIGMA * OUTLIER_SIGMA)
    for run in range(order.run_group.size):
        for at in range(order.run_start[run], order.run_start[run + 1]):
            k = order.cells[at]
            pkk, residual, a0, a1, a2, c0, c1, c2 = _parts(block, order.run_group[run], k)
            worst, largest = _worse(
                order, block, run, k, law_variance, station_variance, pkk, residual, a0, a1, a2, worst, largest
            )
            if not leave_out[k]:
                continue
            near, value, square, shared = _step_out(
                law, order, block, run, k, law_variance, station_variance, p0, p1, p2, pkk, a0, a1, a2, c0, c1, c2,
                residual,
            )  # fmt: skip
            wanted = where_above(row(block.weight, k), 0.0, spare, 1.0)
            given = where_above(wanted, 0.0, near, 0.0)
            store(held, k, i, where_above(given, 0.5, value, math.nan))
            store(variance, k, i, where_above(given, 0.5, square, math.nan))
            store(common, k, i, where_above(given, 0.5, shared, math.nan))
            all_near = where_above(wanted, 0.0, where_above(near, 0.5, all_near, 0.0), all_near)
    return all_near, worst


@inlined
def offsets_packed(
    order: Order, block: Block, law_variance: Packed, station_variance: F8, i: int, offset: F4, square: F4,
    by_bias: NDArray[np.float32],
) -> None:  # fmt: skip
    """Offsets of the groups with their variances, and how the parameters move with their biases, of pixels i to i + 7;
    as `fit_residuals.offset_variance` and `parameter_by_bias`. by_bias is (G·3, P)."""
    for q in range(block.precision.shape[0]):
        share = row(block.sums, 6 * q + 5)
        s0, s1, s2 = row(block.sums, 6 * q + 1), row(block.sums, 6 * q + 2), row(block.sums, 6 * q + 3)
        c0, c1, c2 = times_covariance(block, s0, s1, s2)
        variance = share + share * share * (s0 * c0 + s1 * c1 + s2 * c2)
        run = order.group_run[q]
        if order.group_run[q + 1] > run:
            nothing = splat(0.0)
            by_law, common = heat_squares(
                order, block, run, law_variance, station_variance, nothing, splat(1.0), s0, s1, s2
            )
            variance = variance + share * share * (by_law + common)
        store(offset, q, i, row(block.sums, 6 * q + 4) * share)
        store(square, q, i, variance)
        known = row(block.precision, q)
        pull = where_above(math.inf, known, known * share, 1.0)  # a bias without error: all of it
        store(by_bias, 3 * q, i, -(c0 * pull))
        store(by_bias, 3 * q + 1, i, -(c1 * pull))
        store(by_bias, 3 * q + 2, i, -(c2 * pull))
