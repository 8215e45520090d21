"""Errors of predicted darks against master darks, as sums that can be added over tiles of an image.

`accumulate` looks at each pixel once and keeps sums and histograms only, so that a cell is evaluated tile by tile.
The sums are integers (units of 2**-28): adding tiles in any order and of any size gives the same digits, and the
products the same bytes. Medians and robust spreads come from histograms, interpolated inside their bins.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science import metrics_kernel as at
from darkpipe.science.metrics_kernel import Histogram, Planes, new_tally
from darkpipe.science.packed import LANES

DEFAULT_EDGES_ADU: Final = (300.0, 1000.0, 5000.0)
"""Borders of the signal classes [ADU]."""

_MOST_A_TALLY = 1 << 27  # pixels, see `metrics_kernel.LIMB`
_MEAN_ABS_NORMAL = math.sqrt(2.0 / math.pi)  # E|x| of a unit normal
_SIGMA_OF_MAD = 1.4826022
_HISTOGRAMS = ("errors", "pulls", "relative")


@dataclass(frozen=True, eq=False)
class CellErrors:
    """Sums of the errors of one cell, or of a tile of it: add them up, then ask for the `summary`.

    Rows (groups) are signal classes, unflagged and flagged in turn: group = 2 x class + flagged.

    Attributes
    ----------
    edges_adu : borders of the signal classes [ADU]; k borders make k + 1 classes.
    counts : (groups, 4) pixels: all, with an error of the reference, with both errors, with a relative error.
    sums : [group][column] sums of \\|e\\|, e, e squared, \\|e\\|/reference, both kinds of sigma, in units of 2**-28.
    errors, pulls, relative : (groups, bins) histograms of e [ADU], of e/sigma and of \\|e\\|/reference.
    """

    edges_adu: tuple[float, ...]
    counts: Histogram
    sums: tuple[tuple[int, ...], ...]
    errors: Histogram
    pulls: Histogram
    relative: Histogram

    @classmethod
    def empty(cls, edges_adu: Sequence[float] = DEFAULT_EDGES_ADU) -> CellErrors:
        """The sums of no pixels: where an addition starts."""
        groups = 2 * (len(edges_adu) + 1)
        return cls(
            _checked_edges(edges_adu),
            np.zeros((groups, 4), np.int64),
            ((0,) * 6,) * groups,
            np.zeros((groups, 2 * at.HALF), np.int64),
            np.zeros((groups, 2 * at.PULL_HALF + 2), np.int64),
            np.zeros((groups, at.RELATIVE_BINS), np.int64),
        )

    def __add__(self, other: CellErrors) -> CellErrors:
        """Sums over the pixels of both; ValueError where their classes differ."""
        if self.edges_adu != other.edges_adu:
            raise ValueError(f"signal classes differ: {self.edges_adu} and {other.edges_adu}")
        return CellErrors(
            self.edges_adu,
            self.counts + other.counts,
            _added(self.sums, other.sums),
            self.errors + other.errors,
            self.pulls + other.pulls,
            self.relative + other.relative,
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CellErrors)
            and (self.edges_adu, self.sums) == (other.edges_adu, other.sums)
            and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("counts", *_HISTOGRAMS))
        )

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Whole numbers as JSON has them, and of the histograms the bins that hold something (`sparse`)."""
        return {
            "edges_adu": list(self.edges_adu),
            "counts": self.counts.tolist(),
            "sums": [list(row) for row in self.sums],
            **{name: sparse(getattr(self, name)) for name in _HISTOGRAMS},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CellErrors:
        """What `to_dict` wrote; KeyError, ValueError or IndexError where it is not that."""
        return cls.empty(data["edges_adu"]).plus(data)

    def plus(self, data: Mapping[str, Any]) -> CellErrors:
        """The same with what `to_dict` wrote of other pixels, whose histograms are added in place: tiles are many, and
        histograms mostly empty. Errors as `from_dict`, and ValueError where the classes differ."""
        counts = np.asarray(data["counts"], np.int64)
        sums = tuple(tuple(int(value) for value in row) for row in data["sums"])
        if list(self.edges_adu) != list(data["edges_adu"]):
            raise ValueError(f"signal classes differ: {self.edges_adu} and {data['edges_adu']}")
        if counts.shape != self.counts.shape or [len(row) for row in sums] != [len(row) for row in self.sums]:
            raise ValueError("counts or sums do not belong to these signal classes")
        for name in _HISTOGRAMS:
            fill(getattr(self, name), data[name])
        return replace(self, counts=self.counts + counts, sums=_added(self.sums, sums))

    def summary(self) -> dict[str, float | int]:
        """Accuracy in numbers; NaN where no pixel tells.

        Keys for all pixels: ``n_pixels, mae_adu, mape_percent, mape_fraction, median_relative_percent, rmse_adu,
        median_error_adu, mean_error_adu, pull_median, pull_spread`` (1.4826 MAD), ``pull_interval_68`` (half the
        width that holds 68.27 %), ``pull_outlier_fraction`` (beyond 5), ``noise_floor_adu`` (mean error expected from
        the reference's own noise alone), ``expected_mae_adu`` (from the errors of both). The same with ``_unflagged``
        before the unit (``mae_unflagged_adu``), and a signal class each ``n_, mae_, noise_floor_, pull_spread_`` with
        ``below_300``, ``300_to_1000`` … ``above_5000`` (``mae_below_300_adu``, ``mae_below_300_unflagged_adu``).
        """
        everything = range(len(self.sums))
        out = self._statistics(list(everything), "")
        out |= self._statistics([group for group in everything if group % 2 == 0], "_unflagged")
        for number, name in enumerate(class_names(self.edges_adu)):
            for groups, suffix in (([2 * number, 2 * number + 1], ""), ([2 * number], "_unflagged")):
                found = self._statistics_of_class(groups)
                out[f"n_{name}{suffix}"] = found[0]
                out[f"mae_{name}{suffix}_adu"] = found[1]
                out[f"noise_floor_{name}{suffix}_adu"] = found[2]
                out[f"pull_spread_{name}{suffix}"] = found[3]
        return out

    def _totals(self, groups: list[int]) -> tuple[list[int], list[int]]:
        """Pixels, by what is known of them, and sums."""
        return (
            [int(value) for value in self.counts[groups].sum(axis=0)],
            [sum(self.sums[group][column] for group in groups) for column in range(6)],
        )

    def _statistics_of_class(self, groups: list[int]) -> tuple[int, float, float, float]:
        """Pixels, mean absolute error, noise floor, and spread of the pulls."""
        (n, n_floor, _, _), total = self._totals(groups)
        pulls = self.pulls[groups].sum(axis=0)
        spread = _SIGMA_OF_MAD * _central_half(pulls, _PULL_EDGES, _quantile(pulls, _PULL_EDGES, 0.5))
        return n, _mean(total[at.ABS], n), _MEAN_ABS_NORMAL * _mean(total[at.SIGMA_REFERENCE], n_floor), spread

    def _statistics(self, groups: list[int], suffix: str) -> dict[str, float | int]:
        (n, n_floor, n_both, n_relative), total = self._totals(groups)
        pulls = self.pulls[groups].sum(axis=0)
        pull_median = _quantile(pulls, _PULL_EDGES, 0.5)
        low, high = (_quantile(pulls, _PULL_EDGES, q) for q in (0.158655, 0.841345))
        median_relative = _quantile(self.relative[groups].sum(axis=0), _RELATIVE_EDGES, 0.5)
        beyond = pulls.sum() - pulls[1 + at.PULL_HALF - 250 : 1 + at.PULL_HALF + 250].sum()
        return {
            f"n_pixels{suffix}": n,
            f"mae{suffix}_adu": _mean(total[at.ABS], n),
            f"mape{suffix}_percent": 100.0 * _mean(total[at.RELATIVE], n_relative),
            f"mape_fraction{suffix}": n_relative / n if n else math.nan,
            f"median_relative{suffix}_percent": 100.0 * median_relative,
            f"rmse{suffix}_adu": math.sqrt(_mean(total[at.SQUARE], n)),
            f"median_error{suffix}_adu": _quantile(self.errors[groups].sum(axis=0), _ERROR_EDGES, 0.5),
            f"mean_error{suffix}_adu": _mean(total[at.SIGNED], n),
            f"pull_median{suffix}": pull_median,
            f"pull_spread{suffix}": _SIGMA_OF_MAD * _central_half(pulls, _PULL_EDGES, pull_median),
            f"pull_interval_68{suffix}": (high - low) / 2.0,
            f"pull_outlier_fraction{suffix}": float(beyond) / n_both if n_both else math.nan,
            f"noise_floor{suffix}_adu": _MEAN_ABS_NORMAL * _mean(total[at.SIGMA_REFERENCE], n_floor),
            f"expected_mae{suffix}_adu": _MEAN_ABS_NORMAL * _mean(total[at.SIGMA_BOTH], n_both),
        }


def accumulate(
    prediction: ArrayLike,
    prediction_error: ArrayLike,
    reference: ArrayLike,
    reference_error: ArrayLike,
    flagged: ArrayLike,
    edges: Sequence[float] = DEFAULT_EDGES_ADU,
    *,
    class_signal: ArrayLike | None = None,
    total_error: ArrayLike | None = None,
) -> CellErrors:
    """Errors e = prediction - reference of a tile, in one pass.

    A pixel counts where prediction and reference are finite. One whose reference error is not (or negative) stays out
    of noise floor, relative errors and pulls; one whose prediction error is not finite stays out of the pulls.

    Classes go by the *prediction*: sorted by the reference, the pixels that noise had lifted over a border would
    collect above it and those it had lowered below, and each class would show a bias that no model has.

    Parameters
    ----------
    prediction, prediction_error, reference, reference_error : same shape, dark signal and 1 sigma [ADU]; each but the
        reference may be a scalar.
    flagged : same shape, true where a pixel is not to be held against the model.
    edges : rising borders of the signal classes [ADU].
    class_signal : same shape, the signal that sorts into classes instead of the prediction [ADU]: give the model's
        prediction when a noisier one (another master, scaled) is measured, so that classes hold the same pixels.
    total_error : same shape, 1 sigma of e itself [ADU] where both errors are not independent (master and prediction
        share a bias); taken for the pulls instead of their quadratic sum.

    Raises
    ------
    ValueError : shapes differ, or edges that do not rise.
    """
    found = ErrorCounts(edges)
    found.add(
        prediction,
        prediction_error,
        reference,
        reference_error,
        flagged,
        class_signal=class_signal,
        total_error=total_error,
    )
    return found.errors()


class ErrorCounts:
    """What `accumulate` finds of tiles that come one after the other, counted into the same memory."""

    def __init__(self, edges: Sequence[float] = DEFAULT_EDGES_ADU) -> None:
        self._edges = _checked_edges(edges)
        self._borders = np.array(self._edges, np.float64)
        self._tally: at.Tally | None = None
        self._full: CellErrors | None = None
        self._number = 0  # pixels in the tally

    def add(
        self,
        prediction: ArrayLike,
        prediction_error: ArrayLike,
        reference: ArrayLike,
        reference_error: ArrayLike,
        flagged: ArrayLike,
        *,
        class_signal: ArrayLike | None = None,
        total_error: ArrayLike | None = None,
    ) -> None:
        """Count a tile; parameters and errors as for `accumulate`."""
        given = [prediction, prediction_error, reference, reference_error]
        if class_signal is not None:
            given.append(class_signal)
        arrays = [np.asarray(item) for item in given]
        if total_error is not None:
            arrays.append(np.asarray(total_error))
        single = all(array.dtype == np.float32 for array in arrays)
        shape = arrays[2].shape
        dtype = np.float32 if single else np.float64
        flat = [_eight(_flat(array.astype(dtype, copy=False), shape), np.nan) for array in arrays]
        model, own, master, noise = flat[:4]
        signal = flat[4] if class_signal is not None else model
        both: NDArray[Any] = flat[-1] if total_error is not None else np.empty(0, dtype)
        flags = _eight(_flat(np.asarray(flagged, np.bool_), shape).view(np.uint8), 0)
        if self._number + flags.size > _MOST_A_TALLY:
            self._set_aside()
        if not flags.size:
            return
        if self._tally is None:
            self._tally = new_tally(2 * (len(self._edges) + 1))
        self._number += flags.size
        at.count_pixels(Planes(model, own, master, noise, flags, signal, both), self._borders, self._tally)

    def errors(self) -> CellErrors:
        """Of all that were counted so far."""
        self._set_aside()
        return CellErrors.empty(self._edges) if self._full is None else self._full

    def _set_aside(self) -> None:
        if self._tally is not None:
            found = errors_of(self._tally, self._edges)
            self._full = found if self._full is None else self._full + found
            self._tally, self._number = None, 0


def errors_of(tally: at.Tally, edges_adu: tuple[float, ...]) -> CellErrors:
    """What was counted."""
    limb, groups = int(at.LIMB), len(tally.counts)
    whole = tuple(tuple(a + limb * (b + limb * c) for a, b, c in row) for row in tally.sums.tolist())
    errors, pulls, relative = (h[:-1].reshape(groups, -1) for h in (tally.errors, tally.pulls, tally.relative))
    return CellErrors(edges_adu, tally.counts, whole, errors, pulls, relative)


def class_names(edges_adu: Sequence[float] = DEFAULT_EDGES_ADU) -> tuple[str, ...]:
    """Names of the signal classes as they stand in the summary's keys: ``below_300``, ``300_to_1000`` …"""
    text = [f"{edge:g}" if edge < 1e6 else f"{edge:.0f}" for edge in edges_adu]
    if not text:
        return ("all",)
    between = [f"{low}_to_{high}" for low, high in itertools.pairwise(text)]
    return (f"below_{text[0]}", *between, f"above_{text[-1]}")


def _checked_edges(edges_adu: Sequence[float]) -> tuple[float, ...]:
    edges = tuple(float(edge) for edge in edges_adu)
    if any(not math.isfinite(edge) for edge in edges) or any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"signal class borders must rise: {edges}")
    return edges


