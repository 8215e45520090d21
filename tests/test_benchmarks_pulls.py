"""The parts of the benchmarks of pulls that need no pipeline: shared errors, common errors, verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import extrapolation, heldout_pulls, pulls
from benchmarks.shared_errors import Masters, Terms, _Fit, estimate_terms, held_out_spreads


def made_masters(terms: Terms, pixels: int, seed: int = 3) -> Masters:
    """Masters of hot pixels of the physical law, with these terms in their errors."""
    rng = np.random.default_rng(seed)
    cells = np.meshgrid([-10.0, -5.0, 0.0], [10.0, 30.0, 100.0, 300.0], indexing="ij")
    temperature, exposure = (c.ravel() for c in cells)
    n = temperature.size
    blank = np.zeros((n, pixels))
    m = Masters(blank, np.full(pixels, 45.0), blank + 4.5, 2.0, temperature, exposure, np.ones(n), -1.0)
    rate = 10 ** rng.uniform(0.7, 1.7, pixels)
    signal = np.stack([rate, 0.1 * rate], axis=1) @ m.law(temperature, exposure).T
    root = np.linalg.cholesky(m.covariance(signal, terms))
    return replace(m, signal=(signal + np.einsum("pnm,pm->pn", root, rng.normal(size=signal.shape))).T)


@pytest.mark.parametrize("model", ["two_component", "exp_2d"])
def test_held_out_pulls_are_those_of_a_fit_without_the_cell(model: str) -> None:
    terms = Terms(0.006, 0.015, 0.3)
    m = made_masters(terms, 20)
    fit = _Fit(model, m, terms)
    k = 7
    others = [c for c in range(m.frames.size) if c != k]
    value, sigma = fit.without(k)
    for p in range(3):
        w = np.linalg.inv(fit.v[p][np.ix_(others, others)])
        j = fit.jacobian[p][others]
        gain = np.linalg.solve(j.T @ w @ j, j.T @ w)
        weight = fit.jacobian[p, k] @ gain
        difference = np.zeros(m.frames.size)
        difference[others], difference[k] = weight, -1.0
        assert sigma[p] == pytest.approx(np.sqrt(difference @ fit.v[p] @ difference), rel=1e-6)
        expected = gain @ fit.data[p][others]
        expected_value = np.exp(fit.x[k] @ expected) if model == "exp_2d" else fit.x[k] @ expected
        assert value[p] == pytest.approx(expected_value, rel=1e-8)


def test_honest_terms_give_unit_pulls_and_missing_ones_do_not() -> None:
    terms = Terms(0.006, 0.015, 0.3)
    m = made_masters(terms, 600)
    honest = np.array([s for s, _ in held_out_spreads("two_component", m, terms, [(100.0, 1e6)])])
    assert abs(honest.mean() - 1) < 0.06
    without = np.array([s for s, _ in held_out_spreads("two_component", m, Terms(), [(100.0, 1e6)])])
    assert without.mean() > 1.15


def test_terms_are_found_again() -> None:
    found = estimate_terms("two_component", made_masters(Terms(0.006, 0.016, 0.3), 500), rounds=2)
    assert found.own == pytest.approx(0.006, abs=0.002)
    assert found.temperature == pytest.approx(0.016, abs=0.003)
    assert found.level_s == pytest.approx(0.3, abs=0.06)
    none = estimate_terms("two_component", made_masters(Terms(), 500), rounds=2)
    assert none.own < 0.005
    assert none.temperature < 0.003
    assert none.level_s < 0.1


def test_common_parts_separate_what_all_pixels_share() -> None:
    rng = np.random.default_rng(1)
    truth = np.full(40_000, 1000.0)
    value = truth * (1 + 0.03 + rng.normal(0, 0.01, truth.size))
    error = np.full(truth.size, 1000.0 * np.hypot(0.02, 0.01))
    off, stated, own = pulls.common_parts(pulls.Judged(value, error, truth), relative=True)
    assert off == pytest.approx(0.03, abs=3e-4)
    assert stated == pytest.approx(0.02, rel=0.03)
    assert own == pytest.approx(0.01, rel=0.02)
    assert pulls.common_parts(pulls.Judged(value, error / 5, truth), relative=True)[1] < 0


@pytest.mark.parametrize(("stated", "passed"), [(0.02, True), (0.005, False), (0.08, False), (-0.01, False)])
def test_common_errors_are_judged_over_campaigns(stated: float, passed: bool) -> None:
    rows = [(off, stated, 0.005) for off in (0.02, -0.021, 0.019, -0.02, 0.02, -0.018, 0.022, 0.02, -0.02, 0.02)]
    (verdict,) = pulls.common_verdicts({"a dark": rows})
    assert verdict.passed is passed
    (lost,) = pulls.common_verdicts({"a dark": [(off, stated, 0.5) for off, _, _ in rows]})
    assert lost.passed is None


@pytest.mark.parametrize(("spread", "n", "misses"), [(1.04, 100_000, False), (1.08, 100_000, True), (1.2, 50, None)])
def test_classes_of_held_out_pulls(spread: float, n: int, misses: bool | None) -> None:
    row = {"pull_spread_below_300_unflagged": spread, "n_below_300_unflagged": float(n)}
    assert heldout_pulls.misses(row, "below_300") is misses


@pytest.mark.parametrize("model", ["two_component", "exp_2d"])
def test_the_common_error_beyond_is_that_of_shifted_temperatures(model: str) -> None:
    cells = np.meshgrid([-10.0, -5.0, 0.0], [30.0, 100.0, 300.0], indexing="ij")
    temperature, exposure = (c.ravel() for c in cells)
    n = temperature.size
    grid = extrapolation.Grid(temperature, np.full(n, 0.2), exposure, np.ones(n), 45.0, 2.0, 0.0, -5.0)

    def law(shift_c: np.ndarray) -> np.ndarray:
        if model == "exp_2d":
            return np.asarray(2.0 * exposure * np.exp(0.1 * (temperature + shift_c)))
        return np.asarray(extrapolation.rows_of(model, temperature + shift_c, exposure, -5.0) @ np.array([1.0, 1.0]))

    def beyond(signal: np.ndarray) -> float:
        x = extrapolation.rows_of(model, np.array([10.0]), np.array([300.0]), -5.0)
        value = float((x @ extrapolation.fitted(model, grid, grid.typical(signal))[0])[0])
        return value if model == "exp_2d" else np.log(value)

    rng = np.random.default_rng(5)
    plain = beyond(law(np.zeros(n)))
    off = []
    for _ in range(1500):
        shift = dict(zip((-10.0, -5.0, 0.0), 0.02 * rng.normal(size=3), strict=True))
        off.append(10 * (beyond(law(np.array([shift[t] for t in temperature]))) - plain))
    assert extrapolation.predicted_error(model, grid, grid.typical(law(np.zeros(n)))) == pytest.approx(
        np.std(off), rel=0.08
    )
