"""Held-out predictions with errors that cells of a temperature share, by generalised least squares in plain numpy.

Written apart from the pipeline's kernels, so that terms of the covariance can be tried, and estimated from bright
pixels:

    V_kl = δ_kl (R²/n + S/(g n) + own² S²) + [T_k = T_l] (B_k B_l + temperature² S_k S_l + level² (S_k/t_k)(S_l/t_l))

B is the error of the bias. `temperature` is a pixel's own departure from the law at a temperature; `level`, in seconds,
dark signal that read-out left in bias and dark in different amounts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import constants

Array = NDArray[np.float64]
ENERGY_GAP_EV = 1.12
FEWEST = 60  # pixels of a class that a spread is taken of
PRECISE = 30.0  # signal-to-noise of cells that tell their own error
LARGEST = {"own": 0.05, "temperature": 0.1, "level_s": 3.0}
ITERATIONS = 6


@dataclass(frozen=True)
class Terms:
    """Relative errors of a cell (own) and of a temperature, and seconds of dark signal in the level."""

    own: float = 0.0
    temperature: float = 0.0
    level_s: float = 0.0

    def describe(self) -> str:
        """In words."""
        return f"own {self.own:.2%}, temperature {self.temperature:.2%}, level {self.level_s:g} s"


@dataclass(frozen=True)
class Masters:
    """n masters of P pixels: signal (n, P), R² of a frame (P,), variance of each cell's bias (n, P), gain; temperature
    [°C], exposure [s] and frames of the cells (n,); T_0 of the physical law."""

    signal: Array
    read_variance: Array
    bias_variance: Array
    gain: float
    temperature_c: Array
    exposure_s: Array
    frames: Array
    t0_c: float

    def at(self, pixels: NDArray[np.int_]) -> Masters:
        """The same cells over some of the pixels."""
        return replace(
            self,
            signal=self.signal[:, pixels],
            read_variance=self.read_variance[pixels],
            bias_variance=self.bias_variance[:, pixels],
        )

    def law(self, temperature_c: Array, exposure_s: Array) -> Array:
        """(n, 2) generation and diffusion of cells for 1 ADU/s at T_0."""
        kelvin, zero = temperature_c + constants.zero_Celsius, self.t0_c + constants.zero_Celsius
        energy = ENERGY_GAP_EV / (constants.k / constants.e) * (1 / kelvin - 1 / zero)
        theta = kelvin / zero
        return np.stack([exposure_s * theta**1.5 * np.exp(-energy / 2), exposure_s * theta**3 * np.exp(-energy)], 1)

    def covariance(self, signal: Array, terms: Terms) -> Array:
        """(P, n, n) for the model's signal (P, n)."""
        s = np.maximum(signal, 0)
        rate = s / self.exposure_s
        same = self.temperature_c[:, None] == self.temperature_c[None, :]
        bias = np.sqrt(self.bias_variance.T)
        shared = bias[:, :, None] * bias[:, None, :]
        shared += terms.temperature**2 * s[:, :, None] * s[:, None, :]
        shared += terms.level_s**2 * rate[:, :, None] * rate[:, None, :]
        v = np.asarray(shared * same)
        cells = np.arange(self.frames.size)
        v[:, cells, cells] += (self.read_variance[:, None] + s / self.gain) / self.frames + terms.own**2 * s**2
        return v


