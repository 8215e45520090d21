from __future__ import annotations

import numpy as np
import pytest

from darkpipe.errors import DesignError
from darkpipe.science.bias import covariance_with, evaluate, fit_bias_line

TEMPERATURES = np.array([-15.0, -10.0, -5.0, 0.0, 0.0])


def test_pulls_of_line_and_evaluation_are_one() -> None:
    rng = np.random.default_rng(1)
    p = 40_000
    b0, b1 = rng.normal(1000, 20, p), rng.normal(0.5, 0.2, p)
    sigma = np.array([2.0, 1.0, 3.0, 1.5, 2.5])[:, None] * np.ones((5, p))
    biases = b0 + b1 * (TEMPERATURES[:, None] + 10) + rng.normal(0, 1, (5, p)) * sigma
    line = fit_bias_line(biases, sigma, TEMPERATURES, -10.0)
    assert ((line.b0 - b0) / np.sqrt(line.covariance[0])).std() == pytest.approx(1, abs=0.02)
    assert ((line.b1 - b1) / np.sqrt(line.covariance[2])).std() == pytest.approx(1, abs=0.02)
    for t in (-30.0, -10.0, -3.0, 20.0):
        value, error = line.evaluate(t)
        pull = (value - (b0 + b1 * (t + 10))) / error
        assert pull.std() == pytest.approx(1, abs=0.02)
        assert abs(pull.mean()) < 0.02
    assert (line.chi2 / line.dof).mean() == pytest.approx(1, abs=0.02)
    assert (line.dof == 3).all()


def test_the_line_shares_its_error_with_its_masters() -> None:
    rng = np.random.default_rng(2)
    p, sigma = 200_000, np.array([2.0, 1.0, 3.0, 1.5, 2.5])[:, None]
    biases = rng.normal(0, 1, (5, p)) * sigma
    line = fit_bias_line(biases, np.broadcast_to(sigma, biases.shape), TEMPERATURES, -10.0)
    here = line.evaluate(-2.0)[0].astype(float)
    with_value, with_slope = covariance_with(line.covariance, -10.0, -2.0, -15.0)
    at = (line.evaluate(-15.0)[0], line.b1)
    for share, other in ((with_value, at[0]), (with_slope, at[1]), (with_value, biases[0])):
        assert np.cov(here, other)[0, 1] == pytest.approx(float(share[0]), abs=5 * np.std(other) * here.std() / p**0.5)
    assert covariance_with(line.covariance, -10.0, -2.0, -2.0)[0] == pytest.approx(line.evaluate(-2.0)[1] ** 2)


def test_matches_numpys_weighted_line() -> None:
    y, sigma = np.array([[3.0], [5.0], [4.0]]), np.array([[1.0], [2.0], [0.5]])
    t = np.array([-10.0, 0.0, 10.0])
    line = fit_bias_line(y, sigma, t, 0.0)
    theta, covariance = np.polyfit(t, y[:, 0], 1, w=1 / sigma[:, 0], cov="unscaled")
    assert [line.b1[0], line.b0[0]] == pytest.approx(theta, rel=1e-6)
    assert line.covariance[:, 0] == pytest.approx([covariance[1, 1], covariance[0, 1], covariance[0, 0]], rel=1e-6)


def test_missing_samples_are_absent_and_one_temperature_is_not_enough() -> None:
    y = np.array([[10.0, 10.0, np.nan], [20.0, np.nan, np.nan], [30.0, np.nan, 30.0], [31.0, np.nan, 31.0]])
    line = fit_bias_line(y, np.ones((4, 1)), [0.0, 10.0, 20.0, 20.0], 0.0)
    assert np.isfinite(line.b0[0])
    assert np.isnan(line.b0[1:]).all()
    assert np.isnan(line.covariance[:, 1:]).all()
    absent = fit_bias_line(y, np.array([[1.0], [np.nan], [1.0], [0.0]]), [0.0, 10.0, 20.0, 20.0], 0.0)
    assert absent.evaluate(20.0)[0][0] == pytest.approx(30.0)


def test_one_temperature_is_refused() -> None:
    with pytest.raises(DesignError, match="two temperatures"):
        fit_bias_line(np.ones((2, 4)), np.ones((2, 4)), [5.0, 5.0], 0.0)
    with pytest.raises(ValueError, match="fit together"):
        fit_bias_line(np.ones((2, 4)), np.ones((2, 3)), [5.0, 6.0], 0.0)


def test_evaluate_keeps_shape() -> None:
    maps = np.ones((3, 4), np.float32)
    value, error = evaluate(maps, maps, np.stack((maps, 0 * maps, maps)), 2.0, 0.0)
    assert value.shape == error.shape == (3, 4)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, 3.0)
    np.testing.assert_allclose(error, np.sqrt(5.0), rtol=1e-6)
