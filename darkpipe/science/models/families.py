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
from darkpipe.science.packed import (
    LANES,
    Packed,
    exponential,
    larger,
    like,
    load,
    magnitude,
    splat,
    square_root,
    store,
    where_above,
)

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bits = NDArray[np.uint16]
Planes = F4 | tuple[F4, ...]  # (m, n), or m arrays (n,)

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


@kernel
def evaluate_cells(family: int, x: F8, p: F8, signal: F8, jacobian: F8) -> None:
    """Signal (n,) of all cells and its derivatives (3, n), by `evaluate`, for parameters p (3,)."""
    for k in range(signal.size):
        signal[k] = evaluate(family, x, k, p, jacobian)


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
    """The exponential of a cell, of eight pixels or sixteen: the product of that of (x0, 0) and that of (0, x1)."""
    if family == EXPONENTIAL:
        return exponential(p1 * x0 + p2 * x1)
    return exponential(p2 * x1)


@inlined
def evaluate_packed(
    family: int, x: NDArray[np.float64], k: int, p0: Packed, p1: Packed, p2: Packed, growth: Packed
) -> tuple[Packed, Packed, Packed, Packed]:
    """As `evaluate` for eight pixels, or sixteen: (signal, derivatives by p0, p1, p2); growth: of `growth_packed`."""
    x0, x1, x2 = x[0, k], x[1, k], x[2, k]
    if family == EXPONENTIAL:
        s = p0 * growth
        return s, growth, s * x0, s * x1
    if family == GLOWING:
        dark = growth * x0
        return p0 * dark + p1 * x0, dark, like(p0, x0), p0 * dark * x1
    return p0 * x0 + p1 * x1 + p2 * x2, like(p0, x0), like(p0, x1), like(p0, x2)


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


# --- whole planes ----------------------------------------------------------------------------------------------------

_BEYOND_FLOAT32 = 3.402823466385289e38  # the next number in double precision after the largest of float32
_HUGE = 1e300

UNLIMITED = np.full(1, np.inf, np.float32)
"""The level of `make_signal` where there is none."""


@inlined
def _eight(family: int, x0: float, x1: float, x2: float, p0: Packed, p1: Packed, p2: Packed) -> tuple[Packed, Packed]:
    """Signal and exponential of eight pixels; NaN where a parameter is NaN."""
    if family == LINEAR:
        return p0 * x0 + p1 * x1 + p2 * x2, p0
    v = p1 * x0 + p2 * x1 if family == EXPONENTIAL else p2 * x1
    e = where_above(_HUGE, magnitude(v), exponential(v), v)  # the exponential of NaN is none
    if family == EXPONENTIAL:
        return p0 * e, e
    dark = e * x0
    return p0 * dark + p1 * x0, dark


@inlined
def _variance_of(
    family: int, x0: float, x1: float, x2: float, p0: Packed, s: Packed, e: Packed, c: tuple[F4, ...], i: int
) -> Packed:
    """Variance of eight pixels from i on by their covariance c, six planes, from what `_eight` gave."""
    if family == EXPONENTIAL:
        j0, j1, j2 = e, s * x0, s * x1
    elif family == GLOWING:
        j0, j1, j2 = e, splat(x0), p0 * e * x1
    else:
        j0, j1, j2 = splat(x0), splat(x1), splat(x2)
    own = j0 * j0 * load(c[0], 0, i) + j1 * j1 * load(c[3], 0, i) + j2 * j2 * load(c[5], 0, i)
    shared = j0 * j1 * load(c[1], 0, i) + j0 * j2 * load(c[2], 0, i) + j1 * j2 * load(c[4], 0, i)
    return larger(0.0, own + 2.0 * shared)


@inlined
def _with_variance(
    family: int, x0: float, x1: float, x2: float, p: tuple[F4, ...], c: tuple[F4, ...], i: int
) -> tuple[Packed, Packed]:
    """Signal and variance of eight pixels from i on; the variance is NaN where the signal is none that single precision
    holds."""
    p0 = load(p[0], 0, i)
    s, e = _eight(family, x0, x1, x2, p0, load(p[1], 0, i), load(p[2], 0, i))
    v = _variance_of(family, x0, x1, x2, p0, s, e, c, i)
    return s, where_above(_BEYOND_FLOAT32, magnitude(s), v, splat(np.nan))


@kernel
def _signals(family: int, x0: float, x1: float, x2: float, p0: F4, p1: F4, p2: F4, level: F4, signal: F4) -> None:
    """The signal of eight pixels and more, which do not share the level if there is one for each."""
    top = splat(np.float64(level[0]))
    for k in range(0, signal.size, LANES):
        i = min(k, signal.size - LANES)  # the last eight may be worked on twice
        s, _ = _eight(family, x0, x1, x2, load(p0, 0, i), load(p1, 0, i), load(p2, 0, i))
        if level.size > 1:
            top = load(level, 0, i)
        store(signal, 0, i, where_above(s, top, top, s))


@kernel
def _variances(
    family: int,
    x0: float,
    x1: float,
    x2: float,
    p: tuple[F4, F4, F4],
    c: tuple[F4, F4, F4, F4, F4, F4],
    signal: F4,
    variance: F4,
) -> None:
    """Signal and variance of eight pixels and more."""
    for k in range(0, signal.size, LANES):
        i = min(k, signal.size - LANES)
        s, v = _with_variance(family, x0, x1, x2, p, c, i)
        store(signal, 0, i, s)
        store(variance, 0, i, v)


