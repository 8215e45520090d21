"""A master the classical way: plain median or average of alike frames, and what is left of a frame after it.

No model of the noise, no rejection: a cosmic ray stays in an average, at 1/n of its charge, and all but leaves a
median. `darkpipe.science.combine` has the mean that a dark model is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine import median
from darkpipe.science.masked_mean import MeanAccumulator
from darkpipe.science.shrinkage import VariancePrior
from darkpipe.science.special import betainc, log_ndtr, ndtr, stdtr

Method = Literal["median", "average"]
METHODS: Final = ("median", "average")

_UPPER = 0.5 * math.erfc(-math.sqrt(0.5))  # 84.13 %: half the width up to here is one sigma of a normal distribution
_CORE_PERCENTS = (100.0 * (1.0 - _UPPER), 100.0 * _UPPER)
_STEPS = 401
_NO_DRIFT = 0.05  # sigma by which levels may differ without a word
_DRAWS = 2_000_000


@dataclass(frozen=True)
class CombinedFrames:
    """What `combine_frames` makes of p pixels; arrays have shape (p,)."""

    value: NDArray[np.float32]
    """Median or average, in the unit of the samples; NaN where none was finite."""
    variance: NDArray[np.float32]
    """Sample variance of one frame about the pixel's mean, levels of the frames taken out; NaN below two samples."""
    count: NDArray[np.uint16]
    """Finite samples."""


def combine_frames(
    samples: NDArray[Any], method: Method = "median", level_adu: Sequence[float] | NDArray[Any] | None = None
) -> CombinedFrames:
    """Median or average of n samples a pixel, and their scatter.

    Memory: a few times the input; callers give strips of rows. A pixel's result does not depend on its strip.

    Parameters
    ----------
    samples : (n, p) raw counts, uint16 or float32 (others are converted to float32); NaN is a missing sample.
    method : 'median' (of an even number of frames the mean of the middle two) or 'average'.
    level_adu : (n,) level of each whole frame (its median). Where the frames drift as a whole, that is not noise of
        the pixels: the scatter is taken after it is subtracted. The value is that of the samples as they are; only
        where samples are missing does the average take the levels of the others into account. None: no drift.

    Raises
    ------
    ValueError : a wrong shape, no frames, an unknown method, or levels that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.array([[100, 7], [104, 7], [102, 1000]], np.uint16)
    >>> combine_frames(frames, "median").value.tolist()
    [102.0, 7.0]
    >>> combine_frames(frames, "average").value.tolist()
    [102.0, 338.0]
    """
    if method not in METHODS:
        raise ValueError(f"method is 'median' or 'average', not {method!r}")
    if samples.ndim != 2 or samples.shape[0] < 1:
        raise ValueError(f"samples must be (frames, pixels), not {samples.shape}")
    n, p = samples.shape
    level = np.zeros(n) if level_adu is None else np.asarray(level_adu, np.float64)
    if level.shape != (n,) or not np.isfinite(level).all():
        raise ValueError(f"level_adu must be {n} finite numbers, one a frame")
    accumulator = MeanAccumulator((1, p))
    for sample, offset in zip(samples, (level - level.mean()).astype(np.float32), strict=True):
        accumulator.add((sample.astype(np.float32) - offset)[None])
    count = accumulator.count
    if method == "median":
        value = median(samples)
    else:
        value = np.where(count > 0, accumulator.mean, np.nan).astype(np.float32)
    return CombinedFrames(value, accumulator.variance(), count.copy())


