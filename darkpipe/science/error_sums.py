"""Mean absolute and median errors of many cells, as sums that can be added over tiles: the little that is wanted of
predictions in sample and of masters scaled by exposure, at a tenth of the cost of all that `metrics` tells.

Sums are exact, so that neither the size of tiles nor their order changes a digit: whole ADU and units of 2**-28 are
summed apart, as whole numbers below 2**53 in float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Fitted
from darkpipe.science.fit_kernel import Law
from darkpipe.science.jit import inlined, kernel
from darkpipe.science.metrics import ERROR_BINS, fill, median_of_errors, sparse
from darkpipe.science.metrics_kernel import HALF, RELATIVE_STEPS, STEPS, octaves
from darkpipe.science.models.families import LINEAR, evaluate_packed, growth_packed
from darkpipe.science.packed import (
    LANES,
    Packed,
    any_above,
    as_in,
    larger,
    load,
    magnitude,
    rounded,
    smaller,
    splat,
    square_root,
    store,
    times,
    where_above,
)

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

UNIT = 2.0**28
LARGEST = 1e8  # an error beyond this counts as this
_ROWS = 6  # of the sums of a cell: number, whole ADU, units; the same of flagged pixels
_BLOCK = 1024  # pixels whose parameters stay in the cache from one cell to the next


@dataclass(frozen=True, eq=False)
class ErrorSums:
    """Errors of one cell, or of a tile of it: add them up, then ask for the `summary`.

    n, total : of unflagged and flagged pixels, their number and the sum of |e| in units of 2**-28 ADU. errors : (bins,)
    histogram of e, the bins of `metrics`; empty: not kept.
    """

    n: tuple[int, int]
    total: tuple[int, int]
    errors: NDArray[np.int64]

    @classmethod
    def empty(cls) -> ErrorSums:
        """Of no pixels."""
        return cls((0, 0), (0, 0), np.zeros(0, np.int64))

    def __add__(self, other: ErrorSums) -> ErrorSums:
        """Sums over the pixels of both."""
        errors = self.errors + other.errors if self.errors.size == other.errors.size else self.errors[:0]
        n, total = ((a[0] + b[0], a[1] + b[1]) for a, b in ((self.n, other.n), (self.total, other.total)))
        return ErrorSums(n, total, errors)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ErrorSums)
            and (self.n, self.total) == (other.n, other.total)
            and np.array_equal(self.errors, other.errors)
        )

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Whole numbers as JSON has them, and the bins that hold something (`sparse`); None: no histogram is kept."""
        found = sparse(self.errors) if self.errors.size else None
        return {"n": list(self.n), "total": list(self.total), "errors": found}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ErrorSums:
        """What `to_dict` wrote; KeyError, ValueError or IndexError where it is not that."""
        kept = 0 if data["errors"] is None else ERROR_BINS
        return cls((0, 0), (0, 0), np.zeros(kept, np.int64)).plus(data)

    def plus(self, data: Mapping[str, Any]) -> ErrorSums:
        """The same with what `to_dict` wrote of other pixels, whose histogram is added in place; errors as there."""
        errors = self.errors[:0] if data["errors"] is None else self.errors
        if errors.size:
            fill(errors, data["errors"])
        (a, b), (c, d) = data["n"], data["total"]
        n, total = (self.n[0] + int(a), self.n[1] + int(b)), (self.total[0] + int(c), self.total[1] + int(d))
        return ErrorSums(n, total, errors)

    def summary(self) -> dict[str, float | int]:
        """``n_pixels, mae_adu, mae_unflagged_adu, median_error_adu``; NaN where no pixel tells."""
        n, total = sum(self.n), sum(self.total)
        return {
            "n_pixels": n,
            "mae_adu": total / (n * UNIT) if n else math.nan,
            "mae_unflagged_adu": self.total[0] / (self.n[0] * UNIT) if self.n[0] else math.nan,
            "median_error_adu": median_of_errors(self.errors) if self.errors.size else math.nan,
        }


