"""Read noise, conversion gain and scale factor, measured from raw frames where headers do not settle them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ahead import each_ahead
from darkpipe.files.frames import FrameStack, RawSource
from darkpipe.files.products import Card, Frame, blank
from darkpipe.files.strips import InStrips, Strip
from darkpipe.science.noise import pair_sigma, pixel_variance
from darkpipe.science.shrinkage import VariancePrior, fit_variance_prior

SAMPLE_PIXELS = 1 << 20  # pixels that sensor-wide numbers are measured on
MOST_FRAMES = 20
PAIR_LOSS = 1.3  # cut at 3 sigma 1.2, neighbouring pairs share a frame 1.22, median of pairs 1.25; over sqrt(2)
LEAST_DOF = 15.0  # of the variances of pixels, from which on the typical pixel is told from the mean one
MIXED = 0.015  # by which a mixture of pixels must look noisier than its median one before that is told apart
COARSE_ADU = 1.0  # noise below which the variances of pixels are too few-valued for that
STRIP_BYTES = 32 << 20  # of a stack in each of two threads


@dataclass(frozen=True)
class RawStack:
    """Raw frames of one kind and shape. level_raw (n,): robust median of each frame [raw counts]."""

    paths: Sequence[RawSource]
    hdus: Sequence[int]
    rows: int
    cols: int
    level_raw: Sequence[float]

    def first(self, n: int) -> RawStack:
        return RawStack(self.paths[:n], self.hdus[:n], self.rows, self.cols, self.level_raw[:n])

    def centre(self) -> slice:
        """A band of rows in the middle with about `SAMPLE_PIXELS` pixels."""
        height = max(1, min(self.rows, SAMPLE_PIXELS // max(1, self.cols)))
        first = (self.rows - height) // 2
        return slice(first, first + height)

    def read(self, rows: slice) -> NDArray[Any]:
        """(n, pixels) raw counts, uint16 or float32."""
        with FrameStack(self.paths, self.hdus, self.rows, self.cols) as frames:
            return frames.read_rows(rows.start, rows.stop).reshape(len(self.paths), -1)


@dataclass(frozen=True)
class ReadNoiseFound:
    """Read noise [native ADU].

    sigma_adu, error_adu : of the typical pixel, over all stacks. by_stack : (sigma, 1 sigma of it) of each stack;
    empty where none has two frames. prior : population of the variances of pixels, None likewise.
    variance_adu2, dof : (p,) these variances, as `pixel_variances` gives them for the first stack's centre.
    """

    sigma_adu: float
    error_adu: float
    by_stack: tuple[tuple[float, float], ...] = ()
    prior: VariancePrior | None = None
    variance_adu2: NDArray[np.float64] | None = None
    dof: NDArray[np.float64] | None = None


def common_read_noise(stacks: Sequence[RawStack], scale_factor: float) -> ReadNoiseFound:
    """Read noise of the typical pixel and its error, of each stack (frames of one temperature) and over all.

    Of a stack: the median over pairs of neighbouring frames. Over stacks: the mean of the variances, by number of
    pairs. Where pixels differ widely, pairs tell the noise of their mixture: the typical pixel is then the median of
    the population, and that of each stack in proportion. Where no stack has two frames: from neighbouring pixels of
    one, which is an upper limit (the pattern is in it).
    """
    several = [s for s in stacks if len(s.paths) > 1]
    if not several:
        sigma = min(_pixel_noise(s) for s in stacks) / scale_factor
        return ReadNoiseFound(sigma, 0.1 * sigma)
    found = list(each_ahead(lambda stack: _pair_noise(stack, scale_factor), several, threads=2))
    weight = np.array([len(s.first(MOST_FRAMES).paths) - 1.0 for s in several])
    sigma, error = np.array(found).T
    pooled = math.sqrt(float(weight @ sigma**2) / weight.sum())
    pooled_error = math.sqrt(float(((weight * sigma * error) ** 2).sum())) / (weight.sum() * max(pooled, 1e-12))
    relative = [float(s / pooled) ** 2 if s > 0 else 1.0 for s in sigma]
    variance, dof = pixel_variances(several, scale_factor, several[0].centre(), relative)
    prior = fit_variance_prior(variance, dof)
    typical = pooled
    freedom = float(np.median(dof))
    if pooled >= COARSE_ADU and freedom >= LEAST_DOF:
        of_pixels = prior.sigma_map(variance, dof)
        median = float(np.median(of_pixels))
        if median < (1.0 - MIXED) * pooled:
            typical = median
            spread = math.hypot(float(np.std(of_pixels)) / typical, 1.0 / math.sqrt(2.0 * freedom))
            pooled_error = max(pooled_error, 1.2533 * typical * spread / math.sqrt(of_pixels.size))
    ratio = typical / pooled if pooled > 0 else 1.0
    by_stack = tuple((float(s * ratio), float(e * ratio)) for s, e in found)
    return ReadNoiseFound(typical, pooled_error, by_stack, prior, variance, dof)


def _pair_noise(stack: RawStack, scale_factor: float) -> tuple[float, float]:
    """Median over pairs of neighbouring frames of a stack; its error, of the pixels or by the pairs' scatter."""
    samples = stack.first(MOST_FRAMES).read(stack.centre())
    pairs = np.array([pair_sigma(samples[i], samples[i + 1], scale_factor) for i in range(len(samples) - 1)])
    sigma, n = float(np.median(pairs)), float(pairs.size)
    scatter = float(pairs.std(ddof=1) / math.sqrt(n)) if n > 2 else 0.0
    return sigma, max(scatter, PAIR_LOSS * sigma / math.sqrt(samples[0].size * n))


