"""Predictions for planned campaigns against the textbook where there is one, and against what must follow."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from darkpipe.science.campaign import (
    CameraNoise,
    PixelKind,
    PlannedCells,
    Predicted,
    bias_error,
    figure_of_merit,
    predict,
    true_parameters,
)
from darkpipe.science.design import Unit, make_unit
from darkpipe.science.fit import Stations
from darkpipe.science.models import EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT, Model
from darkpipe.science.models.base import Reference
from darkpipe.science.population import Population
from darkpipe.science.sensor import growth

T = np.repeat([-10.0, -5.0, 0.0], 3)
S = np.tile([30.0, 100.0, 300.0], 3)
GROUP = np.repeat(np.arange(3), 3)
NOISE = CameraNoise(read_noise_adu=3.0, gain_e_per_adu=0.8)
BULK = PixelKind("bulk", 0.6, 0.125, 0.0)
HOT = PixelKind("hot", 40.0, 0.10, 0.0)
AT = (np.array([-7.5, 0.0, -10.0]), np.array([60.0, 300.0, 30.0]))


def plan(frames: int = 5, biases: int = 10, temperature_k: float = 0.0) -> PlannedCells:
    stations = Stations(GROUP, np.full(3, temperature_k**2))
    return PlannedCells(T, S, np.full(9, frames), GROUP, np.full(3, biases), stations)


def unit(model: Model) -> Unit:
    return make_unit(model, "", tuple(range(9)), T, S, -5.0, 1.12)


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
@pytest.mark.parametrize("kind", [BULK, HOT])
def test_parameters_have_the_current_and_the_growth(model: Model, kind: PixelKind) -> None:
    reference = unit(model).fit_reference
    p = true_parameters(model, kind, reference)[:, None]
    found = growth(model, p, np.zeros((6, 1)), reference, kind.temperature_c, 1.0)
    assert found.current_adu_s[0] == pytest.approx(kind.current_adu_s, rel=1e-5)
    assert found.per_k[0] == pytest.approx(kind.growth_per_k, rel=1e-4)


def test_parameters_of_models_of_one_axis() -> None:
    hot = true_parameters(EXP_T, HOT, Reference(-10.0, 100.0))
    np.testing.assert_allclose(hot, [40.0 * math.exp(-1.0) * 100.0, 1.0, 0.0])
    np.testing.assert_allclose(true_parameters(EXP_1D, HOT, Reference(-10.0, 1.0)), [40.0 * math.exp(-1.0), 0.0, 0.10])


def textbook_sigma(model: Model, kind: PixelKind, planned: PlannedCells) -> np.ndarray:
    """J (Jᵀ V⁻¹ J)⁻¹ Jᵀ with V written out, and no prior."""
    reference = unit(model).fit_reference
    p = true_parameters(model, kind, reference)

    def signal(parameters: np.ndarray, t: np.ndarray, s: np.ndarray) -> np.ndarray:
        x = model.design(t, s, reference)
        if model is TWO_COMPONENT:
            return parameters @ x
        return parameters[0] * np.exp(parameters[1] * x[0] + parameters[2] * x[1])

    def jacobian(t: np.ndarray, s: np.ndarray) -> np.ndarray:
        columns = []
        for i in np.flatnonzero(model.free):
            step = np.zeros(3)
            step[i] = 1e-5 * max(abs(p[i]), 1e-3)
            columns.append((signal(p + step, t, s) - signal(p - step, t, s)) / (2 * step[i]))
        return np.stack(columns, axis=1)

    own = (NOISE.read_noise_adu**2 + signal(p, T, S) / NOISE.gain_e_per_adu) / planned.frames
    shared = NOISE.read_noise_adu**2 / planned.bias_frames[0] * (GROUP[:, None] == GROUP[None, :])
    j = jacobian(T, S)
    information = j.T @ np.linalg.solve(np.diag(own) + shared, j)
    to = jacobian(*AT)
    return np.sqrt(np.einsum("ma,ab,mb->m", to, np.linalg.inv(information), to))


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_a_hot_pixel_has_the_errors_of_the_textbook(model: Model) -> None:
    # shapes that differ widely: the prior says next to nothing
    wide = (9.0,) if model is TWO_COMPONENT else (1.0, 0.0, 1.0)
    found = predict(unit(model), plan(), replace(HOT, scatter=wide), NOISE, *AT)
    np.testing.assert_allclose(found.error_adu, textbook_sigma(model, HOT, plan()), rtol=0.01)
    assert not found.shared_adu.any()


def test_a_known_shape_helps_a_faint_pixel() -> None:
    faint = replace(BULK, current_adu_s=0.01)
    free = predict(unit(EXP_2D), plan(), replace(faint, scatter=(1.0, 0.0, 0.01)), NOISE, *AT)
    told = predict(unit(EXP_2D), plan(), replace(faint, scatter=(1e-4, 0.0, 1e-5)), NOISE, *AT)
    assert (told.error_adu[[0, 2]] < 0.5 * free.error_adu[[0, 2]]).all()
    assert told.error_adu[1] < free.error_adu[1]  # the brightest cell tells itself


@pytest.mark.parametrize("change", [{"frames": 10}, {"biases": 40}])
def test_more_frames_never_harm(change: dict[str, int]) -> None:
    before = predict(unit(EXP_2D), plan(), BULK, NOISE, *AT)
    after = predict(unit(EXP_2D), plan(**change), BULK, NOISE, *AT)
    assert (after.error_adu < before.error_adu).all()


def test_what_all_pixels_share_is_told_apart() -> None:
    off_law = replace(HOT, population=Population(common_law_k=0.2))
    quiet = predict(unit(EXP_2D), plan(), HOT, NOISE, *AT)
    for planned, kind, noise in (
        (plan(temperature_k=0.2), HOT, NOISE),
        (plan(), off_law, NOISE),
        (plan(), HOT, replace(NOISE, drift_adu=2.0)),
        (plan(), HOT, replace(NOISE, jitter_k=0.2)),
    ):
        found = predict(unit(EXP_2D), planned, kind, noise, *AT)
        assert (found.shared_adu > 0).all()
        own = np.sqrt(found.error_adu**2 - found.shared_adu**2)
        np.testing.assert_allclose(own, quiet.error_adu, rtol=1e-4)


def test_full_pixels_are_not_fitted() -> None:
    # three cells of nine are left below 1500 ADU, as many as unknowns; then none
    few = predict(unit(EXP_2D), plan(), HOT, replace(NOISE, saturation_adu=1500.0), *AT)
    assert (few.error_adu > predict(unit(EXP_2D), plan(), HOT, NOISE, *AT).error_adu).all()
    none = predict(unit(EXP_2D), plan(), HOT, replace(NOISE, saturation_adu=10.0), *AT)
    assert np.isnan(none.error_adu).all()


def test_beyond_the_campaign_half_of_the_other_law_is_in_the_error() -> None:
    far = (np.array([-5.0, 15.0]), np.array([100.0, 300.0]))
    alone = predict(unit(EXP_2D), plan(), HOT, NOISE, *far)
    beside = predict(unit(EXP_2D), plan(), HOT, NOISE, *far, other=unit(TWO_COMPONENT), outside=np.array([False, True]))
    assert beside.error_adu[0] == alone.error_adu[0]
    assert beside.error_adu[1] > 1.1 * alone.error_adu[1]


def test_without_biases_the_level_is_fitted() -> None:
    with_biases = predict(unit(EXP_2D), plan(), BULK, NOISE, *AT)
    without = predict(unit(EXP_2D), plan(biases=0), BULK, NOISE, *AT)
    assert np.isfinite(without.error_adu).all()
    assert (without.error_adu >= with_biases.error_adu).all()
    assert np.isnan(bias_error(plan(biases=0), NOISE, AT[0])).all()


def test_error_of_the_bias() -> None:
    # a line through three equal points, at its middle
    assert bias_error(plan(), NOISE, np.array([-5.0]))[0] == pytest.approx(3.0 / math.sqrt(30.0), rel=1e-5)
    one = PlannedCells(T[:1], S[:1], np.array([5]), np.array([0]), np.array([9]), Stations(np.array([0]), np.zeros(1)))
    np.testing.assert_allclose(bias_error(one, NOISE, np.array([-10.0, 20.0])), 1.0)


def test_merit_is_the_error_in_noises_of_a_frame() -> None:
    predicted = Predicted(np.array([0.0, 0.0, 8.0]), np.array([3.0, 6.0, np.nan]), np.zeros(3))
    assert figure_of_merit(predicted, NOISE, [True, True, False]) == pytest.approx(math.sqrt(2.5))
    assert math.isnan(figure_of_merit(predicted, NOISE, [True, True, True]))
