"""What a planned campaign will tell: the errors of its darks, before a frame of it is taken.

Masters without noise of a representative pixel are fitted as real ones are (`fit_tile`: the noise model, the errors
that cells share, the prior of the shape). What comes out beside the parameters is the covariance that such a campaign
leaves; carried to any temperature and exposure it is the error of a dark there. No error has a formula of its own here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.bias import evaluate as evaluate_bias
from darkpipe.science.bias import fit_bias_line
from darkpipe.science.design import Unit
from darkpipe.science.drift import Drift
from darkpipe.science.fit import Cells, Prior, Problem, Stations, fit_tile
from darkpipe.science.models import EXP_2D
from darkpipe.science.models.base import Model, Reference, design_slope, move_reference
from darkpipe.science.models.families import EXPONENTIAL, synthesize
from darkpipe.science.population import Population, prior_and_start, prior_of, problem_for, with_misfits
from darkpipe.science.shape_nodes import TYPICAL_SHAPE, TYPICAL_SHARE
from darkpipe.science.shape_prior import Node, ShapePrior
from darkpipe.science.signal_level import measure, shape_at, shape_slots

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MANY_PIXELS = 1000  # of the kind's node: their mean shape is known


@dataclass(frozen=True)
class PixelKind:
    """A representative pixel: dark current [ADU/s] and its relative growth [1/K] at a temperature [°C].

    scatter : covariance of the shapes of such pixels, its upper half by rows: (gamma, B) of an exponential, or the
    share of generation; None: the typical one. population : what the formula misses of them, beyond noise.
    """

    name: str
    current_adu_s: float
    growth_per_k: float
    temperature_c: float
    scatter: tuple[float, ...] | None = None
    population: Population = field(default_factory=Population)


@dataclass(frozen=True)
class PlannedCells:
    """The cells (n,) of a planned campaign: temperature [°C], exposure [s] and darks of each; the bias (or free level)
    that each hangs on, and of how many frames each of these G biases is (0: none, the level is fitted); and the
    temperatures with their errors."""

    temperature_c: F8
    exposure_s: F8
    frames: NDArray[np.int64]
    group: NDArray[np.int64]
    bias_frames: NDArray[np.int64]
    stations: Stations


@dataclass(frozen=True)
class CameraNoise:
    """Read noise [ADU] and gain [e-/ADU], the signal at which a pixel is full [ADU], drift of the pedestal from frame
    to frame [ADU], and the scatter of the sensor's temperature from frame to frame [K]."""

    read_noise_adu: float
    gain_e_per_adu: float
    saturation_adu: float = math.inf
    drift_adu: float = 0.0
    jitter_k: float = 0.0

    def of_frame(self, signal_adu: F8) -> F8:
        """1 sigma of one frame of this dark signal, by read-out and shot noise [ADU]."""
        return np.asarray(np.sqrt(self.read_noise_adu**2 + np.maximum(signal_adu, 0.0) / self.gain_e_per_adu))


class Predicted(NamedTuple):
    """Dark signal of a pixel at m points, its predicted 1 sigma, and what all pixels share of that, (m,) each [ADU].
    NaN where the pixel cannot be fitted."""

    signal_adu: F8
    error_adu: F8
    shared_adu: F8


def true_parameters(model: Model, kind: PixelKind, reference: Reference) -> F8:
    """(3,) parameters by which a model has the current and the growth of a pixel, at the reference of a fit.

    A linear sensor: gamma is 1. Two currents are the solution of two equations; one of them is negative where the
    growth is none that generation and diffusion can have together.
    """
    if model.family == EXPONENTIAL:
        quoted = np.array([[kind.current_adu_s], [1.0], [kind.growth_per_k]])
        moved = move_reference(EXP_2D, quoted, np.zeros((6, 1)), Reference(kind.temperature_c), reference)[0][:, 0]
        return np.where(model.free, moved, 0.0)
    at = (np.array([kind.temperature_c]), np.array([1.0]), reference)
    both = np.stack([model.design(*at)[:2, 0], design_slope(model, *at)[:2, 0]])
    currents = np.linalg.solve(both, kind.current_adu_s * np.array([1.0, kind.growth_per_k]))
    return np.array([*currents, 0.0])


