"""What all pixels of a sensor tell about one: the typical shape of the dark signal, and the multiplicative error.

Estimated once a model from a sample of pixels, then used by every tile as start and prior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Fitted, Prior, Problem, fit_tile, studentised_residuals
from darkpipe.science.models.base import Model, Reference
from darkpipe.science.models.families import EXPONENTIAL, LINEAR
from darkpipe.science.noise import robust_sigma

F8 = NDArray[np.float64]

TYPICAL_GAMMA, TYPICAL_B = 1.0, 0.11  # a linear silicon sensor near 0 °C: where the search for the population starts
WIDE = (1.0, 0.1)  # 1 sigma of the weakest prior on (gamma, B): it only keeps pixels without signal determined
NEAR_LINEAR = 0.1  # 1 sigma of gamma where the level is free
WELL_MEASURED = 20.0  # signal-to-noise ratio of pixels that define the population's shape
PRECISE = 30.0  # signal-to-noise of cells that tell the multiplicative error
FEWEST = 200
MOST = 6000
LARGEST_RELATIVE_ERROR = 0.1


@dataclass(frozen=True)
class Population:
    """Shape and multiplicative error of the population.

    gamma, b_per_k : medians of well measured pixels (or the typical values).
    relative_error : multiplicative error of a cell beyond read and shot noise (temperature jitter, model).
    """

    gamma: float = TYPICAL_GAMMA
    b_per_k: float = TYPICAL_B
    relative_error: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {"gamma": self.gamma, "b_per_k": self.b_per_k, "relative_error": self.relative_error}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Population:
        return cls(**{k: float(data[k]) for k in ("gamma", "b_per_k", "relative_error")})


def problem_for(model: Model, temperature_c: F8, exposure_s: F8, reference: Reference) -> Problem:
    """The fit problem of a model for these cells (n,)."""
    return Problem(
        model.family,
        np.ascontiguousarray(model.design(temperature_c, exposure_s, reference)),
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


def with_relative_error(cells: Cells, relative_error: float) -> Cells:
    """The same cells with this multiplicative error."""
    return replace(cells, relative_variance=np.full(cells.relative_variance.size, relative_error**2))


def estimate_population(problem: Problem, cells: Cells) -> Population:
    """Shape and multiplicative error from a sample of pixels.

    Parameters
    ----------
    cells : masters of the sample, (n, P); some ten thousand pixels, the brightest of which are looked at.
    """
    cells = cells.at(_brightest(cells))
    population = _shape(problem, _fit(problem, cells, Population())[0], Population())
    population = replace(population, relative_error=_relative_error(problem, cells, population))
    if population.relative_error > 0:
        fitted, _ = _fit(problem, with_relative_error(cells, population.relative_error), population)
        population = _shape(problem, fitted, population)
    return population


def _brightest(cells: Cells) -> NDArray[np.int64]:
    """Positions of the pixels with the highest signal-to-noise ratio in any cell, at most `MOST`."""
    ratio = np.nan_to_num(_signal_to_noise(cells), nan=0.0, posinf=0.0).max(axis=0)
    return np.sort(np.argsort(-ratio, kind="stable")[:MOST])


def _signal_to_noise(cells: Cells) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", divide="ignore"):
        shot = np.maximum(cells.signal_adu, 0) / np.float32(cells.gain_e_per_adu)
        return np.asarray(cells.signal_adu / np.sqrt((cells.read_variance_adu2 + shot) / cells.count), np.float32)


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


def _relative_error(problem: Problem, cells: Cells, population: Population) -> float:
    """The multiplicative error that gives the residuals of high-signal cells unit spread, by bisection."""
    precise = _signal_to_noise(cells) > PRECISE

    def spread(relative_error: float) -> float:
        weighted = with_relative_error(cells, relative_error)
        fitted, prior = _fit(problem, weighted, population)
        z = studentised_residuals(problem, weighted, prior, fitted.parameters)[precise]
        z = z[np.isfinite(z)]
        return float(robust_sigma(z)) if z.size >= FEWEST else 0.0

    if spread(0.0) <= 1.02:
        return 0.0
    low, high = 0.0, LARGEST_RELATIVE_ERROR
    for _ in range(7):
        middle = 0.5 * (low + high)
        if spread(middle) > 1.0:
            low = middle
        else:
            high = middle
    return high
