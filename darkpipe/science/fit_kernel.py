"""The per-pixel fit: damped Gauss-Newton with weights from the noise model, shared bias errors and a prior.

Three things make it a fit of dark masters rather than of any points:

* the variance of a cell is the noise model at the *model's* signal, so weights are refreshed at every step
  (quasi-likelihood; weights from the data would favour cells that fluctuated low);
* cells that share a bias share its error: each group of cells has a common offset with a Gaussian prior of the
  bias's variance, marginalised in closed form (Sherman-Morrison-Woodbury). An infinite variance makes it a free
  offset, which is how a campaign without bias frames is fitted;
* a cell that disagrees beyond `OUTLIER_SIGMA` of its studentised residual is down-weighted, counted and flagged.

Everything here works on one pixel with float64 scratch arrays; `darkpipe.science.fit` feeds it tiles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from darkpipe.science.models.families import EXPONENTIAL, evaluate

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

MAX_STEPS = 40
STOP = 1e-5  # predicted decrease of chi² at which a pixel has converged
OUTLIER_SIGMA = 5.0
# status words of a pixel
FAILED, CONVERGED, NOT_CONVERGED = 0, 1, 2


@njit(nogil=True, cache=True, error_model="numpy")
def _solve3(m: F8, g: F8, damping: float, step: F8) -> bool:
    """Solve (m + damping·diag(m)) step = g for a symmetric 3×3 m; False if it is not positive definite."""
    a = m[0, 0] * (1.0 + damping)
    b = m[1, 1] * (1.0 + damping)
    c = m[2, 2] * (1.0 + damping)
    if not (a > 0.0 and b > 0.0 and c > 0.0):
        return False
    # scaled to a unit diagonal, so that one threshold of singularity fits all units
    sa, sb, sc = 1.0 / math.sqrt(a), 1.0 / math.sqrt(b), 1.0 / math.sqrt(c)
    d, e, f = m[0, 1] * sa * sb, m[0, 2] * sa * sc, m[1, 2] * sb * sc
    l11 = 1.0 - d * d
    if l11 < 1e-13:
        return False
    t = f - d * e
    l22 = 1.0 - e * e - t * t / l11
    if l22 < 1e-13:
        return False
    g0, g1, g2 = g[0] * sa, g[1] * sb, g[2] * sc
    y1 = g1 - d * g0
    y2 = g2 - e * g0 - t * y1 / l11
    z2 = y2 / l22
    z1 = (y1 - t * z2) / l11
    step[0] = (g0 - d * z1 - e * z2) * sa
    step[1] = z1 * sb
    step[2] = z2 * sc
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _invert3(m: F8, out: F8) -> bool:
    """Inverse of a symmetric 3×3 matrix, column by column; False if it is not positive definite."""
    unit = np.zeros(3)
    column = np.empty(3)
    for j in range(3):
        unit[0] = unit[1] = unit[2] = 0.0
        unit[j] = 1.0
        if not _solve3(m, unit, 0.0, column):
            return False
        for i in range(3):
            out[i, j] = column[i]
    return True


@njit(nogil=True, cache=True, error_model="numpy")
def _weigh(signal: F8, base: F8, shot: F8, relative: F8, robust: F8, weight: F8) -> None:
    """Weights from the noise model at the model's signal; a cell with infinite base variance is absent."""
    for k in range(signal.size):
        s = signal[k]
        positive = max(s, 0.0)
        weight[k] = robust[k] / (base[k] + shot[k] * positive + relative[k] * s * s)


@njit(nogil=True, cache=True, error_model="numpy")
def _normal_equations(
    y: F8, signal: F8, jac: F8, weight: F8, group: I8, precision: F8, sums: F8, m: F8, g: F8
) -> float:
    """JᵀWJ, JᵀWr and rᵀWr with the groups' common offsets marginalised; `sums` (groups, 5) is scratch that keeps
    Σw, ΣwJ (3), Σwr of each group."""
    sums[:] = 0.0
    m[:] = 0.0
    g[:] = 0.0
    cost = 0.0
    for k in range(y.size):
        w = weight[k]
        if w == 0.0:
            continue
        r = y[k] - signal[k]
        j0, j1, j2 = jac[0, k], jac[1, k], jac[2, k]
        cost += w * r * r
        m[0, 0] += w * j0 * j0
        m[0, 1] += w * j0 * j1
        m[0, 2] += w * j0 * j2
        m[1, 1] += w * j1 * j1
        m[1, 2] += w * j1 * j2
        m[2, 2] += w * j2 * j2
        g[0] += w * r * j0
        g[1] += w * r * j1
        g[2] += w * r * j2
        q = group[k]
        sums[q, 0] += w
        sums[q, 1] += w * j0
        sums[q, 2] += w * j1
        sums[q, 3] += w * j2
        sums[q, 4] += w * r
    for q in range(sums.shape[0]):
        total = precision[q] + sums[q, 0]
        if sums[q, 0] == 0.0 or not math.isfinite(total):
            continue  # no cell of this bias, or a bias without error
        inverse = 1.0 / total
        cost -= sums[q, 4] * sums[q, 4] * inverse
        for i in range(3):
            g[i] -= sums[q, 1 + i] * sums[q, 4] * inverse
            for j in range(i, 3):
                m[i, j] -= sums[q, 1 + i] * sums[q, 1 + j] * inverse
    return cost


