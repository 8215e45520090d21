"""Bands cover a sensor once; what is worked on ahead comes in order, and no more of it than was asked for."""

from __future__ import annotations

import itertools

import pytest

from darkpipe.files.bands import BAND_BYTES, rows_of, sample_rows


@pytest.mark.parametrize("shape", [(1, 1), (64, 48), (2048, 2048), (6388, 9576)])
def test_bands_cover_every_row_once(shape: tuple[int, int]) -> None:
    rows = rows_of(shape, 40)
    assert [r.start for r in rows[1:]] == [r.stop for r in rows[:-1]]
    assert (rows[0].start, rows[-1].stop) == (0, shape[0])
    assert all((r.stop - r.start) * shape[1] * 40 <= BAND_BYTES for r in rows)


def test_a_sample_is_the_whole_of_a_small_sensor_and_a_part_of_a_large_one() -> None:
    assert sample_rows((64, 48), 5000) == [slice(0, 64)]
    rows = sample_rows((6388, 9576), 1 << 20)
    pixels = sum(r.stop - r.start for r in rows) * 9576
    assert 0.3 * (1 << 20) < pixels <= 1 << 20
    assert rows[0].start == 0
    assert rows[-1].stop == 6388
    assert all(a.stop <= b.start for a, b in itertools.pairwise(rows))
