"""Planes of bits in one pass, against numpy."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.science.bit_planes import sum_stored, sum_words, tally, unsigned_of, without_value

SHAPES = [(1, 1), (3, 7), (300, 437)]


@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_without_a_value_are_those_of_numpy(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=shape).astype(np.float32)
    values[rng.random(shape) < 0.1] = np.nan
    values[rng.random(shape) < 0.1] = -np.inf
    dq = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    expected = ~np.isfinite(values) | ((dq & 0x8101) != 0)
    found = without_value(values[:, ::-1], dq[:, ::-1], 0x8101)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[:, ::-1])


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1 << 16)])
def test_a_bit_is_counted_wherever_it_stands(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    dq = (rng.integers(0, 1 << 15, shape) & 0x5F0F).astype(np.uint16)
    for bit in (1 << 3, 1 << 14, 1 << 7):
        assert tally(dq, bit) == (int(((dq & bit) != 0).sum()), int(np.bitwise_or.reduce(dq.ravel())))
    assert tally(np.full(shape, 0xFFFF, np.uint16), 1 << 15) == (dq.size, 0xFFFF)


@pytest.mark.parametrize("flip", [0, 0x80008000])
def test_sums_of_words_are_exact(flip: int) -> None:
    words = np.random.default_rng(3).integers(0, 1 << 32, 100_003).astype(np.uint32)
    assert sum_words(words, flip) == sum(int(w) ^ flip for w in words)
    assert sum_words(np.full(70_000, 0xFFFFFFFF, np.uint32), 0) == 70_000 * 0xFFFFFFFF


def test_sums_of_stored_words_are_those_of_big_endian_numbers() -> None:
    raw = np.random.default_rng(5).bytes(4 * 100_003)
    assert sum_stored(np.frombuffer(raw, np.uint32)) == int(np.frombuffer(raw, ">u4").sum(dtype=np.uint64))
    assert sum_stored(np.empty(0, np.uint32)) == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_unsigned_numbers_come_out_as_astropy_reads_them(shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(4).integers(0, 1 << 16, shape).astype(np.uint16)
    numbers.reshape(-1)[:1] = 0xFFFF
    file = io.BytesIO()
    fits.PrimaryHDU(numbers).writeto(file)
    stored = np.frombuffer(file.getvalue(), ">i2", numbers.size, offset=2880).reshape(shape)
    out = np.empty(shape, np.uint16)
    unsigned_of(stored, out)
    np.testing.assert_array_equal(out, numbers)
