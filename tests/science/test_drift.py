"""The level of a master whose frames drift."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science.drift import Drift


@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_level_of_a_cell_is_that_of_a_median_of_frames(frames: int) -> None:
    rng = np.random.default_rng(3)
    levels = np.median(0.5 * rng.normal(size=(40_000, frames)), axis=1)
    levels -= np.median(0.5 * rng.normal(size=(40_000, 20)), axis=1)
    assert Drift(0.5).level_variance(frames) + Drift(0.5).level_variance(20) == pytest.approx(levels.var(), rel=0.1)


def test_a_bias_of_unknown_name_is_the_line_through_all() -> None:
    drift = Drift(0.5, {"T0.0C": 10, "T5.0C": 10})
    assert drift.of_bias("T0.0C") == drift.level_variance(10)
    assert drift.of_bias("line") == drift.level_variance(20)


def test_without_drift_the_level_is_known() -> None:
    assert Drift().level_variance(1) == Drift().of_bias("T0.0C") == 0.0
