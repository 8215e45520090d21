"""numba's cache of compiled code, fit for several processes at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from darkpipe.science.jit_folder import LOCK_NAME, cache_folder, say_compiling

_FunctionCache: Any = caching.FunctionCache


def keep(dispatcher: Any) -> None:
    """Let numba look for the code of a function in `cache_folder`, and put it there."""
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = cache_folder()  # read when the cache of a function is made, so it can be put back
    try:
        dispatcher._cache = _KernelCache(dispatcher.py_func)
    finally:
        config.CACHE_DIR = before


class _KernelCache(_FunctionCache):  # type: ignore[misc]
    """numba's own, fit for several processes at a time.

    numba numbers the files of a function from what it finds in the index. Two processes that store two signatures at
    once would take the same number, and the index of one would lead to the code of the other. So they store one
    after the other, and what is loaded must have the signature that was asked for.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        args = getattr(sig, "args", sig)
        if found is not None and tuple(found.signature.args) == tuple(args):
            return found
        say_compiling()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        # a full disk or a folder that vanished costs the next process its time, and this one nothing
        with contextlib.suppress(OSError), _one_at_a_time(Path(cache_folder()) / LOCK_NAME):
            super().save_overload(sig, data)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock file, where the system and the file system have such a thing."""
    with open(path, "ab") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
