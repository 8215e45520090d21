"""The fit of one pixel: damped Gauss-Newton with weights from the noise model, shared bias errors and a prior.

Three things make it a fit of dark masters rather than of any points:

* the variance of a cell is the noise model at the *model's* signal, so weights are refreshed at every step
  (quasi-likelihood; weights from the data would favour cells that fluctuated low);
* cells that share a bias share its error: each group of cells has a common offset with a Gaussian prior of the
  bias's variance, marginalised in closed form (Sherman-Morrison-Woodbury). An infinite variance makes it a free
  offset, which is how a campaign without bias frames is fitted;
* a cell that disagrees beyond noise is left out, counted and flagged (`fit_residuals`).

Everything here works on one pixel with float64 scratch arrays; `darkpipe.science.fit` feeds it tiles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import evaluate

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]
I8 = NDArray[np.int64]
Bools = NDArray[np.bool_]

MAX_STEPS = 40
STOP = 1e-5  # predicted decrease of chi² at which a pixel has converged
FAILED, CONVERGED, NOT_CONVERGED = 0, 1, 2


class Law(NamedTuple):
    """What is fitted: family, design columns x (3, n) and their derivatives by temperature dx, which of the parameters
    (3,) are free, and their domain."""

    family: int
    x: F8
    dx: F8
    free: Bools
    lower: F8
    upper: F8


class Pixels(NamedTuple):
    """The tile as the kernels see it; names as in `Cells` (frames: its count) and `Prior`."""

    signal_adu: F4
    frames: U2
    read_variance_adu2: F4
    read_scale: F8
    inverse_gain: float
    relative_variance: F8
    pixel_relative_variance: F4
    extra_variance_adu2: F8
    group: I8
    group_variance_adu2: F4
    station: I8
    station_variance_k2: F8
    pixel_law_variance_k2: F4
    prior_mean: F8
    prior_precision: F8


class Data(NamedTuple):
    """The cells of one pixel, (n,) each; variance of a cell: base + shot·max(S, 0) + relative·S².

    base is inf for an absent cell. group : the bias each cell had subtracted. precision (G,) : inverse variance of
    each bias; 0 for a free level. station : the temperature each cell was taken at; station_variance (S,) : square of
    the error of each, which its cells share [K²]; law_variance (1,) : the same of the pixel's own law of temperature.
    """

    y: F8
    base: F8
    shot: F8
    relative: F8
    group: I8
    precision: F8
    station: I8
    station_variance: F8
    law_variance: F8


class Belief(NamedTuple):
    """Gaussian prior: mean (3,), precision (3, 3)."""

    mean: F8
    precision: F8


class State(NamedTuple):
    """Where a fit stands: parameters p (3,), normal matrix m and covariance (3, 3), model signal (n,), its derivatives
    jac (3, n), weights (n,), robust factors (n,; 0 for an outlier), and of each group Σw, ΣwJ (3), Σwr: sums (G, 5).
    Of an error of 1 K in the temperatures (`heat`): what it does to the cells, warm (n,), to their weighted sums in
    each group, warm_sums (G, S), and to the parameters, shift (S, 3).

    work (8, 3) and trial_signal (n,) are scratch of the functions below, which allocate nothing.
    """

    p: F8
    m: F8
    covariance: F8
    signal: F8
    jac: F8
    weight: F8
    robust: F8
    sums: F8
    warm: F8
    warm_sums: F8
    shift: F8
    work: F8
    trial_signal: F8


@kernel
def new_state(n: int, groups: int, stations: int) -> State:
    """Scratch for a pixel of n cells."""
    return State(
        np.empty(3), np.empty((3, 3)), np.empty((3, 3)), np.empty(n), np.empty((3, n)), np.empty(n), np.ones(n),
        np.empty((groups, 5)), np.empty(n), np.empty((groups, stations)), np.empty((stations, 3)), np.zeros((8, 3)),
        np.empty(n),
    )  # fmt: skip


@inlined
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


@inlined
def _invert3(m: F8, out: F8, work: F8) -> bool:
    """Inverse of a symmetric 3×3 matrix, column by column; False if it is not positive definite."""
    unit = work[4]
    column = work[5]
    for j in range(3):
        unit[0] = unit[1] = unit[2] = 0.0
        unit[j] = 1.0
        if not _solve3(m, unit, 0.0, column):
            return False
        for i in range(3):
            out[i, j] = column[i]
    return True


@inlined
def _weigh(data: Data, state: State) -> None:
    """Weights from the noise model at the model's signal."""
    for k in range(data.y.size):
        s = state.signal[k]
        state.weight[k] = state.robust[k] / (data.base[k] + data.shot[k] * max(s, 0.0) + data.relative[k] * s * s)


