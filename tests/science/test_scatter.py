"""The variance of pixels from frame to frame, without what frames have in common."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.scatter import frame_scatter, pair_scatter

P = 20_000
NOISE = 5.0


def signals(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(P) < 0.02, rng.uniform(300, 20_000, P), 150 * np.exp(rng.normal(0, 0.25, P)))


@pytest.mark.parametrize("n", [2, 3, 4, 10])
def test_white_noise_keeps_its_variance(n: int) -> None:
    rng = np.random.default_rng(n)
    frames = signals(1) + rng.normal(0, NOISE, (n, P)) + rng.normal(0, 2.0, (n, 1))
    found = frame_scatter(frames, np.zeros(P), own=0.01)
    assert (found.dof, found.own, found.common) == (n - 1, 0.01, 0.0)
    assert np.nanmean(found.variance_adu2) == pytest.approx(NOISE**2, rel=4 * np.sqrt(2 / (P * (n - 1))))


@pytest.mark.parametrize(("n", "dof"), [(2, 1), (3, 2), (4, 2), (10, 8)])
def test_what_follows_the_temperature_is_taken_out(n: int, dof: int) -> None:
    """Pixels with temperature coefficients of their own, 0.3 K of jitter: 3 % of the signal."""
    rng = np.random.default_rng(n)
    signal = signals(2)
    own = np.where(signal > 290, 0.10, 0.13) + rng.normal(0, 0.005, P)
    moved = signal * np.exp(own * np.linspace(-0.4, 0.4, n)[:, None])
    frames = moved + rng.normal(0, NOISE, (n, P))
    found = frame_scatter(frames, np.zeros(P), own=0.01)
    assert found.dof == dof
    assert found.common == pytest.approx(0.1 * np.std(np.linspace(-0.4, 0.4, n), ddof=1), rel=0.3)
    bulk = signal < 290
    assert np.nanmean(found.variance_adu2[bulk]) == pytest.approx(NOISE**2, rel=0.04)
    if n >= 4:
        assert found.own == 0.01
        assert np.nanmedian(found.variance_adu2[signal > 5000]) < 2 * NOISE**2
    else:
        assert found.own > 0.01


def test_a_pixel_that_was_hit_is_left_out() -> None:
    rng = np.random.default_rng(3)
    frames = signals(3) + rng.normal(0, NOISE, (6, P))
    frames[2, :50] += 200.0
    found = frame_scatter(frames, np.zeros(P), own=0.01)
    assert np.isnan(found.variance_adu2[:50]).all()
    assert np.isnan(found.variance_adu2[50:]).mean() < 1e-4


@pytest.mark.parametrize("warmer", [1.0, 1.05])
def test_two_exposures_make_a_pair(warmer: float) -> None:
    """d²/(1 + ρ²) against m must be R² + m/g; a warmer frame moves the ratio."""
    rng = np.random.default_rng(4)
    gain, signal = 0.8, 20 * signals(4) / 10
    bright = rng.poisson(signal * warmer * gain) / gain + rng.normal(0, NOISE, P)
    faint = rng.poisson(0.5 * signal * gain) / gain + rng.normal(0, NOISE, P)
    m, variance, differs = pair_scatter(bright, faint, 2.0)
    assert differs == pytest.approx(warmer - 1, abs=0.003)
    for part in (signal < 700, signal > 3000):
        assert np.mean(variance[part] / (NOISE**2 + m[part] / gain)) == pytest.approx(1.0, abs=0.1)
    assert np.mean(variance[signal < 700]) == pytest.approx(np.mean(NOISE**2 + m[signal < 700] / gain), rel=0.05)
