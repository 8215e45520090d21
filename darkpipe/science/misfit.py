"""What a formula misses of the pixels it is fitted to, found from the residuals of well measured cells.

Three parts, which act differently on a prediction:

* a relative error of any cell: temperature that wanders from frame to frame, a response that is not quite linear;
* an error of a pixel's law of temperature, alike in all cells of a station: defects have energies of their own;
* the same in common to all pixels, beyond what the thermometers may be off: the formula itself.

The first two are found class by class of brightness from the spread of residuals about the median of their cell, the
third from those medians, which no spread over pixels shows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Prior, Problem, fit_tile, residuals
from darkpipe.science.jit import kernel
from darkpipe.science.noise import robust_sigma
from darkpipe.science.packed import LANES, larger, load, magnitude, splat, store, where_above

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]

PRECISE = 30.0  # signal-to-noise of cells that tell a misfit
BRIGHTNESS_ADU = (0.0, 1000.0, 3000.0, 10_000.0, np.inf)  # classes of pixels by their brightest cell
FEWEST = 30  # residuals that tell the spread of a cell
FEWEST_OF_CLASS = 200
RELATIVE = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
FINER = (0.65, 0.8, 1.25, 1.5)  # of the best of these
LAW_K = (0.0, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.4, 0.6, 1.0)
MAD_VARIANCE = 1.36  # times 1/n: variance of the logarithm of a spread from the median absolute deviation
WORTH = 4.0  # a term must lower -2 ln L by more than this
LARGEST = 3.4028234663852886e38  # of float32: what an infinite signal counts as


class Misfit(NamedTuple):
    """What a formula misses of pixels of about one signal (in their brightest cell, ADU): relative error of any cell,
    and the error of their law of temperature from one station to the next, as if its temperature were off [K]."""

    signal_adu: float
    relative: float
    law_k: float


@dataclass(frozen=True)
class Misfits:
    """Misfits by signal, in rising order, and what all pixels together are off at a station, beyond its thermometer."""

    misfits: tuple[Misfit, ...] = ()
    common_law_k: float = 0.0


class _Medians(NamedTuple):
    """Of the cells of one class: median signal and residual, the residual's statistical error, and what the errors of
    the thermometers and 1 K of the law do to it, (m,) each [ADU]."""

    signal: F8
    residual: F8
    statistical: F8
    by_thermometer: F8
    by_law: F8


def find_misfits(problem: Problem, cells: Cells, start: Callable[[Cells], tuple[Prior, F8]]) -> Misfits:
    """Misfits of a sample of pixels.

    Parameters
    ----------
    cells : masters of the sample, (n, P), with their stations. start : prior and start values of such cells.
    """
    precise = signal_to_noise(cells) > PRECISE
    top = brightest_signal(cells)
    found, medians = [], []
    for low, high in itertools.pairwise(BRIGHTNESS_ADU):
        members = np.flatnonzero((top >= low) & (top < high) & precise.any(axis=0))
        if precise[:, members].sum() < FEWEST_OF_CLASS:
            continue
        relative, law_k, middle = _of_class(problem, cells.at(members), start, precise[:, members])
        found.append(Misfit(float(np.median(top[members])), relative, law_k))
        medians.append(middle)
    return Misfits(tuple(found), _common_law(medians) if medians and cells.stations is not None else 0.0)


def _of_class(
    problem: Problem, cells: Cells, start: Callable[[Cells], tuple[Prior, F8]], precise: NDArray[np.bool_]
) -> tuple[float, float, _Medians]:
    """Relative error and error of the law [K] that bring the spreads of the cells' residuals nearest to 1."""
    prior, first = start(cells)
    laws = LAW_K if cells.stations is not None else (0.0,)
    tried: dict[float, tuple[float, float, _Medians]] = {}

    def best_law(relative: float) -> float:
        own = np.full(cells.signal_adu.shape[1], relative**2, np.float32)
        weighted = replace(cells, pixel_relative_variance=own)
        fitted = fit_tile(problem, weighted, prior, first)
        residual, variance, by_law, common = residuals(problem, weighted, prior, fitted.parameters)
        use = precise & np.isfinite(residual)
        with np.errstate(invalid="ignore"):
            costs = [_spread_cost(residual / np.sqrt(variance + law**2 * by_law), use) for law in laws]
        costs = [c + WORTH * ((relative > 0) + (law > 0)) for c, law in zip(costs, laws, strict=True)]
        at = int(np.argmin(costs))
        tried[relative] = (costs[at], laws[at], _medians(cells.signal_adu, residual, common, by_law, use))
        return costs[at]

    coarse = min(RELATIVE, key=best_law)
    finer = [coarse * f for f in FINER if coarse > 0]
    best = min([coarse, *finer], key=lambda r: tried[r][0] if r in tried else best_law(r))
    return best, tried[best][1], tried[best][2]