def _about_the_middle(n: int, rank: int, others: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Two neighbouring order statistics of n normal samples: their places low < high, and weights that add up to 1.

    rank : samples below the lower one; others : those above the higher one.
    """
    reach = 9.0 * min(1.0, 1.6 / math.sqrt(n))
    middle = np.linspace(-reach, reach, _STEPS)
    nodes, weights = _gauss_legendre()
    gap = 0.5 * min(13.0, 110.0 / n) * (nodes[:, None] + 1.0)
    low, high = middle - 0.5 * gap, middle + 0.5 * gap
    exponent = rank * log_ndtr(low) + others * log_ndtr(-high) - 0.5 * (low**2 + high**2)
    density = weights[:, None] * np.exp(exponent - exponent.max())
    return low, high, density / density.sum()


@cache
def _gauss_legendre() -> tuple[NDArray[Any], NDArray[Any]]:
    nodes, weights = np.polynomial.legendre.leggauss(100)
    return nodes, weights


@lru_cache(maxsize=256)
def variance_of_median(n: int) -> float:
    """Variance of the median of n normal samples, in units of that of one; of even n, the mean of the middle two.

    From the densities of the order statistics (David & Nagaraja, Order Statistics, 3rd ed., 2.2), integrated
    numerically: 1, 1/2, 0.4487, 0.2982, 0.2868, … ; pi / (2 n) for large n.

    Raises
    ------
    ValueError : n below 1.

    Examples
    --------
    >>> round(variance_of_median(3), 4), round(variance_of_median(4), 4)
    (0.4487, 0.2982)
    """
    if n < 1:
        raise ValueError(f"a median needs a sample, not {n}")
    if n == 1:
        return 1.0
    if n % 2 == 0:
        low, high, weight = _about_the_middle(n, n // 2 - 1, n // 2 - 1)
        return float((weight * (0.5 * (low + high)) ** 2).sum())
    reach = 9.0 * min(1.0, 1.6 / math.sqrt(n))
    middle = np.linspace(-reach, reach, _STEPS)
    exponent = (n // 2) * (log_ndtr(middle) + log_ndtr(-middle)) - 0.5 * middle**2
    density = np.exp(exponent - exponent.max())
    return float((density * middle**2).sum() / density.sum())


def variance_of_master(n: int, method: Method) -> float:
    """Variance of a master of n frames in units of that of one frame: 1/n of an average, more of a median.

    Raises
    ------
    ValueError : n below 1.
    """
    if n < 1:
        raise ValueError(f"a master needs a frame, not {n}")
    return 1.0 / n if method == "average" else variance_of_median(n)


def residual_factor(n: int, method: Method) -> float:
    """Noise (rms) of a frame less a master of n frames **that it is one of**, in units of the noise of one frame.

    A frame is correlated with the master that it is part of. For normal noise its covariance with either master is
    1/n of its variance: median − mean does not change when all samples are shifted, so it is independent of the mean
    (Basu's theorem), and the n frames share cov(mean, median) = 1/n alike. So the variance is 1 − 2/n + v with v that
    of the master: 1 − 1/n for the average, between that and 1 for the median.

    Raises
    ------
    ValueError : n below 1.

    Examples
    --------
    >>> round(residual_factor(4, "average"), 4), round(residual_factor(5, "median"), 4)
    (0.866, 0.9417)
    """
    return math.sqrt(max(1.0 - 2.0 / n + variance_of_master(n, method), 0.0))


@lru_cache(maxsize=256)
def robust_residual_factor(n: int, method: Method) -> float:
    """The same as `residual_factor` for the robust sigma: half the width that holds 68.27 % of the residuals.

    What is left less an average is normal, and both are the same. A median is one of the samples, or lies half way
    between two of them, so that too many residuals are nothing, or nearly so (of an odd number, one in n), and the core
    of their distribution is narrower than its rms. With x the frame's sample and y the sorted other ones (y[0] the
    lowest), the residual exceeds d where x > y[n // 2] + d (odd n), or where x > min(a + 2 d, (a + b)/2 + d) with
    a = y[n // 2 − 1] and b = y[n // 2] (even n): integrated over the densities of these order statistics.

    Raises
    ------
    ValueError : n below 1.

    Examples
    --------
    >>> round(robust_residual_factor(4, "average"), 4), round(robust_residual_factor(5, "median"), 3)
    (0.866, 0.869)
    """
    if method == "average" or n <= 2:
        return residual_factor(n, method)
    exceeds = residual_tail(n, method)
    low, high = 0.0, 2.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if exceeds(middle) > 1.0 - _UPPER else (low, middle)
    return high


def robust_residual_factors(level: Sequence[float] | NDArray[Any], method: Method) -> NDArray[np.float64]:
    """`robust_residual_factor` of each frame of a set whose frames differ in level.

    An average takes the differences up as a shift, and nothing changes. A median is that of the middle frames where the
    others lie far off: what is left of these is less, of the others more. By simulation of normal noise with these
    levels (a fixed seed; to about 0.5 %), in proportion to the same noise without them.

    Parameters
    ----------
    level : (n,) level of each frame, in units of the noise of one frame.

    Raises
    ------
    ValueError : no levels, or not finite.
    """
    offset = np.asarray(level, np.float64)
    if offset.ndim != 1 or offset.size < 1 or not np.isfinite(offset).all():
        raise ValueError("level must be finite numbers, one a frame")
    n = offset.size
    plain = np.full(n, robust_residual_factor(n, method))
    if method == "average" or n <= 2 or np.ptp(offset) < _NO_DRIFT:
        return plain
    noise = np.random.default_rng(n).standard_normal((n, max(10_000, _DRAWS // n)), np.float32)
    apart = noise + (offset - np.median(offset)).astype(np.float32)[:, None]
    with_levels, without = (samples - median(samples) for samples in (apart, noise))
    widths = [np.diff(np.percentile(left, _CORE_PERCENTS, axis=1), axis=0)[0] for left in (with_levels, without)]
    return np.asarray(plain * widths[0] / widths[1].mean())


def residual_tail(n: int, method: Method) -> Callable[[float], float]:
    """Probability that what is left of a frame exceeds d, for d of 0 and above in units of the noise of one frame.

    What it lacks of 1/2 at d = 0 is half the share of residuals that are exactly nothing. `robust_residual_factor` says
    how it is found.

    Raises
    ------
    ValueError : n below 1.

    Examples
    --------
    >>> round(1 - 2 * residual_tail(5, "median")(0.0), 3)
    0.2
    """
    if method == "average" or n <= 2:
        width = max(residual_factor(n, method), 1e-300)
        return lambda d: float(ndtr(-d / width))
    return _exceeds_of_odd(n) if n % 2 else _exceeds_of_even(n)


def _exceeds_of_odd(n: int) -> Callable[[float], float]:
    x = np.linspace(-9.0, 9.0, 4 * _STEPS)
    density = np.exp(-0.5 * x**2)
    density /= density.sum()
    return lambda d: float((density * betainc(n // 2 + 1, n // 2, ndtr(x - d))).sum())


def _exceeds_of_even(n: int) -> Callable[[float], float]:
    low, high, weight = _about_the_middle(n - 1, n // 2 - 1, n // 2 - 2)
    return lambda d: float((weight * ndtr(-np.minimum(low + 2.0 * d, 0.5 * (low + high) + d))).sum())


def sigma_over_pixels(prior: VariancePrior) -> float:
    """Robust sigma, over the pixels of a sensor, of the noise of one frame: half the width that holds 68.27 %.

    Pixels differ in their noise. If their variances are distributed as `prior` says (scaled inverse chi-square), the
    noise of all of them together follows Student's t, a mixture of two; its quantile is what a robust sigma measures.

    Parameters
    ----------
    prior : population of the pixels' variances, from `darkpipe.science.shrinkage.fit_variance_prior`.

    Returns
    -------
    in the unit of the data; NaN of an empty population.
    """
    core, tail = math.sqrt(prior.core_variance), math.sqrt(prior.tail_variance)
    if not (core > 0 and math.isfinite(core)):
        return math.nan

    def below(x: float) -> float:
        weight = prior.tail_weight
        return float((1 - weight) * stdtr(prior.core_dof, x / core) + weight * stdtr(prior.tail_dof, x / tail))

    low, high = 0.0, core
    while below(high) < _UPPER:
        high *= 2.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if below(middle) < _UPPER else (low, middle)
    return high
