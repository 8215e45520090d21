"""Compiled loops of `noise_maps`: the weighted linear fit y = F + g C + g t D of every pixel, in closed form.

Sums of a block stand in one flat scratch array, `_W` pixels each, one after the other: with many separate arrays
the compiler cannot prove that they do not overlap and falls back to scalar code, silently.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

BLOCK = 256
"""Pixels of a block; strips are cut to multiples of it."""

_W = np.uint64(BLOCK)
# slots of the scratch: normal matrix and right side (0-8), later parameters (6-8) and their covariance (0-5)
_1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(i) * _W for i in range(1, 9))
_STACKS, _MEAN, _CHI2, _RESIDUAL, _MODEL, _DC, _DD = (np.uint64(i) * _W for i in range(9, 16))
_M0, _M1, _M2, _M3, _M4, _M5 = (np.uint64(i) * _W for i in range(16, 22))  # middle of the sandwich
_PULL, _GRIP, _FAR = (np.uint64(i) * _W for i in range(22, 25))  # what the scatter says of D: sums, and the verdict
_SLOTS = 25
_ROUNDS = 3  # of D and the noise that it makes

SINGULAR = 1e-11
"""Share of a column that must be left when the others are taken out of it: below, rounding decides."""
BEYOND = 5.0
"""Sigma by which C, D or the scatter of a pixel must leave the population before its noise is taken to be its own."""
LEAST_STACKS = 4
"""Usable stacks a pixel must have: three parameters, and one stack to judge by."""

BY_NOISE, BY_FRAMES, EQUAL = 0, 1, 2

F8 = NDArray[np.float64]


class Law(NamedTuple):
    """What all pixels of m stacks have in common.

    least : (m,) count below which a stack is not used for a pixel; at least 1.
    design : (m, 2) columns g and g t, divided by their largest value; padded to a multiple of four rows.
    column : (3,) what the parameters must be multiplied with for that: 1 and one over the largest values.
    levels : (m, 4) of a frame of each stack, for a pixel of the population: variance, shot variance per dark signal,
        the least variance that is believed, and the fourth cumulant per variance above that.
    typical : (2,) C and D of the population, in units of the scaled design.
    """

    least: F8
    design: F8
    column: F8
    levels: F8
    typical: F8


@kernel
def _weigh(q: Any, count: Any, least_count: Any, base: Any, n: Any, precision: Any) -> None:
    """Frames that count, and 1/variance of their mean at the noise of the population."""
    inverse = 1.0 / base
    for k in range(_W):
        n[k] = count[k] if count[k] >= least_count else 0.0
        precision[k] = n[k] * inverse
        q[k + _STACKS] += 1.0 if n[k] > 0.0 else 0.0


@kernel
def _weigh_with_errors(n: Any, error2: Any, base: Any, precision: Any) -> None:
    """The same with a variance of each pixel's mean beyond the scatter."""
    for k in range(_W):
        precision[k] = n[k] / (base + error2[k] * n[k])


@kernel
def _weigh_otherwise(n: Any, how: Any, weight: Any) -> None:
    for k in range(_W):
        weight[k] = n[k] if how == BY_FRAMES else (1.0 if n[k] > 0.0 else 0.0)


