"""Plots of numbers: pixels against exposure, hot pixels counted, bias levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from numpy.typing import ArrayLike

from darkpipe.report.canvas import (
    BLUE,
    PRINT_DPI,
    Scale,
    add_box,
    drawing,
    new_page,
    tick_labels,
    write,
)
from darkpipe.science.band_order import ValueCounts
from darkpipe.science.models.base import KELVIN


def log_axis(axes: Axes, values: Sequence[ArrayLike], of: str = "y") -> None:
    """A logarithmic axis with plain numbers, ticks at 1, 2, 5 where there is room."""
    joined = np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in values]) if values else np.zeros(0)
    joined = joined[np.isfinite(joined) & (joined > 0)]
    low, high = (float(joined.min()), float(joined.max())) if joined.size else (0.1, 10.0)
    low, high = low / 1.15, high * 1.15
    if high / low < 3:  # at least a factor 3, so that two labels fit
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(3), middle * math.sqrt(3)
    axis = axes.yaxis if of == "y" else axes.xaxis
    if of == "y":
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    else:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 3000 else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


@drawing
def dark_vs_exposure_and_temperature(
    pixels: Sequence[Mapping[str, Any]],
    title: str = "Pixels against the model",
    unit: str = "ADU",
    across: int = 3,
) -> Figure:
    """Signal against exposure, a panel a pixel (nine at most), a colour a temperature, with error bars and model.

    Each pixel is a mapping with ``label``, the arrays (n,) ``temperature_c, exposure_s, signal_adu, error_adu`` of its
    masters, and optionally ``curves``: a sequence of (temperature_c, exposures (m,), model signal (m,)).
    """
    return _panels(pixels, title, unit, "temperature_c", across)


@drawing
def dark_vs_inverse_temperature(
    pixels: Sequence[Mapping[str, Any]],
    title: str = "Pixels against the model",
    unit: str = "ADU",
    across: int = 3,
) -> Figure:
    """Signal against 1/T, a panel a pixel (nine at most), a colour an exposure, with error bars and model.

    Pixels as in `dark_vs_exposure_and_temperature`; ``curves`` are (exposure_s, temperatures (m,) [°C], model signal
    (m,)). Where one activation energy rules, points lie on a straight line.
    """
    return _panels(pixels, title, unit, "exposure_s", across)


def _panels(pixels: Sequence[Mapping[str, Any]], title: str, unit: str, by: str, across: int) -> Figure:
    """A panel a pixel; colours by 'temperature_c' or 'exposure_s', the other one across."""
    shown = list(pixels)[:9]
    if not shown:
        raise ValueError("no pixels to draw")
    levels = sorted({float(v) for pixel in shown for v in np.asarray(pixel[by])})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(levels)))
    colours = dict(zip(levels, shades, strict=True))
    across = min(across, len(shown))
    down = math.ceil(len(shown) / across)
    every = max(1, math.ceil(len(levels) / (7 * across)))
    columns = min(len(levels[::every]), 4 * across)
    head = 101 + 24 * math.ceil(len(levels[::every]) / columns)
    width, height = 490 * across + 50, 400 * down + head
    page = new_page(width, height, PRINT_DPI)
    write(page, 80, 20, title, 11, weight="bold")
    for number, pixel in enumerate(shown):
        axes = add_box(page, 130 + 490 * (number % across), head + 400 * (number // across), 370, 300)
        _draw_pixel(axes, pixel, colours, by)
        if number % across == 0:
            axes.set_ylabel(f"dark signal [{unit}]", fontsize=8)
            axes.yaxis.set_label_coords(-0.24, 0.5)
        if number >= len(shown) - across:
            axes.set_xlabel("exposure [s]" if by == "temperature_c" else "temperature [°C], even in 1/T", fontsize=8)
    form = "{:.1f} °C" if by == "temperature_c" else "{:.4g} s"
    handles = [Patch(color=colours[v], label=form.format(v).replace("-", "−")) for v in levels[::every]]
    place = (80 / width, 1 - 48 / height)
    page.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, fontsize=7.5, frameon=False)
    return page


def _draw_pixel(axes: Axes, pixel: Mapping[str, Any], colours: Mapping[float, Any], by: str) -> None:
    temperature, exposure, signal, error = (
        np.asarray(pixel[key], np.float64) for key in ("temperature_c", "exposure_s", "signal_adu", "error_adu")
    )
    of, x = (temperature, exposure) if by == "temperature_c" else (exposure, _inverse(temperature))
    for level, colour in colours.items():
        here = (of == level) & np.isfinite(signal)
        bars: dict[str, Any] = {"elinewidth": 0.9, "capsize": 2, "markersize": 3.5}
        axes.errorbar(x[here], signal[here], error[here], fmt="o", color=colour, zorder=3, **bars)
    for level, places, values in pixel.get("curves", ()):
        nearest = min(colours, key=lambda known: abs(known - float(level)))
        at = np.asarray(places, np.float64)
        at = at if by == "temperature_c" else _inverse(at)
        axes.plot(at, np.asarray(values), "-", color=colours[nearest], linewidth=1.0, zorder=2)
    if by == "temperature_c":
        log_axis(axes, [exposure], "x")
    else:
        _inverse_axis(axes, temperature)
    # linear about zero, where noise makes the signal negative, logarithmic above
    finite = error[np.isfinite(error)]
    softening = max(float(np.median(finite)) * 2 if finite.size else 1.0, 1e-3)
    known = signal[np.isfinite(signal)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    scale = Scale(min(low * 1.6, -0.3 * softening), max(high * 1.6, 2 * softening), softening=softening)
    axes.set_yscale("asinh", linear_width=softening)
    axes.set_ylim(scale.low, scale.high)
    values = scale.tick_values()
    axes.yaxis.set_major_locator(FixedLocator(values))
    axes.yaxis.set_major_formatter(FixedFormatter(tick_labels(values)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.tick_params(labelsize=7.5, length=2.5)
    # at a place of its own: where titles make way for ticks, these are laid out twice
    axes.set_title(str(pixel.get("label", "")), fontsize=8, parse_math=False, y=1.0)


def _inverse(temperature_c: Any) -> Any:
    """-1/T [1/K]: warm to the right."""
    return -1.0 / (np.asarray(temperature_c, np.float64) + KELVIN)


def _inverse_axis(axes: Axes, temperature_c: Any) -> None:
    """Even in 1/T, named by the temperature [°C]."""
    low, high = float(np.min(temperature_c)), float(np.max(temperature_c))
    spare = max(0.08 * (high - low), 0.5)
    axes.set_xlim(float(_inverse(low - spare)), float(_inverse(high + spare)))
    known = sorted(set(np.round(temperature_c, 1).tolist()))
    ticks = known if len(known) <= 6 else MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = [t for t in ticks if low - spare <= t <= high + spare]
    axes.xaxis.set_major_locator(FixedLocator([float(_inverse(t)) for t in ticks]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{t:g}".replace("-", "−") for t in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


@drawing
def hot_pixel_curve(
    dark: ArrayLike | ValueCounts, temperature_c: float, exposure_s: float, unit: str = "ADU"
) -> Figure:
    """How many pixels of a dark reach each signal: (rows, columns) [unit], or its values as they were counted; NaN
    pixels are not."""
    counts = dark if isinstance(dark, ValueCounts) else ValueCounts()
    if counts is not dark:
        counts.add(np.asarray(dark, np.float32))
    levels, above, number = counts.above(400)
    page = new_page(690, 480)
    cell = f"{temperature_c:.1f} °C, {exposure_s:g} s".replace("-", "−")
    write(page, 80, 12, f"Pixels above a dark signal, {cell}", 11, weight="bold")
    axes = add_box(page, 105, 50, 550, 370)
    axes.plot(levels, above, color=BLUE, linewidth=1.6)
    log_axis(axes, [levels], "x")
    log_axis(axes, [np.maximum(above, 1)])
    axes.set_xlabel(f"dark signal [{unit}]", fontsize=9)
    axes.set_ylabel(f"pixels above it, of {number:,}", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.tick_params(labelsize=8)
    page.set_dpi(PRINT_DPI)
    return page


@drawing
def bias_levels(rows: Sequence[Mapping[str, Any]], title: str = "Level of the bias frames") -> Figure:
    """Level of each frame in the order it was taken: rows with ``level_adu, temperature_c`` and ``date_obs``."""
    ordered = sorted(rows, key=lambda row: str(row.get("date_obs", "")))
    if not ordered:
        raise ValueError("no frames to draw")
    temperatures = sorted({float(row["temperature_c"]) for row in ordered})
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(temperatures)))
    page = new_page(920, 480)
    write(page, 80, 12, title, 11, weight="bold")
    axes = add_box(page, 105, 50, 660, 370)
    for temperature, shade in zip(temperatures, shades, strict=True):
        here = [(k, row["level_adu"]) for k, row in enumerate(ordered, 1) if row["temperature_c"] == temperature]
        label = f"{temperature:.1f} °C".replace("-", "−")
        axes.plot(*zip(*here, strict=True), "o", color=shade, markersize=4, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.6g}".replace("-", "−")))
    axes.set_xlabel("frame, in order of time", fontsize=9)
    axes.set_ylabel("median level [ADU]", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.tick_params(labelsize=8)
    legend: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": (1.01, 1.0),
        "borderaxespad": 0,
        "frameon": False,
        "fontsize": 8,
    }
    axes.legend(ncols=1 if len(temperatures) <= 20 else 2, **legend)
    page.set_dpi(PRINT_DPI)
    return page
