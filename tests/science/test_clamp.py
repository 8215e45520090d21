"""A black level that is clamped on chip: seen by what frames read, and of which size its error is."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.clamp import (
    CellSpreads,
    black_level_clamped,
    clamp_note,
    clamp_sigma,
    hidden_charge,
    level_scatter,
)

TEMPERATURE, EXPOSURE = (a.ravel() for a in np.meshgrid([-20.0, -10.0, 0.0], [10.0, 60.0, 300.0], indexing="ij"))
CHARGE = 0.6 * EXPOSURE * np.exp2(TEMPERATURE / 6.5)
BIAS, GAIN = 5.0, 0.8


def cells(
    *,
    charge: np.ndarray = CHARGE,
    level: np.ndarray | float = 0.0,
    differ: float = 0.25,
    extra: np.ndarray | float = 0.0,
) -> CellSpreads:
    """Frames of pixels that hold this charge and differ by a part of it; what their level shows is told apart."""
    spread = np.sqrt(BIAS**2 + charge / GAIN + (differ * charge) ** 2 + extra)
    rng = np.random.default_rng(1)
    shown = level + 0.3 * rng.normal(size=charge.size)
    return CellSpreads(EXPOSURE, TEMPERATURE, shown, spread, BIAS, GAIN)


@pytest.mark.parametrize("differ", [0.05, 0.25, 0.6])
def test_a_clamped_level_is_seen_and_an_honest_one_is_not(differ: float) -> None:
    assert black_level_clamped(cells(differ=differ))
    assert not black_level_clamped(cells(differ=differ, level=CHARGE))


def test_a_clamp_that_takes_the_mean_of_a_skewed_population_is_seen() -> None:
    assert black_level_clamped(cells(level=-0.05 * CHARGE))


def test_a_cold_sensor_is_not_clamped() -> None:
    assert not black_level_clamped(cells(charge=1e-4 * CHARGE))


def test_glow_without_dark_current_is_no_clamp() -> None:
    """It spreads pixels as charge does, but not with temperature."""
    assert not black_level_clamped(cells(charge=1e-4 * CHARGE, extra=(0.1 * EXPOSURE) ** 2))


def test_too_few_cells_cannot_tell() -> None:
    few = cells()
    assert not black_level_clamped(
        CellSpreads(EXPOSURE[-3:], TEMPERATURE[-3:], few.level_adu[-3:], few.spread_adu[-3:], BIAS, GAIN)
    )
    unknown = CellSpreads(EXPOSURE, TEMPERATURE, np.full(9, np.nan), few.spread_adu, BIAS, GAIN)
    assert not black_level_clamped(unknown)


def test_one_temperature_is_told_by_exposure_alone() -> None:
    exposure = np.array([1.0, 10.0, 60.0, 300.0])
    charge = 0.6 * exposure
    spread = np.sqrt(BIAS**2 + charge / GAIN + (0.3 * charge) ** 2)
    assert black_level_clamped(
        CellSpreads(exposure, np.full(4, -5.0), np.array([0.2, -0.1, 0.3, -0.4]), spread, BIAS, GAIN)
    )
    assert not black_level_clamped(CellSpreads(exposure, np.full(4, -5.0), charge, spread, BIAS, GAIN))


def test_the_size_is_that_of_the_frames() -> None:
    rng = np.random.default_rng(2)
    biases = [1000.0 + 5.0 * t + 0.4 * rng.normal(size=40) for t in range(3)]
    darks = [0.7 * rng.normal(size=8) for _ in range(40)]
    assert level_scatter(list(b) for b in biases) == pytest.approx(0.4, rel=0.2)
    assert clamp_sigma((list(b) for b in biases), (list(d) for d in darks)) == pytest.approx(0.7, rel=0.12)
    assert clamp_sigma([[1.0]], [[2.0]]) > 0  # nothing can be told: no level is known better than this
    assert clamp_sigma([], [], overscan_adu=0.9) == 0.9
    assert "0.7 ADU" in clamp_note(0.7)


def test_charge_that_was_taken_away_is_told_by_its_noise() -> None:
    assert hidden_charge(np.sqrt(3.0**2 + 40.0 / 0.8), 3.0, 0.8) == pytest.approx(40.0)
    assert hidden_charge(2.9, 3.0, 0.8) == 0.0
    assert hidden_charge(float("nan"), 3.0, 0.8) == 0.0
