from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.flags import DQ
from darkpipe.science.hot_pixels import classify


def test_hot_warm_and_dead_stand_out_of_the_population() -> None:
    rng = np.random.default_rng(1)
    dark = rng.normal(50, 4, (200, 300))
    dark[0, :5] = [150, 65, 0, np.nan, 60_000]
    bits, stats = classify(dark, np.full(dark.shape, 1.0))
    hot, warm, dead = DQ.HOT, DQ.WARM, DQ.DEAD
    np.testing.assert_array_equal(bits[0, :5], [hot, warm, dead, 0, hot])
    assert stats.median_adu == pytest.approx(50, abs=0.1)
    assert stats.sigma_adu == pytest.approx(4, rel=0.02)
    assert stats.hot_above_adu == pytest.approx(70, abs=1)
    assert stats.warm_above_adu == pytest.approx(62, abs=1)
    assert (stats.n_hot, stats.n_dead) == (int((bits & hot > 0).sum()), int((bits & dead > 0).sum()))
    assert (bits & hot > 0).mean() < 1e-4
    assert bits.dtype == np.uint16


def test_half_a_sensor_of_missing_or_saturated_pixels_does_not_move_the_population() -> None:
    rng = np.random.default_rng(2)
    dark = rng.normal(50, 4, 10_000)
    dq = np.zeros(10_000, np.uint16)
    dark[:3000] = np.nan
    dark[3000:8000] = 65_000
    dq[3000:8000] = int(DQ.SATURATED)
    bits, stats = classify(dark, np.ones(10_000), dq)
    assert stats.median_adu == pytest.approx(50, abs=0.4)
    assert (bits[3000:8000] == DQ.HOT).all()
    assert (bits[:3000] == 0).all()
    assert stats.n_used == 2000


def test_a_constant_population_gets_its_spread_from_the_error() -> None:
    dark = np.full(1000, 10.0)
    dark[:2] = [13.0, 20.0]
    bits, stats = classify(dark, np.full(1000, 1.5))
    assert stats.sigma_adu == 1.5
    np.testing.assert_array_equal(bits[:3], [0, DQ.HOT, 0])


def test_a_noisy_pixel_is_not_hot_for_its_noise() -> None:
    rng = np.random.default_rng(3)
    error = np.where(rng.random(50_000) < 0.02, 30.0, 2.0)
    dark = rng.normal(0, error)
    bits, _ = classify(dark, error)
    assert (bits & DQ.HOT > 0).sum() == 0


def test_nothing_valid_flags_nothing() -> None:
    bits, stats = classify(np.full(5, np.nan), np.full(5, np.nan))
    assert not bits.any()
    assert np.isnan(stats.median_adu)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        classify(np.zeros(5), np.zeros(4))
    with pytest.raises(ValueError, match="hot_sigma"):
        classify(np.zeros(5), np.zeros(5), hot_sigma=2.0)
