"""Which frames the numbers of `reference.yaml` are measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkpipe.files.index import RawFrame
from darkpipe.science.cells import CellOfFrames

MOST_OF_ONE = 20  # frames of one temperature or cell
MOST_OF_ALL = 60  # frames that the read noise is measured on
MOST_CELLS = 6  # that the gain is measured on
NEAR_C = 1.0  # within which biases are those of a dark's temperature
PAIR_RATIO = (1.4, 4.0)  # of the exposures of two single darks that are compared with each other

Biases = Sequence[tuple[float, Sequence[RawFrame]]]


@dataclass(frozen=True)
class GainCell:
    """Darks whose scatter tells the conversion gain, and what their signal is measured with.

    frames : two or more of one cell; as `pair`, one of each of two exposures, the longer first.
    below : biases, or shorter darks; empty: none, so that the zero of the signal is not known. The signal is
    (mean of above - mean of below) · scale; `above` is empty where that is `frames` itself.
    distance_c : by how much the temperature of below differs.
    """

    frames: Sequence[RawFrame]
    above: Sequence[RawFrame]
    below: Sequence[RawFrame]
    scale: float
    temperature_c: float
    distance_c: float
    pair: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a job's plain parameters, frames by their files."""
        named = {k: [f.file for f in getattr(self, k)] for k in ("frames", "above", "below")}
        return {**vars(self), **named}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], frames: Mapping[str, RawFrame]) -> GainCell:
        """The reverse."""
        stacks = {k: [frames[name] for name in data[k]] for k in ("frames", "above", "below")}
        return cls(**{**data, **stacks})

    @property
    def files(self) -> list[RawFrame]:
        return [*self.frames, *self.above, *self.below]


@dataclass(frozen=True)
class Witnesses:
    """Frames that tell read noise and conversion gain.

    noise : one list a temperature; biases if `has_bias`, else darks of one cell. noise_c : these temperatures.
    gain : cells or pairs for the gain; empty: it cannot be measured.
    """

    noise: Sequence[Sequence[RawFrame]]
    noise_c: Sequence[float]
    gain: Sequence[GainCell]
    has_bias: bool


def bias_witnesses(stacks: Sequence[Sequence[RawFrame]]) -> list[list[RawFrame]]:
    """Biases that the read noise is measured on, a list a temperature: all temperatures alike, no more than enough.

    Temperatures with one frame are left out where another has more.
    """
    several = [s for s in stacks if len(s) > 1] or list(stacks)
    each = min(MOST_OF_ONE, max(2, MOST_OF_ALL // max(len(several), 1)))
    return [list(s[:each]) for s in several][: MOST_OF_ALL // 2]


def choose_witnesses(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], biases: Biases) -> Witnesses:
    """The frames for all of it.

    Parameters
    ----------
    darks, cells : the darks of a campaign and their cells. biases : (temperature [°C], frames) of each master bias.
    """
    if biases:
        noise = bias_witnesses([frames for _, frames in biases])
        of_file = {frames[0].file: t for t, frames in biases}
        gain = _chosen([*_cells_on_bias(darks, cells, biases), *_pairs_on_bias(darks, cells, biases)])
        return Witnesses(noise, [of_file[stack[0].file] for stack in noise], gain, True)
    short = min(_several(cells), key=lambda c: (c.exposure_s, _level(darks, c)), default=None)
    noise = [_frames(darks, short)] if short else []
    temperature = [short.temperature.temperature_c] if short else []
    return Witnesses(noise, temperature, _chosen(_cells_on_darks(darks, cells)), False)


def _several(cells: Sequence[CellOfFrames]) -> list[CellOfFrames]:
    """Cells of two frames or more, if any has."""
    return [c for c in cells if len(c.members) > 1] or list(cells)


def _frames(darks: Sequence[RawFrame], cell: CellOfFrames) -> list[RawFrame]:
    return [darks[i] for i in cell.members][:MOST_OF_ONE]


def _level(darks: Sequence[RawFrame], cell: CellOfFrames) -> float:
    return float(np.median([darks[i].median for i in cell.members]))


def _nearest(biases: Biases, temperature_c: float) -> tuple[list[RawFrame], float]:
    """Of those at hand the nearest in temperature, two frames rather than one where they are as near; its distance."""
    found = min(biases, key=lambda b: (round(abs(b[0] - temperature_c), 1), -min(len(b[1]), 2)))
    distance = abs(found[0] - temperature_c)
    return list(found[1][:MOST_OF_ONE]), 0.0 if distance <= NEAR_C else distance


def _cells_on_bias(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], biases: Biases) -> list[GainCell]:
    made = []
    for cell in cells:
        if len(cell.members) > 1:
            t = cell.temperature.temperature_c
            below, distance = _nearest(biases, t)
            made.append(GainCell(_frames(darks, cell), [], below, 1.0, t, distance))
    return made


def _pairs_on_bias(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames], biases: Biases) -> list[GainCell]:
    """Single darks of one temperature and two exposures, each used once, the longest first."""
    made = []
    single = sorted((c for c in cells if len(c.members) == 1), key=lambda c: -c.exposure_s)
    taken: set[int] = set()
    for k, long in enumerate(single):
        t = long.temperature.temperature_c
        for j in range(k + 1, len(single)):
            short = single[j]
            low, high = PAIR_RATIO
            fits = short.temperature.temperature_c == t and low <= long.exposure_s / max(short.exposure_s, 1e-9) <= high
            if k not in taken and j not in taken and fits:
                taken |= {k, j}
                below, distance = _nearest(biases, t)
                pair = [*_frames(darks, long), *_frames(darks, short)]
                made.append(GainCell(pair, [], below, 1.0, t, distance, pair=True))
    return made


