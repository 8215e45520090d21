"""Pictures of a set of alike frames: a frame, its master, what is left of it, histograms, statistics of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from darkpipe.report.canvas import (
    BLACK,
    BLUE,
    NO_VALUE_NAME,
    ORANGE,
    PRINT_DPI,
    VERMILION,
    Scale,
    add_box,
    draw_image,
    drawing,
    image_size,
    new_page,
    plain,
    robust_limits,
    write,
)
from darkpipe.report.plots import log_axis
from darkpipe.science.blocks import block_mean
from darkpipe.science.classic_master import Method, residual_tail, robust_residual_factor
from darkpipe.science.image_statistics import image_statistics
from darkpipe.science.stretch import Kind, Stretch

_SIDE = 1024
_LEFT, _TOP = 110, 120
_LINE = 26

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Grey(Scale):
    """The scale of a stretch, for image and bar: black at its black point, white at its white point."""

    how: Stretch = field(default_factory=lambda: Stretch(0.0, 2.0))

    def stretch(self, values: NDArray[Any]) -> NDArray[Any]:
        return self.how.fraction(values)

    def paint(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        painted = np.full((*image.shape, 4), 255, np.uint8)
        painted[..., :3] = self.how.levels(image)[..., None]
        painted[np.isnan(image), :3] = self.no_value
        return painted

    def tick_values(self) -> list[float]:
        if self.how.kind == "linear":
            return super().tick_values()
        span = self.high - self.low
        steps = [m * 10.0**k for k in range(math.floor(math.log10(span)) + 1) for m in (1, 3)]
        return [self.low + step for step in steps if step <= 0.7 * span] + [self.high]


def chosen_points(
    image: ArrayLike,
    kind: Kind,
    black: float | None,
    white: float | None,
    *,
    about_zero: bool = False,
    margin: float = 0.0,
) -> Stretch:
    """The stretch with the given points; what is not given is taken from the image, rounded to whole numbers.

    Parameters
    ----------
    image : (rows, cols); its 0.5 and 99.5 (log: 99.9) percentiles are the points, or, `about_zero`, equal distances
        from zero.
    margin : by which the points are taken further apart on each side, so that a noisier image can be drawn with them.

    Raises
    ------
    ValueError : points that do not make a stretch; it names those that were taken from the image.
    """
    low, high = robust_limits(image, 0.5, 99.9 if kind == "log" else 99.5)
    if math.isfinite(margin):
        low, high = low - margin, high + margin
    if about_zero:
        high = max(abs(low), abs(high), 1.0)
        low = -high
    digits = max(0, 1 - math.floor(math.log10(high - low)))
    unit = 10.0**-digits
    low, high = math.floor(low / unit) * unit, math.ceil(high / unit) * unit
    found = (low if black is None else black, high if white is None else white)
    if black is None and white is None and kind == "log" and not found[1] - found[0] > 2.0:
        found = (found[0], found[0] + 2.0)
    try:
        return Stretch(*found, kind)
    except ValueError as error:
        told = [f"white point {found[1]:g}"] if white is None else []
        told += [f"black point {found[0]:g}"] if black is None else []
        raise ValueError(f"{error} (from the frames: {' and '.join(told)})" if told else str(error)) from None


@drawing
def stretched_image(
    image: ArrayLike,
    stretch: Stretch,
    title: str,
    subtitle: str = "",
    *,
    window: Window | None = None,
    outline: Window | None = None,
    unit: str = "ADU",
) -> Figure:
    """An image in shades of grey.

    Parameters
    ----------
    image : (rows, cols); NaN is drawn pink. Row 0 is at the bottom, as FITS viewers have it.
    window : the part that is drawn: first row, row after the last, first column, column after the last.
    outline : a part that is marked by a frame.

    Raises
    ------
    ValueError : no image, or a window without pixels.
    """
    pixels = np.asarray(image)
    r0, r1, c0, c1 = window or (0, pixels.shape[0], 0, pixels.shape[1])
    part = pixels[r0:r1, c0:c1]
    if part.ndim != 2 or part.size == 0:
        raise ValueError(f"a picture needs an image, not shape {part.shape}")
    shape = (part.shape[0], part.shape[1])
    width, height = image_size(shape, _SIDE)
    lines = _lines(part, stretch, unit)
    page = new_page(max(_LEFT + width + 190, 1100), _TOP + height + 60 + _LINE * len(lines), PRINT_DPI)
    write(page, 24, 16, title, 11, weight="bold")
    write(page, 24, 54, subtitle, 8.5)
    scale = _Grey(stretch.black, stretch.white, "gray", how=stretch)
    draw_image(page, block_mean(part, _SIDE), shape, scale, unit, _LEFT, _TOP, _SIDE, (r0, c0))
    if outline is not None:
        _mark(page, outline, (r0, c0), shape, (width, height))
    for number, line in enumerate(lines):
        write(page, 24, _TOP + height + 50 + _LINE * number, line, 8)
    return page


def _lines(part: NDArray[Any], stretch: Stretch, unit: str) -> list[str]:
    """What stands below a picture."""
    with np.errstate(invalid="ignore"):
        below, above = int(np.count_nonzero(part < stretch.black)), int(np.count_nonzero(part > stretch.white))
    points = f"black {plain(stretch.black)}, white {plain(stretch.white)} {unit}, {_how(stretch)}; "
    first = points + f"{below:,} pixels below black, {above:,} above white"
    notes = []
    finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
    if finite.size:
        notes.append(f"smallest {plain(float(finite.min()), 6)}, largest {plain(float(finite.max()), 6)} {unit}")
    if missing := part.size - finite.size:
        notes.append(f"{missing:,} pixels without a value ({NO_VALUE_NAME})")
    block = math.ceil(max(part.shape) / _SIDE)
    if block > 1:
        notes.append(f"a point is the mean of {block} × {block} pixels")
    return [first, ", ".join(notes)]


def _how(stretch: Stretch) -> str:
    return "logarithmic" if stretch.kind == "log" else "linear"


def _mark(page: Figure, window: Window, origin: tuple[int, int], shape: tuple[int, int], size: tuple[int, int]) -> None:
    wide, high = page.get_size_inches() * page.dpi
    across, up = size[0] / shape[1], size[1] / shape[0]
    left = _LEFT + (window[2] - origin[1]) * across
    bottom = _TOP + size[1] - (window[0] - origin[0]) * up
    box = Rectangle(
        (left / wide, 1 - bottom / high),
        (window[3] - window[2]) * across / wide,
        (window[1] - window[0]) * up / high,
        transform=page.transFigure,
        fill=False,
        edgecolor=ORANGE,
        linewidth=1.2,
    )
    page.add_artist(box)


@drawing
def before_and_after(
    frame: ArrayLike,
    residual: ArrayLike,
    master: ArrayLike,
    title: str,
    *,
    noise: float = math.nan,
    frames: int = 0,
    method: Method = "median",
    points: Sequence[float] = (),
    unit: str = "ADU",
) -> Figure:
    """Histograms of a frame and of its master (left), and of the frame less the master (right).

    Left: pixels per unit, on an axis that is linear about the median and logarithmic far from it. Right: pixels a bin.

    Parameters
    ----------
    frame, residual, master : images of one shape; NaN and infinities are left out.
    noise, frames, method : robust sigma of one frame's noise, number of frames of the master and how it was made: what
        the residual should look like, if the noise is normal, is drawn; not where these are not known.
    points : values that are marked on the left: black and white point.
    """
    raw, rest, whole = (_values(image) for image in (frame, residual, master))
    page = new_page(1500, 700, PRINT_DPI)
    write(page, 24, 16, title, 11, weight="bold")
    _draw_before(add_box(page, 140, 110, 560, 470), raw, whole, points, unit)
    axes = add_box(page, 860, 110, 560, 470)
    sigma = image_statistics(rest).sigma
    half = 8.0 * max(noise if noise > 0 else 0.0, sigma if sigma > 0 else 0.0, 1.0)
    step = 0.5 if half < 20 else float(max(1, round(half / 80)))
    # raw counts less a median are whole and half numbers: none of them is an edge
    edges = (np.arange(-math.ceil(half / step), math.ceil(half / step) + 2) - 0.5) * step + 0.25 * (step % 1.0 == 0.0)
    _steps(axes, np.histogram(rest, edges)[0], edges, VERMILION, f"found, sigma {plain(sigma, 3)} {unit}", filled=True)
    if noise > 0 and frames > 1:
        likely = _expected_counts(edges, noise, frames, method) * rest.size
        label = f"expected, sigma {plain(noise * robust_residual_factor(frames, method), 3)} {unit}"
        _steps(axes, likely, edges, BLACK, label)
    _finish(axes, f"frame − master [{unit}]", "pixels", _outside(rest, edges))
    axes.set_ylim(bottom=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.6g}".replace("-", "−")))
    return page


def _draw_before(axes: Axes, raw: NDArray[Any], master: NDArray[Any], points: Sequence[float], unit: str) -> None:
    found = image_statistics(raw)
    low, high = (found.minimum, found.maximum) if found.pixels else (0.0, 1.0)
    centre = found.median if found.pixels else 0.5
    softening = max(3.0 * found.sigma, 2.0) if found.pixels else 2.0
    scale = Scale(low - 0.5 * softening, max(high, low + 1) + 0.5 * softening, centre=centre, softening=softening)
    ends = scale.limits()
    # no bin is narrower than a count, and each holds as many counts as it is wide
    edges = np.unique(np.rint(centre + softening * np.sinh(np.linspace(*ends, 120)))) - 0.5
    for values, colour, label, filled in ((raw, BLUE, "frame", True), (master, BLACK, "master", False)):
        density = np.histogram(values, edges)[0] / np.diff(edges)
        _steps(axes, density, scale.stretch(edges), colour, label, filled=filled)
    for point in points:
        if scale.low < point < scale.high:
            place = float(scale.stretch(np.array(point)))
            axes.axvline(
                place, color=ORANGE, linewidth=1.0, linestyle="--", label=_POINTS if point == points[0] else None
            )
    places, labels = scale.ticks()
    kept: list[int] = []
    for k in sorted(range(len(places)), key=lambda k: abs(places[k])):  # those about the median first
        if all(abs(places[k] - places[other]) > _APART * (ends[1] - ends[0]) for other in kept):
            kept.append(k)
    axes.xaxis.set_major_locator(FixedLocator([places[k] for k in kept]))
    axes.xaxis.set_major_formatter(FixedFormatter([labels[k] for k in kept]))
    axes.set_xlim(*ends)
    _finish(
        axes,
        f"raw counts [{unit}]",
        f"pixels per {unit}",
        f"{found.hot:,} pixels above {plain(found.hot_above)} {unit}",
    )


_POINTS = "black, white point"
_APART = 0.13  # of the axis, so that labels do not touch


def _expected_counts(edges: NDArray[Any], noise: float, frames: int, method: Method) -> NDArray[np.float64]:
    """Share of the residuals in each bin, for normal noise."""
    tail = residual_tail(frames, method)
    above = np.array([tail(abs(edge) / noise) if edge >= 0 else 1.0 - tail(abs(edge) / noise) for edge in edges])
    return -np.diff(above)


def _values(image: ArrayLike) -> NDArray[Any]:
    flat = np.asarray(image).ravel()
    return flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat


def _steps(
    axes: Axes, counts: NDArray[Any], edges: NDArray[Any], colour: str, label: str, *, filled: bool = False
) -> None:
    shown = np.maximum(counts, 1e-9)  # an empty bin lies below the axis
    axes.stairs(shown, edges, color=colour, label=label, fill=filled, alpha=0.55 if filled else 1.0, baseline=1e-9)


def _outside(values: NDArray[Any], edges: NDArray[Any]) -> str:
    low, high = int(np.count_nonzero(values < edges[0])), int(np.count_nonzero(values > edges[-1]))
    return f"{low:,} pixels further left, {high:,} further right" if low or high else "all pixels are inside"


def _finish(axes: Axes, across: str, up: str, note: str) -> None:
    axes.set_yscale("log")
    drawn = np.concatenate([patch.get_data()[0] for patch in axes.patches if isinstance(patch, StepPatch)])
    drawn = drawn[drawn > 1e-6]
    low, high = (float(drawn.min()) / 2, float(drawn.max())) if drawn.size else (0.1, 1.0)
    axes.set_ylim(low, max(high, 10.0 * low) * 20)  # room for the legend
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,.10g}"))
    axes.set_xlabel(across, fontsize=8.5)
    axes.set_ylabel(up, fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_title(note, fontsize=7.5, loc="left")
    axes.legend(fontsize=7.5, framealpha=0.85, edgecolor="none", loc="upper right")


@drawing
def set_statistics(rows: Sequence[Mapping[str, Any]], title: str, unit: str = "ADU") -> Figure:
    """Level, noise and hot pixels of every frame before and after, in the order of the rows.

    ``rows``: as in the table of statistics: ``before_median_adu, before_sigma_adu, after_sigma_adu,
    expected_sigma_adu, before_hot, after_hot``.

    Raises
    ------
    ValueError : no rows.
    """
    if not rows:
        raise ValueError("no frames to draw")
    found = {name: np.array([float(row[name]) for row in rows]) for name in _DRAWN}
    number = np.arange(1, len(rows) + 1)
    page = new_page(1200, 1180, PRINT_DPI)
    write(page, 24, 16, title, 11, weight="bold")
    options: dict[str, Any] = {"linestyle": "none", "markersize": 5 if len(rows) <= 60 else 3}
    level, noise, hot = (add_box(page, 170, 90 + 350 * k, 760, 270) for k in range(3))
    level.plot(number, found["before_median_adu"], "o", color=BLUE, label="before", **options)
    level.set_ylabel(f"median [{unit}]", fontsize=8.5)
    noise.plot(number, found["before_sigma_adu"], "o", color=BLUE, label="before", **options)
    noise.plot(number, found["after_sigma_adu"], "s", color=VERMILION, label="after", **options)
    expected = found["expected_sigma_adu"]
    noise.plot(number, expected, "_", color=BLACK, label="expected after", linestyle="none", markersize=14)
    sigmas = np.concatenate([found["before_sigma_adu"], found["after_sigma_adu"]])
    sigmas = sigmas[sigmas > 0]
    if sigmas.size and sigmas.max() > 5 * sigmas.min():
        log_axis(noise, [sigmas, expected])
    else:
        noise.margins(y=0.25)
    noise.set_ylabel(f"robust sigma [{unit}]", fontsize=8.5)
    hot.plot(number, found["before_hot"], "o", color=BLUE, label="before", **options)
    hot.plot(number, found["after_hot"], "s", color=VERMILION, label="after", **options)
    hot.set_yscale("symlog", linthresh=1.0)
    hot.set_ylim(0.0, 3.0 * max(1.0, float(found["before_hot"].max()), float(found["after_hot"].max())))
    hot.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:,g}"))
    hot.set_ylabel("hot pixels", fontsize=8.5)
    hot.set_xlabel("frame, in the order of the table", fontsize=8.5)
    for axes in (level, noise, hot):
        axes.set_xlim(0.4, len(rows) + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.tick_params(labelsize=7.5)
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    level.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    level.margins(y=0.15)
    return page


_DRAWN = ("before_median_adu", "before_sigma_adu", "after_sigma_adu", "expected_sigma_adu", "before_hot", "after_hot")
