"""The report of a campaign as one page of HTML that needs no other file, no network and no script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from darkpipe.report.blocks import UNBROKEN
from darkpipe.report.sections import all_sections, lead_of, title_of

_FOLDER = "html"


def write_page(
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    maps: Mapping[str, tuple[bool, Mapping[str, NDArray[np.float32]]]],
) -> str:
    """The page.

    facts : what `darkpipe.files.reporting.read_facts` gives, with `products`, `campaign`, `run` and `software`.
    pictures : as PNG, by name of the file. maps : small ones of errors by cell, with whether it was left out of the
    fit.
    """
    style, script = _part("style.css"), _part("script.js")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=_fit_to_show)
    return environment.from_string(_part("report.html")).render(
        title=title_of(facts),
        lead=lead_of(facts),
        generator=f"darkpipe {facts['software']['darkpipe']}",
        sections=all_sections(facts, pictures, maps),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _fit_to_show(value: Any) -> Any:
    """A text without control characters and marks that turn the direction of writing round; lines are kept."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in _KEPT else ascii(c)[1:-1] for c in value)


_KEPT = "\n\t" + UNBROKEN


@cache
def _part(name: str) -> str:
    return resources.files("darkpipe.report").joinpath(_FOLDER, name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """By which the page allows this text alone to be run, or to style it."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
