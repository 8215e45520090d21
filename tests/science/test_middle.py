"""Medians of numbers that come band by band, against numpy's of all: the same to the last bit."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from darkpipe.science import middle
from darkpipe.science.middle import Middle, settle

SIZES = (1, 2, 3, 10, 1001, 40_000)


def numbers(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return {
        "level": rng.normal(1000.0, 3.0, n),
        "whole numbers": np.rint(rng.normal(1000.0, 3.0, n)),
        "about zero": np.rint(rng.normal(0.0, 1.0, n)),
        "far apart": np.where(np.arange(n) % 2 > 0, -1e-30, 7e4),
        "infinite": np.where(np.arange(n) % 5 > 0, rng.normal(size=n), np.inf),
    }[kind].astype(np.float32)


def middle_of(values: np.ndarray, use: np.ndarray, centre: float | None = None) -> Middle:
    """Of numbers in three bands."""
    found = Middle(centre)
    settle(lambda: ([band] for band in zip(np.array_split(values, 3), np.array_split(use, 3), strict=True)), [found])
    return found


@pytest.mark.parametrize("few", [1 << 21, 0])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["level", "whole numbers", "about zero", "far apart", "infinite"])
def test_median_and_spread_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch, kind: str, n: int, few: int) -> None:
    monkeypatch.setattr(middle, "_FEW", few)
    values = numbers(kind, n)
    use = np.random.default_rng(n).random(n) < 0.7
    use[0] = True
    some = values[use].astype(float)
    found = middle_of(np.where(use, values, np.float32(np.nan)), use)
    assert found.number == some.size
    assert found.double == np.median(some)
    assert found.single == np.median(values[use])
    if np.isfinite(found.double):
        assert middle_of(values, use, found.double).double == np.median(np.abs(some - found.double))


def test_nothing_has_no_median() -> None:
    found = middle_of(np.ones(9, np.float32), np.zeros(9, np.bool_))
    assert np.isnan(found.double)
    assert np.isnan(found.single)
    assert found.number == 0


@pytest.mark.parametrize("kind", ["level", "whole numbers"])
def test_memory_does_not_follow_the_numbers(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(middle, "_FEW", 1000)
    values, use = numbers(kind, 2_000_000), np.ones(2_000_000, np.bool_)
    middle_of(values[:9], use[:9], 1000.0)
    tracemalloc.start()
    middle_of(values, use)
    middle_of(values, use, 1000.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < values.nbytes / 2
