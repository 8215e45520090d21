"""Fit of a dark model to tiles of masters, and its leave-one-cell-out predictions.

A tile is a block of pixels (any shape flattened to P) of n cells. The noise model of a master of `count` frames is

    Var(S) = R²/count + max(S,0)/(g·count) + relative²·S² + extra          [ADU²]

with S the model's signal; the bias subtracted from it adds an error that all cells of the same bias share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import (
    FAILED,
    LONELY,
    Belief,
    Data,
    Law,
    State,
    descend_robustly,
    group_share,
    new_state,
    offset_variance,
    prediction_variance,
    residual_parts,
    settle,
    studentised,
)
from darkpipe.science.flags import DQ
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import evaluate

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

_BIT_FAILED = int(DQ.FIT_FAILED)
_BIT_BOUND = int(DQ.AT_BOUND)
_BIT_OUTLIER = int(DQ.OUTLIER)
_BIT_FEW = int(DQ.FEW_SAMPLES)

NEAR_SIGMA = 0.5  # a step that moves the prediction by less than this of its cell's noise needs no refit;
NEAR_RELATIVE = 0.05  # nor one by less than this of itself: the model is linear over such a step


class Pixels(NamedTuple):
    """The tile as the kernels see it; names as in `Cells` (frames: its count) and `Prior`."""

    signal_adu: F4
    frames: U2
    read_variance_adu2: F4
    inverse_gain: float
    relative_variance: F8
    extra_variance_adu2: F8
    group: NDArray[np.int64]
    group_variance_adu2: F4
    prior_mean: F8
    prior_precision: F8


@dataclass(frozen=True)
class Cells:
    """The masters of a tile and what is known of their noise.

    signal_adu : (n, P) float32, NaN where a cell has no value for a pixel.
    count : (n, P) uint16, frames kept in each mean; 0: the cell is absent for the pixel.
    read_variance_adu2 : (P,) float32, R² of a single frame.
    gain_e_per_adu : conversion gain.
    relative_variance : (n,) square of the multiplicative error of each cell (temperature jitter and the like).
    extra_variance_adu2 : (n,) additive variance of each cell (pedestal drift).
    group : (n,) int, the bias that was subtracted from each cell.
    group_variance_adu2 : (G, P) float32, variance of each of those biases; inf: none was there, the level is free.
    """

    signal_adu: F4
    count: U2
    read_variance_adu2: F4
    gain_e_per_adu: float
    relative_variance: F8
    extra_variance_adu2: F8
    group: NDArray[np.int64]
    group_variance_adu2: F4

    @property
    def free_level(self) -> NDArray[np.bool_]:
        """(P,) whether the level of some cell of a pixel is free, for want of a bias."""
        return np.asarray(np.isinf(self.group_variance_adu2).any(axis=0), np.bool_)

    def joined(self, others: Sequence[Cells]) -> Cells:
        """The same cells over more pixels."""
        tiles = [self, *others]
        return replace(
            self,
            signal_adu=np.concatenate([t.signal_adu for t in tiles], axis=1),
            count=np.concatenate([t.count for t in tiles], axis=1),
            read_variance_adu2=np.concatenate([t.read_variance_adu2 for t in tiles]),
            group_variance_adu2=np.concatenate([t.group_variance_adu2 for t in tiles], axis=1),
        )

    def at(self, pixels: NDArray[np.int64]) -> Cells:
        """The same cells at some of the pixels."""
        return replace(
            self,
            signal_adu=np.ascontiguousarray(self.signal_adu[:, pixels]),
            count=np.ascontiguousarray(self.count[:, pixels]),
            read_variance_adu2=self.read_variance_adu2[pixels],
            group_variance_adu2=np.ascontiguousarray(self.group_variance_adu2[:, pixels]),
        )


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of each pixel's parameters: mean (3, P) and precision (6, P) as 00, 01, 02, 11, 12, 22.

    It must make every shape parameter determined, however weakly.
    """

    mean: F8
    precision: F8


class Fitted(NamedTuple):
    """Parameters (3, P), covariance (6, P), chi² (P,), degrees of freedom (P,), DQ bits (P,), the offsets of the groups
    (G, P) [ADU] with their variances, and the number of outliers left out (P,).

    held_out_adu, held_out_variance_adu2 : (n, P), what each master should read by the fit of the others, and the
    variance of (master - prediction) without the master's own dark noise; NaN where it was not asked for, or the
    pixel cannot be fitted without the cell.
    """

    parameters: F8
    covariance: F8
    chi2: F4
    dof: NDArray[np.int16]
    dq: U2
    offset_adu: F4
    offset_variance_adu2: F4
    outliers: NDArray[np.uint8]
    held_out_adu: F4
    held_out_variance_adu2: F4


@kernel
def _scratch(tile: Pixels) -> tuple[Data, Belief]:
    n, groups = tile.signal_adu.shape[0], tile.group_variance_adu2.shape[0]
    data = Data(
        np.empty(n), np.empty(n), np.empty(n), tile.relative_variance, tile.group, np.empty(groups)
    )  # fmt: skip
    return data, Belief(np.empty(3), np.empty((3, 3)))