class _Fit:
    """A model fitted to every pixel: Jacobian (P, n, q), inverse covariance, linearised data."""

    def __init__(self, model: str, m: Masters, terms: Terms) -> None:
        self.model = model
        data = m.signal.T
        if model == "exp_2d":
            self.x = np.stack([np.ones_like(m.exposure_s), np.log(m.exposure_s / 60), m.temperature_c + 3], 1)
            value = np.maximum(data, 1.0)
            weight = value**2 / (50 / m.frames + value / m.gain)
            info = np.einsum("pn,nq,nr->pqr", weight, self.x, self.x)
            p = np.linalg.solve(info, np.einsum("pn,nq,pn->pq", weight, self.x, np.log(value))[..., None])[..., 0]
        else:
            self.x = m.law(m.temperature_c, m.exposure_s)
            p = np.zeros((data.shape[0], 2))
        signal = np.maximum(data, 0)
        for _ in range(ITERATIONS):
            if model == "exp_2d":
                signal = np.exp(p @ self.x.T)
                self.jacobian = signal[:, :, None] * self.x
                self.data = data - signal + np.einsum("pnq,pq->pn", self.jacobian, p)
            else:
                self.jacobian, self.data = np.broadcast_to(self.x, (*data.shape, 2)), data
            self.v = m.covariance(signal, terms)
            self.w = np.linalg.inv(self.v)
            self.jw = np.swapaxes(self.jacobian, 1, 2) @ self.w
            self.info = self.jw @ self.jacobian
            step = np.linalg.solve(self.info, (self.jw @ self.data[..., None]))[..., 0]
            p = p + np.clip(step - p, -0.5, 0.5) if model == "exp_2d" else step
            signal = signal if model == "exp_2d" else np.einsum("pnq,pq->pn", self.jacobian, p)
        self.signal = signal

    def scores(self, m: Masters) -> dict[str, list[Array]]:
        """Score statistics u'Pr/sqrt(u'Pu), of unit variance if the covariance is right, with
        P = W - W J (J'W J)^-1 J'W: u is one cell (own), the signal of the cells of a temperature (temperature), or
        their dark signal per second (level_s). One array an element, (P,); cells below `PRECISE` are NaN."""
        projected = self.w - np.swapaxes(self.jw, 1, 2) @ np.linalg.solve(self.info, self.jw)
        residual = np.einsum("pnm,pm->pn", projected, self.data)
        noise = (m.read_variance[:, None] + np.maximum(m.signal.T, 0) / m.gain) / m.frames
        precise = PRECISE * np.sqrt(noise) < m.signal.T
        own = np.where(precise, residual / np.sqrt(np.einsum("pnn->pn", projected)), np.nan)
        found: dict[str, list[Array]] = {"own": [own.ravel()], "temperature": [], "level_s": []}
        for temperature in np.unique(m.temperature_c):
            here = np.maximum(self.signal, 0) * (m.temperature_c == temperature)
            for name, u in (("temperature", here), ("level_s", here / m.exposure_s)):
                unit = np.sqrt(np.einsum("pn,pnm,pm->p", u, projected, u))
                found[name].append(np.einsum("pn,pn->p", u, residual) / np.where(unit > 0, unit, np.nan))
        return found

    def without(self, k: int) -> tuple[Array, Array]:
        """What cell k should read by the law as the others have it, and 1 sigma of (prediction - master), (P,).

        The inverse covariance of the others is W less the outer product of its column k over W_kk.
        """
        column, own = self.jw[:, :, k], self.w[:, k, k]
        share = column / own[:, None]
        inverse = np.linalg.inv(self.info - share[:, :, None] * column[:, None, :])
        gain = inverse @ (self.jw - share[:, :, None] * self.w[:, k][:, None, :])
        p, slope = (gain @ self.data[..., None])[..., 0], self.jacobian[:, k]
        weight = np.einsum("pq,pqn->pn", slope, gain)
        variance = self.v[:, k, k] + np.einsum("pq,pqr,pr->p", slope, inverse, slope)
        variance -= 2 * np.einsum("pn,pn->p", weight, self.v[:, k])
        value = np.exp(p @ self.x[k]) if self.model == "exp_2d" else np.einsum("pq,pq->p", slope, p)
        return value, np.sqrt(variance)


def held_out_spreads(
    model: str, m: Masters, terms: Terms, classes: Sequence[tuple[float, float]]
) -> list[tuple[float, int]]:
    """1.4826 MAD of the held-out pulls, and number of pixels, of every cell and class of predicted signal."""
    fit = _Fit(model, m, terms)
    found = []
    for k in range(m.frames.size):
        value, sigma = fit.without(k)
        pull = (value - m.signal[k]) / sigma
        for low, high in classes:
            some = pull[(value >= low) & (value < high) & np.isfinite(pull)]
            if some.size >= FEWEST:
                found.append((1.4826 * float(np.median(np.abs(some - np.median(some)))), some.size))
    return found


def _spread(values: Sequence[Array]) -> float:
    x = np.concatenate(values)
    x = x[np.isfinite(x)]
    return 1.4826 * float(np.median(np.abs(x - np.median(x))))


def estimate_terms(model: str, m: Masters, rounds: int = 3) -> Terms:
    """The terms that give each score statistic of bright pixels a robust spread of 1, one after the other, by
    bisection; 0 where the spread does not exceed 1 without the term."""
    terms = Terms(own=0.003, temperature=0.01, level_s=0.2)
    for _ in range(rounds):
        for name, largest in LARGEST.items():
            low, high = 0.0, largest
            if _spread(_Fit(model, m, _with(terms, name, 0.0)).scores(m)[name]) <= 1.0:
                terms = _with(terms, name, 0.0)
                continue
            while high > low + 0.002 * largest:
                middle = 0.5 * (low + high)
                wide = _spread(_Fit(model, m, _with(terms, name, middle)).scores(m)[name]) > 1.0
                low, high = (middle, high) if wide else (low, middle)
            terms = _with(terms, name, high)
    return terms


def _with(terms: Terms, name: str, value: float) -> Terms:
    return Terms(**{**asdict(terms), name: value})
