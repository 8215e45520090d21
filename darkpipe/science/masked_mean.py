"""The masked mean of a stack of frames, one frame or many at a time, in memory that does not grow with their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ
from darkpipe.science.masked_mean_kernel import accumulate
from darkpipe.science.shrinkage import fit_variance_prior

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]

MOST_FRAMES = 65535

Scatter = Literal["population", "pixel"]


@dataclass(frozen=True)
class MaskedMean:
    """A stack combined; every plane is (rows, cols), in the unit of the frames."""

    mean: F8
    """NaN where every frame was masked."""
    frame_error: F4 | None
    """Root mean square of the frames' own errors over the unmasked ones; None: they had none."""
    variance: F4
    """Sample variance of a single frame; NaN below two unmasked ones."""
    count: U2
    """Unmasked frames."""
    frames: int
    dq: U2
    """FEW_SAMPLES where fewer than two frames or fewer than half of them were unmasked."""
    input_dq: U2
    """All bits of the frames' own masks, where every frame was masked; 0 elsewhere."""

    def error(self, scatter: Scatter = "population", populations: NDArray[Any] | None = None) -> F4:
        """1 sigma of the mean, from the scatter of the frames; NaN where every frame was masked or none has a scatter.

        scatter : 'population': each pixel's variance is drawn to that of all pixels, as far as its few frames cannot
            tell it (from ten frames a standard deviation is known to 24 %). 'pixel': its own alone, NaN below two
            frames.
        populations : (rows, cols) integers, where not all pixels are of one kind: those of one number are drawn
            together, and those of other kinds tell nothing of them.
        """
        variance: NDArray[Any] = self.variance
        if scatter == "population":
            variance = np.empty(self.variance.shape)
            kinds = np.zeros(variance.shape, np.int8) if populations is None else populations
            for kind in np.unique(kinds):
                where = kinds == kind
                variance[where] = _population_variance(self.variance[where], self.count[where])
        elif scatter != "pixel":
            raise ValueError(f"scatter is 'population' or 'pixel', not {scatter!r}")
        n = np.where(self.count > 0, self.count, np.nan)
        return np.sqrt(variance / n).astype(np.float32)

    @property
    def masked(self) -> NDArray[np.bool_]:
        """The combined mask: true only where every frame is masked."""
        return np.asarray(self.count == 0)

    @property
    def enough_for_read_noise(self) -> bool:
        """Whether every pixel has at least half of the frames."""
        return bool(2 * int(self.count.min()) >= self.frames)


