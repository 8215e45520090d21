"""Predictions of cells that were left out, against fits that never had them."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from made_masters import GRID_12, dense_covariance, full, scene, signal_of, spread, studentised

from darkpipe.science import fit as fits
from darkpipe.science.flags import DQ
from darkpipe.science.models import EXP_2D, EXP_T, TWO_COMPONENT
from darkpipe.science.models.families import EXPONENTIAL

PIXELS = 1500
N = GRID_12[0].size
EVERY = np.ones(N, bool)
CASES = {
    "own biases": {},
    "shared bias errors": {"bias_sigma_adu": 1.5, "relative": 0.005},
    "no bias": {"free_level": True},
    "unequal counts": {"count": [2] * 6 + [40] * 6},
    "relative": {"relative": 0.02},
}


@cache
def made_scene(case, model):
    """A scene with signals over three decades, its fit, and what exact refits predict: value and variance (n, P)."""
    rng = np.random.default_rng(2)
    amplitude = 10 ** rng.uniform(1.0, 4.0, PIXELS)
    if model == "exp_2d":
        shape = {"gamma": rng.normal(1, 0.02, PIXELS), "b_per_k": rng.normal(0.12, 0.006, PIXELS)}
        made = scene(amplitude, model=EXP_2D, **shape, **CASES[case])
    else:
        made = scene(amplitude / 200, model=TWO_COMPONENT, diffusion_adu_s=amplitude / 200, **CASES[case])
    return made, made.fit(leave_out=EVERY), *refits(made)


def refits(made):
    value, variance = np.empty((2, N, made.truth.shape[1]))
    for k in range(N):
        count = made.cells.count.copy()
        count[k] = 0
        fitted = made.fit(cells=replace(made.cells, count=count))
        value[k] = signal_of(made.problem, fitted.parameters)[k]
        x = made.problem.design[:, k]
        jac = np.repeat(x[:, None], value.shape[1], axis=1)
        if made.problem.family == EXPONENTIAL:
            jac = np.stack([value[k] / fitted.parameters[0], value[k] * x[0], value[k] * x[1]])
        variance[k] = np.einsum("ap,pab,bp->p", jac, full(fitted.covariance), jac)
        if np.isinf(made.cells.group_variance_adu2).any():
            value[k] += fitted.offset_adu[0]
    return value, variance


def own_noise(made):
    """(n, P) true variance of each master about its pixel's truth plus its bias's error."""
    c = made.cells
    shot = np.maximum(made.signal, 0) / (c.gain_e_per_adu * c.count)
    return c.read_variance_adu2 / c.count + shot + (c.relative_variance * made.signal.T**2).T


def total_error(made, fitted):
    return np.sqrt(own_noise(made) + fitted.held_out_variance_adu2)


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
@pytest.mark.parametrize("case", CASES)
def test_one_step_is_a_refit(case, model):
    made, fitted, value, _ = made_scene(case, model)
    assert np.isfinite(fitted.held_out_adu).mean() > 0.999
    difference = np.abs(fitted.held_out_adu - value) / total_error(made, fitted)
    assert np.nanquantile(difference, 0.99) < 0.05
    assert np.nanquantile(difference, 0.5) < 0.002


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
@pytest.mark.parametrize("case", ["own biases", "unequal counts", "relative"])
def test_variance_is_that_of_the_refit(case, model):
    made, fitted, _, variance = made_scene(case, model)
    ratio = (own_noise(made) + fitted.held_out_variance_adu2) / (own_noise(made) + variance)
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.003)
    assert np.nanquantile(ratio, 0.01) > 0.93
    assert np.nanquantile(ratio, 0.99) < 1.08


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
@pytest.mark.parametrize("case", CASES)
def test_pulls_have_unit_spread(case, model):
    made, fitted, _, _ = made_scene(case, model)
    pull = (made.cells.signal_adu - fitted.held_out_adu) / total_error(made, fitted)
    assert spread(pull) == pytest.approx(1.0, abs=0.03)
    assert np.nanmedian(pull) == pytest.approx(0.0, abs=0.03)
    # a cell alone has fewer pixels: 1.5 % of statistics
    assert all(spread(row) == pytest.approx(1.0, abs=0.08) for row in pull)


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
def test_pulls_know_of_a_large_shared_bias_error(model):
    """The bias dominates here: left out of the covariance of the cells, spreads would be far from 1."""
    rng = np.random.default_rng(8)
    amplitude = 10 ** rng.uniform(2.0, 4.0, PIXELS)
    kind = {"bias_sigma_adu": 10.0, "count": 40}
    if model == "exp_2d":
        made = scene(amplitude, **kind)
    else:
        made = scene(amplitude / 200, model=TWO_COMPONENT, diffusion_adu_s=amplitude / 200, **kind)
    fitted = made.fit(leave_out=EVERY)
    pull = (made.cells.signal_adu - fitted.held_out_adu) / total_error(made, fitted)
    assert spread(pull) == pytest.approx(1.0, abs=0.03)
    residual = studentised(made, fitted.parameters)
    assert spread(residual) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("free_level", [False, True])
def test_variance_with_a_shared_bias_is_that_of_linear_algebra(free_level):
    """Var(master - prediction) with the master's own noise left out, from the estimator written as a matrix."""
    noise = {"free_level": True} if free_level else {"bias_sigma_adu": 3.0}
    made = scene(np.full(20, 0.5), model=TWO_COMPONENT, diffusion_adu_s=0.5, gain=np.inf, **noise)
    fitted = made.fit(leave_out=EVERY)
    columns = made.problem.design[:2].T
    if free_level:
        columns = np.column_stack([columns, np.ones(N)])
    v = dense_covariance(made, 0, made.signal[:, 0])
    for k in range(N):
        rest = np.arange(N) != k
        inverse = np.linalg.inv(v[rest][:, rest])
        estimator = np.linalg.solve(columns[rest].T @ inverse @ columns[rest], columns[rest].T @ inverse)
        row = columns[k] @ estimator
        bias = 0.0 if free_level else 9.0
        shared = np.where(made.cells.group[rest] == made.cells.group[k], bias, 0.0)
        expected = bias + row @ v[rest][:, rest] @ row - 2 * row @ shared
        np.testing.assert_allclose(fitted.held_out_variance_adu2[k], expected, rtol=1e-4)
        np.testing.assert_allclose(
            fitted.held_out_adu[k], row @ made.cells.signal_adu[rest].astype(float), rtol=1e-5, atol=1e-3
        )


