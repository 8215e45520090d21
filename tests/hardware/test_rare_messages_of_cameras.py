"""Messages about cameras that no other test meets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canned_alpaca import CannedAlpaca

from darkpipe.errors import SettingsError
from hardware import connect, discovery
from hardware.alpaca import setup
from hardware.alpaca.calls import AlpacaCalls
from hardware.alpaca.driver import AlpacaCamera
from hardware.at_temperature import with_what_is_set
from hardware.connect import CameraLock
from hardware.cooler.set_point import SetPoint
from hardware.errors import CameraError, CameraNotImplementedError, CaptureError, CoolingError
from hardware.frames.disk import disk_error
from hardware.frames.frame_journal import Session
from hardware.settings import AcquisitionSettings, CameraSettings
from hardware.simulator import server as simulator
from master_controller import MasterController


@pytest.fixture
def canned() -> Iterator[CannedAlpaca]:
    with CannedAlpaca() as server:
        yield server


def refused(canned: CannedAlpaca, **settings: Any) -> str:
    with pytest.raises(CameraError) as caught:
        AlpacaCamera.connect(CameraSettings(address=canned.address, **settings))
    return str(caught.value)


def test_no_address() -> None:
    with pytest.raises(CameraError, match="no address of a camera is given"):
        AlpacaCamera.connect(CameraSettings())


@pytest.mark.parametrize("scale", [0, -1, "fast", True, None])
def test_a_time_scale_that_is_none(canned: CannedAlpaca, scale: object) -> None:
    canned.management["description"] = {"ServerName": "darkpipe simulator", "TimeScale": scale}
    assert "its time scale is" in refused(canned)


def test_a_sensor_without_pixels(canned: CannedAlpaca) -> None:
    canned.members["cameraxsize"] = 0
    assert "the sensor is said to have 0 × 7 pixels" in refused(canned)


def test_a_gain_that_the_camera_has_no_name_for(canned: CannedAlpaca) -> None:
    canned.members |= {"gains": ["ISO 100", "ISO 200"], "gain": 0}
    assert "the camera has no camera.gain 300; it has ISO 100, ISO 200" in refused(canned, gain=300)


def test_a_camera_that_goes_on_connecting(canned: CannedAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    canned.members |= {"interfaceversion": 4, "connecting": True, "connected": False}
    canned.on_put["connect"] = lambda _: None
    monkeypatch.setattr(setup, "CONNECT_S", 0.2)
    calls = AlpacaCalls(canned.address, 0)
    with pytest.raises(CameraError, match=r"still connecting after 0\.2 s"):
        setup._connect_asynchronously(calls)
    calls.line.close()


def test_an_exposure_that_does_not_stop(canned: CannedAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
    canned.begin({"Duration": "60"})
    canned.on_put["abortexposure"] = lambda _: None
    monkeypatch.setattr(setup, "ABORT_S", 0.2)
    calls = AlpacaCalls(canned.address, 0)
    with pytest.raises(CameraError, match=r"the exposure has not stopped within 0\.2 s"):
        setup.stop_exposure(calls)
    calls.line.close()


def test_a_lock_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(connect, "lock_folder", lambda: tmp_path / "file" / "locks")
    with pytest.raises(CameraError, match="the camera cannot be locked"):
        CameraLock("h:1", 0).acquire()


def test_no_network_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(discovery, "_ask_and_listen", refuse)
    with pytest.raises(CameraError, match="servers cannot be looked for"):
        discovery.find_servers(0.1)


def test_a_disk_that_refuses() -> None:
    error = disk_error(OSError(30, "Read-only file system"), "here")
    assert isinstance(error, CaptureError)
    assert str(error).startswith("cannot write: Read-only file system [here]")


def test_a_simulator_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator._Server, "run", lambda *given, **named: None)
    with pytest.raises(CameraError, match="the simulator did not start"):
        simulator.SimulatorServer()


class NoSetPoint:
    """A camera that reads a set point and cannot write one."""

    where = "camera"

    def write_set_point(self, celsius: float) -> None:
        raise CameraNotImplementedError("no")


def test_a_set_point_that_cannot_be_written() -> None:
    class Thermometer:
        def set_point_c(self) -> float:
            return 0.0

    class Ramp:
        finished = False

        def due_c(self, now_s: float) -> float:
            return -5.0

    class Clock:
        def monotonic_s(self) -> float:
            return 0.0

    point = SetPoint.__new__(SetPoint)
    point._ramp, point._camera, point._thermometer, point._clock = Ramp(), NoSetPoint(), Thermometer(), Clock()  # type: ignore[assignment]
    with pytest.raises(CoolingError, match="the set point cannot be written"):
        point.go_on()


COOLED = {"enable_cooling": True, "target_temperature": -10.0}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"camera": {"address": "somewhere"}}, "is not host:port"),
        ({"dark_capture": {"min_exposure": 9.0, "max_exposure": 1.0}}, "is above max_exposure"),
        (
            {"camera": {"cooling": {**COOLED, "stable_seconds": 500.0, "cooling_timeout": 100.0}}},
            "no temperature could ever count as stable",
        ),
        ({"camera": {"cooling": {**COOLED, "target_temperature": None}}}, "needs a target_temperature"),
        ({"camera": {"cooling": COOLED}, "dark_capture": {"temperatures_c": [-5.0]}}, "temperatures are given twice"),
        (
            {"camera": {"cooling": {"enable_cooling": False}}, "dark_capture": {"temperatures_c": [-5.0]}},
            "temperatures_c need the cooler",
        ),
    ],
)
def test_settings_of_a_camera_that_contradict_each_other(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        MasterController(settings).settings()


def test_a_camera_without_any_temperature() -> None:
    class Status:
        set_point_c = None
        temperature_c = None

    class Silent:
        where = "camera"

        def status(self) -> Status:
            return Status()

    cooling = {"enable_cooling": True, "target_temperature": -10.0, "auto_cooling": False}
    settings = AcquisitionSettings(camera=CameraSettings(cooling=cooling))  # type: ignore[arg-type]
    with pytest.raises(CoolingError, match="tells no temperature to take darks at"):
        with_what_is_set(settings, Silent(), Silent())  # type: ignore[arg-type]


def test_frames_that_cannot_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session.__new__(Session)
    monkeypatch.setattr(Session, "path", lambda self, slot: tmp_path / ("x" * 300))
    monkeypatch.setattr(Session, "_state", lambda self, slot: None)
    with pytest.raises(CaptureError, match="cannot look for a frame: File name too long"):
        session._is_there(None)  # type: ignore[arg-type]
    with pytest.raises(CaptureError, match="cannot read a frame"):
        session._digest(tmp_path)
