"""How a camera changed since its model was made: one page, and the lines of the table at the end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from darkpipe.report.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PRINT_DPI,
    VERMILION,
    add_box,
    drawing,
    new_page,
    plain,
    write,
)
from darkpipe.report.text import table as text_table

_WIDTH, _LEFT, _CELLS, _MAP = 1500, 120, 780, 440
_VERDICTS: Final = {"current": GREEN, "drifted": ORANGE, "stale": VERMILION}
_MARKS: Final = {"new": (VERMILION, "o"), "vanished": (BLUE, "s"), "unconfirmed": (GREY, "x")}

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]


@drawing
def ageing_summary(cells: Any, pixels: Any, verdict: Mapping[str, Any], shape: tuple[int, int]) -> Figure:
    """The verdict with its criteria; ratio of rates, level and pulls of each cell; where pixels changed.

    Parameters
    ----------
    cells, pixels : rows of check_model.ecsv and changed_pixels.ecsv. verdict : what verdict.yaml holds.
    shape : (rows, cols) of the sensor.

    Raises
    ------
    ValueError
        without cells.
    """
    ordered = sorted(cells, key=lambda r: (float(r["temperature_c"]), float(r["exposure_s"])))
    if not ordered:
        raise ValueError("no cells to draw")
    criteria: Rows = verdict["criteria"]
    head = 110 + 24 * len(criteria)
    page = new_page(_WIDTH, head + 910, PRINT_DPI)
    name = str(verdict["verdict"])
    said = f"The model is {name}" if name != "drifted" else "The model has drifted"
    beyond = f" (beyond its range: {len(verdict['extrapolated'])} cells)" if verdict.get("extrapolated") else ""
    write(page, _LEFT, 24, said + beyond, 13, weight="bold", color=_VERDICTS[name])
    _write_criteria(page, criteria, 74)
    tops, heights = (head, head + 400, head + 620), (370, 190, 190)
    axes = [add_box(page, _LEFT, top, _CELLS, height) for top, height in zip(tops, heights, strict=True)]
    for panel in axes:
        _columns(panel, ordered, last=panel is axes[-1])
    limits = {str(c["name"]): c for c in criteria}
    _draw_ratios(axes[0], ordered, next(c for n, c in limits.items() if n.startswith("rate")))
    _draw_levels(axes[1], ordered)
    _draw_pulls(axes[2], ordered)
    _draw_map(page, pixels, verdict["hot_pixels"], shape, head)
    return page


def _write_criteria(page: Figure, criteria: Rows, top: float) -> None:
    for number, c in enumerate(criteria):
        y = top + 24 * number
        colour = _VERDICTS[str(c["verdict"])]
        unit = f" {c['unit']}" if c["unit"] else ""
        value = (
            "not measured" if c["value"] is None else f"{plain(c['value'], 3)} ± {plain(c['error'] or 0.0, 2)}{unit}"
        )
        limit = f"drifted beyond ±{plain(c['drifted_beyond'], 3)}, stale beyond ±{plain(c['stale_beyond'], 3)}{unit}"
        said = str(c["verdict"]) + ("; could hide in the error" if c["blind"] else "")
        write(page, _LEFT, y, str(c["name"]), 8.5)
        write(page, _LEFT + 330, y, value, 8.5, weight="bold")
        write(page, _LEFT + 565, y, limit, 8.5, color="#555555")
        write(page, _LEFT + 1010, y, said, 8.5, color=colour, weight="bold")


def _columns(axes: Axes, cells: Rows, last: bool) -> None:
    """A column a cell, bands of temperature, exposures below the last panel."""
    count = len(cells)
    axes.set_xlim(-0.6, count - 0.4)
    groups = itertools.groupby(range(count), key=lambda k: round(float(cells[k]["temperature_c"]), 1))
    for number, (temperature, members) in enumerate(groups):
        inside = list(members)
        if number % 2 == 0:
            axes.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color="#eef1f5", zorder=0, linewidth=0)
        if last:
            text = f"{temperature:g} °C".replace("-", "−")
            axes.annotate(
                text, ((inside[0] + inside[-1]) / 2, 0), (0, -34), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha="center", va="top", fontsize=8, annotation_clip=False,
            )  # fmt: skip
    axes.grid(axis="y", color="#d0d0d0", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", labelsize=8, length=2)
    axes.set_xticks(range(count) if last else [])
    if last:
        labels = [f"{float(c['exposure_s']):g} s" for c in cells]
        axes.set_xticklabels(labels, fontsize=8 if count <= 16 else 5.5, rotation=0 if count <= 9 else 90)


def _column(cells: Rows, name: str) -> Floats:
    return np.array([float(c[name]) for c in cells])


def _draw_ratios(axes: Axes, cells: Rows, limits: Mapping[str, Any]) -> None:
    x = np.arange(len(cells), dtype=np.float64)
    for key, colour in (("stale_beyond", "#f6e3d8"), ("drifted_beyond", "#dcece4")):
        axes.axhspan(1 - float(limits[key]), 1 + float(limits[key]), color=colour, zorder=0.5, linewidth=0)
    axes.axhline(1.0, color=BLACK, linewidth=0.8, zorder=1)
    shown = []
    for name, colour, marker, shift in (("bulk", BLUE, "o", -0.12), ("hot", VERMILION, "s", 0.12)):
        value, error = _column(cells, f"{name}_ratio"), _column(cells, f"{name}_ratio_error")
        clear = error < 0.5  # a cell that tells nothing would set the scale
        axes.errorbar(x[clear] + shift, value[clear], error[clear], fmt=marker, color=colour, markersize=5, zorder=4)
        shown += [*(value - error)[clear], *(value + error)[clear]]
    reach = 1.15 * max([abs(v - 1.0) for v in shown if math.isfinite(v)] + [1.5 * float(limits["drifted_beyond"])])
    axes.set_ylim(1 - min(reach, 1.5), 1 + reach)
    axes.set_ylabel("dark rate, now / model", fontsize=9)
    handles = [
        Line2D([], [], color=BLUE, marker="o", ls="", label="bulk"),
        Line2D([], [], color=VERMILION, marker="s", ls="", label="hot pixels"),
    ]
    axes.legend(handles=handles, loc="best", fontsize=8, frameon=False, ncols=2)


def _draw_levels(axes: Axes, cells: Rows) -> None:
    x = np.arange(len(cells), dtype=np.float64)
    axes.axhline(0.0, color=BLACK, linewidth=0.8)
    axes.errorbar(
        x, _column(cells, "level_adu"), _column(cells, "level_error_adu"), fmt="o", color=BLUE, markersize=4, zorder=4
    )
    axes.set_ylabel("level, now − model\n[ADU]", fontsize=9)


def _draw_pulls(axes: Axes, cells: Rows) -> None:
    x = np.arange(len(cells), dtype=np.float64)
    axes.axhline(1.0, color=BLACK, linewidth=0.8)
    low, top = 0.6, 1.3
    for name, colour, marker, shift in (("pull_spread", BLUE, "o", -0.12), ("pull_spread_hot", VERMILION, "s", 0.12)):
        pulls = _column(cells, name)
        axes.plot(x + shift, pulls, marker, color=colour, markersize=4, zorder=4)
        told = pulls[np.isfinite(pulls)]
        low, top = min([low, *(0.9 * told)]), max([top, *(1.1 * told)])
    axes.set_ylim(low, top)
    axes.set_ylabel("spread of the pulls", fontsize=9)


def _draw_map(page: Figure, pixels: Rows, counts: Mapping[str, Any], shape: tuple[int, int], top: float) -> None:
    """Where pixels changed; row 0 at the bottom, as FITS viewers have it."""
    rows, cols = shape
    factor = _MAP / max(shape)
    left, width, height = _LEFT + _CELLS + 110, max(cols * factor, 60), max(rows * factor, 60)
    axes = add_box(page, left, top, width, height)
    axes.set_xlim(-0.5, cols - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    axes.tick_params(labelsize=8, length=2)
    handles = []
    for kind, (colour, marker) in _MARKS.items():
        of_kind = [p for p in pixels if str(p["kind"]) == kind]
        size = 5.0 if len(of_kind) < 300 else 2.5
        axes.plot(
            [float(p["x"]) for p in of_kind], [float(p["y"]) for p in of_kind], marker, color=colour, markersize=size,
            markerfacecolor="none", markeredgewidth=0.9,
        )  # fmt: skip
        label = {"new": "became hot", "vanished": "no longer hot", "unconfirmed": "seen in one frame alone"}[kind]
        handles.append(
            Line2D([], [], color=colour, marker=marker, mfc="none", ls="", label=f"{label}: {counts[kind]:,}")
        )
    wide, high = page.get_size_inches() * page.dpi
    place = ((left - 10) / wide, 1 - (top + height + 40) / high)
    page.legend(handles=handles, loc="upper left", bbox_to_anchor=place, fontsize=8, frameon=False)
    note = f"of {counts['compared']:,} pixels compared"
    write(page, left + 8, top + height + 140, note, 8, color="#555555")


def verdict_lines(verdict: Mapping[str, Any], cells: Any) -> list[str]:
    """The verdict, its criteria and the cells as lines of text."""
    lines = [f"the model {'has drifted' if verdict['verdict'] == 'drifted' else 'is ' + str(verdict['verdict'])}"]
    for c in verdict["criteria"]:
        value = "not measured" if c["value"] is None else f"{c['value']:.4g} +- {c['error'] or 0.0:.2g} {c['unit']}"
        blind = "; a change as large as the limit could hide in the error" if c["blind"] else ""
        lines.append(f"{c['name']}: {value.rstrip()} ({c['verdict']}{blind})")
    hot = verdict["hot_pixels"]
    lines.append(
        f"hot pixels: {hot['new']} new, {hot['vanished']} vanished, {hot['unconfirmed']} seen in one frame alone "
        f"(of {hot['compared']})"
    )
    if beyond := verdict.get("extrapolated"):
        lines.append("extrapolated beyond the range of the model, with errors that hold this: " + ", ".join(beyond))
    if verdict["outside_the_model"]:
        lines.append("not compared, outside the range of the model: " + ", ".join(verdict["outside_the_model"]))
    ratios = ("bulk ratio|now/model", "hot ratio|now/model")
    heads = ["T|[C]", "exposure|[s]", "frames", "bulk|[ADU]", *ratios, "level|[ADU]", "pulls"]
    rows = [
        [
            f"{float(c['temperature_c']):.1f}",
            f"{float(c['exposure_s']):g}",
            f"{int(c['n_frames'])}",
            f"{float(c['bulk_signal_adu']):.1f}",
            _ratio(c, "bulk"),
            _ratio(c, "hot"),
            f"{float(c['level_adu']):.2f}",
            f"{float(c['pull_spread']):.2f}",
        ]
        for c in cells
    ]
    return lines + text_table(heads, rows)


def _ratio(cell: Mapping[str, Any], name: str) -> str:
    value, error = float(cell[f"{name}_ratio"]), float(cell[f"{name}_ratio_error"])
    return f"{value:.3f} +- {error:.3f}" if math.isfinite(value) and error < 1 else "-"