@inlined
def _load(tile: Pixels, i: int, data: Data, belief: Belief) -> int:
    """Fill the scratch arrays with pixel i; returns how many cells it has. An absent cell gets an infinite variance."""
    n = 0
    for k in range(data.y.size):
        value = tile.signal_adu[k, i]
        c = tile.frames[k, i]
        if c > 0 and math.isfinite(value):
            data.y[k] = value
            data.base[k] = tile.read_variance_adu2[i] / c + tile.extra_variance_adu2[k]
            data.shot[k] = tile.inverse_gain / c
            n += 1
        else:
            data.y[k] = 0.0
            data.base[k] = math.inf
            data.shot[k] = 0.0
    for q in range(data.precision.size):
        data.precision[q] = 1.0 / tile.group_variance_adu2[q, i]
        if math.isnan(data.precision[q]):
            n = 0  # an error that is no number: nothing can be said of this pixel
    slot = 0
    for a in range(3):
        belief.mean[a] = tile.prior_mean[a, i]
        for b in range(a, 3):
            belief.precision[a, b] = belief.precision[b, a] = tile.prior_precision[slot, i]
            slot += 1
    return n


@inlined
def _unknowns(law: Law, data: Data) -> int:
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
def _most_outliers(cells: int, unknowns: int) -> int:
    """How many cells of a pixel may be left out: one in eight, none where that leaves nothing to judge by."""
    return 0 if cells - unknowns < 2 else max(1, cells // 8)


@inlined
def _chi2(data: Data, state: State) -> float:
    """chi² of the cells that were not left out, the groups' offsets at their best."""
    total = 0.0
    for k in range(data.y.size):
        if state.robust[k] == 1.0 and state.weight[k] > 0.0:
            q = data.group[k]
            r = data.y[k] - state.signal[k] - state.sums[q, 4] * group_share(data, state, q)
            total += state.weight[k] * r * r
    for q in range(data.precision.size):
        if math.isfinite(data.precision[q]):
            total += data.precision[q] * (state.sums[q, 4] * group_share(data, state, q)) ** 2
    return total


@inlined
def _store(law: Law, data: Data, state: State, i: int, out: Fitted) -> None:
    out.chi2[i] = _chi2(data, state)
    for q in range(data.precision.size):
        out.offset_adu[q, i] = state.sums[q, 4] * group_share(data, state, q)
        out.offset_variance_adu2[q, i] = offset_variance(law, data, state, q)
    slot = 0
    for a in range(3):
        out.parameters[a, i] = state.p[a]
        if law.free[a] and (state.p[a] <= law.lower[a] or state.p[a] >= law.upper[a]):
            out.dq[i] |= _BIT_BOUND
        for b in range(a, 3):
            out.covariance[slot, i] = state.covariance[a, b] if law.free[a] and law.free[b] else 0.0
            slot += 1


@inlined
def _step_out(
    law: Law, data: Data, state: State, other: State, k: int, slope: F8, jac: F8
) -> tuple[bool, float, float]:
    """Leave cell k out by one step from the full fit: (whether that is near enough, prediction, variance).

    Exact for a linear model with given weights; for the exponentials the step must move the prediction little.
    other.p is left where the step ends. Slot k of the group's sums in `other` holds the others of the group.
    """
    residual, pkk = residual_parts(law, data, state, k, slope)
    if pkk < LONELY * state.weight[k] or state.robust[k] != 1.0:
        for a in range(3):
            other.p[a] = state.p[a]
        return False, math.nan, math.nan
    for a in range(3):
        shift = 0.0
        for b in range(3):
            shift += state.covariance[a, b] * slope[b]
        other.p[a] = min(max(state.p[a] - shift * residual / pkk, law.lower[a]), law.upper[a])
        jac[a, k] = shift  # scratch: C·slope
    for a in range(3):
        for b in range(3):
            other.covariance[a, b] = state.covariance[a, b] + jac[a, k] * jac[b, k] / pkk
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
    return near, value, variance


@inlined
def _leave_out(
    law: Law, data: Data, belief: Belief, state: State, other: State, k: int, jac: F8, slope: F8
) -> tuple[float, float]:
    """Prediction of cell k by the fit of the others, and its variance: by one step where that is near enough, else
    by fitting again without it, from where the step ends."""
    if data.base[k] < math.inf:
        near, value, variance = _step_out(law, data, state, other, k, slope, jac)
        if near:
            return value, variance
    else:
        for a in range(3):
            other.p[a] = state.p[a]
    base = data.base[k]
    data.base[k] = math.inf
    here = 0
    for c in range(data.y.size):
        here += data.base[c] < math.inf
    status, _ = descend_robustly(law, data, belief, other, _most_outliers(here, _unknowns(law, data)))
    value, variance = math.nan, math.nan
    if status != FAILED:
        q = data.group[k]
        value = evaluate(law.family, law.x, k, other.p, jac)
        for a in range(3):
            slope[a] = jac[a, k] if law.free[a] else 0.0
        variance = prediction_variance(law, data, other, slope, q)
        if data.precision[q] == 0.0:
            value += other.sums[q, 4] * group_share(data, other, q)
    data.base[k] = base
    return value, variance


@kernel
def _fit_tile(law: Law, tile: Pixels, start: F8, leave_out: NDArray[np.bool_], out: Fitted) -> None:
    n, pixels = tile.signal_adu.shape
    data, belief = _scratch(tile)
    groups = tile.group_variance_adu2.shape[0]
    state, other = new_state(n, groups), new_state(n, groups)
    jac, slope = np.empty((3, n)), np.empty(3)
    for i in range(pixels):
        here = _load(tile, i, data, belief)
        unknowns = _unknowns(law, data)
        out.dof[i] = here - unknowns
        if here < unknowns:
            out.dq[i] |= _BIT_FAILED | _BIT_FEW
            continue
        state.p[:] = start[:, i]
        status, outliers = descend_robustly(law, data, belief, state, _most_outliers(here, unknowns))
        if status == FAILED or not math.isfinite(state.p[0] + state.p[1] + state.p[2]):
            out.dq[i] |= _BIT_FAILED
            continue
        out.dof[i] -= outliers
        out.outliers[i] = outliers
        if outliers:
            out.dq[i] |= _BIT_OUTLIER
        _store(law, data, state, i, out)
        for k in range(n):
            if leave_out[k] and (here > unknowns or data.base[k] == math.inf):
                value, variance = _leave_out(law, data, belief, state, other, k, jac, slope)
                out.held_out_adu[k, i] = value
                out.held_out_variance_adu2[k, i] = variance


@kernel
def _studentise_tile(law: Law, tile: Pixels, parameters: F8, out: F4) -> None:
    n, pixels = tile.signal_adu.shape
    data, belief = _scratch(tile)
    state = new_state(n, tile.group_variance_adu2.shape[0])
    slope = np.empty(3)
    for i in range(pixels):
        if not math.isfinite(parameters[0, i]):
            continue
        _load(tile, i, data, belief)
        state.p[:] = parameters[:, i]
        for k in range(n):
            state.signal[k] = evaluate(law.family, law.x, k, state.p, state.jac)
        if settle(law, data, belief, state):
            for k in range(n):
                out[k, i] = studentised(law, data, state, k, slope)


@dataclass(frozen=True)
class Problem:
    """What is fitted: the family, the design (3, n), which parameters are free (3,) and their domain."""

    family: int
    design: F8
    free: NDArray[np.bool_]
    lower: F8
    upper: F8

    @property
    def law(self) -> Law:
        return Law(self.family, self.design, self.free, self.lower, self.upper)


def _pixels(cells: Cells, prior: Prior) -> Pixels:
    return Pixels(
        cells.signal_adu, cells.count, cells.read_variance_adu2, 1.0 / cells.gain_e_per_adu, cells.relative_variance,
        cells.extra_variance_adu2, cells.group, cells.group_variance_adu2, prior.mean, prior.precision,
    )  # fmt: skip


def fit_tile(
    problem: Problem, cells: Cells, prior: Prior, start: F8, leave_out: NDArray[np.bool_] | None = None
) -> Fitted:
    """Fit every pixel of a tile, and predict cells from the others.

    Parameters
    ----------
    problem : model family and design.
    cells : masters and noise.
    prior : prior of each pixel.
    start : (3, P) start values.
    leave_out : (n,) which cells are to be predicted by the fit of the others; None: none.

    Returns
    -------
    Fitted
        NaN and `DQ.FIT_FAILED` where a pixel has fewer cells than unknowns or the fit broke down.
    """
    groups, pixels = cells.group_variance_adu2.shape
    n = cells.signal_adu.shape[0]
    nan = np.float32(np.nan)
    out = Fitted(
        np.full((3, pixels), np.nan),
        np.full((6, pixels), np.nan),
        np.full(pixels, nan),
        np.zeros(pixels, np.int16),
        np.zeros(pixels, np.uint16),
        np.full((groups, pixels), nan),
        np.full((groups, pixels), nan),
        np.zeros(pixels, np.uint8),
        np.full((n, pixels), nan),
        np.full((n, pixels), nan),
    )
    wanted = np.zeros(n, np.bool_) if leave_out is None else np.asarray(leave_out, np.bool_)
    _fit_tile(problem.law, _pixels(cells, prior), start, wanted, out)
    return out


def studentised_residuals(problem: Problem, cells: Cells, prior: Prior, parameters: F8) -> F4:
    """(n, P) deletion residual of each cell over its standard error at these parameters; NaN where there is none."""
    out = np.full(cells.signal_adu.shape, np.float32(np.nan))
    _studentise_tile(problem.law, _pixels(cells, prior), parameters, out)
    return out
