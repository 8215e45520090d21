"""What tells whether a file is still the same, and what makes it last."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

import xxhash

from darkpipe.errors import PipelineError, ProductError
from darkpipe.regular import regular
from darkpipe.same_file import Identity, Stamp

NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""What file systems say that cannot bring a file to the disk on demand: there is nothing better to be done."""

log = logging.getLogger("darkpipe")

CHUNK_BYTES = 1 << 20

NO_FSYNC = "DARKPIPE_NO_FSYNC"
"""Set to 1 in the environment, nothing waits for the disk: to measure what the rest takes, and for nothing else. After
a power failure the journal could name products that are not there in full."""

_waited_s = [0.0]


def stamp(path: str | Path) -> Stamp | None:
    """Size and time of a file; None if there is no such file.

    Raises
    ------
    PipelineError
        if its folder cannot be looked into.
    """
    status = _status(path)
    return None if status is None else Stamp.of(status)


def identity(path: str | Path) -> Identity | None:
    """Inode, size and time of a file; None if there is no such file, or no regular one. Raises as `stamp` does."""
    status = _status(path)
    return Identity.of(status) if status is not None and stat.S_ISREG(status.st_mode) else None


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself
            return None
        raise PipelineError(f"cannot look at this file: {error.strerror}", where=path) from error


def digest(path: str | Path) -> str:
    """xxh3_128 of the content, hexadecimal.

    Raises
    ------
    PipelineError
        if the file cannot be read.
    """
    state = xxhash.xxh3_128()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        with open(path, "rb", buffering=0, opener=regular) as file:
            while count := file.readinto(buffer):
                state.update(buffer[:count])
    except OSError as error:
        raise PipelineError(f"cannot read this file: {error.strerror}", where=path) from error
    return state.hexdigest()


def steady_digest(path: str | Path, expected: Stamp) -> str:
    """Digest of a file that still has the stamp `expected` when it has been read.

    Raises
    ------
    PipelineError
        if the file is not the one that `expected` was taken of.
    """
    content = digest(path)
    if stamp(path) != expected:
        raise PipelineError("this file changed while the pipeline runs", where=path, do="Run again")
    return content


def sync(paths: Iterable[str]) -> None:
    """Make files and their folders last through a power failure. A file that is gone again is passed over.

    Raises
    ------
    ProductError
        if the disk fails, or is full: what was written may be lost.
    """
    folders = set()
    for path in paths:
        folders.add(os.path.dirname(path))
        with contextlib.suppress(FileNotFoundError):
            _sync_one(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    if os.name != "nt":  # Windows opens no folders
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                _sync_one(folder, os.O_RDONLY)


def to_disk(handle: int) -> None:
    """Wait until an open file is on the disk, unless NO_FSYNC is set; the time is counted (`say_waited`)."""
    if os.environ.get(NO_FSYNC) == "1":
        return
    start = time.perf_counter()
    try:
        os.fsync(handle)
    finally:
        _waited_s[0] += time.perf_counter() - start


def say_waited() -> None:
    """Log how long this process has waited for the disk, or that it did not."""
    if os.environ.get(NO_FSYNC) == "1":
        log.warning("%s is set: what was made may be lost in a power failure", NO_FSYNC)
    elif _waited_s[0] > 0.0:
        log.info("waited %.2f s until the products were on the disk", _waited_s[0], extra={"detail": True})


def _sync_one(path: str, flags: int) -> None:
    try:
        handle = os.open(path, flags)
        try:
            to_disk(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise ProductError(
                f"cannot bring the file to the disk: {error.strerror or error}",
                where=path,
                do="Check the disk and its free space, then run again",
            ) from error
