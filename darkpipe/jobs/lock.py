"""One run at a time in an output directory.

The lock is the system's and ends with its process. Some file systems keep it from the other computers that share them;
there the note beside it tells: its holder touches it again and again.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from darkpipe.errors import BusyError, PipelineError
from darkpipe.regular import regular

LOCK_NAME = ".pipeline.lock"
HOLDER_NAME = ".pipeline.lock.json"

BEAT_S = 10.0
"""A holder touches its note as often."""

SILENT_S = 35.0
"""A note of another computer that nobody touched for so long is one of a run that died."""

LOOK_EVERY_S = 0.5


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Hold the lock of an output directory, which is made if need be. The system frees it when the process dies.

    If the lock is free and a note says that a run on another computer has it, the note is watched for `SILENT_S`: the
    other run has died, or the file system keeps locks from other computers.

    Raises
    ------
    BusyError
        at once, if another run holds it; says which, as far as that is known. As soon as the note is touched, if that
        run is on another computer and its lock cannot be seen from here.
    PipelineError
        if the directory cannot be made or written to, or its file system has no locks.
    """
    holder = root / HOLDER_NAME
    try:
        os.fspath(root).encode()  # tables and journal hold names of its files
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK_NAME)
        lock.acquire(timeout=0)
    except Timeout:
        raise _busy(root, holder) from None
    except UnicodeEncodeError:
        raise PipelineError("the name of this folder is no text in UTF-8", where=root, do="Rename it") from None
    except OSError as error:
        raise PipelineError(
            f"cannot write here: {error.strerror}", where=root, do="Take another --output_dir"
        ) from error
    except NotImplementedError as error:
        raise PipelineError(
            "this file system has no locks", where=root, do="Take an --output_dir on another one"
        ) from error
    try:
        with _folder_locked(root, holder):
            if _lives_elsewhere(holder):
                raise _busy(root, holder)
            with _noted(holder):
                yield
    finally:
        lock.release()


@contextlib.contextmanager
def _folder_locked(root: Path, holder: Path) -> Iterator[None]:
    """Lock the directory itself as well, where the system can: somebody may have removed the file of the lock while a
    run holds it, and a new file is free. BusyError as `hold`."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(root, holder) from None
        except OSError:  # NFS locks no folders; the file of the lock counts
            pass
        yield


def _busy(root: Path, holder: Path) -> BusyError:
    return BusyError(
        f"another run{_described(holder)} holds the lock of this directory",
        where=root,
        do="Wait until it has ended, or take another --output_dir",
    )


@contextlib.contextmanager
def _noted(holder: Path) -> Iterator[None]:
    """Say who holds the lock, and touch that note until the end."""
    start = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(OSError):  # it is for people, and for other computers; here the lock alone counts
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": start}))
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(holder, ended), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            holder.unlink()


def _beat(holder: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(holder)


def _lives_elsewhere(holder: Path) -> bool:
    """Whether a run on another computer touches the note. Times are compared with each other, not with a clock."""
    if _note(holder).get("host") in (None, socket.gethostname()):
        return False
    first, end = _look(holder), time.monotonic() + SILENT_S
    while time.monotonic() < end:
        time.sleep(min(LOOK_EVERY_S, BEAT_S))
        if (now := _look(holder)) != first:
            return now is not None
    return False


def _look(holder: Path) -> tuple[int, bytes] | None:
    """Time and content of the note; opened, since network file systems ask their server then. None: it is gone."""
    try:
        with open(holder, "rb", opener=regular) as file:
            return os.fstat(file.fileno()).st_mtime_ns, file.read()
    except OSError:
        return None


def _note(holder: Path) -> dict[str, Any]:
    try:
        note = json.loads(holder.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _described(holder: Path) -> str:
    """' (process 12 on host, since ...)', or nothing if the note cannot be read."""
    note = _note(holder)
    if not {"pid", "host", "start"} <= note.keys():
        return ""
    told = f" (process {note['pid']} on {note['host']}, since {note['start']})"
    return told[:200] if told.isprintable() else ""