@kernel
def _sum_four(q: Any, ya: Any, yb: Any, yc: Any, yd: Any, w: Any, x: Any) -> None:
    """Normal matrix and right side of four stacks: the memory that holds the sums is what limits this loop.

    w: their weights, one block after the other. x: their (g, g t), scaled.
    """
    a1, a2, b1, b2, c1, c2, d1, d2 = x[0, 0], x[0, 1], x[1, 0], x[1, 1], x[2, 0], x[2, 1], x[3, 0], x[3, 1]
    for k in range(_W):
        a, b, c, d = w[k], w[k + _1], w[k + _2], w[k + _3]
        a_1, b_1, c_1, d_1 = a * a1, b * b1, c * c1, d * d1
        a_2, b_2, c_2, d_2 = a * a2, b * b2, c * c2, d * d2
        y0, y1, y2, y3 = ya[k], yb[k], yc[k], yd[k]
        q[k] += (a + b) + (c + d)
        q[k + _1] += (a_1 + b_1) + (c_1 + d_1)
        q[k + _2] += (a_2 + b_2) + (c_2 + d_2)
        q[k + _3] += (a_1 * a1 + b_1 * b1) + (c_1 * c1 + d_1 * d1)
        q[k + _4] += (a_1 * a2 + b_1 * b2) + (c_1 * c2 + d_1 * d2)
        q[k + _5] += (a_2 * a2 + b_2 * b2) + (c_2 * c2 + d_2 * d2)
        q[k + _6] += (a * y0 + b * y1) + (c * y2 + d * y3)
        q[k + _7] += (a_1 * y0 + b_1 * y1) + (c_1 * y2 + d_1 * y3)
        q[k + _8] += (a_2 * y0 + b_2 * y1) + (c_2 * y2 + d_2 * y3)


@kernel
def _sum(q: Any, y: Any, weight: Any, design: Any, s: int) -> None:
    """Sums over all stacks; y is (m, p), weight and design are padded to a multiple of four stacks with weight 0."""
    last = y.shape[0] - 1
    e = s + BLOCK
    q[: 9 * BLOCK] = 0.0
    for i in range(0, weight.shape[0], 4):
        b, c, d = min(i + 1, last), min(i + 2, last), min(i + 3, last)
        _sum_four(q, y[i, s:e], y[b, s:e], y[c, s:e], y[d, s:e], weight[i : i + 4].ravel(), design[i : i + 4])
    _remember_mean(q)


@kernel
def _remember_mean(q: Any) -> None:
    for k in range(_W):
        q[k + _MEAN] = q[k + _6] / q[k]


@kernel
def _sum_middle(q: Any, precision: Any, weight: Any, x1: Any, x2: Any) -> None:
    """Xᵀ W V W X, of weights that are not those of the noise."""
    x11, x12, x22 = x1 * x1, x1 * x2, x2 * x2
    for k in range(_W):
        w = weight[k] * weight[k] / precision[k] if weight[k] > 0.0 else 0.0
        q[k + _M0] += w
        q[k + _M1] += w * x1
        q[k + _M2] += w * x2
        q[k + _M3] += w * x11
        q[k + _M4] += w * x12
        q[k + _M5] += w * x22


@kernel
def _solve(q: Any) -> None:
    """Parameters and inverse of the normal matrix; NaN where it is singular. The constant column goes first: what is
    left is a system of two, which loses less than cofactors of the whole."""
    for k in range(_W):
        a, b, c, d, e, f = q[k], q[k + _1], q[k + _2], q[k + _3], q[k + _4], q[k + _5]
        r0, r1, r2 = q[k + _6], q[k + _7], q[k + _8]
        u1, u2 = b / a, c / a
        d1, e1, f1 = d - b * u1, e - c * u1, f - c * u2
        det = d1 * f1 - e1 * e1
        fine = (d1 > SINGULAR * d) & (f1 > SINGULAR * f) & (det > SINGULAR * d1 * f1)
        det = det if fine else np.nan
        s1, s2 = r1 - r0 * u1, r2 - r0 * u2
        p1, p2 = (f1 * s1 - e1 * s2) / det, (d1 * s2 - e1 * s1) / det
        v1, v2, v12 = f1 / det, d1 / det, -e1 / det
        q[k + _6] = (r0 - b * p1 - c * p2) / a
        q[k + _7] = p1
        q[k + _8] = p2
        q[k] = 1.0 / a + u1 * u1 * v1 + u2 * u2 * v2 + 2.0 * u1 * u2 * v12
        q[k + _1] = -u1 * v1 - u2 * v12
        q[k + _2] = -u1 * v12 - u2 * v2
        q[k + _3] = v1
        q[k + _4] = v12
        q[k + _5] = v2


