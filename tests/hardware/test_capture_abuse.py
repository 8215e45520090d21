"""What people do to settings, folders and journals: it is refused in words, or it does no harm."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from capture_helpers import STAMP, Bench, cooled, frames, header, settings_for
from fake_clock import FakeClock
from pydantic import ValidationError

from darkpipe.errors import SettingsError
from darkpipe.files.layout import OutputDir, RawDir
from darkpipe.report.temperature import temperature_figure
from hardware.camera import CameraInfo
from hardware.frames.frame_journal import FrameJournal
from hardware.planning.estimate import duration_text
from hardware.planning.plan import MOST_FRAMES, estimate, make_plan
from hardware.planning.worklist import asked_of_camera, complete
from hardware.settings import AcquisitionSettings
from hardware.simulator.sensor import SensorSpec
from hardware.temperature_log import read_temperature_log
from steps import step0_acquire_darks as step0

Lines = list[dict[str, Any]]


def asked(cooling: dict[str, Any] | None = None, **capture: Any) -> AcquisitionSettings:
    return AcquisitionSettings.model_validate({"dark_capture": capture, "camera": {"cooling": cooling or {}}})


# settings
@pytest.mark.parametrize("number", [10**9, MOST_FRAMES])
def test_a_plan_without_end_is_refused_before_it_is_made(number: int) -> None:
    with pytest.raises(SettingsError, match=rf"the plan has {5 * number} frames, more than {MOST_FRAMES}"):
        make_plan(asked(num_darks=number), None, None)


@pytest.mark.parametrize("resolution_s", [1e-6, 1e-310])
def test_exposures_beyond_all_numbers_are_planned_or_left_out(resolution_s: float) -> None:
    longest_s = 86400.0  # of the settings
    settings = asked(
        num_darks=30_000, science_exposure_time=longest_s, max_exposure=longest_s, exposure_factors=[0.5, 1.0, 1e308]
    )
    info = CameraInfo("C", exposure_resolution_s=resolution_s)
    plan = make_plan(settings, info, None)
    assert [e.exposure_s for e in plan.exposures] == [0.001, 43200.0, longest_s]
    assert any("science × 1e+308 (" in remark and "left out" in remark for remark in plan.remarks)
    assert "longer than a lifetime" in estimate(plan, plan.slots, info, settings, None).lines[1]


@pytest.mark.parametrize("name", ["science_exposure_time", "max_exposure", "flat_exposure_time"])
def test_exposures_that_no_camera_has_are_refused_by_the_settings(name: str) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 86400"):
        asked(**{name: 1e308})


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan")])
def test_a_time_without_end_has_words(seconds: float) -> None:
    assert duration_text(seconds) == "longer than a lifetime"


@pytest.mark.parametrize(
    ("cooling", "told"),
    [
        ({"stable_seconds": float("inf")}, "finite"),
        ({"stable_seconds": 300.0}, "not below cooling_timeout 300 s"),
        ({"cooling_timeout": 60.0}, "stable_seconds 60 s is not below"),
    ],
)
def test_a_temperature_that_could_never_count_as_stable_is_refused(cooling: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        asked({"enable_cooling": True, **cooling})


@pytest.mark.parametrize("more", [{"ramp_c_per_min": 1.0}, {"wait_for_cooling": False}])
def test_a_short_timeout_after_a_ramp_or_without_a_wait_is_none(more: dict[str, Any]) -> None:
    assert asked({"cooling_timeout": 10.0, **more}).camera.cooling.stable_seconds == 60.0


@pytest.mark.parametrize("spelling", ["{}", "{}/x/..", "link"])
def test_frames_in_the_output_directory_are_refused_before_the_camera_is_asked(tmp_path: Path, spelling: str) -> None:
    """Step 1 refuses it too, but a night later."""
    out = tmp_path / "model"
    out.mkdir()
    (tmp_path / "link").symlink_to(out)
    folder = tmp_path / "link" if spelling == "link" else Path(spelling.format(out))
    settings = {"dark_capture": {"output_dir": folder}, "camera": {"address": "127.0.0.1:1"}}
    with pytest.raises(SettingsError, match="cannot share one folder"):
        next(step0.plan(OutputDir(out), step0.Settings.model_validate(settings)))
    assert list(out.iterdir()) == []


# the journal, edited by hand
def edited(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = RawDir(folder).journal
    lines: Lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def taken_once(folder: Path) -> tuple[AcquisitionSettings, dict[Path, bytes]]:
    settings = cooled(folder, -10.0)
    Bench().capture(settings).capture_darks()
    assert complete(settings) is not None
    return settings, {path: path.read_bytes() for path in frames(folder)}


PATHS = [
    "frames.jsonl",
    ".",
    "a\0b.fits",
    "a\ud800.fits",
    "C:\\..\\x.fits",
    "a/../../x.fits",
    "/x.fits",
    "a//b.fits",
    "x",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_none_of_a_frame_is_skipped(tmp_path: Path, path: str) -> None:
    settings, before = taken_once(tmp_path)
    first = frames(tmp_path)[0].relative_to(tmp_path).as_posix()

    def edit(line: dict[str, Any]) -> None:
        if line.get("path") == first:
            line["path"] = path

    edited(tmp_path, edit)
    assert complete(settings) is not None  # the name that it gets anew is the one that it had
    assert {p: p.read_bytes() for p in frames(tmp_path)} == before
    assert any("is skipped" in warning for warning in FrameJournal(RawDir(tmp_path), read_only=True).warnings)


@pytest.mark.parametrize("stamp", ["../../evil", "/evil", "", "a\0", "20250729_220000\n"])
def test_a_stamp_that_would_lead_elsewhere_is_skipped(tmp_path: Path, stamp: str) -> None:
    folder = tmp_path / "darks"
    settings, before = taken_once(folder)

    def edit(line: dict[str, Any]) -> None:
        line.update({key: value.replace(STAMP, stamp) for key, value in line.items() if isinstance(value, str)})

    edited(folder, edit)
    Bench(first_frame_number=100).capture(settings).capture_darks()
    assert {p: p.read_bytes() for p in before} == before
    assert [p.name for p in tmp_path.iterdir()] == ["darks"]


@pytest.mark.parametrize(
    "change",
    [
        {"exposure_min_s": "short"},
        {"binning": 7},
        {"binning": [0, 0]},
        {"gain": {}},
        {"name": None},
        {"sensor_cols": "x"},
    ],
)
def test_a_camera_that_makes_no_sense_is_asked_again(tmp_path: Path, change: dict[str, Any]) -> None:
    settings, _ = taken_once(tmp_path)
    edited(tmp_path, lambda line: line["info"].update(change) if "info" in line else None)
    assert complete(settings) is None


def test_a_camera_as_a_later_version_knows_it_is_known(tmp_path: Path) -> None:
    settings, _ = taken_once(tmp_path)
    edited(tmp_path, lambda line: line["info"].update(new="thing") if "info" in line else None)
    assert complete(settings) is not None
    assert FrameJournal(RawDir(tmp_path)).recall(asked_of_camera(settings)) == Bench().camera.info


def test_frames_without_their_journal_are_spoken_of(tmp_path: Path) -> None:
    """They are not taken for frames of the plan, and nobody shall find that out after a night."""
    settings, before = taken_once(tmp_path)
    told = "does not know"
    assert not any(told in line for line in Bench().capture(settings).described())
    RawDir(tmp_path).journal.unlink()
    later = FakeClock()
    later.jump_s = 86400.0  # another stamp
    described = Bench(clock=later).capture(settings).described()
    assert (
        f"note: {len(before)} frames stand there that frames.jsonl does not know: none is counted as taken" in described
    )
    Bench(clock=later, first_frame_number=100).capture(settings).capture_darks()
    assert {p: p.read_bytes() for p in before} == before
    assert not any(told in line for line in Bench().capture(settings).described())


# large plans
def test_what_a_frame_costs_does_not_grow_with_the_square_of_the_plan(tmp_path: Path) -> None:
    """The first frame of a plan of which half is there looks at each frame once."""
    looks = 0

    class Counted(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            nonlocal looks
            looks += 1
            return super().__iter__()

    settings = settings_for(tmp_path, num_darks=40)
    bench = Bench(SensorSpec(rows=16, cols=16, seed=5, readout_s=0.1))
    bench.interrupt_in(20)
    with pytest.raises(KeyboardInterrupt):
        bench.capture(settings).capture_darks()
    capture = Bench(first_frame_number=50).capture(settings)
    capture.work.missing = Counted(capture.work.missing)
    capture._checks()
    assert looks <= 2


def test_an_interrupted_warm_up_says_that_the_cooler_is_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    def strike(now_s: float) -> None:
        if any("warming up" in message for message in caplog.messages):
            bench.clock.on_sleep = None
            raise KeyboardInterrupt

    bench.clock.on_sleep = strike
    caplog.set_level(logging.INFO, "darkpipe.capture")
    with pytest.raises(KeyboardInterrupt):
        bench.capture(cooled(tmp_path, -10.0)).capture_darks()
    assert "the warm-up was interrupted: the cooler is off" in caplog.messages
    assert not bench.cooler.on


def test_a_clock_that_was_set_back_between_two_runs(tmp_path: Path) -> None:
    """The session goes on, its log too, and another session gets a stamp of its own."""
    settings = cooled(tmp_path, -10.0)
    broken = Bench()
    broken.interrupt_in(4)
    with pytest.raises(KeyboardInterrupt):
        broken.capture(settings).capture_darks()
    early = FakeClock()
    early.jump_s = -86400.0
    result = Bench(clock=early, first_frame_number=10).capture(settings).capture_darks()
    assert len(result.files) == len(frames(tmp_path)) == 9
    (readings,) = tmp_path.glob("temperature_*.ecsv")
    temperature_figure(read_temperature_log(readings))
    early.jump_s = -early.now_s  # the very second in which the first session began
    other = cooled(tmp_path, -10.0, session="other")
    Bench(clock=early, first_frame_number=30).capture(other).capture_darks()
    assert len(frames(tmp_path)) == 18
    assert len({header(path)["FRAMEID"] for path in frames(tmp_path)}) == 18


def test_the_state_of_the_moment_is_that_of_the_moment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "darkpipe.capture")
    Bench().capture(cooled(tmp_path, -10.0)).capture_darks()
    states = [r.getMessage() for r in caplog.records if getattr(r, "state", False)]
    assert states[-1].startswith("warming up, ")
    exposing = [state.rpartition("all in all ")[2] for state in states if state.startswith("exposing")]
    assert len(exposing) == 27
    assert set(exposing) == {"7 min left"}  # 6 of them the warm-up; it does not jump to what a warm camera would need
