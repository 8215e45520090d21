"""Conversion gain from the scatter of pixels: right, and by its errors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpipe.science.gain import fit_gain
from darkpipe.science.scatter import Scatter, frame_scatter

GAIN, READ_NOISE = 2.06, 6.7
Array = NDArray[np.float64]


def cell(
    seed: int,
    n: int,
    bulk_adu: float,
    p: int = 40_000,
    jitter: float = 0.0,
    telegraph: float = 0.005,
    known: bool = True,
    excess_adu2: float = 0.0,
) -> Scatter:
    """Frames of one cell: a bulk, 2 % hot pixels, a few that jump by 100 ADU in half of the frames."""
    rng = np.random.default_rng([seed, n])
    hot = rng.random(p) < 0.02
    signal = np.where(hot, bulk_adu * (2 + rng.exponential(60, p)), bulk_adu * np.exp(rng.normal(0, 0.25, p)))
    growth = np.where(hot, 0.10, 0.13) + rng.normal(0, 0.01, p)
    moved = signal * np.exp(growth * jitter * rng.normal(0, 1, (n, 1)))
    noise = np.hypot(READ_NOISE, np.sqrt(excess_adu2))
    frames = np.rint(1000 + rng.poisson(moved * GAIN) / GAIN + rng.normal(0, noise, (n, p)))
    jumping = rng.random(p) < telegraph
    frames[:, jumping] += 100.0 * rng.integers(0, 2, (n, int(jumping.sum())))
    found = frame_scatter(frames, np.full(p, 1000.0), own=0.005)
    read = np.full(p, READ_NOISE**2 + 1 / 12) if known else None
    mean = frames.mean(axis=0) - 1000
    return Scatter(mean, found.variance_adu2, found.dof, READ_NOISE / np.sqrt(n), 0.0, found.own, read, 0.05)


@pytest.mark.parametrize("known", [True, False])
def test_the_gain_is_right_and_so_is_the_noise_at_no_signal(known: bool) -> None:
    cells = [cell(k, 10, bulk, known=known) for k, bulk in enumerate((5.0, 40.0, 200.0))]
    found = fit_gain(cells)
    assert found.error_e_per_adu < 0.01 * GAIN
    assert found.gain_e_per_adu == pytest.approx(GAIN, abs=4 * found.error_e_per_adu)
    assert found.read_noise_adu == pytest.approx(READ_NOISE, rel=0.01)
    assert found.n_used > 100_000


def test_one_pair_of_frames_tells_it_too() -> None:
    found = fit_gain([cell(1, 2, 200.0)])
    assert found.error_e_per_adu < 0.03 * GAIN
    assert found.gain_e_per_adu == pytest.approx(GAIN, abs=3.5 * found.error_e_per_adu)


@pytest.mark.parametrize("n", [3, 8])
def test_a_jitter_of_the_temperature_is_no_shot_noise(n: int) -> None:
    found = fit_gain([cell(k, n, bulk, jitter=0.3) for k, bulk in enumerate((40.0, 200.0))])
    assert found.gain_e_per_adu == pytest.approx(GAIN, rel=0.02)
    assert found.gain_e_per_adu == pytest.approx(GAIN, abs=4 * found.error_e_per_adu)


def test_darks_may_be_a_little_noisier_than_biases() -> None:
    """By 1.5 % of R²: the slope must not take it, and the error must hold what is left."""
    found = fit_gain([cell(k, 10, bulk, excess_adu2=0.7) for k, bulk in enumerate((8.0, 20.0, 60.0))])
    assert found.gain_e_per_adu == pytest.approx(GAIN, abs=3.5 * found.error_e_per_adu)
    assert found.read_noise_adu**2 == pytest.approx(READ_NOISE**2 + 0.7, abs=0.5)


def test_a_level_that_is_off_is_within_the_error() -> None:
    made = cell(3, 8, 60.0)
    shifted = Scatter(**{**vars(made), "signal_adu": made.signal_adu + 8.0, "level_adu": 8.0})
    sure, unsure = fit_gain([made]), fit_gain([shifted])
    assert unsure.error_e_per_adu > 1.2 * sure.error_e_per_adu
    assert unsure.gain_e_per_adu == pytest.approx(GAIN, abs=3.5 * unsure.error_e_per_adu)


def test_errors_are_true() -> None:
    pulls = []
    for seed in range(60):
        found = fit_gain([cell(seed, 6, 120.0, 3000), cell(seed + 100, 6, 20.0, 3000)])
        pulls.append((found.gain_e_per_adu - GAIN) / found.error_e_per_adu)
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1, abs=0.27)  # known to 9 % from 60
    assert abs(np.mean(pulls)) < 0.5


def test_nothing_to_tell_it_from() -> None:
    rng = np.random.default_rng(7)
    read = np.full(5000, 40.0)
    flat = Scatter(rng.normal(0, 1, 5000), 40 * rng.chisquare(9, 5000) / 9, 9, 1.0, read_variance_adu2=read)
    assert np.isnan(fit_gain([flat]).gain_e_per_adu)
    assert np.isnan(fit_gain([]).gain_e_per_adu)
    assert np.isnan(fit_gain([Scatter(np.ones(5), np.ones(5), 9, 1.0)]).gain_e_per_adu)
    assert np.isnan(fit_gain([Scatter(np.full(50, np.nan), np.ones(50), 9, 1.0)]).gain_e_per_adu)


def test_missing_pixels_do_no_harm() -> None:
    made = cell(5, 10, 100.0)
    made.signal_adu[::10] = np.nan
    made.variance_adu2[5::10] = np.nan
    assert fit_gain([made]).gain_e_per_adu == pytest.approx(GAIN, rel=0.02)
