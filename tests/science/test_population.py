"""What the population of pixels tells: shape and multiplicative error."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, GRID_24, grid, pulls, scene, spread

from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT
from darkpipe.science.population import (
    TYPICAL_B,
    TYPICAL_GAMMA,
    Misfit,
    Population,
    estimate_population,
    prior_and_start,
    with_misfits,
)

PIXELS = 8000


def crowd(relative=0.0, *, model=EXP_2D, cells=GRID_12, gamma=0.98, b=0.135, low=2.0, seed=1, **noise):
    """Pixels of 100 to 10,000 ADU with a scatter of shapes; `relative` is in the data, not in what is known."""
    rng = np.random.default_rng(seed)
    amplitude = 10 ** rng.uniform(low, 4.0, PIXELS)
    if model is TWO_COMPONENT:
        a = amplitude / 200
        made = scene(a, model=model, diffusion_adu_s=a, cells=cells, relative=relative, seed=seed, **noise)
    else:
        shape = {"gamma": rng.normal(gamma, 0.015, PIXELS), "b_per_k": rng.normal(b, 0.006, PIXELS)}
        made = scene(amplitude, model=model, cells=cells, relative=relative, seed=seed, **shape, **noise)
    return replace(made, cells=replace(made.cells, relative_variance=np.zeros(cells[0].size)))


@pytest.mark.parametrize("relative", [0.0, 0.005, 0.02])
def test_shape_and_multiplicative_error_are_found(relative):
    made = crowd(relative, bias_sigma_adu=1.0)
    found = estimate_population(made.problem, made.cells)
    assert found.gamma == pytest.approx(0.98, abs=0.003)
    assert found.b_per_k == pytest.approx(0.135, abs=0.001)
    assert found.relative_error == pytest.approx(relative, rel=0.12, abs=0.0015)


@pytest.mark.parametrize("relative", [0.005, 0.02])
def test_the_multiplicative_error_of_the_physical_model(relative):
    made = crowd(relative, model=TWO_COMPONENT, cells=GRID_24, bias_sigma_adu=1.0)
    found = estimate_population(made.problem, made.cells)
    assert found.relative_error == pytest.approx(relative, rel=0.12)
    assert (found.gamma, found.b_per_k) == (TYPICAL_GAMMA, TYPICAL_B)  # not asked


@pytest.mark.parametrize("relative", [0.005, 0.02])
def test_it_makes_the_errors_true(relative):
    made = crowd(relative, cells=GRID_24)
    found = estimate_population(made.problem, made.cells)
    known = replace(made, cells=with_misfits(made.cells, found))
    assert all(spread(z) == pytest.approx(1.0, abs=0.06) for z in pulls(made, known.fit()))


@pytest.mark.parametrize("cells", [GRID_12, GRID_24])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_none_is_found_where_there_is_none(cells, seed):
    made = crowd(0.0, cells=cells, seed=seed, bias_sigma_adu=1.0)
    assert estimate_population(made.problem, made.cells).relative_error < 0.0015


@pytest.mark.parametrize(("fraction", "factor"), [(0.02, 1.4), (0.1, 2.0)])
def test_hot_and_telegraph_pixels_do_not_decide(fraction, factor):
    """Some pixels jump between cells, some are hot with another slope."""
    made = crowd(0.005, cells=GRID_24, bias_sigma_adu=1.0)
    rng = np.random.default_rng(7)
    signal = made.cells.signal_adu.copy()
    telegraph = rng.random(PIXELS) < fraction
    jumps = rng.random((24, telegraph.sum())) < 0.5
    signal[:, telegraph] += jumps * 5.0 * made.exposure_s[:, None]
    hot = rng.random(PIXELS) < 0.03
    slope = np.exp(0.09 * made.temperature_c) * made.exposure_s
    signal[:, hot] = 60.0 * slope[:, None] * (1 + 0.005 * rng.normal(size=(24, hot.sum())))
    found = estimate_population(made.problem, made.with_signal(signal).cells)
    assert found.gamma == pytest.approx(0.98, abs=0.005)
    assert found.b_per_k == pytest.approx(0.135, abs=0.002)
    assert 0.005 / factor < found.relative_error < 0.005 * factor


def test_missing_cells_are_no_trouble():
    made = crowd(0.01, bias_sigma_adu=1.0)
    rng = np.random.default_rng(8)
    signal, count = made.cells.signal_adu.copy(), made.cells.count.copy()
    signal[rng.random(signal.shape) < 0.05] = np.nan
    count[rng.random(signal.shape) < 0.05] = 0
    found = estimate_population(made.problem, replace(made.cells, signal_adu=signal, count=count))
    assert found.gamma == pytest.approx(0.98, abs=0.004)
    assert found.relative_error == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize(
    ("model", "cells"), [(EXP_1D, grid(np.arange(-20, 3, 4), [120])), (EXP_T, grid([0], [5, 10, 30, 60, 120, 300]))]
)
def test_a_model_of_one_axis_tells_its_own_shape_only(model, cells):
    made = crowd(model=model, cells=cells)
    found = estimate_population(made.problem, made.cells)
    assert found.gamma == (pytest.approx(0.98, abs=0.003) if model is EXP_T else TYPICAL_GAMMA)
    assert found.b_per_k == (pytest.approx(0.135, abs=0.001) if model is EXP_1D else TYPICAL_B)


def test_a_sensor_without_signal_keeps_what_is_typical():
    made = scene(np.full(2000, 0.5), seed=3)
    found = estimate_population(made.problem, made.cells)
    assert found == Population()


@pytest.mark.parametrize("how", ["no pixel", "nothing but NaN", "few pixels"])
def test_nothing_to_learn_from(how):
    made = crowd()
    if how == "nothing but NaN":
        cells = made.with_signal(np.full_like(made.cells.signal_adu, np.nan)).cells
    else:
        cells = made.cells.at(np.arange(0 if how == "no pixel" else 30))
    assert estimate_population(made.problem, cells) == Population()


def test_the_prior_hardly_moves_a_pixel_that_can_tell():
    made = crowd()
    prior, start = prior_and_start(made.problem, Population(1.2, 0.08, 0.0), np.zeros(PIXELS, np.bool_))
    assert prior.mean.shape == start.shape == (3, PIXELS)
    assert np.all(start[1] == 1.2)
    wide, own = made.fit(), made.fit(weak=False)
    shift = np.abs(wide.parameters - own.parameters) / np.sqrt(own.covariance[[0, 3, 5]])
    assert np.quantile(shift, 0.95) < 0.1


def test_a_population_survives_as_a_dictionary():
    found = Population(0.98, 0.135, (Misfit(700.0, 0.004, 0.0), Misfit(5000.0, 0.01, 0.2)), 0.3)
    assert Population.from_dict(found.to_dict()) == found
    with pytest.raises(KeyError):
        Population.from_dict({"gamma": 1.0})
