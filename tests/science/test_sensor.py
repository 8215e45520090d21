"""Energies and doubling temperatures against derivatives and Monte Carlo; means of pixels and their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from darkpipe.science.design import Unit, make_unit
from darkpipe.science.models import (
    EXP_1D,
    EXP_2D,
    EXP_2D_GLOW,
    EXP_T,
    TWO_COMPONENT,
    TWO_COMPONENT_GLOW,
    Model,
    Reference,
)
from darkpipe.science.population import Population
from darkpipe.science.sensor import (
    CellMeans,
    Growth,
    NonUniformity,
    NonUniformitySums,
    Spread,
    fit_means,
    grows,
    growth,
    with_model_error,
)

K_EV = 8.617333262e-5
REFERENCE = Reference(-10.0, 1.0, 1.12)
TEMPERATURES_C, EXPOSURES_S = (-20.0, -10.0, 0.0), (30.0, 100.0, 300.0)
CELLS = [(t, e) for t in TEMPERATURES_C for e in EXPOSURES_S]


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def packed(matrix: np.ndarray) -> np.ndarray:
    """(6, 1) as 00 01 02 11 12 22."""
    return matrix[np.triu_indices(3)][:, None]


def signal(model: Model, parameters: np.ndarray, temperature_c: float, exposure_s: float) -> np.ndarray:
    """Of parameters (3, P), written out."""
    if model is EXP_2D_GLOW:
        return exposure_s * (parameters[0] * np.exp(parameters[2] * (temperature_c + 10.0)) + parameters[1])
    if model in (TWO_COMPONENT, TWO_COMPONENT_GLOW):
        kelvin, kelvin_0 = temperature_c + 273.15, REFERENCE.temperature_c + 273.15
        arrhenius = 1.12 / K_EV * (1 / kelvin_0 - 1 / kelvin)
        theta = kelvin / kelvin_0
        both = parameters[0] * theta**1.5 * np.exp(arrhenius / 2) + parameters[1] * theta**3 * np.exp(arrhenius)
        return exposure_s * (both + (parameters[2] if model is TWO_COMPONENT_GLOW else 0.0))
    return parameters[0] * exposure_s ** parameters[1] * np.exp(parameters[2] * (temperature_c + 10.0))


def slope(model: Model, parameters: np.ndarray, temperature_c: float) -> np.ndarray:
    step = 1e-3
    low, high = (signal(model, parameters, temperature_c + d, 100.0) for d in (-step, step))
    return (np.log(high) - np.log(low)) / (2 * step)


EXAMPLES = {
    "generation and diffusion": (TWO_COMPONENT, (0.06, 0.08, 0.0), ((4e-6, -3e-6, 0), (-3e-6, 5e-6, 0), (0, 0, 0))),
    "a negative share": (TWO_COMPONENT, (0.06, -0.004, 0.0), ((1e-6, -2e-7, 0), (-2e-7, 1e-7, 0), (0, 0, 0))),
    "currents and glow": (
        TWO_COMPONENT_GLOW,
        (0.06, 0.08, 0.05),
        ((4e-6, -3e-6, 1e-6), (-3e-6, 5e-6, 0), (1e-6, 0, 2e-6)),
    ),
    "exponential and glow": (
        EXP_2D_GLOW,
        (0.1, 0.05, 0.12),
        ((9e-6, -2e-6, -4e-6), (-2e-6, 4e-6, 1e-6), (-4e-6, 1e-6, 9e-6)),
    ),
    "exponential": (
        EXP_2D,
        (0.1, 1.01, 0.12),
        ((9e-6, -2e-6, -4e-6), (-2e-6, 4e-6, 1e-6), (-4e-6, 1e-6, 9e-6)),
    ),
}


@pytest.mark.parametrize("temperature_c", [-10.0, 3.0])
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_growth_and_its_error_are_those_of_the_formula(example: tuple, temperature_c: float) -> None:
    """Against the numerical derivative, and against parameters drawn from the covariance."""
    model, parameters, matrix = example
    found = growth(model, column(*parameters), packed(np.array(matrix)), REFERENCE, temperature_c, 100.0)
    assert found.current_adu_s[0] == pytest.approx(signal(model, column(*parameters), temperature_c, 100.0)[0] / 100)
    assert found.per_k[0] == pytest.approx(slope(model, column(*parameters), temperature_c)[0], rel=1e-6)
    drawn = np.random.default_rng(1).multivariate_normal(parameters, matrix, 40_000).T
    currents = signal(model, drawn, temperature_c, 100.0) / 100
    assert found.current_error_adu_s[0] == pytest.approx(currents.std(), rel=0.03)
    slopes = slope(model, drawn, temperature_c)
    assert found.error_per_k[0] == pytest.approx(slopes.std(), rel=0.05)
    energy, energy_error = found.activation_energy_ev()
    scale = K_EV * (temperature_c + 273.15) ** 2
    assert (energy[0], energy_error[0]) == pytest.approx((scale * found.per_k[0], scale * found.error_per_k[0]))
    doubling, doubling_error = found.doubling_temperature_c()
    assert doubling[0] == pytest.approx(math.log(2) / found.per_k[0])
    assert doubling_error[0] == pytest.approx((math.log(2) / slopes).std(), rel=0.06)


def test_the_ends_are_half_the_gap_and_the_gap() -> None:
    small = np.zeros((6, 2)) + 1e-12
    found = growth(TWO_COMPONENT, np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), small, REFERENCE, -10.0, 1.0)
    kt = K_EV * 263.15
    np.testing.assert_allclose(found.activation_energy_ev()[0], [0.56 + 1.5 * kt, 1.12 + 3 * kt], rtol=1e-9)


def test_an_activation_energy_is_the_slope_of_the_arrhenius_plot() -> None:
    kelvin = np.array([262.15, 264.15])
    logs = np.log([signal(TWO_COMPONENT, column(0.06, 0.08, 0), t - 273.15, 1.0)[0] for t in kelvin])
    expected = -(logs[1] - logs[0]) / np.diff(1 / (K_EV * kelvin))[0]
    found = growth(TWO_COMPONENT, column(0.06, 0.08, 0), np.zeros((6, 1)), REFERENCE, -10.0, 1.0)
    assert found.activation_energy_ev()[0][0] == pytest.approx(expected, rel=1e-4)


def test_what_is_not_told_by_the_data_is_nan() -> None:
    parameters = np.array([[0.02, 0.5, 0.5, -0.5, np.nan], [1.0] * 5, [0.1, -0.05, 0.01, 0.1, 0.1]])
    covariance = np.zeros((6, 5))
    covariance[0], covariance[5] = 0.01**2, 0.02**2
    found = growth(EXP_2D, parameters, covariance, REFERENCE, -10.0, 1.0)
    energy, doubling = found.activation_energy_ev()[0], found.doubling_temperature_c()[0]
    # faint; falls with temperature; does not clearly grow; negative; not fitted
    assert np.isfinite(energy).tolist() == [False, True, True, False, False]
    assert np.isfinite(doubling).tolist() == [False] * 5
    assert np.isnan(found.doubling_temperature_c()[1]).all()
    assert energy[1] < 0


def test_models_without_temperature_know_no_growth() -> None:
    assert [grows(m) for m in (EXP_2D, TWO_COMPONENT, EXP_1D, EXP_T)] == [True, True, True, False]
    found = growth(EXP_T, column(1.0, 1.0, 0.0), np.zeros((6, 1)), REFERENCE, -10.0, 10.0)
    assert found.current_adu_s[0] == pytest.approx(1.0)
    assert np.isnan(found.per_k[0])


def unit_of(model: Model) -> Unit:
    t, e = np.array(CELLS).T
    return make_unit(model, "", tuple(range(len(CELLS))), t, e, -10.0, 1.12)


def means_of(values: np.ndarray, error: float, level: float = 0.0, sigma_c: float = 0.0) -> CellMeans:
    t, e = np.array(CELLS).T
    n = len(CELLS)
    return CellMeans(
        values,
        np.full(n, error),
        t,
        np.full(n, sigma_c),
        e,
        np.full(n, level),
        np.repeat([0, 1, 2], 3),
        np.full(3, 1e-3),
    )


TRUE = column(0.06, 0.08, 0.0)


def draws(number: int, error: float, relative: float) -> list[CellMeans]:
    rng = np.random.default_rng(3)
    true = np.array([signal(TWO_COMPONENT, TRUE, t, e)[0] for t, e in CELLS])
    return [
        means_of(true * (1 + relative * rng.normal(size=9)) + error * rng.normal(size=9), error) for _ in range(number)
    ]


@pytest.mark.parametrize(("error", "relative"), [(0.1, 0.0), (0.02, 0.02)], ids=["noise", "misfit"])
def test_the_error_of_a_mean_is_that_of_its_cells(error: float, relative: float) -> None:
    """Also where the cells scatter for a reason that nobody told: nine cells tell it to a quarter."""
    unit, population = unit_of(TWO_COMPONENT), Population()
    found = [fit_means(unit, m, population, -10.0, 300.0) for m in draws(300, error, relative)]
    current = np.array([(f.growth.current_adu_s[0], f.growth.current_error_adu_s[0]) for f in found])
    per_k = np.array([(f.growth.per_k[0], f.growth.error_per_k[0]) for f in found])
    pulls = (current[:, 0] - 0.14) / current[:, 1]
    slopes = (per_k[:, 0] - slope(TWO_COMPONENT, TRUE, -10.0)[0]) / per_k[:, 1]
    for pull in (pulls, slopes):
        assert abs(pull.mean()) < 0.25
        assert 0.8 < pull.std() < (1.1 if relative == 0 else 1.35)
    if relative:
        assert np.median([f.misfit for f in found]) == pytest.approx(relative, rel=0.3)


def test_errors_of_temperature_and_level_count() -> None:
    true = np.array([signal(TWO_COMPONENT, TRUE, t, e)[0] for t, e in CELLS])
    plain, level, warm = (
        fit_means(unit_of(TWO_COMPONENT), m, Population(), -10.0, 300.0)
        for m in (means_of(true, 0.01), means_of(true, 0.01, level=0.5), means_of(true, 0.01, sigma_c=0.2))
    )
    assert plain.misfit == level.misfit == warm.misfit == 0.0
    errors = [f.growth.current_error_adu_s[0] for f in (plain, level, warm)]
    assert errors[1] > 5 * errors[0]
    # 0.2 K at 0.13/K is 2.6 % of each cell
    assert 0.005 < errors[2] / 0.14 < 0.026
    assert plain.growth.current_adu_s[0] == pytest.approx(0.14, rel=1e-4)


def test_the_choice_of_the_model_is_an_error_too() -> None:
    true = np.array([signal(TWO_COMPONENT, TRUE, t, e)[0] for t, e in CELLS])
    one, other = (
        fit_means(unit_of(m), means_of(true, 0.01), Population(), -10.0, 300.0) for m in (TWO_COMPONENT, EXP_2D)
    )
    both = with_model_error(one, other).growth
    difference = one.growth.per_k[0] - other.growth.per_k[0]
    assert abs(difference) > 3 * one.growth.error_per_k[0]
    assert both.per_k[0] == one.growth.per_k[0]
    assert both.error_per_k[0] == pytest.approx(np.hypot(one.growth.error_per_k[0], difference / 2))
    nothing = Growth(-10.0, *(np.array([np.nan]) for _ in range(4)))
    kept = with_model_error(one, type(one)(nothing, 0.0, 9)).growth
    assert kept.error_per_k[0] == one.growth.error_per_k[0]


def non_uniformity(image: np.ndarray, error: np.ndarray, use: np.ndarray, height: int = 17) -> NonUniformity:
    """Of an image in bands."""
    sums = NonUniformitySums(image.shape, float(np.median(image[use])) if use.any() else 0.0)
    for rows in (slice(r, r + height) for r in range(0, len(image), height)):
        sums.add(rows, image[rows], use[rows])
    return sums.found(float((error[use].astype(float) ** 2).sum()))


def test_bands_do_not_show_in_a_non_uniformity() -> None:
    image = np.random.default_rng(9).normal(1000.0, 3.0, (50, 30)).astype(np.float32)
    image[4, 4] = np.nan
    use, noise = np.isfinite(image), np.ones(image.shape, np.float32)
    whole, bands = (non_uniformity(image, noise, use, height) for height in (50, 1))
    for name in ("total", "row", "column", "pixel"):
        assert getattr(bands, name) == pytest.approx(getattr(whole, name), rel=1e-9)
    assert whole.total[0] == pytest.approx(np.sqrt(image[use].var(ddof=1, dtype=float) - 1.0), rel=1e-6)


@pytest.mark.parametrize(("row", "col", "pixel"), [(2.0, 0.0, 1.0), (0.0, 3.0, 0.5), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)])
def test_non_uniformity_is_split_and_freed_from_noise(row: float, col: float, pixel: float) -> None:
    rng = np.random.default_rng(5)
    rows, cols, noise = 300, 200, 1.5
    parts = rng.normal(size=(rows, 1)) * row, rng.normal(size=(1, cols)) * col, rng.normal(size=(rows, cols)) * pixel
    image = (1000.0 + sum(parts) + noise * rng.normal(size=(rows, cols))).astype(np.float32)
    use = np.ones(image.shape, bool)
    use[:3, :5] = False
    image[0, 0] = np.nan
    found = non_uniformity(image, np.full(image.shape, noise, np.float32), use)
    true = [parts[0].std(ddof=1), parts[1].std(ddof=1), parts[2].std(ddof=1)]
    for (value, error), expected in zip((found.row, found.column, found.pixel), true, strict=True):
        assert abs(value - expected) < 4 * error + 0.02 * expected
    whole = float(np.sqrt(sum(t**2 for t in true)))
    assert abs(found.total[0] - whole) < 4 * found.total[1] + 0.02 * whole
    if whole == 0:
        assert found.total[0] < 0.2


def test_non_uniformity_of_nothing_is_nothing() -> None:
    image = np.ones((4, 5), np.float32)
    found = non_uniformity(image, image, np.zeros((4, 5), bool))
    assert all(math.isnan(v) for part in (found.total, found.row, found.column, found.pixel) for v in part)


def test_the_error_of_a_non_uniformity_is_right() -> None:
    rng = np.random.default_rng(6)
    true = rng.normal(size=(40, 50)).astype(np.float32) * 2
    noise = np.full(true.shape, 1.0, np.float32)
    found = [
        non_uniformity(true + rng.normal(size=true.shape).astype(np.float32), noise, np.ones(true.shape, bool)).total
        for _ in range(300)
    ]
    pulls = [(value - true.std(ddof=1)) / error for value, error in found]
    assert abs(np.mean(pulls)) < 0.25
    assert np.std(pulls) == pytest.approx(1.0, abs=0.15)


def test_the_spread_over_pixels_is_freed_from_their_errors() -> None:
    rng = np.random.default_rng(7)
    true = np.exp(rng.normal(size=4000))
    errors = 0.2 + 0.5 * rng.random(4000)
    pulls = []
    for _ in range(200):
        spread = Spread()
        values = true + errors * rng.normal(size=4000)
        values[:3] = np.nan
        spread.add(values[:1000], errors[:1000])
        rest = Spread()
        rest.add(values[1000:], errors[1000:])
        spread.plus(rest)
        value, error = spread.deviation()
        pulls.append((value - true[3:].std(ddof=1)) / error)
    assert spread.number == 3997
    assert abs(np.mean(pulls)) < 0.3
    assert np.std(pulls) == pytest.approx(1.0, abs=0.17)
    assert math.isnan(Spread().deviation()[0])
