"""What pixels of a signal level tell about the shape of one of them: an empirical-Bayes prior conditional on the level.

The shape of a pixel is gamma and B of an exponential, or the share of the first of two currents in their sum. Pixels of
a sample are sorted by their level into nodes. Of each node the mean shape and the scatter of shapes beyond the errors
of measurement are found by maximum marginal likelihood; the mean is that of all pixels together, so it is well known
even where none of them can tell. Between nodes both are interpolated in the logarithm of the level; below the faintest
node, and for negative levels, they are those of the faintest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Prior, Problem
from darkpipe.science.models.families import EXPONENTIAL
from darkpipe.science.signal_level import Measured, inverse, measure, shape_at, shape_slots

F8 = NDArray[np.float64]

FAINT = 3.0  # levels below this many of their errors make one node
NODE_WIDTH = 0.15  # of the others, in log10
FEWEST = 100  # pixels of a node
MOST = 4000
TOLD = 5.0  # signal-to-noise of a level from which the pixels of a node may tell their scatter
SYSTEMATIC = 0.03  # of the variance of measurement: by so much the noise model may be wrong beyond what chi² shows
TAIL = 5.0  # scatter of the few pixels of other physics, in units of that of the rest
TAILS = (0.02, 100.0)  # their part of the pixels of a node before these are looked at, and of how many pixels that is
FREEDOM = 5.0  # of Student's distribution, by which the prior fades for a pixel that contradicts it
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
SHARED = (0.2, 5.0)  # range of the level over the sum of two currents
OWN_WORD = 4.0  # information of a pixel's own data in units of the prior's, from which on the prior fades
TURNS = 4  # of the iteration of a pixel's distance from the prior

PLACE = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}  # of a symmetric 3 x 3 matrix in (6, P)


@dataclass(frozen=True)
class Node:
    """Shapes at a level: mean (m,) and covariance (its upper half by rows) of the prior, and of how many pixels."""

    level: float
    pixels: int
    mean: tuple[float, ...]
    covariance: tuple[float, ...]


@dataclass(frozen=True)
class ShapePrior:
    """Nodes in the order of their levels, which are told by the shape `start` (m,)."""

    start: tuple[float, ...]
    nodes: tuple[Node, ...]

    def at(self, level: F8) -> tuple[F8, F8]:
        """Mean (m, P) and covariance (m, m, P) at levels (P,)."""
        levels = np.array([node.level for node in self.nodes])
        x = np.log(np.clip(np.nan_to_num(level, nan=0.0), levels[0], levels[-1]))
        means = np.array([node.mean for node in self.nodes])
        halves = np.array([node.covariance for node in self.nodes])
        mean = np.stack([np.interp(x, np.log(levels), column) for column in means.T])
        half = [np.interp(x, np.log(levels), column) for column in halves.T]
        return mean, np.stack([half]) if len(half) == 1 else np.stack([np.stack(half[:2]), np.stack(half[1:])])

    def growth_at(self, level: F8) -> F8:
        """(m, P) derivative of the mean by the logarithm of the level, at levels (P,); 0 beyond the nodes."""
        logs = np.log([node.level for node in self.nodes])
        if logs.size < 2:
            return np.zeros((len(self.start), level.size))
        slopes = np.gradient(np.array([node.mean for node in self.nodes]), logs, axis=0)
        x = np.log(np.maximum(np.nan_to_num(level, nan=0.0), np.finfo(float).tiny))
        return np.stack([np.interp(x, logs, column, left=0.0, right=0.0) for column in slopes.T])

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        nodes = [
            {"level": n.level, "pixels": n.pixels, "mean": list(n.mean), "covariance": list(n.covariance)}
            for n in self.nodes
        ]
        return {"start": list(self.start), "nodes": nodes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShapePrior:
        """Back from plain data; KeyError, TypeError or ValueError where it is none of ours."""
        nodes = tuple(
            Node(float(n["level"]), int(n["pixels"]), _floats(n["mean"]), _floats(n["covariance"]))
            for n in data["nodes"]
        )
        start = _floats(data["start"])
        sizes = {(len(n.mean), len(n.covariance)) for n in nodes}
        if sizes != {(len(start), len(start) * (len(start) + 1) // 2)}:
            raise ValueError("the nodes of the shape prior do not match its start")
        return cls(start, nodes)


def _floats(values: Sequence[Any] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


class _Found(NamedTuple):
    """What the pixels of a node tell: mean (m,) and covariance of their shapes, both with their errors. error (m, m) is
    the 1 sigma of each element of the scatter, infinite where it cannot be told."""

    level: float
    pixels: int
    mean: F8
    mean_covariance: F8
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
        shift, mean_covariance, scatter, error_of_scatter = _moments(found, tells)
        # noise in the levels adds to their square, and nothing to what they tell of the mean
        mean = np.clip(mean + shift * min(square / signal, 2.0), begin - REACH * typical, begin + REACH * typical)
        if np.all(shift**2 < SETTLED * np.diagonal(mean_covariance)):
            break
    mean_covariance = mean_covariance * (square / signal) ** 2 + _shared_error(problem, cells, mean, level)
    return _Found(level, levels.size, mean, mean_covariance, scatter, error_of_scatter)


def _shared_error(problem: Problem, cells: Cells, mean: F8, level: float) -> F8:
    """Covariance (m, m) of a node's mean from errors that all pixels of a cell share (drift of the pedestal): no number
    of pixels averages them away. Found from what 1 ADU in each cell does to a pixel of this level."""
    n = cells.extra_variance_adu2.size
    shape = shape_at(problem, mean)
    whole = int(np.argmax((cells.count > 0).sum(axis=0)))
    signal = np.repeat((level * shape.signal)[:, None], n + 1, axis=1)
    signal[:, 1:] += np.eye(n)
    one = replace(cells.at(np.full(n + 1, whole)), signal_adu=signal.astype(np.float32))
    departure = measure(shape, one, np.full(n + 1, level)).departure
    effect = np.nan_to_num((departure[:, 1:] - departure[:, :1]) / level)
    return np.asarray(effect * cells.extra_variance_adu2 @ effect.T)


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
    return float(np.median(chi2) / expected) if expected > 0 else 1.0


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

    A mean is combined with that of the next brighter node, which holds to within one scatter for a factor e in level: a
    node without signal has the mean of its neighbour.
    """
    nodes: list[Node] = []
    level, mean, covariance = found[0].level, start, np.diag((REACH * typical) ** 2)
    for f, scatter in zip(found, _scatters(found, typical), strict=True):
        expected = covariance + np.diag(np.diagonal(scatter)) * abs(np.log(level / f.level))
        gain = expected @ np.linalg.inv(expected + f.mean_covariance)
        level, mean, covariance = f.level, mean + gain @ (f.mean - mean), expected - gain @ expected
        total = (scatter + covariance)[np.triu_indices(mean.size)]
        nodes.append(Node(level, f.pixels, _floats(mean), _floats(total)))
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