def _flat(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.ndim == 0:
        return np.full(math.prod(shape), array)
    if array.shape != shape:
        raise ValueError(f"shapes differ: {array.shape} and {shape}")
    return np.ascontiguousarray(array).reshape(-1)


def _eight(array: NDArray[Any], value: float) -> NDArray[Any]:
    """With as many pixels as a vector has, at least, if it has any."""
    missing = LANES - array.size
    return np.append(array, np.full(missing, value, array.dtype)) if 0 < array.size < LANES else array


def _added(one: tuple[tuple[int, ...], ...], other: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(operator.add, a, b)) for a, b in zip(one, other, strict=True))


def _mean(total: int, n: int) -> float:
    return total / (n * int(at.UNIT)) if n else math.nan


def _octave_edges(steps: int, bins: int) -> NDArray[np.floating]:
    octave, step = np.divmod(np.arange(bins + 1), steps)
    return np.ldexp(1.0 + step / steps, octave) - 1.0


_ERROR_EDGES: Final = np.concatenate([-_octave_edges(at.STEPS, at.HALF)[:0:-1], _octave_edges(at.STEPS, at.HALF)])
_RELATIVE_EDGES: Final = _octave_edges(at.RELATIVE_STEPS, at.RELATIVE_BINS)
_PULL_EDGES: Final = at.PULL_WIDTH * np.arange(
    -at.PULL_HALF - 1, at.PULL_HALF + 2
)  # its outermost bins hold what overflows


