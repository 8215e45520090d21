"""What the residuals of a settled fit tell of one pixel: its outliers, what errors of the temperatures do to it, and
the variances of offsets and predictions.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import FAILED, Belief, Data, Law, State, descend, group_share, settle
from darkpipe.science.jit import inlined
from darkpipe.science.models.families import warming

F8 = NDArray[np.float64]

OUTLIER_SIGMA = 5.0
LONELY = 1e-3  # of its weight: a cell with a smaller Pₖₖ alone decides a parameter, and has no residual to speak of


@inlined
def residual_parts(law: Law, data: Data, state: State, k: int, slope: F8) -> tuple[float, float]:
    """(Pr)ₖ and Pₖₖ of cell k, and slope = wₖaₖ (3,), with V the covariance of the cells (common offsets included),
    P = V⁻¹ - V⁻¹J C JᵀV⁻¹ and aₖ = Jₖ - Σ(wJ)/(π + Σw).

    The residual of a cell against the fit of all others is (Pr)ₖ/Pₖₖ with variance 1/Pₖₖ, and leaving it out moves
    the parameters by -C·slope·(Pr)ₖ/Pₖₖ (Cook & Weisberg 1982, extended to correlated errors).
    """
    w = state.weight[k]
    q = data.group[k]
    share = group_share(data, state, q)
    for i in range(3):
        slope[i] = w * (state.jac[i, k] - state.sums[q, 1 + i] * share) if law.free[i] else 0.0
    spread = 0.0
    for i in range(3):
        for j in range(3):
            spread += slope[i] * state.covariance[i, j] * slope[j]
    residual = w * (data.y[k] - state.signal[k] - state.sums[q, 4] * share)
    return residual, w - w * w * share - spread


@inlined
def heat(law: Law, data: Data, state: State) -> None:
    """What errors of the temperatures do to a settled fit: fills warm, warm_sums and shift of the state.

    Cells of one station (one set point of the cooler, say) are off by the same temperature δ, which moves them by uδ,
    u = dS/dT. The fit takes no account of it in its weights, since one pixel cannot tell δ from its own growth; but it
    moves the parameters by C Σ w a u δ, with aₖ = Jₖ - Σ(wJ)/(π + Σw) as in `residual_parts`. So errors stay honest
    (a sandwich covariance: White 1980) while estimates keep the weights of the noise. What a pixel's own law of
    temperature misses acts alike, from one station to the next.
    """
    if data.station_variance.size == 0:
        return
    column = state.work[7]
    state.warm_sums[:] = 0.0
    state.shift[:] = 0.0
    for k in range(data.y.size):
        state.warm[k] = warming(law.family, law.x, law.dx, k, state.p, state.signal[k])
        weighted = state.weight[k] * state.warm[k]
        state.warm_sums[data.group[k], data.station[k]] += weighted
        for i in range(3):
            state.shift[data.station[k], i] += weighted * state.jac[i, k]
    for s in range(data.station_variance.size):
        for q in range(data.precision.size):
            pull = group_share(data, state, q) * state.warm_sums[q, s]
            for i in range(3):
                state.shift[s, i] -= state.sums[q, 1 + i] * pull
        for i in range(3):
            column[i] = state.shift[s, i]
        for i in range(3):
            state.shift[s, i] = 0.0
            for j in range(3):
                if law.free[i] and law.free[j]:
                    state.shift[s, i] += state.covariance[i, j] * column[j]


@inlined
def heat_of_residual(data: Data, state: State, k: int, s: int, slope: F8) -> float:
    """(Pu)ₖ: by how much the residual of cell k, as in `residual_parts`, moves with the temperature of station s."""
    q = data.group[k]
    own = state.warm[k] if data.station[k] == s else 0.0
    total = float(state.weight[k] * (own - group_share(data, state, q) * state.warm_sums[q, s]))
    for i in range(3):
        total -= slope[i] * state.shift[s, i]
    return total


@inlined
def studentised(law: Law, data: Data, state: State, k: int, slope: F8) -> float:
    """Studentised deletion residual of cell k, errors of the temperatures included (`heat` must have been called); NaN
    where it is absent or alone decides a parameter."""
    if state.weight[k] == 0.0:
        return math.nan
    residual, pkk = residual_parts(law, data, state, k, slope)
    if pkk < LONELY * state.weight[k]:
        return math.nan
    variance = pkk
    for s in range(data.station_variance.size):
        own = data.station_variance[s] + data.law_variance[0]
        variance += own * heat_of_residual(data, state, k, s, slope) ** 2
    return float(residual / math.sqrt(variance))


@inlined
def descend_robustly(law: Law, data: Data, belief: Belief, state: State, most_outliers: int) -> tuple[int, int]:
    """Fit, then leave out the worst cell while it disagrees beyond the noise, at most `most_outliers` cells.

    Returns (status, outliers).
    """
    slope = state.work[6]
    for k in range(data.y.size):
        state.robust[k] = 1.0
    outliers = 0
    while True:
        status = descend(law, data, belief, state)
        if not settle(law, data, belief, state):
            return FAILED, outliers
        heat(law, data, state)
        worst, largest = -1, OUTLIER_SIGMA
        for k in range(data.y.size):
            z = abs(studentised(law, data, state, k, slope))
            if z > largest:  # false for NaN
                worst, largest = k, z
        if worst < 0 or outliers >= most_outliers:
            break
        outliers += 1
        state.robust[worst] = 0.0
    return status, outliers


@inlined
def heat_without(law: Law, data: Data, state: State, k: int, slope: F8, moved: F8, pkk: float, other: State) -> None:
    """The same for the fit without cell k, by one step from the full one: its slope and P_kk are those of
    `residual_parts`, moved (3,) is C·slope."""
    q = data.group[k]
    for s in range(data.station_variance.size):
        residual = heat_of_residual(data, state, k, s, slope)
        for i in range(3):
            other.shift[s, i] = state.shift[s, i] - moved[i] * residual / pkk
        other.warm_sums[q, s] = state.warm_sums[q, s]
        if data.station[k] == s:
            other.warm_sums[q, s] -= state.weight[k] * state.warm[k]
    other.warm[k] = state.warm[k]


@inlined
def heat_of_offset(data: Data, state: State, q: int, s: int) -> float:
    """By how much the estimate of the common offset of group q moves with the temperature of station s [ADU/K]."""
    total = float(state.warm_sums[q, s])
    for i in range(3):
        total -= state.sums[q, 1 + i] * state.shift[s, i]
    return total * group_share(data, state, q)


@inlined
def heat_variance(data: Data, state: State, k: int, jac_k: F8) -> tuple[float, float]:
    """Variance of (master of a left-out cell k) - (prediction) from the temperatures, which the cell may share with
    those that predict it: by the pixel's own law, and by the errors that all pixels share."""
    q = data.group[k]
    own, common = 0.0, 0.0
    for s in range(data.station_variance.size):
        effect = state.warm[k] if data.station[k] == s else 0.0
        for i in range(3):
            effect -= jac_k[i] * state.shift[s, i]
        if data.precision[q] == 0.0:
            effect -= heat_of_offset(data, state, q, s)
        own += data.law_variance[0] * effect * effect
        common += data.station_variance[s] * effect * effect
    return own, common


