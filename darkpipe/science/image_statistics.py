"""Statistics of one image, exact and robust, that know of whole numbers and of missing pixels."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PERCENTS: Final = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
_SIGMA_PERCENTS: Final = (15.865525393145708, 84.13447460685429)
_WIDEST = 1 << 22  # values a histogram of whole numbers may span
_CHUNK = 1 << 20

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the finite pixels of an image, in its unit; NaN where there are none."""

    pixels: int
    """Finite pixels."""
    missing: int
    """NaN and infinite ones."""
    mean: float
    median: float
    std: float
    """Standard deviation of the pixels (divided by their number)."""
    sigma: float
    """Robust standard deviation: half of what lies between the 15.87 and 84.13 percentiles."""
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    """At `PERCENTS`."""
    hot_above: float
    """median + hot_sigma · sigma."""
    hot: int
    """Pixels above it."""
    cold: int
    """Pixels as far below the median."""

    def row(self, prefix: str = "") -> dict[str, float | int]:
        """As columns of a table; percentiles are named p0.1 … p99.9."""
        values = asdict(self)
        values |= {f"p{percent:g}": value for percent, value in zip(PERCENTS, self.percentiles, strict=True)}
        return {f"{prefix}{name}": value for name, value in values.items() if name != "percentiles"}


def image_statistics(image: NDArray[Any], hot_sigma: float = 5.0) -> ImageStatistics:
    """Statistics of an image.

    Median, percentiles and sigma of whole and half numbers (raw counts, and what is left of them less a median) are
    interpolated in their histogram, each count evenly filled, so that they are known to better than a count. Sigma
    holds the quantisation then; where the noise is below half a count it is too large (by 30 % at 0.4).

    Parameters
    ----------
    image : any shape, any real type. NaN and infinities are counted as missing and else left out.
    hot_sigma : robust sigmas above the median from which on a pixel counts as hot. In an image without scatter every
        pixel above the median is hot.

    Raises
    ------
    ValueError : hot_sigma not above 0.

    Examples
    --------
    >>> import numpy as np
    >>> found = image_statistics(np.array([[10.0, 12.0], [11.0, np.nan]]))
    >>> found.mean, found.maximum, found.missing
    (11.0, 12.0, 1)
    """
    if not hot_sigma > 0:
        raise ValueError(f"hot_sigma must be above 0, not {hot_sigma}")
    flat = np.asarray(image).reshape(-1)
    if flat.dtype.kind == "f":
        finite = np.isfinite(flat)
        flat = flat if finite.all() else flat[finite]
    missing = int(np.size(image) - flat.size)
    if flat.size == 0:
        nan = math.nan
        return ImageStatistics(0, missing, nan, nan, nan, nan, nan, nan, (nan,) * len(PERCENTS), nan, 0, 0)
    wanted = (*PERCENTS, *_SIGMA_PERCENTS)
    step = _lattice(flat)
    points = _histogram_percentiles(flat, step, wanted) if step else _percentiles(flat, wanted)
    mean, std = _moments(flat)
    median = float(points[PERCENTS.index(50.0)])
    sigma = float(points[-1] - points[-2]) / 2.0
    reach = hot_sigma * sigma
    return ImageStatistics(
        pixels=int(flat.size),
        missing=missing,
        mean=mean,
        median=median,
        std=std,
        sigma=sigma,
        minimum=float(flat.min()),
        maximum=float(flat.max()),
        percentiles=tuple(float(v) for v in points[: len(PERCENTS)]),
        hot_above=median + reach,
        hot=int(np.count_nonzero(flat > median + reach)),
        cold=int(np.count_nonzero(flat < median - reach)),
    )


def _lattice(flat: NDArray[Any]) -> float:
    """Spacing of the values where all are whole (1) or half (0.5) numbers in a range that a histogram holds; else 0."""
    for step in (1.0, 0.5):
        if (float(flat.max()) - float(flat.min())) / step >= _WIDEST:
            continue
        if flat.dtype.kind in "iub":
            return 1.0
        if all(_on_lattice(flat[k : k + _CHUNK], step) for k in range(0, flat.size, _CHUNK)):
            return step
    return 0.0


def _on_lattice(part: NDArray[Any], step: float) -> bool:
    scaled = part / part.dtype.type(step)
    return bool(np.array_equal(scaled, np.rint(scaled)))


def _histogram_percentiles(flat: NDArray[Any], step: float, percents: tuple[float, ...]) -> Array:
    low = float(flat.min())
    counts = np.zeros(round((float(flat.max()) - low) / step) + 1, np.int64)
    for k in range(0, flat.size, _CHUNK):
        steps = np.rint((flat[k : k + _CHUNK].astype(np.float64) - low) / step).astype(np.int64)
        counts += np.bincount(steps, minlength=counts.size)
    occupied = np.flatnonzero(counts)
    if occupied.size == 1:
        return np.full(len(percents), low)
    upto = np.concatenate(([0.0], np.cumsum(counts[occupied]) / flat.size))
    values = low + step * occupied
    # each value is spread over its step, or half way to its neighbour where values between are missing
    edges = np.concatenate(([values[0] - step / 2], 0.5 * (values[:-1] + values[1:]), [values[-1] + step / 2]))
    return np.clip(np.interp(np.array(percents) / 100.0, upto, edges), values[0], values[-1])


def _percentiles(flat: NDArray[Any], percents: tuple[float, ...]) -> Array:
    # the values themselves in their own type: a copy in double precision would be twice as large
    return np.asarray(np.percentile(flat, percents), np.float64)


def _moments(flat: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation, summed in double precision about a value of the image."""
    origin = float(flat[0])
    total = squares = 0.0
    for k in range(0, flat.size, _CHUNK):
        d = flat[k : k + _CHUNK].astype(np.float64) - origin
        total += float(d.sum())
        squares += float(np.dot(d, d))
    shift = total / flat.size
    return origin + shift, math.sqrt(max(squares / flat.size - shift * shift, 0.0))
