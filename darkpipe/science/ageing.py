"""New master darks against a model that is not fitted again: how the rates, the level and the hot pixels changed.

Two populations are compared apart. *Bulk* pixels are many and faint: their median difference in a cell is known to a
hundredth of an ADU, but it mixes rate and pedestal, which only several cells tell apart. *Hot* pixels are few and
bright: each tells a ratio by itself, whatever the pedestal. What limits both is common to all pixels of a cell: its
temperature, and the drift of the pedestal from frame to frame; both stand in the covariance. So does, beyond the range
that the model was fitted in, what the model knows of its own extrapolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.noise import MAD_TO_SIGMA

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST = 10  # pixels of a population; below, it is left out
KNOWN_SIGMAS = 10.0  # a hot pixel tells a ratio if its signal exceeds this many errors of the difference
HOT_SCATTER = 0.05  # of single hot pixels: the brightest few shall not outweigh all others
CHI2_WITHIN = 5.0  # pulls beyond count as changed pixels, not as noise
UNKNOWN_LEVEL_ADU = 1e4  # 1 sigma of the level where nothing is known of it
TIE = 0.3  # 1 sigma of (bulk - hot) change: decides only where the cells cannot tell rate and level apart
_MEDIAN_COST = math.sqrt(math.pi / 2.0)  # error of a median over that of a mean


@dataclass(frozen=True)
class CellChange:
    """One master against the model.

    n_bulk, n_hot : pixels compared.
    bulk_signal_adu : median predicted signal. difference_adu : median of (master - model), with its statistical error.
    hot_change : weighted median of (master - model)/model; hot_inverse_adu : mean of 1/model with the same weights,
        by which a level of 1 ADU would change it.
    bulk_spread, hot_spread : robust spread of the pulls once difference (ratio) is taken out.
    chi2_reduced : mean squared pull of the bulk within 5; chi2_uncorrected : the same with nothing taken out.
    """

    n_bulk: int
    n_hot: int
    bulk_signal_adu: float
    difference_adu: float
    difference_error_adu: float
    bulk_spread: float
    chi2_reduced: float
    chi2_uncorrected: float
    hot_signal_adu: float
    hot_change: float
    hot_change_error: float
    hot_inverse_adu: float
    hot_spread: float


def compare_cell(master: F4, model: F4, error: F4, bulk: Bools, hot: Bools) -> CellChange:
    """Compare one master with its prediction.

    Parameters
    ----------
    master, model : (p,) signal [ADU]. error : (p,) 1 sigma of their difference, without what all pixels share [ADU].
    bulk, hot : (p,) the two populations. Pixels that are not finite are left out.
    """
    known = np.isfinite(master) & np.isfinite(model) & np.isfinite(error) & (error > 0)
    nan = math.nan
    d, s, e = (v[bulk & known].astype(np.float64) for v in (master - model, model, error))
    numbers = [nan] * 6
    if d.size >= FEWEST:
        middle = float(np.median(d))
        pulls = (d - middle) / e
        spread = MAD_TO_SIGMA * float(np.median(np.abs(pulls - np.median(pulls))))
        scatter = MAD_TO_SIGMA * float(np.median(np.abs(d - middle)))
        numbers = [
            float(np.median(s)),
            middle,
            _MEDIAN_COST * scatter / math.sqrt(d.size),
            spread,
            _chi2(pulls),
            _chi2(d / e),
        ]
    d, s, e = (
        v[hot & known & (model > KNOWN_SIGMAS * error)].astype(np.float64) for v in (master - model, model, error)
    )
    of_hot = [nan] * 5
    if d.size >= FEWEST:
        weight = 1.0 / ((e / s) ** 2 + HOT_SCATTER**2)
        change = weighted_median(d / s, weight)
        pulls = (d - change * s) / e
        own = (d / s - change) * np.sqrt(weight)
        scatter = MAD_TO_SIGMA * float(np.median(np.abs(own - np.median(own))))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(pulls - np.median(pulls))))
        sigma = _MEDIAN_COST * scatter / math.sqrt(float(weight.sum()))
        of_hot = [float(np.median(s)), change, sigma, float((weight / s).sum() / weight.sum()), spread]
    n_bulk = int(np.count_nonzero(bulk & known))
    return CellChange(n_bulk, d.size, *numbers, *of_hot)


def _chi2(pulls: F8) -> float:
    inside = np.abs(pulls) < CHI2_WITHIN
    return float(np.mean(pulls[inside] ** 2)) if inside.any() else math.nan


def weighted_median(values: F8, weights: F8) -> float:
    """The value at which half of the weight lies on each side; NaN of none."""
    if values.size == 0:
        return math.nan
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[order])
    upto -= 0.5 * weights[order]
    return float(np.interp(0.5 * float(weights.sum()), upto, values[order]))


@dataclass(frozen=True)
class CellOfCheck:
    """What is known of a cell beside its comparison.

    temperature_sigma_c : 1 sigma of its temperature, shared by all cells of that temperature.
    bulk_growth_per_c, hot_growth_per_c : d ln(signal)/dT of the two populations, by the model.
    relative_error : multiplicative error of the model.
    bulk_law, hot_law : of a cell beyond the range of the model: what another law, fitted to the same frames, predicts
        more of the two populations [fraction]. One unknown share of it is common to all cells.
    leverage_c : of such a cell, what `leverage` says [°C].
    """

    change: CellChange
    temperature_c: float
    temperature_sigma_c: float
    frames: int
    bulk_growth_per_c: float
    hot_growth_per_c: float
    relative_error: float
    bulk_law: float = 0.0
    hot_law: float = 0.0
    leverage_c: tuple[float, ...] = ()

    @property
    def warmth_sigma_c(self) -> float:
        """1 sigma of the temperature, of this cell and of those that the model is carried on from."""
        return math.hypot(self.temperature_sigma_c, *self.leverage_c)


def leverage(temperature_c: float, fitted: Sequence[tuple[float, float, int]]) -> tuple[float, ...]:
    """By how many degrees the errors of a campaign's temperatures, 1 sigma each, shift a straight line of ln(signal)
    in temperature at `temperature_c`: between them by less than these errors, beyond them by more.

    Parameters
    ----------
    fitted : (temperature [°C], its 1 sigma, cells) of each temperature.
    """
    if not fitted:
        return ()
    t, sigma, weight = (np.array(v, dtype=np.float64) for v in zip(*fitted, strict=True))
    middle = float(np.average(t, weights=weight))
    spread = float(np.sum(weight * (t - middle) ** 2))
    slope = (temperature_c - middle) * (t - middle) / spread if spread > 0 else np.zeros_like(t)
    shifts = weight * (1.0 / weight.sum() + slope) * sigma
    return tuple(float(v) for v in shifts)


@dataclass(frozen=True)
class Shared:
    """Errors that whole cells share.

    drift_adu : scatter of the pedestal from frame to frame. level_sigma_adu : what is known of the level of darks
    above their bias (inf: nothing). temperature_sigma_c : of the thermometer between the model's campaign and now.
    """

    drift_adu: float
    level_sigma_adu: float
    temperature_sigma_c: float


@dataclass(frozen=True)
class Change:
    """What changed since the model, each with 1 sigma: ratios now/model of the rates of all, bulk and hot pixels, the
    level of the darks; chi² of the cells about it and its degrees of freedom."""

    rate: tuple[float, float]
    bulk: tuple[float, float]
    hot: tuple[float, float]
    level_adu: tuple[float, float]
    chi2: float
    dof: int


def solve(cells: Sequence[CellOfCheck], shared: Shared) -> Change:
    """Rates and level from the cells, by generalised least squares.

    Two equations a cell: difference = level + (bulk - 1)·signal and hot change = (hot - 1) + level·mean(1/signal).
    Where the cells scatter more than their errors say, the errors are enlarged accordingly.
    """
    y, x, v = _equations(cells, shared)
    good = np.isfinite(y)
    y, x, v = y[good], x[good], v[np.ix_(good, good)]
    level = min(shared.level_sigma_adu, UNKNOWN_LEVEL_ADU)
    prior = np.diag([1.0 / level**2, 0.0, 0.0])
    tie = np.array([0.0, 1.0, -1.0]) / TIE
    p, c, chi2, dof = _least_squares(y, x, v, prior + np.outer(tie, tie))
    has_bulk, has_hot = bool((x[:, 1] != 0).any()), bool((x[:, 2] != 0).any())
    q, variance = _together(p[1:], c[1:, 1:], np.array([has_bulk, has_hot]))

    def ratio(value: float, variance: float, known: bool) -> tuple[float, float]:
        return (1.0 + value, math.sqrt(variance)) if known else (math.nan, math.nan)

    return Change(
        ratio(q, variance, has_bulk or has_hot),
        ratio(float(p[1]), float(c[1, 1]), has_bulk),
        ratio(float(p[2]), float(c[2, 2]), has_hot),
        (float(p[0]), math.sqrt(float(c[0, 0]))) if good.any() else (math.nan, math.nan),
        chi2,
        dof,
    )


def _together(values: F8, covariance: F8, known: Bools) -> tuple[float, float]:
    """Mean of the two rates and its variance, with their difference in it. The weights are those of independent
    numbers: with the errors that both share in them, the mean of two that disagree lies outside of both."""
    if not known.any():
        return math.nan, math.nan
    weight = np.where(known, 1.0 / np.diag(covariance), 0.0)
    weight /= weight.sum()
    mean = float(weight @ values)
    return mean, float(weight @ covariance @ weight + weight @ (values - mean) ** 2)


def _equations(cells: Sequence[CellOfCheck], shared: Shared) -> tuple[F8, F8, F8]:
    """Right-hand sides (2n,), columns level, bulk, hot (2n, 3), covariance (2n, 2n)."""
    n = len(cells)
    y, x, v = np.full(2 * n, np.nan), np.zeros((2 * n, 3)), np.zeros((2 * n, 2 * n))
    warmth, law = np.zeros(2 * n), np.zeros(2 * n)  # by which one degree, another law changes each equation
    carried = np.zeros((2 * n, max((len(c.leverage_c) for c in cells), default=0)))
    for i, cell in enumerate(cells):
        c = cell.change
        b, h = 2 * i, 2 * i + 1
        y[b], y[h] = c.difference_adu, c.hot_change
        x[b], x[h] = (1.0, c.bulk_signal_adu, 0.0), (c.hot_inverse_adu, 0.0, 1.0)
        drift = shared.drift_adu**2 / max(cell.frames, 1)
        on_level = np.array([1.0, c.hot_inverse_adu])
        v[b : h + 1, b : h + 1] = drift * np.outer(on_level, on_level)
        v[b, b] += c.difference_error_adu**2 + (cell.relative_error * c.bulk_signal_adu) ** 2
        v[h, h] += c.hot_change_error**2 + cell.relative_error**2
        warmth[b], warmth[h] = cell.bulk_growth_per_c * c.bulk_signal_adu, cell.hot_growth_per_c
        law[b], law[h] = cell.bulk_law * c.bulk_signal_adu, cell.hot_law
        carried[b : h + 1, : len(cell.leverage_c)] = np.outer(warmth[b : h + 1], cell.leverage_c)
    v += np.outer(law, law) + carried @ carried.T
    v += shared.temperature_sigma_c**2 * np.outer(warmth, warmth)
    temperatures = np.repeat([round(cell.temperature_c, 1) for cell in cells], 2)
    sigma = np.repeat([cell.temperature_sigma_c for cell in cells], 2)
    same = temperatures[:, None] == temperatures[None, :]
    v += same * np.outer(warmth * sigma, warmth * sigma)
    return y, x, v


def _least_squares(y: F8, x: F8, v: F8, prior: F8) -> tuple[F8, F8, float, int]:
    """Parameters, their covariance (enlarged where chi² is too large), chi², degrees of freedom."""
    k = x.shape[1]
    if y.size == 0:
        return np.zeros(k), np.full((k, k), np.inf), math.nan, 0
    weight = np.linalg.inv(v)
    covariance = np.asarray(np.linalg.pinv(x.T @ weight @ x + prior, rcond=1e-14, hermitian=True), np.float64)
    p = covariance @ (x.T @ weight @ y)
    left = y - x @ p
    chi2, dof = float(left @ weight @ left), max(y.size - int((x != 0).any(axis=0).sum()), 0)
    enlarged = covariance * max(1.0, chi2 / dof if dof else 1.0)
    return p, enlarged, chi2, dof


def cell_ratio(cell: CellOfCheck, change: Change, shared: Shared) -> dict[str, tuple[float, float]]:
    """(ratio, 1 sigma) of one cell by itself, for bulk and hot, with the level of all cells taken out."""
    c, (level, level_error) = cell.change, change.level_adu
    drift = shared.drift_adu / math.sqrt(max(cell.frames, 1))
    warm = math.hypot(cell.warmth_sigma_c, shared.temperature_sigma_c)
    on_level = math.hypot(level_error, drift)
    bulk, hot = (math.nan, math.nan), (math.nan, math.nan)
    if c.bulk_signal_adu > 0:
        noise = math.hypot(c.difference_error_adu, on_level) / c.bulk_signal_adu
        error = math.hypot(noise, cell.relative_error, cell.bulk_law, cell.bulk_growth_per_c * warm)
        bulk = (1.0 + (c.difference_adu - level) / c.bulk_signal_adu, error)
    if math.isfinite(c.hot_change):
        noise = math.hypot(c.hot_change_error, on_level * c.hot_inverse_adu)
        error = math.hypot(noise, cell.relative_error, cell.hot_law, cell.hot_growth_per_c * warm)
        hot = (1.0 + c.hot_change - level * c.hot_inverse_adu, error)
    return {"bulk": bulk, "hot": hot}
