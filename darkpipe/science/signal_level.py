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
from darkpipe.science.jit import kernel
from darkpipe.science.models.families import EXPONENTIAL, evaluate

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
    jacobian = np.empty((3, n))
    slots = shape_slots(problem)
    if problem.family == EXPONENTIAL:
        p = np.array([1.0, 0.0, 0.0])
        p[list(slots)] = theta
    else:
        p = np.array([theta[0], 1.0 - theta[0], 0.0])
    signal = np.array([evaluate(problem.family, problem.design, k, p, jacobian) for k in range(n)])
    slopes = jacobian[list(slots)] if problem.family == EXPONENTIAL else jacobian[:1] - jacobian[1:2]
    return Shape(signal, np.ascontiguousarray(slopes))


@kernel
def _measure(
    signal: NDArray[np.float32],
    frames: NDArray[np.uint16],
    read_variance: NDArray[np.float32],
    read_scale: F8,
    inverse_gain: float,
    relative: F8,
    pixel_relative: NDArray[np.float32],
    extra: F8,
    group: NDArray[np.int64],
    group_variance: NDArray[np.float32],
    basis: F8,
    rounds: int,
    out: Measured,
) -> None:
    """basis (1 + m, n): shape and slopes. out.level holds the levels of the first weights."""
    rows, n = basis.shape
    weight = np.empty(n)
    products = np.empty((rows + 1, rows + 1))  # of shape, slopes and data
    sums = np.empty(rows + 1)
    for i in range(signal.shape[1]):
        level = out.level[i]
        here = 0
        for turn in range(rounds):
            used = rows if turn == rounds - 1 else 1
            products[:] = 0.0
            here = 0
            for k in range(n):
                y = float(signal[k, i])
                weight[k] = 0.0
                if frames[k, i] == 0 or not math.isfinite(y):
                    continue
                here += 1
                s = max(level, 0.0) * basis[0, k]
                own = (read_variance[i] * read_scale[k] + inverse_gain * s) / frames[k, i]
                weight[k] = 1.0 / (own + extra[k] + (relative[k] + pixel_relative[i]) * s * s)
                for a in range(used):
                    for b in range(a, used):
                        products[a, b] += weight[k] * basis[a, k] * basis[b, k]
                    products[a, rows] += weight[k] * basis[a, k] * y
                products[rows, rows] += weight[k] * y * y
            here *= _free_groups(products, sums, weight, signal, i, group, group_variance, basis)
            level = products[0, rows] / products[0, 0] if here > 0 and products[0, 0] > 0.0 else math.nan
            if not math.isfinite(level):
                break
        out.level[i] = level
        if not math.isfinite(level):
            continue
        _solve(products, rows, i, level, out)
        out.dof[i] = here - rows


@kernel
def _free_groups(
    products: F8,
    sums: F8,
    weight: F8,
    signal: NDArray[np.float32],
    i: int,
    group: NDArray[np.int64],
    group_variance: NDArray[np.float32],
    basis: F8,
) -> int:
    """Take the errors of shared biases out of the products of pixel i (Sherman, Morrison, Woodbury); 0 where such an
    error is no number, else 1."""
    rows, n = basis.shape
    for q in range(group_variance.shape[0]):
        total = 1.0 / group_variance[q, i]
        if math.isnan(total):
            return 0
        sums[:] = 0.0
        for k in range(n):
            if group[k] == q and weight[k] > 0.0:
                total += weight[k]
                for a in range(rows):
                    sums[a] += weight[k] * basis[a, k]
                sums[rows] += weight[k] * signal[k, i]
        if 0.0 < total < math.inf:
            for a in range(rows + 1):
                for b in range(a, rows + 1):
                    products[a, b] -= sums[a] * sums[b] / total
    return 1


@kernel
def _solve(products: F8, rows: int, i: int, level: float, out: Measured) -> None:
    """Level, departure and chi² from the products of shape, slopes and data."""
    norm = products[0, 0]
    chi2 = products[rows, rows] - level * products[0, rows]
    h00 = products[1, 1] - products[0, 1] ** 2 / norm
    g0 = products[1, rows] - products[0, 1] * level
    if rows == 2:
        if not h00 > SINGULAR * products[1, 1]:
            return
        out.information[0, 0, i] = h00
        out.departure[0, i] = g0 / h00
        chi2 -= g0 * g0 / h00
    else:
        h01 = products[1, 2] - products[0, 1] * products[0, 2] / norm
        h11 = products[2, 2] - products[0, 2] ** 2 / norm
        g1 = products[2, rows] - products[0, 2] * level
        det = h00 * h11 - h01 * h01
        if not (h00 > SINGULAR * products[1, 1] and h11 > 0.0 and det > SINGULAR * h00 * h11):
            return
        out.information[0, 0, i], out.information[1, 1, i] = h00, h11
        out.information[0, 1, i] = out.information[1, 0, i] = h01
        out.departure[0, i] = (h11 * g0 - h01 * g1) / det
        out.departure[1, i] = (h00 * g1 - h01 * g0) / det
        chi2 -= g0 * out.departure[0, i] + g1 * out.departure[1, i]
    for a in range(rows - 1):
        out.overlap[a, i] = products[0, 1 + a] / norm
    out.level_information[i] = norm
    out.chi2[i] = chi2


def measure(shape: Shape, cells: Cells, weights_at: F8 | None = None) -> Measured:
    """Level of every pixel, and its departure from a shape.

    Parameters
    ----------
    weights_at : (P,) levels whose shot noise and multiplicative error the masters are weighted with; None: each pixel's
        own, by iteration.
    """
    pixels, m = cells.signal_adu.shape[1], shape.slopes.shape[0]
    out = Measured(
        np.zeros(pixels) if weights_at is None else weights_at.astype(np.float64),
        np.full(pixels, np.nan),
        np.full((m, pixels), np.nan),
        np.full((m, m, pixels), np.nan),
        np.full(pixels, np.nan),
        np.full(pixels, np.nan),
        np.full((m, pixels), np.nan),
    )
    basis = np.ascontiguousarray(np.concatenate([shape.signal[None], shape.slopes]))
    scale = np.ones(cells.count.shape[0]) if cells.read_scale is None else cells.read_scale
    own = cells.pixel_relative_variance
    own = np.zeros(pixels, np.float32) if own is None else own
    _measure(
        cells.signal_adu, cells.count, cells.read_variance_adu2, scale, 1.0 / cells.gain_e_per_adu,
        cells.relative_variance, own, cells.extra_variance_adu2, cells.group,
        cells.group_variance_adu2, basis, ROUNDS if weights_at is None else 1, out,
    )  # fmt: skip
    return out


def inverse(matrix: F8) -> F8:
    """Inverse of symmetric matrices (m, m, P), m = 1 or 2."""
    if matrix.shape[0] == 1:
        return np.asarray(1.0 / matrix)
    (a, b), (_, c) = matrix
    return np.asarray(np.stack([np.stack([c, -b]), np.stack([-b, a])]) / (a * c - b * b))
