"""Planes out of our own FITS files: rows are read from where they stand, without an HDU list for every strip.

What is not as the pipeline writes it (compressed, scaled, with undefined pixels) is left to astropy: `Plane` is made of
plain images alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.fits_bytes import BLOCK, CARD
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.regular import regular
from darkpipe.same_file import Identity, identity

_CHUNK = 1 << 19  # bytes: what was read is turned round while it is in the cache
_KINDS = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
_KNOWN = frozenset(("XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "EXTNAME", "BZERO", "BSCALE", "BLANK", "ZIMAGE"))
_MOST_BLOCKS = 1000  # of a header
_READ_AT = hasattr(os, "preadv")
_MEMORY = ThreadMemory()

MakePlane = Callable[[tuple[int, ...], Any], NDArray[Any]]
"""What gives an array of a shape and type, such as `numpy.empty`."""


class Unplain(Exception):
    """The file, or what was asked of it, is nothing for this module."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of an image stand. stored : their type in the file; kind : in memory; flip : whether the highest
    bit is to be turned over (unsigned integers)."""

    begin: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    kind: np.dtype[Any]
    flip: bool

    def read(self, handle: int, first: int, last: int, plane: MakePlane) -> NDArray[Any]:
        """Rows first to last (exclusive), (..., rows, cols), in an array that `plane` gives.

        Raises
        ------
        OSError : the file is shorter than its header says, or cannot be read.
        """
        *planes, rows, cols = self.shape
        out = plane((prod(planes), last - first, cols), self.kind)
        row = cols * self.stored.itemsize
        for number, image in enumerate(out):
            self._fill(handle, self.begin + (number * rows + first) * row, image.reshape(-1))
        return out.reshape(*planes, last - first, cols)

    def layer(self, number: int) -> Plane:
        """One image of a cube."""
        size = prod(self.shape[1:]) * self.stored.itemsize
        return replace(self, begin=self.begin + number * size, shape=self.shape[1:])

    def _fill(self, handle: int, offset: int, out: NDArray[Any]) -> None:
        size = self.stored.itemsize
        buffer = _MEMORY.array("chunk", _CHUNK)
        for first in range(0, out.size, _CHUNK // size):
            part = out[first : first + _CHUNK // size]
            stored = buffer[: part.size * size]
            read_into(handle, stored.data, offset + first * size)
            part[...] = stored.view(self.kind.newbyteorder(">"))
            if self.flip:
                part ^= part.dtype.type(1 << (8 * size - 1))


def read_into(handle: int, view: memoryview, offset: int) -> None:
    """Fill a view from an offset of an open file; OSError where the file ends before."""
    done = 0
    while done < len(view):
        if _READ_AT:
            count = os.preadv(handle, [view[done:]], offset + done)
        else:  # Windows
            os.lseek(handle, offset + done, os.SEEK_SET)
            piece = os.read(handle, len(view) - done)
            count = len(piece)
            view[done : done + count] = piece
        if not count:
            raise OSError("the file is shorter than its header says")
        done += count


def planes_of(path: Path) -> dict[str, Plane]:
    """The plain images of a file by the names of their extensions; of two of one name, the first.

    Raises
    ------
    OSError : it cannot be opened, or is cut off within a header. Unplain : it is no file of plain units.
    """
    return _planes(os.fspath(path), identity(path))


@lru_cache(maxsize=1024)
def _planes(path: str, file: Identity) -> dict[str, Plane]:
    """Of this very file."""
    found: dict[str, Plane] = {}
    with open(path, "rb", buffering=0, opener=regular) as stream:
        offset = 0
        while offset < file.size:
            cards, begin = _header(stream.fileno(), offset, file.size)
            axes = [_number(cards, f"NAXIS{k + 1}") for k in range(_number(cards, "NAXIS"))]
            bits = _number(cards, "BITPIX")
            count = _number(cards, "GCOUNT", 1) * (_number(cards, "PCOUNT", 0) + (prod(axes) if axes else 0))
            plane = _plane(cards, begin, bits, axes)
            name = cards.get("EXTNAME", "").strip(" '")
            if plane is not None and name:
                found.setdefault(name.upper(), plane)
            offset = begin + -(-abs(bits) // 8 * count // BLOCK) * BLOCK
    return found


def _header(handle: int, offset: int, size: int) -> tuple[dict[str, str], int]:
    """Cards of interest, as texts, and where the data begin."""
    cards: dict[str, str] = {}
    for number in range(_MOST_BLOCKS):
        block = bytearray(BLOCK)
        if size - offset < BLOCK:
            raise OSError("the file ends within a header")
        read_into(handle, memoryview(block), offset)
        if number == 0 and not block.startswith((b"SIMPLE", b"XTENSION")):
            raise Unplain
        offset += BLOCK
        for k in range(0, BLOCK, CARD):
            keyword = block[k : k + 8].decode("latin-1").rstrip()
            if keyword == "END":
                return cards, offset
            if keyword in _KNOWN or keyword.startswith("NAXIS"):
                cards[keyword] = block[k + 10 : k + CARD].decode("latin-1").partition(" /")[0].strip()
    raise Unplain


def _number(cards: dict[str, str], keyword: str, default: int | None = None) -> int:
    try:
        return int(cards[keyword]) if keyword in cards or default is None else default
    except (KeyError, ValueError):
        raise Unplain from None


def _plane(cards: dict[str, str], begin: int, bits: int, axes: list[int]) -> Plane | None:
    """The image of a unit; None where it has none, or not a plain one."""
    kind = _KINDS.get(bits)
    extension = cards.get("XTENSION", "'IMAGE'").strip(" '")
    scale, zero = float(cards.get("BSCALE", "1")), float(cards.get("BZERO", "0"))
    if kind is None or extension != "IMAGE" or "BLANK" in cards or "ZIMAGE" in cards or scale != 1.0:
        return None
    if len(axes) not in (2, 3) or _number(cards, "PCOUNT", 0) or _number(cards, "GCOUNT", 1) != 1:
        return None
    flip = bits > 8 and zero == float(1 << (bits - 1))
    if zero and not flip:
        return None
    native = np.dtype(kind.replace("i", "u") if flip else kind)
    return Plane(begin, tuple(reversed(axes)), np.dtype(f">{kind}"), native, flip)
