"""The hot-pixel thermometer: the temperature of a sensor from the dark signal of its hot pixels in one frame.

After Widenhorn, Rest, Blouke, Berry, Bodegom 2007 (Proc. SPIE 6501, 650103): hot pixels have the largest dark signal
for their noise and so are the best temperature sensors; several hundred of them are asked. Here each is measured
*against its neighbours*, with their own dark signal taken out, so that sky, pedestal and the slope under a star cancel,
and the temperature is the one of largest likelihood under a robust loss. Temperature and exposure act alike on a hot
pixel: an exposure that is wrong by 1 % looks like a temperature that is wrong by `Reading.exposure_lever_c`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.models.base import Model, Reference
from darkpipe.science.models.families import UNLIMITED, make_signal, synthesize
from darkpipe.science.neighbours import STRUCTURE
from darkpipe.science.neighbours_kernel import levels
from darkpipe.science.noise import MAD_TO_SIGMA

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

MOST = 600  # hot pixels that are asked; more would tell little more
SCANNED = 500  # hot pixels that are asked for the rough temperature
GLANCED = 125  # hot pixels that are asked where that may lie
PROMISING = 3  # places that are looked at with more of them
FEWEST = 15  # pixels below which nothing is said
TILES = 8  # a side of the frame, for the spread of the pixels over it
BELOW_SATURATION = 0.8  # of the level of saturation: beyond, a hot pixel does not follow the model
TUKEY = 4.685  # constant of the biweight, in sigma: 95 % efficient for Gaussian noise
STUDENT = 3.0  # degrees of freedom of the loss that finds the neighbourhood of the solution
SCAN_STEP_C = 1.0
STEP_C = 0.02  # of the derivative with temperature
SAME_C = 1.0  # within which masters are of one temperature
_MEDIAN_COST = math.pi / 2.0  # variance of a median over that of a mean
_CLOSE_C = 1e-5
_FEW_NEIGHBOURS = 6


@dataclass(frozen=True)
class Probes:
    """Hot pixels that can tell the temperature, and what the model knows of them.

    rows, cols : (n,) in the model's frame.
    parameters : (3, n, 1 + m), of each pixel and its m neighbours; NaN for a neighbour that does not count.
    covariance : (6, n) of the pixels themselves. saturation_adu : (n,) level at which each stops growing.
    """

    rows: Ints
    cols: Ints
    parameters: F4
    covariance: F4
    saturation_adu: F4

    def take(self, chosen: Bools | Ints) -> Probes:
        """Some of them."""
        return Probes(
            self.rows[chosen],
            self.cols[chosen],
            np.ascontiguousarray(self.parameters[:, chosen]),
            np.ascontiguousarray(self.covariance[:, chosen]),
            self.saturation_adu[chosen],
        )


@dataclass(frozen=True)
class Law:
    """The model that the probes obey, for one exposure [s]; a bias that was a short dark took its share away."""

    model: Model
    reference: Reference
    exposure_s: float
    bias_exposure_s: float = 0.0

    def signal(self, parameters: F4, temperature_c: float) -> F8:
        """Dark signal above the bias [ADU], (...), of pixels with these parameters (3, ...)."""
        signal = self._at(parameters, temperature_c, self.exposure_s)
        if self.bias_exposure_s > 0:
            signal = signal - self._at(parameters, temperature_c, self.bias_exposure_s)
        return signal

    def bulk(self, probes: Probes, temperature_c: float) -> tuple[float, float]:
        """Signal of the ordinary pixel [ADU] and its growth [ADU/K]: medians of the neighbours, 0 without any."""
        levels = [self.signal(probes.parameters, temperature_c + d)[:, 1:] for d in (0.0, STEP_C, -STEP_C)]
        if not np.isfinite(levels[0]).any():
            return 0.0, 0.0
        middle, warm, cold = (float(np.nanmedian(level)) for level in levels)
        return middle, (warm - cold) / (2.0 * STEP_C)

    def variance(self, parameters: F4, covariance: F4, temperature_c: float) -> F8:
        """(n,) of the model's own error [ADU²]; parameters (3, n), their covariance (6, n)."""
        signal, variance = np.empty((2, parameters.shape[1]), np.float32)
        design = _design(self.model, temperature_c, self.exposure_s, self.reference)
        p, c = np.ascontiguousarray(parameters), np.ascontiguousarray(covariance)
        synthesize(self.model.family, design, p, c, signal, variance)
        return variance.astype(np.float64)

    def _at(self, parameters: F4, temperature_c: float, exposure_s: float) -> F8:
        flat = np.ascontiguousarray(parameters.reshape(3, -1))
        signal = np.empty(flat.shape[1], np.float32)
        design = _design(self.model, temperature_c, exposure_s, self.reference)
        make_signal(self.model.family, design, tuple(flat), UNLIMITED, signal)
        return signal.astype(np.float64).reshape(parameters.shape[1:])


