"""How bright a pixel is, and by how much its shape differs from a given one, without fitting its own shape.

With a shape s of the signal over the cells, slopes d = ds/dtheta of it, V the noise of the masters (errors of shared
biases and free levels in it) and <a, b> = aᵀV⁻¹b, a pixel y of level L and shape theta + e has, for small e,

    y = L s + (L e) d + noise,    L = <s, y>/<s, s>,
    L e = H⁻¹ (<d, y> - <d, s> L),    H = <d, d> - <d, s><s, d>/<s, s>.

L is the best-weighted linear combination of the masters. Two things follow from its being just that (Gauss, Markov):
the noise of L e is independent of that of L, and pixels that are selected by L carry a selected noise that is
proportional to s, so that it looks like signal, never like another shape.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Problem
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.models.families import EXPONENTIAL, evaluate_cells
from darkpipe.science.packed import LANES, Packed, larger, load, magnitude, splat, store, where_above

F8 = NDArray[np.float64]

ROUNDS = 3  # weights follow the level that they gave the round before
SINGULAR = 1e-9  # of the product of the diagonal: shapes that the cells of a pixel do not tell apart


class Shape(NamedTuple):
    """Signal over the cells (n,) at level 1, and its derivatives (m, n) by the shape parameters."""

    signal: F8
    slopes: F8


class Measured(NamedTuple):
    """Of each pixel: level and its inverse variance (P,), departure L e from the shape (m, P) and its information
    (m, m, P), chi² of what neither explains and its degrees of freedom (P,). NaN where the cells do not tell. overlap
    (m, P) is <s, d>/<s, s>: a pixel of shape s + e d and amplitude a has the level a (1 + e overlap)."""

    level: F8
    level_information: F8
    departure: F8
    information: F8
    chi2: F8
    dof: F8
    overlap: F8


def shape_slots(problem: Problem) -> tuple[int, ...]:
    """Slots of the family's parameters that make the shape: those beside the amplitude of an exponential, the first
    (its share of the sum) of two currents; none where the model has another number of currents."""
    if problem.family == EXPONENTIAL:
        return tuple(i for i in (1, 2) if problem.free[i])
    return (0,) if problem.free.tolist() == [True, True, False] else ()


def shape_at(problem: Problem, theta: F8) -> Shape:
    """The shape at parameters theta (m,): gamma and B, as far as they are free, or the first current's share."""
    n = problem.design.shape[1]
    signal, jacobian = np.empty(n), np.empty((3, n))
    slots = shape_slots(problem)
    if problem.family == EXPONENTIAL:
        p = np.array([1.0, 0.0, 0.0])
        p[list(slots)] = theta
    else:
        p = np.array([theta[0], 1.0 - theta[0], 0.0])
    evaluate_cells(problem.family, problem.design, p, signal, jacobian)
    slopes = jacobian[list(slots)] if problem.family == EXPONENTIAL else jacobian[:1] - jacobian[1:2]
    return Shape(signal, np.ascontiguousarray(slopes))


class _Noisy(NamedTuple):
    """Masters of a tile and their noise; names as in `Cells` (frames: its count)."""

    signal: NDArray[np.float32]
    frames: NDArray[np.uint16]
    read_variance: NDArray[np.float32]
    read_scale: F8
    inverse_gain: float
    relative: F8
    pixel_relative: NDArray[np.float32]
    extra: F8
    group_variance: NDArray[np.float32]


@inlined
def _load_cells(cells: _Noisy, i: int, scratch: F8) -> Packed:
    """Value, variance without signal (infinite for an absent cell) and shot noise of each cell of pixels i to i + 7
    into rows of three; returns how many are there."""
    here = splat(0.0)
    read = load(cells.read_variance, 0, i)
    for k in range(cells.signal.shape[0]):
        y, c = load(cells.signal, k, i), load(cells.frames, k, i)
        there = where_above(c, 0.0, where_above(math.inf, magnitude(y), splat(1.0), 0.0), splat(0.0))
        share = 1.0 / larger(c, 1.0)
        base = read * cells.read_scale[k] * share + cells.extra[k]
        store(scratch, 3 * k, 0, where_above(there, 0.5, y, 0.0))
        store(scratch, 3 * k + 1, 0, where_above(there, 0.5, base, math.inf))
        store(scratch, 3 * k + 2, 0, where_above(there, 0.5, cells.inverse_gain * share, 0.0))
        here = here + there
    return here


