"""The temperature of a session of frames: sensor, set point and power over time, with the exposures."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator
from numpy.typing import NDArray

from darkpipe.report.canvas import BLACK, BLUE, GREY, ORANGE, VERMILION, add_box, drawing, new_page, write

_WIDTH, _LEFT, _RIGHT, _TOP = 1000, 84, 30, 84
_HIGH, _LOW = 300, 130
_LONGEST_JOINED_S: Final = 120.0  # readings farther apart are joined only within an exposure
_LEAST_SPAN_C: Final = 1.0
_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_TIME_FORMS: Final = ((60, "%H:%M:%S"), (21600, "%H:%M"), (86400, "%m-%d %H:%M"), (math.inf, "%m-%d"))
_MOST_TICKS = 9
_SHADE = "#e4e8ee"
_SET_POINT: Final[dict[str, Any]] = {"color": ORANGE, "linewidth": 1.2, "linestyle": (0, (4, 2))}

Floats = NDArray[np.float64]


@drawing
def temperature_figure(table: Any, title: str = "Temperature of the session") -> Figure:
    """Sensor temperature and set point against UTC, the power of the cooler below, exposures shaded.

    Parameters
    ----------
    table : a row a reading or an event, with `utc` (ISO text); `temperature_c, set_point_c, power_percent` (masked or
        NaN where not known) and `event` ('dark 300 s start', 'dark 300 s end', 'exposure aborted', 'rejected').
    title : of the page.

    Raises
    ------
    ValueError
        if it holds no temperature.
    """
    times = [datetime.fromisoformat(str(text)).replace(tzinfo=UTC) for text in table["utc"]]
    temperature = _column(table, "temperature_c")
    if not np.isfinite(temperature).any():
        raise ValueError("no temperatures to draw")
    origin = min(times)
    seconds = np.array([(t - origin).total_seconds() for t in times])
    events = [str(text) for text in table["event"]]
    exposures, rejected = _exposures(seconds, events)
    page = new_page(_WIDTH, _TOP + _HIGH + _LOW + 92)
    write(page, _LEFT, 12, title, 11, weight="bold")
    upper = add_box(page, _LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, _HIGH)
    lower = add_box(page, _LEFT, _TOP + _HIGH + 18, _WIDTH - _LEFT - _RIGHT, _LOW)
    set_point = _column(table, "set_point_c")
    for axes in (upper, lower):
        bars = [(start, end - start) for start, end in exposures]
        axes.broken_barh(bars, (0, 1), transform=axes.get_xaxis_transform(), color=_SHADE, linewidth=0, zorder=0)
    _line(upper, seconds, temperature, exposures, color=BLUE, linewidth=1.8, zorder=2)
    _line(upper, seconds, set_point, exposures, **_SET_POINT, drawstyle="steps-post", zorder=3)
    heights = np.interp(rejected, *_known(seconds, temperature))
    upper.plot(rejected, heights, "x", color=VERMILION, markersize=7, markeredgewidth=1.8, zorder=4)
    power = _column(table, "power_percent")
    _line(lower, seconds, power, exposures, color=BLACK, linewidth=1.1, zorder=3)
    _temperature_axis(upper, np.concatenate([temperature, set_point]))
    lower.set_ylim(-4, 104)
    lower.set_yticks([0, 50, 100])
    lower.set_ylabel("cooler power [%]", fontsize=9)
    if not np.isfinite(power).any():
        lower.text(0.5, 0.5, "this camera does not tell its power", transform=lower.transAxes, ha="center", fontsize=9)
    _time_axes(upper, lower, origin, seconds)
    _legend(page, bool(np.isfinite(set_point).any()), len(exposures), len(rejected))
    return page


def _column(table: Any, name: str) -> Floats:
    """A column with NaN where nothing is known."""
    values = np.ma.asarray(table[name])
    return np.asarray(np.ma.filled(values.astype(np.float64), np.nan), np.float64)


def _exposures(seconds: Floats, events: list[str]) -> tuple[list[tuple[float, float]], Floats]:
    """(start, end) of the exposures [s], and when frames were rejected. An exposure without an end is left out."""
    spans, rejected = [], []
    begun: float | None = None
    for at, event in zip(seconds.tolist(), events, strict=True):
        if event.endswith("start"):
            begun = at
        elif begun is not None and (event.endswith("end") or "abort" in event):
            spans.append((begun, max(at, begun)))
            begun = None
        if "reject" in event:
            rejected.append(at)
    return spans, np.array(rejected, np.float64)


def _known(seconds: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The readings, in order of time: somebody may have set the clock."""
    there = np.isfinite(values)
    order = np.argsort(seconds[there], kind="stable")
    return seconds[there][order], values[there][order]


