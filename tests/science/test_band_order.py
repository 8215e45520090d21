"""Order of values that come in bands, against numpy on all of them."""

import numpy as np
import pytest

from darkpipe.science.band_order import ValueCounts, bucket_values


def values(kind, n):
    random = np.random.default_rng(n)
    x = random.normal(0, 10, n).astype(np.float32)
    if kind == "whole numbers":
        x = np.rint(x)
    elif kind == "with gaps":
        x[random.random(n) < 0.3] = np.nan
        x[:1], x[1:2] = np.inf, -np.inf
    elif kind == "below zero":
        x = -np.abs(x) - 5
    elif kind == "apart":  # the two middle ones lie in different buckets
        x = np.where(np.arange(n) % 2 == 0, np.float32(1.0), np.float32(1e6))
    return x.astype(np.float32)


def counted(bands):
    counts = ValueCounts()
    for band in bands:
        counts.add(band)
    return counts


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 20_001])
@pytest.mark.parametrize("kind", ["plain", "whole numbers", "with gaps", "below zero", "apart"])
def test_the_median_is_that_of_all_values(kind, n):
    x = values(kind, n)
    known = x[~np.isnan(x)]
    bands = np.array_split(x, 7)
    found = counted(bands).median(bands)
    with np.errstate(invalid="ignore"):
        expected = np.median(known) if known.size else np.nan
    assert np.float32(found) == expected or (np.isnan(found) and np.isnan(expected))


def test_values_lie_in_their_buckets():
    x = np.float32([-np.inf, -3.4e38, -1.0, -1e-40, -0.0, 0.0, 1e-40, 0.1, 1.0, 65535.0, np.inf])
    for value in x:
        (bucket,) = np.flatnonzero(counted([np.array([value])]).counts)
        assert bucket_values(np.array([bucket]))[0] <= value or np.isinf(value)
        last = bucket_values(np.array([bucket]), last=True)[0]
        assert value <= last or np.isnan(last)
    assert counted([np.float32([np.nan, -np.nan])]).counts.sum() == 0


def test_counts_above_are_those_of_all_values():
    random = np.random.default_rng(3)
    x = random.gamma(2, 30, 50_000).astype(np.float32) - 20
    x[:50], x[50:60], x[60] = 3e4, np.nan, np.inf
    levels, above, number = counted(np.array_split(x, 5)).above(400)
    finite = x[np.isfinite(x)]
    assert number == finite.size
    assert 200 < levels.size <= 400
    assert (above == [np.count_nonzero(finite >= level) for level in levels]).all()
    assert levels[0] <= max(np.percentile(finite, 1), 3e-2) * 1.01
    assert 2.9e4 < levels[-1] <= 3e4


@pytest.mark.parametrize("x", [np.zeros(0), np.full(5, np.nan), np.full(5, -3.0), np.full(3, np.inf)])
def test_nothing_above_zero_has_no_levels(x):
    levels, above, number = counted([x.astype(np.float32)]).above(400)
    assert levels.size == above.size == 0
    assert number == np.isfinite(x).sum()


@pytest.mark.parametrize("kind", ["plain", "whole numbers", "below zero"])
def test_the_value_of_a_rank_lies_in_its_bucket(kind):
    x = values(kind, 5000) + np.float32(0)
    counts = counted([x])
    assert counts.number == x.size
    for rank in (0, 1, 1500, 4998, 4999):
        low, high, below = counts.around(rank)
        inside = np.sort(x[(x >= low) & (x <= high)])
        assert below == np.count_nonzero(x < low)
        assert inside[rank - below] == np.sort(x)[rank]
