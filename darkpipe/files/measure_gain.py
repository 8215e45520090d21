"""Conversion gain, measured on raw darks and biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.measure import MOST_FRAMES, RawStack
from darkpipe.science.gain import GainEstimate, fit_gain
from darkpipe.science.scatter import Scatter, frame_scatter, pair_scatter

OWN = 0.005  # relative scatter of a pixel from frame to frame that a fit may find
OWN_OF_PAIR = 0.02  # likewise of the ratio of two exposures
MEDIAN_OF_CHI2 = 0.455  # of one degree of freedom
BULK_FREEDOM = 1 << 19  # degrees of freedom of the bulk's pixels together, beyond which there is nothing to be learnt
HOT = 4.0  # sigma of the pixels about their median, from which on each of them counts
SOME = 7  # every so manieth pixel tells a median
CELLS_AT_ONCE = 2  # this is one job, alone in its batch
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

    def scatter_of(cell: Light) -> Scatter:
        made, chosen = (_of_pair if cell.ratio else _of_frames)(cell, scale_factor, saturation_raw, drift_adu)
        if read_variance_adu2 is None:
            return made
        relative, error = cell.read
        mine = read_variance_adu2 * relative
        return replace(made, read_variance_adu2=mine[chosen], read_error_adu2=error * _some_median(mine))

    with ThreadPoolExecutor(CELLS_AT_ONCE) as workers:
        return fit_gain(list(workers.map(scatter_of, cells)))


def _of_frames(
    cell: Light, scale_factor: float, saturation_raw: float, drift_adu: float
) -> tuple[Scatter, NDArray[np.intp]]:
    """Two frames or more of one cell; and the pixels that were chosen."""
    samples = _read(cell.frames[0])
    above = samples if cell.above is None else _read(cell.above)
    below = None if cell.below is None else _read(cell.below)
    n, n_below = len(above), math.inf if below is None else len(below)
    own_mean = _mean(samples, scale_factor)
    above_mean = own_mean if cell.above is None else _mean(above, scale_factor)
    base = np.full(own_mean.shape, _some_median(own_mean)) if below is None else _mean(below, scale_factor)
    signal = (above_mean - base) * cell.scale
    # a short dark holds signal of its own
    zero = base if below is None else own_mean - signal
    chosen = _chosen(signal, len(samples) - 1)
    mine = samples[:, chosen]
    full = (mine >= saturation_raw).any(axis=0)
    if below is not None:
        full |= (below[:, chosen] >= saturation_raw).any(axis=0)
    found = frame_scatter(mine.astype(np.float32) / np.float32(scale_factor), zero[chosen], own=OWN)
    variance = found.variance_adu2
    variance[full] = np.nan
    counts = 1.0 / n + 1.0 / n_below
    error = math.sqrt(_median(variance) * counts) * cell.scale
    level = math.hypot(drift_adu * math.sqrt(counts) * cell.scale, LEVEL_ADU_PER_K * cell.distance_c)
    level = math.inf if below is None else level
    return Scatter(signal[chosen], variance, found.dof, error, level, found.own), chosen


def _of_pair(
    cell: Light, scale_factor: float, saturation_raw: float, drift_adu: float
) -> tuple[Scatter, NDArray[np.intp]]:
    """One frame of each of two exposures; and the pixels that were chosen: all."""
    assert cell.below is not None
    below = _read(cell.below)
    base = _mean(below, scale_factor)
    full = (below >= saturation_raw).any(axis=0)
    planes = []
    for stack in cell.frames:
        first = _read(stack)[0]
        planes.append(first.astype(np.float32) / np.float32(scale_factor) - base)
        full |= first >= saturation_raw
    signal, variance, differs = pair_scatter(planes[0], planes[1], cell.ratio)
    variance[full] = np.nan
    error = math.sqrt(0.5 * _median(variance) / MEDIAN_OF_CHI2)
    level = math.hypot(drift_adu * math.sqrt(0.5 + 1.0 / len(below)), LEVEL_ADU_PER_K * cell.distance_c)
    found = Scatter(signal, variance, 1, error, level, math.hypot(OWN_OF_PAIR, 0.3 * differs))
    return found, np.arange(signal.size)


def _read(stack: RawStack) -> NDArray[Any]:
    """Frames (n, p) [raw counts]."""
    return stack.first(MOST_FRAMES).read(stack.centre())


def _mean(samples: NDArray[Any], scale_factor: float) -> NDArray[np.float64]:
    """Of the frames, (p,) [native ADU]."""
    if samples.dtype == np.uint16:
        return np.asarray(samples.sum(axis=0, dtype=np.uint32) / (len(samples) * scale_factor))
    return np.asarray(samples.mean(axis=0, dtype=np.float64) / scale_factor)


def _some_median(values: NDArray[np.float64]) -> float:
    return float(np.median(values[::SOME]))


def _chosen(signal: NDArray[np.float64], dof: int) -> NDArray[np.intp]:
    """Pixels that tell the gain: of the bulk as many as tell its variance to a part in five hundred, which its excess
    over the biases' is not known to anyhow; of those that stand out all, up to as many."""
    most = max(1, BULK_FREEDOM // max(dof, 1))
    middle = _some_median(signal)
    spread = _some_median(np.abs(signal - middle)) / 0.6745
    hot = signal > middle + HOT * spread
    parts = [np.flatnonzero(part) for part in (hot, ~hot)]
    # an odd step meets all columns
    return np.sort(np.concatenate([part[:: (part.size // most) | 1] for part in parts]))


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
