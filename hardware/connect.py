"""From settings to a camera that is ours alone: found if need be, locked, connected, verified."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import tempfile
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from hardware.alpaca.driver import AlpacaCamera
from hardware.camera import Camera
from hardware.discovery import FoundCamera, find_cameras
from hardware.errors import CameraBusyError, CameraError, CameraTransportError, CameraValueError
from hardware.settings import CameraSettings

log = logging.getLogger("darkpipe.capture")


def open_camera(settings: CameraSettings, *, take_over: bool = False) -> Camera:
    """The camera of the settings, connected and locked; `close` lets it go, and so does the end of the process.

    take_over : stop an exposure that runs there (one of ours, whose process died).

    Raises
    ------
    CameraBusyError
        if another process of this user holds it, or it is exposing.
    CameraTransportError
        if no address is given and not exactly one camera answers; lists those that do.
    CameraError
        of any kind from `AlpacaCamera.connect`.
    """
    settings = located(settings)
    lock = CameraLock(settings.address or "", settings.device_number or 0)
    lock.acquire()
    try:
        return AlpacaCamera.connect(settings, take_over=take_over, on_close=lock.release)
    except BaseException:
        lock.release()
        raise


def located(settings: CameraSettings) -> CameraSettings:
    """The settings with the address and number of a camera; one is looked for if they have none."""
    if settings.address is not None:
        return settings.model_copy(update={"device_number": settings.device_number or 0})
    found = find_cameras()
    number = settings.device_number
    fitting = [camera for camera in found if number in (None, camera.device_number)]
    if len(fitting) != 1:
        raise CameraTransportError(_not_one(found, number), do="Set camera.address and camera.device_number")
    log.info("found %s", fitting[0])
    return settings.model_copy(update={"address": fitting[0].address, "device_number": fitting[0].device_number})


def _not_one(found: list[FoundCamera], number: int | None) -> str:
    wanted = "camera" if number is None else f"camera with number {number}"
    if not found:
        return f"no {wanted} answers on this network"
    listed = "; ".join(str(camera) for camera in found)
    return f"not exactly one {wanted} answers on this network, but: {listed}"


class CameraLock:
    """A lock of one camera among the processes of this user, freed by the system when its process dies.

    address : 'host:port' of the server, in any spelling. number : of the camera.
    """

    def __init__(self, address: str, number: int) -> None:
        self.key = f"{normalised(address)}-camera-{number}"
        self._path = lock_folder() / f"{_safe(self.key)}.lock"
        self._note = self._path.with_suffix(".holder")
        # not thread-local, so that whoever closes the camera frees it; no singleton, so that a second one is refused
        self._lock = FileLock(self._path, thread_local=False)

    def acquire(self) -> None:
        """Take it at once, or raise `CameraBusyError`, which says who has it."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_foreign(self._path.parent)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise CameraBusyError(
                f"another run{self._holder()} uses this camera", where=self.key, do="Wait until it has ended"
            ) from None
        except OSError as error:
            what = f"the camera cannot be locked: {error.strerror or error}"
            raise CameraError(what, where=str(self._path), do="Set XDG_CACHE_HOME to a folder of yours") from error
        start = datetime.now().astimezone().isoformat(timespec="seconds")
        with contextlib.suppress(OSError):
            self._note.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": start}))

    def release(self) -> None:
        """Free it; may be called twice."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._note.unlink()
            self._lock.release()

    def _holder(self) -> str:
        try:
            note = json.loads(self._note.read_text())
            told = f" (process {note['pid']} on {note['host']}, since {note['start']})"
            return told[:200] if told.isprintable() else ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""


def normalised(address: str) -> str:
    """One spelling of 'host:port' for all that lead to the same server: names are resolved, loopback is 127.0.0.1."""
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    host = host.strip("[]").lower()
    if not port.isdecimal():
        raise CameraValueError(f"'{address}' is not host:port", do="Correct camera.address")
    if host == "localhost":
        host = "127.0.0.1"
    with contextlib.suppress(OSError, UnicodeError):  # a name that cannot be resolved will fail to connect, and say so
        host = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    if host.startswith("127.") or host in ("::1", "0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"{host}:{int(port)}"


def lock_folder() -> Path:
    """In the user's cache; in the folder for temporary files, where a user has no home that can be written."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkpipe" / "cameras"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    except (OSError, RuntimeError):
        pass
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    return Path(tempfile.gettempdir()) / f"darkpipe-{user}"


def _refuse_foreign(folder: Path) -> None:
    """Of a folder that somebody else made under a name that can be foreseen: a link in it would lead our writing to
    a file of ours.

    Raises
    ------
    PermissionError
    """
    if hasattr(os, "getuid") and (folder.is_symlink() or folder.stat().st_uid != os.getuid()):
        raise PermissionError(errno.EPERM, "its folder belongs to somebody else", str(folder))


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in text)
