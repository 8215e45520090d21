"""The loop over the pixels behind `darkpipe.science.metrics`: eight at a time, and one by one what is out of the way.

Errors have the digits of the planes (float32 as a rule), sums are whole numbers of 2**-28. Of values up to `ORDINARY`
whole ADU and what is left of them are summed apart, each exactly, in float64; of larger ones in three integers. Both
give the same digits.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel
from darkpipe.science.packed import (
    LANES,
    Packed,
    any_above,
    as_in,
    floored,
    larger,
    load,
    magnitude,
    rounded,
    smaller,
    splat,
    square_root,
    store,
    times,
    top_bits,
    where_above,
)

F8 = NDArray[np.float64]
Histogram = NDArray[np.int64]
Plane = NDArray[np.float32] | NDArray[np.float64]

REFERENCE_SIGMAS: Final = 5.0
"""Relative errors are taken where the reference exceeds this many of its errors."""

UNIT: Final = 2.0**28  # differences of float32 values of 1/16 and above are whole in these units
LIMB: Final = 2.0**36  # 2**27 pixels of it still fit an int64
_HALF_RANGE: Final = 2.0**62
_LOW: Final = (1 << 36) - 1
LARGEST: Final = 1e12  # an error beyond this counts as this; squared it still fits three limbs
STEPS: Final = 128  # error bins to an octave of (|e| + 1 ADU), and the inverse of their width at zero
HALF: Final = STEPS * 20  # error bins on each side of zero; the last one takes all that is larger
PULL_WIDTH: Final = 0.02
PULL_HALF: Final = 600
PULL_BINS: Final = 2 * PULL_HALF + 2
RELATIVE_STEPS: Final = 1024  # bins of |e|/reference to an octave of (1 + |e|/reference)
RELATIVE_BINS: Final = RELATIVE_STEPS * 5

# columns of the counts and of the sums
N, N_FLOOR, N_BOTH, N_RELATIVE = range(4)
ABS, SIGNED, SQUARE, RELATIVE, SIGMA_REFERENCE, SIGMA_BOTH = range(6)

ORDINARY: Final = 2.0**19
_BLOCKS: Final = 1 << 13  # of eight pixels, after which sums in float64 are carried over: 2**13 squares are below 2**51
_ROWS: Final = 16  # of these sums, a group: four counts, and whole ADU and the rest of six columns


class Planes(NamedTuple):
    """What is compared, (P,) each and P at least eight; signal sorts into classes. total_error: empty, or the error of
    the difference, which is otherwise that of both."""

    prediction: Plane
    prediction_error: Plane
    reference: Plane
    reference_error: Plane
    flagged: NDArray[np.uint8]
    signal: Plane
    total_error: Plane


class Tally(NamedTuple):
    """Where pixels are counted: counts (groups, 4), sums (groups, 6, 3), and histograms, group after group in one row
    with a last bin for what does not count."""

    counts: Histogram
    sums: Histogram
    errors: Histogram
    pulls: Histogram
    relative: Histogram


def new_tally(groups: int) -> Tally:
    """All zero."""
    return Tally(
        np.zeros((groups, 4), np.int64),
        np.zeros((groups, 6, 3), np.int64),
        np.zeros(groups * 2 * HALF + 1, np.int64),
        np.zeros(groups * PULL_BINS + 1, np.int64),
        np.zeros(groups * RELATIVE_BINS + 1, np.int64),
    )


@kernel
def _add(sums: Histogram, group: int, column: int, value: float) -> None:
    """Add ``value`` to a sum kept as three integers of 36 bits: no rounding but of the value itself, to 2**-28."""
    sign = 1 if value >= 0.0 else -1
    units = np.rint(abs(value) * UNIT)
    if units < _HALF_RANGE:
        small = int(units)
        sums[group, column, 0] += sign * (small & _LOW)
        sums[group, column, 1] += sign * (small >> 36)
        return
    if units >= LIMB:
        high = np.floor(units / LIMB)
        units -= high * LIMB
        top = np.floor(high / LIMB)
        sums[group, column, 2] += sign * int(top)
        sums[group, column, 1] += sign * int(high - top * LIMB)
    sums[group, column, 0] += sign * int(units)


@kernel
def _octave_bin(value: float, steps: int, last: int) -> int:
    """Bin of a value >= 0: linear inside each octave of (value + 1). That is what the bits of a number say: exponent,
    and the first bits of the mantissa (7 of them for 128 steps, 10 for 1024)."""
    bits = int(np.float64(value + 1.0).view(np.int64))
    found = (bits >> (45 if steps == 128 else 42)) - 1023 * steps
    return min(found, last)


@kernel
def count_pixel(planes: Planes, edges: F8, p: int, tally: Tally) -> None:
    """Count one pixel; group = 2 x class + flagged."""
    value, truth, signal = float(planes.prediction[p]), float(planes.reference[p]), float(planes.signal[p])
    if not (math.isfinite(value) and math.isfinite(truth) and math.isfinite(signal)):
        return
    group = 1 if planes.flagged[p] else 0
    for edge in edges:
        if signal >= edge:
            group += 2
    e = min(max(value - truth, -LARGEST), LARGEST)
    size = abs(e)
    tally.counts[group, N] += 1
    _add(tally.sums, group, ABS, size)
    _add(tally.sums, group, SIGNED, e)
    _add(tally.sums, group, SQUARE, e * e)
    found = _octave_bin(size, STEPS, HALF - 1)
    tally.errors[group * 2 * HALF + (HALF + found if e >= 0.0 else HALF - 1 - found)] += 1
    sigma = float(planes.reference_error[p])
    if not (math.isfinite(sigma) and sigma >= 0.0):
        return
    tally.counts[group, N_FLOOR] += 1
    _add(tally.sums, group, SIGMA_REFERENCE, min(sigma, LARGEST))
    if truth > REFERENCE_SIGMAS * sigma:
        tally.counts[group, N_RELATIVE] += 1
        relative = min(size / truth, LARGEST)
        _add(tally.sums, group, RELATIVE, relative)
        tally.relative[group * RELATIVE_BINS + _octave_bin(relative, RELATIVE_STEPS, RELATIVE_BINS - 1)] += 1
    own = float(planes.prediction_error[p])
    both = math.sqrt(sigma * sigma + own * own) if planes.total_error.size == 0 else float(planes.total_error[p])
    if not (math.isfinite(both) and both > 0.0):
        return
    tally.counts[group, N_BOTH] += 1
    _add(tally.sums, group, SIGMA_BOTH, min(both, LARGEST))
    pull = math.floor(min(max(e / both / PULL_WIDTH, -PULL_HALF - 1.0), PULL_HALF + 0.0))
    tally.pulls[group * PULL_BINS + int(pull) + PULL_HALF + 1] += 1


@inlined
def octaves(value: Packed, share: float, last: float) -> Packed:
    """As `_octave_bin`: `share` of 1024 steps to the octave."""
    return smaller(floored((top_bits(value + 1.0) - 1023.0 * 1024.0) * share), last)


@inlined
def _add_group(mine: Packed, lanes: F8, group: int, count: tuple[Packed, ...], value: tuple[Packed, ...]) -> None:
    """Add what is in the lanes of `mine` (1, else 0)."""
    row = group * _ROWS
    for one in count:
        store(lanes, row, 0, load(lanes, row, 0) + where_above(mine, 0.5, one, 0.0))
        row += 1
    for one in value:
        store(lanes, row, 0, load(lanes, row, 0) + where_above(mine, 0.5, one, 0.0))
        row += 1


@inlined
def _sums(size: Packed, e: Packed, relative: Packed, sigma: Packed, both: Packed) -> tuple[Packed, ...]:
    """Whole ADU and units of the six columns."""
    square = times(e, e)  # not made one with what follows, which would round it otherwise than for a single pixel
    w0, w2, w3, w4, w5 = rounded(size), rounded(square), rounded(relative), rounded(sigma), rounded(both)
    u0, u2, u3 = rounded((size - w0) * UNIT), rounded((square - w2) * UNIT), rounded((relative - w3) * UNIT)
    u4, u5 = rounded((sigma - w4) * UNIT), rounded((both - w5) * UNIT)
    w1, u1 = where_above(0.0, e, -w0, w0), where_above(0.0, e, -u0, u0)
    return w0, u0, w1, u1, w2, u2, w3, u3, w4, u4, w5, u5


@inlined
def _bins(
    group: Packed, groups: int, there: Packed, e: Packed, size: Packed, told: Packed, relative: Packed, known: Packed,
    pull: Packed, bins: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Bins of eight pixels in the three histograms."""
    found = octaves(size, STEPS / RELATIVE_STEPS, HALF - 1.0)
    found = group * (2.0 * HALF) + where_above(0.0, e, HALF - 1.0 - found, HALF + found)
    store(bins, 0, 0, where_above(there, 0.5, found, 2.0 * HALF * groups))
    found = group * (1.0 * RELATIVE_BINS) + octaves(relative, 1.0, RELATIVE_BINS - 1.0)
    store(bins, 1, 0, where_above(told, 0.5, found, 1.0 * RELATIVE_BINS * groups))
    pull = floored(smaller(larger(pull, -PULL_HALF - 1.0), 1.0 * PULL_HALF)) + (PULL_HALF + 1.0)
    store(bins, 2, 0, where_above(known, 0.5, group * (1.0 * PULL_BINS) + pull, 1.0 * PULL_BINS * groups))


