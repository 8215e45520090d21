"""The fit of a pixel against scipy's curve_fit and linear least squares."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, dense_covariance, full, grid, scene, signal_of
from scipy.optimize import curve_fit

from darkpipe.science.fit import fit_tile
from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT

PIXELS = 40
VALUE_SIGMA, COVARIANCE = 1e-3, 0.01  # agreement: of an error; of the covariance, as a fraction of its errors
RNG = np.random.default_rng(5)
AMPLITUDE = 10 ** RNG.uniform(1.3, 4, PIXELS)
GAMMA, B = RNG.normal(1, 0.02, PIXELS), RNG.normal(0.12, 0.006, PIXELS)
NOISES = {
    "read noise alone": {"gain": np.inf},
    "read and shot noise": {},
    "unequal counts": {"count": [2] * 6 + [40] * 6},
    "relative and extra terms": {"relative": 0.01, "extra": 3.0},
    "shared bias errors": {"bias_sigma_adu": 2.0},
    "all": {"bias_sigma_adu": 2.0, "relative": 0.01, "extra": 3.0, "count": [2] * 6 + [40] * 6, "gain": 0.5},
}


def refit(made, fitted, pixel, *, level=False, keep=slice(None)):
    """Values and covariance of the free parameters (and the level) by scipy, at the covariance of our solution."""
    free = np.flatnonzero(made.problem.free)
    best = fitted.parameters[:, pixel]
    covariance = dense_covariance(made, pixel, signal_of(made.problem, best[:, None])[:, 0])[keep][:, keep]

    def law(_, *values):
        p = np.zeros((3, 1))
        p[free, 0] = values[: free.size]
        return signal_of(made.problem, p)[keep, 0] + (values[-1] if level else 0.0)

    y = made.cells.signal_adu[keep, pixel].astype(float)
    start = [*best[free] * 1.01, *([0.0] if level else [])]
    return curve_fit(
        law, np.zeros(y.size), y, p0=start, sigma=covariance, absolute_sigma=True, ftol=1e-13, xtol=1e-13, gtol=1e-13
    )


def differences(made, fitted, **options):
    """Largest difference of values in their errors, and of covariances as a fraction of them, over clean pixels."""
    values, covariances = [], []
    free = np.flatnonzero(made.problem.free)
    for i in np.flatnonzero(fitted.outliers == 0):
        p, c = refit(made, fitted, i, **options)
        sigma = np.sqrt(np.diag(c))[: free.size]
        ours = full(fitted.covariance[:, i : i + 1])[0][np.ix_(free, free)]
        values.append(np.abs(fitted.parameters[free, i] - p[: free.size]) / sigma)
        covariances.append(np.abs(ours - c[: free.size, : free.size]) / np.outer(sigma, sigma))
    assert len(values) > 0.9 * fitted.outliers.size
    return np.max(values), np.max(covariances)


@pytest.mark.parametrize("noise", NOISES)
def test_exp_2d_is_that_of_curve_fit(noise):
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, **NOISES[noise])
    value, covariance = differences(made, made.fit(weak=False))
    assert value < VALUE_SIGMA
    assert covariance < COVARIANCE


@pytest.mark.parametrize(
    ("model", "cells"),
    [(EXP_1D, grid(np.arange(-20, 3, 4), [120])), (EXP_T, grid([-5], [5, 10, 30, 60, 120, 300, 600]))],
)
@pytest.mark.parametrize("noise", [{}, {"bias_sigma_adu": 2.0, "relative": 0.01}])
def test_models_of_one_axis_are_those_of_curve_fit(model, cells, noise):
    made = scene(AMPLITUDE, model=model, cells=cells, gamma=GAMMA, b_per_k=B, **noise)
    fitted = made.fit(weak=False)
    value, covariance = differences(made, fitted)
    assert value < VALUE_SIGMA
    assert covariance < COVARIANCE
    fixed = np.flatnonzero(~made.problem.free)[0]
    assert np.all(fitted.parameters[fixed] == 0)
    assert np.all(full(fitted.covariance)[:, fixed] == 0)


@pytest.mark.parametrize("noise", NOISES)
def test_two_component_is_weighted_linear_least_squares(noise):
    made = scene(AMPLITUDE / 200, model=TWO_COMPONENT, diffusion_adu_s=AMPLITUDE[::-1] / 200, **NOISES[noise])
    fitted = made.fit()
    design = made.problem.design[:2].T
    for i in np.flatnonzero(fitted.outliers == 0):
        v = dense_covariance(made, i, design @ fitted.parameters[:2, i])
        whiten = np.linalg.inv(np.linalg.cholesky(v))
        p = np.linalg.lstsq(whiten @ design, whiten @ made.cells.signal_adu[:, i].astype(float), rcond=None)[0]
        c = np.linalg.inv(design.T @ np.linalg.inv(v) @ design)
        sigma = np.sqrt(np.diag(c))
        np.testing.assert_allclose(fitted.parameters[:2, i] / sigma, p / sigma, rtol=0, atol=VALUE_SIGMA)
        np.testing.assert_allclose(full(fitted.covariance[:, i : i + 1])[0][:2, :2], c, rtol=COVARIANCE)
        r = made.cells.signal_adu[:, i] - design @ fitted.parameters[:2, i]
        assert fitted.chi2[i] == pytest.approx(r @ np.linalg.inv(v) @ r, rel=2e-3)
    assert np.all(fitted.dof == 10)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_a_free_level_is_one_more_column(model):
    if model is EXP_2D:
        made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, free_level=True)
    else:
        made = scene(AMPLITUDE / 200, model=model, diffusion_adu_s=AMPLITUDE / 200, free_level=True)
    fitted = made.fit(weak=False)
    value, covariance = differences(made, fitted, level=True)
    assert value < VALUE_SIGMA
    assert covariance < COVARIANCE
    for i in np.flatnonzero(fitted.outliers == 0):
        p, c = refit(made, fitted, i, level=True)
        assert abs(fitted.offset_adu[0, i] - p[-1]) < 2e-3 * np.sqrt(c[-1, -1])
    assert np.all(fitted.dof + fitted.outliers == 12 - made.problem.free.sum() - 1)


def test_a_huge_bias_error_is_a_free_level_and_none_is_none():
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, free_level=True)
    free = made.fit(weak=False)
    wide = made.fit(weak=False, cells=replace(made.cells, group_variance_adu2=np.full((1, PIXELS), 1e8, np.float32)))
    np.testing.assert_allclose(free.parameters[0], wide.parameters[0], rtol=1e-3)
    np.testing.assert_allclose(free.covariance[0], wide.covariance[0], rtol=1e-3)
    exact = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B)
    tiny = exact.fit(cells=replace(exact.cells, group_variance_adu2=np.full((3, PIXELS), 1e-12, np.float32)))
    np.testing.assert_allclose(exact.fit().parameters, tiny.parameters, rtol=1e-5)
    assert np.all(exact.fit().offset_adu == 0)


def test_offsets_of_the_biases_are_their_best_estimates():
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, bias_sigma_adu=6.0, read_noise_adu=2.0)
    fitted = made.fit(weak=False)
    for i in np.flatnonzero(fitted.outliers == 0)[:20]:
        signal = signal_of(made.problem, fitted.parameters[:, i : i + 1])[:, 0]
        v = dense_covariance(made, i, signal)
        shared = (made.cells.group[None, :] == np.arange(3)[:, None]) * 36.0
        best = shared @ np.linalg.solve(v, made.cells.signal_adu[:, i] - signal)
        np.testing.assert_allclose(fitted.offset_adu[:, i], best, atol=0.01)


def test_a_prior_is_a_measurement_more():
    made = scene(np.full(PIXELS, 8.0), gamma=GAMMA, b_per_k=B)
    fitted = made.fit()  # sigma 1 of gamma about 1.0, 0.1 of B about 0.11
    x = made.problem.design
    for i in np.flatnonzero(fitted.outliers == 0):
        p = fitted.parameters[:, i]
        v = np.zeros((14, 14))
        v[:12, :12] = dense_covariance(made, i, signal_of(made.problem, p[:, None])[:, 0])
        v[12, 12], v[13, 13] = 1.0, 0.01
        y = np.concatenate([made.cells.signal_adu[:, i].astype(float), [1.0, 0.11]])

        def law(_, a, g, b):
            return np.concatenate([a * np.exp(g * x[0] + b * x[1]), [g, b]])

        q, c = curve_fit(law, np.zeros(14), y, p0=p, sigma=v, absolute_sigma=True, ftol=1e-13, xtol=1e-13, gtol=1e-13)
        sigma = np.sqrt(np.diag(c))
        assert np.abs((p - q) / sigma).max() < 3 * VALUE_SIGMA
        assert np.abs((full(fitted.covariance[:, i : i + 1])[0] - c) / np.outer(sigma, sigma)).max() < COVARIANCE


@pytest.mark.parametrize("absent", ["NaN", "count 0"])
def test_an_absent_cell_is_absent(absent):
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, bias_sigma_adu=1.0)
    signal, count = made.cells.signal_adu.copy(), made.cells.count.copy()
    if absent == "NaN":
        signal[[2, 7]] = np.nan
    else:
        count[[2, 7]] = 0
    fitted = made.fit(cells=replace(made.cells, signal_adu=signal, count=count))
    keep = np.setdiff1d(np.arange(12), [2, 7])
    less = replace(
        made.cells, signal_adu=signal[keep], count=count[keep], group=made.cells.group[keep],
        relative_variance=np.zeros(10), extra_variance_adu2=np.zeros(10),
    )  # fmt: skip
    problem = replace(made.problem, design=np.ascontiguousarray(made.problem.design[:, keep]))
    alone = fit_tile(problem, less, made.prior(), made.prior().mean.copy())
    np.testing.assert_allclose(fitted.parameters, alone.parameters, rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, alone.covariance, rtol=1e-9)
    np.testing.assert_array_equal(fitted.dof, alone.dof)
    np.testing.assert_allclose(fitted.chi2, alone.chi2, rtol=1e-5)


def test_pixels_do_not_know_each_other():
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, bias_sigma_adu=1.0)
    one = made.fit(leave_out=np.ones(12, bool))
    order = np.random.default_rng(0).permutation(PIXELS)
    shuffled = made.fit(leave_out=np.ones(12, bool), cells=made.cells.at(order))
    for name in ("parameters", "covariance", "chi2", "held_out_adu", "held_out_variance_adu2", "offset_adu", "dq"):
        np.testing.assert_array_equal(getattr(one, name)[..., order], getattr(shuffled, name), err_msg=name)


def test_the_order_of_cells_does_not_matter():
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B, bias_sigma_adu=1.0)
    order = np.random.default_rng(0).permutation(12)
    c = made.cells
    moved = replace(c, signal_adu=c.signal_adu[order], count=c.count[order], group=c.group[order])
    problem = replace(made.problem, design=np.ascontiguousarray(made.problem.design[:, order]))
    other = fit_tile(problem, moved, made.prior(), made.prior().mean.copy())
    here = made.fit()
    error = np.sqrt(here.covariance[[0, 3, 5]])
    assert np.abs(here.parameters - other.parameters)[:2].max() > 0.0  # sums are taken in another order
    assert (np.abs(here.parameters - other.parameters) <= 1e-6 * error).all()


@pytest.mark.parametrize("start", [(1.0, 1.0, 0.11), (-50.0, 0.5, 0.3), (1e5, 2.5, -0.05)])
def test_the_start_does_not_matter(start):
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B)
    usual = made.fit()
    other = fit_tile(made.problem, made.cells, made.prior(), np.repeat(np.array(start)[:, None], PIXELS, 1))
    assert np.all(other.dq == usual.dq)
    sigma = np.sqrt(usual.covariance[[0, 3, 5]])
    assert np.abs((usual.parameters - other.parameters) / sigma).max() < 0.01


def test_exact_data_give_exact_parameters():
    made = scene(AMPLITUDE, gamma=GAMMA, b_per_k=B)
    fitted = made.with_signal(made.signal).fit(weak=False)
    np.testing.assert_allclose(fitted.parameters, made.truth, rtol=2e-5)
    assert np.all(fitted.chi2 < 1e-4)
    linear = scene(AMPLITUDE / 200, model=TWO_COMPONENT, diffusion_adu_s=AMPLITUDE / 300, cells=GRID_12)
    np.testing.assert_allclose(linear.with_signal(linear.signal).fit().parameters[:2], linear.truth[:2], rtol=1e-5)
