"""Compressed frames: gzip streams and tables of tiles, whole and damaged; and bombs, which ask for memory that no frame
needs."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from random import Random

import numpy as np
from astropy.io import fits

from corpus.document import (
    BLOCK,
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
    unit_bytes,
    units_of,
)
from corpus.frames import PIXELS, TRUTH, dark, dark_cards

KINDS = ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS")
MEBI = 1 << 20


def packed(content: bytes) -> bytes:
    """A gzip stream, the same every time."""
    return gzip.compress(content, 6, mtime=0)


@cache
def tiles(kind: str, tile: tuple[int, int] | None = None) -> bytes:
    """A dark in tiles, as astropy writes it."""
    header = fits.Header.fromstring(b"".join(dark_cards()))
    shape = tile or ((16, 64) if kind == "HCOMPRESS_1" else None)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu = fits.CompImageHDU(PIXELS, header, compression_type=kind, tile_shape=shape)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def damaged(kind: str, change: Callable[[Unit], object]) -> bytes:
    """The same with a change made to the unit of the tiles."""
    units = units_of(tiles(kind))
    change(units[1])
    return file_bytes(units)


def intact() -> Iterator[Input]:
    for kind in KINDS:
        fate = "refused" if kind == "HCOMPRESS_1" else "accepted"
        yield Input(f"intact {kind}", tiles(kind), fate, TRUTH, suffix=".fits.fz")
    yield Input("intact RICE_1, square tiles", tiles("RICE_1", (16, 16)), "accepted", TRUTH)
    for content in (file_bytes([dark()]), tiles("RICE_1")):
        yield Input("intact gzip", packed(content), "accepted", TRUTH, suffix=".fits.gz")
        yield Input("gzip by another name", packed(content), "accepted", TRUTH)
        half = len(content) // 2
        yield Input("gzip of two members", packed(content[:half]) + packed(content[half:]), "accepted", TRUTH)
    content = file_bytes([dark()])
    yield Input("gzip, zeros behind", packed(content) + bytes(1000), "accepted", TRUTH)
    yield Input("gzip, not compressed", gzip.compress(content, 0, mtime=0), "accepted", TRUTH)
    yield Input("gzip in gzip", packed(packed(content)), "refused")


def damaged_gzip() -> Iterator[Input]:
    content = packed(file_bytes([dark()]))
    for part in range(1, 17):
        end = len(content) * part // 17
        yield Input(f"gzip cut off at {part}/17", content[:end], "refused", reason="gzip|truncated|damaged|FITS")
    for lost in (1, 4, 8):
        yield Input(f"gzip, {lost} bytes short", content[:-lost], "refused", reason="gzip")
    yield Input("gzip, wrong checksum", content[:-8] + b"\1\2\3\4" + content[-4:], "refused", reason="gzip")
    yield Input("gzip, wrong length", content[:-4] + b"\1\2\3\4", "refused", reason="gzip")
    yield Input("gzip, its head alone", content[:10], "refused")
    yield Input("gzip, rubbish behind", content + b"rubbish", "any", TRUTH)
    for flag in (1, 2, 4, 8, 16, 32, 255):
        yield Input(f"gzip, flags {flag}", content[:3] + bytes([flag]) + content[4:], "any", TRUTH)
    yield Input("gzip, unknown method", content[:2] + b"\7" + content[3:], "refused")
    rng = Random(3)
    for number in range(40):
        spoiled = bytearray(content)
        spoiled[rng.randrange(10, len(spoiled))] ^= 1 << rng.randrange(8)
        yield Input(f"gzip, a bit turned {number}", bytes(spoiled), "any", TRUTH)


def damaged_tiles() -> Iterator[Input]:
    for kind in KINDS:
        for keyword in (
            "ZNAXIS1",
            "ZNAXIS2",
            "ZTILE1",
            "ZTILE2",
            "ZBITPIX",
            "NAXIS1",
            "NAXIS2",
            "TFIELDS",
            "THEAP",
            "PCOUNT",
            "ZVAL1",
            "ZVAL2",
            "ZNAXIS",
            "BITPIX",
            "GCOUNT",
            "BZERO",
            "BSCALE",
            "ZBLANK",
            "TZERO1",
            "TSCAL1",
            "TNULL1",
        ):
            for text in ("0", "1", "-1", "7", "64", "1000", "2147483647", str(2**40), "1E300", "T", "NaN", quoted("x")):
                content = damaged(kind, lambda u, k=keyword, t=text: u.set(k, t))  # type: ignore[misc]
                yield Input(f"{kind}: {keyword} = {text}", content, "any", TRUTH)
        for keyword in ("TFORM1", "TTYPE1", "ZCMPTYPE", "ZNAME1", "ZQUANTIZ", "ZIMAGE", "XTENSION", "ZSIMPLE", "TDIM1"):
            for text in (
                quoted("1PB(9)"),
                quoted("1QB"),
                quoted("99999999PB"),
                quoted("PLIO_1"),
                quoted("RICE_1"),
                quoted("NOCOMPRESS"),
                quoted("1PD(2147483647)"),
                quoted("\x80"),
                quoted(""),
                "T",
                "F",
                "7",
                quoted("(99999999,99999999)"),
                quoted("BLOCKSIZE"),
                quoted("ZSTD_1"),
            ):
                content = damaged(kind, lambda u, k=keyword, t=text: u.set(k, t))  # type: ignore[misc]
                yield Input(f"{kind}: {keyword} = {text}", content, "any", TRUTH)
    yield from _damaged_heap()


def _damaged_heap() -> Iterator[Input]:
    rng = Random(5)
    for kind in KINDS:
        content = tiles(kind)
        rows = int(np.prod([48 if kind != "HCOMPRESS_1" else 3]))
        table = rows * 8
        for number in range(60):

            def spoil(unit: Unit, number: int = number, table: int = table) -> None:
                data = bytearray(unit.data)
                heap = number % 3
                for _ in range(1 + number // 20):
                    if heap == 0:  # descriptors: lengths and places of tiles
                        place = rng.randrange(0, min(table, len(data) - 4))
                        data[place : place + 4] = struct.pack(
                            ">i", rng.choice((-1, 0, 1, 2**31 - 1, rng.randrange(2**16)))
                        )
                    elif heap == 1:
                        data[rng.randrange(min(table, len(data) - 1), len(data))] = rng.randrange(256)
                    else:
                        place = rng.randrange(min(table, len(data) - 1), len(data))
                        data[place : place + 16] = rng.randbytes(len(data[place : place + 16]))
                unit.data = bytes(data)

            yield Input(f"{kind}: tiles spoiled {number}", damaged(kind, spoil), "any", TRUTH)
        for part in range(1, 9):
            end = len(content) * part // 9
            yield Input(f"{kind} cut off at {part}/9", content[:end], "any" if part == 8 else "refused")


def damaged_before() -> Iterator[Input]:
    """What stands before the tiles is odd; they are whole."""
    for keyword, text in (("SIMPLE", "F"), ("EXTEND", "F"), ("EXTEND", "7"), ("BZERO", quoted("x")), ("NAXIS", "0.0")):
        units = units_of(tiles("RICE_1"))
        units[0].set(keyword, text)
        yield Input(f"{keyword} = {text} before the tiles", file_bytes(units), "any", TRUTH)
    for kind in ("RICE_1", "GZIP_1"):
        units = units_of(tiles(kind))
        odd = changed(table_unit(), lambda u: u.set("TFIELDS", "7").set("TFORM1", quoted("999X")))
        yield Input(f"an odd table before the tiles, {kind}", file_bytes([units[0], odd, units[1]]), "any", TRUTH)
        nameless = changed(table_unit(), lambda u: u.set("XTENSION", "7"))
        yield Input(f"no extension before the tiles, {kind}", file_bytes([units[0], nameless, units[1]]), "any", TRUTH)


def plio() -> Iterator[Input]:
    """Masks are packed like that, frames are not; its stream may say anything."""
    small = (PIXELS % 16).astype(np.int16)
    buffer = io.BytesIO()
    header = fits.Header.fromstring(b"".join(dark_cards()))
    hdu = fits.CompImageHDU(small, header, compression_type="PLIO_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    yield Input("PLIO_1", buffer.getvalue(), "any", Truth(small))
    rng = Random(9)
    for number in range(60):
        units = units_of(buffer.getvalue())
        data = bytearray(units[1].data)
        for _ in range(8):
            place = rng.randrange(48 * 8, len(data) - 1) // 2 * 2
            data[place : place + 2] = struct.pack(
                ">H", rng.choice((0x1FFF, 0x5FFF, 0x7FFF, 0x4FFF, rng.randrange(65536)))
            )
        units[1].data = bytes(data)
        yield Input(f"PLIO_1 spoiled {number}", file_bytes(units), "any")


# --- bombs: small files that ask for gigabytes
@cache
def zeros(mebi: int) -> bytes:
    """So many MiB of zeros, packed."""
    return packed(bytes(16 * MEBI)) * -(-mebi // 16)


def behind(header: bytes, mebi: int) -> bytes:
    """A gzip file of a header and so many MiB of zeros."""
    return packed(header) + zeros(mebi)


def gzip_bombs() -> Iterator[Input]:
    big = dark().set("NAXIS1", str(1 << 14)).set("NAXIS2", str(1 << 14))
    yield Input("gzip: 512 MiB of pixels in half a MiB", behind(header_bytes(big), 520), "refused", suffix=".fits.gz")
    doubles = changed(big, lambda u: u.set("BITPIX", "-64").set("NAXIS2", str(1 << 13)))
    yield Input("gzip: 1 GiB of doubles in 1 MiB", behind(header_bytes(doubles), 1030), "refused")
    table = changed(table_unit(), lambda u: u.set("NAXIS2", str(1 << 40)))
    first = file_bytes([empty_primary()])
    yield Input("gzip: a table of 8 TiB", behind(first + header_bytes(table), 1030), "refused", suffix=".fits.gz")
    endless = first + b"XTENSION= 'IMAGE   '".ljust(80) + b" " * 80
    yield Input("gzip: a header without end", packed(endless + b" " * 40 * MEBI) + zeros(400), "refused")
    yield Input("gzip: rubbish behind a frame", behind(file_bytes([dark()]), 700), "any", TRUTH)
    units = packed(first) + packed(file_bytes([table_unit()]) * 3000) * 20
    yield Input("gzip: 60,000 tables", units, "refused")
    yield Input("gzip: ten thousand members", packed(file_bytes([dark()])) + packed(b"") * 10_000, "any", TRUTH)


def tile_bombs() -> Iterator[Input]:
    def lie(kind: str, name: str, **cards: str) -> Input:
        def change(unit: Unit) -> None:
            for keyword, text in cards.items():
                unit.set(keyword, text)

        return Input(f"{kind}: {name}", damaged(kind, change), "refused")

    for kind in KINDS:
        rows = "3" if kind == "HCOMPRESS_1" else "48"
        yield lie(kind, "10^9 columns of a table", TFIELDS=str(10**9))
        yield lie(kind, "2^26 columns", TFIELDS=str(2**26))
        wide = {"ZNAXIS1": str(1 << 22), "ZTILE1": str(1 << 22)}
        yield lie(kind, "tiles of 4 Mi columns", **wide)
        yield lie(
            kind,
            "one tile of 400 MiB",
            ZNAXIS1=str(1 << 14),
            ZNAXIS2=str(1 << 14),
            ZTILE1=str(1 << 14),
            ZTILE2=str(-(-(1 << 14) // int(rows))),
        )
        yield lie(kind, "rows of 2^31 bytes", NAXIS1=str(2**31))
        yield lie(kind, "a heap of 2^40 bytes", PCOUNT=str(2**40))
        yield lie(kind, "tiles larger than the image by far", ZTILE1=str(2**31), ZTILE2=str(2**31), NAXIS2="1")
        yield lie(kind, "doubles", ZBITPIX="-64", ZNAXIS1=str(1 << 20), ZTILE1=str(1 << 20))
        yield lie(kind, "999 axes", ZNAXIS="999", **{f"ZNAXIS{n}": "1" for n in range(3, 1000)})
        block = {"ZVAL1": str(2**31 - 1), "ZVAL2": "8"}
        yield Input(f"{kind}: blocks of 2^31 pixels", damaged(kind, lambda u, b=block: [u.set(*i) for i in b.items()]))  # type: ignore[misc]
    shape = image_unit(np.zeros((1, 1), np.uint16), extension=True)
    yield Input(
        "a unit of 2^60 bytes before the tiles",
        unit_bytes(empty_primary())
        + unit_bytes(changed(shape, lambda u: u.set("XTENSION", quoted("TABLE")).set("NAXIS1", str(2**60))))
        + tiles("RICE_1"),
        "refused",
    )
    yield Input("twenty primaries of tiles", tiles("RICE_1")[:BLOCK] + tiles("RICE_1")[BLOCK:] * 20, "accepted", TRUTH)
    yield Input(
        "no cards but ZIMAGE",
        file_bytes(
            [
                empty_primary(),
                Unit(
                    [
                        card("XTENSION", quoted("BINTABLE")),
                        card("BITPIX", "8"),
                        card("NAXIS", "2"),
                        card("NAXIS1", "8"),
                        card("NAXIS2", "1"),
                        card("ZIMAGE", "T"),
                    ],
                    bytes(8),
                ),
            ]
        ),
        "refused",
    )


DIRECTED: tuple[Callable[[], Iterator[Input]], ...] = (intact, damaged_gzip, damaged_tiles, damaged_before, plio)
BOMBS: tuple[Callable[[], Iterator[Input]], ...] = (gzip_bombs, tile_bombs)
