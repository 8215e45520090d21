"""Arrays of numbers in a file of their own (.npz): in between jobs, not for people."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Container, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import ProductError, one_line
from darkpipe.files.atomic import replace_file
from darkpipe.regular import regular

Place: TypeAlias = Callable[[str, tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""What gives a contiguous array of this shape and type for the one of this name."""

_LOCAL_HEADER = 30  # bytes of a zip file before each part, and then its name and what else is said of it
_READ_HEADER: Mapping[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(
    path: Path, what: str, do: str, names: Container[str] | None = None, place: Place | None = None
) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name. Objects are refused, and so is what would unpack to more than the file holds.

    what : the content, for the message. do : advice. names : only these; None: all. place : gives
    contiguous arrays that they are put into; None: new ones.

    Raises
    ------
    ProductError
        when the file is missing, damaged, or not such a file.
    """
    try:
        with open(path, "rb", opener=regular) as content, zipfile.ZipFile(content) as parts:
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                raise ValueError("its arrays are compressed, and ours never are")
            named = {part.filename.removesuffix(".npy"): part for part in parts.infolist()}
            return {
                name: _array(content, part, name, place or _anywhere)
                for name, part in named.items()
                if names is None or name in names
            }
    except Exception as error:  # what a damaged file of this kind raises has no common base
        raise ProductError(f"{what} cannot be read ({one_line(error)})", where=path, do=do) from error


def _anywhere(_: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    return np.empty(shape, kind)


def _array(content: BinaryIO, part: zipfile.ZipInfo, name: str, place: Place) -> NDArray[Any]:
    """A part, which is stored as it is: read to where it is wanted, in place of three copies one after the other."""
    content.seek(part.header_offset)
    local = content.read(_LOCAL_HEADER)
    begin = part.header_offset + _LOCAL_HEADER + int.from_bytes(local[26:28], "little")
    begin += int.from_bytes(local[28:30], "little")
    content.seek(begin)
    read_header = _READ_HEADER[np.lib.format.read_magic(content)]
    shape, turned, kind = read_header(content)
    header = content.tell() - begin
    if kind.hasobject:
        raise ValueError("it holds objects, and allow_pickle is off")
    if (
        prod(shape) * kind.itemsize != part.file_size - header
        or begin + part.file_size > os.fstat(content.fileno()).st_size
    ):
        raise ValueError("an array has another size than its header says")
    array = place(name, tuple(reversed(shape)) if turned else shape, kind)
    content.seek(begin)
    total = zlib.crc32(content.read(header))
    pixels = array.reshape(-1).view(np.uint8).data
    if content.readinto(pixels) != len(pixels) or zlib.crc32(pixels, total) != part.CRC:  # type: ignore[attr-defined]
        raise ValueError("an array is damaged: its CRC is another one")
    return array.transpose() if turned else array


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays by name, as numpy's savez does, but from first to last byte and without a copy of them, so that the
    digest is taken on the way; returns it.

    Raises
    ------
    ProductError
        when the file cannot be replaced.
    """

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(_Straight(stream), "w") as parts:  # type: ignore[call-overload]
            for name, array in arrays.items():
                with parts.open(f"{name}.npy", "w", force_zip64=True) as part:
                    whole = np.asarray(array, order="C")
                    np.lib.format.write_array_header_1_0(part, np.lib.format.header_data_from_array_1_0(whole))
                    part.write(whole.reshape(-1).view(np.uint8))

    return replace_file(path, write)


class _Straight:
    """A stream that zipfile does not know how to turn back in."""

    def __init__(self, stream: BinaryIO) -> None:
        self.write, self.flush = stream.write, stream.flush