Six = tuple[Packed, Packed, Packed, Packed, Packed, Packed]
"""The sums of a cell, in registers."""


@inlined
def _known(sums: F8, row: int) -> Six:
    """The six rows from this one on."""
    return (
        load(sums, row, 0), load(sums, row + 1, 0), load(sums, row + 2, 0),
        load(sums, row + 3, 0), load(sums, row + 4, 0), load(sums, row + 5, 0),
    )  # fmt: skip


@inlined
def _keep(sums: F8, row: int, known: Six) -> None:
    """What `_known` reads."""
    for column in range(_ROWS):
        store(sums, row + column, 0, known[column])


@inlined
def _count(known: Six, e: Packed, new: Packed, flagged: Packed) -> tuple[Six, Packed]:
    """Add the errors of eight pixels, those that are numbers and `new` (1, else 0); returns also which these are."""
    there = where_above(math.inf, magnitude(e), new, 0.0)
    size = where_above(there, 0.5, smaller(magnitude(e), LARGEST), 0.0)
    whole = rounded(size)
    units = rounded((size - whole) * UNIT)
    n, w, u, n_flagged, w_flagged, u_flagged = known
    sums = (
        n + there, w + whole, u + units,
        n_flagged + there * flagged, w_flagged + whole * flagged, u_flagged + units * flagged,
    )  # fmt: skip
    return sums, there


@inlined
def _error(law: Law, p: F8, group: NDArray[np.int64], offset: F4, signal: F4, limit: F4, k: int, i: int) -> Packed:
    """Prediction less master of cell k and eight pixels from i on."""
    p0, p1, p2, top = load(p, 0, i), load(p, 1, i), load(p, 2, i), load(limit, 0, i)
    growth = p1 if law.family == LINEAR else growth_packed(law.family, law.x[0, k], law.x[1, k], p1, p2)
    value, _, _, _ = evaluate_packed(law.family, law.x, k, p0, p1, p2, growth)
    value = value + load(offset, group[k], i)
    return where_above(value, top, top, value) - load(signal, k, i)


@kernel
def _in_sample(
    law: Law, p: F8, group: NDArray[np.int64], offset: F4, signal: F4, limit: F4, flagged: NDArray[np.uint8], sums: F8,
    histogram: NDArray[np.int64],
) -> None:  # fmt: skip
    """offset (G, P): 0 where there is no level; sums (n·6, 8); histogram: of the cells in a row, and one bin more for
    what is no number."""
    n, pixels = signal.shape
    lanes, bins = np.empty((1, LANES)), np.empty((1, LANES), np.uint32)
    lanes[0] = np.arange(LANES)
    for first in range(0, pixels, _BLOCK):
        for k in range(n):
            known = _known(sums, _ROWS * k)
            for begin in range(first, min(first + _BLOCK, pixels), LANES):
                i = min(begin, pixels - LANES)
                new = where_above(load(lanes, 0, 0) + 0.5, 1.0 * (begin - i), splat(1.0), splat(0.0))
                e = _error(law, p, group, offset, signal, limit, k, i)
                known, there = _count(known, e, new, load(flagged, 0, i))
                found = octaves(magnitude(e), STEPS / RELATIVE_STEPS, HALF - 1.0)
                found = where_above(0.0, e, HALF - 1.0 - found, HALF + found) + 2.0 * HALF * k
                store(bins, 0, 0, where_above(there, 0.5, found, 2.0 * HALF * n))
                for lane in range(LANES):
                    histogram[bins[0, lane]] += 1
            _keep(sums, _ROWS * k, known)


