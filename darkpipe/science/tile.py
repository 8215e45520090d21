"""Everything step 5 wants of one tile of pixels: the fit, its errors on cells that were left out, and in sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.design import Unit, nearest_master
from darkpipe.science.error_sums import ErrorSums, HeldOut, held_out_errors, in_sample_errors, scaled_errors
from darkpipe.science.fit import Cells, Fitted, Problem, fit_tile
from darkpipe.science.flags import DQ
from darkpipe.science.glow import with_glow
from darkpipe.science.metrics import CellErrors, accumulate
from darkpipe.science.misfit import PRECISE
from darkpipe.science.models.base import move_reference, move_step
from darkpipe.science.noise import middle
from darkpipe.science.population import Population, prior_of, problem_for, with_misfits
from darkpipe.science.residuals import scattered
from darkpipe.science.saturation import Saturation
from darkpipe.science.shape_prior import held_by_prior, parts_of_prior, with_common_error
from darkpipe.science.special import gammainccinv

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

BLOCK = 8192  # pixels whose numbers stay in the cache from one step of a calculation to the next
MISFIT_RATE = 1e-4  # of linear pixels that chi² calls otherwise, at most


@dataclass(frozen=True)
class TileFit:
    """Result of a tile of P pixels and n cells.

    parameters (3, P), covariance (6, P) : quoted at the unit's map reference.
    offset_adu : (2, L, P) the L free levels of a campaign without bias, and their variances; None where there is none.
    held_out, in_sample, baseline : errors of each cell: predicted by the fit of the others; by the fit of all; by the
    nearest master scaled by exposure.
    held_out_error_adu : (n, P) signed error of the held-out predictions, NaN where there is none.
    together : (n, 3) of unflagged pixels well above their errors: how many, and times their number the medians of the
    relative held-out error (prediction - master) and of the 1 sigma of it that all pixels share.
    misfit, scattered : (P,) whether the model does not describe the pixel; and whether its residuals have no order.
    by_bias : (2, 3, P) by how much the parameters, so quoted, move where every bias is 1 ADU higher, and where it is so
    by 1 ADU/K from the map reference's temperature on.
    """

    parameters: F4
    covariance: F4
    chi2: F4
    dof: NDArray[np.int16]
    dq: NDArray[np.uint16]
    offset_adu: F4 | None
    held_out: list[CellErrors]
    in_sample: list[ErrorSums]
    baseline: list[ErrorSums]
    held_out_error_adu: F4
    together: F8
    misfit: NDArray[np.bool_]
    scattered: NDArray[np.bool_]
    by_bias: F4


def fit_unit(
    unit: Unit,
    cells: Cells,
    error_adu: F4,
    temperature_c: F8,
    exposure_s: F8,
    population: Population,
    flagged: NDArray[np.bool_],
    saturation: Saturation,
    leave_out: list[bool],
    free_level: NDArray[np.bool_],
    glow: tuple[F8, F8] | None = None,
) -> TileFit:
    """Fit a tile and predict each of its cells without itself.

    Parameters
    ----------
    cells, error_adu : masters of the unit's n cells and their own errors, (n, P).
    temperature_c, exposure_s : (n,) of the cells, exposures beyond the bias's.
    flagged : (P,) pixels kept apart in the errors. saturation : of these pixels; saturated cells are not fitted, and
    no prediction exceeds its pixel's level.
    leave_out : (n,) which cells the design can do without. free_level : (G,) which groups are levels, not biases.
    glow : smooth glow of the pixels and its 1 sigma [ADU/s], (P,) each, for a model with glow.
    """
    cells = replace(cells, count=cells.count * ~saturation.reached(cells.signal_adu))
    problem = problem_for(unit.model, temperature_c, exposure_s, unit.fit_reference)
    cells = with_misfits(cells, population)
    prior, start = prior_of(problem, population, cells, None if glow is None else glow[0])
    if glow is not None and unit.model.glow_slot is not None:
        prior, start = with_glow(prior, start, unit.model.glow_slot, *glow)
    fitted = fit_tile(problem, cells, prior, start, np.array(leave_out))
    held = parts_of_prior(prior, fitted.covariance)
    fitted.dq[held_by_prior(problem, held)] |= np.uint16(DQ.PRIOR)
    # a parameter that the prior holds costs the cells no degree of freedom
    spared = np.rint(np.nan_to_num(held.sum(axis=0))).astype(np.int16)
    dof = np.where(fitted.dof > 0, fitted.dof + spared, fitted.dof).astype(np.int16)
    whole = with_common_error(prior, fitted.covariance)
    parameters, covariance, by_bias = _quoted(unit, fitted, whole, cells.group, temperature_c)
    levels = np.stack([fitted.offset_adu[free_level], fitted.offset_variance_adu2[free_level]])
    misfit = _misfit(fitted.chi2, dof)
    tile = _Tile(unit, cells, error_adu, temperature_c, exposure_s, flagged, saturation)
    scores = _scores(tile, problem, fitted, free_level, leave_out, misfit)
    without_order = np.zeros_like(misfit)
    without_order[misfit] = scattered(scores.pulls[0], scores.pulls[1], temperature_c, exposure_s)
    return TileFit(
        parameters, covariance, fitted.chi2, dof, fitted.dq, levels if free_level.any() else None,
        scores.held_out, scores.in_sample, scores.baseline, scores.error_adu, scores.together, misfit, without_order,
        by_bias,
    )  # fmt: skip


def _quoted(
    unit: Unit, fitted: Fitted, covariance: F8, group: NDArray[np.int64], temperature_c: F8
) -> tuple[F4, F4, F4]:
    """Parameters, covariance and `by_bias` of `TileFit`; a bias is that of the temperature of its cells."""
    model, old, new = unit.model, unit.fit_reference, unit.map_reference
    of_group = [temperature_c[group == q].mean() - new.temperature_c for q in range(group.max() + 1)]
    basis = np.stack([np.ones(len(of_group)), np.array(of_group)])
    pixels = covariance.shape[1]
    out = tuple(np.empty((*rows, pixels), np.float32) for rows in ((3,), (6,), (2, 3)))
    for first in range(0, pixels, BLOCK):
        some = np.s_[..., first : first + BLOCK]
        own = fitted.parameters[some]
        out[0][some], out[1][some] = move_reference(model, own, covariance[some], old, new)
        both = np.einsum("bq,qap->bap", basis, fitted.by_bias[some].astype(np.float64))
        out[2][some] = move_step(model, own, both, old, new)
    return out[0], out[1], out[2]


class _Tile(NamedTuple):
    """What predictions are held against; as in `fit_unit`."""

    unit: Unit
    cells: Cells
    error_adu: F4
    temperature_c: F8
    exposure_s: F8
    flagged: NDArray[np.bool_]
    saturation: Saturation


class _Scores(NamedTuple):
    """Errors of each cell as in `TileFit`, and of the pixels that the model does not describe the held-out error and
    the prediction, both over the error of their difference: pulls (2, n, pixels)."""

    held_out: list[CellErrors]
    in_sample: list[ErrorSums]
    baseline: list[ErrorSums]
    error_adu: F4
    together: F8
    pulls: F8


def _scores(
    tile: _Tile,
    problem: Problem,
    fitted: Fitted,
    free_level: NDArray[np.bool_],
    leave_out: Sequence[bool],
    misfit: NDArray[np.bool_],
) -> _Scores:
    """Hold every cell against the fit of all, that of the others, and the nearest other master."""
    cells, flagged = tile.cells, tile.flagged
    n, pixels = tile.error_adu.shape
    errors = np.empty(tile.error_adu.shape, np.float32)
    levels = np.where(free_level[:, None], fitted.offset_adu, np.float32(0))
    limits = tile.saturation.of(), tile.saturation.without_one()
    unlike, scratch = np.flatnonzero(misfit), HeldOut.blank(pixels)
    found = _Scores(
        [],
        in_sample_errors(problem.law, fitted.parameters, cells.group, levels, cells.signal_adu, limits[0], flagged),
        [],
        errors,
        np.zeros((n, 3)),
        np.full((2, n, unlike.size), np.nan),
    )
    for k in range(n):
        if not leave_out[k]:
            errors[k] = np.nan
            found.held_out.append(CellErrors.empty())
            found.baseline.append(_baseline(tile, k, None))
            continue
        level = levels[cells.group[k]]
        held = held_out_errors(cells, k, fitted, limits, level, flagged, PRECISE, errors[k], scratch)
        found.held_out.append(
            accumulate(
                held.prediction, held.total, cells.signal_adu[k], tile.error_adu[k], flagged, total_error=held.total
            )
        )
        found.together[k] = _together(held.ratios)
        found.pulls[:, k] = errors[k, unlike] / held.total[unlike], held.prediction[unlike] / held.total[unlike]
        found.baseline.append(_baseline(tile, k, held.prediction if held.known else None))
    return found


def _together(ratios: F4) -> F8:
    """A row of `TileFit.together`."""
    number = ratios.shape[1]
    if not number:
        return np.zeros(3)
    return np.asarray(number * np.array([1.0, *(middle(row) for row in ratios)]))


def _misfit(chi2: F4, dof: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Where chi² is 6 sigma of its own scatter above its degrees of freedom; of few, where that is no longer rare, as
    far as one linear pixel in `MISFIT_RATE` goes."""
    which = np.maximum(dof, 1)
    few = np.flatnonzero(np.bincount(which))
    limit = np.full(int(few.max(initial=0)) + 1, np.nan)
    rare = 2.0 * gammainccinv(0.5 * few, MISFIT_RATE)
    limit[few] = np.maximum(few + 6.0 * np.sqrt(2.0 * few), rare)
    return np.asarray((dof > 0) & (chi2 > limit[which]))


def _baseline(tile: _Tile, k: int, prediction: F4 | None) -> ErrorSums:
    """Errors of the nearest other master, scaled by exposure, over the pixels the model could predict (all where there
    are none); nothing where there is no other, or no bias: a dark on its bias level cannot be scaled."""
    cells, exposure_s = tile.cells, tile.exposure_s
    other = nearest_master(k, tile.temperature_c, exposure_s)
    if other is None or np.isinf(cells.group_variance_adu2[cells.group[k]]).all():
        return ErrorSums.empty()
    factor = exposure_s[k] / exposure_s[other]
    return scaled_errors(cells.signal_adu[other], factor, cells.signal_adu[k], prediction, tile.flagged)


def bits_of(fit: TileFit) -> NDArray[np.uint16]:
    """DQ bits of a tile's fit, with those that its residuals tell: where the model does not describe a pixel it is
    UNSTABLE if they have no order in temperature and exposure, else NONLINEAR."""
    bits = fit.dq.copy()
    bits[fit.misfit & fit.scattered] |= np.uint16(DQ.UNSTABLE)
    bits[fit.misfit & ~fit.scattered] |= np.uint16(DQ.NONLINEAR)
    return bits
