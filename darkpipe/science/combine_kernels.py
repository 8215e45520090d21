"""Compiled loops of `combine`: blocks of pixels that stay in cache, pixels innermost so that they vectorise.

Inner loops are small functions over a few one-dimensional arrays on purpose: with more than about eight arrays
the compiler gives up on proving that they do not overlap and falls back to scalar code, silently.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine_calm import (
    COUNTED,
    MANY,
    SUMS,
    WIDTH,
    conclude,
    gather_sums,
    judge,
    judge_closely,
    surely_within,
)
from darkpipe.science.flags import DQ
from darkpipe.science.jit import kernel
from darkpipe.science.network import exchange, exchanges, needed_steps

NETWORK_LIMIT = 96
"""Above this many frames a bisection beats the sorting network (its size grows with n log² n)."""
_BLOCK_BYTES = 1 << 17
_FEW, _SATURATED, _CLIPPED = int(DQ.FEW_SAMPLES), int(DQ.SATURATED), int(DQ.CLIPPED_LOW)


@lru_cache(maxsize=64)
def comparators(n: int) -> NDArray[np.int32]:
    """Batcher's odd-even merge network for n inputs, cut down to what the median needs.

    (m, 3) rows i, j, op: after it row (n-1)//2 and row n//2 hold the middle order statistics. Empty above
    `NETWORK_LIMIT`.
    """
    if n > NETWORK_LIMIT:
        return np.empty((0, 3), np.int32)
    return needed_steps(exchanges(n), {(n - 1) // 2, n // 2})


@kernel
def block_width(n: int) -> int:
    """Pixels a block: all samples of a block fit the second-level cache, rows stay long enough to vectorise."""
    return min(1024, max(64, _BLOCK_BYTES // (4 * n) // 64 * 64))


@kernel
def _count_upto(keys: Any, pivot: Any, count: Any) -> None:
    for k in range(keys.size):
        count[k] += np.int32(keys[k] <= pivot[k])


@kernel
def _extremes(keys: Any, low: Any, high: Any) -> None:
    for k in range(keys.size):
        low[k] = min(low[k], keys[k])
        high[k] = max(high[k], keys[k])


@kernel
def _next_above(keys: Any, pivot: Any, above: Any) -> None:
    for k in range(keys.size):
        v = keys[k]
        above[k] = min(above[k], v if v > pivot[k] else np.int32(2147483647))


@kernel
def _sortable(bits: Any) -> None:
    # an IEEE number's bits order like an integer's once the negative ones are turned round (its own inverse)
    for k in range(bits.size):
        bits[k] = bits[k] ^ ((bits[k] >> np.int32(31)) & np.int32(2147483647))


@kernel
def _bisect_median(x: Any, out: Any) -> None:
    """Median of float32 columns by bisection on the sortable bits: exact, cost proportional to n."""
    n, w = x.shape
    keys = x.view(np.int32)
    low = np.full(w, 2147483647, np.int32)
    high = np.full(w, -2147483648, np.int32)
    pivot = np.empty(w, np.int32)
    count = np.empty(w, np.int32)
    for i in range(n):
        _sortable(keys[i])
        _extremes(keys[i], low, high)
    rank = np.int32((n - 1) // 2 + 1)
    unsettled = True
    while unsettled:
        for k in range(w):
            pivot[k] = (low[k] & high[k]) + ((low[k] ^ high[k]) >> np.int32(1))
            count[k] = 0
        for i in range(n):
            _count_upto(keys[i], pivot, count)
        unsettled = False
        for k in range(w):
            if count[k] >= rank:
                high[k] = pivot[k]
            else:
                low[k] = pivot[k] + np.int32(1)
            unsettled |= low[k] < high[k]
    above = np.full(w, 2147483647, np.int32)
    count[:] = 0
    for i in range(n):
        _count_upto(keys[i], low, count)
        _next_above(keys[i], low, above)
    for k in range(w):
        if n % 2 == 1 or count[k] > rank:
            above[k] = low[k]
    _sortable(low)
    _sortable(above)
    a = low.view(np.float32)
    b = above.view(np.float32)
    for k in range(w):
        out[k] = np.float32(0.5) * (a[k] + b[k])


@kernel
def _block_median(x: Any, net: Any, out: Any) -> None:
    """Median of the columns of x (n, w), whose rows it puts in disorder; columns with NaN come out undefined."""
    n = x.shape[0]
    if n > 1 and net.shape[0] == 0:
        _bisect_median(x, out)
        return
    for c in range(net.shape[0]):
        exchange(x[net[c, 0]], x[net[c, 1]], net[c, 2])
    a = x[(n - 1) // 2]
    b = x[n // 2]
    for k in range(out.size):
        out[k] = np.float32(0.5) * (np.float32(a[k]) + np.float32(b[k]))


@kernel
def _valid_median(column: Any) -> Any:
    """Median of the finite values of one column, NaN if there is none."""
    good = column[~np.isnan(column)]
    m = good.size
    if m == 0:
        return np.float32(np.nan)
    good.sort()
    return np.float32(0.5) * (good[(m - 1) // 2] + good[m // 2])


@kernel
def _load(raw: Any, scale: Any, offset: Any, low: Any, high: Any, x: Any, valid: Any) -> None:
    for k in range(raw.size):
        v = np.float32(raw[k])
        good = (v > low) & (v < high)
        x[k] = v * scale + offset if good else np.float32(np.nan)
        valid[k] += np.float32(good)


@kernel
def median_strip(raw: Any, net: Any, out: Any) -> None:
    """Median over axis 0 of raw (n, p) into out (p,), block by block; NaN is left out."""
    n, p = raw.shape
    width = block_width(n)
    inf = np.float32(np.inf)
    for s in range(0, p, width):
        w = min(width, p - s)
        x = np.empty((n, w), np.float32)
        valid = np.zeros(w, np.float32)
        for i in range(n):
            _load(raw[i, s : s + w], np.float32(1), np.float32(0), -inf, inf, x[i], valid)
        y = x.copy()
        _block_median(y, net, out[s : s + w])
        for k in range(w):
            if valid[k] < n:
                out[s + k] = _valid_median(x[:, k])


@kernel
def _limits(ref: Any, bias: Any, noise2: Any, model: Any, limit: Any) -> None:
    shot, relative2, reach = model[0], model[1], model[2]
    for k in range(ref.size):
        s = max(ref[k] - bias[k], np.float32(0))
        limit[k] = reach * np.sqrt(noise2[k] + s * (shot + relative2 * s))


@kernel
def _gather(x: Any, ref: Any, limit: Any, count: Any, s1: Any) -> None:
    for k in range(x.size):
        d = x[k] - ref[k]
        keep = abs(d) <= limit[k]
        count[k] += np.float32(keep)
        s1[k] += d if keep else np.float32(0)


@kernel
def _gather_squares(x: Any, ref: Any, limit: Any, count: Any, s1: Any, s2: Any) -> None:
    for k in range(x.size):
        d = x[k] - ref[k]
        keep = abs(d) <= limit[k]
        count[k] += np.float32(keep)
        kept = d if keep else np.float32(0)
        s1[k] += kept
        s2[k] += kept * kept


@kernel
def _two_or_less(column: Any, bias: Any, noise2: Any, model: Any) -> Any:
    """Kept samples, sum and sum of squares of deviations, reference: of a column with at most two valid samples."""
    zero = np.float32(0)
    low = np.float32(np.inf)
    high = np.float32(-np.inf)
    valid = 0
    for v in column:
        if not np.isnan(v):
            valid += 1
            low = min(low, v)
            high = max(high, v)
    if valid == 0:
        return zero, zero, zero, np.float32(np.nan)
    d = high - low
    s = max(low - bias, zero)
    sigma = np.sqrt(noise2 + s * (model[0] + model[1] * s))
    if valid == 1 or d > model[3] * np.float32(np.sqrt(2.0)) * sigma:
        return np.float32(1), zero, zero, low
    return np.float32(2), d, d * d, low


@kernel
def _keep_all(column: Any, ref: Any) -> Any:
    """The same sums about ref over every valid sample of a column."""
    count = np.float32(0)
    s1 = np.float32(0)
    s2 = np.float32(0)
    for v in column:
        if not np.isnan(v):
            d = v - ref
            count += np.float32(1)
            s1 += d
            s2 += d * d
    return count, s1, s2, ref


@kernel
def _statistics(ref: Any, bias: Any, noise2: Any, model: Any, sums: Any, floats: Any) -> None:
    count, s1, s2 = sums[0], sums[1], sums[2]
    mean, error, chi2, scatter = floats
    one = np.float32(1)
    for k in range(ref.size):
        shift = s1[k] / count[k]
        m = ref[k] + shift
        s = max(m - bias[k], np.float32(0))
        variance = noise2[k] + s * (model[0] + model[1] * s)
        mean[k] = m
        error[k] = np.sqrt(variance / count[k])
        scatter[k] = max(s2[k] - s1[k] * shift, np.float32(0)) / variance
        chi2[k] = scatter[k] / (count[k] - one)


@kernel
def _one_sided(column: Any, middle: Any, bias: Any, noise2: Any, model: Any) -> Any:
    """Sum of squares of a column about its mean, in sigma: high ones count as kappa² at most, low ones in full."""
    s = max(middle - bias, np.float32(0))
    variance = noise2 + s * (model[0] + model[1] * s)
    most = model[3] * model[3] * variance
    total = np.float32(0)
    for v in column:
        if not np.isnan(v):
            d = v - middle
            square = d * d
            total += min(square, most) if d > 0 else square
    return total / variance


@kernel
def _rejected_scatter(x: Any, valid: Any, bias: Any, noise2: Any, model: Any, sums: Any, floats: Any) -> None:
    """Take the rejected samples into the scatter: a high one may be a cosmic ray, a low one never is."""
    for k in range(valid.size):
        if sums[0, k] < valid[k] or sums[3, k] > 0:
            floats[3][k] = _one_sided(x[:, k], floats[0][k], bias[k], noise2[k], model)


@kernel
def _excluded_bits(raw: Any, low: Any, high: Any) -> Any:
    """Bits of a column of raw samples, some of which were left out before clipping."""
    n_low = 0
    n_high = 0
    for v in raw:
        n_low += np.float32(v) <= low
        n_high += np.float32(v) >= high
    bits = 0
    if n_low > 0:
        bits |= _CLIPPED
    if n_high > 0 and 2 * n_high >= raw.size:  # the median is saturated: what is left is a biased choice
        bits |= _SATURATED
    return bits


@kernel
def _clip_twice(x: Any, bias: Any, noise2: Any, model: Any, ref: Any, sums: Any) -> None:
    """Sums over the kept samples about ref, which is the median on entry and the first clipped mean on exit."""
    n, w = x.shape
    limit = np.empty(w, np.float32)
    _limits(ref, bias, noise2, model, limit)
    for i in range(n):
        _gather(x[i], ref, limit, sums[0], sums[1])
    for k in range(w):
        ref[k] += sums[1, k] / sums[0, k]
    sums[:] = 0
    _limits(ref, bias, noise2, model, limit)
    for i in range(n):
        _gather_squares(x[i], ref, limit, sums[0], sums[1], sums[2])


@kernel
def _special_pixels(x: Any, valid: Any, bias: Any, noise2: Any, model: Any, ref: Any, sums: Any, start: Any) -> None:
    """Redo the pixels the common path cannot judge: two or fewer valid samples, or fewer than half of them kept."""
    for k in range(valid.size):
        if valid[k] <= 2:
            sums[0, k], sums[1, k], sums[2, k], ref[k] = _two_or_less(x[:, k], bias[k], noise2[k], model)
        elif 2 * sums[0, k] < valid[k] or np.isnan(ref[k]):
            sums[0, k], sums[1, k], sums[2, k], ref[k] = _keep_all(x[:, k], start[k])
            sums[3, k] = 1


@kernel
def _finish(raw: Any, limits: Any, valid: Any, sums: Any, floats: Any, counts: Any) -> None:
    """Counts and bits; NaN where nothing is left; the sample's scatter where the noise model failed."""
    n = raw.shape[0]
    mean, error, chi2, scatter = floats
    count, rejected, dq = counts
    for k in range(valid.size):
        kept = sums[0, k]
        count[k] = np.uint16(kept)
        rejected[k] = np.uint16(valid[k] - kept)
        bits = _FEW if kept < 2 or 2 * kept < n or sums[3, k] > 0 else 0
        if valid[k] < n:
            bits |= _excluded_bits(raw[:, k], limits[1], limits[2])
        dq[k] = np.uint16(bits)
        if valid[k] < 2:
            scatter[k] = np.float32(np.nan)
        if kept < 2:
            chi2[k] = np.float32(np.nan)
        if kept == 0:
            mean[k] = np.float32(np.nan)
            error[k] = np.float32(np.nan)
        if sums[3, k] > 0:
            scatter2 = (sums[2, k] - sums[1, k] * sums[1, k] / kept) / ((kept - 1) * kept)
            error[k] = max(error[k], np.float32(np.sqrt(max(scatter2, 0.0))))


