"""Docstrings of this project as reStructuredText.

They are plain text: sections underlined as numpy has them, and in these (or anywhere) items `name : what it is`, whose
further lines may be indented or not. Nothing in them is markup but `code` and examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

ITEM = re.compile(r"^(\w[\w.]*(?:, \w[\w.]*)*) : (.*)$")
UNDERLINE = re.compile(r"^-{3,}$")
LISTS = ("Parameters", "Attributes", "Returns", "Raises", "Yields")


def process(app: object, what: str, name: str, found: object, options: object, lines: list[str]) -> None:
    """The hook of autodoc: changes the lines in place."""
    lines[:] = list(converted(lines))


def converted(lines: list[str]) -> Iterator[str]:
    """The lines as reStructuredText."""
    section, last = "", ""
    position = 0
    while position < len(lines):
        line = lines[position]
        after = lines[position + 1] if position + 1 < len(lines) else ""
        if UNDERLINE.match(after) and line.strip():
            section = line.strip()
            yield from ("", f".. rubric:: {section}", "")
            position += 2
            continue
        if line.startswith((">>> ", "... ")) or last == "example":
            last = "example" if line.strip() else ""
            yield line
            position += 1
            continue
        paragraph, position = _paragraph(lines, position)
        yield from _written(paragraph, section)
        last = ""


def _paragraph(lines: list[str], first: int) -> tuple[list[str], int]:
    """Lines up to the next blank one, section or example."""
    last = first
    while last < len(lines) and lines[last].strip() and not lines[last].startswith(">>> "):
        if last + 1 < len(lines) and UNDERLINE.match(lines[last + 1]):
            break
        last += 1
    return lines[first:last] or [""], max(last, first + 1)


def _written(paragraph: list[str], section: str) -> Iterator[str]:
    """A paragraph, or its items as a list of definitions."""
    if not any(ITEM.match(line) for line in paragraph) and not _named(paragraph, section):
        if all(line.startswith(" ") for line in paragraph if line.strip()) and paragraph[0].strip():
            yield from ("::", "", *paragraph, "")  # a formula stands by itself, indented
        else:
            yield from (marked(line) for line in paragraph)
        return
    yield ""
    for line in paragraph:
        item = ITEM.match(line)
        if item:
            yield from ("", f"``{item[1]}``", f"    {marked(item[2])}")
        elif section in LISTS and not line.startswith(" ") and not _goes_on(paragraph, line):
            yield from ("", f"``{line.strip()}``")
        else:
            yield f"    {marked(line.strip())}"
    yield ""


def _named(paragraph: list[str], section: str) -> bool:
    """Whether it is a name with an indented text below, as in Raises and Returns."""
    return section in LISTS and len(paragraph) > 1 and paragraph[1].startswith(" ") and paragraph[0][0] != " "


def _goes_on(paragraph: list[str], line: str) -> bool:
    """Whether a line that is not indented belongs to the item above it: only names stand alone."""
    return " " in line.strip() or paragraph[paragraph.index(line) - 1].rstrip()[-1:] not in (".", ":", ")")


def marked(line: str) -> str:
    """Text with its `code` as literals and nothing else as markup."""
    parts = line.split("`")
    if len(parts) % 2 == 0:
        return _escaped(line)
    return "".join(_escaped(part) if i % 2 == 0 else f"``{part}``" for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*|`])", r"\\\1", text)
    return re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