@kernel
def _scaled(
    other: F4, factor: float, signal: F4, prediction: F4, whatever: bool, flagged: NDArray[np.uint8], sums: F8
) -> None:
    """sums (6, 8). Pixels without a prediction are left out, or counted `whatever`."""
    lanes = np.empty((1, LANES))
    lanes[0] = np.arange(LANES)
    known = _known(sums, 0)
    for begin in range(0, signal.size, LANES):
        i = min(begin, signal.size - LANES)
        new = where_above(load(lanes, 0, 0) + 0.5, 1.0 * (begin - i), splat(1.0), splat(0.0))
        if not whatever:
            new = where_above(math.inf, magnitude(load(prediction, 0, i)), new, 0.0)
        known, _ = _count(known, load(other, 0, i) * factor - load(signal, 0, i), new, load(flagged, 0, i))
    _keep(sums, 0, known)


@kernel
def _held_out(
    held: F4, variance: F4, common: F4, limit: F4, limit_without: F4, reference: F4, offset: F4,
    frames: NDArray[np.uint16], read_variance: F4, relative: F4, flagged: NDArray[np.uint8], levels: F8,
    precise: float, prediction: F4, total: F4, error: F4, ratios: F4,
) -> tuple[bool, int]:  # fmt: skip
    """levels (4,): factor on the read variance, 1/gain, multiplicative and additive variance of the cell. Returns
    whether a pixel has a prediction, and how many columns of ratios (2, P) were written."""
    scale, inverse_gain, of_cell, extra = levels[0], levels[1], levels[2], levels[3]
    lanes, chosen = np.empty((1, LANES)), np.empty((1, LANES), np.uint8)
    lanes[0] = np.arange(LANES)
    known, count = splat(0.0), 0
    for begin in range(0, held.size, LANES):
        i = min(begin, held.size - LANES)
        new = where_above(load(lanes, 0, 0) + 0.5, 1.0 * (begin - i), splat(1.0), splat(0.0))
        value, here = load(held, 0, i), load(frames, 0, i)
        top = where_above(here, 0.0, load(limit, 0, i), load(limit_without, 0, i))
        value = where_above(value, top, top, value)
        s = value - load(offset, 0, i)
        noise = load(read_variance, 0, i) * scale + larger(s, 0.0) * inverse_gain
        noise = noise / larger(here, 1.0) + (load(relative, 0, i) + of_cell) * (s * s) + extra
        store(prediction, 0, i, value)
        store(total, 0, i, square_root(load(variance, 0, i) + noise))
        store(error, 0, i, value - load(reference, 0, i))
        known = known + where_above(math.inf, magnitude(load(prediction, 0, i)), new, 0.0)
        least = as_in(times(load(total, 0, i), splat(precise)), total)
        some = where_above(load(prediction, 0, i), least, where_above(load(flagged, 0, i), 0.5, splat(0.0), new), 0.0)
        some = where_above(math.inf, magnitude(load(error, 0, i)), some, 0.0)
        if any_above(some, splat(0.5)):
            store(chosen, 0, 0, some)
            for lane in range(LANES):
                if chosen[0, lane]:
                    ratios[0, count] = error[i + lane] / prediction[i + lane]
                    ratios[1, count] = np.float32(math.sqrt(common[i + lane])) / prediction[i + lane]
                    count += 1
    return any_above(known, splat(0.5)), count


class HeldOut(NamedTuple):
    """Of a cell that the others predict: the prediction [ADU] and the 1 sigma of its difference from the master (the
    variance of the prediction, with the shared bias error, and the master's own noise), (P,) each; of pixels that were
    asked for, the relative error and the relative 1 sigma that all pixels share, (2, m); whether any is predicted."""

    prediction: F4
    total: F4
    ratios: F4
    known: bool

    @classmethod
    def blank(cls, pixels: int) -> HeldOut:
        """Of so many pixels, to be filled by one cell after the other."""
        size = max(pixels, LANES)
        return cls(np.empty(size, np.float32), np.empty(size, np.float32), np.empty((2, size), np.float32), False)


