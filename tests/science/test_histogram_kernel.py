"""Counts of sixteen-bit values against numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.histogram_kernel import Counts


@pytest.mark.parametrize("size", [1, 3, 2048, 70_001])
def test_values_and_how_often_they_occur(size: int) -> None:
    rng = np.random.default_rng(size)
    values = np.where(rng.random(size) < 0.1, rng.integers(0, 65536, size), rng.normal(500, 20, size)).astype(np.uint16)
    values[:1], values[-1:] = 65535, 0
    stored = (values ^ np.uint16(0x8000)).byteswap()
    expected = np.unique(values, return_counts=True)
    plain, decoded = Counts(), Counts()
    for part in (values[: size // 3], values[size // 3 :]):
        plain.add(part)
    decoded.decode(stored)
    np.testing.assert_array_equal(stored, values)
    for counts in (plain, decoded):
        for found, wanted in zip(counts.distinct(), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_a_counting_that_was_given_up_leaves_nothing_behind() -> None:
    Counts().add(np.arange(100, dtype=np.uint16))
    whole = Counts()
    whole.add(np.full((3, 4), 7, np.uint16))
    values, counts = whole.distinct()
    assert (values.tolist(), counts.tolist()) == ([7], [12])
    values, counts = Counts().distinct()
    assert values.size == counts.size == 0
