"""Frames whose headers and names are written by somebody who means harm; the pixels are those of good frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from astropy.io import fits

SCRIPT = '<script>document.title="hacked";window.hacked=1</script>'
IMAGE = '"><img src=x onerror="document.title=\'hacked\';window.hacked=1">'
TEMPLATE = "{{7*7}}{% for x in ().__class__.__base__ %}</pre></style>"
WAY_OUT = "../../../../../../../../tmp/darkpipe-way-out"
TERMINAL = "\x1b]0;pwned\x07\x1b[31m\x1b[2Jpwned\x9b31m\x7f\x08\x0e"
NEW_LINE = "a\r\n2026-01-01 00:00:00,000 ERROR   forged line\x0b\x85"
TURNED = "gpj.\u202e\u2066stif\u200b\u2028"
SHELL = "$(touch pwned)`touch pwned`;touch pwned|%s%n"
MARKUP = "[bold red]loud[/nothing] $\\frac{1 \\undefined$ {0.__class__}"
FORGED = b"\n2026-01-01 00:00:00,000 ERROR   forged line"

STRINGS = {
    "OBJECT": SCRIPT,
    "INSTRUME": "../../evil" + TERMINAL,
    "SERIAL": WAY_OUT,
    "READOUTM": IMAGE,
    "FILTER": MARKUP,
    "TELESCOP": TEMPLATE,
    "OBSERVER": NEW_LINE,
    "SITENAME": TURNED,
    "SWCREATE": SHELL,
    "ORIGIN": "CON\x00nul",
    "NOTES": "../" * 20 + "etc/passwd",
    "FLIPSTAT": TURNED + "<b>",
}

NAMES = [
    "evil \x1b]0;pwned\x07\x1b[31m\x1b[2J.fits",
    "evil\n2026-01-01 00:00:00,000 ERROR   forged line.fits",
    "evil <img src=x onerror=document.title='hacked'>.fits",
    "evil [bold red]loud[/nothing].fits",  # in a folder
    "evil $\\frac{1 \\undefined$ {0}.fits",
    "evil \u202egpj.fits",
    "-rf ~ $(touch pwned).fits",
]
"""Names that a file may have on Linux; one that is no text is made of bytes."""


def poison(path: Path, strings: dict[str, str] = STRINGS) -> None:
    """Give a frame hostile strings, byte by byte: no library would write them."""
    with fits.open(path, mode="update") as hdus:
        for number, keyword in enumerate(strings):
            hdus[0].header[keyword] = _mark(number)
        hdus[0].header["COMMENT"] = _mark(98)
        hdus[0].header["HISTORY"] = _mark(99)
    content = path.read_bytes()
    for number, text in [*enumerate(strings.values()), (98, SCRIPT + TERMINAL), (99, NEW_LINE + IMAGE)]:
        content = content.replace(_mark(number).encode(), _fitted(text), 1)
    path.write_bytes(content)


def _mark(number: int) -> str:
    return f"@{number:02d}" + "@" * 61


def _fitted(text: str) -> bytes:
    """As the 64 bytes that stand between the quotation marks of a card; those within it are doubled."""
    given = text.replace("'", "''").encode("utf-8")[:64]
    cut = given[:-1] if given.endswith(b"'") and (len(given) - len(given.rstrip(b"'"))) % 2 else given
    return cut.ljust(64)


def copies(frame: Path, names: Iterable[str] = NAMES) -> list[Path]:
    """A frame again under hostile names, beside it."""
    made = []
    places: list[bytes] = [os.fsencode(frame.parent / name) for name in names]
    places.append(os.fsencode(frame.parent) + b"/evil \xff\xfe.fits")
    for place in places:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(frame.read_bytes())
        made.append(Path(os.fsdecode(place)))
    return made


def harmless(content: bytes) -> bool:
    """Whether bytes for a terminal or a log move no cursor, ring no bell, and turn no direction of writing round."""
    text = content.decode("utf-8", "surrogateescape")
    return all(line.isprintable() for line in text.split("\n"))
