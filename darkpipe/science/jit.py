"""One way to compile a loop.

numba is imported when a kernel is first called, not when it is defined: it costs a third of a second, and planning,
help, and a run that finds nothing to do call no kernel. Where the compiled code is kept: `darkpipe.science.jit_folder`.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_decorating = threading.RLock()  # one kernel may need another


class Kernel:
    """A function that numba compiles when it is first called, by Python or by another kernel.

    What is asked of it beyond a call (`py_func`, `signatures`, `inspect_asm`) is answered by numba's own object.
    """

    def __init__(self, function: Callable[..., Any], decorate: Callable[[Callable[..., Any]], Any]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._decorate = function, decorate
        self._compiled: Any = None

    @property
    def compiled(self) -> Any:
        """numba's dispatcher of this function."""
        if self._compiled is None:
            with _decorating:
                if self._compiled is None:
                    self._compiled = self._decorate(self._function)
        return self._compiled

    @property
    def _numba_type_(self) -> Any:
        """How numba asks what the name of this kernel stands for, where another kernel calls it."""
        return self.compiled._numba_type_

    def __call__(self, *args: Any) -> Any:
        return (self._compiled or self.compiled)(*args)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.compiled, name)


class Intrinsic:
    """A function of compiled code alone (numba's `intrinsic`), whose module is imported when a kernel that calls it is
    compiled: that module needs numba to be read at all.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    @property
    def _numba_type_(self) -> Any:
        from numba.core.registry import cpu_target

        with _decorating:
            found = getattr(importlib.import_module(self._module), self._name)
            # what that module has told numba is looked up when a compilation begins, and one is under way
            cpu_target.typing_context.refresh()
            cpu_target.target_context.refresh()
        return cpu_target.typing_context.resolve_value_type(found)


def kernel(function: F) -> F:
    """Compile with numba: releases the GIL, kept on disk, divisions by zero give inf and NaN as in numpy.

    No fastmath on purpose: a pixel in the vector part of a loop and one in its scalar rest must come out the same to
    the last bit, or a product would depend on the height of its strips. To these loops it brings no speed either.
    """
    return cast(F, Kernel(function, _kept))


def inlined(function: F) -> F:
    """Compile a part of a kernel: merged into its callers, and without counting references to the arrays it is handed
    (which costs several times the arithmetic here). It must not allocate.
    """
    return cast(F, Kernel(function, _merged))


def _kept(function: Callable[..., Any]) -> Any:
    from numba import njit

    from darkpipe.science.jit_cache import keep

    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    keep(dispatcher)
    return dispatcher


def _merged(function: Callable[..., Any]) -> Any:
    from numba import njit

    compiled: Any = njit
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": True}
    try:
        return compiled(_nrt=False, **options)(function)
    except (TypeError, KeyError):  # a numba that does not know the option
        return compiled(**options)(function)
