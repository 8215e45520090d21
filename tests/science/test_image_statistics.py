"""Statistics of images against plain numpy."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from darkpipe.science import image_statistics as module
from darkpipe.science.image_statistics import PERCENTS, image_statistics


def counts(sigma: float, seed: int = 2) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(1000.3, sigma, (300, 400)))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64", ">i2", ">f4"])
def test_they_are_those_of_numpy(dtype: str) -> None:
    image = counts(12.0).astype(dtype)
    found = image_statistics(image)
    wide = image.astype(np.float64)
    assert (found.pixels, found.missing) == (wide.size, 0)
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (wide.min(), wide.max())
    for percent, value in zip(PERCENTS, found.percentiles, strict=True):
        assert value == pytest.approx(np.percentile(wide, percent), abs=0.5)
    assert found.hot == np.count_nonzero(wide > found.median + 5 * found.sigma)
    assert found.cold == np.count_nonzero(wide < found.median - 5 * found.sigma)


@pytest.mark.parametrize("sigma", [0.8, 2.0, 15.0])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_median_and_sigma_are_known_below_a_count(sigma: float, step: float) -> None:
    image = np.rint(np.random.default_rng(4).normal(1000.3, sigma, (500, 500)) / step) * step
    found = image_statistics(image.astype(np.float32))
    assert found.median == pytest.approx(1000.3, abs=0.05)
    assert found.sigma == pytest.approx(np.hypot(sigma, step / np.sqrt(12)), rel=0.06)


def test_values_off_any_lattice_and_a_range_beyond_a_histogram() -> None:
    image = np.random.default_rng(5).normal(-3.0, 0.01, 100_000).astype(np.float32)
    found = image_statistics(image)
    assert found.median == pytest.approx(float(np.median(image)), rel=1e-6)
    assert found.sigma == pytest.approx(0.01, rel=0.02)
    wide = np.array([0, 1, 2, 2**31 - 1], np.int64)
    assert image_statistics(wide).maximum == 2**31 - 1
    assert image_statistics(wide).percentiles[4] == 1.5


def test_a_hot_pixel_more_is_one_hot_pixel_more() -> None:
    image = counts(10.0)
    before = image_statistics(image)
    image[7, 9] = 30_000
    after = image_statistics(image)
    assert after.hot == before.hot + 1
    assert after.sigma == pytest.approx(before.sigma, rel=1e-3)
    assert after.hot_above == pytest.approx(after.median + 5 * after.sigma)
    assert image_statistics(image, hot_sigma=3.0).hot > after.hot


def test_missing_pixels_are_counted_and_left_out() -> None:
    image = counts(10.0).astype(np.float32)
    image[:20] = np.nan
    image[20, :5] = np.inf
    found = image_statistics(image)
    assert found.missing == 20 * 400 + 5
    good = image[np.isfinite(image)].astype(np.float64)
    assert found.mean == pytest.approx(good.mean(), rel=1e-12)
    assert found.maximum == good.max()


def test_a_constant_image_an_empty_one_and_one_of_nan() -> None:
    found = image_statistics(np.full((9, 9), 65535, np.uint16))
    assert (found.mean, found.median, found.std, found.sigma, found.hot, found.cold) == (65535, 65535, 0, 0, 0, 0)
    for image in (np.zeros((0, 4)), np.full((3, 3), np.nan)):
        found = image_statistics(image)
        assert found.pixels == 0
        assert np.isnan([found.mean, found.median, found.sigma, found.minimum, *found.percentiles]).all()
        assert found.hot == 0


def test_rows_of_tables_name_the_percentiles() -> None:
    row = image_statistics(np.arange(101)).row("before_")
    assert {"before_mean", "before_p0.1", "before_p50", "before_p99.9", "before_hot"} < set(row)
    assert "before_percentiles" not in row


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="hot_sigma"):
        image_statistics(np.zeros((2, 2)), hot_sigma=0.0)


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0
