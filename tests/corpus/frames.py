"""Frames that are wrong in one known way, with what must become of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import numpy as np

from corpus.document import (
    BLOCK,
    CARD,
    Input,
    Truth,
    Unit,
    card,
    changed,
    empty_primary,
    file_bytes,
    header_bytes,
    image_unit,
    quoted,
    table_unit,
)

ROWS, COLS = 48, 64
EXPOSURE_S, TEMPERATURE_C = 120.0, -10.25


def pixels() -> np.ndarray:
    """Counts (rows, cols) as a camera gives them."""
    rng = np.random.default_rng(7)
    image = rng.normal(1000.0, 6.0, (ROWS, COLS))
    image[rng.random(image.shape) < 0.01] += 8000.0
    return np.clip(np.rint(image), 0, 65535).astype(np.uint16)


PIXELS = pixels()
TRUTH = Truth(PIXELS, EXPOSURE_S, TEMPERATURE_C)


def dark_cards() -> list[bytes]:
    """What a good dark says of itself."""
    return [
        card("IMAGETYP", quoted("Dark Frame")),
        card("EXPTIME", "120.0", "[s]"),
        card("CCD-TEMP", "-10.25", "[degC]"),
        card("SET-TEMP", "-10.0", "[degC]"),
        card("GAIN", "100"),
        card("OFFSET", "50"),
        card("EGAIN", "0.8", "e-/ADU"),
        card("XBINNING", "1"),
        card("YBINNING", "1"),
        card("INSTRUME", quoted("Corpus CCD")),
        card("DATE-OBS", quoted("2025-01-01T20:00:00.000")),
    ]


def dark(stored: str = "uint16") -> Unit:
    """A good dark."""
    return image_unit(PIXELS, dark_cards(), stored=stored)


def one(name: str, unit: Unit, fate: str = "any", truth: Truth | None = None, **more: str) -> Input:
    """A file of one unit."""
    return Input(name, file_bytes([unit]), fate, truth, **more)


def with_card(keyword: str, text: str | bytes, comment: str = "") -> Unit:
    """A good dark with one card replaced."""
    return dark().set(keyword, text, comment)


def truth(**values: object) -> Truth:
    """What a good dark holds, but for some of it."""
    return Truth(**{"pixels": PIXELS, "exposure_s": EXPOSURE_S, "temperature_c": TEMPERATURE_C} | values)  # type: ignore[arg-type]


# --- whole files
def intact() -> Iterator[Input]:
    for stored in ("uint16", "int16", "int32", "int64", "float32", "float64"):
        yield one(f"intact {stored}", dark(stored), "accepted", TRUTH)
    extension = image_unit(PIXELS, dark_cards(), extension=True)
    yield Input("image in an extension", file_bytes([empty_primary(), extension]), "accepted", TRUTH)
    plain = image_unit(PIXELS, extension=True)
    yield Input("header inherited", file_bytes([empty_primary(dark_cards()), plain]), "accepted", TRUTH)
    yield Input("image behind a table", file_bytes([empty_primary(), table_unit(), extension]), "accepted", TRUTH)
    yield one("one plane of a cube", with_card("NAXIS", "3").add(card("NAXIS3", "1")), "accepted", TRUTH)
    yield Input("an image with a table behind", file_bytes([dark(), table_unit()]), "accepted", TRUTH)
    swapped = dark()
    swapped.cards[5:] = swapped.cards[:4:-1]
    yield one("cards in another order", swapped, "accepted", TRUTH)


def truncated() -> Iterator[Input]:
    """At every block boundary, and around it; only the filling of the last block may be missing."""
    extension = file_bytes([empty_primary(), image_unit(PIXELS, dark_cards(), extension=True)])
    for kind, content, needed in (
        ("primary", file_bytes([dark()]), BLOCK + PIXELS.nbytes),
        ("extension", extension, 2 * BLOCK + PIXELS.nbytes),
    ):
        for boundary in range(0, len(content), BLOCK):
            for end in (boundary - 1, boundary, boundary + 1, boundary + CARD, boundary + BLOCK // 2):
                if 0 <= end < len(content):
                    fate = "accepted" if end >= needed else "refused"
                    yield Input(f"{kind} cut off at byte {end}", content[:end], fate, TRUTH)
        yield Input(f"{kind}, one pixel short", content[: needed - 1], "refused", reason="truncated")
        yield Input(f"{kind}, filling missing", content[:needed], "accepted", TRUTH)
        yield Input(f"{kind}, rubbish behind", content + b"\xff" * 7777, "accepted", TRUTH)


NO_LENGTHS = (
    "-64",
    "0",
    "63",
    "65",
    "640000",
    str(2**31),
    str(2**32 + 64),
    str(2**63),
    "9" * 70,
    "1E300",
    "64.5",
    "T",
    "NaN",
    "1E999",
    "-1E300",
    quoted("wide"),
    "",
    "(64, 64)",
    "0x40",
)


def lying_axes() -> Iterator[Input]:
    for keyword in ("NAXIS1", "NAXIS2"):
        for text in NO_LENGTHS:
            # a few pixels less are an image of another shape; so are other rows of the filling
            fate = "any" if text in ("63", "65") else "refused"
            yield one(f"{keyword} = {text[:12]}", with_card(keyword, text), fate)
        yield one(f"{keyword} missing", dark().drop(keyword), "refused", reason=keyword)
        twice = changed(dark(), lambda u, k=keyword: u.cards.insert(3, card(k, "7")))  # type: ignore[misc]
        yield one(f"{keyword} twice", twice)
    for text in ("0", "1", "-1", "3", "999", "1000", "1000000000", "1E9", "2.5", "T", "NaN", "", quoted("two")):
        yield one(f"NAXIS = {text}", with_card("NAXIS", text), "refused")
    many = with_card("NAXIS", "999").add(*(card(f"NAXIS{n}", "1E300") for n in range(3, 1000)))
    yield one("999 axes of 1E300", many, "refused")
    many = with_card("NAXIS", "999").add(*(card(f"NAXIS{n}", "1") for n in range(3, 1000)))
    yield one("999 axes, all but two of length 1", many, "accepted", TRUTH)
    yield one("a cube of three planes", with_card("NAXIS", "3").add(card("NAXIS3", "3")), "refused")
    yield one("a cube of no planes", with_card("NAXIS", "3").add(card("NAXIS3", "0")), "refused")
    for rows, cols in ((1 << 20, 1 << 20), (1 << 14, 1 << 14), (1, 1 << 29), (1 << 29, 1), (1 << 40, 1)):
        huge = dark().set("NAXIS1", str(cols)).set("NAXIS2", str(rows))
        yield one(f"{rows} x {cols} pixels in a small file", huge, "refused")


def lying_bytes() -> Iterator[Input]:
    for text in (
        "0",
        "1",
        "7",
        "12",
        "24",
        "-16",
        "-8",
        "128",
        "1E300",
        "9" * 70,
        "T",
        "NaN",
        quoted("16"),
        "",
        "16.5",
    ):
        yield one(f"BITPIX = {text[:12]}", with_card("BITPIX", text), "any" if text == quoted("16") else "refused")
    yield one("BITPIX missing", dark().drop("BITPIX"), "refused", reason="BITPIX")
    for text in ("8", "32", "64", "-32", "-64"):
        yield one(f"BITPIX = {text} over 16 bits", with_card("BITPIX", text))
    for keyword in ("PCOUNT", "GCOUNT"):
        for text in ("-1", "1000000000", "1E300", "9" * 70, "T", "0.5", quoted("many"), "NaN"):
            yield one(f"{keyword} = {text[:12]}", with_card(keyword, text), "refused")
    for keyword, text in (("PCOUNT", "999"), ("GCOUNT", "0"), ("GCOUNT", "2")):
        content = file_bytes([dark().set(keyword, text)]) + bytes(9 * BLOCK)
        yield Input(f"{keyword} = {text} with bytes to spare", content, "refused", reason="PCOUNT")
    groups = dark().set("NAXIS1", "0").set("GROUPS", "T").set("PCOUNT", "0").set("GCOUNT", "1")
    yield one("random groups", groups, "refused")
    for text in ("1E300", "9" * 70, "1000000000000", "-5"):
        table = changed(table_unit(), lambda u, t=text: u.set("NAXIS2", t))  # type: ignore[misc]
        image = image_unit(PIXELS, dark_cards(), extension=True)
        yield Input(
            f"a table of {text[:12]} rows before the image", file_bytes([empty_primary(), table, image]), "refused"
        )


def scaled() -> Iterator[Input]:
    """BZERO, BSCALE and BLANK that no camera writes."""
    for keyword in ("BZERO", "BSCALE"):
        for text in (quoted("none"), "T", "NaN", "1E999", "-1E999", "(1,2)"):
            yield one(f"{keyword} = {text}", with_card(keyword, text), "refused", reason=keyword)
        for text in ("1E300", "-1E300", "1E-300", "1E38", "-1", "0.1", "9" * 60, "2147483648", "9.3E18", quoted("1")):
            yield one(f"{keyword} = {text[:12]}", with_card(keyword, text))
    yield one("BSCALE = 0", with_card("BSCALE", "0"), "refused", reason="BSCALE")
    for text in ("0", "-32768", "1E300", "9" * 60, "T", quoted("x"), "NaN", "-31768", "40000"):
        yield one(f"BLANK = {text[:12]}", with_card("BLANK", text))
    for stored in ("int32", "int64", "float32", "float64"):
        for zero in ("2147483648", "9223372036854775808", "-9223372036854775808", "1E300", "0.5"):
            yield one(f"{stored} with BZERO = {zero}", dark(stored).set("BZERO", zero))
        for scale in ("1E300", "1E-300", "-1", "3"):
            yield one(f"{stored} with BSCALE = {scale}", dark(stored).set("BSCALE", scale))


def odd_pixels() -> Iterator[Input]:
    def image(kind: str, value: float | list[float], **cards: str) -> Unit:
        data = np.resize(np.asarray(value, kind), (ROWS, COLS))
        unit = image_unit(data, dark_cards(), stored=kind)
        for keyword, text in cards.items():
            unit.set(keyword, text)
        return unit

    for kind in ("float32", "float64"):
        yield one(f"{kind}, all NaN", image(kind, np.nan), "refused", reason="NaN")
        yield one(f"{kind}, all infinite", image(kind, [np.inf, -np.inf]), "refused")
        yield one(f"{kind}, fractions", image(kind, [0.5, 1.25, 7.0]), "refused")
        yield one(f"{kind}, huge", image(kind, [1e38, -1e38, 0.0]))
        yield one(f"{kind}, some infinite", image(kind, [1000.0, 1001.0, np.inf, np.nan, 1003.0]))
        yield one(f"{kind}, denormal", image(kind, [1e-40, 3e-40]))
        yield one(f"{kind}, negative zero", image(kind, [-0.0, 0.0, 1.0]))
    top, low = 2**63 - 1, -(2**63)
    yield one("int64 over its whole range", image("int64", [low, top, 0, -1]))
    yield one("int64 near its top", image("int64", [top, top - 1, top - 5]))
    unsigned = {"BZERO": "9223372036854775808", "BSCALE": "1"}
    yield one("uint64 near its top", image("int64", [top, top - 1, top - 7], **unsigned))
    yield one("uint64 over its whole range", image("int64", [low, top, 0], **unsigned))
    yield one("uint32 over its whole range", image("int32", [-(2**31), 2**31 - 1, 0, 5], BZERO="2147483648"))
    yield one("int64 with BZERO and BLANK", image("int64", [low, top, 5], BZERO="9223372036854775808", BLANK=str(low)))
    yield one("constant", image("int16", 1000), "refused", reason="constant")
    yield one("BLANK everywhere", image("int16", 1000, BLANK="1000"), "refused")
    yield one("one row", image_unit(PIXELS[:1], dark_cards()), "accepted", truth(pixels=PIXELS[:1]))
    yield one("one column", image_unit(PIXELS[:, :1], dark_cards()), "accepted", truth(pixels=PIXELS[:, :1]))
    yield one("one pixel", image_unit(PIXELS[:1, :1], dark_cards()), "refused", reason="constant")


def not_frames() -> Iterator[Input]:
    good = file_bytes([dark()])
    starts = {
        "nothing": b"",
        "a byte": b"S",
        "SIMPLE alone": b"SIMPLE",
        "79 bytes": good[:79],
        "80 bytes": good[:80],
        "2879 bytes": good[:2879],
        "2880 blanks": b" " * BLOCK,
        "2880 zeros": bytes(BLOCK),
        "JPEG": b"\xff\xd8\xff\xe0",
        "camera raw": b"II*\0\x10\0\0\0CR\2\0",
        "TIFF": b"MM\0*",
        "ZIP": b"PK\3\4",
        "bzip2": b"BZh91AY",
        "XZ": b"\xfd7zXZ\0",
        "a page": b"<!DOCTYPE html><html>",
        "XISF": b"XISF0100",
        "a pickle": b"\x80\x04\x95",
        "ASDF": b"#ASDF 1.0.0\n",
        "an ELF program": b"\x7fELF\2\1\1",
        "UTF-16": "SIMPLE  = T".encode("utf-16"),
        "a BOM": b"\xef\xbb\xbf" + good,
        "a line feed before": b"\n" + good,
        "lower case": good.replace(b"SIMPLE", b"simple"),
        "XTENSION first": good.replace(b"SIMPLE  =                    T", b"XTENSION= 'IMAGE   '          "),
    }
    for name, content in starts.items():
        filled = content if len(content) >= 79 or not content else content + bytes(range(256)) * 20
        yield Input(f"no FITS: {name}", filled, "refused")
    # the standard's F says 'not by this standard': what is there decides
    yield one("SIMPLE = F", with_card("SIMPLE", "F"))
    for text in ("1", quoted("T"), "", "= =", "TRUE", "/"):
        yield one(f"SIMPLE = {text}", with_card("SIMPLE", text), "refused", reason="FITS")
        odd = [empty_primary().set("SIMPLE", text), image_unit(PIXELS, dark_cards(), extension=True)]
        yield Input(f"SIMPLE = {text} before an image", file_bytes(odd), "refused", reason="FITS")
    yield Input("XISF by its name", good, "refused", suffix=".xisf", reason="XISF")
    stray = good.replace(b"T".ljust(31), b"T".ljust(30) + b"`", 1)
    yield Input("a stray letter behind SIMPLE", stray, "accepted", TRUTH)
    yield Input("a stray letter behind SIMPLE, in gzip", gzip.compress(stray, mtime=0), "accepted", TRUTH)
    yield Input("gzip by its name alone", good, "accepted", TRUTH, suffix=".fits.gz")
    yield Input("tiles by its name alone", good, "accepted", TRUTH, suffix=".fz")
    yield Input("no END", header_bytes(dark(), end=False) + dark().data, "refused")
    yield Input(
        "END first", b"SIMPLE  =                    T".ljust(CARD) + b"END".ljust(BLOCK - CARD) + good, "refused"
    )
    second = file_bytes([with_card("NAXIS", "9" * 60)])
    yield Input("a second primary of 10^60 axes", good + second, "accepted", TRUTH)
    lost = header_bytes(dark()).replace(b"END".ljust(CARD), b"END     = 3".ljust(CARD))
    yield Input("END with a value", lost + dark().data, "refused")
    yield Input("no FITS, a million blanks", b"SIMPLE".ljust(1_000_000), "refused")
    table = table_unit()
    yield Input(
        "a table instead of an image", file_bytes([empty_primary(dark_cards()), table]), "refused", reason="image"
    )
    ascii_table = changed(table, lambda u: u.set("XTENSION", quoted("TABLE")))
    yield Input("an ASCII table", file_bytes([empty_primary(dark_cards()), ascii_table]), "refused", reason="image")
    foreign = changed(table, lambda u: u.set("XTENSION", quoted("A3DTABLE")))
    yield Input("an unknown extension", file_bytes([empty_primary(dark_cards()), foreign]), "refused", reason="image")
    nameless = changed(table, lambda u: u.set("XTENSION", "7"))
    yield Input("an extension that is a number", file_bytes([empty_primary(dark_cards()), nameless]), "refused")
    only = changed(dark(), lambda u: u.set("NAXIS", "0").drop("NAXIS1").drop("NAXIS2"))
    yield one("no axes", only, "refused")


def many_units() -> Iterator[Input]:
    bare = Unit(
        [
            card("XTENSION", quoted("IMAGE")),
            card("BITPIX", "8"),
            card("NAXIS", "0"),
            card("PCOUNT", "0"),
            card("GCOUNT", "1"),
        ]
    )
    empty = file_bytes([bare])
    image = file_bytes([image_unit(PIXELS, dark_cards(), extension=True)])
    first = file_bytes([empty_primary()])
    yield Input("an image and 10,000 empty units", file_bytes([dark()]) + empty * 10_000, "accepted", TRUTH)
    yield Input("10,000 empty units", first + empty * 10_000, "refused")
    yield Input("10,000 empty units and an image", first + empty * 10_000 + image, "refused")
    yield Input("900 empty units and an image", first + empty * 900 + image, "accepted", TRUTH)
    yield Input("2,000 tables", first + file_bytes([table_unit()]) * 2000, "refused")
    blank = changed(dark(), lambda u: u.cards.extend([b" " * CARD] * 30_000))
    yield one("30,000 blank cards", blank, "accepted", TRUTH)
    yield one("200,000 blank cards", changed(blank, lambda u: u.cards.extend([b" " * CARD] * 170_000)), "refused")
    comments = changed(dark(), lambda u: u.cards.extend([b"COMMENT " + b"x" * 72] * 20_000))
    yield one("20,000 comments", comments, "accepted", TRUTH)


DIRECTED: tuple[Callable[[], Iterator[Input]], ...] = (
    intact,
    truncated,
    lying_axes,
    lying_bytes,
    scaled,
    odd_pixels,
    not_frames,
    many_units,
)
