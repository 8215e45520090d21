"""The table of calibrated frames, and the temperature that a header gives a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpipe.files.tables import table_of, write_table

ACCEPTED, REJECTED = "calibrated", "left out"


@dataclass(frozen=True)
class HeaderTemperature:
    """Temperature of a frame by its header, 1 sigma [°C], and 'set point', 'measured', or '' where it has none."""

    value_c: float | None
    sigma_c: float
    source: str


def temperature_of_header(
    reading_c: float | None, set_point_c: float | None, tolerance_c: float, reading_error_c: float
) -> HeaderTemperature:
    """The set point while the camera is regulated, else the reading: the rule that made the cells of the model. Unlike
    there a frame is judged alone, so that a further frame changes nothing for it.

    Parameters
    ----------
    reading_c, set_point_c : °C, None or NaN where the header has none.
    """
    reading = None if reading_c is None or math.isnan(reading_c) else reading_c
    wanted = None if set_point_c is None or math.isnan(set_point_c) else set_point_c
    if wanted is not None and (reading is None or abs(reading - wanted) <= tolerance_c + 1e-9):
        return HeaderTemperature(wanted, reading_error_c, "set point")
    if reading is not None:
        return HeaderTemperature(reading, reading_error_c, "measured")
    return HeaderTemperature(None, math.nan, "")


def written_table(path: Path, rows: Sequence[Mapping[str, Any]], left_out: Sequence[Mapping[str, str]]) -> str:
    """Write the table, in the order of the file names; returns its digest."""
    all_rows = [{"file": r["file"], "status": ACCEPTED, "reason": "", **r} for r in rows]
    all_rows += [
        {"file": r["file"], "status": REJECTED, "reason": r["reason"], "kind": r["kind"], "source": "", "model": "",
         "note": "", "hot_pixels": 0, "n_saturated": 0, "n_flagged": 0, "n_repaired": 0, "extrapolated": False}
        for r in left_out
    ]  # fmt: skip
    return write_table(path, table_of(sorted(all_rows, key=lambda r: str(r["file"]))))
