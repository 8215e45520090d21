"""What pictures show of planes, for those who reduce planes to it: no picture is drawn from more than that."""

from __future__ import annotations

from typing import Final

from darkpipe.science.flags import DQ

PRINT_DPI: Final = 150
SIDE: Final = 512  # pixels of the longer side of a map that has a page of its own
PANEL_SIDE: Final = 420  # and of one of several

GRAVITY: Final = (
    DQ.FEW_SAMPLES,
    DQ.WARM,
    DQ.HOT,
    DQ.NONLINEAR,
    DQ.UNSTABLE,
    DQ.SATURATED,
    DQ.DEAD,
    DQ.FIT_FAILED,
)
"""Flags that the map of special pixels shows; the gravest last."""
