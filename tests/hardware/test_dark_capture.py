"""A campaign with the simulated camera in process: plan, order, temperatures, frames that are refused, the end."""

from __future__ import annotations

import dataclasses
import logging
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from capture_helpers import (
    STAMP,
    TINY,
    Bench,
    cooled,
    events,
    frames,
    header,
    journal,
    pixels,
    reasons,
    settings_for,
    taken_order,
)

from darkpipe.files.layout import RawDir
from hardware.dark_capture import DarkCapture
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CaptureError,
    CoolingError,
    DiskSpaceError,
    UnreachableTemperatureError,
)
from hardware.temperature_log import read_temperature_log

LARGER = dataclasses.replace(TINY, rows=64, cols=80)  # room for a gradient
UNREACHABLE_C = -60.0  # the cooler gets 45 °C below 20 °C
SLOW = {"cooling_timeout": 900.0}


# the plan, taken
def test_a_whole_plan(tmp_path: Path) -> None:
    bench = Bench()
    result = bench.capture(cooled(tmp_path, -10.0, 0.0, flat_exposure_time=3.0)).capture_darks()
    exposures = {"0.001": "bias", "1.000": "dark", "2.000": "dark", "3.000": "dark"}
    wanted = {
        f"{temperature}/exp_{exposure}s/{kind}_{STAMP}_{number:03d}.fits"
        for temperature in ("T-10.0C", "T0.0C")
        for exposure, kind in exposures.items()
        for number in (1, 2, 3)
    }
    assert {path.relative_to(tmp_path).as_posix() for path in frames(tmp_path)} == wanted
    assert set(result.files) == set(result.taken) == set(frames(tmp_path))
    assert result.session == STAMP
    assert {k: result.statistics[k] for k in ("frames", "there", "taken", "rejected")} == {
        "frames": 24,
        "there": 24,
        "taken": 24,
        "rejected": 0,
    }
    sensor = bench.camera.sensor
    for path in result.files:
        cards, celsius = header(path), 0.0 if "T0.0C" in path.parts else -10.0
        assert (cards["SET-TEMP"], cards["TEMPGATE"], cards["RETRIES"]) == (celsius, True, 0)
        assert cards["CCD-TEMP"] == pytest.approx(celsius, abs=0.05)
        assert cards["IMAGETYP"] == ("Bias Frame" if "bias" in path.name else "Dark Frame")
        assert path.parent.name == f"exp_{cards['EXPTIME']:.3f}s"
        signal = sensor.bias_adu() + sensor.expected_dark_adu(cards["EXPTIME"], celsius)
        assert np.median(pixels(path) - signal) == pytest.approx(0.0, abs=1.5)
    assert set(events(tmp_path, "taken").values()) == set(events(tmp_path, "begin").values()) == {1}