@njit(nogil=True, cache=True, error_model="numpy")
def _cost(y: F8, signal: F8, weight: F8, group: I8, precision: F8, sums: F8) -> float:
    """rᵀWr with the common offsets marginalised."""
    for q in range(sums.shape[0]):
        sums[q, 0] = 0.0
        sums[q, 4] = 0.0
    cost = 0.0
    for k in range(y.size):
        w = weight[k]
        if w == 0.0:
            continue
        r = y[k] - signal[k]
        cost += w * r * r
        sums[group[k], 0] += w
        sums[group[k], 4] += w * r
    for q in range(sums.shape[0]):
        total = precision[q] + sums[q, 0]
        if sums[q, 0] > 0.0 and math.isfinite(total):
            cost -= sums[q, 4] * sums[q, 4] / total
    return cost


@njit(nogil=True, cache=True, error_model="numpy")
def _prior_cost(p: F8, prior_mean: F8, prior_precision: F8) -> float:
    cost = 0.0
    for i in range(3):
        for j in range(3):
            cost += (p[i] - prior_mean[i]) * prior_precision[i, j] * (p[j] - prior_mean[j])
    return cost


@njit(nogil=True, cache=True, error_model="numpy")
def _model(family: int, x: F8, p: F8, signal: F8, jac: F8) -> None:
    for k in range(signal.size):
        signal[k] = evaluate(family, x, k, p, jac)


@njit(nogil=True, cache=True, error_model="numpy")
def _complete(m: F8, g: F8, prior_precision: F8, free: NDArray[np.bool_]) -> None:
    """Add the prior to the upper half of m, take fixed parameters out, and fill the lower half."""
    for i in range(3):
        for j in range(i, 3):
            m[i, j] += prior_precision[i, j]
    for i in range(3):
        if not free[i]:
            g[i] = 0.0
            for j in range(3):
                m[min(i, j), max(i, j)] = 1.0 if i == j else 0.0
    for i in range(3):
        for j in range(i):
            m[i, j] = m[j, i]


@njit(nogil=True, cache=True, error_model="numpy")
def normal_matrix(
    family: int,
    x: F8,
    y: F8,
    base: F8,
    shot: F8,
    relative: F8,
    robust: F8,
    group: I8,
    precision: F8,
    prior_precision: F8,
    free: NDArray[np.bool_],
    p: F8,
    m: F8,
    signal: F8,
    jac: F8,
    weight: F8,
    sums: F8,
) -> None:
    """Normal matrix m (prior included), model, weights and group sums at given parameters."""
    g = np.empty(3)
    _model(family, x, p, signal, jac)
    _weigh(signal, base, shot, relative, robust, weight)
    _normal_equations(y, signal, jac, weight, group, precision, sums, m, g)
    _complete(m, g, prior_precision, free)


@njit(nogil=True, cache=True, error_model="numpy")
def descend(
    family: int,
    x: F8,
    y: F8,
    base: F8,
    shot: F8,
    relative: F8,
    robust: F8,
    group: I8,
    precision: F8,
    prior_mean: F8,
    prior_precision: F8,
    free: NDArray[np.bool_],
    lower: F8,
    upper: F8,
    p: F8,
    m: F8,
    signal: F8,
    jac: F8,
    weight: F8,
    sums: F8,
) -> int:
    """Gauss-Newton steps from `p` (3,) to the minimum; on return p, the normal matrix m (prior included), signal, jac,
    weight and sums stand at the solution. Returns the status."""
    g = np.empty(3)
    step = np.empty(3)
    trial = np.empty(3)
    trial_signal = np.empty(y.size)
    damping = 0.0
    status = NOT_CONVERGED
    _model(family, x, p, signal, jac)
    for _ in range(MAX_STEPS):
        _weigh(signal, base, shot, relative, robust, weight)
        cost = _normal_equations(y, signal, jac, weight, group, precision, sums, m, g)
        cost += _prior_cost(p, prior_mean, prior_precision)
        for i in range(3):
            for j in range(3):
                g[i] -= prior_precision[i, j] * (p[j] - prior_mean[j])
        _complete(m, g, prior_precision, free)
        accepted = False
        predicted = 0.0
        for _ in range(12):
            if not _solve3(m, g, damping, step):
                damping = max(damping * 10.0, 1e-4)
                continue
            for i in range(3):
                trial[i] = min(max(p[i] + step[i], lower[i]), upper[i])
            for k in range(y.size):
                trial_signal[k] = evaluate(family, x, k, trial, jac)
            new = _cost(y, trial_signal, weight, group, precision, sums) + _prior_cost(
                trial, prior_mean, prior_precision
            )
            # at a bound the part of the step that cannot be taken does not count
            predicted = 0.0
            for i in range(3):
                predicted += (trial[i] - p[i]) * g[i]
            predicted = abs(predicted)
            if new <= cost + 1e-9 * abs(cost) + 1e-12:
                accepted = True
                break
            if predicted < STOP:
                break
            damping = max(damping * 10.0, 1e-3)
        if accepted:
            for i in range(3):
                p[i] = trial[i]
            for k in range(y.size):
                signal[k] = trial_signal[k]
            damping = damping * 0.1 if damping > 1e-6 else 0.0
        else:
            _model(family, x, p, signal, jac)
        if predicted < STOP:
            status = CONVERGED
            break
        if not accepted:
            break
    return status


