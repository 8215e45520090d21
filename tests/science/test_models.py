"""Formulas, derivatives, references and domains of the models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_masters import GRID_12, full, grid, scene

from darkpipe.science.models import (
    EXP_1D,
    EXP_2D,
    EXP_2D_GLOW,
    EXP_T,
    MODELS,
    TWO_COMPONENT,
    TWO_COMPONENT_GLOW,
    Reference,
)
from darkpipe.science.models.base import centred, exponential_design, move_reference, move_step
from darkpipe.science.models.families import EXPONENTIAL, GLOWING, LINEAR, UNLIMITED, evaluate, make_dark, synthesize
from darkpipe.science.models.two_component import design

ZERO = 273.15
K_EV = 1.380649e-23 / 1.602176634e-19  # exact in the SI

sane = st.floats(-3.0, 3.0)


@given(st.sampled_from([EXPONENTIAL, LINEAR, GLOWING]), st.tuples(sane, sane, sane), st.tuples(sane, sane, sane))
def test_derivatives_are_those_of_the_value(family, x, p):
    columns, jac, scratch = np.array(x)[:, None], np.zeros((3, 1)), np.zeros((3, 1))
    values = np.array(p)
    value = evaluate(family, columns, 0, values, jac)
    expected = {
        EXPONENTIAL: p[0] * np.exp(p[1] * x[0] + p[2] * x[1]),
        LINEAR: np.dot(p, x),
        GLOWING: x[0] * (p[0] * np.exp(p[2] * x[1]) + p[1]),
    }[family]
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-5
        up, down = (evaluate(family, columns, 0, values + s * step, scratch) for s in (1, -1))
        size = np.abs(jac).max() + abs(value) + 1.0
        assert jac[i, 0] == pytest.approx((up - down) / 2e-5, abs=1e-7 * size)


def test_synthesis_is_value_and_propagated_error():
    rng = np.random.default_rng(1)
    p = rng.normal([[200.0], [1.0], [0.12]], [[50.0], [0.05], [0.01]], (3, 40)).astype(np.float32)
    root = rng.normal(size=(40, 3, 3)) * np.array([5.0, 0.05, 0.01])[:, None]
    matrix = root @ root.transpose(0, 2, 1)
    covariance = np.stack([matrix[:, a, b] for a in range(3) for b in range(a, 3)]).astype(np.float32)
    x = np.array([[1.3], [-4.0], [0.7]])
    for family in (EXPONENTIAL, LINEAR, GLOWING):
        signal, variance = np.empty((2, 40), np.float32)
        synthesize(family, x, p, covariance, signal, variance)
        if family == EXPONENTIAL:
            expected = p[0] * np.exp(p[1] * 1.3 - p[2] * 4.0)
            jac = np.stack([expected / p[0], expected * 1.3, expected * -4.0])
        elif family == GLOWING:
            dark = 1.3 * np.exp(p[2] * -4.0)
            expected = p[0] * dark + p[1] * 1.3
            jac = np.stack([dark, np.full(40, 1.3), p[0] * dark * -4.0])
        else:
            expected = p[0] * 1.3 - p[1] * 4.0 + p[2] * 0.7
            jac = np.repeat(x, 40, axis=1)
        np.testing.assert_allclose(signal, expected, rtol=1e-5)
        np.testing.assert_allclose(variance, np.einsum("ap,pab,bp->p", jac, matrix, jac), rtol=2e-3)


def test_synthesis_of_a_failed_pixel_is_nan():
    p, covariance = np.full((3, 2), np.nan, np.float32), np.full((6, 2), np.nan, np.float32)
    p[:, 1], covariance[:, 1] = 1.0, 0.1
    signal, variance = np.zeros((2, 2), np.float32)
    for family in (EXPONENTIAL, LINEAR, GLOWING):
        synthesize(family, np.ones((3, 1)), p, covariance, signal, variance)
        assert np.isnan([signal[0], variance[0]]).all()
        assert np.isfinite([signal[1], variance[1]]).all()


@pytest.mark.parametrize("family", [EXPONENTIAL, LINEAR, GLOWING], ids=["exponential", "linear", "glowing"])
def test_synthesis_of_a_pixel_does_not_depend_on_the_others(family: int) -> None:
    """Eight at a time, whatever their number, one of them failed; with the signal and error of `make_dark`."""
    rng, x = np.random.default_rng(6), np.array([[0.4], [2.0], [0.3]])
    p = rng.normal([[200.0], [1.0], [0.12]], 0.1, (3, 23)).astype(np.float32)
    covariance = rng.uniform(-1e-4, 1e-3, (6, 23)).astype(np.float32)  # of some pixels none: a variance below 0
    p[1, 3] = np.nan
    alone = np.empty((2, 23), np.float32)
    for i in range(23):
        one, its = np.ascontiguousarray(p[:, i : i + 1]), np.ascontiguousarray(covariance[:, i : i + 1])
        synthesize(family, x, one, its, *alone[:, i : i + 1])
    assert np.flatnonzero(np.isnan(alone).any(axis=0)).tolist() == [3]
    for n in (7, 8, 9, 16, 23):
        some, its = np.ascontiguousarray(p[:, :n]), np.ascontiguousarray(covariance[:, :n])
        signal, variance = np.empty((2, n), np.float32)
        synthesize(family, x, some, its, signal, variance)
        np.testing.assert_array_equal([signal, variance], alone[:, :n])
        dark, error, dq = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint16)
        fitted = np.zeros(n, np.uint16)
        make_dark(family, x, some, its, UNLIMITED, np.float32(0.0), fitted, 8, 0, dark, error, dq)
        np.testing.assert_array_equal([dark, error], [signal, np.sqrt(variance)])


def test_the_physics_written_apart():
    """G t (T/T0)^1.5 exp(-Eg/2k (1/T - 1/T0)) + D t (T/T0)^3 exp(-Eg/k (1/T - 1/T0)), with the constants of the SI."""
    rng = np.random.default_rng(2)
    temperature_c, exposure_s = rng.uniform(-60, 30, 50), 10 ** rng.uniform(-3, 4, 50)
    for t_0, gap in ((-10.0, 1.12), (0.0, 1.2), (25.0, 1.0)):
        x = design(temperature_c, exposure_s, Reference(t_0, 1.0, gap))
        kelvin, kelvin_0 = temperature_c + ZERO, t_0 + ZERO
        slope = 1 / kelvin - 1 / kelvin_0
        generation = exposure_s * (kelvin / kelvin_0) ** 1.5 * np.exp(-gap / (2 * K_EV) * slope)
        diffusion = exposure_s * (kelvin / kelvin_0) ** 3 * np.exp(-gap / K_EV * slope)
        np.testing.assert_allclose(x, [generation, diffusion, np.zeros(50)], rtol=1e-8)


def test_the_physics_is_one_at_its_reference_and_doubles_as_silicon_does():
    reference = Reference(-5.0)
    np.testing.assert_allclose(design(np.array([-5.0]), np.array([7.0]), reference)[:, 0], [7, 7, 0])
    warm = design(np.array([-5.0, 1.0, 5.0]), np.ones(3), reference)
    b = np.log(warm[:2, 1] / warm[:2, 0]) / 6.0
    # d ln S/dT = (E_g/(2k T) + 1.5)/T and (E_g/(k T) + 3)/T: 0.095 and 0.19 per kelvin near 0 °C
    np.testing.assert_allclose(b, [0.0944, 0.1888], rtol=0.01)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_a_model_is_consistent(model):
    slots = [p.slot for p in model.parameters]
    assert sorted(set(slots)) == slots
    assert list(np.flatnonzero(model.free)) == slots
    assert len({p.file for p in model.parameters}) == len(slots)
    for slot in range(3):
        if model.free[slot]:
            assert model.lower[slot] < model.upper[slot]
        else:
            assert model.lower[slot] == model.upper[slot] == 0
    assert model.lower[0] < 0  # amplitudes may be negative
    assert MODELS[model.name] is model
    x = model.design(np.array([-5.0, 0.0]), np.array([10.0, 20.0]), Reference(-5.0))
    assert x.shape == (3, 2)
    assert x.dtype == np.float64


def test_exponential_design():
    x = exponential_design(np.array([-7.0, 1.0]), np.array([2.0, 200.0]), Reference(-3.0, 20.0))
    np.testing.assert_allclose(x, [[np.log(0.1), np.log(10)], [-4, 4], [0, 0]])


# ---- references


def shifted(model, reference, p, t_c, t_s):
    x = model.design(np.array([t_c]), np.array([t_s]), reference)[:, 0]
    return x, p[0] * np.exp(p[1] * x[0] + p[2] * x[1])


@pytest.mark.parametrize("model", [EXP_1D, EXP_2D, EXP_T])
def test_moving_the_reference_keeps_signal_and_variance(model):
    rng = np.random.default_rng(3)
    pixels = 30
    p = np.stack([rng.normal(0, 100, pixels), rng.normal(1, 0.1, pixels), rng.normal(0.12, 0.02, pixels)])
    p[0, 0] = 0.0
    p *= model.free[:, None]
    root = rng.normal(size=(pixels, 3, 3)) * np.array([5.0, 0.05, 0.01])[:, None] * model.free[:, None]
    matrix = root @ root.transpose(0, 2, 1)
    covariance = np.stack([matrix[:, a, b] for a in range(3) for b in range(a, 3)])
    # the axis that a model lacks stays where it is
    old = Reference(-4.0, 80.0)
    new = Reference(-20.0 if model.free[2] else -4.0, 1.0 if model.free[1] else 80.0)
    q, moved = move_reference(model, p, covariance, old, new)
    np.testing.assert_array_equal(q[1:], p[1:])
    for t_c, t_s in ((-15.0, 300.0), (0.0, 10.0), (-4.0, 80.0)):
        x, signal = shifted(model, old, p, t_c, t_s)
        y, same = shifted(model, new, q, t_c, t_s)
        np.testing.assert_allclose(same, signal, rtol=1e-12, atol=1e-12)
        for z, s, par, cov in ((x, signal, p, covariance), (y, same, q, moved)):
            e = np.exp(par[1] * z[0] + par[2] * z[1])
            jac = np.stack([e, s * z[0], s * z[1]])
            variance = np.einsum("ap,pab,bp->p", jac, full(cov), jac)
            if cov is covariance:
                expected = variance
        np.testing.assert_allclose(variance, expected, rtol=1e-9)
    step = 1e-6 * np.abs(p)
    after, _ = move_reference(model, p + step, covariance, old, new)
    np.testing.assert_allclose(move_step(model, p, step, old, new), after - q, rtol=1e-4, atol=1e-12)
    back, returned = move_reference(model, q, moved, new, old)
    np.testing.assert_allclose(back, p, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(returned, covariance, rtol=1e-8, atol=1e-12)


def test_a_failed_pixel_stays_failed_when_moved():
    p, covariance = np.full((3, 1), np.nan), np.full((6, 1), np.nan)
    q, moved = move_reference(EXP_2D, p, covariance, Reference(-4.0, 80.0), Reference(-20.0))
    assert np.isnan(q).all()
    assert np.isnan(moved).all()


def test_a_linear_model_has_its_reference_in_its_design():
    p, covariance = np.ones((3, 4)), np.ones((6, 4))
    q, moved = move_reference(TWO_COMPONENT, p, covariance, Reference(-4.0), Reference(0.0))
    np.testing.assert_array_equal(q, p)
    np.testing.assert_array_equal(moved, covariance)


def test_the_centre_is_the_weighted_mean():
    t, e = grid([-10, 0], [10, 1000])
    found = centred(Reference(5.0, 3.0, 1.2), t, e, np.array([1.0, 1, 3, 3]))
    assert found.temperature_c == pytest.approx(-2.5)
    assert found.exposure_s == pytest.approx(100.0)
    assert found.energy_gap_ev == 1.2
    assert centred(Reference(5.0), t, e, np.zeros(4)) == Reference(5.0)


def test_parameters_about_the_centre_are_weakly_correlated():
    """What `make_unit` centres for: correlations that would make a fit at T_min and 1 s badly conditioned."""
    made = scene(np.full(200, 1000.0), cells=GRID_12)
    fitted = made.fit()
    moved = move_reference(EXP_2D, fitted.parameters, fitted.covariance, made.reference, Reference(-10.0))[1]

    def largest(covariance):
        matrix = full(covariance)
        sigma = np.sqrt(np.einsum("pii->pi", matrix))
        correlation = matrix / (sigma[:, :, None] * sigma[:, None, :]) - np.eye(3)
        return np.median(np.abs(correlation).max(axis=(1, 2)))

    assert largest(fitted.covariance) < 0.3
    assert largest(moved) > 0.8


def test_glow_is_added_whatever_the_temperature():
    t, e = grid([-20, -10, 0], [30, 300])
    reference = Reference(-10.0)
    np.testing.assert_array_equal(TWO_COMPONENT_GLOW.design(t, e, reference)[:2], design(t, e, reference)[:2])
    for model in (TWO_COMPONENT_GLOW, EXP_2D_GLOW):
        p = np.zeros(3)
        p[model.glow_slot] = 0.7
        jac, x = np.zeros((3, t.size)), np.ascontiguousarray(model.design(t, e, reference))
        np.testing.assert_allclose([evaluate(model.family, x, k, p, jac) for k in range(t.size)], 0.7 * e)
        assert [q.name for q in model.parameters if q.slot == model.glow_slot] == ["E"]
    assert all(m.glow_slot is None for m in (EXP_1D, EXP_2D, EXP_T, TWO_COMPONENT))


def test_glow_does_not_move_with_the_reference():
    """The amplitude does, with its covariance; the dark stays the same."""
    old, new = Reference(-8.0, 70.0), Reference(-20.0)
    p = np.array([[0.3], [0.05], [0.12]])
    root = np.random.default_rng(1).normal(size=(3, 3)) * [[0.02], [0.01], [0.005]]
    matrix = root @ root.T
    covariance = np.array([[matrix[a, b]] for a in range(3) for b in range(a, 3)])
    moved, its = move_reference(EXP_2D_GLOW, p, covariance, old, new)
    assert (moved[1], moved[2]) == (p[1], p[2])
    results = []
    for parameters, c, reference in ((p, covariance, old), (moved, its, new)):
        signal, variance = np.empty((2, 1), np.float32)
        x = np.ascontiguousarray(EXP_2D_GLOW.design(np.array([-3.0]), np.array([200.0]), reference))
        synthesize(GLOWING, x, parameters.astype(np.float32), c.astype(np.float32), signal, variance)
        results.append((signal[0], variance[0]))
    np.testing.assert_allclose(*results, rtol=1e-4)


@pytest.mark.parametrize("level", [np.full(1, 60_000.0), np.full(3, 60_000.0)], ids=["common", "of each"])
def test_no_dark_exceeds_its_level_and_nan_stays(level: np.ndarray) -> None:
    parameters = np.array([[100.0, 70_000.0, np.nan], [0.0] * 3, [0.0] * 3], np.float32)
    covariance = np.full((6, 3), 25.0, np.float32)
    signal, error, dq = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(3, np.uint16)
    make_dark(
        LINEAR, np.array([[1.0], [0.0], [0.0]]), parameters, covariance, level.astype(np.float32), np.float32(0.02),
        np.array([1, 2, 4], np.uint16), 8, 16, signal, error, dq,
    )  # fmt: skip
    np.testing.assert_array_equal(signal, np.array([100.0, 60_000.0, np.nan], np.float32))
    assert error[0] == 5.0
    assert error[1] == pytest.approx(1200.0)
    assert np.isnan(error[2])
    assert dq.tolist() == [1 | 16, 2 | 8 | 16, 4 | 16]