@kernel
def _sandwich(q: Any) -> None:
    """Covariance N⁻¹ M N⁻¹ in the place of N⁻¹."""
    for k in range(_W):
        a, b, c, d, e, f = q[k], q[k + _1], q[k + _2], q[k + _3], q[k + _4], q[k + _5]
        m0, m1, m2 = q[k + _M0], q[k + _M1], q[k + _M2]
        m3, m4, m5 = q[k + _M3], q[k + _M4], q[k + _M5]
        a0, a1, a2 = a * m0 + b * m1 + c * m2, a * m1 + b * m3 + c * m4, a * m2 + b * m4 + c * m5
        b0, b1, b2 = b * m0 + d * m1 + e * m2, b * m1 + d * m3 + e * m4, b * m2 + d * m4 + e * m5
        c0, c1, c2 = c * m0 + e * m1 + f * m2, c * m1 + e * m3 + f * m4, c * m2 + e * m4 + f * m5
        q[k] = a0 * a + a1 * b + a2 * c
        q[k + _1] = a0 * b + a1 * d + a2 * e
        q[k + _2] = a0 * c + a1 * e + a2 * f
        q[k + _3] = b0 * b + b1 * d + b2 * e
        q[k + _4] = b0 * c + b1 * e + b2 * f
        q[k + _5] = c0 * c + c1 * e + c2 * f


@kernel
def _clear_scatter(q: Any) -> None:
    for k in range(_W):
        q[k + _PULL] = 0.0
        q[k + _GRIP] = 0.0


@kernel
def _scatter(q: Any, n: Any, spread: Any, x1: Any, x2: Any, level: Any) -> None:
    """Add what the sample variances of a stack say of D above its typical value: weighted sum, and sum of weights.

    The variance of a sample variance of n frames is 2 V²/(n - 1) + kappa_4/n.
    """
    base, shot, least, fourth = level[0], level[1], level[2], level[3]
    c = shot * x2
    for k in range(_W):
        there = n[k] > 1.0
        frames = n[k] if there else 2.0
        expected = base + shot * x1 * q[k + _DC]
        v = max(expected + c * q[k + _DD], least)
        w = c / (2.0 * v * v / (frames - 1.0) + (v - least) * fourth / frames)
        w = w if there else 0.0
        q[k + _PULL] += w * ((spread[k] - expected) if there else 0.0)
        q[k + _GRIP] += w * c


@kernel
def _judge(q: Any, typical: Any) -> None:
    """Whether D leaves the population, by its value, by the scatter of the frames or by both together: 1; or C: 2.

    Value and scatter rest on the same electrons: fully correlated, the variance of their sum is twice what it would be.
    The scatter alone has the heavier tail of both, and the same limit.
    """
    limit = BEYOND * BEYOND
    for k in range(_W):
        c, d, variance, pull, grip = (
            q[k + _7] - typical[0],
            q[k + _8] - typical[1],
            q[k + _5],
            q[k + _PULL],
            q[k + _GRIP],
        )
        both, weight = d / variance + pull, 1.0 / variance + grip
        by_scatter = (pull > 0.0) & (pull * pull > 2.0 * limit * grip)
        by_both = (both > 0.0) & (both * both > 2.0 * limit * weight)
        far = (d * d > limit * variance) | by_scatter | by_both
        q[k + _FAR] = 1.0 if far else (2.0 if c * c > limit * q[k + _3] else 0.0)


