"""Fit of a dark model to tiles of masters, and its leave-one-cell-out predictions.

A tile is a block of pixels (any shape flattened to P) of n cells. The noise model of a master of `count` frames is

    Var(S) = R²/count + max(S,0)/(g·count) + relative²·S² + extra          [ADU²]

with S the model's signal; the bias subtracted from it adds an error that all cells of the same bias share, and the
temperature one that all cells of the same station share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import FAILED, Belief, Data, Law, State, group_share, new_state, settle
from darkpipe.science.fit_residuals import (
    LONELY,
    descend_robustly,
    heat,
    heat_of_residual,
    offset_variance,
    parameter_by_bias,
    residual_parts,
)
from darkpipe.science.fit_packed import (
    Block,
    Order,
    chi2_packed,
    descend_packed,
    heat_packed,
    new_block,
    order_of,
)
from darkpipe.science.flags import DQ
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.left_out import leave_cell_out, most_outliers, unknowns_of
from darkpipe.science.left_out_packed import leave_out_packed, offsets_packed, outliers_packed
from darkpipe.science.models.families import evaluate
from darkpipe.science.packed import LANES, Packed, larger, load, magnitude, splat, store, where_above

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

_BIT_FAILED = int(DQ.FIT_FAILED)
_BIT_BOUND = int(DQ.AT_BOUND)
_BIT_OUTLIER = int(DQ.OUTLIER)
_BIT_FEW = int(DQ.FEW_SAMPLES)

CLOSER = 1.0
"""Mark of a pixel that was fitted, but for cells that are to be left out with a closer look; beyond: it was not."""


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
    group: NDArray[np.int64]
    group_variance_adu2: F4
    station: NDArray[np.int64]
    station_variance_k2: F8
    pixel_law_variance_k2: F4
    prior_mean: F8
    prior_precision: F8


class Stations(NamedTuple):
    """The temperatures that cells were taken at: which each cell has (n,), and the square of the error of each (S,)
    [K²], which its cells have in common."""

    of_cell: NDArray[np.int64]
    variance_k2: F8


@dataclass(frozen=True)
class Cells:
    """The masters of a tile and what is known of their noise.

    signal_adu : (n, P) float32, NaN where a cell has no value for a pixel.
    count : (n, P) uint16, frames kept in each mean; 0: the cell is absent for the pixel.
    read_variance_adu2 : (P,) float32, R² of a single frame; read_scale : (n,) factor to it in each cell.
    gain_e_per_adu : conversion gain.
    relative_variance : (n,) square of the multiplicative error of each cell (temperature jitter and the like);
    pixel_relative_variance : (P,) of each pixel in all of its cells, and pixel_law_variance_k2 : (P,) that of its law
    of temperature from one station to the next [K²], for what the model does not describe; None: none.
    extra_variance_adu2 : (n,) additive variance of each cell (pedestal drift).
    group : (n,) int, the bias that was subtracted from each cell.
    group_variance_adu2 : (G, P) float32, variance of each of those biases; inf: none was there, the level is free.
    stations : the temperatures the cells were taken at, with their errors; None: they have none.
    group_drift_adu2 : (G,) the part of the biases' variance that all pixels share (their pedestal drift); None: none.
    """

    signal_adu: F4
    count: U2
    read_variance_adu2: F4
    gain_e_per_adu: float
    relative_variance: F8
    extra_variance_adu2: F8
    group: NDArray[np.int64]
    group_variance_adu2: F4
    stations: Stations | None = None
    read_scale: F8 | None = None
    pixel_relative_variance: F4 | None = None
    pixel_law_variance_k2: F4 | None = None
    group_drift_adu2: F8 | None = None

    @property
    def free_level(self) -> NDArray[np.bool_]:
        """(P,) whether the level of some cell of a pixel is free, for want of a bias."""
        return np.asarray(np.isinf(self.group_variance_adu2).any(axis=0), np.bool_)

    def noise_variance(self, k: int, signal_adu: F4) -> F4:
        """(P,) variance of the master of cell k at this signal: read and shot noise of the frames kept [ADU²]."""
        read = self.read_variance_adu2 if self.read_scale is None else self.read_variance_adu2 * self.read_scale[k]
        shot = np.maximum(signal_adu, 0) / np.float32(self.gain_e_per_adu)
        return np.asarray((read + shot) / np.maximum(self.count[k], 1), np.float32)

    @property
    def shared_covariance(self) -> F8:
        """(n, n) covariance of the masters of a cell by errors that all pixels share [ADU²]: drift of the pedestal, and
        that of the biases that were subtracted."""
        own = np.diag(self.extra_variance_adu2.astype(np.float64))
        if self.group_drift_adu2 is None:
            return own
        return own + np.where(self.group[:, None] == self.group, self.group_drift_adu2[self.group], 0.0)

    def excess_variance(self, k: int, signal_adu: F4) -> F4:
        """(P,) variance of cell k beyond noise and bias: multiplicative error and drift of the pedestal [ADU²]."""
        relative = self.relative_variance[k]
        if self.pixel_relative_variance is not None:
            relative = relative + self.pixel_relative_variance
        return np.asarray(relative * signal_adu**2 + self.extra_variance_adu2[k], np.float32)

    def with_relative_error(self, relative: float) -> Cells:
        """The same cells, each with this multiplicative error."""
        return replace(self, relative_variance=np.full(self.relative_variance.size, relative**2))

    def joined(self, others: Sequence[Cells]) -> Cells:
        """The same cells over more pixels; multiplicative errors of pixels are not carried over."""
        tiles = [self, *others]
        return replace(
            self,
            signal_adu=np.concatenate([t.signal_adu for t in tiles], axis=1),
            count=np.concatenate([t.count for t in tiles], axis=1),
            read_variance_adu2=np.concatenate([t.read_variance_adu2 for t in tiles]),
            group_variance_adu2=np.concatenate([t.group_variance_adu2 for t in tiles], axis=1),
            pixel_relative_variance=None,
            pixel_law_variance_k2=None,
        )

    def at(self, pixels: NDArray[np.int64]) -> Cells:
        """The same cells at some of the pixels."""
        return replace(
            self,
            signal_adu=np.ascontiguousarray(self.signal_adu[:, pixels]),
            count=np.ascontiguousarray(self.count[:, pixels]),
            read_variance_adu2=self.read_variance_adu2[pixels],
            group_variance_adu2=np.ascontiguousarray(self.group_variance_adu2[:, pixels]),
            pixel_relative_variance=_some(self.pixel_relative_variance, pixels),
            pixel_law_variance_k2=_some(self.pixel_law_variance_k2, pixels),
        )


def _some(values: F4 | None, pixels: NDArray[np.int64]) -> F4 | None:
    return None if values is None else values[pixels]


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of each pixel's parameters: mean (3, P) and precision (6, P) as 00, 01, 02, 11, 12, 22.

    It must make every shape parameter determined, however weakly.
    twice (6, P) : what the mean and the pixel's own data have in common: the covariance of their gradients and its
    transpose; None: nothing.
    """

    mean: F8
    precision: F8
    twice: F8 | None = None

    def at(self, pixels: NDArray[np.int64]) -> Prior:
        """That of some of the pixels."""
        twice = None if self.twice is None else np.take(self.twice, pixels, axis=1)
        return Prior(np.take(self.mean, pixels, axis=1), np.take(self.precision, pixels, axis=1), twice)


