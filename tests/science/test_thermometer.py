"""The hot-pixel thermometer on simulated frames: true temperatures, errors that pull 1, and what must not fool it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import spread
from simulated import Recipe, Sensor
from sky import Sky, light_image

from darkpipe.science import thermometer
from darkpipe.science.models import EXP_2D, TWO_COMPONENT, Reference
from darkpipe.science.neighbours import box_offsets, gather
from darkpipe.science.thermometer import (
    FEWEST,
    MOST,
    FrameNoise,
    Law,
    Probes,
    Reading,
    calibrate_scale,
    choose_probes,
    measure_temperature,
)

RECIPE = Recipe(rows=200, cols=180, hot_fraction=0.01, seed=3)
OFFSETS = np.concatenate([np.zeros((1, 2), int), box_offsets()])
SEARCH = (-60.0, 40.0)
ZERO_C = Reference(0.0)


def probes_of(sensor: Sensor, *, law: str = "physics") -> Probes:
    """What a perfect fit would know of the hot pixels."""
    shape = sensor.hot.shape
    names = ("G", "D") if law == "physics" else ("A", "gamma", "B")
    planes = [np.asarray(sensor.maps[n], np.float32) for n in names] + [np.zeros(shape, np.float32)]
    signal = sensor.signal_adu(-5.0, 300.0).astype(np.float32)
    r, c = choose_probes(signal, np.full(shape, 0.1, np.float32), sensor.hot, 2000)
    quiet = gather(~sensor.hot, r, c, OFFSETS) == 1
    quiet[:, 0] = True
    parameters = np.stack([gather(p, r, c, OFFSETS) for p in planes[:3]]).astype(np.float32)
    parameters[:, ~quiet] = np.nan
    return Probes(r, c, parameters, np.zeros((6, r.size), np.float32), np.full(r.size, np.inf, np.float32))


SENSOR = Sensor(RECIPE)
PROBES = probes_of(SENSOR)
NOISE = FrameNoise(RECIPE.read_noise_e / RECIPE.gain_e_per_adu, RECIPE.gain_e_per_adu)


def read(
    temperature_c: float,
    exposure_s: float,
    *,
    sky: Sky | None = None,
    seed: int = 1,
    believed_s: float | None = None,
    sensor: Sensor = SENSOR,
    probes: Probes = PROBES,
) -> Reading:
    raw = light_image(sensor, sky, temperature_c, exposure_s, seed).astype(float)
    observed = gather(raw - sensor.bias_adu(temperature_c), probes.rows, probes.cols, OFFSETS)
    full = gather(raw, probes.rows, probes.cols, OFFSETS[:1])[:, 0] >= 65535
    law = Law(TWO_COMPONENT, ZERO_C, exposure_s if believed_s is None else believed_s)
    return measure_temperature(observed, full, probes, law, NOISE, SEARCH)


def test_errors_pull_one_over_temperatures_and_under_stars() -> None:
    rng = np.random.default_rng(7)
    truth = rng.uniform(-20.0, 10.0, 60)
    field = Sky(sky_adu_s=2.0, stars=300, brightest_adu_s=300.0)
    for sky in (None, field):
        found = [read(float(t), 120.0, sky=sky, seed=k) for k, t in enumerate(truth)]
        pulls = (np.array([f.temperature_c for f in found]) - truth) / np.array([f.error_c for f in found])
        # 60 readings tell a spread to 10 %, a mean to 0.13
        assert 0.75 < np.sqrt(np.mean(pulls**2)) < 1.3, (sky, pulls)
        assert abs(pulls.mean()) < 0.5, (sky, pulls.mean())
        assert max(f.error_c for f in found) < 0.1
        assert all(f.pixels > 250 for f in found)


def test_stars_cost_pixels_and_not_truth() -> None:
    crowded = Sky(sky_adu_s=5.0, stars=2000, brightest_adu_s=2000.0)
    dark, light = read(-5.0, 300.0), read(-5.0, 300.0, sky=crowded)
    assert light.temperature_c == pytest.approx(-5.0, abs=4 * light.error_c)
    assert light.error_c > dark.error_c
    assert light.error_c < 0.1


def test_a_wrong_exposure_is_a_wrong_temperature_as_stated() -> None:
    right, wrong = read(-5.0, 120.0), read(-5.0, 120.0, believed_s=120.0 * 0.97)
    assert wrong.temperature_c - right.temperature_c == pytest.approx(3.0 * right.exposure_lever_c, rel=0.1)
    assert 0.05 < right.exposure_lever_c < 0.2


def test_a_glance_at_few_pixels_misses_no_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    field = Sky(sky_adu_s=2.0, stars=250, brightest_adu_s=500.0)
    cases = [(t, s, sky) for t in (-40.0, -5.0, 15.0) for s, sky in ((0.1, None), (5.0, field), (100.0, field))]

    def readings() -> np.ndarray:
        found = [read(t, s, sky=sky, seed=k) for k, (t, s, sky) in enumerate(cases)]
        return np.array([dataclasses.astuple(reading) for reading in found])

    glanced = readings()
    monkeypatch.setattr(thermometer, "PROMISING", 1000)  # every rung is looked at with all that are scanned
    np.testing.assert_array_equal(glanced, readings())
    assert np.isfinite(glanced[:, 0]).sum() > len(cases) // 2


def test_cosmic_rays_on_hot_pixels_do_not_count() -> None:
    raw = light_image(SENSOR, None, -5.0, 120.0, 1).astype(float)
    clean = read(-5.0, 120.0)
    observed = gather(raw - SENSOR.bias_adu(-5.0), PROBES.rows, PROBES.cols, OFFSETS)
    observed[::12, 0] += 3000.0
    law = Law(TWO_COMPONENT, ZERO_C, 120.0)
    hit = measure_temperature(observed, np.zeros(PROBES.rows.size, bool), PROBES, law, NOISE, SEARCH)
    assert hit.temperature_c == pytest.approx(clean.temperature_c, abs=3 * clean.error_c)


def test_what_cannot_be_told_is_not_told() -> None:
    law = Law(TWO_COMPONENT, ZERO_C, 120.0)
    few = PROBES.take(np.arange(FEWEST - 1))
    observed = np.ones((FEWEST - 1, 25))
    assert np.isnan(measure_temperature(observed, np.zeros(FEWEST - 1, bool), few, law, NOISE, SEARCH).temperature_c)
    # no dark signal at all: as cold as one likes
    nothing = np.random.default_rng(1).normal(0, 3, (PROBES.rows.size, 25))
    found = measure_temperature(nothing, np.zeros(PROBES.rows.size, bool), PROBES, law, NOISE, (-30.0, 30.0))
    assert np.isnan(found.temperature_c) or found.error_c > 2.0
    all_full = measure_temperature(nothing, np.ones(PROBES.rows.size, bool), PROBES, law, NOISE, SEARCH)
    assert all_full.pixels == 0


def test_a_common_error_of_the_model_stands_in_the_error() -> None:
    raw = light_image(SENSOR, None, -5.0, 120.0, 1).astype(float)
    observed = gather(raw - SENSOR.bias_adu(-5.0), PROBES.rows, PROBES.cols, OFFSETS)
    law = Law(TWO_COMPONENT, ZERO_C, 120.0)
    full = np.zeros(PROBES.rows.size, bool)
    noise = dataclasses.replace(NOISE, common_error=0.02)
    found, plain = (measure_temperature(observed, full, PROBES, law, n, SEARCH) for n in (noise, NOISE))
    assert found.error_c == pytest.approx(np.hypot(plain.error_c, 2.0 * plain.exposure_lever_c), rel=1e-3)


def test_the_exponential_law_reads_its_own_sensor() -> None:
    sensor = Sensor(dataclasses.replace(RECIPE, law="exponential"))
    probes = probes_of(sensor, law="exponential")
    raw = light_image(sensor, None, -7.0, 200.0, 1).astype(float)
    observed = gather(raw - sensor.bias_adu(-7.0), probes.rows, probes.cols, OFFSETS)
    law = Law(EXP_2D, Reference(sensor.t_min_c), 200.0)
    full = gather(raw, probes.rows, probes.cols, OFFSETS[:1])[:, 0] >= 65535
    found = measure_temperature(observed, full, probes, law, NOISE, SEARCH)
    assert found.temperature_c == pytest.approx(-7.0, abs=4 * found.error_c)
    assert found.error_c < 0.1


def test_probes_are_spread_over_the_frame_and_well_known() -> None:
    rng = np.random.default_rng(2)
    signal = rng.uniform(0, 10, (160, 160)).astype(np.float32)
    hot = rng.random(signal.shape) < 0.05
    signal[hot] += 1000
    signal[:20, :20] += 5000 * hot[:20, :20]  # one corner is the hottest
    error = np.full(signal.shape, 1.0, np.float32)
    error[100:, 100:] = 1000.0
    usable = np.ones(signal.shape, bool)
    usable[:, 60:80] = False
    r, c = choose_probes(signal, error, usable, 640)
    assert hot[r, c].all()
    assert not ((c >= 60) & (c < 80)).any()
    assert not ((r >= 100) & (c >= 100)).any()
    assert ((r < 20) & (c < 20)).sum() <= 10
    assert len(set(zip(r.tolist(), c.tolist(), strict=True))) == r.size > 300
    assert MOST >= 300


def test_a_scale_takes_out_what_known_temperatures_show() -> None:
    true = np.array([0.0, 0.1, -10.0, -10.0, -5.0, np.pi])
    off = {-10.0: 0.5, -5.0: 0.1, 0.0: -0.2, 0.1: -0.1}
    readings = [Reading(t + off.get(float(t), 0.0), 0.05, 100, 1.0, 0.1) for t in true[:-1]]
    readings.append(Reading(np.nan, np.nan, 0, np.nan, np.nan))
    scale = calibrate_scale(readings, true)
    np.testing.assert_allclose(scale.true_c, [-10.0, -5.0, 0.05], atol=1e-9)
    np.testing.assert_allclose(scale.reads_c, [-9.5, -4.9, -0.1], atol=1e-9)
    np.testing.assert_allclose(scale.error_c[0], 0.05 / np.sqrt(2))
    assert scale.error_c[2] == pytest.approx(0.05)  # two that differ by 1.4 sigma: chi² 2, not 1
    for reads, truth in ((-9.5, -10.0), (-7.2, -7.5), (-20.0, -20.5), (5.0, 5.15)):
        found = scale.corrected(Reading(reads, 0.03, 100, 1.0, 0.1))
        assert found.temperature_c == pytest.approx(truth, abs=1e-6)
        assert found.error_c > 0.03
    # one number of freedom at -10 and at 0: differences of 0 and 0.1 against noise of 0.05 each
    assert scale.scatter_c == pytest.approx(0.0, abs=0.03)
    rough = [Reading(t + o, 0.01, 100, 1.0, 0.1) for t in (-10.0, 0.0) for o in (-0.2, 0.0, 0.2)]
    wide = calibrate_scale(rough, np.repeat([-10.0, 0.0], 3), leverage=0.5)
    assert wide.scatter_c == pytest.approx(np.sqrt(2.0) * np.sqrt(0.08 / 2 - 0.01**2), rel=1e-6)
    assert wide.corrected(Reading(-5.0, 0.01, 100, 1.0, 0.1)).error_c > wide.scatter_c
    empty = calibrate_scale((), np.empty(0))
    assert np.isnan(empty.scatter_c)
    reading = Reading(1.0, 0.1, 100, 1.0, 0.1)
    assert empty.corrected(reading) == reading
    assert spread(np.array([1.0, 1.0])) == 0.0
