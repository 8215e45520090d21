"""What pictures show of planes, against plain numpy, and in bands of every height."""

import math

import numpy as np
import pytest

from darkpipe.science.blocks import block_mean, block_mean_of, block_side
from darkpipe.science.reduced import Reduced, ReducedFlags, error_blocks, reduced

SHAPES = [(512, 512), (1030, 1500), (7, 1), (1, 1), (2100, 40)]


def image(shape, seed=1):
    random = np.random.default_rng(seed)
    found = random.normal(100, 30, shape).astype(np.float32)
    found[random.random(shape) < 0.2] = np.nan
    found[random.random(shape) < 0.01] = np.inf
    return found


def bands(plane, height):
    return [(first, plane[first : first + height]) for first in range(0, plane.shape[0], height)]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_numpy_says(shape):
    plane = image(shape)
    found = Reduced.of(plane, 64)
    finite = np.isfinite(plane)
    assert found.shape == shape
    assert np.array_equal(found.small, block_mean(plane, 64), equal_nan=True)
    assert found.missing == plane.size - finite.sum()
    assert found.largest == (plane[finite].max() if finite.any() else -math.inf)
    grid = plane[:: max(1, shape[0] // 512), :: max(1, shape[1] // 512)]
    assert np.array_equal(found.sample, grid[np.isfinite(grid)])
    assert reduced(found, 64) is found


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("blocks", [1, 3, 1000])
def test_the_height_of_bands_changes_nothing(shape, blocks):
    plane = image(shape)
    whole = Reduced.of(plane, 64)
    found = Reduced.of_bands(shape, bands(plane, blocks * block_side(shape, 64)), 64)
    assert np.array_equal(found.small, whole.small, equal_nan=True)
    assert np.array_equal(found.sample, whole.sample)
    assert (found.missing, found.largest) == (whole.missing, whole.largest)


def test_nothing_is_finite():
    found = Reduced.of(np.full((5, 4), np.nan), 2)
    assert found.missing == 20
    assert found.largest == -math.inf
    assert np.isnan(found.percentiles((25, 50))).all()
    with pytest.raises(ValueError, match="image"):
        Reduced.of(np.zeros(3), 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_flags_are_counted_and_the_last_is_shown(shape):
    random = np.random.default_rng(2)
    flags = (128, 2, 1, 32)
    plane = np.zeros(shape, np.uint16)
    for flag in (*flags, 64):
        plane[random.random(shape) < 0.05] |= flag
    ranks = np.max([np.where(plane & flag, k, 0) for k, flag in enumerate(flags, 1)], axis=0)
    side = block_side(shape, 64)
    starts = (np.arange(0, shape[0], side), np.arange(0, shape[1], side))
    largest = np.maximum.reduceat(np.maximum.reduceat(ranks, starts[0], axis=0), starts[1], axis=1)
    for height in (side, 3 * side, shape[0]):
        found = ReducedFlags.of_bands(shape, bands(plane, height), flags, 64)
        assert found.counts == ((ranks == 0).sum(), *(np.count_nonzero(plane & flag) for flag in flags))
        assert (found.small == largest).all()


@pytest.mark.parametrize("side", [1, 3, 8])
def test_blocks_of_errors_are_those_of_the_planes(side):
    signal, master, sigma = image((40, 61), 1), image((40, 61), 2), np.abs(image((40, 61), 3)) / 5
    with np.errstate(invalid="ignore"):
        bright = np.where(master > np.float32(5) * sigma, master, np.float32(np.nan))
        planes = np.abs(signal - master), bright, signal
    for found, plane in zip(error_blocks(signal, master, sigma, 5.0, side), planes, strict=True):
        assert np.array_equal(found, block_mean_of(plane, side), equal_nan=True)