def predict(
    unit: Unit,
    planned: PlannedCells,
    kind: PixelKind,
    noise: CameraNoise,
    temperature_c: F8,
    exposure_s: F8,
    other: Unit | None = None,
    outside: Bools | None = None,
) -> Predicted:
    """Errors of the darks of a pixel at m points.

    Parameters
    ----------
    unit : the model, as it would be fitted to these cells. temperature_c, exposure_s : (m,) where darks are wanted.
    other, outside : another law fitted to the same cells, and the points (m,) beyond them, where half of its
        difference is part of the error, as in a synthetic dark.
    """
    truth = true_parameters(unit.model, kind, unit.fit_reference)
    problem = problem_for(unit.model, planned.temperature_c, planned.exposure_s, unit.fit_reference)
    cells = masters_without_noise(problem, truth, planned, kind, noise)
    points = unit.model.design(temperature_c, exposure_s, unit.fit_reference)
    signal, total = _carried(problem, points, *_fitted(problem, cells, kind, truth))
    alone = replace(kind, population=replace(kind.population, common_law_k=0.0))
    own = _carried(problem, points, *_fitted(problem, _own_errors(planned, noise, cells), alone, truth))[1]
    if other is not None and outside is not None and outside.any():
        another = _by_another_law(other, planned, cells, kind, temperature_c, exposure_s)
        with np.errstate(invalid="ignore"):
            law = np.where(outside & np.isfinite(another), 0.25 * (another - signal) ** 2, 0.0)
        total, own = total + law, own + law
    shared = np.sqrt(np.maximum(total - own, 0.0))
    return Predicted(signal, np.sqrt(total), shared)


def masters_without_noise(
    problem: Problem, truth: F8, planned: PlannedCells, kind: PixelKind, noise: CameraNoise
) -> Cells:
    """The masters of one pixel as its parameters (3,) have them, with the errors that they would have. Cells in which
    it is saturated are absent."""
    signal, _ = _carried(problem, problem.design, truth[:, None], np.zeros((6, 1)))
    drift = Drift(noise.drift_adu)
    jitter = (kind.growth_per_k * noise.jitter_k) ** 2 / planned.frames
    return Cells(
        signal_adu=signal[:, None].astype(np.float32),
        count=np.where(signal < noise.saturation_adu, planned.frames, 0)[:, None].astype(np.uint16),
        read_variance_adu2=np.full(1, noise.read_noise_adu**2, np.float32),
        gain_e_per_adu=noise.gain_e_per_adu,
        relative_variance=jitter,
        extra_variance_adu2=np.array([drift.level_variance(int(n)) for n in planned.frames]),
        group=planned.group,
        group_variance_adu2=_bias_variance(planned, noise, drift),
        stations=planned.stations,
    )


def _bias_variance(planned: PlannedCells, noise: CameraNoise, drift: Drift) -> NDArray[np.float32]:
    """(G, 1) variance of the master biases; inf where there is none."""
    variance = [
        noise.read_noise_adu**2 / n + drift.level_variance(int(n)) if n else np.inf for n in planned.bias_frames
    ]
    return np.array(variance, np.float32)[:, None]


def _own_errors(planned: PlannedCells, noise: CameraNoise, cells: Cells) -> Cells:
    """The same masters without the errors that all pixels share: drift, and temperatures."""
    quiet = replace(noise, drift_adu=0.0, jitter_k=0.0)
    zero = np.zeros_like(planned.exposure_s)
    stations = Stations(planned.stations.of_cell, np.zeros_like(planned.stations.variance_k2))
    return replace(
        cells, relative_variance=zero, extra_variance_adu2=zero, stations=stations,
        group_variance_adu2=_bias_variance(planned, quiet, Drift()),
    )  # fmt: skip


