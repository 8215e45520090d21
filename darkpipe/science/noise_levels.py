"""What a frame of each stack of EM-CCD darks scatters by, measured on the stacks themselves.

The variance of a frame in a pixel is R² + g² f² (C + t D): read noise, and electrons that the gain register multiplies
with an excess noise f². A pixel's own variance, or its own signal, is known too badly from some ten frames to weigh by:
where few electrons arrive, both are low or high together, and weights made of them favour what came out low. So the
variance of a stack is taken from all of its ordinary pixels at once. A pixel that is clearly none of them has a noise
of its own: by its dark signal, as its mean and the scatter of its frames tell it together (`noise_map_kernel`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.science.noise_map_kernel import BLOCK, BY_NOISE, Law, fit_strip

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

SAMPLE = 1 << 17
"""Pixels that the noise is measured on, at most."""
_ORDINARY = 7.0  # sigma within which a pixel belongs to the population
_ROUNDS = 6
_GROUPS, _GROUP = 32, 2048  # the median of so many means: a few cosmic rays that were not masked do no harm
_LEAST_SHARE = 0.1  # of a stack's variance, that pixels without dark signal keep at least
_TRUSTED = 0.5  # share of the variance that must be read noise for a read noise to be told


@dataclass(frozen=True)
class Design:
    """The stacks: EM gain, exposure [s], frames taken; each (m,)."""

    em_gain: F8
    exposure_s: F8
    frames: NDArray[np.int64]

    @property
    def columns(self) -> F8:
        """(m, 3) 1, g, g t."""
        return np.stack([np.ones_like(self.em_gain), self.em_gain, self.em_gain * self.exposure_s], axis=1)

    @property
    def scale(self) -> F8:
        """(3,) one over the largest value of each column: what a parameter of the scaled design is multiplied with."""
        return np.asarray(1.0 / self.columns.max(axis=0), np.float64)

    @property
    def scaled(self) -> F8:
        """(m padded to a multiple of four, 2) the last two columns over their largest values."""
        m = self.em_gain.size
        padded = np.zeros(((m + 3) // 4 * 4, 2))
        padded[:m] = (self.columns * self.scale)[:, 1:]
        return padded


@dataclass(frozen=True)
class NoiseLevels:
    """Noise of one frame of each stack in an ordinary pixel.

    variance, least : (m,) variance [e-², after the gain], and the least that is believed of a pixel without signal.
    shot : (m,) variance per electron of dark signal, both after the gain: g f².
    fourth : (m,) fourth cumulant of a frame per variance that dark signal makes [e-²].
    fixed_e, cic_e, dark_e_per_s : F, C and D of the population.
    read_noise_e : rms; NaN where the stack of smallest gain x time does not consist of it for the greater part.
    """

    variance: F8
    least: F8
    shot: F8
    fourth: F8
    fixed_e: float
    cic_e: float
    dark_e_per_s: float
    read_noise_e: float

    def beyond(self, planes: F4, sigma: float) -> NDArray[np.bool_]:
        """(p,) whether C or D, fitted with the noise of the population, lie further from it than so many errors.

        planes : (13, p) of `fit_strip`; a pixel that could not be fitted is not beyond.
        """
        x, y = planes[1] - np.float32(self.cic_e), planes[2] - np.float32(self.dark_e_per_s)
        return np.asarray((x * x > sigma**2 * planes[6]) | (y * y > sigma**2 * planes[8]))

    def levels(self) -> F8:
        """(m, 4) as `fit_strip` takes them."""
        return np.ascontiguousarray(np.stack([self.variance, self.shot, self.least, self.fourth], axis=1))


def excess_noise2(em_gain: NDArray[Any], gain_stages: int) -> F8:
    """Square of the excess noise factor of a register of so many stages: 1 at gain 1, near 2 at high gain.

    Source: Robbins and Hadwen 2003, IEEE Trans. Electron Devices 50, 1227.
    """
    g = np.asarray(em_gain, np.float64)
    return np.asarray(2.0 * (g - 1.0) * g ** (-(gain_stages + 1.0) / gain_stages) + 1.0 / g)


def excess_kurtosis(em_gain: NDArray[Any], gain_stages: int) -> F8:
    """Fourth cumulant of a frame per variance that its dark signal makes [e-²].

    Electrons are Poisson and each is multiplied by a number of mean g and moments m_k: variance and fourth cumulant of
    their sum are the electrons times m_2 and m_4 (compound Poisson). At high gain the multiplication is exponential,
    m_k = k! g^k (Basden, Haniff and Mackay 2003, MNRAS 345, 985); at gain 1 all m_k are 1. Between, m_4/g^4 is taken to
    go from 1 to 24 as m_2/g² goes from 1 to 2.
    """
    g = np.asarray(em_gain, np.float64)
    second = excess_noise2(g, gain_stages)
    return np.asarray(g * g * (1.0 + 23.0 * (second - 1.0)) / second)


@dataclass(frozen=True)
class Sample:
    """Some pixels of every stack, (m, p) each: mean, variance of a frame (NaN below two), count, variance of the mean
    beyond the scatter ((0, 0): none); and the least count a stack needs, (m,)."""

    mean: F8
    variance: F4
    count: F8
    error2: F8
    least: F8


def noise_levels(sample: Sample, design: Design, gain_stages: int, read_noise_e: float | None) -> NoiseLevels:
    """Measure the noise of each stack.

    Hot pixels, whose signal leaves that of the population by more than seven sigma, are left out. A stack whose pixels
    have one frame takes the noise that the others and its dark signal make likely.

    Raises
    ------
    DesignError : no stack has two frames, there are no errors and no read noise is given.
    """
    usable = sample.count >= sample.least[:, None]
    dof = np.where(usable & (sample.count > 1), sample.count - 1, 0.0)
    spread = np.where(dof > 0, sample.variance, 0.0)
    ordinary = np.ones(sample.mean.shape[1], np.bool_)
    for _ in range(_ROUNDS):
        measured = _typical(spread, dof * ordinary)
        level = _typical(sample.mean, (usable & ordinary).astype(np.float64))
        found = _levels(measured, level, sample, design, gain_stages, read_noise_e)
        still = _ordinary(found, sample, design)
        if 2 * still.sum() < still.size or (still == ordinary).all():
            break
        ordinary = still
    return found


def _levels(
    measured: F8, level: F8, sample: Sample, design: Design, gain_stages: int, read_noise_e: float | None
) -> NoiseLevels:
    """Noise from the typical variance (NaN: unknown) and level of each stack."""
    shot = design.em_gain * excess_noise2(design.em_gain, gain_stages)
    tiny = np.maximum(1e-12 * np.nan_to_num(level) ** 2, 1e-12)  # noise-free frames still need weights
    known = np.isfinite(measured)
    variance = np.maximum(np.where(known, measured, np.nan), tiny)
    if not known.any() and read_noise_e is None and sample.error2.shape[0] == 0:
        raise DesignError(
            "no stack has two unmasked frames, so the noise of a frame is unknown",
            do="take more frames a stack, or give the read noise",
        )
    weight = np.where(known, variance, np.nanmax(variance) if known.any() else 1.0)
    fixed, cic, dark = _fit_levels(level, weight / np.maximum(design.frames, 1), design)
    signal = np.maximum(design.em_gain * (cic + design.exposure_s * dark), 0.0)
    read2 = np.nan if read_noise_e is None else read_noise_e**2
    order = np.argsort(design.em_gain * design.exposure_s, kind="stable")
    first = next((i for i in order if known[i]), None)
    told = np.nan
    if first is not None:
        rest = variance[first] - shot[first] * signal[first]
        told = np.sqrt(rest) if rest >= _TRUSTED * variance[first] else np.nan
        read2 = max(rest, 0.0) if read_noise_e is None else read2
    filled = np.maximum((0.0 if np.isnan(read2) else read2) + shot * signal, tiny)
    variance = np.where(known, variance, filled)
    least = np.maximum(variance - shot * signal, _LEAST_SHARE * variance)
    fourth = excess_kurtosis(design.em_gain, gain_stages)
    return NoiseLevels(variance, least, shot, fourth, fixed, cic, dark, float(told))


def _fit_levels(level: F8, variance: F8, design: Design) -> tuple[float, float, float]:
    """F, C and D of the typical levels of the stacks; those without a usable pixel have NaN and are left out."""
    there = np.isfinite(level)
    root = 1.0 / np.sqrt(variance[there])
    columns = design.columns[there] * design.scale
    solution = np.linalg.lstsq(columns * root[:, None], level[there] * root, rcond=None)[0] * design.scale
    return float(solution[0]), float(solution[1]), float(solution[2])


def _ordinary(found: NoiseLevels, sample: Sample, design: Design) -> NDArray[np.bool_]:
    """(p,) pixels whose dark signal lies within some sigma of the population's, or that cannot be fitted."""
    planes = np.empty((13, sample.mean.shape[1]), np.float32)
    law = Law(sample.least, design.scaled, design.scale, found.levels(), np.zeros(2))
    fit_strip(sample.mean, sample.count, sample.error2, np.empty((0, 0), np.float32), law, False, BY_NOISE, planes)
    return ~found.beyond(planes, _ORDINARY)


def _typical(values: NDArray[Any], weight: F8) -> F8:
    """(m,) median over groups of pixels of the weighted mean of each; NaN without a weight."""
    m, p = values.shape
    groups = max(1, min(_GROUPS, p // _GROUP))
    size = p // groups * groups  # every group is spread over the whole area
    total = (values[:, :size] * weight[:, :size]).reshape(m, -1, groups).sum(axis=1, dtype=np.float64)
    norm = weight[:, :size].reshape(m, -1, groups).sum(axis=1)
    out = np.full(m, np.nan)
    for i in range(m):
        there = norm[i] > 0
        if there.any():
            out[i] = np.median(total[i, there] / norm[i, there])
    return out


def sample_pixels(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `SAMPLE` of the pixels, evenly spread, a multiple of `BLOCK` (the last ones repeated)."""
    chosen = pixels[:: max(1, -(-pixels.size // SAMPLE))]
    return np.resize(chosen, -(-chosen.size // BLOCK) * BLOCK) if chosen.size % BLOCK else chosen
