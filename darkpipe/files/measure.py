"""Read noise, conversion gain and scale factor, measured from raw frames where headers do not settle them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.frames import FrameStack
from darkpipe.files.products import Frame, write_frame
from darkpipe.science.gain import GainEstimate, mean_variance_gain
from darkpipe.science.noise import integer_median, pair_sigma, pixel_variance, robust_median
from darkpipe.science.shrinkage import fit_variance_prior

SAMPLE_PIXELS = 1 << 20  # pixels that sensor-wide numbers are measured on
MOST_FRAMES = 20
STRIP_BYTES = 64 << 20


@dataclass(frozen=True)
class RawStack:
    """Raw frames of one kind and shape. level_raw (n,): robust median of each frame [raw counts]."""

    paths: Sequence[Path]
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

    def read(self, rows: slice) -> NDArray[np.float32]:
        """(n, pixels) raw counts."""
        with FrameStack(self.paths, self.hdus, self.rows, self.cols) as frames:
            block = frames.read_rows(rows.start, rows.stop)
            return np.array(block, np.float32).reshape(len(self.paths), -1)


def common_read_noise(stack: RawStack, scale_factor: float) -> tuple[float, float]:
    """Read noise of the typical pixel [native ADU] and its error, from pairs of neighbouring frames.

    Of a single frame: from neighbouring pixels, which is an upper limit (the pattern is in it).
    """
    samples = stack.first(MOST_FRAMES).read(stack.centre())
    if len(samples) == 1:
        image = samples[0].reshape(-1, stack.cols)
        even = image[:, 0 : 2 * (stack.cols // 2) : 2]
        sigma = pair_sigma(even, image[:, 1 : 2 * (stack.cols // 2) : 2])
        return sigma / scale_factor, 0.1 * sigma / scale_factor
    pairs = np.array([pair_sigma(samples[i], samples[i + 1]) for i in range(len(samples) - 1)])
    sigma = float(np.median(pairs))
    scatter = float(pairs.std() / math.sqrt(pairs.size)) if pairs.size > 2 else 0.0
    statistical = sigma / math.sqrt(2.0 * samples[0].size * pairs.size)
    return sigma / scale_factor, math.hypot(scatter, statistical) / scale_factor


def write_read_noise_map(path: Path, stack: RawStack, scale_factor: float, inputs: Sequence[str]) -> str:
    """Read noise of every pixel, shrunk to the population (science.shrinkage); returns the digest."""
    stack = stack.first(MOST_FRAMES)
    centre = stack.read(stack.centre()) / np.float32(scale_factor)
    levels = np.asarray(stack.level_raw, float) / scale_factor
    variance, dof = pixel_variance(centre, levels)
    prior = fit_variance_prior(variance, dof)
    out = np.empty((stack.rows, stack.cols), np.float32)
    height = max(1, min(stack.rows, STRIP_BYTES // max(1, 8 * stack.cols * len(stack.paths))))
    with FrameStack(stack.paths, stack.hdus, stack.rows, stack.cols) as frames:
        for first in range(0, stack.rows, height):
            last = min(first + height, stack.rows)
            block = np.array(frames.read_rows(first, last), np.float32).reshape(len(stack.paths), -1)
            variance, dof = pixel_variance(block / np.float32(scale_factor), levels)
            out[first:last] = prior.sigma_map(variance, dof).reshape(last - first, stack.cols)
    cards = [("NCOMBINE", len(stack.paths), "bias frames"), ("CONTENT", "read noise", "1 sigma of one frame")]
    return write_frame(path, Frame(out, header=cards, inputs=inputs))


def measured_gain(
    stack: RawStack, scale_factor: float, read_noise_adu: float, bias_level_raw: float | None
) -> GainEstimate | None:
    """Conversion gain from the scatter of two or more darks of one cell against their mean; None from one."""
    if len(stack.paths) < 2:
        return None
    samples = stack.first(MOST_FRAMES).read(stack.centre()) / np.float32(scale_factor)
    levels = [_level(s) for s in samples]
    samples -= (np.asarray(levels) - levels[0]).astype(np.float32)[:, None]
    variance, dof = pixel_variance(samples, [0.0] * len(samples))
    mean = samples.mean(axis=0)
    if bias_level_raw is None:
        zero = float(np.percentile(mean, 1.0))
        return mean_variance_gain(mean - zero, variance, dof, read_noise_adu=None, fit_jitter=True)
    signal = mean - bias_level_raw / scale_factor
    return mean_variance_gain(signal, variance, dof, read_noise_adu=read_noise_adu, fit_jitter=True)


def _level(frame: NDArray[np.float32]) -> float:
    rounded = np.rint(frame)
    return integer_median(rounded.astype(np.int64)) if np.array_equal(rounded, frame) else robust_median(frame)


def saturation_level(headers: Sequence[float], maxima: Sequence[float], fraction: float) -> float:
    """Raw count from which on a sample does not count: a fraction of the header's level, or of the converter's top.

    The top is the smallest 2^b - 1 (b = 8 … 16) that frames reached exactly, else 65535. Float data have no top.
    """
    top = max((m for m in maxima if math.isfinite(m)), default=65535.0)
    stated = [h for h in headers if math.isfinite(h) and h >= top]
    if stated:
        return fraction * min(stated)
    for bits in (8, 10, 12, 14, 16):
        for value in (2**bits - 1, (2**bits - 1) << (16 - bits)):
            if value == top and top >= 255:
                return fraction * float(value)
    return fraction * max(65535.0, top)
