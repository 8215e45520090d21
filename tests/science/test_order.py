"""Medians that are counted, against numpy's that sort: the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.order import class_medians, median, median_without

SIZES = (1, 2, 3, 10, 1001, 40_000)


@pytest.mark.parametrize("n", SIZES)
def test_medians_of_classes_are_those_of_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    values = rng.normal(size=n).astype(np.float32)
    values[rng.random(n) < 0.1] = 0.0
    values[:1] = -np.inf
    kind = rng.integers(0, 5, n).astype(np.uint8)
    found, number = class_medians(values, kind, 4)
    for k in range(4):
        members = values[kind == k]
        assert number[k] == members.size
        assert found[k] == np.median(members) if members.size else np.isnan(found[k])
    assert median(values) == np.median(values)


def test_many_alike_are_one_value() -> None:
    values = np.full(9999, 3.0, np.float32)
    assert median(values) == 3.0


def test_nothing_has_no_median() -> None:
    assert np.isnan(median(np.empty(0, np.float32)))


@pytest.mark.parametrize("n", [*SIZES, 150_000, 400_001])
@pytest.mark.parametrize("kind", ["noise", "whole numbers", "ascending", "two values", "nothing"])
def test_the_median_without_flagged_pixels_is_that_of_the_others(n: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    values = {
        "noise": rng.normal(300.0, 20.0, n),
        "whole numbers": np.rint(rng.normal(300.0, 20.0, n)),
        "ascending": np.arange(n) - 0.1 * n,
        "two values": np.where(np.arange(n) % 3 > 0, 1.0, -2.0),
        "nothing": np.full(n, np.nan),
    }[kind].astype(np.float32)
    values[rng.random(n) < 0.05] = np.nan
    values[rng.random(n) < 0.01] = np.inf
    dq = rng.choice([0, 1, 8, 9], n, p=[0.6, 0.3, 0.05, 0.05]).astype(np.uint16)
    good = values[((dq & 8) == 0) & np.isfinite(values)]
    found = median_without(values, dq, 8)
    assert found == np.median(good) if good.size else np.isnan(found)


def test_a_sample_that_misleads_costs_time_alone() -> None:
    values = np.random.default_rng(1).normal(size=400_000).astype(np.float32)
    step = values.size // (1 << 16) | 1
    values[::step] += 100.0  # all that the sample sees is far from the middle
    assert median_without(values, np.zeros(values.size, np.uint16), 1) == np.median(values)
