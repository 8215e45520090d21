"""Compiled loops of `scatter` and `noise`: sums over millions of samples without a copy of them in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpipe.science.jit import kernel

_BLOCK = 2048


@kernel
def count_differences(first: Any, second: Any, counts: Any) -> None:
    """Add how often each difference of two uint16 images (p,) occurs; counts (131071,), zero in the middle."""
    for k in range(first.size):
        counts[np.int64(first[k]) - np.int64(second[k]) + 65535] += 1


@kernel
def _add_deviations(frame: Any, scale: Any, level: float, reference: Any, count: Any, total: Any, squares: Any) -> None:
    for k in range(frame.size):
        d = np.float64(np.float32(frame[k]) * scale) - level - reference[k]
        good = abs(d) < np.inf
        d = d if good else 0.0
        count[k] += np.float64(good)
        total[k] += d
        squares[k] += d * d


@kernel
def variance_sums(
    frames: Any, scale: Any, level: Any, reference: Any, count: Any, total: Any, squares: Any
) -> None:  # fmt: skip
    """Finite samples, sum and sum of squares of their deviations from reference (p,), over frames (n, p) times scale,
    less level (n,); all of the latter (p,) float64 and zero to begin with."""
    n, p = frames.shape
    for s in range(0, p, _BLOCK):
        e = min(p, s + _BLOCK)
        for i in range(n):
            _add_deviations(
                frames[i, s:e], scale, level[i], reference[s:e], count[s:e], total[s:e], squares[s:e]
            )  # fmt: skip


@kernel
def _line_sums(x: Any, y: Any, root: Any, use: Any, wanted: int, level: float, slope: float, clip: float) -> Any:
    n = 0
    w = wx = wy = wxx = wxy = 0.0
    for k in range(x.size):
        a, b = x[k], y[k]
        if (use[k] == wanted or wanted < 0) and abs(b - level - slope * a) * root[k] < clip:
            v = root[k] * root[k]
            n += 1
            w += v
            wx += v * a
            wy += v * b
            wxx += v * a * a
            wxy += v * a * b
    return n, w, wx, wy, wxx, wxy


@kernel
def clipped_line(x: Any, y: Any, root: Any, part: Any, wanted: int, clip: float, least: int) -> Any:
    """Level, slope and the slope's 1 sigma of y = level + slope x, weighted by root squared, clipped at so many sigma,
    four times; of the pixels whose part is `wanted` (-1: of all). x or y NaN: left out. Zeros and an error of infinity
    where fewer than `least` pixels are left."""
    level = slope = 0.0
    error = np.inf
    for _ in range(4):
        n, w, wx, wy, wxx, wxy = _line_sums(x, y, root, part, wanted, level, slope, clip)
        if n < least or w <= 0.0:
            return 0.0, 0.0, np.inf
        centre = wx / w
        steep = wxx - wx * centre
        if steep <= 1e-12 * wxx:
            return wy / w, 0.0, np.inf
        slope = (wxy - centre * wy) / steep
        level = wy / w - slope * centre
        error = 1.0 / np.sqrt(steep)
    return level, slope, error


@kernel
def take_lines(signal: Any, rest: Any, root: Any, part: Any, clip: float, least: int, factor: Any, error: Any) -> None:
    """Take a level and a multiple of the signal (p,) out of each frame of rest (n, p), then a line of its own out of
    the pixels of part 1 and of part 0; the multiple of all and its 1 sigma go into factor and error (n,)."""
    for f in range(rest.shape[0]):
        y = rest[f]
        for wanted in (-1, 1, 0):
            level, slope, sigma = clipped_line(signal, y, root, part, wanted, clip, least)
            if wanted < 0:
                factor[f], error[f] = slope, sigma
            for k in range(y.size):
                if part[k] == wanted or wanted < 0:
                    a = signal[k]
                    y[k] -= level + slope * (a if a == a else 0.0)


@kernel
def bin_ratios(y: Any, number: Any, cut: float, inside: float, response: float, ratio: Any, count: Any) -> None:
    """Solve mean of [y <= cut ρ] (y/(ρ inside) - 1) = 0 for ρ in each bin: ratio (b,), with its start on entry."""
    total = np.empty(ratio.size)
    for _ in range(50):
        total[:] = 0.0
        for k in range(y.size):
            mine = ratio[number[k]]
            if y[k] <= cut * mine:
                total[number[k]] += y[k] / (mine * inside) - 1.0
        largest = 0.0
        for b in range(ratio.size):
            step = min(max(total[b] / max(count[b], 1.0) / response, -0.5), 1.0)
            ratio[b] *= 1.0 + step
            largest = max(largest, abs(step))
        if largest < 1e-6:
            break