def test_the_order_is_that_of_the_plan_and_interleaved(tmp_path: Path) -> None:
    bench = Bench()
    capture = bench.capture(cooled(tmp_path, -10.0, -5.0, flat_exposure_time=3.0))
    names = {"bias": "Bias Frame", "dark": "Dark Frame"}
    planned = [(slot.temperature_c, names[slot.kind], slot.exposure_s) for slot in capture.work.plan.slots]
    capture.capture_darks()
    order = taken_order(tmp_path)
    assert order == planned
    first_half = [exposure for celsius, _, exposure in order if celsius == -10.0]
    assert first_half == [0.001, 1.0, 2.0, 3.0, 0.001, 3.0, 2.0, 1.0, 0.001, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("pause_s", [0.0, 7.0])
def test_bias_frames_are_paced(tmp_path: Path, pause_s: float) -> None:
    Bench().capture(settings_for(tmp_path, select="bias", bias_pause_s=pause_s)).capture_darks()
    cards = [header(path) for path in frames(tmp_path)]
    times = [(datetime.fromisoformat(c["DATE-OBS"]), datetime.fromisoformat(c["DATE-END"])) for c in cards]
    gaps = [(later[0] - former[1]).total_seconds() for former, later in pairwise(times)]
    assert len(gaps) == 2
    assert all(pause_s <= gap < pause_s + 1 for gap in gaps)


def test_bias_only_and_science_only(tmp_path: Path) -> None:
    bench = Bench()
    result = bench.capture(settings_for(tmp_path)).capture_bias_only()
    assert {header(path)["IMAGETYP"] for path in result.taken} == {"Bias Frame"}
    assert len(result.taken) == len(frames(tmp_path)) == 3
    result = bench.capture(settings_for(tmp_path)).capture_science_darks_only()
    assert {header(path)["EXPTIME"] for path in result.taken} == {2.0}
    assert len(result.taken) == 3
    assert result.session == STAMP  # of the same session, so that the rest fits in
    result = bench.capture(settings_for(tmp_path)).capture_darks()
    assert {header(path)["EXPTIME"] for path in result.taken} == {1.0}
    assert len(frames(tmp_path)) == len(result.files) == 9


def test_one_object_takes_one_part_after_the_other(tmp_path: Path) -> None:
    capture = Bench().capture(cooled(tmp_path))
    assert len(capture.capture_bias_only().taken) == 3
    result = capture.capture_darks()
    assert (result.statistics["frames"], result.statistics["there"], len(frames(tmp_path))) == (9, 9, 9)


def test_a_block_cools_once_for_all_its_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    caplog.set_level(logging.INFO, "darkpipe.capture")
    with bench.capture(cooled(tmp_path)) as capture:
        capture.capture_bias_only()
        assert bench.cooler.on
        result = capture.capture_darks()
        assert bench.cooler.on
    assert not bench.cooler.on
    assert len(result.files) == len(frames(tmp_path)) == 9
    assert bench.camera.writes.count(("on", True)) == 1
    assert [m for m in caplog.messages if "frames are there" in m][-1].startswith("9 of 9 frames are there")


def test_remarks_of_the_plan_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "darkpipe.capture")
    result = Bench().capture(settings_for(tmp_path, max_exposure=1.0)).capture_darks()
    assert any("max_exposure" in remark for remark in result.remarks)
    assert any("flat darks are left out" in remark for remark in result.remarks)
    assert all(any(remark in message for message in caplog.messages) for remark in result.remarks)


def test_nothing_is_written_before_the_first_frame(tmp_path: Path) -> None:
    bench = Bench()
    folder = tmp_path / "darks"
    with bench.capture(cooled(folder)) as capture:
        assert any("9 frames to take of 9" in line for line in capture.described())
        capture.get_status()
    assert not folder.exists()
    assert bench.camera.writes == bench.camera.exposures == []


def test_status_at_any_time(tmp_path: Path) -> None:
    bench = Bench()
    seen = []
    capture = bench.capture(cooled(tmp_path))
    bench.at_exposure(4, lambda: seen.append(capture.get_status()))
    before = capture.get_status()
    capture.capture_darks()
    (during,), after = seen, capture.get_status()
    assert (before.wanted, before.there, before.taken, before.cooling.cooler_on) == (9, 0, 0, False)
    assert (during.wanted, during.there, during.taken, during.cooling.cooler_on) == (9, 3, 3, True)
    assert during.cooling.stable
    assert during.cooling.temperature_c == pytest.approx(-10.0, abs=0.1)
    assert before.time_left_s > during.time_left_s > after.time_left_s == 0.0
    assert (after.there, after.taken, after.exposures_s, after.temperatures_c) == (9, 9, (0.001, 1.0, 2.0), (-10.0,))
    assert (after.folder, after.session) == (tmp_path, STAMP)
    bench.camera.line_down = True
    assert capture.get_status().cooling is None


def test_the_temperature_log_tells_the_whole_run(tmp_path: Path) -> None:
    ends = []
    bench = Bench()
    DarkCapture(bench.camera, cooled(tmp_path), on_end=ends.append).capture_darks()
    assert ends == [RawDir(tmp_path).temperature_log(STAMP)]
    table = read_temperature_log(ends[0])
    told = [event for event in table["event"] if event]
    assert told.count("dark 2 s start") == told.count("dark 2 s end") == 3
    assert table["temperature_c"][0] > 19.0  # from the start
    assert np.ma.min(table["temperature_c"]) < -9.9
    assert table["temperature_c"].compressed()[-1] > 18.0  # to the warm-up


# temperatures
def test_a_camera_without_a_cooler(tmp_path: Path) -> None:
    bench = Bench(has_cooler=False, cooler={"ambient_c": 12.5})
    result = bench.capture(settings_for(tmp_path)).capture_darks()
    assert len(result.files) == 9
    for path in result.files:
        cards = header(path)
        assert cards["CCD-TEMP"] == 12.5
        assert not cards["TEMPGATE"]
        assert not {"SET-TEMP", "COOL-POW"} & set(cards)
    assert bench.camera.writes == []


