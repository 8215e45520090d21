"""Step 0: the jobs that it plans, what it leaves behind, and that it goes home in good order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from capture_helpers import TINY, Bench, cooled, frames, settings_for

from darkpipe.files.layout import OutputDir, RawDir
from darkpipe.jobs.contract import sections_of, settings_of
from hardware.dark_capture import DarkCapture
from hardware.errors import CameraDriverError, CaptureError
from hardware.settings import AcquisitionSettings
from hardware.simulator.server import SimulatorServer
from master_controller import MasterController
from steps import step0_acquire_darks as step0


@pytest.fixture
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(TINY, time_scale=1000.0) as running:
        yield running


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A camera in process, which the step opens in place of one at an address."""
    there = Bench()
    monkeypatch.setattr("hardware.dark_capture.open_camera", lambda settings, take_over: there.camera)
    return there


def step_settings(settings: AcquisitionSettings) -> step0.Settings:
    return step0.Settings.model_validate(settings.model_dump(exclude_unset=True))


def test_its_settings_stand_at_the_top() -> None:
    assert sections_of(step0) == ("dark_capture", "camera")
    all_settings = MasterController({"dark_capture": {"num_darks": 7}, "camera": {"gain": 3}}).settings("acquire")
    own = settings_of(step0, all_settings)
    assert isinstance(own, step0.Settings)
    assert (own.dark_capture.num_darks, own.camera.gain) == (7, 3)


def test_a_batch_a_temperature_and_a_job_a_frame(tmp_path: Path, bench: Bench) -> None:
    settings = step_settings(cooled(tmp_path / "darks", -10.0, -5.0))
    plan = step0.plan(OutputDir(tmp_path / "out"), settings)
    first = next(plan)
    assert len(first) == 9
    assert all(job.in_order and job.inputs == () and len(job.outputs) == 1 for job in first)
    assert (first[0].label, first[1].label) == ("bias -10.0 °C 0.001 s 1/3", "dark -10.0 °C 1 s 1/3")
    assert {job.params["temperature_c"] for job in first} == {-10.0}
    for job in first:
        assert set(job.function(job.inputs, job.outputs, **job.params)) == set(job.outputs)
    second = next(plan)
    assert {job.params["temperature_c"] for job in second} == {-5.0}
    plan.close()  # as the runner does, whatever happened
    assert not bench.cooler.on
    assert bench.camera.closed
    assert len(frames(tmp_path / "darks")) == 9


def test_params_name_the_frame_and_nothing_else(tmp_path: Path, bench: Bench) -> None:
    """A frame never goes stale for a setting that does not make it another frame."""

    def params(**more: Any) -> list[Any]:
        settings = cooled(tmp_path / "darks", cooling=more.pop("cooling", None), **more)
        plan = step0.plan(OutputDir(tmp_path), step_settings(settings))
        with_plan = [job.params for job in next(plan)]
        plan.close()
        bench.camera._closed = False
        return with_plan

    usual = params()
    assert params(cooling={"temperature_tolerance": 0.2, "warmup": False}, max_retakes=9, bias_pause_s=4.0) == usual
    assert [p for p in params(num_darks=5) if p in usual] != []
    assert set(usual[0]) == {"configuration", "session", "kind", "exposure_s", "temperature_c", "number"}


def test_an_interrupt_between_jobs_goes_home(tmp_path: Path, bench: Bench) -> None:
    plan = step0.plan(OutputDir(tmp_path / "out"), step_settings(cooled(tmp_path / "darks")))
    job = next(plan)[0]
    job.function(job.inputs, job.outputs, **job.params)
    assert bench.cooler.on
    with pytest.raises(KeyboardInterrupt):
        plan.throw(KeyboardInterrupt())
    assert not bench.cooler.on
    assert bench.camera.closed


def test_what_is_planned_and_not_taken_is_a_failure(tmp_path: Path, bench: Bench) -> None:
    plan = step0.plan(OutputDir(tmp_path / "out"), step_settings(settings_for(tmp_path / "darks")))
    next(plan)
    with pytest.raises(CaptureError, match="not one frame was taken"):
        next(plan)
    assert bench.camera.closed


def test_the_picture_of_the_temperatures_is_drawn_after_an_error_too(tmp_path: Path, bench: Bench) -> None:
    bench.at_exposure(2, lambda: setattr(bench.camera, "error_state", True))
    out = OutputDir(tmp_path / "out")
    plan = step0.plan(out, step_settings(cooled(tmp_path / "darks", max_retakes=0)))
    jobs = next(plan)
    jobs[0].function(jobs[0].inputs, jobs[0].outputs, **jobs[0].params)
    with pytest.raises(CameraDriverError):
        jobs[1].function(jobs[1].inputs, jobs[1].outputs, **jobs[1].params)
    plan.close()
    (log,) = (tmp_path / "darks").glob("temperature_*.ecsv")
    assert out.temperature_picture(log).read_bytes().startswith(b"\x89PNG")


def test_a_complete_plan_asks_no_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "darkpipe.capture")
    settings = cooled(tmp_path / "darks")
    Bench().capture(settings).capture_darks()
    monkeypatch.setattr(DarkCapture, "open", lambda settings: pytest.fail("the camera was asked"))
    assert list(step0.plan(OutputDir(tmp_path / "out"), step_settings(settings))) == []
    assert "all 9 frames of the plan are there" in caplog.text
    frames(tmp_path / "darks")[0].unlink()
    with pytest.raises(pytest.fail.Exception):
        next(step0.plan(OutputDir(tmp_path / "out"), step_settings(settings)))


def test_the_controller_as_a_library(tmp_path: Path, server: SimulatorServer) -> None:
    settings = {
        "output_dir": tmp_path / "out",
        "dark_capture": {"num_darks": 2, "select": "bias", "output_dir": tmp_path / "darks"},
        "camera": {"address": server.address, "cooling": {"enable_cooling": True, "cooling_timeout": 1e6}},
    }
    report = MasterController(settings).run("acquire")
    report.raise_for_failure()
    assert [job.label for job in report.jobs] == ["bias -10.0 °C 0.001 s 1/2", "bias -10.0 °C 0.001 s 2/2"]
    again = MasterController(settings).run("acquire")
    assert again.up_to_date
    victim = frames(tmp_path / "darks")[1]
    victim.write_bytes(victim.read_bytes()[:-2880])
    dry = MasterController(settings).run("acquire", dry_run=True)
    assert [job.label for job in dry.jobs] == ["bias -10.0 °C 0.001 s 2/2"]
    assert not RawDir(tmp_path / "darks").rejected_folder.exists()
    MasterController(settings).run("acquire").raise_for_failure()
    assert len(list(RawDir(tmp_path / "darks").rejected_folder.iterdir())) == 1
    assert not server.cooler.on


def test_a_temperature_that_is_left_out_is_a_note_and_no_failure(tmp_path: Path, server: SimulatorServer) -> None:
    cooling = {"temperatures_c": [-60.0, -10.0], "on_failure": "skip_temperature", "cooling_timeout": 3000.0}
    settings = {
        "output_dir": tmp_path / "out",
        "dark_capture": {"num_darks": 1, "select": "bias", "output_dir": tmp_path / "darks"},
        "camera": {"address": server.address, "cooling": cooling},
    }
    report = MasterController(settings).run("acquire")
    report.raise_for_failure()
    assert any("-60.0 °C is left out" in note for note in report.notes)
    assert [path.parent.parent.name for path in frames(tmp_path / "darks")] == ["T-10.0C"]
