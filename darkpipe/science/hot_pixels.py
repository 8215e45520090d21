"""Hot, warm, dead and unstable pixels, from masters and from how well the noise model explains their frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, gammainccinv, gammaincinv

from darkpipe.science.flags import DQ
from darkpipe.science.noise import robust_median, robust_sigma

Bits = NDArray[np.uint16]
Array = NDArray[np.float64]

_NOT_POPULATION = int(DQ.DEAD | DQ.SATURATED | DQ.FIT_FAILED)


@dataclass(frozen=True)
class HotPixelStats:
    """What `classify` measured, in the unit of the dark, and how many pixels it flagged."""

    median_adu: float
    sigma_adu: float
    """1.4826·MAD of the population, no less than the median error of a pixel."""
    hot_above_adu: float
    warm_above_adu: float
    dead_below_adu: float
    n_used: int
    n_hot: int
    n_warm: int
    n_dead: int


def classify(
    dark_adu: NDArray[Any],
    error_adu: NDArray[Any],
    dq: NDArray[Any] | None = None,
    *,
    hot_sigma: float = 5.0,
    warm_sigma: float = 3.0,
    dead_sigma: float = 5.0,
) -> tuple[Bits, HotPixelStats]:
    """Flag the pixels whose dark signal stands out of the population of the reference cell.

    Thresholds are median + k·s with s the larger of 1.4826·MAD of the population and the pixel's own error, so a
    single noisy frame, or a noisy pixel, flags no more than a deep master would. hot: above `hot_sigma`; warm: above
    `warm_sigma` and not hot; dead: below -`dead_sigma`.

    Parameters
    ----------
    dark_adu, error_adu : same shape, any; dark signal and 1 sigma; NaN gets no bit.
    dq : bits of the master; saturated, dead and failed pixels do not count as population. A saturated pixel
        is hot.

    Returns
    -------
    Bits of the same shape (the new ones only, not those of dq), and the statistics.

    Raises
    ------
    ValueError : shapes differ, or hot_sigma is below warm_sigma.
    """
    dark, error = np.asarray(dark_adu), np.asarray(error_adu)
    given = np.zeros(dark.shape, np.uint16) if dq is None else np.asarray(dq)
    if error.shape != dark.shape or given.shape != dark.shape:
        raise ValueError(f"shapes differ: dark {dark.shape}, error {error.shape}, dq {given.shape}")
    if not hot_sigma >= warm_sigma > 0:
        raise ValueError(f"hot_sigma ({hot_sigma}) must not be below warm_sigma ({warm_sigma}), both above 0")
    usable = np.isfinite(dark) & ((given & _NOT_POPULATION) == 0)
    population = dark[usable].astype(np.float64)
    middle, floor = robust_median(population), robust_median(error[usable])
    sigma = float(np.fmax(robust_sigma(population), floor))
    own = np.fmax(error, sigma)
    with np.errstate(invalid="ignore"):
        distance = (dark - middle) / own
        hot = (distance > hot_sigma) | ((given & int(DQ.SATURATED)) != 0)
        warm = (distance > warm_sigma) & ~hot
        dead = distance < -dead_sigma
    bits = np.zeros(dark.shape, np.uint16)
    for mask, bit in ((hot, DQ.HOT), (warm, DQ.WARM), (dead, DQ.DEAD)):
        bits[mask] |= np.uint16(bit)
    stats = HotPixelStats(
        median_adu=middle,
        sigma_adu=sigma,
        hot_above_adu=middle + hot_sigma * sigma,
        warm_above_adu=middle + warm_sigma * sigma,
        dead_below_adu=middle - dead_sigma * sigma,
        n_used=int(population.size),
        n_hot=int(hot.sum()),
        n_warm=int(warm.sum()),
        n_dead=int(dead.sum()),
    )
    return bits, stats


def unstable(
    reduced_chi2: ArrayLike,
    dof: ArrayLike,
    *,
    rejected: ArrayLike | None = None,
    false_positive_rate: float = 1e-3,
    normalise: bool = True,
) -> Bits:
    """Flag the pixels whose frames scatter more (UNSTABLE), or less (DEAD: constant), than the noise model allows.

    Chi-squares of several cells add up: sum(reduced · dof) is tested against chi-square with sum(dof) degrees of
    freedom. A telegraph pixel may have had its upper state rejected by the clipping; given `rejected`, more
    rejections than chance allows at the population's rate flag it as well (each test at half the rate). A pixel is
    constant if its chi-square is smaller than one pixel in 10^12 has (never below 12 degrees of freedom).

    Parameters
    ----------
    reduced_chi2, dof : (k, p) or (p,), of k cells; NaN, or dof below 1, takes no part.
    rejected : same shape, samples rejected by the clipping.
    false_positive_rate : of Gaussian pixels, at most this fraction is flagged unstable.
    normalise : divide by the population's median where that is above expectation (a noise model a few percent too
        small would flag every pixel of a long campaign).

    Returns
    -------
    (p,) bits.

    Raises
    ------
    ValueError : a rate not between 0 and 1, shapes that differ.
    """
    if not 0.0 < false_positive_rate < 1.0:
        raise ValueError(f"false_positive_rate must be between 0 and 1, not {false_positive_rate}")
    reduced = np.atleast_2d(np.asarray(reduced_chi2, np.float64))
    free = np.atleast_2d(np.asarray(dof, np.float64))
    if reduced.shape != free.shape:
        raise ValueError(f"shapes differ: reduced_chi2 {reduced.shape}, dof {free.shape}")
    good = np.isfinite(reduced) & (free >= 1)
    total_dof = np.where(good, free, 0.0).sum(axis=0)
    total = np.where(good, reduced * free, 0.0).sum(axis=0)
    known = total_dof > 0
    rate = false_positive_rate if rejected is None else 0.5 * false_positive_rate
    safe_dof = np.maximum(total_dof, 1.0)
    scale = _population_scale(total[known], total_dof[known]) if normalise else 1.0
    shaky = known & (total / scale > _by_dof(safe_dof, lambda d: 2.0 * gammainccinv(0.5 * d, rate)))
    still = (total_dof >= 12) & (total < _by_dof(safe_dof, lambda d: 2.0 * gammaincinv(0.5 * d, 1e-12)))
    if rejected is not None:
        shaky |= _too_many_rejected(np.atleast_2d(np.asarray(rejected, np.float64)), total_dof, good, rate)
    bits = np.zeros(total.shape, np.uint16)
    bits[shaky] |= np.uint16(DQ.UNSTABLE)
    bits[still] |= np.uint16(DQ.DEAD)
    return bits


def _by_dof(dof: Array, function: Any) -> Array:
    """A function of the degrees of freedom, evaluated once for each of their few values."""
    distinct, inverse = np.unique(dof, return_inverse=True)
    return np.asarray(function(distinct), np.float64)[inverse]


def _population_scale(total: Array, dof: Array) -> float:
    if total.size == 0:
        return 1.0
    return max(1.0, float(np.median(total / _by_dof(dof, lambda d: 2.0 * gammaincinv(0.5 * d, 0.5)))))


def _too_many_rejected(rejected: Array, total_dof: Array, good: NDArray[np.bool_], rate: float) -> NDArray[np.bool_]:
    """Pixels with more rejections than cosmic rays, whose rate is that of the whole population, would explain."""
    if rejected.shape != good.shape:
        raise ValueError(f"shapes differ: rejected {rejected.shape}, dof {good.shape}")
    lost = np.where(good, rejected, 0.0).sum(axis=0)
    samples = total_dof + good.sum(axis=0) + lost
    hit_rate = float(np.clip(lost.sum() / max(samples.sum(), 1.0), 1e-6, 0.5))
    limit = _by_dof(np.maximum(samples, 1.0), lambda n: _binomial_limit(n, hit_rate, rate))
    return np.asarray((samples > 0) & (lost > limit))


def _binomial_limit(trials: Array, chance: float, rate: float) -> Array:
    """Smallest count that is exceeded with probability `rate` at most, for each number of trials."""
    limit = np.zeros_like(trials)
    while True:
        # the binomial's upper tail beyond limit is an incomplete beta function
        beyond = (limit < trials) & (betainc(limit + 1.0, np.maximum(trials - limit, 1.0), chance) > rate)
        if not beyond.any():
            return limit
        limit += beyond