@pytest.mark.parametrize("policy", ["stop", "skip_temperature", "continue"])
def test_a_temperature_is_refused_where_there_is_no_cooler(tmp_path: Path, policy: str) -> None:
    bench = Bench(has_cooler=False)
    with pytest.raises(CoolingError, match="no cooler"):
        bench.capture(cooled(tmp_path / "darks", cooling={"on_failure": policy})).capture_darks()
    assert not (tmp_path / "darks").exists()
    assert bench.camera.exposures == []


def test_wait_for_cooling_false_starts_at_once_and_says_so_in_each_header(tmp_path: Path) -> None:
    bench = Bench()
    result = bench.capture(cooled(tmp_path, cooling={"wait_for_cooling": False})).capture_darks()
    cards = [header(path) for path in result.files]
    assert len(cards) == 9
    assert not any(c["TEMPGATE"] for c in cards)
    assert {c["SET-TEMP"] for c in cards} == {-10.0}
    assert max(c["CCD-TEMP"] for c in cards) > 15.0
    first = min(datetime.fromisoformat(c["DATE-OBS"]) for c in cards)
    assert (first - bench.clock.start_utc.replace(tzinfo=None)).total_seconds() < 5
    assert not bench.cooler.on


def test_auto_cooling_false_leaves_the_cooler_alone(tmp_path: Path) -> None:
    bench = Bench()
    bench.cooler.set_point_c, bench.cooler.on = -5.0, True
    bench.clock.sleep(600)
    settings = settings_for(tmp_path, cooling={"auto_cooling": False})
    result = bench.capture(settings).capture_darks()
    assert bench.camera.writes == []
    assert bench.cooler.on
    cards = [header(path) for path in result.files]
    assert {(c["SET-TEMP"], c["TEMPGATE"]) for c in cards} == {(-5.0, True)}
    assert {slot.temperature_c for slot in bench.capture(settings).work.plan.slots} == {-5.0}
    assert bench.capture(settings).capture_darks().taken == ()


def test_stop_ends_the_run_at_a_temperature_that_cannot_be_had(tmp_path: Path) -> None:
    bench = Bench()
    with pytest.raises(UnreachableTemperatureError, match="coldest set point"):
        bench.capture(cooled(tmp_path, -10.0, UNREACHABLE_C, 0.0, cooling=SLOW)).capture_darks()
    assert {celsius for celsius, *_ in taken_order(tmp_path)} == {-10.0}
    assert not bench.cooler.on


def test_skip_temperature_leaves_it_out_and_goes_on(tmp_path: Path) -> None:
    bench = Bench()
    settings = cooled(tmp_path, UNREACHABLE_C, -10.0, cooling={**SLOW, "on_failure": "skip_temperature"})
    result = bench.capture(settings).capture_darks()
    assert {celsius for celsius, *_ in taken_order(tmp_path)} == {-10.0}
    assert list(result.skipped_c) == [UNREACHABLE_C]
    assert "cannot reach -60.0 °C" in result.skipped_c[UNREACHABLE_C]
    assert len(result.files) == 9


def test_continue_takes_its_frames_all_the_same_and_says_so(tmp_path: Path) -> None:
    settings = cooled(tmp_path, UNREACHABLE_C, cooling={**SLOW, "on_failure": "continue"})
    result = Bench().capture(settings).capture_darks()
    assert len(result.files) == 9
    assert not any(header(path)["TEMPGATE"] for path in result.files)


def test_no_frame_at_all_is_a_failure(tmp_path: Path) -> None:
    bench = Bench()
    settings = cooled(tmp_path, UNREACHABLE_C, cooling={**SLOW, "on_failure": "skip_temperature"})
    with pytest.raises(CaptureError, match=r"not one frame was taken: the cooler cannot reach -60\.0 °C"):
        bench.capture(settings).capture_darks()
    assert not bench.cooler.on