@lru_cache(maxsize=512)
def _design(model: Model, temperature_c: float, exposure_s: float, reference: Reference) -> F8:
    """(3, 1) of a cell; the frames of a night ask for those of the same temperatures."""
    x = model.design(np.array([temperature_c]), np.array([exposure_s]), reference)
    return np.ascontiguousarray(x, dtype=np.float64)


@dataclass(frozen=True)
class FrameNoise:
    """Noise of the frame: read noise [ADU], one for all or (n,); gain [e-/ADU]; the model's multiplicative error, of
    single pixels and common to all of a frame."""

    read_noise_adu: float | F8
    gain_e_per_adu: float
    relative_error: float = 0.0
    common_error: float = 0.0


@dataclass(frozen=True)
class Reading:
    """What the hot pixels say of a frame.

    temperature_c, error_c : with 1 sigma; NaN where they cannot tell. pixels : how many had a say.
    spread : robust spread of their pulls, 1 where model and noise are right.
    exposure_lever_c : by how many °C the temperature comes out too high per 1 % by which the exposure is too short.
    """

    temperature_c: float
    error_c: float
    pixels: int
    spread: float
    exposure_lever_c: float


NOTHING = Reading(math.nan, math.nan, 0, math.nan, math.nan)


@dataclass(frozen=True)
class Scale:
    """What the thermometer reads at known temperatures: `reads_c` at `true_c`, with 1 sigma of that, (k,), ascending.

    The law of a model is not quite that of the sensor, so readings are a little off, more so at the edges of the range;
    the masters that the model was fitted to tell by how much. scatter_c : of these masters about the scale, beyond
    their noise: what a frame of another exposure is off by; NaN where no temperature has two masters.
    """

    reads_c: F8
    true_c: F8
    error_c: F8
    scatter_c: float = math.nan

    def corrected(self, reading: Reading) -> Reading:
        """A reading brought to the temperatures of the masters: linear between them, shifted alike beyond."""
        if self.true_c.size == 0 or not math.isfinite(reading.temperature_c):
            return reading
        shift = float(np.interp(reading.temperature_c, self.reads_c, self.true_c - self.reads_c))
        true = reading.temperature_c + shift
        return replace(reading, temperature_c=true, error_c=math.hypot(reading.error_c, self.error_at(true)))

    def error_at(self, temperature_c: float) -> float:
        """1 sigma of the scale at a true temperature [°C], with the scatter of the masters; 0 where there is none."""
        if self.true_c.size == 0:
            return 0.0
        scatter = self.scatter_c if math.isfinite(self.scatter_c) else 0.0
        return math.hypot(float(np.interp(temperature_c, self.true_c, self.error_c)), scatter)


