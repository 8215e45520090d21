"""From frames to cells: which frames belong to one (temperature, exposure), and which do not look like their cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.grouping import (
    CellTemperature,
    cell_temperature,
    cluster_exposures,
    cluster_values,
    thermometer_step,
)
from darkpipe.science.noise import robust_sigma

F8 = NDArray[np.float64]

LEVEL_SIGMAS = 8.0  # of the scatter of levels in the cell
LEVEL_READ_NOISES = 3.0  # a level closer than this many read noises to its cell is never rejected
LEVEL_FRACTION = 0.1  # nor one closer than this fraction of the cell's own dark signal
SPREAD_RATIO = 1.5  # of a frame's spread to that of its cell
GRADIENT_READ_NOISES = 5.0


@dataclass(frozen=True)
class CellOfFrames:
    """Members (positions in the input), temperature and exposure of a cell."""

    members: tuple[int, ...]
    temperature: CellTemperature
    exposure_s: float


def group_frames(
    set_point_c: ArrayLike,
    measured_c: ArrayLike,
    exposure_s: ArrayLike,
    *,
    temperature_tolerance_c: float = 0.5,
    exposure_tolerance: float = 0.01,
    exposure_tolerance_s: float = 0.001,
) -> list[CellOfFrames]:
    """Cells of n frames, in the order of temperature, then exposure.

    A frame counts with its set point while it is regulated (measured within a thermometer step, or the tolerance, of
    it), else with its measured temperature. Cells are clusters of these, never equal floats.

    Parameters
    ----------
    set_point_c, measured_c : (n,) °C, NaN where the header has none. exposure_s : (n,).
    """
    wanted, read = np.asarray(set_point_c, float), np.asarray(measured_c, float)
    exposure = np.asarray(exposure_s, float)
    step = thermometer_step(read)
    reach = max(step or 0.0, temperature_tolerance_c) + 1e-9
    regulated = np.isfinite(wanted) & (~np.isfinite(read) | (np.abs(read - wanted) <= reach))
    temperature = np.where(regulated, wanted, read)
    by_temperature = cluster_values(temperature, temperature_tolerance_c)
    by_exposure = cluster_exposures(exposure, exposure_tolerance, exposure_tolerance_s)
    cells = []
    for key in sorted(set(zip(by_temperature.tolist(), by_exposure.tolist(), strict=True))):
        if -1 in key:
            continue
        members = np.flatnonzero((by_temperature == key[0]) & (by_exposure == key[1]))
        found = cell_temperature(wanted[members], read[members], step, temperature_tolerance_c)
        cells.append(CellOfFrames(tuple(int(m) for m in members), found, float(np.mean(exposure[members]))))
    return sorted(cells, key=lambda c: (c.temperature.temperature_c, c.exposure_s))


def odd_frames(
    level_adu: Sequence[float], spread_adu: Sequence[float], gradient_adu: F8, read_noise_adu: float, signal_adu: float
) -> list[str]:
    """Why each of the n frames of a cell does not belong to it; '' for those that do.

    Frames are compared with the median of their cell, so at least three are needed for a verdict on the level; of two,
    the one with twice the spread of the other goes.

    Parameters
    ----------
    level_adu : robust median of each frame after its bias. spread_adu : its robust sigma.
    gradient_adu : (n, 4) corner medians after the bias. read_noise_adu : of one frame. signal_adu : of the cell.
    """
    n = len(level_adu)
    level, spread = np.asarray(level_adu, float), np.asarray(spread_adu, float)
    reasons = [""] * n
    if n == 2 and spread.min() > 0 and spread.max() > 2.0 * spread.min():
        i = int(np.argmax(spread))
        reasons[i] = f"its spread is {spread[i]:.1f} ADU against {spread[1 - i]:.1f} of the other frame of its cell"
    if n < 3:
        return reasons
    middle, typical = float(np.median(level)), float(np.median(spread))
    scatter = float(robust_sigma(level))
    allowed = max(LEVEL_SIGMAS * scatter, LEVEL_READ_NOISES * read_noise_adu, LEVEL_FRACTION * abs(signal_adu))
    corners = np.asarray(gradient_adu, float) - level[:, None]
    corners = np.abs(corners - np.median(corners, axis=0)).max(axis=1)
    for i in range(n):
        if abs(level[i] - middle) > allowed:
            reasons[i] = (
                f"its level is {level[i] - middle:+.1f} ADU off its cell's median (allowed {allowed:.1f}): "
                "light leak, wrong type or pedestal jump"
            )
        elif typical > 0 and spread[i] > SPREAD_RATIO * typical:
            reasons[i] = (
                f"its spread is {spread[i]:.1f} ADU against {typical:.1f} of its cell: it holds light or structure"
            )
        elif corners[i] > max(GRADIENT_READ_NOISES * read_noise_adu, allowed):
            reasons[i] = f"a corner is {corners[i]:.1f} ADU off its cell's: light leak"
    return reasons
