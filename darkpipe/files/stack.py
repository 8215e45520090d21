"""Many raw frames of one shape, read strip by strip: memory is bounded by the strips, however many frames there are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from io import FileIO
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError, one_line
from darkpipe.files.fits_bytes import ImageLayout, locate_image
from darkpipe.files.pixels import physical, stored_type
from darkpipe.files.quiet import late_fits, quietly
from darkpipe.files.sources import GzipSource, source_of
from darkpipe.files.unit_file import opened_unit
from darkpipe.regular import regular
from darkpipe.science.bit_planes import unsigned_of

RawSource = Path | NDArray[Any]
"""A raw frame, in a file or in memory: (rows, cols) raw counts."""

_OPEN_FILES = 128  # kept open; the rest are opened for each strip (systems allow 256 to 1024)
_PIECE_BYTES = 1 << 18
_GONE = "Run step 1 again: the raw frames are not those it indexed."


class FrameStack:
    """Raw frames of one shape as one array (n, rows, cols) that is read in strips. A context manager.

    Parameters
    ----------
    paths, hdus : files and the header unit of the image in each, as the survey found them; or images in memory.
    rows, cols : shape that all must have.

    Attributes
    ----------
    dtype : uint16 if all frames are 16-bit unsigned integers, else float32.

    Raises
    ------
    FrameError : a frame vanished, changed, is short or has another shape; it names the file.
    """

    def __init__(self, paths: Sequence[RawSource], hdus: Sequence[int], rows: int, cols: int) -> None:
        self.rows, self.cols = rows, cols
        self._frames: list[_Frame | _HeldFrame] = []
        self._folder = _Folder()
        self._buffer = bytearray()  # one for all frames: a frame's rows are copied out before the next is read
        try:
            for number, (path, hdu) in enumerate(zip(paths, hdus, strict=True)):
                if isinstance(path, np.ndarray):
                    self._frames.append(_HeldFrame(path, number, rows, cols))
                    continue
                self._frames.append(_open_frame(Path(path), hdu, rows, cols, self._folder, keep=number < _OPEN_FILES))
        except BaseException:
            self.close()
            raise
        plain = all(frame.is_uint16 for frame in self._frames)
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if plain else np.float32)

    def __len__(self) -> int:
        return len(self._frames)

    def __enter__(self) -> FrameStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files and remove what was unpacked."""
        for frame in self._frames:
            frame.close()
        self._folder.remove()

    def read_rows(self, r0: int, r1: int, into: NDArray[Any] | None = None) -> NDArray[Any]:
        """Rows r0 to r1 (exclusive) of all frames: array (n, r1 - r0, cols) of `dtype`, raw counts.

        into : flat array of `dtype` that is filled, as far as it is needed; None: one of its own.
        """
        if not 0 <= r0 <= r1 <= self.rows:
            raise ValueError(f"rows {r0} to {r1} of {self.rows}")
        shape = (len(self._frames), r1 - r0, self.cols)
        out = np.empty(shape, self.dtype) if into is None else into[: prod(shape)].reshape(shape)
        for frame, strip in zip(self._frames, out, strict=True):
            try:
                frame.fill(r0, r1, self._buffer, strip)
            except OSError as error:
                raise FrameError(f"cannot be read: {error.strerror or error}", where=frame.path, do=_GONE) from error
        return out


def _changed(path: Path) -> FrameError:
    return FrameError("the frame changed its size while it was in use", where=path, do=_GONE)