def _cells_on_darks(darks: Sequence[RawFrame], cells: Sequence[CellOfFrames]) -> list[GainCell]:
    """Without biases: the signal between the shortest exposure of a temperature and longer ones is taken as linear."""
    made = []
    for t in sorted({c.temperature.temperature_c for c in cells}):
        here = sorted((c for c in cells if c.temperature.temperature_c == t), key=lambda c: c.exposure_s)
        short, long = here[0], here[-1]
        reaches = long.exposure_s >= 2.0 * short.exposure_s
        span = long.exposure_s - short.exposure_s
        for cell in here:
            frames = _frames(darks, cell)
            if len(frames) < 2:
                continue
            if not reaches:
                made.append(GainCell(frames, [], [], 1.0, t, 0.0))
            elif cell is short:
                above = _frames(darks, long)
                made.append(GainCell(frames, above, frames, short.exposure_s / span, t, 0.0))
            elif cell.exposure_s >= 2.0 * short.exposure_s:
                scale = cell.exposure_s / (cell.exposure_s - short.exposure_s)
                made.append(GainCell(frames, [], _frames(darks, short), scale, t, 0.0))
    return made


def _chosen(cells: Sequence[GainCell]) -> list[GainCell]:
    """Those that tell most: the brightest ones, with many frames; one with little signal, to tell the noise at none."""

    def signal(cell: GainCell) -> float:
        above, below = cell.above or cell.frames, cell.below or cell.frames
        level = float(np.median([f.median for f in above[:1] if math.isfinite(f.median)] or [0.0]))
        zero = float(np.median([f.median for f in below if math.isfinite(f.median)] or [0.0]))
        return max(level - zero, 0.0) * cell.scale * (0.6 if cell.pair else 1.0)

    if not cells:
        return []
    signals = [signal(c) for c in cells]
    top = max(max(signals), 1e-9)

    def worth(k: int) -> float:
        freedom = 1.0 if cells[k].pair else len(cells[k].frames) - 1.0
        return freedom * (signals[k] / (signals[k] + 0.2 * top)) ** 2

    order = sorted(range(len(cells)), key=lambda k: (-worth(k), k))
    chosen = order[:MOST_CELLS]
    rest = [k for k in order[MOST_CELLS:] if not cells[k].pair]
    if rest:
        chosen[-1] = min(rest, key=lambda k: (signals[k], k))
    return [cells[k] for k in sorted(chosen)]


def names(stacks: Sequence[Sequence[RawFrame]]) -> list[list[str]]:
    """Files of stacks, as a job's plain parameters."""
    return [[f.file for f in stack] for stack in stacks]


def of_names(files: Sequence[Sequence[str]], frames: Mapping[str, RawFrame]) -> list[list[RawFrame]]:
    """The reverse."""
    return [[frames[name] for name in stack] for stack in files]
