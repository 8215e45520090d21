"""Files opened to look into them piece by piece, whatever they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from darkpipe.errors import FrameError
from darkpipe.files.fits_bytes import FileSource, GzipSource, Source


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
