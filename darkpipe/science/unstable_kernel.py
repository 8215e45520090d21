"""The loops of `unstable`: a cell added to the sums of its pixels, and the pixels that are worth a closer look."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel
from darkpipe.science.order import NO_CLASS

F4 = NDArray[np.float32]

SUSPECT, STILL = 1, 2


@inlined
def _class_of(relative: np.float32, noisy: np.bool_, steps: F4) -> int:
    """0 for ordinary pixels, then by the share of charge in the noise; the last for noisy ones."""
    kind = 0
    for k in range(steps.size):
        kind += relative > steps[k]
    return steps.size + 1 if noisy else kind


@inlined
def _tells(scatter: np.float32, samples: np.int32, variance: np.float32) -> np.bool_:
    """Whether the samples of a pixel say anything of its noise."""
    return math.isfinite(scatter) and samples >= 2 and variance > 0  # type: ignore[return-value]


@kernel
def count_samples(scatter: F4, samples: NDArray[np.int32], variance: F4, counts: NDArray[np.int64]) -> None:
    """How many of the pixels (P,) that tell of a cell have so many samples: (most + 1,) counts."""
    for i in range(scatter.size):
        if _tells(scatter[i], samples[i], variance[i]):
            counts[samples[i]] += 1


@kernel
def mark_whole(
    scatter: F4,
    samples: NDArray[np.int32],
    variance: F4,
    read_variance: F4,
    n: int,
    smooth: np.float32,
    relative: F4,
    kind: NDArray[np.uint8],
) -> int:
    """Variance of a frame over that of its read noise; kind 0 for pixels that tell by n samples, NO_CLASS for the rest.
    Returns how many of the first have a variance below `smooth`."""  # fmt: skip
    below = 0
    for i in range(scatter.size):
        relative[i] = variance[i] / read_variance[i]
        if samples[i] == n and _tells(scatter[i], samples[i], variance[i]):
            kind[i] = 0
            below += variance[i] < smooth
        else:
            kind[i] = NO_CLASS
    return below


@kernel
def classify(relative: F4, noisy: NDArray[np.bool_], steps: F4, kind: NDArray[np.uint8]) -> None:
    """Class of each pixel, (P,), that is marked 0: by its variance of a frame over that of its read noise."""
    for i in range(relative.size):
        if kind[i] == 0:
            kind[i] = _class_of(relative[i], noisy[i], steps)


@kernel
def frame_variance(
    error: F4,
    of_bias: F4,
    dq: NDArray[np.uint16],
    count: NDArray[np.uint16],
    rejected: NDArray[np.uint16],
    untold: int,
    samples: NDArray[np.int32],
    variance: F4,
) -> None:
    """Samples of a pixel and the variance [ADU²] of one frame, from its master: (mean error² - bias error²)·count.

    All (P,); 0 where an error is not finite or a bit of `untold` is set.
    """  # fmt: skip
    for i in range(error.size):
        if math.isfinite(error[i]) and math.isfinite(of_bias[i]) and (dq[i] & untold) == 0:
            samples[i] = np.int32(count[i]) + np.int32(rejected[i])
            variance[i] = (error[i] * error[i] - of_bias[i] * of_bias[i]) * np.float32(count[i])
        else:
            samples[i] = 0
            variance[i] = np.float32(0.0)


@kernel
def add_cell(
    scatter: F4,
    samples: NDArray[np.int32],
    rejected: NDArray[np.uint16],
    variance: F4,
    read_variance: F4,
    noisy: NDArray[np.bool_],
    steps: F4,
    scale: F4,
    kappa2: np.float32,
    sums: tuple[F4, F4, F4, F4],
    untouched: NDArray[np.bool_],
) -> None:
    """Add a cell to the sums (P,) of chi², largest addition of a cosmic ray, degrees of freedom, and those of them that
    are of the read noise; `untouched` goes where a sample was rejected."""  # fmt: skip
    total, largest_hit, dof, read_dof = sums
    one = np.float32(1.0)
    for i in range(scatter.size):
        if _tells(scatter[i], samples[i], variance[i]):
            of_class = scale[_class_of(variance[i] / read_variance[i], noisy[i], steps)]
            share = read_variance[i] / variance[i]
            if share > one:
                share = one
            free = np.float32(samples[i] - 1)
            hit = kappa2 / of_class
            total[i] += scatter[i] / of_class
            if hit > largest_hit[i]:
                largest_hit[i] = hit
            dof[i] += free
            read_dof[i] += free * share
            if rejected[i] != 0:
                untouched[i] = False


@kernel
def suspect(total: F4, dof: F4, upper: F4, lower: F4, least: int, least_still: int, code: NDArray[np.uint8]) -> None:
    """Which pixels (P,) scatter beyond the upper limit of their degrees of freedom (SUSPECT), or below the lower one
    (STILL); `least`: degrees of freedom that are needed for it."""
    for i in range(total.size):
        free = int(dof[i])
        found = 0
        if free >= least and total[i] > upper[free]:
            found |= 1
        if free >= least_still and total[i] < lower[free]:
            found |= 2
        code[i] = found
