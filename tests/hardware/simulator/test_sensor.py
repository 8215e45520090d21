"""The simulated sensor against its own truth: statistics, laws of physics, determinism, every option."""

from __future__ import annotations

import dataclasses
import math
import os

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import constants

from hardware.errors import CameraValueError
from hardware.simulator.sensor import Sensor, SensorSpec

EV_K = constants.k / constants.e
QUIET = SensorSpec(
    rows=96,
    cols=64,
    seed=5,
    hot_fraction=0.0,
    telegraph_fraction=0.0,
    cosmic_rays_per_cm2_min=0.0,
    pedestal_drift_adu=0.0,
)


def sensor(**changes: object) -> Sensor:
    return Sensor(dataclasses.replace(QUIET, **changes))  # type: ignore[arg-type]


def stack(made: Sensor, exposure_s: float, temperature_c: float, n: int, **more: object) -> NDArray[np.float64]:
    frames = [made.dark_frame(exposure_s, temperature_c, k, **more) for k in range(n)]  # type: ignore[arg-type]
    return np.stack(frames).astype(float)


def assert_drawn_from(frames: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
    """Pixel by pixel: no offset, and pulls of a width of one; the variance on average."""
    z = (frames.mean(0) - mean) / np.sqrt(variance / len(frames))
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert z.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * z.size))
    ratio = frames.var(0, ddof=1) / variance
    # Poisson noise has kurtosis: a little more scatter than that of a normal variance
    assert ratio.mean() == pytest.approx(1.0, abs=6 * math.sqrt(2 / (len(frames) - 1) / z.size))


