"""A set of alike frames: its classical master on disk, each frame less the master, statistics of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files import keywords as kw
from darkpipe.files.frame_set import FrameSet
from darkpipe.files.frames import FrameStack
from darkpipe.files.lights import kept_cards, read_light
from darkpipe.files.products import Card, Frame, read_header, read_planes, write_frame
from darkpipe.files.stacking import Stack
from darkpipe.files.values import Card as RawCard
from darkpipe.science.classic_master import (
    Method,
    combine_frames,
    robust_residual_factors,
    sigma_over_pixels,
    variance_of_master,
)
from darkpipe.science.flags import DQ
from darkpipe.science.image_statistics import ImageStatistics, image_statistics
from darkpipe.science.shrinkage import VariancePrior, fit_variance_prior

F4 = NDArray[np.float32]

_SAMPLE = 400_000  # pixels that tell the population of their variances
_BANDS = 1 << 20  # pixels at a time where whole planes are worked on
_OF_A_CONFIGURATION = (
    "set_point", "gain", "egain", "offset", "em_gain", "binning", "readout_mode", "usb_limit", "subframe", "camera",
    "serial", "filter", "saturation", "roworder", "flip", "bayer",
)  # fmt: skip
_CALIBRATED_AS = {"bias": "B"}
_COUNTS = ("pixels", "missing", "hot", "cold")  # statistics that are numbers of pixels


@dataclass(frozen=True)
class ClassicMaster:
    """Planes (rows, cols) of a master in raw counts, and what the scatter of its frames says.

    value : median or average. error : its 1 sigma. sigma : scatter of one frame about the pixel's mean, levels of the
    frames taken out. count : finite samples. dq : HOT, SATURATED (in half of the frames or more), CLIPPED_LOW,
    FEW_SAMPLES.
    noise_adu : robust sigma over the pixels of the noise of one frame. expected_adu : (n,) the same of each frame less
    this master, that it is one of. statistics : of `value`.
    """

    value: F4
    error: F4
    sigma: F4
    count: NDArray[np.uint16]
    dq: NDArray[np.uint16]
    noise_adu: float
    expected_adu: F4
    statistics: ImageStatistics


def combine_set(frames: FrameSet, method: Method, hot_sigma: float) -> ClassicMaster:
    """Master of a set, strip of rows by strip: memory does not grow with the number of frames.

    Raises
    ------
    FrameError
        when a frame vanished or changed.
    """
    rows, cols = frames.shape
    hdus = [int(row["hdu"]) for row in frames.rows]
    n, levels = len(hdus), frames.numbers("median_raw")
    top = min(frames.numbers("top_raw"))
    value, variance = np.empty((rows, cols), np.float32), np.empty((rows, cols), np.float32)
    count, dq = np.empty((rows, cols), np.uint16), np.zeros((rows, cols), np.uint16)
    strips = Stack(frames.paths, hdus, rows, cols, [0.0] * n, 0.0).strips(4)
    with FrameStack(frames.paths, hdus, rows, cols) as stack:
        for strip in strips:
            samples = stack.read_rows(strip.start, strip.stop).reshape(n, -1)
            made = combine_frames(samples, method, levels)
            for plane, found in ((value, made.value), (variance, made.variance), (count, made.count)):
                plane[strip] = found.reshape(-1, cols)
            dq[strip] = _bits(samples, made.count, top).reshape(-1, cols)
    prior = _population(variance, count)
    error = _errors(variance, count, prior, variance_of_master(n, method))
    statistics = image_statistics(value, hot_sigma)
    with np.errstate(invalid="ignore"):
        dq[value > statistics.hot_above] |= np.uint16(DQ.HOT)
    noise = sigma_over_pixels(prior)
    expected = np.full(n, noise)
    if noise > 0:
        expected *= robust_residual_factors(np.array(levels) / noise, method)
    expected = expected.astype(np.float32)
    return ClassicMaster(value, error, np.sqrt(variance), count, dq, noise, expected, statistics)


def _bits(samples: NDArray[Any], count: NDArray[np.uint16], top: float) -> NDArray[np.uint16]:
    n = samples.shape[0]
    with np.errstate(invalid="ignore"):
        full = 2 * np.count_nonzero(samples >= top, axis=0) >= n
        empty = (samples <= 0).any(axis=0)
    bits = np.zeros(count.shape, np.uint16)
    few = (count < 2) | (2 * count < n)
    for where, bit in ((full, DQ.SATURATED), (empty, DQ.CLIPPED_LOW), (few, DQ.FEW_SAMPLES)):
        bits[where] |= np.uint16(bit)
    return bits


def _population(variance: F4, count: NDArray[np.uint16]) -> VariancePrior:
    every = (variance.size // _SAMPLE) | 1
    some, samples = variance.ravel()[::every], count.ravel()[::every]
    return fit_variance_prior(some, np.maximum(samples.astype(np.int32) - 1, 0))


def _errors(variance: F4, count: NDArray[np.uint16], prior: VariancePrior, factor: float) -> F4:
    """1 sigma of the master: a pixel's own scatter says little of a few frames, so it is drawn to that of all."""
    error = np.full(variance.shape, np.nan, np.float32)
    if not prior.core_variance > 0:
        return error  # frames without scatter: nothing can be said
    most = int(count.max())
    for begin in range(0, variance.size, _BANDS):
        here = slice(begin, begin + _BANDS)
        n = count.ravel()[here].astype(np.float64)
        own = prior.posterior_variance(variance.ravel()[here], np.maximum(n - 1.0, 0.0))
        with np.errstate(divide="ignore"):
            error.ravel()[here] = np.where(n > 0, np.sqrt(own * factor * most / n), np.nan)
    return error


