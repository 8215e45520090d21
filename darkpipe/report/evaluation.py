"""The page that tells how accurate a model is, cell by cell."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from darkpipe.report.canvas import (
    BLACK,
    GREY,
    MODEL_COLOURS,
    MODEL_MARKERS,
    PRINT_DPI,
    add_box,
    drawing,
    new_page,
    write,
)
from darkpipe.report.plots import log_axis

_BASELINE: Final = "nearest master, scaled"


@drawing
def evaluation_summary(rows: Sequence[Mapping[str, Any]], title: str = "Accuracy of the dark model") -> Figure:
    """One page: every cell's errors against its noise floor, the pulls and the relative error, cells in columns.

    ``rows``: a row a cell (and model): ``temperature_c, exposure_s`` and, as far as known (missing, None and NaN are
    left out), ``model, mae_held_out_adu, mae_in_sample_adu, mae_baseline_adu, noise_floor_adu, pull_spread,
    median_relative_percent``. Rows of several models are compared; the first model is the one that is used. Where a
    model has no held-out errors, the in-sample ones stand alone.
    """
    cells = sorted({(float(row["temperature_c"]), float(row["exposure_s"])) for row in rows})
    if not cells:
        raise ValueError("no cells to draw")
    models = list(dict.fromkeys(str(row.get("model") or "model") for row in rows))
    column = {cell: number for number, cell in enumerate(cells)}
    table = _Table(rows, models, column)
    width = min(1650.0, max(1050.0, 260 + 26.0 * len(cells)))
    handles = _legend_handles(table)
    columns = 4 if width > 1400 else 3
    head = 136 + 26 * math.ceil(len(handles) / columns)
    page = new_page(width, head + 1430, PRINT_DPI)
    write(page, 110, 24, title, 12, weight="bold")
    tops = (head, head + 490, head + 800, head + 1070)
    axes = [add_box(page, 110, tops[k], width - 140, height) for k, height in enumerate((470, 290, 250, 250))]
    for panel in axes:
        _cell_columns(panel, cells, last=panel is axes[-1])
    _temperature_names(axes[0], cells, width - 140)
    _draw_errors(axes[0], table)
    _draw_ratios(axes[1], table)
    _draw_pulls(axes[2], table)
    _draw_relative(axes[3], table)
    legend: dict[str, Any] = {"loc": "upper left", "fontsize": 8, "frameon": False}
    place = (100 / width, 1 - 52 / (head + 1430))
    page.legend(handles=handles, bbox_to_anchor=place, ncols=columns, **legend)
    return page


class _Table:
    """Figures by model and column; NaN where there is none."""

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], models: list[str], column: Mapping[tuple[float, float], int]
    ) -> None:
        self.models = models
        self.cells = list(column)
        self._values: dict[tuple[str, str], np.ndarray[Any, np.dtype[np.float64]]] = {}
        self._blank = np.full(len(column), np.nan)
        for row in rows:
            place = column[(float(row["temperature_c"]), float(row["exposure_s"]))]
            for key, value in row.items():
                if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
                    name = (str(row.get("model") or "model"), key)
                    self._values.setdefault(name, self._blank.copy())[place] = float(value)

    def get(self, model: str, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        return self._values.get((model, key), self._blank)

    def shared(self, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """What does not depend on the model: from the first that has it, cell by cell."""
        out = self._blank.copy()
        for model in self.models:
            out = np.where(np.isnan(out), self.get(model, key), out)
        return out

    def has(self, key: str) -> bool:
        return bool(np.isfinite(self.shared(key)).any())

    def offsets(self) -> list[float]:
        """Sideways shifts that keep the points of models apart."""
        spread = 0.16 * (len(self.models) - 1)
        return [float(v) for v in np.linspace(-spread, spread, len(self.models))]

    def each(self) -> list[tuple[str, str, str, float]]:
        """(model, colour, marker, shift)."""
        pairs = zip(self.models, itertools.cycle(MODEL_COLOURS), itertools.cycle(MODEL_MARKERS), self.offsets())
        return list(pairs)


def _cell_columns(axes: Axes, cells: Sequence[tuple[float, float]], last: bool) -> None:
    """A column a cell, bands of temperature, exposures below the last panel."""
    count = len(cells)
    axes.set_xlim(-0.6, count - 0.4)
    for number, (_t, members) in enumerate(itertools.groupby(range(count), key=lambda k: cells[k][0])):
        inside = list(members)
        if number % 2 == 0:
            axes.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color="#eef1f5", zorder=0, linewidth=0)
    axes.grid(axis="y", color="#d0d0d0", linewidth=0.5)
    axes.set_axisbelow(True)
    size = 8.0 if count <= 40 else 5.5 if count <= 80 else 4.6
    if last:
        every = max(1, math.ceil(count / 110))
        axes.set_xticks(range(0, count, every))
        labels = [f"{cells[k][1]:g}" for k in range(0, count, every)]
        axes.set_xticklabels(labels, fontsize=size, rotation=0 if count <= 12 else 90)
        axes.set_xlabel("exposure of the cell [s]", fontsize=9)
    else:
        axes.set_xticks([])
    axes.tick_params(axis="y", labelsize=8)
    axes.tick_params(axis="x", length=2)


def _temperature_names(axes: Axes, cells: Sequence[tuple[float, float]], width_px: float) -> None:
    """Above the columns of each temperature; upright where they are few, and left out where names would touch."""
    groups = [(t, list(members)) for t, members in itertools.groupby(range(len(cells)), key=lambda k: cells[k][0])]
    free = -math.inf
    for temperature, members in groups:
        room, middle = len(members) * width_px / len(cells), (members[0] + members[-1] + 1) / 2 / len(cells) * width_px
        if middle - 9 < free:
            continue
        text = f"{temperature:g} °C".replace("-", "−")
        lying, tight = room >= 10 * len(text), room < 12 * len(text)
        free = middle + (6 * len(text) if lying else 9)
        axes.annotate(
            text,
            ((members[0] + members[-1]) / 2, 1.0),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6.5 if tight else 8,
            rotation=0 if lying else 90,
            annotation_clip=False,
        )


def _draw_errors(axes: Axes, table: _Table) -> None:
    x = np.arange(len(table.cells), dtype=np.float64)
    floor = table.shared("noise_floor_adu")
    for k in np.flatnonzero(np.isfinite(floor)):
        axes.plot([x[k] - 0.42, x[k] + 0.42], [floor[k], floor[k]], color=BLACK, linewidth=1.6, zorder=3)
    baseline = table.shared("mae_baseline_adu")
    axes.plot(x, baseline, "x", color=GREY, markersize=6, markeredgewidth=1.5, zorder=3)
    size = _marker_size(table)
    for model, colour, marker, shift in table.each():
        inner, outer = table.get(model, "mae_in_sample_adu"), table.get(model, "mae_held_out_adu")
        axes.plot(x + shift, inner, marker, color=colour, markersize=size, markerfacecolor="white", zorder=4)
        axes.plot(x + shift, outer, marker, color=colour, markersize=size, zorder=5)
    log_axis(axes, [floor, baseline, *(table.get(m, k) for m in table.models for k in _MAES)])
    axes.set_ylabel("mean absolute error [ADU]", fontsize=9)


_MAES: Final = ("mae_in_sample_adu", "mae_held_out_adu")


def _draw_ratios(axes: Axes, table: _Table) -> None:
    x = np.arange(len(table.cells), dtype=np.float64)
    floor = table.shared("noise_floor_adu")
    floor = np.where(floor > 0, floor, np.nan)
    key = "mae_held_out_adu" if table.has("mae_held_out_adu") else "mae_in_sample_adu"
    axes.axhline(1.0, color=BLACK, linewidth=1.2)
    baseline = table.shared("mae_baseline_adu") / floor
    axes.plot(x, baseline, "x", color=GREY, markersize=6, markeredgewidth=1.5)
    everything = [baseline]
    for model, colour, marker, shift in table.each():
        ratio = table.get(model, key) / floor
        everything.append(ratio)
        for _t, members in itertools.groupby(range(x.size), key=lambda k: table.cells[k][0]):
            inside = list(members)
            axes.plot(x[inside] + shift, ratio[inside], marker + "-", color=colour, markersize=4, linewidth=0.8)
    largest = np.nanmax([np.nanmax(v, initial=1.0) for v in everything])
    if largest > 6:
        log_axis(axes, [*everything, np.array([0.9])])
    else:
        axes.set_ylim(
            min(0.9, 0.97 * float(np.nanmin([np.nanmin(v, initial=1.0) for v in everything]))), largest * 1.05
        )
    which = "held out" if key == "mae_held_out_adu" else "in sample"
    axes.set_ylabel(f"error / noise floor\n({which})", fontsize=9)


def _draw_pulls(axes: Axes, table: _Table) -> None:
    x = np.arange(len(table.cells), dtype=np.float64)
    axes.axhspan(0.95, 1.05, color="#cfe3d8", zorder=1, linewidth=0)
    axes.axhline(1.0, color=BLACK, linewidth=0.8)
    top, bottom = 1.2, 0.8
    for model, colour, marker, shift in table.each():
        pulls = table.get(model, "pull_spread")
        axes.plot(x + shift, pulls, marker, color=colour, markersize=_marker_size(table), zorder=4)
        if np.isfinite(pulls).any():
            top, bottom = max(top, float(np.nanmax(pulls)) * 1.05), min(bottom, float(np.nanmin(pulls)) * 0.95)
    if top > 5:
        log_axis(axes, [np.array([bottom, top])])
    else:
        axes.set_ylim(bottom, top)
    axes.set_ylabel("spread of the pulls\n(band: 1 ± 0.05)", fontsize=9)


def _draw_relative(axes: Axes, table: _Table) -> None:
    x = np.arange(len(table.cells), dtype=np.float64)
    values = []
    for model, colour, marker, shift in table.each():
        relative = table.get(model, "median_relative_percent")
        values.append(np.where(relative > 0, relative, np.nan))
        axes.plot(x + shift, relative, marker, color=colour, markersize=_marker_size(table), zorder=4)
    log_axis(axes, values)
    axes.set_ylabel("median relative\nerror [%]", fontsize=9)


def _marker_size(table: _Table) -> float:
    return 6.0 if len(table.cells) <= 40 else 4.0


def _legend_handles(table: _Table) -> list[Any]:
    handles: list[Any] = []
    for model, colour, marker, _shift in table.each():
        if np.isfinite(table.get(model, "mae_held_out_adu")).any():
            handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=f"{model}, cell left out"))
        if np.isfinite(table.get(model, "mae_in_sample_adu")).any():
            label = f"{model}, in sample"
            handles.append(Line2D([], [], color=colour, marker=marker, mfc="white", ls="", label=label))
    if table.has("mae_baseline_adu"):
        handles.append(Line2D([], [], color=GREY, marker="x", markeredgewidth=1.5, ls="", label=_BASELINE))
    if table.has("noise_floor_adu"):
        handles.append(Line2D([], [], color=BLACK, linewidth=1.6, label="noise floor"))
    return handles
