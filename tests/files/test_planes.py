"""Planes straight from the bytes of a product: the same numbers as astropy finds, and the same errors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import ProductError
from darkpipe.files import planes, products
from darkpipe.files.products import Frame, write_frame

ROWS, COLS = 37, 23
KINDS = {"F8": np.float64, "U1": np.uint8, "I2": np.int16, "U2": np.uint16, "I4": np.int32, "U4": np.uint32}


def frame(seed: int = 1) -> Frame:
    rng = np.random.default_rng(seed)
    science = rng.normal(size=(ROWS, COLS)).astype(np.float32)
    science[2, 3] = np.nan
    extra = {name: rng.integers(0, 200, (ROWS, COLS)).astype(kind) for name, kind in KINDS.items()}
    extra["CUBE"] = rng.normal(size=(3, ROWS, COLS)).astype(np.float32)
    dq = rng.integers(0, 65536, (ROWS, COLS)).astype(np.uint16)
    return Frame(science, np.abs(science), dq, header=[("EXPTIME", 30.0 + seed, "[s]")], extra=extra, inputs=["a"])


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(5, 30), slice(30, 99), slice(4, 4)], ids=str)
def test_numbers_are_those_of_astropy(tmp_path: Path, rows: slice) -> None:
    made = frame()
    write_frame(tmp_path / "x.fits", made)
    names = list(made.planes)
    ours = planes.read_planes(tmp_path / "x.fits", names, rows)
    for name, mine, theirs in zip(names, ours, products.read_planes(tmp_path / "x.fits", names, rows), strict=True):
        np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(mine, made.planes[name][..., rows, :])
        assert mine.dtype == theirs.dtype == made.planes[name].dtype
        assert mine.dtype.isnative
        assert mine.flags.writeable


def test_a_product_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    for seed in (1, 2, 3):
        made = frame(seed)
        write_frame(path, made)
        np.testing.assert_array_equal(planes.read_planes(path, ["SCI"])[0], made.science)
        assert planes.read_header(path)["EXPTIME"] == 30.0 + seed


def test_header_and_shape_are_those_of_astropy(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    write_frame(path, frame())
    assert planes.read_header(path) == dict(products.read_header(path))
    assert planes.read_shape(path) == (ROWS, COLS) == planes.read_shape(frame())


def test_scaled_and_compressed_planes_are_read_all_the_same(tmp_path: Path) -> None:
    image = np.arange(ROWS * COLS, dtype=np.int16).reshape(ROWS, COLS)
    scaled = fits.ImageHDU(image, name="SCI")
    scaled.header["BSCALE"], scaled.header["BZERO"] = 0.5, 3.0
    packed = fits.CompImageHDU(image, name="DQ")
    fits.HDUList([fits.PrimaryHDU(), scaled, packed]).writeto(tmp_path / "x.fits")
    for name in ("SCI", "DQ"):
        ours, theirs = (m.read_planes(tmp_path / "x.fits", [name], slice(3, 9))[0] for m in (planes, products))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:File may have been truncated", "ignore:Error validating header")
def test_missing_and_damaged_products_are_said(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="missing"):
        planes.read_planes(tmp_path / "none.fits", ["SCI"])
    with pytest.raises(ProductError, match="missing"):
        planes.read_header(tmp_path / "none.fits")
    path = tmp_path / "x.fits"
    write_frame(path, frame())
    with pytest.raises(ProductError, match="cannot be read"):
        planes.read_planes(path, ["NOSUCH"])
    whole = path.read_bytes()
    for length in (2880, len(whole) // 2 // 2880 * 2880):
        path.write_bytes(whole[:length])
        with pytest.raises(ProductError, match="cannot be read"):
            planes.read_planes(path, ["CUBE"])


def test_a_file_that_shrinks_while_it_is_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    write_frame(path, frame())
    known = planes._contents(*planes._identity(path))["CUBE"]
    os.truncate(path, known.begin + 8)
    with open(path, "rb", buffering=0) as stream, pytest.raises(OSError, match="ends before"):
        planes._read(stream, known, slice(None))


def test_held_planes_are_no_copies() -> None:
    made = frame()
    science, cube = planes.held_planes(made, ["SCI", "CUBE"], slice(2, 5))
    assert np.shares_memory(science, made.science)
    assert cube.shape == (3, 3, COLS)
    assert not np.shares_memory(planes.read_planes(made, ["SCI"])[0], made.science)
