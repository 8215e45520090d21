"""Frames made here: planes, headers, checksums, and the same bytes for the same content."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import ProductError
from darkpipe.files.products import Frame, read_header, read_planes, read_shape, write_frame, write_primary
from darkpipe.files.thread_memory import ThreadMemory


def frame() -> Frame:
    rng = np.random.default_rng(1)
    science = rng.normal(size=(6, 5)).astype(np.float32)
    science[2, 3] = np.nan
    return Frame(
        science,
        np.ones((6, 5), np.float32),
        np.arange(30, dtype=np.uint16).reshape(6, 5) + 40_000,
        header=[("EXPTIME", 300.0, "[s]"), ("T-MEAS", math.nan, "missing"), ("INSTRUME", "Käme\nra", "text")],
        extra={"CUBE": np.arange(60, dtype=np.float32).reshape(2, 6, 5)},
        inputs=["a.fits", "folder/b.fits"],
    )


def test_round_trip(tmp_path: Path) -> None:
    made = frame()
    path = tmp_path / "x.fits"
    write_frame(path, made)
    science, error, dq, cube = read_planes(path, ["SCI", "ERR", "DQ", "CUBE"])
    np.testing.assert_array_equal(science, made.science)
    np.testing.assert_array_equal(dq, made.dq)
    np.testing.assert_array_equal(cube, made.extra["CUBE"])
    assert science.dtype == np.float32
    assert science.dtype.isnative
    assert (error == 1).all()
    assert read_shape(path) == (6, 5)


def test_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    write_frame(path, frame())
    rows = slice(2, 5)
    for name, part in zip(["SCI", "DQ"], read_planes(path, ["SCI", "DQ"], rows), strict=True):
        np.testing.assert_array_equal(part, read_planes(path, [name])[0][rows])
    (cube,) = read_planes(path, ["CUBE"], rows)
    np.testing.assert_array_equal(cube, read_planes(path, ["CUBE"])[0][:, rows])
    memory = ThreadMemory()
    for part in (slice(0, 3), slice(3, 6), slice(1, 2)):
        for name, there in zip(
            ["SCI", "DQ", "CUBE"], read_planes(path, ["SCI", "DQ", "CUBE"], part, memory), strict=True
        ):
            np.testing.assert_array_equal(there, read_planes(path, [name])[0][..., part, :])


def test_header_inputs_and_checksums(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    write_frame(path, frame())
    header = read_header(path)
    assert header["EXPTIME"] == 300.0
    assert "T-MEAS" not in header
    assert header["INSTRUME"] == "K\\xe4me\\nra"
    with fits.open(path, checksum=True) as hdus:  # a wrong sum would warn, and a warning is an error here
        assert [str(n) for n in hdus["INPUTS"].data["FILE"]] == ["a.fits", "folder/b.fits"]
        assert all("CHECKSUM" in h.header and "DATASUM" in h.header for h in hdus)
        assert hdus["SCI"].header["BUNIT"] == "adu"
        assert hdus[0].data is None


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_frame(tmp_path / "a.fits", frame())
    second = write_frame(tmp_path / "b.fits", frame())
    assert first == second
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_primary_image_is_plain_uint16(tmp_path: Path) -> None:
    image = np.array([[0, 65535], [1, 32768]], np.uint16)
    write_primary(tmp_path / "raw.fits", image, [("IMAGETYP", "Dark Frame", "")])
    with fits.open(tmp_path / "raw.fits", checksum=True) as hdus:
        assert hdus[0].header["BZERO"] == 32768
        np.testing.assert_array_equal(hdus[0].data, image)


def test_missing_and_damaged_products_are_said(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="missing"):
        read_planes(tmp_path / "none.fits", ["SCI"])
    write_frame(tmp_path / "x.fits", frame())
    with pytest.raises(ProductError, match="cannot be read"):
        read_planes(tmp_path / "x.fits", ["NOSUCH"])
    (tmp_path / "bad.fits").write_bytes(b"not a FITS file")
    with pytest.raises(ProductError, match="cannot be read"):
        read_planes(tmp_path / "bad.fits", ["SCI"])


@pytest.mark.parametrize("value", [300.0, 1e-300, True, 12, "short", "it's", "x" * 40, "y'" * 20, "z" * 100])
def test_no_comment_is_too_long_for_its_card(tmp_path: Path, value: object) -> None:
    made = frame()
    made.header = [
        ("KEYWORD", value, "a comment that goes on for much longer than any card has room for, and then some")
    ]
    write_frame(tmp_path / "x.fits", made)  # a warning is an error here
    assert read_header(tmp_path / "x.fits")["KEYWORD"] == value
