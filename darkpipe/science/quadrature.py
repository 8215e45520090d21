"""Two errors in quadrature, over whole planes: numpy's `hypot` calls the C library for each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]


@kernel
def _quadrature(a: F4, b: F4, out: F4) -> None:
    for i in range(out.size):
        # squares of single-precision numbers neither overflow nor vanish in double precision
        x, y = np.float64(abs(a[i])), np.float64(abs(b[i]))
        sum_of_both = np.sqrt(x * x + y * y)
        out[i] = np.float32(np.inf if (x == np.inf) | (y == np.inf) else sum_of_both)


def quadrature(error: F4, other: F4) -> F4:
    """sqrt(error² + other²) in single precision, as `numpy.hypot` gives it: infinite where one of them is, else NaN
    where one of them is.

    Parameters
    ----------
    error, other : one shape.

    Raises
    ------
    ValueError : shapes that differ.
    """
    if error.shape != other.shape:
        raise ValueError(f"errors of shape {error.shape} and {other.shape} cannot be added pixel by pixel")
    out = np.empty(error.shape, np.float32)
    run: Any = _quadrature
    run(_flat(error), _flat(other), out.reshape(-1))
    return out


def _flat(plane: F4) -> F4:
    return np.ascontiguousarray(plane, np.float32).reshape(-1)
