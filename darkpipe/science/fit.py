"""Fit of a dark model to tiles of masters, and its leave-one-cell-out predictions.

A tile is a block of pixels (any shape flattened to P) of n cells. The noise model of a master of `count` frames is

    Var(S) = R²/count + max(S,0)/(g·count) + relative²·S² + extra          [ADU²]

with S the model's signal; the bias subtracted from it adds an error that all cells of the same bias share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import (
    CONVERGED,
    FAILED,
    OUTLIER_SIGMA,
    _invert3,
    descend,
    normal_matrix,
    offset_estimate,
    prediction_variance,
    studentised,
    worst_residual,
)
from darkpipe.science.flags import DQ
from darkpipe.science.models.families import evaluate

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

_BIT_FAILED = int(DQ.FIT_FAILED)
_BIT_BOUND = int(DQ.AT_BOUND)
_BIT_OUTLIER = int(DQ.OUTLIER)
_BIT_NONLINEAR = int(DQ.NONLINEAR)
_BIT_FEW = int(DQ.FEW_SAMPLES)


@dataclass(frozen=True)
class Cells:
    """The masters of a tile and what is known of their noise.

    signal_adu : (n, P) float32, NaN where a cell has no value for a pixel.
    count : (n, P) uint16, frames kept in each mean.
    read_variance_adu2 : (P,) float32, R² of a single frame.
    gain_e_per_adu : conversion gain.
    relative_variance : (n,) square of the multiplicative error of each cell (temperature jitter and the like).
    extra_variance_adu2 : (n,) additive variance of each cell (pedestal drift).
    group : (n,) int, the bias that was subtracted from each cell.
    group_variance_adu2 : (G, P) float32, variance of each of those biases; inf: none was there, the level is free.
    """

    signal_adu: F4
    count: NDArray[np.uint16]
    read_variance_adu2: F4
    gain_e_per_adu: float
    relative_variance: F8
    extra_variance_adu2: F8
    group: NDArray[np.int64]
    group_variance_adu2: F4

    def joined(self, others: Sequence[Cells]) -> Cells:
        """The same cells over more pixels."""
        tiles = [self, *others]
        return replace(
            self,
            signal_adu=np.concatenate([t.signal_adu for t in tiles], axis=1),
            count=np.concatenate([t.count for t in tiles], axis=1),
            read_variance_adu2=np.concatenate([t.read_variance_adu2 for t in tiles]),
            group_variance_adu2=np.concatenate([t.group_variance_adu2 for t in tiles], axis=1),
        )


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of each pixel's parameters: mean (3, P) and precision (6, P) as 00, 01, 02, 11, 12, 22."""

    mean: F8
    precision: F8


@dataclass(frozen=True)
class Fitted:
    """Parameters (3, P), covariance (6, P), chi² (P,), degrees of freedom (P,), DQ bits (P,), the offsets of the groups
    (G, P) [ADU] and the number of down-weighted cells (P,)."""

    parameters: F8
    covariance: F8
    chi2: F4
    dof: NDArray[np.int16]
    dq: NDArray[np.uint16]
    offset_adu: F4
    outliers: NDArray[np.uint8]


@dataclass(frozen=True)
class HeldOut:
    """Prediction of each master by the fit of the others, (n, P): what it should read, the variance of their
    difference without the master's own dark noise, and the sensitivity-based dark noise variance of the master."""

    prediction_adu: F4
    variance_adu2: F4


@njit(nogil=True, cache=True, error_model="numpy")
def _load(
    i: int,
    signal_adu: F4,
    count: NDArray[np.uint16],
    read_variance: F4,
    inverse_gain: float,
    extra: F8,
    group_variance: F4,
    y: F8,
    base: F8,
    shot: F8,
    precision: F8,
) -> int:
    """Scratch arrays of pixel i; returns how many cells it has. An absent cell gets an infinite variance."""
    n = 0
    for k in range(y.size):
        value = signal_adu[k, i]
        c = count[k, i]
        if c > 0 and math.isfinite(value):
            y[k] = value
            base[k] = read_variance[i] / c + extra[k]
            shot[k] = inverse_gain / c
            n += 1
        else:
            y[k] = 0.0
            base[k] = math.inf
            shot[k] = 0.0
    for q in range(precision.size):
        precision[q] = 1.0 / group_variance[q, i]
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def _unpack(precision6: F8, i: int, out: F8) -> None:
    out[0, 0] = precision6[0, i]
    out[0, 1] = out[1, 0] = precision6[1, i]
    out[0, 2] = out[2, 0] = precision6[2, i]
    out[1, 1] = precision6[3, i]
    out[1, 2] = out[2, 1] = precision6[4, i]
    out[2, 2] = precision6[5, i]


