"""Pictures of one cell or one model: error maps, darks, parameters, special pixels.

Every function returns a matplotlib figure; `save_png` writes it. An image is (rows, columns) values in memory, or what
was kept of one that is not (`darkpipe.science.reduced`): a picture shows no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from darkpipe.report.canvas import (
    BLACK,
    BLUE,
    FAINT,
    GREEN,
    NO_VALUE_NAME,
    ORANGE,
    PRINT_DPI,
    PURPLE,
    SKY,
    VERMILION,
    Scale,
    draw_image,
    drawing,
    image_size,
    new_page,
    place_image,
    plain,
    robust_limits,
    save_png,
    write,
)
from darkpipe.report.evaluation import evaluation_summary
from darkpipe.report.plots import (
    bias_levels,
    dark_vs_exposure_and_temperature,
    dark_vs_inverse_temperature,
    hot_pixel_curve,
)
from darkpipe.report.sizes import GRAVITY, PANEL_SIDE, SIDE
from darkpipe.science.blocks import block_side
from darkpipe.science.reduced import Reduced, ReducedFlags, reduced

__all__ = [
    "bias_levels",
    "dark_image",
    "dark_vs_exposure_and_temperature",
    "dark_vs_inverse_temperature",
    "error_map",
    "evaluation_summary",
    "glow_map",
    "hot_pixel_curve",
    "hot_pixel_map",
    "parameter_maps",
    "residual_map",
    "save_png",
]

_LEFT, _TOP = 80, 92
_LINE = 74  # letters below a map: more do not fit beside the narrowest
_NAMES = {"MAE": "Absolute error of the synthetic dark", "MAPE": "Relative error of the synthetic dark"}

_ORIGINS = {
    "held out": "cell left out of the fit",
    "in sample": "in sample: the cell was part of the fit",
    "new": "frames that the fit has not seen",
}


def cell_name(temperature_c: float, exposure_s: float) -> str:
    """A cell as people write it: ``−10.0 °C, 300 s``."""
    return f"{temperature_c:.1f} °C, {exposure_s:g} s".replace("-", "−")


@drawing
def error_map(
    image: ArrayLike | Reduced,
    what: str,
    unit: str,
    temperature_c: float,
    exposure_s: float,
    kind: str,
    summary: Mapping[str, float],
) -> Figure:
    """Map of the errors of one cell.

    Parameters
    ----------
    image : (rows, columns) absolute error [ADU] or relative error [%]; NaN where there is none.
    what : 'MAE' (absolute) or 'MAPE' (relative).
    unit : of the image, beside the colour bar.
    kind : 'held out' (the cell was left out of the fit that predicted it), 'in sample' or 'new'.
    summary : figures of `darkpipe.science.metrics.CellErrors.summary`; those present are printed below.
    """
    seen = reduced(image, SIDE)
    low, high = robust_limits(seen.small, 0, 99.5, low=0.0)
    title = f"{_NAMES.get(what, what)}, {cell_name(temperature_c, exposure_s)}"
    lines = _error_lines(what, unit, summary)
    if what != "MAPE":
        return _one_image(seen, Scale(low, high, "cividis"), unit, title, _ORIGINS[kind], lines)
    scale = Scale(low, high, "cividis", no_value=FAINT)
    return _one_image(seen, scale, unit, title, _ORIGINS[kind], lines, "too faint to compare (grey)")


@drawing
def dark_image(
    image: ArrayLike | Reduced,
    temperature_c: float,
    exposure_s: float,
    unit: str = "ADU",
    title: str = "Synthetic dark",
    *,
    subtitle: str = "",
) -> Figure:
    """A dark with an asinh stretch about its median: bulk, gradients and hot pixels in one picture.

    ``image``: (rows, columns) dark signal in ``unit``; NaN where there is none.
    """
    seen = reduced(image, SIDE)
    low, high = robust_limits(seen.small, 0.3, 99.9)
    quarter, centre, three = seen.percentiles((25, 50, 75))
    spread = three - quarter if three > quarter else 0.0
    softening = max(0.7 * spread, (high - low) / 500)
    scale = Scale(low, high, "cividis", centre if math.isfinite(centre) else low, softening)
    half = f"half of the pixels within {quarter:,.1f} and {three:,.1f} {unit}"
    lines = [f"median {centre:,.1f} {unit}, {half}".replace("-", "−")] if math.isfinite(centre) else []
    return _one_image(seen, scale, unit, f"{title}, {cell_name(temperature_c, exposure_s)}", subtitle, lines)


@drawing
def residual_map(
    image: ArrayLike | Reduced, temperature_c: float, exposure_s: float, unit: str = "ADU", *, subtitle: str = ""
) -> Figure:
    """Master dark minus synthetic dark: (rows, columns) in ``unit``, NaN where there is none; colours about zero."""
    seen = reduced(image, SIDE)
    bottom, top = robust_limits(seen.small, 1, 99)
    largest = max(-bottom, top, 1e-6)
    low, centre, high = seen.percentiles((15.8655, 50, 84.1345))
    lines = [f"median {plain(centre)} {unit}, 68 % of the pixels within {plain(low, 3)} and {plain(high, 3)} {unit}"]
    title = f"Master minus synthetic dark, {cell_name(temperature_c, exposure_s)}"
    return _one_image(seen, Scale(-largest, largest, "PuOr"), unit, title, subtitle, lines)


@drawing
def glow_map(
    image: ArrayLike | Reduced, glowing: ArrayLike, side: int, shape: tuple[int, int], unit: str = "ADU/s"
) -> Figure:
    """Amplifier glow by blocks.

    Parameters
    ----------
    image : (m, n) excess over the common level; glowing : (m, n) whether a block glows; side : pixels a side of a
    block; shape : (rows, columns) of the sensor.
    """
    blocks = np.asarray(image, np.float32)
    blocks = np.where(np.isinf(blocks), np.float32(np.nan), blocks)
    share = float(np.mean(np.asarray(glowing) > 0))
    width, height = image_size(shape, SIDE)
    page = new_page(max(_LEFT + width + 136, 728), _TOP + height + 63, PRINT_DPI)
    write(page, 16, 10, "Amplifier glow", 11, weight="bold")
    write(page, 16, 38, f"{100 * share:.1f} % of the sensor glows; a point is a block of {side} × {side} pixels", 8.5)
    low, high = robust_limits(blocks, 0, 100)
    draw_image(page, blocks, shape, Scale(low, high, "cividis"), unit, _LEFT, _TOP, SIDE)
    write(page, 16, _TOP + height + 40, f"largest {plain(high)} {unit}", 8)
    return page


@drawing
def parameter_maps(maps: Mapping[str, tuple[ArrayLike | Reduced, str]], title: str = "Model parameters") -> Figure:
    """Maps side by side, at most three in a row.

    ``maps``: name -> ((rows, columns) values, unit). Maps that hold both signs get a diverging scale about zero.
    """
    images = {name: (reduced(values, PANEL_SIDE), unit) for name, (values, unit) in maps.items()}
    if not images:
        raise ValueError("no maps to draw")
    across = 2 if len(images) == 4 else min(3, len(images))
    down = math.ceil(len(images) / across)
    sizes = [image_size(image.shape, PANEL_SIDE) for image, _unit in images.values()]
    cell_w, cell_h = max(w for w, _h in sizes) + 190, max(h for _w, h in sizes) + 74
    page = new_page(cell_w * across, cell_h * down + 40, PRINT_DPI)
    write(page, 40, 12, title, 11, weight="bold")
    for number, (name, (image, unit)) in enumerate(images.items()):
        left, top = 66 + cell_w * (number % across), 80 + cell_h * (number // across)
        (median,) = image.percentiles((50,))
        note = f"{name}: median {plain(median)} {unit}".rstrip()
        note += f", {image.missing:,} without a value" if image.missing else ""
        write(page, left, top - 26, note, 7.5)
        draw_image(page, image.small, image.shape, _map_scale(image.small), unit, left, top, PANEL_SIDE)
    return page


@drawing
def hot_pixel_map(dq: ArrayLike | ReducedFlags, title: str = "Special pixels") -> Figure:
    """Where the special pixels are, and how many there are of each kind.

    ``dq``: (rows, columns) bits of `darkpipe.science.flags.DQ`, or what was kept of them for `sizes.GRAVITY`. A pixel
    with several bits is drawn in the colour of the gravest; the counts count all. In images longer than 512 pixels a
    block shows its gravest pixel.
    """
    seen = dq if isinstance(dq, ReducedFlags) else _flags_of(dq)
    colours = np.array([[242, 242, 242, 255], *(_bytes(colour) for _name, colour in _KINDS)], np.uint8)
    width, height = image_size(seen.shape, SIDE)
    page = new_page(_LEFT + max(width, 330) + 310, max(height, 272) + _TOP + 52, PRINT_DPI)
    write(page, _LEFT, 16, title, 11, weight="bold")
    place_image(page, colours[seen.small], seen.shape, _LEFT, _TOP, (width, height))
    total = math.prod(seen.shape)
    handles = [
        Patch(facecolor=colour, label=f"{name}: {count:,} ({_percent(count, total)})")
        for (name, colour), count in zip(_KINDS, seen.counts[1:], strict=True)
        if count
    ]
    handles.append(Patch(facecolor="#f2f2f2", edgecolor="#8c8c8c", label=f"none: {seen.counts[0]:,}"))
    wide, high = page.get_size_inches() * page.dpi
    place = ((_LEFT + width + 8) / wide, 1 - _TOP / high)
    page.legend(handles=handles, loc="upper left", bbox_to_anchor=place, fontsize=8, frameon=False, borderaxespad=0)
    return page


def _flags_of(dq: ArrayLike) -> ReducedFlags:
    bits = np.asarray(dq)
    if bits.ndim != 2:
        raise ValueError(f"a map needs an image, not shape {bits.shape}")
    return ReducedFlags.of_bands((bits.shape[0], bits.shape[1]), [(0, bits)], GRAVITY, SIDE)


_KINDS: Sequence[tuple[str, str]] = (  # of `GRAVITY`
    ("few samples", "#c8c8c8"),
    ("warm", SKY),
    ("hot", ORANGE),
    ("non-linear", GREEN),
    ("unstable", PURPLE),
    ("saturated", VERMILION),
    ("dead", BLUE),
    ("fit failed", BLACK),
)


def _one_image(
    seen: Reduced,
    scale: Scale,
    unit: str,
    title: str,
    subtitle: str,
    lines: Sequence[str],
    without: str = f"without a value ({NO_VALUE_NAME})",
) -> Figure:
    width, height = image_size(seen.shape, SIDE)
    block = block_side(seen.shape, SIDE)
    notes = [f"largest {plain(seen.largest)} {unit}"] if math.isfinite(seen.largest) else []
    notes += [f"{seen.missing:,} pixels {without}"] if seen.missing else []
    notes += [f"a point is the mean of {block} × {block} pixels"] if block > 1 else []
    said = ", ".join(notes)
    below = [*lines, *([said] if len(said) <= _LINE else [", ".join(notes[:-1]), notes[-1]])]
    page = new_page(max(_LEFT + width + 136, 728), _TOP + height + 40 + 23 * len(below), PRINT_DPI)
    write(page, 16, 10, title, 11, weight="bold")
    write(page, 16, 38, subtitle, 8.5)
    draw_image(page, seen.small, seen.shape, scale, unit, _LEFT, _TOP, SIDE)
    for number, line in enumerate(below):
        write(page, 16, _TOP + height + 40 + 23 * number, line, 8)
    return page


def _error_lines(what: str, unit: str, summary: Mapping[str, float]) -> list[str]:
    """The figures of a cell in two lines, as far as they are known."""

    def some(*items: tuple[str, str, str]) -> str:
        known = [(label, summary.get(key), form) for label, key, form in items]
        return ", ".join(f"{label} {form.format(v)}" for label, v, form in known if v is not None and np.isfinite(v))

    if what == "MAPE":
        first = some(
            ("mean", "mape_percent", "{:.2f} %"),
            ("median", "median_relative_percent", "{:.2f} %"),
        )
        share = summary.get("mape_fraction")
        second = ""
        if share is not None and np.isfinite(share):
            second = f"over the {100 * share:.1f} % of pixels whose signal exceeds 5 of its errors"
        return [line.replace("-", "−") for line in (first, second) if line]
    first = some(
        ("mean", "mae_adu", f"{{:.2f}} {unit}"),
        ("noise floor", "noise_floor_adu", f"{{:.2f}} {unit}"),
        ("unflagged mean", "mae_unflagged_adu", f"{{:.2f}} {unit}"),
    )
    second = some(
        ("median error", "median_error_adu", f"{{:+.2f}} {unit}"),
        ("RMSE", "rmse_adu", f"{{:.2f}} {unit}"),
        ("pull spread", "pull_spread_unflagged", "{:.2f}"),
    )
    return [line.replace("-", "−") for line in (first, second) if line]


def _map_scale(image: NDArray[np.float32]) -> Scale:
    low, high = robust_limits(image, 0.5, 99.5)
    if low < 0 < high and min(-low, high) > 0.2 * max(-low, high):
        largest = max(-low, high)
        return Scale(-largest, largest, "PuOr")
    return Scale(low, high, "viridis")


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.2g} %"


def _bytes(colour: str) -> Any:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)] + [255]
