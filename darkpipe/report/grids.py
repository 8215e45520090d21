"""Grids of temperature against exposure: one number a cell, as colour and in figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from darkpipe.report.blocks import number
from darkpipe.report.canvas import PRINT_DPI, Scale, add_box, draw_bar, drawing, new_page, write
from darkpipe.report.text import GRIDS

_LEFT, _TOP, _RIGHT = 130, 92, 150
_BELOW, _BELOW_UPRIGHT = 78, 130  # for names of exposures that lie, that stand upright
_LYING = 56
_WIDEST, _FLATTEST = 120, 60
_GRID_WIDTH: Final = 840.0
_BLANK: Final = (236, 236, 236)  # no such cell, or no value

Floats = NDArray[np.float64]


@drawing
def cell_grid(
    cells: Sequence[tuple[float, float, float]], title: str, unit: str, *, about: float | None = None, note: str = ""
) -> Figure:
    """One number of every cell of a campaign: temperatures down, exposures across.

    Parameters
    ----------
    cells : (temperature_c, exposure_s, value); values that are not finite are left blank.
    title, note : above the grid. unit : above the colour bar.
    about : a value that is as it should be: colours diverge from it. None: from dark (small) to bright (large), spread
        evenly by ratio where the values are all positive.

    Raises
    ------
    ValueError
        without cells.
    """
    if not cells:
        raise ValueError("no cells to draw")
    temperatures = sorted({t for t, _, _ in cells})
    exposures = sorted({e for _, e, _ in cells})
    values = np.full((len(temperatures), len(exposures)), np.nan)
    for t, e, value in cells:
        values[temperatures.index(t), exposures.index(e)] = value
    scale = _scale(values, about)
    wide = max(min(_WIDEST, _GRID_WIDTH / len(exposures)), 12.0)
    high = max(min(_FLATTEST, 900.0 / len(temperatures)), 14.0)
    width, height = wide * len(exposures), max(high * len(temperatures), 120.0)
    below = _BELOW if wide >= _LYING else _BELOW_UPRIGHT
    page = new_page(max(_LEFT + width + _RIGHT, 640), _TOP + height + below, PRINT_DPI)
    write(page, 20, 14, title, 11, weight="bold")
    write(page, 20, 46, note, 8)
    axes = add_box(page, _LEFT, _TOP, width, height)
    painted = scale.paint(values.astype(np.float32))
    axes.imshow(painted, aspect="auto", origin="lower", interpolation="nearest")
    _number_cells(axes, values, painted, wide)
    every = max(1, math.ceil(26 / wide))
    across = range(0, len(exposures), every)
    axes.set_xticks(
        list(across), [f"{exposures[k]:g}" for k in across], fontsize=8, rotation=0 if wide >= _LYING else 90
    )
    every = max(1, math.ceil(22 / high))
    down = range(0, len(temperatures), every)
    axes.set_yticks(list(down), [f"{temperatures[k]:.1f}".replace("-", "−") for k in down], fontsize=8)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(0.5, len(exposures) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(temperatures) - 1), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="white", linewidth=1.2)
    axes.set_xlabel("exposure [s]", fontsize=9)
    axes.set_ylabel("temperature [°C]", fontsize=9)
    draw_bar(page, scale, unit, _LEFT + width + 24, _TOP, height)
    return page


def _scale(values: Floats, about: float | None) -> Scale:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if about is not None:
        apart = max(high - about, about - low, 0.1 * abs(about), 1e-6)
        return Scale(about - apart, about + apart, "PuOr", no_value=_BLANK)
    if high - low <= 0.02 * max(abs(low), abs(high)):
        middle = 0.5 * (low + high)
        low, high = middle - 0.02 * max(abs(middle), 1e-6), middle + 0.02 * max(abs(middle), 1e-6)
    softening = low / 2 if low > 0 and high / low > 3 else 0.0
    return Scale(low, high, "cividis", 0.0, softening, no_value=_BLANK)


def _number_cells(axes: Any, values: Floats, painted: NDArray[np.uint8], wide: float) -> None:
    """The values in their cells, black or white, where there is room for them."""
    if wide < 44:
        return
    size = 8.0 if wide >= 72 else 6.0
    for row, column in np.argwhere(np.isfinite(values)):
        red, green, blue = (float(c) for c in painted[row, column, :3])
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
        text = number(values[row, column], 3).text
        axes.text(column, row, text, fontsize=size, ha="center", va="center", color="white" if dark else "black")


_NOTES: Final = {
    "held out": "each cell left out of the fit that predicted it",
    "in sample": "in sample: the cells were part of the fit",
    "seen": "in sample: the fit has seen these frames",
}


def accuracy_grid(name: str, rows: Sequence[Mapping[str, Any]], chosen: str) -> Figure:
    """One of `GRIDS` for the chosen model.

    rows : of evaluation.ecsv. A model of one axis stands for all of its fits.

    Raises
    ------
    ValueError
        without a row of the model.
    """
    title, unit, about = GRIDS[name]
    base = chosen.split("/")[0]
    mine = [r for r in rows if str(r["model"]).split("/")[0] == base]
    kinds = sorted({str(r["kind"]) for r in mine})
    told = "; ".join(_NOTES.get(kind, "frames that the fit has not seen") for kind in kinds)
    note = f"{base}; {told}"
    cells = [(round(float(r["temperature_c"]), 3), float(r["exposure_s"]), _value(name, r)) for r in mine]
    return cell_grid(cells, title, unit, about=about, note=note)


def _value(name: str, row: Mapping[str, Any]) -> float:
    """The number of a cell; of one that could not be left out that of the fit it was part of."""
    held = str(row["kind"]) != "in sample"
    if name == "mae":
        return float(row["mae_adu"] if held else row.get("in_sample_mae_adu", math.nan))
    if name == "mape":
        return float(row["mape_percent"])
    if name == "pulls":
        return float(row["pull_spread_unflagged"])
    floor = float(row["noise_floor_unflagged_adu"])
    return float(row["mae_unflagged_adu"]) / floor if floor > 0 else math.nan
