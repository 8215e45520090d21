"""What a fitted dark model says of the sensor: dark current, activation energy, doubling temperature, non-uniformity.

With the dark current I(T) = S(T, t)/t of a pixel and its relative growth s = d ln I/dT at the temperature T (kelvin):

    activation energy      E_a = -d ln I / d(1/kT) = k T² s     (the slope of the Arrhenius plot, I = I0 exp(-E_a/kT):
                           Widenhorn et al. 2001, J. Appl. Phys. 89, 8179; the same authors 2002, Proc. SPIE 4669, 193)
    doubling temperature   T_d = ln 2 / s                       (I = I_ref 2^((T - T_ref)/T_d): EMVA 1288, Release 3.0)

Both hold at T: the growth of silicon's dark current is not the same at every temperature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.design import Unit
from darkpipe.science.fit import Cells, Fitted, fit_tile
from darkpipe.science.models.base import KELVIN, Model, Reference
from darkpipe.science.models.families import EXPONENTIAL, GLOWING
from darkpipe.science.models.two_component import BOLTZMANN_EV_PER_K
from darkpipe.science.population import Population, prior_and_start, problem_for

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIGNIFICANT = 3.0  # a current or growth below so many of its errors tells no energy: the error would mean nothing
SLOPE_SLOT = 2  # of B in the exponentials
LARGEST_MISFIT = 0.3


def grows(model: Model) -> bool:
    """Whether a model knows how the dark current moves with temperature (exp_t does not)."""
    return "T" in model.axes


@dataclass(frozen=True)
class Growth:
    """Dark current and its relative growth d ln I/dT at one temperature, with 1 sigma, (P,) each; NaN where a pixel has
    no model, or (growth) where its current is not above `SIGNIFICANT` of its errors."""

    temperature_c: float
    current_adu_s: F8
    current_error_adu_s: F8
    per_k: F8
    error_per_k: F8

    def activation_energy_ev(self) -> tuple[F8, F8]:
        """k T² s [eV] and its 1 sigma."""
        scale = BOLTZMANN_EV_PER_K * (self.temperature_c + KELVIN) ** 2
        return scale * self.per_k, scale * self.error_per_k

    def doubling_temperature_c(self) -> tuple[F8, F8]:
        """ln 2/s [°C] and its 1 sigma; NaN where the current does not clearly grow."""
        with np.errstate(invalid="ignore", divide="ignore"):
            clear = self.per_k > SIGNIFICANT * self.error_per_k
            value = np.where(clear, math.log(2.0) / self.per_k, np.nan)
            return value, value * self.error_per_k / self.per_k


def growth(
    model: Model, parameters: F8, covariance: F8, reference: Reference, temperature_c: float, exposure_s: float
) -> Growth:
    """Dark current and growth of P pixels at a temperature, by their fitted model.

    Exponentials: s = B at any temperature. two_component, g and d being the two currents there and e the glow, if any:

        s = (g a_g + d a_d)/(g + d + e),   a_g = 1.5/T + E_g/2kT²,   a_d = 3/T + E_g/kT²,   a_e = 0
        ds/dg = (a_g - s)/(g + d + e),   and so for d and e

    so that, without glow, E_a lies between E_g/2 + 1.5 kT (generation alone) and E_g + 3 kT (diffusion alone) where
    both are positive. exp_2d_glow with dark current c: s = B c/(c + e).
    Errors follow from the whole covariance by the Jacobian.

    Parameters
    ----------
    parameters : (3, P). covariance : (6, P) as 00, 01, 02, 11, 12, 22, at `reference`.
    exposure_s : exposure that the current is the mean of; it matters only where the model is not linear in time.
    """
    x = model.design(np.array([temperature_c]), np.array([exposure_s]), reference)[:, 0]
    p, c = np.asarray(parameters, np.float64), np.asarray(covariance, np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if model.family == EXPONENTIAL:
            e = np.exp(p[1] * x[0] + p[2] * x[1])
            signal = p[0] * e
            variance = _quadratic((e, signal * x[0], signal * x[1]), c)
            known = model.free[SLOPE_SLOT]
            slope = p[SLOPE_SLOT] if known else np.full(signal.shape, np.nan)
            slope_variance = c[5]
        elif model.family == GLOWING:
            e = x[0] * np.exp(p[2] * x[1])
            dark = p[0] * e
            signal = dark + p[1] * x[0]
            variance = _quadratic((e, x[0] + 0 * signal, dark * x[1]), c)
            share = dark / signal
            slope, lean = p[2] * share, p[2] * (1.0 - share) / signal
            slope_variance = _quadratic((lean * e, -slope / signal * x[0], share + lean * dark * x[1]), c)
        else:
            signal = p[0] * x[0] + p[1] * x[1] + p[2] * x[2]
            columns = tuple(column + 0 * signal for column in x)
            variance = _quadratic(columns, c)
            rates = (*_component_growth(temperature_c, reference), 0.0)
            slope = (p[0] * x[0] * rates[0] + p[1] * x[1] * rates[1]) / signal
            slope_variance = _quadratic(tuple(v * (a - slope) / signal for v, a in zip(columns, rates, strict=True)), c)
        error = np.sqrt(np.maximum(variance, 0.0))
        told = signal > SIGNIFICANT * error
        return Growth(
            temperature_c,
            signal / exposure_s,
            error / exposure_s,
            np.where(told, slope, np.nan),
            np.where(told, np.sqrt(np.maximum(slope_variance, 0.0)), np.nan),
        )


def _component_growth(temperature_c: float, reference: Reference) -> tuple[float, float]:
    """d ln/dT of generation and of diffusion [1/K]."""
    kelvin = temperature_c + KELVIN
    gap = reference.energy_gap_ev / (BOLTZMANN_EV_PER_K * kelvin**2)
    return 1.5 / kelvin + 0.5 * gap, 3.0 / kelvin + gap


def _quadratic(jacobian: tuple[F8, ...], c: F8) -> F8:
    """J C Jᵀ for a Jacobian of two or three elements."""
    j0, j1 = jacobian[:2]
    total: F8 = j0 * j0 * c[0] + 2.0 * j0 * j1 * c[1] + j1 * j1 * c[3]
    if len(jacobian) == 3:
        j2 = jacobian[2]
        total = total + 2.0 * j2 * (j0 * c[2] + j1 * c[4]) + j2 * j2 * c[5]
    return total


@dataclass(frozen=True)
class CellMeans:
    """Mean dark signal over a set of pixels in each of n cells.

    signal_adu, error_adu : (n,) mean and the 1 sigma that the noise of its pixels leaves.
    temperature_c, temperature_sigma_c, exposure_s : (n,), of the cells; exposure beyond that of the bias.
    level_sigma_adu : (n,) error that all pixels of a cell have in common, from the drift of the pedestal.
    group : (n,) number of the bias of each cell. group_sigma_adu : (G,) error of its level; inf: the level is free.
    """

    signal_adu: F8
    error_adu: F8
    temperature_c: F8
    temperature_sigma_c: F8
    exposure_s: F8
    level_sigma_adu: F8
    group: NDArray[np.int64]
    group_sigma_adu: F8


@dataclass(frozen=True)
class SensorFit:
    """Dark current of a set of pixels by the model fitted to their means. misfit : relative error of a cell's mean that
    was needed to explain the residuals; cells : how many were fitted."""

    growth: Growth
    misfit: float
    cells: int


def fit_means(
    unit: Unit, means: CellMeans, population: Population, temperature_c: float, exposure_s: float
) -> SensorFit:
    """Fit a model to the means of a set of pixels, as it is fitted to one pixel.

    What all pixels share (temperature, pedestal, a formula that is not the whole truth) does not average out over
    pixels, so the errors of single pixels say nothing about the error of the mean. Here each cell is one datum with
    the noise of its mean, B sigma_T of its temperature, and its pedestal; where the residuals are larger still, a
    relative error of all cells that makes chi² equal to its degrees of freedom.
    """
    slope = population.b_per_k
    for _ in range(2):
        known = (slope * means.temperature_sigma_c) ** 2
        misfit = _misfit(unit, means, population, known)
        fitted = _fitted(unit, means, population, known + misfit**2)
        parameters, covariance = fitted.parameters, fitted.covariance
        found = growth(unit.model, parameters, covariance, unit.fit_reference, temperature_c, exposure_s)
        if math.isfinite(found.per_k[0]) and found.per_k[0] > 0:
            slope = float(found.per_k[0])
    return SensorFit(found, misfit, means.signal_adu.size)


def with_model_error(fit: SensorFit, other: SensorFit) -> SensorFit:
    """The fit with the error of having chosen the model: the law of a real sensor may as well lie anywhere between two
    that fit about alike, so half the difference of the two is added in quadrature."""
    mine, theirs = fit.growth, other.growth

    def widened(error: F8, value: F8, alternative: F8) -> F8:
        difference = 0.5 * np.abs(value - alternative)
        return np.hypot(error, np.where(np.isfinite(difference), difference, 0.0))

    current = widened(mine.current_error_adu_s, mine.current_adu_s, theirs.current_adu_s)
    per_k = widened(mine.error_per_k, mine.per_k, theirs.per_k)
    return replace(fit, growth=replace(mine, current_error_adu_s=current, error_per_k=per_k))


def _misfit(unit: Unit, means: CellMeans, population: Population, known: F8) -> float:
    """Relative error beyond the known one (its squares, (n,)) at which chi² equals its degrees of freedom."""

    def excess(relative: float) -> float:
        fitted = _fitted(unit, means, population, known + relative**2)
        return float(fitted.chi2[0]) - float(fitted.dof[0])

    if not excess(0.0) > 0:
        return 0.0
    low, high = 1e-6, LARGEST_MISFIT
    for _ in range(24):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _fitted(unit: Unit, means: CellMeans, population: Population, relative_variance: F8) -> Fitted:
    """The fit of one "pixel" whose values are the means."""
    n = means.signal_adu.size
    cells = Cells(
        signal_adu=means.signal_adu.astype(np.float32)[:, None],
        count=np.ones((n, 1), np.uint16),
        read_variance_adu2=np.zeros(1, np.float32),
        gain_e_per_adu=math.inf,  # shot noise is part of the errors that are given
        relative_variance=relative_variance,
        extra_variance_adu2=means.error_adu**2 + means.level_sigma_adu**2,
        group=means.group,
        group_variance_adu2=(means.group_sigma_adu**2).astype(np.float32)[:, None],
    )
    problem = problem_for(unit.model, means.temperature_c, means.exposure_s, unit.fit_reference)
    prior, start = prior_and_start(problem, population, cells.free_level)
    return fit_tile(problem, cells, prior, start, np.zeros(n, np.bool_))


@dataclass(frozen=True)
class NonUniformity:
    """Spatial standard deviations of an image in its unit, with errors: of all pixels, and the parts of it that belong
    to whole rows, whole columns, and single pixels."""

    total: tuple[float, float]
    row: tuple[float, float]
    column: tuple[float, float]
    pixel: tuple[float, float]

    def scaled(self, factor: float) -> NonUniformity:
        """In another unit."""
        parts = ((v * factor, e * factor) for v, e in (self.total, self.row, self.column, self.pixel))
        return NonUniformity(*parts)


class NonUniformitySums:
    """Spatial non-uniformity as in EMVA 1288, Release 4.0 Linear: the variance over pixels, less the temporal noise
    that is left in the mean image, split into rows, columns and pixels by the variances of their averages:

        s²_cav = s²_col + s²_pix/M,   s²_rav = s²_row + s²_pix/N,   s² = s²_row + s²_col + s²_pix

    No high-pass filter is used: a gradient of the dark signal is the sensor's own. Fed band by band.

    Parameters
    ----------
    shape : (M rows, N columns) of the mean image. level : near its values, that the sums are taken about.
    """

    def __init__(self, shape: tuple[int, ...], level: float) -> None:
        self._shape, self._level = shape, np.float32(level)
        self._number, self._sum, self._squares = 0, 0.0, 0.0
        self._rows, self._columns = np.zeros((2, shape[0])), np.zeros((2, shape[1]))  # how many, and their sums

    def add(self, rows: slice, values: NDArray[np.floating], use: Bools) -> None:
        """Some rows, and which of their pixels count."""
        centred = np.where(use, values - self._level, np.float32(0))  # float32 is enough without the level
        self._number += int(use.sum())
        self._sum += float(centred.sum(dtype=np.float64))
        self._squares += float(np.square(centred, dtype=np.float64).sum())
        self._rows[:, rows] = use.sum(axis=1), centred.sum(axis=1, dtype=np.float64)
        self._columns += use.sum(axis=0), centred.sum(axis=0, dtype=np.float64)

    def found(self, variance: float) -> NonUniformity:
        """Standard deviations; 0 where noise explains everything. Their errors are those of the measurement of these
        pixels. `variance`: sum of the squares of the temporal noise of the pixels that count."""
        n, (rows, cols) = self._number, self._shape
        if n < 2:
            nothing = (math.nan, math.nan)
            return NonUniformity(nothing, nothing, nothing, nothing)
        temporal = variance / n
        total = (self._squares - self._sum**2 / n) / (n - 1) - temporal
        column = _variance_of_means(*self._columns) - temporal / rows
        row = _variance_of_means(*self._rows) - temporal / cols
        mix = np.array([[1.0, 0.0, 1.0 / rows], [0.0, 1.0, 1.0 / cols], [1.0, 1.0, 1.0]])
        s2_column, s2_row, s2_pixel = np.linalg.solve(mix, np.array([column, row, total]))
        return NonUniformity(
            _deviation(total, temporal, n),
            _deviation(float(s2_row), temporal / cols, rows),
            _deviation(float(s2_column), temporal / rows, cols),
            _deviation(float(s2_pixel), temporal, n),
        )


def _variance_of_means(count: F8, sums: F8) -> float:
    """Variance of the averages of rows or columns; those without a value do not count."""
    means = sums[count > 0] / count[count > 0]
    return float(means.var(ddof=1)) if means.size > 1 else 0.0


def _deviation(variance: float, noise: float, number: int) -> tuple[float, float]:
    """Root of a variance over `number` values that had a temporal variance `noise` subtracted, and its 1 sigma."""
    return _root(variance, math.sqrt((2.0 * noise**2 + 4.0 * max(variance, 0.0) * noise) / number))


class Spread:
    """Standard deviation over pixels of what they truly differ in: the variance of their values less the mean of the
    squares of their errors. Fed band by band; pixels without a value do not count."""

    def __init__(self) -> None:
        self.number = 0
        self._sums = np.zeros(6)

    def add(self, values: F8, errors: F8) -> None:
        """More pixels: values and 1 sigma, (P,)."""
        good = np.isfinite(values) & np.isfinite(errors)
        v, noise = values[good], errors[good] ** 2
        self.number += int(good.sum())
        parts = (v, v * v, noise, noise * v, noise * v * v, noise * noise)
        self._sums += np.array([float(part.sum()) for part in parts])

    def plus(self, more: Spread) -> None:
        """What was found of further pixels."""
        self.number += more.number
        self._sums += more._sums

    def deviation(self) -> tuple[float, float]:
        """The standard deviation and its 1 sigma, NaN below two pixels."""
        n = self.number
        if n < 2:
            return math.nan, math.nan
        v, vv, noise, noise_v, noise_vv, noise2 = self._sums
        mean = v / n
        variance = (vv - n * mean**2) / (n - 1) - noise / n
        # variance of the sum of (truth + noise)², the truth being (value - mean)² - noise
        spread = 4.0 * (noise_vv - 2.0 * mean * noise_v + mean**2 * noise) - 2.0 * noise2
        return _root(variance, math.sqrt(max(spread, 0.0)) / n)


def _root(variance: float, error: float) -> tuple[float, float]:
    """Root of a variance that is known to `error`, and its 1 sigma."""
    value = math.sqrt(max(variance, 0.0))
    return value, (error / (2.0 * value) if variance > error else math.sqrt(error))
