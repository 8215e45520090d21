"""Everything step 5 wants of one tile of pixels: the fit, its errors on cells that were left out, and in sample."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.design import Unit, nearest_master
from darkpipe.science.fit import Cells, fit_tile
from darkpipe.science.flags import DQ
from darkpipe.science.glow import with_glow
from darkpipe.science.metrics import CellErrors, accumulate
from darkpipe.science.models.base import move_reference
from darkpipe.science.models.families import synthesize
from darkpipe.science.population import Population, prior_and_start, problem_for, with_relative_error
from darkpipe.science.saturation import Saturation

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]


@dataclass(frozen=True)
class TileFit:
    """Result of a tile of P pixels and n cells.

    parameters (3, P), covariance (6, P) : quoted at the unit's map reference.
    offset_adu : (2, L, P) the L free levels of a campaign without bias, and their variances; None where there is none.
    held_out, in_sample, baseline : errors of each cell: predicted by the fit of the others; by the fit of all; by the
    nearest master scaled by exposure.
    held_out_error_adu : (n, P) signed error of the held-out predictions, NaN where there is none.
    """

    parameters: F4
    covariance: F4
    chi2: F4
    dof: NDArray[np.int16]
    dq: NDArray[np.uint16]
    offset_adu: F4 | None
    held_out: list[CellErrors]
    in_sample: list[CellErrors]
    baseline: list[CellErrors]
    held_out_error_adu: F4


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
    cells = replace(cells, count=np.where(saturation.reached(cells.signal_adu), 0, cells.count).astype(np.uint16))
    problem = problem_for(unit.model, temperature_c, exposure_s, unit.fit_reference)
    cells = with_relative_error(cells, population.relative_error)
    prior, start = prior_and_start(problem, population, cells.free_level)
    if glow is not None and unit.model.glow_slot is not None:
        prior, start = with_glow(prior, start, unit.model.glow_slot, *glow)
    fitted = fit_tile(problem, cells, prior, start, np.array(leave_out))
    moved = move_reference(unit.model, fitted.parameters, fitted.covariance, unit.fit_reference, unit.map_reference)
    parameters, covariance = (array.astype(np.float32) for array in moved)
    levels = np.stack([fitted.offset_adu[free_level], fitted.offset_variance_adu2[free_level]])
    offsets = [fitted.offset_adu[q] if free_level[q] else None for q in cells.group]
    own = (fitted.parameters.astype(np.float32), fitted.covariance.astype(np.float32))
    held, inside, base = [], [], []
    errors = np.full(error_adu.shape, np.nan, np.float32)
    for k in range(error_adu.shape[0]):
        reference = cells.signal_adu[k]
        value = np.minimum(_in_sample(unit, problem.design[:, k], *own, offsets[k]), saturation.of())
        inside.append(accumulate(value, np.float32(0), reference, error_adu[k], flagged))
        prediction = np.full_like(reference, np.nan)
        if leave_out[k]:
            others = np.where(cells.count[k] > 0, saturation.of(), saturation.without_one())
            prediction = np.minimum(fitted.held_out_adu[k], others)
            total = _total_error(cells, k, prediction, fitted.held_out_variance_adu2[k], offsets[k])
            held.append(accumulate(prediction, np.float32(0), reference, error_adu[k], flagged, total_error=total))
            errors[k] = prediction - reference
        else:
            held.append(CellErrors.empty())
        base.append(_baseline(k, cells, error_adu, reference, prediction, temperature_c, exposure_s, flagged))
    kept = levels if free_level.any() else None
    return TileFit(parameters, covariance, fitted.chi2, fitted.dof, fitted.dq, kept, held, inside, base, errors)


def _in_sample(unit: Unit, design: F8, parameters: F4, covariance: F4, offset: F4 | None) -> F4:
    value = np.empty(parameters.shape[1], np.float32)
    column = np.ascontiguousarray(design[:, None])
    synthesize(unit.model.family, column, parameters, covariance, value, np.empty_like(value))
    return value if offset is None else np.asarray(value + offset, np.float32)


def _total_error(cells: Cells, k: int, prediction: F4, variance: F4, offset: F4 | None) -> F4:
    """1 sigma of (master - prediction): that of the prediction with the shared bias error, and the master's noise."""
    signal = prediction if offset is None else prediction - offset
    frames = np.maximum(cells.count[k], 1)
    with np.errstate(invalid="ignore"):
        noise = (cells.read_variance_adu2 + np.maximum(signal, 0) / np.float32(cells.gain_e_per_adu)) / frames
        noise += np.float32(cells.relative_variance[k]) * signal**2 + np.float32(cells.extra_variance_adu2[k])
        return np.asarray(np.sqrt(variance + noise), np.float32)


def _baseline(
    k: int,
    cells: Cells,
    error_adu: F4,
    reference: F4,
    prediction: F4,
    temperature_c: F8,
    exposure_s: F8,
    flagged: NDArray[np.bool_],
) -> CellErrors:
    """Errors of the nearest other master, scaled by exposure, over the pixels the model could predict; nothing where
    there is no other, or no bias: a dark on its bias level cannot be scaled."""
    other = nearest_master(k, temperature_c, exposure_s)
    if other is None or np.isinf(cells.group_variance_adu2[cells.group[k]]).all():
        return CellErrors.empty()
    scaled = cells.signal_adu[other] * np.float32(exposure_s[k] / exposure_s[other])
    scaled = np.where(np.isfinite(prediction) | ~np.isfinite(prediction).any(), scaled, np.nan).astype(np.float32)
    return accumulate(
        scaled, error_adu[other] * np.float32(exposure_s[k] / exposure_s[other]), reference, error_adu[k], flagged
    )


def bits_of(fit: TileFit) -> NDArray[np.uint16]:
    """DQ bits of a tile's fit, with those that its chi² tells: NONLINEAR where the model does not describe a pixel."""
    bits = fit.dq.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        reduced = fit.chi2 / fit.dof
        # chi² of n degrees of freedom: 6 sigma of its own scatter above expectation
        limit = 1.0 + 6.0 * np.sqrt(2.0 / np.maximum(fit.dof, 1))
    bits[(fit.dof > 0) & (reduced > limit)] |= np.uint16(DQ.NONLINEAR)
    return bits
