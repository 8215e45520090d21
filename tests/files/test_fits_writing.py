"""Our own bytes against astropy's: the same headers, sums and pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.files.fits_writing import (
    CHECKSUM_COMMENT,
    Unit,
    image_header,
    pixel_sum,
    stored_pieces,
    text_table,
    word_sum,
    write_units,
)
from darkpipe.files.products import Frame, blank, write_frame, write_strips

RNG = np.random.default_rng(5)
KINDS = ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


def pixels(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.frombuffer(RNG.bytes(count * np.dtype(kind).itemsize), kind).reshape(shape)


def by_astropy(hdus: list[Any]) -> bytes:
    for hdu in hdus:
        hdu.add_checksum(when=CHECKSUM_COMMENT)
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (3, 7, 5), (300, 437)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_are_those_of_astropy(kind: str, shape: tuple[int, ...]) -> None:
    image = pixels(kind, shape)
    stream = io.BytesIO()
    units = [Unit(image_header((), np.dtype("u1"))), Unit(image_header(shape, np.dtype(kind), "SCI"), image)]
    write_units(units, stream)
    assert stream.getvalue() == by_astropy([fits.PrimaryHDU(), fits.ImageHDU(image, name="SCI")])


def test_a_primary_image_and_a_table_of_names_are_those_of_astropy() -> None:
    image, names = pixels("u2", (11, 3)), ["a", "", "c d.fits"]
    stream = io.BytesIO()
    write_units([Unit(image_header(image.shape, image.dtype), image), text_table("INPUTS", "FILE", names)], stream)
    table = fits.BinTableHDU.from_columns([fits.Column("FILE", "8A", array=np.array(names))], name="INPUTS")
    assert stream.getvalue() == by_astropy([fits.PrimaryHDU(image), table])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 2])
def test_sums_of_pixels_are_those_of_their_bytes(kind: str, step: int) -> None:
    plane = pixels(kind, (257, 2 * 263))[:, ::step]
    stored = b"".join(bytes(piece) for piece in stored_pieces(plane))
    assert pixel_sum(plane) == word_sum(stored)
    assert len(stored) == plane.size * plane.dtype.itemsize


def test_a_type_that_fits_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        image_header((2, 2), np.dtype(np.float16), "SCI")


@pytest.mark.parametrize("cols", [4, 5])
@pytest.mark.parametrize("height", [1, 3, 7, 50])
def test_strips_make_the_file_of_the_whole(tmp_path: Path, cols: int, height: int) -> None:
    rows = 23
    planes: dict[str, Any] = {kind.upper(): pixels(kind, (rows, cols)) for kind in KINDS}
    planes["CUBE"] = pixels("u2", (3, rows, cols))
    frame = Frame(pixels("f4", (rows, cols)), extra=planes, header=[("A", 1, "b")], inputs=["x", "yy"])
    written = write_frame(tmp_path / "whole.fits", frame)
    template = Frame(
        blank((rows, cols), np.float32),
        extra={name: blank(plane.shape, plane.dtype) for name, plane in planes.items()},
        header=[("A", 1, "b")],
        inputs=["x", "yy"],
    )
    bands = [slice(r, min(r + height, rows)) for r in range(0, rows, height)]
    strips = ((b, {name: plane[..., b, :] for name, plane in frame.planes.items()}) for b in reversed(bands))
    assert write_strips(tmp_path / "strips.fits", template, strips) == written
    assert (tmp_path / "strips.fits").read_bytes() == (tmp_path / "whole.fits").read_bytes()