class MeanAccumulator:
    """Takes the frames of a stack and keeps their mean, variance and counts.

    Memory: 14 bytes a pixel, 4 more where frames have errors, 2 more where masks are integers. Means are kept relative
    to a sample of the pixel, so nothing cancels, and 30 frames at once and one by one agree to rounding.

    Parameters
    ----------
    shape : (rows, cols) of a frame.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise DesignError(f"a frame is an image of (rows, cols), not {shape}")
        self.shape = (int(shape[0]), int(shape[1]))
        pixels = self.shape[0] * self.shape[1]
        self._mean = np.zeros(pixels)
        self._squares = np.zeros(pixels, np.float32)  # sum of squares about the mean
        self._count = np.zeros(pixels, np.uint16)
        self._error2: F4 | None = None
        self._bits: U2 | None = None
        self.frames = 0

    def add(self, frames: NDArray[Any], masks: NDArray[Any] | None = None, errors: NDArray[Any] | None = None) -> None:
        """Add one frame (rows, cols) or several (n, rows, cols).

        Parameters
        ----------
        frames : float32 or float64; others are converted to float64. Non-finite pixels count as masked.
        masks : bool, or integer bits of which any masks a pixel; same shape. None: nothing is masked.
        errors : 1 sigma of each pixel, same shape; a non-finite one masks its pixel. All frames have them or none.

        Raises
        ------
        DesignError : shapes that do not fit, or errors in some frames only.
        """
        values = self._rows(frames, "frames", (np.float32, np.float64), np.float64)
        n = values.shape[0]
        self._check_errors(errors)
        if self.frames + n > MOST_FRAMES:
            raise DesignError(f"a stack holds at most {MOST_FRAMES} frames")
        mask = self._masks(masks, n)
        error = (
            np.empty((0, 0), np.float32) if errors is None else self._rows(errors, "errors", (np.float32,), np.float32)
        )
        if error.size and error.shape[0] != n:
            raise DesignError(f"{n} frame(s) and {error.shape[0]} error plane(s)")
        if error.size and self._error2 is None:
            self._error2 = np.zeros(self._mean.size, np.float32)
        if mask.dtype == np.uint16 and self._bits is None:
            self._bits = np.zeros(self._mean.size, np.uint16)
        none4, none2 = np.empty(0, np.float32), np.empty(0, np.uint16)
        accumulate(
            values, mask, error, self._mean, self._squares, self._count,
            none4 if self._error2 is None else self._error2,
            none2 if self._bits is None or mask.dtype != np.uint16 else self._bits,
        )  # fmt: skip
        self.frames += n

    def _rows(self, array: NDArray[Any], name: str, native: tuple[Any, ...], otherwise: Any) -> NDArray[Any]:
        """(n, pixels), contiguous, in native byte order."""
        values = np.asarray(array)
        if values.ndim not in (2, 3) or values.shape[-2:] != self.shape or values.shape[0] == 0:
            raise DesignError(f"{name} of shape {values.shape}: this stack has frames of {self.shape}")
        if values.dtype.kind not in "fiub":
            raise DesignError(f"{name} hold {values.dtype}, no real numbers")
        kind = next((k for k in native if values.dtype == k), otherwise)  # a swapped byte order is converted
        return np.ascontiguousarray(values, dtype=kind).reshape(-1, self._mean.size)

    def _masks(self, masks: NDArray[Any] | None, n: int) -> NDArray[Any]:
        if masks is None:
            return np.empty((0, 0), np.bool_)
        given = np.asarray(masks)
        if given.dtype.kind not in "biu":
            raise DesignError(f"masks hold {given.dtype}, no bits")
        if given.dtype.kind != "b" and given.dtype.itemsize > 2:
            # bits above the 16th still mask; they are kept as the highest
            given = ((given & 0x7FFF) | np.where(given >> 15 != 0, 0x8000, 0)).astype(np.uint16)
        mask = self._rows(given, "masks", (np.bool_,), np.uint16)
        if mask.shape[0] != n:
            raise DesignError(f"{n} frame(s) and {mask.shape[0]} mask(s)")
        return mask

    def _check_errors(self, errors: NDArray[Any] | None) -> None:
        if self.frames and (errors is None) != (self._error2 is None):
            raise DesignError("some frames of this stack have errors and some have none", do="give all or none")

    @property
    def mean(self) -> F8:
        """(pixels,) mean; 0 where every frame was masked."""
        return self._mean

    @property
    def count(self) -> U2:
        """(pixels,) unmasked frames."""
        return self._count

    @property
    def error2(self) -> F4 | None:
        """(pixels,) sum of the squares of the frames' errors over the unmasked ones."""
        return self._error2

    @property
    def input_bits(self) -> U2 | None:
        """(pixels,) all bits of the integer masks so far."""
        return self._bits

    def variance(self, pixels: slice | NDArray[Any] = slice(None)) -> F4:
        """Sample variance of a single frame at these pixels; NaN below two unmasked frames."""
        n = self._count[pixels].astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(n > 1, self._squares[pixels] / (n - 1), np.float32(np.nan)).astype(np.float32)

    def result(self) -> MaskedMean:
        """The stack combined; more frames may be added later.

        Raises
        ------
        DesignError : no frame was added.
        """
        if self.frames == 0:
            raise DesignError("a stack without frames has no mean")
        n = self._count.astype(np.float32)
        variance = self.variance()
        none = self._count == 0
        with np.errstate(invalid="ignore", divide="ignore"):
            own = None if self._error2 is None else np.sqrt(self._error2 / n).reshape(self.shape)
        few = (n < 2) | (2 * n < self.frames)
        bits = np.zeros(none.size, np.uint16) if self._bits is None else np.where(none, self._bits, 0)
        return MaskedMean(
            mean=np.where(none, np.nan, self._mean).reshape(self.shape),
            frame_error=own,
            variance=variance.reshape(self.shape),
            count=self._count.copy().reshape(self.shape),
            frames=self.frames,
            dq=np.where(few, int(DQ.FEW_SAMPLES), 0).astype(np.uint16).reshape(self.shape),
            input_dq=bits.astype(np.uint16).reshape(self.shape),
        )


def _population_variance(variance: F4, count: U2) -> F8:
    """Variance of a frame of each pixel (p,), shrunk; NaN for all where no pixel has two frames."""
    dof = np.maximum(count.astype(np.int32) - 1, 0)
    prior = fit_variance_prior(variance, dof)
    if not prior.core_variance > 0:
        return np.full(variance.shape, np.nan)
    return prior.posterior_variance(variance, dof)


def masked_mean(
    frames: NDArray[Any], masks: NDArray[Any] | None = None, errors: NDArray[Any] | None = None
) -> MaskedMean:
    """Mean of a stack (n, rows, cols) without its masked pixels; `MeanAccumulator.add` says what it takes.

    Raises
    ------
    DesignError : shapes that do not fit.
    """
    frames = np.asarray(frames)
    if frames.ndim != 3 or frames.shape[0] == 0:
        raise DesignError(f"a stack is (frames, rows, cols), not {frames.shape}")
    accumulator = MeanAccumulator((frames.shape[1], frames.shape[2]))
    accumulator.add(frames, masks, errors)
    return accumulator.result()
