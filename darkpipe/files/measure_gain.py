"""Conversion gain, measured on raw darks and biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.measure import MOST_FRAMES, RawStack
from darkpipe.science.gain import GainEstimate, fit_gain
from darkpipe.science.scatter import Scatter, frame_scatter, pair_scatter

OWN = 0.005  # relative scatter of a pixel from frame to frame that a fit may find
OWN_OF_PAIR = 0.02  # likewise of the ratio of two exposures
MEDIAN_OF_CHI2 = 0.455  # of one degree of freedom
LEVEL_ADU_PER_K = 1.0  # by which a bias may move with temperature, where it is that of another


@dataclass(frozen=True)
class Light:
    """Frames of a cell, or of a pair of exposures (`ratio`: of the two), and what their signal is measured with; as in
    `witnesses.GainCell`, by stacks. read : (R², its error) relative to the typical pixel's pooled over temperatures."""

    frames: Sequence[RawStack]
    above: RawStack | None
    below: RawStack | None
    scale: float
    distance_c: float
    ratio: float
    read: tuple[float, float]


def measured_gain(
    cells: Sequence[Light],
    read_variance_adu2: NDArray[np.float64] | None,
    drift_adu: float,
    scale_factor: float,
    saturation_raw: float,
) -> GainEstimate:
    """Conversion gain from the scatter of darks about their mean; NaN where they cannot tell.

    Parameters
    ----------
    read_variance_adu2 : (p,) of the pixels of a stack's `centre`, pooled over temperatures; None: not known.
    drift_adu : 1 sigma of the level of a frame about its neighbours'.
    """
    found = []
    for cell in cells:
        made = (_of_pair if cell.ratio else _of_frames)(cell, scale_factor, saturation_raw, drift_adu)
        if read_variance_adu2 is not None:
            relative, error = cell.read
            mine = read_variance_adu2 * relative
            made = replace(made, read_variance_adu2=mine, read_error_adu2=error * float(np.median(mine)))
        found.append(made)
    return fit_gain(found)


def _of_frames(cell: Light, scale_factor: float, saturation_raw: float, drift_adu: float) -> Scatter:
    """Two frames or more of one cell."""
    samples, full = _read(cell.frames[0], scale_factor, saturation_raw)
    above = samples if cell.above is None else _read(cell.above, scale_factor, saturation_raw)[0]
    n, n_below = len(above), math.inf
    if cell.below is None:
        own_mean = samples.mean(axis=0, dtype=np.float64)
        base = np.full(own_mean.shape, float(np.median(own_mean)))
    else:
        below, also_full = _read(cell.below, scale_factor, saturation_raw)
        full, n_below = full | also_full, len(below)
        base = below.mean(axis=0, dtype=np.float64)
    signal = (above.mean(axis=0, dtype=np.float64) - base) * cell.scale
    # a short dark holds signal of its own
    zero = samples.mean(axis=0, dtype=np.float64) - signal if cell.below is not None else base
    found = frame_scatter(samples, zero, own=OWN)
    variance = found.variance_adu2
    variance[full] = np.nan
    counts = 1.0 / n + 1.0 / n_below
    error = math.sqrt(_median(variance) * counts) * cell.scale
    level = math.hypot(drift_adu * math.sqrt(counts) * cell.scale, LEVEL_ADU_PER_K * cell.distance_c)
    return Scatter(signal, variance, found.dof, error, math.inf if cell.below is None else level, found.own)


def _of_pair(cell: Light, scale_factor: float, saturation_raw: float, drift_adu: float) -> Scatter:
    """One frame of each of two exposures."""
    assert cell.below is not None
    below, full = _read(cell.below, scale_factor, saturation_raw)
    base = below.mean(axis=0, dtype=np.float64)
    planes = []
    for stack in cell.frames:
        samples, also_full = _read(stack, scale_factor, saturation_raw)
        planes.append(samples[0] - base)
        full = full | also_full
    signal, variance, differs = pair_scatter(planes[0], planes[1], cell.ratio)
    variance[full] = np.nan
    error = math.sqrt(0.5 * _median(variance) / MEDIAN_OF_CHI2)
    level = math.hypot(drift_adu * math.sqrt(0.5 + 1.0 / len(below)), LEVEL_ADU_PER_K * cell.distance_c)
    return Scatter(signal, variance, 1, error, level, math.hypot(OWN_OF_PAIR, 0.3 * differs))


def _read(stack: RawStack, scale_factor: float, saturation_raw: float) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Frames (n, p) [native ADU], and which pixels were full in any."""
    samples = stack.first(MOST_FRAMES).read(stack.centre())
    full: NDArray[np.bool_] = np.any(samples >= saturation_raw, axis=0)
    samples /= np.float32(scale_factor)
    return samples, full


def level_drift(levels_adu: Sequence[Sequence[float]]) -> float:
    """1 sigma of the level of a frame about the mean of its stack, over stacks of two frames or more; 0: none."""
    squares = freedom = 0.0
    for levels in levels_adu:
        squares += float(((np.asarray(levels) - np.mean(levels)) ** 2).sum())
        freedom += len(levels) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def _median(variance: NDArray[np.float64]) -> float:
    known = variance[np.isfinite(variance)]
    return float(np.median(known)) if known.size else 0.0
