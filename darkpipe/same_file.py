"""Whether a path still leads to the file that was looked at, told without reading it again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """Of a file as long as this process lives. A product that is written anew is another file, as a rule with another
    inode, where the time alone may not have moved: some file systems count it in seconds. Compared together with the
    path, since every disk has inodes of its own."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """From what `os.stat` or `os.fstat` says."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


class Stamp(NamedTuple):
    """Of a file from run to run, as the journal keeps it: if it has not moved, the content has not. Without the inode,
    which changes when a folder is copied or comes back from an archive."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """From what `os.stat` says."""
        return cls(status.st_size, status.st_mtime_ns)


def identity(path: str | Path) -> Identity:
    """Of the file that a path leads to now; OSError as os.stat."""
    return Identity.of(os.stat(path))


def identity_if_there(path: str | Path) -> Identity | None:
    """The same, None where nothing can be looked at: whoever reads it says what is wrong."""
    try:
        return identity(path)
    except OSError:
        return None
