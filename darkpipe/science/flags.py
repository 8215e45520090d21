"""The bits of every DQ plane, in one table.

DQ planes are uint16; a pixel of a synthetic dark carries the OR of the bits of its masters' mask and of its fit.
"""

from __future__ import annotations

from enum import IntFlag


class DQ(IntFlag):
    """Data-quality bits."""

    GOOD = 0
    HOT = 1 << 0  # dark signal far above the population in the reference cell
    WARM = 1 << 1  # clearly above the population, below hot
    DEAD = 1 << 2  # stays far below the population, or does not vary
    SATURATED = 1 << 3  # at or above the saturation level in every sample (master) or in some cell (mask)
    UNSTABLE = 1 << 4  # varies from frame to frame beyond the noise model (telegraph noise)
    NONLINEAR = 1 << 5  # does not follow the model in exposure time
    NO_BIAS = 1 << 6  # no bias for this pixel: its level is part of the fit
    FEW_SAMPLES = 1 << 7  # fewer than two samples, or fewer than half of them, were left
    FIT_FAILED = 1 << 8  # no parameters; the maps hold NaN
    AT_BOUND = 1 << 9  # a parameter stopped at the edge of its domain
    EXTRAPOLATED = 1 << 10  # asked for outside the temperatures or exposures that were fitted
    CLIPPED_LOW = 1 << 11  # samples at the bottom of the converter's range were left out
    OUTLIER = 1 << 12  # a cell disagreed with the fit beyond the noise and was left out
    PRIOR = 1 << 13  # its own data cannot tell the shape: it is borrowed from pixels of its signal level
    REPAIRED = 1 << 15  # of a calibrated frame: the value is that of its neighbours


MODEL_INVALID = DQ.FIT_FAILED | DQ.DEAD | DQ.UNSTABLE | DQ.NONLINEAR | DQ.SATURATED
"""Pixels with one of these are left out of accuracy figures of unflagged pixels (hot and warm ones are not)."""
