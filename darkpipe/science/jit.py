"""One way to compile a loop, and one place for what was compiled.

numba keeps compiled code with a stamp of the *file the function stands in*; code that was inlined from another file
is not looked at, so a change there would go unnoticed. Here the cache folder is named after the content of all of
this package: any change of it compiles anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import xxhash
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("darkpipe")


def _cache_root() -> Path:
    """The user's own folder for such things; NUMBA_CACHE_DIR wins."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return Path(given)
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "darkpipe" / "compiled"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "darkpipe" / "compiled"


@cache
def cache_folder() -> str:
    """Folder for the compiled code of this version of the package; '' when none can be made (numba then decides)."""
    digest = xxhash.xxh3_64(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    with contextlib.suppress(OSError, RuntimeError):
        folder = _cache_root() / digest.hexdigest()
        if not folder.is_dir():
            folder.mkdir(parents=True, mode=0o700)
            log.info("first run of this version: compiling takes a minute or two, later runs start at once")
        if os.access(folder, os.W_OK) and _is_ours(folder):
            return str(folder)
    return ""


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put code there: numba runs what it finds."""
    if not hasattr(os, "geteuid"):
        return True  # Windows: in the user's own profile
    found = folder.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def kernel(function: F) -> F:
    """Compile with numba: releases the GIL, kept on disk, divisions by zero give inf and NaN as in numpy.

    No fastmath on purpose: a pixel in the vector part of a loop and one in its scalar rest must come out the same to
    the last bit, or a product would depend on the height of its strips. To these loops it brings no speed either.
    """
    config: Any = numba.config
    before = config.CACHE_DIR
    # read when the function is decorated, so it can be put back; '' rather than a folder of somebody else's
    config.CACHE_DIR = cache_folder()
    try:
        return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))
    finally:
        config.CACHE_DIR = before


def inlined(function: F) -> F:
    """Compile a part of a kernel: merged into its callers, and without counting references to the arrays it is handed
    (which costs several times the arithmetic here). It must not allocate.
    """
    compiled: Any = njit
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": True}
    try:
        return cast(F, compiled(_nrt=False, **options)(function))
    except (TypeError, KeyError):  # a numba that does not know the option
        return cast(F, compiled(**options)(function))
