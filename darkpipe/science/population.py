"""What all pixels of a sensor tell about one: the typical shape of the dark signal, and the multiplicative error.

Estimated once a model from a sample of pixels, then used by every tile as start and prior. What pixels of one signal
level tell about the shape of a faint one stands in `shape_prior`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.fit import Cells, Fitted, Prior, Problem, Stations, fit_tile
from darkpipe.science.misfit import Misfit, brightest_signal, find_misfits, signal_to_noise
from darkpipe.science.models.base import Model, Reference, design_slope
from darkpipe.science.models.families import EXPONENTIAL, LINEAR
from darkpipe.science.shape_nodes import estimate_shape_prior
from darkpipe.science.shape_prior import ShapePrior, prior_by_level

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

TYPICAL_GAMMA, TYPICAL_B = 1.0, 0.11  # a linear silicon sensor near 0 °C: where the search for the population starts
WIDE = (1.0, 0.1)  # 1 sigma of the weakest prior on (gamma, B): it only keeps pixels without signal determined
NEAR_LINEAR = 0.1  # 1 sigma of gamma where the level is free
WELL_MEASURED = 20.0  # signal-to-noise ratio of pixels that define the population's shape
FEWEST = 200
MOST = 6000


@dataclass(frozen=True)
class Population:
    """Shape of the population, and what the formula misses of it.

    gamma, b_per_k : medians of well measured pixels (or the typical values).
    misfits : beyond noise, by signal, in rising order; a formula that describes most pixels may miss the hottest ones.
    common_law_k : what all pixels together are off at a station, beyond the error of its thermometer [K].
    shape_prior : shapes by signal level; None: one wide prior for all.
    """

    gamma: float = TYPICAL_GAMMA
    b_per_k: float = TYPICAL_B
    misfits: tuple[Misfit, ...] = ()
    common_law_k: float = 0.0
    shape_prior: ShapePrior | None = None

    @property
    def relative_error(self) -> float:
        """Multiplicative error of a typical well measured pixel."""
        return float(np.median([m.relative for m in self.misfits])) if self.misfits else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, six digits."""
        return {
            "gamma": _six(self.gamma),
            "b_per_k": _six(self.b_per_k),
            "relative_error": _six(self.relative_error),
            "misfits": [{name: _six(value) for name, value in m._asdict().items()} for m in self.misfits],
            "common_law_k": _six(self.common_law_k),
            "shape_prior": None if self.shape_prior is None else _rounded(self.shape_prior.to_dict()),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Population:
        """What `to_dict` made; KeyError, TypeError or ValueError where it is not that."""
        misfits = tuple(Misfit(*(float(m[name]) for name in Misfit._fields)) for m in data["misfits"])
        shapes = data["shape_prior"]
        shape_prior = None if shapes is None else ShapePrior.from_dict(shapes)
        return cls(float(data["gamma"]), float(data["b_per_k"]), misfits, float(data["common_law_k"]), shape_prior)

    def misfit_at(self, signal_adu: ArrayLike) -> tuple[F4, F4]:
        """Multiplicative error and error of the law [K] of pixels by the signal in their brightest cell (P,)."""
        signal = np.asarray(signal_adu, np.float64)
        if not self.misfits:
            return np.zeros(signal.shape, np.float32), np.zeros(signal.shape, np.float32)
        at = np.log([m.signal_adu for m in self.misfits])
        where = np.log(np.maximum(signal, 1.0))
        relative = np.interp(where, at, [m.relative for m in self.misfits])
        law = np.interp(where, at, [m.law_k for m in self.misfits])
        return relative.astype(np.float32), law.astype(np.float32)


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(data: Any) -> Any:
    """Plain data with six digits of every number."""
    if isinstance(data, dict):
        return {k: _rounded(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_rounded(v) for v in data]
    return _six(data) if isinstance(data, float) else data


def problem_for(model: Model, temperature_c: F8, exposure_s: F8, reference: Reference) -> Problem:
    """The fit problem of a model for these cells (n,)."""
    return Problem(
        model.family,
        np.ascontiguousarray(model.design(temperature_c, exposure_s, reference)),
        np.ascontiguousarray(design_slope(model, temperature_c, exposure_s, reference)),
        model.free,
        np.array(model.lower),
        np.array(model.upper),
    )


def prior_and_start(problem: Problem, population: Population, free_level: NDArray[np.bool_]) -> tuple[Prior, F8]:
    """The weak prior that keeps every pixel determined, and start values, both (3 or 6, P).

    Where the level is free as well (`free_level`, (P,)), a curvature in exposure and the level are hard to tell apart:
    gamma is then held near that of the population, which is that of a linear sensor unless bright pixels say otherwise.
    """
    pixels = free_level.size
    mean = np.zeros((3, pixels))
    precision = np.zeros((6, pixels))
    if problem.family != LINEAR:
        mean[2] = population.b_per_k if problem.free[2] else 0.0
        precision[5] = 1.0 / WIDE[1] ** 2
    if problem.family == EXPONENTIAL:
        mean[1] = population.gamma if problem.free[1] else 0.0
        precision[3] = np.where(free_level, 1.0 / NEAR_LINEAR**2, 1.0 / WIDE[0] ** 2)
    return Prior(mean, precision), mean.copy()


def with_misfits(cells: Cells, population: Population) -> Cells:
    """The same cells with what the population's formula misses of them."""
    relative, law = population.misfit_at(brightest_signal(cells))
    stations = cells.stations
    if stations is not None and population.common_law_k > 0:
        stations = Stations(stations.of_cell, stations.variance_k2 + population.common_law_k**2)
    return replace(
        cells, pixel_relative_variance=relative**2, pixel_law_variance_k2=law**2, stations=stations
    )  # fmt: skip


def prior_of(problem: Problem, population: Population, cells: Cells, glow_adu_s: F8 | None = None) -> tuple[Prior, F8]:
    """Prior and start values of each pixel (3 or 6, P): the weak one, and that of its level if known.

    glow_adu_s : (P,) smooth glow of the pixels, for a model with glow: their level is that of the dark current alone.
    """
    weakest, start = prior_and_start(problem, population, cells.free_level)
    if population.shape_prior is None:
        return weakest, start
    if glow_adu_s is not None and problem.family == LINEAR:
        glow = problem.design[2][:, None] * glow_adu_s
        cells = replace(cells, signal_adu=(cells.signal_adu - glow).astype(np.float32))
    return prior_by_level(_dark_current(problem), cells, population.shape_prior, weakest)


def _dark_current(problem: Problem) -> Problem:
    """The problem without its glow term, if it has one: the two currents, whose ratio is the shape."""
    if problem.family == LINEAR and problem.free.all():
        return replace(problem, free=np.array([True, True, False]))
    return problem


def with_shape_prior(problem: Problem, cells: Cells, population: Population) -> Population:
    """The population with its shapes by signal level, from a sample of pixels (n, P) of all levels."""
    if problem.family == EXPONENTIAL:
        start = [
            value for value, free in zip((population.gamma, population.b_per_k), problem.free[1:], strict=True) if free
        ]
    else:
        start = [0.5]
    known = with_misfits(cells, population)
    return replace(population, shape_prior=estimate_shape_prior(_dark_current(problem), known, start))


def estimate_population(problem: Problem, cells: Cells) -> Population:
    """Shape and misfits from a sample of pixels.

    Parameters
    ----------
    cells : masters of the sample, (n, P); some ten thousand pixels, the brightest of which are looked at.
    """
    cells = cells.at(_brightest(cells))
    population = _shape(problem, _fit(problem, cells, Population())[0], Population())
    found = find_misfits(problem, cells, lambda c: prior_and_start(problem, population, c.free_level))
    population = replace(population, misfits=found.misfits, common_law_k=found.common_law_k)
    if any(m.relative > 0 for m in population.misfits):
        fitted, _ = _fit(problem, with_misfits(cells, population), population)
        population = _shape(problem, fitted, population)
    return population


def _brightest(cells: Cells) -> NDArray[np.int64]:
    """Positions of the pixels with the highest signal-to-noise ratio in any cell, at most `MOST`."""
    ratio = np.nan_to_num(signal_to_noise(cells), nan=0.0, posinf=0.0).max(axis=0)
    return np.sort(np.argsort(-ratio, kind="stable")[:MOST])


def _fit(problem: Problem, cells: Cells, population: Population) -> tuple[Fitted, Prior]:
    prior, start = prior_and_start(problem, population, cells.free_level)
    return fit_tile(problem, cells, prior, start), prior


def _shape(problem: Problem, fitted: Fitted, population: Population) -> Population:
    """Medians of gamma and B over the pixels whose amplitude is well measured."""
    if problem.family == LINEAR:
        return population
    with np.errstate(invalid="ignore", divide="ignore"):
        good = fitted.parameters[0] > WELL_MEASURED * np.sqrt(fitted.covariance[0])
    good &= np.isfinite(fitted.chi2) & (fitted.dq == 0)
    if good.sum() < FEWEST:
        return population
    has_gamma = problem.family == EXPONENTIAL and problem.free[1]
    return replace(
        population,
        gamma=float(np.median(fitted.parameters[1][good])) if has_gamma else population.gamma,
        b_per_k=float(np.median(fitted.parameters[2][good])) if problem.free[2] else population.b_per_k,
    )
