"""Whole files or none: a draft in the same folder, then one rename.

A reader meets the old content or the new one, never half of either. Names of drafts start with a dot and end in
``DRAFT_SUFFIX``; a crash leaves at most such a draft behind, which `remove_drafts` clears away.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import xxhash

from darkpipe.errors import ProductError

DRAFT_SUFFIX = ".draft"

_DRAFT_NAME = re.compile(r"^\..+\.\d+-\d+\.draft$", re.DOTALL)
# processes on two computers may have one number: workers of a cluster, on one file system
_NUMBERS = itertools.count(int.from_bytes(os.urandom(6), "big"))
_WAITS_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5)  # three seconds in all: a viewer or a virus scanner lets go by then
_CHUNK_BYTES = 1 << 20
_MOST_NAME_BYTES = 200
_SYNC_MODE = "rb+" if os.name == "nt" else "rb"  # Windows syncs only handles that may write


def replace_file(path: Path, write: Callable[[BinaryIO], None]) -> str:
    """Write a file as a whole, replacing what stood there.

    Parameters
    ----------
    path : the file; its folder is made if missing.
    write : writes the content into the open binary file that it is given (seeking is allowed).

    Returns
    -------
    str : xxh3_128 of the content, in hexadecimal.

    Raises
    ------
    ProductError : the file cannot be written or replaced (no space, no permission, held open by another program), or
        a device or pipe stands there. Whatever `write` raises itself passes through; the old file stays, the draft is
        removed.
    """
    path = Path(path)
    _refuse_device(path)
    draft = path.with_name(f".{_short(path.name)}.{os.getpid()}-{next(_NUMBERS)}{DRAFT_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _Digesting(draft) as stream:
            write(stream)
        digest = stream.digest() or file_digest(draft)
        _replace(draft, path)
    except OSError as error:
        raise ProductError(
            f"cannot write the file: {error.strerror or error}",
            where=path,
            do="Check free space, permissions and whether another program holds the file, then run again.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return digest


def _short(name: str) -> str:
    """As much of a name as leaves room for what a draft adds to it: names end at 255 bytes, or letters."""
    return name if len(os.fsencode(name)) <= _MOST_NAME_BYTES else name[: _MOST_NAME_BYTES // 4]


class _Digesting(io.BufferedWriter):
    """A new file whose digest is taken of what passes through, as long as that comes in one go from first to last."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))  # the name is unique: no mode "x"
        self._hasher = xxhash.xxh3_128()
        self._straight = True

    def write(self, data: Any, /) -> int:
        if self._straight:
            self._hasher.update(data)
        return super().write(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._straight = False
        return super().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        self._straight = False
        return super().truncate(size)

    def fileno(self) -> int:
        # who asks for that writes past this object, as numpy's tofile does
        self._straight = False
        return super().fileno()

    def detach(self) -> io.RawIOBase:
        self._straight = False
        return super().detach()

    def digest(self) -> str:
        """Of the content, once it is closed; '' if it has to be read again for that."""
        return self._hasher.hexdigest() if self._straight else ""


def replace_text(path: Path, text: str) -> str:
    """Write text (UTF-8, line ends as given) as a whole file; digest and errors as `replace_file`."""
    content = text.encode("utf-8")

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    return replace_file(path, write)


def _refuse_device(path: Path) -> None:
    """Leave alone what is no file: root could replace /dev/null, and nobody means a link such as /dev/stdout."""
    try:
        kind = os.stat(path).st_mode
        of_process = path.is_symlink() and os.readlink(path).startswith("/proc/")
    except OSError:  # nothing there, or a link to nothing
        return
    if of_process or not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ProductError("a device or pipe cannot be replaced by a file", where=path, do="Name a file.")


def _replace(draft: Path, path: Path) -> None:
    for wait_s in _WAITS_S:
        try:
            os.replace(draft, path)
        except PermissionError:
            if path.is_dir():
                break  # waiting does not turn a folder into a file
            time.sleep(wait_s)
        else:
            return
    os.replace(draft, path)


def file_digest(path: Path) -> str:
    """xxh3_128 of a file's bytes, in hexadecimal; raises OSError if the file cannot be read."""
    hasher = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with open(path, "rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            hasher.update(buffer[:count])
    return hasher.hexdigest()


def sync(paths: Iterable[Path]) -> None:
    """Force files and the folders that name them to the disk: the one durability point of a batch.

    Raises
    ------
    ProductError : a file is gone or the disk refuses.
    """
    files = sorted(set(paths))
    for path in files:
        try:
            with open(path, _SYNC_MODE) as stream:
                os.fsync(stream.fileno())
        except OSError as error:
            raise ProductError(
                f"cannot bring the file to the disk: {error.strerror or error}", where=path, do="Run again."
            ) from error
    for folder in sorted({path.parent for path in files}):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk, where the system can do that."""
    # Windows has no handle on a folder, some network drives refuse to sync one: the rename is then as safe as it gets
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_drafts(root: Path, *, deep: bool = True) -> int:
    """Remove drafts that crashed runs left under a folder (links are not followed), or just in it; returns how many.

    To be called by the holder of the output directory's lock: drafts of a living run would be taken away from it.
    """
    removed = 0
    for folder, folders, names in os.walk(root):
        if not deep:
            folders.clear()
        for name in names:
            if _DRAFT_NAME.match(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
                    removed += 1
    return removed
