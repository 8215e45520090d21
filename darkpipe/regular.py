"""Files that are opened only if they are files: to open a pipe is to wait for whoever writes into it, for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def regular(path: str | os.PathLike[str], flags: int) -> int:
    """For `open(path, opener=regular)`: never waits, and refuses pipes and devices.

    Raises
    ------
    OSError : as os.open, or because this is no regular file. (Folders are refused by `open` itself.)
    """
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        _refuse(os.fstat(handle).st_mode, path)
    except OSError:
        os.close(handle)
        raise
    return handle


def read_text(path: Path) -> str:
    """A file of UTF-8; OSError as `regular`, UnicodeDecodeError for what is none."""
    with open(path, encoding="utf-8", opener=regular) as stream:
        return stream.read()


def check_regular(path: str | os.PathLike[str]) -> None:
    """The same for what others are going to open; OSError if it is there and no regular file, or not there."""
    _refuse(os.stat(path).st_mode, path)


def _refuse(mode: int, path: str | os.PathLike[str]) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
