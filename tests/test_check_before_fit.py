"""A check of new frames before a model is replaced, as the controller sees it: with toy steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toy_steps
from toy_steps import ToyPlace, changed_step, write_frames

from darkpipe.errors import LeftOutError, PipelineError
from darkpipe.jobs.contract import Job
from darkpipe.jobs.report import RunReport
from master_controller import MasterController


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_frames(tmp_path / "raw", "a-x-1", "a-y-1")
    return tmp_path


class CheckedPlace(ToyPlace):
    """A place with frames that its model has not seen."""

    def campaigns(self) -> list[ToyPlace]:
        return [CheckedPlace(place.root, place.campaign) for place in super().campaigns()]

    def new_frames(self) -> ToyPlace:
        return ToyPlace(self.root / "new_frames", "")


def checking(root: Path, plan: Any) -> RunReport:
    """A full run whose check begins, and ends, with this plan."""
    given = {"output_dir": root / "out", "workers": 2, "load_data": {"basepath": root / "raw"}}
    return MasterController(given, steps=changed_step(9, plan=plan), layout=CheckedPlace).run("full")


def test_a_check_that_fails_is_a_note(root: Path) -> None:
    (root / "bad").mkdir()
    (root / "bad" / "x.txt").write_text("-1")
    job = Job(
        toy_steps.combine, (root / "bad" / "x.txt",), (root / "out" / "sum.txt",), {"factor": 1.0, "pause_s": 0.0}
    )

    def failing_job(out: Any, settings: Any) -> Any:
        yield [job]

    def failing_plan(out: Any, settings: Any) -> Any:
        raise PipelineError("no such thing")
        yield

    for plan, words in ((failing_job, "a negative value"), (failing_plan, "no such thing")):
        report = checking(root, plan)
        assert (report.exit_code, report.failures) == (0, [])
        (note,) = report.notes
        assert words in note
        assert "new_frames" in note
    assert (root / "out" / "model.txt").is_file()


def test_a_check_that_is_not_wanted_says_nothing(root: Path) -> None:
    def left_out(out: Any, settings: Any) -> Any:
        raise LeftOutError("not wanted")
        yield

    report = checking(root, left_out)
    assert (report.exit_code, report.notes) == (0, [])
    assert "model" in [job.label for job in report.jobs]


def test_a_check_comes_before_the_first_step_that_replaces_a_model(root: Path) -> None:
    asked: list[str] = []

    def remember(out: Any, settings: Any) -> Any:
        asked.append("model" if (root / "out" / "synthetic" / "x.txt").exists() else "no model")
        raise LeftOutError("enough")
        yield

    checking(root, remember)
    assert asked == ["no model"]  # of the toys, step 4 makes the synthetic ones
    given = {"output_dir": root / "out", "load_data": {"basepath": root / "raw"}}
    made = MasterController(given, steps=changed_step(9, plan=remember), layout=CheckedPlace)
    made.run("full", until_step=3)
    made.run("full", from_step=6)
    assert len(asked) == 1
