"""Arrays of numbers in a file of their own (.npz): in between jobs, not for people."""

from __future__ import annotations

import zipfile
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import ProductError, one_line
from darkpipe.files.atomic import replace_file
from darkpipe.regular import regular


def read_arrays(path: Path, what: str, do: str, names: Container[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of a file by name. Objects are refused, and so is what would unpack to more than the file holds.

    what : the content, for the message. do : advice. names : only these; None: all.

    Raises
    ------
    ProductError
        when the file is missing, damaged, or not such a file.
    """
    try:
        with open(path, "rb", opener=regular) as content:
            with zipfile.ZipFile(content) as parts:
                if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
                    raise ValueError("its arrays are compressed, and ours never are")
            content.seek(0)
            with np.load(content, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if names is None or name in names}
    except Exception as error:  # what a damaged file of this kind raises has no common base
        raise ProductError(f"{what} cannot be read ({one_line(error)})", where=path, do=do) from error


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
