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
MANY = 500  # of a node that lends its scatter: one of fewer, at the bright end, mixes hot pixels with the rest
TOLD = 5.0  # signal-to-noise of a level from which the pixels of a node may tell their scatter
SYSTEMATIC = 0.1  # of the variance of measurement: a smaller variance of shapes may be an error of the noise model
FREEDOM = 5.0  # of Student's distribution of shapes at a level: the few pixels of other physics are its tails
LOST = 25.0  # squared distance from the mean beyond which a pixel says nothing about it
MISFIT_SIGMAS = 6.0  # chi² beyond this many of its own sigma: no shape describes the pixel
PASSES = 8  # of linearising about the node's mean again
STEPS = 40  # of the scatter's iteration
REACH = 10.0  # typical scatters that the mean of a node may lie from that of the next brighter
NEIGHBOUR = 10.0  # factor in level within which the scatter of another node holds
SETTLED = 1e-4  # square of a step of the mean in its own errors
TYPICAL_SHAPE = np.array([0.015, 0.006])  # scatter of gamma and B [1/K] of pixels of a level
TYPICAL_SHARE = np.array([0.12])  # and of the share of generation
OWN_WORD = 4.0  # information of a pixel's own data in units of the prior's, from which on the prior fades
TURNS = 4  # of the iteration of a pixel's distance from the prior

PLACE = {(0, 0): 0, (0, 1): 1, (0, 2): 2, (1, 1): 3, (1, 2): 4, (2, 2): 5}  # of a symmetric 3 x 3 matrix in (6, P)


@dataclass(frozen=True)
class Node:
    """Shapes at a level: mean (m,) and covariance (its upper half by rows) of the prior, and of how many pixels.

    shared : the part of the covariance by errors of the mean that all pixels share: they are in their own data, too.
    """

    level: float
    pixels: int
    mean: tuple[float, ...]
    covariance: tuple[float, ...]
    shared: tuple[float, ...]