@kernel
def _clip_block(
    raw: Any, net: Any, offset: Any, limits: Any, noise2: Any, bias: Any, model: Any, floats: Any, counts: Any
) -> None:
    """All that can happen to the samples of some pixels, raw (n, w); arguments as in `clip_strip`."""
    n, w = raw.shape
    x = np.empty((n, w), np.float32)
    valid = np.zeros(w, np.float32)
    ref = np.empty(w, np.float32)
    sums = np.zeros((4, w), np.float32)
    for i in range(n):
        _load(raw[i], limits[0], offset[i], limits[1], limits[2], x[i], valid)
    if n > 2:
        y = x.copy()
        _block_median(y, net, ref)
        for k in range(w):
            if valid[k] < n:
                ref[k] = _valid_median(x[:, k])
        start = ref.copy()
        _clip_twice(x, bias, noise2, model, ref, sums)
        _special_pixels(x, valid, bias, noise2, model, ref, sums, start)
    else:
        _special_pixels(x, valid, bias, noise2, model, ref, sums, ref)
    _statistics(ref, bias, noise2, model, sums, floats)
    _rejected_scatter(x, valid, bias, noise2, model, sums, floats)
    _finish(raw, limits, valid, sums, floats, counts)


@kernel
def _others(calm: Any, first: int, others: Any) -> int:
    """The pixels that are not calm, counted from `first` on; returns how many."""
    found = 0
    for k in range(calm.size):
        if calm[k] == 0:
            others[found] = first + k
            found += 1
    return found


