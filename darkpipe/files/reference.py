"""The numbers of `reference.yaml`: what headers say, what the data say, and which of them is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkpipe.errors import ProductError
from darkpipe.files.index import RawFrame
from darkpipe.files.masters import ReferenceValues, read_reference
from darkpipe.files.measure import RawStack, Zero, common_read_noise, measured_gain, saturation_level
from darkpipe.files.witnesses import Witnesses
from darkpipe.science.noise import choose_scale_factor

CLIPPED = 0.01  # of the samples of the typical frame at 0, beyond which it is said
DISAGREEMENT = 0.1  # of header and measured gain, beyond which it is said
LEVEL_SHARE = 0.05  # of the noise's variance, that the level it was measured at may move without being another


@dataclass(frozen=True)
class Overrides:
    """What the user sets instead of header and data; None: nothing."""

    scale_factor: float | Literal["auto"]
    gain_e_per_adu: float | None
    read_noise_adu: float | None
    saturation_fraction: float
    reference_temperature_c: float | None

    @classmethod
    def names(cls) -> list[str]:
        """Of its values."""
        return [f.name for f in fields(cls)]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def reference_values(
    frames: Sequence[RawFrame], witnesses: Witnesses, temperatures_c: Sequence[float], overrides: Overrides
) -> tuple[ReferenceValues, Mapping[str, float]]:
    """Values, and for the measured ones how far they may move before they count as moved.

    Parameters
    ----------
    frames : all of the campaign. temperatures_c : of its cells, for T_0.
    """
    notes: list[str] = []
    scale = _scale_factor(frames, overrides, notes)
    sigma, sigma_error = _read_noise(witnesses, overrides, scale, notes)
    saturation = saturation_level(
        [f.saturation for f in frames], [(f.maximum, f.n_high > 0) for f in frames], overrides.saturation_fraction
    )
    found, error = _measured_gain(witnesses, scale, saturation)
    clipped = [f.n_low / (f.rows * f.cols) for f in frames]
    if np.median(clipped) > CLIPPED:
        notes.append(
            f"{np.median(clipped):.0%} of the samples read 0: the camera's offset is set too low, "
            "and what is faint cannot be measured"
        )
    gain, source = _gain(frames, overrides, scale, found, notes)
    t0 = overrides.reference_temperature_c
    exposures = [f.exposure_s for stack in witnesses.noise for f in stack] if witnesses.has_bias else [0.0]
    values = ReferenceValues(
        scale_factor=float(scale),
        read_noise_adu=_digits(sigma),
        gain_e_per_adu=_digits(gain),
        gain_source=source,
        saturation_raw=saturation,
        bias_exposure_s=float(np.median(exposures)),
        temperature_c=float(round(float(np.mean(sorted(set(temperatures_c)))))) if t0 is None else t0,
        gain_measured_e_per_adu=None if found is None else _digits(found),
        gain_measured_error=None if error is None else _digits(error),
        notes=tuple(notes),
        noise_level_adu=None if witnesses.has_bias or overrides.read_noise_adu else _noise_level(witnesses, scale),
    )
    errors = {"read_noise_adu": sigma_error, "gain_measured_e_per_adu": error or 0.0}
    errors["noise_level_adu"] = LEVEL_SHARE * gain * sigma**2
    return values, errors | {"temperature_c": 1.0 if t0 is None else 0.0}


def _scale_factor(frames: Sequence[RawFrame], overrides: Overrides, notes: list[str]) -> float:
    if overrides.scale_factor != "auto":
        return overrides.scale_factor
    scale = float(choose_scale_factor([f.divisor for f in frames if f.sigma > 0 and f.divisor > 0]))
    if scale != 1:
        notes.append(f"all values are multiples of {scale:g}: treated as {16 - int(math.log2(scale))}-bit data")
    return scale


def _read_noise(witnesses: Witnesses, overrides: Overrides, scale: float, notes: list[str]) -> tuple[float, float]:
    """Value and error [native ADU]: set, else measured, else what quantisation alone gives."""
    if overrides.read_noise_adu:
        return overrides.read_noise_adu, 0.0
    sigma, error = common_read_noise([_stack(frames) for frames in witnesses.noise], scale)
    if not sigma > 0:
        notes.append("the frames show no noise at all: a read noise of 0.3 ADU (quantisation) is assumed")
        return 0.3, 0.0
    if not witnesses.has_bias:
        notes.append("no bias frames: the read noise is measured on darks, and is an upper limit")
    elif all(len(frames) == 1 for frames in witnesses.noise):
        notes.append("one bias frame a temperature: the read noise, from neighbouring pixels, is an upper limit")
    return sigma, error


def _noise_level(witnesses: Witnesses, scale: float) -> float | None:
    """What the darks read that the read noise is measured on [native ADU], zero-based."""
    levels = [f.median / scale + f.pedestal_adu for stack in witnesses.noise for f in stack]
    return round(float(np.median(levels)), 2) if levels else None


def _measured_gain(witnesses: Witnesses, scale: float, saturation: float) -> tuple[float | None, float | None]:
    """Gain and error [e-/ADU]; None where the frames cannot tell, or not within 30 %."""
    bright, zero = witnesses.bright, witnesses.zero
    if len(bright) < 2 or not zero:
        return None, None
    fraction = min(zero[0].exposure_s / bright[0].exposure_s, 0.5)
    noise = common_read_noise([_stack(zero)], scale)[0] if len(zero) > 1 else None
    measured = measured_gain(_stack(bright), Zero(_stack(zero), fraction, noise), scale, saturation)
    if measured is None or not math.isfinite(measured.gain_e_per_adu):
        return None, None
    vague = measured.error_e_per_adu > 0.3 * measured.gain_e_per_adu
    return (None, None) if vague else (measured.gain_e_per_adu, measured.error_e_per_adu)


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
        elif scale != 1:
            notes.append("the header's e-/ADU is taken as per native count")
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
    """The values to write: a measured number that moved by less than its error since the last run (what `path` holds)
    keeps its old value, so that one more frame does not make everything stale in the last digit."""
    try:
        old = read_reference(path)
    except ProductError:
        return values
    kept: dict[str, Any] = {}
    for name, error in errors.items():
        before, now = getattr(old, name), getattr(values, name)
        if before is not None and now is not None and abs(before - now) <= error:
            kept[name] = before
    if "gain_measured_e_per_adu" in kept:
        kept["gain_measured_error"] = old.gain_measured_error
        if values.gain_source == old.gain_source == "measured":
            kept["gain_e_per_adu"] = old.gain_e_per_adu
    return replace(values, **kept)
