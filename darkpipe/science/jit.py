"""One way to compile a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile with numba: releases the GIL, kept on disk, divisions by zero give inf and NaN as in numpy.

    No fastmath on purpose: a pixel in the vector part of a loop and one in its scalar rest must come out the same to
    the last bit, or a product would depend on the height of its strips. To these loops it brings no speed either.
    """
    return cast(F, njit(nogil=True, cache=True, error_model="numpy")(function))
