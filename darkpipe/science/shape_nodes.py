"""What pixels of a signal level tell about the shape of one of them, found from a sample: nodes of a `ShapePrior`.

Pixels of a sample are sorted by their level into nodes. Of each node the mean shape and the scatter of shapes beyond
the errors of measurement are found by maximum marginal likelihood; the mean is that of all pixels together, so it is
well known even where none of them can tell. The scatter takes all nodes together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Problem
from darkpipe.science.models.families import EXPONENTIAL
from darkpipe.science.shape_prior import Node, ShapePrior
from darkpipe.science.signal_level import Measured, inverse, measure, shape_at, shape_slots

F8 = NDArray[np.float64]

FAINT = 3.0  # levels below this many of their errors make one node
NODE_WIDTH = 0.15  # of the others, in log10
FEWEST = 100  # pixels of a node
MOST = 4000
TOLD = 5.0  # signal-to-noise of a level from which the pixels of a node may tell their scatter
SYSTEMATIC = 0.03  # of the variance of measurement: by so much the noise model may be wrong beyond what chi² shows
LEAST_NOISE = 0.1  # of what the noise model says
TAIL = 5.0  # scatter of the few pixels of other physics, in units of that of the rest
TAILS = (0.02, 100.0)  # their part of the pixels of a node before these are looked at, and of how many pixels that is
MOSTLY = 0.7  # part of the pixels of a node that are none of its tails, at least
LOST = 25.0  # squared distance from the mean beyond which a pixel says nothing about it
MISFIT_SIGMAS = 6.0  # chi² beyond this many of its own sigma: no shape describes the pixel
PASSES = 8  # of linearising about the node's mean again
STEPS = 60  # of the scatter's iteration
REACH = 10.0  # typical scatters that the mean of a node may lie from that of the next brighter
SETTLED = 1e-4  # square of a step of the mean in its own errors
TYPICAL_SHAPE = np.array([0.015, 0.006])  # scatter of gamma and B [1/K] of pixels of a level
TYPICAL_SHARE = np.array([0.12])  # and of the share of generation
TYPICAL_ERROR = 0.7  # 1 sigma of the square of a typical scatter, relative
LEAST = 0.01  # of the square of a typical scatter
ALIKE = 0.95  # largest correlation of two parameters


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


class _Found(NamedTuple):
    """What the pixels of a node tell: mean (m,) and covariance of their shapes, both with their errors.

    own : (m, m) covariance of the mean by the noise of the pixels. shared : (m, n) what n errors that all pixels share
    do to it, as by `_shared_effect`. error : (m, m) 1 sigma of each element of the scatter, infinite where it cannot be
    told.
    """

    level: float
    pixels: int
    mean: F8
    own: F8
    shared: F8
    scatter: F8
    error: F8


def estimate_shape_prior(problem: Problem, cells: Cells, start: Sequence[float]) -> ShapePrior | None:
    """Mean and scatter of the shape by level, from a sample of pixels; None where the model has no shape that could
    have a prior, or the sample is too small.

    Parameters
    ----------
    cells : masters of the sample, with their multiplicative error. start : (m,) the population's shape.
    """
    if not shape_slots(problem):
        return None
    theta = np.array(start, float)
    found = measure(shape_at(problem, theta), cells)
    usable = np.flatnonzero(np.isfinite(found.chi2))
    if usable.size < FEWEST:
        return None
    error = float(np.median(found.level_information[usable] ** -0.5))
    typical = TYPICAL_SHARE if problem.family != EXPONENTIAL else TYPICAL_SHAPE[problem.free[1:]]
    nodes: list[_Found] = []
    for members in _members(found.level[usable], error, usable):
        begin = nodes[-1].mean if nodes else theta
        nodes.append(_node(problem, cells.at(members), found.level[members], begin, error, typical))
    return ShapePrior(_floats(theta), _joined(nodes, theta, typical))


def _members(level: F8, error: float, pixels: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Pixels of each node, from the brightest to the faintest: `FEWEST` of them and `NODE_WIDTH` wide, or more."""
    order = np.argsort(-level, kind="stable")
    logs = np.log10(np.maximum(level[order], FAINT * error))
    bright = int(np.count_nonzero(level >= FAINT * error))
    first = 0
    while first < level.size:
        after = first + FEWEST
        if after < bright:
            after = max(after, int(np.searchsorted(-logs[:bright], NODE_WIDTH - logs[first])))
        else:
            after = bright if bright - first >= FEWEST and level.size - bright >= FEWEST else level.size
        if level.size - after < FEWEST:
            after = level.size
        members = np.sort(pixels[order[first:after]])
        yield members[:: -(-members.size // MOST)]
        first = after


def _node(problem: Problem, cells: Cells, levels: F8, begin: F8, error: float, typical: F8) -> _Found:
    """Mean and scatter of the shape of these pixels, which are all of about one level (`levels`, by which they were
    chosen, with this typical error)."""
    square = float(np.mean(levels**2))
    signal = max(square - error**2, 3.0 * np.sqrt(2.0 / levels.size) * error**2)
    tells = bool(np.quantile(levels, 0.1) > TOLD * error)
    level = float(np.median(levels)) if np.median(levels) > FAINT * error else float(np.sqrt(signal))
    known = np.maximum(levels, level if level < FAINT * error else 0.0)
    mean = begin.copy()
    for _ in range(PASSES):
        found = measure(shape_at(problem, mean), cells, known)
        shift, own, scatter, error_of_scatter = _moments(found, tells)
        # noise in the levels adds to their square, and nothing to what they tell of the mean
        mean = np.clip(mean + shift * min(square / signal, 2.0), begin - REACH * typical, begin + REACH * typical)
        if np.all(shift**2 < SETTLED * np.diagonal(own)):
            break
    shared = _shared_effect(problem, cells, mean, level)
    return _Found(level, levels.size, mean, own * (square / signal) ** 2, shared, scatter, error_of_scatter)


def _shared_effect(problem: Problem, cells: Cells, mean: F8, level: float) -> F8:
    """(m, n) what n independent errors of 1 sigma that all pixels of a cell share (drift of the pedestal, and of its
    bias) do to a node's mean: no number of pixels averages them away. The errors are the same in all nodes. Found from
    what 1 ADU in each cell does to a pixel of this level."""
    n = cells.extra_variance_adu2.size
    shape = shape_at(problem, mean)
    whole = int(np.argmax((cells.count > 0).sum(axis=0)))
    signal = np.repeat((level * shape.signal)[:, None], n + 1, axis=1)
    signal[:, 1:] += np.eye(n)
    one = replace(cells.at(np.full(n + 1, whole)), signal_adu=signal.astype(np.float32))
    departure = measure(shape, one, np.full(n + 1, level)).departure
    effect = np.nan_to_num((departure[:, 1:] - departure[:, :1]) / level)
    values, vectors = np.linalg.eigh(cells.shared_covariance)
    return np.asarray(effect @ (vectors * np.sqrt(np.maximum(values, 0.0))))


def _moments(found: Measured, tells: bool) -> tuple[F8, F8, F8, F8]:
    """Mean departure (m,) of the shapes, its covariance, their own covariance and the 1 sigma of its elements (zero
    and infinite unless `tells`), (m, m) all three.

    Of a pixel of level L, L e is measured with covariance H⁻¹, so that it scatters about L mu with L² Sigma + H⁻¹. A
    few pixels of other physics scatter `TAIL` times as far: each pixel counts with the odds that it is none of them
    (a contaminated normal distribution, Tukey 1960). Sigma by scoring, the odds by expectation. Noise in L makes the
    step to the mean too short, but it is zero at the right mean only: the caller repeats.
    """
    # what no shape describes is no member; where the shape is still far from the mean, all are beyond their noise
    allowed = found.dof + MISFIT_SIGMAS * np.sqrt(2.0 * np.maximum(found.dof, 1.0))
    good = found.chi2 < np.maximum(allowed, 4.0 * np.nanmedian(found.chi2))
    level, departure = found.level[good], found.departure[:, good]
    noise = inverse(found.information[:, :, good]) * _noise_scale(found.chi2[good], found.dof[good])
    m = departure.shape[0]
    mean, scatter, odds, tails = np.zeros(m), np.zeros((m, m)), np.ones(level.size), TAILS[0]
    error = np.full((m, m), np.inf)
    measured = np.median(noise / level**2, axis=2)
    if tells:
        scatter = np.diag(np.median(np.abs(departure / level), axis=1) ** 2 * 2.2)  # (1 / 0.6745)²: all of the spread
    for _ in range(STEPS):
        before = scatter
        told = inverse(scatter[:, :, None] * level**2 + noise)
        residual = departure - mean[:, None] * level
        distance = np.einsum("ap,abp,bp->p", residual, told, residual)
        if tells:
            wide = inverse(TAIL**2 * scatter[:, :, None] * level**2 + noise)
            odds = _odds(told, wide, distance, np.einsum("ap,abp,bp->p", residual, wide, residual), tails)
            odds = odds if odds.mean() > MOSTLY else np.ones(level.size)  # tails are of few pixels
            tails = float((TAILS[0] * TAILS[1] + (1.0 - odds).sum()) / (TAILS[1] + level.size))
        counts = odds * (distance < max(LOST, 4.0 * float(np.median(distance))))
        mean_covariance = np.linalg.inv(np.einsum("abp,p->ab", told, level**2 * counts))
        step = mean_covariance @ np.einsum("abp,bp,p->a", told, residual, level * counts)
        mean = mean + step
        if tells:
            scatter, error = _scatter(told, residual, noise, level, counts, 1e-3 * np.diagonal(measured))
        if np.all(step**2 < SETTLED * np.diagonal(mean_covariance)) and np.allclose(before, scatter, rtol=1e-3, atol=0):
            break
    return mean, mean_covariance, scatter, np.hypot(error, SYSTEMATIC * _sizes(measured))


def _noise_scale(chi2: F8, dof: F8) -> float:
    """By how much the squares of what no shape explains exceed those of the noise model, of the typical pixel."""
    expected = np.median(dof) * (1.0 - 2.0 / (9.0 * max(float(np.median(dof)), 1.0))) ** 3  # Wilson and Hilferty
    return max(float(np.median(chi2) / expected), LEAST_NOISE) if expected > 0 else 1.0


def _odds(told: F8, wide: F8, distance: F8, far: F8, tails: float) -> F8:
    """(P,) odds that a pixel is none of the tails, from the inverse covariances of both and the squared distances."""
    volume = 0.5 * np.log(np.maximum(_determinant(wide) / _determinant(told), np.finfo(float).tiny))
    exponent = np.clip(volume + 0.5 * (distance - far), -500.0, 500.0)
    return np.asarray(1.0 / (1.0 + tails / (1.0 - tails) * np.exp(exponent)))


def _determinant(matrix: F8) -> F8:
    return np.asarray(matrix[0, 0] if matrix.shape[0] == 1 else matrix[0, 0] * matrix[1, 1] - matrix[0, 1] ** 2)


def _sizes(matrix: F8) -> F8:
    """(m, m) square roots of the products of the diagonal: what an element of a covariance is compared with."""
    sigma = np.sqrt(np.diagonal(matrix))
    return np.asarray(np.outer(sigma, sigma))


def _scatter(told: F8, residual: F8, noise: F8, level: F8, weight: F8, least: F8) -> tuple[F8, F8]:
    """One scoring step of Sigma (m, m): squares of residuals less those of the noise, regressed on the square of the
    level, weighted with the inverse of their own covariance; no variance below `least` (m,). And the 1 sigma of its
    elements, from Fisher's information."""
    m = least.size
    used = weight > 0
    told, level, weight = told[:, :, used], level[used], weight[used]
    excess = np.einsum("ap,bp->abp", residual[:, used], residual[:, used]) - noise[:, :, used]
    pairs = [(a, b) for a in range(m) for b in range(a, m)]
    across = np.einsum("abp,bcp,cdp->adp", told, excess, told) * level**2 * weight
    both = told * level**2
    matrix, vector = np.empty((len(pairs), len(pairs))), np.empty(len(pairs))
    for r, (a, b) in enumerate(pairs):
        vector[r] = across[a, b].sum()
        for c, (d, e) in enumerate(pairs):
            product = both[a, d] * both[b, e] + (both[a, e] * both[b, d] if d != e else 0.0)
            matrix[r, c] = (product * weight).sum()
    solved = np.linalg.solve(matrix, vector)
    information = matrix * np.array([0.5 if a == b else 1.0 for a, b in pairs])[:, None]
    sigma = np.sqrt(np.maximum(np.diagonal(np.linalg.inv(information)), 0.0))
    scatter, error = np.zeros((m, m)), np.zeros((m, m))
    for value, its, (a, b) in zip(solved, sigma, pairs, strict=True):
        scatter[a, b] = scatter[b, a] = value
        error[a, b] = error[b, a] = its
    unit = np.sqrt(least)
    values, vectors = np.linalg.eigh(scatter / np.outer(unit, unit))
    return np.asarray((vectors * np.maximum(values, 1.0)) @ vectors.T * np.outer(unit, unit)), error


def _joined(found: Sequence[_Found], start: F8, typical: F8) -> tuple[Node, ...]:
    """Nodes of what was found, given from the brightest to the faintest.

    Errors that all pixels share are the same in all nodes, so that no joining averages them away. A mean is combined
    with that of the next brighter node, which holds to within one scatter for a factor e in level, or as far as the
    means of the brighter nodes move: a node without signal has the mean of its neighbour.
    """
    nodes: list[Node] = []
    level, mean, alone = found[0].level, start, np.diag((REACH * typical) ** 2)
    effect = np.zeros_like(found[0].shared)
    for f, moved, scatter in zip(found, _paces(found), _scatters(found, typical), strict=True):
        alone = alone + np.diag(np.maximum(np.diagonal(scatter), moved)) * abs(np.log(level / f.level))
        expected = alone + effect @ effect.T
        gain = expected @ np.linalg.inv(expected + f.own + f.shared @ f.shared.T)
        kept = np.eye(mean.size) - gain
        alone = kept @ alone @ kept.T + gain @ f.own @ gain.T
        level, mean, effect = f.level, mean + gain @ (f.mean - mean), kept @ effect + gain @ f.shared
        common = effect @ effect.T
        half = np.triu_indices(mean.size)
        nodes.append(
            Node(level, f.pixels, _floats(mean), _floats((scatter + alone + common)[half]), _floats(common[half]))
        )
    return tuple(sorted(nodes, key=lambda n: n.level))


def _scatters(found: Sequence[_Found], typical: F8) -> Iterator[F8]:
    """The scatter (m, m) of each node: the mean of what all nodes tell and of the typical one, weighted with their
    errors. That of another node holds to within itself for a factor e in level (hot pixels, decades brighter, may be
    more or less alike than faint ones)."""
    usual = np.outer(typical, typical)
    values = np.array([np.diag(typical**2), *(f.scatter for f in found)])
    errors = np.array([TYPICAL_ERROR * usual, *(f.error for f in found)])
    sizes = np.array([usual, *(_sizes(f.scatter) if np.isfinite(f.error).all() else usual for f in found)])
    logs = np.log([f.level for f in found])
    for own, size in zip(logs, sizes[1:], strict=True):
        away = np.abs(np.concatenate([[0.0], logs - own]))[:, None, None] * np.maximum(sizes, size)
        weight = 1.0 / (errors**2 + away**2)
        mean = np.asarray((weight * values).sum(axis=0) / weight.sum(axis=0))
        sigma = np.sqrt(np.maximum(np.diagonal(mean), LEAST * typical**2))
        alike = np.clip(mean / np.outer(sigma, sigma), -ALIKE, ALIKE)
        np.fill_diagonal(alike, 1.0)
        yield alike * np.outer(sigma, sigma)


def _paces(found: Sequence[_Found]) -> list[F8]:
    """(m,) of each node, square by which the means of the brighter ones move for a factor e in level, beyond their
    errors; 0 where they do not."""
    square, distance = np.zeros_like(found[0].mean), 0.0
    paces = [square]
    for brighter, f in pairwise(found):
        paces.append(np.maximum(square, 0.0) / distance if distance > 0 else np.zeros_like(square))
        difference = f.shared - brighter.shared
        expected = f.own + brighter.own + difference @ difference.T
        square = square + (f.mean - brighter.mean) ** 2 - np.diagonal(expected)
        distance += abs(np.log(brighter.level / f.level))
    return paces
