"""The prior by signal level: what is found of the population, and what it does to pixels, faint and other."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, GRID_24, full, pulls, scene, signal_of, spread

from darkpipe.science.fit import fit_tile
from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT
from darkpipe.science.population import Population, prior_and_start, prior_of, with_shape_prior
from darkpipe.science.shape_nodes import estimate_shape_prior
from darkpipe.science.shape_prior import ShapePrior, held_by_prior, parts_of_prior, with_common_error

PIXELS = 8000
KNOWN = Population(0.98, 0.13)


def crowd(bulk, *, model=EXP_2D, cells=GRID_24, gamma=1.0, b=0.125, hot=0.004, pixels=PIXELS, seed=3, **noise):
    """A bulk of about one level with a scatter of shapes, and hot pixels of another shape."""
    rng = np.random.default_rng(seed)
    is_hot = rng.random(pixels) < hot
    level = bulk * np.exp(rng.normal(0, 0.25, pixels))
    excess = np.where(is_hot, max(bulk, 1.0) * 10 ** rng.uniform(0.3, 3.0, pixels), 0.0)
    noise = {"read_noise_adu": 3.0, "bias_sigma_adu": 0.7, "seed": seed, **noise}
    if model is TWO_COMPONENT:
        share = np.clip(rng.normal(0.45, 0.1, pixels), 0, 1)
        generation, diffusion = (share * level + excess) / 200, (1 - share) * level / 200
        made = scene(generation, model=model, diffusion_adu_s=diffusion, cells=cells, **noise)
    else:
        growth = np.where(is_hot, rng.normal(0.1, 0.008, pixels), rng.normal(b, 0.006, pixels))
        shape = {"gamma": rng.normal(gamma, 0.015, pixels), "b_per_k": growth}
        made = scene(level + excess, model=model, cells=cells, **shape, **noise)
    return made, is_hot


def learnt(made, known=KNOWN):
    return with_shape_prior(made.problem, made.cells, known)


def fits(made, population):
    prior, start = prior_of(made.problem, population, made.cells)
    return prior, fit_tile(made.problem, made.cells, prior, start)


def wide_and_by_level(made):
    return fits(made, KNOWN)[1], fits(made, learnt(made))[1]


def test_mean_and_scatter_of_well_measured_pixels_are_found():
    made, _ = crowd(500.0, hot=0.03)
    shapes = learnt(made).shape_prior
    mean, covariance = shapes.at(np.array([500.0]))
    assert mean[:, 0] == pytest.approx([1.0, 0.125], abs=0.001)
    assert np.sqrt(np.diagonal(covariance[:, :, 0])) == pytest.approx([0.015, 0.006], rel=0.12)
    hot, _ = shapes.at(np.array([2e4]))
    assert hot[1, 0] == pytest.approx(0.1, abs=0.003)


def test_the_share_of_generation_is_found():
    made, _ = crowd(3000.0, model=TWO_COMPONENT)
    mean, covariance = learnt(made).shape_prior.at(np.array([15.0]))
    assert mean[0, 0] == pytest.approx(0.45, abs=0.03)
    assert np.sqrt(covariance[0, 0, 0]) == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("start", [Population(1.0, 0.125), Population(0.9, 0.11)])
def test_the_mean_shape_is_known_where_no_pixel_can_tell(start):
    """At a signal of one read noise the error of a single pixel's B is ten times that of the node's mean, and more."""
    made, _ = crowd(3.0, gamma=0.97, b=0.14)
    mean, _ = with_shape_prior(made.problem, made.cells, start).shape_prior.at(np.array([3.0]))
    assert mean[0, 0] == pytest.approx(0.97, abs=0.012)
    assert mean[1, 0] == pytest.approx(0.14, abs=0.0025)
    alone = np.sqrt(np.median(made.fit(weak=False).covariance[5]))
    assert alone > 0.025


@pytest.mark.parametrize(("model", "which"), [(EXP_1D, 1), (EXP_T, 0)])
def test_models_of_one_axis(model, which):
    cells = (np.repeat(np.arange(-20.0, 3, 4), 2), np.full(12, 120.0))
    if model is EXP_T:
        cells = (np.zeros(8), np.array([5.0, 10, 30, 60, 120, 200, 300, 400]))
    made, _ = crowd(200.0, model=model, cells=cells)
    mean, _ = learnt(made).shape_prior.at(np.array([200.0]))
    assert mean.shape == (1, 1)
    assert mean[0, 0] == pytest.approx([1.0, 0.125][which], abs=[0.003, 0.001][which])


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
@pytest.mark.parametrize(
    ("bulk", "noise"), [(1.0, {}), (3.0, {}), (10.0, {}), (3.0, {"count": 2}), (3.0, {"cells": GRID_12})]
)
def test_faint_pixels_gain_and_stay_unbiased_with_true_errors(model, bulk, noise):
    made, hot = crowd(bulk, model=model, **noise)
    wide, level = wide_and_by_level(made)
    dark = ~hot
    off = signal_of(made.problem, level.parameters) - made.signal
    before = signal_of(made.problem, wide.parameters) - made.signal
    assert np.abs(off[:, dark]).mean() < 0.9 * np.abs(before[:, dark]).mean()
    assert np.abs(off[:, hot]).mean() < 1.05 * np.abs(before[:, hot]).mean()
    scatter = off[:, dark].std(axis=1) / np.sqrt(dark.sum())
    assert np.all(np.abs(off[:, dark].mean(axis=1)) < 0.05 + 3 * scatter)
    error = predicted_error(made, level)
    spreads = [spread(z) for z in (off / error)[:, dark]]
    assert np.median(spreads) == pytest.approx(1.0, abs=0.08)


def predicted_error(made, fitted):
    x = made.problem.design
    predicted = signal_of(made.problem, fitted.parameters)
    covariance = full(fitted.covariance)
    errors = []
    for k in range(x.shape[1]):
        if made.model is TWO_COMPONENT:
            jac = np.repeat(x[:, k : k + 1], predicted.shape[1], axis=1)
        else:
            unit = np.exp(x[0, k] * fitted.parameters[1] + x[1, k] * fitted.parameters[2])
            jac = np.stack([unit, predicted[k] * x[0, k], predicted[k] * x[1, k]])
        errors.append(np.sqrt(np.einsum("ap,pab,bp->p", jac, covariance, jac)))
    return np.array(errors)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_pixels_that_can_tell_are_left_alone(model):
    """Bright pixels, among them some of other physics at the level of the rest."""
    made, hot = crowd(3000.0, model=model)
    odd = slice(0, 40)
    truth = made.truth.copy()
    truth[:, odd] = np.array([[18.0], [-3.0], [0.0]]) if model is TWO_COMPONENT else np.array([[3000.0], [1.0], [0.03]])
    signal = signal_of(made.problem, truth)
    values = made.cells.signal_adu.copy()
    noise = np.sqrt(np.maximum(signal[:, odd], 0) / 10 + 1)
    values[:, odd] = signal[:, odd] + np.random.default_rng(1).normal(size=(24, 40)) * noise
    made = replace(made.with_signal(values), truth=truth, signal=signal)
    wide, level = wide_and_by_level(made)
    rows = [0, 3] if model is TWO_COMPONENT else [0, 3, 5]
    shift = np.abs(level.parameters - wide.parameters)[: len(rows)] / np.sqrt(wide.covariance[rows])
    assert np.max(shift[:, odd]) < 0.1
    assert np.median(shift[:, hot]) < 0.1


def test_a_pixel_below_the_faintest_node_has_its_shape():
    made, _ = crowd(3.0, hot=0.0)
    shapes = learnt(made).shape_prior
    lowest = shapes.nodes[0]
    mean, covariance = shapes.at(np.array([-50.0, 0.0, lowest.level, np.nan]))
    assert np.all(mean == np.array(lowest.mean)[:, None])
    assert np.allclose(covariance[0, 0], lowest.covariance[0])
    negative = made.with_signal(made.cells.signal_adu - 40.0)
    _, fitted = fits(negative, learnt(made))
    assert np.isfinite(fitted.parameters).all()
    assert np.all(fitted.parameters[0] < 0)


def test_hot_pixels_do_not_speak_for_faint_ones():
    """Their level differs by decades and they tell their shape exactly; the faint ones tell little, and otherwise."""
    made, _ = crowd(1.0, hot=0.03)
    mean, covariance = learnt(made).shape_prior.at(np.array([1.0, 300.0]))
    assert mean[1, 1] == pytest.approx(0.1, abs=0.003)
    assert abs(mean[1, 0] - 0.125) < 2.5 * np.sqrt(covariance[1, 1, 0])
    assert mean[1, 0] > 0.115


@pytest.mark.parametrize("pixels", [0, 50])
def test_too_few_pixels_give_none(pixels):
    made, _ = crowd(30.0)
    population = with_shape_prior(made.problem, made.cells.at(np.arange(pixels)), KNOWN)
    assert population == KNOWN
    weak, start = prior_and_start(made.problem, KNOWN, made.cells.free_level)
    prior, own_start = prior_of(made.problem, population, made.cells)
    assert np.array_equal(prior.precision, weak.precision)
    assert np.array_equal(own_start, start)


def test_a_model_without_such_a_shape_has_none():
    made, _ = crowd(30.0, model=TWO_COMPONENT)
    glowing = replace(made.problem, free=np.array([True, True, True]))
    assert estimate_shape_prior(glowing, made.cells, [0.5]) is None


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_a_sensor_without_signal_learns_next_to_nothing(model):
    made = scene(np.zeros(4000), model=model, diffusion_adu_s=0.0, read_noise_adu=3.0, seed=5)
    population = learnt(made)
    fitted = fits(made, population)[1]
    assert np.isfinite(fitted.parameters).all()
    assert np.abs(signal_of(made.problem, fitted.parameters)).max() < 60
    if model is EXP_2D:
        assert np.abs(fitted.parameters[2] - 0.13).max() < 0.3


def test_a_free_level_keeps_the_prior_of_a_linear_sensor():
    made, _ = crowd(300.0, free_level=True)
    population = learnt(made)
    mean, _ = population.shape_prior.at(np.array([300.0]))
    assert mean[1, 0] == pytest.approx(0.125, abs=0.002)
    prior, fitted = fits(made, population)
    assert np.all(prior.precision[3] >= 1 / 0.1**2)
    assert spread(pulls(made, fitted)[2]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_what_the_prior_holds(model):
    faint, _ = crowd(2.0, model=model)
    bright, _ = crowd(20_000.0, model=model)
    for made, share in ((faint, 1.0), (bright, 0.0)):
        prior, fitted = fits(made, learnt(made))
        assert held_by_prior(made.problem, parts_of_prior(prior, fitted.covariance)).mean() == pytest.approx(
            share, abs=0.02
        )
    none = np.full((6, 3), np.nan)
    parts = parts_of_prior(replace(prior, precision=prior.precision[:, :3]), none)
    assert not held_by_prior(faint.problem, parts).any()


def test_half_of_the_information_is_the_limit():
    made, _ = crowd(30.0, pixels=200)
    weak = made.prior(weak=False)
    data = fit_tile(made.problem, made.cells, weak, weak.mean.copy()).covariance[5]
    for factor, expected in ((0.5, False), (2.0, True)):
        precision = weak.precision.copy()
        precision[5] = factor / data  # of B alone
        prior = replace(weak, precision=precision)
        fitted = fit_tile(made.problem, made.cells, prior, weak.mean.copy())
        assert (held_by_prior(made.problem, parts_of_prior(prior, fitted.covariance)) == expected).mean() > 0.95


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_what_drifts_in_all_pixels_is_in_the_prior_and_in_what_it_makes(model):
    """Pedestals of cells and of their biases that drift, in twelve campaigns of one sensor."""
    cell, bias, level = 0.6, 0.5, 60.0
    made, hot = crowd(level, model=model, cells=GRID_12, pixels=1500, read_noise_adu=1.0, bias_sigma_adu=0.0)
    groups = made.cells.group_variance_adu2.shape[0]
    known = replace(
        made.cells,
        extra_variance_adu2=np.full(made.temperature_c.size, cell**2),
        group_variance_adu2=np.full((groups, hot.size), np.float32(bias**2)),
        group_drift_adu2=np.full(groups, bias**2),
    )
    off, of_prior, stated, blind = [], [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        drift = cell * rng.normal(size=made.temperature_c.size) - bias * rng.normal(size=groups)[known.group]
        signal = made.cells.signal_adu + drift[:, None].astype(np.float32)
        some = replace(made, cells=replace(known, signal_adu=signal))
        population = learnt(some)
        prior, fitted = fits(some, population)
        of_prior.append(population.shape_prior.at(np.array([level]))[0][-1, 0])
        blind.append(population.shape_prior.shared_at(np.array([level]))[-1, -1, 0])
        departure, error = shape_error(made, fitted.parameters, with_common_error(prior, fitted.covariance))
        off.append(np.median(departure[~hot]))
        stated.append(np.median(error[~hot]) ** 2 - spread(departure[~hot]) ** 2)
    # a spread of twelve is known to a fifth
    assert np.std(of_prior) / np.sqrt(np.mean(blind)) == pytest.approx(1.0, abs=0.5)
    assert np.std(off) / np.sqrt(np.mean(stated)) == pytest.approx(1.0, abs=0.5)


def shape_error(made, parameters, covariance):
    """By how much the last shape parameter of each pixel is off, times its level for two currents, and its error."""
    p, truth = parameters, made.truth
    if made.model is EXP_2D:
        return p[2] - truth[2], np.sqrt(covariance[5])
    share = truth[0] / (truth[0] + truth[1])
    error = (1 - share) ** 2 * covariance[0] - 2 * share * (1 - share) * covariance[1] + share**2 * covariance[3]
    return (1 - share) * (p[0] - truth[0]) - share * (p[1] - truth[1]), np.sqrt(error)


def test_without_drift_nothing_is_in_common():
    made, _ = crowd(60.0, pixels=1000)
    prior, fitted = fits(made, learnt(made))
    assert not prior.twice.any()
    assert with_common_error(prior, fitted.covariance) is fitted.covariance


def test_it_survives_as_plain_data():
    shapes = learnt(crowd(30.0)[0]).shape_prior
    assert ShapePrior.from_dict(shapes.to_dict()) == shapes
    population = replace(KNOWN, shape_prior=shapes)
    written = population.to_dict()  # with six digits
    assert Population.from_dict(written).to_dict() == written
    assert Population.from_dict(written).shape_prior.nodes[0].level == pytest.approx(shapes.nodes[0].level, rel=1e-5)


@pytest.mark.parametrize("damage", [{"nodes": []}, {"start": [1.0]}, {"start": None}, {"nodes": [{"level": 1.0}]}])
def test_damaged_data_are_refused(damage):
    data = learnt(crowd(30.0)[0]).shape_prior.to_dict()
    with pytest.raises((KeyError, TypeError, ValueError)):
        ShapePrior.from_dict({**data, **damage})
