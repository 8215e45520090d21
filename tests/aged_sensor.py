"""The simulated sensor some time later, and new frames of it: what has changed is known."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simulated
from numpy.typing import NDArray
from simulated import Sensor, Shot

LATER = 1000  # frames of another day: their noise is that of other repeats


@dataclass(frozen=True)
class Ageing:
    """What happened to a sensor.

    growth : factor of all rates, or of those of hot pixels where `hot_growth` says another. new_hot, vanished :
    fractions of the ordinary, and of the hot pixels. pedestal_adu : added to the bias.
    """

    growth: float = 1.0
    hot_growth: float | None = None
    new_hot: float = 0.0
    vanished: float = 0.0
    pedestal_adu: float = 0.0
    new_decades: tuple[float, float] = (1.0, 3.0)  # log10 of their excess over the bulk


@dataclass(frozen=True)
class Aged:
    """The sensor afterwards, and which pixels became hot, ceased to be."""

    sensor: Sensor
    new: NDArray[np.bool_]
    vanished: NDArray[np.bool_]


def aged(sensor: Sensor, change: Ageing, seed: int = 1) -> Aged:
    """A copy of a sensor of the law 'physics' with its truth changed."""
    rng = np.random.default_rng([seed, 77])
    later = copy.copy(sensor)
    later.maps = {name: plane.copy() for name, plane in sensor.maps.items()}
    shape = sensor.hot.shape
    new = ~sensor.hot & ~sensor.telegraph & (rng.random(shape) < change.new_hot)
    vanished = sensor.hot & (rng.random(shape) < change.vanished)
    factor = np.where(sensor.hot, change.growth if change.hot_growth is None else change.hot_growth, change.growth)
    for name in ("G", "D"):
        later.maps[name] *= factor
    excess = sensor.recipe.bulk_rate_adu_s * 10 ** rng.uniform(*change.new_decades, shape)
    later.maps["G"] = np.where(new, later.maps["G"] + excess, later.maps["G"])
    for name in ("G", "D"):
        later.maps[name] = np.where(vanished, np.median(sensor.maps[name]), later.maps[name])
    later.bias_zero_c = sensor.bias_zero_c + change.pedestal_adu
    later.hot = (sensor.hot | new) & ~vanished
    return Aged(later, new, vanished)


def write_later(
    folder: Path,
    sensor: Sensor,
    temperatures_c: tuple[float, ...],
    exposures_s: tuple[float, ...],
    *,
    darks: int,
    biases: int,
    first: int = LATER,
) -> None:
    """New frames of a sensor; `first`: number of the first repeat, another one gives other noise."""
    plan = []
    for t_c in temperatures_c:
        plan += [Shot("bias", t_c, sensor.recipe.bias_exposure_s, first + n) for n in range(biases)]
        plan += [Shot("dark", t_c, t_s, first + n) for n in range(darks) for t_s in exposures_s]
    for shot, (name, begin) in zip(plan, simulated.file_names(plan), strict=True):
        simulated.write_frame(folder / name, sensor, shot, begin)
