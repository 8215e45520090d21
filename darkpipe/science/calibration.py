"""A frame less its bias and dark, with its error; repair of flagged pixels; does the dark fit the frame?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.calibration_kernel import take_off, take_off_counts
from darkpipe.science.flags import DQ
from darkpipe.science.neighbours import STRUCTURE, box_offsets, gather, level_and_scatter

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bits = NDArray[np.uint16]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

REPAIRABLE = DQ.FIT_FAILED | DQ.DEAD | DQ.UNSTABLE | DQ.NONLINEAR
FEWEST_NEIGHBOURS = 4  # good ones, that a repaired value needs
FEWEST = 30  # pixels that a figure needs
TUKEY = 4.685  # sigma
_MEDIAN_COST = math.pi / 2.0


@dataclass(frozen=True)
class Dark:
    """What is subtracted from a frame, and the bits of its pixels; arrays of one shape [ADU].

    signal : dark above the bias; growth : its change with temperature [ADU/K].
    error : 1 sigma of the model's parameters. bias, bias_error : inf or NaN where there is none.
    """

    signal: F4
    error: F4
    growth: F4
    bias: F4
    bias_error: F4
    dq: Bits


@dataclass(frozen=True)
class DarkNoise:
    """What single pixels of the dark are off by beside the error of their parameters.

    relative : the model's multiplicative error. temperature_sigma_c : 1 sigma of the temperature it was made for. Both
    count from the dark of the ordinary pixel on, bulk_adu and its growth [ADU/K]: what all pixels are off by alike adds
    to the level of the sky, and is no noise.
    """

    relative: float
    temperature_sigma_c: float
    bulk_adu: float = 0.0
    bulk_growth_adu_k: float = 0.0


@dataclass(frozen=True)
class Calibrated:
    """Science [ADU above bias and dark], 1 sigma [ADU], bits, of one shape; dark_error: 1 sigma of the dark alone."""

    science: F4
    error: F4
    dq: Bits
    dark_error: F4


@dataclass(frozen=True)
class Counts:
    """Raw counts of a frame (rows, cols), of any type.

    scale_factor : counts per ADU. pedestal_adu : what is added to all. saturation : counts from which on a pixel is at
    the top of the converter; those of 0 and less are at its bottom.
    """

    raw: NDArray[Any]
    scale_factor: float
    pedestal_adu: float
    saturation: float

    def rows(self, rows: slice) -> Counts:
        """A band of rows, no copy."""
        return replace(self, raw=self.raw[rows])

    @property
    def native(self) -> F4:
        """Zero-based native ADU."""
        scaled = np.asarray(self.raw, np.float32) / np.float32(self.scale_factor)
        return np.asarray(scaled + np.float32(self.pedestal_adu), np.float32)

    @property
    def state(self) -> NDArray[np.uint8]:
        """1 for a sample at the top of the converter, 2 for one at its bottom."""
        return np.asarray((self.raw >= self.saturation) + np.uint8(2) * (self.raw <= 0), np.uint8)


def calibrate(
    frame_adu: F4, dark: Dark, extra: DarkNoise, read_noise_adu: float | F4, gain_e_per_adu: float, saturated: Bools
) -> Calibrated:
    """Subtract bias and dark.

    Variance: read noise, shot noise of all charge in the pixel (dark and light), and the error of the dark (parameters,
    bias, multiplicative, temperature).

    Parameters
    ----------
    frame_adu : native ADU, zero-based. saturated : pixels at the top of the converter or of their well.
    """
    shape = frame_adu.shape
    out = Calibrated(
        np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16),
        np.sqrt(dark_variance(dark, extra)),
    )  # fmt: skip
    noise = np.square(np.asarray(read_noise_adu, np.float32))
    state = saturated.astype(np.uint8)
    subtract((frame_adu, state), dark, dark_variance(dark, extra), noise, gain_e_per_adu, None, out)
    return out


def dark_variance(dark: Dark, extra: DarkNoise) -> F4:
    """Variance of the dark alone [ADU²]: parameters, bias, multiplicative, temperature."""
    return np.asarray(
        dark.error**2
        + np.where(np.isfinite(dark.bias_error), dark.bias_error, 0) ** 2
        + (np.float32(extra.relative) * (dark.signal - np.float32(extra.bulk_adu))) ** 2
        + (np.float32(extra.temperature_sigma_c) * (dark.growth - np.float32(extra.bulk_growth_adu_k))) ** 2,
        np.float32,
    )


def subtract(
    frame: Counts | tuple[F4, NDArray[np.uint8]],
    dark: Dark,
    variance: F4,
    noise_variance: F4,
    gain_e_per_adu: float,
    full_adu: F4 | None,
    out: Calibrated,
) -> None:
    """`calibrate` with what many frames share made beforehand; science, error and bits of `out` are overwritten.

    Parameters
    ----------
    frame : counts, or native ADU and the state (`Counts.state`) of each pixel.
    variance : `dark_variance`. noise_variance : of the read noise [ADU²], a plane or one number. full_adu : level above
    the bias from which on a pixel is saturated, a plane, one number, or None.
    """
    top = np.full(1, np.float32(np.inf)) if full_adu is None else full_adu
    planes = [_flat(plane) for plane in (dark.bias, dark.signal, variance, noise_variance)]
    results = (out.science.reshape(-1), out.error.reshape(-1), out.dq.reshape(-1))
    gain, bits = np.float32(gain_e_per_adu), _flat(dark.dq)
    if isinstance(frame, Counts) and frame.raw.dtype == np.uint16:
        full = np.float32(np.ceil(min(max(frame.saturation, 0.0), 65536.0)))  # a whole number of counts, exactly
        scale, pedestal = np.float32(frame.scale_factor), np.float32(frame.pedestal_adu)
        run: Any = take_off_counts
        run(_flat(frame.raw), scale, pedestal, full, *planes, gain, bits, _flat(top), _BITS, *results)
        return
    image, state = (frame.native, frame.state) if isinstance(frame, Counts) else frame
    run = take_off
    run(_flat(image), *planes, gain, bits, _flat(state), _flat(top), _BITS, *results)


def _flat(plane: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(plane).reshape(-1)


_BITS = tuple(int(bit) for bit in (DQ.SATURATED, DQ.CLIPPED_LOW, DQ.FIT_FAILED, DQ.NO_BIAS))


def repair(science: F4, error: F4, dq: Bits, bad: Bools, stride: int = 1) -> int:
    """Replace the pixels `bad` by the median of the good ones around them, in place; returns how many.

    Their error becomes the scatter of these neighbours (or their error, if that is more) and that of the median; they
    get the bit REPAIRED. A pixel with fewer than 4 good neighbours in its 5 x 5 box stays as it is. `stride` 2: a Bayer
    mosaic, where neighbours are pixels of the same colour.
    """
    rows, cols = np.nonzero(bad)
    if rows.size == 0:
        return 0
    offsets = box_offsets(stride)
    trusted = np.where(bad | ((dq & int(DQ.SATURATED)) != 0), np.float32(np.nan), science)
    level, scatter, count = level_and_scatter(gather(trusted, rows, cols, offsets))
    typical, _, _ = level_and_scatter(gather(error, rows, cols, offsets))
    can = count >= FEWEST_NEIGHBOURS
    at = (rows[can], cols[can])
    science[at] = level[can]
    noise = np.maximum(scatter[can], np.nan_to_num(typical[can]))
    error[at] = noise * np.sqrt(1.0 + _MEDIAN_COST / count[can])
    dq[at] |= np.uint16(DQ.REPAIRED)
    return int(can.sum())


@dataclass(frozen=True)
class PatternFit:
    """Does the dark fit the frame?

    scale, scale_error : k of light = background + k · dark, 1 sigma (scatter of the pixels alone); 1 if it fits.
    before, after : correlation of the frame with the pattern of the dark, over the same pixels, before and after the
    dark was subtracted. after_error : 1 sigma of the latter where nothing is left. pixels : how many had a say.
    """

    scale: float
    scale_error: float
    before: float
    after: float
    after_error: float
    pixels: int


UNKNOWN_FIT = PatternFit(math.nan, math.nan, math.nan, math.nan, math.nan, 0)


def fit_pattern(after: F8, pattern: F8, noise: F8, pattern_error: F8) -> PatternFit:
    """Fit the scale of the dark, and correlate.

    Robust (Tukey's biweight on what is left), weighted with the noise, and with the error of the pattern itself taken
    out of the denominator: an error in the abscissa alone would make k too small (Fuller 1987).

    Parameters
    ----------
    after : (n,) frame less dark, each pixel against its surroundings [ADU]. pattern : (n,) the same of the dark.
    noise, pattern_error : (n,) 1 sigma of `after` without, and of the pattern [ADU].
    """
    good = np.isfinite(after) & np.isfinite(pattern) & np.isfinite(noise) & (noise > 0)
    if good.sum() < FEWEST:
        return UNKNOWN_FIT
    left, p, sigma, wrong = after[good], pattern[good], noise[good], pattern_error[good]
    k = 1.0
    for _ in range(30):
        total = np.sqrt(sigma**2 + (k * wrong) ** 2)
        z = (left - (k - 1.0) * p) / total
        weight = np.maximum(1.0 - (z / TUKEY) ** 2, 0.0) ** 2
        w = weight / total**2
        # of errors in p the residual holds the same, so that they enter here with the sign of -(k - 1) - 1
        power = float((w * (p**2 - wrong**2)).sum())
        if not power > 0:
            return UNKNOWN_FIT
        new = 1.0 + float((w * (p * left + wrong**2)).sum()) / power
        done, k = abs(new - k) < 1e-7, new
        if done:
            break
    u = z / TUKEY
    curvature = np.where(np.abs(u) < 1, (1 - u**2) * (1 - 5 * u**2), 0.0) / total**2
    bread = float((curvature * (p**2 - wrong**2)).sum())
    error = math.sqrt(float(((w * p * (left - (k - 1.0) * p)) ** 2).sum())) / bread if bread > 0 else math.nan
    before, remaining = _correlation(left + p, p, w), _correlation(left, p, w)
    n = int((weight > 0).sum())
    effective = float((w * p**2).sum()) ** 2 / float((w * p**2) @ (w * p**2))
    return PatternFit(k, error, before, remaining, 1.0 / math.sqrt(max(effective, 1.0)), n)


def _correlation(x: F8, y: F8, weight: F8) -> float:
    """Weighted, about zero: both are differences from their surroundings."""
    power = float((weight * x * x).sum()) * float((weight * y * y).sum())
    return float((weight * x * y).sum()) / math.sqrt(power) if power > 0 else math.nan


def local(plane: NDArray[Any], rows: Ints, cols: Ints, noise: F8 | None = None, stride: int = 1) -> tuple[F8, F8]:
    """(n,) pixels less the median of their surroundings, and 1 sigma of what that does not take away: the error of the
    median, and, where the surroundings scatter beyond the noise of a pixel (n,), as in a star, that scatter."""
    around, scatter, count = level_and_scatter(gather(plane, rows, cols, box_offsets(stride)))
    value = plane[rows, cols].astype(np.float64) - around
    quiet = np.zeros(rows.size) if noise is None else np.asarray(noise, np.float64)
    structure = np.where(scatter > STRUCTURE * quiet, scatter**2 - quiet**2, 0.0) if noise is not None else 0.0
    median = _MEDIAN_COST * np.maximum(scatter, quiet) ** 2 / np.maximum(count, 1)
    return value, np.sqrt(median + structure)
