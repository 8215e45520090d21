"""One run at a time in an output directory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from darkpipe.errors import BusyError, PipelineError

LOCK_NAME = ".pipeline.lock"
HOLDER_NAME = ".pipeline.lock.json"


@contextlib.contextmanager
def hold(root: Path) -> Iterator[None]:
    """Hold the lock of an output directory, which is made if need be. The system frees it when the process dies.

    Raises
    ------
    BusyError
        at once, if another run holds it; says which, as far as that is known.
    PipelineError
        if the directory cannot be made or written to.
    """
    holder = root / HOLDER_NAME
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK_NAME)
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"another run{_described(holder)} holds the lock of this directory",
            where=root,
            do="Wait until it has ended, or take another --output_dir",
        ) from None
    except OSError as error:
        raise PipelineError(
            f"cannot write here: {error.strerror}", where=root, do="Take another --output_dir"
        ) from error
    try:
        _describe(holder)
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _describe(holder: Path) -> None:
    start = datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": start}))


def _described(holder: Path) -> str:
    """' (process 12 on host, since ...)', or nothing if the note cannot be read."""
    try:
        note = json.loads(holder.read_text())
        told = f" (process {note['pid']} on {note['host']}, since {note['start']})"
        return told[:200] if told.isprintable() else ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
