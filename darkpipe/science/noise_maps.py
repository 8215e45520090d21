"""Noise maps of an EM-CCD: fixed pattern F, clock-induced charge C and dark current D of every pixel.

A dark of EM gain g and exposure t reads F + g C + g t D electrons. The maps are a weighted linear least-squares fit
to the means of stacks of different gain and exposure. What is calibrated and reported follows `corgidrp.darks`
(Roman Coronagraph); where that takes a choice it is an option of `NoiseMapOptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ
from darkpipe.science.masked_mean import MeanAccumulator
from darkpipe.science.noise_levels import Design, NoiseLevels, Sample, noise_levels, sample_pixels
from darkpipe.science.noise_map_kernel import BLOCK, BY_FRAMES, BY_NOISE, EQUAL, LEAST_STACKS, Law, fit_strip
from darkpipe.science.noise_map_summary import BiasOffset, MapSummary, bias_offset, profile_read_noise, summaries
from darkpipe.science.regions import DetectorRegions

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

_STRIP = 32 * BLOCK
_SAME_GAIN = 1e-3  # relative
_SAME_EXPOSURE, _SAME_EXPOSURE_S = 0.01, 1e-3  # relative, and seconds: as cells are told apart elsewhere
_WEIGHTS = {"noise": BY_NOISE, "frames": BY_FRAMES, "equal": EQUAL}


@dataclass(frozen=True)
class NoiseMapOptions:
    """The choices of a calibration.

    weighting : 'noise': by the variance of each stack's mean, from the scatter of its frames, the frames' own errors
        and their number. 'frames': by the number of unmasked frames. 'equal'. The errors of the maps are right in
        either case, and smallest with 'noise'.
    negatives : C and D below 0, which noise makes of small values: 'keep', or 'zero' as corgidrp does, which makes the
        mean of a dark too high. Figures of areas and the bias offset are taken before.
    dark_outside : D of pixels that collect none: 'zero' or as 'fitted'.
    least_share : of a stack's frames, that a pixel must have unmasked; with fewer the stack is not used for it.
    frame_errors : what the frames' own errors are: 'common' to a stack, 'independent', or to be ignored ('ignore').
    gain_stages : of the EM register, for its excess noise.
    read_noise_e : rms [e-], for stacks whose noise cannot be measured; None: from the other stacks.
    k_gain_e_per_dn : conversion gain; None: the bias offset is told in electrons.
    """

    weighting: Literal["noise", "frames", "equal"] = "noise"
    negatives: Literal["keep", "zero"] = "keep"
    dark_outside: Literal["zero", "fitted"] = "zero"
    least_share: float = 0.5
    frame_errors: Literal["common", "independent", "ignore"] = "common"
    gain_stages: int = 604
    read_noise_e: float | None = None
    k_gain_e_per_dn: float | None = None

    def __post_init__(self) -> None:
        choices = {
            "weighting": tuple(_WEIGHTS),
            "negatives": ("keep", "zero"),
            "dark_outside": ("zero", "fitted"),
            "frame_errors": ("common", "independent", "ignore"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")
        if not 0 <= self.least_share <= 1 or self.gain_stages < 1:
            raise ValueError("least_share lies between 0 and 1, and gain_stages are at least one")
        for name in ("read_noise_e", "k_gain_e_per_dn"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value}")


@dataclass(frozen=True)
class StackRecord:
    """One stack of a calibration.

    frames : taken. mean_frames : unmasked ones of a collecting pixel, on the mean. noise_e : rms of a frame in an
    ordinary pixel, after the gain. enough_for_read_noise : every pixel has at least half of the frames.
    """

    em_gain: float
    exposure_s: float
    frames: int
    mean_frames: float
    noise_e: float
    enough_for_read_noise: bool


@dataclass(frozen=True)
class NoiseMaps:
    """The result; planes are full frames, (rows, cols), NaN in telemetry rows and where a pixel cannot be fitted.

    fixed_e, cic_e, dark_e_per_s : F and C [e-] and D [e-/s], float32.
    covariance : (6, rows, cols) float32: FF, FC, FD, CC, CD, DD.
    chi2 : of the usable stacks about the fit; adjusted_r2 : adjusted coefficient of determination, 1 at best.
    unusable_stacks : how many stacks were not used for a pixel.
    dq : FIT_FAILED where there is no value; FEW_SAMPLES where a stack was not used.
    input_dq : bits of the frames' own masks where there is no value, 0 elsewhere.
    read_noise_e : from the scatter of the frames of the stack of smallest gain x time; NaN if it is not mainly that.
    profile_read_noise_e : estimate from the pattern of that stack's mean, as corgidrp's; NaN if not to be trusted.
    summary : figures of each map by area ('image', 'collecting', 'prescan') and letter ('F', 'C', 'D').
    """

    fixed_e: F4
    cic_e: F4
    dark_e_per_s: F4
    covariance: F4
    chi2: F4
    adjusted_r2: F4
    unusable_stacks: U2
    dq: U2
    input_dq: U2
    stacks: tuple[StackRecord, ...]
    read_noise_e: float
    profile_read_noise_e: float
    bias_offset: BiasOffset
    summary: dict[str, dict[str, MapSummary]]
    regions: DetectorRegions
    options: NoiseMapOptions = field(default_factory=NoiseMapOptions)

    @property
    def fixed_error_e(self) -> F4:
        return np.asarray(np.sqrt(self.covariance[0]), np.float32)

    @property
    def cic_error_e(self) -> F4:
        return np.asarray(np.sqrt(self.covariance[3]), np.float32)

    @property
    def dark_error_e_per_s(self) -> F4:
        return np.asarray(np.sqrt(self.covariance[5]), np.float32)


class NoiseMapCalibration:
    """Takes frames of any EM gain and exposure, in any order, and fits the maps.

    Frames are in electrons, bias-subtracted, not divided by the EM gain, not desmeared, cosmic rays masked. Memory is
    that of a `MeanAccumulator` for each stack (14 to 20 bytes a pixel), however many frames they hold.
    """

    def __init__(self, regions: DetectorRegions, options: NoiseMapOptions | None = None) -> None:
        self.regions = regions
        self.options = options or NoiseMapOptions()
        self._stacks: dict[tuple[float, float], MeanAccumulator] = {}

    def add(
        self,
        frames: NDArray[Any],
        em_gain: float,
        exposure_s: float,
        masks: NDArray[Any] | None = None,
        errors: NDArray[Any] | None = None,
    ) -> None:
        """Add one frame (rows, cols) or several (n, rows, cols) of one setting; see `MeanAccumulator.add`.

        They join the stack of that setting: gains within 0.1 %, exposures within 1 % or 1 ms.

        Raises
        ------
        DesignError : frames that are no full frames of the detector, a gain below 1, an exposure below 0.
        """
        if not (np.isfinite(em_gain) and em_gain >= 1):
            raise DesignError(f"an EM gain is 1 or more, not {em_gain}")
        if not (np.isfinite(exposure_s) and exposure_s >= 0):
            raise DesignError(f"an exposure is 0 s or more, not {exposure_s}")
        key = (float(em_gain), float(exposure_s))
        key = next((k for k in self._stacks if _same(k, key)), key)
        stack = self._stacks.get(key) or MeanAccumulator(self.regions.shape)
        stack.add(frames, masks, errors)
        self._stacks[key] = stack

    def fit(self) -> NoiseMaps:
        """Fit F, C and D of every pixel.

        Raises
        ------
        DesignError : fewer than four stacks, or stacks that cannot tell the three maps apart (one gain or one exposure
            only, or gain and exposure that rise together), or nothing to measure the noise by.
        """
        keys = sorted(self._stacks)
        stacks = [self._stacks[key] for key in keys]
        gains, times = np.array([k[0] for k in keys]), np.array([k[1] for k in keys])
        design = Design(gains, times, np.array([s.frames for s in stacks]))
        check_design(gains, times)
        least = np.maximum(np.ceil(self.options.least_share * design.frames), 1.0)
        planes = _Planes(stacks, self.options.frame_errors, least)
        levels = self._measure(planes, design)
        fitted = np.empty((12, planes.pixels), np.float32)
        typical = np.array([levels.cic_e, levels.dark_e_per_s]) / design.scale[1:]
        how = _WEIGHTS[self.options.weighting]
        law = Law(least, design.scaled, design.scale, levels.levels(), typical)
        out = np.empty((13, _STRIP), np.float32)
        for s in range(0, planes.pixels, _STRIP):
            e = min(s + _STRIP, planes.pixels)
            y, n, error2, spread = planes.strip(slice(s, e))
            strip = out[:, : y.shape[1]]
            fit_strip(y, n, error2, spread, law, False, how, strip)
            fitted[:, s:e] = strip[:12, : e - s]
            far = strip[12, : e - s] > 0 if how == BY_NOISE else np.ones(e - s, np.bool_)
            self._refit(planes, s + np.flatnonzero(far), law, how, fitted)
        return self._finish(fitted.reshape(12, *self.regions.shape), stacks, design, levels)

    @staticmethod
    def _refit(planes: _Planes, pixels: NDArray[np.int64], law: Law, how: int, fitted: F4) -> None:
        """Fit pixels again with a noise of their own, where that leaves something to fit with."""
        if pixels.size == 0:
            return
        y, n, error2, spread = planes.strip(pixels)
        again = np.empty((13, y.shape[1]), np.float32)
        fit_strip(y, n, error2, spread, law, True, how, again)
        fine = np.isfinite(again[:9, : pixels.size]).all(axis=0)
        fitted[:, pixels[fine]] = again[:12, : pixels.size][:, fine]

    def _measure(self, planes: _Planes, design: Design) -> NoiseLevels:
        """Noise of the stacks, on pixels that collect dark current."""
        collecting = np.zeros(self.regions.shape, np.bool_)
        collecting[self.regions.collecting.slices] = True
        collecting[self.regions.telemetry] = False
        sample = planes.sample(sample_pixels(np.flatnonzero(collecting)))
        return noise_levels(sample, design, self.options.gain_stages, self.options.read_noise_e)

    def _finish(self, fitted: F4, stacks: list[MeanAccumulator], design: Design, levels: NoiseLevels) -> NoiseMaps:
        regions, options = self.regions, self.options
        fitted[:11, regions.telemetry] = np.nan
        values, covariance = fitted[:3], fitted[3:9]
        failed = ~np.isfinite(values).all(axis=0)
        values[:, failed] = np.nan
        covariance[:, failed] = np.nan
        unusable = (len(stacks) - fitted[11]).astype(np.uint16)
        dq = np.where(failed, int(DQ.FIT_FAILED), 0) | np.where(unusable > 0, int(DQ.FEW_SAMPLES), 0)
        bits = np.zeros(regions.shape, np.uint16)
        for stack in stacks:
            if stack.input_bits is not None:
                bits |= stack.input_bits.reshape(regions.shape)
        means = [stack.mean.reshape(regions.shape) for stack in stacks]
        records = tuple(_record(stack, design, i, levels, regions) for i, stack in enumerate(stacks))
        counts = np.array([record.mean_frames for record in records])
        offset = bias_offset(means, design, values, covariance, regions, options.k_gain_e_per_dn)
        summary = summaries(values, covariance, regions)
        profile = profile_read_noise(means, counts, design, values, regions)
        _tidy(values, covariance, regions, options)
        return NoiseMaps(
            fixed_e=values[0],
            cic_e=values[1],
            dark_e_per_s=values[2],
            covariance=covariance,
            chi2=fitted[9],
            adjusted_r2=fitted[10],
            unusable_stacks=unusable,
            dq=dq.astype(np.uint16),
            input_dq=np.where(failed, bits, 0).astype(np.uint16),
            stacks=records,
            read_noise_e=levels.read_noise_e,
            profile_read_noise_e=profile,
            bias_offset=offset,
            summary=summary,
            regions=regions,
            options=options,
        )


class _Planes:
    """The stacks' planes, cut for the fit."""

    def __init__(self, stacks: list[MeanAccumulator], frame_errors: str, least: F8) -> None:
        self.stacks, self.least = stacks, least
        self.pixels = stacks[0].mean.size
        self.with_errors = frame_errors != "ignore" and any(s.error2 is not None for s in stacks)
        self.power = 2 if frame_errors == "independent" else 1

    def strip(self, pixels: slice | NDArray[np.int64]) -> tuple[F8, F8, F8, F4]:
        """Means, counts, further variances and sample variances of some pixels, padded with absent ones to blocks."""
        m = len(self.stacks)
        size = pixels.stop - pixels.start if isinstance(pixels, slice) else pixels.size
        width = -(-size // BLOCK) * BLOCK
        y, n = np.zeros((m, width)), np.zeros((m, width))
        error2 = np.zeros((m, width)) if self.with_errors else np.empty((0, 0))
        spread = np.zeros((m, width), np.float32)
        for i, stack in enumerate(self.stacks):
            y[i, :size] = stack.mean[pixels]
            n[i, :size] = stack.count[pixels]
            spread[i, :size] = stack.variance(pixels)
            if self.with_errors:
                error2[i, :size] = self._error2(i, pixels)
        return y, n, error2, spread

    def sample(self, pixels: NDArray[np.int64]) -> Sample:
        """The same of some pixels, with the variances of their frames."""
        variance = np.stack([stack.variance(pixels) for stack in self.stacks])
        count = np.stack([stack.count[pixels] for stack in self.stacks]).astype(np.float64)
        error2 = np.empty((0, 0))
        if self.with_errors:
            error2 = np.stack([self._error2(i, pixels) for i in range(len(self.stacks))])
        mean = np.stack([stack.mean[pixels] for stack in self.stacks])
        return Sample(mean, variance, count, error2, self.least)

    def _error2(self, i: int, pixels: slice | NDArray[np.int64]) -> F8:
        """Variance of the mean by the frames' own errors."""
        squares = self.stacks[i].error2
        n = np.maximum(self.stacks[i].count[pixels], 1).astype(np.float64)
        return np.zeros(n.size) if squares is None else squares[pixels] / n**self.power


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return (
        abs(a[0] - b[0]) <= _SAME_GAIN * a[0] and abs(a[1] - b[1]) <= max(_SAME_EXPOSURE * a[1], _SAME_EXPOSURE_S)
    )  # fmt: skip


def check_design(em_gain: F8, exposure_s: F8) -> None:
    """Whether stacks of these EM gains and exposures [s], (m,) each, can tell F, C and D apart.

    Raises
    ------
    DesignError : fewer than four stacks, one gain or one exposure only, or gain and exposure that rise together.
    """
    design = Design(em_gain, exposure_s, np.ones(em_gain.size, np.int64))
    m = design.em_gain.size
    if m < LEAST_STACKS:
        raise DesignError(
            f"noise maps need at least {LEAST_STACKS} stacks of different EM gain and exposure, here are {m}",
            do="take stacks of further gains and exposures",
        )
    gains, times = np.unique(design.em_gain), np.unique(design.exposure_s)
    for values, name, what in ((gains, "EM gain", "fixed pattern"), (times, "exposure", "dark current")):
        if values.size < 2:
            raise DesignError(
                f"all stacks have one {name} ({values[0]:g}): the {what} cannot be told from the clock-induced charge",
                do=f"take stacks of another {name}",
            )
    columns = design.columns * design.scale
    if np.linalg.matrix_rank(columns, tol=1e-4) < 3:
        raise DesignError(
            "EM gain and exposure of these stacks change together: they cannot tell F, C and D apart",
            do="take stacks of a grid of gains and exposures",
        )


def _record(
    stack: MeanAccumulator, design: Design, i: int, levels: NoiseLevels, regions: DetectorRegions
) -> StackRecord:
    count = stack.count.reshape(regions.shape)
    return StackRecord(
        em_gain=float(design.em_gain[i]),
        exposure_s=float(design.exposure_s[i]),
        frames=stack.frames,
        mean_frames=float(count[regions.collecting.slices].mean()),
        noise_e=float(np.sqrt(levels.variance[i])),
        enough_for_read_noise=bool(2 * int(count[~regions.telemetry].min()) >= stack.frames),
    )


def _tidy(values: F4, covariance: F4, regions: DetectorRegions, options: NoiseMapOptions) -> None:
    """The two choices that change values."""
    if options.dark_outside == "zero":
        outside = np.isfinite(values[2])
        outside[regions.collecting.slices] = False
        values[2, outside] = 0.0
        for plane in (2, 4, 5):
            covariance[plane, outside] = 0.0
    if options.negatives == "zero":
        np.maximum(values[1:], 0.0, out=values[1:])  # NaN stays