def test_the_error_of_a_cell_alone_at_its_temperature_holds_its_bias():
    made = scene(np.full(PIXELS, 500.0), cells=(np.array([-9.0, -6, -3, 0, 0, 0]), np.array([300.0] * 4 + [30, 100])),
                 bias_sigma_adu=4.0)  # fmt: skip
    fitted = made.fit(leave_out=np.ones(6, bool))
    for k in range(1, 3):
        error = np.sqrt(own_noise(made)[k] + fitted.held_out_variance_adu2[k])
        assert spread((made.cells.signal_adu[k] - fitted.held_out_adu[k]) / error) == pytest.approx(1.0, abs=0.06)
        assert np.all(fitted.held_out_variance_adu2[k] > 16.0)


def changed(made, k, shift):
    """The fit after cell k was moved by `shift` (P,) ADU."""
    signal = made.cells.signal_adu.copy()
    signal[k] += shift
    return made.with_signal(signal).fit(leave_out=EVERY)


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
@pytest.mark.parametrize("sigmas", [-2.0, 2.0])
def test_a_cell_moved_within_its_noise_hardly_changes_its_own_prediction(model, sigmas):
    """One step keeps the weights of the full fit, which had the cell: what is left of it is a few per cent of the
    error."""
    made, fitted, _, _ = made_scene("own biases", model)
    for k in (0, 5, 11):
        other = changed(made, k, sigmas * np.sqrt(own_noise(made)[k]))
        # one prediction may be a step and the other a refit: both within 0.05 of the exact one
        moved = np.abs(other.held_out_adu[k] - fitted.held_out_adu[k]) / total_error(made, fitted)[k]
        assert np.median(moved) < 0.01
        assert np.quantile(moved, 0.97) < 0.1


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
@pytest.mark.parametrize("shift", [1e4, -1e4, 1e7])
def test_a_cell_moved_wildly_does_not_change_its_own_prediction(model, shift):
    """It is down-weighted, hence refitted without: its prediction is the exact one."""
    made, fitted, value, _ = made_scene("own biases", model)
    few = np.flatnonzero(fitted.outliers == 0)[:500]
    k = 5
    other = changed(made, k, np.full(PIXELS, shift))
    moved = np.abs(other.held_out_adu[k] - value[k])[few] / total_error(made, fitted)[k, few]
    assert np.isfinite(other.held_out_adu[k, few]).all()
    assert np.quantile(moved, 0.99) < 0.05


