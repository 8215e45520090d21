"""Where pixels stop growing: the level of saturation, from masters whose signal does not follow exposure any more.

A sensor's full well often lies below the top of the converter, where no header tells it; the hottest pixels show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

NEAR_TOP = 0.9  # cells within this of a pixel's largest signal may be on its plateau …
GROWTH = 1.5  # … if the dark charge of the largest should exceed that of the smallest by this
DOUBLING_C = 9.0  # slowest growth of dark current that silicon shows (E_g/2 near 0 °C), per doubling
ON_PLATEAU = 0.93  # a cell above this fraction of its pixel's plateau is saturated
ON_COMMON = 0.97  # the same for pixels whose own plateau is not seen, of the common level
WORTH_LOOKING = 0.2  # of full scale: below, nothing saturates
FEWEST = 5  # pixels that must agree before a level below full scale is taken for all
PLATEAU_ERROR = 0.02  # relative 1 sigma of a saturated value


@dataclass(frozen=True)
class Saturation:
    """Plateaus of P pixels.

    level_adu : (P,) float32, NaN for a pixel that shows none. cells : (P,) how many cells lie on it.
    common_adu : level for all others; the converter's top if no plateau is seen below it.
    """

    level_adu: F4
    cells: NDArray[np.uint8]
    common_adu: float

    def of(self) -> F4:
        """(P,) the level that holds for each pixel."""
        return np.where(np.isfinite(self.level_adu), self.level_adu, np.float32(self.common_adu)).astype(np.float32)

    def reached(self, signal_adu: F4) -> Bools:
        """Whether a signal (..., P) of a master is saturated; NaN is not."""
        own = np.isfinite(self.level_adu)
        limit = np.where(own, ON_PLATEAU * self.level_adu, np.float32(ON_COMMON * self.common_adu))
        return np.asarray(signal_adu >= limit)

    def without_one(self) -> F4:
        """(P,) the level as the other cells tell it, when a saturated one is left out: two make a plateau, one none."""
        return np.where(self.cells > 2, self.of(), np.float32(self.common_adu)).astype(np.float32)


def find_plateaus(signal_adu: F4, temperature_c: F8, exposure_s: F8, top_adu: float) -> tuple[F4, NDArray[np.uint8]]:
    """Level (P,) and number of cells on the plateau of each pixel, NaN and 0 where there is none.

    Parameters
    ----------
    signal_adu : (n, P) masters; NaN is absent. temperature_c, exposure_s : (n,). top_adu : full scale.
    """
    n, pixels = signal_adu.shape
    level = np.full(pixels, np.float32(np.nan))
    cells = np.zeros(pixels, np.uint8)
    charge = np.asarray(exposure_s) * np.exp2(np.asarray(temperature_c) / DOUBLING_C)
    if n:
        look: Any = _plateaus
        look(np.asarray(signal_adu, np.float32), charge, np.float32(WORTH_LOOKING * top_adu), level, cells)
    return level, cells


@kernel
def _plateaus(signal: F4, charge: F8, least: np.float32, level: F4, cells: NDArray[np.uint8]) -> None:
    """The median of the cells near the largest signal of a pixel, where their charge should differ."""
    n = signal.shape[0]
    near = np.empty(n, np.float32)
    for p in range(signal.shape[1]):
        largest = np.float32(-np.inf)
        for k in range(n):
            if math.isfinite(signal[k, p]) and signal[k, p] > largest:
                largest = signal[k, p]
        if not largest > least:
            continue
        number, most, fewest = 0, -np.inf, np.inf
        for k in range(n):
            if math.isfinite(signal[k, p]) and signal[k, p] >= np.float32(NEAR_TOP) * largest:
                near[number] = signal[k, p]
                number += 1
                most, fewest = max(most, charge[k]), min(fewest, charge[k])
        if number >= 2 and most >= GROWTH * fewest:
            ordered = np.sort(near[:number])
            level[p] = np.float32(0.5) * (ordered[(number - 1) // 2] + ordered[number // 2])
            on = 0
            for k in range(n):
                on += math.isfinite(signal[k, p]) and signal[k, p] >= np.float32(ON_PLATEAU) * level[p]
            cells[p] = min(on, 255)


def common_level(level_adu: F4, top_adu: float) -> float:
    """The level for pixels that show none of their own: the median plateau, or full scale when few pixels show one."""
    known = level_adu[np.isfinite(level_adu)]
    return min(float(np.median(known)), top_adu) if known.size >= FEWEST else float(top_adu)
