"""Conversion gain from raw frames of a known sensor."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from simulated import PRESETS, Sensor, Shot, write_frame

from darkpipe.files.measure import RawStack, common_read_noise, pixel_variances
from darkpipe.files.measure_gain import Light, level_drift, measured_gain
from darkpipe.science.gain import GainEstimate

SENSOR = Sensor(dataclasses.replace(PRESETS["default"], rows=160, cols=160, temperatures_c=(0.0,), hot_fraction=0.01))
SURE = (1.0, 0.003)


def taken(folder: Path, sensor: Sensor, kind: str, exposure_s: float, n: int) -> RawStack:
    paths = [folder / f"{kind}_{exposure_s:g}_{i}.fits" for i in range(n)]
    images = [write_frame(p, sensor, Shot(kind, 0.0, exposure_s, i)).image for i, p in enumerate(paths)]
    return RawStack(paths, [0] * n, *images[0].shape, [float(np.median(i)) for i in images])


def on_bias(folder: Path, sensor: Sensor, darks: list[RawStack], pair: float = 0.0) -> GainEstimate:
    bias = taken(folder, sensor, "bias", 0.0, 10)
    noise = common_read_noise([bias], 1.0)
    assert noise.prior is not None
    read = noise.prior.posterior_variance(*pixel_variances([bias], 1.0, bias.centre()))
    lights = [Light(darks, None, bias, 1.0, 0.0, pair, SURE)]
    if not pair:
        lights = [Light([dark], None, bias, 1.0, 0.0, 0.0, SURE) for dark in darks]
    return measured_gain(lights, read, 0.0, 1.0, 62000.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gain_e_per_adu": 2.2, "read_noise_e": 15.0, "bias_pixel_adu": 20.0},
        {"temperature_jitter_k": 0.3},
        {"cosmic_rate_cm2_s": 0.3},
    ],
)
def test_the_gain_is_that_of_the_sensor(tmp_path: Path, changes: dict[str, float]) -> None:
    sensor = Sensor(dataclasses.replace(SENSOR.recipe, **changes))
    gain = sensor.recipe.gain_e_per_adu
    darks = [taken(tmp_path, sensor, "dark", t, 8) for t in (300.0, 60.0)]
    found = on_bias(tmp_path, sensor, darks)
    assert found.gain_e_per_adu == pytest.approx(gain, abs=max(0.02 * gain, 3 * found.error_e_per_adu))
    assert found.error_e_per_adu < 0.02 * gain
    # without a bias: the difference of two exposures tells the signal
    short, long = darks[1], darks[0]
    lights = [
        Light([long], None, short, 300 / 240, 0.0, 0.0, SURE),
        Light([short], long, short, 60 / 240, 0.0, 0.0, SURE),
    ]
    found = measured_gain(lights, None, 0.0, 1.0, 62000.0)
    assert found.gain_e_per_adu == pytest.approx(gain, abs=max(0.02 * gain, 3.5 * found.error_e_per_adu))
    noise = math.hypot(sensor.recipe.read_noise_e / gain, 12**-0.5)
    assert found.read_noise_adu == pytest.approx(noise, abs=4 * found.read_noise_error_adu)


def test_two_single_darks_of_two_exposures_tell_it(tmp_path: Path) -> None:
    pair = [taken(tmp_path, SENSOR, "dark", t, 1) for t in (300.0, 150.0)]
    found = on_bias(tmp_path, SENSOR, pair, pair=2.0)
    assert found.error_e_per_adu < 0.03 * 0.8
    assert found.gain_e_per_adu == pytest.approx(0.8, abs=3 * found.error_e_per_adu)


def test_one_cell_and_no_bias(tmp_path: Path) -> None:
    """The zero of the signal is not known; hot pixels against the bulk tell the slope all the same."""
    dark = taken(tmp_path, SENSOR, "dark", 300.0, 8)
    found = measured_gain([Light([dark], None, None, 1.0, 0.0, 0.0, SURE)], None, 0.0, 1.0, 62000.0)
    assert found.gain_e_per_adu == pytest.approx(0.8, abs=4 * found.error_e_per_adu)
    assert found.error_e_per_adu < 0.2 * 0.8


def test_frames_that_are_full_tell_nothing(tmp_path: Path) -> None:
    dark = taken(tmp_path, SENSOR, "dark", 30.0, 3)
    assert math.isnan(on_bias(tmp_path, SENSOR, []).gain_e_per_adu)
    bias = taken(tmp_path, SENSOR, "bias", 0.0, 3)
    found = measured_gain([Light([dark], None, bias, 1.0, 0.0, 0.0, SURE)], None, 0.0, 1.0, 1.0)
    assert math.isnan(found.gain_e_per_adu)


def test_the_drift_of_levels() -> None:
    assert level_drift([]) == level_drift([[3.0]]) == 0.0
    rng = np.random.default_rng(1)
    assert level_drift([list(0.5 * rng.normal(size=4) + k) for k in range(400)]) == pytest.approx(0.5, rel=0.06)
