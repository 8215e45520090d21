"""Level of a pixel and its departure from a shape, against dense generalised least squares."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, dense_covariance, scene, spread

from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT
from darkpipe.science.signal_level import inverse, measure, shape_at, shape_slots

NOISES = [{}, {"bias_sigma_adu": 3.0}, {"bias_sigma_adu": 1.0, "relative": 0.02, "extra": 4.0}]


def theta_of(model):
    return np.array({EXP_2D: [1.0, 0.12], EXP_1D: [0.12], EXP_T: [1.0], TWO_COMPONENT: [0.45]}[model])


def made_of(model, amplitude, pixels=40, **noise):
    if model is TWO_COMPONENT:
        total = np.full(pixels, amplitude / 200)
        return scene(0.45 * total, model=model, diffusion_adu_s=0.55 * total, **noise)
    return scene(np.full(pixels, float(amplitude)), model=model, **noise)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("model", [EXP_2D, EXP_1D, EXP_T, TWO_COMPONENT])
def test_it_is_generalised_least_squares(model, noise):
    made = made_of(model, 300, **noise)
    shape = shape_at(made.problem, theta_of(model))
    level = 1.5 if model is TWO_COMPONENT else 300.0
    found = measure(shape, made.cells, np.full(40, level))
    for pixel in (0, 17):
        v = dense_covariance(made, pixel, level * shape.signal)
        design = np.concatenate([shape.signal[None], shape.slopes]).T
        normal = design.T @ np.linalg.solve(v, design)
        y = made.cells.signal_adu[:, pixel].astype(float)
        both = np.linalg.solve(normal, design.T @ np.linalg.solve(v, y))
        alone = (shape.signal @ np.linalg.solve(v, y)) / normal[0, 0]
        residual = y - design @ both
        assert found.level[pixel] == pytest.approx(alone, rel=1e-5)
        assert found.level_information[pixel] == pytest.approx(normal[0, 0], rel=1e-5)
        assert found.departure[:, pixel] == pytest.approx(both[1:], rel=1e-3, abs=1e-4)
        assert inverse(found.information)[:, :, pixel] == pytest.approx(np.linalg.inv(normal)[1:, 1:], rel=1e-4)
        assert found.chi2[pixel] == pytest.approx(residual @ np.linalg.solve(v, residual), rel=1e-3)
        assert found.dof[pixel] == 12 - design.shape[1]


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_a_free_level_does_not_matter(model):
    made = made_of(model, 500, free_level=True)
    shape = shape_at(made.problem, theta_of(model))
    moved = made.with_signal(made.cells.signal_adu + 50.0)
    known = np.full(40, 2.0 if model is TWO_COMPONENT else 400.0)
    one, other = measure(shape, made.cells, known), measure(shape, moved.cells, known)
    assert one.level == pytest.approx(other.level, rel=1e-4)
    assert one.departure == pytest.approx(other.departure, rel=1e-2, abs=1e-2)


def test_levels_and_departures_of_faint_pixels_are_independent_with_their_errors():
    made = scene(np.full(20_000, 3.0), read_noise_adu=3.0, bias_sigma_adu=0.7, seed=2)
    found = measure(shape_at(made.problem, np.array([1.0, 0.12])), made.cells, np.full(20_000, 3.0))
    assert spread((found.level - 3.0) * np.sqrt(found.level_information)) == pytest.approx(1.0, abs=0.03)
    errors = np.sqrt(np.einsum("aap->ap", inverse(found.information)))
    pulls = found.departure / errors
    assert [spread(p) for p in pulls] == pytest.approx([1.0, 1.0], abs=0.03)
    assert np.corrcoef(np.vstack([found.level, found.departure]))[0, 1:] == pytest.approx([0.0, 0.0], abs=0.03)
    high = found.level > np.quantile(found.level, 0.9)  # chosen by their noise, which looks like signal, not like shape
    assert pulls[:, high].mean(axis=1) == pytest.approx([0.0, 0.0], abs=4 / np.sqrt(high.sum()))


def test_the_weights_follow_each_pixels_own_level():
    made = scene([5.0, 500.0, 50_000.0], poisson=False)
    shape = shape_at(made.problem, np.array([1.0, 0.12]))
    own = measure(shape, made.cells)
    assert own.level == pytest.approx(measure(shape, made.cells, own.level).level, rel=1e-3)


def test_what_the_cells_do_not_tell_is_no_number():
    made = scene(np.full(4, 100.0))
    count = made.cells.count.copy()
    signal = made.cells.signal_adu.copy()
    count[:, 0] = 0  # no cell
    signal[1:, 1] = np.nan  # one cell: a level, no shape
    signal[:8, 2] = np.nan  # one temperature
    found = measure(shape_at(made.problem, np.array([1.0, 0.12])), replace(made.cells, signal_adu=signal, count=count))
    assert np.isnan(found.level[0])
    assert np.isfinite(found.level[1:]).all()
    assert np.isnan(found.chi2[:3]).all()
    assert np.isfinite(found.chi2[3])


def test_the_slots_of_the_shape():
    made = {model: made_of(model, 100, pixels=2).problem for model in (EXP_2D, EXP_1D, EXP_T, TWO_COMPONENT)}
    assert [shape_slots(p) for p in made.values()] == [(1, 2), (2,), (1,), (0,)]
    glowing = replace(made[TWO_COMPONENT], free=np.array([True, True, True]))
    assert shape_slots(glowing) == ()
    assert shape_at(made[EXP_2D], np.array([1.0, 0.12])).slopes.shape == (2, GRID_12[0].size)