@dataclass(frozen=True)
class ShapePrior:
    """Nodes in the order of their levels, which are told by the shape `start` (m,)."""

    start: tuple[float, ...]
    nodes: tuple[Node, ...]

    def at(self, level: F8) -> tuple[F8, F8]:
        """Mean (m, P) and covariance (m, m, P) at levels (P,)."""
        mean = self._between(level, np.array([node.mean for node in self.nodes]))
        return np.stack(mean), _whole(self._between(level, np.array([node.covariance for node in self.nodes])))

    def shared_at(self, level: F8) -> F8:
        """The part of the covariance (m, m, P) that is in the pixels' own data as well."""
        return _whole(self._between(level, np.array([node.shared for node in self.nodes])))

    def _between(self, level: F8, values: F8) -> list[F8]:
        """Columns of values (nodes, k) at levels (P,)."""
        levels = np.array([node.level for node in self.nodes])
        x = np.log(np.clip(np.nan_to_num(level, nan=0.0), levels[0], levels[-1]))
        return [np.interp(x, np.log(levels), column) for column in values.T]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        nodes = [
            {
                "level": n.level,
                "pixels": n.pixels,
                "mean": list(n.mean),
                "covariance": list(n.covariance),
                "shared": list(n.shared),
            }
            for n in self.nodes
        ]
        return {"start": list(self.start), "nodes": nodes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ShapePrior:
        """Back from plain data; KeyError, TypeError or ValueError where it is none of ours."""
        nodes = tuple(
            Node(float(n["level"]), int(n["pixels"]), *(_floats(n[k]) for k in ("mean", "covariance", "shared")))
            for n in data["nodes"]
        )
        start = _floats(data["start"])
        half = len(start) * (len(start) + 1) // 2
        if {(len(n.mean), len(n.covariance), len(n.shared)) for n in nodes} != {(len(start), half, half)}:
            raise ValueError("the nodes of the shape prior do not match its start")
        return cls(start, nodes)


def _whole(half: Sequence[F8]) -> F8:
    """Symmetric matrices (m, m, P) from their upper halves by rows, m = 1 or 2."""
    return np.stack([half]) if len(half) == 1 else np.stack([np.stack(half[:2]), np.stack(half[1:])])


def _floats(values: Sequence[Any] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


class _Found(NamedTuple):
    """What the pixels of a node tell: floor (m,) is the smallest variance of shapes that they could show."""

    level: float
    pixels: int
    mean: F8
    mean_covariance: F8
    scatter: F8
    floor: F8
    told: bool


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
    shared: list[F8] = []
    for members in _members(found.level[usable], error, usable):
        begin = nodes[-1].mean if nodes else theta
        node = _node(problem, cells.at(members), found.level[members], begin, error, typical)
        shared.append(_shared_effect(problem, cells.at(members), node.mean, node.level))
        nodes.append(node)
    return ShapePrior(_floats(theta), _joined(nodes, shared, theta, typical))


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
        shift, mean_covariance, scatter = _moments(found, tells)
        # noise in the levels adds to their square, and nothing to what they tell of the mean
        mean = np.clip(mean + shift * min(square / signal, 2.0), begin - REACH * typical, begin + REACH * typical)
        if np.all(shift**2 < SETTLED * np.diagonal(mean_covariance)):
            break
    pixels = levels.size
    measured = np.nanmedian(inverse(found.information), axis=2) / level**2
    floor = max(SYSTEMATIC, 3.0 * np.sqrt(2.0 / pixels)) * np.diagonal(measured)
    told = tells and bool(np.all(np.diagonal(scatter) > floor))
    mean_covariance = mean_covariance * (square / signal) ** 2 + _shared_error(problem, cells, mean, level)
    return _Found(level, pixels, mean, mean_covariance, scatter, floor, told)


def _shared_error(problem: Problem, cells: Cells, mean: F8, level: float) -> F8:
    """Covariance (m, m) of a node's mean from errors that all pixels of a cell share (drift of the pedestal, and of its
    bias): no number of pixels averages them away."""
    effect = _shared_effect(problem, cells, mean, level)
    return np.asarray(effect @ effect.T)


def _shared_effect(problem: Problem, cells: Cells, mean: F8, level: float) -> F8:
    """(m, n) what n independent such errors, of 1 sigma each, do to a node's mean; alike in all nodes. Found from what
    1 ADU in each cell does to a pixel of this level."""
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


def _moments(found: Measured, tells: bool) -> tuple[F8, F8, F8]:
    """Mean departure (m,) of the shapes, its covariance, and their own covariance (zero unless `tells`), (m, m) both.

    Of a pixel of level L, L e is measured with covariance H⁻¹, so that it scatters about L mu with L² Sigma/u + H⁻¹,
    where u, the weight of Student's distribution, is small for pixels of other physics. Sigma by scoring, u by its
    expectation (Lange, Little and Taylor 1989, with errors of measurement). It is the scatter of the core: from the
    pixels in the tails the prior fades anyway. Noise in L makes the step to the mean too
    short, but it is zero at the right mean only: the caller repeats.
    """
    # what no shape describes is no member; where the shape is still far from the mean, all are beyond their noise
    allowed = found.dof + MISFIT_SIGMAS * np.sqrt(2.0 * np.maximum(found.dof, 1.0))
    good = found.chi2 < np.maximum(allowed, 4.0 * np.nanmedian(found.chi2))
    level, departure, noise = found.level[good], found.departure[:, good], inverse(found.information[:, :, good])
    m = departure.shape[0]
    mean, scatter, weight = np.zeros(m), np.zeros((m, m)), np.ones(level.size)
    if tells:
        scatter = np.diag(np.median(np.abs(departure / level), axis=1) ** 2 * 2.2)  # (1 / 0.6745)²: all of the spread
        least = 1e-3 * np.median(np.diagonal(noise / level**2), axis=0)
    for _ in range(STEPS):
        spread = scatter[:, :, None] / weight
        told = inverse(spread * level**2 + noise)
        residual = departure - mean[:, None] * level
        distance = np.einsum("ap,abp,bp->p", residual, told, residual)
        near = distance < max(LOST, 4.0 * float(np.median(distance)))
        mean_covariance = np.linalg.inv(np.einsum("abp,p->ab", told, level**2 * near))
        step = mean_covariance @ np.einsum("abp,bp,p->a", told, residual, level * near)
        mean = mean + step
        before = scatter
        if tells:
            scatter = _scatter(told, residual, noise, level, np.where(near, weight, 0.0), least)
            square = _expected_square(told, residual, scatter[:, :, None] / weight, level)
            own = np.einsum("abp,ba->p", square, np.linalg.inv(scatter))
            weight = (FREEDOM + m) / (FREEDOM + own)
        if np.all(step**2 < SETTLED * np.diagonal(mean_covariance)) and np.allclose(before, scatter, rtol=1e-3, atol=0):
            break
    return mean, mean_covariance, scatter


def _scatter(told: F8, residual: F8, noise: F8, level: F8, weight: F8, least: F8) -> F8:
    """One scoring step of Sigma (m, m): squares of residuals less those of the noise, regressed on the square of the
    level, weighted with the inverse of their own covariance; no variance below `least` (m,)."""
    m = least.size
    used = weight > 0
    told, level, weight = told[:, :, used], level[used], weight[used]
    excess = np.einsum("ap,bp->abp", residual[:, used], residual[:, used]) - noise[:, :, used]
    pairs = [(a, b) for a in range(m) for b in range(a, m)]
    across = np.einsum("abp,bcp,cdp->adp", told, excess, told) * level**2 / weight
    both = told * level**2 / weight
    matrix, vector = np.empty((len(pairs), len(pairs))), np.empty(len(pairs))
    for r, (a, b) in enumerate(pairs):
        vector[r] = across[a, b].sum()
        for c, (d, e) in enumerate(pairs):
            product = both[a, d] * both[b, e] + (both[a, e] * both[b, d] if d != e else 0.0)
            matrix[r, c] = product.sum()
    solved = np.linalg.solve(matrix, vector)
    scatter = np.zeros((m, m))
    for value, (a, b) in zip(solved, pairs, strict=True):
        scatter[a, b] = scatter[b, a] = value
    unit = np.sqrt(least)
    values, vectors = np.linalg.eigh(scatter / np.outer(unit, unit))
    return np.asarray((vectors * np.maximum(values, 1.0)) @ vectors.T * np.outer(unit, unit))


def _expected_square(told: F8, residual: F8, spread: F8, level: F8) -> F8:
    """(m, m, P) expected e eᵀ of each pixel given its data: of what its data say, and of what they leave open."""
    gain = np.einsum("abp,bcp->acp", spread, told) * level
    expected = np.einsum("abp,bp->ap", gain, residual)
    left = spread - np.einsum("abp,bcp->acp", gain, spread) * level
    return np.asarray(np.einsum("ap,bp->abp", expected, expected) + left)


def _joined(found: Sequence[_Found], shared: Sequence[F8], start: F8, typical: F8) -> tuple[Node, ...]:
    """Nodes of what was found, given from the brightest to the faintest.

    shared : what errors that all pixels share do to the mean of each node, as by `_shared_effect`. They are the same in
    all nodes, so that no joining averages them away.

    A scatter that cannot be told is that of the faintest node that tells one, if that is near, else the typical one
    (hot pixels, decades brighter, may be more or less alike than faint ones), as far as the node's own pixels allow it.
    A mean is combined with that of the next brighter node, which holds to within one scatter for a factor e in level,
    or as far as the means of the brighter nodes move: a node without signal has the mean of its neighbour.
    """
    nodes: list[Node] = []
    told: tuple[float, F8] | None = None
    level, mean, alone = found[0].level, start, np.diag((REACH * typical) ** 2)
    effect = np.zeros_like(shared[0])
    pace = _paces(found, shared)
    for f, of_node, moved in zip(found, shared, pace, strict=True):
        if f.told:
            scatter = f.scatter
            told = (f.level, scatter) if f.pixels >= MANY else told
        else:
            near = told is not None and told[0] < NEIGHBOUR * f.level
            scatter = told[1] if told is not None and near else np.diag(typical**2)
            part = np.sqrt(np.minimum(1.0, (np.diagonal(f.scatter) + f.floor) / np.diagonal(scatter)))
            scatter = scatter * np.outer(part, part)
        alone = alone + np.diag(np.maximum(np.diagonal(scatter), moved)) * abs(np.log(level / f.level))
        expected = alone + effect @ effect.T
        gain = expected @ np.linalg.inv(expected + f.mean_covariance)
        kept = np.eye(mean.size) - gain
        own = f.mean_covariance - of_node @ of_node.T
        alone = kept @ alone @ kept.T + gain @ own @ gain.T
        level, mean, effect = f.level, mean + gain @ (f.mean - mean), kept @ effect + gain @ of_node
        common = effect @ effect.T
        half = np.triu_indices(mean.size)
        nodes.append(
            Node(level, f.pixels, _floats(mean), _floats((scatter + alone + common)[half]), _floats(common[half]))
        )
    return tuple(sorted(nodes, key=lambda n: n.level))


def _paces(found: Sequence[_Found], shared: Sequence[F8]) -> list[F8]:
    """(m,) of each node, square by which the means of the brighter ones move for a factor e in level, beyond their
    errors; 0 where they do not."""
    square, distance = np.zeros_like(found[0].mean), 0.0
    paces = []
    for k, f in enumerate(found):
        paces.append(np.maximum(square, 0.0) / distance if distance > 0 else np.zeros_like(square))
        if k > 0:
            before, difference = found[k - 1], shared[k] - shared[k - 1]
            alone = (f.mean_covariance - shared[k] @ shared[k].T) + (
                before.mean_covariance - shared[k - 1] @ shared[k - 1].T
            )
            square = square + (f.mean - before.mean) ** 2 - np.diagonal(alone + difference @ difference.T)
            distance += abs(np.log(before.level / f.level))
    return paces


def prior_by_level(problem: Problem, cells: Cells, shapes: ShapePrior, weakest: Prior) -> tuple[Prior, F8]:
    """Prior and start values of each pixel (3 or 6, P) by its level, `weakest` included.

    The prior fades where a pixel's own data say more about its shape than the population does, or contradict it, so
    that pixels of other physics are not drawn to the rest.
    """
    found = measure(shape_at(problem, np.array(shapes.start)), cells)
    theta, covariance = shapes.at(found.level)
    told = inverse(covariance) * _strength(found, theta - np.array(shapes.start)[:, None], covariance)
    mean, precision = weakest.mean.copy(), weakest.precision.copy()
    start, twice = mean.copy(), np.zeros_like(precision)
    slots = shape_slots(problem)
    # information of the pixel's data, common error, information of the prior
    both = np.einsum("abp,bcp,cdp->adp", np.nan_to_num(found.information), shapes.shared_at(found.level), told)
    if problem.family == EXPONENTIAL:
        for a, i in enumerate(slots):
            mean[i] = start[i] = theta[a]
            for b, j in enumerate(slots[a:], start=a):
                precision[PLACE[i, j]] += told[a, b]
                twice[PLACE[i, j]] += (both[a, b] + both[b, a]) * np.maximum(np.nan_to_num(found.level), 0.0) ** 2
        start[0] = np.nan_to_num(found.level)
        return Prior(mean, precision, twice), start
    # G = L (f + e) and D = L (1 - f - e), so (1 - f) G - f D = L e: that has the prior, and their sum has none
    scale = np.maximum(np.nan_to_num(found.level), shapes.nodes[0].level)
    across = np.stack([1.0 - theta[0], -theta[0]])
    for i, j in ((0, 0), (0, 1), (1, 1)):
        precision[PLACE[i, j]] += told[0, 0] / scale**2 * across[i] * across[j]
        twice[PLACE[i, j]] += 2.0 * both[0, 0] * across[i] * across[j]
    return Prior(mean, precision, twice), start


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


def with_common_error(prior: Prior, covariance: F8) -> F8:
    """Covariance (6, P) of a result whose data have errors in common with the mean of its prior, such as the drift of a
    pedestal. The fit takes data and prior for independent; here their covariance comes in."""
    if prior.twice is None or not prior.twice.any():
        return covariance
    order = [[PLACE[min(i, j), max(i, j)] for j in range(3)] for i in range(3)]
    whole = covariance[order]
    added = np.einsum("abp,bcp,cdp->adp", whole, prior.twice[order], whole)
    return np.asarray(covariance + np.stack([added[i, j] for i, j in PLACE]))
