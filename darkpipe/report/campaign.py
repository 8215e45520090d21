"""A planned campaign: a page with the errors of its darks, and the same in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from darkpipe.report.canvas import BLUE, GREY, PRINT_DPI, VERMILION, add_box, drawing, new_page, plain, write

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]

_SIDE, _LEFT, _TOP, _GAP = 520, 110, 130, 240
_COLOURS: Final = {"bulk": BLUE, "hot": VERMILION}
_LISTED: Final = ("everything", "half", "darks", "biases", "temperature", "exposure")
_LEVELS: Final = [m * 10.0**n for n in range(-3, 5) for m in (1, 2, 5)]
NEGLIGIBLE: Final = 2.0  # percent of the error


@drawing
def campaign_figure(errors: Rows, changes: Rows, meta: Mapping[str, Any]) -> Figure:
    """Errors of the darks of a bulk and of a hot pixel over temperature and exposure, with the planned cells; below,
    what more frames would do.

    Parameters
    ----------
    errors, changes, meta : rows of predicted_errors.ecsv and of changes.ecsv, and what the first says of the plan.

    Raises
    ------
    ValueError
        without rows.
    """
    kinds = _kinds(errors)
    listed = [c for c in changes if str(c["change"]) in _LISTED and str(c["change"]) != "half"]
    if not kinds:
        raise ValueError("no errors to draw")
    width = _LEFT + len(kinds) * (_SIDE + _GAP) + 20
    bars = _TOP + _SIDE + 130
    page = new_page(width, bars + 40 + 34 * len(listed) + 70, PRINT_DPI)
    write(page, 40, 22, "Predicted error of the dark of one pixel", 12, weight="bold")
    write(page, 40, 54, f"{_campaign_text(meta)}; model {meta['model']}; {_time_text(float(meta['hours']))}", 8.5)
    for number, kind in enumerate(kinds):
        left = _LEFT + number * (_SIDE + _GAP)
        rows = [r for r in errors if str(r["pixel"]) == kind]
        write(page, left, _TOP - 34, _pixel_text(kind, meta), 8.5, color=_COLOURS.get(kind, "black"), weight="bold")
        _panel(page, left, rows, meta)
    _changes_panel(page, bars, width, listed, kinds)
    return page


def _kinds(errors: Rows) -> list[str]:
    return list(dict.fromkeys(str(r["pixel"]) for r in errors))


def _panel(page: Figure, left: float, rows: Rows, meta: Mapping[str, Any]) -> None:
    axes = add_box(page, left, _TOP, _SIDE, _SIDE)
    t = sorted({float(r["temperature_c"]) for r in rows})
    e = sorted({float(r["exposure_s"]) for r in rows})
    error = np.full((len(t), len(e)), np.nan)
    for r in rows:
        error[t.index(float(r["temperature_c"])), e.index(float(r["exposure_s"]))] = float(r["error_e"])
    if len(t) > 1 and len(e) > 1:
        _map(page, axes, left, np.array(t), np.array(e), error)
        _cells(axes, meta)
        axes.set_xlabel("temperature [°C]", fontsize=9)
        axes.set_ylabel("exposure [s]", fontsize=9)
        axes.set_yscale("log")
        _plain_ticks(axes, e)
        return
    along = np.array(e if len(e) > 1 else t)
    axes.plot(along, error.ravel(), "o-", color=BLUE, markersize=4)
    axes.set_xlabel("exposure [s]" if len(e) > 1 else "temperature [°C]", fontsize=9)
    axes.set_ylabel("error of the dark [e-]", fontsize=9)
    axes.set_yscale("log")
    axes.tick_params(labelsize=8)
    axes.grid(color="#d0d0d0", linewidth=0.5)


def _map(page: Figure, axes: Axes, left: float, t: Floats, e: Floats, error: Floats) -> None:
    """Colours and lines of equal error, from 1, 2, 5 to the next."""
    low, high = float(np.nanmin(error)), float(np.nanmax(error))
    inside = [v for v in _LEVELS if low < v < high]
    bottom = max((v for v in _LEVELS if v <= low), default=low)
    top = min((v for v in _LEVELS if v >= high), default=high)
    levels = np.unique(np.geomspace(bottom, max(top, 1.01 * bottom), 25))
    filled = axes.contourf(t, e, error.T, levels=levels, norm=LogNorm(levels[0], levels[-1]), cmap="cividis")
    if inside:
        lines = axes.contour(t, e, error.T, levels=inside, colors="white", linewidths=0.9)
        axes.clabel(lines, fmt={v: plain(v) for v in inside}, fontsize=8)
    bar = page.colorbar(filled, cax=add_box(page, left + _SIDE + 14, _TOP, 14, _SIDE))
    ticks = [v for v in _LEVELS if bottom <= v <= top]
    bar.set_ticks(ticks, labels=[plain(v) for v in ticks])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8, length=2)
    bar.set_label("error of the dark, 1 sigma [e-]", fontsize=8.5)


def _cells(axes: Axes, meta: Mapping[str, Any]) -> None:
    """The planned cells with their numbers of darks, and the range that they span."""
    cells = np.array(meta["cells"], float)
    axes.plot(cells[:, 0], cells[:, 1], "o", color="white", markersize=11, markeredgecolor="black", zorder=5)
    for t, e, n in cells:
        axes.annotate(f"{n:.0f}", (t, e), ha="center", va="center", fontsize=6.5, zorder=6)
    (t0, e0), (t1, e1) = cells[:, :2].min(axis=0), cells[:, :2].max(axis=0)
    axes.add_patch(Rectangle((t0, e0), t1 - t0, e1 - e0, fill=False, linestyle="--", edgecolor="white", linewidth=1.2))


def _plain_ticks(axes: Axes, exposures: Sequence[float]) -> None:
    rounds = [v for v in _LEVELS if exposures[0] <= v <= exposures[-1]]
    axes.set_yticks(rounds or exposures)
    axes.set_yticklabels([plain(v) for v in rounds or exposures])
    axes.minorticks_off()
    axes.tick_params(labelsize=8, length=3)


def _changes_panel(page: Figure, top: float, width: float, listed: Rows, kinds: Sequence[str]) -> None:
    if not listed:
        return
    write(page, 40, top - 40, "What more frames would do to the error inside of the campaign", 10, weight="bold")
    axes = add_box(page, 430, top, width - 430 - 60, 34 * len(listed))
    for k, row in enumerate(listed):
        for j, kind in enumerate(kinds):
            shift = 0.36 * (j - 0.5 * (len(kinds) - 1))
            axes.barh(k + shift, float(row[f"{kind}_percent"]), 0.34, color=_COLOURS.get(kind, GREY),
                      label=f"{kind} pixel" if k == 0 else None)  # fmt: skip
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(
        range(len(listed)), labels=[f"{r['what']}  ({_time_text(float(r['hours']))})" for r in listed], fontsize=8
    )
    axes.set_ylim(len(listed) - 0.5, -0.5)
    axes.set_xlabel("change of the error [%]", fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    axes.grid(axis="x", color="#d0d0d0", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=8, frameon=False)


def _time_text(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _pixel_text(kind: str, meta: Mapping[str, Any]) -> str:
    found = next(p for p in meta["pixels"] if p["name"] == kind)
    return (
        f"{kind} pixel: {plain(found['e_s'], 3)} e-/s at {found['temperature_c']:g} °C, "
        f"doubling every {plain(found['doubling_c'], 3)} °C"
    )


def _campaign_text(meta: Mapping[str, Any]) -> str:
    cells = meta["cells"]
    temperatures, exposures = sorted({c[0] for c in cells}), sorted({c[1] for c in cells})
    numbers = sorted({int(c[2]) for c in cells})
    darks = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return (
        f"{_counted(temperatures, 'temperature')} ({_listed(temperatures)} °C), {_counted(exposures, 'exposure')} "
        f"({_listed(exposures)} s), {darks} darks a cell, {meta['biases']} biases a temperature"
    )


def _counted(values: Sequence[float], what: str) -> str:
    return f"{len(values)} {what}" + ("s" if len(values) != 1 else "")


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


# in words
def plan_lines(errors: Rows, changes: Rows, meta: Mapping[str, Any]) -> list[str]:
    """The plan, its cost, the errors that it leads to, and which frames matter: lines of text."""
    kinds = _kinds(errors)
    plan = changes[0]
    lines = [
        _campaign_text(meta),
        f"{plan['frames']} frames, about {_time_text(float(meta['hours']))} of camera time with read-out, cooling and "
        "warm-up",
        f"model: {meta['model']} (this campaign carries {', '.join(meta['carried'])})",
    ]
    for kind in kinds:
        lines += _error_lines(kind, [r for r in errors if str(r["pixel"]) == kind], plan, meta)
    return [*lines, *_advice(changes, kinds, meta)]


def _error_lines(kind: str, rows: Rows, plan: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    inside = [r for r in rows if bool(r["inside"]) and math.isfinite(float(r["error_e"]))]
    lines = [_pixel_text(kind, meta)]
    if not inside:
        return [*lines, "  it is saturated in too many cells: no model of it can be fitted"]
    best = min(inside, key=lambda r: float(r["error_e"]))
    worst = max(inside, key=lambda r: float(r["error_e"]))
    for word, r in (("best", best), ("worst", worst)):
        signal = float(r["signal_adu"]) * float(r["error_e"]) / float(r["error_adu"])
        lines.append(
            f"  {word} inside: {plain(float(r['error_e']), 3)} e- of {plain(signal, 3)} e- at "
            f"{r['temperature_c']:g} °C, {r['exposure_s']:g} s (one frame there: "
            f"{plain(float(r['frame_noise_adu']) * float(r['error_e']) / float(r['error_adu']), 3)} e- of noise)"
        )
    ratio = float(plan[f"{kind}_error_per_frame_noise"])
    if math.isfinite(ratio):
        where = f"at {meta['target'][0]:g} °C, {meta['target'][1]:g} s" if meta.get("target") else "on the whole"
        lines.append(
            f"  {where} {100 * ratio:.3g} % of the noise of one frame: subtracting such a dark makes the noise of a "
            f"dark frame {100 * (math.hypot(1.0, ratio) - 1.0):.2g} % larger"
        )
    return lines


def _advice(changes: Rows, kinds: Sequence[str], meta: Mapping[str, Any]) -> list[str]:
    """What pays, and what can be left out."""
    plan = changes[0]

    def effect(row: Mapping[str, Any]) -> str:
        parts = [f"{kind} {float(row[f'{kind}_percent']):+.1f} %" for kind in kinds]
        return ", ".join(parts) + f" ({_more_text(float(row['hours']) - float(plan['hours']))})"

    def largest(row: Mapping[str, Any]) -> float:
        return float(min(float(row[f"{kind}_percent"]) for kind in kinds))

    where = "there" if meta.get("target") else "inside of the campaign"
    lines = [f"what more frames would do to the error {where}:"]
    lines += [f"  {r['what']}: {effect(r)}" for r in changes if str(r["change"]) in _LISTED]
    cells = [r for r in changes if str(r["change"]) == "cell" and math.isfinite(largest(r))]
    if len(cells) > 1:
        hours = float(plan["hours"])
        best = min(cells, key=lambda r: largest(r) / max(float(r["hours"]) - hours, 1e-3))
        lines.append(f"  most for its time, of single cells: {best['what']}: {effect(best)}")
    spare = [r for r in changes if str(r["change"]).startswith("without")]
    for row in spare:
        worse = max(float(row[f"{kind}_percent"]) for kind in kinds)
        if not math.isfinite(worse):
            lines.append(f"  {row['what']}: this model cannot be fitted")
        elif worse < NEGLIGIBLE:
            lines.append(f"  {row['what']}: {effect(row)}, so it could be left out")
    return lines


def _more_text(hours: float) -> str:
    return f"{_time_text(abs(hours))} {'more' if hours >= 0 else 'less'}"
