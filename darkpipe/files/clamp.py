"""Whether a camera clamps its black level, from the tables of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.table import Table

from darkpipe.files.corrections import Tolerances, cells_of
from darkpipe.files.index import ACCEPTED, RawFrame
from darkpipe.files.masters import ReferenceValues
from darkpipe.science.clamp import CellSpreads, black_level_clamped, clamp_note, clamp_sigma

CLAMP = "clamp"  # in the meta of corrected.ecsv, where a clamp was seen


def note_clamp(
    table: Table,
    darks: Sequence[RawFrame],
    biases: Sequence[RawFrame],
    tolerances: Tolerances,
    reference: ReferenceValues,
) -> None:
    """Look for a black clamp in the levels and spreads of frames; where one is seen, the table of darks says so in its
    meta: a note, and under `clamp` the note and the 1 sigma of a frame's level, `offset_sigma_adu`.

    Parameters
    ----------
    table : corrected.ecsv, a row for each of `darks` in their order. biases : bias frames; none: nothing can be told.
    """
    if not biases:
        return
    scale = reference.scale_factor
    rows: list[dict[str, Any]] = [dict(zip(r.colnames, r.values(), strict=True)) for r in table]
    exposure, temperature, level, spread, groups = [], [], [], [], []
    for cell in cells_of(darks, tolerances):
        members = [rows[i] for i in cell.members if rows[i]["status"] == ACCEPTED]
        if not members:
            continue
        exposure.append(cell.exposure_s)
        temperature.append(cell.temperature.temperature_c)
        level.append(float(np.median([r["level_adu"] for r in members])))
        spread.append(float(np.median([r["spread_adu"] for r in members])))
        groups.append([float(r["level_adu"]) for r in members])
    cells = CellSpreads(
        np.array(exposure), np.array(temperature), np.array(level), np.array(spread),
        float(np.median([b.sigma for b in biases])) / scale, reference.gain_e_per_adu,
    )  # fmt: skip
    if not black_level_clamped(cells):
        return
    of_biases = [
        [biases[i].median / scale + biases[i].pedestal_adu for i in cell.members]
        for cell in cells_of(biases, tolerances, biases=True)
    ]
    sigma = float(f"{clamp_sigma(of_biases, groups):.3g}")
    table.meta[CLAMP] = {"offset_sigma_adu": sigma, "note": clamp_note(sigma)}
    table.meta["notes"] = [*table.meta["notes"], clamp_note(sigma)]


def clamp_sigma_adu(meta: Mapping[str, Any]) -> float:
    """1 sigma of the level that a clamp leaves in a frame [ADU], by the meta of corrected.ecsv; 0 without a clamp."""
    return float(meta[CLAMP]["offset_sigma_adu"]) if CLAMP in meta else 0.0


def clamp_notes(meta: Mapping[str, Any]) -> list[str]:
    """What the meta of corrected.ecsv says of a clamp: one note, or none."""
    return [str(meta[CLAMP]["note"])] if CLAMP in meta else []
