"""Conversion gain from darks alone: variance against mean over the pixels that have dark signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc, gammaincinv, gammaln

Array = NDArray[np.float64]

_UPPER = 0.95  # samples above this quantile of what the line predicts are left out, and the loss corrected for
_BINS = 40
_MIN_PIXELS = 30
_SPREAD_OVER_ERROR = 5.0  # below, noise makes up 4 % or more of the variance of the means


@dataclass(frozen=True)
class GainEstimate:
    """What `mean_variance_gain` found; gain and error are NaN if the data cannot tell."""

    gain_e_per_adu: float
    error_e_per_adu: float
    read_noise_adu: float
    """As given (its median), or as fitted."""
    jitter: float
    """Multiplicative scatter of one frame, a fraction of the signal; 0 if not fitted."""
    n_used: int


def mean_variance_gain(
    mean_adu: ArrayLike,
    variance_adu2: ArrayLike,
    dof: ArrayLike,
    *,
    read_noise_adu: float | NDArray[Any] | None = None,
    fit_jitter: bool = False,
    mean_error_adu: float | None = None,
) -> GainEstimate:
    """Conversion gain from v = R² + m/g (+ jitter² m²), a weighted robust line over pixels (or cells).

    Weights are those of a chi-square variance about the *fitted* line (weights from the sample variances would
    favour the small ones). Samples beyond the line's own 95 % quantile are left out at each turn and the loss is
    corrected for, so that telegraph pixels do not pull. The mean's own noise would flatten the line (regression
    dilution): pixels within five of its errors of zero enter with one common mean, and so does the whole bulk where
    its spread is not well above those errors.
    Principle: photon transfer, Janesick 2001; EMVA 1288.

    Parameters
    ----------
    mean_adu : (p,) dark signal above bias, native ADU.
    variance_adu2 : (p,) sample variance of a *single* frame.
    dof : (p,) or one number, its degrees of freedom (1 for a pair difference: variance = d²/2).
    read_noise_adu : known R, one number or (p,); None fits it.
    fit_jitter : also fit the quadratic term (hot pixels follow the sensor's temperature).
    mean_error_adu : 1 sigma of the mean of a faint pixel; None: that of the mean of dof + 1 frames.

    Raises
    ------
    ValueError : shapes that do not fit.
    """
    m, v, nu = np.broadcast_arrays(
        np.asarray(mean_adu, np.float64).ravel(),
        np.asarray(variance_adu2, np.float64).ravel(),
        np.asarray(dof, np.float64).ravel(),
    )
    noise2 = np.zeros(m.shape) if read_noise_adu is None else np.asarray(read_noise_adu, np.float64).ravel() ** 2
    noise2 = np.broadcast_to(noise2, m.shape)
    good = np.isfinite(m) & np.isfinite(v) & (nu >= 1) & np.isfinite(noise2)
    m, v, nu, noise2 = m[good], v[good], nu[good], noise2[good]
    nothing = GainEstimate(np.nan, np.nan, float(np.sqrt(np.median(noise2))) if m.size else np.nan, 0.0, 0)
    if m.size < _MIN_PIXELS:
        return nothing
    m = _common_mean_where_faint(m, v, nu, mean_error_adu)
    terms = ([np.ones_like(m)] if read_noise_adu is None else []) + [m] + ([m * m] if fit_jitter else [])
    design = np.stack(terms, axis=1)
    theta = _start(design, m, v, nu, noise2)
    theta, error, used = _fit(design, theta, v, nu, noise2)
    slope_at = 1 if read_noise_adu is None else 0
    slope, slope_error = float(theta[slope_at]), float(error[slope_at])
    if not slope > 2.0 * slope_error:
        return nothing
    noise = float(np.sqrt(max(theta[0], 0.0))) if read_noise_adu is None else nothing.read_noise_adu
    jitter = float(np.sqrt(max(theta[-1], 0.0))) if fit_jitter else 0.0
    return GainEstimate(1.0 / slope, slope_error / slope**2, noise, jitter, used)


def _common_mean_where_faint(m: Array, v: Array, nu: Array, error: float | None) -> Array:
    """Give the pixels whose mean does not tell them apart the mean of them all."""
    if error is None:
        typical = np.median(v) / np.median(_median_of_chi2(nu) / nu)
        error = float(np.sqrt(typical / (np.median(nu) + 1.0)))
    edge = 5.0 * error
    middle = float(np.median(m))
    spread = 1.4826 * float(np.median(np.abs(m - middle)))
    if spread < _SPREAD_OVER_ERROR * error:
        edge = max(edge, middle + 4.0 * spread)
    faint = m < edge
    out = m.copy()
    if faint.any():
        out[faint] = max(float(m[faint].mean()), 0.0)
    return out


def _start(design: Array, m: Array, v: Array, nu: Array, noise2: Array) -> Array:
    """A line through medians of bins along the signal: survives any tail, good to some percent."""
    edges = np.unique(np.concatenate((np.quantile(m, np.linspace(0, 1, _BINS // 2)), _log_edges(m))))
    which = np.clip(np.searchsorted(edges, m, side="right"), 1, max(edges.size - 1, 1))
    rows, values, weights = [], [], []
    for b in np.unique(which):
        inside = which == b
        if inside.sum() >= 5:
            middle = np.median(v[inside]) / np.median(_median_of_chi2(nu[inside]) / nu[inside])
            rows.append(design[inside].mean(axis=0))
            values.append(middle - np.median(noise2[inside]))
            weights.append(np.sqrt(inside.sum()) / max(middle, 1e-12))
    w = np.array(weights)
    solution = np.linalg.lstsq(np.array(rows) * w[:, None], np.array(values) * w, rcond=None)[0]
    return np.maximum(np.asarray(solution, np.float64), 1e-9)


def _log_edges(m: Array) -> Array:
    top, bottom = m.max(), max(float(np.median(np.abs(m))), 1e-3 * m.max())
    return np.geomspace(bottom, top, _BINS // 2) if top > bottom > 0 else np.array([top])


def _fit(design: Array, theta: Array, v: Array, nu: Array, noise2: Array) -> tuple[Array, Array, int]:
    """Iterated weighted least squares with the corrected upper cut; parameters, errors, samples used."""
    cut, inside_mean, response, spread = (_by_value(nu, column) for column in range(4))
    size = design.shape[1]
    for _ in range(30):
        line = np.maximum(noise2 + design @ theta, 1e-12)
        kept = v <= cut * line
        w = np.where(kept, nu / (2.0 * line**2), 0.0)
        normal = design.T @ (w[:, None] * design)
        scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
        right = design.T @ (w * (v / inside_mean - noise2))
        new = np.linalg.solve(normal / np.outer(scale, scale) + 1e-12 * np.eye(size), right / scale) / scale
        new = np.maximum(new, 0.0)
        done = np.all(np.abs(new - theta) <= 1e-7 * np.abs(new) + 1e-15)
        theta = new
        if done:
            break
    # sandwich: the cut moves with the line, which makes the equation less steep than the weights say
    all_w = nu / (2.0 * line**2)
    steep = design.T @ ((all_w * response)[:, None] * design) / np.outer(scale, scale)
    noise = design.T @ ((all_w**2 * line**2 * spread)[:, None] * design) / np.outer(scale, scale)
    inverse = np.linalg.pinv(steep)
    covariance = inverse @ noise @ inverse / np.outer(scale, scale)
    return theta, np.sqrt(np.maximum(np.diag(covariance), 0.0)), int(kept.sum())


def _by_value(nu: Array, column: int) -> Array:
    distinct, inverse = np.unique(nu, return_inverse=True)
    return np.array([_truncation(float(d))[column] for d in distinct])[inverse]


def _median_of_chi2(nu: Array) -> Array:
    return np.asarray(2.0 * gammaincinv(0.5 * nu, 0.5), np.float64)


def _truncation(nu: float) -> tuple[float, float, float, float]:
    """Of y = chi-square/nu cut at its 95 % quantile c: c, mean below c, response and variance of y/mean - 1."""
    half = 0.5 * nu
    x = float(gammaincinv(half, _UPPER))  # half of the chi-square at the cut
    cut = x / half
    first = float(gammainc(half + 1.0, x)) / _UPPER
    second = (nu + 2.0) / nu * float(gammainc(half + 2.0, x)) / _UPPER
    density = float(np.exp(half * np.log(x) - x - gammaln(half)))  # c times the density of y at c
    return cut, first, _UPPER - density * (cut / first - 1.0), _UPPER * (second / first**2 - 1.0)
