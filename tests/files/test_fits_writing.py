"""Our own bytes against astropy's: the same headers, sums and pixels."""

from __future__ import annotations

import io
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
