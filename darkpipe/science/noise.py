"""Read noise, robust spreads that know about integers, and the scale of left-aligned data.

The median absolute deviation of integers is itself an integer: at 1 ADU of noise it is wrong by tens of percent.
What stands here works on the histogram instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.scatter_kernels import count_differences, variance_sums
from darkpipe.science.shrinkage import VariancePrior as VariancePrior
from darkpipe.science.shrinkage import fit_variance_prior as fit_variance_prior
from darkpipe.science.special import brentq, ndtr

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

MAD_TO_SIGMA = 1.482602218505602
_CORE = 3.0  # half width of the histogram's core, in sigma
_PHASES = (np.arange(16) + 0.5) / 16.0  # where a pixel's true level lies between two integers
_FEWEST = 16  # differences
_COARSE = 0.8  # noise, in quanta, below which sample variances are too few-valued to fit their population
_SMOOTH = 4.0  # above so many quanta the quantisation is one more variance of 1/12 and nothing else


def robust_median(values: NDArray[Any]) -> float:
    """Median of the finite values, any shape; NaN if there are none."""
    data = np.asarray(values).ravel()
    data = data[np.isfinite(data)]
    return float(np.median(data)) if data.size else float("nan")


def robust_sigma(values: NDArray[Any]) -> float:
    """1.4826 · median absolute deviation of the finite values, any shape; of integers, `integer_sigma`."""
    data = np.asarray(values)
    if data.dtype.kind in "iu":
        return integer_sigma(data)
    data = data[np.isfinite(data)].astype(np.float64)
    return MAD_TO_SIGMA * middle(np.abs(data - middle(data))) if data.size else float("nan")


def middle(data: NDArray[np.floating]) -> float:
    """Median of finite numbers (n,), n > 0, as `numpy.median` gives it, in half the time: it does not look for NaN."""
    k = data.size // 2
    if data.size % 2:
        return float(np.partition(data, k)[k])
    low, high = np.partition(data, (k - 1, k))[k - 1 : k + 1]
    return float(0.5 * (low + high))


def integer_median(values: NDArray[Any]) -> float:
    """Median below the size of an integer: interpolated in the histogram, each count spread over its unit bin."""
    return float(_quantiles(values, (0.5,))[0])


def integer_sigma(values: NDArray[Any]) -> float:
    """Half the distance between the 15.87 % and 84.13 % points of the histogram of integers, interpolated.

    Contains quantisation (its variance of 1/12), as a standard deviation does.
    """
    low, high = _quantiles(values, (0.15865525393145707, 0.8413447460685429))
    return float(0.5 * (high - low))


def _quantiles(values: NDArray[Any], points: Sequence[float]) -> Array:
    data = np.asarray(values).ravel()
    if data.size == 0:
        return np.full(len(points), np.nan)
    return _of_histogram(*np.unique(data, return_counts=True), points)


def _of_histogram(distinct: NDArray[Any], counts: NDArray[np.int64], points: Sequence[float]) -> Array:
    upto = np.concatenate(([0.0], np.cumsum(counts) / counts.sum()))
    edges = np.concatenate((distinct - 0.5, distinct[-1:] + 0.5))
    # an empty stretch between two integers belongs to neither: the edge is shared half way
    edges[1:-1] = 0.5 * (distinct[:-1].astype(np.float64) + distinct[1:])
    return np.interp(points, upto, edges)


@dataclass(frozen=True)
class ReadNoise:
    """Read noise of a set of bias frames, in the unit of the frames; quantisation is part of it."""

    sigma_adu: float
    """Of the common pixel."""
    map_adu: Floats
    """(p,) per pixel, shrunk to the population."""
    pair_sigma_adu: Array
    """(n - 1,) from each pair of neighbouring frames; one far off tells of a bad frame."""
    prior: VariancePrior
    """The population the map was shrunk to."""


def read_noise_from_pairs(frames: NDArray[Any]) -> ReadNoise | None:
    """Read noise from two or more bias frames of one temperature; None from fewer: one frame cannot tell.

    frames: (n, p) native ADU, integers or floats (NaN is missing). A level of each frame of its own (pedestal drift)
    does no harm. Raises ValueError for another shape.
    """
    if frames.ndim != 2:
        raise ValueError(f"frames must be (n, p), not {frames.shape}")
    if frames.shape[0] < 2:
        return None
    pairs = np.array([pair_sigma(frames[i], frames[i + 1]) for i in range(frames.shape[0] - 1)])
    variance, dof = pixel_variance(frames)
    prior = fit_variance_prior(variance, dof)
    sigma = float(np.nanmedian(pairs)) if np.isfinite(pairs).any() else float("nan")
    if sigma < _COARSE and _is_whole(frames[0][np.isfinite(frames[0])]):
        # a handful of integers: their few distinct variances say little of their mean, the pairs say it exactly
        prior = replace(prior, core_variance=max(sigma**2, 1e-12))
    return ReadNoise(sigma, prior.sigma_map(variance, dof), pairs, prior)


def pixel_variance(
    frames: NDArray[Any], level_adu: Sequence[float] | NDArray[Any] | None = None, scale: float = 1.0
) -> tuple[Floats, NDArray[np.uint16]]:
    """Sample variance of each pixel over frames and its degrees of freedom (valid samples - 1, at least 0).

    frames: (n, p), times scale native ADU. level_adu: (n,) subtracted first; None: the interpolated median of each
    frame, which needs whole frames, so callers with strips of rows give it. NaN is missing; variance is NaN below two
    valid samples.
    """
    p = frames.shape[1]
    if level_adu is None:
        level_adu = [_level(frame) for frame in frames]
    level = np.asarray(level_adu, np.float64)
    reference = frames[0].astype(np.float64) * scale - level[0]
    bad = ~np.isfinite(reference)
    if bad.any():
        reference[bad] = np.nanmedian(np.where(bad, np.nan, reference)) if not bad.all() else 0.0
    count, total, squares = np.zeros(p), np.zeros(p), np.zeros(p)
    kind = np.uint16 if frames.dtype == np.uint16 else np.float32
    variance_sums(np.ascontiguousarray(frames, kind), np.float32(scale), level, reference, count, total, squares)
    dof = np.maximum(count - 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(dof > 0, (squares - total * total / count) / dof, np.nan)
    return np.maximum(variance, 0.0).astype(np.float32), dof.astype(np.uint16)


def _level(frame: NDArray[Any]) -> float:
    data = frame[np.isfinite(frame)]
    return integer_median(data) if _is_whole(data) else robust_median(data)


def _is_whole(data: NDArray[Any]) -> bool:
    if data.dtype.kind in "iu":
        return True
    some = data[:: max(1, data.size // 100_000)]
    return bool(np.array_equal(some, np.rint(some)))


def pair_sigma(first: NDArray[Any], second: NDArray[Any], scale: float = 1.0) -> float:
    """Noise of one frame from the difference of two, robustly; NaN if there is nothing to tell it from.

    The mean square of the differences within ± 3 sigma of their middle, against what Gaussian noise sampled by an
    integer converter gives within the same bounds: hot pixels and cosmic rays stay outside, and neither the cut
    nor the quantisation biases it. What is returned is the whole noise of a frame, quantisation included.

    first, second : same shape, same unit; integers or floats (whole numbers in floats count as integers).
    scale : counts of theirs per unit of the result; integers are multiples of it where it is above 1.
    """
    a, b = np.asarray(first).ravel(), np.asarray(second).ravel()
    if a.dtype == b.dtype == np.uint16:
        tally = np.zeros(131071, np.int64)
        count_differences(np.ascontiguousarray(a), np.ascontiguousarray(b), tally)
        found = np.flatnonzero(tally)
        values = (found - 65535) / scale
        if np.array_equal(values, np.rint(values)):
            return _whole_sigma(values, tally[found])
    if scale != 1.0:
        a, b = a / np.float32(scale), b / np.float32(scale)
    whole = _is_whole(a[np.isfinite(a)]) and _is_whole(b[np.isfinite(b)])
    d = a.astype(np.float64) - b.astype(np.float64)
    d = d[np.isfinite(d)]
    if whole:
        return _whole_sigma(*np.unique(d, return_counts=True))
    return _core_sigma(d - np.median(d)) / math.sqrt(2.0) if d.size >= _FEWEST else float("nan")


def _whole_sigma(values: Array, counts: NDArray[np.int64]) -> float:
    """The same from the distinct differences, ascending, and how often each occurs."""
    total = int(counts.sum())
    if total < _FEWEST:
        return float("nan")
    upto = np.cumsum(counts)
    lower, upper = (values[np.searchsorted(upto, rank, side="right")] for rank in ((total - 1) // 2, total // 2))
    values = values - np.rint(0.5 * (lower + upper))
    low, high = _of_histogram(values, counts, (0.15865525393145707, 0.8413447460685429))
    wide, noise = max(0.5 * float(high - low), 0.4), 0.0
    for _ in range(3):
        edge = max(1, round(_CORE * wide))
        core = np.abs(values) <= edge
        k, weight = values[core], counts[core] / max(1, int(counts[core].sum()))
        drift, square = float(weight @ k), float(weight @ (k * k))
        if square == 0.0:
            return 0.0
        noise = _solve_noise(square, drift, edge)
        wide = float(np.sqrt(2.0) * noise)
    return noise


def _core_sigma(d: Array) -> float:
    """Spread of centred continuous values from their core, undoing the cut at ± 3 sigma."""
    sigma = robust_sigma(d)
    whole_to_core = 1.0 - 2.0 * _CORE * np.exp(-0.5 * _CORE**2) / np.sqrt(2.0 * np.pi) / (2.0 * ndtr(_CORE) - 1.0)
    for _ in range(10):
        core = d[np.abs(d) <= _CORE * sigma]
        if core.size < 2 or sigma == 0.0:
            break
        sigma = float(np.sqrt(np.mean(core * core) / whole_to_core))
    return sigma


def _solve_noise(square: float, drift: float, edge: int) -> float:
    """Total noise of a frame whose pair differences have this mean square within ± edge quanta."""

    def excess(noise: float) -> float:
        k, weight, _ = _difference_histogram(noise, drift, edge)
        inside = np.abs(k) <= edge
        return float((weight[inside] * k[inside] ** 2).sum() / weight[inside].sum()) - square

    low, high = 0.02, 4.0 * edge
    if excess(low) >= 0.0:
        return _difference_histogram(low, drift, edge)[2]
    if excess(high) <= 0.0:
        return float(np.sqrt(0.5 * square))
    noise = brentq(excess, low, high, xtol=1e-6 * edge, rtol=1e-6)
    return _difference_histogram(float(noise), drift, edge)[2]


def _difference_histogram(noise: float, drift: float, edge: int) -> tuple[Array, Array, float]:
    """Differences k of two quantised samples of one level, their probabilities, and the total noise of a sample.

    noise: rms before the converter; drift: difference of both levels; all in quanta. The level's place between two
    integers is uniform over pixels.
    """
    if noise > _SMOOTH:
        k = np.arange(-edge, edge + 1, dtype=np.float64)
        total = float(np.sqrt(noise**2 + 1.0 / 12.0))
        # the unit bins of k bring one of the two quantisations' 1/12 themselves
        inside = np.sqrt(2.0 * total**2 - 1.0 / 12.0)
        return k, ndtr((k + 0.5 - drift) / inside) - ndtr((k - 0.5 - drift) / inside), total
    reach = int(np.ceil(6.0 * noise + abs(drift))) + 2
    j = np.arange(-reach, reach + 1, dtype=np.float64)
    weight = np.zeros(4 * reach + 1)
    variance = 0.0
    for phase in _PHASES:
        one = ndtr((j + 0.5 - phase) / noise) - ndtr((j - 0.5 - phase) / noise)
        other = ndtr((j + 0.5 - phase + drift) / noise) - ndtr((j - 0.5 - phase + drift) / noise)
        weight += np.convolve(one, other[::-1])
        variance += float((one * j**2).sum() - (one * j).sum() ** 2)
    k = np.arange(-2 * reach, 2 * reach + 1, dtype=np.float64)
    return k, weight / _PHASES.size, float(np.sqrt(variance / _PHASES.size))


def choose_scale_factor(divisors: Iterable[int]) -> int:
    """Raw counts per native ADU: the power of two that most frames' values are divisible by; 1 without a vote.

    divisors: one vote a frame (12-bit data left-aligned in 16 bits vote 16); constant frames are no witnesses and
    must be left out. A tie goes to the smaller. Raises ValueError for a vote that is no power of two.
    """
    votes = Counter(int(d) for d in divisors)
    wrong = [d for d in votes if d < 1 or d & (d - 1)]
    if wrong:
        raise ValueError(f"divisors must be powers of two, not {wrong}")
    return max(votes, key=lambda d: (votes[d], -d), default=1)
