"""Equations of the pages as pictures inside of the page, drawn by matplotlib: no script and no network to read them."""

from __future__ import annotations

import base64
import html
import io
import re
from functools import cache
from typing import Any

from matplotlib import rc_context
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import math_to_image

POINTS = 12.0  # size of letters; 1 em of the page is 16 px = 12 pt
SETTINGS = {"mathtext.fontset": "cm", "svg.hashsalt": "darkpipe", "svg.fonttype": "path"}


@cache
def drawn(tex: str) -> tuple[str, float, float, float]:
    """The drawing as SVG, and its width, height and depth below the line of the text, in em.

    Raises
    ------
    ValueError
        for what matplotlib's mathtext does not know.
    """
    stream = io.BytesIO()
    with rc_context(SETTINGS):
        depth = math_to_image(f"${tex}$", stream, FontProperties(size=POINTS), dpi=72, format="svg")
    text = stream.getvalue().decode()
    found = re.search(r'<svg[^>]* width="([\d.]+)pt" height="([\d.]+)pt"', text)
    assert found is not None
    return text[text.index("<svg") :], float(found[1]) / POINTS, float(found[2]) / POINTS, float(depth) / POINTS


def picture(tex: str) -> str:
    """An equation as an element of HTML; its TeX is what a screen reader reads."""
    words = " ".join(tex.split())
    text, width, height, depth = drawn(words)
    data = base64.b64encode(text.encode()).decode()
    style = f"width:{width:.3f}em;height:{height:.3f}em;vertical-align:{-depth:.3f}em"
    return f'<img class="equation" style="{style}" alt="{html.escape(words)}" src="data:image/svg+xml;base64,{data}">'


def inline(writer: Any, node: Any) -> None:
    """An equation in a line of text."""
    import docutils.nodes

    writer.body.append(picture(node.astext()))
    raise docutils.nodes.SkipNode


def block(writer: Any, node: Any) -> None:
    """An equation by itself; what `\\qquad` parts may stand below each other on a narrow screen."""
    import docutils.nodes

    parts = (part for part in re.split(r"\\qquad", node.astext()) if part.strip())
    writer.body.append(f'<div class="math">{" ".join(map(picture, parts))}</div>\n')
    raise docutils.nodes.SkipNode


def setup(app: Any) -> None:
    """Hooks of this project."""
    app.add_html_math_renderer("pictures", (inline, None), (block, None))
