"""The whole pipeline against simulated truth, on campaigns small enough for every test run.

9,216 pixels: a robust spread is known to 0.96/sqrt(N) = 1.0 %, a mean absolute error to 0.75/sqrt(N) = 0.8 % and, of
pixels that a dozen points share, not better together. The judge adds three of these errors to its targets where a
sample is below 10,000 pixels. The benchmark does the same on 256 x 256 pixels, 5 x 5 cells and other sensors.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from simulated import PRESETS

from benchmarks import judging, simulated_truth

SMALL = dataclasses.replace(
    PRESETS["default"],
    rows=96,
    cols=96,
    temperatures_c=(-20.0, -10.0, 0.0),
    exposures_s=(10.0, 60.0, 300.0),
    n_darks=6,
    n_biases=12,
    hot_fraction=0.02,
    seed=11,
)


@pytest.mark.parametrize("law", ["exponential", "physics"])
def test_every_figure_reaches_its_target(tmp_path: Path, law: str) -> None:
    verdicts = simulated_truth.judge(dataclasses.replace(SMALL, law=law), tmp_path)
    judged = [v for v in verdicts if v.passed is not None]
    assert {v.what.split()[0] for v in judged} >= {"pulls", "MAE/CRB", "mean", "held-out", "read", "gain,", "auto"}
    assert [f"{v.what}: {v.value}, target {v.target}" for v in judged if not v.passed] == []


def test_without_bias_frames_the_level_is_found(tmp_path: Path) -> None:
    recipe = dataclasses.replace(SMALL, law="physics", n_biases=0)
    outcome = simulated_truth.run(recipe, tmp_path)
    verdicts = [*judging.map_verdicts(outcome), *judging.dark_verdicts(outcome), *judging.faint_verdicts(outcome)]
    assert [f"{v.what}: {v.value}, target {v.target}" for v in verdicts if v.passed is False] == []
