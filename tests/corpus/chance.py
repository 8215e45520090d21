"""Good input, damaged by chance: bits, bytes, cards and blocks. The same number gives the same bytes everywhere."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

from corpus import compressed, frames, headers
from corpus.document import BLOCK, CARD, Input, Truth, Unit, card, file_bytes, quoted, units_of

VALUES = (
    *(
        "0",
        "1",
        "-1",
        "2",
        "7",
        "64",
        "48",
        "999",
        "-999",
        "65535",
        "2147483648",
        "1E300",
        "-1E300",
        "1E-300",
        "9" * 60,
    ),
    *(
        "NaN",
        "INF",
        "T",
        "F",
        "",
        "1E999",
        "-0.0",
        "0.5",
        "263.15",
        "1.5D2",
        "(1,2)",
        "'",
        "''",
        "'x'",
        "'NaN'",
        "'-10,5'",
    ),
    *(
        "'Dark Frame'",
        "'Light Frame'",
        "'Bias'",
        "'2025-01-01'",
        "'120 s'",
        "'&'",
        "'\xff'",
        "'\x00'",
        "/",
        "/ a",
        "= =",
    ),
)
KEYWORDS = (
    *(
        "SIMPLE",
        "XTENSION",
        "BITPIX",
        "NAXIS",
        "NAXIS1",
        "NAXIS2",
        "NAXIS3",
        "BZERO",
        "BSCALE",
        "BLANK",
        "PCOUNT",
        "GCOUNT",
    ),
    *(
        "GROUPS",
        "EXTEND",
        "EXPTIME",
        "EXPOSURE",
        "CCD-TEMP",
        "SET-TEMP",
        "IMAGETYP",
        "GAIN",
        "EGAIN",
        "OFFSET",
        "XBINNING",
    ),
    *(
        "YBINNING",
        "CCDSUM",
        "DATE-OBS",
        "MJD-OBS",
        "DATE-END",
        "INSTRUME",
        "PEDESTAL",
        "DATAMAX",
        "NCOMBINE",
        "CALSTAT",
    ),
    *(
        "FRAME",
        "TEMPERAT",
        "EMGAIN",
        "READOUTM",
        "BAYERPAT",
        "DETSEC",
        "SUBRECT",
        "ZIMAGE",
        "ZCMPTYPE",
        "ZBITPIX",
        "ZNAXIS",
    ),
    *("ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2", "TFIELDS", "TFORM1", "TTYPE1", "THEAP", "CONTINUE", "HIERARCH", "END"),
    *("HISTORY", "COMMENT", "INHERIT", "SUBEXP", "PICTTYPE", "OBJECT"),
)
COMMENTS = ("", "", "[s]", "[K]", "ms", "deg F", "e-/ADU", "ambient", "[min]", "\xff")


def real_data() -> Path:
    """Folder of the real frames, which need not be there."""
    return Path(os.environ.get("DARKPIPE_REAL_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


@cache
def real_cards() -> list[list[bytes]]:
    """Cards of real frames of many cameras; [] without them."""
    found = []
    for path in sorted((real_data() / "headers").glob("*.fit*")):
        content, cards = path.read_bytes(), []
        for place in range(0, min(len(content), 20 * BLOCK), CARD):
            if content[place : place + 8] == b"END     ":
                break
            cards.append(content[place : place + CARD])
        found.append(cards)
    return found


@cache
def sound() -> list[bytes]:
    """Good frames of all forms."""
    made = [item.content for item in frames.intact()] + [compressed.tiles(kind) for kind in compressed.KINDS]
    return made + [item.content for item in headers.real_headers(real_cards())]


def chance_frame(rng: Random) -> Input:
    """One damaged frame, now and then in a gzip stream."""
    content = rng.choice(sound())
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(CHANGES)
        try:
            content = change(rng, content)
            done.append(change.__name__)
        except (ValueError, IndexError, KeyError):  # what an earlier change left cannot be taken apart any more
            content = turn_bits(rng, content)
            done.append("turn_bits")
    if rng.random() < 0.1:
        content = compressed.packed(content)
        if rng.random() < 0.5:
            content = turn_bits(rng, content)
        done.append("gzip")
    suffix = rng.choice((".fits", ".fits", ".fit", ".fts", ".fits.gz", ".fits.fz"))
    return Input(" + ".join(done), content, "any", Truth(frames.PIXELS), suffix=suffix)


# --- changes of bytes
def turn_bits(rng: Random, content: bytes) -> bytes:
    """Some bits, mostly near the front, where the headers are."""
    spoiled = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 2, 8))):
        reach = min(len(spoiled), rng.choice((BLOCK, 2 * BLOCK, 3 * BLOCK, len(spoiled))))
        spoiled[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def overwrite(rng: Random, content: bytes) -> bytes:
    """Some bytes anywhere."""
    place = rng.randrange(len(content) or 1)
    with_what = rng.choice((rng.randbytes(8), b"\0" * 8, b"\xff" * 80, b" " * 80, b"'", b"/", b"="))
    return content[:place] + with_what + content[place + len(with_what) :]


def cut_off(rng: Random, content: bytes) -> bytes:
    """The end is missing."""
    if rng.random() < 0.5:
        return content[: rng.randrange(len(content) // BLOCK + 1) * BLOCK]
    return content[: rng.randrange(len(content) + 1)]


def lose_piece(rng: Random, content: bytes) -> bytes:
    """A piece in the middle is missing, or stands twice."""
    size = rng.choice((1, 8, CARD, BLOCK))
    place = rng.randrange(max(len(content) // size, 1)) * size
    if rng.random() < 0.5:
        return content[:place] + content[place + size :]
    return content[: place + size] + content[place:]


def splice(rng: Random, content: bytes) -> bytes:
    """The front of one file and the back of another."""
    other = rng.choice(sound())
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]


# --- changes of cards
def _with_unit(rng: Random, content: bytes, change: Callable[[Random, Unit], None]) -> bytes:
    units = units_of(content)
    change(rng, rng.choice(units))
    return file_bytes(units)


def other_value(rng: Random, content: bytes) -> bytes:
    """A card that is there with another value."""

    def change(rng: Random, unit: Unit) -> None:
        place = rng.randrange(len(unit.cards))
        keyword = unit.cards[place][:8].decode("latin-1")
        unit.cards[place] = card(keyword, rng.choice(VALUES), rng.choice(COMMENTS))

    return _with_unit(rng, content, change)


def another_card(rng: Random, content: bytes) -> bytes:
    """A card more, anywhere: contradicting another one, or of a structure that is not there."""

    def change(rng: Random, unit: Unit) -> None:
        keyword = rng.choice(KEYWORDS)
        unit.cards.insert(rng.randrange(len(unit.cards) + 1), card(keyword, rng.choice(VALUES), rng.choice(COMMENTS)))

    return _with_unit(rng, content, change)


def known_card(rng: Random, content: bytes) -> bytes:
    """A keyword that means something, with a value that it must not have."""

    def change(rng: Random, unit: Unit) -> None:
        unit.set(rng.choice(KEYWORDS), rng.choice(VALUES), rng.choice(COMMENTS))

    return _with_unit(rng, content, change)


def lose_card(rng: Random, content: bytes) -> bytes:
    """A card is missing."""

    def change(rng: Random, unit: Unit) -> None:
        unit.cards.pop(rng.randrange(len(unit.cards)))

    return _with_unit(rng, content, change)


def double_card(rng: Random, content: bytes) -> bytes:
    """A card stands twice, or two have changed places."""

    def change(rng: Random, unit: Unit) -> None:
        a, b = rng.randrange(len(unit.cards)), rng.randrange(len(unit.cards))
        if rng.random() < 0.5:
            unit.cards.insert(a, unit.cards[b])
        else:
            unit.cards[a], unit.cards[b] = unit.cards[b], unit.cards[a]

    return _with_unit(rng, content, change)


def other_number(rng: Random, content: bytes) -> bytes:
    """A number of a header with a digit more, less, or changed."""

    def change(rng: Random, unit: Unit) -> None:
        place = rng.randrange(len(unit.cards))
        image = bytearray(unit.cards[place])
        digits = [n for n in range(10, 40) if n < len(image) and chr(image[n]).isdigit()]
        image[rng.choice(digits)] = rng.choice(b"0123456789.-+EeDd ")
        unit.cards[place] = bytes(image)

    return _with_unit(rng, content, change)


def free_text(rng: Random, content: bytes) -> bytes:
    """A text of any bytes."""

    def change(rng: Random, unit: Unit) -> None:
        text = quoted(rng.randbytes(rng.randrange(40)).decode("latin-1"))
        unit.set(rng.choice(KEYWORDS), text.encode("latin-1"))

    return _with_unit(rng, content, change)


def other_units(rng: Random, content: bytes) -> bytes:
    """Units lost, doubled, or in another order."""
    units = units_of(content)
    rng.shuffle(units)
    units = units[: rng.randrange(1, len(units) + 1)] + units[: rng.randrange(3)]
    return file_bytes(units)


def other_words(rng: Random, content: bytes) -> bytes:
    """Words of data, as they stand in descriptors of tiles: lengths and places."""
    units = units_of(content)
    unit = units[-1]
    data = bytearray(unit.data)
    for _ in range(rng.choice((1, 4, 20))):
        place = rng.randrange(max(len(data) // 4, 1)) * 4
        word = rng.choice((-1, 0, 1, 2**31 - 1, -(2**31), rng.randrange(-(2**31), 2**31), rng.randrange(4096)))
        data[place : place + 4] = struct.pack(">i", word)[: len(data) - place]
    unit.data = bytes(data)
    return file_bytes(units)


CHANGES: Sequence[Callable[[Random, bytes], bytes]] = (
    *(turn_bits, turn_bits, overwrite, cut_off, lose_piece, splice, other_value, other_value, another_card, known_card),
    *(known_card, lose_card, double_card, other_number, free_text, other_units, other_words),
)
