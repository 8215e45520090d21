"""Conversion gain from darks: variance against mean over the pixels that have dark signal, over several cells.

    v = R² + e² + m/g + (j m)²

R² is the noise of biases (of each pixel); e² what darks have beyond it (rows and columns that move, an amplifier that
warms up); j the scatter of single pixels in proportion to their signal. Principle: photon transfer, Janesick 2001;
EMVA 1288. Pixels of like signal are binned, since the noise of a pixel's own mean would flatten the line (regression
dilution): the bulk of a cell is one bin unless its spread is far above that noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.scatter import Scatter
from darkpipe.science.scatter_kernels import bin_ratios
from darkpipe.science.special import gammainc, gammaincinv, gammaln

Array = NDArray[np.float64]

_UPPER = 0.999  # samples above this quantile of what the line predicts are left out, and the loss corrected for
_MIN_PIXELS = 30
_LEAST = 16  # pixels in a bin
_PER_DECADE = 4
_BULK_BINS = 6
_SPREAD_OVER_ERROR = 15.0  # of the means; below, noise makes up 0.4 % or more of their variance and the bulk is one bin
_EXCESS = 0.02  # 1 sigma of e²/R² before the darks are asked
_LEAST_SIGMA_ADU = 1.0  # below, a variance has too few values to be cut at a quantile
_LARGEST_MISFIT = 0.5
_TURNS = 6


@dataclass(frozen=True)
class GainEstimate:
    """What `fit_gain` found; gain and error are NaN if the data cannot tell."""

    gain_e_per_adu: float
    error_e_per_adu: float
    read_noise_adu: float
    """At no signal, in darks; NaN if the data cannot tell."""
    read_noise_error_adu: float
    misfit: float
    """Relative scatter of the bins about the line beyond their noise."""
    n_used: int
    """Pixels, each counted in every cell."""


NOTHING = GainEstimate(np.nan, np.nan, np.nan, np.nan, 0.0, 0)


@dataclass(frozen=True)
class _Cell:
    """Usable pixels of one cell (p,), and the bin of each."""

    source: Scatter
    signal: Array
    variance: Array
    read: Array
    likely_signal: Array
    number: NDArray[np.int64]
    top: float

    def mean(self, values: Array, of: NDArray[np.bool_]) -> Array:
        """Over those pixels `of` each bin, (b,)."""
        bins = int(self.number.max()) + 1
        count = np.bincount(self.number[of], minlength=bins)
        return np.asarray(np.bincount(self.number[of], values[of], bins) / np.maximum(count, 1), np.float64)


@dataclass(frozen=True)
class _Bins:
    """Bins of one cell, (b,): variance of a single frame, what the line predicts, the variance's 1 sigma; means of
    signal, its square, read noise squared; pixels."""

    variance: Array
    predicted: Array
    error: Array
    signal: Array
    square: Array
    read: Array
    count: Array


@dataclass(frozen=True)
class _Line:
    """Parameters: slope 1/g; e², or R² where no read noise is given; a constant and j² for each cell."""

    slope: float
    excess: float
    constant: Array
    own: Array


def fit_gain(cells: Sequence[Scatter]) -> GainEstimate:
    """Conversion gain from the scatter of pixels in one cell or more.

    Weights are those of a chi-square variance about the *fitted* line (weights from the sample variances would favour
    the small ones). In each bin, samples beyond the 99.9 % quantile of what the line predicts are left out and the loss
    is corrected for: cosmic rays and telegraph pixels do not pull. The error of a bin is the scatter found in it;
    where bins scatter about the line beyond that, by a relative error of all of them. The level of a cell (drift of
    the pedestal) and the error of its read noise are common to its bins and have priors of their own.

    Where a cell has no read noise from biases, one for all cells is fitted.
    """
    usable = [c for c in (_binned(cell) for cell in cells) if c is not None]
    if not usable:
        return NOTHING
    known = all(c.source.read_variance_adu2 is not None for c in usable)
    line, found = _start(usable, known), NOTHING
    for _ in range(_TURNS):
        bins = [_bin_variances(c, line, k) for k, c in enumerate(usable)]
        solved = _solve(usable, bins, line, known)
        if solved is None:
            return NOTHING
        line, found = solved
    return found


def _binned(source: Scatter) -> _Cell | None:
    """Sort the pixels of a cell into bins of like signal; None if there are too few."""
    m, v, noise2 = source.signal_adu, source.variance_adu2, source.read_variance_adu2
    noise2 = np.zeros(m.shape) if noise2 is None else noise2
    good = np.isfinite(m) & np.isfinite(v) & np.isfinite(noise2)
    m, v, noise2 = m[good], v[good], np.asarray(noise2[good], np.float64)
    if m.size < _MIN_PIXELS:
        return None
    middle, error = float(np.median(m)), source.error_adu
    spread = 1.4826 * float(np.median(np.abs(m - middle)))
    top = max(middle + 4.0 * spread, 5.0 * error)
    edges = [-np.inf]
    if spread > _SPREAD_OVER_ERROR * error:
        edges += list(np.quantile(m[m < top], np.linspace(0, 1, _BULK_BINS + 1)[1:-1]))
    hot = np.sort(m[m >= top])
    if hot.size >= _LEAST:
        edges += _hot_edges(hot, top)
    # what is known of a single pixel's signal: its noise would else blur the prediction
    narrow = max(0.0, 1.0 - (error / spread) ** 2) if spread > 0 else 0.0
    likely = np.maximum(np.where(m < top, middle + narrow * (m - middle), m), 0.0)
    return _Cell(source, m, v, noise2, likely, np.searchsorted(np.array(edges), m, side="right") - 1, top)


def _hot_edges(hot: Array, top: float) -> list[float]:
    """Equal steps of the logarithm, joined until each bin has pixels enough."""
    edges = [top]
    steps = top * 10.0 ** (np.arange(1, 60) / _PER_DECADE) if top > 0 else np.array([])
    begin = 0
    for step in steps:
        upto = int(np.searchsorted(hot, step))
        if upto - begin >= _LEAST and hot.size - upto >= _LEAST:
            edges.append(float(step))
            begin = upto
        if upto >= hot.size:
            break
    return edges


def _start(cells: Sequence[_Cell], known: bool) -> _Line:
    """Medians of the bins, and a line through the origin of what the read noise leaves (or with an intercept)."""
    m, v = [], []
    for c in cells:
        expected = float(2.0 * gammaincinv(0.5 * c.source.dof, 0.5)) / c.source.dof
        for b in np.unique(c.number):
            inside = c.number == b
            m.append(float(np.median(c.signal[inside])))
            v.append(float(np.median(c.variance[inside])) / expected - float(np.median(c.read[inside])))
    x, y = np.array(m), np.array(v)
    w = 1.0 / np.maximum(np.abs(y), 1e-3)
    design = np.stack((x, np.ones_like(x) if not known and x.size > 1 else np.zeros_like(x)), axis=1) * w[:, None]
    slope, excess = (float(value) for value in np.linalg.lstsq(design, y * w, rcond=None)[0])
    nothing = np.zeros(len(cells))
    return _Line(max(slope, 1e-6), max(excess, 0.0), nothing, nothing)


def _bin_variances(cell: _Cell, line: _Line, k: int) -> _Bins:
    """The variance of each bin: ρ times what the line predicts, ρ being the root of the mean over the bin's pixels of
    ψ = [y ≤ c ρ] (y/(ρ κ) − 1), with y = v/line, c the quantile and κ the mean below it of chi-square/ν."""
    cut, inside, response, spread = _truncation(float(cell.source.dof))
    predicted = cell.read + max(line.excess + line.constant[k], 0.0) + line.slope * cell.likely_signal
    predicted = np.maximum(predicted + max(line.own[k], 0.0) * cell.likely_signal**2, 1e-6)
    y = cell.variance / predicted
    count = np.bincount(cell.number).astype(np.float64)
    ratio = np.ones(count.size)
    bin_ratios(y, cell.number, cut, inside, response, ratio, count)
    mine = ratio[cell.number]
    kept = y <= cut * mine
    psi = np.where(kept, y / (mine * inside) - 1.0, 0.0)
    everything = np.ones(y.shape, np.bool_)
    # from what the line predicts, not from the bin: bins that came out low would weigh more
    scatter = np.maximum(cell.mean(psi**2, everything), spread)
    middle = cell.mean(predicted, kept)
    error = middle * np.sqrt(scatter / np.maximum(count, 1.0)) / response
    square = np.maximum(cell.mean(cell.signal**2, kept) - cell.source.error_adu**2, 0.0)
    return _Bins(ratio * middle, middle, error, cell.mean(cell.signal, kept), square, cell.mean(cell.read, kept), count)


def _solve(
    cells: Sequence[_Cell], bins: Sequence[_Bins], line: _Line, known: bool
) -> tuple[_Line, GainEstimate] | None:
    """Weighted least squares over the bins of all cells, with priors; None if there is no slope."""
    n = len(cells)
    rows, data = [], []
    for k, b in enumerate(bins):
        for i in np.flatnonzero((b.count >= _LEAST) & (b.predicted >= _LEAST_SIGMA_ADU**2)):
            row = np.zeros(2 + 2 * n)
            row[[0, 1, 2 + k, 2 + n + k]] = b.signal[i], 1.0, 1.0, b.square[i]
            rows.append(row)
            hot = b.signal[i] >= cells[k].top
            data.append((b.variance[i] - b.read[i], b.error[i], b.predicted[i] * hot, b.count[i]))
    if not rows:
        return None
    y, sigma, hot_variance, count = np.array(data).T
    typical = float(np.median([np.median(c.read) for c in cells]))
    prior = np.full(2 + 2 * n, np.inf)
    if known:
        prior[1] = _EXCESS * max(typical, 1e-6)
    for k, c in enumerate(cells):
        level = float(np.hypot(c.source.level_adu * line.slope, c.source.read_error_adu2))
        prior[2 + k] = float(np.clip(level, 1e-6, 1e9))
        prior[2 + n + k] = max(c.source.own, 1e-6) ** 2
    theta, covariance, misfit = _with_misfit(np.array(rows), y, sigma, hot_variance, prior)
    slope, error = float(theta[0]), float(np.sqrt(covariance[0, 0]))
    if not slope > 2.0 * error:
        return None
    new = _Line(slope, float(theta[1]), theta[2 : 2 + n], theta[2 + n :])
    noise2 = typical + float(theta[1])
    noise = float(np.sqrt(max(noise2, 0.0)))
    noise_error = float(np.sqrt(covariance[1, 1])) / (2.0 * noise) if noise > 0 else np.nan
    return new, GainEstimate(1.0 / slope, error / slope**2, noise, noise_error, misfit, int(count.sum()))


def _with_misfit(design: Array, y: Array, sigma: Array, hot: Array, prior: Array) -> tuple[Array, Array, float]:
    """The fit, with the relative error of the hot bins at which chi² equals its degrees of freedom; where that is not
    enough, all errors grow.

    hot : (b,) variance of the bins of hot pixels, 0 of the others: what is not understood of a few hot pixels must not
    take the weight from the many.
    """
    freedom = max(y.size - int(np.isinf(prior).sum()), 1)
    low, high = 0.0, _LARGEST_MISFIT
    theta, covariance, chi2 = _weighted(design, y, sigma, prior)
    if chi2 <= freedom:
        return theta, covariance, 0.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        theta, covariance, chi2 = _weighted(design, y, np.hypot(sigma, middle * hot), prior)
        low, high = (middle, high) if chi2 > freedom else (low, middle)
    return theta, covariance * max(chi2 / freedom, 1.0), high


def _weighted(design: Array, y: Array, sigma: Array, prior: Array) -> tuple[Array, Array, float]:
    """Parameters, covariance, chi² (that of the priors with it)."""
    normal = design.T @ (design / sigma[:, None] ** 2) + np.diag(1.0 / prior**2)
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    inverse = np.linalg.pinv(normal / np.outer(scale, scale), hermitian=True) / np.outer(scale, scale)
    theta = inverse @ (design.T @ (y / sigma**2))
    chi2 = float((((y - design @ theta) / sigma) ** 2).sum() + ((theta / prior) ** 2).sum())
    return theta, inverse, chi2


def _truncation(nu: float) -> tuple[float, float, float, float]:
    """Of y = chi-square/nu cut at its quantile c: c, mean below c, and of ψ = [y ≤ c] (y/mean − 1) the response to a
    change of scale and the variance."""
    half = 0.5 * nu
    x = float(gammaincinv(half, _UPPER))  # half of the chi-square at the cut
    cut = x / half
    first = float(gammainc(half + 1.0, x)) / _UPPER
    second = (nu + 2.0) / nu * float(gammainc(half + 2.0, x)) / _UPPER
    density = float(np.exp(half * np.log(x) - x - gammaln(half)))  # c times the density of y at c
    return cut, first, _UPPER - density * (cut / first - 1.0), _UPPER * (second / first**2 - 1.0)