@kernel
def _excess_dark(q: Any, typical: Any) -> None:
    """How far D lies from its typical value, from its value and from the scatter, each with its weight: the value alone
    would make a pixel that came out low look quiet, and its error too small. No electrons come out below none, so a
    negative value does not make a pixel quieter than a value of 0."""
    lowest = min(-typical, 0.0)
    for k in range(_W):
        both = (q[k + _8] - typical) / q[k + _5] + q[k + _PULL]
        x = both / (1.0 / q[k + _5] + q[k + _GRIP])
        q[k + _DD] = max(x, lowest) if q[k + _FAR] == 1.0 else 0.0


@kernel
def _excess_clock(q: Any, typical: Any) -> None:
    """How far C lies from its typical value, by its value, where that is beyond what errors can do. The scatter is left
    out: what it says of C rests on few electrons."""
    lowest = min(-typical, 0.0)
    for k in range(_W):
        x = q[k + _7] - typical
        q[k + _DC] = max(x, lowest) if x * x > BEYOND * BEYOND * q[k + _3] else 0.0


@kernel
def _own_noise(q: Any, n: Any, precision: Any, x1: Any, x2: Any, level: Any) -> None:
    """1/variance of each pixel's mean with its own dark signal in it."""
    base, shot, least = level[0], level[1], level[2]
    for k in range(_W):
        variance = base + shot * (x1 * q[k + _DC] + x2 * q[k + _DD])
        precision[k] = n[k] / max(variance, least)


@kernel
def _own_noise_with_errors(q: Any, n: Any, error2: Any, precision: Any, x1: Any, x2: Any, level: Any) -> None:
    base, shot, least = level[0], level[1], level[2]
    for k in range(_W):
        variance = base + shot * (x1 * q[k + _DC] + x2 * q[k + _DD])
        precision[k] = n[k] / (max(variance, least) + n[k] * error2[k])


@kernel
def _residuals(q: Any, y: Any, precision: Any, weight: Any, x1: Any, x2: Any) -> None:
    for k in range(_W):
        fitted = q[k + _6] + x1 * q[k + _7] + x2 * q[k + _8]
        r = y[k] - fitted
        m = q[k + _MEAN] - fitted
        q[k + _CHI2] += precision[k] * r * r
        q[k + _RESIDUAL] += weight[k] * r * r
        q[k + _MODEL] += weight[k] * m * m


@kernel
def _store_scaled(q: Any, stacks: Any, scale: Any, out: Any) -> None:
    for k in range(_W):
        out[k] = np.float32(q[k] * scale if stacks[k] >= LEAST_STACKS else np.nan)


@kernel
def _store_quality(q: Any, chi2: Any, r2: Any, stacks: Any) -> None:
    for k in range(_W):
        m = q[k + _STACKS]
        fine = (m >= LEAST_STACKS) & np.isfinite(q[k + _6])
        unexplained = q[k + _RESIDUAL] / (q[k + _RESIDUAL] + q[k + _MODEL])
        chi2[k] = np.float32(q[k + _CHI2] if fine else np.nan)
        r2[k] = np.float32(1.0 - unexplained * (m - 1.0) / (m - 3.0) if fine else np.nan)
        stacks[k] = np.float32(m)


@kernel
def _store(q: Any, column: Any, planes: Any, s: int) -> None:
    stacks = q[9 * BLOCK : 10 * BLOCK]
    slot = 0
    for i in range(3):
        _store_scaled(q[(6 + i) * BLOCK :], stacks, column[i], planes[i, s : s + BLOCK])
        for j in range(i, 3):
            _store_scaled(q[slot * BLOCK :], stacks, column[i] * column[j], planes[3 + slot, s : s + BLOCK])
            slot += 1
    _store_quality(q, planes[9, s : s + BLOCK], planes[10, s : s + BLOCK], planes[11, s : s + BLOCK])


@kernel
def _store_far(q: Any, far: Any) -> None:
    for k in range(_W):
        far[k] = np.float32(q[k + _FAR])