@njit(nogil=True, cache=True, error_model="numpy")
def studentised(
    k: int,
    y: F8,
    signal: F8,
    jac: F8,
    weight: F8,
    group: I8,
    precision: F8,
    sums: F8,
    covariance: F8,
    free: NDArray[np.bool_],
) -> float:
    """Studentised deletion residual of cell k; NaN where it is absent or alone decides a parameter.

    With V the covariance of the cells (common offsets included) and P = V⁻¹ - V⁻¹J C JᵀV⁻¹, the residual of a cell
    against the fit of all others is (Pr)ₖ/Pₖₖ with variance 1/Pₖₖ (Cook & Weisberg 1982, extended to correlated
    errors), so z = (Pr)ₖ/√Pₖₖ.
    """
    w = weight[k]
    if w == 0.0:
        return math.nan
    q = group[k]
    total = precision[q] + sums[q, 0]
    share = 1.0 / total if math.isfinite(total) else 0.0
    spread = 0.0
    for i in range(3):
        a = jac[i, k] - sums[q, 1 + i] * share if free[i] else 0.0
        for j in range(3):
            b = jac[j, k] - sums[q, 1 + j] * share if free[j] else 0.0
            spread += a * covariance[i, j] * b
    pkk = w - w * w * share - w * w * spread
    if pkk < 1e-3 * w:
        return math.nan
    return w * (y[k] - signal[k] - sums[q, 4] * share) / math.sqrt(pkk)


@njit(nogil=True, cache=True, error_model="numpy")
def worst_residual(
    y: F8, signal: F8, jac: F8, weight: F8, group: I8, precision: F8, sums: F8, covariance: F8, free: NDArray[np.bool_]
) -> tuple[int, float]:
    """The cell with the largest studentised residual (-1: none has one), and that residual."""
    worst, largest = -1, 0.0
    for k in range(y.size):
        z = studentised(k, y, signal, jac, weight, group, precision, sums, covariance, free)
        if abs(z) > abs(largest):  # false for NaN
            worst, largest = k, z
    return worst, largest


@njit(nogil=True, cache=True, error_model="numpy")
def offset_estimate(sums: F8, precision: F8, q: int) -> float:
    """Best estimate of the common offset of group q at the solution."""
    total = precision[q] + sums[q, 0]
    if sums[q, 0] == 0.0 or not math.isfinite(total):
        return 0.0
    return sums[q, 4] / total


@njit(nogil=True, cache=True, error_model="numpy")
def prediction_variance(jac_k: F8, covariance: F8, sums: F8, precision: F8, q: int) -> float:
    """Variance of (master of a left-out cell of group q) - (prediction), its own dark noise apart.

    The bias error is in the master and, through the other cells of the group, in the parameters; their covariance is
    C·Σ(wJ)/(π + Σw), with π the inverse variance of the bias. For a free offset (π = 0) the prediction includes the
    offset's estimate.
    """
    total = precision[q] + sums[q, 0]
    variance = 0.0
    for i in range(3):
        for j in range(3):
            variance += jac_k[i] * covariance[i, j] * jac_k[j]
    if not math.isfinite(total):
        return variance
    if precision[q] > 0.0:
        variance += 1.0 / precision[q]
        for i in range(3):
            for j in range(3):
                variance -= 2.0 * jac_k[i] * covariance[i, j] * sums[q, 1 + j] / total
        return max(variance, 0.0)
    if sums[q, 0] == 0.0:
        return math.inf
    variance = 1.0 / total
    for i in range(3):
        for j in range(3):
            left = jac_k[i] - sums[q, 1 + i] / total
            variance += left * covariance[i, j] * (jac_k[j] - sums[q, 1 + j] / total)
    return variance
