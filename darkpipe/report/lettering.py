"""Text on figures, set by Pillow and kept: matplotlib lays text out glyph by glyph, and anew each time it is asked.

Three quarters of the time of a map went there. The fonts are those that matplotlib finds, and whatever is not plain
text, level or upright, is left to it: formulas, other angles, letters that the font lacks.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Mask = NDArray[np.uint8]


class Canvas(FigureCanvasAgg):
    """A canvas whose renderer is a `Renderer`."""

    def get_renderer(self) -> RendererAgg:
        """The one of the page's size as it is now."""
        wide, high = self.figure.bbox.size
        wanted = (wide, high, self.figure.dpi)
        if getattr(self, "_made_for", None) != wanted:
            self._made_for, self._kept = wanted, Renderer(*wanted)  # type: ignore[no-untyped-call]
        return self._kept


class Renderer(RendererAgg):
    """matplotlib's renderer of pixels; plain text goes past its layout."""

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        """Text whose baseline begins at a place, counted from the upper left corner."""
        found = None if ismath or angle not in (0, 90) else self._set(s, prop)
        if found is None:
            super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)  # type: ignore[no-untyped-call]
            return
        mask, below = found
        if not mask.size:
            return
        rows, columns = mask.shape
        left, bottom = (x, y + below) if angle == 0 else (x + below - rows, y)
        colour = gc.get_rgb()
        alpha = gc.get_alpha() if len(colour) == 3 or gc.get_forced_alpha() else colour[3]
        painted = np.empty((*(mask.shape if angle == 0 else (columns, rows)), 4), np.uint8)
        painted[..., :3] = np.rint(255 * np.asarray(colour[:3]))
        painted[..., 3] = (mask if angle == 0 else np.rot90(mask))[::-1] * alpha
        self.draw_image(gc, round(left), round(self.height - bottom), painted)

    def get_text_width_height_descent(self, s: str, prop: FontProperties, ismath: Any) -> tuple[float, float, float]:
        """Of plain text, the box of its ink."""
        found = None if ismath else self._set(s, prop)
        if found is None:
            width, height, descent = super().get_text_width_height_descent(s, prop, ismath)  # type: ignore[no-untyped-call]
            return width, height, descent
        mask, below = found
        return float(mask.shape[1]), float(mask.shape[0]), float(max(below, 0))

    def _set(self, text: str, prop: FontProperties) -> tuple[Mask, int] | None:
        return _letters(_font_file(prop), prop.get_size_in_points() * self.dpi / 72, text)


@lru_cache(maxsize=2048)
def _letters(path: str, size: float, text: str) -> tuple[Mask, int] | None:
    """The ink of a line, (rows, columns) from 0 to 255, and how many rows of it reach below the baseline (less than 0:
    it floats above); None where the font does not have all letters."""
    if not _known(path).issuperset(map(ord, text)):
        return None
    font = _font(path, size)
    left, top, right, bottom = (int(v) for v in font.getbbox(text, anchor="ls"))
    image = Image.new("L", (right - left, bottom - top))
    if text.strip():
        ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font, anchor="ls")
    return np.asarray(image), bottom


@lru_cache(maxsize=64)
def _font(path: str, size: float) -> ImageFont.FreeTypeFont:
    # not whatever shaping library a computer has: the same text is the same ink
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=16)
def _known(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


_files: dict[FontProperties, str] = {}


def _font_file(prop: FontProperties) -> str:
    found = _files.get(prop)
    if found is None:
        found = _files[prop] = str(findfont(prop))
    return found
