"""Masters from raw frames, strip by strip: the memory does not grow with the frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.bias_files import BiasSource
from darkpipe.files.frames import FrameStack, RawSource
from darkpipe.files.masters import Master, ReferenceValues
from darkpipe.files.products import Product, read_planes
from darkpipe.science.clamp import hidden_charge
from darkpipe.science.combine import clipped_mean
from darkpipe.science.flags import DQ
from darkpipe.science.noise import pair_sigma

STRIP_BYTES = 32 << 20
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

    @property
    def strips(self) -> list[slice]:
        """Bands of rows that fit into the strip buffer."""
        height = max(1, min(self.rows, STRIP_BYTES // max(1, 4 * self.cols * len(self.paths))))
        return [slice(r, min(r + height, self.rows)) for r in range(0, self.rows, height)]


def spread_in_cell(relative_error: float, temperature_sigma_c: float) -> float:
    """Multiplicative error of a frame within its cell, with that of its temperature."""
    return math.hypot(relative_error, TYPICAL_B_PER_K * temperature_sigma_c)


def combine_stack(
    stack: Stack,
    reference: ReferenceValues,
    read_noise: Product | None,
    bias: BiasSource | None,
    *,
    kappa: float,
    relative_error: float,
    bias_level_adu: float | None = None,
    temperature_c: float | None = None,
    hidden_adu: float = 0.0,
) -> Master:
    """Clipped mean of a stack, minus the bias where there is one.

    bias_level_adu : for a stack of biases: where their pattern ends. Nothing is subtracted, and what stands above it
    counts as charge. None: the stack holds darks.
    temperature_c : of the stack, for its read noise; None: that of all temperatures.
    hidden_adu : charge that the camera's black clamp took from every pixel: it has left its noise.

    Raises
    ------
    FrameError
        when a raw frame vanished or changed.
    """
    out = Master.empty((stack.rows, stack.cols))
    noise_factor = 1.0 if temperature_c is None else reference.read_noise_factor(temperature_c)
    with FrameStack(stack.paths, stack.hdus, stack.rows, stack.cols) as frames:
        for rows in stack.strips:
            _combine_strip(
                frames.read_rows(rows.start, rows.stop), rows, stack, reference, read_noise, bias, out,
                kappa=kappa, relative_error=relative_error, bias_level_adu=bias_level_adu,
                noise_factor=noise_factor, hidden_adu=hidden_adu,
            )  # fmt: skip
    return out


def _combine_strip(
    samples: NDArray[Any],
    rows: slice,
    stack: Stack,
    reference: ReferenceValues,
    read_noise: Product | None,
    bias: BiasSource | None,
    out: Master,
    *,
    kappa: float,
    relative_error: float,
    bias_level_adu: float | None,
    noise_factor: float,
    hidden_adu: float,
) -> None:
    n = samples.shape[0]
    flat = samples.reshape(n, -1)
    noise: float | NDArray[Any] = reference.read_noise_adu
    if read_noise is not None:
        noise = read_planes(read_noise, ["SCI"], rows)[0].ravel()
    noise = noise * noise_factor
    level: NDArray[Any] | float | None = None
    bias_error: NDArray[np.float32] = np.zeros(flat.shape[1], np.float32)
    bits = np.zeros(flat.shape[1], np.uint16)
    if bias is not None:
        value, sigma, missing = bias.read(rows)
        level, bias_error, bits = value.ravel(), sigma.ravel(), missing.ravel()
    elif bias_level_adu is not None:
        level = bias_level_adu
    else:
        level = _without_bias(reference, flat[0], stack.pedestal_adu)
        bias_error = np.full(flat.shape[1], np.inf, np.float32)
        bits |= np.uint16(DQ.NO_BIAS)
    made = clipped_mean(
        flat,
        level_adu=stack.offset_adu,
        read_noise_adu=noise,
        gain_e_per_adu=reference.gain_e_per_adu,
        relative_error=relative_error,
        bias_adu=level - hidden_adu if hidden_adu else level,
        kappa=kappa,
        valid_low=reference.clipped_low_raw,
        valid_high=reference.saturation_raw,
        scale_factor=reference.scale_factor,
        pedestal_adu=stack.pedestal_adu,
    )
    full = (made.dq & np.uint16(DQ.SATURATED)) != 0
    if bias_level_adu is not None:
        full[:] = False  # nothing can be said of what lies below it
    # what a saturated dark reads is worth knowing, if not worth fitting
    unread = np.flatnonzero(full & ~np.isfinite(made.mean))
    mean = made.mean.copy()
    mean[unread] = flat[:, unread].mean(axis=0, dtype=np.float64) / reference.scale_factor + stack.pedestal_adu
    subtract = level if bias is not None and level is not None else np.float32(0)
    total = made.error if bias is None else np.hypot(made.error, bias_error)
    planes = (mean - subtract, total, made.dq | bits, made.count, made.rejected, made.chi2, made.scatter, bias_error)
    names = ("science", "error", "dq", "count", "rejected", "chi2", "scatter", "bias_error")
    for name, plane in zip(names, planes, strict=True):
        getattr(out, name)[rows] = np.asarray(plane).reshape(rows.stop - rows.start, stack.cols)


def _without_bias(reference: ReferenceValues, samples: NDArray[Any], pedestal_adu: float) -> float:
    """Where charge begins to add noise, if there is no bias: the level at which the read noise was measured, since the
    shot noise of that level is in it already. If the read noise was set: what the lowest pixels read."""
    if reference.noise_level_adu is not None:
        return reference.noise_level_adu
    return float(np.percentile(samples, 1.0)) / reference.scale_factor + pedestal_adu


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