def pixel_variances(
    stacks: Sequence[RawStack], scale_factor: float, rows: slice, relative: Sequence[float] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sample variance of each pixel within the stacks, taken together, and its degrees of freedom, (p,) [ADU²].

    relative : variance of each stack over the pooled one, that it is divided by; None: 1.
    """
    ratios = relative or [1.0] * len(stacks)

    def pooled(band: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        total = freedom = np.zeros(1)
        for stack, ratio in zip(stacks, ratios, strict=True):
            levels = np.asarray(stack.level_raw, float) / scale_factor
            variance, dof = pixel_variance(stack.read(band), levels, 1.0 / scale_factor)
            total = total + np.where(dof > 0, variance * dof / ratio, 0.0)
            freedom = freedom + dof
        with np.errstate(invalid="ignore", divide="ignore"):
            return total / freedom, freedom

    return _joined(each_ahead(pooled, _parts(rows, stacks), threads=2))


def _parts(rows: slice, stacks: Sequence[RawStack]) -> list[slice]:
    """Rows in two parts or more, of which two together hold `STRIP_BYTES` of any stack at most."""
    most = 8 * stacks[0].cols * max(len(s.paths) for s in stacks)
    height = max(1, min(-(-(rows.stop - rows.start) // 2), 2 * STRIP_BYTES // max(1, most)))
    return [slice(r, min(r + height, rows.stop)) for r in range(rows.start, rows.stop, height)]


def _joined(
    parts: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances of bands and their degrees of freedom, put together."""
    variance, dof = zip(*parts, strict=True)
    return np.concatenate(variance), np.concatenate(dof)


def _pixel_noise(stack: RawStack) -> float:
    """Of the differences between neighbouring pixels of the first frame [raw counts]."""
    image = stack.first(1).read(stack.centre())[0].reshape(-1, stack.cols).astype(np.float32)
    even = image[:, 0 : 2 * (stack.cols // 2) : 2]
    return pair_sigma(even, image[:, 1 : 2 * (stack.cols // 2) : 2])


def read_noise_map(
    stacks: Sequence[RawStack], scale_factor: float, inputs: Sequence[str], factor: float = 1.0
) -> InStrips:
    """Read noise of every pixel, shrunk to the population (science.shrinkage), times a factor.

    stacks : two or more frames each, of one temperature a stack; variances are those within the stacks.
    """
    frames = sum(len(s.paths) for s in stacks)
    cards: list[Card] = [("NCOMBINE", frames, "bias frames"), ("CONTENT", "read noise", "1 sigma of one frame")]
    template = Frame(blank((stacks[0].rows, stacks[0].cols), np.float32), header=cards, inputs=inputs)
    return InStrips(template, _noise_strips(stacks, scale_factor, factor))


def _noise_strips(stacks: Sequence[RawStack], scale_factor: float, factor: float) -> Iterator[Strip]:
    rows, cols = stacks[0].rows, stacks[0].cols
    with ExitStack() as opened:
        readers = [opened.enter_context(FrameStack(s.paths, s.hdus, rows, cols)) for s in stacks]
        reading = [Lock() for _ in stacks]

        def pooled(band: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            total, freedom = np.zeros((band.stop - band.start) * cols), np.zeros((band.stop - band.start) * cols)
            for stack, reader, alone in zip(stacks, readers, reading, strict=True):
                with alone:
                    block = reader.read_rows(band.start, band.stop).reshape(len(stack.paths), -1)
                levels = np.asarray(stack.level_raw, float) / scale_factor
                variance, dof = pixel_variance(block, levels, 1.0 / scale_factor)
                total += np.where(dof > 0, variance * dof, 0.0)
                freedom += dof
            with np.errstate(invalid="ignore", divide="ignore"):
                return total / freedom, freedom

        def strip(band: slice) -> Strip:
            sigma = factor * prior.sigma_map(*pooled(band)).reshape(-1, cols)
            return band, {"SCI": np.asarray(sigma, np.float32)}

        centre = _parts(stacks[0].centre(), stacks)
        prior = fit_variance_prior(*_joined(each_ahead(pooled, centre, threads=2)))
        most = max(len(s.paths) for s in stacks)
        height = max(1, min(rows, STRIP_BYTES // max(1, 8 * cols * most)))
        yield from each_ahead(strip, (slice(r, min(r + height, rows)) for r in range(0, rows, height)), threads=2)


def saturation_level(headers: Sequence[float], maxima: Sequence[tuple[float, bool]], fraction: float) -> float:
    """Raw count from which on a sample does not count: a fraction of the header's level, or of the converter's top.

    The top is what the stored type holds at most where a frame reaches that; 2^b - 1 (b = 10, 12, 14) where two frames
    end exactly there and none goes beyond (one may by chance); else 65535, or what was reached if that is more.

    Parameters
    ----------
    headers : saturation that headers state [raw], NaN where none does.
    maxima : of each frame, the largest value [raw] and whether it is the highest that its type holds.
    """
    finite = [(m, full) for m, full in maxima if math.isfinite(m)]
    top = max((m for m, _ in finite), default=65535.0)
    stated = [h for h in headers if math.isfinite(h) and h >= top]
    if stated:
        return fraction * min(stated)
    if any(full and m == top for m, full in finite):
        return fraction * top
    if top in {2.0**bits - 1.0 for bits in (10, 12, 14)} and sum(m == top for m, _ in finite) > 1:
        return fraction * top
    return fraction * max(65535.0, top)
