"""A cell left out of the fit of one pixel: what the fit of all others says that it should read."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import FAILED, Belief, Data, Law, State, group_share
from darkpipe.science.fit_residuals import (
    LONELY,
    descend_robustly,
    heat_variance,
    heat_without,
    prediction_variance,
    residual_parts,
)
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import evaluate

F8 = NDArray[np.float64]

NEAR_SIGMA = 0.5  # a step that moves the prediction by less than this of its cell's noise needs no refit;
NEAR_RELATIVE = 0.05  # nor one by less than this of itself: the model is linear over such a step


@inlined
def unknowns_of(law: Law, data: Data) -> int:
    """Free parameters and free levels of the pixel's present cells."""
    n = 0
    for i in range(3):
        n += law.free[i]
    for q in range(data.precision.size):
        if data.precision[q] == 0.0:
            for k in range(data.y.size):
                if data.group[k] == q and data.base[k] < math.inf:
                    n += 1
                    break
    return n


@kernel
def most_outliers(cells: int, unknowns: int) -> int:
    """How many cells of a pixel may be left out: one in eight, none where that leaves nothing to judge by."""
    return 0 if cells - unknowns < 2 else max(1, cells // 8)


@inlined
def _step_out(
    law: Law, data: Data, state: State, other: State, k: int, slope: F8, jac: F8
) -> tuple[bool, float, float, float]:
    """Leave cell k out by one step from the full fit: (whether that is near enough, prediction, variance, variance by
    the temperatures).

    Exact for a linear model with given weights; for the exponentials the step must move the prediction little.
    other.p is left where the step ends. Slot k of the group's sums in `other` holds the others of the group.
    """
    residual, pkk = residual_parts(law, data, state, k, slope)
    if pkk < LONELY * state.weight[k] or state.robust[k] != 1.0:
        for a in range(3):
            other.p[a] = state.p[a]
        return False, math.nan, math.nan, math.nan
    for a in range(3):
        shift = 0.0
        for b in range(3):
            shift += state.covariance[a, b] * slope[b]
        other.p[a] = min(max(state.p[a] - shift * residual / pkk, law.lower[a]), law.upper[a])
        jac[a, k] = shift  # scratch: C·slope
    moved_by = other.work[6]
    for a in range(3):
        moved_by[a] = jac[a, k]
        for b in range(3):
            other.covariance[a, b] = state.covariance[a, b] + jac[a, k] * jac[b, k] / pkk
    heat_without(law, data, state, k, slope, moved_by, pkk, other)
    q, w = data.group[k], state.weight[k]
    other.sums[q, 0] = state.sums[q, 0] - w
    other.sums[q, 4] = state.sums[q, 4] - w * (data.y[k] - state.signal[k])
    for a in range(3):
        other.sums[q, 1 + a] = state.sums[q, 1 + a] - w * state.jac[a, k]
        other.sums[q, 4] -= other.sums[q, 1 + a] * (other.p[a] - state.p[a])
    if other.sums[q, 0] < 1e-9 * state.sums[q, 0]:
        for a in range(5):
            other.sums[q, a] = 0.0  # it was the only one of its bias
    value = evaluate(law.family, law.x, k, other.p, jac)
    moved = abs(value - state.signal[k])
    near = moved * moved * w < NEAR_SIGMA * NEAR_SIGMA or moved < NEAR_RELATIVE * abs(state.signal[k])
    for a in range(3):
        slope[a] = jac[a, k] if law.free[a] else 0.0
    variance = prediction_variance(law, data, other, slope, q)
    if data.precision[q] == 0.0:
        value += other.sums[q, 4] * group_share(data, other, q)
    own, common = heat_variance(data, other, k, slope)
    return near, value, variance + own, common


@inlined
def leave_cell_out(
    law: Law, data: Data, belief: Belief, state: State, other: State, k: int, jac: F8, slope: F8
) -> tuple[float, float, float]:
    """Prediction of cell k by the fit of the others, its variance, and that by the temperatures: by one step where that
    is near enough, else by fitting again without it, from where the step ends."""
    if data.base[k] < math.inf:
        near, value, variance, common = _step_out(law, data, state, other, k, slope, jac)
        if near:
            return value, variance, common
    else:
        for a in range(3):
            other.p[a] = state.p[a]
    base = data.base[k]
    data.base[k] = math.inf
    here = 0
    for c in range(data.y.size):
        here += data.base[c] < math.inf
    status, _ = descend_robustly(law, data, belief, other, most_outliers(here, unknowns_of(law, data)))
    value, variance, common = math.nan, math.nan, math.nan
    if status != FAILED:
        q = data.group[k]
        value = evaluate(law.family, law.x, k, other.p, jac)
        for a in range(3):
            slope[a] = jac[a, k] if law.free[a] else 0.0
        variance = prediction_variance(law, data, other, slope, q)
        own, common = heat_variance(data, other, k, slope)
        variance += own
        if data.precision[q] == 0.0:
            value += other.sums[q, 4] * group_share(data, other, q)
    data.base[k] = base
    return value, variance, common
