"""Which frames the numbers of `reference.yaml` are measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkpipe.files.index import RawFrame
from darkpipe.science.cells import CellOfFrames

MOST_OF_ONE = 20  # frames of one temperature or cell
MOST_OF_ALL = 60  # frames that the read noise is measured on


@dataclass(frozen=True)
class Witnesses:
    """Frames that tell read noise and conversion gain.

    noise : one list a temperature; biases if `has_bias`, else darks of one cell.
    bright : darks of one cell, for the gain. zero : biases nearest to them in temperature, or shorter darks of their
    temperature; empty: there are none, and the gain cannot be measured.
    """

    noise: Sequence[Sequence[RawFrame]]
    bright: Sequence[RawFrame]
    zero: Sequence[RawFrame]
    has_bias: bool


def bias_witnesses(stacks: Sequence[Sequence[RawFrame]]) -> list[list[RawFrame]]:
    """Biases that the read noise is measured on, a list a temperature: all temperatures alike, no more than enough.

    Temperatures with one frame are left out where another has more.
    """
    several = [s for s in stacks if len(s) > 1] or list(stacks)
    each = min(MOST_OF_ONE, max(2, MOST_OF_ALL // max(len(several), 1)))
    return [list(s[:each]) for s in several][: MOST_OF_ALL // 2]


def choose_witnesses(
    darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], biases: Sequence[tuple[float, Sequence[RawFrame]]]
) -> Witnesses:
    """The frames for all of it.

    Parameters
    ----------
    darks, cells : the darks of a campaign and their cells. biases : (temperature [°C], frames) of each master bias.
    """
    bright = _extreme(darks, cells, brightest=True)
    bright_frames = [darks[i] for i in bright.members][:MOST_OF_ONE] if bright else []
    if biases:
        zero: Sequence[RawFrame] = []
        if bright:
            t = bright.temperature.temperature_c
            # of those at hand the nearest in temperature, and two frames rather than one where they are as near
            zero = min(biases, key=lambda b: (round(abs(b[0] - t), 1), -min(len(b[1]), 2)))[1][:MOST_OF_ONE]
        return Witnesses(bias_witnesses([frames for _, frames in biases]), bright_frames, list(zero), True)
    short = _extreme(darks, cells, brightest=False)
    noise = [[darks[i] for i in short.members][:MOST_OF_ONE]] if short else []
    return Witnesses(noise, bright_frames, _shorter(darks, cells, bright), False)


def _extreme(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], *, brightest: bool) -> CellOfFrames | None:
    """The cell with the highest level (or shortest exposure) among those with two frames or more, if any has."""
    many = [c for c in cells if len(c.members) > 1] or list(cells)

    def level(cell: CellOfFrames) -> float:
        return float(np.median([darks[i].median for i in cell.members]))

    if brightest:
        return max(many, key=level, default=None)
    return min(many, key=lambda c: (c.exposure_s, level(c)), default=None)


def _shorter(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], bright: CellOfFrames | None) -> list[RawFrame]:
    """Darks of the bright cell's temperature and at most half of its exposure: those with least signal."""
    if bright is None:
        return []
    t = bright.temperature.temperature_c
    near = [c for c in cells if c.temperature.temperature_c == t and 2.0 * c.exposure_s <= bright.exposure_s]
    chosen = min(near, key=lambda c: c.exposure_s, default=None)
    return [darks[i] for i in chosen.members][:MOST_OF_ONE] if chosen else []


def names(stacks: Sequence[Sequence[RawFrame]]) -> list[list[str]]:
    """Files of stacks, as a job's plain parameters."""
    return [[f.file for f in stack] for stack in stacks]


def of_names(files: Sequence[Sequence[str]], frames: Mapping[str, RawFrame]) -> list[list[RawFrame]]:
    """The reverse."""
    return [[frames[name] for name in stack] for stack in files]
