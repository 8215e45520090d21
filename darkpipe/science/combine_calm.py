"""Compiled loops of `combine` for calm pixels: those in which nothing can be rejected, as nearly all are.

A pixel is calm where all of its samples are valid, and none lies further from anything that the median may be than the
clipping allows. The median lies within one standard deviation of the mean, so that one pass over the samples for sum,
squares, lowest and highest tells it. Of many samples one often lies between these bounds: then the samples beyond a
part of the standard deviation are counted, which closes in on the median.

Whether a pixel is calm depends on its own samples alone, never on those beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpipe.science.jit import kernel

WIDTH = 512
"""Pixels a block: its sums stay in the first-level cache."""
COUNTED = 24
"""From so many samples on the median is closed in on by counting."""
MANY = WIDTH // 16
"""Of so many pixels of a block more cannot be taken out faster than all of it is looked at."""
_S1, _S2, _LOW, _HIGH, _SHARE = WIDTH, 2 * WIDTH, 3 * WIDTH, 4 * WIDTH, 5 * WIDTH
SUMS = 6 * WIDTH
_SURE = np.float32(0.9999)  # room for the rounding of both ways to a limit
_CLOSE = np.float32(1.8)
"""Over the root of the number of samples: of Gaussian samples the median lies within so many standard deviations of the
mean in 98 of 100 cases, since it scatters about it with sqrt(pi/2 - 1) / sqrt(n)."""
_CLOSEST = np.float32(0.125)


@kernel
def start_sums(raw: Any, scale: Any, offset: Any, sums: Any) -> None:
    """The first frame of a block: what deviations are taken from. sums: see `add_four`."""
    for k in range(raw.size):
        x = np.float32(raw[k]) * scale + offset
        sums[k] = x
        sums[_S1 + k] = np.float32(0)
        sums[_S2 + k] = np.float32(0)
        sums[_LOW + k] = x
        sums[_HIGH + k] = x


@kernel
def add_one(raw: Any, scale: Any, offset: Any, sums: Any) -> None:
    """A further frame, see `add_four`."""
    for k in range(raw.size):
        x = np.float32(raw[k]) * scale + offset
        d = x - sums[k]
        sums[_S1 + k] += d
        sums[_S2 + k] += d * d
        sums[_LOW + k] = min(sums[_LOW + k], x)
        sums[_HIGH + k] = max(sums[_HIGH + k], x)


@kernel
def add_four(a: Any, b: Any, c: Any, d: Any, scale: Any, offset: Any, sums: Any) -> None:
    """Four frames of a block, so that the sums are fetched and put back once for all of them.

    sums (6·WIDTH,): reference, sum and sum of squares of the deviations from it, lowest, highest, one to work with;
    one array, since between many the compiler has to look for overlaps. offset: of the four frames.
    """
    for k in range(a.size):
        ref = sums[k]
        x0 = np.float32(a[k]) * scale + offset[0]
        x1 = np.float32(b[k]) * scale + offset[1]
        x2 = np.float32(c[k]) * scale + offset[2]
        x3 = np.float32(d[k]) * scale + offset[3]
        d0, d1, d2, d3 = x0 - ref, x1 - ref, x2 - ref, x3 - ref
        sums[_S1 + k] = (((sums[_S1 + k] + d0) + d1) + d2) + d3
        sums[_S2 + k] = (((sums[_S2 + k] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
        sums[_LOW + k] = min(min(min(min(sums[_LOW + k], x0), x1), x2), x3)
        sums[_HIGH + k] = max(max(max(max(sums[_HIGH + k], x0), x1), x2), x3)


@kernel
def gather_sums(raw: Any, s: int, e: int, scale: Any, offset: Any, sums: Any) -> None:
    """Sums over all frames of the pixels s to e, raw (n, p): a part of a row is contiguous, one of all rows is not."""
    n = raw.shape[0]
    start_sums(raw[0, s:e], scale, offset[0], sums)
    rest = 1 + (n - 1) % 4
    for i in range(1, rest):
        add_one(raw[i, s:e], scale, offset[i], sums)
    for i in range(rest, n, 4):
        rows = raw[i, s:e], raw[i + 1, s:e], raw[i + 2, s:e], raw[i + 3, s:e]
        add_four(rows[0], rows[1], rows[2], rows[3], scale, offset[i : i + 4], sums)


@kernel
def surely_within(limits: Any, offset: Any) -> Any:
    """Bounds (2,) between which a sample of any frame is valid, limits as in `clip_strip`: offsets move the frames
    against each other, and what stands in between is left to the slow way."""
    within = np.empty(2, np.float32)
    for k in range(2):
        edge = limits[1 + k] * limits[0]
        room = np.float32(1e-6) * abs(edge) if np.isfinite(edge) else np.float32(0)
        within[k] = edge + (offset.max() + room if k == 0 else offset.min() - room)
    return within


@kernel
def judge(n: int, within: Any, bias: Any, noise2: Any, model: Any, sums: Any, calm: Any) -> Any:
    """Which pixels of a block are calm, 1 or 0, and how many are not. within: between what the samples must lie;
    model as in `clip_strip`."""
    shot, relative2, reach = model[0], model[1], model[2] * _SURE
    low, high, count = within[0], within[1], np.float32(n)
    others = np.int32(0)
    for k in range(calm.size):
        shift = sums[_S1 + k] / count
        middle = sums[k] + shift
        spread = np.sqrt(max(sums[_S2 + k] - sums[_S1 + k] * shift, np.float32(0)) / count)
        s = max(middle - spread - bias[k], np.float32(0))
        limit = reach * np.sqrt(noise2[k] + s * (shot + relative2 * s))
        furthest = max(sums[_HIGH + k] - middle, middle - sums[_LOW + k]) + spread
        good = np.int32((furthest <= limit) & (sums[_LOW + k] > low) & (sums[_HIGH + k] < high))
        calm[k] = np.uint8(good)
        others += np.int32(1) - good
    return others


@kernel
def count_beyond(raw: Any, scale: Any, offset: Any, edges: Any, beyond: Any) -> None:
    """Add how many samples of a frame lie below and above two edges; edges, beyond (2·WIDTH,)."""
    for k in range(raw.size):
        x = np.float32(raw[k]) * scale + offset
        beyond[k] += np.int32(x < edges[k])
        beyond[WIDTH + k] += np.int32(x > edges[WIDTH + k])


@kernel
def judge_closely(
    raw: Any, s: int, within: Any, scale: Any, offset: Any, bias: Any, noise2: Any, model: Any, sums: Any, calm: Any
) -> None:
    """Look again at pixels of raw (n, p) from `s` on, counting samples: those that are calm by this get 1, too."""
    n, w = raw.shape[0], calm.size
    edges = np.empty(2 * WIDTH, np.float32)
    beyond = np.zeros(2 * WIDTH, np.int32)
    count, close = np.float32(n), max(_CLOSE / np.sqrt(np.float32(n)), _CLOSEST)
    for k in range(w):
        shift = sums[_S1 + k] / count
        middle = sums[k] + shift
        spread = np.sqrt(max(sums[_S2 + k] - sums[_S1 + k] * shift, np.float32(0)) / count)
        edges[k] = middle - close * spread
        edges[WIDTH + k] = middle + close * spread
    for i in range(n):
        count_beyond(raw[i, s : s + w], scale, offset[i], edges, beyond)
    most = (n - 1) // 2
    for k in range(w):
        middle = np.float32(0.5) * (edges[k] + edges[WIDTH + k])
        near = middle - edges[k]
        charge = max(edges[k] - bias[k], np.float32(0))
        limit = model[2] * _SURE * np.sqrt(noise2[k] + charge * (model[0] + model[1] * charge))
        furthest = max(sums[_HIGH + k] - middle, middle - sums[_LOW + k]) + near
        inside = (sums[_LOW + k] > within[0]) & (sums[_HIGH + k] < within[1])
        counted = beyond[k] <= most and beyond[WIDTH + k] <= most
        if inside and counted and furthest <= limit:
            calm[k] = 1


@kernel
def conclude(
    n: int, bias: Any, noise2: Any, model: Any, sums: Any, mean: Any, error: Any, chi2: Any, scatter: Any
) -> None:
    """Mean, error, chi² and scatter of a block, (w,) each, as all of its samples say."""
    shot, relative2, count = model[0], model[1], np.float32(n)
    freedom = np.float32(n - 1)
    for k in range(bias.size):
        shift = sums[_S1 + k] / count
        middle = sums[k] + shift
        s = max(middle - bias[k], np.float32(0))
        variance = noise2[k] + s * (shot + relative2 * s)
        squares = max(sums[_S2 + k] - sums[_S1 + k] * shift, np.float32(0)) / variance
        mean[k] = middle
        error[k] = np.sqrt(variance / count)
        chi2[k] = squares / freedom
        scatter[k] = squares
