"""Opening a camera: found, locked, let go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from canned_alpaca import CannedAlpaca

from hardware import connect
from hardware.connect import CameraLock, normalised, open_camera
from hardware.discovery import FoundCamera
from hardware.errors import CameraBusyError, CameraTransportError, CameraValueError
from hardware.settings import CameraSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def server() -> Iterator[CannedAlpaca]:
    with CannedAlpaca() as server:
        yield server


def test_a_camera_is_held_until_it_is_closed(server: CannedAlpaca) -> None:
    settings = CameraSettings(address=server.address)
    camera = open_camera(settings)
    port = server.address.rpartition(":")[2]
    for spelling in (server.address, f"localhost:{port}", f"http://LOCALHOST:{port}/"):
        with pytest.raises(CameraBusyError, match="another run") as caught:
            open_camera(CameraSettings(address=spelling))
        assert caught.value.exit_code == 75
    assert camera.expose_dark(0.0).pixels.any(), "the one who has it is not disturbed"
    camera.close()
    camera.close()
    open_camera(settings).close()


def test_another_camera_is_free(server: CannedAlpaca) -> None:
    camera = open_camera(CameraSettings(address=server.address))
    lock = CameraLock(server.address, 1)
    lock.acquire()
    lock.release()
    lock.release()
    camera.close()


def test_a_camera_that_does_not_open_is_not_held(server: CannedAlpaca) -> None:
    with pytest.raises(CameraValueError):
        open_camera(CameraSettings(address=server.address, gain=1000))
    open_camera(CameraSettings(address=server.address)).close()


def test_a_camera_that_exposes_may_be_taken_over(server: CannedAlpaca) -> None:
    server.begin({"Duration": "30"})
    with pytest.raises(CameraBusyError, match="exposing"):
        open_camera(CameraSettings(address=server.address))
    camera = open_camera(CameraSettings(address=server.address), take_over=True)
    assert camera.is_idle()
    camera.close()


def test_the_end_of_a_process_frees_its_camera() -> None:
    program = (
        "from hardware.connect import CameraLock\nlock = CameraLock('localhost:5', 0)\nlock.acquire()\n"
        "print(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        lock = CameraLock("127.0.0.1:5", 0)
        with pytest.raises(CameraBusyError, match=f"process {process.pid}"):
            lock.acquire()
        process.kill()
        process.wait()
    lock.acquire()
    lock.release()


@pytest.mark.parametrize(
    ("spelling", "key"),
    [
        ("localhost:11111", "127.0.0.1:11111"),
        ("http://127.0.0.1:011111/", "127.0.0.1:11111"),
        ("127.0.1.1:1", "127.0.0.1:1"),
        ("[::1]:80", "127.0.0.1:80"),
        ("192.168.1.20:11111", "192.168.1.20:11111"),
        ("No-Such-Host.invalid:7", "no-such-host.invalid:7"),
    ],
)
def test_an_address_has_one_spelling(spelling: str, key: str) -> None:
    assert normalised(spelling) == key


@pytest.mark.parametrize("address", ["", "host", "host:", "host:x"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(CameraValueError, match="host:port"):
        normalised(address)


class TestLookingForIt:
    ONE = FoundCamera("10.0.0.1:11111", 0, "One", "1", "a")
    TWO = FoundCamera("10.0.0.2:11111", 3, "Two", "2", "b")

    def located(self, monkeypatch: pytest.MonkeyPatch, found: list[FoundCamera], **settings: int) -> CameraSettings:
        monkeypatch.setattr(connect, "find_cameras", lambda: found)
        return connect.located(CameraSettings(**settings))

    def test_the_one_that_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = self.located(monkeypatch, [self.TWO])
        assert (settings.address, settings.device_number) == ("10.0.0.2:11111", 3)

    def test_the_one_with_that_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.located(monkeypatch, [self.ONE, self.TWO], device_number=3).address == self.TWO.address

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CameraTransportError, match="no camera answers"):
            self.located(monkeypatch, [])

    def test_two_are_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(CameraTransportError, match=r"10\.0\.0\.1:11111 camera 0 'One'.*10\.0\.0\.2:11111 camera 3"):
            self.located(monkeypatch, [self.ONE, self.TWO])

    def test_an_address_is_not_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connect, "find_cameras", lambda: pytest.fail("looked for"))
        assert connect.located(CameraSettings(address="h:1")).device_number == 0


def test_a_folder_that_cannot_be_used_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(connect.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    lock = CameraLock("h:1", 0)
    lock.acquire()
    lock.release()
    assert (tmp_path / "temporary").is_dir()
