"""Planes for pictures: the same as of the whole plane, which is never in memory."""

import tracemalloc

import numpy as np
import pytest

from darkpipe.errors import ProductError
from darkpipe.files import bands
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.reduced_planes import counted_plane, reduced_flags, reduced_plane
from darkpipe.science.band_order import ValueCounts
from darkpipe.science.reduced import Reduced, ReducedFlags

SHAPE = (2600, 1800)
FLAGS = (2, 1, 32)


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    random = np.random.default_rng(4)
    science = random.gamma(2, 30, SHAPE).astype(np.float32)
    science[random.random(SHAPE) < 0.1] = np.nan
    dq = random.choice(np.array([0, 1, 2, 3, 32, 64], np.uint16), SHAPE)
    path = tmp_path_factory.mktemp("product") / "map.fits"
    write_frame(path, Frame(science, dq=dq))
    return path, science, dq


@pytest.fixture(autouse=True)
def low_bands(monkeypatch):
    monkeypatch.setattr(bands, "BAND_BYTES", 1 << 20)


def test_bands_give_what_the_whole_plane_gives(product):
    path, science, dq = product
    found, whole = reduced_plane(path, "SCI", 512), Reduced.of(science, 512)
    assert np.array_equal(found.small, whole.small, equal_nan=True)
    assert np.array_equal(found.sample, whole.sample)
    assert (found.shape, found.missing, found.largest) == (SHAPE, whole.missing, whole.largest)
    flags, every = reduced_flags(path, "DQ", FLAGS, 512), ReducedFlags.of_bands(SHAPE, [(0, dq)], FLAGS, 512)
    assert flags.counts == every.counts
    assert (flags.small == every.small).all()
    counts = ValueCounts()
    counts.add(science)
    assert (counted_plane(path, "SCI").counts == counts.counts).all()


def test_no_plane_is_in_memory(product):
    path, science, _ = product
    for read in (
        lambda: reduced_plane(path, "SCI", 420),
        lambda: reduced_flags(path, "DQ", FLAGS, 420),
        lambda: counted_plane(path, "SCI"),
    ):
        read()  # compiled, and what is kept of the headers
        tracemalloc.start()
        read()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < science.nbytes / 3


def test_a_missing_file_is_a_product_error(tmp_path):
    with pytest.raises(ProductError, match="missing"):
        reduced_plane(tmp_path / "none.fits", "SCI", 512)
