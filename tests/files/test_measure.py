"""Read noise, its map, conversion gain and saturation, from raw frames of a known sensor."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from simulated import PRESETS, Sensor, Shot, write_frame

from darkpipe.files.measure import (
    RawStack,
    Zero,
    common_read_noise,
    measured_gain,
    saturation_level,
    write_read_noise_map,
)
from darkpipe.files.products import read_planes

NAN = math.nan
SENSOR = Sensor(dataclasses.replace(PRESETS["default"], rows=160, cols=160, temperatures_c=(0.0,), hot_fraction=0.01))


def taken(folder: Path, sensor: Sensor, kind: str, exposure_s: float, n: int, temperature_c: float = 0.0) -> RawStack:
    paths = [folder / f"{kind}_{temperature_c:g}_{exposure_s:g}_{i}.fits" for i in range(n)]
    images = [write_frame(p, sensor, Shot(kind, temperature_c, exposure_s, i)).image for i, p in enumerate(paths)]
    return RawStack(paths, [0] * n, *images[0].shape, [float(np.median(i)) for i in images])


def noisy(folder: Path, name: str, sigmas: np.ndarray, n: int) -> RawStack:
    """Frames (n) whose pixels have these noises, about a pattern."""
    rng = np.random.default_rng([len(name), n])
    pattern = rng.normal(1000.0, 20.0, sigmas.shape)
    paths = [folder / f"{name}{i}.fits" for i in range(n)]
    for path in paths:
        image = np.clip(np.rint(pattern + rng.normal(0, 1, sigmas.shape) * sigmas), 0, 65535).astype(np.uint16)
        fits.PrimaryHDU(image).writeto(path)
    return RawStack(paths, [0] * n, *sigmas.shape, [1000.0] * n)


def test_read_noise_is_pooled_over_temperatures(tmp_path: Path) -> None:
    shape = (96, 96)
    stacks = [noisy(tmp_path, "cold", np.full(shape, 4.0), 6), noisy(tmp_path, "warm", np.full(shape, 6.0), 6)]
    cold, error = common_read_noise(stacks[:1], 1.0)
    assert cold == pytest.approx(4.0, rel=0.02)
    assert 0 < error < 0.1
    pooled, _ = common_read_noise(stacks, 1.0)
    assert pooled == pytest.approx(math.sqrt((16 + 36) / 2), rel=0.02)
    assert common_read_noise(stacks, 2.0)[0] == pytest.approx(pooled / 2)


def test_a_temperature_with_one_bias_does_not_blur_the_read_noise(tmp_path: Path) -> None:
    stacks = [noisy(tmp_path, "many", np.full((96, 96), 4.0), 6), noisy(tmp_path, "alone", np.full((96, 96), 4.0), 1)]
    assert common_read_noise(stacks, 1.0)[0] == pytest.approx(4.0, rel=0.02)
    # from neighbouring pixels, so with the pattern in it
    assert common_read_noise(stacks[1:], 1.0)[0] > 10.0


def test_the_read_noise_map_takes_variances_within_temperatures(tmp_path: Path) -> None:
    """Patterns of two temperatures differ by 20 ADU a pixel: across stacks that would be noise."""
    sigmas = np.full((96, 96), 3.0)
    sigmas[10, 20], sigmas[50, 60] = 30.0, 45.0
    stacks = [noisy(tmp_path, "one", sigmas, 10), noisy(tmp_path, "other", sigmas, 8)]
    write_read_noise_map(tmp_path / "map.fits", stacks, 1.0, ["a"])
    found = read_planes(tmp_path / "map.fits", ["SCI"])[0]
    assert np.median(found) == pytest.approx(3.0, rel=0.03)
    assert found[10, 20] == pytest.approx(30.0, rel=0.5)
    assert found[50, 60] == pytest.approx(45.0, rel=0.5)
    assert fits.getheader(tmp_path / "map.fits")["NCOMBINE"] == 18


@pytest.mark.parametrize("changes", [{}, {"gain_e_per_adu": 2.2, "read_noise_e": 15.0, "bias_pixel_adu": 20.0}])
def test_the_gain_is_that_of_the_sensor(tmp_path: Path, changes: dict[str, float]) -> None:
    sensor = Sensor(dataclasses.replace(SENSOR.recipe, **changes))
    gain = sensor.recipe.gain_e_per_adu
    bias, dark = taken(tmp_path, sensor, "bias", 0.0, 10), taken(tmp_path, sensor, "dark", 300.0, 8)
    noise, _ = common_read_noise([bias], 1.0)
    found = measured_gain(dark, Zero(bias, 0.0, noise), 1.0, 62000.0)
    assert found is not None
    assert found.gain_e_per_adu == pytest.approx(gain, rel=0.05)
    # without a bias: shorter darks take its place
    short = taken(tmp_path, sensor, "dark", 60.0, 8)
    found = measured_gain(dark, Zero(short, 0.2, common_read_noise([short], 1.0)[0]), 1.0, 62000.0)
    assert found is not None
    assert found.gain_e_per_adu == pytest.approx(gain, rel=0.07)


def test_the_noise_of_the_mean_does_not_flatten_the_gain(tmp_path: Path) -> None:
    """A faint bulk with a spread like its noise: the line through it must not tilt."""
    recipe = dataclasses.replace(SENSOR.recipe, gain_e_per_adu=2.0, read_noise_e=13.0, bulk_spread=0.1)
    sensor = Sensor(recipe)
    bias, dark = taken(tmp_path, sensor, "bias", 0.0, 10), taken(tmp_path, sensor, "dark", 30.0, 10)
    found = measured_gain(dark, Zero(bias, 0.0, common_read_noise([bias], 1.0)[0]), 1.0, 62000.0)
    assert found is not None
    assert found.gain_e_per_adu == pytest.approx(2.0, rel=0.06)


def test_one_dark_tells_no_gain(tmp_path: Path) -> None:
    bias, dark = taken(tmp_path, SENSOR, "bias", 0.0, 2), taken(tmp_path, SENSOR, "dark", 30.0, 1)
    assert measured_gain(dark, Zero(bias, 0.0, 3.0), 1.0, 62000.0) is None


@pytest.mark.parametrize(
    ("headers", "maxima", "level"),
    [
        ([NAN], [(40000.0, False)], 65535.0),
        ([NAN], [(255.0, False)], 65535.0),  # a bias that ends there by chance
        ([NAN], [(255.0, False), (252.0, False), (255.0, False)], 65535.0),
        ([NAN], [(255.0, True)], 255.0),  # 8-bit data
        ([NAN], [(4095.0, False), (4095.0, False), (900.0, False)], 4095.0),
        ([NAN], [(4095.0, False), (900.0, False)], 65535.0),
        ([NAN], [(65520.0, True), (900.0, False)], 65520.0),
        ([50000.0], [(40000.0, False)], 50000.0),
        ([30000.0], [(40000.0, False)], 65535.0),  # a header that the data refute
        ([NAN], [(100000.0, False)], 100000.0),
        ([], [], 65535.0),
    ],
)
def test_saturation(headers: list[float], maxima: list[tuple[float, bool]], level: float) -> None:
    assert saturation_level(headers, maxima, 0.5) == 0.5 * level
