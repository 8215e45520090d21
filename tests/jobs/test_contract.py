"""Jobs and their recipes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import toy_steps

from darkpipe.jobs.contract import Digests, Job, recipe, recipe_text

STEP = toy_steps.STEPS[2]
OUT = Path("out.fits")


def first(inputs: Any, outputs: Any, **params: Any) -> Digests:
    return {}


def second(inputs: Any, outputs: Any, **params: Any) -> Digests:
    return {}


def job(params: dict[str, Any], function: Any = first) -> Job:
    return Job(function, (), (OUT,), params)


def test_a_recipe_depends_on_step_version_function_and_params_alone() -> None:
    same = recipe(STEP, job({"a": 1, "b": [1, 2]}))
    assert recipe(STEP, Job(first, (Path("in"),), (Path("other"),), {"b": (1, 2), "a": 1}, label="x")) == same
    others = {
        recipe(STEP, job({"a": 2, "b": [1, 2]})),
        recipe(STEP, job({"a": 1, "b": [1, 2]}, second)),
        recipe(toy_steps.STEPS[3], job({"a": 1, "b": [1, 2]})),
        recipe(toy_steps.changed_step(2, VERSION=2)[2], job({"a": 1, "b": [1, 2]})),
    }
    assert len(others | {same}) == 5


def test_infinity_and_odd_names_are_plain_data() -> None:
    text = recipe_text(STEP, job({"low": -math.inf, "name": "ü\udcff"}))
    assert text.isascii()
    assert len(recipe(STEP, job({"low": -math.inf, "name": "ü\udcff"}))) == 32


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"folder": Path("x")}, r"params\['folder'\] is of type"),
        ({"a": [1, {"b": {1, 2}}]}, r"params\['a'\]\[1\]\['b'\] is of type set"),
        ({"a": {(1, 2): 3}}, r"the key \(1, 2\) is of type tuple"),
    ],
)
def test_params_that_are_no_plain_data_are_named(value: dict[str, Any], named: str) -> None:
    with pytest.raises(TypeError, match=named):
        recipe(STEP, job(value))


@pytest.mark.parametrize(("inputs", "outputs"), [((), ()), ((), (OUT, OUT)), ((OUT,), (OUT,))])
def test_jobs_that_make_no_sense_are_refused(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> None:
    with pytest.raises(ValueError, match="job"):
        Job(first, inputs, outputs, {})