@inlined
def offset_variance(law: Law, data: Data, state: State, q: int) -> float:
    """Variance of the estimate of the common offset of group q: given the parameters, and through them."""
    share = group_share(data, state, q)
    variance = share
    for i in range(3):
        for j in range(3):
            if law.free[i] and law.free[j]:
                variance += share * share * state.sums[q, 1 + i] * state.covariance[i, j] * state.sums[q, 1 + j]
    for s in range(data.station_variance.size):
        variance += (data.station_variance[s] + data.law_variance[0]) * heat_of_offset(data, state, q, s) ** 2
    return variance


@inlined
def parameter_by_bias(law: Law, data: Data, state: State, q: int, a: int) -> float:
    """By how much parameter a moves where the bias of group q is 1 ADU higher: -C π Σ(wJ)/(π + Σw), with π the inverse
    variance of that bias. Times this variance it is the covariance of the parameter with the bias."""
    if not law.free[a]:
        return 0.0
    # how far the cells cannot tell the bias's error: not at all where it has none
    pull = data.precision[q] * group_share(data, state, q) if math.isfinite(data.precision[q]) else 1.0
    total = 0.0
    for b in range(3):
        if law.free[b]:
            total -= state.covariance[a, b] * state.sums[q, 1 + b] * pull
    return total


@inlined
def prediction_variance(law: Law, data: Data, state: State, jac_k: F8, q: int) -> float:
    """Variance of (master of a left-out cell of group q) - (prediction), its own dark noise apart.

    The bias error is in the master and, through the other cells of the group, in the parameters; their covariance is
    C·Σ(wJ)/(π + Σw), with π the inverse variance of the bias. For a free level (π = 0) the prediction includes the
    level's estimate.
    """
    share = group_share(data, state, q)
    free_level = data.precision[q] == 0.0
    if free_level and share == 0.0:
        return math.inf
    variance = share if free_level else 1.0 / data.precision[q]
    for i in range(3):
        si = state.sums[q, 1 + i] * share
        for j in range(3):
            if not (law.free[i] and law.free[j]):
                continue
            sj = state.sums[q, 1 + j] * share
            if free_level:
                variance += (jac_k[i] - si) * state.covariance[i, j] * (jac_k[j] - sj)
            else:
                variance += jac_k[i] * state.covariance[i, j] * (jac_k[j] - 2.0 * sj)
    return max(variance, 0.0)
