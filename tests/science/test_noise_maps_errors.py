"""Errors of noise maps and of darks made of them: (value - truth) / error has a spread of 1."""

from __future__ import annotations

import numpy as np
import pytest
from em_frames import GRID, STAGES, EmSensor, em_sensor, stacks

from darkpipe.science.em_darks import synthesised_dark
from darkpipe.science.noise_levels import excess_kurtosis, excess_noise2
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps
from darkpipe.science.regions import DetectorRegions

SHAPE = (170, 180)
EQUAL, UNEQUAL = [10] * 6, [10, 40, 2, 30, 5, 20]


def calibrated(sensor: EmSensor, rng: np.random.Generator, counts: list[int], **options: object) -> NoiseMaps:
    cal = NoiseMapCalibration(DetectorRegions.whole(*SHAPE), NoiseMapOptions(**options))  # type: ignore[arg-type]
    for frames, g, t, masks in stacks(sensor, rng, counts):
        cal.add(frames.astype(np.float32), g, t, masks)
    return cal.fit()


def pulls(maps: NoiseMaps, sensor: EmSensor) -> dict[str, np.ndarray]:
    """Of the maps, and of a dark at a gain and exposure between the stacks."""
    dark = synthesised_dark(maps, 300.0, 50.0)
    truth = sensor.level(300.0, 50.0) / 300.0
    return {
        "F": (maps.fixed_e - sensor.fixed_e) / maps.fixed_error_e,
        "C": (maps.cic_e - sensor.cic_e) / maps.cic_error_e,
        "D": (maps.dark_e_per_s - sensor.dark_e_per_s) / maps.dark_error_e_per_s,
        "dark": (dark.dark_e - truth) / dark.error_e,
    }


@pytest.mark.parametrize("weighting", ["noise", "frames", "equal"])
@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL], ids=["equal stacks", "unequal stacks"])
def test_spread_of_pulls(weighting: str, counts: list[int]) -> None:
    rng = np.random.default_rng(11)
    sensor = em_sensor(rng, SHAPE, hot=0.002)
    maps = calibrated(sensor, rng, counts, weighting=weighting)
    ordinary = sensor.dark_e_per_s < 2e-3
    for name, pull in pulls(maps, sensor).items():
        assert np.nanstd(pull[ordinary]) == pytest.approx(1.0, abs=0.05), name
        assert abs(np.nanmean(pull[ordinary])) < 0.03, name
    # six stacks less three parameters; beyond 'noise' the fit is not the one that makes it least
    if weighting == "noise":
        assert np.nanmean(maps.chi2[ordinary]) == pytest.approx(3.0, abs=0.1)


def test_hot_pixels_have_their_own_noise() -> None:
    rng = np.random.default_rng(12)
    sensor = em_sensor(rng, SHAPE, hot=0.05)
    maps = calibrated(sensor, rng, EQUAL)
    hot = sensor.dark_e_per_s > 0.1
    for name, pull in pulls(maps, sensor).items():
        assert np.nanstd(pull[hot]) == pytest.approx(1.0, abs=0.1), name
    assert maps.read_noise_e == pytest.approx(100.0, rel=0.02)


def test_weights_pay() -> None:
    rng = np.random.default_rng(13)
    sensor = em_sensor(rng, SHAPE)
    spread = {}
    for weighting in ("noise", "frames", "equal"):
        maps = calibrated(sensor, np.random.default_rng(14), UNEQUAL, weighting=weighting)
        spread[weighting] = np.nanstd(maps.dark_e_per_s - sensor.dark_e_per_s)
    assert spread["noise"] < 0.97 * min(spread["frames"], spread["equal"])


def test_the_gain_register_itself() -> None:
    """Poisson electrons, multiplied: skew at few frames, so the spread over all pixels is what must be right."""
    rng = np.random.default_rng(15)
    sensor = em_sensor(rng, SHAPE, electrons="register")
    maps = calibrated(sensor, rng, [60] * 6)
    for name, pull in pulls(maps, sensor).items():
        assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05), name
        assert abs(np.nanmean(pull)) < 0.03, name


