"""Masters of made-up pixels with known truth, for the tests of the fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from darkpipe.science.design import make_unit
from darkpipe.science.fit import Cells, Fitted, Prior, Problem, fit_tile, residuals
from darkpipe.science.models import EXP_2D, Model, Reference
from darkpipe.science.models.families import EXPONENTIAL
from darkpipe.science.population import problem_for

F8 = NDArray[np.float64]
SLOTS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]


def grid(temperatures_c: ArrayLike, exposures_s: ArrayLike) -> tuple[F8, F8]:
    """Temperature and exposure of every cell of a full grid."""
    t, e = np.meshgrid(np.asarray(temperatures_c, float), np.asarray(exposures_s, float), indexing="ij")
    return t.ravel(), e.ravel()


GRID_24 = grid([-15, -12, -9, -6, -3, 0], [30, 60, 120, 300])
GRID_12 = grid([-10, -5, 0], [10, 30, 100, 300])


def signal_of(problem: Problem, p: F8) -> F8:
    """(n, P) signal of parameters (3, P), written apart from the kernels."""
    x = problem.design
    if problem.family == EXPONENTIAL:
        return p[0] * np.exp(x[0][:, None] * p[1] + x[1][:, None] * p[2])
    return np.einsum("in,ip->np", x, p)


@dataclass(frozen=True)
class Scene:
    """A model, its cells (n,), what the pixels truly are (3, P), their true signal (n, P), and their masters."""

    model: Model
    temperature_c: F8
    exposure_s: F8
    reference: Reference
    problem: Problem
    truth: F8
    signal: F8
    cells: Cells

    def prior(self, *, weak: bool = True) -> Prior:
        """The pipeline's weak prior about typical shapes, or one that says nothing."""
        pixels = self.truth.shape[1]
        mean, precision = np.zeros((3, pixels)), np.zeros((6, pixels))
        mean[1], mean[2] = 1.0, 0.11
        if self.problem.family == EXPONENTIAL:
            precision[3], precision[5] = (1.0, 100.0) if weak else (1e-8, 1e-8)
        return Prior(mean * self.problem.free[:, None], precision)

    def fit(self, *, weak: bool = True, leave_out: ArrayLike | None = None, cells: Cells | None = None) -> Fitted:
        """Fit all pixels."""
        prior = self.prior(weak=weak)
        wanted = None if leave_out is None else np.asarray(leave_out, bool)
        return fit_tile(self.problem, cells or self.cells, prior, prior.mean.copy(), wanted)

    def with_signal(self, signal_adu: ArrayLike) -> Scene:
        """The same scene with other masters."""
        return replace(self, cells=replace(self.cells, signal_adu=np.asarray(signal_adu, np.float32)))


