"""Steps that hold something open and whose jobs go one after the other: what a camera needs of the controller."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from toy_steps import STEPS, ToyPlace, ToyStep, controller, write_frames

from darkpipe.errors import LeftOutError, PipelineError, SettingsError
from darkpipe.files.atomic import replace_text
from darkpipe.jobs.contract import Digests, Job
from darkpipe.jobs.report import RunReport
from master_controller import MasterController


class Device:
    """Held open by a plan; its methods are the jobs."""

    def __init__(self, fails_at: dict[str, BaseException]) -> None:
        self.fails_at = fails_at
        self.done: list[str] = []
        self.open = False

    def work(self, inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, name: str) -> Digests:
        assert self.open
        self.done.append(name)
        if name in self.fails_at:
            raise self.fails_at[name]
        return {outputs[0]: replace_text(outputs[0], name)}

    def plan(self, out: ToyPlace, settings: BaseModel) -> Iterator[list[Job]]:
        self.open = True
        try:
            for batch in ("abc", "def"):
                yield [self._job(out, name) for name in batch]
        finally:
            self.open = False

    def _job(self, out: ToyPlace, name: str) -> Job:
        return Job(self.work, (), (out.root / "raw" / f"{name}-x-1.txt",), {"name": name}, in_order=True, label=name)


def run(root: Path, device: Device, **chosen: Any) -> RunReport:
    write_frames(root / "raw", "seed-x-1")
    steps = (ToyStep("acquire_darks", 1, STEPS[0].Settings, device.plan), *STEPS[1:])
    return controller(root, steps=steps).run("acquire", **chosen)


def test_they_run_in_order_and_what_they_hold_open_is_closed(tmp_path: Path) -> None:
    device = Device({})
    assert run(tmp_path, device).exit_code == 0
    assert device.done == list("abcdef")
    assert not device.open
    assert run(tmp_path, device).up_to_date


def test_the_first_that_fails_ends_its_step(tmp_path: Path) -> None:
    device = Device({"b": PipelineError("the cable fell out")})
    report = run(tmp_path, device)
    assert report.exit_code == 1
    assert device.done == ["a", "b"]
    assert not device.open
    assert [(job.label, job.error is None) for job in report.jobs] == [("a", True), ("b", False)]
    assert (report.counts[0].made, report.counts[0].failed) == (1, 1)
    # what was made is kept
    again = Device({})
    assert run(tmp_path, again).exit_code == 0
    assert again.done == list("bcdef")


def test_a_batch_that_is_left_out_is_no_failure(tmp_path: Path) -> None:
    device = Device({"b": LeftOutError("too warm tonight")})
    report = run(tmp_path, device)
    assert report.exit_code == 0
    assert device.done == ["a", "b", "d", "e", "f"]
    assert report.notes == ["acquire_darks: too warm tonight"]
    assert report.counts[0].made == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()], ids=["interrupt", "bug"])
def test_what_is_held_open_is_closed_at_once_whatever_happens(tmp_path: Path, error: BaseException) -> None:
    device = Device({"c": error})
    with pytest.raises(type(error)):
        run(tmp_path, device)
    assert not device.open
    assert device.done == list("abc")
    again = Device({})
    run(tmp_path, again)
    assert again.done == list("cdef")


def test_a_dry_run_does_nothing_and_closes(tmp_path: Path) -> None:
    device = Device({})
    report = run(tmp_path, device, dry_run=True)
    assert device.done == []
    assert not device.open
    assert [job.label for job in report.jobs] == ["a", "b", "c"]
    assert report.unknown == []  # the step itself has told what it plans


# sections at the top
class Inner(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int = Field(1, ge=0)


class AtTop(BaseModel):
    """Two sections."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    left: Inner = Field(default_factory=Inner)
    right: Inner = Field(default_factory=Inner)


class StepAtTop:
    NAME, VERSION, SECTIONS, Settings = "acquire_darks", 1, ("left", "right"), AtTop

    def __init__(self) -> None:
        self.seen: AtTop | None = None

    def plan(self, out: ToyPlace, settings: AtTop) -> Iterator[list[Job]]:
        self.seen = settings
        yield from ()


def controlled(root: Path, step: StepAtTop, **given: Any) -> MasterController:
    return MasterController({"output_dir": root, **given}, steps=(step, *STEPS[1:]), layout=ToyPlace)


def test_a_step_may_have_its_sections_at_the_top(tmp_path: Path) -> None:
    step = StepAtTop()
    assert controlled(tmp_path, step, left={"number": 3}).run("acquire").exit_code == 0
    assert step.seen == AtTop(left=Inner(number=3))
    with pytest.raises(SettingsError, match=r"right\.number"):
        controlled(tmp_path, step, right={"number": -1}).settings()
    with pytest.raises(SettingsError, match="unknown setting 'acquire_darks'"):
        controlled(tmp_path, step, acquire_darks={"left": {}}).settings()
