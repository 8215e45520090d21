"""The table at the end of a run: plain rows in, lines of plain text out, at most 100 columns wide.

ASCII but for names of files, so that any terminal, log file or mail can show it; nothing depends on a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

WIDTH: Final = 100
GRIDS: Final[Mapping[str, tuple[str, str, float | None]]] = {  # of a picture: title, unit, ideal value
    "mae": ("Mean absolute error", "ADU", None),
    "mape": ("Mean absolute relative error", "%", None),
    "noise_floor": ("Mean absolute error over noise floor, unflagged pixels", "ratio", None),
    "pulls": ("Robust spread of the pulls, unflagged pixels", "σ", 1.0),
}


def cells_table(rows: Sequence[Mapping[str, Any]], *, max_cells: int = 40) -> list[str]:
    """The cells: a line each, by temperature and exposure.

    Keys of a row: ``temperature_c, exposure_s, n_frames, n_rejected, median_signal_adu, mae_held_out_adu,
    mae_in_sample_adu, noise_floor_adu, mae_baseline_adu``; a column that no row has is left out, errors in sample where
    any is held out, a missing or not finite value is '-'.
    Of more than ``max_cells`` those farthest above their noise floor are shown, and how many are not is said.
    """
    if not rows:
        return ["No cells."]
    ordered = sorted(rows, key=_place)
    worst = sorted(ordered, key=_excess, reverse=True)[:max_cells]
    shown = ordered if len(ordered) <= max_cells else sorted(worst, key=_place)
    columns = [column for column in _COLUMNS if any(_finite(row.get(column[0])) for row in ordered)]
    told = {column[0] for column in columns}
    columns = [c for c in columns if c[0] != "mae_in_sample_adu" or "mae_held_out_adu" not in told]
    lines = table([head for _key, head, _form in columns], [[_cell(row, c) for c in columns] for row in shown])
    if len(shown) < len(ordered):
        lines.append(f"({len(ordered) - len(shown)} more cells, all nearer to their noise floor, are not shown)")
    if "mae_held_out_adu" in told:
        lines += ["MAE: mean absolute error in ADU. Held out: the cell was not part of the fit."]
    elif "mae_in_sample_adu" in told:
        lines += ["MAE: mean absolute error in ADU. In sample: the cell was part of the fit."]
    return lines


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Right-aligned columns under heads of one or two lines ('MAE|held out')."""
    split = [head.split("|") for head in heads]
    deep = max(len(parts) for parts in split)
    top = [[*[""] * (deep - len(parts)), *parts] for parts in split]
    grid = [[parts[level] for parts in top] for level in range(deep)] + [list(row) for row in rows]
    widths = [max(len(row[k]) for row in grid) for k in range(len(heads))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in grid]
    rule = "-" * min(WIDTH, sum(widths) + 2 * (len(widths) - 1))
    return [line.rstrip()[:WIDTH] for line in [*text[:deep], rule, *text[deep:]]]


def _count(value: Any) -> str:
    return f"{int(value):d}"


def _adu(value: Any) -> str:
    return f"{float(value):.2f}" if abs(float(value)) < 1e6 else f"{float(value):.3g}"


_COLUMNS: Final[Sequence[tuple[str, str, Callable[[Any], str]]]] = (
    ("temperature_c", "T|[C]", lambda value: f"{float(value):.1f}"),
    ("exposure_s", "exposure|[s]", lambda value: f"{float(value):g}"),
    ("n_frames", "frames", _count),
    ("n_rejected", "rejected", _count),
    ("median_signal_adu", "median|signal", _adu),
    ("mae_held_out_adu", "MAE|held out", _adu),
    ("mae_in_sample_adu", "MAE|in sample", _adu),
    ("noise_floor_adu", "noise|floor", _adu),
    ("mae_baseline_adu", "MAE, nearest|master scaled", _adu),
)


def _cell(row: Mapping[str, Any], column: tuple[str, str, Callable[[Any], str]]) -> str:
    value = row.get(column[0])
    return column[2](value) if _finite(value) else "-"


def _finite(value: Any) -> bool:
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _place(row: Mapping[str, Any]) -> tuple[float, float]:
    temperature, exposure = row.get("temperature_c"), row.get("exposure_s")
    return (
        float(temperature) if temperature is not None and _finite(temperature) else math.inf,
        float(exposure) if exposure is not None and _finite(exposure) else math.inf,
    )


def _excess(row: Mapping[str, Any]) -> float:
    """Error over noise floor; a cell without one comes first, so that it is not the one left out."""
    error, floor = row.get("mae_held_out_adu"), row.get("noise_floor_adu")
    if error is None or floor is None or not (_finite(error) and _finite(floor)) or float(floor) <= 0:
        return math.inf
    return float(error) / float(floor)
