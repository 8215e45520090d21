"""Local medians by a network, against scipy: the same numbers everywhere, edges included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from darkpipe.science.local_median import local_median


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(2, 2), (3, 7), (40, 300), (70, 257), (9, 1030)])
def test_medians_are_those_of_scipy(shape: tuple[int, int], size: int) -> None:
    rng = np.random.default_rng(shape[1])
    image = rng.normal(100.0, 30.0, shape).astype(np.float32)
    image[rng.random(shape) < 0.2] = np.round(image[rng.random(shape) < 0.2].mean())  # many alike
    image[rng.random(shape) < 0.05] = -1e6
    image[rng.random(shape) < 0.05] = np.inf
    np.testing.assert_array_equal(local_median(image, size), median_filter(image, size))


def test_a_missing_pixel_is_outvoted() -> None:
    image = np.arange(100, dtype=np.float32).reshape(10, 10)
    image[4, 4] = np.nan
    found = local_median(image)
    assert np.isfinite(found).all()
    assert abs(found[4, 4] - 44.0) < 2.0


@pytest.mark.parametrize(("shape", "size"), [((9, 9), 4), ((9, 9), 7), ((1, 9), 5), ((9,), 3)])
def test_wrong_input_is_refused(shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(ValueError, match="size of 3 or 5"):
        local_median(np.zeros(shape, np.float32), size)