def test_drift_in_mid_exposure_is_rejected_kept_aside_and_retaken(tmp_path: Path) -> None:
    bench = Bench()

    def heat() -> None:
        bench.cooler.ambient_c = 150.0

    def heal() -> None:
        bench.cooler.ambient_c = 20.0

    bench.at_exposure(6, heat)
    bench.clock.on_sleep = lambda now_s: heal() if bench.camera.next_frame_number == 6 else None
    result = bench.capture(cooled(tmp_path, science_exposure_time=8.0)).capture_darks()
    (rejected,) = result.rejected
    assert any(reason.startswith("temperature") and "at the end, not -10 °C" in reason for reason in rejected.reasons)
    assert rejected.path.is_relative_to(RawDir(tmp_path).rejected_folder)
    aside = header(rejected.path)
    assert aside["T-END"] > -9.0 > aside["T-START"]
    assert "temperature" in aside["QC1"]
    assert len(result.files) == len(frames(tmp_path)) == 9
    again = header(next(path for path in result.files if header(path)["FRAMEID"] == aside["FRAMEID"]))
    assert again["RETRIES"] == 1
    assert again["T-END"] == pytest.approx(-10.0, abs=0.3)
    assert result.statistics["retakes"] == 1


def test_a_set_point_that_somebody_changes_is_noticed_and_written_again(tmp_path: Path) -> None:
    bench = Bench()
    bench.at_exposure(5, lambda: setattr(bench.cooler, "set_point_c", -10.6))
    result = bench.capture(cooled(tmp_path, cooling={"temperature_tolerance": 2.0})).capture_darks()
    (rejected,) = result.rejected
    assert "somebody changed the cooler" in " ".join(rejected.reasons)
    assert {header(path)["SET-TEMP"] for path in result.files} == {-10.0}


# frames that are refused
@pytest.mark.parametrize(
    ("fault", "value", "named"),
    [
        ("duplicate_image", True, "duplicate image"),
        ("constant_image", True, "constant image"),
        ("light_leak_adu_per_s", 400.0, "light leak"),
        ("light_leak_adu_per_s", 60_000.0, "saturated"),
    ],
)
def test_a_bad_frame_is_rejected_named_and_retaken(tmp_path: Path, fault: str, value: float, named: str) -> None:
    bench = Bench(LARGER)
    whole = getattr(bench.camera, fault)
    bench.at_exposure(9, lambda: setattr(bench.camera, fault, value), lambda: setattr(bench.camera, fault, whole))
    result = bench.capture(cooled(tmp_path)).capture_darks()
    (rejected,) = result.rejected
    assert any(named in reason for reason in rejected.reasons), rejected.reasons
    assert list(reasons(tmp_path)) == list(rejected.reasons)
    assert pixels(rejected.path).shape == (LARGER.rows, LARGER.cols)
    assert len(result.files) == 9
    assert len({pixels(path).tobytes() for path in result.files}) == 9


def test_a_light_leak_from_the_first_frame_on_ends_the_run(tmp_path: Path) -> None:
    bench = Bench(LARGER)
    bench.camera.light_leak_adu_per_s = 400.0
    with pytest.raises(CaptureError, match=r"tries gave no good frame: .*light leak"):
        bench.capture(cooled(tmp_path)).capture_darks()
    assert not bench.cooler.on


def test_too_many_tries_of_one_frame_end_the_run_with_their_reason(tmp_path: Path) -> None:
    bench = Bench()
    bench.at_exposure(5, lambda: setattr(bench.camera, "constant_image", True))
    with pytest.raises(CaptureError, match="3 tries gave no good frame: constant image") as caught:
        bench.capture(cooled(tmp_path, max_retakes=2)).capture_darks()
    assert f"_{STAMP}_" in str(caught.value.where)
    assert len(frames(tmp_path)) == 4
    assert len(list(RawDir(tmp_path).rejected_folder.iterdir())) == 3
    assert not bench.cooler.on
    bench.camera.on_expose, bench.camera.constant_image = None, False
    assert len(bench.capture(cooled(tmp_path)).capture_darks().taken) == 5


def test_a_budget_that_is_used_up_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    bench = Bench()
    bench.camera.on_expose = lambda count: setattr(bench.camera, "constant_image", count % 2 == 0)
    with pytest.raises(CaptureError, match="all 10 retakes of this run are used up; the last one for: constant image"):
        bench.capture(settings_for(tmp_path, num_darks=6, retake_budget=0.0)).capture_darks()
    assert len(frames(tmp_path)) == 11


# the end
def warmed(bench: Bench) -> bool:
    """Whether the set point was raised in steps until the cooler went off."""
    points = [value for what, value in bench.camera.writes if what == "set point" and value > -10.0]
    return bench.camera.writes[-1] == ("on", False) and len(points) > 20 and bench.cooler.temperature_c() > 15.0


