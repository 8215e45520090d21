"""Hot, warm and dead pixels, from the master in which they show best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.flags import DQ
from darkpipe.science.middle import Middle, settle
from darkpipe.science.noise import MAD_TO_SIGMA

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


@dataclass(frozen=True)
class Limits:
    """What pixels are judged by: median and robust sigma of the population of a master [ADU], and how many of its
    pixels are population; hot, warm and dead begin so many sigma from the median, or from 0."""

    median_adu: float
    sigma_adu: float
    n_used: int
    hot_sigma: float = 5.0
    warm_sigma: float = 3.0
    dead_sigma: float = 5.0

    @classmethod
    def of(cls, dark_adu: NDArray[Any], error_adu: NDArray[Any], usable: NDArray[np.bool_], **sigmas: float) -> Limits:
        """Of a population: dark signal and 1 sigma [ADU] of pixels of which some are usable, one shape."""
        return cls.of_bands(lambda: [(dark_adu, error_adu, usable)], **sigmas)

    @classmethod
    def of_bands(
        cls, bands: Callable[[], Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]]], **sigmas: float
    ) -> Limits:
        """The same of a master in bands: `bands` gives all of them anew each time."""
        middle, error = Middle(), Middle()
        both = [middle, error]
        settle(lambda: ([(dark, use), (err, use & np.isfinite(err))] for dark, err, use in bands()), both)
        distance = Middle(middle.double)
        if middle.number:
            settle(lambda: ([(dark, use)] for dark, _, use in bands()), [distance])
        sigma = float(np.fmax(MAD_TO_SIGMA * distance.double, error.double))
        return cls(middle.double, sigma, middle.number, **sigmas)

    def __post_init__(self) -> None:
        if not self.hot_sigma >= self.warm_sigma > 0:
            raise ValueError(
                f"hot_sigma ({self.hot_sigma}) must not be below warm_sigma ({self.warm_sigma}), both above 0"
            )

    def flag(self, dark_adu: NDArray[Any], error_adu: NDArray[Any], dq: NDArray[Any]) -> Bits:
        """HOT, WARM and DEAD of pixels of the master, one shape: dark signal, 1 sigma [ADU] and bits."""
        own = np.fmax(error_adu, self.sigma_adu)
        with np.errstate(invalid="ignore"):
            distance = (dark_adu - self.median_adu) / own
            hot = (distance > self.hot_sigma) | ((dq & int(DQ.SATURATED)) != 0)
            warm = (distance > self.warm_sigma) & ~hot
            dead = distance < -self.dead_sigma
        bits = np.zeros(dark_adu.shape, np.uint16)
        for mask, bit in ((hot, DQ.HOT), (warm, DQ.WARM), (dead, DQ.DEAD)):
            bits[mask] |= np.uint16(bit)
        return bits


def population(dark_adu: NDArray[Any], dq: NDArray[Any]) -> NDArray[np.bool_]:
    """Which pixels of a master are its population: those with a value that are not saturated, dead or failed."""
    return np.asarray(np.isfinite(dark_adu) & ((dq & _NOT_POPULATION) == 0))


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
    limits = Limits.of(
        dark, error, population(dark, given), hot_sigma=hot_sigma, warm_sigma=warm_sigma, dead_sigma=dead_sigma
    )
    bits = limits.flag(dark, error, given)
    middle, sigma = limits.median_adu, limits.sigma_adu
    stats = HotPixelStats(
        median_adu=middle,
        sigma_adu=sigma,
        hot_above_adu=middle + hot_sigma * sigma,
        warm_above_adu=middle + warm_sigma * sigma,
        dead_below_adu=middle - dead_sigma * sigma,
        n_used=limits.n_used,
        n_hot=int(np.count_nonzero(bits & int(DQ.HOT))),
        n_warm=int(np.count_nonzero(bits & int(DQ.WARM))),
        n_dead=int(np.count_nonzero(bits & int(DQ.DEAD))),
    )
    return bits, stats
