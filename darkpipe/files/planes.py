"""Planes of products, straight from their bytes: bands of rows, without a FITS library in between.

A band of rows of twenty masters is some hundred small reads; a library that parses every header again for each of them
takes longer than the reads themselves. Here the places of the planes are found once a file, and kept for as long as the
file is the same (its inode, size and time: a product is replaced, never written into). What is not a plain image of
numbers, or is damaged, goes to `products`, which reads anything and says what is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.files import products
from darkpipe.files.products import Frame, Product

_BLOCK, _CARD = 2880, 80
_MOST_BLOCKS = 200  # of a header
_PIECE = 1 << 20  # bytes that are read and turned at once: they stay in the cache
_KEPT = 2048  # files whose tables are kept
_TYPES = {8: "u1", 16: "i2", 32: "i4", -32: "f4", -64: "f8"}
_WANTED = (b"XTENSION", b"BITPIX  ", b"NAXIS   ", b"PCOUNT  ", b"GCOUNT  ", b"BZERO   ", b"BSCALE  ", b"EXTNAME ")
_FLIP = {2: np.uint16(0x8000), 4: np.uint32(0x80000000)}  # the top bit: how unsigned integers are stored


@dataclass(frozen=True)
class _Plane:
    """Where an image stands in a file. shape : as in numpy. unsigned : stored with its top bit flipped."""

    begin: int
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    unsigned: bool


def read_planes(path: Product, names: Sequence[str], rows: slice = slice(None)) -> list[NDArray[Any]]:
    """As `products.read_planes`: the named extensions (rows, cols), or (n, rows, cols) of a cube, in native byte order.

    Raises
    ------
    ProductError
        when the file or an extension is missing or damaged.
    """
    if isinstance(path, Frame):
        return products.read_planes(path, names, rows)
    try:
        known = _contents(*_identity(path))
        if not all(name in known for name in names):
            return products.read_planes(path, names, rows)
        with open(path, "rb", buffering=0) as stream:
            return [_read(stream, known[name], rows) for name in names]
    except (OSError, ValueError):
        return products.read_planes(path, names, rows)


def held_planes(product: Product, names: Sequence[str], rows: slice = slice(None)) -> list[NDArray[Any]]:
    """`read_planes` for those who only look: what is in memory is not copied."""
    if isinstance(product, Frame):
        return [product.planes[name][..., rows, :] for name in names]
    return read_planes(product, names, rows)


def read_header(path: Product) -> Mapping[str, Any]:
    """The primary header of a product, as `products.read_header`."""
    if isinstance(path, Frame):
        return products.read_header(path)
    try:
        return dict(_header(*_identity(path)))
    except OSError:
        return products.read_header(path)


def read_shape(path: Product) -> tuple[int, int]:
    """(rows, cols) of the SCI plane."""
    if not isinstance(path, Frame):
        try:
            found = _contents(*_identity(path)).get("SCI")
        except OSError:
            found = None
        if found is not None and len(found.shape) == 2:
            return found.shape[0], found.shape[1]
    return products.read_shape(path)


def _identity(path: Path) -> tuple[str, int, int, int]:
    status = os.stat(path)
    return str(path), status.st_ino, status.st_size, status.st_mtime_ns


@lru_cache(maxsize=_KEPT)
def _header(path: str, inode: int, size: int, time: int) -> Mapping[str, Any]:
    return products.read_header(Path(path))


@lru_cache(maxsize=_KEPT)
def _contents(path: str, inode: int, size: int, time: int) -> Mapping[str, _Plane]:
    """The planes of a file by name; of a file that is not understood, those before the place."""
    found: dict[str, _Plane] = {}
    with open(path, "rb") as stream:
        offset = 0
        while offset < size:
            cards, begin = _read_cards(stream, offset)
            if cards is None:
                break
            try:
                shape = tuple(_integer(cards[b"NAXIS%-3d" % k]) for k in range(_integer(cards[b"NAXIS   "]), 0, -1))
                bits = _integer(cards[b"BITPIX  "])
                extra = _integer(cards.get(b"PCOUNT  ", b"0"))
                length = abs(bits) // 8 * _integer(cards.get(b"GCOUNT  ", b"1")) * (extra + prod(shape)) if shape else 0
            except (KeyError, ValueError):
                break
            plane, name = _plane(cards, shape, bits, begin), _text(cards.get(b"EXTNAME ", b"''"))
            if plane is not None and name and name not in found and begin + length <= size:
                found[name] = plane
            offset = begin + -(-length // _BLOCK) * _BLOCK
    return found


def _read_cards(stream: BinaryIO, offset: int) -> tuple[dict[bytes, bytes] | None, int]:
    """The cards of a header that say where its data are, and where these begin; None where there is no header."""
    cards: dict[bytes, bytes] = {}
    stream.seek(offset)
    for number in range(_MOST_BLOCKS):
        block = stream.read(_BLOCK)
        if len(block) < _BLOCK:
            return None, 0
        for at in range(0, _BLOCK, _CARD):
            keyword = block[at : at + 8]
            if keyword == b"END     ":
                return cards, offset + (number + 1) * _BLOCK
            if keyword in _WANTED or keyword.startswith(b"NAXIS"):
                cards.setdefault(keyword, block[at + 10 : at + _CARD])
    return None, 0


def _integer(value: bytes) -> int:
    return int(value.partition(b"/")[0])


def _text(value: bytes) -> str:
    parts = value.split(b"'")
    return parts[1].decode("ascii", "replace").rstrip() if len(parts) > 2 else ""


def _plane(cards: Mapping[bytes, bytes], shape: tuple[int, ...], bits: int, begin: int) -> _Plane | None:
    """The image of a header; None for tables, other scalings and other numbers of axes."""
    if _text(cards.get(b"XTENSION", b"''")) != "IMAGE" or len(shape) not in (2, 3) or bits not in _TYPES:
        return None
    if b"PCOUNT  " in cards and _integer(cards[b"PCOUNT  "]) != 0:
        return None
    kind = np.dtype(_TYPES[bits])
    zero, scale = (float(cards.get(name, default).partition(b"/")[0]) for name, default in
                   ((b"BZERO   ", b"0"), (b"BSCALE  ", b"1")))  # fmt: skip
    unsigned = bits in (16, 32) and zero == float(1 << (bits - 1))
    if scale != 1.0 or (zero != 0.0 and not unsigned):
        return None
    return _Plane(begin, shape, np.dtype(f"u{kind.itemsize}") if unsigned else kind, unsigned)


def _read(stream: FileIO, plane: _Plane, rows: slice) -> NDArray[Any]:
    """Rows of an image, of all planes of a cube; OSError where the file ends before them."""
    *cube, length, cols = plane.shape
    first, last, step = rows.indices(length)
    if step != 1:
        raise ValueError("rows are read without gaps")
    number = max(last - first, 0)
    out = np.empty((*cube, number, cols), plane.kind)
    row_bytes = cols * plane.kind.itemsize
    for k, part in enumerate(out.reshape(-1, number * cols) if out.size else ()):
        _fill(stream, part, plane.begin + (k * length + first) * row_bytes, plane.unsigned)
    return out


def _fill(stream: FileIO, part: NDArray[Any], offset: int, unsigned: bool) -> None:
    """Read numbers into a flat array and turn them into native ones."""
    step = _PIECE // part.itemsize
    stream.seek(offset)
    for begin in range(0, part.size, step):
        piece = part[begin : begin + step]
        view, done = piece.view(np.uint8).data, 0
        while done < len(view):
            count = stream.readinto(view[done:])
            if not count:
                raise OSError("the file ends before its data")
            done += count
        if piece.itemsize > 1 and sys.byteorder == "little":
            piece.byteswap(inplace=True)
        if unsigned:
            piece ^= _FLIP[piece.itemsize]
