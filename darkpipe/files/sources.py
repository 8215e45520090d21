"""Files opened to look into them piece by piece, whatever they are."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from darkpipe.errors import FrameError
from darkpipe.files.fits_bytes import BLOCK, EMPTY_PRIMARY, FileSource, GzipSource, ImageLayout, Source


@contextmanager
def opened_source(path: Path) -> Iterator[Source]:
    """A file's bytes, unpacked if they are a gzip stream; read only as far as they are asked for.

    Raises
    ------
    FrameError : it cannot be read, or is no regular file (opening a pipe would wait for ever).
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FrameError("not a regular file", where=path, do="Leave it out.")
        with open(path, "rb", buffering=0) as raw:
            stream = cast(BinaryIO, raw)
            size = os.fstat(raw.fileno()).st_size
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            yield GzipSource(stream, size) if packed else FileSource(stream, size)
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror or error}", where=path, do="Check the file.") from error


@contextmanager
def opened_unit(path: Path, layout: ImageLayout) -> Iterator[BinaryIO]:
    """The header unit of an image as a file of its own, for astropy: what stands before it is not judged again.

    Raises
    ------
    FrameError : as `opened_source`.
    """
    with opened_source(path) as source, io.BufferedReader(_UnitFile(source, layout)) as stream:
        yield cast(BinaryIO, stream)


class _UnitFile(io.RawIOBase):
    """An empty primary, the unit, and zeros up to a whole block."""

    def __init__(self, source: Source, layout: ImageLayout) -> None:
        self._source, self._start = source, layout.start
        self._unit = layout.begin + layout.count - layout.start
        self._size = BLOCK + self._unit + -self._unit % BLOCK
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(start + offset, 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        piece = self._piece(min(len(view), self._size - self._place))
        view[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)

    def _piece(self, count: int) -> bytes | memoryview:
        if count <= 0:
            return b""
        if self._place < BLOCK:
            return EMPTY_PRIMARY[self._place : self._place + count]
        at = self._place - BLOCK
        if at < self._unit:
            return self._source.read_at(self._start + at, min(count, self._unit - at))
        return bytes(count)