def test_warm_up_after_success_and_hold(tmp_path: Path) -> None:
    bench = Bench()
    bench.capture(cooled(tmp_path / "a")).capture_darks()
    assert warmed(bench)
    held = Bench()
    held.capture(cooled(tmp_path / "b", cooling={"warmup": False})).capture_darks()
    assert held.cooler.on
    assert held.cooler.temperature_c() == pytest.approx(-10.0, abs=0.01)
    assert ("on", False) not in held.camera.writes


def test_warm_up_after_an_error(tmp_path: Path) -> None:
    bench = Bench()
    bench.at_exposure(3, lambda: setattr(bench.camera, "error_state", True))
    with pytest.raises(CameraDriverError, match="error state"):
        bench.capture(cooled(tmp_path)).capture_darks()
    assert warmed(bench)
    assert len(frames(tmp_path)) == 2


def test_warm_up_after_an_interrupt_in_mid_exposure(tmp_path: Path) -> None:
    bench = Bench()
    bench.interrupt_in(4)
    with pytest.raises(KeyboardInterrupt):
        bench.capture(cooled(tmp_path)).capture_darks()
    assert bench.camera.aborts == 1
    assert warmed(bench)
    assert len(frames(tmp_path)) == 3


def test_a_second_interrupt_switches_the_cooler_off_at_once(tmp_path: Path) -> None:
    bench = Bench()
    bench.interrupt_in(4)

    def second(now_s: float) -> None:
        if ("set point", -8.0) in bench.camera.writes:
            bench.clock.on_sleep = None
            raise KeyboardInterrupt

    capture = bench.capture(cooled(tmp_path))
    bench.camera.abort = lambda: setattr(bench.clock, "on_sleep", second)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        capture.capture_darks()
    assert not bench.cooler.on
    assert bench.camera.writes[-1] == ("on", False)
    assert bench.cooler.temperature_c() < -5.0
    assert read_temperature_log(RawDir(tmp_path).temperature_log(STAMP))  # it was closed in good order
    bench.camera.on_expose = None
    assert len(Bench().capture(cooled(tmp_path)).capture_darks().taken) == 6  # and the folder is free


def test_an_error_in_the_warm_up_does_not_hide_the_first_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    def lose_everything() -> None:
        bench.camera.error_state = True
        bench.camera.write_set_point = lambda celsius: broken()  # type: ignore[method-assign]
        bench.camera.write_cooler_on = lambda on: broken()  # type: ignore[method-assign]

    def broken() -> None:
        raise CameraDriverError("the warm-up broke")

    bench.at_exposure(3, lose_everything)
    with pytest.raises(CameraDriverError, match="error state"):
        bench.capture(cooled(tmp_path, max_retakes=0)).capture_darks()
    assert "the cooler may still be on" in caplog.text


def test_what_fails_after_a_run_does_not_hide_its_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.at_exposure(3, lambda: setattr(bench.camera, "error_state", True))

    def fail(path: Path) -> None:
        raise CaptureError("no picture")

    with pytest.raises(CameraDriverError, match="error state"):
        DarkCapture(bench.camera, cooled(tmp_path, max_retakes=0), on_end=fail).capture_darks()
    assert "no picture" in caplog.text


def test_a_camera_that_is_handed_in_stays_open(tmp_path: Path) -> None:
    bench = Bench()
    bench.capture(cooled(tmp_path)).capture_darks()
    assert not bench.camera.closed


# beside others
def test_two_captures_in_one_folder(tmp_path: Path) -> None:
    one, other = Bench(), Bench()
    with one.capture(cooled(tmp_path)) as first:
        first.take_slot(first.work.missing[0])
        with pytest.raises(CameraBusyError, match="another acquisition") as caught:
            other.capture(cooled(tmp_path)).capture_darks()
        assert caught.value.exit_code == 75
    assert other.camera.writes == other.camera.exposures == []
    assert len(frames(tmp_path)) == 1


def test_a_lock_that_cannot_be_made_is_said_before_anything_is_cooled(tmp_path: Path) -> None:
    bench = Bench()
    capture = bench.capture(cooled(tmp_path))
    capture.raw.lock.mkdir()
    with pytest.raises(CaptureError, match="cannot write"):
        capture.capture_darks()
    assert bench.camera.writes == bench.camera.exposures == []


def test_the_disk_is_looked_at_before_anything_is_cooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    capture = bench.capture(cooled(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=9 * 4 * 2880))
    with pytest.raises(DiskSpaceError, match="the plan needs"):
        capture.capture_darks()
    assert bench.camera.writes == bench.camera.exposures == journal(tmp_path) == []