def calibrate_scale(readings: Sequence[Reading], true_c: F8, leverage: float = 0.0) -> Scale:
    """The scale of the thermometer from its readings of masters at known temperatures (n,).

    Masters within 1 °C of each other count as one temperature: the weighted mean of what they read, with the error of
    that mean, by its own scatter where that is larger than stated. `leverage`: by which fraction the fit of the model
    took the scatter of its own masters away (parameters / cells).
    """
    read = np.array([r.temperature_c for r in readings], np.float64)
    error = np.array([r.error_c for r in readings], np.float64)
    order = np.argsort(true_c, kind="stable")
    order = order[np.isfinite(read[order])]
    groups: list[list[int]] = []
    for i in order.tolist():
        if groups and true_c[i] - true_c[groups[-1][0]] <= SAME_C:
            groups[-1].append(i)
        else:
            groups.append([i])
    points: list[tuple[float, float, float]] = []
    squares, noise, freedom = 0.0, 0.0, 0
    for members in groups:
        weight = 1.0 / error[members] ** 2
        off = read[members] - true_c[members]
        mean = float(np.average(off, weights=weight))
        chi2 = float((weight * (off - mean) ** 2).sum()) / max(len(members) - 1, 1)
        middle = float(np.average(true_c[members], weights=weight))
        squares += float(((off - mean) ** 2).sum())
        noise += float((error[members] ** 2).sum()) * (len(members) - 1) / len(members)
        freedom += len(members) - 1
        points.append((middle + mean, middle, math.sqrt(max(1.0, chi2) / float(weight.sum()))))
    rising = [p for k, p in enumerate(points) if k == 0 or p[0] > max(q[0] for q in points[:k])]
    table = np.array(rising, np.float64).reshape(-1, 3)
    excess = max(squares - noise, 0.0) / freedom if freedom else math.nan
    return Scale(table[:, 0], table[:, 1], table[:, 2], math.sqrt(excess / max(1.0 - leverage, 0.1)))