class _Folder:
    """A temporary folder, made when first needed: gzip cannot be read from the middle, so it is unpacked once."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._count = 0

    def save(self, source: GzipSource, end: int) -> tuple[Path, int]:
        """Write the unpacked bytes up to `end` to a file; its path and size."""
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="darkpipe-", ignore_cleanup_errors=True)
        self._count += 1
        path = Path(self._folder.name) / str(self._count)
        path.write_bytes(source.read_at(0, end))
        return path, end

    def remove(self) -> None:
        """Remove it."""
        if self._folder is not None:
            self._folder.cleanup()


class _Frame:
    """A plain image: `path` as the user knows it, `file` where its bytes are."""

    def __init__(self, path: Path, file: Path, layout: ImageLayout, size: int, *, keep: bool) -> None:
        self.path, self.layout = path, layout
        self.is_uint16 = layout.is_uint16
        self._file, self._size = file, size
        self._stream = open(file, "rb", buffering=0, opener=regular) if keep else None  # noqa: SIM115 - by the stack

    def fill(self, r0: int, r1: int, buffer: bytearray, out: NDArray[Any]) -> None:
        """Put the physical values of some rows into out, (r1 - r0, cols)."""
        if self._stream is not None:
            self._fill(self._stream, r0, r1, buffer, out)
            return
        with open(self._file, "rb", buffering=0, opener=regular) as stream:
            self._fill(stream, r0, r1, buffer, out)

    def _fill(self, stream: FileIO, r0: int, r1: int, buffer: bytearray, out: NDArray[Any]) -> None:
        if os.fstat(stream.fileno()).st_size != self._size:
            raise _changed(self.path)
        kind = stored_type(self.layout)
        row_bytes = self.layout.cols * kind.itemsize
        # few rows at a time: they are still in the cache when they are turned round
        height = max(1, _PIECE_BYTES // max(1, row_bytes))
        stream.seek(self.layout.begin + r0 * row_bytes)
        for first in range(r0, r1, height):
            last = min(first + height, r1)
            view = self._read(stream, (last - first) * row_bytes, buffer)
            stored = np.frombuffer(view, kind).reshape(last - first, self.layout.cols)
            part = out[first - r0 : last - r0]
            if self.is_uint16 and part.dtype == np.uint16:
                unsigned_of(stored, part)
            else:
                part[...] = physical(stored, self.layout)

    def _read(self, stream: FileIO, wanted: int, buffer: bytearray) -> memoryview:
        if len(buffer) < wanted:
            buffer.extend(bytes(wanted - len(buffer)))
        view = memoryview(buffer)[:wanted]
        done = 0
        while done < wanted:
            count = stream.readinto(view[done:])
            if not count:
                raise _changed(self.path)  # cut since its size was looked at
            done += count
        return view

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


class _HeldFrame:
    """An image in memory."""

    def __init__(self, image: NDArray[Any], number: int, rows: int, cols: int) -> None:
        self.path = Path(f"frame {number}")
        if image.shape != (rows, cols):
            raise FrameError(f"the image has the shape {image.shape}, not ({rows}, {cols})", where=self.path)
        self.is_uint16 = image.dtype == np.uint16
        self._image = image

    def fill(self, r0: int, r1: int, buffer: bytearray, out: NDArray[Any]) -> None:
        """Put some rows into out, (r1 - r0, cols)."""
        out[...] = self._image[r0:r1]

    def close(self) -> None:
        """Nothing is open."""


class _CompressedFrame(_Frame):
    """A tile-compressed image; astropy unpacks the tiles of the rows that are asked for."""

    def fill(self, r0: int, r1: int, buffer: bytearray, out: NDArray[Any]) -> None:
        """Put the physical values of some rows into out, (r1 - r0, cols)."""
        if os.stat(self.path).st_size != self._size:
            raise _changed(self.path)
        fits = late_fits()
        with quietly():
            try:
                with opened_unit(self.path, self.layout) as stream, fits.open(stream, memmap=False) as units:
                    out[...] = np.asarray(units[1].section[r0:r1])
            except OSError:
                raise
            except Exception as error:  # the decoders' own errors have no common base
                raise FrameError(
                    f"the compressed image is damaged: {one_line(error)}", where=self.path, do=_GONE
                ) from error


def _open_frame(path: Path, hdu: int, rows: int, cols: int, folder: _Folder, *, keep: bool) -> _Frame:
    try:
        file, size, layout, packed_tiles = path, os.stat(path).st_size, None, False
        with open(path, "rb", buffering=0, opener=regular) as stream:
            source = source_of(cast(BinaryIO, stream), size)
            layout = locate_image(source, hdu)
            if isinstance(source, GzipSource):
                packed_tiles = layout.compressed
                if not packed_tiles:
                    file, size = folder.save(source, layout.begin + layout.count)
        if (layout.hdu, layout.rows, layout.cols) != (hdu, rows, cols):
            found = f"{layout.rows} x {layout.cols} in unit {layout.hdu}"
            raise FrameError(f"the image is {found}, not {rows} x {cols} in unit {hdu}", do=_GONE)
        if layout.compressed:
            return _CompressedFrame(path, path, layout, size, keep=False)
        return _Frame(path, file, layout, size, keep=keep)
    except OSError as error:
        raise FrameError(f"cannot be read: {error.strerror or error}", where=path, do=_GONE) from error
    except FrameError as error:
        raise FrameError(error.what, where=path, do=error.do) from error
