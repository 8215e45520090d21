"""Pixels that change from frame to frame by more than noise and cosmic rays explain: telegraph pixels.

What is tested is whether one level, noise, and now and then a cosmic ray explain the frames of a pixel. Combining
gives each cell's scatter: the chi-square of its samples about their mean, in which a high outlier counts as kappa² at
most, since it may be a cosmic ray, and a low one in full, since that is never one. A pixel that k cosmic rays hit in
n samples has the scatter chi²(n - 1 - k) + k kappa²; k is Poisson with the rate that the ordinary pixels show.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.flags import DQ
from darkpipe.science.order import class_medians, median
from darkpipe.science.shrinkage import fit_variance_prior
from darkpipe.science.special import fdtrc, gammainccinv, gammaincinv, gammaln
from darkpipe.science.unstable_kernel import STILL, SUSPECT, add_cell, classify, count_samples, mark_whole, suspect

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

SIGNAL_STEPS = (1.5, 4.0, 16.0, 64.0)  # classes of a frame's variance, over that of the typical pixel
NOISY = 1.5  # read noise, over that of the typical pixel, of a pixel whose noise its own frames alone tell
FEW_OF_CLASS = 200  # pixels below which a class takes the scale of the next fainter one
FEW_TO_FIT = 5000  # pixels below which the noise model's own error is not told
LEAST_SCALE, LEAST_OF_ORDINARY = 0.1, 0.5
SMOOTH_ADU = 2.0  # noise of a frame below which chi² has few distinct values, so that its median says little
ENOUGH_TO_FIT = 200_000  # pixels that their error is told from
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


@dataclass(frozen=True)
class NoiseFound:
    """What the pixels say of a cell: borders of the classes (of a frame's variance over that of its read noise), the
    scale of chi² in each, and the cosmic rays in a pixel's samples."""

    steps: F4
    scale: F4
    hits: float


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
    like : pixels of the same sensor that went through the same cells and the same tests before: what these say of the
        noise model is taken for these pixels, too, so that a large sensor is tested band by band.
    """

    def __init__(
        self, pixels: int, read_noise_adu: F4 | float, noise_frames: int, kappa: float, like: FrameScatter | None = None
    ) -> None:
        noise = np.broadcast_to(np.asarray(read_noise_adu, np.float32), (pixels,))
        self._like = like
        self._middle: float = like._middle if like is not None else 1.0
        if like is None and pixels:
            self._middle = median(noise[np.isfinite(noise)]) if np.ndim(read_noise_adu) else float(noise[0])
        self._read_variance = np.where(np.isfinite(noise), noise, np.float32(self._middle)).astype(np.float32) ** 2
        self._noisy = self._read_variance > (NOISY * self._middle) ** 2
        self._noise_frames = noise_frames
        self._kappa2 = kappa**2
        self._largest_hit = np.zeros(pixels, np.float32)  # what a cosmic ray can add to the total at most
        self._total, self._dof, self._read_dof = (np.zeros(pixels, np.float32) for _ in range(3))
        self._hits = 0.0
        self._untouched: Bools = np.ones(pixels, np.bool_)  # without a rejected sample
        self._cells: list[NoiseFound | None] = []
        self._common: list[Callable[[], float]] = []  # of each test, what `_certainty_of` found or will find

    def add(self, cell: CellScatter) -> None:
        """Take in a cell; ValueError for arrays of another size."""
        if any(a.shape != self._total.shape for a in vars(cell).values()):
            raise ValueError(f"arrays must have shape {self._total.shape}")
        self.take(cell, self.measure(cell) if self._like is None else self._like._cells[len(self._cells)])

    def take(self, cell: CellScatter, found: NoiseFound | None) -> None:
        """The same, with what `measure` gave, of cells of the right size."""
        self._cells.append(found)
        if found is None:
            return
        self._hits += found.hits
        run: Any = add_cell
        run(
            cell.scatter, np.asarray(cell.samples, np.int32), np.asarray(cell.rejected, np.uint16), cell.variance_adu2,
            self._read_variance, self._noisy, found.steps, found.scale, np.float32(self._kappa2),
            (self._total, self._largest_hit, self._dof, self._read_dof), self._untouched,
        )  # fmt: skip

    def measure(self, cell: CellScatter) -> NoiseFound | None:
        """What these pixels say of the noise model in a cell; None where the cell does not tell. Several cells may be
        measured at a time, in threads."""
        counts = np.zeros(int(cell.samples.max(initial=0)) + 1, np.int64)
        run: Any = count_samples
        run(cell.scatter, cell.samples, cell.variance_adu2, counts)
        if not counts.any():
            return None
        n = int(counts.argmax())
        relative, kind = np.empty_like(self._total), np.empty(self._total.shape, np.uint8)
        run = mark_whole
        faint = run(
            cell.scatter, cell.samples, cell.variance_adu2, self._read_variance, n, np.float32(SMOOTH_ADU**2), relative,
            kind,
        )  # fmt: skip
        steps = np.array(SIGNAL_STEPS, np.float32) * class_medians(relative, kind, 1)[0][0]
        run = classify
        run(relative, self._noisy, steps, kind)
        scale = _scales(cell.scatter, kind, _chi2_median(n - 1), coarse=2 * faint > counts[n])
        return NoiseFound(steps, scale, self._hits_a_pixel(cell, kind == 0, n))

    def flag(self, rate: float) -> NDArray[np.uint16]:
        """(P,) UNSTABLE where at most `rate` of stable pixels scatter as much; DEAD where a pixel does not vary.

        Raises ValueError for a rate that is not between 0 and 1.
        """
        if not 0.0 < rate < 1.0:
            raise ValueError(f"the rate of false positives must be between 0 and 1, not {rate}")
        bits = np.zeros(self._total.shape, np.uint16)
        most = int(self._dof.max(initial=1))
        code = np.empty(bits.shape, np.uint8)
        look: Any = suspect
        look(self._total, self._dof, _upper_limits(most, rate), _lower_limits(most), LEAST_DOF, STILL_DOF, code)
        bits[(code & STILL) != 0] |= np.uint16(DQ.DEAD)
        suspects = np.flatnonzero(code & SUSPECT)
        certainty = self._certainty(suspects)
        dof = np.maximum(self._dof[suspects], np.float32(1))
        total, free, hit = (a.astype(float) for a in (self._total[suspects], dof, self._largest_hit[suspects]))
        chance = _chance(total, free, certainty, self._hits, hit)
        bits[suspects[chance < rate]] |= np.uint16(DQ.UNSTABLE)
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

    def settle(self, pool: Executor) -> None:
        """What `flag` finds out for those that this scatter is `like` of, at the same place among the cells: for a
        sample of which no bits are wanted. A thread of the pool finds it while cells are added."""
        self._common.append(pool.submit(_certainty_of, *self._ordinary()).result)

    def _certainty(self, pixels: NDArray[np.intp]) -> F8:
        """Degrees of freedom that the variance of a frame is known with, of some pixels."""
        common = _certainty_of(*self._ordinary()) if self._like is None else self._like._common[len(self._common)]()
        self._common.append(lambda: common)
        share = self._read_dof[pixels] / np.maximum(self._dof[pixels], np.float32(1))
        alone = min(float(self._noise_frames), common) if self._noise_frames else common
        of_read_noise = np.where(self._noisy[pixels], alone, common)
        spread = of_read_noise / np.maximum(share.astype(np.float64), 1e-3) ** 2
        return np.asarray(np.minimum(spread, SURE_DOF))

    def _ordinary(self) -> tuple[F4, float, float]:
        """Ordinary pixels without outliers: chi² over its degrees of freedom, these, and the median share of the read
        noise in them; none where they are too few to tell."""
        ordinary = ~self._noisy & (self._dof > 0)
        nothing = np.zeros(0, np.float32), 0.0, 0.0
        if not ordinary.any():
            return nothing
        share = self._read_dof / np.maximum(self._dof, np.float32(1))
        most = median(self._dof[ordinary])
        middle = median(np.asarray(share[ordinary], np.float32))
        some = np.flatnonzero(ordinary & self._untouched & (self._dof == most) & (share > 0.8 * middle))
        if some.size < FEW_TO_FIT:
            return nothing
        some = some[:: max(1, some.size // ENOUGH_TO_FIT)]
        return self._total[some] / most, most, middle


def _certainty_of(scatter: F4, dof: float, share: float) -> float:
    """Degrees of freedom that the read noise's variance is known with, from how widely the chi² of pixels spread
    (`FrameScatter._ordinary`)."""
    if not scatter.size:
        return SURE_DOF
    spread = fit_variance_prior(scatter, np.full(scatter.size, dof)).core_dof
    return min(spread * share**2, SURE_DOF)


def _chi2_median(dof: int) -> float:
    return float(2.0 * gammaincinv(0.5 * dof, 0.5))


def _scales(scatter: F4, kind: NDArray[np.uint8], expected: float, coarse: bool) -> F4:
    """Median chi² of each class over the expected one; of coarse data never below 1."""
    last = len(SIGNAL_STEPS) + 1
    out = np.ones(last + 1, np.float32)
    middle, members = class_medians(scatter, kind, last + 1)
    for k in range(last + 1):
        if members[k] >= FEW_OF_CLASS:
            least = LEAST_OF_ORDINARY if k in (0, last) else LEAST_SCALE
            out[k] = max(float(middle[k]) / expected, 1.0 if coarse else least)
        elif k:
            out[k] = out[0 if k == last else k - 1]
    return out


@lru_cache(maxsize=64)
def _upper_limits(most: int, rate: float) -> F4:
    """chi² that at most `rate` of stable pixels exceed, for 0 to `most` degrees of freedom (0: those of 1)."""
    dof = np.maximum(np.arange(most + 1.0), 1.0)
    return np.asarray(2.0 * gammainccinv(0.5 * dof, rate), np.float32)


@lru_cache(maxsize=64)
def _lower_limits(most: int) -> F4:
    """chi² that no stable pixel falls short of, for 0 to `most` degrees of freedom."""
    dof = np.maximum(np.arange(most + 1.0), 1.0)
    return np.asarray(2.0 * gammaincinv(0.5 * dof, STILL_RATE), np.float32)


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
