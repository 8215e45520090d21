"""Read noise, conversion gain and scale factor, measured from raw frames where headers do not settle them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
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
FREE_NOISE_ERROR = 0.05  # relative error of a gain up to which it is measured without a known read noise
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


def common_read_noise(stacks: Sequence[RawStack], scale_factor: float) -> tuple[float, float]:
    """Read noise of the typical pixel [native ADU] and its error.

    Within a stack (frames of one temperature): the median over pairs of neighbouring frames; over stacks: the mean of
    the variances, by number of pairs. Where no stack has two frames: from neighbouring pixels of one, which is an
    upper limit (the pattern is in it).
    """
    several = [s for s in stacks if len(s.paths) > 1]
    if not several:
        sigma = min(_pixel_noise(s) for s in stacks)
        return sigma / scale_factor, 0.1 * sigma / scale_factor
    variance = spread = weight = 0.0
    for stack in several:
        samples = stack.first(MOST_FRAMES).read(stack.centre())
        pairs = np.array([pair_sigma(samples[i], samples[i + 1]) for i in range(len(samples) - 1)])
        sigma, n = float(np.median(pairs)), float(pairs.size)
        scatter = float(pairs.std() / math.sqrt(n)) if n > 2 else 0.0
        statistical = sigma / math.sqrt(2.0 * samples[0].size * n)
        variance += n * sigma**2
        spread += (n * 2.0 * sigma * math.hypot(scatter, statistical)) ** 2
        weight += n
    common = math.sqrt(variance / weight)
    error = math.sqrt(spread) / weight / (2.0 * common) if common > 0 else 0.0
    return common / scale_factor, error / scale_factor


def _pixel_noise(stack: RawStack) -> float:
    """Of the differences between neighbouring pixels of the first frame [raw counts]."""
    image = stack.first(1).read(stack.centre())[0].reshape(-1, stack.cols)
    even = image[:, 0 : 2 * (stack.cols // 2) : 2]
    return pair_sigma(even, image[:, 1 : 2 * (stack.cols // 2) : 2])


def write_read_noise_map(path: Path, stacks: Sequence[RawStack], scale_factor: float, inputs: Sequence[str]) -> str:
    """Read noise of every pixel, shrunk to the population (science.shrinkage); returns the digest.

    stacks : two or more frames each, of one temperature a stack; variances are those within the stacks.
    """
    rows, cols = stacks[0].rows, stacks[0].cols
    with ExitStack() as opened:
        readers = [opened.enter_context(FrameStack(s.paths, s.hdus, rows, cols)) for s in stacks]

        def pooled(band: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            total, freedom = np.zeros((band.stop - band.start) * cols), np.zeros((band.stop - band.start) * cols)
            for stack, reader in zip(stacks, readers, strict=True):
                block = np.array(reader.read_rows(band.start, band.stop), np.float32).reshape(len(stack.paths), -1)
                levels = np.asarray(stack.level_raw, float) / scale_factor
                variance, dof = pixel_variance(block / np.float32(scale_factor), levels)
                total += np.where(dof > 0, variance * dof, 0.0)
                freedom += dof
            with np.errstate(invalid="ignore", divide="ignore"):
                return total / freedom, freedom

        prior = fit_variance_prior(*pooled(stacks[0].centre()))
        out = np.empty((rows, cols), np.float32)
        most = max(len(s.paths) for s in stacks)
        height = max(1, min(rows, STRIP_BYTES // max(1, 8 * cols * most)))
        for first in range(0, rows, height):
            band = slice(first, min(first + height, rows))
            out[band] = prior.sigma_map(*pooled(band)).reshape(-1, cols)
    frames = sum(len(s.paths) for s in stacks)
    cards = [("NCOMBINE", frames, "bias frames"), ("CONTENT", "read noise", "1 sigma of one frame")]
    return write_frame(path, Frame(out, header=cards, inputs=inputs))


@dataclass(frozen=True)
class Zero:
    """Frames that say what bright darks read without their signal.

    fraction : of the bright darks' signal that is in these frames too: 0 for biases, t/t_bright for shorter darks.
    read_noise_adu : scatter of one of these frames, in the typical pixel; None: not known.
    """

    stack: RawStack
    fraction: float
    read_noise_adu: float | None


def measured_gain(bright: RawStack, zero: Zero, scale_factor: float, saturation_raw: float) -> GainEstimate | None:
    """Conversion gain from the scatter of two or more darks of one cell against their mean; None from one.

    The pattern of the bias is taken out pixel by pixel, with frames of (nearly) the same temperature: in the mean it
    would flatten the line. Pixels that reach saturation in any frame are left out.
    """
    if len(bright.paths) < 2:
        return None
    samples, mean, full = _normalised(bright, scale_factor, saturation_raw)
    base = _normalised(zero.stack, scale_factor, saturation_raw)[1]
    variance, dof = pixel_variance(samples, [0.0] * len(samples))
    signal = (mean - base) / np.float32(1.0 - zero.fraction)
    n, n_zero = len(samples), min(len(zero.stack.paths), MOST_FRAMES)
    error = pair_sigma(samples[0], samples[1]) * math.sqrt(1.0 / n + 1.0 / n_zero) / (1.0 - zero.fraction)
    variance[full] = np.nan

    def fitted(read_noise_adu: float | None) -> GainEstimate:
        return mean_variance_gain(
            signal, variance, dof, read_noise_adu=read_noise_adu, fit_jitter=True, mean_error_adu=error
        )

    # long darks are noisier than biases even without charge: the noise at no signal is fitted where it can be
    found = fitted(None)
    if zero.read_noise_adu is None or found.error_e_per_adu < FREE_NOISE_ERROR * found.gain_e_per_adu:
        return found
    noise = zero.read_noise_adu
    for _ in range(3 if zero.fraction > 0 else 1):
        found = fitted(noise)
        if math.isfinite(found.gain_e_per_adu):  # shorter darks hold shot noise of their own
            shot = zero.fraction * max(float(np.nanmedian(signal)), 0.0) / found.gain_e_per_adu
            noise = math.sqrt(max(zero.read_noise_adu**2 - shot, 0.25 * zero.read_noise_adu**2))
    return found


def _normalised(
    stack: RawStack, scale_factor: float, saturation_raw: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Frames (n, p) moved to their mean level, their mean (p,), and which pixels were full in any [native ADU]."""
    samples = stack.first(MOST_FRAMES).read(stack.centre())
    full: NDArray[np.bool_] = np.any(samples >= saturation_raw, axis=0)
    samples /= np.float32(scale_factor)
    levels = np.array([_level(s) for s in samples])
    samples -= (levels - levels.mean()).astype(np.float32)[:, None]
    return samples, np.asarray(samples.mean(axis=0), np.float32), full


def _level(frame: NDArray[np.float32]) -> float:
    rounded = np.rint(frame)
    return integer_median(rounded.astype(np.int64)) if np.array_equal(rounded, frame) else robust_median(frame)


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
