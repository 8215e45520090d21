from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpipe.science.noise import mean_variance_gain

GAIN, READ_NOISE = 2.06, 6.7
Array = NDArray[np.float64]


def mean_and_variance(n: int, p: int = 150_000, jitter: float = 0.0, telegraph: float = 0.005) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    hot = rng.random(p) < 0.05
    signal = np.where(hot, rng.exponential(800, p), 5 * np.exp(rng.normal(0, 0.3, p)))
    signal = signal * np.maximum(1 + jitter * rng.normal(0, 1, (n, p)), 0)
    frames = np.rint(1000 + rng.poisson(signal * GAIN) / GAIN + rng.normal(0, READ_NOISE, (n, p)))
    jumping = rng.random(p) < telegraph
    frames[:, jumping] += 100.0 * rng.integers(0, 2, (n, int(jumping.sum())))
    return frames.mean(axis=0) - 1000, frames.var(axis=0, ddof=1)


@pytest.mark.parametrize("known", [True, False])
def test_gain_within_two_percent(known: bool) -> None:
    mean, variance = mean_and_variance(10)
    found = mean_variance_gain(mean, variance, 9, read_noise_adu=READ_NOISE if known else None)
    assert found.gain_e_per_adu == pytest.approx(GAIN, rel=0.02)
    assert abs(found.gain_e_per_adu - GAIN) < 4 * found.error_e_per_adu
    assert found.error_e_per_adu < 0.02 * GAIN
    assert found.read_noise_adu == pytest.approx(READ_NOISE, rel=0.01)
    assert found.jitter == 0.0


def test_gain_from_one_pair() -> None:
    mean, variance = mean_and_variance(2, 300_000)
    found = mean_variance_gain(mean, variance, 1)
    assert found.gain_e_per_adu == pytest.approx(GAIN, abs=3.5 * found.error_e_per_adu)
    assert found.error_e_per_adu < 0.05 * GAIN


def test_jitter_of_the_temperature_is_told_from_shot_noise() -> None:
    mean, variance = mean_and_variance(10, jitter=0.02)
    plain = mean_variance_gain(mean, variance, 9)
    found = mean_variance_gain(mean, variance, 9, fit_jitter=True)
    assert plain.gain_e_per_adu < 0.9 * GAIN
    assert found.gain_e_per_adu == pytest.approx(GAIN, rel=0.04)
    assert found.jitter == pytest.approx(0.02, rel=0.1)


def test_errors_are_true() -> None:
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(120):
        mean = rng.uniform(50, 3000, 400)
        variance = (READ_NOISE**2 + mean / GAIN) * rng.chisquare(9, 400) / 9
        found = mean_variance_gain(mean, variance, 9, read_noise_adu=READ_NOISE)
        pulls.append((found.gain_e_per_adu - GAIN) / found.error_e_per_adu)
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(pulls)) < 0.35


def test_nothing_to_tell_it_from() -> None:
    rng = np.random.default_rng(7)
    flat = mean_variance_gain(rng.normal(0, 1, 5000), 40 * rng.chisquare(9, 5000) / 9, 9)
    assert np.isnan(flat.gain_e_per_adu)
    assert np.isnan(mean_variance_gain([1.0, 2.0], [1.0, 2.0], 9).gain_e_per_adu)
    assert np.isnan(mean_variance_gain(np.full(50, np.nan), np.ones(50), 9, read_noise_adu=1.0).gain_e_per_adu)


def test_missing_pixels_do_no_harm() -> None:
    mean, variance = mean_and_variance(10)
    mean[::10] = np.nan
    variance[5::10] = np.nan
    assert mean_variance_gain(mean, variance, 9).gain_e_per_adu == pytest.approx(GAIN, rel=0.02)
