"""Scatter of pixels from frame to frame at a known signal: what conversion gain and read noise are read from.

The temperature of a sensor is not quite the same in every frame. It moves all pixels together, in proportion to their
signal or nearly so, and would pass for shot noise. What is common to the pixels is therefore taken out first: a level
and a multiple of the signal in each frame; and, where frames suffice, of each pixel the part that follows the frames'
temperature with a coefficient of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine import median
from darkpipe.science.scatter_kernels import take_lines
from darkpipe.science.special import gammaincinv

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

_CLIP = 4.0  # sigma, beyond which a pixel says nothing of what is common to all
_BINS = 30
_OUTLIER = 5.0  # sigma of a sample about its pixel's others
_SIGNIFICANT = 5.0  # sigma of its chi-square, from which on a common factor is one
_CLEAR = 10.0  # noises that a pixel's signal must exceed to tell the ratio of two frames
_ENOUGH = 10_000  # pixels for a first guess
_OWN_SPREAD = 0.3  # of a pixel's temperature coefficient about the common one


@dataclass(frozen=True)
class Scatter:
    """Pixels of one cell (or of a pair of frames): signal and variance of a single frame, native ADU.

    signal_adu, variance_adu2 : (p,); NaN where a pixel cannot be used.
    dof : of the variances.
    error_adu : 1 sigma of the signal of a faint pixel, from noise.
    level_adu : 1 sigma of what all signals may be off by together; inf: their zero is not known.
    own : relative scatter that single pixels may have beyond the common one (1 sigma of what a fit may find).
    read_variance_adu2, read_error_adu2 : (p,) read noise squared by the biases, and the 1 sigma that all of it may be
    off by; None: there are none.
    """

    signal_adu: Array
    variance_adu2: Array
    dof: int
    error_adu: float
    level_adu: float = 0.0
    own: float = 0.005
    read_variance_adu2: Array | None = None
    read_error_adu2: float = 0.0


@dataclass(frozen=True)
class Variances:
    """Variance of a single frame (p,), NaN where a sample lies far off its pixel's others; its degrees of freedom;
    `own` as in `Scatter`; and the relative scatter of all pixels together that was taken out."""

    variance_adu2: Array
    dof: int
    own: float
    common: float


def frame_scatter(frames: NDArray[Any], base_adu: NDArray[Any], *, own: float) -> Variances:
    """Variance of each pixel over n frames of one cell, without what the frames have in common.

    A pixel with a sample more than 5 sigma off (cosmic ray, telegraph noise) is left out whole: its mean is wrong too,
    and would put it among pixels of another signal.

    Parameters
    ----------
    frames : (n, p) native ADU, n >= 2. base_adu : (p,) what they read without signal.
    own : as in `Scatter`, of frames of one temperature.
    """
    n = frames.shape[0]
    samples = np.asarray(frames, np.float64)
    middle = median(frames).astype(np.float64) if n > 2 else samples.min(axis=0)
    dof = n - 1
    rest = _without_common(samples, middle - base_adu)[0]
    noise = np.sqrt(_noise_along(middle - base_adu, (rest**2).sum(axis=0) / dof, dof) * dof / n)
    odd = np.abs(rest).max(axis=0) > _OUTLIER * noise
    # a median follows the frame of middle temperature; the noise of a mean has nothing to do with that of the rest
    signal = np.where(odd, np.nan, samples.mean(axis=0) - base_adu)
    rest, factor, error = _without_common(samples, signal)
    variance = (rest**2).sum(axis=0) / dof
    chi2, common = float(((factor / error) ** 2).sum()), 0.0
    if chi2 > dof + _SIGNIFICANT * np.sqrt(2.0 * dof):
        common = float(np.sqrt(factor @ factor / dof))
        if n < 4:
            own = float(np.hypot(own, _OWN_SPREAD * common))
        else:
            unit = factor - factor.mean()
            unit /= np.sqrt(unit @ unit)
            rest -= unit[:, None] * (unit @ rest)
            dof = n - 2
            variance = (rest**2).sum(axis=0) / dof
    variance[odd] = np.nan
    return Variances(variance, dof, own, common)


def _without_common(samples: Array, signal: Array) -> tuple[Array, Array, Array]:
    """Samples (n, p) less their mean, a level and a multiple of the signal in each frame; that multiple and its 1 sigma
    (n,). Bulk and hot pixels have a line each in the end: hot ones grow more slowly with temperature."""
    n = samples.shape[0]
    rest = samples - samples.mean(axis=0)
    rest -= np.median(rest[:, :: max(1, rest.shape[1] // _ENOUGH)], axis=1)[:, None]  # where the clipping begins
    rest -= rest.mean(axis=0)
    root = 1.0 / np.sqrt(_noise_along(signal, (rest**2).sum(axis=0) / (n - 1.0), n - 1))
    factor, error = np.zeros(n), np.zeros(n)
    signal = np.ascontiguousarray(signal, np.float64)
    take_lines(signal, rest, root, _bulk(signal).astype(np.uint8), _CLIP, _BINS, factor, error)
    return rest, factor, error


def pair_scatter(bright: NDArray[Any], faint: NDArray[Any], ratio: float) -> tuple[Array, Array, float]:
    """Signal and variance of two frames of one temperature and two exposures, both after their bias.

    With ratio ρ the difference d = bright − ρ faint has variance R² (1 + ρ²) + S (1 + ρ)/g, so that

        d²/(1 + ρ²) = R² + m/g,    m = S (1 + ρ)/(1 + ρ²),    S = (bright + ρ faint)/2

    ρ is that of the exposures unless clear pixels tell it better (a temperature that moved moves it too).

    Returns
    -------
    m (p,), d²/(1 + ρ²) (p,), and by how much ρ differs from the ratio of the exposures, relative.
    """
    x, y = np.asarray(bright, np.float64), np.asarray(faint, np.float64)
    rough = x - ratio * y
    noise = 1.4826 * float(np.nanmedian(np.abs(rough - np.nanmedian(rough))))
    clear = (0.5 * (x + ratio * y) > _CLEAR * noise) & (y > 0)
    found = ratio
    if clear.sum() >= _BINS:
        found = _weighted_median(x[clear] / y[clear], np.sqrt(x[clear]))
        if abs(found / ratio - 1.0) > 0.2:
            found = ratio
    d = x - found * y
    d -= np.nanmedian(d)
    signal = 0.5 * (x + found * y)
    m = signal * (1.0 + found) / (1.0 + found**2)
    return m, d * d / (1.0 + found**2), abs(found / ratio - 1.0)


def _bulk(signal: Array) -> NDArray[np.bool_]:
    middle = float(np.nanmedian(signal))
    return np.asarray(signal < middle + 4.0 * 1.4826 * float(np.nanmedian(np.abs(signal - middle))), np.bool_)


def _weighted_median(values: Array, weight: Array) -> float:
    order = np.argsort(values)
    upto = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(upto, 0.5 * upto[-1])])


def _noise_along(signal: NDArray[Any], variance: Array, dof: int) -> Array:
    """Variance of a frame as a function of the signal: medians of bins, joined by lines; (p,)."""
    good = np.isfinite(signal) & np.isfinite(variance)
    x, v = np.asarray(signal, np.float64)[good], variance[good]
    if x.size < 2 * _BINS:
        return np.full(signal.shape, max(float(np.median(v)), 1e-6) if v.size else 1.0)
    order = np.argsort(x)
    # finer towards the top, where the hot pixels are
    points = np.concatenate((np.linspace(0.0, 0.95, _BINS), 1.0 - np.geomspace(0.05, 8.0 / x.size, _BINS), [1.0]))
    cut = np.unique((np.clip(points, 0.0, 1.0) * x.size).astype(int))
    pieces = [order[a:b] for a, b in pairwise(cut.tolist()) if b - a >= 8]
    middle = np.array([np.median(x[i]) for i in pieces])
    expected = float(2.0 * gammaincinv(0.5 * dof, 0.5)) / dof
    value = np.array([np.median(v[i]) for i in pieces]) / expected
    return np.asarray(np.maximum(np.interp(np.nan_to_num(signal), middle, np.maximum.accumulate(value)), 1e-6))
