"""One frame: the temperature gate, lines that break, exposures that are not what was asked for, disks that are full."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from capture_helpers import Bench, cooled, events, frames, header, journal, reasons
from fake_clock import FakeClock

from darkpipe.files.layout import RawDir
from hardware.camera import Exposure
from hardware.cooling import CoolingStatus
from hardware.errors import (
    CameraDriverError,
    CameraProtocolError,
    CameraTransportError,
    CameraValueError,
    CaptureError,
    DiskSpaceError,
    ImplausibleReadingError,
)
from hardware.frame_taker import Gate
from hardware.temperature_log import TemperatureLog


def reading(temperature_c: float | None, set_point_c: float | None = -10.0, on: bool | None = True) -> CoolingStatus:
    return CoolingStatus(FakeClock().utc(), temperature_c, -10.0, set_point_c, cooler_on=on)


GOOD = reading(-10.0)


@pytest.mark.parametrize(
    ("readings", "told"),
    [
        ([GOOD, GOOD, GOOD], []),
        ([reading(-10.5), reading(-9.5), GOOD], []),
        ([GOOD, None, GOOD], []),
        ([reading(-9.49), GOOD, GOOD], ["temperature -9.49 °C at the start, not -10 °C"]),
        ([GOOD, reading(-10.6), GOOD], ["temperature -10.60 °C at the middle, not -10 °C"]),
        ([GOOD, GOOD, reading(None)], ["temperature none at the end, not -10 °C"]),
        ([GOOD, GOOD, reading(-10.0, -9.9)], []),  # rounded by its driver
        ([GOOD, reading(-10.0, -9.5), GOOD], ["somebody changed the cooler at the middle: set point -9.5 °C"]),
        ([GOOD, GOOD, reading(-10.0, on=False)], ["somebody changed the cooler at the end: it is off"]),
        ([reading(-10.0, None, None)] * 3, []),  # a camera that tells neither
    ],
)
def test_the_gate(readings: list[CoolingStatus | None], told: list[str]) -> None:
    gate = Gate(-10.0, 0.5, on=True, set_point=True)
    assert gate.reasons(readings) == told
    assert replace(gate, on=False).reasons(readings) == []
    # a driver that rounds its set point to whole degrees, and the same reading of it as before
    rounded = Gate(-9.6, 0.5, on=True, set_point=True, set_point_c=-10.0)
    assert rounded.reasons([reading(-9.6, -10.0)] * 3) == []
    assert rounded.reasons([reading(-9.6, -9.6)] * 3) != []
    assert Gate().reasons(readings) == []


def test_where_nobody_writes_the_set_point_it_may_be_what_it_likes() -> None:
    gate = Gate(-10.0, 0.5, on=True)
    assert gate.reasons([reading(-10.0, -20.0, False)] * 3) == []
    assert gate.reasons([reading(-20.0)] * 3) != []


@pytest.fixture
def bench() -> Bench:
    return Bench()


# the line
@pytest.mark.parametrize("moment", ["before", "during"])
def test_after_a_broken_line_it_connects_again_and_goes_on(tmp_path: Path, bench: Bench, moment: str) -> None:
    def cut() -> None:
        def during(now_s: float) -> None:
            bench.clock.on_sleep, bench.camera.line_down = None, True

        if moment == "during":
            bench.clock.on_sleep = during
        else:
            bench.camera.line_down = True

    bench.at_exposure(4, cut)
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == 9
    assert bench.camera.reconnects == 1
    assert result.statistics["retakes"] == 1
    assert result.rejected == ()  # nothing came that could be kept
    assert list(reasons(tmp_path)) == ["the camera does not answer [simulated camera]. reconnect"]


def test_after_a_restart_the_cooler_is_brought_back_before_the_next_frame(tmp_path: Path, bench: Bench) -> None:
    """Set point, switch and exposure are lost, and the sensor warms up meanwhile."""

    def restart() -> None:
        bench.camera.restart()
        bench.clock.sleep(120)

    bench.at_exposure(6, restart)
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == 9
    assert bench.camera.writes.count(("on", True)) == 2
    for path in result.files:
        assert (header(path)["SET-TEMP"], header(path)["TEMPGATE"]) == (-10.0, True)
        assert header(path)["CCD-TEMP"] == pytest.approx(-10.0, abs=0.3)


def test_a_line_that_breaks_while_it_cools_is_connected_again(tmp_path: Path, bench: Bench) -> None:
    def cut(now_s: float) -> None:
        if now_s > 30:
            bench.clock.on_sleep, bench.camera.line_down = None, True

    bench.clock.on_sleep = cut
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == 9
    assert bench.camera.reconnects == 1


def test_a_line_that_stays_broken_ends_the_run(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hardware.frame_taker.RECONNECT_PAUSES_S", (0.01,))
    settings = cooled(tmp_path)
    settings = settings.model_copy(
        update={"camera": settings.camera.model_copy(update={"reconnect_timeout_s": 0.1})},
    )

    def gone() -> None:
        raise CameraTransportError("nobody answers")

    def cut() -> None:
        bench.camera.line_down, bench.camera.reconnect = True, gone  # type: ignore[method-assign]

    bench.at_exposure(4, cut)
    with pytest.raises(CameraTransportError, match="nobody answers"):
        bench.capture(settings).capture_darks()
    assert "the cooler may still be on" in caplog.text
    assert len(frames(tmp_path)) == 3


@pytest.mark.parametrize("kind", [CameraDriverError, CameraProtocolError, CameraTransportError])
def test_an_exposure_that_keeps_failing_ends_the_run(tmp_path: Path, bench: Bench, kind: type[Exception]) -> None:
    def fail(seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        raise kind("it failed")

    bench.camera.expose_dark = fail  # type: ignore[method-assign]
    with pytest.raises(kind, match="it failed"):
        bench.capture(cooled(tmp_path, max_retakes=2)).capture_darks()
    assert bench.camera.reconnects == 2
    assert bench.camera.aborts == 3
    assert not bench.cooler.on
    assert list(events(tmp_path, "begin").values()) == list(events(tmp_path, "rejected").values()) == [3]


def test_what_no_reconnect_can_help_is_not_tried_again(tmp_path: Path, bench: Bench) -> None:
    def refuse(seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        raise CameraValueError("such an exposure cannot be")

    bench.camera.expose_dark = refuse  # type: ignore[method-assign]
    with pytest.raises(CameraValueError, match="such an exposure"):
        bench.capture(cooled(tmp_path)).capture_darks()
    assert bench.camera.reconnects == 0


# the thermometer
def test_a_reading_that_fails_in_the_middle_is_no_reason(tmp_path: Path, bench: Bench) -> None:
    def cut() -> None:
        whole = bench.camera.temperature_c
        called = []

        def at_start_and_end() -> float | None:
            called.append(1)
            if len(called) == 1:
                raise CameraTransportError("a hiccup")
            return whole()

        bench.camera.temperature_c = at_start_and_end  # type: ignore[method-assign]

    bench.at_exposure(4, cut)
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == 9
    assert result.rejected == ()
    assert sum("T-MIDDLE" not in header(path) for path in result.files) == 1


def test_a_thermometer_that_cannot_be_believed_ends_the_run_cleanly(tmp_path: Path, bench: Bench) -> None:
    bench.at_exposure(4, lambda: setattr(bench.camera, "temperature_c", lambda: -273.15))
    with pytest.raises(ImplausibleReadingError, match=r"-273\.15"):
        bench.capture(cooled(tmp_path)).capture_darks()
    assert not bench.cooler.on
    assert len(frames(tmp_path)) == 3


# the exposure
@pytest.mark.parametrize(("actual_s", "rejected"), [(2.0, 0), (2.03, 0), (2.05, 1), (1.0, 1)])
def test_an_exposure_of_another_length_is_rejected(
    tmp_path: Path, bench: Bench, actual_s: float, rejected: int
) -> None:
    whole = bench.camera.expose_dark
    told = [actual_s]

    def cut_short(seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        exposure = whole(seconds, at_middle=at_middle)
        return replace(exposure, exposure_s=told.pop()) if seconds == 2.0 and told else exposure

    bench.camera.expose_dark = cut_short  # type: ignore[method-assign]
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.rejected) == rejected
    if rejected:
        assert f"it exposed {actual_s:g} s, not 2 s" in result.rejected[0].reasons[0]
    assert len(result.files) == 9


def test_the_header_tells_what_happened_on_the_way(tmp_path: Path, bench: Bench) -> None:
    bench.at_exposure(3, lambda: setattr(bench.camera, "constant_image", True))

    def heal(now_s: float) -> None:
        if len(bench.camera.exposures) == 4:
            bench.camera.constant_image = False
            bench.clock.jump_s = 3600.0  # and somebody sets the clock

    bench.clock.on_sleep = heal
    result = bench.capture(cooled(tmp_path)).capture_darks()
    cards = [header(path) for path in result.files]
    (late,) = [c for c in cards if c["RETRIES"]]
    assert (late["RETRIES"], late["EXPTIME"]) == (1, 2.0)
    jumped = [c for c in cards if "CLKJUMP" in c]
    assert [round(c["CLKJUMP"]) for c in jumped] == [3600]
    for c in cards:
        length = datetime.fromisoformat(c["DATE-END"]) - datetime.fromisoformat(c["DATE-OBS"])
        assert length == pytest.approx(
            timedelta(seconds=c["EXPTIME"] + round(c.get("CLKJUMP", 0.0))), abs=timedelta(milliseconds=2)
        )


# the disk
def test_a_log_that_cannot_be_written_ends_neither_run_nor_warm_up(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: TemperatureLog, *row: object) -> None:
        raise CaptureError("the temperature log cannot be written")

    bench.at_exposure(3, lambda: monkeypatch.setattr(TemperatureLog, "_append", full))
    result = bench.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == 9
    assert not bench.cooler.on
    assert bench.cooler.temperature_c() > 15.0  # slowly, not at once
    assert caplog.text.count("the temperature log cannot be written") == 1


@pytest.mark.parametrize("victim", ["frame", "journal", "all"])
def test_a_full_disk_ends_the_run_warms_up_and_goes_on_when_there_is_room(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    """The error of the system is real, its cause is not: writes are refused from the fifth frame on."""
    refused: list[str] = []

    def fsync(handle: int) -> None:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        if victim == "all" or (victim == "journal") == (name == RawDir(tmp_path).journal.name):
            refused.append(name)
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        bench.at_exposure(5, lambda: patch.setattr("os.fsync", fsync))
        with pytest.raises(DiskSpaceError, match="the disk is full"):
            bench.capture(cooled(tmp_path)).capture_darks()
    assert refused
    assert not bench.cooler.on
    assert bench.cooler.temperature_c() > 15.0
    again = Bench(first_frame_number=50)
    result = again.capture(cooled(tmp_path)).capture_darks()
    assert len(result.files) == len(frames(tmp_path)) == 9
    assert all(count == 1 for count in events(tmp_path, "taken").values())
    assert all("taken" in line or line.keys() for line in journal(tmp_path))
