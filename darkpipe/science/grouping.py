"""Which frames belong to one cell, and what temperature a cell has.

Cells are clusters of temperature and exposure within a tolerance; never float equality, never a name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Labels = NDArray[np.int64]
Array = NDArray[np.float64]

_GAP = 1.5  # neighbours further apart than this many tolerances are never one cluster
_BINS = 64  # finest structure looked at, a fraction of the tolerance: bounds the work on long ramps


def cluster_values(values: ArrayLike, tolerance: float) -> Labels:
    """Clusters of one-dimensional values within ± tolerance of their middle.

    Values are first cut at gaps above 1.5 tolerances; a piece wider than 2 tolerances (a cool-down ramp) is cut
    into as few parts as can be, none wider than 2 tolerances, with the smallest sum of squares about their means.
    The result depends on the set of values alone, not on their order.

    Parameters
    ----------
    values : (n,) any unit; NaN and infinities belong to no cluster.
    tolerance : same unit, above 0.

    Returns
    -------
    (n,) labels, 0, 1, … by rising value; -1 where the value is not finite.

    Raises
    ------
    ValueError : tolerance not above 0, or values not one-dimensional.
    """
    data = np.asarray(values, np.float64)
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be a number above 0, not {tolerance}")
    if data.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not {data.shape}")
    labels = np.full(data.shape, -1, np.int64)
    finite = np.isfinite(data)
    if not finite.any():
        return labels
    distinct, inverse = np.unique(data[finite], return_inverse=True)
    of_distinct = np.empty(distinct.size, np.int64)
    cuts = np.flatnonzero(np.diff(distinct) > _GAP * tolerance) + 1
    label = 0
    for piece in np.split(np.arange(distinct.size), cuts):
        weights = np.bincount(inverse, minlength=distinct.size)[piece]
        parts = _cut_piece(distinct[piece], weights.astype(np.float64), tolerance)
        of_distinct[piece] = label + parts
        label += int(parts[-1]) + 1
    labels[finite] = of_distinct[inverse]
    return labels


def _cut_piece(values: Array, weights: Array, tolerance: float) -> Labels:
    """Labels of rising distinct values, cut into the fewest parts no wider than 2 tolerances."""
    width = 2.0 * tolerance
    if values[-1] - values[0] <= width:
        return np.zeros(values.size, np.int64)
    bins = np.floor((values - values[0]) * (_BINS / tolerance))
    edges = np.concatenate(([0], np.flatnonzero(np.diff(bins)) + 1))
    low, high = values[edges], values[np.concatenate((edges[1:], [values.size])) - 1]
    count = np.add.reduceat(weights, edges)
    # measured from the middle of the piece, so that squares do not cancel
    shifted = values - 0.5 * (values[0] + values[-1])
    first = np.add.reduceat(weights * shifted, edges)
    second = np.add.reduceat(weights * shifted**2, edges)
    starts = _best_starts(low, high, np.vstack((count, first, second)), width)
    of_bin = np.zeros(low.size, np.int64)
    of_bin[starts[1:]] = 1
    size = np.diff(np.concatenate((edges, [values.size])))
    return np.repeat(np.cumsum(of_bin), size)


def _best_starts(low: Array, high: Array, moments: Array, width: float) -> list[int]:
    """First bin of each part: fewest parts, then the smallest sum of squares (dynamic programming)."""
    n = low.size
    total = np.concatenate((np.zeros((3, 1)), np.cumsum(moments, axis=1)), axis=1)
    reach = np.searchsorted(low, high - width, side="left")  # first bin that may share a part with bin i
    parts = np.zeros(n + 1, np.int64)
    cost = np.zeros(n + 1)
    back = np.zeros(n + 1, np.int64)
    for i in range(n):
        j = np.arange(reach[i], i + 1)
        m0, m1, m2 = total[:, i + 1, None] - total[:, j]
        squares = cost[j] + (m2 - m1 * m1 / m0)
        fewest = parts[j].min()
        squares[parts[j] > fewest] = np.inf
        best = int(np.argmin(squares))
        parts[i + 1], cost[i + 1], back[i + 1] = fewest + 1, squares[best], j[best]
    starts = []
    end = n
    while end > 0:
        end = int(back[end])
        starts.append(end)
    return starts[::-1]


def cluster_exposures(exposure_s: ArrayLike, rel: float = 0.01, abs_s: float = 0.001) -> Labels:
    """Clusters of exposures that agree within a fraction `rel`, or within `abs_s` seconds where that is more.

    exposure_s: (n,) seconds; negative and missing ones get -1. Same promises as `cluster_values`, on a scale that
    is linear up to abs_s/rel and logarithmic above. Raises ValueError for tolerances not above 0.
    """
    if not (rel > 0 and abs_s > 0):
        raise ValueError(f"rel and abs_s must be above 0, not {rel} and {abs_s}")
    exposure = np.asarray(exposure_s, np.float64)
    exposure = np.where(exposure >= 0, exposure, np.nan)
    bend = abs_s / rel
    tall = np.maximum(exposure, bend)
    scaled = np.minimum(exposure, bend) / abs_s + np.log(tall / bend) / rel
    return cluster_values(scaled, 1.0)


def thermometer_step(
    values: ArrayLike, *, smallest_c: float = 0.005, largest_c: float = 1.0, agreement: float = 0.05
) -> float | None:
    """Quantisation step of a thermometer, from the values it gave; None if none can be seen.

    The smallest gap between distinct readings is the step if it is seen at least twice (within `agreement`), or
    if readings repeat (twice each on average), and if the other gaps of a few steps are whole numbers of it.
    Far apart readings are not asked: a thermistor's steps change with temperature.

    values: readings in °C, any shape, NaN left out. smallest_c, largest_c: what counts as a step.
    """
    data = np.asarray(values, np.float64).ravel()
    data = np.sort(data[np.isfinite(data)])
    if data.size < 2:
        return None
    gaps = np.diff(data)
    same = gaps < 0.2 * smallest_c  # readings that differ by the rounding of their text
    gaps = gaps[~same]
    repeated = data.size >= 2 * (gaps.size + 1)
    if gaps.size == 0 or gaps.min() < smallest_c or gaps.min() > largest_c:
        return None
    single = gaps[gaps < 1.5 * gaps.min()]
    step = float(single.mean())
    if np.abs(single - step).max() > agreement * step or (single.size < 2 and not repeated):
        return None
    near = gaps[gaps < 5.5 * step] / step
    return step if np.all(np.abs(near - np.round(near)) <= 2 * agreement * np.round(near)) else None


@dataclass(frozen=True)
class CellTemperature:
    """Temperature of a cell: value and 1 sigma in °C, and where the value comes from."""

    temperature_c: float
    sigma_c: float
    source: str
    """'set point' (regulated), 'measured' (its mean), 'assumed' (a set point that nothing confirms)."""


def cell_temperature(
    set_points: Sequence[float | None] | NDArray[Any],
    measured: Sequence[float | None] | NDArray[Any],
    step_c: float | None,
    tolerance_c: float = 0.5,
) -> CellTemperature:
    """The set point while the camera is regulated, else the mean of what was measured.

    Regulated: the median reading lies within one thermometer step, or `tolerance_c`, of the median set point, and
    the set points agree among themselves as well. A set point of 0.0 is a value; None and NaN are missing.

    sigma_c = hypot(step/√12, rms distance of the readings from the temperature taken beyond half a step): offsets
    below half a step are what the thermometer cannot tell, not temperature. With no reading at all the set point is
    assumed to hold within ± tolerance/2, uniformly.

    Parameters
    ----------
    set_points, measured : °C, one a frame (lengths may differ).
    step_c : what `thermometer_step` found over the whole campaign, or None.

    Raises
    ------
    ValueError : neither a set point nor a reading.
    """
    wanted, readings = _finite(set_points), _finite(measured)
    if wanted.size == 0 and readings.size == 0:
        raise ValueError("a cell needs a set point or a measured temperature")
    step = step_c or 0.0
    blur = step / math.sqrt(12.0)
    if readings.size == 0:
        return CellTemperature(float(np.median(wanted)), max(blur, tolerance_c / math.sqrt(12.0)), "assumed")
    reach = max(step, tolerance_c) + 1e-9
    source, value = "measured", float(readings.mean())
    if wanted.size:
        aim = float(np.median(wanted))
        if abs(float(np.median(readings)) - aim) <= reach and np.abs(wanted - aim).max() <= reach:
            source, value = "set point", aim
    excess = float(np.mean((readings - value) ** 2)) - (0.5 * step) ** 2
    return CellTemperature(value, math.hypot(blur, math.sqrt(max(excess, 0.0))), source)


def _finite(values: Sequence[float | None] | NDArray[Any]) -> Array:
    data = np.array([math.nan if v is None else float(v) for v in values], np.float64)
    return data[np.isfinite(data)]
