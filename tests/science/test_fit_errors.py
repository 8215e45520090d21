"""Whether the errors of the parameters are true, and whether the fit of faint pixels is biased."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, GRID_24, full, grid, pulls, scene, signal_of, spread

from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT

PIXELS = 6000  # the spread of one sample has 1.1 % of scatter
COUNTS = {"equal": 10, "2 against 40 mixed": [2, 40] * 6, "2 cold, 40 warm": [2] * 6 + [40] * 6, "single frames": 1}


def spreads(made, fitted):
    return [spread(z) for z in pulls(made, fitted)[made.problem.free]]


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("level_adu", [50.0, 200.0, 20_000.0])
def test_errors_of_exp_2d_are_true(level_adu, counts):
    rng = np.random.default_rng(4)
    shape = {"gamma": rng.normal(1, 0.02, PIXELS), "b_per_k": rng.normal(0.12, 0.006, PIXELS)}
    noise = 2.0 if counts == "single frames" else 5.0
    made = scene(np.full(PIXELS, level_adu), **shape, count=COUNTS[counts], read_noise_adu=noise, seed=11)
    assert spreads(made, made.fit(weak=False)) == pytest.approx([1.0] * 3, abs=0.05)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("level_adu", [-5.0, 0.0, 5.0, 200.0, 20_000.0])
def test_errors_of_two_component_are_true(level_adu, counts):
    made = scene(
        np.full(PIXELS, level_adu / 200), model=TWO_COMPONENT, diffusion_adu_s=level_adu / 200, count=COUNTS[counts],
        seed=12,
    )  # fmt: skip
    fitted = made.fit()
    assert spreads(made, fitted) == pytest.approx([1.0] * 2, abs=0.05)
    assert np.median(pulls(made, fitted)[:2]) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("level_adu", [60.0, 3000.0])
@pytest.mark.parametrize(
    ("model", "cells"),
    [(EXP_1D, grid(np.arange(-20, 3, 4), [120])), (EXP_T, grid([0], [5, 10, 30, 60, 120, 300])), (EXP_2D, GRID_24)],
)
@pytest.mark.parametrize(
    "noise",
    [
        {"bias_sigma_adu": 4.0},
        {"relative": 0.02},
        {"bias_sigma_adu": 2.0, "relative": 0.005, "extra": 9.0},
        {"free_level": True},
    ],
)
def test_shared_relative_and_level_errors_are_in_the_parameters(model, cells, level_adu, noise):
    made = scene(np.full(PIXELS, level_adu), model=model, cells=cells, **noise, seed=13)
    assert spreads(made, made.fit(weak=False)) == pytest.approx([1.0] * made.problem.free.sum(), abs=0.05)


def test_a_shared_error_taken_for_an_independent_one_is_seen():
    """The test above can tell: the same data with the bias error in the cells' own variance has wrong spreads."""
    made = scene(np.full(PIXELS, 300.0), cells=GRID_24, bias_sigma_adu=4.0, seed=14)
    wrong = replace(
        made.cells, group_variance_adu2=np.zeros_like(made.cells.group_variance_adu2),
        extra_variance_adu2=np.full(24, 16.0),
    )  # fmt: skip
    assert max(spreads(made, made.fit(cells=wrong))) > 1.15


@pytest.mark.parametrize(("model", "level_adu"), [(EXP_2D, 60.0), (EXP_2D, 5000.0), (TWO_COMPONENT, 60.0)])
def test_the_covariance_holds_between_parameters_too(model, level_adu):
    """The error of the predicted signal of every cell: it needs the off-diagonal terms, with their signs."""
    a = level_adu if model is EXP_2D else level_adu / 200
    made = scene(np.full(PIXELS, a), model=model, diffusion_adu_s=a, bias_sigma_adu=2.0, seed=15)
    fitted = made.fit(weak=False)
    predicted = signal_of(made.problem, fitted.parameters)
    covariance = full(fitted.covariance)
    for k in range(12):
        x = made.problem.design[:, k]
        jac = np.repeat(x[:, None], PIXELS, axis=1)
        if model is EXP_2D:
            jac = np.stack([predicted[k] / fitted.parameters[0], predicted[k] * x[0], predicted[k] * x[1]])
        error = np.sqrt(np.einsum("ap,pab,bp->p", jac, covariance, jac))
        assert spread((predicted[k] - made.signal[k]) / error) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("level_adu", [3.0, 10.0])
def test_the_weak_prior_does_not_understate_errors_of_faint_pixels(level_adu):
    made = scene(np.full(PIXELS, level_adu), bias_sigma_adu=1.0, seed=16)
    assert max(spreads(made, made.fit())) < 1.05


@pytest.mark.parametrize("case", [{}, {"bias_sigma_adu": 2.0, "relative": 0.01}, {"free_level": True}])
@pytest.mark.parametrize("level_adu", [30.0, 2000.0])
def test_chi2_is_what_its_degrees_of_freedom_say(level_adu, case):
    made = scene(np.full(PIXELS, level_adu), **case, seed=17)
    fitted = made.fit(weak=False)
    ratio = fitted.chi2 / fitted.dof
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.03)
    assert np.var(fitted.chi2) == pytest.approx(2 * np.median(fitted.dof), rel=0.1)


