"""What all pictures share: page, colours, limits, image panels and PNG.

Figures are matplotlib objects without pyplot, so no global state is touched; matplotlib's font code is not thread
safe, so whatever draws holds one lock. Images are coloured here and placed pixel on pixel: faster than matplotlib's
resampling, and no pixel is lost.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from darkpipe.report.lettering import Canvas
from darkpipe.report.sizes import PRINT_DPI as PRINT_DPI

SCREEN_DPI: Final = 110

# Okabe & Ito (2008): told apart with every kind of colour vision
BLACK: Final = "#000000"
ORANGE: Final = "#e69f00"
SKY: Final = "#56b4e9"
GREEN: Final = "#009e73"
BLUE: Final = "#0072b2"
VERMILION: Final = "#d55e00"
PURPLE: Final = "#cc79a7"
GREY: Final = "#8c8c8c"
MODEL_COLOURS: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MODEL_MARKERS: Final = ("o", "s", "D", "^", "v", "P")

NO_VALUE: Final = (214, 39, 110)
NO_VALUE_NAME: Final = "pink"
ENOUGH: Final = 60_000  # pixels that limits are taken from
FAINT: Final = (225, 225, 225)  # where there is nothing to compare with, which is no fault

_drawing = threading.RLock()
_P = ParamSpec("_P")
_R = TypeVar("_R")


def drawing(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Hold the drawing lock for the length of a call."""

    @wraps(function)
    def held(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _drawing:
            return function(*args, **kwargs)

    return held


def new_page(width_px: float, height_px: float, dpi: int = SCREEN_DPI) -> Figure:
    """An empty white figure of this many pixels."""
    page = Figure(figsize=(width_px / dpi, height_px / dpi), dpi=dpi, facecolor="white")
    Canvas(page)
    return page


def add_box(page: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in pixels, from the upper left corner of the page."""
    wide, high = page.get_size_inches() * page.dpi
    return page.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def write(page: Figure, left: float, top: float, text: str, size: float = 9, **options: Any) -> None:
    """Text whose upper left corner is at a place in pixels."""
    wide, high = page.get_size_inches() * page.dpi
    options = {"va": "top", "ha": "left"} | options
    page.text(left / wide, 1 - top / high, text, fontsize=size, parse_math=False, **options)


@dataclass(frozen=True)
class Scale:
    """Which colour a value gets: limits, map, and a stretch that is linear or asinh about ``centre``.

    ``low`` and ``high`` are values; ``softening`` is the value above ``centre`` at which asinh turns from linear to
    logarithmic (0: linear).
    """

    low: float
    high: float
    colours: str = "cividis"
    centre: float = 0.0
    softening: float = 0.0
    no_value: tuple[int, int, int] = NO_VALUE

    def stretch(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values on the axis along which colours are spread evenly."""
        if self.softening <= 0:
            return values
        return np.arcsinh((values - self.centre) / self.softening)

    def limits(self) -> tuple[float, float]:
        low, high = self.stretch(np.array([self.low, self.high], np.float64))
        return float(low), float(high)

    def paint(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(rows, columns, 4) colours; NaN in `no_value`."""
        low, high = self.limits()
        with np.errstate(invalid="ignore", over="ignore"):
            steps = (self.stretch(image) - low) * (255.0 / (high - low))
            index = np.where(np.isnan(steps), 256, np.clip(steps, 0, 255)).astype(np.intp)
        # the four bytes of a colour as one number: a picture is looked up in a third of the time
        whole = np.take(_palette(self.colours, self.no_value).view(np.uint32)[:, 0], index)
        return whole.view(np.uint8).reshape(*index.shape, 4)

    def tick_values(self) -> list[float]:
        """Round values inside the limits, well apart once stretched."""
        if self.softening <= 0:
            values = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
        else:
            values = _asinh_ticks(self)
        slack = 1e-9 * (self.high - self.low)
        return [float(v) for v in values if self.low - slack <= v <= self.high + slack]

    def ticks(self) -> tuple[list[float], list[str]]:
        """Places on the stretched axis and their labels."""
        values = self.tick_values()
        return [float(v) for v in self.stretch(np.array(values))], tick_labels(values)


def plain(value: float, digits: int = 4) -> str:
    """A number as people write it: ``148,500``, ``0.0123``, ``−3.4``; exponents only beyond seven figures."""
    if not np.isfinite(value):
        return "none"
    if value == 0 or not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits}g}".replace("-", "−")
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    text = f"{value:,.{decimals}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def tick_labels(values: Sequence[float]) -> list[str]:
    """Short labels, all with the decimals that tell neighbours apart; no exponents between 0.001 and a million."""
    largest = max((abs(v) for v in values), default=0.0)
    if largest == 0 or not 1e-3 <= largest < 1e6:
        return [f"{v:.3g}" for v in values]
    step = min((abs(b - a) for a, b in itertools.pairwise(values) if a != b), default=largest)
    decimals = max(0, min(6, -int(np.floor(np.log10(step) + 1e-9))))
    if decimals and any(abs(round(v, decimals) - v) > 1e-3 * step for v in values):
        decimals += 1
    return [f"{v:,.{decimals}f}".replace("-", "−") for v in values]


def robust_limits(
    image: ArrayLike, low_percent: float = 0.5, high_percent: float = 99.5, *, low: float | None = None
) -> tuple[float, float]:
    """Limits that hot pixels and NaN do not move: percentiles of the finite values, never equal; (0, 1) of none."""
    values = np.asarray(image).ravel()
    if values.size > 2 * ENOUGH:
        values = values[:: (values.size // ENOUGH) | 1]
    values = values[np.isfinite(values)].astype(np.float64)
    if values.size == 0:
        return 0.0, 1.0
    bottom, top = (float(v) for v in np.percentile(values, [low_percent, high_percent]))
    bottom = bottom if low is None else low
    if top <= bottom:
        top = bottom + max(abs(bottom) * 0.01, 1e-6)
    return bottom, top


def image_size(shape: tuple[int, int], side_px: int) -> tuple[int, int]:
    """(width, height) in pixels of an image drawn so that its longer side is about ``side_px``: a whole factor
    if it is magnified, and never narrower than an eighth."""
    rows, columns = shape
    longest = max(rows, columns)
    factor = max(1, side_px // longest) if longest <= side_px else side_px / longest
    return max(round(columns * factor), side_px // 8), max(round(rows * factor), side_px // 8)


class _Pixels(Artist):
    """Colours that fill a box of the page: copied pixel on pixel, or by the nearest pixel where sizes differ.

    matplotlib's own image artist works through masked arrays in floating point: twenty times slower for this.
    """

    def __init__(self, painted: NDArray[np.uint8], box: TransformedBbox) -> None:
        super().__init__()
        self._painted = painted
        self._box = box
        self.set_zorder(0.5)

    def draw(self, renderer: RendererBase) -> None:
        factor = renderer.get_image_magnification()
        left, bottom = round(self._box.x0 * factor), round(self._box.y0 * factor)
        width, height = round(self._box.x1 * factor) - left, round(self._box.y1 * factor) - bottom
        rows, columns = self._painted.shape[:2]
        pixels = np.ascontiguousarray(self._painted)
        if (rows, columns) != (height, width):
            down = (np.arange(height) * rows) // max(height, 1)
            across = (np.arange(width) * columns) // max(width, 1)
            pixels = pixels.view(np.uint32)[down[:, None], across].view(np.uint8)
        context = renderer.new_gc()
        renderer.draw_image(context, left, bottom, pixels)
        context.restore()
        self.stale = False


def draw_image(
    page: Figure,
    small: NDArray[Any],
    shape: tuple[int, int],
    scale: Scale,
    unit: str,
    left: float,
    top: float,
    side: int,
    origin: tuple[int, int] = (0, 0),
) -> None:
    """An image with its pixel numbers and colour bar; row 0 at the bottom, as FITS viewers have it.

    ``small``: the image, reduced where its ``shape`` is longer than ``side`` pixels. ``origin``: row and column of
    its first pixel in the frame that it is a part of.
    """
    size = image_size(shape, side)
    place_image(page, scale.paint(small), shape, left, top, size, origin)
    draw_bar(page, scale, unit, left + size[0] + 12, top, size[1])


def place_image(
    page: Figure,
    painted: NDArray[np.uint8],
    shape: tuple[int, int],
    left: float,
    top: float,
    size: tuple[int, int],
    origin: tuple[int, int] = (0, 0),
) -> None:
    """(rows, columns, 4) colours in a frame of ``size`` pixels, with the row and column numbers of ``shape``, counted
    from ``origin``."""
    width, height = size
    frame = _Frame(page, left, top, width, height)
    frame.fill(painted)
    for value in _pixel_ticks(shape[1], width, origin[1]):
        frame.tick("below", (value - origin[1]) / shape[1], f"{value}")
    for value in _pixel_ticks(shape[0], height, origin[0]):
        frame.tick("left", (value - origin[0]) / shape[0], f"{value}")
    frame.finish()


def draw_bar(page: Figure, scale: Scale, unit: str, left: float, top: float, height: float) -> None:
    """The colour bar of a scale: 14 pixels wide, its labels to the right and the unit above."""
    frame = _Frame(page, left, top, 14, height)
    frame.fill(_palette(scale.colours)[:256, None])
    low, high = scale.limits()
    for place, label in zip(*scale.ticks(), strict=True):
        frame.tick("right", (place - low) / (high - low), label)
    frame.finish()
    write(page, left, top - 6, unit, 8.5, va="bottom")


class _Frame:
    """A box on the page with ticks: matplotlib's axes cost half of the time of a small picture."""

    def __init__(self, page: Figure, left: float, top: float, width: float, height: float) -> None:
        self.page, self.left, self.top, self.width, self.height = page, left, top, width, height
        wide, high = page.get_size_inches() * page.dpi
        self._to_page = np.array([1 / wide, 1 / high])
        right, bottom = left + width, top + height
        self._lines = [[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]]

    def fill(self, painted: NDArray[np.uint8]) -> None:
        lower, upper = self._place([(self.left, self.top + self.height), (self.left + self.width, self.top)])
        box = TransformedBbox(Bbox([lower, upper]), self.page.transFigure)
        self.page.add_artist(_Pixels(painted, box))

    def tick(self, side: str, fraction: float, label: str) -> None:
        """A tick on the side 'left', 'right' or 'below', at a fraction from the lower left corner."""
        right, bottom = self.left + self.width, self.top + self.height
        if side == "below":
            x = self.left + fraction * self.width
            self._lines.append([(x, bottom), (x, bottom + 4)])
            write(self.page, x, bottom + 6, label, 8, ha="center")
            return
        y = bottom - fraction * self.height
        edge, way = (right, 1) if side == "right" else (self.left, -1)
        self._lines.append([(edge, y), (edge + 4 * way, y)])
        write(self.page, edge + 7 * way, y, label, 8, va="center_baseline", ha="left" if way > 0 else "right")

    def finish(self) -> None:
        lines = LineCollection(
            [self._place(line) for line in self._lines],
            colors="black",
            linewidths=0.8,
            transform=self.page.transFigure,
            capstyle="projecting",
        )
        self.page.add_artist(lines)

    def _place(self, points: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
        placed = np.array(points, np.float64)
        placed *= self._to_page
        placed[:, 1] = 1 - placed[:, 1]
        return placed


def _pixel_ticks(count: int, length_px: float, first: int = 0) -> list[int]:
    """Round pixel numbers, far enough apart for their labels."""
    wanted = max(1, min(5, int(length_px // 70)))
    values = MaxNLocator(wanted, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(first, first + count)
    return [int(v) for v in values if first <= v <= first + count]


@drawing
def save_png(page: Figure, target: str | Path | BinaryIO) -> None:
    """Write a figure as PNG: the same figure gives the same bytes (no dates, no versions).

    Where 256 colours (of 6 bits a channel) hold the picture it is written with a palette: maps of noise are a third
    of the size then, and quicker to write. ``target``: a path (its folder must exist) or an open binary file.
    """
    canvas = page.canvas
    drawn: Any = canvas if isinstance(canvas, Canvas) else Canvas(page)
    drawn.draw()
    picture = _few_colours(np.asarray(drawn.buffer_rgba()))
    out = BytesIO()
    picture.save(out, "PNG", compress_level=2, dpi=(page.dpi, page.dpi))
    if isinstance(target, (str, Path)):
        Path(target).write_bytes(out.getvalue())
    else:
        target.write(out.getvalue())


def _few_colours(pixels: NDArray[np.uint8]) -> Image.Image:
    whole = np.ascontiguousarray(pixels).view("<u4")[..., 0]  # red is the lowest byte
    keys = ((whole & 0xFC) << 10) | ((whole >> 4) & 0xFC0) | ((whole >> 18) & 0x3F)
    counts = np.bincount(keys.ravel(), minlength=1 << 18)
    present = np.flatnonzero(counts)
    levels = ((present[:, None] >> np.array([12, 6, 0])) & 63).astype(np.int32)
    # the most frequent colours (ties in order of colour), then, one by one, the colour worst served so far
    chosen = list(np.argsort(-counts[present], kind="stable")[:_FREQUENT])
    apart = (levels**2).sum(1)[:, None] - 2 * levels @ levels[chosen].T + (levels[chosen] ** 2).sum(1)
    nearest, distance = np.argmin(apart, axis=1), np.min(apart, axis=1)
    while len(chosen) < 256 and distance.max() > 0:
        chosen.append(int(np.argmax(distance)))
        apart = ((levels - levels[chosen[-1]]) ** 2).sum(1)
        nearest = np.where(apart < distance, len(chosen) - 1, nearest)
        distance = np.minimum(apart, distance)
    if distance.max() > _BLEND:
        return Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
    table = np.zeros(1 << 18, np.uint8)
    table[present] = nearest
    picture = Image.fromarray(table[keys])
    picture.putpalette(np.rint(levels[chosen] * (255 / 63)).astype(np.uint8).tobytes())
    return picture


_FREQUENT: Final = 208
_BLEND: Final = 27  # squared distance in steps of 1/64 of each channel: 5 % of the range


@lru_cache(maxsize=16)
def _palette(colours: str, no_value: tuple[int, int, int] = NO_VALUE) -> NDArray[np.uint8]:
    """257 colours: the map and, last, the one for no value."""
    table = matplotlib.colormaps[colours](np.arange(256) / 255.0, bytes=True)
    return np.vstack([table, [[*no_value, 255]]]).astype(np.uint8)


def _asinh_ticks(scale: Scale) -> list[float]:
    """Round values on both sides of zero, the roundest first, that lie well apart once stretched."""
    low, high = scale.limits()
    tiers = ((1,), (2, 5), (3,), (1.5, 4, 7))
    rounds = [m * 10.0**n for tier in tiers for n in range(6, -4, -1) for m in tier]
    kept: list[float] = []
    for value in [0.0, *rounds, *(-v for v in rounds)]:
        if not scale.low <= value <= scale.high:
            continue
        places = scale.stretch(np.array([*kept, value]))
        if all(abs(place - places[-1]) > 0.07 * (high - low) for place in places[:-1]):
            kept.append(value)
    return sorted(kept)