@njit(nogil=True, cache=True, error_model="numpy")
def _descend_robustly(
    family, x, y, base, shot, relative, robust, group, precision, mean, prior, free, lower, upper, p, m, signal, jac,
    weight, sums, covariance, most_outliers,
):  # fmt: skip
    """Fit, then down-weight the worst cell while it disagrees beyond the noise, at most `most_outliers` times.

    Returns (status, outliers, largest remaining |z|)."""
    robust[:] = 1.0
    outliers = 0
    status = FAILED
    z = 0.0
    while True:
        status = descend(
            family, x, y, base, shot, relative, robust, group, precision, mean, prior, free, lower, upper, p, m,
            signal, jac, weight, sums,
        )  # fmt: skip
        if not _invert3(m, covariance):
            return FAILED, outliers, z
        k, z = worst_residual(y, signal, jac, weight, group, precision, sums, covariance, free)
        if k < 0 or abs(z) <= OUTLIER_SIGMA or outliers >= most_outliers:
            return status, outliers, z
        if robust[k] == 1.0:
            outliers += 1
        robust[k] *= min((OUTLIER_SIGMA / z) ** 2, 0.1)


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_tile(
    family, x, signal_adu, count, read_variance, inverse_gain, relative, extra, group, group_variance, prior_mean,
    prior_precision, free, lower, upper, start, parameters, cov, chi2, dof, dq, offset, n_outliers,
):  # fmt: skip
    n, pixels = signal_adu.shape
    n_free = 0
    for i in range(3):
        n_free += free[i]
    y, base, shot, robust, weight, signal = (
        np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n),
    )  # fmt: skip
    jac, m, prior, covariance = np.empty((3, n)), np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    p, mean = np.empty(3), np.empty(3)
    precision, sums = np.empty(group_variance.shape[0]), np.empty((group_variance.shape[0], 5))
    for i in range(pixels):
        parameters[:, i] = math.nan
        cov[:, i] = math.nan
        chi2[i] = math.nan
        offset[:, i] = math.nan
        here = _load(
            i, signal_adu, count, read_variance, inverse_gain, extra, group_variance, y, base, shot, precision
        )
        unknowns = n_free
        for q in range(precision.size):
            if precision[q] == 0.0:
                for k in range(n):
                    if group[k] == q and base[k] < math.inf:
                        unknowns += 1
                        break
        dof[i] = here - unknowns
        if here < unknowns:
            dq[i] |= _BIT_FAILED | _BIT_FEW
            continue
        mean[:] = prior_mean[:, i]
        p[:] = start[:, i]
        _unpack(prior_precision, i, prior)
        most = 0 if here - unknowns < 2 else max(1, here // 8)
        status, outliers, z = _descend_robustly(
            family, x, y, base, shot, relative, robust, group, precision, mean, prior, free, lower, upper, p, m,
            signal, jac, weight, sums, covariance, most,
        )  # fmt: skip
        finite = math.isfinite(p[0]) and math.isfinite(p[1]) and math.isfinite(p[2])
        if status == FAILED or not finite:
            dq[i] |= _BIT_FAILED
            continue
        total = 0.0
        for k in range(n):
            if robust[k] == 1.0 and weight[k] > 0.0:
                r = y[k] - signal[k] - offset_estimate(sums, precision, group[k])
                total += weight[k] * r * r
        for q in range(precision.size):
            o = offset_estimate(sums, precision, q)
            offset[q, i] = o
            if math.isfinite(precision[q]):
                total += precision[q] * o * o
        chi2[i] = total
        dof[i] -= outliers
        n_outliers[i] = outliers
        if outliers:
            dq[i] |= _BIT_OUTLIER
        for j in range(3):
            parameters[j, i] = p[j]
            if free[j] and (p[j] <= lower[j] or p[j] >= upper[j]):
                dq[i] |= _BIT_BOUND
            if not free[j]:
                covariance[j, :] = 0.0
                covariance[:, j] = 0.0
        cov[0, i], cov[1, i], cov[2, i] = covariance[0, 0], covariance[0, 1], covariance[0, 2]
        cov[3, i], cov[4, i], cov[5, i] = covariance[1, 1], covariance[1, 2], covariance[2, 2]


@njit(nogil=True, cache=True, error_model="numpy")
def _held_out_tile(
    family, x, signal_adu, count, read_variance, inverse_gain, relative, extra, group, group_variance, prior_mean,
    prior_precision, free, lower, upper, start, cell, prediction, variance,
):  # fmt: skip
    """The cell `cell` of every pixel as predicted by the fit of the others."""
    n, pixels = signal_adu.shape
    n_free = 0
    for i in range(3):
        n_free += free[i]
    y, base, shot, robust, weight, signal = (
        np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n),
    )  # fmt: skip
    jac, m, prior, covariance = np.empty((3, n)), np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    p, mean, slope = np.empty(3), np.empty(3), np.empty(3)
    precision, sums = np.empty(group_variance.shape[0]), np.empty((group_variance.shape[0], 5))
    for i in range(pixels):
        prediction[i] = math.nan
        variance[i] = math.nan
        here = _load(
            i, signal_adu, count, read_variance, inverse_gain, extra, group_variance, y, base, shot, precision
        )
        if not math.isfinite(start[0, i]):
            continue
        if base[cell] < math.inf:
            here -= 1
            base[cell] = math.inf
        unknowns = n_free
        for q in range(precision.size):
            if precision[q] == 0.0:
                for k in range(n):
                    if group[k] == q and base[k] < math.inf:
                        unknowns += 1
                        break
        if here < unknowns:
            continue
        mean[:] = prior_mean[:, i]
        p[:] = start[:, i]
        _unpack(prior_precision, i, prior)
        most = 0 if here - unknowns < 2 else max(1, here // 8)
        status, _, _ = _descend_robustly(
            family, x, y, base, shot, relative, robust, group, precision, mean, prior, free, lower, upper, p, m,
            signal, jac, weight, sums, covariance, most,
        )  # fmt: skip
        if status == FAILED:
            continue
        value = evaluate(family, x, cell, p, jac)
        q = group[cell]
        for j in range(3):
            slope[j] = jac[j, cell] if free[j] else 0.0
        if precision[q] == 0.0:
            value += offset_estimate(sums, precision, q)
        prediction[i] = value
        variance[i] = prediction_variance(slope, covariance, sums, precision, q)


@njit(nogil=True, cache=True, error_model="numpy")
def _studentise_tile(
    family, x, signal_adu, count, read_variance, inverse_gain, relative, extra, group, group_variance, prior_precision,
    free, parameters, out,
):  # fmt: skip
    n, pixels = signal_adu.shape
    y, base, shot, robust, weight, signal = (
        np.empty(n), np.empty(n), np.empty(n), np.ones(n), np.empty(n), np.empty(n),
    )  # fmt: skip
    jac, m, prior, covariance = np.empty((3, n)), np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    precision, sums = np.empty(group_variance.shape[0]), np.empty((group_variance.shape[0], 5))
    for i in range(pixels):
        out[:, i] = math.nan
        if not math.isfinite(parameters[0, i]):
            continue
        _load(i, signal_adu, count, read_variance, inverse_gain, extra, group_variance, y, base, shot, precision)
        _unpack(prior_precision, i, prior)
        normal_matrix(
            family, x, y, base, shot, relative, robust, group, precision, prior, free, parameters[:, i].copy(), m,
            signal, jac, weight, sums,
        )  # fmt: skip
        if not _invert3(m, covariance):
            continue
        for k in range(n):
            out[k, i] = studentised(k, y, signal, jac, weight, group, precision, sums, covariance, free)


@dataclass(frozen=True)
class Problem:
    """What is fitted: the family, the design (3, n), which parameters are free (3,) and their domain."""

    family: int
    design: F8
    free: NDArray[np.bool_]
    lower: F8
    upper: F8


def fit_tile(problem: Problem, cells: Cells, prior: Prior, start: F8) -> Fitted:
    """Fit every pixel of a tile.

    Parameters
    ----------
    problem : model family and design.
    cells : masters and noise.
    prior : prior of each pixel; its precision must make every shape parameter determined, however weakly.
    start : (3, P) start values.

    Returns
    -------
    Fitted
        NaN and `DQ.FIT_FAILED` where a pixel has fewer cells than unknowns or the fit broke down.
    """
    groups, pixels = cells.group_variance_adu2.shape
    out = Fitted(
        np.empty((3, pixels)),
        np.empty((6, pixels)),
        np.empty(pixels, np.float32),
        np.zeros(pixels, np.int16),
        np.zeros(pixels, np.uint16),
        np.empty((groups, pixels), np.float32),
        np.zeros(pixels, np.uint8),
    )
    _fit_tile(
        problem.family, problem.design, *_arguments(cells), prior.mean, prior.precision, problem.free, problem.lower,
        problem.upper, start, out.parameters, out.covariance, out.chi2, out.dof, out.dq, out.offset_adu, out.outliers,
    )  # fmt: skip
    return out


def predict_held_out(problem: Problem, cells: Cells, prior: Prior, start: F8, cell: int) -> HeldOut:
    """Refit every pixel without one cell and predict that cell.

    `start` (3, P) are the parameters of the full fit (NaN: the pixel is skipped), which makes the refit a few steps.
    Where a pixel cannot be fitted without the cell the prediction is NaN.
    """
    pixels = cells.signal_adu.shape[1]
    out = HeldOut(np.empty(pixels, np.float32), np.empty(pixels, np.float32))
    _held_out_tile(
        problem.family, problem.design, *_arguments(cells), prior.mean, prior.precision, problem.free, problem.lower,
        problem.upper, start, cell, out.prediction_adu, out.variance_adu2,
    )  # fmt: skip
    return out


def studentised_residuals(problem: Problem, cells: Cells, prior: Prior, parameters: F8) -> F4:
    """(n, P) deletion residual of each cell over its standard error at these parameters; NaN where there is none."""
    out = np.empty(cells.signal_adu.shape, np.float32)
    _studentise_tile(
        problem.family, problem.design, *_arguments(cells), prior.precision, problem.free, parameters, out
    )  # fmt: skip
    return out


def _arguments(cells: Cells) -> tuple[object, ...]:
    return (
        cells.signal_adu, cells.count, cells.read_variance_adu2, 1.0 / cells.gain_e_per_adu, cells.relative_variance,
        cells.extra_variance_adu2, cells.group, cells.group_variance_adu2,
    )  # fmt: skip