def scene(
    amplitude_adu: ArrayLike,
    *,
    model: Model = EXP_2D,
    cells: tuple[F8, F8] = GRID_12,
    gamma: ArrayLike = 1.0,
    b_per_k: ArrayLike = 0.12,
    diffusion_adu_s: ArrayLike = 0.0,
    count: ArrayLike = 10,
    read_noise_adu: ArrayLike = 5.0,
    gain: float = 1.0,
    relative: float = 0.0,
    bias_sigma_adu: float = 0.0,
    free_level: bool = False,
    extra: float = 0.0,
    poisson: bool = True,
    seed: int = 1,
) -> Scene:
    """Simulated masters.

    amplitude_adu (P,) is the signal at the centre of the cells (generation rate at T_0 in ADU/s for two_component).
    Cells of one temperature share a bias, whose error is drawn with `bias_sigma_adu` a pixel; `free_level` gives all
    cells one unknown level instead (of 7 ADU). `relative` and `extra` are noise a cell and pixel, the variance model
    knows of both.
    """
    rng = np.random.default_rng(seed)
    temperature_c, exposure_s = cells
    n = temperature_c.size
    amplitude = np.atleast_1d(np.asarray(amplitude_adu, float))
    unit = make_unit(model, "", tuple(range(n)), temperature_c, exposure_s, float(temperature_c.mean()), 1.12)
    problem = problem_for(model, temperature_c, exposure_s, unit.fit_reference)
    second, third = (gamma, b_per_k) if problem.family == EXPONENTIAL else (diffusion_adu_s, 0.0)
    truth = np.stack(np.broadcast_arrays(amplitude, np.asarray(second, float), np.asarray(third, float)))
    truth = truth * problem.free[:, None]
    signal = signal_of(problem, truth)
    counts = np.broadcast_to(np.reshape(count, (-1, 1)), signal.shape).astype(np.uint16)
    noise = np.broadcast_to(np.asarray(read_noise_adu, float), amplitude.shape)
    actual = signal * (1 + relative * rng.normal(size=signal.shape))
    with np.errstate(divide="ignore"):
        if not np.isfinite(gain):
            shot = actual
        elif poisson:
            shot = rng.poisson(np.maximum(actual, 0) * gain * counts) / (gain * counts) + np.minimum(actual, 0)
        else:
            shot = actual + rng.normal(size=actual.shape) * np.sqrt(np.maximum(actual, 0) / (gain * counts))
    values = shot + rng.normal(size=signal.shape) * np.sqrt(noise**2 / counts + extra)
    if free_level:
        group, groups = np.zeros(n, np.int64), 1
        values += 7.0
    else:
        group = np.unique(temperature_c, return_inverse=True)[1].astype(np.int64)
        groups = int(group.max()) + 1
        values += (bias_sigma_adu * rng.normal(size=(groups, amplitude.size)))[group]
    variance = np.full((groups, amplitude.size), np.inf if free_level else bias_sigma_adu**2, np.float32)
    made = Cells(
        values.astype(np.float32), counts, (noise**2).astype(np.float32), gain, np.full(n, relative**2),
        np.full(n, extra), group, variance,
    )  # fmt: skip
    return Scene(model, temperature_c, exposure_s, unit.fit_reference, problem, truth, signal, made)


def dense_covariance(made: Scene, pixel: int, signal: F8) -> F8:
    """(n, n) covariance of a pixel's masters at a signal (n,), shared bias errors included (finite ones)."""
    c = made.cells
    own = c.read_variance_adu2[pixel].astype(float) / c.count[:, pixel]
    own = own + np.maximum(signal, 0) / (c.gain_e_per_adu * c.count[:, pixel])
    own = own + c.relative_variance * signal**2 + c.extra_variance_adu2
    shared = c.group_variance_adu2[c.group, pixel].astype(float)
    return np.diag(own) + np.where((c.group[:, None] == c.group) & np.isfinite(shared), shared, 0.0)


def full(covariance: F8) -> F8:
    """(P, 3, 3) matrices of a covariance (6, P)."""
    out = np.empty((covariance.shape[1], 3, 3))
    for slot, (a, b) in enumerate(SLOTS):
        out[:, a, b] = out[:, b, a] = covariance[slot]
    return out


def pulls(made: Scene, fitted: Fitted) -> F8:
    """(3, P) (value - truth)/error; NaN for parameters that are not fitted."""
    sigma = np.sqrt(fitted.covariance[[0, 3, 5]])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (fitted.parameters - made.truth) / sigma


def studentised(made: Scene, parameters: F8) -> F8:
    """(n, P) deletion residual of each cell over its standard error, with the errors of the temperatures."""
    residual, variance, _, common = residuals(made.problem, made.cells, made.prior(), parameters)
    return np.asarray(residual / np.sqrt(variance + common))


def spread(x: ArrayLike) -> float:
    """Standard deviation from the 68 % interval, so that a few outliers do not decide."""
    data = np.asarray(x, float)
    low, high = np.percentile(data[np.isfinite(data)], [15.8655, 84.1345])
    return float(high - low) / 2.0
