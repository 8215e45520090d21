"""The loops over the pixels of a tile: eight at a time, and one by one what is left.

`darkpipe.science.fit` says what goes in and comes out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import FAILED, Belief, Data, Law, Pixels, State, group_share, new_state, settle
from darkpipe.science.fit_packed import Block, Order, chi2_packed, descend_packed, heat_packed, new_block
from darkpipe.science.fit_residuals import (
    LONELY,
    descend_robustly,
    heat,
    heat_of_residual,
    offset_variance,
    parameter_by_bias,
    residual_parts,
)
from darkpipe.science.fit_single import first_steps, load_sixteen, new_rough, widen
from darkpipe.science.fitted import Fitted
from darkpipe.science.flags import DQ
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.left_out import leave_cell_out, most_outliers, unknowns_of
from darkpipe.science.left_out_packed import cells_packed, offsets_packed, worst_packed
from darkpipe.science.models.families import evaluate
from darkpipe.science.packed import LANES, SINGLES, load, load_single, row, splat, store, where_above

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

_BIT_FAILED = int(DQ.FIT_FAILED)
_BIT_BOUND = int(DQ.AT_BOUND)
_BIT_OUTLIER = int(DQ.OUTLIER)
_BIT_FEW = int(DQ.FEW_SAMPLES)

DONE, CLOSER, CAREFUL, UNLIKE = 0.0, 1.0, 2.0, 3.0
"""What `fit_packed` leaves to do of a pixel: nothing; cells that are to be left out with a closer look; all of it; from
UNLIKE on, it was fitted, and its cell of this number less UNLIKE disagrees most, beyond the noise."""


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
def _store_packed(tile: Pixels, block: Block, i: int, out: Fitted) -> None:
    own = load(tile.pixel_law_variance_k2, 0, i)
    for slot in range(6):
        heat_too = own * row(block.heats, slot) + row(block.heats, 6 + slot)
        store(out.covariance, slot, i, row(block.matrix, 9 + slot) + heat_too)


@kernel
def fit_packed(
    law: Law, tile: Pixels, order: Order, start: F8, leave_out: NDArray[np.bool_], whole: bool, out: Fitted,
    by_bias: F4, left: F4,
) -> None:  # fmt: skip
    """Fit pixels eight at a time; `left` (P,) says what that leaves to do. by_bias is a view (3G, P). Not `whole`:
    predictions of cells and degrees of freedom are all that is stored."""
    n, pixels = tile.signal_adu.shape
    stations = tile.station_variance_k2.size
    groups = tile.group_variance_adu2.shape[0]
    some_left_out = leave_out.any()
    block, rough = new_block(n, groups, stations, order), new_rough(n, groups, order)
    for begin in range(0, pixels, SINGLES):
        first = min(begin, pixels - SINGLES)  # the last ones are looked at twice
        load_sixteen(law, tile, first, order, rough)
        common = load_single(tile.pixel_relative_variance, 0, first)
        first_steps(
            law, order, rough, tile.relative_variance, common, tile.prior_mean, tile.prior_precision, start, first
        )
        for half in range(0, SINGLES, LANES):
            i = first + half
            here, unknowns, fine = widen(tile, first, rough, half, block)
            fine = where_above(unknowns, here, splat(0.0), fine)
            own = load(tile.pixel_relative_variance, 0, i)
            p0, p1, p2, fine = descend_packed(
                law, order, block, tile.relative_variance, own, tile.prior_mean, tile.prior_precision, i,
                load(rough.p, 0, half), load(rough.p, 1, half), load(rough.p, 2, half), fine,
            )  # fmt: skip
            own = load(tile.pixel_law_variance_k2, 0, i)
            heat_packed(law, order, block, p0, p1, p2, tile.station_variance_k2)
            if whole:
                store(out.parameters, 0, i, p0)
                store(out.parameters, 1, i, p1)
                store(out.parameters, 2, i, p2)
                _store_packed(tile, block, i, out)
                store(out.chi2, 0, i, chi2_packed(order, block, own, stations))
                offsets_packed(
                    order, block, own, tile.station_variance_k2, i, out.offset_adu, out.offset_variance_adu2, by_bias
                )
            store(out.dof, 0, i, here - unknowns)
            if some_left_out:
                near, worst = cells_packed(
                    law, order, block, own, tile.station_variance_k2, leave_out, p0, p1, p2, here - unknowns, i,
                    out.held_out_adu, out.held_out_variance_adu2, out.held_out_common_adu2,
                )  # fmt: skip
            else:
                near, worst = splat(1.0), worst_packed(order, block, own, tile.station_variance_k2)
            todo = where_above(worst, -0.5, UNLIKE + worst, where_above(near, 0.5, splat(DONE), CLOSER))
            store(left, 0, i, where_above(fine, 0.5, todo, CAREFUL))


@inlined
def _stand_at(law: Law, tile: Pixels, data: Data, belief: Belief, state: State, parameters: F8, i: int) -> bool:
    """Put the state where a fit has ended; False where that is singular."""
    for a in range(3):
        state.p[a] = parameters[a, i]
    for k in range(data.y.size):
        state.robust[k] = 1.0
        state.signal[k] = evaluate(law.family, law.x, k, state.p, state.jac)
    if not settle(law, data, belief, state):
        return False
    heat(law, data, state)
    return True


@kernel
def fit_singly(
    law: Law, tile: Pixels, start: F8, leave_out: NDArray[np.bool_], pixels: NDArray[np.int64], known: bool, out: Fitted
) -> None:
    """Fit pixels one by one, with damping, and leave out the cells that have no prediction yet. `known`: they were
    fitted before, and had no outlier; only the cells are missing."""
    n = tile.signal_adu.shape[0]
    data, belief = _scratch(tile)
    groups, stations = tile.group_variance_adu2.shape[0], tile.station_variance_k2.size
    state, other = new_state(n, groups, stations), new_state(n, groups, stations)
    jac, slope = np.empty((3, n)), np.empty(3)
    for i in pixels:
        here = _load(tile, i, data, belief)
        unknowns = unknowns_of(law, data)
        if known:
            if not _stand_at(law, tile, data, belief, state, out.parameters, i):
                continue
        else:
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
            if leave_out[k] and (here > unknowns or data.base[k] == math.inf) and math.isnan(out.held_out_adu[k, i]):
                value, variance, common = leave_cell_out(law, data, belief, state, other, k, jac, slope)
                out.held_out_adu[k, i] = value
                out.held_out_variance_adu2[k, i] = variance
                out.held_out_common_adu2[k, i] = common


@kernel
def residuals_of_tile(
    law: Law, tile: Pixels, parameters: F8, residual: F4, variance: F4, by_law: F4, common: F4
) -> None:
    """Deletion residuals of fitted pixels, into arrays (n, P) that hold NaN; see `fit.residuals`."""
    n, pixels = tile.signal_adu.shape
    data, belief = _scratch(tile)
    state = new_state(n, tile.group_variance_adu2.shape[0], tile.station_variance_k2.size)
    slope = np.empty(3)
    for i in range(pixels):
        if not math.isfinite(parameters[0, i]):
            continue
        _load(tile, i, data, belief)
        if _stand_at(law, tile, data, belief, state, parameters, i):
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
