"""Does the dark fit its frame? The figures that `residual` adds to the row of a calibrated frame."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.calibrating import Asked, ModelFiles, Result, Temperature, common_error
from darkpipe.files.probe_files import ProbeSet
from darkpipe.science.calibration import REPAIRABLE, fit_pattern, local
from darkpipe.science.flags import DQ
from darkpipe.science.noise import robust_sigma

F8 = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_ORDINARY = 40_000  # pixels of a lattice over the frame, besides the hot ones
SHAKY = REPAIRABLE | DQ.SATURATED | DQ.OUTLIER | DQ.REPAIRED


def figures(
    result: Result, found: ProbeSet, files: ModelFiles, asked: Asked, temperature: Temperature
) -> dict[str, float]:
    """Scale of the dark with its 1 sigma, correlation before and after, noise before and after.

    Each pixel is held against its surroundings, so that sky and nebulae do not count; the scale's error holds the
    scatter of the pixels and what they share (the model's common error, that of the temperature).

    Parameters
    ----------
    found : the hot pixels of the model inside of the frame, and the scale that they are a thermometer of.
    """
    hot = (found.probes.rows - asked.window.row, found.probes.cols - asked.window.col)
    rows, cols = _sample(result, hot)
    good = (result.dq[rows, cols] & int(SHAKY)) == 0
    rows, cols = rows[good], cols[good]
    science = np.where((result.dq & int(SHAKY)) == 0, result.science, np.float32(np.nan))
    dark_error = result.dark_error[rows, cols].astype(np.float64)
    noise = np.sqrt(np.maximum(result.error[rows, cols].astype(np.float64) ** 2 - dark_error**2, 0.0))
    after, around = local(science, rows, cols, result.error[rows, cols].astype(np.float64), asked.stride)
    pattern, _ = local(result.dark, rows, cols, stride=asked.stride)
    fit = fit_pattern(after, pattern, np.hypot(noise, around), dark_error)
    shared = _shared_error(result, rows, cols, files, asked, temperature, found.scale.error_at(temperature.value_c))
    whole = result.science + result.dark
    unflagged = (result.dq & int(SHAKY)) == 0
    return {
        "scale": fit.scale,
        "scale_error": math.hypot(fit.scale_error, shared),
        "correlation_before": fit.before,
        "correlation_after": fit.after,
        "correlation_error": fit.after_error,
        "pattern_pixels": float(fit.pixels),
        "sigma_before_adu": robust_sigma(whole[unflagged]),
        "sigma_after_adu": robust_sigma(result.science[unflagged]),
    }


def _sample(result: Result, hot: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """A lattice over the frame and the hot pixels, each pixel once."""
    rows, cols = result.science.shape
    step = max(1, math.isqrt(rows * cols // MOST_ORDINARY))
    if step > 1 and step % 2 == 0:
        step += 1  # all colours of a mosaic have a say
    r, c = np.mgrid[step // 2 : rows : step, step // 2 : cols : step].reshape(2, -1)
    places = np.unique(np.concatenate([r * cols + c, hot[0] * cols + hot[1]]))
    return places // cols, places % cols


def _shared_error(
    result: Result,
    rows: Ints,
    cols: Ints,
    files: ModelFiles,
    asked: Asked,
    temperature: Temperature,
    scale_c: float,
) -> float:
    """Relative 1 sigma of the dark that all pixels have in common: of the model, of this frame's own temperature about
    that of the dark (in which the cells of the campaign scattered by the multiplicative error), of a thermometer, and
    of the temperatures of the masters (`scale_c`)."""
    model = files.description.find(asked.key)
    dark, growth = result.dark[rows, cols].astype(np.float64), result.growth[rows, cols].astype(np.float64)
    known = np.isfinite(dark) & np.isfinite(growth)
    power = float((dark[known] ** 2).sum())
    relative_growth = abs(float((dark[known] * growth[known]).sum())) / power if power > 0 else 0.0
    if temperature.source == "hot pixels":
        # the same model read the temperature: its common error cancels
        return relative_growth * temperature.sigma_c
    reading_c = 0.0 if temperature.source == "set point" else temperature.sigma_c
    common = math.hypot(common_error(model), model.relative_error)
    return math.hypot(common, relative_growth * math.hypot(scale_c, reading_c))
