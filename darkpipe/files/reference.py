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
from darkpipe.files.measure import RawStack, ReadNoiseFound, common_read_noise, saturation_level
from darkpipe.files.measure_gain import Light, level_drift, measured_gain
from darkpipe.files.witnesses import GainCell, Witnesses
from darkpipe.science.gain import NOTHING, GainEstimate
from darkpipe.science.noise import choose_scale_factor

CLIPPED = 0.01  # of the samples of the typical frame at 0, beyond which it is said
DISAGREEMENT = 0.1  # of header or setting and what is measured, beyond which it is said
FREE_NOISE_ERROR = 0.1  # relative error up to which a read noise that follows from darks is taken
MOST_GAIN_ERROR = 0.3  # relative, beyond which a gain is none
LEVEL_SHARE = 0.05  # of the noise's variance, that the level it was measured at may move without being another


@dataclass(frozen=True)
class Overrides:
    """What the user sets instead of header and data; None: nothing."""

    scale_factor: float | Literal["auto"]
    gain_e_per_adu: float | None
    read_noise_adu: float | None
    saturation_fraction: float
    reference_temperature_c: float | None
    readout_exposure_s: float = 0.0

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
    noise = common_read_noise([_stack(stack) for stack in witnesses.noise], scale)
    saturation = saturation_level(
        [f.saturation for f in frames], [(f.maximum, f.n_high > 0) for f in frames], overrides.saturation_fraction
    )
    found = _measured_gain(witnesses, noise, scale, saturation)
    told = math.isfinite(found.gain_e_per_adu)
    seen = noise.sigma_adu
    noise = _read_noise(witnesses, noise, found, notes)
    sigma = overrides.read_noise_adu or noise.sigma_adu
    _compare_read_noise(overrides.read_noise_adu, noise, notes)
    clipped = [f.n_low / (f.rows * f.cols) for f in frames]
    if np.median(clipped) > CLIPPED:
        notes.append(
            f"{np.median(clipped):.0%} of the samples read 0: the camera's offset is set too low, "
            "and what is faint cannot be measured"
        )
    gain, source = _gain(frames, overrides, scale, found, notes)
    charge = gain * max(seen**2 - noise.sigma_adu**2, 0.0)  # whose shot noise the read noise was freed from
    level = None if witnesses.has_bias or overrides.read_noise_adu else _noise_level(witnesses, scale, charge)
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
        gain_measured_e_per_adu=_digits(found.gain_e_per_adu) if told else None,
        gain_measured_error=_digits(found.error_e_per_adu) if told else None,
        notes=tuple(notes),
        noise_level_adu=level,
        read_noise_error_adu=_digits(noise.error_adu),
        read_noise_measured_adu=_digits(noise.sigma_adu),
        read_noise_by_temperature=_by_temperature(witnesses, noise),
        readout_exposure_s=overrides.readout_exposure_s,
    )
    errors = {
        "read_noise_adu": 0.0 if overrides.read_noise_adu else noise.error_adu,
        "read_noise_measured_adu": noise.error_adu,
        "gain_measured_e_per_adu": found.error_e_per_adu if told else 0.0,
        "noise_level_adu": LEVEL_SHARE * gain * sigma**2,
    }
    return values, errors | {"temperature_c": 1.0 if t0 is None else 0.0}


def _by_temperature(witnesses: Witnesses, noise: ReadNoiseFound) -> tuple[tuple[float, float, float], ...]:
    """Of the biases of each temperature of two frames or more, in its order."""
    if not (witnesses.has_bias and noise.by_stack):
        return ()
    several = [t for t, frames in zip(witnesses.noise_c, witnesses.noise, strict=True) if len(frames) > 1]
    rows = zip(several, noise.by_stack, strict=True)
    return tuple(sorted((round(float(t), 3), _digits(s), _digits(e)) for t, (s, e) in rows))


def _scale_factor(frames: Sequence[RawFrame], overrides: Overrides, notes: list[str]) -> float:
    if overrides.scale_factor != "auto":
        return overrides.scale_factor
    scale = float(choose_scale_factor([f.divisor for f in frames if f.sigma > 0 and f.divisor > 0]))
    if scale != 1:
        notes.append(f"all values are multiples of {scale:g}: treated as {16 - int(math.log2(scale))}-bit data")
    return scale


def _read_noise(witnesses: Witnesses, noise: ReadNoiseFound, found: GainEstimate, notes: list[str]) -> ReadNoiseFound:
    """As measured: on biases; else at no signal, where darks of several signals tell it; else an upper limit; else
    what quantisation alone gives."""
    if not noise.sigma_adu > 0:
        notes.append("the frames show no noise at all: a read noise of 0.3 ADU (quantisation) is assumed")
        return ReadNoiseFound(0.3, 0.0)
    if witnesses.has_bias and noise.by_stack:
        return noise
    dark, error = found.read_noise_adu, found.read_noise_error_adu
    if dark > 0 and error < FREE_NOISE_ERROR * dark and dark - 3.0 * error < noise.sigma_adu:
        what = "no bias frames" if not witnesses.has_bias else "one bias frame a temperature"
        notes.append(
            f"{what}: the read noise is that of darks, carried on to no signal ({dark:.3g} +- {error:.1g} ADU)"
        )
        return ReadNoiseFound(dark, error)
    if not witnesses.has_bias and not noise.by_stack:
        notes.append(
            "no bias frames and no two like darks: the read noise, from neighbouring pixels, is an upper limit"
        )
    elif not witnesses.has_bias:
        notes.append("no bias frames: the read noise is measured on darks, and is an upper limit")
    else:
        notes.append("one bias frame a temperature: the read noise, from neighbouring pixels, is an upper limit")
    return noise