@inlined
def _sum_cells(cells: _Noisy, order: NDArray[np.int64], start: NDArray[np.int64], basis: F8, i: int, level: Packed,
               scratch: F8) -> None:  # fmt: skip
    """Products of shape, slopes and data (their upper half by rows: ten) into the last rows of the scratch; the errors
    of shared biases are taken out of them (Sherman, Morrison, Woodbury)."""
    own, positive = load(cells.pixel_relative, 0, i), larger(level, 0.0)
    p00, p01, p02, p0y = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
    p11, p12, p1y = splat(0.0), splat(0.0), splat(0.0)
    p22, p2y, pyy = splat(0.0), splat(0.0), splat(0.0)
    for q in range(cells.group_variance.shape[0]):
        total = 1.0 / load(cells.group_variance, q, i)
        s0, s1, s2, sy = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        for at in range(start[q], start[q + 1]):
            k = order[at]
            b0, b1, b2 = basis[0, k], basis[1, k], basis[2, k]
            y, s = load(scratch, 3 * k, 0), positive * b0
            noise = load(scratch, 3 * k + 1, 0) + load(scratch, 3 * k + 2, 0) * s
            w = 1.0 / (noise + (own + cells.relative[k]) * (s * s))
            w0, w1, w2, wy = w * b0, w * b1, w * b2, w * y
            p00, p01, p02, p0y = p00 + w0 * b0, p01 + w0 * b1, p02 + w0 * b2, p0y + w0 * y
            p11, p12, p1y = p11 + w1 * b1, p12 + w1 * b2, p1y + w1 * y
            p22, p2y, pyy = p22 + w2 * b2, p2y + w2 * y, pyy + wy * y
            s0, s1, s2, sy, total = s0 + w0, s1 + w1, s2 + w2, sy + wy, total + w
        share = where_above(total, 0.0, 1.0 / total, 0.0)
        t0, t1, t2 = s0 * share, s1 * share, s2 * share
        p00, p01, p02, p0y = p00 - s0 * t0, p01 - s0 * t1, p02 - s0 * t2, p0y - t0 * sy
        p11, p12, p1y = p11 - s1 * t1, p12 - s1 * t2, p1y - t1 * sy
        p22, p2y, pyy = p22 - s2 * t2, p2y - t2 * sy, pyy - sy * sy * share
    first = 3 * cells.signal.shape[0]
    for slot, value in enumerate((p00, p01, p02, p0y, p11, p12, p1y, p22, p2y, pyy)):
        store(scratch, first + slot, 0, value)


@inlined
def _level_of(cells: _Noisy, order: NDArray[np.int64], start: NDArray[np.int64], basis: F8, i: int, level: Packed,
              scratch: F8) -> tuple[Packed, Packed]:  # fmt: skip
    """The first and the fourth of these products, <s, s> and <s, y>: all that a level is told by."""
    own, positive = load(cells.pixel_relative, 0, i), larger(level, 0.0)
    p00, p0y = splat(0.0), splat(0.0)
    for q in range(cells.group_variance.shape[0]):
        total = 1.0 / load(cells.group_variance, q, i)
        s0, sy = splat(0.0), splat(0.0)
        for at in range(start[q], start[q + 1]):
            k = order[at]
            b0 = basis[0, k]
            y, s = load(scratch, 3 * k, 0), positive * b0
            noise = load(scratch, 3 * k + 1, 0) + load(scratch, 3 * k + 2, 0) * s
            w = 1.0 / (noise + (own + cells.relative[k]) * (s * s))
            w0, wy = w * b0, w * y
            p00, p0y = p00 + w0 * b0, p0y + w0 * y
            s0, sy, total = s0 + w0, sy + wy, total + w
        t0 = s0 * where_above(total, 0.0, 1.0 / total, 0.0)
        p00, p0y = p00 - s0 * t0, p0y - t0 * sy
    return p00, p0y


@kernel
def _measure(
    cells: _Noisy, order: NDArray[np.int64], start: NDArray[np.int64], basis: F8, slopes: int, first: F8, rounds: int,
    out: Measured, information: F8,
) -> None:  # fmt: skip
    """order, start: the cells by group, and where each group begins. basis (3, n): shape and slopes, 0 for one that is
    not there. first (P,): levels of the first weights. information is a view (m², P)."""
    n, pixels = cells.signal.shape
    scratch = np.empty((3 * n + 10, LANES))
    for begin in range(0, pixels, LANES):
        i = min(begin, pixels - LANES)
        here = _load_cells(cells, i, scratch)
        known = where_above(here, 0.5, splat(1.0), splat(0.0))
        for q in range(cells.group_variance.shape[0]):
            known = where_above(load(cells.group_variance, q, i), -1.0, known, 0.0)
        level = load(first, 0, i)
        for _ in range(rounds - 1):
            norm, product = _level_of(cells, order, start, basis, i, level, scratch)
            known = where_above(norm, 0.0, known, 0.0)
            level = where_above(known, 0.5, product / norm, math.nan)
        _sum_cells(cells, order, start, basis, i, level, scratch)
        norm = load(scratch, 3 * n, 0)
        known = where_above(norm, 0.0, known, 0.0)
        level = where_above(known, 0.5, load(scratch, 3 * n + 3, 0) / norm, math.nan)
        store(out.level, 0, i, level)
        _solve(scratch, 3 * n, slopes, i, level, out, information)
        store(out.dof, 0, i, where_above(known, 0.5, here - (1.0 + slopes), math.nan))


