"""Hot, warm and dead pixels, from the master in which they show best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
