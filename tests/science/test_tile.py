"""A tile as step 5 asks for it: maps, held-out errors, bits."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, full, grid, scene
from scipy.stats import chi2

from darkpipe.science.design import make_unit
from darkpipe.science.flags import DQ
from darkpipe.science.metrics import accumulate
from darkpipe.science.models import EXP_2D, TWO_COMPONENT
from darkpipe.science.population import Misfit, Population, with_shape_prior
from darkpipe.science.saturation import Saturation
from darkpipe.science.tile import bits_of, fit_unit

PIXELS = 3000
N = GRID_12[0].size
KNOWN = Population(1.0, 0.12, 0.0)


def crowd(model=EXP_2D, low=1.3, high=4.0, pixels=PIXELS, **noise):
    amplitude = 10 ** np.random.default_rng(1).uniform(low, high, pixels)
    if model is TWO_COMPONENT:
        return scene(amplitude / 200, model=model, diffusion_adu_s=amplitude / 200, **noise)
    return scene(amplitude, **noise)


def unsaturated(pixels=PIXELS, top=1e9):
    return Saturation(np.full(pixels, np.float32(np.nan)), np.zeros(pixels, np.uint8), top)


def own_error(made):
    """(n, P) 1 sigma of each master, its bias's included, as a master's ERR plane says it."""
    c = made.cells
    shared = c.group_variance_adu2[c.group]
    own = (c.read_variance_adu2 + np.maximum(c.signal_adu, 0) / c.gain_e_per_adu) / np.maximum(c.count, 1)
    return np.sqrt(own + np.where(np.isfinite(shared), shared, 0)).astype(np.float32)


def fit(made, *, population=KNOWN, flagged=None, saturation=None, leave_out=None, cells=None):
    t, e = made.temperature_c, made.exposure_s
    unit = make_unit(made.model, "", tuple(range(t.size)), t, e, float(t.mean()), 1.12)
    pixels = made.truth.shape[1]
    flags = np.zeros(pixels, bool) if flagged is None else flagged
    leave = [True] * t.size if leave_out is None else leave_out
    cells = cells or made.cells
    full = saturation or unsaturated(pixels)
    free = np.isinf(cells.group_variance_adu2).all(axis=1)
    return fit_unit(unit, cells, own_error(made), t, e, population, flags, full, leave, free)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
@pytest.mark.parametrize("noise", [{}, {"bias_sigma_adu": 2.0}, {"free_level": True}, {"count": [2, 40] * 6}])
def test_held_out_pulls_have_unit_spread(model, noise):
    made = crowd(model, **noise)
    for errors in fit(made).held_out:
        summary = errors.summary()
        assert summary["n_pixels"] == pytest.approx(PIXELS, rel=0.002)
        assert summary["pull_spread"] == pytest.approx(1.0, abs=0.07)
        assert summary["pull_median"] == pytest.approx(0.0, abs=0.08)
        assert summary["pull_outlier_fraction"] < 2e-3
    total = sum((e for e in fit(made).held_out[1:]), fit(made).held_out[0])
    assert total.summary()["pull_spread"] == pytest.approx(1.0, abs=0.03)


def test_the_relative_error_of_the_population_is_in_the_pulls():
    made = crowd(low=3.5, relative=0.02)
    blind = replace(made, cells=replace(made.cells, relative_variance=np.zeros(made.temperature_c.size)))
    known = fit(blind, population=replace(KNOWN, misfits=(Misfit(1000.0, 0.02, 0.0),)))
    spread = [e.summary()["pull_spread"] for e in known.held_out]
    assert np.mean(spread) == pytest.approx(1.0, abs=0.04)
    assert np.mean([e.summary()["pull_spread"] for e in fit(blind).held_out]) > 1.5


def test_parameters_are_quoted_at_the_reference_of_the_maps():
    made = crowd(low=3.0, bias_sigma_adu=1.0)
    found = fit(made)
    # A t^gamma exp(B (T - T_min)): signal at 1 s and the coldest temperature
    truth = made.truth[0] * np.exp(-np.log(made.reference.exposure_s) + 0.12 * (-10 - made.reference.temperature_c))
    pull = (found.parameters[0] - truth) / np.sqrt(found.covariance[0])
    assert np.std(pull) == pytest.approx(1.0, abs=0.06)
    assert np.all(np.linalg.eigvalsh(full(found.covariance.astype(float))[:, :2, :2]) > 0)
    assert found.parameters.dtype == found.covariance.dtype == np.float32


def test_errors_are_those_of_plain_numpy():
    made = crowd(bias_sigma_adu=1.0)
    found = fit(made)
    unit = make_unit(made.model, "", tuple(range(N)), *GRID_12, -5.0, 1.12)
    x = made.model.design(*GRID_12, unit.map_reference)
    p = found.parameters.astype(float)
    value = p[0] * np.exp(x[0][:, None] * p[1] + x[1][:, None] * p[2])
    for k in (0, 7, 11):
        inside = found.in_sample[k].summary()
        assert inside["mae_adu"] == pytest.approx(np.abs(value[k] - made.cells.signal_adu[k]).mean(), rel=1e-3)
        held = found.held_out[k].summary()
        assert held["mae_adu"] == pytest.approx(np.abs(found.held_out_error_adu[k]).mean(), rel=1e-5)
        assert held["mae_adu"] > inside["mae_adu"]
        assert held["noise_floor_adu"] == pytest.approx(np.sqrt(2 / np.pi) * own_error(made)[k].mean(), rel=1e-4)


def test_the_baseline_scales_the_nearest_master():
    made = crowd()
    found = fit(made)
    signal, error = made.cells.signal_adu, own_error(made)
    factor = np.float32(10 / 300)  # the cell of 10 s at -10 °C against that of 300 s
    expected = accumulate(signal[3] * factor, error[3] * factor, signal[0], error[0], np.zeros(PIXELS, bool))
    assert found.baseline[0].summary()["mae_adu"] == pytest.approx(expected.summary()["mae_adu"], rel=1e-6)


def test_only_what_the_design_can_do_without_is_left_out():
    made = crowd(pixels=50)
    leave = [k != 4 for k in range(N)]
    found = fit(made, leave_out=leave)
    assert found.held_out[4].summary()["n_pixels"] == 0
    assert np.isnan(found.held_out_error_adu[4]).all()
    assert found.in_sample[4].summary()["n_pixels"] == 50
    assert found.baseline[4].summary()["n_pixels"] == 50


def test_flagged_pixels_are_kept_apart():
    made = crowd()
    flagged = np.zeros(PIXELS, bool)
    flagged[:500] = True
    summary = fit(made, flagged=flagged).held_out[3].summary()
    assert (summary["n_pixels"], summary["n_pixels_unflagged"]) == (PIXELS, PIXELS - 500)


def test_a_pixel_without_cells_has_no_map_and_no_error():
    made = crowd(pixels=60)
    made.cells.count[:, :20] = 0
    found = fit(made)
    assert np.isnan(found.parameters[:, :20]).all()
    assert np.isnan(found.covariance[:, :20]).all()
    assert np.isnan(found.held_out_error_adu[:, :20]).all()
    assert np.all(found.dq[:20] & DQ.FIT_FAILED)
    assert np.all(bits_of(found)[:20] & DQ.FIT_FAILED)
    assert found.in_sample[0].summary()["n_pixels"] == 40
    assert np.isfinite(found.parameters[:, 20:]).all()


def test_a_free_level_is_given_out_and_counted_in():
    made = crowd(TWO_COMPONENT, low=2.0, free_level=True)
    found = fit(made)
    assert found.offset_adu is not None
    assert np.median(found.offset_adu[0]) == pytest.approx(7.0, abs=0.2)
    for k in (0, N - 1):
        summary = found.in_sample[k].summary()
        assert summary["median_error_adu"] == pytest.approx(0.0, abs=1.0 + 0.003 * np.median(made.signal[k]))
    assert fit(crowd(pixels=20)).offset_adu is None


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_cells_on_the_plateau_are_not_fitted_and_no_dark_exceeds_it(model):
    made = crowd(model, low=3.5, high=4.3)
    top = 20_000.0
    signal = np.minimum(made.cells.signal_adu, top).astype(np.float32)
    reached = made.signal > top
    assert 0.01 < reached.mean() < 0.5
    level = np.where(reached.sum(axis=0) > 0, top, np.nan).astype(np.float32)
    saturation = Saturation(level, reached.sum(axis=0).astype(np.uint8), top)
    found = fit(made.with_signal(signal), saturation=saturation)
    rest = fit(made.with_signal(np.where(saturation.reached(signal), np.nan, signal)))
    np.testing.assert_array_equal(found.parameters, rest.parameters)
    assert np.nanmax(found.held_out_error_adu + signal) <= top * 1.0001
    assert np.nanmax(np.abs(found.held_out_error_adu[reached])) < top  # a clipped prediction, not a free one


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_the_bits_tell_what_the_model_does_not_describe(model):
    made = crowd(model, low=3.0, pixels=600)
    signal = made.cells.signal_adu.copy()
    # the response of 200 pixels bends by up to a third; the masters of 200 others are high and low at random
    top = signal.max(axis=0)
    signal[:, :200] *= 1 - 0.33 * signal[:, :200] / top[:200]
    signal[:, 200:400] *= np.random.default_rng(3).choice([0.7, 1.3], signal[:, 200:400].shape)
    bits = bits_of(fit(made.with_signal(signal.astype(np.float32))))
    bent, shaky = (bits & DQ.NONLINEAR) != 0, (bits & DQ.UNSTABLE) != 0
    assert bent[:200].mean() > 0.9
    assert shaky[:200].mean() < 0.05
    assert (bent | shaky)[200:400].mean() > 0.95
    assert shaky[200:400].mean() > 0.7
    assert (bent | shaky)[400:].mean() < 0.01


def test_chi2_is_judged_by_the_degrees_of_freedom_that_a_prior_spares():
    """Faint pixels whose noise is larger than stated, so that their chi² lie about the limit."""
    made = scene(np.full(PIXELS, 2.0), read_noise_adu=10.0)
    made = replace(made, cells=replace(made.cells, read_variance_adu2=np.full(PIXELS, np.float32(32.0))))
    known = with_shape_prior(made.problem, made.cells, KNOWN)
    found = fit(made, population=known)
    assert np.median(found.dof) == N - 1  # of three parameters one is the pixel's own
    limit = np.maximum(found.dof + 6.0 * np.sqrt(2.0 * found.dof), chi2.isf(1e-4, found.dof))
    np.testing.assert_array_equal(found.misfit, found.chi2 > limit)
    assert 0.1 < found.misfit.mean() < 0.9


def test_good_pixels_have_no_bits():
    made = crowd(low=2.5, pixels=PIXELS, bias_sigma_adu=1.0)
    assert (bits_of(fit(made)) != 0).mean() < 2e-3


def test_a_tile_is_the_sum_of_its_parts():
    """Neither the size of a tile nor its neighbours change a pixel; sums add up."""
    made = crowd(pixels=300, bias_sigma_adu=1.0)
    whole = fit(made)
    parts = []
    for part in (np.arange(100), np.arange(100, 300)):
        some = replace(made, cells=made.cells.at(part), truth=made.truth[:, part], signal=made.signal[:, part])
        parts.append(fit(some))
    for name in ("parameters", "covariance", "chi2", "dof", "dq", "held_out_error_adu"):
        np.testing.assert_array_equal(
            getattr(whole, name), np.concatenate([getattr(p, name) for p in parts], axis=-1), err_msg=name
        )
    for name in ("held_out", "in_sample", "baseline"):
        for k in range(N):
            assert getattr(whole, name)[k] == getattr(parts[0], name)[k] + getattr(parts[1], name)[k]


def test_a_campaign_of_two_cells_has_no_held_out_error():
    made = scene(np.full(20, 500.0) / 200, model=TWO_COMPONENT, diffusion_adu_s=2.0, cells=grid([-10, 0], [300]))
    found = fit(made, leave_out=[False, False])
    assert np.isfinite(found.parameters[:2]).all()
    assert np.isnan(found.held_out_error_adu).all()
    assert np.all(found.dof == 0)
    assert not bits_of(found).any()


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_pixels_that_borrow_their_shape_are_marked(model):
    """Faint pixels with the prior of their level; none of them without it, and no bright one."""
    rng = np.random.default_rng(2)
    level = 10 ** rng.uniform(0.0, 4.5, PIXELS)
    if model is EXP_2D:
        shape = {"gamma": rng.normal(1, 0.015, PIXELS), "b_per_k": rng.normal(0.12, 0.006, PIXELS)}
        made = scene(level, **shape, bias_sigma_adu=1.0)
    else:
        share = rng.uniform(0.2, 0.7, PIXELS)
        rates = share * level / 200, (1 - share) * level / 200
        made = scene(rates[0], model=model, diffusion_adu_s=rates[1], bias_sigma_adu=1.0)
    known = with_shape_prior(made.problem, made.cells, KNOWN)
    marked = (fit(made, population=known).dq & DQ.PRIOR) != 0
    assert marked[level < np.quantile(level, 0.1)].mean() > 0.98
    assert marked[level > np.quantile(level, 0.95)].mean() < 0.05
    assert ((fit(made).dq & DQ.PRIOR) != 0).mean() < 0.3
    empty = fit(made, population=known, cells=replace(made.cells, count=np.zeros_like(made.cells.count)))
    assert not (empty.dq & DQ.PRIOR).any()
