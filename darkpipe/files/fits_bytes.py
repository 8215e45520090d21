"""FITS files as bytes: cards, header units and pixels, with every claim of a header checked before memory is taken.

After the FITS standard 4.0 (IAU FWG 2018). Plain images are decoded here with numpy; tile-compressed ones by astropy.
Header content goes through without warnings, whatever it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from darkpipe.errors import FrameError
from darkpipe.files.sources import MOST_RATIO, SMALL_BYTES, Source, told
from darkpipe.files.values import Card, integer_of, number_of, shown

BLOCK = 2880
MAX_PIXELS = 1 << 29  # three times the largest sensors of today

CARD = 80
_MAX_HDUS = 1000
_MAX_HEADER_BLOCKS = 1000
_LONGEST_AXIS = 1 << 40  # of a table or an image; no disk holds more
_MOST_COLUMNS = 999  # FITS standard, section 7.3.1
_PACKED = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "NOCOMPRESS")
_MOST_REST = 10 * BLOCK  # behind the last unit, which other readers search for one more
_LARGEST_TILE = 1 << 14
EMPTY_PRIMARY = b"".join(
    text.ljust(CARD)
    for text in (
        b"SIMPLE  =                    T",
        b"BITPIX  =                    8",
        b"NAXIS   =                    0",
        b"EXTEND  =                    T",
        b"END",
    )
).ljust(BLOCK)
"""A header unit that an extension may follow."""

_VALUE = re.compile(
    r"""\s*(?: '(?P<text>(?:[^']|'')*)'
            |  (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?)(?=\s|/|$)
            |  (?P<flag>[TF])(?=\s|/|$)
            |  (?P<other>[^/]*) )
        \s*(?:/\s?(?P<comment>.*))?""",
    re.VERBOSE | re.DOTALL,
)
_NAME_OF_UNIT = ("EXTNAME", "EXTVER")
_UNSAFE = re.compile(r"[^A-Za-z0-9.+_-]+")
_STANDARD = re.compile(rb"SIMPLE  ?=? *[TF][ /]")  # other values send other readers round and round
_OF_STRUCTURE = re.compile(r"Z?(?:BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|IMAGE)|PCOUNT|GCOUNT|BZERO|BSCALE|BLANK|TFIELDS")
_HIERARCH = re.compile(r"HIERARCH\s+([^=]*?)\s*=(.*)", re.IGNORECASE | re.DOTALL)
_KEYWORD = re.compile(r"([A-Za-z0-9_-]{1,8})\s*=(.*)", re.DOTALL)


@dataclass(frozen=True)
class ImageLayout:
    """Where the image of a file stands and how its pixels are stored.

    cards: of its header, with those of the primary header that it does not repeat. start: of that header, in bytes.
    begin, count: bytes of the pixels (of the whole unit where compressed). blank: stored value of undefined pixels.
    """

    hdu: int
    rows: int
    cols: int
    bitpix: int
    bzero: float
    bscale: float
    blank: int | None
    begin: int
    count: int
    compressed: bool
    cards: tuple[Card, ...]
    start: int = 0

    @property
    def is_uint16(self) -> bool:
        """Sixteen unsigned bits as almost all cameras write them."""
        return self.bitpix == 16 and self.bzero == 32768.0 and self.bscale == 1.0 and self.blank is None


def locate_image(source: Source, unit: int | None = None) -> ImageLayout:
    """Find the image of a file: that of header unit `unit`, or the primary one, else that of the first image extension.

    Raises
    ------
    FrameError : the file is not FITS, is truncated, has no image (there), a cube, or a header that contradicts itself.
    """
    offset, primary = 0, []  # type: int, list[Card]
    for hdu in range(_MAX_HDUS):
        cards, begin = _read_header(source, offset, hdu)
        if not cards:
            break
        by_keyword = _structure(cards)
        axes = _axes(by_keyword)
        size = _data_bytes(by_keyword, axes)
        if hdu == (hdu if unit is None else unit) and _holds_image(by_keyword, axes, hdu):
            own = {card.keyword for card in cards}
            inherited = [card for card in primary if card.keyword not in own]
            found = _layout(source, hdu, by_keyword, axes, begin, size, (*cards, *inherited))
            if not found.compressed and size != found.rows * found.cols * abs(found.bitpix) // 8:
                raise FrameError("PCOUNT and GCOUNT ask for more than an image", do="The header is damaged.")
            return replace(found, start=offset)
        if hdu == 0:
            primary = cards
        offset = begin + -(-size // BLOCK) * BLOCK
    else:
        raise FrameError(f"no image among the first {_MAX_HDUS} header units", do="Leave the file out.")
    raise FrameError("no image in the file" if unit is None else f"no image in unit {unit}", do="Leave the file out.")


def named_images(source: Source) -> dict[str, int]:
    """Numbers of the header units that hold an image, by name: EXTNAME, with EXTVER where several have the same, else
    the number ('hdu3'); letters, digits and '.+-_' only.

    Raises
    ------
    FrameError : as `locate_image`, but for a file without images.
    """
    offset, found = 0, []  # type: int, list[tuple[int, str, str]]
    for hdu in range(_MAX_HDUS):
        cards, begin = _read_header(source, offset, hdu)
        if not cards:
            break
        by_keyword = _structure(cards)
        axes = _axes(by_keyword)
        if _holds_image(by_keyword, axes, hdu):
            name, version = (str(by_keyword[key].value or "") if key in by_keyword else "" for key in _NAME_OF_UNIT)
            found.append((hdu, _UNSAFE.sub("-", name.strip()).strip("-._"), version or "1"))
        offset = begin + -(-_data_bytes(by_keyword, axes) // BLOCK) * BLOCK
    names = [name for _, name, _ in found]
    named: dict[str, int] = {}
    for hdu, name, version in found:
        full = f"{name}_{version}" if names.count(name) > 1 else name
        named[full if name and full not in named else f"hdu{hdu}"] = hdu
    return named


def check_structure(source: Source) -> None:
    """Look at all header units, so that no other reader can be led to take more memory than the file has bytes.

    Raises
    ------
    FrameError : the file is not FITS, is truncated, or a header contradicts itself or asks for more than there is.
    """
    offset = 0
    for hdu in range(_MAX_HDUS):
        cards, begin = _read_header(source, offset, hdu)
        if not cards:
            rest = bytes(source.read_at(offset, _MOST_REST + 1))
            if len(rest) > _MOST_REST or rest.strip(b"\0 "):
                raise FrameError("rubbish stands behind the last header unit", do="Copy the frame again.")
            return
        by_keyword = _structure(cards)
        axes = _axes(by_keyword)
        size = _data_bytes(by_keyword, axes)
        source.claim(begin + size, f"header unit {hdu} asks for data")
        if "ZIMAGE" in by_keyword and by_keyword["ZIMAGE"].value is True:
            _layout(source, hdu, by_keyword, axes, begin, size, ())
        _check_columns(by_keyword)
        offset = begin + -(-size // BLOCK) * BLOCK
    raise FrameError(f"more than {_MAX_HDUS} header units", do="Leave the file out.")


def _structure(cards: Sequence[Card]) -> dict[str, Card]:
    """The first card of each keyword; those that say where the data stand must not contradict each other."""
    found: dict[str, Card] = {}
    for card in cards:
        first = found.setdefault(card.keyword, card)
        if first.value != card.value and _OF_STRUCTURE.fullmatch(card.keyword):
            raise FrameError(
                f"{card.keyword} stands more than once: {shown(first.value)}, {shown(card.value)}",
                do="The header is damaged.",
            )
    return found


def _layout(
    source: Source,
    hdu: int,
    by_keyword: dict[str, Card],
    axes: Sequence[int],
    begin: int,
    size: int,
    cards: tuple[Card, ...],
) -> ImageLayout:
    compressed = "ZIMAGE" in by_keyword
    z = "Z" if compressed else ""
    shape = _axes(by_keyword, z) if compressed else list(axes)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 2:
        named = " x ".join(map(told, shape[:4])) + (" x …" if len(shape) > 4 else "")
        raise FrameError(
            f"{z}NAXIS = {len(shape)} ({named}): {'a cube' if len(shape) > 2 else 'no image'}, not one frame",
            do="Split it into single frames.",
        )
    cols, rows = shape
    if cols * rows > MAX_PIXELS:
        raise FrameError(
            f"{z}NAXIS1 x {z}NAXIS2 = {told(cols)} x {told(rows)}: larger than any sensor", do="Leave the file out."
        )
    bitpix = integer_of(by_keyword[z + "BITPIX"].value) if z + "BITPIX" in by_keyword else None
    if bitpix not in (8, 16, 32, 64, -32, -64):
        raise FrameError(f"{z}BITPIX is none of 8, 16, 32, 64, -32, -64", do="The file is damaged.")
    source.claim(begin + size, f"{z}NAXIS1 x {z}NAXIS2 = {cols} x {rows}, {z}BITPIX = {bitpix} ask for data")
    if compressed:
        _check_tiles(by_keyword, shape, bitpix, size)
    bzero, bscale = _scaling(by_keyword, "BZERO", 0.0), _scaling(by_keyword, "BSCALE", 1.0)
    if bscale == 0.0:
        raise FrameError("BSCALE = 0: the pixels cannot be decoded", do="Correct the header.")
    blank = by_keyword.get("ZBLANK" if compressed else "BLANK") or by_keyword.get("BLANK")
    return ImageLayout(
        hdu=hdu,
        rows=rows,
        cols=cols,
        bitpix=bitpix,
        bzero=bzero,
        bscale=bscale,
        blank=integer_of(blank.value) if blank and bitpix > 0 else None,
        begin=begin,
        count=size,
        compressed=compressed,
        cards=cards,
    )


def _check_tiles(by_keyword: dict[str, Card], shape: Sequence[int], bitpix: int, size: int) -> None:
    """The tiles must be as many as the image needs, and the image no larger than they can hold."""
    packed = by_keyword.get("ZCMPTYPE")
    if packed is None or packed.value not in _PACKED:
        # the decoders of HCOMPRESS_1 and PLIO_1 believe what the stream says, and write outside of their memory
        stated = shown(packed.value) if packed else "missing"
        raise FrameError(f"ZCMPTYPE = {stated}: not read here", do=f"Unpack the frame (funpack), or use {_PACKED[0]}.")
    tiles = 1
    for axis, length in enumerate(shape, 1):
        card = by_keyword.get(f"ZTILE{axis}")
        tile = integer_of(card.value) if card else (length if axis == 1 else 1)
        if not tile or tile < 1:
            raise FrameError(f"ZTILE{axis} is no tile size", do="The file is damaged.")
        tiles *= -(-length // tile)
        if tile > max(length, _LARGEST_TILE):
            raise FrameError(f"ZTILE{axis} = {told(tile)}: larger than the image", do="The file is damaged.")
    there = integer_of(by_keyword["NAXIS2"].value) if "NAXIS2" in by_keyword else None
    if there != tiles or prod(shape) * abs(bitpix) // 8 > max(SMALL_BYTES, size * MOST_RATIO):
        raise FrameError(
            f"ZNAXIS1 x ZNAXIS2 = {shape[0]} x {shape[1]} is more than the {there} compressed tiles hold",
            do="The file is damaged.",
        )
    _check_columns(by_keyword)


def _check_columns(by_keyword: dict[str, Card]) -> None:
    columns = integer_of(by_keyword["TFIELDS"].value) if "TFIELDS" in by_keyword else 0
    if columns is None or not 0 <= columns <= _MOST_COLUMNS:
        raise FrameError("TFIELDS is no number of columns", do="The header is damaged.")


def _scaling(by_keyword: dict[str, Card], keyword: str, default: float) -> float:
    card = by_keyword.get(keyword)
    if card is None or card.value is None:
        return default
    number = number_of(card.value)
    if number is None:
        raise FrameError(f"{keyword} = {shown(card.value)} is no number", do="Correct the header.")
    return number


def _holds_image(by_keyword: dict[str, Card], axes: Sequence[int], hdu: int) -> bool:
    if hdu > 0:
        kind = by_keyword["XTENSION"].value if "XTENSION" in by_keyword else ""
        if str(kind).strip().upper() == "BINTABLE" and "ZIMAGE" in by_keyword:
            return by_keyword["ZIMAGE"].value is True
        if str(kind).strip().upper() not in ("IMAGE", "IUEIMAGE"):
            return False
    return bool(axes) and prod(axes) > 0


def _axes(by_keyword: dict[str, Card], z: str = "") -> list[int]:
    count = integer_of(by_keyword[z + "NAXIS"].value) if z + "NAXIS" in by_keyword else None
    if count is None or not 0 <= count <= 999:
        raise FrameError(f"{z}NAXIS is missing or no number of axes", do="The header is damaged.")
    axes = []
    for axis in range(1, count + 1):
        card = by_keyword.get(f"{z}NAXIS{axis}")
        length = integer_of(card.value) if card else None
        if length is None or not 0 <= length <= _LONGEST_AXIS:
            raise FrameError(
                f"{z}NAXIS{axis} = {shown(card.value) if card else 'missing'} is no length of an axis",
                do="The header is damaged.",
            )
        axes.append(length)
    return axes


def _data_bytes(by_keyword: dict[str, Card], axes: Sequence[int]) -> int:
    def number(keyword: str, default: int) -> int:
        value = integer_of(by_keyword[keyword].value) if keyword in by_keyword else default
        if value is None or not 0 <= value <= _LONGEST_AXIS:
            raise FrameError(f"{keyword} is no number of bytes", do="The header is damaged.")
        return value

    bitpix = integer_of(by_keyword["BITPIX"].value) if "BITPIX" in by_keyword else None
    if bitpix is None:
        raise FrameError("BITPIX is missing or no number", do="The header is damaged.")
    pixels = prod(axes) if axes else 0
    if axes and axes[0] == 0 and "GROUPS" in by_keyword:  # random groups: the first axis does not count
        pixels = prod(axes[1:])
    return abs(bitpix) // 8 * number("GCOUNT", 1) * (number("PCOUNT", 0) + pixels)


def _read_header(source: Source, offset: int, hdu: int) -> tuple[list[Card], int]:
    """Cards of the header at an offset and where its data begin; no cards where the file ends (or rubbish follows)."""
    cards: list[str] = []
    for number in range(_MAX_HEADER_BLOCKS):
        block = bytes(source.read_at(offset + number * BLOCK, BLOCK))
        if number == 0:
            if hdu and not block.startswith(b"XTENSION"):
                return [], offset
            if not hdu and not _STANDARD.match(block):
                raise FrameError(_no_fits(block), do="Leave the file out.")
        for begin in range(0, len(block) - CARD + 1, CARD):
            card = block[begin : begin + CARD]
            if card.rstrip() == b"END":
                return parse_cards(cards), offset + (number + 1) * BLOCK
            cards.append(_text(card))
        if len(block) < BLOCK:
            break
    raise FrameError("truncated file: the header does not end (no END card)", do="Copy the frame again.")


def _no_fits(block: bytes) -> str:
    known = {
        b"\xff\xd8\xff": "JPEG",
        b"\x89PNG": "PNG",
        b"II*\0": "TIFF or camera raw",
        b"MM\0*": "TIFF",
        b"PK\x03\x04": "ZIP",
        b"BZh": "bzip2",
        b"\xfd7zXZ": "xz",
    }
    for begin, name in known.items():
        if block.startswith(begin):
            return f"not a FITS file: its content is {name}"
    return "not a FITS file: it does not begin with SIMPLE"


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def parse_cards(images: Sequence[str]) -> list[Card]:
    """Cards from their 80-column texts; long strings over CONTINUE cards are put together."""
    cards: list[Card] = []
    for image in images:
        if image.startswith("CONTINUE") and cards and isinstance(cards[-1].value, str):
            last, more = cards[-1], _value(image[8:])
            if last.value.endswith("&") and isinstance(more[0], str):
                cards[-1] = Card(last.keyword, last.value[:-1] + more[0], last.comment or more[1])
                continue
        cards.append(_card(image))
    return cards


def _card(image: str) -> Card:
    if image[8:9] == "=":
        return Card(image[:8].strip().upper(), *_value(image[9:]))
    match = _HIERARCH.match(image) or _KEYWORD.match(image)
    if match and image[:8].rstrip().upper() not in ("COMMENT", "HISTORY", ""):
        return Card(match[1].strip().upper(), *_value(match[2]))
    return Card(image[:8].strip().upper(), image[8:].rstrip(), "")


def _value(field: str) -> tuple[str | bool | int | float | None, str]:
    match = _VALUE.match(field)
    if match is None:
        return field.strip(), ""
    comment = (match["comment"] or "").strip()
    if match["text"] is not None:
        return match["text"].replace("''", "'").rstrip(), comment
    if match["flag"]:
        return match["flag"] == "T", comment
    if match["number"]:
        number = match["number"].replace("D", "E").replace("d", "e")
        return (int(number) if re.fullmatch(r"[+-]?\d+", number) else float(number)), comment
    return (match["other"].strip() or None), comment