@inlined
def _solve(scratch: F8, first: int, slopes: int, i: int, level: Packed, out: Measured, information: F8) -> None:
    """Level, departure and chi² from the products of shape, slopes and data; NaN where the slopes are not told."""
    p00, p01, p02, p0y = (
        load(scratch, first, 0), load(scratch, first + 1, 0), load(scratch, first + 2, 0), load(scratch, first + 3, 0)
    )  # fmt: skip
    p11, p1y, p22, p2y = (
        load(scratch, first + 4, 0), load(scratch, first + 6, 0), load(scratch, first + 7, 0),
        load(scratch, first + 8, 0),
    )  # fmt: skip
    nothing = splat(math.nan)
    h00 = p11 - p01 * p01 / p00
    h01 = load(scratch, first + 5, 0) - p01 * p02 / p00
    h11 = p22 - p02 * p02 / p00
    g0, g1 = p1y - p01 * level, p2y - p02 * level
    told = where_above(h00, SINGULAR * p11, splat(1.0), splat(0.0))
    chi2 = load(scratch, first + 9, 0) - level * p0y
    if slopes == 1:
        e0 = g0 / h00
        chi2 = chi2 - g0 * e0
    else:
        det = h00 * h11 - h01 * h01
        told = where_above(h11, 0.0, where_above(det, SINGULAR * h00 * h11, told, 0.0), splat(0.0))
        e0, e1 = (h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det
        chi2 = chi2 - g0 * e0 - g1 * e1
        store(information, 1, i, where_above(told, 0.5, h01, nothing))
        store(information, 2, i, where_above(told, 0.5, h01, nothing))
        store(information, 3, i, where_above(told, 0.5, h11, nothing))
        store(out.departure, 1, i, where_above(told, 0.5, e1, nothing))
        store(out.overlap, 1, i, where_above(told, 0.5, p02 / p00, nothing))
    told = where_above(math.inf, magnitude(level), told, 0.0)
    store(information, 0, i, where_above(told, 0.5, h00, nothing))
    store(out.departure, 0, i, where_above(told, 0.5, e0, nothing))
    store(out.overlap, 0, i, where_above(told, 0.5, p01 / p00, nothing))
    store(out.level_information, 0, i, where_above(told, 0.5, p00, nothing))
    store(out.chi2, 0, i, where_above(told, 0.5, chi2, nothing))


def measure(shape: Shape, cells: Cells, weights_at: F8 | None = None) -> Measured:
    """Level of every pixel, and its departure from a shape.

    Parameters
    ----------
    weights_at : (P,) levels whose shot noise and multiplicative error the masters are weighted with; None: each pixel's
        own, by iteration.
    """
    pixels, m = cells.signal_adu.shape[1], shape.slopes.shape[0]
    first = np.zeros(pixels) if weights_at is None else np.ascontiguousarray(weights_at, np.float64)
    rounds = ROUNDS if weights_at is None else 1
    if 0 < pixels < LANES:
        some = np.minimum(np.arange(LANES), pixels - 1)
        found = measure(shape, cells.at(some), first[some] if weights_at is not None else None)
        return Measured(*(np.ascontiguousarray(array[..., :pixels]) for array in found))
    out = Measured(
        np.empty(pixels),
        np.empty(pixels),
        np.empty((m, pixels)),
        np.empty((m, m, pixels)),
        np.empty(pixels),
        np.empty(pixels),
        np.empty((m, pixels)),
    )
    basis = np.zeros((3, cells.signal_adu.shape[0]))
    basis[: 1 + m] = np.concatenate([shape.signal[None], shape.slopes])
    own = cells.pixel_relative_variance
    whole = np.ascontiguousarray
    noisy = _Noisy(
        whole(cells.signal_adu), whole(cells.count), whole(cells.read_variance_adu2),
        np.ones(cells.count.shape[0]) if cells.read_scale is None else cells.read_scale, 1.0 / cells.gain_e_per_adu,
        cells.relative_variance, np.zeros(pixels, np.float32) if own is None else whole(own),
        cells.extra_variance_adu2, whole(cells.group_variance_adu2),
    )  # fmt: skip
    order = np.argsort(cells.group, kind="stable")
    start = np.searchsorted(cells.group[order], np.arange(cells.group_variance_adu2.shape[0] + 1))
    if pixels:
        _measure(noisy, order, start, basis, m, first, rounds, out, out.information.reshape(m * m, pixels))
    return out


def inverse(matrix: F8) -> F8:
    """Inverse of symmetric matrices (m, m, P), m = 1 or 2."""
    if matrix.shape[0] == 1:
        return np.asarray(1.0 / matrix)
    (a, b), (_, c) = matrix
    return np.asarray(np.stack([np.stack([c, -b]), np.stack([-b, a])]) / (a * c - b * b))
