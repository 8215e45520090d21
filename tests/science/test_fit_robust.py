"""Pixels that are not as they should be: outliers, gaps, bounds, nonsense."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, GRID_24, grid, pulls, scene, spread, studentised

from darkpipe.science.fit import fit_tile
from darkpipe.science.flags import DQ
from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT

PIXELS = 4000


def usual(model=EXP_2D, *, pixels=PIXELS, cells=GRID_12, low=1.5, **noise):
    """A scene of pixels of 30 to 10,000 ADU."""
    rng = np.random.default_rng(3)
    amplitude = 10 ** rng.uniform(low, 4.0, pixels)
    if model is TWO_COMPONENT:
        return scene(amplitude / 200, model=model, diffusion_adu_s=amplitude / 200, cells=cells, **noise)
    shape = {"gamma": rng.normal(1, 0.02, pixels), "b_per_k": rng.normal(0.12, 0.006, pixels)}
    return scene(amplitude, model=model, cells=cells, **shape, **noise)


def struck(made, size_sigmas, seed=6):
    """One cell a pixel, any of them, raised by so many of its errors; and which one."""
    rng = np.random.default_rng(seed)
    n, pixels = made.signal.shape
    hit = rng.integers(0, n, pixels)
    c = made.cells
    here = (hit, np.arange(pixels))
    own = c.read_variance_adu2 / c.count[here] + np.maximum(made.signal[here], 0) / (c.gain_e_per_adu * c.count[here])
    signal = c.signal_adu.copy()
    signal[here] += size_sigmas * np.sqrt(own)
    return made.with_signal(signal), hit


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
@pytest.mark.parametrize("noise", [{}, {"bias_sigma_adu": 1.5, "relative": 0.005}, {"free_level": True}])
def test_clean_pixels_have_no_outliers(model, noise):
    made = usual(model, pixels=20_000, cells=GRID_24, **noise)
    fitted = made.fit()
    assert (fitted.outliers > 0).mean() < 1e-3
    assert ((fitted.dq & DQ.OUTLIER) != 0).mean() < 1e-3
    residual = studentised(made, fitted.parameters)
    assert np.nanstd(residual) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("cells", [GRID_12, GRID_24])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
@pytest.mark.parametrize("size", [100.0, 3000.0, -100.0])
def test_one_cosmic_ray_is_counted_and_does_no_harm(model, cells, size):
    clean = usual(model, cells=cells, count=5)
    made, _ = struck(clean, size)
    fitted = made.fit()
    found = fitted.outliers == 1
    assert found.mean() > 0.97  # the rest: cells that nearly alone decide a parameter
    assert np.all(((fitted.dq & DQ.OUTLIER) != 0) == (fitted.outliers > 0))
    assert np.all(fitted.dof == cells[0].size - made.problem.free.sum() - fitted.outliers)
    before = pulls(clean, clean.fit())
    for slot in np.flatnonzero(made.problem.free):
        z = pulls(made, fitted)[slot, found]
        assert spread(z) == pytest.approx(1.0, abs=0.06)
        assert np.median(z) == pytest.approx(np.median(before[slot, found]), abs=0.06)
    assert np.median((fitted.chi2 / fitted.dof)[found]) < 1.05


def test_small_excesses_are_found_too():
    """12 sigma: all found, and what was found does not pull any more."""
    clean = usual(cells=GRID_24)
    made, _ = struck(clean, 12.0)
    fitted = made.fit()
    assert (fitted.outliers == 1).mean() > 0.97
    assert (fitted.outliers > 1).mean() < 0.01
    for before, after in zip(pulls(clean, clean.fit()), pulls(made, fitted), strict=True):
        assert np.median(after) == pytest.approx(np.median(before), abs=0.06)


def test_an_outlier_in_a_faint_pixel_is_found():
    made, _ = struck(usual(low=0.0, cells=GRID_24), 60.0)
    assert (made.fit().outliers > 0).mean() > 0.9


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_not_more_than_an_eighth_of_the_cells_is_given_up(model):
    made = usual(model, cells=GRID_24)
    signal = made.cells.signal_adu.copy()
    signal[::3] += 1000.0  # eight of 24: no pixel to be mended
    fitted = made.with_signal(signal).fit()
    assert fitted.outliers.max() <= 3
    assert np.median(fitted.chi2 / fitted.dof) > 10  # and it shows


def test_no_outlier_where_nothing_is_left_to_judge_by():
    cells = grid([-6, 0], [30, 300])
    made = usual(cells=cells)
    signal = made.cells.signal_adu.copy()
    signal[0] += 1e4
    fitted = made.with_signal(signal).fit()
    assert not fitted.outliers.any()
    assert np.all(fitted.dof == 1)


# ---- gaps


@pytest.mark.parametrize(
    ("model", "cells", "unknowns"),
    [
        (EXP_2D, GRID_12, 3),
        (TWO_COMPONENT, GRID_12, 2),
        (EXP_1D, grid(np.arange(-20, 3, 4), [120]), 2),
        (EXP_T, grid([0], [5, 10, 30, 60, 120, 300]), 2),
    ],
)
@pytest.mark.parametrize("free_level", [False, True])
def test_too_few_cells_fail_and_give_nan(model, cells, unknowns, free_level):
    made = usual(model, pixels=40, cells=cells, free_level=free_level)
    n, unknowns = cells[0].size, unknowns + free_level
    count = made.cells.count.copy()
    count[: n - unknowns + 1, :20] = 0
    fitted = made.fit(cells=replace(made.cells, count=count), leave_out=np.ones(n, bool))
    failed = (fitted.dq & DQ.FIT_FAILED) != 0
    assert failed[:20].all()
    assert not failed[20:].any()
    for array in (fitted.parameters, fitted.covariance, fitted.chi2, fitted.held_out_adu, fitted.offset_adu):
        assert np.isnan(array[..., :20]).all()
    assert np.isfinite(fitted.parameters[:, 20:]).all()


@pytest.mark.parametrize("how", ["NaN", "count"])
def test_no_cell_at_all(how):
    made = usual(pixels=10)
    if how == "NaN":
        cells = replace(made.cells, signal_adu=np.full_like(made.cells.signal_adu, np.nan))
    else:
        cells = replace(made.cells, count=np.zeros_like(made.cells.count))
    fitted = made.fit(cells=cells, leave_out=np.ones(12, bool))
    assert np.isnan(fitted.parameters).all()
    assert np.isnan(fitted.held_out_adu).all()
    assert np.all((fitted.dq & DQ.FIT_FAILED) != 0)


def test_an_absent_cell_is_not_a_zero():
    made = usual(low=2.5)
    count, signal = made.cells.count.copy(), made.cells.signal_adu.copy()
    count[11], signal[11] = 0, 0.0  # the warmest, longest cell: as a zero it would pull B far down
    fitted = made.fit(cells=replace(made.cells, count=count, signal_adu=signal))
    assert all(spread(z) == pytest.approx(1.0, abs=0.06) for z in pulls(made, fitted))
    assert np.all(fitted.dof + fitted.outliers == 8)
    assert (fitted.outliers > 0).mean() < 1e-3


def test_cells_of_one_temperature_do_not_make_up_a_slope():
    """The pixel has all its cells at 0 °C: its B is that of the prior, with the prior's error; its dark there is well
    known."""
    made = usual(pixels=30, low=2.5)
    count = made.cells.count.copy()
    count[:8] = 0
    fitted = made.fit(cells=replace(made.cells, count=count))
    known = np.isfinite(fitted.parameters[0])
    np.testing.assert_allclose(fitted.parameters[2, known], 0.11, atol=0.02)
    np.testing.assert_allclose(np.sqrt(fitted.covariance[5, known]), 0.1, rtol=0.05)


# ---- bounds


def test_a_parameter_at_its_bound_is_flagged():
    made = usual(pixels=50, low=3.0)
    steep = made.signal * (made.exposure_s[:, None] / 30.0) ** 4  # gamma 5
    fitted = made.with_signal(steep).fit()
    assert np.all((fitted.dq & DQ.AT_BOUND) != 0)
    np.testing.assert_array_equal(fitted.parameters[1], 3.0)
    falling = made.signal * np.exp(-0.5 * (made.temperature_c[:, None] + 5.0))  # B about -0.38
    fitted = made.with_signal(falling).fit()
    assert np.all((fitted.dq & DQ.AT_BOUND) != 0)
    np.testing.assert_array_equal(fitted.parameters[2], -0.1)
    assert not (usual(low=2.0).fit().dq & DQ.AT_BOUND).any()


def test_fixed_parameters_are_never_at_a_bound():
    for model, cells in ((EXP_1D, grid(np.arange(-20, 3, 4), [120])), (EXP_T, grid([0], [5, 30, 120, 300]))):
        assert not (usual(model, pixels=200, low=2.5, cells=cells).fit().dq & DQ.AT_BOUND).any()


# ---- nonsense


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_signal_that_is_no_number_is_an_absent_cell(bad):
    made = usual(pixels=50)
    signal, count = made.cells.signal_adu.copy(), made.cells.count.copy()
    signal[3], count[3] = bad, 0
    absent = made.fit(cells=replace(made.cells, count=count))
    np.testing.assert_array_equal(made.with_signal(signal).fit().parameters, absent.parameters)


@pytest.mark.parametrize("field", ["read_variance_adu2", "group_variance_adu2", "relative_variance",
                                   "extra_variance_adu2"])  # fmt: skip
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_noise_that_is_no_number_gives_no_wrong_answer(model, field):
    """NaN in what is known of the noise: no parameters and no prediction with an error made up."""
    made = usual(model, pixels=20, bias_sigma_adu=5.0)
    poisoned = getattr(made.cells, field).astype(getattr(made.cells, field).dtype, copy=True)
    poisoned[...] = np.nan
    fitted = made.fit(cells=replace(made.cells, **{field: poisoned}), leave_out=np.ones(12, bool))
    assert np.all((fitted.dq & DQ.FIT_FAILED) != 0)
    assert np.isnan(fitted.parameters).all()
    assert np.isnan(fitted.covariance).all()
    assert not np.isfinite(fitted.held_out_variance_adu2).any()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_units_do_not_matter(model, scale):
    """The same pixels in other units of signal have the same shape."""
    made = usual(model, pixels=200, low=2.5, bias_sigma_adu=1.0)
    c = made.cells
    cells = replace(
        c, signal_adu=(c.signal_adu * scale).astype(np.float32),
        read_variance_adu2=(c.read_variance_adu2 * scale**2).astype(np.float32),
        gain_e_per_adu=c.gain_e_per_adu / scale,
        group_variance_adu2=(c.group_variance_adu2 * scale**2).astype(np.float32),
    )  # fmt: skip
    start = made.prior().mean.copy()
    fitted = fit_tile(made.problem, cells, made.prior(), start)
    usual_fit = made.fit()
    np.testing.assert_allclose(fitted.parameters[0], usual_fit.parameters[0] * scale, rtol=1e-3)
    np.testing.assert_allclose(fitted.chi2, usual_fit.chi2, rtol=1e-2)


def test_absurd_signals_do_not_give_a_finite_answer_with_a_good_chi2():
    rng = np.random.default_rng(9)
    made = usual(pixels=300)
    wild = (rng.normal(size=made.signal.shape) * 10.0 ** rng.uniform(-30, 30, made.signal.shape)).astype(np.float32)
    fitted = made.with_signal(wild).fit(leave_out=np.ones(12, bool))
    good = np.isfinite(fitted.parameters[0])
    assert np.all(((fitted.dq & DQ.FIT_FAILED) != 0) == ~good)
    # a single wild cell may stand out of eleven that are next to nothing: then it is the outlier
    assert np.all((fitted.chi2[good] / fitted.dof[good] > 10) | ((fitted.dq[good] & DQ.OUTLIER) != 0))
    assert (fitted.chi2[good] / fitted.dof[good] > 10).mean() > 0.95


# ---- the relative term


def test_the_relative_term_takes_the_weight_from_bright_cells():
    """2 % of multiplicative error: without the term the errors are many times too small and cells are thrown out."""
    made = usual(relative=0.02, low=3.5)
    known = made.fit()
    assert all(spread(z) == pytest.approx(1.0, abs=0.05) for z in pulls(made, known))
    assert (known.outliers > 0).mean() < 1e-3
    ignored = made.fit(cells=replace(made.cells, relative_variance=np.zeros(12)))
    assert (ignored.outliers > 0).mean() > 0.2
    assert spread(pulls(made, ignored)[2]) > 1.5
