"""A campaign in memory: from raw frames to masters and their mask, as steps 2 to 4 make them on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table

from darkpipe.errors import FrameError
from darkpipe.files.bias_files import BiasSource, line_through
from darkpipe.files.clamp import clamp_notes, note_clamp
from darkpipe.files.corrections import (
    LINE,
    BiasStack,
    Levels,
    Tolerances,
    bias_stacks,
    bias_tables,
    cells_of,
    corrected_rows,
)
from darkpipe.files.groups import group_tables
from darkpipe.files.index import ACCEPTED, RawFrame
from darkpipe.files.masters import Cell, ReferenceValues, cells_in, master_frame
from darkpipe.files.measure import RawStack, read_noise_map
from darkpipe.files.products import Card, Frame, Product
from darkpipe.files.reference import Overrides, reference_values
from darkpipe.files.special_pixels import ReadNoise, Thresholds, by_signal, find_saturation, find_special
from darkpipe.files.stacking import Clipping, Stack, combine_stack, measure_hidden_charge, spread_in_cell
from darkpipe.files.witnesses import bias_witnesses, choose_witnesses

log = logging.getLogger("darkpipe")

LEAST_RANGE_C = 1.0  # of temperature, for a line through the biases


@dataclass(frozen=True)
class Choices:
    """How frames are grouped and combined; the defaults are those of the pipeline's settings."""

    tolerances: Tolerances = field(default_factory=lambda: Tolerances(0.5, 0.01))
    bias_temperature_tolerance_c: float = 1.0
    kappa: float = 4.5
    relative_error: float = 0.01
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass(frozen=True)
class HeldCampaign:
    """Masters of a campaign in memory.

    masters : of the cells, in their order. bias_frames : table of the bias frames, None without any. bias_masters : by
    name. rejected : why, by the name of a frame.
    """

    cells: list[Cell]
    masters: list[Frame]
    reference: ReferenceValues
    noise: Frame | None
    corrected: Table
    bias_frames: Table | None
    bias_masters: Mapping[str, Frame]
    line: Frame | None
    saturation: Frame
    mask: Frame
    rejected: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, int]:
        rows, cols = self.mask.science.shape
        return int(rows), int(cols)


def make_campaign(
    darks: Sequence[RawFrame],
    biases: Sequence[RawFrame],
    given: Frame | None,
    overrides: Overrides,
    choices: Choices | None = None,
) -> HeldCampaign:
    """Everything up to the fit.

    Parameters
    ----------
    given : a bias as a line in temperature (`bias_files.bias_of_model`), in place of bias frames; None: there is none.

    Raises
    ------
    FrameError
        when every dark was rejected.
    """
    how = choices or Choices()
    stacks, bias_frames = _biases(biases, how)
    reference, noise = _numbers(darks, biases, stacks, overrides, how)
    bias_masters = {s.name: _master_bias(s, reference, noise, how) for s in stacks.values()}
    line = given if given is not None else _line(stacks, bias_masters)
    levels = {name: Levels.of(BiasSource(frame)) for name, frame in bias_masters.items()}
    corrected = corrected_rows(
        darks, how.tolerances, reference, {s.name: s.temperature_c for s in stacks.values()}, levels,
        None if line is None else BiasSource(line, 0.0), how.bias_temperature_tolerance_c, noise is not None,
    )  # fmt: skip
    if stacks:
        note_clamp(corrected, darks, biases, how.tolerances, reference)
    rejected = _rejected([corrected, *([] if bias_frames is None else [bias_frames])])
    rows = {str(r["file"]): r for r in corrected if str(r["status"]) == ACCEPTED}
    if not rows:
        raise FrameError("every dark was rejected", do="; ".join(sorted(set(rejected.values()))))
    kept = [d for d in darks if d.file in rows]
    table, members = group_tables(kept, rows, how.tolerances, None)
    cells = cells_in(table)
    known = _Known(reference, noise, bias_masters, line, bool(clamp_notes(corrected.meta)), how)
    masters = [_master_dark(cell, _members(cell, kept, members), known) for cell in cells]
    saturation, mask = _special(cells, masters, reference, noise, how)
    return HeldCampaign(
        cells, masters, reference, noise, corrected, bias_frames, bias_masters, line, saturation, mask, rejected
    )


def _rejected(tables: Sequence[Table]) -> dict[str, str]:
    found = {str(r["file"]): str(r["reason"]) for table in tables for r in table if str(r["reason"])}
    for name, reason in found.items():
        log.warning("%s is left out: %s", name, reason)
    return found


def _biases(biases: Sequence[RawFrame], how: Choices) -> tuple[dict[str, BiasStack], Table | None]:
    if not biases:
        return {}, None
    masters, rows = bias_tables(biases, how.tolerances)
    return {name: s for name, s in bias_stacks(masters, rows, biases).items() if s.frames}, rows


