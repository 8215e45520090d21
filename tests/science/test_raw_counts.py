from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.raw_counts import ROUNDING_SIGMA, fill_missing, to_raw_counts, to_uint16


def test_scale_and_pedestal_are_undone() -> None:
    raw = np.array([[0, 160], [4096, 65520]], float)
    native = raw / 16 + -25.0
    np.testing.assert_array_equal(to_raw_counts(native, 16.0, -25.0), raw)
    np.testing.assert_array_equal(to_raw_counts(raw, 1.0), raw)


def test_rounding_keeps_the_mean_and_costs_what_is_said() -> None:
    values = np.random.default_rng(1).uniform(100, 2000, 400_000)
    image, outside = to_uint16(values)
    error = image - values
    assert image.dtype == np.uint16
    assert outside == 0
    assert error.std() == pytest.approx(ROUNDING_SIGMA, rel=0.01)
    assert abs(error.mean()) < 4 * ROUNDING_SIGMA / np.sqrt(values.size)
    halves = np.arange(1000) + 0.5
    assert (to_uint16(halves)[0] - halves).mean() == 0.0


def test_what_does_not_fit_is_cut_off_and_counted() -> None:
    image, outside = to_uint16(np.array([-0.4, -0.6, -1000.0, 65535.4, 65535.6, 1e9]))
    np.testing.assert_array_equal(image, [0, 0, 0, 65535, 65535, 65535])
    assert outside == 4


@pytest.mark.parametrize("stride", [1, 2])
def test_holes_get_the_median_of_their_surroundings(stride: int) -> None:
    rows, cols = np.mgrid[:12, :15]
    plane = 1000.0 + 100.0 * ((rows % 2) * 2 + cols % 2)  # the four colours of a mosaic
    holes = [(0, 0), (5, 7), (5, 8), (11, 14)]
    given = plane.copy()
    for where in holes:
        given[where] = np.nan
    filled, count = fill_missing(given, stride)
    assert count == len(holes)
    intact = np.isfinite(given)
    np.testing.assert_array_equal(filled[intact], plane[intact])
    assert np.isfinite(filled).all()
    apart = np.array([filled[where] - plane[where] for where in holes])
    assert (apart == 0).all() == (stride == 2)
    assert np.isnan(given).sum() == len(holes)  # what was given stays


def test_a_hole_without_surroundings_gets_the_median_of_the_plane() -> None:
    plane = np.full((20, 20), np.nan)
    plane[0, :3] = 10.0, 20.0, 40.0
    assert fill_missing(plane)[0][15, 15] == 20.0
    assert (fill_missing(np.full((3, 3), np.nan))[0] == 0).all()
    assert fill_missing(np.ones((3, 3)))[1] == 0
