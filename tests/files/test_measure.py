"""Read noise, its map, conversion gain and saturation, from raw frames of a known sensor."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.files.measure import (
    RawStack,
    common_read_noise,
    read_noise_map,
    saturation_level,
)
from darkpipe.files.products import read_planes

NAN = math.nan


def noisy(folder: Path, name: str, sigmas: np.ndarray, n: int) -> RawStack:
    """Frames (n) whose pixels have these noises, about a pattern."""
    rng = np.random.default_rng([len(name), n])
    pattern = rng.normal(1000.0, 20.0, sigmas.shape)
    paths = [folder / f"{name}{i}.fits" for i in range(n)]
    for path in paths:
        image = np.clip(np.rint(pattern + rng.normal(0, 1, sigmas.shape) * sigmas), 0, 65535).astype(np.uint16)
        fits.PrimaryHDU(image).writeto(path)
    return RawStack(paths, [0] * n, *sigmas.shape, [1000.0] * n)


def test_read_noise_is_told_for_each_temperature_and_pooled(tmp_path: Path) -> None:
    shape = (96, 96)
    stacks = [noisy(tmp_path, "cold", np.full(shape, 4.0), 6), noisy(tmp_path, "warm", np.full(shape, 6.0), 6)]
    cold = common_read_noise(stacks[:1], 1.0)
    assert cold.sigma_adu == pytest.approx(4.0, rel=0.02)
    assert 0 < cold.error_adu < 0.1
    pooled = common_read_noise(stacks, 1.0)
    assert pooled.sigma_adu == pytest.approx(math.sqrt((16 + 36) / 2), rel=0.02)
    for (sigma, error), truth in zip(pooled.by_stack, (4.0, 6.0), strict=True):
        assert sigma == pytest.approx(math.hypot(truth, 12**-0.5), abs=4 * error)
        assert 0 < error < 0.02 * truth
    assert common_read_noise(stacks, 2.0).sigma_adu == pytest.approx(pooled.sigma_adu / 2, rel=5e-3)


def test_the_typical_pixel_is_not_the_mixture(tmp_path: Path) -> None:
    """Pixels that differ by 30 %: pairs tell 4 % more than the median pixel has."""
    sigmas = 6.0 * np.exp(np.random.default_rng(2).normal(0, 0.3, (128, 128)))
    found = common_read_noise([noisy(tmp_path, "mixed", sigmas, 20), noisy(tmp_path, "mixed too", sigmas, 20)], 1.0)
    assert found.sigma_adu == pytest.approx(math.hypot(np.median(sigmas), 12**-0.5), rel=0.02)


def test_a_temperature_with_one_bias_does_not_blur_the_read_noise(tmp_path: Path) -> None:
    stacks = [noisy(tmp_path, "many", np.full((96, 96), 4.0), 6), noisy(tmp_path, "alone", np.full((96, 96), 4.0), 1)]
    assert common_read_noise(stacks, 1.0).sigma_adu == pytest.approx(4.0, rel=0.02)
    # from neighbouring pixels, so with the pattern in it
    alone = common_read_noise(stacks[1:], 1.0)
    assert alone.sigma_adu > 10.0
    assert alone.by_stack == ()


def test_the_read_noise_map_takes_variances_within_temperatures(tmp_path: Path) -> None:
    """Patterns of two temperatures differ by 20 ADU a pixel: across stacks that would be noise."""
    sigmas = np.full((96, 96), 3.0)
    sigmas[10, 20], sigmas[50, 60] = 30.0, 45.0
    stacks = [noisy(tmp_path, "one", sigmas, 10), noisy(tmp_path, "other", sigmas, 8)]
    read_noise_map(stacks, 1.0, ["a"]).write(tmp_path / "map.fits")
    found = read_planes(tmp_path / "map.fits", ["SCI"])[0]
    assert np.median(found) == pytest.approx(3.0, rel=0.03)
    assert found[10, 20] == pytest.approx(30.0, rel=0.5)
    assert found[50, 60] == pytest.approx(45.0, rel=0.5)
    assert fits.getheader(tmp_path / "map.fits")["NCOMBINE"] == 18
    read_noise_map(stacks, 1.0, ["a"], 1.5).write(tmp_path / "set.fits")
    assert read_planes(tmp_path / "set.fits", ["SCI"])[0] == pytest.approx(1.5 * found)


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
