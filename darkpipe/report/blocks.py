"""What a page is made of: pictures, tables, sections; plain data that a template sets."""

from __future__ import annotations

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from darkpipe.report.canvas import plain

DASH: Final = "–"
UNBROKEN: Final = "\u00a0"  # a space that no line is broken at
MOST_ROWS = 300  # of one table
WIDE_PX = 1000
LONG_TEXT = 32  # letters, from which on a column keeps some width


@dataclass(frozen=True)
class Value:
    """What stands in a cell of a table: its text, and the number that it is sorted by."""

    text: str
    number: float | None = None

    @property
    def key(self) -> str:
        """For the script that sorts; '' sorts as text."""
        if self.number is None:
            return ""
        return repr(self.number) if math.isfinite(self.number) else "nan"


def number(value: Any, digits: int = 3, unit: str = "") -> Value:
    """A number as people write it, a dash where there is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        return Value(DASH, math.nan)
    if found == 0 or not 1e-4 <= abs(found) < 1e7:
        text = plain(found, digits)
    else:  # zeros at the end are figures, too
        places = max(0, digits - 1 - math.floor(math.log10(abs(found))))
        text = f"{found:,.{places}f}".replace("-", "−")
    return Value(text + (f"{UNBROKEN}{unit}" if unit else ""), found)


def decimals(value: Any, places: int) -> Value:
    """A number with a fixed number of decimals, a dash where there is none."""
    found = float(value)
    if not math.isfinite(found):
        return Value(DASH, math.nan)
    return Value(f"{found:,.{places}f}".replace("-", "−"), found)


def with_error(value: Any, error: Any) -> Value:
    """Value ± error, both with the decimals that two figures of the error have."""
    found, sigma = float(value), float(error)
    if not math.isfinite(found):
        return Value(DASH, math.nan)
    if not (math.isfinite(sigma) and sigma > 0):
        return Value(plain(found), found)
    places = max(0, 1 - math.floor(math.log10(sigma)))
    if places > 6:
        return Value(f"{plain(found, 6)} ± {plain(sigma, 2)}", found)
    return Value(f"{found:,.{places}f} ± {sigma:,.{places}f}".replace("-", "−"), found)


def texts(*values: Any) -> list[Value]:
    """Cells of plain words."""
    return [v if isinstance(v, Value) else Value(str(v)) for v in values]


@dataclass(frozen=True)
class Table:
    """heads : of the columns, the first one names the row. rows : as many cells each. numeric : numbers of columns."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""
    sortable: bool = True
    kind: str = field(default="table", init=False)

    @cached_property  # the template asks for each row
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, to be set flush right."""
        return [
            bool(self.rows) and all(row[k].number is not None or row[k].text == DASH for row in self.rows)
            for k in range(len(self.heads))
        ]

    @cached_property
    def classes(self) -> list[str]:
        """Of the columns: n for numbers, t for texts that want room."""
        longest = [max((len(row[k].text) for row in self.rows), default=0) for k in range(len(self.heads))]
        pairs = zip(self.numeric, longest, strict=True)
        return ["n" if numeric else "t" if long > LONG_TEXT else "" for numeric, long in pairs]

    @property
    def shown(self) -> Sequence[Sequence[Value]]:
        return self.rows[:MOST_ROWS]

    @property
    def hidden(self) -> int:
        return max(0, len(self.rows) - MOST_ROWS)


@dataclass(frozen=True)
class Picture:
    """A PNG with the text that stands for it. row: takes the width of the page where there is more than a column."""

    png: bytes
    alt: str
    caption: str
    row: bool = False
    file: str = ""

    @property
    def wide(self) -> bool:
        """Whether it holds its size on a narrow screen and scrolls in its frame: its letters would be lost."""
        return self.size[0] > WIDE_PX

    @property
    def source(self) -> str:
        """As an address that needs no file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        width, height = struct.unpack(">II", self.png[16:24])
        return int(width), int(height)


@dataclass(frozen=True)
class Pictures:
    """Pictures beside each other; small: many of them, for comparison."""

    items: Sequence[Picture]
    small: bool = False
    note: str = ""
    legend: Picture | None = None
    kind: str = field(default="pictures", init=False)


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    items: Sequence[tuple[str, str]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Words:
    """A paragraph, or a list of them."""

    lines: Sequence[str]
    listed: bool = False
    kind: str = field(default="words", init=False)


@dataclass(frozen=True)
class Listing:
    """Lines that are set as they are, folded away on a screen."""

    title: str
    text: str
    kind: str = field(default="listing", init=False)


Block = Table | Pictures | Facts | Words | Listing


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """Its name in addresses; the template of the page asks for it."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Those of the names under which a row has something that is not NaN."""

    def known(value: Any) -> bool:
        return not (value is None or value == "" or (isinstance(value, float) and math.isnan(value)))

    return [name for name in names if any(known(row.get(name)) for row in rows)]


def plain_temperature(temperature_c: float) -> str:
    """In tenths of a degree, without the sign of a zero that rounds away."""
    return f"{round(temperature_c, 1) + 0.0:.1f}".replace("-", "−")
