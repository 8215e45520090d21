"""Per-pixel variances from few samples, shrunk to the population they come from.

A pixel's sample variance over n frames has a relative error of sqrt(2/(n-1)): from ten frames, 47 %. Most pixels
share one noise, a few (of an sCMOS sensor, half a percent) have far more. The prior is therefore a mixture of two
scaled inverse chi-square populations, a core and a tail; each pixel's posterior mean follows in closed form.

Source: the moderated variances of Smyth 2004 (Stat. Appl. Genet. Mol. Biol. 3, 3) with a second component for the
tail; hyperparameters by maximum likelihood on the histogram of the sample variances, so that quantised and zero
variances do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.special import fdtr, gammaln, minimize

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

_MAX_DOF = 1e4  # a population this tight is one number
_SAMPLE = 200_000
_BINS = 128


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
    start = np.array([np.log(start_variance), np.log(50.0), np.log(4.0), -5.0])

    theta: Array = start
    for _ in range(2):  # a second start rounds off what the first simplex left
        found = minimize(
            _loss,
            theta,
            args=(edges, weight, float(common)),
            method="Nelder-Mead",
            options={"maxiter": 800, "xatol": 1e-4, "fatol": 1e-3},
        )
        theta = np.asarray(found.x, np.float64)
    return _unpack(theta)


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


def _unpack(theta: Array) -> VariancePrior:
    log_variance, log_dof, log_ratio, logit = theta
    core = float(np.exp(log_variance))
    dof = float(np.clip(np.exp(min(log_dof, 20.0)), 2.5, _MAX_DOF))
    ratio = float(np.clip(np.exp(np.clip(log_ratio, -20.0, 20.0)), 1.5, 1e4))
    weight = float(0.5 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))  # the tail is the smaller part
    return VariancePrior(core, dof, core * ratio, 3.0, weight)


def _loss(theta: Array, edges: Array, weight: Array, nu: float) -> float:
    prior = _unpack(theta)
    upto = (1.0 - prior.tail_weight) * fdtr(nu, prior.core_dof, edges / prior.core_variance)
    upto = upto + prior.tail_weight * fdtr(nu, prior.tail_dof, edges / prior.tail_variance)
    probability = np.diff(np.concatenate(([0.0], upto, [1.0])))
    return -float((weight * np.log(np.maximum(probability, 1e-12))).sum())
