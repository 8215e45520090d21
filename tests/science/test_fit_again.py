"""Pixels that are fitted again without some of their cells, in vectors, against the careful fit of single pixels."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_24, scene

from darkpipe.science import fit
from darkpipe.science.fit_loops import CAREFUL
from darkpipe.science.flags import DQ
from darkpipe.science.models import EXP_2D, TWO_COMPONENT

PIXELS = 3000
EVERYTHING = np.ones(24, bool)


def struck(model, **noise):
    """Pixels of 1 to 30,000 ADU, in most of which one cell, two or five are wrong, some without some of their cells."""
    rng = np.random.default_rng(8)
    amplitude = 10 ** rng.uniform(0.0, 4.5, PIXELS)
    if model is TWO_COMPONENT:
        made = scene(amplitude / 200, model=model, diffusion_adu_s=amplitude / 300, cells=GRID_24, **noise)
    else:
        made = scene(amplitude, gamma=rng.normal(1, 0.02, PIXELS), b_per_k=rng.normal(0.12, 0.006, PIXELS),
                     cells=GRID_24, **noise)  # fmt: skip
    signal = made.cells.signal_adu.astype(float)
    for share, cells in ((0.5, 1), (0.2, 2), (0.1, 5)):
        for i in np.flatnonzero(rng.random(PIXELS) < share):
            hit = rng.choice(24, cells, replace=False)
            signal[hit, i] += rng.choice([-1, 1], cells) * 10 ** rng.uniform(1.5, 3.5, cells)
    signal[:, rng.random(PIXELS) < 0.02] *= rng.normal(1.0, 0.2, (24, 1))  # cells without any order
    signal[rng.random(signal.shape) < 0.02] = np.nan
    signal[4:, rng.random(PIXELS) < 0.02] = np.nan
    return made.with_signal(np.minimum(signal, 60_000.0))


def one_by_one(monkeypatch, made):
    """The careful fit of all pixels."""
    packed = fit.fit_packed

    def none_done(*arguments):
        packed(*arguments)
        arguments[-1][:] = CAREFUL

    monkeypatch.setattr(fit, "fit_packed", none_done)
    return made.fit(leave_out=EVERYTHING)


@pytest.mark.parametrize("noise", [{}, {"bias_sigma_adu": 1.5, "relative": 0.005}, {"free_level": True}])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_outliers_are_those_of_the_careful_fit(monkeypatch, model, noise):
    made = struck(model, **noise)
    found, right = made.fit(leave_out=EVERYTHING), one_by_one(monkeypatch, made)
    assert np.bincount(found.outliers).min() > 20
    assert found.outliers.max() == 3  # one in eight
    for name in ("dq", "dof", "outliers"):
        np.testing.assert_array_equal(getattr(found, name), getattr(right, name), err_msg=name)
    np.testing.assert_array_equal(np.isnan(found.held_out_adu), np.isnan(right.held_out_adu))
    error = np.sqrt(right.covariance[[0, 3, 5]])
    noise_adu = np.sqrt(right.held_out_variance_adu2 + (25 + np.maximum(right.held_out_adu, 0)) / 10)
    known = right.parameters[0] > 3 * error[0]
    described = known & (right.chi2 < 3 * np.maximum(right.dof, 1))
    assert described.sum() > 0.4 * PIXELS
    for those, sigmas in ((described, 1e-3), (known, 1e-2)):  # both stop by chi², which says less the larger it is
        moved = np.abs(found.parameters - right.parameters) - sigmas * error
        assert np.nanmax(moved[:, those]) <= 0
        assert np.nanmax((np.abs(found.held_out_adu - right.held_out_adu) / noise_adu)[:, those]) < sigmas
    for name in ("covariance", "held_out_variance_adu2"):
        one, other = (getattr(one, name)[:, described] for one in (found, right))
        if name == "covariance":
            one, other = one[[0, 3, 5]], other[[0, 3, 5]]
        np.testing.assert_allclose(one, other, rtol=5e-3, err_msg=name)
    np.testing.assert_allclose(found.chi2[known], right.chi2[known], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_most_of_them_are_not_left_to_the_fit_of_single_pixels(monkeypatch, model):
    made, singly = struck(model), []
    careful = fit.fit_singly
    monkeypatch.setattr(fit, "fit_singly", lambda *a: (singly.append(a[4].size), careful(*a)))
    found = made.fit(leave_out=EVERYTHING)
    assert sum(singly) < 0.5 * (found.outliers > 0).sum() < 0.5 * PIXELS


def test_one_pixel_comes_out_as_among_others():
    made = struck(EXP_2D)
    whole = made.fit(leave_out=EVERYTHING)
    for i in (int(np.flatnonzero(whole.outliers == n)[0]) for n in range(4)):
        prior = made.prior().at(np.array([i]))
        alone = fit.fit_tile(made.problem, made.cells.at(np.array([i])), prior, prior.mean.copy(), EVERYTHING)
        for name, one, other in zip(alone._fields, alone, whole, strict=True):
            np.testing.assert_array_equal(one[..., 0], other[..., i], err_msg=name)


def test_nothing_is_given_up_where_nothing_would_be_left_to_judge_by():
    made = struck(TWO_COMPONENT)
    count = made.cells.count.copy()
    count[np.setdiff1d(np.arange(24), [1, 10, 19])] = 0
    fitted = made.fit(cells=replace(made.cells, count=count), leave_out=EVERYTHING)
    assert not fitted.outliers.any()
    assert not (fitted.dq & DQ.OUTLIER).any()
    assert np.nanmax(fitted.chi2) > 100
