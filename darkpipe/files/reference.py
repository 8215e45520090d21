"""The numbers of `reference.yaml`: what headers say, what the data say, and which of them is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkpipe.errors import ProductError
from darkpipe.files.index import RawFrame
from darkpipe.files.masters import ReferenceValues, read_reference
from darkpipe.files.measure import RawStack, common_read_noise, measured_gain, saturation_level
from darkpipe.science.noise import choose_scale_factor

DISAGREEMENT = 0.1  # of header and measured gain, beyond which it is said


@dataclass(frozen=True)
class Overrides:
    """What the user sets instead of header and data; None: nothing."""

    scale_factor: float | Literal["auto"]
    gain_e_per_adu: float | None
    read_noise_adu: float | None
    saturation_fraction: float
    reference_temperature_c: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reference_values(
    frames: Sequence[RawFrame],
    noise: Sequence[RawFrame],
    bright: Sequence[RawFrame],
    has_bias: bool,
    overrides: Overrides,
) -> tuple[ReferenceValues, Mapping[str, float]]:
    """Values and the errors of the measured ones.

    Parameters
    ----------
    frames : all of the campaign. noise : those the read noise is measured on (biases if `has_bias`).
    bright : darks of one cell, for the conversion gain.
    """
    notes: list[str] = []
    scale = overrides.scale_factor
    if scale == "auto":
        scale = float(choose_scale_factor([f.divisor for f in frames if f.sigma > 0 and f.divisor > 0]))
        if scale != 1:
            notes.append(f"all values are multiples of {scale:g}: treated as {16 - int(math.log2(scale))}-bit data")
    sigma, sigma_error = common_read_noise(_stack(noise), scale)
    if not has_bias:
        notes.append("no bias frames: the read noise is measured on darks, and is an upper limit")
    if overrides.read_noise_adu:
        sigma, sigma_error = overrides.read_noise_adu, 0.0
    if not sigma > 0 or not math.isfinite(sigma):
        notes.append("the frames show no noise at all: a read noise of 0.3 ADU (quantisation) is assumed")
        sigma, sigma_error = 0.3, 0.0
    level = float(np.median([f.median for f in noise])) if has_bias else None
    measured = measured_gain(_stack(bright), scale, sigma, level) if len(bright) > 1 else None
    found = measured.gain_e_per_adu if measured and math.isfinite(measured.gain_e_per_adu) else None
    error = measured.error_e_per_adu if measured and found else None
    if found is not None and error is not None and error > 0.3 * found:
        found = error = None  # too vague to say anything
    gain, source = _gain(frames, overrides, scale, found, notes)
    temperatures = [f.set_point_c if math.isfinite(f.set_point_c) else f.temperature_c for f in frames]
    t0 = overrides.reference_temperature_c
    exposures = [f.exposure_s for f in noise] if has_bias else [0.0]
    values = ReferenceValues(
        scale_factor=float(scale),
        read_noise_adu=_digits(sigma),
        gain_e_per_adu=_digits(gain),
        gain_source=source,
        saturation_raw=saturation_level(
            [f.saturation for f in frames], [f.maximum for f in frames], overrides.saturation_fraction
        ),
        bias_exposure_s=float(np.median(exposures)),
        temperature_c=float(round(float(np.mean(sorted(set(temperatures)))))) if t0 is None else t0,
        gain_measured_e_per_adu=None if found is None else _digits(found),
        gain_measured_error=None if error is None else _digits(error),
        notes=tuple(notes),
    )
    return values, {"read_noise_adu": sigma_error, "gain_measured_e_per_adu": error or 0.0}


def _stack(frames: Sequence[RawFrame]) -> RawStack:
    first = frames[0]
    return RawStack(
        [f.path for f in frames], [f.hdu for f in frames], first.rows, first.cols, [f.median for f in frames]
    )


def _gain(
    frames: Sequence[RawFrame], overrides: Overrides, scale: float, measured: float | None, notes: list[str]
) -> tuple[float, str]:
    """Setting, else header, else measured, else 1; a header that disagrees with the data is said."""
    stated = [f.egain for f in frames if math.isfinite(f.egain) and f.egain > 0]
    if overrides.gain_e_per_adu:
        gain, source = overrides.gain_e_per_adu, "setting"
    elif stated:
        gain, source = float(np.median(stated)), "header"
        # drivers disagree whether e-/ADU is per raw or per native count: the one nearer to the data is taken
        if scale != 1 and (measured is None or abs(math.log(gain * scale / measured)) < abs(math.log(gain / measured))):
            gain *= scale
            notes.append("the header's e-/ADU is taken as per raw count")
    elif measured:
        return measured, "measured"
    else:
        notes.append("neither header nor data tell the conversion gain: 1 e-/ADU is assumed (set gain_e_per_adu)")
        return 1.0, "assumed"
    if measured and abs(measured / gain - 1.0) > DISAGREEMENT:
        notes.append(f"the {source}'s gain of {gain:g} e-/ADU disagrees with the measured {measured:.3g}")
    return gain, source


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def settled(path: Path, values: ReferenceValues, errors: Mapping[str, float]) -> ReferenceValues:
    """The values to write: a measured number that moved by less than its error since the last run keeps its old
    value, so that one more frame does not make everything stale in the last digit."""
    try:
        old = read_reference(path)
    except ProductError:
        return values
    kept: dict[str, Any] = {}
    for name, error in errors.items():
        before, now = getattr(old, name), getattr(values, name)
        if before is not None and now is not None and abs(before - now) <= error:
            kept[name] = before
    if abs(old.temperature_c - values.temperature_c) <= 1.0:
        kept["temperature_c"] = old.temperature_c
    if "gain_measured_e_per_adu" in kept:
        kept["gain_measured_error"] = old.gain_measured_error
        if values.gain_source == old.gain_source == "measured":
            kept["gain_e_per_adu"] = old.gain_e_per_adu
    return replace(values, **kept)