@kernel
def _take_columns(raw: Any, columns: Any, out: Any) -> None:
    for i in range(raw.shape[0]):
        for k in range(columns.size):
            out[i, k] = raw[i, np.uint64(columns[k])]  # unsigned: no look at whether it counts from the end


@kernel
def _clip_taken(
    taken: Any, pixels: Any, net: Any, offset: Any, limits: Any, noise2: Any, bias: Any, model: Any,
    floats: Any, counts: Any,
) -> None:  # fmt: skip
    """`_clip_block` for the samples (n, w) of some pixels (w,) of a strip."""
    w = pixels.size
    mine_f, mine_n = np.empty((4, w), np.float32), np.empty((3, w), np.uint16)
    _clip_block(taken, net, offset, limits, noise2[pixels], bias[pixels], model, mine_f, mine_n)
    for plane in range(4):
        for k in range(w):
            floats[plane, pixels[k]] = mine_f[plane, k]
    for plane in range(3):
        for k in range(w):
            counts[plane, pixels[k]] = mine_n[plane, k]


@kernel
def _settle(
    taken: Any, pixels: Any, within: Any, sums: Any, net: Any, offset: Any, limits: Any, noise2: Any, bias: Any,
    model: Any, floats: Any, counts: Any,
) -> None:  # fmt: skip
    """Look closely at pixels (w,) of a strip whose samples are the first columns of `taken` (n, width), and clip those
    that are not calm then either; sums: to work with."""
    n, w = taken.shape[0], pixels.size
    first: Any = np.int64(0)  # a plain 0 is a type of its own, which is compiled for anew
    columns = np.arange(w)
    if n >= COUNTED:
        calm = np.zeros(w, np.uint8)
        gather_sums(taken, first, w, limits[0], offset, sums)
        judge_closely(taken, first, within, limits[0], offset, bias[pixels], noise2[pixels], model, sums, calm)
        columns = columns[: _others(calm, first, columns)]
    mine = np.empty((n, columns.size), taken.dtype)
    _take_columns(taken, columns, mine)
    _clip_taken(mine, pixels[columns], net, offset, limits, noise2, bias, model, floats, counts)