def held_out_errors(
    cells: Cells, k: int, fitted: Fitted, limits: tuple[F4, F4], offset: F4, flagged: Bools, precise: float,
    error: F4, scratch: HeldOut,
) -> HeldOut:  # fmt: skip
    """Cell k by the others, no higher than its limit, in the memory of `scratch`; (prediction - master) goes into
    `error` (P,).

    Parameters
    ----------
    limits : (P,) each, the level that no prediction exceeds: where the cell is there, and where it is not.
    offset : (P,) free level of the cell's group, 0 where it is known. precise : ratios are those of pixels that are not
        flagged (P,), with a prediction above so many of its 1 sigma.
    """
    pixels, own = error.size, cells.pixel_relative_variance
    scale = 1.0 if cells.read_scale is None else float(cells.read_scale[k])
    levels = [scale, 1.0 / cells.gain_e_per_adu, cells.relative_variance[k], cells.extra_variance_adu2[k]]
    rows = fitted.held_out_adu[k], fitted.held_out_variance_adu2[k], fitted.held_out_common_adu2[k]
    given = [_filled(a) for a in (*rows, *limits, cells.signal_adu[k], offset)]
    none = np.zeros(given[0].size, np.float32) if own is None else _filled(own)
    made = error if pixels >= LANES else np.empty(LANES, np.float32)
    run: Any = _held_out
    known, m = run(
        *given, _filled(cells.count[k], 0), _filled(cells.read_variance_adu2), none, _filled(flagged.view(np.uint8), 1),
        np.array(levels, np.float64), precise, scratch.prediction, scratch.total, made, scratch.ratios,
    )  # fmt: skip
    if made is not error:
        error[:] = made[:pixels]
    return HeldOut(scratch.prediction[:pixels], scratch.total[:pixels], scratch.ratios[:, :m], known)


def _gathered(sums: F8, errors: NDArray[np.int64]) -> ErrorSums:
    all_n, all_whole, all_units, n, whole, units = (int(row.sum()) for row in sums)
    total, marked = all_whole * int(UNIT) + all_units, whole * int(UNIT) + units
    return ErrorSums((all_n - n, n), (total - marked, marked), errors)


def _filled(array: NDArray[Any], value: float = math.nan) -> NDArray[Any]:
    """With as many pixels as a vector has, at least; contiguous."""
    missing = max(0, LANES - array.shape[-1])
    if not missing:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.full((*array.shape[:-1], missing), value, array.dtype)], axis=-1)


def in_sample_errors(
    law: Law, parameters: F8, group: NDArray[np.int64], offset: F4, signal: F4, limit: F4, flagged: Bools
) -> list[ErrorSums]:
    """Errors of each cell by the fit of all, (model - master).

    Parameters
    ----------
    law : the model of the fit. parameters : (3, P). group : (n,) and offset : (G, P) [ADU], the level of each cell's
        group, 0 where it is known. signal : (n, P) masters. limit : (P,) level that no prediction exceeds.
    flagged : (P,).
    """
    n = signal.shape[0]
    sums, histogram = np.zeros((n * _ROWS, LANES)), np.zeros(n * ERROR_BINS + 1, np.int64)
    _in_sample(
        law, _filled(parameters), group, _filled(offset), _filled(signal), _filled(limit),
        _filled(flagged.view(np.uint8), 0), sums, histogram,
    )  # fmt: skip
    errors = histogram[:-1].reshape(n, ERROR_BINS)
    return [_gathered(sums[_ROWS * k : _ROWS * (k + 1)], errors[k]) for k in range(n)]


def scaled_errors(other: F4, factor: float, signal: F4, prediction: F4 | None, flagged: Bools) -> ErrorSums:
    """Errors of a master (P,) that is another one times a factor, over the pixels that have a prediction; None: all."""
    sums = np.zeros((_ROWS, LANES))
    marked = _filled(flagged.view(np.uint8), 0)
    told = _filled(signal if prediction is None else prediction)
    _scaled(_filled(other), float(np.float32(factor)), _filled(signal), told, prediction is None, marked, sums)
    return _gathered(sums, np.zeros(0, np.int64))
