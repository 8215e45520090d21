"""Sums over masks, and quantiles that are counted, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.block_sums import _quantiles, masked_sums


@pytest.mark.parametrize("pixels", [1, 2, 7, 1000])
def test_sums_leave_out_what_is_not_in_use(pixels: int) -> None:
    rng = np.random.default_rng(pixels)
    values = rng.normal(100.0, 30.0, (3, pixels)).astype(np.float32)
    use = rng.random(pixels) < 0.7
    values[:, ~use] = np.nan
    sums = np.empty(3)
    masked_sums(values, use, sums)
    np.testing.assert_allclose(sums, values[:, use].sum(axis=1, dtype=np.float64), rtol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 9, 1000])
def test_quantiles_are_members_of_their_rank(n: int) -> None:
    keys = np.random.default_rng(n).integers(-(2**31), 2**31 - 1, n).astype(np.int32)
    keys[: n // 3] = 7
    found = np.empty(3, np.int32)
    _quantiles(keys, found)
    ranks = [int(q * (n - 1) + 0.5) for q in (0.158655, 0.5, 0.841345)]
    np.testing.assert_array_equal(found, np.sort(keys)[ranks])
