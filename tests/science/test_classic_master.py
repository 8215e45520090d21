"""The classical master against plain numpy, and what is left of a frame after it against simulated noise."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from darkpipe.science import classic_master
from darkpipe.science.classic_master import (
    METHODS,
    Method,
    combine_frames,
    residual_factor,
    residual_tail,
    robust_residual_factor,
    robust_residual_factors,
    sigma_over_pixels,
    variance_of_master,
    variance_of_median,
)
from darkpipe.science.shrinkage import VariancePrior, fit_variance_prior

PLAIN = {"median": np.nanmedian, "average": np.nanmean}


def normal(n: int, p: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng([seed, n]).normal(0.0, 1.0, (n, p))


def half_width(values: np.ndarray) -> float:
    low, high = np.percentile(values, [15.865525, 84.134475])
    return float(high - low) / 2


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 97, 150])
def test_values_and_scatter_are_those_of_numpy(method: Method, n: int) -> None:
    samples = np.random.default_rng(n).integers(0, 65536, (n, 700)).astype(np.uint16)
    made = combine_frames(samples, method)
    wide = samples.astype(np.float64)
    np.testing.assert_allclose(made.value, PLAIN[method](wide, axis=0), rtol=2e-7)
    assert made.value.dtype == np.float32
    assert (made.count == n).all()
    if n == 1:
        assert np.isnan(made.variance).all()
    else:
        np.testing.assert_allclose(made.variance, wide.var(axis=0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_missing_samples_are_left_out(method: Method) -> None:
    random = np.random.default_rng(3)
    samples = random.normal(1000, 20, (9, 500)).astype(np.float32)
    samples[random.random(samples.shape) < 0.3] = np.nan
    samples[:, 0] = np.nan
    samples[1:, 1] = np.nan
    made = combine_frames(samples, method)
    good = np.isfinite(samples).sum(axis=0)
    np.testing.assert_array_equal(made.count, good)
    assert np.isnan(made.value[0])
    assert np.isnan(made.variance[:2]).all()
    np.testing.assert_allclose(made.value[1:], PLAIN[method](samples[:, 1:].astype(np.float64), axis=0), rtol=2e-7)
    np.testing.assert_allclose(
        made.variance[2:], np.nanvar(samples[:, 2:].astype(np.float64), axis=0, ddof=1), rtol=1e-3
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_drift_of_whole_frames_is_no_noise_of_the_pixels(method: Method) -> None:
    level = np.array([1000.0, 1400.0, 1100.0, 1300.0, 1250.0])
    samples = np.rint(level[:, None] + 6.0 * normal(5, 40_000)).astype(np.uint16)
    made = combine_frames(samples, method, level)
    np.testing.assert_allclose(made.value, PLAIN[method](samples.astype(np.float64), axis=0), rtol=1e-6)
    assert np.sqrt(made.variance.mean()) == pytest.approx(np.hypot(6.0, np.sqrt(1 / 12)), rel=0.01)
    assert np.sqrt(combine_frames(samples, method).variance.mean()) > 100


def test_wrong_arguments_are_refused() -> None:
    samples = np.zeros((2, 3), np.uint16)
    with pytest.raises(ValueError, match="'median' or 'average'"):
        combine_frames(samples, "mode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 finite numbers"):
        combine_frames(samples, "median", [1.0])
    with pytest.raises(ValueError, match="frames, pixels"):
        combine_frames(samples[0], "median")
    with pytest.raises(ValueError, match="one a frame"):
        robust_residual_factors([0.0, np.nan], "median")
    for function in (variance_of_median, lambda n: variance_of_master(n, "average")):
        with pytest.raises(ValueError, match="not 0"):
            function(0)


def test_the_variance_of_a_median_is_that_of_the_tables() -> None:
    """Of normal order statistics, as tabulated (Sarhan & Greenberg 1962), and its limit."""
    known = {1: 1.0, 2: 0.5, 3: 0.44867, 4: 0.29820, 5: 0.28683, 6: 0.21474, 7: 0.21045, 8: 0.16818, 9: 0.16610}
    for n, value in known.items():
        assert variance_of_median(n) == pytest.approx(value, abs=2e-5)
    for n in (1000, 1001, 65535):
        assert variance_of_median(n) == pytest.approx(np.pi / (2 * n), rel=2e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 10, 11, 30])
def test_what_is_left_of_a_frame_scatters_as_said(method: Method, n: int) -> None:
    frames = normal(n, 600_000 // n)
    left = (frames - PLAIN[method](frames, axis=0)).ravel()
    assert np.std(left) == pytest.approx(residual_factor(n, method), rel=0.006)
    assert half_width(left) == pytest.approx(robust_residual_factor(n, method), rel=0.01)
    tail = residual_tail(n, method)
    for d in (0.0, 0.05, 0.3, 1.0, 2.0):
        assert np.mean(left > d) == pytest.approx(tail(d), abs=0.003)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [(0.0, 0.0, 0.0), (0.0, 1.0, 5.0), (0.0, 0.3, 1.0, 1.2, 4.0, -2.0), (1.0, 7.0)])
def test_levels_that_differ_are_taken_into_account(method: Method, level: tuple[float, ...]) -> None:
    frames = normal(len(level), 100_000, seed=9) + np.array(level)[:, None]
    left = frames - PLAIN[method](frames, axis=0)
    found = [half_width(rest) for rest in left]
    np.testing.assert_allclose(robust_residual_factors(level, method), found, rtol=0.02)


def test_factors_go_to_one_and_those_of_an_average_are_plain() -> None:
    for n in (2, 7, 300):
        assert residual_factor(n, "average") == pytest.approx(np.sqrt(1 - 1 / n))
        assert robust_residual_factor(n, "average") == residual_factor(n, "average")
    assert residual_factor(1, "median") == 0.0
    for n in (999, 5000, 65535):
        assert robust_residual_factor(n, "median") == pytest.approx(1.0, abs=1e-3)
        assert residual_factor(n, "median") == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("n", [2, 4, 10, 40])
def test_the_noise_over_pixels_is_found_from_their_variances(n: int) -> None:
    """Pixels of unequal noise, a few far noisier: the robust sigma of all samples is predicted by the population."""
    random = np.random.default_rng(n)
    sigma = 8.0 * np.exp(random.normal(0, 0.25, 200_000))
    sigma[random.random(sigma.size) < 0.01] *= 12.0
    frames = random.normal(0.0, sigma, (n, sigma.size))
    prior = fit_variance_prior(frames.var(axis=0, ddof=1), np.full(sigma.size, n - 1))
    assert sigma_over_pixels(prior) == pytest.approx(half_width(frames[0]), rel=0.02)


def test_a_population_of_nothing_has_no_noise() -> None:
    assert np.isnan(sigma_over_pixels(VariancePrior(np.nan, np.nan, np.nan, np.nan, 0.0)))


def test_examples() -> None:
    assert doctest.testmod(classic_master).failed == 0