@pytest.mark.parametrize("model", ["exp_2d", "two_component"])
def test_predictions_of_the_other_cells_are_robust_against_a_wild_one(model):
    made, _, value, _ = made_scene("own biases", model)
    other = changed(made, 5, np.full(PIXELS, 3e4))
    rest = [k for k in range(N) if k != 5]
    error = total_error(made, other)[rest]
    assert np.median(np.abs(other.held_out_adu - value)[rest] / error) < 0.4
    assert spread((made.cells.signal_adu - other.held_out_adu)[rest] / error) == pytest.approx(1.0, abs=0.06)


def test_an_absent_cell_is_predicted_by_the_full_fit():
    made, _, value, _ = made_scene("own biases", "exp_2d")
    count = made.cells.count.copy()
    count[4] = 0
    fitted = made.fit(leave_out=EVERY, cells=replace(made.cells, count=count))
    np.testing.assert_allclose(fitted.held_out_adu[4], value[4], rtol=1e-4, atol=1e-3)
    assert np.isfinite(fitted.held_out_variance_adu2[4]).all()


def test_only_what_is_asked_for_is_left_out():
    made, fitted, _, _ = made_scene("own biases", "exp_2d")
    wanted = np.zeros(N, bool)
    wanted[[1, 6]] = True
    some = made.fit(leave_out=wanted)
    np.testing.assert_array_equal(some.held_out_adu[wanted], fitted.held_out_adu[wanted])
    assert np.isnan(some.held_out_adu[~wanted]).all()
    assert np.isnan(made.fit().held_out_adu).all()
    np.testing.assert_array_equal(some.parameters, fitted.parameters)


def test_no_prediction_where_nothing_is_left_to_fit():
    made = scene(np.full(50, 400.0), cells=(np.array([-6.0, 0, 0]), np.array([100.0, 100, 30])))
    fitted = made.fit(leave_out=np.ones(3, bool))
    assert np.isnan(fitted.held_out_adu).all()
    assert np.isfinite(fitted.parameters).all()
    assert not (fitted.dq & DQ.FIT_FAILED).any()


def leave_all_to_the_careful_fit(monkeypatch):
    packed = fits.fit_packed

    def too_hard(*given):
        packed(*given)
        given[-1][:] = 2.0 * fits.CLOSER

    monkeypatch.setattr(fits, "fit_packed", too_hard)


def test_the_careful_fit_says_the_same_where_a_parameter_is_fixed(monkeypatch):
    """exp_t knows no slope of temperature; its column is not 0 where the temperature was not quite the same."""
    temperature_c = np.array([-10.05, -9.98, -10.1, -9.9, -10.02, -10.08])
    exposure_s = np.array([10.0, 30.0, 60.0, 120.0, 200.0, 300.0])
    made = scene(np.full(64, 2000.0), model=EXP_T, cells=(temperature_c, exposure_s), free_level=True)
    assert not made.problem.free.all()
    assert np.abs(made.problem.design[1]).min() > 0
    packed = made.fit(leave_out=np.ones(6, bool))
    leave_all_to_the_careful_fit(monkeypatch)
    careful = made.fit(leave_out=np.ones(6, bool))
    np.testing.assert_allclose(careful.held_out_variance_adu2, packed.held_out_variance_adu2, rtol=1e-3)
    np.testing.assert_allclose(careful.by_bias, packed.by_bias, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("hard", [False, True])
def test_a_bias_without_error_moves_the_parameters_as_one_with_next_to_none(monkeypatch, hard):
    if hard:
        leave_all_to_the_careful_fit(monkeypatch)
    amplitude = np.geomspace(50.0, 5000.0, 32)
    none, little = (scene(amplitude, bias_sigma_adu=sigma).fit() for sigma in (0.0, 1e-4))
    assert np.abs(none.by_bias).max() > 0
    size = np.abs(little.by_bias).max(axis=(0, 2))[:, None]
    np.testing.assert_allclose(none.by_bias / size, little.by_bias / size, atol=2e-3)
