"""Levels of saturation: found where signal stops growing, nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.saturation import Saturation, common_level, find_plateaus

EXPOSURES = np.array([10.0, 30.0, 60.0, 150.0, 300.0])
COLD = np.full(5, -10.0)
TOP = 65_000.0


def masters(rates: list[float], full_well: list[float], noise: float = 20.0) -> np.ndarray:
    """(5, P) signals that grow with exposure up to each pixel's full well."""
    rng = np.random.default_rng(5)
    signal = np.minimum(np.array(rates)[None] * EXPOSURES[:, None], np.array(full_well)[None])
    return (signal + rng.normal(0, noise, signal.shape)).astype(np.float32)


def test_a_plateau_is_found_and_counted() -> None:
    signal = masters([1000.0], [60_000.0])  # 10, 30, then 60 (at 60 s: just full), 60, 60 kADU
    level, cells = find_plateaus(signal, COLD, EXPOSURES, TOP)
    assert level[0] == pytest.approx(60_000, abs=60)
    assert cells[0] == 3


def test_a_pixel_that_grows_has_no_plateau() -> None:
    signal = masters([200.0, 0.5], [1e9, 1e9])
    level, cells = find_plateaus(signal, COLD, EXPOSURES, TOP)
    assert np.isnan(level).all()
    assert not cells.any()


def test_one_high_cell_is_no_plateau() -> None:
    signal = masters([205.0], [60_000.0])  # only the last cell comes to 60 kADU
    assert np.isnan(find_plateaus(signal, COLD, EXPOSURES, TOP)[0]).all()


def test_a_slow_defect_far_below_full_scale_is_left_alone() -> None:
    signal = np.full((5, 1), 3000.0, np.float32)
    assert np.isnan(find_plateaus(signal, COLD, EXPOSURES, TOP)[0]).all()


def test_near_equal_exposures_prove_nothing() -> None:
    signal = np.array([[50_000.0], [51_000.0]], np.float32)
    level, _ = find_plateaus(signal, np.array([0.0, 0.0]), np.array([300.0, 310.0]), TOP)
    assert np.isnan(level).all()


def test_absent_cells_are_absent() -> None:
    signal = masters([1000.0], [60_000.0])
    signal[3] = np.nan
    level, cells = find_plateaus(signal, COLD, EXPOSURES, TOP)
    assert level[0] == pytest.approx(60_000, abs=60)
    assert cells[0] == 2


def test_common_level_needs_several_pixels() -> None:
    few = np.array([60_000.0] * 4 + [np.nan] * 10, np.float32)
    many = np.array([60_000.0] * 6 + [np.nan] * 10, np.float32)
    assert common_level(few, TOP) == TOP
    assert common_level(many, TOP) == 60_000.0
    assert common_level(many, 40_000.0) == 40_000.0


def test_reached_and_without_one() -> None:
    found = Saturation(np.array([60_000.0, np.nan, 50_000.0], np.float32), np.array([3, 0, 2], np.uint8), 61_000.0)
    signal = np.array([[59_000.0, 59_000.0, np.nan], [40_000.0, 60_900.0, 49_000.0]], np.float32)
    assert found.reached(signal).tolist() == [[True, False, False], [False, True, True]]
    assert found.of().tolist() == [60_000.0, 61_000.0, 50_000.0]
    assert found.without_one().tolist() == [60_000.0, 61_000.0, 61_000.0]
