"""Bytes that are read piece by piece, whatever they are: of memory, of a file, of a gzip stream that may be a bomb."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from darkpipe.errors import FrameError

SMALL_BYTES = 64 << 20  # bytes that any small file may unpack to
MOST_RATIO = 200  # of counts of a camera, packed; beyond it memory would be filled with what no camera gives


class Source(Protocol):
    """Bytes that can be asked for piece by piece."""

    def read_at(self, offset: int, count: int) -> bytes | memoryview:
        """Up to `count` bytes from `offset`; fewer at the end."""

    def claim(self, end: int, what: str) -> None:
        """Raise FrameError if the source cannot reach as far as `end`; takes no memory."""


class BytesSource:
    """Bytes in memory."""

    def __init__(self, content: bytes | memoryview) -> None:
        self._view = memoryview(content)

    def read_at(self, offset: int, count: int) -> memoryview:
        """A view, no copy."""
        return self._view[min(offset, len(self._view)) :][:count]

    def claim(self, end: int, what: str) -> None:
        """The size is known."""
        _check(end, len(self._view), what)


class FileSource:
    """An open file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size = stream, size

    def read_at(self, offset: int, count: int) -> bytes:
        """Reads from the file."""
        if offset >= self._size:
            return b""
        self._stream.seek(offset)
        return self._stream.read(max(0, min(count, self._size - offset)))

    def claim(self, end: int, what: str) -> None:
        """The size is known."""
        _check(end, self._size, what)


class GzipSource:
    """A gzip stream, unpacked only as far as it is asked for."""

    def __init__(self, stream: BinaryIO, packed_bytes: int) -> None:
        self._stream = gzip.GzipFile(fileobj=stream, mode="rb")
        self._packed_bytes, self._most = packed_bytes, max(SMALL_BYTES, packed_bytes * MOST_RATIO)
        self._unpacked = bytearray()

    def read_at(self, offset: int, count: int) -> bytes:
        """Unpacks up to the end of the piece."""
        self._refuse_beyond(offset, "more header units stand")
        self._unpack(min(offset + count, self._most))
        return bytes(memoryview(self._unpacked)[offset : offset + count])

    def claim(self, end: int, what: str) -> None:
        """No frame unpacks to more than a known multiple; what passes is unpacked and counted."""
        self._refuse_beyond(end, what)
        self._unpack(end)
        _check(end, len(self._unpacked), what)

    def unpacked(self) -> bytes:
        """What was unpacked so far."""
        return bytes(self._unpacked)

    def _refuse_beyond(self, end: int, what: str) -> None:
        if end > self._most:
            raise FrameError(
                f"{what} up to byte {told(end)}: more than a frame packed into {self._packed_bytes} bytes can hold",
                do="Leave the file out; if it is a frame, unpack it first.",
            )

    def check_rest(self) -> None:
        """Read on to the end of the stream, where its checksum stands (given up after another 256 MiB)."""
        for _ in range(256):
            if not self._read(1 << 20):
                return

    def _unpack(self, end: int) -> None:
        while len(self._unpacked) < end:
            piece = self._read(min(end - len(self._unpacked), 1 << 22))
            if not piece:
                return
            self._unpacked += piece

    def _read(self, count: int) -> bytes:
        try:
            return self._stream.read(count)
        except (OSError, EOFError, zlib.error) as error:
            raise FrameError(
                f"the gzip compression is truncated or damaged: {error}", do="Copy the frame again."
            ) from error


def told(number: int) -> str:
    """A number of any size, in a few letters."""
    return str(number) if abs(number) < 10**15 else f"{number:.3g}" if abs(number) < 10**300 else "10^300 or more"


def _check(end: int, size: int, what: str) -> None:
    if end > size:
        raise FrameError(
            f"truncated file: {what} up to byte {told(end)}, there are at most {size}",
            do="Copy the frame again, or leave it out.",
        )


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
            yield source_of(stream, size)
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror or error}", where=path, do="Check the file.") from error


def source_of(stream: BinaryIO, size: int) -> Source:
    """A source over an open file of so many bytes, which reads only what it is asked for; gzip is unpacked."""
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return GzipSource(stream, size) if packed else FileSource(stream, size)


def open_source(content: bytes | memoryview) -> Source:
    """A source over a file's bytes, unpacking gzip by its content, whatever the name says.

    Raises
    ------
    FrameError : the file is empty or XISF.
    """
    if not len(content):
        raise FrameError("empty file (0 bytes)", do="Copy the frame again.")
    begin = bytes(content[:5])
    if begin == b"XISF0":
        raise FrameError(XISF_ADVICE[0], do=XISF_ADVICE[1])
    if begin.startswith(b"\x1f\x8b"):
        return GzipSource(io.BytesIO(content), len(content))
    return BytesSource(content)


XISF_ADVICE = (
    "XISF file: only FITS is read",
    "Export the raw frames as FITS (16-bit unsigned integers), in PixInsight with BatchFormatConversion.",
)