@kernel
def _darks(
    family: int,
    x0: float,
    x1: float,
    x2: float,
    p: tuple[F4, F4, F4],
    c: tuple[F4, F4, F4, F4, F4, F4],
    level: F4,
    relative: float,
    signal: F4,
    error: F4,
    over: NDArray[np.uint8],
) -> None:
    """Signal, 1 sigma, and which pixels exceed their level, of eight pixels and more."""
    top = splat(np.float64(level[0]))
    for k in range(0, signal.size, LANES):
        i = min(k, signal.size - LANES)
        s, v = _with_variance(family, x0, x1, x2, p, c, i)
        store(error, 0, i, v)
        store(signal, 0, i, s)
        if level.size > 1:
            top = load(level, 0, i)
        # what counts are the numbers as they are kept, in single precision
        s, sigma = load(signal, 0, i), square_root(load(error, 0, i))
        store(over, 0, i, where_above(s, top, 1.0, 0.0))
        store(error, 0, i, where_above(s, top, top * relative, sigma))
        store(signal, 0, i, where_above(s, top, top, s))


@kernel
def _padded(plane: F4) -> F4:
    """Fewer than eight pixels as eight."""
    out = np.zeros(LANES, np.float32)
    out[: plane.size] = plane
    return out


@kernel
def _three_padded(p: Planes) -> tuple[F4, F4, F4]:
    return _padded(p[0]), _padded(p[1]), _padded(p[2])


@kernel
def _six_padded(c: Planes) -> tuple[F4, F4, F4, F4, F4, F4]:
    return _padded(c[0]), _padded(c[1]), _padded(c[2]), _padded(c[3]), _padded(c[4]), _padded(c[5])


@kernel
def synthesize(family: int, x: F8, p: F4, covariance: F4, signal: F4, variance: F4) -> None:
    """Signal and variance of every pixel for one cell.

    Parameters
    ----------
    x : (3, 1) design columns of the cell.
    p : (3, n) parameters, covariance : (6, n) as 00, 01, 02, 11, 12, 22; both contiguous.
    signal, variance : (n,) results [ADU], [ADU²]; NaN where a parameter is NaN.
    """
    n, c = signal.size, covariance
    if n >= LANES:
        planes, six = (p[0], p[1], p[2]), (c[0], c[1], c[2], c[3], c[4], c[5])
        _variances(family, x[0, 0], x[1, 0], x[2, 0], planes, six, signal, variance)
    else:
        made, its = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
        _variances(family, x[0, 0], x[1, 0], x[2, 0], _three_padded(p), _six_padded(c), made, its)
        signal[:], variance[:] = made[:n], its[:n]


@kernel
def _bits(fitted: Bits, over: NDArray[np.uint8], saturated: int, everywhere: int, dq: Bits) -> None:
    for i in range(dq.size):
        dq[i] = fitted[i] | np.uint16(over[i] * saturated) | np.uint16(everywhere)


@kernel
def make_signal(family: int, x: F8, p: Planes, level: F4, signal: F4) -> None:
    """Signal of every pixel for one cell, no higher than its level.

    Parameters
    ----------
    x : (3, 1) design columns of the cell. p : three planes (n,) of parameters. level : (n,) or, the same for all, (1,)
    [ADU].
    signal : (n,) result [ADU]; NaN where a parameter is NaN.
    """
    n = signal.size
    if n >= LANES:
        _signals(family, x[0, 0], x[1, 0], x[2, 0], p[0], p[1], p[2], level, signal)
    else:
        three, out, top = _three_padded(p), np.empty(LANES, np.float32), level if level.size == 1 else _padded(level)
        _signals(family, x[0, 0], x[1, 0], x[2, 0], three[0], three[1], three[2], top, out)
        signal[:] = out[:n]


@kernel
def make_dark(
    family: int,
    x: F8,
    p: tuple[F4, F4, F4],
    covariance: tuple[F4, F4, F4, F4, F4, F4],
    level: F4,
    relative: np.float32,
    fitted: Bits,
    saturated: int,
    everywhere: int,
    signal: F4,
    error: F4,
    dq: Bits,
) -> None:
    """Signal, 1 sigma and bits of every pixel for one cell, in one pass.

    Parameters
    ----------
    x, p, level, signal : as `make_signal`. covariance : six planes (n,) as 00, 01, 02, 11, 12, 22.
    relative : 1 sigma of a pixel at its level, over that. fitted : (n,) bits of the model; a pixel at its level gets
    the bit `saturated` as well, and all pixels `everywhere`.
    error, dq : (n,) results; 1 sigma is NaN where the signal is none that single precision holds.
    """  # fmt: skip
    n, c, over = signal.size, covariance, np.empty(signal.size, np.uint8)
    if n >= LANES:
        _darks(family, x[0, 0], x[1, 0], x[2, 0], p, c, level, np.float64(relative), signal, error, over)
    else:
        made, sigma, beyond = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.uint8)
        top = level if level.size == 1 else _padded(level)
        three, six = _three_padded(p), _six_padded(c)
        _darks(family, x[0, 0], x[1, 0], x[2, 0], three, six, top, np.float64(relative), made, sigma, beyond)
        signal[:], error[:], over[:] = made[:n], sigma[:n], beyond[:n]
    _bits(fitted, over, saturated, everywhere, dq)
