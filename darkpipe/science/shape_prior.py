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
from darkpipe.science.packed import LANES
from darkpipe.science.prior_packed import COLUMNS, Levels, Nodes, add_common_error, prior_of_levels
from darkpipe.science.signal_level import measure, shape_at, shape_slots

F8 = NDArray[np.float64]

FREEDOM = 5.0  # of Student's distribution, by which the prior fades for a pixel that contradicts it
SHARED = (0.2, 5.0)  # range of the level over the sum of two currents
OWN_WORD = 4.0  # information of a pixel's own data in units of the prior's, from which on the prior fades

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


def prior_by_level(problem: Problem, cells: Cells, shapes: ShapePrior, weakest: Prior) -> tuple[Prior, F8]:
    """Prior and start values of each pixel (3 or 6, P) by its level, `weakest` included.

    The prior fades where a pixel's own data say more about its shape than the population does, or contradict it, so
    that pixels of other physics are not drawn to the rest.
    """
    pixels = weakest.mean.shape[1]
    if 0 < pixels < LANES:
        some = np.minimum(np.arange(LANES), pixels - 1)
        prior, start = prior_by_level(problem, cells.at(some), shapes, weakest.at(some))
        return prior.at(np.arange(pixels)), np.ascontiguousarray(start[:, :pixels])
    found = measure(shape_at(problem, np.array(shapes.start)), cells)
    mean, share = weakest.mean.copy(), problem.family != EXPONENTIAL
    precision, twice = np.empty((6, pixels)), np.empty((6, pixels))
    if pixels:
        m = len(shapes.start)
        levels = Levels(found.level, found.departure, found.information.reshape(m * m, pixels), found.overlap)
        slots = np.array(shape_slots(problem), np.int64)
        prior_of_levels(levels, _columns(shapes), m, slots, share, weakest.precision, mean, precision, twice)
    start = weakest.mean.copy() if share else mean.copy()
    if not share:
        start[0] = np.nan_to_num(found.level)
    return Prior(mean, precision, twice), start


def _columns(shapes: ShapePrior) -> Nodes:
    """The nodes as the loop over the pixels wants them."""
    m, n = len(shapes.start), len(shapes.nodes)
    level = np.array([node.level for node in shapes.nodes])
    columns, start = np.zeros((n, COLUMNS)), np.zeros(2)
    half = m * (m + 1) // 2
    for row, node in zip(columns, shapes.nodes, strict=True):
        row[:m] = node.mean
        row[2 : 2 + half] = node.covariance
        row[5 : 5 + half] = node.shared
    if n > 1:
        columns[:, 8 : 8 + m] = np.gradient(columns[:, :m], np.log(level), axis=0)
    start[:m] = shapes.start
    return Nodes(level, np.log(level), columns, start, *SHARED, FREEDOM, OWN_WORD)


def parts_of_prior(prior: Prior, covariance: F8) -> F8:
    """(3, P) part of the information on each parameter that the prior holds: the part of the unit matrix which is
    (precision of the prior) x (covariance of the result), 0 without a prior, 1 without data; NaN without a result."""
    parts = np.zeros((3, covariance.shape[1]))
    for i in range(3):
        for j in range(3):
            k = PLACE[min(i, j), max(i, j)]
            parts[i] += prior.precision[k] * covariance[k]
    return parts


def held_by_prior(problem: Problem, parts: F8) -> NDArray[np.bool_]:
    """(P,) whether the prior holds more than half of the information on a parameter of the shape, by what
    `parts_of_prior` says; False without a result."""
    with np.errstate(invalid="ignore"):
        if problem.family != EXPONENTIAL:
            return np.asarray(parts.sum(axis=0) > 0.5)
        return np.asarray((parts[1:] > 0.5).any(axis=0))


def with_common_error(prior: Prior, covariance: F8) -> F8:
    """Covariance (6, P) of a result whose data have errors in common with the mean of its prior, such as the drift of a
    pedestal. The fit takes data and prior for independent; here their covariance comes in."""
    if prior.twice is None or not prior.twice.any():
        return covariance
    pixels, twice = covariance.shape[1], prior.twice
    missing = max(0, LANES - pixels)
    if missing:
        covariance, twice = (np.pad(array, ((0, 0), (0, missing))) for array in (covariance, twice))
    out = np.empty((6, pixels + missing))
    add_common_error(np.ascontiguousarray(covariance), np.ascontiguousarray(twice), out)
    return np.ascontiguousarray(out[:, :pixels])
