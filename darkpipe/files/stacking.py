"""Masters from raw frames, strip by strip: the memory does not grow with the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ahead import ahead
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.frames import FrameStack, RawSource
from darkpipe.files.masters import MASTER_PLANES, Master, ReferenceValues, master_frame
from darkpipe.files.products import Card, Product, read_planes, write_strips
from darkpipe.science.clamp import hidden_charge
from darkpipe.science.combine import clipped_mean
from darkpipe.science.flags import DQ
from darkpipe.science.noise import pair_sigma
from darkpipe.science.quadrature import quadrature

STRIP_BYTES = 16 << 20  # of samples; two strips are held
MOST_BYTES = 64 << 20  # of so many frames that a strip would have a row or two: each strip opens them anew
LEAST_ROWS = 8
STRIP_PIXELS = 1 << 18
LEVEL_PIXELS = 1 << 20
TYPICAL_B_PER_K = 0.1  # growth of dark current with temperature, for the clipping's share of temperature jitter
HALF_BAND = 128  # rows on each side of the middle that tell the noise of a pair


@dataclass(frozen=True)
class Stack:
    """Raw frames of one kind: files, HDU numbers, the offset of each from its cell's level [native ADU]."""

    paths: Sequence[RawSource]
    hdus: Sequence[int]
    rows: int
    cols: int
    offset_adu: Sequence[float]
    pedestal_adu: float

    def strips(self, sample_bytes: int) -> list[slice]:
        """Bands of rows that fit into the strip buffer, for samples of this size."""
        row = max(1, sample_bytes * self.cols * len(self.paths))
        height = max(STRIP_BYTES // row, min(LEAST_ROWS, MOST_BYTES // row))
        height = max(1, min(self.rows, height, STRIP_PIXELS // max(1, self.cols)))
        return [slice(r, min(r + height, self.rows)) for r in range(0, self.rows, height)]


def spread_in_cell(relative_error: float, temperature_sigma_c: float) -> float:
    """Multiplicative error of a frame within its cell, with that of its temperature."""
    return math.hypot(relative_error, TYPICAL_B_PER_K * temperature_sigma_c)


@dataclass(frozen=True)
class Clipping:
    """How a stack is combined.

    relative_error : multiplicative error of a frame. bias_level_adu : for a stack of biases: where their pattern ends.
    Nothing is subtracted, and what stands above it counts as charge. None: the stack holds darks.
    temperature_c : of the stack, for its read noise; None: that of all temperatures.
    hidden_adu : charge that the camera's black clamp took from every pixel: it has left its noise.
    """

    kappa: float
    relative_error: float
    bias_level_adu: float | None = None
    temperature_c: float | None = None
    hidden_adu: float = 0.0


def combine_stack(
    stack: Stack, reference: ReferenceValues, read_noise: Product | None, bias: BiasSource | None, how: Clipping
) -> Master:
    """Clipped mean of a stack, minus the bias where there is one.

    Raises
    ------
    FrameError
        when a raw frame vanished or changed.
    """
    out = Master.empty((stack.rows, stack.cols))
    for rows, planes in combined_strips(stack, reference, read_noise, bias, how):
        for name, plane in planes.items():
            getattr(out, name)[rows] = plane
    return out


def combined_strips(
    stack: Stack, reference: ReferenceValues, read_noise: Product | None, bias: BiasSource | None, how: Clipping
) -> Iterator[tuple[slice, dict[str, NDArray[Any]]]]:
    """The same strip by strip: rows, and the planes of a `Master` by name. The next strip is read, and the one after
    the next combined, while a strip is used. Raises as `combine_stack`."""
    with FrameStack(stack.paths, stack.hdus, stack.rows, stack.cols) as frames:
        lowest = _without_bias(reference, stack) if bias is None and how.bias_level_adu is None else 0.0
        known = _Known(stack, reference, read_noise, bias, how, lowest)
        strips = _read_strips(frames, stack.strips(frames.dtype.itemsize))
        yield from ahead((rows, _combine_strip(samples, rows, known)) for rows, samples in ahead(strips))


def _read_strips(frames: FrameStack, strips: Sequence[slice]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Samples (n, rows, cols) of each strip; a strip holds until the one after the next is asked for."""
    most = max(rows.stop - rows.start for rows in strips) * len(frames) * frames.cols if strips else 0
    buffers = [np.empty(most, frames.dtype) for _ in range(min(2, len(strips)))]
    for number, rows in enumerate(strips):
        yield rows, frames.read_rows(rows.start, rows.stop, buffers[number % 2])


@dataclass(frozen=True)
class _Known:
    """What all strips share. lowest_adu : without a bias, where charge begins to add noise."""

    stack: Stack
    reference: ReferenceValues
    read_noise: Product | None
    bias: BiasSource | None
    how: Clipping
    lowest_adu: float

    def noise(self, rows: slice) -> float | NDArray[Any]:
        """Read noise of these rows [native ADU]."""
        t = self.how.temperature_c
        factor = 1.0 if t is None else self.reference.read_noise_factor(t)
        if self.read_noise is None:
            return self.reference.read_noise_adu * factor
        plane = read_planes(self.read_noise, ["SCI"], rows)[0].ravel()
        return plane * factor if factor != 1.0 else plane


def _combine_strip(samples: NDArray[Any], rows: slice, known: _Known) -> dict[str, NDArray[Any]]:
    stack, reference, how = known.stack, known.reference, known.how
    n, pixels = samples.shape[0], samples[0].size
    flat = samples.reshape(n, -1)
    level: NDArray[Any] | float = known.lowest_adu
    bias_error: NDArray[np.float32]
    bits: NDArray[np.uint16] | None = None
    if known.bias is not None:
        value, sigma, missing = known.bias.read(rows)
        level, bias_error, bits = value.ravel(), sigma.ravel(), missing.ravel()
    elif how.bias_level_adu is not None:
        level, bias_error = how.bias_level_adu, np.zeros(pixels, np.float32)
    else:
        bias_error, bits = np.full(pixels, np.inf, np.float32), np.full(pixels, int(DQ.NO_BIAS), np.uint16)
    made = clipped_mean(
        flat,
        level_adu=stack.offset_adu,
        read_noise_adu=known.noise(rows),
        gain_e_per_adu=reference.gain_e_per_adu,
        relative_error=how.relative_error,
        bias_adu=level - how.hidden_adu if how.hidden_adu else level,
        kappa=how.kappa,
        valid_low=reference.clipped_low_raw,
        valid_high=reference.saturation_raw,
        scale_factor=reference.scale_factor,
        pedestal_adu=stack.pedestal_adu,
    )
    mean, error, dq = made.mean, made.error, made.dq
    if how.bias_level_adu is None:  # of a bias nothing can be said of what lies below it
        # what a saturated dark reads is worth knowing, if not worth fitting
        unread = np.flatnonzero(np.isnan(mean) & ((dq & np.uint16(DQ.SATURATED)) != 0))
        mean[unread] = flat[:, unread].mean(axis=0, dtype=np.float64) / reference.scale_factor + stack.pedestal_adu
    if known.bias is not None:
        np.subtract(mean, level, out=mean)
        error = quadrature(error, bias_error)
    if bits is not None:
        np.bitwise_or(dq, bits, out=dq)
    planes: tuple[NDArray[Any], ...] = (
        mean, error, dq, made.count, made.rejected, made.chi2, made.scatter, bias_error,
    )  # fmt: skip
    shape = (rows.stop - rows.start, stack.cols)
    return {name: plane.reshape(shape) for name, plane in zip(Master.kinds(), planes, strict=True)}


def write_master(
    path: Path,
    strips: Iterator[tuple[slice, Mapping[str, NDArray[Any]]]],
    stack: Stack,
    cards: Sequence[Card],
    inputs: Sequence[str],
    *,
    bias: bool,
) -> str:
    """Write a master from its strips (`combined_strips`), see `master_frame`; returns the digest.

    Memory: a few strips, however large the frames and however many they are.

    Raises
    ------
    FrameError
        when a raw frame vanished or changed. ProductError : the file cannot be written.
    """
    shape = (stack.rows, stack.cols)
    template = master_frame(Master.blank(shape), cards, inputs, frames=len(stack.paths), bias=bias)
    named = ((rows, {MASTER_PLANES[name]: plane for name, plane in planes.items()}) for rows, planes in strips)
    return write_strips(path, template, named)


def _without_bias(reference: ReferenceValues, stack: Stack) -> float:
    """Where charge begins to add noise, if there is no bias: the level at which the read noise was measured, since the
    shot noise of that level is in it already. If the read noise was set: what the lowest pixels read, in the middle of
    the first frame."""
    if reference.noise_level_adu is not None:
        return reference.noise_level_adu
    half = max(1, LEVEL_PIXELS // max(1, 2 * stack.cols))
    middle = stack.rows // 2
    with FrameStack(stack.paths[:1], stack.hdus[:1], stack.rows, stack.cols) as first:
        samples = first.read_rows(max(0, middle - half), min(stack.rows, middle + half))
    return float(np.percentile(samples, 1.0)) / reference.scale_factor + stack.pedestal_adu


def measure_hidden_charge(stack: Stack, reference: ReferenceValues) -> float:
    """Charge [ADU] that a black clamp took from the bulk of these darks, from the noise of the first two in the middle
    of the frame; 0 of a single one."""
    if len(stack.paths) < 2:
        return 0.0
    first, last = stack.rows // 2 - min(stack.rows // 2, HALF_BAND), min(stack.rows // 2 + HALF_BAND, stack.rows)
    with FrameStack(stack.paths[:2], stack.hdus[:2], stack.rows, stack.cols) as frames:
        samples = frames.read_rows(first, last)
    sigma = pair_sigma(samples[0].ravel(), samples[1].ravel()) / reference.scale_factor
    return hidden_charge(sigma, reference.read_noise_adu, reference.gain_e_per_adu)