ERROR_BINS: Final = 2 * at.HALF
"""Of histograms of errors [ADU]."""


def median_of_errors(histogram: Histogram) -> float:
    """Median [ADU] of errors in such a histogram; NaN of an empty one."""
    return _quantile(histogram, _ERROR_EDGES, 0.5)


def _quantile(histogram: Histogram, edges: NDArray[np.floating], q: float) -> float:
    """The value below which a fraction q lies, interpolated inside its bin; NaN of an empty histogram."""
    total = int(histogram.sum())
    if total == 0:
        return math.nan
    below = np.concatenate([[0], np.cumsum(histogram)])
    target = q * total
    k = int(np.searchsorted(below, target, side="left")) - 1
    k = max(k, int(np.argmax(histogram > 0)))
    value = edges[k] + (edges[k + 1] - edges[k]) * (target - below[k]) / histogram[k]
    # a median that falls between two bins is the middle of the gap
    if below[k + 1] == target:
        after = np.flatnonzero(histogram[k + 1 :])
        if after.size:
            value = (value + edges[k + 1 + after[0]]) / 2.0
    return float(value)


def _central_half(histogram: Histogram, edges: NDArray[np.floating], centre: float) -> float:
    """Median absolute deviation from ``centre``: half of the entries lie nearer to it."""
    total = int(histogram.sum())
    if total == 0:
        return math.nan
    below = np.concatenate([[0.0], np.cumsum(histogram)])
    # as a function of the distance, what lies within it is straight between two edges
    distances = np.unique(np.abs(np.append(edges, centre) - centre))
    inside = np.interp(centre + distances, edges, below) - np.interp(centre - distances, edges, below)
    half = total / 2.0 * (1.0 - 1e-12)  # where nothing lies between two distances: the nearer, whatever is rounded
    k = max(int(np.searchsorted(inside, half)), 1)
    part = (half - inside[k - 1]) / (inside[k] - inside[k - 1])
    return float(distances[k - 1] + part * (distances[k] - distances[k - 1]))


def sparse(histogram: Histogram) -> Histogram:
    """The bins that hold something, and what they hold, (2, m)."""
    found = np.empty((2, histogram.size), np.int64)
    return found[:, : at.gather(histogram.reshape(-1), found)].copy()


def fill(histogram: Histogram, found: Histogram) -> None:
    """Add what `sparse` found; ValueError where it is not that, IndexError where it is of a larger histogram."""
    bins, values = np.asarray(found, np.int64)
    if bins.size and not (bins.min() >= 0 and bins.max() < histogram.size):
        raise IndexError(f"bins {bins.min()} to {bins.max()} are no part of a histogram of {histogram.size}")
    at.scatter(bins, values, histogram.reshape(-1))