@pytest.mark.parametrize("kind", ["common", "independent"])
def test_errors_of_the_frames_count(kind: str) -> None:
    """Frames whose own errors say what their scatter does not: an offset common to a stack's frames in each pixel."""
    rng = np.random.default_rng(16)
    sensor = em_sensor(rng, SHAPE)
    cal = NoiseMapCalibration(DetectorRegions.whole(*SHAPE), NoiseMapOptions(frame_errors=kind))  # type: ignore[arg-type]
    own_e = 80.0
    for frames, g, t, masks in stacks(sensor, rng, EQUAL):
        offset = own_e * (1.0 if kind == "common" else 10**-0.5) * rng.standard_normal(SHAPE)
        cal.add(frames + offset, g, t, masks, np.full(frames.shape, own_e, np.float32))
    maps = cal.fit()
    for name, pull in pulls(maps, sensor).items():
        assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05), name


def test_read_noise_and_the_noise_of_the_stacks() -> None:
    rng = np.random.default_rng(17)
    sensor = em_sensor(rng, SHAPE, electrons="register")
    maps = calibrated(sensor, rng, [10] * 6)
    assert maps.read_noise_e == pytest.approx(100.0, rel=0.01)
    for stack, (g, t) in zip(maps.stacks, sorted(GRID), strict=True):
        expected = np.sqrt(1e4 + g * g * excess_noise2(np.float64(g), STAGES) * (0.02 + t * 1e-3))
        assert stack.noise_e == pytest.approx(expected, rel=0.05)
        assert (stack.em_gain, stack.exposure_s, stack.frames) == (g, t, 10)
        assert stack.mean_frames == pytest.approx(9.9, abs=0.02)


def test_read_noise_is_not_told_where_the_gain_drowns_it() -> None:
    rng = np.random.default_rng(18)
    sensor = em_sensor(rng, SHAPE)
    cal = NoiseMapCalibration(DetectorRegions.whole(*SHAPE))
    for frames, g, t, masks in stacks(
        sensor, rng, [5] * 4, ((2000.0, 50.0), (2000.0, 100.0), (4000.0, 50.0), (4000.0, 90.0))
    ):
        cal.add(frames, g, t, masks)
    assert np.isnan(cal.fit().read_noise_e)


def test_read_noise_from_the_pattern_of_the_mean() -> None:
    """Right where the fixed pattern is small; the larger it is, the nearer to sqrt(2) times too much."""
    rng = np.random.default_rng(19)
    small = em_sensor(rng, SHAPE)
    assert calibrated(small, rng, EQUAL).profile_read_noise_e == pytest.approx(100.0, rel=0.05)
    large = EmSensor(20.0 * small.fixed_e, small.cic_e, small.dark_e_per_s)
    maps = calibrated(large, rng, EQUAL)
    assert maps.profile_read_noise_e > 120.0
    assert maps.read_noise_e == pytest.approx(100.0, rel=0.01)


def test_warm_pixels_without_the_brightest_stack() -> None:
    """What is left tells D to 20 %: the scatter of the frames must help to tell the noise of such a pixel."""
    rng = np.random.default_rng(20)
    sensor = em_sensor(rng, SHAPE)
    warm = rng.random(SHAPE) < 0.1
    sensor.dark_e_per_s[warm] = 0.05
    cal = NoiseMapCalibration(DetectorRegions.whole(*SHAPE))
    for frames, g, t, masks in stacks(sensor, rng, EQUAL):
        cal.add(frames, g, t, masks | (warm & ((g, t) == (1000.0, 100.0))))
    maps = cal.fit()
    assert (maps.unusable_stacks[warm] == 1).all()
    found = pulls(maps, sensor)
    for name in "FCD":
        assert np.sqrt(np.nanmean(np.square(found[name][warm]))) == pytest.approx(1.0, abs=0.1), name
    assert np.nanstd(found["D"][~warm]) == pytest.approx(1.0, abs=0.05)


def test_the_fourth_cumulant_of_multiplied_electrons() -> None:
    """Against Poisson electrons with an exponential multiplication, and without one."""
    rng = np.random.default_rng(21)
    there = rng.poisson(0.5, 4_000_000)
    for g in (1.0, 1000.0):
        out = g * rng.standard_gamma(np.maximum(there, 1)) * (there > 0) if g > 1 else 1.0 * there
        away = out - out.mean()
        variance = np.mean(away**2)
        fourth = np.mean(away**4) - 3 * variance**2
        assert excess_kurtosis(np.float64(g), STAGES) * variance == pytest.approx(fourth, rel=0.1)
