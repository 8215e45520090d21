"""Fit of a dark model to tiles of masters, and its leave-one-cell-out predictions.

A tile is a block of pixels (any shape flattened to P) of n cells. The noise model of a master of `count` frames is

    Var(S) = R²/count + max(S,0)/(g·count) + relative²·S² + extra          [ADU²]

with S the model's signal; the bias subtracted from it adds an error that all cells of the same bias share, and the
temperature one that all cells of the same station share.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_again import fit_without_cells, fit_without_outliers
from darkpipe.science.fit_kernel import Law, Pixels
from darkpipe.science.fit_loops import CAREFUL, CLOSER, fit_packed, fit_singly, residuals_of_tile
from darkpipe.science.fit_packed import Order, order_of
from darkpipe.science.fitted import Fitted, nothing
from darkpipe.science.packed import SINGLES

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

__all__ = ["Cells", "Fitted", "Prior", "Problem", "Stations", "fit_tile", "residuals"]


class Stations(NamedTuple):
    """The temperatures that cells were taken at: which each cell has (n,), and the square of the error of each (S,)
    [K²], which its cells have in common."""

    of_cell: NDArray[np.int64]
    variance_k2: F8


@dataclass(frozen=True)
class Cells:
    """The masters of a tile and what is known of their noise.

    signal_adu : (n, P) float32, NaN where a cell has no value for a pixel.
    count : (n, P) uint16, frames kept in each mean; 0: the cell is absent for the pixel.
    read_variance_adu2 : (P,) float32, R² of a single frame; read_scale : (n,) factor to it in each cell.
    gain_e_per_adu : conversion gain.
    relative_variance : (n,) square of the multiplicative error of each cell (temperature jitter and the like);
    pixel_relative_variance : (P,) of each pixel in all of its cells, and pixel_law_variance_k2 : (P,) that of its law
    of temperature from one station to the next [K²], for what the model does not describe; None: none.
    extra_variance_adu2 : (n,) additive variance of each cell (pedestal drift).
    group : (n,) int, the bias that was subtracted from each cell.
    group_variance_adu2 : (G, P) float32, variance of each of those biases; inf: none was there, the level is free.
    stations : the temperatures the cells were taken at, with their errors; None: they have none.
    group_drift_adu2 : (G,) the part of the biases' variance that all pixels share (their pedestal drift); None: none.
    """

    signal_adu: F4
    count: U2
    read_variance_adu2: F4
    gain_e_per_adu: float
    relative_variance: F8
    extra_variance_adu2: F8
    group: NDArray[np.int64]
    group_variance_adu2: F4
    stations: Stations | None = None
    read_scale: F8 | None = None
    pixel_relative_variance: F4 | None = None
    pixel_law_variance_k2: F4 | None = None
    group_drift_adu2: F8 | None = None

    @property
    def free_level(self) -> NDArray[np.bool_]:
        """(P,) whether the level of some cell of a pixel is free, for want of a bias."""
        return np.asarray(np.isinf(self.group_variance_adu2).any(axis=0), np.bool_)

    def noise_variance(self, k: int, signal_adu: F4) -> F4:
        """(P,) variance of the master of cell k at this signal: read and shot noise of the frames kept [ADU²]."""
        read = self.read_variance_adu2 if self.read_scale is None else self.read_variance_adu2 * self.read_scale[k]
        shot = np.maximum(signal_adu, 0) / np.float32(self.gain_e_per_adu)
        return np.asarray((read + shot) / np.maximum(self.count[k], 1), np.float32)

    @property
    def shared_covariance(self) -> F8:
        """(n, n) covariance of the masters of a cell by errors that all pixels share [ADU²]: drift of the pedestal, and
        that of the biases that were subtracted."""
        own = np.diag(self.extra_variance_adu2.astype(np.float64))
        if self.group_drift_adu2 is None:
            return own
        return own + np.where(self.group[:, None] == self.group, self.group_drift_adu2[self.group], 0.0)

    def with_relative_error(self, relative: float) -> Cells:
        """The same cells, each with this multiplicative error."""
        return replace(self, relative_variance=np.full(self.relative_variance.size, relative**2))

    def joined(self, others: Sequence[Cells]) -> Cells:
        """The same cells over more pixels; multiplicative errors of pixels are not carried over."""
        tiles = [self, *others]
        return replace(
            self,
            signal_adu=np.concatenate([t.signal_adu for t in tiles], axis=1),
            count=np.concatenate([t.count for t in tiles], axis=1),
            read_variance_adu2=np.concatenate([t.read_variance_adu2 for t in tiles]),
            group_variance_adu2=np.concatenate([t.group_variance_adu2 for t in tiles], axis=1),
            pixel_relative_variance=None,
            pixel_law_variance_k2=None,
        )

    def at(self, pixels: NDArray[np.int64]) -> Cells:
        """The same cells at some of the pixels."""
        return replace(
            self,
            signal_adu=np.take(self.signal_adu, pixels, axis=1),
            count=np.take(self.count, pixels, axis=1),
            read_variance_adu2=self.read_variance_adu2[pixels],
            group_variance_adu2=np.take(self.group_variance_adu2, pixels, axis=1),
            pixel_relative_variance=_some(self.pixel_relative_variance, pixels),
            pixel_law_variance_k2=_some(self.pixel_law_variance_k2, pixels),
        )


def _some(values: F4 | None, pixels: NDArray[np.int64]) -> F4 | None:
    return None if values is None else values[pixels]


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of each pixel's parameters: mean (3, P) and precision (6, P) as 00, 01, 02, 11, 12, 22.

    It must make every shape parameter determined, however weakly.
    twice (6, P) : what the mean and the pixel's own data have in common: the covariance of their gradients and its
    transpose; None: nothing.
    """

    mean: F8
    precision: F8
    twice: F8 | None = None

    def at(self, pixels: NDArray[np.int64]) -> Prior:
        """That of some of the pixels."""
        twice = None if self.twice is None else np.take(self.twice, pixels, axis=1)
        return Prior(np.take(self.mean, pixels, axis=1), np.take(self.precision, pixels, axis=1), twice)