@inlined
def _count_eight(planes: Planes, edges: F8, i: int, new: Packed, lanes: F8, bins: NDArray[np.uint32]) -> bool:
    """Add pixels i to i + 7, those that are `new` (1, else 0), to `lanes`, and find their bins; False, and nothing is
    added, where one of their numbers is beyond what these sums hold."""
    groups = 2 * (edges.size + 1)
    value, truth, signal = load(planes.prediction, 0, i), load(planes.reference, 0, i), load(planes.signal, 0, i)
    there = where_above(math.inf, magnitude(value), where_above(math.inf, magnitude(truth), new, 0.0), 0.0)
    there = where_above(math.inf, magnitude(signal), there, 0.0)
    e = where_above(there, 0.5, as_in(value - truth, planes.reference), 0.0)
    size, sigma = magnitude(e), load(planes.reference_error, 0, i)
    floor = where_above(math.inf, magnitude(sigma), where_above(0.0, sigma, splat(0.0), there), 0.0)
    sigma = where_above(floor, 0.5, sigma, 0.0)
    told = where_above(truth, REFERENCE_SIGMAS * sigma, floor, 0.0)
    relative = where_above(told, 0.5, size / truth, 0.0)
    if planes.total_error.size == 0:
        one, other = times(sigma, sigma), load(planes.prediction_error, 0, i)
        other = as_in(times(other, other), planes.reference)
        both = as_in(square_root(as_in(as_in(one, planes.reference) + other, planes.reference)), planes.reference)
    else:
        both = load(planes.total_error, 0, i)
    known = where_above(both, 0.0, where_above(math.inf, both, floor, 0.0), 0.0)
    pull, both = where_above(known, 0.5, e / both / PULL_WIDTH, 0.0), where_above(known, 0.5, both, 0.0)
    if any_above(larger(larger(size, relative), larger(sigma, both)), splat(ORDINARY)):
        return False
    marked = load(planes.flagged, 0, i)
    group = marked
    for edge in edges:
        group = group + where_above(edge, signal, splat(0.0), 2.0)
    _bins(group, groups, there, e, size, told, relative, known, pull, bins)
    count, sums = (there, floor, known, told), _sums(size, e, relative, sigma, both)
    for g in range(0, groups, 1 if any_above(marked, splat(0.5)) else 2):
        mine = where_above(0.5, magnitude(group - 1.0 * g), there, 0.0)
        if any_above(mine, splat(0.5)):
            _add_group(mine, lanes, g, count, sums)
    return True


