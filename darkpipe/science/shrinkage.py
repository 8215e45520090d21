"""Per-pixel variances from few samples, shrunk to the population they come from.

A pixel's sample variance over n frames has a relative error of sqrt(2/(n-1)): from ten frames, 47 %. Most pixels
share one noise, a few (of an sCMOS sensor, half a percent) have far more. The prior is therefore a mixture of two
scaled inverse chi-square populations, a core and a tail; each pixel's posterior mean follows in closed form.

Source: the moderated variances of Smyth 2004 (Stat. Appl. Genet. Mol. Biol. 3, 3) with a second component for the
tail; hyperparameters by maximum likelihood on the histogram of the sample variances, so that quantised and zero
variances do no harm. The likelihood can have more than one summit: the highest of those above three starts is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.special import fdtr, gammaln

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

_SAMPLE = 200_000
_BINS = 128
_TAIL_DOF = 3.0
# the logarithms of the core's variance, its degrees of freedom (a population of 10,000 is one number) and the ratio of
# tail to core, and the logit of twice the tail's part
_BOUNDS = np.array([[-700.0, math.log(2.5), math.log(1.5), -15.0], [700.0, math.log(1e4), math.log(1e4), 15.0]])
_STARTS = np.array(
    [[math.log(50), math.log(4), -5], [math.log(8), math.log(30), -3], [math.log(1000), math.log(50), -3]]
)
_STEPS = 100
_REACH = 1.5  # of a step
_SETTLED, _FREE = 1e-4, 0.1  # of ln L, by a step that is damped less than so
_LEAST_CURVATURE, _MOST_DAMPING, _LEAST_PROBABILITY = 1e-6, 1e9, 1e-12


@dataclass(frozen=True)
class VariancePrior:
    """Population of pixel variances: core and tail, each scaled inverse chi-square; unit is that of the data."""

    core_variance: float
    core_dof: float
    tail_variance: float
    tail_dof: float
    tail_weight: float

    def posterior_variance(self, variance: NDArray[Any], dof: NDArray[Any]) -> Array:
        """Posterior mean of each pixel's variance; sample variance (p,) with dof (p,); dof 0 or NaN: the prior's."""
        nu = np.asarray(dof, np.float64)
        v = np.asarray(variance, np.float64)
        known = np.isfinite(v) & (nu > 0)
        nu, v = np.where(known, nu, 0.0), np.where(known, v, 0.0)
        parts = ((self.core_variance, self.core_dof), (self.tail_variance, self.tail_dof))
        mean = [(nu * v + d * s) / (nu + d - 2.0) for s, d in parts]
        tail = self._tail_probability(v, nu)
        return (1.0 - tail) * mean[0] + tail * mean[1]

    def sigma_map(self, variance: NDArray[Any], dof: NDArray[Any]) -> Floats:
        """Square root of the posterior variance, (p,) float32."""
        return np.sqrt(self.posterior_variance(variance, dof)).astype(np.float32)

    def _tail_probability(self, v: Array, nu: Array) -> Array:
        if self.tail_weight <= 0.0:
            return np.zeros_like(v)
        floor = np.maximum(v, 1e-6 * self.core_variance)
        odds = np.log(self.tail_weight / (1.0 - self.tail_weight))
        odds = odds + _log_marginal(floor, nu, self.tail_variance, self.tail_dof)
        odds = odds - _log_marginal(floor, nu, self.core_variance, self.core_dof)
        # quieter than the core is no tail
        odds = np.where((nu > 0) & (v < self.core_variance), np.minimum(odds, np.log(self.tail_weight)), odds)
        return 1.0 / (1.0 + np.exp(-np.clip(odds, -500.0, 500.0)))


def _log_marginal(v: Array, nu: Array, scale: float, dof: float) -> Array:
    """Log density of a sample variance with nu degrees of freedom (scaled F), without what depends on v alone."""
    half = 0.5 * nu
    ratio = nu * v / (dof * scale)
    few, which = _distinct(nu)
    level = gammaln(0.5 * few + 0.5 * dof) - gammaln(0.5 * dof) - 0.5 * few * np.log(dof * scale)
    return np.asarray(level[which] - (half + 0.5 * dof) * np.log1p(ratio), np.float64)


def _distinct(nu: Array) -> tuple[Array, NDArray[np.intp]]:
    """Degrees of freedom that occur (there are few), and which of them each pixel has."""
    if nu.size and (nu == nu.flat[0]).all():
        return nu.reshape(-1)[:1], np.zeros(nu.shape, np.intp)
    few, which = np.unique(nu, return_inverse=True)
    return few, which.reshape(nu.shape)


def fit_variance_prior(variance: NDArray[Any], dof: NDArray[Any]) -> VariancePrior:
    """Population of the sample variances (p,), each with dof (p,); pixels without the most common dof are left out.

    With no usable pixel, everything is NaN.
    """
    v, nu = np.asarray(variance, np.float64).ravel(), np.asarray(dof).ravel()
    good = np.isfinite(v) & (nu > 0)
    if not good.any():
        return VariancePrior(np.nan, np.nan, np.nan, np.nan, 0.0)
    values, counts = np.unique(nu[good], return_counts=True)
    common = values[np.argmax(counts)]
    v = v[good & (nu == common)]
    v = v[:: max(1, v.size // _SAMPLE)]
    edges, weight = _histogram(v)
    start_variance = max(float(np.median(v[v > 0])) if (v > 0).any() else 0.0, 1e-12)
    starts = (np.array([np.log(start_variance), *rest]) for rest in _STARTS)
    found = min((_most_likely(start, edges, weight, float(common)) for start in starts), key=lambda m: m.loss)
    return _unpack(found.theta)


def _histogram(v: Array) -> tuple[Array, Array]:
    """Inner edges between groups of (quantised) sample variances, and how many lie in each group."""
    distinct, counts = np.unique(v, return_counts=True)
    if distinct.size > _BINS:
        upto = np.cumsum(counts) / v.size
        # finer towards the top, where the tail shows
        points = np.concatenate((np.linspace(0, 0.98, _BINS)[1:], 1.0 - np.geomspace(0.018, 1e-4, 24)))
        cut = np.unique(np.searchsorted(upto, points))
        cut = cut[cut < distinct.size - 1]
    else:
        cut = np.arange(distinct.size - 1)
    edges = 0.5 * (distinct[cut] + distinct[cut + 1])
    upto_count = np.concatenate(([0], np.cumsum(counts)[cut], [v.size]))
    return edges, np.diff(upto_count).astype(np.float64)


class _Mixture(NamedTuple):
    """Populations at theta: (4,) logarithms of the core's variance and degrees of freedom and of the ratio of tail to
    core, and the logit of twice the tail's part. loss : -ln L. probability : of each group of the histogram. core,
    tail : what lies below each of its inner edges, by either."""

    theta: Array
    loss: float
    probability: Array
    core: Array
    tail: Array


def _most_likely(theta: Array, edges: Array, weight: Array, nu: float) -> _Mixture:
    """The mixture uphill of theta, within bounds: scoring with the products of scores (Berndt, Hall, Hall and Hausman
    1974), damped as by Levenberg 1944."""
    at, damping = _mixture(np.clip(theta, *_BOUNDS), edges, weight, nu), 1e-3
    for _ in range(_STEPS):
        scores = _slopes(at, edges, nu) / at.probability
        gradient, information = scores @ weight, scores * weight @ scores.T
        out = ((at.theta <= _BOUNDS[0]) & (gradient < 0)) | ((at.theta >= _BOUNDS[1]) & (gradient > 0))
        free = np.flatnonzero(~out)
        before = at
        while damping < _MOST_DAMPING:
            curvature = information[np.ix_(free, free)]
            damped = curvature + np.diag(damping * np.diagonal(curvature) + _LEAST_CURVATURE)
            theta = before.theta.copy()
            theta[free] += np.clip(np.linalg.solve(damped, gradient[free]), -_REACH, _REACH)
            at = _mixture(np.clip(theta, *_BOUNDS), edges, weight, nu)
            if at.loss <= before.loss:
                break
            at, damping = before, 5.0 * damping
        if damping >= _MOST_DAMPING or (damping < _FREE and before.loss - at.loss < _SETTLED):
            break
        damping /= 10.0
    return at


def _mixture(theta: Array, edges: Array, weight: Array, nu: float) -> _Mixture:
    prior = _unpack(theta)
    core = fdtr(nu, prior.core_dof, edges / prior.core_variance)
    tail = fdtr(nu, prior.tail_dof, edges / prior.tail_variance)
    upto = (1.0 - prior.tail_weight) * core + prior.tail_weight * tail
    probability = np.maximum(np.diff(upto, prepend=0.0, append=1.0), 0.0) + _LEAST_PROBABILITY
    return _Mixture(theta, -float((weight * np.log(probability)).sum()), probability, core, tail)


def _slopes(at: _Mixture, edges: Array, nu: float) -> Array:
    """(4, groups) derivatives of the probabilities with theta."""
    prior, h = _unpack(at.theta), 1e-4
    x, w = edges / prior.core_variance, prior.tail_weight
    by_core = (1.0 - w) * _density(x, nu, prior.core_dof)
    by_tail = w * _density(edges / prior.tail_variance, nu, prior.tail_dof)
    wider = (1.0 - w) * (fdtr(nu, prior.core_dof * np.exp(h), x) - at.core) / h
    upto = np.stack([-by_core - by_tail, wider, -by_tail, w * (1.0 - 2.0 * w) * (at.tail - at.core)])
    return np.diff(upto, prepend=0.0, append=0.0)


def _density(x: Array, nu: float, dof: float) -> Array:
    """x times the density of an F distribution."""
    a, b = 0.5 * nu, 0.5 * dof
    constant = gammaln(a + b) - gammaln(a) - gammaln(b) + b * np.log(dof)
    return np.asarray(np.exp(constant + a * np.log(nu * x) - (a + b) * np.log(nu * x + dof)))


def _unpack(theta: Array) -> VariancePrior:
    log_variance, log_dof, log_ratio, logit = (float(v) for v in theta)
    core = math.exp(log_variance)
    weight = 0.5 / (1.0 + math.exp(-logit))  # the tail is the smaller part
    return VariancePrior(core, math.exp(log_dof), core * math.exp(log_ratio), _TAIL_DOF, weight)
