"""Pixels that change from frame to frame by more than noise and cosmic rays explain: telegraph pixels.

What is tested is whether one level, noise, and now and then a cosmic ray explain the frames of a pixel. Combining
gives each cell's scatter: the chi-square of its samples about their mean, in which a high outlier counts as kappa² at
most, since it may be a cosmic ray, and a low one in full, since that is never one. A pixel that k cosmic rays hit in
n samples has the scatter chi²(n - 1 - k) + k kappa²; k is Poisson with the rate that the ordinary pixels show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.flags import DQ
from darkpipe.science.shrinkage import fit_variance_prior
from darkpipe.science.special import fdtrc, gammainccinv, gammaincinv, gammaln

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIGNAL_STEPS = (1.5, 4.0, 16.0, 64.0)  # classes of a frame's variance, over that of the typical pixel
NOISY = 1.5  # read noise, over that of the typical pixel, of a pixel whose noise its own frames alone tell
FEW_OF_CLASS = 200  # pixels below which a class takes the scale of the next fainter one
FEW_TO_FIT = 5000  # pixels below which the noise model's own error is not told
LEAST_SCALE, LEAST_OF_ORDINARY = 0.1, 0.5
SMOOTH_ADU = 2.0  # noise of a frame below which chi² has few distinct values, so that its median says little
SURE_DOF = 1e7  # of a variance that is known
LEAST_DOF = 2  # of two frames, one may be a cosmic ray's
STILL_DOF, STILL_RATE = 12, 1e-12  # a pixel is constant if less than so few of the stable ones scatter as little


@dataclass(frozen=True)
class CellScatter:
    """What a master of n frames says of P pixels; all (P,).

    scatter, samples : one-sided chi² of the valid samples (`combine.Combined`) and their number; below two, or where
    the scatter is NaN, the cell does not tell. rejected : how many of them were. variance_adu2 : of one frame by the
    noise model.
    """

    scatter: F4
    samples: NDArray[np.integer]
    rejected: NDArray[np.integer]
    variance_adu2: F4


class FrameScatter:
    """Scatter of P pixels over the cells that were added, tested whenever `flag` is called.

    The noise model is not exact, so it is measured against the pixels themselves, in two ways. In each cell and class
    of signal, chi² is divided by what the class has on the median (temperature jitter, a wrong gain). And the variance
    of a single pixel, which is that of a map or common to all, has an error: that of the ordinary pixels follows from
    how widely their chi² spread (`shrinkage`), and with it the test is one of F instead of chi².

    Parameters
    ----------
    read_noise_adu : (P,) or one number. noise_frames : bias frames that the map of it was made from, 0 without a map.
    kappa : the largest deviation that a high sample counts with, in sigma.
    """

    def __init__(self, pixels: int, read_noise_adu: F4 | float, noise_frames: int, kappa: float) -> None:
        noise = np.broadcast_to(np.asarray(read_noise_adu, np.float32), (pixels,))
        middle = float(np.nanmedian(noise)) if pixels else 1.0
        self._read_variance = np.where(np.isfinite(noise), noise, middle).astype(np.float32) ** 2
        self._noisy = self._read_variance > (NOISY * middle) ** 2
        self._noise_frames = noise_frames
        self._kappa2 = kappa**2
        self._largest_hit = np.zeros(pixels, np.float32)  # what a cosmic ray can add to the total at most
        self._total, self._dof, self._read_dof = (np.zeros(pixels, np.float32) for _ in range(3))
        self._hits = 0.0
        self._untouched: Bools = np.ones(pixels, np.bool_)  # without a rejected sample

    def add(self, cell: CellScatter) -> None:
        """Take in a cell; ValueError for arrays of another size."""
        if any(a.shape != self._total.shape for a in vars(cell).values()):
            raise ValueError(f"arrays must have shape {self._total.shape}")
        good = np.isfinite(cell.scatter) & (cell.samples >= 2) & (cell.variance_adu2 > 0)
        if not good.any():
            return
        n = int(np.bincount(cell.samples[good].astype(np.int64)).argmax())
        whole = good & (cell.samples == n)
        kind = self._classes(cell.variance_adu2, whole)
        coarse = float(np.median(cell.variance_adu2[whole])) < SMOOTH_ADU**2
        scale = _scales(cell.scatter, kind, whole, _chi2_median(n - 1), coarse)[kind]
        share = np.minimum(self._read_variance / np.where(good, cell.variance_adu2, np.inf), 1.0)
        dof = np.where(good, cell.samples - 1.0, 0.0).astype(np.float32)
        self._total += np.where(good, cell.scatter / scale, np.float32(0))
        self._largest_hit = np.maximum(self._largest_hit, np.where(good, np.float32(self._kappa2) / scale, 0))
        self._dof += dof
        self._read_dof += dof * share
        self._untouched &= ~good | (cell.rejected == 0)
        self._hits += self._hits_a_pixel(cell, whole & (kind == 0), n)

    def flag(self, rate: float) -> NDArray[np.uint16]:
        """(P,) UNSTABLE where at most `rate` of stable pixels scatter as much; DEAD where a pixel does not vary.

        Raises ValueError for a rate that is not between 0 and 1.
        """
        if not 0.0 < rate < 1.0:
            raise ValueError(f"the rate of false positives must be between 0 and 1, not {rate}")
        bits = np.zeros(self._total.shape, np.uint16)
        known = self._dof >= LEAST_DOF
        dof = np.maximum(self._dof, np.float32(1))
        suspects = np.flatnonzero(known & (self._total > _by_dof(dof, lambda d: 2.0 * gammainccinv(0.5 * d, rate))))
        certainty = self._certainty(suspects)
        total, free, hit = (a[suspects].astype(float) for a in (self._total, dof, self._largest_hit))
        chance = _chance(total, free, certainty, self._hits, hit)
        bits[suspects[chance < rate]] |= np.uint16(DQ.UNSTABLE)
        still = self._total < _by_dof(dof, lambda d: 2.0 * gammaincinv(0.5 * d, STILL_RATE))
        bits[(self._dof >= STILL_DOF) & still] |= np.uint16(DQ.DEAD)
        return bits

    def _hits_a_pixel(self, cell: CellScatter, plain: Bools, n: int) -> float:
        """Cosmic rays that hit a pixel in the n samples of a cell: from pixels with none and with one, whose other
        samples scatter no more than those of half of the stable ones. Pixels with more are mostly telegraphs."""
        none = int(np.count_nonzero(cell.rejected[plain] == 0))
        hit = plain & (cell.rejected == 1)
        if n < 3:
            return int(np.count_nonzero(hit)) / max(none, 1)
        calm = cell.scatter[hit] - self._kappa2 <= _chi2_median(n - 2)
        return 2.0 * int(np.count_nonzero(calm)) / max(none, 1)

    def _classes(self, variance: F4, whole: Bools) -> NDArray[np.uint8]:
        """0 for ordinary pixels, then by the share of charge in the noise; the last for noisy ones."""
        relative = variance / self._read_variance
        steps = np.array(SIGNAL_STEPS, np.float32) * np.median(relative[whole])
        kind = np.searchsorted(steps, relative).astype(np.uint8)
        kind[self._noisy] = len(SIGNAL_STEPS) + 1
        return kind

    def _certainty(self, pixels: NDArray[np.intp]) -> F8:
        """Degrees of freedom that the variance of a frame is known with, of some pixels."""
        share = self._read_dof / np.maximum(self._dof, np.float32(1))
        ordinary = ~self._noisy & (self._dof > 0)
        common = self._certainty_of_ordinary(ordinary, share) if ordinary.any() else SURE_DOF
        alone = min(float(self._noise_frames), common) if self._noise_frames else common
        of_read_noise = np.where(self._noisy[pixels], alone, common)
        spread = of_read_noise / np.maximum(share[pixels].astype(np.float64), 1e-3) ** 2
        return np.asarray(np.minimum(spread, SURE_DOF))

    def _certainty_of_ordinary(self, ordinary: Bools, share: NDArray[np.floating]) -> float:
        """The same of the read noise's variance, from how widely the chi² of pixels without outliers spread."""
        most = float(np.median(self._dof[ordinary]))
        middle = float(np.median(share[ordinary]))
        some = ordinary & self._untouched & (self._dof == most) & (share > 0.8 * middle)
        n = int(np.count_nonzero(some))
        if n < FEW_TO_FIT:
            return SURE_DOF
        return min(fit_variance_prior(self._total[some] / most, np.full(n, most)).core_dof * middle**2, SURE_DOF)