@kernel
def clip_strip(
    raw: Any, net: Any, offset: Any, limits: Any, noise2: Any, bias: Any, model: Any, floats: Any, counts: Any
) -> None:
    """Clipped mean over axis 0 of raw (n, p), block by block: of calm pixels at once, the others put together.

    limits: 1/scale, valid_low, valid_high; model: 1/g, relative_error², kappa·f, kappa; floats (4, p): mean, error,
    chi2, scatter; counts (3, p): count, rejected, dq; all written.
    """
    n, p = raw.shape
    scale, sums = limits[0], np.empty(SUMS, np.float32)
    within = surely_within(limits, offset)
    calm, others = np.empty(WIDTH, np.uint8), np.empty(WIDTH, np.int64)
    width, held = min(WIDTH, block_width(n)), 0
    taken, pixels = np.empty((n, width), raw.dtype), np.empty(width, np.int64)
    counts[0], counts[1], counts[2] = np.uint16(n), np.uint16(0), np.uint16(_FEW if n < 2 else 0)
    for s in range(0, p, WIDTH):
        e = min(p, s + WIDTH)
        bias_of, noise_of, judged = bias[s:e], noise2[s:e], calm[: e - s]
        gather_sums(raw, s, e, scale, offset, sums)
        some = judge(n, within, bias_of, noise_of, model, sums, judged)
        if n >= COUNTED and some > MANY:
            judge_closely(raw, s, within, scale, offset, bias_of, noise_of, model, sums, judged)
        out = floats[0, s:e], floats[1, s:e], floats[2, s:e], floats[3, s:e]
        conclude(n, bias_of, noise_of, model, sums, out[0], out[1], out[2], out[3])
        if n < 2:
            floats[3, s:e] = np.float32(np.nan)
        if some == 0:
            continue
        found = _others(judged, s, others)
        done = 0
        while done < found:  # taken out while the samples of this block are in the cache
            more = min(found - done, width - held)
            _take_columns(raw, others[done : done + more], taken[:, held : held + more])
            pixels[held : held + more] = others[done : done + more]
            done, held = done + more, held + more
            if held == width:
                _settle(taken, pixels, within, sums, net, offset, limits, noise2, bias, model, floats, counts)
                held = 0
    if held:
        left = pixels[:held]
        _settle(taken, left, within, sums, net, offset, limits, noise2, bias, model, floats, counts)
