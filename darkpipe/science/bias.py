"""Bias against temperature: a straight line per pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.errors import DesignError

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

_SAME_C = 1e-6  # temperatures nearer than this are one


@dataclass(frozen=True)
class BiasLine:
    """b(p, T) = b0 + b1·(T - t_ref), native ADU and ADU/K; NaN where a pixel has fewer than two temperatures."""

    b0: Floats  # (p,)
    b1: Floats  # (p,)
    covariance: Floats  # (3, p): var(b0), cov(b0, b1), var(b1)
    chi2: Floats  # (p,) not divided by its degrees of freedom
    dof: NDArray[np.int16]  # (p,)
    t_ref_c: float

    def evaluate(self, temperature_c: float) -> tuple[Floats, Floats]:
        """Bias and its 1 sigma, native ADU, each (p,), at one temperature in °C."""
        return evaluate(self.b0, self.b1, self.covariance, temperature_c, self.t_ref_c)


def fit_bias_line(biases_adu: ArrayLike, errors_adu: ArrayLike, temperatures_c: ArrayLike, t_ref_c: float) -> BiasLine:
    """Weighted straight line through k master biases, per pixel, in closed form.

    Parameters
    ----------
    biases_adu : (k, p) native ADU; NaN is absent.
    errors_adu : (k, p) or (k, 1) 1 sigma; a bias whose error is not finite or not above 0 counts as absent.
    temperatures_c : (k,) °C.
    t_ref_c : temperature at which b0 holds.

    Raises
    ------
    DesignError : fewer than two temperatures.
    ValueError : shapes that do not fit.
    """
    y, t = np.asarray(biases_adu), np.asarray(temperatures_c, np.float64) - t_ref_c
    sigma = np.asarray(errors_adu)
    if y.ndim != 2 or t.shape != y.shape[:1] or sigma.shape not in (y.shape, (y.shape[0], 1)):
        raise ValueError(f"biases {y.shape}, errors {sigma.shape} and temperatures {t.shape} do not fit together")
    if np.ptp(t) <= _SAME_C:
        raise DesignError("a bias line needs biases at two temperatures", do="Take biases at another temperature")
    k, p = y.shape
    w_sum, wt, wy, low, high = np.zeros(p), np.zeros(p), np.zeros(p), np.full(p, np.inf), np.full(p, -np.inf)
    used = np.zeros(p, np.int16)
    weights = [_weight(y[i], sigma[i]) for i in range(k)]
    for i, w in enumerate(weights):
        w_sum += w
        wt += w * t[i]
        wy += w * np.where(w > 0, y[i], 0.0)
        used += w > 0
        low[w > 0] = np.minimum(low[w > 0], t[i])
        high[w > 0] = np.maximum(high[w > 0], t[i])
    good = high - low > _SAME_C
    norm = np.where(good, w_sum, np.nan)
    t_mean, y_mean = wt / norm, wy / norm  # about the weighted mean: nothing cancels
    stt, sty = np.zeros(p), np.zeros(p)
    for i, w in enumerate(weights):
        dt = t[i] - t_mean
        stt += w * dt * dt
        sty += w * dt * np.where(w > 0, y[i] - y_mean, 0.0)
    b1 = sty / stt
    chi2 = np.zeros(p)
    for i, w in enumerate(weights):
        chi2 += w * np.where(w > 0, y[i] - y_mean - b1 * (t[i] - t_mean), 0.0) ** 2
    covariance = np.stack((1.0 / norm + t_mean**2 / stt, -t_mean / stt, 1.0 / stt)).astype(np.float32)
    return BiasLine(
        b0=(y_mean - b1 * t_mean).astype(np.float32),
        b1=b1.astype(np.float32),
        covariance=covariance,
        chi2=np.where(good, chi2, np.nan).astype(np.float32),
        dof=np.maximum(used - 2, 0).astype(np.int16),
        t_ref_c=float(t_ref_c),
    )


def _weight(y: NDArray[np.floating], sigma: NDArray[np.floating]) -> Array:
    good = np.isfinite(y) & np.isfinite(sigma) & (sigma > 0)
    error = np.where(good, sigma, 1.0).astype(np.float64)
    return np.where(good, 1.0 / error**2, 0.0)


def evaluate(
    b0: Floats, b1: Floats, covariance: Floats, temperature_c: float, t_ref_c: float = 0.0
) -> tuple[Floats, Floats]:
    """Bias and its 1 sigma at one temperature.

    b0 (p,) ADU, b1 (p,) ADU/K, covariance (3, p) as in `BiasLine`, all of them in native ADU at t_ref_c; returns
    two (p,) arrays. Any trailing shape does as well as (p,).
    """
    dt = np.float64(temperature_c - t_ref_c)
    variance = covariance[0] + 2.0 * dt * covariance[1] + dt * dt * covariance[2]
    return value_at(b0, b1, dt), np.sqrt(np.maximum(variance, 0.0)).astype(np.float32)


def value_at(b0: Floats, b1: Floats, above_c: float) -> Floats:
    """The bias alone, so many °C above the temperature at which b0 holds; any shape."""
    return np.asarray(b0 + b1 * np.float64(above_c)).astype(np.float32)


def covariance_with(
    covariance: Floats, t_ref_c: float, temperature_c: float, pivot_c: float
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Covariance of the line at one temperature with its value at another, `pivot_c`, and with its slope.

    covariance (3, ...) as in `BiasLine`, at t_ref_c; returns two arrays (...), ADU² and ADU²/K. By least squares a
    master that the line goes through has this covariance with it too: what the line misses of it is independent of it.
    """
    here, there = temperature_c - t_ref_c, pivot_c - t_ref_c
    slope = covariance[1] + here * covariance[2]
    return covariance[0] + here * covariance[1] + there * slope, slope