@kernel
def _carry(lanes: F8, tally: Tally) -> None:
    """Empty the sums in float64 into those of integers."""
    for group in range(tally.counts.shape[0]):
        for column in range(4):
            for lane in range(LANES):
                tally.counts[group, column] += int(lanes[group * _ROWS + column, lane])
        for column in range(6):
            whole, units = 0, 0
            for lane in range(LANES):
                whole += int(lanes[group * _ROWS + 4 + 2 * column, lane])
                units += int(lanes[group * _ROWS + 5 + 2 * column, lane])
            tally.sums[group, column, 1] += whole >> 8
            tally.sums[group, column, 0] += ((whole & 255) << 28) + units
    lanes[:] = 0.0


@kernel
def count_pixels(planes: Planes, edges: F8, tally: Tally) -> None:
    """One pass over the pixels."""
    pixels = planes.prediction.size
    lanes, bins = np.zeros((_ROWS * tally.counts.shape[0], LANES)), np.empty((3, LANES), np.uint32)
    number = np.empty((1, LANES))
    number[0] = np.arange(LANES)
    blocks = 0
    for begin in range(0, pixels, LANES):
        i = min(begin, pixels - LANES)  # the last ones are looked at twice, and counted once
        new = where_above(load(number, 0, 0) + 0.5, 1.0 * (begin - i), splat(1.0), splat(0.0))
        if _count_eight(planes, edges, i, new, lanes, bins):
            for lane in range(LANES):
                tally.errors[bins[0, lane]] += 1
                tally.relative[bins[1, lane]] += 1
                tally.pulls[bins[2, lane]] += 1
        else:
            for p in range(begin, i + LANES):
                count_pixel(planes, edges, p, tally)
        blocks += 1
        if blocks == _BLOCKS:
            _carry(lanes, tally)
            blocks = 0
    _carry(lanes, tally)


@kernel
def gather(histogram: Histogram, found: Histogram) -> int:
    """Bins that are not empty, and what they hold, into the first columns of found (2, m); returns how many."""
    count = 0
    for k in range(histogram.size):
        if histogram[k] != 0:
            found[0, count], found[1, count] = k, histogram[k]
            count += 1
    return count


@kernel
def scatter(bins: Histogram, values: Histogram, histogram: Histogram) -> None:
    """Add what `gather` found; its bins have to be bins of this histogram."""
    for k in range(bins.size):
        histogram[bins[k]] += values[k]
