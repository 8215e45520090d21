"""Arrays of numbers in a file of their own (.npz): in between jobs, not for people."""

from __future__ import annotations

import zipfile
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import ProductError
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
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise ProductError(f"{what} cannot be read ({told})", where=path, do=do) from error