@dataclass(frozen=True)
class Problem:
    """What is fitted: the family, the design (3, n) and its derivative by temperature, which parameters are free (3,)
    and their domain."""

    family: int
    design: F8
    warming: F8
    free: NDArray[np.bool_]
    lower: F8
    upper: F8

    @property
    def law(self) -> Law:
        return Law(self.family, self.design, self.warming, self.free, self.lower, self.upper)


class _Frozen:
    """A small array as a key: alike if type, shape and content are."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array.copy()
        self._key = (array.dtype, array.shape, array.tobytes())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and self._key == other._key


def _pixels(cells: Cells, prior: Prior) -> Pixels:
    n, pixels = cells.signal_adu.shape
    none = np.zeros(pixels, np.float32)
    relative = none if cells.pixel_relative_variance is None else cells.pixel_relative_variance
    law = none if cells.pixel_law_variance_k2 is None else cells.pixel_law_variance_k2
    scale = np.ones(n) if cells.read_scale is None else cells.read_scale
    stations = cells.stations
    if stations is None or not (np.any(law > 0) or np.any(stations.variance_k2 > 0)):
        stations = Stations(np.zeros(n, np.int64), np.zeros(1 if np.any(law > 0) else 0))
    whole = np.ascontiguousarray
    return Pixels(
        whole(cells.signal_adu), whole(cells.count), whole(cells.read_variance_adu2), scale, 1.0 / cells.gain_e_per_adu,
        cells.relative_variance, whole(relative), cells.extra_variance_adu2, cells.group,
        whole(cells.group_variance_adu2), stations.of_cell, stations.variance_k2, whole(law), whole(prior.mean),
        whole(prior.precision),
    )  # fmt: skip


@functools.lru_cache(maxsize=16)
def _order(groups: int, group: _Frozen, station: _Frozen, design: _Frozen) -> Order:
    """`order_of`, which is the same for all tiles of a unit."""
    return order_of(group.array, groups, station.array, design.array)


def fit_tile(
    problem: Problem, cells: Cells, prior: Prior, start: F8, leave_out: NDArray[np.bool_] | None = None
) -> Fitted:
    """Fit every pixel of a tile, and predict cells from the others.

    Parameters
    ----------
    problem : model family and design.
    cells : masters and noise.
    prior : prior of each pixel.
    start : (3, P) start values.
    leave_out : (n,) which cells are to be predicted by the fit of the others; None: none.

    Returns
    -------
    Fitted
        NaN and `DQ.FIT_FAILED` where a pixel has fewer cells than unknowns or the fit broke down.
    """
    n, pixels = cells.signal_adu.shape
    wanted = np.zeros(n, np.bool_) if leave_out is None else np.asarray(leave_out, np.bool_)
    if pixels == 0:
        return _whole(nothing(cells.group_variance_adu2.shape[0], 0, wanted), n)
    if pixels < SINGLES:
        some = np.minimum(np.arange(SINGLES), pixels - 1)
        return fit_tile(problem, cells.at(some), prior.at(some), start[:, some], leave_out).first(pixels)
    tile = _pixels(cells, prior)
    out = nothing(cells.group_variance_adu2.shape[0], pixels, wanted)
    left = np.empty(pixels, np.float32)
    order = _order(cells.group_variance_adu2.shape[0], *map(_Frozen, (cells.group, tile.station, problem.design)))
    law, start = problem.law, np.ascontiguousarray(start)
    fit_packed(law, tile, order, start, wanted, True, out, out.by_bias.reshape(-1, pixels), left)
    fit_without_outliers(law, tile, order, out.parameters, wanted, True, out, left)
    fit_without_cells(law, tile, order, wanted, out, left)
    careful = (left == CAREFUL) | ((left == CLOSER) & (out.outliers > 0))
    _fit_carefully(law, tile, start, wanted, np.flatnonzero(careful), out)
    if wanted.any():
        fit_singly(law, tile, start, wanted, np.flatnonzero((left == CLOSER) & ~careful), True, out)
    return _whole(out, n)


def _fit_carefully(
    law: Law, tile: Pixels, start: F8, wanted: NDArray[np.bool_], pixels: NDArray[np.int64], out: Fitted
) -> None:
    """Fit pixels one by one, whatever was written of them."""
    if pixels.size:
        for array in out:
            array[..., pixels] = np.nan if array.dtype.kind == "f" else 0
        fit_singly(law, tile, start, wanted, pixels, False, out)


def _whole(out: Fitted, cells: int) -> Fitted:
    """The same, with predictions for all cells: NaN where none was wanted."""
    if out.held_out_adu.shape[0]:
        return out
    none = np.broadcast_to(np.float32(np.nan), (cells, out.chi2.size))
    return out._replace(held_out_adu=none, held_out_variance_adu2=none, held_out_common_adu2=none)


def residuals(problem: Problem, cells: Cells, prior: Prior, parameters: F8) -> tuple[F4, F4, F4, F4]:
    """Deletion residual of each cell [ADU], its variance by noise and bias [ADU²], what an error of 1 K of the pixel's
    own law at each station would add to it [ADU²/K²], and what the errors of the temperatures do [ADU²]; all (n, P),
    NaN where there is none."""
    out = tuple(np.full(cells.signal_adu.shape, np.float32(np.nan)) for _ in range(4))
    residuals_of_tile(problem.law, _pixels(cells, prior), parameters, *out)
    return out[0], out[1], out[2], out[3]
