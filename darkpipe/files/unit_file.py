"""One header unit of a file as a file of its own."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from darkpipe.files.fits_bytes import BLOCK, EMPTY_PRIMARY, ImageLayout
from darkpipe.files.sources import Source, opened_source


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
