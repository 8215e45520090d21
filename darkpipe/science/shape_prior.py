"""An empirical-Bayes prior of the shape of a pixel, conditional on its signal level.

The shape of a pixel is gamma and B of an exponential, or the share of the first of two currents in their sum. Its mean
and scatter stand at nodes of the level (`shape_nodes` finds them). Between nodes both are interpolated in the logarithm
of the level; below the faintest node, and for negative levels, they are those of the faintest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.fit import Cells, Prior, Problem
from darkpipe.science.models.families import EXPONENTIAL
from darkpipe.science.signal_level import Measured, inverse, measure, shape_at, shape_slots

F8 = NDArray[np.float64]

FREEDOM = 5.0  # of Student's distribution, by which the prior fades for a pixel that contradicts it
SHARED = (0.2, 5.0)  # range of the level over the sum of two currents
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
    if problem.family == EXPONENTIAL:
        rows = _hold_shape(mean, found, shapes, theta, shape_slots(problem))
        start[:] = mean
        start[0] = np.nan_to_num(found.level)
    else:
        rows = _hold_share(mean, found, shapes, theta[0])
    # information of the pixel's data, common error, information of the prior
    own = np.nan_to_num(found.information) * np.maximum(np.nan_to_num(found.level), 0.0) ** 2
    both = np.einsum("abp,bcp,cdp->adp", own, shapes.shared_at(found.level), told)
    for (i, j), k in PLACE.items():
        precision[k] += np.einsum("ap,abp,bp->p", rows[:, i], told, rows[:, j])
        twice[k] += np.einsum("ap,abp,bp->p", rows[:, i], both + both.swapaxes(0, 1), rows[:, j])
    return Prior(mean, precision, twice), start


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


def with_common_error(prior: Prior, covariance: F8) -> F8:
    """Covariance (6, P) of a result whose data have errors in common with the mean of its prior, such as the drift of a
    pedestal. The fit takes data and prior for independent; here their covariance comes in."""
    if prior.twice is None or not prior.twice.any():
        return covariance
    order = [[PLACE[min(i, j), max(i, j)] for j in range(3)] for i in range(3)]
    whole = covariance[order]
    added = np.einsum("abp,bcp,cdp->adp", whole, prior.twice[order], whole)
    return np.asarray(covariance + np.stack([added[i, j] for i, j in PLACE]))