def _line(axes: Axes, seconds: Floats, values: Floats, exposures: list[tuple[float, float]], **style: Any) -> None:
    """Readings joined where nothing lies between them: sessions stay apart."""
    t, y = _known(seconds, values)
    if not t.size:
        return
    apart = np.diff(t) > _LONGEST_JOINED_S
    if exposures and apart.any():
        starts, ends = np.array(exposures).T
        for k in np.flatnonzero(apart):
            within = np.minimum(ends, t[k + 1]) - np.maximum(starts, t[k])
            apart[k] = within.max() < 0.5 * (t[k + 1] - t[k])
    for part_t, part_y in zip(*(np.split(a, np.flatnonzero(apart) + 1) for a in (t, y)), strict=True):
        axes.plot(part_t, part_y, marker="." if part_t.size == 1 else "", **style)


def _temperature_axis(axes: Axes, values: Floats) -> None:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    spare = max(0.06 * (high - low), (_LEAST_SPAN_C - (high - low)) / 2, 0.05)
    axes.set_ylim(low - spare, high + spare)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _place: f"{round(value, 6) + 0.0:g}".replace("-", "−"))
    axes.set_ylabel("sensor [°C]", fontsize=9)


def _time_axes(upper: Axes, lower: Axes, origin: datetime, seconds: Floats) -> None:
    """Round times of the day below, thin lines in both."""
    first, last = float(seconds.min()), float(seconds.max())
    spare = max(0.01 * (last - first), 2.0)
    span = last - first + 2 * spare
    step = next((s for s in _STEPS_S if span / s <= _MOST_TICKS), 86400 * math.ceil(span / 86400 / _MOST_TICKS))
    midnight = origin.replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (origin - midnight).total_seconds()
    ticks = np.arange(math.ceil((offset + first - spare) / step), (offset + last + spare) / step) * step
    form = next(f for limit, f in _TIME_FORMS if step < limit)
    labels = [(midnight + timedelta(seconds=float(t))).strftime(form) for t in ticks]
    for axes in (upper, lower):
        axes.set_xlim(first - spare, last + spare)
        axes.xaxis.set_major_locator(FixedLocator((ticks - offset).tolist()))
        axes.xaxis.set_major_formatter(FixedFormatter(labels if axes is lower else [""] * len(labels)))
        axes.grid(color="#d8d8d8", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
    days = sorted({(origin + timedelta(seconds=s)).strftime("%Y-%m-%d") for s in (first, last)})
    lower.set_xlabel(f"UTC, {' to '.join(days)}", fontsize=9)


def _legend(page: Figure, set_point: bool, exposures: int, rejected: int) -> None:
    handles: list[Any] = [Line2D([], [], color=BLUE, linewidth=1.8, label="sensor")]
    if set_point:
        handles.append(Line2D([], [], **_SET_POINT, label="set point"))
    handles.append(Line2D([], [], color=BLACK, linewidth=1.1, label="power"))
    if exposures:
        handles.append(Patch(facecolor=_SHADE, edgecolor=GREY, linewidth=0.5, label=f"exposures ({exposures})"))
    if rejected:
        label = f"rejected ({rejected})"
        handles.append(Line2D([], [], color=VERMILION, marker="x", linestyle="", markersize=7, label=label))
    wide, high = page.get_size_inches() * page.dpi
    place = ((_LEFT - 8) / wide, 1 - 40 / high)
    page.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=5, fontsize=8.5, frameon=False)
