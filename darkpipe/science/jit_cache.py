"""numba's cache of compiled code, fit for several processes at a time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock

from darkpipe.science import compile_ahead
from darkpipe.science.jit_folder import LOCK_NAME, cache_folder, say_compiling

_FunctionCache: Any = caching.FunctionCache

PATIENCE_S, LOOK_S = 300.0, 0.05  # with another process that compiles the same kernel; then it is compiled here as well


def keep(dispatcher: Any) -> None:
    """Let numba look for the code of a function in `cache_folder`, and put it there."""
    config: Any = numba.config
    before = config.CACHE_DIR
    config.CACHE_DIR = cache_folder()  # read when the cache of a function is made, so it can be put back
    try:
        dispatcher._cache = cache = _KernelCache(dispatcher.py_func)
    finally:
        config.CACHE_DIR = before
    dispatcher.compile = _then(dispatcher.compile, cache.let_go)


def _then(compiled: Callable[[Any], Any], done: Callable[[], None]) -> Callable[[Any], Any]:
    def compile_one(sig: Any) -> Any:
        with global_compiler_lock:  # as numba does: no other thread may be at it when it is done
            try:
                return compiled(sig)
            finally:
                done()

    return compile_one


class _KernelCache(_FunctionCache):  # type: ignore[misc]
    """numba's own, fit for several processes at a time.

    numba numbers the files of a function from what it finds in the index. Two processes that store two signatures at
    once would take the same number, and the index of one would lead to the code of the other. So they store one
    after the other, and what is loaded must have the signature that was asked for.

    To compile takes seconds, so a process that has a kernel in hand says so by a lock, and others wait for what it
    makes. Kernels that need one another are taken in one order by all processes, so that none waits in a circle; within
    a process, numba compiles one at a time.
    """

    _in_hand: int | None = None  # a file descriptor

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._kept(sig, target_context)
        if found is None:
            say_compiling()
            compile_ahead.begin()
            if self._take_in_hand():
                found = self._kept(sig, target_context)
        return found

    def _kept(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        args = getattr(sig, "args", sig)
        return found if found is not None and tuple(found.signature.args) == tuple(args) else None

    def _take_in_hand(self) -> bool:
        """Say that this kernel is compiled here; returns whether another process did so until now."""
        waited, until = False, time.monotonic() + PATIENCE_S
        if self._in_hand is None:
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                name = f"{self._impl.filename_base}.{LOCK_NAME}"
                self._in_hand = file = os.open(Path(self.cache_path) / name, os.O_RDWR | os.O_CREAT, 0o600)
                while time.monotonic() < until:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        waited = True
                        time.sleep(LOOK_S)
        return waited

    def let_go(self) -> None:
        """It is compiled, or cannot be."""
        file, self._in_hand = self._in_hand, None
        if file is not None:
            os.close(file)

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