@kernel
def _own_precision(q: Any, n: Any, error2: Any, design: Any, levels: Any, s: int, precision: Any) -> None:
    for i in range(n.shape[0]):
        if error2.shape[0] > 0:
            _own_noise_with_errors(
                q, n[i], error2[i, s : s + BLOCK], precision[i], design[i, 0], design[i, 1], levels[i]
            )
        else:
            _own_noise(q, n[i], precision[i], design[i, 0], design[i, 1], levels[i])


@kernel
def _own_levels(q: Any, y: Any, n: Any, error2: Any, spread: Any, law: Law, s: int, precision: Any) -> None:
    """Noise of each pixel's own: by D first, then by C too, whose error depends on the dark current."""
    _, design, _, levels, typical = law
    for turn in range(_ROUNDS):
        _sum(q, y, precision, design, s)
        _solve(q)
        _scatter_of_all(q, n, spread, design, levels, s)
        if turn == 0:
            _judge(q, typical)
        _excess_dark(q, typical[1])
        _own_precision(q, n, error2, design, levels, s, precision)
    _sum(q, y, precision, design, s)
    _solve(q)
    _excess_clock(q, typical[0])
    _own_precision(q, n, error2, design, levels, s, precision)


@kernel
def _scatter_of_all(q: Any, n: Any, spread: Any, design: Any, levels: Any, s: int) -> None:
    _clear_scatter(q)
    if spread.shape[0] > 0:
        for i in range(n.shape[0]):
            _scatter(q, n[i], spread[i, s : s + BLOCK], design[i, 0], design[i, 1], levels[i])


@kernel
def fit_strip(y: Any, count: Any, error2: Any, spread: Any, law: Law, own: bool, how: int, planes: Any) -> None:
    """Fit every pixel of a strip.

    Parameters
    ----------
    y, count : (m, p) float64, means of the stacks and frames in them. p must be a multiple of `BLOCK`.
    error2 : (m, p) float64, variance of each mean beyond the scatter of the frames; (0, 0): none.
    spread : (m, p) float32, sample variance of a frame; (0, 0): not to be looked at.
    own : whether a pixel far from the population has a noise of its own.
    how : weights BY_NOISE, BY_FRAMES or EQUAL.
    planes : (13, p) float32, written: parameters (0-2), covariance 00 01 02 11 12 22 (3-8), chi² (9), adjusted R² (10),
        usable stacks (11), and above 0 where the pixel is far from the population (12; BY_NOISE). NaN below
        `LEAST_STACKS` or where the stacks that are left cannot tell the parameters.
    """
    least, design, column, levels, typical = law
    m, pixels = y.shape
    q = np.empty(_SLOTS * BLOCK)
    padded = (m + 3) // 4 * 4
    n, precision, weight = np.empty((m, BLOCK)), np.zeros((padded, BLOCK)), np.zeros((padded, BLOCK))
    for s in range(0, pixels, BLOCK):
        e = s + BLOCK
        q[:] = 0.0
        for i in range(m):
            _weigh(q, count[i, s:e], least[i], levels[i, 0], n[i], precision[i])
            if error2.shape[0] > 0:
                _weigh_with_errors(n[i], error2[i, s:e], levels[i, 0], precision[i])
        if own:
            _own_levels(q, y, n, error2, spread, law, s, precision)
        if how == BY_NOISE:
            _sum(q, y, precision, design, s)
            _solve(q)
            if not own:
                _scatter_of_all(q, n, spread, design, levels, s)
                _judge(q, typical)
        else:
            for i in range(m):
                _weigh_otherwise(n[i], how, weight[i])
                _sum_middle(q, precision[i], weight[i], design[i, 0], design[i, 1])
            _sum(q, y, weight, design, s)
            _solve(q)
            _sandwich(q)
        used = precision if how == BY_NOISE else weight
        for i in range(m):
            _residuals(q, y[i, s:e], precision[i], used[i], design[i, 0], design[i, 1])
        _store(q, column, planes, s)
        _store_far(q, planes[12, s:e])