def _chi2_median(dof: int) -> float:
    return float(2.0 * gammaincinv(0.5 * dof, 0.5))


def _scales(scatter: F4, kind: NDArray[np.uint8], whole: Bools, expected: float, coarse: bool) -> F4:
    """Median chi² of each class over the expected one; of coarse data never below 1."""
    last = len(SIGNAL_STEPS) + 1
    out = np.ones(last + 1, np.float32)
    for k in range(last + 1):
        members = scatter[whole & (kind == k)]
        if members.size >= FEW_OF_CLASS:
            least = LEAST_OF_ORDINARY if k in (0, last) else LEAST_SCALE
            out[k] = max(float(np.median(members)) / expected, 1.0 if coarse else least)
        elif k:
            out[k] = out[0 if k == last else k - 1]
    return out


def _by_dof(dof: F4, function: Callable[[F8], Any]) -> F4:
    """A function of the degrees of freedom, which are few whole numbers above 0; (P,)."""
    most = int(dof.max(initial=1))
    table = np.concatenate(([0.0], np.asarray(function(np.arange(1.0, most + 1.0)), np.float64)))
    return table.astype(np.float32)[dof.astype(np.intp)]


def _chance(total: F8, dof: F8, certainty: F8, hits: float, of_hit: F8) -> F8:
    """Probability that a stable pixel scatters so much. hits : cosmic rays expected in all its samples together;
    of_hit : what one adds."""
    out = np.zeros(total.shape)
    most = int(np.ceil(hits + 8.0 * np.sqrt(hits))) + 3
    for k in range(most + 1):
        weight = float(np.exp(k * np.log(max(hits, 1e-12)) - hits - gammaln(k + 1.0)))
        left = dof - k
        rest = (total - of_hit * k) / np.maximum(left, 1.0)
        out += weight * np.where(
            (left > 0) & (rest > 0), fdtrc(np.maximum(left, 1.0), certainty, np.maximum(rest, 0.0)), 1.0
        )
    return out