def prior_by_level(problem: Problem, cells: Cells, shapes: ShapePrior, weakest: Prior) -> tuple[Prior, F8]:
    """Prior and start values of each pixel (3 or 6, P) by its level, `weakest` included.

    The prior fades where a pixel's own data say more about its shape than the population does, or contradict it, so
    that pixels of other physics are not drawn to the rest.
    """
    found = measure(shape_at(problem, np.array(shapes.start)), cells)
    theta, covariance = shapes.at(found.level)
    told = inverse(covariance) * _strength(found, theta - np.array(shapes.start)[:, None], covariance)
    mean, precision = weakest.mean.copy(), weakest.precision.copy()
    start = mean.copy()
    if problem.family == EXPONENTIAL:
        rows = _hold_shape(mean, found, shapes, theta, shape_slots(problem))
        start[:] = mean
        start[0] = np.nan_to_num(found.level)
    else:
        rows = _hold_share(mean, found, shapes, theta[0])
    for (i, j), k in PLACE.items():
        precision[k] += np.einsum("ap,abp,bp->p", rows[:, i], told, rows[:, j])
    return Prior(mean, precision), start


def _amplitude(found: Measured, shapes: ShapePrior, theta: F8) -> tuple[F8, F8]:
    """(P,) amplitude of a pixel of shape theta (m, P), whose level was measured with the shape `start`; and (m, P)
    overlaps: L = amplitude (1 + overlap (theta - start))."""
    overlap = np.nan_to_num(found.overlap)
    level = np.maximum(np.nan_to_num(found.level), shapes.nodes[0].level)
    departure = theta - np.array(shapes.start)[:, None]
    return level / np.clip(1.0 + (departure * overlap).sum(axis=0), *SHARED), overlap