@inlined
def _normal_equations(data: Data, state: State, g: F8) -> float:
    """JᵀWJ (upper half of state.m), JᵀWr and rᵀWr with the groups' common offsets marginalised; fills state.sums."""
    m, sums, jac = state.m, state.sums, state.jac
    sums[:] = 0.0
    m[:] = 0.0
    g[:] = 0.0
    cost: float = 0.0
    for k in range(data.y.size):
        w = state.weight[k]
        if w == 0.0:
            continue
        r = data.y[k] - state.signal[k]
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
        q = data.group[k]
        sums[q, 0] += w
        sums[q, 1] += w * j0
        sums[q, 2] += w * j1
        sums[q, 3] += w * j2
        sums[q, 4] += w * r
    for q in range(sums.shape[0]):
        share = group_share(data, state, q)
        if share > 0.0:
            cost -= float(sums[q, 4]) ** 2 * share
            for i in range(3):
                g[i] -= sums[q, 1 + i] * sums[q, 4] * share
                for j in range(i, 3):
                    m[i, j] -= sums[q, 1 + i] * sums[q, 1 + j] * share
    return cost


@inlined
def group_share(data: Data, state: State, q: int) -> float:
    """1/(π + Σw) of a group: variance of its common offset given everything else; 0 for a bias without error."""
    total = data.precision[q] + state.sums[q, 0]
    if state.sums[q, 0] == 0.0 or not math.isfinite(total):
        return 0.0
    return float(1.0 / total)


@inlined
def _cost(data: Data, state: State, signal: F8) -> float:
    """rᵀWr at another signal, with the common offsets marginalised; overwrites Σw and Σwr of state.sums."""
    sums = state.sums
    for q in range(sums.shape[0]):
        sums[q, 0] = 0.0
        sums[q, 4] = 0.0
    cost: float = 0.0
    for k in range(data.y.size):
        w = state.weight[k]
        if w == 0.0:
            continue
        r = data.y[k] - signal[k]
        cost += w * r * r
        sums[data.group[k], 0] += w
        sums[data.group[k], 4] += w * r
    for q in range(sums.shape[0]):
        cost -= float(sums[q, 4]) ** 2 * group_share(data, state, q)
    return cost


@inlined
def _prior_cost(p: F8, belief: Belief) -> float:
    cost: float = 0.0
    for i in range(3):
        for j in range(3):
            cost += (p[i] - belief.mean[i]) * belief.precision[i, j] * (p[j] - belief.mean[j])
    return cost


@inlined
def _model(law: Law, state: State) -> None:
    for k in range(state.signal.size):
        state.signal[k] = evaluate(law.family, law.x, k, state.p, state.jac)


@inlined
def _complete(law: Law, belief: Belief, m: F8, g: F8) -> None:
    """Add the prior to the upper half of m, take fixed parameters out, and fill the lower half."""
    for i in range(3):
        for j in range(i, 3):
            m[i, j] += belief.precision[i, j]
    for i in range(3):
        if not law.free[i]:
            g[i] = 0.0
            for j in range(3):
                m[min(i, j), max(i, j)] = 1.0 if i == j else 0.0
    for i in range(3):
        for j in range(i):
            m[i, j] = m[j, i]


@inlined
def linearise(law: Law, data: Data, belief: Belief, state: State, g: F8) -> float:
    """Model, weights, normal matrix (prior included) and gradient at state.p; returns the cost."""
    _weigh(data, state)
    cost = _normal_equations(data, state, g) + _prior_cost(state.p, belief)
    for i in range(3):
        for j in range(3):
            g[i] -= belief.precision[i, j] * (state.p[j] - belief.mean[j])
    _complete(law, belief, state.m, g)
    return cost


@inlined
def descend(law: Law, data: Data, belief: Belief, state: State) -> int:
    """Damped Gauss-Newton from state.p to the minimum; returns the status. The state stands at the solution."""
    g, step, trial = state.work[0], state.work[1], state.work[2]
    trial_signal = state.trial_signal
    damping = 0.0
    _model(law, state)
    for _ in range(MAX_STEPS):
        cost = linearise(law, data, belief, state, g)
        accepted = False
        predicted = math.inf
        for _ in range(12):
            if not _solve3(state.m, g, damping, step):
                damping = max(damping * 10.0, 1e-4)
                continue
            predicted = 0.0
            for i in range(3):
                trial[i] = min(max(state.p[i] + step[i], law.lower[i]), law.upper[i])
                # at a bound the part of the step that cannot be taken does not count
                predicted += (trial[i] - state.p[i]) * g[i]
            for k in range(data.y.size):
                trial_signal[k] = evaluate(law.family, law.x, k, trial, state.jac)
            new = _cost(data, state, trial_signal) + _prior_cost(trial, belief)
            accepted = new <= cost + 1e-9 * abs(cost) + 1e-12
            if accepted or abs(predicted) < STOP:
                break
            damping = max(damping * 10.0, 1e-3)
        if not accepted:
            _model(law, state)
            return CONVERGED if abs(predicted) < STOP else NOT_CONVERGED
        for i in range(3):
            state.p[i] = trial[i]
        for k in range(data.y.size):
            state.signal[k] = trial_signal[k]
        if abs(predicted) < STOP:
            return CONVERGED
        damping = damping * 0.1 if damping > 1e-6 else 0.0
    return NOT_CONVERGED


@inlined
def settle(law: Law, data: Data, belief: Belief, state: State) -> bool:
    """Weights, normal matrix, group sums and covariance exactly at the solution; False if it is singular."""
    g = state.work[3]
    linearise(law, data, belief, state, g)
    return bool(_invert3(state.m, state.covariance, state.work))
