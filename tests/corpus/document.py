"""FITS files as header units of 80-column cards and bytes, so that anything can be written wrongly.

Written on its own after the FITS standard 4.0, so that what reads the files is compared with what it does not share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

BLOCK, CARD = 2880, 80


@dataclass(frozen=True)
class Truth:
    """What an intact frame holds: physical pixels (rows, cols), exposure [s], temperature [°C]; None: not checked."""

    pixels: np.ndarray | None = None
    exposure_s: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True)
class Input:
    """Something that is read.

    name : what is wrong with it. fate : 'accepted', 'refused', or 'any' where both may be right. truth : of a frame.
    suffix : of the file that it is written to. reason : found in the words of a refusal, as a pattern; '': any.
    """

    name: str
    content: bytes
    fate: str = "any"
    truth: Truth | None = None
    suffix: str = ".fits"
    reason: str = ""


@dataclass
class Unit:
    """A header unit: its cards without END, and its data without filling."""

    cards: list[bytes] = field(default_factory=list)
    data: bytes = b""

    def find(self, keyword: str) -> int:
        """Place of the first card of a keyword; -1 if there is none."""
        start = keyword.ljust(8).encode()[:8]
        return next((n for n, image in enumerate(self.cards) if image[:8] == start), -1)

    def set(self, keyword: str, text: str | bytes, comment: str = "") -> Unit:
        """Replace the first card of a keyword, or append one; the value as it stands in the file."""
        place, image = self.find(keyword), card(keyword, text, comment)
        if place < 0:
            self.cards.append(image)
        else:
            self.cards[place] = image
        return self

    def drop(self, keyword: str) -> Unit:
        """Take out all cards of a keyword."""
        start = keyword.ljust(8).encode()[:8]
        self.cards = [image for image in self.cards if image[:8] != start]
        return self

    def add(self, *images: bytes) -> Unit:
        """Append cards."""
        self.cards += images
        return self

    def copy(self) -> Unit:
        """Another one, to be changed."""
        return Unit(list(self.cards), self.data)


def card(keyword: str, text: str | bytes, comment: str = "") -> bytes:
    """A card of 80 bytes; numbers end in column 30."""
    value = text if isinstance(text, bytes) else text.encode("latin-1", "replace")
    image = keyword.ljust(8).encode("latin-1", "replace") + b"= "
    image += value.rjust(20) if value[:1] != b"'" else value.ljust(20)
    if comment:
        image += b" / " + comment.encode("latin-1", "replace")
    return image[:CARD].ljust(CARD)


def quoted(text: str) -> str:
    """A text as it stands in a card."""
    return "'" + text.replace("'", "''").ljust(8) + "'"


def header_bytes(unit: Unit, *, end: bool = True) -> bytes:
    """Cards, END and filling."""
    content = b"".join(unit.cards) + (b"END".ljust(CARD) if end else b"")
    return content + b" " * (-len(content) % BLOCK)


def unit_bytes(unit: Unit) -> bytes:
    """Header and data, each filled to whole blocks."""
    return header_bytes(unit) + unit.data + bytes(-len(unit.data) % BLOCK)


def file_bytes(units: Sequence[Unit]) -> bytes:
    """A file."""
    return b"".join(map(unit_bytes, units))


def image_unit(
    pixels: np.ndarray, cards: Sequence[bytes] = (), *, stored: str = "uint16", extension: bool = False
) -> Unit:
    """An image; `stored`: 'uint16' (BZERO 32768), or a numpy type of FITS ('int16', 'int32', 'float32', …)."""
    kinds = {"uint16": 16, "uint8": 8, "int16": 16, "int32": 32, "int64": 64, "float32": -32, "float64": -64}
    first = card("XTENSION", quoted("IMAGE")) if extension else card("SIMPLE", "T")
    unit = Unit([first, card("BITPIX", str(kinds[stored])), card("NAXIS", "2")])
    unit.set("NAXIS1", str(pixels.shape[1])).set("NAXIS2", str(pixels.shape[0]))
    if extension:
        unit.set("PCOUNT", "0").set("GCOUNT", "1")
    if stored == "uint16":
        unit.set("BZERO", "32768").set("BSCALE", "1")
        unit.data = (pixels.astype(np.int32) - 32768).astype(">i2").tobytes()
    else:
        unit.data = pixels.astype(np.dtype(stored).newbyteorder(">")).tobytes()
    unit.cards += cards
    return unit


def table_unit(rows: int = 3) -> Unit:
    """A binary table of doubles."""
    cards = [card("XTENSION", quoted("BINTABLE")), card("BITPIX", "8"), card("NAXIS", "2"), card("NAXIS1", "8")]
    unit = Unit([*cards, card("NAXIS2", str(rows)), card("PCOUNT", "0"), card("GCOUNT", "1"), card("TFIELDS", "1")])
    unit.add(card("TTYPE1", quoted("X")), card("TFORM1", quoted("D")))
    unit.data = bytes(8 * rows)
    return unit


def empty_primary(cards: Sequence[bytes] = ()) -> Unit:
    """A primary header without an image."""
    return Unit([card("SIMPLE", "T"), card("BITPIX", "8"), card("NAXIS", "0"), card("EXTEND", "T"), *cards])


def changed(unit: Unit, change: Callable[[Unit], object]) -> Unit:
    """A copy with a change made to it."""
    other = unit.copy()
    change(other)
    return other


def units_of(content: bytes) -> list[Unit]:
    """The units of a sound file, for all that it takes to damage them: sizes from NAXISn, BITPIX and PCOUNT."""
    units, offset = [], 0
    while content[offset : offset + 1]:
        cards: list[bytes] = []
        while not (image := content[offset : offset + CARD]).startswith(b"END "):
            if len(image) < CARD:
                raise ValueError("no END")
            cards.append(image)
            offset += CARD
        offset += CARD + (-(len(cards) + 1) * CARD) % BLOCK
        size = _size(cards)
        units.append(Unit(cards, content[offset : offset + size]))
        offset += size + -size % BLOCK
    return units


def _size(cards: Sequence[bytes]) -> int:
    found = {}
    for image in cards:
        if image[8:10] == b"= " and b"'" not in image:
            found.setdefault(image[:8].decode("latin-1").strip(), image[10:].partition(b"/")[0].strip())
    axes = [int(found[f"NAXIS{n}"]) for n in range(1, int(found["NAXIS"]) + 1)]
    pixels = int(np.prod(axes, dtype=object)) if axes else 0
    return abs(int(found["BITPIX"])) // 8 * (pixels + int(found.get("PCOUNT", 0)))
