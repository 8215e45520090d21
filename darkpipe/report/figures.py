"""Pictures of one cell or one model: error maps, darks, parameters, special pixels.

Every function returns a matplotlib figure; `save_png` writes it.
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
from darkpipe.science.blocks import block_max, block_mean
from darkpipe.science.flags import DQ

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

_SIDE = 512
_LEFT, _TOP = 80, 92
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
    image: ArrayLike,
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
    pixels = _image(image)
    small = block_mean(pixels, _SIDE)
    low, high = robust_limits(small, 0, 99.5, low=0.0)
    title = f"{_NAMES.get(what, what)}, {cell_name(temperature_c, exposure_s)}"
    lines = _error_lines(what, unit, summary)
    if what != "MAPE":
        return _one_image(pixels, small, Scale(low, high, "cividis"), unit, title, _ORIGINS[kind], lines)
    scale = Scale(low, high, "cividis", no_value=FAINT)
    return _one_image(pixels, small, scale, unit, title, _ORIGINS[kind], lines, "too faint to compare (grey)")


@drawing
def dark_image(
    image: ArrayLike,
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
    pixels = _image(image)
    small = block_mean(pixels, _SIDE)
    low, high = robust_limits(small, 0.3, 99.9)
    quarter, centre, three = _percentiles(pixels, (25, 50, 75))
    spread = three - quarter if three > quarter else 0.0
    softening = max(0.7 * spread, (high - low) / 500)
    scale = Scale(low, high, "cividis", centre if math.isfinite(centre) else low, softening)
    half = f"half of the pixels within {quarter:,.1f} and {three:,.1f} {unit}"
    lines = [f"median {centre:,.1f} {unit}, {half}".replace("-", "−")] if math.isfinite(centre) else []
    return _one_image(pixels, small, scale, unit, f"{title}, {cell_name(temperature_c, exposure_s)}", subtitle, lines)


@drawing
def residual_map(
    image: ArrayLike, temperature_c: float, exposure_s: float, unit: str = "ADU", *, subtitle: str = ""
) -> Figure:
    """Master dark minus synthetic dark: (rows, columns) in ``unit``, NaN where there is none; colours about zero."""
    pixels = _image(image)
    small = block_mean(pixels, _SIDE)
    largest = max(-robust_limits(small, 1, 99)[0], robust_limits(small, 1, 99)[1], 1e-6)
    low, centre, high = _percentiles(pixels, (15.8655, 50, 84.1345))
    lines = [f"median {plain(centre)} {unit}, 68 % of the pixels within {plain(low, 3)} and {plain(high, 3)} {unit}"]
    title = f"Master minus synthetic dark, {cell_name(temperature_c, exposure_s)}"
    return _one_image(pixels, small, Scale(-largest, largest, "PuOr"), unit, title, subtitle, lines)


@drawing
def glow_map(image: ArrayLike, glowing: ArrayLike, side: int, shape: tuple[int, int], unit: str = "ADU/s") -> Figure:
    """Amplifier glow by blocks.

    Parameters
    ----------
    image : (m, n) excess over the common level; glowing : (m, n) whether a block glows; side : pixels a side of a
    block; shape : (rows, columns) of the sensor.
    """
    blocks = _image(image)
    share = float(np.mean(np.asarray(glowing) > 0))
    width, height = image_size(shape, _SIDE)
    page = new_page(max(_LEFT + width + 136, 728), _TOP + height + 63, PRINT_DPI)
    write(page, 16, 10, "Amplifier glow", 11, weight="bold")
    write(page, 16, 38, f"{100 * share:.1f} % of the sensor glows; a point is a block of {side} × {side} pixels", 8.5)
    low, high = robust_limits(blocks, 0, 100)
    draw_image(page, blocks, shape, Scale(low, high, "cividis"), unit, _LEFT, _TOP, _SIDE)
    write(page, 16, _TOP + height + 40, f"largest {plain(high)} {unit}", 8)
    return page


@drawing
def parameter_maps(maps: Mapping[str, tuple[ArrayLike, str]], title: str = "Model parameters") -> Figure:
    """Maps side by side, at most three in a row.

    ``maps``: name -> ((rows, columns) values, unit). Maps that hold both signs get a diverging scale about zero.
    """
    images = {name: (_image(values), unit) for name, (values, unit) in maps.items()}
    if not images:
        raise ValueError("no maps to draw")
    across = 2 if len(images) == 4 else min(3, len(images))
    down = math.ceil(len(images) / across)
    side = 420
    sizes = [image_size((image.shape[0], image.shape[1]), side) for image, _unit in images.values()]
    cell_w, cell_h = max(w for w, _h in sizes) + 190, max(h for _w, h in sizes) + 74
    page = new_page(cell_w * across, cell_h * down + 40, PRINT_DPI)
    write(page, 40, 12, title, 11, weight="bold")
    for number, (name, (image, unit)) in enumerate(images.items()):
        left, top = 66 + cell_w * (number % across), 80 + cell_h * (number // across)
        missing = int(np.count_nonzero(np.isnan(image)))
        (median,) = _percentiles(image, (50,))
        note = f"{name}: median {plain(median)} {unit}".rstrip() + (f", {missing:,} without a value" if missing else "")
        write(page, left, top - 26, note, 7.5)
        small = block_mean(image, side)
        draw_image(page, small, (image.shape[0], image.shape[1]), _map_scale(small), unit, left, top, side)
    return page


@drawing
def hot_pixel_map(dq: ArrayLike, title: str = "Special pixels") -> Figure:
    """Where the special pixels are, and how many there are of each kind.

    ``dq``: (rows, columns) bits of `darkpipe.science.flags.DQ`. A pixel with several bits is drawn in the colour of
    the gravest; the counts count all. In images longer than 512 pixels a block shows its gravest pixel.
    """
    bits = np.asarray(dq)
    if bits.ndim != 2:
        raise ValueError(f"a map needs an image, not shape {bits.shape}")
    ranks = np.zeros(bits.shape, np.float32)
    for rank, (flag, _name, _colour) in enumerate(_KINDS, 1):
        ranks[(bits & int(flag)) != 0] = rank
    colours = np.array([[242, 242, 242, 255], *(_bytes(colour) for _f, _n, colour in _KINDS)], np.uint8)
    width, height = image_size((bits.shape[0], bits.shape[1]), _SIDE)
    page = new_page(_LEFT + max(width, 330) + 280, max(height, 272) + _TOP + 52, PRINT_DPI)
    write(page, _LEFT, 16, title, 11, weight="bold")
    painted = colours[block_max(ranks, _SIDE).astype(np.intp)]
    place_image(page, painted, (bits.shape[0], bits.shape[1]), _LEFT, _TOP, (width, height))
    counts = [(name, colour, int(np.count_nonzero(bits & int(flag)))) for flag, name, colour in _KINDS]
    handles = [
        Patch(facecolor=colour, label=f"{name}: {count:,} ({_percent(count, bits.size)})")
        for name, colour, count in counts
        if count
    ]
    handles.append(Patch(facecolor="#f2f2f2", edgecolor="#8c8c8c", label=f"none: {int((ranks == 0).sum()):,}"))
    wide, high = page.get_size_inches() * page.dpi
    place = ((_LEFT + width + 8) / wide, 1 - _TOP / high)
    page.legend(handles=handles, loc="upper left", bbox_to_anchor=place, fontsize=8, frameon=False, borderaxespad=0)
    return page


_KINDS: Sequence[tuple[DQ, str, str]] = (  # the gravest last
    (DQ.FEW_SAMPLES, "few samples", "#c8c8c8"),
    (DQ.WARM, "warm", SKY),
    (DQ.HOT, "hot", ORANGE),
    (DQ.NONLINEAR, "non-linear", GREEN),
    (DQ.UNSTABLE, "unstable", PURPLE),
    (DQ.SATURATED, "saturated", VERMILION),
    (DQ.DEAD, "dead", BLUE),
    (DQ.FIT_FAILED, "fit failed", BLACK),
)


def _one_image(
    pixels: NDArray[np.float32],
    small: NDArray[np.float32],
    scale: Scale,
    unit: str,
    title: str,
    subtitle: str,
    lines: Sequence[str],
    without: str = f"without a value ({NO_VALUE_NAME})",
) -> Figure:
    width, height = image_size((pixels.shape[0], pixels.shape[1]), _SIDE)
    page = new_page(max(_LEFT + width + 136, 728), _TOP + height + 40 + 23 * (len(lines) + 1), PRINT_DPI)
    write(page, 16, 10, title, 11, weight="bold")
    write(page, 16, 38, subtitle, 8.5)
    draw_image(page, small, (pixels.shape[0], pixels.shape[1]), scale, unit, _LEFT, _TOP, _SIDE)
    finite = np.isfinite(pixels)
    missing = pixels.size - int(np.count_nonzero(finite))
    largest = float(np.max(pixels, where=finite, initial=-np.inf))
    block = math.ceil(max(pixels.shape) / _SIDE)
    notes = [f"largest {plain(largest)} {unit}"] if missing < pixels.size else []
    notes += [f"{missing:,} pixels {without}"] if missing else []
    notes += [f"a point is the mean of {block} × {block} pixels"] if block > 1 else []
    for number, line in enumerate([*lines, ", ".join(notes)]):
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


def _image(image: ArrayLike) -> NDArray[np.float32]:
    pixels = np.asarray(image, np.float32)
    if pixels.ndim != 2 or pixels.size == 0:
        raise ValueError(f"a picture needs an image, not shape {pixels.shape}")
    return np.where(np.isinf(pixels), np.float32(np.nan), pixels)


def _percentiles(pixels: NDArray[np.float32], percents: Sequence[float]) -> list[float]:
    values = pixels[:: max(1, pixels.shape[0] // 512), :: max(1, pixels.shape[1] // 512)]
    values = values[np.isfinite(values)]
    return [float(v) for v in np.percentile(values, percents)] if values.size else [math.nan] * len(percents)


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.2g} %"


def _bytes(colour: str) -> Any:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)] + [255]
