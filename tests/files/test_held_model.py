"""Products in memory are read as those on disk are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpipe.errors import ProductError
from darkpipe.files.held_model import HeldModel
from darkpipe.files.products import Frame, Product, read_header, read_planes, read_shape, write_frame

SHAPE = (7, 5)


def product() -> Frame:
    rng = np.random.default_rng(1)
    science = rng.normal(size=SHAPE).astype(np.float32)
    cards = [("MODEL", "exp_2d", ""), ("LIMIT", float("inf"), ""), ("PLACE", "Zürich", ""), ("SIGMA", 0.1 + 0.2, "")]
    cube = rng.normal(size=(3, *SHAPE))
    return Frame(science, np.abs(science), np.ones(SHAPE, np.uint16), header=cards, extra={"CUBE": cube})


@pytest.mark.parametrize("rows", [slice(None), slice(2, 5)])
def test_planes_header_and_shape_are_those_of_the_file(tmp_path: Path, rows: slice) -> None:
    held: Product = product()
    disk = tmp_path / "a.fits"
    write_frame(disk, product())
    names = ["SCI", "ERR", "DQ", "CUBE"]
    for mine, theirs in zip(read_planes(held, names, rows), read_planes(disk, names, rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert read_shape(held) == read_shape(disk) == SHAPE
    mine, theirs = read_header(held), read_header(disk)
    assert "LIMIT" not in mine  # FITS cannot write it
    assert {key: theirs[key] for key in mine} == mine


def test_what_was_read_is_a_copy() -> None:
    frame = product()
    read_planes(frame, ["SCI"])[0][:] = 0
    assert frame.science.any()


def test_a_held_model_holds_what_it_holds() -> None:
    place = Path("dark_model")
    model = HeldModel(place, {place / "hot_pixel_mask.fits": product()})
    assert model.has(model.hot_pixel_mask)
    assert isinstance(model.product(model.hot_pixel_mask), Frame)
    assert not model.has(model.saturation_map)
    with pytest.raises(ProductError, match=r"does not hold the product.*saturation_map"):
        model.product(model.saturation_map)