def write_classic_master(
    path: Path, master: ClassicMaster, frames: FrameSet, method: Method, more: Sequence[Card] = ()
) -> str:
    """Write the master, with more cards at the end of its header; returns the digest."""
    kind = str(frames.rows[0]["kind"])
    temperatures = _finite(frames.numbers("temperature_c"))
    levels = frames.numbers("median_raw")
    pedestal = float(frames.rows[0]["pedestal_adu"])
    cards: list[Card] = [
        ("IMAGETYP", f"Master {kind.capitalize()}", f"{method} of raw frames, nothing subtracted"),
        ("EXPTIME", float(np.mean(frames.numbers("exposure_s"))), "[s]"),
        ("CCD-TEMP", float(np.mean(temperatures)) if temperatures else math.nan, "[deg C] mean reading"),
        ("T-MIN", min(temperatures, default=math.nan), "[deg C] lowest reading"),
        ("T-MAX", max(temperatures, default=math.nan), "[deg C] highest reading"),
        ("NCOMBINE", len(levels), "frames"),
        ("COMBINE", method, "how they were combined"),
        ("NOISE", round(master.noise_adu, 4), "[adu] robust sigma of the noise of one frame"),
        ("SIGMAEXP", round(float(np.median(master.expected_adu)), 4), "[adu] expected of a frame less this master"),
        ("LEVELMIN", min(levels), "[adu] median of the lowest frame"),
        ("LEVELMAX", max(levels), "[adu] median of the highest frame"),
        ("HOTABOVE", master.statistics.hot_above, "[adu] hot pixels lie above it"),
        ("N_HOT", master.statistics.hot, "hot pixels"),
        *([("PEDESTAL", pedestal, "[adu] to be added, as in the frames")] if pedestal else []),
        *more,
    ]
    kept, _ = kept_cards(read_light(frames.paths[0]).cards, {key for key, _, _ in cards} | {kw.CREATOR})
    header = [*(card for card in kept if card[0] in _configuration_keywords()), *cards]
    extra: dict[str, NDArray[Any]] = {
        "SIGMA": master.sigma,
        "COUNT": master.count,
        "EXPECTED": master.expected_adu[None],
    }
    return write_frame(
        path, Frame(master.value, master.error, master.dq, header=header, extra=extra, inputs=frames.names)
    )


def _configuration_keywords() -> set[str]:
    names = {name for quantity in _OF_A_CONFIGURATION for name in kw.KEYWORDS[quantity]}
    pairs = (*kw.BINNING_PAIRS, *kw.SUBFRAME_PAIRS, kw.BAYER_OFFSETS)
    return names | {name for pair in pairs for name in pair}


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


@dataclass(frozen=True)
class MasterFacts:
    """What a classical master says of itself: how it was made and of how many frames, their mean temperature, robust
    sigma of the noise of one frame, and (n,) of each frame less the master; NaN where the frames did not tell."""

    combine: Method
    frames: int
    temperature_c: float
    noise_adu: float
    expected_adu: F4


def read_facts(path: Path) -> MasterFacts:
    """From the header of a classical master.

    Raises
    ------
    ProductError
        when it is missing or damaged.
    """
    top = read_header(path)
    frames = int(read_header(path)["NCOMBINE"])
    temperature_c = float(read_header(path).get("CCD-TEMP", math.nan))
    (expected,) = read_planes(path, ["EXPECTED"])
    return MasterFacts(top["COMBINE"], frames, temperature_c, float(top.get("NOISE", math.nan)), expected[0])


@dataclass(frozen=True)
class Subtracted:
    """A frame less the master: raw cards of the frame, residual (rows, cols) in raw counts, statistics of both."""

    cards: tuple[RawCard, ...]
    residual: F4
    before: ImageStatistics
    after: ImageStatistics


