"""Functions whose module is imported when one of them is first called.

scipy, matplotlib and numba take longer to import than all the rest, and a run that finds nothing to do needs none.
Type checkers see the real functions: `if TYPE_CHECKING: from m import f as f`, `else: f = called_later("m", "f")`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

IMPORTING = threading.RLock()
"""Held at such an import. Two jobs in two threads that import packages with circles among their modules at the same
time could meet a module of which half is there."""


def imported(module: str) -> ModuleType:
    """A module, imported where it was not yet: by one thread at a time."""
    with IMPORTING:
        return importlib.import_module(module)


@functools.cache
def import_soon(*modules: str) -> None:
    """Begin to import modules in a thread, which are needed later: that goes on while jobs read files. Who needs one
    before waits for it, and is told what fails."""

    def run() -> None:
        for module in modules:
            with contextlib.suppress(Exception):
                imported(module)

    threading.Thread(target=run, name="imports").start()


def called_later(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of a module that is imported at the first call."""
    found: list[Callable[..., Any]] = []

    def function(*args: Any, **kwargs: Any) -> Any:
        if not found:
            found.append(getattr(imported(module), name))
        return found[0](*args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    return function
