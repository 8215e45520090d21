"""Errors of the temperatures: what they do to parameters, held-out predictions, outliers, by finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from made_masters import GRID_12, full, scene, spread

from darkpipe.science.fit import Stations, fit_tile, residuals
from darkpipe.science.models import EXP_2D, TWO_COMPONENT

SIGMA_K = 0.2
STATIONS = Stations(np.repeat(np.arange(3), 4), np.full(3, SIGMA_K**2))
STEP_K = 0.02


def bright(model, *, pixels=60, stations=None, free_level=False, seed=1):
    """Masters without noise of their own (but with the noise model's weights)."""
    rng = np.random.default_rng(seed)
    amplitude = 10 ** rng.uniform(2.5, 3.8, pixels)
    kind = (
        {"diffusion_adu_s": amplitude / 300} if model is TWO_COMPONENT else {"b_per_k": rng.normal(0.12, 0.01, pixels)}
    )
    made = scene(amplitude / (200 if model is TWO_COMPONENT else 1), model=model, cells=GRID_12, free_level=free_level,
                 bias_sigma_adu=0.0 if free_level else 1.0, seed=seed, **kind)  # fmt: skip
    level = 7.0 if free_level else 0.0
    made = made.with_signal(made.signal + level)
    return replace(made, cells=replace(made.cells, stations=stations))


def warmed(made, station, kelvin):
    """The same masters taken at a station that was warmer than it said."""
    x = made.model.design(made.temperature_c + kelvin * (STATIONS.of_cell == station), made.exposure_s, made.reference)
    p = made.truth
    if made.model is EXP_2D:
        signal = p[0] * np.exp(x[0][:, None] * p[1] + x[1][:, None] * p[2])
    else:
        signal = np.einsum("in,ip->np", x, p)
    level = made.cells.signal_adu - made.signal.astype(np.float32)
    return made.with_signal(signal + level.mean())


@pytest.mark.parametrize("free_level", [False, True])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_the_covariance_holds_what_a_wrong_thermometer_does(model, free_level):
    made = bright(model, free_level=free_level)
    known = replace(made, cells=replace(made.cells, stations=STATIONS))
    added = full(known.fit().covariance) - full(made.fit().covariance)
    before = made.fit().parameters
    expected = np.zeros_like(added)
    for station in range(3):
        shift = (warmed(made, station, STEP_K).fit().parameters - before) / STEP_K
        expected += SIGMA_K**2 * np.einsum("ip,jp->pij", shift, shift)
    scale = np.sqrt(np.einsum("pii->pi", expected))
    scale[:, ~made.problem.free] = 1.0
    difference = (added - expected) / (scale[:, :, None] * scale[:, None, :])
    assert np.abs(difference).max() < 0.05


@pytest.mark.parametrize("free_level", [False, True])
@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_held_out_predictions_know_what_they_share_with_their_cell(model, free_level):
    known = bright(model, stations=STATIONS, free_level=free_level)
    everything = np.ones(12, bool)
    before = known.fit(leave_out=everything)
    expected = np.zeros(before.held_out_adu.shape)
    for station in range(3):
        moved = warmed(known, station, STEP_K)
        error = (moved.cells.signal_adu - moved.fit(leave_out=everything).held_out_adu).astype(float)
        change = (error - (known.cells.signal_adu - before.held_out_adu)) / STEP_K
        expected += SIGMA_K**2 * change**2
    found = np.sqrt(before.held_out_common_adu2)
    size = SIGMA_K * 0.1 * np.abs(known.signal)
    assert np.abs(found - np.sqrt(expected)).max() < 0.06 * size.max()
    assert np.median(np.abs(found - np.sqrt(expected)) / size) < 0.02
    assert (found > 0.05 * size).mean() > 0.5  # there is something to be compared


def test_a_wrong_thermometer_is_no_outlier_where_it_is_expected():
    made = bright(TWO_COMPONENT, pixels=300)
    off = warmed(made, 1, 0.5)
    blind, aware = (
        off.fit(),
        replace(off, cells=replace(off.cells, stations=Stations(STATIONS.of_cell, np.full(3, 0.25)))).fit(),
    )
    assert (blind.outliers > 0).mean() > 0.2
    assert (aware.outliers > 0).mean() < 0.01


def test_a_pixels_own_law_counts_as_its_own_error():
    """Not as one that all pixels share."""
    made = bright(TWO_COMPONENT, stations=Stations(STATIONS.of_cell, np.zeros(3)))
    law = np.full(made.truth.shape[1], np.float32(SIGMA_K**2))
    own = replace(made, cells=replace(made.cells, pixel_law_variance_k2=law))
    shared = replace(made, cells=replace(made.cells, stations=STATIONS))
    a, b = own.fit(leave_out=np.ones(12, bool)), shared.fit(leave_out=np.ones(12, bool))
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=1e-6)
    total = b.held_out_variance_adu2 + b.held_out_common_adu2
    np.testing.assert_allclose(a.held_out_variance_adu2, total, rtol=1e-5)
    assert np.all(a.held_out_common_adu2 == 0)


def test_no_station_error_changes_nothing():
    made = bright(EXP_2D)
    zero = replace(made, cells=replace(made.cells, stations=Stations(STATIONS.of_cell, np.zeros(3))))
    a, b = made.fit(leave_out=np.ones(12, bool)), zero.fit(leave_out=np.ones(12, bool))
    np.testing.assert_array_equal(a.parameters, b.parameters)
    np.testing.assert_array_equal(a.covariance, b.covariance)
    np.testing.assert_array_equal(a.held_out_adu, b.held_out_adu)


def test_a_residual_has_the_scatter_of_noise_and_what_all_pixels_share_apart():
    made = scene(10 ** np.random.default_rng(2).uniform(2, 4, 4000), cells=GRID_12, bias_sigma_adu=1.0)
    cells = replace(made.cells, stations=STATIONS)
    fitted = fit_tile(made.problem, cells, made.prior(), made.prior().mean.copy())
    residual, variance, by_law, common = residuals(made.problem, cells, made.prior(), fitted.parameters)
    np.testing.assert_allclose(common, SIGMA_K**2 * by_law, rtol=1e-5)
    assert all(spread(row) == pytest.approx(1.0, abs=0.06) for row in residual / np.sqrt(variance))