def _numbers(
    darks: Sequence[RawFrame],
    biases: Sequence[RawFrame],
    stacks: Mapping[str, BiasStack],
    overrides: Overrides,
    how: Choices,
) -> tuple[ReferenceValues, Frame | None]:
    """The numbers of the camera, and the map of its read noise where there are bias frames for it."""
    cells = cells_of(darks, how.tolerances)
    witnesses = choose_witnesses(darks, cells, [(s.temperature_c, s.frames) for s in stacks.values()])
    temperatures = [c.temperature.temperature_c for c in cells]
    reference, _ = reference_values([*biases, *darks], witnesses, temperatures, overrides)
    for note in reference.notes:
        log.warning("%s", note)
    several = bias_witnesses([s.frames for s in stacks.values() if len(s.frames) > 1])
    if not several:
        return reference, None
    raw = [
        RawStack([f.source for f in s], [f.hdu for f in s], s[0].rows, s[0].cols, [f.median for f in s])
        for s in several
    ]
    factor = reference.read_noise_adu / (reference.read_noise_measured_adu or reference.read_noise_adu)
    return reference, read_noise_map(raw, reference.scale_factor, [f.file for s in several for f in s], factor).whole()


def _stack(frames: Sequence[RawFrame], offset_adu: Sequence[float]) -> Stack:
    first = frames[0]
    return Stack(
        [f.source for f in frames], [f.hdu for f in frames], first.rows, first.cols, offset_adu, first.pedestal_adu
    )


def _master_bias(stack: BiasStack, reference: ReferenceValues, noise: Frame | None, how: Choices) -> Frame:
    scale = reference.scale_factor
    made = combine_stack(
        _stack(stack.frames, [o / scale for o in stack.offset_raw]), reference, noise, None,
        Clipping(how.kappa, 0.0, bias_level_adu=stack.pattern_top_raw / scale, temperature_c=stack.temperature_c),
    )  # fmt: skip
    cards: list[Card] = [("CCD-TEMP", stack.temperature_c, "[deg C] temperature of the master")]
    names = [f.file for f in stack.frames]
    return master_frame(made, cards, names, frames=len(stack.frames), bias=False)


def _line(stacks: Mapping[str, BiasStack], masters: Mapping[str, Frame]) -> Frame | None:
    """The line through the master biases, of two temperatures or more."""
    temperatures = [s.temperature_c for s in stacks.values()]
    if len(stacks) < 2 or max(temperatures) - min(temperatures) < LEAST_RANGE_C:
        return None
    t_ref = float(round(float(np.mean(temperatures))))
    return line_through(list(masters.values()), temperatures, t_ref, list(masters))


@dataclass(frozen=True)
class _Known:
    reference: ReferenceValues
    noise: Frame | None
    biases: Mapping[str, Frame]
    line: Frame | None
    clamped: bool
    how: Choices


def _members(cell: Cell, darks: Sequence[RawFrame], members: Table) -> list[tuple[RawFrame, float]]:
    by_file = {d.file: d for d in darks}
    return [(by_file[str(r["file"])], float(r["offset_adu"])) for r in members if str(r["cell"]) == cell.name]


def _master_dark(cell: Cell, members: Sequence[tuple[RawFrame, float]], known: _Known) -> Frame:
    """Clipped mean of the darks of one cell, minus their bias."""
    frames = [f for f, _ in members]
    stack = _stack(frames, [o + frames[0].pedestal_adu - f.pedestal_adu for f, o in members])
    source: BiasSource | None = None
    if cell.bias.startswith(LINE) and known.line is not None:
        source = BiasSource(known.line, cell.temperature_c)
    elif cell.bias:
        source = BiasSource(known.biases[cell.bias])
    hidden = measure_hidden_charge(stack, known.reference) if known.clamped and cell.bias else 0.0
    spread = spread_in_cell(known.how.relative_error, cell.temperature_sigma_c)
    how = Clipping(known.how.kappa, spread, temperature_c=cell.temperature_c, hidden_adu=hidden)
    made = combine_stack(stack, known.reference, known.noise, source, how)
    cards: list[Card] = [
        ("EXPTIME", cell.exposure_s, "[s]"),
        ("CCD-TEMP", cell.temperature_c, "[deg C] that is fitted"),
        ("BIAS", cell.bias, "which bias was subtracted"),
        ("CELL", cell.name, "name of the cell"),
        ("KAPPA", known.how.kappa, "[sigma] beyond which a sample was rejected"),
        *([("HIDDEN", round(hidden, 3), "[adu] charge that the black clamp took away")] if known.clamped else []),
    ]
    return master_frame(made, cards, [f.file for f in frames], frames=len(frames), bias=bool(cell.bias))


def _special(
    cells: Sequence[Cell], masters: Sequence[Product], reference: ReferenceValues, noise: Frame | None, how: Choices
) -> tuple[Frame, Frame]:
    """Levels of saturation, and the mask."""
    top = reference.saturation_raw / reference.scale_factor
    saturation = find_saturation(masters, [c.temperature_c for c in cells], [c.exposure_s for c in cells], top).whole()
    mask = find_special(
        masters, [c.name for c in cells], [c.frames for c in cells], by_signal(cells), how.thresholds,
        saturation, ReadNoise.of(reference, noise),
    ).whole()  # fmt: skip
    return saturation, mask