# ---- faint pixels


@pytest.mark.parametrize("frames", [2, 10])
@pytest.mark.parametrize("level_adu", [0.0, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_the_dark_of_faint_pixels_is_not_biased(model, level_adu, frames):
    """Mean over pixels of (predicted - true) in every cell, corners included, pixels below 20 ADU at the centre of the
    cells, with the pipeline's prior; what is left of statistics is less than 0.03 ADU.

    The linear model has no bias. The exponential's shape follows the noise of pixels that cannot tell it: with ten
    frames of 3 ADU read noise that costs up to 0.12 ADU in the corners, with two 0.23.
    """
    rng = np.random.default_rng(18)
    pixels = 25_000
    noise = {"count": frames, "cells": GRID_12, "read_noise_adu": 3.0, "seed": 19}
    if model is EXP_2D:
        shape = {"gamma": rng.normal(1, 0.015, pixels), "b_per_k": rng.normal(0.12, 0.006, pixels)}
        made = scene(np.full(pixels, level_adu), **shape, **noise)
    else:
        made = scene(np.full(pixels, level_adu / 200), model=model, diffusion_adu_s=level_adu / 200, **noise)
    fitted = made.fit()
    difference = signal_of(made.problem, fitted.parameters) - made.signal
    scatter = difference.std(axis=1) / np.sqrt(pixels)
    limit = 0.05 if model is TWO_COMPONENT else {2: 0.23, 10: 0.12}[frames]
    assert np.all(np.abs(difference.mean(axis=1)) < limit + 3 * scatter)


def test_negative_signal_is_fitted_as_it_is():
    made = scene(np.full(PIXELS, 0.0), model=TWO_COMPONENT, diffusion_adu_s=0.0, bias_sigma_adu=1.0)
    fitted = made.fit()
    assert (fitted.parameters[0] < 0).mean() == pytest.approx(0.5, abs=0.03)
    assert not fitted.dq.any()
    plain = scene(np.full(PIXELS, 0.0), bias_sigma_adu=1.0)
    fitted = plain.fit()
    assert (fitted.parameters[0] < 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.isfinite(fitted.parameters).all()
    assert abs(signal_of(plain.problem, fitted.parameters).mean()) < 0.05


def test_a_clearly_negative_pixel_has_a_negative_amplitude():
    made = scene(np.full(2000, -40.0), b_per_k=0.12, seed=20)
    fitted = made.fit(weak=False)
    assert np.all(fitted.parameters[0] < 0)
    assert spread(pulls(made, fitted)[0]) == pytest.approx(1.0, abs=0.06)
    assert np.median(signal_of(made.problem, fitted.parameters) - made.signal) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_parameters_move_with_the_bias_as_they_say(model):
    level = 10 ** np.random.default_rng(6).uniform(2.7, 4, 200)
    kind = {"diffusion_adu_s": level / 200} if model is TWO_COMPONENT else {}
    made = scene(level / 200 if kind else level, model=model, bias_sigma_adu=10.0, **kind)
    fitted, cells = made.fit(), made.cells
    free = np.flatnonzero(made.problem.free)
    size = np.sqrt(fitted.covariance[[0, 3, 5]][free])
    for q in range(3):
        signal = cells.signal_adu - np.float32(0.5) * (cells.group == q)[:, None]  # a bias that is 0.5 ADU higher
        moved = (made.with_signal(signal).fit().parameters - fitted.parameters)[free] / 0.5
        np.testing.assert_allclose(moved / size, fitted.by_bias[q, free] / size, atol=0.005)
        assert np.corrcoef((moved / size).ravel(), (fitted.by_bias[q, free] / size).ravel())[0, 1] > 0.99
    unknown = scene(level / 200 if kind else level, model=model, free_level=True, **kind).fit()
    assert not unknown.by_bias.any()


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_parameters_and_bias_share_what_the_fit_says(model):
    """The covariance of parameters and bias, against errors that were drawn."""
    sigma = 3.0
    kind = {"diffusion_adu_s": 1.0} if model is TWO_COMPONENT else {}
    amplitude = np.full(20_000, 1.0 if kind else 400.0)
    made = scene(amplitude, model=model, bias_sigma_adu=0.0, seed=3, **kind)
    error = sigma * np.random.default_rng(9).normal(size=(3, amplitude.size))
    cells = replace(made.cells, group_variance_adu2=np.full_like(made.cells.group_variance_adu2, sigma**2))
    signal = (made.cells.signal_adu - error[made.cells.group]).astype(np.float32)
    fitted = made.fit(cells=replace(cells, signal_adu=signal))
    for q in range(3):
        for slot in np.flatnonzero(made.problem.free):
            found = np.cov(fitted.parameters[slot] - made.truth[slot], error[q])[0, 1]
            size = np.sqrt(np.median(fitted.covariance[[0, 3, 5]][slot])) * sigma
            assert found / size == pytest.approx(np.median(fitted.by_bias[q, slot]) * sigma**2 / size, abs=0.03)