def _hold_shape(mean: F8, found: Measured, shapes: ShapePrior, theta: F8, slots: Sequence[int]) -> F8:
    """What the prior holds of A, gamma and B: rows (m, 3, P) whose products with the departures from `mean`, set here,
    are those of the shape from that of the pixel's true level.

    The measured level has an error: of the true one, L', the shape is theta(L) + dtheta/dlnL (L' - L)/L, so that what
    is open of the level is so of the shape.
    """
    amplitude, overlap = _amplitude(found, shapes, theta)
    growth = shapes.growth_at(found.level)
    rows = np.zeros((len(slots), 3, theta.shape[1]))
    mean[0] = amplitude
    for a, i in enumerate(slots):
        mean[i] = theta[a]
        rows[a, 0] = -growth[a] / amplitude
        for b, j in enumerate(slots):
            rows[a, j] = float(a == b) - growth[a] * overlap[b]
    return rows


def _hold_share(mean: F8, found: Measured, shapes: ShapePrior, share: F8) -> F8:
    """What the prior holds of G and D, as rows (1, 3, P) like those of `_hold_shape`: ((1 - f) G - f D)/(G + D) is the
    departure of the share of G from f (P,), and their sum has no prior."""
    total, (overlap,) = _amplitude(found, shapes, share[None])
    first = shapes.start[0]
    growth = shapes.growth_at(found.level)[0] / (1.0 + (share - first) * overlap).clip(*SHARED)
    mean[0], mean[1] = share * total, (1.0 - share) * total
    rows = np.zeros((1, 3, share.size))
    rows[0, 0] = (1.0 - share - growth * (1.0 + (1.0 - first) * overlap)) / total
    rows[0, 1] = (-share - growth * (1.0 - first * overlap)) / total
    return rows


def _strength(found: Measured, expected: F8, covariance: F8) -> F8:
    """(P,) factor on the prior's precision, at most 1.

    expected : (m, P) mean shape of the prior from where departures are measured.
    """
    m, pixels = expected.shape
    level = np.maximum(np.nan_to_num(found.level), 0.0)
    own = np.nan_to_num(found.information) * level**2
    departure = np.nan_to_num(found.departure / np.where(level > 0, level, np.inf)) - expected
    own_word = np.einsum("abp,bap->p", own, covariance) / m
    told = inverse(covariance)
    weight = np.ones(pixels)
    for _ in range(TURNS):
        after = inverse(told * weight + own)
        e = np.einsum("abp,bcp,cp->ap", after, own, departure)
        distance = np.einsum("ap,abp,bp->p", e, told, e) + np.einsum("abp,bap->p", after, told)
        weight = np.minimum(1.0, (FREEDOM + m) / (FREEDOM - 2.0 + distance))
    return np.asarray(weight / np.maximum(1.0, (own_word / OWN_WORD) ** 2))


def parts_of_prior(prior: Prior, covariance: F8) -> F8:
    """(3, P) part of the information on each parameter that the prior holds: the part of the unit matrix which is
    (precision of the prior) x (covariance of the result), 0 without a prior, 1 without data; NaN without a result."""
    parts = np.zeros((3, covariance.shape[1]))
    for i in range(3):
        for j in range(3):
            k = PLACE[min(i, j), max(i, j)]
            parts[i] += prior.precision[k] * covariance[k]
    return parts


def held_by_prior(problem: Problem, prior: Prior, covariance: F8) -> NDArray[np.bool_]:
    """(P,) whether the prior holds more than half of the information on a parameter of the shape; False without a
    result."""
    parts = parts_of_prior(prior, covariance)
    with np.errstate(invalid="ignore"):
        if problem.family != EXPONENTIAL:
            return np.asarray(parts.sum(axis=0) > 0.5)
        return np.asarray((parts[1:] > 0.5).any(axis=0))
