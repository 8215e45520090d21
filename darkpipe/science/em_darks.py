"""Darks of an EM-CCD: the mean of a stack taken for the purpose, and one made of noise maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ
from darkpipe.science.masked_mean import MaskedMean, Scatter
from darkpipe.science.noise_maps import NoiseMaps
from darkpipe.science.regions import DetectorRegions

F4 = NDArray[np.float32]
U2 = NDArray[np.uint16]

FrameErrors = Literal["common", "independent", "ignore"]
"""What the frames' own errors are: 'common' to the frames of a stack (of the bias, of the conversion gain), so that the
mean keeps them; 'independent', so that they go down with their number; or to be ignored (the scatter holds them)."""


@dataclass(frozen=True)
class EmDark:
    """A master dark in detected electrons: bias-subtracted, divided by the EM gain, not desmeared.

    dark_e, error_e : (rows, cols) float32, 1 sigma; NaN where there is no value. dq : uint16, bits of `flags.DQ`.
    full_frame : whether it is the full frame, else the image area.
    """

    dark_e: F4
    error_e: F4
    dq: U2
    em_gain: float
    exposure_s: float
    full_frame: bool


def traditional_dark(
    stack: MaskedMean,
    regions: DetectorRegions,
    *,
    em_gain: float,
    exposure_s: float,
    divided: bool = True,
    full_frame: bool = False,
    frame_errors: FrameErrors = "common",
    scatter: Scatter = "population",
) -> EmDark:
    """The mean of a stack of darks of one EM gain and exposure.

    The error joins the scatter of the frames and, where they have errors of their own, those. Telemetry rows are NaN.

    Parameters
    ----------
    stack : frames in electrons, bias subtracted, cosmic rays masked, not desmeared.
    regions : geometry; the stack's planes are full frames.
    divided : the frames were divided by the EM gain; else it is done here.
    full_frame : the whole frame, else the image area.
    frame_errors, scatter : how the error is made, see `FrameErrors` and `MaskedMean.error`.

    Raises
    ------
    DesignError : planes of another shape than the regions', or gain and exposure outside their range.
    """
    _check_setting(em_gain, exposure_s)
    if stack.mean.shape != regions.shape:
        raise DesignError(
            f"frames of {stack.mean.shape}, but the detector has {regions.shape}", where="detector regions"
        )
    own2 = frame_error2(stack, frame_errors)
    scale = 1.0 if divided else 1.0 / em_gain
    value = (stack.mean * scale).astype(np.float32)
    # a prescan collects nothing and telemetry rows are no pixels: neither tells how much the active pixels scatter
    kinds = np.zeros(regions.shape, np.int8)
    kinds[regions.collecting.slices] = 1
    kinds[regions.telemetry] = 2
    error = (np.sqrt(stack.error(scatter, kinds).astype(np.float64) ** 2 + own2) * scale).astype(np.float32)
    dq = stack.dq.copy()
    value[regions.telemetry] = np.nan
    error[regions.telemetry] = np.nan
    dq[regions.telemetry] |= np.uint16(DQ.FEW_SAMPLES)
    where = (slice(None), slice(None)) if full_frame else regions.image.slices
    return EmDark(value[where], error[where], dq[where], float(em_gain), float(exposure_s), full_frame)


def frame_error2(stack: MaskedMean, frame_errors: FrameErrors) -> NDArray[np.float64] | float:
    """Variance of a stack's mean by the frames' own errors, (rows, cols); 0 where they have none."""
    if frame_errors not in ("common", "independent", "ignore"):
        raise ValueError(f"frame_errors is 'common', 'independent' or 'ignore', not {frame_errors!r}")
    if stack.frame_error is None or frame_errors == "ignore":
        return 0.0
    square = stack.frame_error.astype(np.float64) ** 2
    return square / np.maximum(stack.count, 1) if frame_errors == "independent" else square


def synthesised_dark(
    maps: NoiseMaps,
    em_gain: float,
    exposure_s: float,
    *,
    full_frame: bool = False,
    errors: Literal["covariance", "independent"] = "covariance",
) -> EmDark:
    """A master dark of any EM gain and exposure, F/g + t D + C, in detected electrons.

    Parameters
    ----------
    maps : of the calibration.
    em_gain, exposure_s : of the frames that it is for.
    full_frame : the whole frame, else the image area.
    errors : 'covariance': with what the errors of F, C and D share, which is much (C and D of one pixel are told from
        the same stacks). 'independent': F_err²/g² + t² D_err² + C_err², which is too large.

    DQ is that of the maps; EXTRAPOLATED where gain or exposure lie more than 1 % outside what was calibrated.

    Raises
    ------
    DesignError : an EM gain below 1, an exposure below 0, or either not finite.
    """
    _check_setting(em_gain, exposure_s)
    if errors not in ("covariance", "independent"):
        raise ValueError(f"errors is 'covariance' or 'independent', not {errors!r}")
    where = (slice(None), slice(None)) if full_frame else maps.regions.image.slices
    f, c, d = (plane[where] for plane in (maps.fixed_e, maps.cic_e, maps.dark_e_per_s))
    ff, fc, fd, cc, cd, dd = (plane[where] for plane in maps.covariance)
    a, t = 1.0 / em_gain, exposure_s
    variance = (a * a) * ff.astype(np.float64) + (t * t) * dd + cc
    if errors == "covariance":
        variance += 2 * a * fc + (2 * a * t) * fd + (2 * t) * cd
    dq = maps.dq[where].copy()
    gains, times = [s.em_gain for s in maps.stacks], [s.exposure_s for s in maps.stacks]
    if not (within_range(em_gain, gains) and within_range(exposure_s, times)):
        dq |= np.uint16(DQ.EXTRAPOLATED)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(np.maximum(variance, 0)).astype(np.float32)
    value = np.float32(a) * f + np.float32(t) * d + c
    return EmDark(value, error, dq, float(em_gain), float(exposure_s), full_frame)


def within_range(value: float, values: Sequence[float]) -> bool:
    """Whether a gain or an exposure lies no more than 1 % outside of those that were calibrated."""
    return 0.99 * min(values) <= value <= 1.01 * max(values)


def _check_setting(em_gain: float, exposure_s: float) -> None:
    if not (np.isfinite(em_gain) and em_gain >= 1):
        raise DesignError(f"an EM gain is 1 or more, not {em_gain:g}")
    if not (np.isfinite(exposure_s) and exposure_s >= 0):
        raise DesignError(f"an exposure is 0 s or more, not {exposure_s:g}")