def choose_probes(signal: F4, error: F4, usable: Bools, most: int, least_ratio: float = 10.0) -> tuple[Ints, Ints]:
    """Rows and columns of up to `most` candidates: the largest signals of each of TILES x TILES parts of the frame.

    Parameters
    ----------
    signal, error : (rows, cols) dark signal by the model in some reference cell and its 1 sigma [ADU].
    usable : (rows, cols). least_ratio : of signal to error; pixels that noise made bright would tell too low a
        temperature.
    """
    rows, cols = signal.shape
    with np.errstate(invalid="ignore"):
        good = usable & (signal > least_ratio * error) & (signal > 2.0 * np.nanmedian(signal))
    each = max(1, most // TILES**2)
    found: list[Ints] = []
    for r in range(TILES):
        for c in range(TILES):
            down = slice(r * rows // TILES, (r + 1) * rows // TILES)
            part = (down, slice(c * cols // TILES, (c + 1) * cols // TILES))
            here = np.argwhere(good[part])
            values = signal[part][here[:, 0], here[:, 1]]
            kept = here[np.argsort(-values, kind="stable")[:each]]
            found.append(kept + np.array([part[0].start, part[1].start]))
    places = np.concatenate(found).astype(np.int64)
    return places[:, 0], places[:, 1]


def measure_temperature(
    observed_adu: F8, saturated: Bools, probes: Probes, law: Law, noise: FrameNoise, search_c: tuple[float, float]
) -> Reading:
    """The temperature at which the model gives the hot pixels the signal that they have in a frame.

    Parameters
    ----------
    observed_adu : (n, 1 + m) frame above the bias at the probes and their neighbours; NaN is absent.
    saturated : (n,) probes that do not count in this frame.
    search_c : lowest and highest temperature that is thought of [°C].

    Returns
    -------
    the reading; its error holds the scatter of the pixels and the common error of the model, and pulls 1.
    """
    usable = np.isfinite(observed_adu[:, 0]) & ~saturated
    usable &= np.isfinite(observed_adu[:, 1:]).sum(axis=1) >= _FEW_NEIGHBOURS
    if usable.sum() < FEWEST:
        return NOTHING
    asked = _Asked(observed_adu.T, probes.parameters.transpose(0, 2, 1), probes.covariance, noise).take(usable)
    start = _scan(asked, law, search_c)
    if start is None:
        return NOTHING
    chosen = _most_telling(asked, probes.saturation_adu[usable], law, start)
    if chosen.sum() < FEWEST:
        return NOTHING
    return _refine(asked.take(chosen), law, start, search_c)


@dataclass(frozen=True)
class _Asked:
    """Probes and what a frame has there, neighbours after probes, as the loops want it: observed (1 + m, n) [ADU],
    parameters (3, 1 + m, n), covariance (6, n)."""

    observed: F8
    parameters: F4
    covariance: F4
    noise: FrameNoise

    def take(self, chosen: Bools) -> _Asked:
        """Some of the probes."""
        read = self.noise.read_noise_adu
        noise = replace(self.noise, read_noise_adu=read[chosen] if isinstance(read, np.ndarray) else read)
        parameters = np.ascontiguousarray(self.parameters[:, :, chosen])
        return _Asked(np.ascontiguousarray(self.observed[:, chosen]), parameters, self.covariance[:, chosen], noise)

    def some(self, about: int) -> _Asked:
        """About so many of them, up to twice as many, spread over all."""
        n = self.observed.shape[1]
        return self.take(np.arange(n) % max(1, n // about) == 0)


@dataclass(frozen=True)
class _Compared:
    """Frame against model at one temperature: residual (n,), its sigma, the signal above the neighbours."""

    residual: F8
    sigma: F8
    excess: F8


def _compare(asked: _Asked, law: Law, temperature_c: float) -> _Compared:
    return _judged(_measured(asked, law, temperature_c), asked.noise)


def _measured(asked: _Asked, law: Law, temperature_c: float) -> tuple[F8, ...]:
    """(n,) each: signal by the model, its variance, the frame less it; median, scatter and number of the neighbours of
    that, and the median of their signal."""
    signal = law.signal(asked.parameters, temperature_c)
    left = asked.observed - signal
    level, distance, count = levels(left[1:], left[1:], scatter=True)
    around, _, _ = levels(signal[1:], left[1:], scatter=False)
    variance = law.variance(asked.parameters[:, 0], asked.covariance, temperature_c)
    return signal[0], variance, left[0], level, MAD_TO_SIGMA * distance, count.astype(np.float64), around


def _judged(measured: Sequence[F8], noise: FrameNoise) -> _Compared:
    """What `_measured` gave, of one temperature (n,) or of several (k, n)."""
    own, variance, left, level, scatter, count, around = measured
    expected = np.maximum(own + level, 0.0) / noise.gain_e_per_adu + np.square(noise.read_noise_adu)
    quiet = np.maximum(around + level, 0.0) / noise.gain_e_per_adu + np.square(noise.read_noise_adu)
    structure = np.where(scatter**2 > STRUCTURE**2 * quiet, scatter**2 - quiet, 0.0)
    background = _MEDIAN_COST * np.maximum(scatter**2, quiet) / np.maximum(count, 1)
    model = variance + (noise.relative_error * own) ** 2
    return _Compared(left - level, np.sqrt(expected + structure + background + model), own - around)


def _scan(asked: _Asked, law: Law, search_c: tuple[float, float]) -> float | None:
    """The best of a ladder of temperatures, by the likelihood of Student's t; None where the ladder ends there.

    It only says where to begin, so some of the probes are asked, spread over all: few of them at every other rung, and
    more at the rungs around those that did best.
    """
    ladder = np.arange(search_c[0], search_c[1] + 0.5 * SCAN_STEP_C, SCAN_STEP_C)
    rough = np.append(np.arange(0, ladder.size - 1, 2), ladder.size - 1)
    promising = rough[np.argsort(_costs(asked.some(GLANCED), law, ladder[rough]), kind="stable")[:PROMISING]]
    near = np.unique(np.clip(promising[:, None] + np.arange(-2, 3), 0, ladder.size - 1))
    best = int(near[np.argmin(_costs(asked.some(SCANNED), law, ladder[near]))])
    return None if best in (0, ladder.size - 1) else float(ladder[best])


def _costs(asked: _Asked, law: Law, temperatures_c: F8) -> F8:
    """(k,) mean of -ln L over the probes at each of the temperatures; inf where none can be compared."""
    measured = zip(*(_measured(asked, law, float(temperature)) for temperature in temperatures_c), strict=True)
    found = _judged([np.stack(steps) for steps in measured], asked.noise)
    z2 = (found.residual / found.sigma) ** 2
    terms = np.log(found.sigma) + 0.5 * (STUDENT + 1.0) * np.log1p(z2 / STUDENT)
    known = np.isfinite(terms)
    return np.array([t[k].mean() if k.any() else np.inf for t, k in zip(terms, known, strict=True)])


def _most_telling(asked: _Asked, saturation_adu: F4, law: Law, temperature_c: float) -> Bools:
    """(n,) the pixels with most to say at this temperature by the model alone: the frame has no vote in the choice."""
    found = _compare(asked, law, temperature_c)
    own = law.signal(asked.parameters, temperature_c)[0]
    telling = np.isfinite(found.sigma) & (own < BELOW_SATURATION * saturation_adu) & (found.excess > 0)
    information = np.where(telling, np.abs(_growth(asked, law, temperature_c)) / found.sigma, 0.0)
    chosen = np.zeros(own.size, bool)
    chosen[np.argsort(-information, kind="stable")[:MOST]] = True
    return np.asarray(chosen & telling)


def _growth(asked: _Asked, law: Law, temperature_c: float) -> F8:
    """(n,) d(excess)/dT [ADU/K]."""
    warm, cold = (law.signal(asked.parameters, temperature_c + d) for d in (STEP_C, -STEP_C))
    slope = (warm - cold) / (2.0 * STEP_C)
    level, _, _ = levels(slope[1:], slope[1:], scatter=False)
    return np.asarray(slope[0] - level)


def _refine(asked: _Asked, law: Law, start_c: float, search_c: tuple[float, float]) -> Reading:
    """Iteratively weighted least squares with Tukey's biweight; the error is that of an M-estimate (Huber 1981)."""
    temperature = start_c
    for _ in range(50):
        found = _compare(asked, law, temperature)
        slope = _growth(asked, law, temperature) / found.sigma
        z = found.residual / found.sigma
        scale = max(1.0, MAD_TO_SIGMA * float(np.median(np.abs(z - np.median(z)))))
        weight = np.maximum(1.0 - (z / (TUKEY * scale)) ** 2, 0.0) ** 2
        information = float((weight * slope**2).sum())
        if not information > 0:
            return NOTHING
        step = float((weight * z * slope).sum()) / information
        temperature += max(-SCAN_STEP_C, min(SCAN_STEP_C, step))
        if abs(step) < _CLOSE_C:
            break
    if not search_c[0] < temperature < search_c[1]:
        return NOTHING
    u = z / (TUKEY * scale)
    curvature = np.where(np.abs(u) < 1.0, (1.0 - u**2) * (1.0 - 5.0 * u**2), 0.0)
    bread = float((curvature * slope**2).sum())
    if not bread > 0:
        return NOTHING
    statistical = math.sqrt(float(((weight * z * slope) ** 2).sum())) / bread
    lever = float((weight * slope * found.excess / found.sigma).sum()) / information
    error = math.hypot(statistical, lever * asked.noise.common_error)
    return Reading(temperature, error, int((weight > 0).sum()), scale_of(z), 0.01 * lever)


def scale_of(pulls: F8) -> float:
    """Robust spread of pulls about their median."""
    return MAD_TO_SIGMA * float(np.median(np.abs(pulls - np.median(pulls))))
