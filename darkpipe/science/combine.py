"""Combine the frames of a cell: a mean whose outliers are judged by the noise model, never by the sample.

With ten samples or fewer a deviation in units of the sample's own spread cannot exceed (n - 1)/sqrt(n), so a
"3 sigma" cut taken from the sample rejects nothing. Here sigma is what the camera's noise says it must be.

A sample is x = raw / scale_factor + pedestal - level of its frame. It is rejected where
|x - m| > kappa·f·sigma, sigma² = R² + max(S, 0)/g + relative_error² S² with S = m - bias; m is first the median,
then once the mean of what was kept. f² = 1 + 1/(n // 2) is the noise of m itself, which half of the samples
vouch for: 1.41 for n = 3, 1.1 for 10; without it the clean samples beside a cosmic ray lose one in 700 of their
own. Two valid samples: only the higher one can go. One: nothing is rejected. Where fewer than half of the valid
samples survive, the noise model does not describe the pixel: all of them are kept, the error is no less than
their own scatter says, and FEW_SAMPLES is set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine_kernels import clip_strip, comparators, median_strip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Combined:
    """What `clipped_mean` makes of p pixels; every array has shape (p,)."""

    mean: Floats
    """Native ADU; NaN where no sample was valid."""
    error: Floats
    """1 sigma of the mean in native ADU: the noise model at the mean over the samples kept."""
    count: NDArray[np.uint16]
    """Samples kept."""
    rejected: NDArray[np.uint16]
    """Valid samples rejected as outliers (saturated, clipped and missing ones are not among them)."""
    chi2: Floats
    """Reduced chi-square of the kept samples about their mean, count - 1 degrees of freedom; NaN below two."""
    scatter: Floats
    """Chi-square of all valid samples about the mean, where a high one counts as kappa² at most: it may be a cosmic
    ray, which a low one never is. Degrees of freedom: count + rejected - 1; NaN below two samples."""
    dq: NDArray[np.uint16]
    """Bits of `darkpipe.science.flags.DQ`."""


def clipped_mean(
    samples: NDArray[Any],
    *,
    level_adu: Sequence[float] | NDArray[Any] | None,
    read_noise_adu: float | NDArray[Any],
    gain_e_per_adu: float,
    relative_error: float = 0.0,
    bias_adu: float | NDArray[Any] | None = None,
    kappa: float = 4.5,
    valid_low: float = -math.inf,
    valid_high: float = math.inf,
    scale_factor: float = 1.0,
    pedestal_adu: float = 0.0,
) -> Combined:
    """Mean of n samples a pixel without cosmic rays and other outliers.

    Memory: a few MB beyond input and output, whatever n; callers give strips of rows. A pixel's result does not
    depend on the strip it came in.

    Parameters
    ----------
    samples : (n, p) raw counts, uint16 or float32 (others are converted to float32); NaN is a missing sample.
    level_adu : (n,) additive offset of each frame to its cell (pedestal drift), native ADU; None: none.
    read_noise_adu : rms, native ADU, one number or (p,); finite, not negative.
    gain_e_per_adu : electrons per native ADU, above 0; inf switches shot noise off.
    relative_error : multiplicative error of one sample (temperature jitter inside the cell), a fraction of S.
    bias_adu : level without dark signal, native ADU, one number or (p,); None: no signal, so sigma is the read
        noise alone (masters of cold biases). Where it is NaN the whole value counts as signal.
    kappa : clipping threshold in sigma, above 0.
    valid_low, valid_high : raw counts; samples at or below, at or above these are left out and flagged.
    scale_factor : raw counts per native ADU.
    pedestal_adu : native ADU added to every sample after scaling.

    Raises
    ------
    ValueError : shapes that do not fit, no frames, or parameters outside their range.
    """
    raw = _as_samples(samples)
    n, p = raw.shape
    noise = _per_pixel(read_noise_adu, p, "read_noise_adu")
    _check_numbers(noise, relative_error, gain_e_per_adu=gain_e_per_adu, kappa=kappa, scale_factor=scale_factor)
    signal = bias_adu is not None
    bias = _per_pixel(0.0 if bias_adu is None else bias_adu, p, "bias_adu")
    if np.isnan(bias.sum()):
        bias = np.nan_to_num(bias, nan=0.0)
    reach = kappa * math.sqrt(1.0 + 1.0 / max(n // 2, 1))
    model = (1.0 / gain_e_per_adu if signal else 0.0, relative_error**2 if signal else 0.0, reach, kappa)
    floats, counts = np.empty((4, p), np.float32), np.empty((3, p), np.uint16)
    clip_strip(
        raw,
        comparators(n),
        _offsets(level_adu, n, pedestal_adu),
        np.array([1.0 / scale_factor, valid_low, valid_high], np.float32),
        noise * noise,
        bias,
        np.array(model, np.float32),
        floats,
        counts,
    )
    mean, error, chi2, scatter = floats
    count, rejected, dq = counts
    return Combined(mean=mean, error=error, count=count, rejected=rejected, chi2=chi2, scatter=scatter, dq=dq)


def median(samples: NDArray[Any]) -> Floats:
    """Median of n samples a pixel, NaN left out; exact for uint16.

    samples: (n, p), uint16 or float32 (others are converted to float32). Returns (p,) float32, NaN where no
    sample is valid. Raises ValueError for a wrong shape or no frames.
    """
    raw = _as_samples(samples)
    out = np.empty(raw.shape[1], np.float32)
    median_strip(raw, comparators(raw.shape[0]), out)
    return out


def _check_numbers(noise: Floats, relative_error: float, **above_zero: float) -> None:
    if noise.size and not (noise.min() >= 0 and noise.max() < np.inf):  # NaN is neither
        raise ValueError("read_noise_adu must be finite and not negative")
    for name, value in above_zero.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, not {value}")
    if not (math.isfinite(relative_error) and relative_error >= 0):
        raise ValueError(f"relative_error must be finite and not negative, not {relative_error}")


def _as_samples(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.ndim != 2 or samples.shape[0] < 1 or samples.shape[0] > 65535:
        raise ValueError(f"samples must be (frames, pixels) with 1 to 65535 frames, not {samples.shape}")
    kind = np.uint16 if samples.dtype == np.uint16 else np.float32
    return np.ascontiguousarray(samples, dtype=kind)


def _per_pixel(value: float | NDArray[Any], p: int, name: str) -> Floats:
    array = np.asarray(value, np.float32)
    if array.shape not in ((), (p,)):
        raise ValueError(f"{name} must be one number or ({p},), not {array.shape}")
    # never one that is only for reading: numba compiles anew for those, half a minute for the same loops
    return np.require(array if array.shape else np.full(p, array), requirements=["C", "W"])


def _offsets(level_adu: Sequence[float] | NDArray[Any] | None, n: int, pedestal_adu: float) -> Floats:
    level = np.zeros(n) if level_adu is None else np.asarray(level_adu, np.float64)
    if level.shape != (n,) or not np.isfinite(level).all():
        raise ValueError(f"level_adu must be {n} finite numbers, one a frame")
    return np.asarray(pedestal_adu - level, np.float32)
