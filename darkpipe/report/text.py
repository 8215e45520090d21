"""The table at the end of a run: plain rows in, lines of plain text out, at most 100 columns wide.

ASCII but for names of files, so that any terminal, log file or mail can show it; nothing depends on a terminal.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict

WIDTH: Final = 100
GRIDS: Final[Mapping[str, tuple[str, str, float | None]]] = {  # of a picture: title, unit, ideal value
    "mae": ("Mean absolute error", "ADU", None),
    "mape": ("Mean absolute relative error", "%", None),
    "noise_floor": ("Mean absolute error over noise floor, unflagged pixels", "ratio", None),
    "pulls": ("Robust spread of the pulls, unflagged pixels", "σ", 1.0),
}


class Sections(TypedDict, total=False):
    """What a run has to tell; every part may be left out.

    title : a line of its own (the configuration).
    cells : rows for `cells_table`.
    rejected : rows for `rejected_frames`.
    frames_found : number of files that were looked at, to set the rejected ones against.
    model : a mapping for `model_lines`.
    products : what -> where (paths as they are to be shown).
    notes : sentences.
    """

    title: str
    cells: Sequence[Mapping[str, Any]]
    rejected: Sequence[Mapping[str, Any]]
    frames_found: int
    model: Mapping[str, Any]
    products: Mapping[str, Any]
    notes: Sequence[str]


def run_summary(sections: Sections, *, max_cells: int = 40) -> list[str]:
    """All parts that are there, with an empty line between them."""
    blocks: list[list[str]] = []
    if sections.get("title"):
        blocks.append(_wrapped(sections["title"]))
    if "cells" in sections:
        blocks.append(cells_table(sections["cells"], max_cells=max_cells))
    if "rejected" in sections:
        blocks.append(rejected_frames(sections["rejected"], found=sections.get("frames_found")))
    if sections.get("model"):
        blocks.append(model_lines(sections["model"]))
    if sections.get("notes"):
        blocks.append([line for note in sections["notes"] for line in _wrapped(note, indent="  ", first="- ")])
    if sections.get("products"):
        blocks.append(product_lines(sections["products"]))
    lines: list[str] = []
    for block in blocks:
        lines += ([""] if lines and block else []) + block
    return lines


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
        lines += _wrapped("MAE: mean absolute error in ADU. Held out: the cell was not part of the fit.")
    elif "mae_in_sample_adu" in told:
        lines += _wrapped("MAE: mean absolute error in ADU. In sample: the cell was part of the fit.")
    return lines


def rejected_frames(rows: Sequence[Mapping[str, Any]], *, found: int | None = None, names: int = 3) -> list[str]:
    """Frames that were not used, by reason: how many, and the first names. Rows: ``name, reason``."""
    of = f" of {found}" if found is not None else ""
    if not rows:
        return [f"No frames rejected{of and f', {found} found'}."]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        reasons.setdefault(str(row.get("reason") or "no reason given"), []).append(str(row.get("name", "?")))
    lines = [f"Rejected {len(rows)}{of} frames:"]
    for reason, members in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        lines += _wrapped(reason, first=f"{len(members):5d}  ", indent=" " * 7)
        more = f" and {len(members) - names} more" if len(members) > names else ""
        lines += _wrapped(_shown(", ".join(members[:names]) + more), names=True, first=" " * 9, indent=" " * 9)
    return lines


def model_lines(model: Mapping[str, Any]) -> list[str]:
    """Which model synthesises and why.

    Keys: ``chosen``; ``why``; ``margin_percent`` (how much the next one's mean error over noise floor is larger);
    ``scores`` (model -> mean error over noise floor); ``left_out`` (model -> why it was not fitted).
    """
    text = f"Model: {model.get('chosen') or 'none'}"
    if model.get("why"):
        text += f", {model['why']}"
    if _finite(model.get("margin_percent")):
        text += f" (by {_number(model['margin_percent'], 3)} %)"
    lines = _wrapped(text, indent="  ")
    scores = {name: value for name, value in (model.get("scores") or {}).items() if _finite(value)}
    if scores:
        best_first = sorted(scores.items(), key=lambda item: (item[1], item[0]))
        listed = ", ".join(f"{name} {_number(value, 4)}" for name, value in best_first)
        lines += _wrapped(f"Held-out error over noise floor: {listed}", first="  ", indent="    ")
    for name, reason in (model.get("left_out") or {}).items():
        lines += _wrapped(f"{name} not fitted: {reason}", first="  ", indent="    ")
    return lines


def product_lines(products: Mapping[str, Any]) -> list[str]:
    """What lies where; paths are never cut or wrapped."""
    wide = max((len(str(name)) for name in products), default=0)
    return ["Products:", *(f"  {name!s:<{wide}}  {_shown(str(path))}" for name, path in products.items())]


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


def _number(value: Any, digits: int) -> str:
    """Significant digits without exponents, for numbers as they come in darks."""
    number = float(value)
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e8:
        return f"{number:.{digits}g}"
    return f"{number:.{max(0, digits - 1 - math.floor(math.log10(abs(number))))}f}"


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


def _wrapped(text: str, *, first: str = "", indent: str = "", names: bool = False) -> list[str]:
    clean = text if names else _ascii(" ".join(text.split()))
    options: dict[str, Any] = {"break_long_words": not names, "break_on_hyphens": False}
    return textwrap.wrap(clean, WIDTH, initial_indent=first, subsequent_indent=indent, **options) or [first.rstrip()]


def _ascii(text: str) -> str:
    for given, plain in (("°C", "C"), ("−", "-"), ("…", "..."), ("×", "x"), ("±", "+-")):
        text = text.replace(given, plain)
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _shown(name: str) -> str:
    """A file name as it is, but for bytes that are no text and characters that would break the line."""
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
