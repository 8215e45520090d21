"""Planes where they stand in a file: as astropy reads them, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import ProductError
from darkpipe.files.fits_reading import Unplain, planes_of
from darkpipe.files.products import Frame, read_header, read_planes, read_shape, write_frame

RNG = np.random.default_rng(7)


def save(path: Path, *hdus: fits.ImageHDU) -> Path:
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_planes_of_all_types_are_as_astropy_reads_them(tmp_path: Path, kind: str) -> None:
    image = (RNG.random((3, 41, 700)) * 200).astype(kind)
    path = save(tmp_path / "x.fits", fits.ImageHDU(image[0], name="SCI"), fits.ImageHDU(image, name="CUBE"))
    assert set(planes_of(path)) == {"SCI", "CUBE"}
    for rows in (slice(None), slice(3, 9), slice(-4, None), slice(30, 99), slice(5, 5)):
        plane, cube = read_planes(path, ["SCI", "CUBE"], rows)
        assert plane.dtype == cube.dtype == np.dtype(kind)
        np.testing.assert_array_equal(plane, fits.getdata(path, "SCI")[rows])
        np.testing.assert_array_equal(cube, fits.getdata(path, "CUBE")[:, rows])


def test_what_is_not_plain_is_left_to_astropy(tmp_path: Path) -> None:
    image = RNG.integers(0, 1000, (40, 30)).astype(np.int16)
    scaled, undefined = fits.ImageHDU(image, name="SCALED"), fits.ImageHDU(image, name="BLANK")
    scaled.header["BSCALE"], undefined.header["BLANK"] = 2.0, 5
    packed = fits.CompImageHDU(image, name="PACKED")
    path = save(tmp_path / "x.fits", scaled, undefined, packed, fits.ImageHDU(image, name="PLAIN"))
    assert set(planes_of(path)) == {"PLAIN"}
    for name in ("SCALED", "BLANK", "PACKED", "PLAIN"):
        np.testing.assert_array_equal(read_planes(path, [name])[0], fits.getdata(path, name), err_msg=name)


def test_of_two_of_one_name_the_first_counts(tmp_path: Path) -> None:
    first, second = (fits.ImageHDU(np.full((4, 4), value, np.float32), name="SCI") for value in (1, 2))
    assert read_planes(save(tmp_path / "x.fits", first, second), ["SCI"])[0].max() == 1


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    for rows in (6, 9):
        write_frame(path, Frame(np.full((rows, 5), rows, np.float32), header=[("ROWS", rows, "")]))
        assert read_planes(path, ["SCI"])[0].shape == read_shape(path) == (rows, 5)
        assert read_header(path)["ROWS"] == rows


@pytest.mark.parametrize("left", [0, 100, 2880, 5760, 6000])
def test_a_file_that_was_cut_off_is_said(tmp_path: Path, left: int) -> None:
    path = tmp_path / "x.fits"
    write_frame(path, Frame(RNG.random((60, 50)).astype(np.float32)))
    os.truncate(path, left)
    with pytest.raises(ProductError, match="cannot be read"):
        read_planes(path, ["SCI"])


def test_no_fits_file_is_not_plain(tmp_path: Path) -> None:
    (tmp_path / "x.fits").write_bytes(bytes(9000))
    with pytest.raises(Unplain):
        planes_of(tmp_path / "x.fits")