def _noise_level(witnesses: Witnesses, scale: float, charge_adu: float) -> float | None:
    """Level from which on charge adds to the read noise, without bias frames [native ADU, zero-based]: what the darks
    read that the noise is measured on, less the charge whose shot noise was taken out of it."""
    levels = [f.median / scale + f.pedestal_adu for stack in witnesses.noise for f in stack]
    return round(float(np.median(levels)) - charge_adu, 2) if levels else None


def _compare_read_noise(given: float | None, noise: ReadNoiseFound, notes: list[str]) -> None:
    if given and abs(noise.sigma_adu / given - 1.0) > DISAGREEMENT:
        notes.append(
            f"the setting's read noise of {given:g} ADU disagrees with the measured {noise.sigma_adu:.3g}: "
            "the setting is taken"
        )


def _measured_gain(witnesses: Witnesses, noise: ReadNoiseFound, scale: float, saturation: float) -> GainEstimate:
    """Gain [e-/ADU]; NaN where the frames cannot tell, or not within 30 %."""
    if not witnesses.gain:
        return NOTHING
    read = None
    if witnesses.has_bias and noise.prior and noise.variance_adu2 is not None and noise.dof is not None:
        read = noise.prior.posterior_variance(noise.variance_adu2, noise.dof)
    levels = [
        [f.median / scale for f in s] for s in (*witnesses.noise, *(c.frames for c in witnesses.gain if not c.pair))
    ]
    drift = level_drift([level for level in levels if len(level) > 1])
    known = _by_temperature(witnesses, noise)
    lights = [_light(cell, known, noise.sigma_adu) for cell in witnesses.gain]
    measured = measured_gain(lights, read, drift, scale, saturation)
    vague = not measured.error_e_per_adu <= MOST_GAIN_ERROR * measured.gain_e_per_adu
    return NOTHING if vague else measured


def _light(cell: GainCell, known: Sequence[tuple[float, float, float]], pooled_adu: float) -> Light:
    """A cell as stacks, with the read noise of its temperature."""
    stacks = [[f] for f in cell.frames] if cell.pair else [cell.frames]
    read = (1.0, 0.0)
    if known:
        temperatures, sigmas, errors = (list(column) for column in zip(*known, strict=True))
        sigma, error = (float(np.interp(cell.temperature_c, temperatures, column)) for column in (sigmas, errors))
        read = ((sigma / pooled_adu) ** 2, 2.0 * error / sigma)
    return Light(
        [_stack(stack) for stack in stacks],
        _stack(cell.above) if cell.above else None,
        _stack(cell.below) if cell.below else None,
        cell.scale,
        cell.distance_c,
        cell.frames[0].exposure_s / cell.frames[1].exposure_s if cell.pair else 0.0,
        read,
    )


def _stack(frames: Sequence[RawFrame]) -> RawStack:
    first = frames[0]
    return RawStack(
        [f.source for f in frames], [f.hdu for f in frames], first.rows, first.cols, [f.median for f in frames]
    )


def _gain(
    frames: Sequence[RawFrame], overrides: Overrides, scale: float, found: GainEstimate, notes: list[str]
) -> tuple[float, str]:
    """Setting, else header, else measured, else 1; a setting or header that disagrees with the data is said."""
    measured = found.gain_e_per_adu if math.isfinite(found.gain_e_per_adu) else None
    stated = [f.egain for f in frames if math.isfinite(f.egain) and f.egain > 0]
    if overrides.gain_e_per_adu:
        gain, source = overrides.gain_e_per_adu, "setting"
    elif stated:
        gain, source = float(np.median(stated)), "header"
        # drivers disagree whether e-/ADU is per raw or per native count: the one nearer to the data is taken
        if scale != 1:
            raw = measured is None or abs(math.log(gain * scale / measured)) < abs(math.log(gain / measured))
            why = "the data cannot tell" if measured is None else f"the data give {measured:.3g} per native count"
            notes.append(f"the header's {gain:g} e-/ADU is taken as per {'raw' if raw else 'native'} count: {why}")
            gain *= scale if raw else 1.0
    elif measured:
        return measured, "measured"
    else:
        notes.append("neither header nor data tell the conversion gain: 1 e-/ADU is assumed (set gain_e_per_adu)")
        return 1.0, "assumed"
    if measured is None:
        notes.append(f"the {source}'s gain of {gain:g} e-/ADU is taken: the darks cannot check it")
    elif abs(measured / gain - 1.0) > DISAGREEMENT:
        notes.append(
            f"the {source}'s gain of {gain:g} e-/ADU disagrees with the measured {measured:.3g} "
            f"+- {found.error_e_per_adu:.1g}: the {source} is taken"
        )
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
    if "read_noise_measured_adu" in kept:
        kept["read_noise_error_adu"] = old.read_noise_error_adu
        before, now = old.read_noise_by_temperature, values.read_noise_by_temperature
        same = len(before) == len(now) and all(
            a[0] == b[0] and abs(a[1] - b[1]) <= b[2] for a, b in zip(before, now, strict=True)
        )
        kept |= {"read_noise_by_temperature": before} if same else {}
    if "gain_measured_e_per_adu" in kept:
        kept["gain_measured_error"] = old.gain_measured_error
        if values.gain_source == old.gain_source == "measured":
            kept["gain_e_per_adu"] = old.gain_e_per_adu
    return replace(values, **kept)
