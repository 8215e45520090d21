"""Pixels that one look at all of their cells is not enough for, fitted again without some, in full vectors: those with
cells that disagree, and those of which a cell is to be predicted that one step from the fit of all cannot predict.

What comes out for a pixel is what the careful fit of single pixels (`fit_residuals.descend_robustly`,
`left_out.leave_cell_out`) gives, in the same sequence: a cell at a time is given up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit_kernel import Law, Pixels
from darkpipe.science.fit_loops import CLOSER, DONE, UNLIKE, fit_packed
from darkpipe.science.fit_packed import Order
from darkpipe.science.fitted import Fitted, nothing, predictions_alone
from darkpipe.science.flags import DQ
from darkpipe.science.jit import kernel
from darkpipe.science.packed import SINGLES

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Bools = NDArray[np.bool_]

REFITTED = 4096  # pixels that are fitted again at a time: what is gathered for them stays in the cache


@kernel
def _gather(array: NDArray[Any], pixels: NDArray[np.uint64], out: NDArray[Any]) -> None:
    """Some columns of a matrix, the last one repeated. Indices without a sign are not looked at one by one."""
    for k in range(out.shape[0]):
        given, taken = array[k], out[k]
        for c in range(pixels.size):
            taken[c] = given[pixels[c]]
        taken[pixels.size :] = taken[pixels.size - 1]


def _some_pixels(tile: Pixels, start: F8, pixels: I8) -> tuple[Pixels, F8]:
    """Some pixels of a tile and their start values; no fewer than are fitted at once, the last one repeated."""
    size = max(pixels.size, SINGLES)

    def some(array: NDArray[Any]) -> NDArray[Any]:
        out = np.empty((*array.shape[:-1], size), array.dtype)
        _gather(array.reshape(-1, array.shape[-1]), pixels.view(np.uint64), out.reshape(-1, size))
        return out

    return tile._replace(
        signal_adu=some(tile.signal_adu), frames=some(tile.frames), read_variance_adu2=some(tile.read_variance_adu2),
        pixel_relative_variance=some(tile.pixel_relative_variance), prior_mean=some(tile.prior_mean),
        group_variance_adu2=some(tile.group_variance_adu2), prior_precision=some(tile.prior_precision),
        pixel_law_variance_k2=some(tile.pixel_law_variance_k2),
    ), some(start)  # fmt: skip


def _fit_some(law: Law, tile: Pixels, order: Order, start: F8, wanted: Bools, whole: bool) -> tuple[Fitted, F4]:
    """`fit_packed` of a tile; what it gives, and what is left."""
    (n, pixels), groups = tile.frames.shape, tile.group_variance_adu2.shape[0]
    made = nothing(groups, pixels, wanted) if whole else predictions_alone(n, pixels)
    by_bias = made.by_bias.reshape(3 * groups, pixels) if whole else np.empty((0, pixels), np.float32)
    left = np.empty(pixels, np.float32)
    fit_packed(law, tile, order, start, wanted, whole, made, by_bias, left)
    return made, left


def fit_without_outliers(
    law: Law, tile: Pixels, order: Order, start: F8, wanted: Bools, whole: bool, out: Fitted, left: F4
) -> None:
    """Fit the pixels again in which a cell disagrees (`left` of `fit_packed`), without the one that does so most, until
    none does or no more may be given up.

    Predictions of the cells given up are those of the fit of the others if that is all that is asked for (not `whole`);
    else they are NaN, and left to be made.
    """
    pixels = np.flatnonzero(left >= UNLIKE)
    if not pixels.size:
        return
    worst = _cell_of(left[pixels])
    left[pixels] = CLOSER if whole else DONE  # what holds where none may be given up
    part, start = _some_pixels(tile, start, pixels)
    here = np.count_nonzero((part.frames > 0) & np.isfinite(part.signal_adu), axis=0)[: pixels.size]
    most = _most(here, out.dof[pixels])
    going, given_up = most > 0, 0
    while going.any():
        at = np.flatnonzero(going)
        if at.size < pixels.size:
            part, start = _some_pixels(part, start, at)
            pixels, worst, most = pixels[at], worst[at], most[at]
        given_up += 1
        part.frames[worst, np.arange(pixels.size)] = 0
        made, still = _fit_some(law, part, order, start, wanted, whole)
        still = still[: pixels.size]
        going = (still >= UNLIKE) & (most > given_up)
        ended = np.flatnonzero(~going)
        made.put(ended, out, pixels[ended])
        left[pixels[ended]] = np.where(still[ended] < UNLIKE, still[ended], DONE)
        if whole:
            _note(part.frames[:, ended], tile, wanted, given_up, pixels[ended], out, left)
        worst = _cell_of(still)


def _cell_of(left: F4) -> I8:
    """The cell that disagrees most, where `left` is UNLIKE or beyond."""
    return (left - np.float32(UNLIKE)).astype(np.int64)


def _most(cells: I8, spare: NDArray[np.int16]) -> I8:
    """`left_out.most_outliers` of pixels with so many cells and degrees of freedom."""
    return np.where(spare < 2, 0, np.maximum(1, cells // 8))


def _note(
    frames: NDArray[np.uint16], tile: Pixels, wanted: Bools, given_up: int, pixels: I8, out: Fitted, left: F4
) -> None:
    """Mark pixels of which so many cells were given up, those without `frames` (n, m); what these should read is left
    to be told by a fit that looks for outliers anew."""
    out.outliers[pixels] = given_up
    out.dq[pixels] |= np.uint16(DQ.OUTLIER)
    if not wanted.any():
        return
    for k in np.flatnonzero(wanted):
        gone = pixels[(frames[k] == 0) & (tile.frames[k].take(pixels) > 0)]
        out.held_out_adu[k, gone] = out.held_out_variance_adu2[k, gone] = out.held_out_common_adu2[k, gone] = np.nan
    left[pixels[left[pixels] == DONE]] = CLOSER


@kernel
def _unpredicted(held: F4, frames: NDArray[np.uint16], pixels: I8) -> I8:
    """Those of the pixels that have a cell and no prediction of it."""
    out, m = np.empty(pixels.size, np.int64), 0
    for i in pixels:
        if math.isnan(held[i]) and frames[i] > 0:
            out[m] = i
            m += 1
    return out[:m]


@kernel
def _keep(made: Fitted, still: F4, k: int, pixels: I8, out: Fitted, left: F4) -> None:
    """Write the predictions of cell k that are made; the other pixels are left as CLOSER."""
    for c in range(pixels.size):
        i = pixels[c]
        if still[c] == DONE:
            out.held_out_adu[k, i] = made.held_out_adu[k, c]
            out.held_out_variance_adu2[k, i] = made.held_out_variance_adu2[k, c]
            out.held_out_common_adu2[k, i] = made.held_out_common_adu2[k, c]
        else:
            left[i] = CLOSER


def fit_without_cells(law: Law, tile: Pixels, order: Order, wanted: Bools, out: Fitted, left: F4) -> None:
    """Predict the wanted cells that have no prediction yet, of pixels that are CLOSER, by the fit without them; those
    where that does not do stay so."""
    closer = np.flatnonzero((left == CLOSER) & (out.dof + out.outliers > 0)) if wanted.any() else np.empty(0, np.int64)
    left[closer] = DONE
    for k in map(int, np.flatnonzero(wanted)):
        without, alone = _unpredicted(out.held_out_adu[k], tile.frames[k], closer), np.arange(wanted.size) == k
        for first in range(0, without.size, REFITTED):
            pixels = without[first : first + REFITTED]
            rest, start = _some_pixels(tile, out.parameters, pixels)
            rest.frames[k] = 0
            made, still = _fit_some(law, rest, order, start, alone, False)
            fit_without_outliers(law, rest, order, start, alone, False, made, still)
            _keep(made, still, k, pixels, out, left)
