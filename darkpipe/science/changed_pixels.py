"""Pixels that became hot since a model was made, or ceased to be: over several cells, so that no cosmic ray counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.special import gammainccinv

F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]

CALM_RATE = 0.01  # of the pixels without a cosmic ray, the fraction whose frames scatter too much to vouch
LEAST_SHARE = 1.0 / 3.0  # of the change that the other cells must show


@dataclass(frozen=True)
class Excess:
    """Change of each pixel's signal over all cells, in the reference cell [ADU], (p,).

    signal_adu, error_adu : change and 1 sigma; sigmas : their ratio. NaN where no cell tells.
    confirmed : more than one cell shows a rise, or one whose frames agree with each other: no cosmic ray.
    """

    signal_adu: F4
    error_adu: F4
    sigmas: F4
    confirmed: Bools


def calm(count: NDArray[np.uint16], chi2: F4) -> Bools:
    """(p,) whether the frames of a master agree: two or more were kept, and their reduced chi² about the mean is no
    larger than noise makes it. A cosmic ray in one of two or three frames that the clipping let pass is not calm."""
    dof = np.maximum(count.astype(np.int64) - 1, 0)
    limit = np.array(
        [0.0, *(2.0 * gammainccinv(0.5 * n, CALM_RATE) / n for n in range(1, int(dof.max(initial=0)) + 1))]
    )
    with np.errstate(invalid="ignore"):
        return np.asarray((dof > 0) & (chi2 <= limit[dof]))


def combine_excess(
    difference: F4, error: F4, template: NDArray[np.floating], vouching: Bools, confirm_sigma: float
) -> Excess:
    """One change a pixel from those in n cells.

    Parameters
    ----------
    difference, error : (n, p) master minus model, and 1 sigma [ADU]; not finite: the cell does not tell.
    template : (n, p) signal of a defect in each cell over that in the reference cell, not negative.
    vouching : (n, p) cells whose frames agree with each other.
    confirm_sigma : significance that the other cells together must reach where the strongest one does not vouch.
    """
    known = np.isfinite(difference) & np.isfinite(error) & (error > 0)
    inverse = np.where(known, 1.0 / np.where(known, error, 1.0) ** 2, 0.0)
    top = template * np.where(known, difference, 0.0) * inverse
    bottom = template**2 * inverse
    total, weight = top.sum(axis=0), bottom.sum(axis=0)
    best = np.argmax(top, axis=0)[None]
    rest = total - np.take_along_axis(top, best, 0)[0]
    rest_weight = weight - np.take_along_axis(bottom, best, 0)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        signal, sigma = total / weight, 1.0 / np.sqrt(weight)
        others = rest / rest_weight
        agree = (rest / np.sqrt(rest_weight) > confirm_sigma) & (others > LEAST_SHARE * signal)
    vouched = np.take_along_axis(vouching, best, 0)[0]
    none = weight <= 0
    signal[none] = sigma[none] = np.nan
    return Excess(
        signal.astype(np.float32),
        sigma.astype(np.float32),
        (signal / sigma).astype(np.float32),
        np.asarray((vouched | agree) & ~none),
    )


@dataclass(frozen=True)
class HotChanges:
    """Masks (p,): became hot; ceased to be; looks new but only one frame shows it, so it may be a cosmic ray."""

    new: Bools
    vanished: Bools
    unconfirmed: Bools


def judge_excess(
    before_adu: F4,
    excess: Excess,
    was_hot: Bools,
    compared: Bools,
    hot_above_adu: float,
    median_adu: float,
    sigma: float,
) -> HotChanges:
    """Which pixels changed sides.

    New: not hot before, above the threshold of hot pixels now, by more than `sigma`. Vanished: hot before, below the
    threshold now, by more than `sigma`, and with less than half of its signal above the median left.

    Parameters
    ----------
    before_adu : (p,) the model's signal in the reference cell. was_hot, compared : (p,) flagged hot by the model's
    mask; pixels that the model describes at all. hot_above_adu, median_adu : of the reference cell.
    """
    now = before_adu + excess.signal_adu
    with np.errstate(invalid="ignore"):
        rises = compared & ~was_hot & (before_adu <= hot_above_adu) & (now > hot_above_adu) & (excess.sigmas > sigma)
        falls = compared & (was_hot | (before_adu > hot_above_adu)) & (now <= hot_above_adu)
        falls &= (excess.sigmas < -sigma) & (now - median_adu < 0.5 * (before_adu - median_adu))
    return HotChanges(rises & excess.confirmed, falls, rises & ~excess.confirmed)
