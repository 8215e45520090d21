"""The surroundings of pixels, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.neighbours import box_offsets, gather, level_and_scatter
from darkpipe.science.neighbours_kernel import exchanges, levels, sort_columns


@pytest.mark.parametrize("stride", [1, 2])
def test_a_box_has_the_24_pixels_around_one(stride: int) -> None:
    offsets = box_offsets(stride)
    assert offsets.shape == (24, 2)
    assert len({tuple(o) for o in offsets.tolist()}) == 24
    assert (0, 0) not in {tuple(o) for o in offsets.tolist()}
    assert np.abs(offsets).max() == 2 * stride
    assert (offsets % stride == 0).all()


def test_values_beyond_the_edge_are_missing() -> None:
    plane = np.arange(30.0).reshape(5, 6)
    found = gather(plane, np.array([0, 4]), np.array([0, 3]), np.array([[0, 0], [-1, 0], [0, 1], [1, 0]]))
    np.testing.assert_array_equal(found[0], [0.0, np.nan, 1.0, 6.0])
    np.testing.assert_array_equal(found[1], [27.0, 21.0, 28.0, np.nan])


def test_level_and_scatter_are_those_of_numpy() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(50, 24))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[7] = np.nan
    values[8, 1:] = np.nan
    level, scatter, count = level_and_scatter(values)
    for k in range(50):
        own = values[k][np.isfinite(values[k])]
        assert count[k] == own.size
        if own.size == 0:
            assert np.isnan(level[k])
            assert np.isnan(scatter[k])
            continue
        assert level[k] == pytest.approx(np.median(own))
        assert scatter[k] == pytest.approx(1.4826 * np.median(np.abs(own - np.median(own))), rel=1e-4)
    assert level_and_scatter(np.empty((0, 24)))[0].size == 0


@pytest.mark.parametrize("n", [1, 2, 3, 23, 24, 25, 40])
def test_the_network_sorts(n: int) -> None:
    table = np.random.default_rng(n).normal(size=(n, 8))
    expected = np.sort(table, axis=0)
    sort_columns(table, exchanges(n))
    np.testing.assert_array_equal(table, expected)


def test_a_median_takes_those_values_that_another_table_has() -> None:
    rng = np.random.default_rng(3)
    values, like = rng.normal(size=(24, 300)), rng.normal(size=(24, 300))
    like[rng.random(like.shape) < 0.4] = np.nan
    level, distance, count = levels(values, like, scatter=False)
    assert distance.size == 0
    for k in range(300):
        own = values[np.isfinite(like[:, k]), k]
        assert (count[k], level[k]) == (own.size, np.median(own))