@pytest.mark.parametrize("exposure_s", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("temperature_c", [-20.0, -10.0, 0.0])
@pytest.mark.parametrize("changes", [{}, {"glow_e_s": 3.0}, {"black_clamp": True}], ids=["plain", "glow", "clamp"])
def test_mean_and_variance_of_frames_are_the_truth(
    changes: dict[str, object], temperature_c: float, exposure_s: float
) -> None:
    made = sensor(**changes)
    frames = stack(made, exposure_s, temperature_c, 40)
    dark = made.expected_dark_adu(exposure_s, temperature_c)
    charge = sensor(**(changes | {"black_clamp": False})).expected_dark_adu(exposure_s, temperature_c)
    assert_drawn_from(frames, made.bias_adu() + dark, 3.5**2 + charge + 1 / 12)


@pytest.mark.parametrize("binning", [2, 3])
@pytest.mark.parametrize("gain", [0, 180])
def test_truth_follows_gain_and_binning(gain: int, binning: int) -> None:
    made = sensor(rows=200)
    e_per_adu = made.electrons_per_adu(gain)
    assert e_per_adu == pytest.approx(10 ** ((100 - gain) / 200))
    dark = made.expected_dark_adu(200.0, -5.0, gain=gain, binning=binning)
    assert dark.mean() == pytest.approx(made.expected_dark_adu(200.0, -5.0).mean() * binning**2 / e_per_adu, rel=0.01)
    frames = stack(made, 200.0, -5.0, 40, gain=gain, binning=binning)
    assert frames.shape[1:] == (200 // binning, 64 // binning) == made.shape(binning)
    variance = 3.5**2 / e_per_adu**2 + dark / e_per_adu + 1 / 12
    assert_drawn_from(frames, made.bias_adu(binning=binning) + dark, variance)


def test_bias_holds_pattern_and_read_noise() -> None:
    made = sensor(rows=400, bias_column_adu=4.0)
    frames = stack(made, 0.0, 20.0, 40)
    assert_drawn_from(frames, made.bias_adu(), np.full(made.shape(), 3.5**2 + 1 / 12))
    assert made.bias_adu().mean(0).std() == pytest.approx(4.0, rel=0.3)
    assert made.bias_adu().mean() == pytest.approx(500.0, abs=2.0)


def test_offset_setting_raises_the_bias() -> None:
    made = sensor()
    assert np.ptp(made.bias_adu(offset=70) - made.bias_adu() - 200.0) < 1e-9
    assert made.dark_frame(0.0, 0.0, 1, offset=70).mean() - made.dark_frame(0.0, 0.0, 1).mean() == pytest.approx(200)


@pytest.mark.parametrize(
    ("only", "power", "energy_ev"),
    [({"diffusion_e_s": 0.0}, 1.5, 0.6), ({"generation_e_s": 0.0}, 3.0, 1.15)],
    ids=["generation", "diffusion"],
)
def test_each_current_has_its_own_law(only: dict[str, object], power: float, energy_ev: float) -> None:
    made = sensor(generation_energy_scatter_ev=0.0, diffusion_energy_scatter_ev=0.0, **only)
    for celsius in (-30.0, 0.0, 25.0):
        cold, warm = 263.15, celsius + 273.15
        law = (warm / cold) ** power * math.exp(-energy_ev / EV_K * (1 / warm - 1 / cold))
        ratio = made.expected_dark_adu(10.0, celsius) / made.expected_dark_adu(10.0, -10.0)
        np.testing.assert_allclose(ratio, law, rtol=1e-5)


def test_pixels_have_energies_of_their_own() -> None:
    made = sensor()
    doubling = np.log(made.expected_dark_adu(1.0, 0.0) / made.expected_dark_adu(1.0, -20.0))
    assert doubling.std() > 0.02


def test_truth_is_linear_in_time_and_the_currents_are_those_of_the_spec() -> None:
    made = sensor(rows=400)
    one = made.expected_dark_adu(1.0, -10.0)
    np.testing.assert_allclose(made.expected_dark_adu(300.0, -10.0), 300 * one)
    assert np.median(one) == pytest.approx(0.15, rel=0.1)
    assert not made.expected_dark_adu(0.0, -10.0).any()


def test_defaults_can_be_measured() -> None:
    made = Sensor(SensorSpec())
    dark = made.expected_dark_adu(300.0, -10.0)
    assert 15 < np.median(dark) < 150
    assert made.hot.mean() == pytest.approx(0.005, rel=0.2)
    assert np.median(dark[made.hot]) > 20 * np.median(dark)
    assert (dark < made.saturation_adu()).mean() > 0.9999


def noise_of(made: Sensor, number: int) -> NDArray[np.float64]:
    truth = made.bias_adu() + made.expected_dark_adu(30.0, -10.0)
    return (made.dark_frame(30.0, -10.0, number) - truth)[~made.hot].ravel()


def test_same_arguments_same_pixels() -> None:
    one, two = sensor(hot_fraction=0.01), sensor(hot_fraction=0.01)
    first = one.dark_frame(30.0, -10.0, 7)
    one.dark_frame(1.0, 5.0, 8)
    assert np.array_equal(first, two.dark_frame(30.0, -10.0, 7))
    assert first.dtype == np.uint16
    assert first.flags.c_contiguous


def test_numbers_and_seeds_draw_noise_of_their_own() -> None:
    made, other = sensor(), sensor(seed=6)
    noise = [noise_of(made, 7), noise_of(made, 8), noise_of(other, 7)]
    away = np.corrcoef(noise) - np.eye(3)
    assert np.abs(away).max() < 4 / math.sqrt(noise[0].size)
    rates = [s.expected_dark_adu(1.0, -10.0).ravel() for s in (made, other)]
    assert abs(np.corrcoef(rates)[0, 1]) < 4 / math.sqrt(rates[0].size)


def test_pixels_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made = sensor(rows=500, cosmic_rays_per_cm2_min=2000.0, telegraph_fraction=0.02)
    frames = []
    for threads in (1, 5):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        frames.append(made.dark_frame(60.0, -10.0, 3, binning=2))
    assert np.array_equal(*frames)


def test_noise_of_blocks_is_independent() -> None:
    made = sensor(rows=192)
    noise = made.dark_frame(0.0, 0.0, 0) - made.bias_adu()
    assert abs(np.corrcoef(noise[:96].ravel(), noise[96:].ravel())[0, 1]) < 0.06


def test_telegraph_pixels_stay_then_jump_and_truth_is_in_the_middle() -> None:
    made = sensor(telegraph_fraction=0.05, telegraph_e_s=50.0, telegraph_dwell_frames=6, read_noise_e=0.0)
    frames = stack(made, 100.0, -10.0, 240)[:, made.telegraph]
    lower = sensor(telegraph_fraction=0.0).expected_dark_adu(100.0, -10.0)[made.telegraph]
    middle = made.expected_dark_adu(100.0, -10.0)[made.telegraph]
    upper = frames - made.bias_adu()[made.telegraph] > middle
    assert upper.mean() == pytest.approx(0.5, abs=0.03)
    assert upper.any(0).all()
    assert not upper.all(0).any()
    # a state is drawn anew after six frames, and is another one every second time
    assert (upper[1:] != upper[:-1]).mean() == pytest.approx(1 / 12, rel=0.1)
    moments = [set(np.flatnonzero(upper[1:, pixel] != upper[:-1, pixel]) % 6) for pixel in range(upper.shape[1])]
    assert {len(moment) for moment in moments} == {1}
    assert len(set.union(*moments)) == 6
    step = frames.mean(0, where=upper) - frames.mean(0, where=~upper)
    np.testing.assert_allclose(step, 2 * (middle - lower), rtol=0.05)
    assert np.median(step) == pytest.approx(5000.0, rel=0.3)


def test_pixels_fill_up() -> None:
    made = sensor(
        read_noise_e=0.0, full_well_e=20_000.0, bias_column_adu=0.0, bias_pixel_adu=0.0, bias_row_ramp_adu=0.0
    )
    assert made.saturation_adu() == 20_000.0
    assert made.saturation_adu(gain=140) == pytest.approx(20_000.0 * 10**0.2)
    assert (made.saturation_adu(gain=0), made.saturation_adu(binning=2)) == (pytest.approx(20_000 / 10**0.5), 65_035)
    assert made.saturation_adu(gain=0, binning=2) == pytest.approx(80_000 / 10**0.5)
    assert (made.dark_frame(3000.0, 60.0, 0) == 20_500).all()
    assert made.dark_frame(3000.0, 60.0, 0, binning=2).max() == 65535


def test_the_converter_ends() -> None:
    made = sensor(adc_bits=12)
    assert made.saturation_adu() == 4095 - 500
    assert (made.dark_frame(3000.0, 60.0, 0) == 4095).all()
    assert sensor(bias_level_adu=0.0, bias_column_adu=0.0).dark_frame(0.0, 0.0, 0).min() == 0


def test_the_hottest_and_longest_that_is_allowed_comes_through() -> None:
    assert (sensor().dark_frame(3600.0, 100.0, 0, light_adu_per_s=1e300) > 49_000).all()


def test_cosmic_rays_come_with_area_and_time() -> None:
    made = sensor(rows=300, cols=300, pixel_size_um=10.0, cosmic_rays_per_cm2_min=100.0, cosmic_ray_e=3000.0)
    plain = made.expected_dark_adu(60.0, -10.0) + made.bias_adu()
    hits = [np.count_nonzero(made.dark_frame(60.0, -10.0, k) > plain + 100) for k in range(60)]
    # 9 tracks a frame of 4 pixels each; diagonal steps stay in a pixel now and then, edges cut some off
    assert 9 * 2.5 < np.mean(hits) < 9 * 4
    assert not any(np.any(made.dark_frame(0.0, -10.0, k) > made.bias_adu() + 100) for k in range(20))


@pytest.mark.parametrize(("corner", "place"), [((True, False), (0, -1)), ((False, True), (-1, 0))])
def test_glow_stands_in_its_corner_whatever_the_temperature(corner: tuple[bool, bool], place: tuple[int, int]) -> None:
    bright, plain = sensor(glow_e_s=2.0, glow_corner=corner), sensor()
    glow = [bright.expected_dark_adu(50.0, c) - plain.expected_dark_adu(50.0, c) for c in (-30.0, 10.0)]
    np.testing.assert_allclose(*glow, atol=1e-9)
    assert glow[0][place] == glow[0].max() == pytest.approx(100.0)
    assert glow[0][-1 - place[0], -1 - place[1]] < 1.0


def test_black_clamp_keeps_long_darks_at_the_bias() -> None:
    made = sensor(black_clamp=True)
    assert np.median(made.dark_frame(300.0, 0.0, 0)) == pytest.approx(500.0, abs=15.0)
    assert np.median(sensor().dark_frame(300.0, 0.0, 0)) > 600.0
    assert abs(np.median(made.expected_dark_adu(300.0, 0.0))) < 15.0


def test_black_clamp_works_on_charge() -> None:
    made = sensor(black_clamp=True)
    frames = stack(made, 300.0, 0.0, 20, gain=160, binning=2)
    dark = made.expected_dark_adu(300.0, 0.0, gain=160, binning=2)
    assert (frames.mean(0) - made.bias_adu(binning=2) - dark).mean() == pytest.approx(0.0, abs=1.5)


def test_pedestal_drifts_from_frame_to_frame() -> None:
    made = sensor(pedestal_drift_adu=5.0)
    levels = np.array([made.dark_frame(0.0, 0.0, k).mean() for k in range(100)])
    assert levels.std() == pytest.approx(5.0, rel=0.3)
    assert levels.mean() == pytest.approx(made.bias_adu().mean(), abs=2.0)


def test_light_leaks_in_as_a_smooth_gradient() -> None:
    made = sensor()
    frames = stack(made, 20.0, -10.0, 60, light_adu_per_s=50.0)
    light = frames.mean(0) - made.bias_adu() - made.expected_dark_adu(20.0, -10.0)
    assert light[-8:, -8:].mean() == pytest.approx(1000.0, rel=0.1)
    assert light[:8, :8].mean() == pytest.approx(200.0, rel=0.2)
    assert light.mean() == pytest.approx(600.0, rel=0.02)
    higher = made.dark_frame(20.0, -10.0, 0, light_adu_per_s=50.0, gain=140)
    assert higher.mean() - made.dark_frame(20.0, -10.0, 0, gain=140).mean() == pytest.approx(600.0, rel=0.02)


@pytest.mark.parametrize(
    ("exposure_s", "temperature_c", "number", "more"),
    [
        (-1.0, 0.0, 0, {}),
        (math.nan, 0.0, 0, {}),
        (math.inf, 0.0, 0, {}),
        (3601.0, 0.0, 0, {}),
        (1.0, math.nan, 0, {}),
        (1.0, -273.15, 0, {}),
        (1.0, 999.0, 0, {}),
        (1.0, 0.0, -1, {}),
        (1.0, 0.0, 0, {"binning": 0}),
        (1.0, 0.0, 0, {"binning": 65}),
        (1.0, 0.0, 0, {"gain": -1}),
        (1.0, 0.0, 0, {"gain": 301}),
        (1.0, 0.0, 0, {"offset": 101}),
        (1.0, 0.0, 0, {"light_adu_per_s": -1.0}),
        (1.0, 0.0, 0, {"light_adu_per_s": math.nan}),
    ],
)
def test_what_cannot_be_is_refused(
    exposure_s: float, temperature_c: float, number: int, more: dict[str, object]
) -> None:
    with pytest.raises(CameraValueError):
        sensor().dark_frame(exposure_s, temperature_c, number, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", 0),
        ("electrons_per_adu", 0.0),
        ("read_noise_e", -1.0),
        ("full_well_e", math.inf),
        ("adc_bits", 17),
        ("seed", -1),
        ("hot_fraction", 1.5),
        ("telegraph_dwell_frames", 0),
        ("glow_reach", 0.0),
        ("hot_decades", (0.0, math.nan)),
    ],
)
def test_no_sensor_is_like_that(name: str, value: object) -> None:
    with pytest.raises(CameraValueError, match=name):
        sensor(**{name: value})


def test_a_sensor_of_one_pixel() -> None:
    made = sensor(rows=1, cols=1, glow_e_s=1.0, telegraph_fraction=1.0, hot_fraction=1.0)
    assert made.dark_frame(1.0, -10.0, 0, light_adu_per_s=1.0).shape == (1, 1)
