"""Noise maps of an EM-CCD on disk: a file for each of F, C and D, and darks made of them.

Each file holds the map (SCI), its error and DQ; that of F also covariances, chi², adjusted R² and the counts of stacks
that were not used, and in its header the figures of the calibration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import ProductError
from darkpipe.files.products import Card, Frame, read_header, read_planes, write_frame
from darkpipe.science.em_darks import EmDark
from darkpipe.science.flags import DQ
from darkpipe.science.noise_map_summary import BiasOffset, MapSummary
from darkpipe.science.noise_maps import NoiseMapOptions, NoiseMaps, StackRecord
from darkpipe.science.regions import Area, DetectorRegions

MAPS = ("F", "C", "D")
_NAMES = {"F": "fixed pattern", "C": "clock-induced charge", "D": "dark current"}
_UNITS = {"F": "electron", "C": "electron", "D": "electron/s"}
_ERRORS = {"F": 0, "C": 3, "D": 5}
_AREAS = {"image": "IM", "collecting": "CO", "prescan": "PR"}
_FIGURES = {"mean": "MN", "median": "MD", "variance": "VA", "error_variance": "EV"}
_EXTRA = ("COV", "CHI2", "R2", "UNUSABLE", "INPUTDQ")


def write_noise_maps(paths: Mapping[str, Path], maps: NoiseMaps, inputs: Sequence[str] = ()) -> dict[Path, str]:
    """Write the maps to the files of 'F', 'C' and 'D'; returns their digests.

    Raises
    ------
    ProductError : a file cannot be replaced.
    """
    digests = {}
    for letter, plane in zip(MAPS, (maps.fixed_e, maps.cic_e, maps.dark_e_per_s), strict=True):
        cards: list[Card] = [("MAP", letter, f"noise map: {_NAMES[letter]}"), *_summary_cards(maps, letter)]
        frame = Frame(plane, np.sqrt(maps.covariance[_ERRORS[letter]]), maps.dq, _UNITS[letter], cards, {}, inputs)
        if letter == "F":
            frame.header += _calibration_cards(maps)
            planes = (maps.covariance, maps.chi2, maps.adjusted_r2, maps.unusable_stacks, maps.input_dq)
            frame.extra = dict(zip(_EXTRA, planes, strict=True))
        digests[paths[letter]] = write_frame(paths[letter], frame)
    return digests


def _summary_cards(maps: NoiseMaps, letter: str) -> list[Card]:
    return [
        (f"{code}_{short}", getattr(figures[letter], figure), f"{figure} of {letter} over the {area} area")
        for area, code in _AREAS.items()
        if (figures := maps.summary.get(area))
        for figure, short in _FIGURES.items()
    ]


def _calibration_cards(maps: NoiseMaps) -> list[Card]:
    offset, options = maps.bias_offset, maps.options
    cards: list[Card] = [
        ("B_O", offset.value, "bias offset: median residual of the prescan"),
        ("B_O_LOW", offset.low, "lower bound of it"),
        ("B_O_HIGH", offset.high, "upper bound of it"),
        ("B_O_ERR", offset.error, "the larger distance to a bound"),
        ("B_O_UNIT", offset.unit, "unit of the bias offset"),
        ("RDNOISE", maps.read_noise_e, "read noise from the frames' scatter [e-]"),
        ("RDNPROF", maps.profile_read_noise_e, "read noise from the pattern of a mean [e-]"),
        ("WEIGHTS", options.weighting, "weights of the fit"),
        ("NEGATIV", options.negatives, "negative C and D"),
        ("D_OUTSID", options.dark_outside, "D of pixels that collect none"),
        ("MINSHARE", options.least_share, "of a stack's frames that a pixel needs"),
        ("ERRKIND", options.frame_errors, "what the frames' own errors are"),
        ("EMSTAGES", options.gain_stages, "stages of the gain register"),
        ("RN_GIVEN", options.read_noise_e or 0.0, "read noise that was given [e-]; 0: none"),
        ("KGAIN", options.k_gain_e_per_dn or 0.0, "conversion gain [e-/DN]; 0: none"),
        ("NFAILED", int((maps.dq & DQ.FIT_FAILED > 0)[~maps.regions.telemetry].sum()), "pixels without a fit"),
        ("NPARTLY", int((maps.unusable_stacks > 0)[~maps.regions.telemetry].sum()), "pixels that lack a stack"),
        ("NSTACKS", len(maps.stacks), "stacks: gain G, exposure T, frames N, used U, noise S"),
    ]
    for name, area in (("IM", maps.regions.image), ("AC", maps.regions.active), ("PS", maps.regions.prescan)):
        if area is not None:
            text = f"{area.first_row} {area.first_col} {area.rows} {area.cols}"
            cards.append((f"AREA_{name}", text, "first row, first column, rows, columns"))
    first, last = maps.regions.telemetry_rows
    cards.append(("TELEMROW", f"{first} {'' if last is None else last}".strip(), "telemetry rows, from 0"))
    for i, stack in enumerate(maps.stacks):
        cards += [
            (f"STK{i:03d}G", stack.em_gain, "EM gain"),
            (f"STK{i:03d}T", stack.exposure_s, "[s]"),
            (f"STK{i:03d}N", stack.frames, "frames"),
            (f"STK{i:03d}U", stack.mean_frames, "unmasked frames of a pixel, mean"),
            (f"STK{i:03d}S", stack.noise_e, "[e-] noise of a frame, after the gain"),
            (f"STK{i:03d}E", stack.enough_for_read_noise, "half of the frames in every pixel"),
        ]
    return cards


def read_noise_maps(paths: Mapping[str, Path]) -> NoiseMaps:
    """The maps as they were written.

    Raises
    ------
    ProductError : a file is missing, damaged or no noise map of that letter.
    """
    headers = {letter: read_header(paths[letter]) for letter in MAPS}
    for letter, header in headers.items():
        if header.get("MAP") != letter:
            raise ProductError(f"this is no noise map {letter}", where=paths[letter], do="fit the noise maps again")
    fixed, cic, dark = (read_planes(paths[letter], ["SCI"])[0] for letter in MAPS)
    dq, covariance, chi2, adjusted_r2, unusable, bits = read_planes(paths["F"], ["DQ", *_EXTRA])
    if not fixed.shape == cic.shape == dark.shape == dq.shape:
        raise ProductError("the three maps differ in shape", where=paths["F"], do="fit the noise maps again")
    h = headers["F"]
    try:
        return NoiseMaps(
            fixed_e=fixed,
            cic_e=cic,
            dark_e_per_s=dark,
            covariance=covariance,
            chi2=chi2,
            adjusted_r2=adjusted_r2,
            unusable_stacks=unusable,
            dq=dq,
            input_dq=bits,
            stacks=tuple(_stack(h, i) for i in range(int(h["NSTACKS"]))),
            read_noise_e=_number(h, "RDNOISE"),
            profile_read_noise_e=_number(h, "RDNPROF"),
            bias_offset=BiasOffset(
                _number(h, "B_O"), _number(h, "B_O_LOW"), _number(h, "B_O_HIGH"), str(h["B_O_UNIT"])
            ),
            summary=_summary(headers),
            regions=_regions(h, dq.shape),
            options=_options(h),
        )
    except (KeyError, ValueError) as error:
        raise ProductError(f"the header lacks {error}", where=paths["F"], do="fit the noise maps again") from error


def _options(h: Mapping[str, Any]) -> NoiseMapOptions:
    return NoiseMapOptions(
        weighting=h["WEIGHTS"],
        negatives=h["NEGATIV"],
        dark_outside=h["D_OUTSID"],
        least_share=float(h["MINSHARE"]),
        frame_errors=h["ERRKIND"],
        gain_stages=int(h["EMSTAGES"]),
        read_noise_e=h["RN_GIVEN"] or None,
        k_gain_e_per_dn=h["KGAIN"] or None,
    )


def _number(header: Mapping[str, Any], key: str) -> float:
    """A number that FITS may not have been able to hold."""
    return float(header.get(key, math.nan))


def _stack(h: Mapping[str, Any], i: int) -> StackRecord:
    gain, exposure, frames, used, noise, enough = (h[f"STK{i:03d}{letter}"] for letter in "GTNUSE")
    return StackRecord(float(gain), float(exposure), int(frames), float(used), float(noise), bool(enough))


def _summary(headers: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, MapSummary]]:
    return {
        area: {
            letter: MapSummary(**{figure: _number(header, f"{code}_{short}") for figure, short in _FIGURES.items()})
            for letter, header in headers.items()
        }
        for area, code in _AREAS.items()
        if area != "prescan" or "AREA_PS" in headers["F"]
    }


def _regions(h: Mapping[str, Any], shape: tuple[int, ...]) -> DetectorRegions:
    areas = [
        Area(*(int(n) for n in str(h[key]).split())) if key in h else None for key in ("AREA_IM", "AREA_AC", "AREA_PS")
    ]
    rows = [int(n) for n in str(h["TELEMROW"]).split()]
    if areas[0] is None:
        raise KeyError("AREA_IM")
    return DetectorRegions(shape[0], shape[1], areas[0], areas[1], areas[2], (rows[0], rows[1] if rows[1:] else None))


def write_em_dark(
    path: Path,
    dark: EmDark,
    made: str,
    inputs: Sequence[str] = (),
    *,
    cards: Sequence[Card] = (),
    planes: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> str:
    """Write a dark in detected electrons; `made` says how ('mean of a stack', 'noise maps'). Returns the digest.

    cards, planes : further ones, such as the number of frames.
    """
    header: list[Card] = [
        ("EMGAIN", dark.em_gain, "EM gain that the dark is for; pixels are divided by it"),
        ("EXPTIME", dark.exposure_s, "[s]"),
        ("MADEOF", made, "how this dark was made"),
        ("FULLFRAM", dark.full_frame, "full frame, else the image area"),
        *cards,
    ]
    frame = Frame(dark.dark_e, dark.error_e, dark.dq, "electron", header, dict(planes), inputs)
    return write_frame(path, frame)


def stack_rows(path: Path) -> list[StackRecord]:
    """The stacks that the maps of this file, F, were fitted to.

    Raises
    ------
    ProductError : the file is missing, damaged or no noise map F.
    """
    header = read_header(path)
    if header.get("MAP") != "F":
        raise ProductError("this is no noise map F", where=path, do="fit the noise maps again")
    return [_stack(header, i) for i in range(int(header["NSTACKS"]))]


def map_lines(path: Path) -> list[tuple[str, str]]:
    """What the noise maps of this file, F, and of its neighbours say in single figures, in words by topic."""
    stacks, h = stack_rows(path), read_header(path)
    gains, times = sorted({s.em_gain for s in stacks}), sorted({s.exposure_s for s in stacks})
    frames = f"{sum(s.frames for s in stacks)} frames in {len(stacks)} stacks"
    noise, offset = _number(h, "RDNOISE"), _number(h, "B_O")
    lines = [
        ("noise maps", f"{frames}, EM gain {gains[0]:g} to {gains[-1]:g}, {times[0]:g} to {times[-1]:g} s"),
        ("pixels", f"{h['NFAILED']} without a fit (NaN), {h['NPARTLY']} with a stack that was not used"),
        ("read noise", "not to be trusted" if math.isnan(noise) else f"{noise:.4g} e-"),
    ]
    if not math.isnan(offset):
        bounds = f"{_number(h, 'B_O_LOW'):.3g} to {_number(h, 'B_O_HIGH'):.3g}"
        lines.append(("bias offset", f"{offset:.3g} {h['B_O_UNIT']} ({bounds})"))
    return lines


def mean_lines(paths: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Mean and spread of each map over the image area."""
    lines = []
    for letter in MAPS:
        h = read_header(paths[letter])
        mean, variance = _number(h, "IM_MN"), _number(h, "IM_VA")
        text = f"{mean:.4g} {_UNITS[letter]}, spread {math.sqrt(variance):.3g}"
        lines.append((f"{letter}, {_NAMES[letter]}", text))
    return lines