class Fitted(NamedTuple):
    """Parameters (3, P), covariance (6, P), chi² (P,), degrees of freedom (P,), DQ bits (P,), the offsets of the groups
    (G, P) [ADU] with their variances, and the number of outliers left out (P,).

    held_out_adu, held_out_variance_adu2 : (n, P), what each master should read by the fit of the others, and the
    variance of (master - prediction) without the master's own dark noise; NaN where it was not asked for, or the
    pixel cannot be fitted without the cell. held_out_common_adu2 : (n, P), what errors of the temperatures add to it.
    These move all pixels together: no spread over pixels shows them.
    by_bias : (G, 3, P), by how much the parameters move where the bias of a group is 1 ADU higher; 0 for a free level.
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
    held_out_common_adu2: F4
    by_bias: F4

    def first(self, pixels: int) -> Fitted:
        """The first of the pixels."""
        return Fitted(*(np.ascontiguousarray(array[..., :pixels]) for array in self))


@kernel
def _scratch(tile: Pixels) -> tuple[Data, Belief]:
    n, groups = tile.signal_adu.shape[0], tile.group_variance_adu2.shape[0]
    data = Data(
        np.empty(n), np.empty(n), np.empty(n), np.empty(n), tile.group, np.empty(groups),
        tile.station, tile.station_variance_k2, np.empty(1),
    )  # fmt: skip
    return data, Belief(np.empty(3), np.empty((3, 3)))


@inlined
def _load(tile: Pixels, i: int, data: Data, belief: Belief) -> int:
    """Fill the scratch arrays with pixel i; returns how many cells it has. An absent cell gets an infinite variance."""
    n = 0
    data.law_variance[0] = tile.pixel_law_variance_k2[i]
    for k in range(data.y.size):
        data.relative[k] = tile.relative_variance[k] + tile.pixel_relative_variance[i]
        value = tile.signal_adu[k, i]
        c = tile.frames[k, i]
        if c > 0 and math.isfinite(value):
            data.y[k] = value
            data.base[k] = tile.read_variance_adu2[i] * tile.read_scale[k] / c + tile.extra_variance_adu2[k]
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
def _chi2(data: Data, state: State) -> float:
    """chi² of the cells that were not left out, the groups' offsets at their best and the pixel's own law with its
    error (`heat` must have been called)."""
    total = 0.0
    for k in range(data.y.size):
        if state.robust[k] == 1.0 and state.weight[k] > 0.0:
            q = data.group[k]
            r = data.y[k] - state.signal[k] - state.sums[q, 4] * group_share(data, state, q)
            by_law = data.law_variance[0] * state.warm[k] ** 2 if data.station_variance.size > 0 else 0.0
            total += r * r / (1.0 / state.weight[k] + by_law)
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
        for a in range(3):
            out.by_bias[q, a, i] = parameter_by_bias(law, data, state, q, a)
    slot = 0
    for a in range(3):
        out.parameters[a, i] = state.p[a]
        if law.free[a] and (state.p[a] <= law.lower[a] or state.p[a] >= law.upper[a]):
            out.dq[i] |= _BIT_BOUND
        for b in range(a, 3):
            out.covariance[slot, i] = state.covariance[a, b] if law.free[a] and law.free[b] else 0.0
            for s in range(data.station_variance.size):
                error = data.station_variance[s] + data.law_variance[0]
                out.covariance[slot, i] += error * state.shift[s, a] * state.shift[s, b]
            slot += 1


@inlined
def _load_packed(law: Law, tile: Pixels, i: int, order: Order, block: Block) -> tuple[Packed, Packed, Packed]:
    """Fill the scratch with pixels i to i + 7; returns how many cells they have, their unknowns, and 1 where their
    errors are numbers. An absent cell gets an infinite variance."""
    read = load(tile.read_variance_adu2, 0, i)
    here, unknowns, fine = splat(0.0), splat(0.0), splat(1.0)
    for a in range(3):
        unknowns = unknowns + 1.0 * law.free[a]
    for q in range(block.precision.shape[0]):
        variance = load(tile.group_variance_adu2, q, i)
        known = 1.0 / variance
        store(block.precision, q, 0, known)
        fine = where_above(variance, -1.0, fine, 0.0)
        of_group = splat(0.0)
        for at in range(order.group_start[q], order.group_start[q + 1]):
            k = order.cells[at]
            y, c = load(tile.signal_adu, k, i), load(tile.frames, k, i)
            there = where_above(c, 0.0, where_above(math.inf, magnitude(y), splat(1.0), 0.0), splat(0.0))
            share = 1.0 / larger(c, 1.0)
            base = read * tile.read_scale[k] * share + tile.extra_variance_adu2[k]
            store(block.y, k, 0, where_above(there, 0.5, y, 0.0))
            store(block.base, k, 0, where_above(there, 0.5, base, math.inf))
            store(block.shot, k, 0, where_above(there, 0.5, tile.inverse_gain * share, 0.0))
            of_group = of_group + there
        here = here + of_group
        unknowns = unknowns + where_above(known, 0.0, splat(0.0), where_above(of_group, 0.5, splat(1.0), 0.0))
    return here, unknowns, fine


@inlined
def _store_packed(tile: Pixels, block: Block, i: int, out: Fitted) -> None:
    own = load(tile.pixel_law_variance_k2, 0, i)
    for slot in range(6):
        heat_too = own * load(block.heats, slot, 0) + load(block.heats, 6 + slot, 0)
        store(out.covariance, slot, i, load(block.matrix, 9 + slot, 0) + heat_too)


@kernel
def _fit_packed(
    law: Law, tile: Pixels, order: Order, start: F8, leave_out: NDArray[np.bool_], whole: bool, out: Fitted,
    by_bias: F4, left: F4,
) -> None:  # fmt: skip
    """Fit pixels eight at a time; `left` (P,) is above 0 where that is not enough. by_bias is a view (3G, P). Not
    `whole`: predictions of cells are all that is stored."""
    n, pixels = tile.signal_adu.shape
    stations = tile.station_variance_k2.size
    block = new_block(n, tile.group_variance_adu2.shape[0], stations, order)
    for begin in range(0, pixels, LANES):
        i = min(begin, pixels - LANES)  # the last ones are looked at twice
        here, unknowns, fine = _load_packed(law, tile, i, order, block)
        fine = where_above(unknowns, here, splat(0.0), fine)
        own = load(tile.pixel_relative_variance, 0, i)
        p0, p1, p2, fine = descend_packed(
            law, order, block, tile.relative_variance, own, tile.prior_mean, tile.prior_precision, start, i, fine
        )
        own = load(tile.pixel_law_variance_k2, 0, i)
        heat_packed(law, order, block, p0, p1, p2, tile.station_variance_k2)
        fine = outliers_packed(order, block, own, tile.station_variance_k2, fine)
        if whole:
            store(out.parameters, 0, i, p0)
            store(out.parameters, 1, i, p1)
            store(out.parameters, 2, i, p2)
            _store_packed(tile, block, i, out)
            store(out.chi2, 0, i, chi2_packed(order, block, own, stations))
            store(out.dof, 0, i, here - unknowns)
            offsets_packed(
                order, block, own, tile.station_variance_k2, i, out.offset_adu, out.offset_variance_adu2, by_bias
            )
        near = leave_out_packed(
            law, order, block, own, tile.station_variance_k2, leave_out, p0, p1, p2, here - unknowns, i,
            out.held_out_adu, out.held_out_variance_adu2, out.held_out_common_adu2,
        )  # fmt: skip
        store(left, 0, i, where_above(fine, 0.5, where_above(near, 0.5, splat(0.0), CLOSER), 2.0 * CLOSER))


@kernel
def _fit_tile(
    law: Law, tile: Pixels, start: F8, leave_out: NDArray[np.bool_], pixels: NDArray[np.int64], out: Fitted
) -> None:
    n = tile.signal_adu.shape[0]
    data, belief = _scratch(tile)
    groups, stations = tile.group_variance_adu2.shape[0], tile.station_variance_k2.size
    state, other = new_state(n, groups, stations), new_state(n, groups, stations)
    jac, slope = np.empty((3, n)), np.empty(3)
    for i in pixels:
        here = _load(tile, i, data, belief)
        unknowns = unknowns_of(law, data)
        out.dof[i] = here - unknowns
        if here < unknowns:
            out.dq[i] |= _BIT_FAILED | _BIT_FEW
            continue
        state.p[:] = start[:, i]
        status, outliers = descend_robustly(law, data, belief, state, most_outliers(here, unknowns))
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
                value, variance, common = leave_cell_out(law, data, belief, state, other, k, jac, slope)
                out.held_out_adu[k, i] = value
                out.held_out_variance_adu2[k, i] = variance
                out.held_out_common_adu2[k, i] = common


@kernel
def _refit_cells(law: Law, tile: Pixels, leave_out: NDArray[np.bool_], pixels: NDArray[np.int64], out: Fitted) -> None:
    """Leave out the cells of fitted pixels that have no prediction yet."""
    n = tile.signal_adu.shape[0]
    data, belief = _scratch(tile)
    groups, stations = tile.group_variance_adu2.shape[0], tile.station_variance_k2.size
    state, other = new_state(n, groups, stations), new_state(n, groups, stations)
    jac, slope = np.empty((3, n)), np.empty(3)
    for i in pixels:
        here = _load(tile, i, data, belief)
        unknowns = unknowns_of(law, data)
        state.p[:] = out.parameters[:, i]
        for k in range(n):
            state.robust[k] = 1.0
            state.signal[k] = evaluate(law.family, law.x, k, state.p, state.jac)
        if not settle(law, data, belief, state):
            continue
        heat(law, data, state)
        for k in range(n):
            if leave_out[k] and math.isnan(out.held_out_adu[k, i]) and (here > unknowns or data.base[k] == math.inf):
                value, variance, common = leave_cell_out(law, data, belief, state, other, k, jac, slope)
                out.held_out_adu[k, i] = value
                out.held_out_variance_adu2[k, i] = variance
                out.held_out_common_adu2[k, i] = common


@kernel
def _residuals_of_tile(
    law: Law, tile: Pixels, parameters: F8, residual: F4, variance: F4, by_law: F4, common: F4
) -> None:
    n, pixels = tile.signal_adu.shape
    data, belief = _scratch(tile)
    state = new_state(n, tile.group_variance_adu2.shape[0], tile.station_variance_k2.size)
    slope = np.empty(3)
    for i in range(pixels):
        if not math.isfinite(parameters[0, i]):
            continue
        _load(tile, i, data, belief)
        state.p[:] = parameters[:, i]
        for k in range(n):
            state.robust[k] = 1.0
            state.signal[k] = evaluate(law.family, law.x, k, state.p, state.jac)
        if settle(law, data, belief, state):
            heat(law, data, state)
            for k in range(n):
                size, pkk = residual_parts(law, data, state, k, slope)
                if state.weight[k] == 0.0 or pkk < LONELY * state.weight[k]:
                    continue
                residual[k, i] = size / pkk
                variance[k, i] = 1.0 / pkk
                by_law[k, i] = common[k, i] = 0.0
                for s in range(data.station_variance.size):
                    effect = (heat_of_residual(data, state, k, s, slope) / pkk) ** 2
                    by_law[k, i] += effect
                    common[k, i] += data.station_variance[s] * effect


@dataclass(frozen=True)
class Problem:
    """What is fitted: the family, the design (3, n) and its derivative by temperature, which parameters are free (3,)
    and their domain."""

    family: int
    design: F8
    warming: F8
    free: NDArray[np.bool_]
    lower: F8
    upper: F8

    @property
    def law(self) -> Law:
        return Law(self.family, self.design, self.warming, self.free, self.lower, self.upper)


def _pixels(cells: Cells, prior: Prior) -> Pixels:
    n, pixels = cells.signal_adu.shape
    none = np.zeros(pixels, np.float32)
    relative = none if cells.pixel_relative_variance is None else cells.pixel_relative_variance
    law = none if cells.pixel_law_variance_k2 is None else cells.pixel_law_variance_k2
    scale = np.ones(n) if cells.read_scale is None else cells.read_scale
    stations = cells.stations
    if stations is None or not (np.any(law > 0) or np.any(stations.variance_k2 > 0)):
        stations = Stations(np.zeros(n, np.int64), np.zeros(1 if np.any(law > 0) else 0))
    whole = np.ascontiguousarray
    return Pixels(
        whole(cells.signal_adu), whole(cells.count), whole(cells.read_variance_adu2), scale, 1.0 / cells.gain_e_per_adu,
        cells.relative_variance, whole(relative), cells.extra_variance_adu2, cells.group,
        whole(cells.group_variance_adu2), stations.of_cell, stations.variance_k2, whole(law), whole(prior.mean),
        whole(prior.precision),
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
    n, pixels = cells.signal_adu.shape
    if pixels < LANES:
        some = np.minimum(np.arange(LANES), pixels - 1)
        return fit_tile(problem, cells.at(some), prior.at(some), start[:, some], leave_out).first(pixels)
    tile = _pixels(cells, prior)
    out = _nothing(n, cells.group_variance_adu2.shape[0], pixels)
    wanted = np.zeros(n, np.bool_) if leave_out is None else np.asarray(leave_out, np.bool_)
    left = np.empty(pixels, np.float32)
    order = order_of(cells.group, cells.group_variance_adu2.shape[0], tile.station, problem.design)
    start = np.ascontiguousarray(start)
    _fit_packed(problem.law, tile, order, start, wanted, True, out, out.by_bias.reshape(-1, pixels), left)
    careful = np.flatnonzero(left > CLOSER)
    for array in out:
        array[..., careful] = np.nan if array.dtype.kind == "f" else 0
    _fit_tile(problem.law, tile, start, wanted, careful, out)
    if wanted.any():
        closer = _refit_packed(problem, cells, prior, order, wanted, np.flatnonzero(left == CLOSER), out)
        _refit_cells(problem.law, tile, wanted, closer, out)
    return out


def _refit_packed(
    problem: Problem,
    cells: Cells,
    prior: Prior,
    order: Order,
    wanted: NDArray[np.bool_],
    pixels: NDArray[np.int64],
    out: Fitted,
) -> NDArray[np.int64]:
    """Predict cells of these pixels that one step from the fit of all cells cannot, by the fit without them, eight
    pixels at a time; returns the pixels where that is not enough."""
    closer = np.zeros(pixels.size, np.bool_)
    for k in np.flatnonzero(wanted):
        without = np.isnan(out.held_out_adu[k, pixels]) & (out.dof[pixels] > 0) & (cells.count[k, pixels] > 0)
        if not without.any():
            continue
        some = pixels[np.resize(np.flatnonzero(without), max(LANES, int(without.sum())))]
        rest = cells.at(some)
        rest.count[k] = 0
        made = _nothing(problem.design.shape[1], 0, some.size)
        alone = np.arange(wanted.size) == k
        left = np.empty(some.size, np.float32)
        start = np.ascontiguousarray(out.parameters[:, some])
        by_bias = np.empty((0, some.size), np.float32)
        _fit_packed(problem.law, _pixels(rest, prior.at(some)), order, start, alone, False, made, by_bias, left)
        fine = left == 0
        for name in ("held_out_adu", "held_out_variance_adu2", "held_out_common_adu2"):
            getattr(out, name)[k, some[fine]] = getattr(made, name)[k, fine]
        closer[without] |= ~fine[: int(without.sum())]
    return pixels[closer]


def _nothing(n: int, groups: int, pixels: int) -> Fitted:
    nan = np.float32(np.nan)
    return Fitted(
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
        np.full((n, pixels), nan),
        np.full((groups, 3, pixels), nan),
    )


def residuals(problem: Problem, cells: Cells, prior: Prior, parameters: F8) -> tuple[F4, F4, F4, F4]:
    """Deletion residual of each cell [ADU], its variance by noise and bias [ADU²], what an error of 1 K of the pixel's
    own law at each station would add to it [ADU²/K²], and what the errors of the temperatures do [ADU²]; all (n, P),
    NaN where there is none."""
    out = tuple(np.full(cells.signal_adu.shape, np.float32(np.nan)) for _ in range(4))
    _residuals_of_tile(problem.law, _pixels(cells, prior), parameters, *out)
    return out[0], out[1], out[2], out[3]