def _spread_cost(z: NDArray[np.floating], use: NDArray[np.bool_]) -> float:
    """How far the spreads of the cells are from 1, in units of what chance makes of them (chi²)."""
    cost = 0.0
    for row, good in zip(z, use, strict=True):
        n = int(good.sum())
        if n >= FEWEST:
            cost += n / MAD_VARIANCE * float(np.log(max(float(robust_sigma(row[good])), 1e-3))) ** 2
    return cost


def _medians(signal: F4, residual: F4, common: F4, by_law: F4, use: NDArray[np.bool_]) -> _Medians:
    rows = []
    for s, r, c, h, good in zip(signal, residual, common, by_law, use, strict=True):
        n = int(good.sum())
        if n >= FEWEST:
            statistical = 1.2533 * float(robust_sigma(r[good])) / np.sqrt(n)
            heats = (np.median(np.sqrt(c[good])), np.median(np.sqrt(h[good])))
            rows.append((np.median(s[good]), np.median(r[good]), statistical, *heats))
    return _Medians(*np.array(rows, np.float64).reshape(-1, 5).T)


def _common_law(classes: list[_Medians]) -> float:
    """The error of the law in common [K] that makes the medians of the cells most likely, beside a relative error of
    each cell; few medians decide, so with the long tails of Student's t of 4 degrees of freedom."""
    signal, residual, statistical, thermometer, law = (np.concatenate(parts) for parts in zip(*classes, strict=True))
    if residual.size < 4:
        return 0.0
    costs = {}
    for law_k in LAW_K:
        for relative in (*RELATIVE, *(1.4 * r for r in RELATIVE[1:])):
            variance = statistical**2 + thermometer**2 + (law_k * law) ** 2 + (relative * signal) ** 2
            costs[law_k, relative] = float((np.log(variance) + 5.0 * np.log1p(residual**2 / (4.0 * variance))).sum())
            costs[law_k, relative] += WORTH * ((law_k > 0) + (relative > 0))
    return min(costs, key=lambda c: costs[c])[0]


def signal_to_noise(cells: Cells) -> F4:
    """(n, P) of each master; NaN or 0 where it is absent."""
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = [
            np.where(n > 0, np.sqrt(cells.noise_variance(k, s)), np.inf)
            for k, (s, n) in enumerate(zip(cells.signal_adu, cells.count, strict=True))
        ]
        return np.asarray(cells.signal_adu / np.stack(noise), np.float32)


def brightest_signal(cells: Cells) -> F4:
    """(P,) signal of each pixel in its brightest cell [ADU]; 0 where it has none."""
    pixels = cells.signal_adu.shape[1]
    if 0 < pixels < LANES:
        return brightest_signal(cells.at(np.minimum(np.arange(LANES), pixels - 1)))[:pixels]
    out = np.empty(pixels, np.float32)
    _brightest(np.ascontiguousarray(cells.signal_adu), np.ascontiguousarray(cells.count), out)
    return out


@kernel
def _brightest(signal: F4, frames: NDArray[np.uint16], out: F4) -> None:
    for begin in range(0, out.size, LANES):
        i = min(begin, out.size - LANES)
        top = splat(-math.inf)
        for k in range(signal.shape[0]):
            y = load(signal, k, i)
            known = where_above(math.inf, magnitude(y), y, 0.0)
            known = where_above(-LARGEST, y, -LARGEST, where_above(y, LARGEST, LARGEST, known))
            top = larger(where_above(load(frames, k, i), 0.0, known, 0.0), top)
        store(out, 0, i, top)