def residual_of(frame: Path, master: Path) -> tuple[NDArray[Any], F4]:
    """Raw counts of a frame, and the frame less the master, float32; NaN where either has no value.

    Raises
    ------
    FrameError, ProductError
        when one of them cannot be read any more.
    """
    raw = read_light(frame).raw
    (value,) = read_planes(master, ["SCI"])
    return raw, subtract_master(raw, value)


def subtract_master(raw: NDArray[Any], master: F4) -> F4:
    """Raw counts less a master of the same shape, float32; infinities become NaN.

    Raises
    ------
    ValueError : shapes that differ.

    Examples
    --------
    >>> import numpy as np
    >>> subtract_master(np.array([[3]], np.uint16), np.array([[4.5]], np.float32)).tolist()
    [[-1.5]]
    """
    if raw.shape != master.shape:
        raise ValueError(f"a frame of {raw.shape} and a master of {master.shape}")
    wide = np.float64 if raw.dtype.itemsize > 2 else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        residual: F4 = np.subtract(raw, master, dtype=wide).astype(np.float32)
    residual[~np.isfinite(residual)] = np.nan
    return residual


def subtract(frame: Path, master: Path, hot_sigma: float) -> Subtracted:
    """One frame less the master, with the statistics of both.

    Raises
    ------
    FrameError, ProductError
        when one of them cannot be read any more.
    """
    light = read_light(frame)
    (value,) = read_planes(master, ["SCI"])
    residual = subtract_master(light.raw, value)
    return Subtracted(
        light.cards, residual, image_statistics(light.raw, hot_sigma), image_statistics(residual, hot_sigma)
    )


def write_subtracted(path: Path, made: Subtracted, master: Path, row: Mapping[str, Any], position: int) -> str:
    """Write a frame less the master with the cards of the raw frame; returns the digest.

    row : of the frame in the table of frames. position : of the frame in the set, from 0.
    """
    facts, kind = read_facts(master), str(row["kind"])
    cards: list[Card] = [
        # words by which no program takes it for a raw frame
        ("IMAGETYP", f"Subtracted {kind.capitalize()}", "a raw frame less the master of its set"),
        ("CALSTAT", _CALIBRATED_AS.get(kind, "D"), "the master is subtracted"),
        ("EXPTIME", float(row["exposure_s"]), "[s]"),
        ("MASTER", master.name, "what was subtracted"),
        ("COMBINE", facts.combine, "how it was made"),
        ("NCOMBINE", facts.frames, "of so many frames, this one among them"),
        ("LEVEL", made.after.median, "[adu] median of this frame"),
        ("SIGMA", made.after.sigma, "[adu] robust sigma of this frame"),
        ("SIGMAEXP", float(facts.expected_adu[position]), "[adu] expected from the noise of the frames"),
        ("N_HOT", made.after.hot, "pixels that stand out"),
    ]
    kept, coordinates = kept_cards(made.cards, {key for key, _, _ in cards} | {kw.CREATOR})
    said = f"darkpipe subtracted {master.name}, the {facts.combine} of {facts.frames} frames"
    header = [*kept, *cards, ("HISTORY", said[:72], "")]
    inputs = [str(row["file"]), master.name]
    return write_frame(path, Frame(made.residual, header=header, image_header=coordinates, inputs=inputs))


def record(made: Subtracted, master: Path, row: Mapping[str, Any], position: int) -> dict[str, Any]:
    """The row of a frame in the table of statistics; numbers rounded to what they are good for. Parameters as for
    `write_subtracted`."""
    expected = float(read_facts(master).expected_adu[position])
    return {
        "file": str(row["file"]),
        "exposure_s": float(row["exposure_s"]),
        "temperature_c": float(row["temperature_c"]),
        "set_point_c": float(row["set_point_c"]),
        "date_obs": str(row["date_obs"]),
        "saturated": int(row["n_high"]),
        **_columns("before_", made.before),
        **_columns("after_", made.after),
        "expected_sigma_adu": round(expected, 4),
        "sigma_ratio": round(made.after.sigma / expected, 4) if expected > 0 else math.nan,
    }


def _columns(prefix: str, found: ImageStatistics) -> dict[str, float | int]:
    return {
        f"{prefix}{name}" if name in _COUNTS else f"{prefix}{name}_adu": round(value, 4)
        for name, value in found.row().items()
    }


def of_master(master: Path, hot_sigma: float) -> dict[str, float | int]:
    """Statistics of a master as columns."""
    return _columns("", image_statistics(read_planes(master, ["SCI"])[0], hot_sigma))
