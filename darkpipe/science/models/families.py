"""The three families of formulas that every dark model is written in; the only place where they are spelled out.

A model describes a cell (temperature T, exposure t) by at most three numbers `x` (its `design`), and the signal of a
pixel by at most three parameters `p`:

EXPONENTIAL   S = p0 · exp(p1·x0 + p2·x1)          exp_1d, exp_t, exp_2d
LINEAR        S = p0·x0 + p1·x1 + p2·x2            two_component, with or without glow
GLOWING       S = x0 · (p0 · exp(p2·x1) + p1)      exp_2d_glow
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel
from darkpipe.science.packed import Packed, exponential, splat

EXPONENTIAL = 0
LINEAR = 1
GLOWING = 2


@inlined
def evaluate(
    family: int, x: NDArray[np.float64], k: int, p: NDArray[np.float64], jacobian: NDArray[np.float64]
) -> float:
    """Signal of cell k and its derivatives.

    Parameters
    ----------
    x : (3, n) design columns of the cells.
    p : (3,) parameters.
    jacobian : (3, n), column k is overwritten with dS/dp.
    """
    if family == EXPONENTIAL:
        e = math.exp(p[1] * x[0, k] + p[2] * x[1, k])
        s = p[0] * e
        jacobian[0, k] = e
        jacobian[1, k] = s * x[0, k]
        jacobian[2, k] = s * x[1, k]
        return float(s)
    if family == GLOWING:
        dark = x[0, k] * math.exp(p[2] * x[1, k])
        jacobian[0, k] = dark
        jacobian[1, k] = x[0, k]
        jacobian[2, k] = p[0] * dark * x[1, k]
        return float(p[0] * dark + p[1] * x[0, k])
    jacobian[0, k] = x[0, k]
    jacobian[1, k] = x[1, k]
    jacobian[2, k] = x[2, k]
    return float(p[0] * x[0, k] + p[1] * x[1, k] + p[2] * x[2, k])


@inlined
def warming(
    family: int, x: NDArray[np.float64], dx: NDArray[np.float64], k: int, p: NDArray[np.float64], signal: float
) -> float:
    """dS/dT of cell k [ADU/K] at its signal; dx : (3, n) derivatives of the design by temperature [1/K]."""
    if family == EXPONENTIAL:
        return float(signal * (p[1] * dx[0, k] + p[2] * dx[1, k]))
    if family == GLOWING:
        return float((signal - p[1] * x[0, k]) * p[2] * dx[1, k])
    return float(p[0] * dx[0, k] + p[1] * dx[1, k] + p[2] * dx[2, k])


@inlined
def growth_packed(family: int, x0: float, x1: float, p1: Packed, p2: Packed) -> Packed:
    """The exponential of a cell for eight pixels. It is a product: that of (x0, 0) times that of (0, x1)."""
    if family == EXPONENTIAL:
        return exponential(p1 * x0 + p2 * x1)
    return exponential(p2 * x1)


@inlined
def evaluate_packed(
    family: int, x: NDArray[np.float64], k: int, p0: Packed, p1: Packed, p2: Packed, growth: Packed
) -> tuple[Packed, Packed, Packed, Packed]:
    """As `evaluate` for eight pixels: (signal, derivatives by p0, p1, p2); growth is that of `growth_packed`."""
    x0, x1, x2 = x[0, k], x[1, k], x[2, k]
    if family == EXPONENTIAL:
        s = p0 * growth
        return s, growth, s * x0, s * x1
    if family == GLOWING:
        dark = growth * x0
        return p0 * dark + p1 * x0, dark, splat(x0), p0 * dark * x1
    return p0 * x0 + p1 * x1 + p2 * x2, splat(x0), splat(x1), splat(x2)


@inlined
def warming_packed(
    family: int, x: NDArray[np.float64], dx: NDArray[np.float64], k: int, p0: Packed, p1: Packed, p2: Packed, s: Packed
) -> Packed:
    """As `warming` for eight pixels."""
    if family == EXPONENTIAL:
        return s * (p1 * dx[0, k] + p2 * dx[1, k])
    if family == GLOWING:
        return (s - p1 * x[0, k]) * p2 * dx[1, k]
    return p0 * dx[0, k] + p1 * dx[1, k] + p2 * dx[2, k]


@kernel
def synthesize(
    family: int,
    x: NDArray[np.float64],
    p: NDArray[np.float32],
    covariance: NDArray[np.float32],
    signal: NDArray[np.float32],
    variance: NDArray[np.float32],
) -> None:
    """Signal and variance of every pixel for one cell.

    Parameters
    ----------
    x : (3, 1) design columns of the cell.
    p : (3, n) parameters, covariance : (6, n) as 00, 01, 02, 11, 12, 22.
    signal, variance : (n,) results [ADU], [ADU²]; NaN where a parameter is NaN.
    """
    jac = np.empty((3, 1))
    q = np.empty(3)
    for i in range(signal.size):
        q[0], q[1], q[2] = p[0, i], p[1, i], p[2, i]
        signal[i] = evaluate(family, x, 0, q, jac)
        j0, j1, j2 = jac[0, 0], jac[1, 0], jac[2, 0]
        c = covariance
        diagonal = j0 * j0 * c[0, i] + j1 * j1 * c[3, i] + j2 * j2 * c[5, i]
        cross = j0 * j1 * c[1, i] + j0 * j2 * c[2, i] + j1 * j2 * c[4, i]
        variance[i] = max(diagonal + 2.0 * cross, 0.0) if math.isfinite(signal[i]) else math.nan


@kernel
def signal_along(
    family: int,
    x: NDArray[np.float64],
    p: NDArray[np.float32],
    step: NDArray[np.float32],
    change: NDArray[np.float32],
) -> None:
    """By how much the signal of every pixel moves with its parameters, to first order.

    Parameters
    ----------
    x : (3, 1) design columns of the cell.
    p, step : (3, n) parameters and their small change.
    change : (n,) result [ADU].
    """
    jac = np.empty((3, 1))
    q = np.empty(3)
    for i in range(change.size):
        q[0], q[1], q[2] = p[0, i], p[1, i], p[2, i]
        evaluate(family, x, 0, q, jac)
        change[i] = jac[0, 0] * step[0, i] + jac[1, 0] * step[1, i] + jac[2, 0] * step[2, i]
