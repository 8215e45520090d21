"""Cameras that hold the black level of their frames on chip: how that is seen, and which error of the level it leaves.

A black clamp subtracts from every frame what shielded pixels read, bulk dark current included. So the bulk of long
darks stands at bias level, with signs mixed, although charge was collected. The charge shows all the same: pixels
differ in their dark current and have its shot noise, so that the spread of a frame grows with temperature and exposure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

DOUBLING_C = 6.5  # of silicon's dark current, to order cells by their charge
FEWEST_CELLS = 4
TOP = 0.25  # the part of the cells with most charge that is looked at
GROWN = 4.0  # times the spread of cells without charge
SHOWN = 0.5  # of the least charge that the spread implies; a level below this does not show the charge
WARMER_C = 3.0  # temperatures that tell charge from glow, which does not grow with temperature
LEAST_SIGMA_ADU = 1e-3


@dataclass(frozen=True)
class CellSpreads:
    """What frames of n cells read, (n,) each: exposure [s], temperature [°C], median above bias [ADU], robust spread
    over pixels [ADU]; spread of the bias frames, and gain [e-/ADU]."""

    exposure_s: F8
    temperature_c: F8
    level_adu: F8
    spread_adu: F8
    bias_spread_adu: float
    gain_e_per_adu: float

    @property
    def excess_adu2(self) -> F8:
        """(n,) variance over pixels beyond that of a bias frame: shot noise, and differences of dark current."""
        return np.asarray(self.spread_adu**2 - self.bias_spread_adu**2)

    @property
    def charge(self) -> F8:
        """(n,) expected charge, up to a factor."""
        return np.asarray(self.exposure_s * np.exp2(self.temperature_c / DOUBLING_C))


def black_level_clamped(cells: CellSpreads) -> bool:
    """Whether the camera seems to hold the level of its dark frames at that of its biases.

    With a charge of S ADU and pixels that differ by at most all of it, the variance over pixels exceeds that of a bias
    by at most S/g + S². The cells with most charge must have an excess that grew, and levels below half of the least S
    that explains it. Where temperatures differ, the excess must grow with them: that of amplifier glow does not. Fewer
    than four cells cannot tell: False.
    """
    good = np.isfinite(cells.level_adu) & np.isfinite(cells.excess_adu2)
    if good.sum() < FEWEST_CELLS:
        return False
    level, excess, charge = cells.level_adu[good], cells.excess_adu2[good], cells.charge[good]
    order = np.argsort(charge)
    many = max(2, round(TOP * order.size))
    top, bottom = order[-many:], order[:many]
    most = float(np.median(excess[top]))
    if not most > max(cells.bias_spread_adu**2, GROWN * abs(float(np.median(excess[bottom])))):
        return False
    if not _grows_with_temperature(cells.temperature_c[good], cells.exposure_s[good], excess):
        return False
    shot = 0.5 / cells.gain_e_per_adu
    least = np.sqrt(np.maximum(excess[top], 0.0) + shot**2) - shot
    return bool((np.abs(level[top]) < SHOWN * least).all())


def _grows_with_temperature(temperature_c: F8, exposure_s: F8, excess: F8) -> bool:
    """Of the longest cells at the highest and the lowest temperature; True where temperatures do not tell."""
    if np.ptp(temperature_c) < WARMER_C:
        return True
    warm, cold = temperature_c > temperature_c.max() - 1.0, temperature_c < temperature_c.min() + 1.0
    hot_end = max(np.flatnonzero(warm), key=lambda i: exposure_s[i])
    cold_end = min(np.flatnonzero(cold), key=lambda i: abs(exposure_s[i] - exposure_s[hot_end]))
    rate = [excess[i] / exposure_s[i] for i in (hot_end, cold_end)]
    return bool(rate[0] > GROWN / 2.0 * abs(rate[1]))


def level_scatter(levels_adu: Iterable[Sequence[float]]) -> float:
    """1 sigma of the level of one frame about that of its group, pooled over groups of two frames or more; 0 if there
    are none.

    levels_adu : levels of the frames of each group (a master bias, a cell).
    """
    squares = freedom = 0.0
    for group in levels_adu:
        if len(group) > 1:
            squares += float(np.var(group)) * len(group)
            freedom += len(group) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def clamp_sigma(
    bias_levels_adu: Iterable[Sequence[float]], dark_levels_adu: Iterable[Sequence[float]], overscan_adu: float = 0.0
) -> float:
    """1 sigma of the level that a clamp leaves in one frame [ADU]: the largest of what biases show from frame to frame,
    what darks show, and the scatter of the overscan where there is one."""
    found = max(level_scatter(bias_levels_adu), level_scatter(dark_levels_adu), overscan_adu)
    return max(found, LEAST_SIGMA_ADU)


def hidden_charge(sigma_adu: float, read_noise_adu: float, gain_e_per_adu: float) -> float:
    """Charge [ADU] of the bulk of a clamped dark, whose level does not show it, from the noise of one frame: its shot
    noise is still there. 0 where there is none to be seen."""
    charge = gain_e_per_adu * (sigma_adu**2 - read_noise_adu**2)
    return max(charge, 0.0) if math.isfinite(charge) else 0.0


def clamp_note(sigma_adu: float) -> str:
    """What is said of such a camera."""
    return (
        "the camera seems to clamp its black level on chip: long darks stand at bias level although charge was "
        f"collected; the level of a frame is a random effect of {sigma_adu:.2g} ADU, bulk dark current is what the "
        "clamp leaves of it, and synthetic darks are what the camera would deliver, to be subtracted from its frames"
    )