def _fitted(problem: Problem, cells: Cells, kind: PixelKind, truth: F8) -> tuple[F8, F8]:
    """Parameters (3, 1) and covariance (6, 1) of the fit; NaN where it failed."""
    population = replace(kind.population, shape_prior=None)
    slots = shape_slots(problem)
    if slots:
        theta = truth[list(slots)] if problem.family == EXPONENTIAL else truth[:1] / truth[:2].sum()
        level = float(measure(shape_at(problem, theta), cells).level[0])
        if level > 0:
            scatter = kind.scatter or _typical_scatter(problem)
            node = Node(level, MANY_PIXELS, tuple(theta.tolist()), scatter, (0.0,) * len(scatter))
            population = replace(population, shape_prior=ShapePrior(node.mean, (node,)))
    if problem.family == EXPONENTIAL:
        population = replace(population, gamma=1.0, b_per_k=kind.growth_per_k)
    known = with_misfits(cells, population)
    prior, _ = prior_of(problem, population, known)
    fitted = fit_tile(problem, known, prior, truth[:, None].copy())
    return fitted.parameters, fitted.covariance


def _typical_scatter(problem: Problem) -> tuple[float, ...]:
    """Upper half of the covariance of shapes of pixels alike, where nothing is known of the sensor."""
    typical = TYPICAL_SHAPE[problem.free[1:]] if problem.family == EXPONENTIAL else TYPICAL_SHARE
    return tuple(np.diag(typical**2)[np.triu_indices(typical.size)].tolist())


def _carried(problem: Problem, points: F8, parameters: F8, covariance: F8) -> tuple[F8, F8]:
    """Signal and variance (m,) at design columns (3, m)."""
    p, c = parameters.astype(np.float32), covariance.astype(np.float32)
    signal, variance = np.empty((2, points.shape[1], 1), np.float32)
    for k in range(points.shape[1]):
        synthesize(problem.family, np.ascontiguousarray(points[:, k : k + 1]), p, c, signal[k], variance[k])
    return signal[:, 0].astype(np.float64), variance[:, 0].astype(np.float64)


def _by_another_law(
    other: Unit, planned: PlannedCells, cells: Cells, kind: PixelKind, temperature_c: F8, exposure_s: F8
) -> F8:
    """(m,) what another law says at the points, fitted to the same masters."""
    problem = problem_for(other.model, planned.temperature_c, planned.exposure_s, other.fit_reference)
    start = true_parameters(other.model, kind, other.fit_reference)
    population = Population(1.0, kind.growth_per_k)
    prior: Prior = prior_and_start(problem, population, cells.free_level)[0]
    fitted = fit_tile(problem, cells, prior, start[:, None].copy())
    points = other.model.design(temperature_c, exposure_s, other.fit_reference)
    return _carried(problem, points, fitted.parameters, fitted.covariance)[0]


def bias_error(planned: PlannedCells, noise: CameraNoise, temperature_c: F8) -> F8:
    """(m,) 1 sigma of the bias that a dark with bias gets added at these temperatures [ADU]; NaN without biases."""
    if (planned.bias_frames == 0).any():
        return np.full(temperature_c.shape, np.nan)
    first = [int(np.flatnonzero(planned.group == q)[0]) for q in range(planned.bias_frames.size)]
    at = planned.temperature_c[first]
    error = np.sqrt(_bias_variance(planned, noise, Drift(noise.drift_adu)))
    if np.ptp(at) < 1.0:
        return np.full(temperature_c.shape, float(error.mean()))
    line = fit_bias_line(np.zeros_like(error), error, at, float(at.mean()))
    points = (evaluate_bias(line.b0, line.b1, line.covariance, float(t), line.t_ref_c)[1][0] for t in temperature_c)
    return np.array([float(p) for p in points])


def figure_of_merit(predicted: Predicted, noise: CameraNoise, wanted: Bools | Sequence[bool]) -> float:
    """Rms, over the wanted points, of the error of the dark over the noise of one frame there: what a dark adds to the
    frame that it is subtracted from."""
    chosen = np.asarray(wanted, np.bool_)
    ratio = (predicted.error_adu / noise.of_frame(predicted.signal_adu))[chosen]
    return float(np.sqrt(np.mean(ratio**2))) if ratio.size and np.isfinite(ratio).all() else math.nan
