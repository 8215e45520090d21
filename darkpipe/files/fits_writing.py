"""Header units of FITS files as bytes: pixels are turned round, summed and handed on piece by piece, with no copy.

DATASUM and CHECKSUM follow the checksum convention (FITS standard 4.0, appendix J): the ones' complement sum of the
big-endian 32-bit words of a unit. It may be taken in any order, so the pixels of a strip add to it when they come.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.fits_bytes import BLOCK, CARD
from darkpipe.files.fits_cards import Cards
from darkpipe.science.bit_planes import sum_stored, sum_words

CHECKSUM_COMMENT = "of this HDU"  # a fixed one: astropy's holds the time of writing
_NO_SUM = "0" * 16
_PIECE = 1 << 16  # pixels: a piece stays in the second-level cache
_BITPIX = {"u1": 8, "i2": 16, "u2": 16, "i4": 32, "u4": 32, "i8": 64, "u8": 64, "f4": -32, "f8": -64}
_EXCLUDED = frozenset(b":;<=>?@[\\]^_`")  # between the digits and letters of ASCII


@dataclass(frozen=True)
class Unit:
    """A header unit: its header without checksums, and its data: an array of pixels, or bytes as they are."""

    header: Cards
    data: NDArray[Any] | bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the data, without padding."""
        return self.data.nbytes if isinstance(self.data, np.ndarray) else len(self.data)

    def word_sum(self) -> int:
        """DATASUM."""
        return pixel_sum(self.data) if isinstance(self.data, np.ndarray) else word_sum(self.data)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The data as they stand in the file. Each piece holds until the next is asked for."""
        if isinstance(self.data, np.ndarray):
            yield from stored_pieces(self.data)
        elif self.data:
            yield self.data


def stored_kind(kind: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """Big-endian type that pixels of a type are stored in, and BZERO: unsigned ones are stored with an offset.

    Raises ValueError for a type that FITS does not know.
    """
    code = f"{kind.kind}{kind.itemsize}"
    if code not in _BITPIX:
        raise ValueError(f"FITS has no pixels of type {kind}")
    zero = 1 << (8 * kind.itemsize - 1) if code in ("u2", "u4", "u8") else 0
    return np.dtype(f">{code}"), zero


def stored_pieces(plane: NDArray[Any]) -> Iterator[memoryview]:
    """Bytes of an array (any shape) as FITS stores them, in pieces that share one buffer."""
    stored, zero = stored_kind(plane.dtype)
    flat = plane.reshape(-1)
    turned = np.empty(min(_PIECE, flat.size), stored)
    for first in range(0, flat.size, _PIECE):
        piece = flat[first : first + _PIECE]
        out = turned[: piece.size]
        # adding half the range to an unsigned number, or taking it off, turns its highest bit over
        out[...] = piece ^ piece.dtype.type(zero) if zero else piece
        yield out.view(np.uint8).data


def image_header(shape: Sequence[int], kind: np.dtype[Any], name: str = "") -> Cards:
    """Header of an image extension, or of a primary unit where it has no name."""
    _, zero = stored_kind(kind)
    header = Cards()
    if name:
        header.set("XTENSION", "IMAGE", "Image extension")
    else:
        header.set("SIMPLE", True, "conforms to FITS standard")
    header.set("BITPIX", _BITPIX[f"{kind.kind}{kind.itemsize}"], "array data type")
    header.set("NAXIS", len(shape), "number of array dimensions")
    for axis, length in enumerate(reversed(shape), 1):
        header.set(f"NAXIS{axis}", length)
    if name:
        header.set("PCOUNT", 0, "number of parameters")
        header.set("GCOUNT", 1, "number of groups")
    else:
        header.set("EXTEND", True)
    if zero:
        header.set("BSCALE", 1)
        header.set("BZERO", zero)
    if name:
        header.set("EXTNAME", name, "extension name")
    return header


def text_table(name: str, column: str, texts: Sequence[str]) -> Unit:
    """A table of one column of ASCII texts."""
    width = max(map(len, texts))
    header = Cards()
    header.set("XTENSION", "BINTABLE", "binary table extension")
    header.set("BITPIX", 8, "array data type")
    header.set("NAXIS", 2, "number of array dimensions")
    header.set("NAXIS1", width, "length of dimension 1")
    header.set("NAXIS2", len(texts), "length of dimension 2")
    header.set("PCOUNT", 0, "number of group parameters")
    header.set("GCOUNT", 1, "number of groups")
    header.set("TFIELDS", 1, "number of table fields")
    header.set("TTYPE1", column)
    header.set("TFORM1", f"{width}A")
    header.set("EXTNAME", name, "extension name")
    return Unit(header, b"".join(text.encode("ascii").ljust(width, b"\0") for text in texts))


def write_units(units: Iterable[Unit], stream: BinaryIO) -> None:
    """Write units one after the other, each with its checksums."""
    for unit in units:
        stream.write(with_checksums(unit.header, unit.word_sum()))
        for piece in unit.pieces():
            stream.write(piece)
        stream.write(bytes(-unit.size % BLOCK))


def word_sum(raw: bytes | memoryview) -> int:
    """Ones' complement sum of the big-endian 32-bit words of bytes, filled up with zeros."""
    whole = len(raw) // 4 * 4
    total = sum_stored(np.frombuffer(raw, np.uint32, whole // 4))
    return folded(total + int.from_bytes(bytes(raw[whole:]).ljust(4, b"\0"), "big"))


def pixel_sum(plane: NDArray[Any]) -> int:
    """The same of an array as it will be stored, taken in the byte order of this machine where that tells it."""
    size = plane.dtype.itemsize
    if size == 1:
        return word_sum(np.ascontiguousarray(plane).reshape(-1).data)
    if sys.byteorder != "little":
        return folded(sum(word_sum(piece) for piece in stored_pieces(plane)))
    _, zero = stored_kind(plane.dtype)
    flat, total = plane.reshape(-1), 0
    if flat.strides[0] == size and size < 8:
        whole = flat.size * size // 4
        total = sum_words(flat[: whole * 4 // size].view(np.uint32), zero * 0x10001 if size == 2 else zero)
        flat = flat[whole * 4 // size :]
    for first in range(0, flat.size, _PIECE):
        piece = flat[first : first + _PIECE]
        piece = piece ^ piece.dtype.type(zero) if zero else np.ascontiguousarray(piece)
        if size * piece.size % 4:
            piece = np.append(piece, piece.dtype.type(0))
        total += int(np.add.reduce(piece.view(np.uint32), dtype=np.uint64))
    # pairs of two bytes come in the other order: a ones' complement sum turns with its words
    return folded(total << 16) if size == 2 else folded(total)


def folded(total: int) -> int:
    """A sum of words with its carries added at the low end."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def with_checksums(header: Cards, data_sum: int) -> bytes:
    """A header as bytes, with CHECKSUM and DATASUM behind its other cards, before commentary; it stays as it was."""
    sums = [("CHECKSUM", _NO_SUM, CHECKSUM_COMMENT), ("DATASUM", str(data_sum), CHECKSUM_COMMENT)]
    text = Cards([*header.settings, *sums]).text() + "END".ljust(CARD)
    empty = text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")
    place = next(k for k in range(0, len(empty), CARD) if empty.startswith(b"CHECKSUM= ", k)) + len("CHECKSUM= '")
    total = _encoded(0xFFFFFFFF ^ folded(word_sum(empty) + data_sum)).encode("ascii")
    return empty[:place] + total + empty[place + len(total) :]


def _encoded(value: int) -> str:
    """Sixteen letters and digits whose words add up to a value (appendix J of the standard)."""
    columns = []
    for byte in value.to_bytes(4, "big"):
        four = [byte // 4 + 48 + (byte % 4 if k == 0 else 0) for k in range(4)]
        while any(letter in _EXCLUDED for letter in four):
            for k in (0, 2):
                if four[k] in _EXCLUDED or four[k + 1] in _EXCLUDED:
                    four[k] += 1
                    four[k + 1] -= 1
        columns.append(four)
    letters = bytes(columns[k % 4][k // 4] for k in range(16))
    return (letters[-1:] + letters[:-1]).decode("ascii")


class StripWriter:
    """Writes units whose pixels come in strips of rows.

    Parameters
    ----------
    units : with the names of planes; those without a name are written as they are. Of the units of planes, only shape
        and type of the data count.
    """

    def __init__(self, units: Sequence[tuple[str | None, Unit]], stream: BinaryIO) -> None:
        self._stream, self._size = stream, 0
        self._others: list[_Place] = []
        self._places: dict[str, _Place] = {}
        for name, unit in units:
            place = _Place(unit, self._size, self._size + len(with_checksums(unit.header, 0)))
            self._size = place.begin + unit.size + -unit.size % BLOCK
            if name is None:
                self._others.append(place)
                place.write(stream)
            else:
                self._places[name] = place

    def put(self, rows: slice, planes: Mapping[str, NDArray[Any]]) -> None:
        """Write these rows of every plane, (..., rows, cols) each."""
        for name, place in self._places.items():
            place.put(rows.start, planes[name], self._stream)

    def close(self, headers: Sequence[Cards] | None = None) -> None:
        """Write what is known when all strips are there: checksums, and the headers, of as many cards as before, where
        they have changed meanwhile.

        Raises ValueError for a header of another size.
        """
        places = sorted([*self._others, *self._places.values()], key=lambda place: place.header)
        for place, header in zip(places, headers or [], strict=headers is not None):
            if len(with_checksums(header, 0)) != place.begin - place.header:
                raise ValueError("a header has another size than the one it takes the place of")
            place.unit = replace(place.unit, header=header)
        for place in self._others if headers is not None else ():
            place.write(self._stream)
        for place in self._places.values():
            self._stream.seek(place.header)
            self._stream.write(with_checksums(place.unit.header, place.total))
        self._stream.truncate(self._size)


def write_in_strips(
    units: Sequence[tuple[str | None, Unit]],
    strips: Iterable[tuple[slice, Mapping[str, NDArray[Any]]]],
    stream: BinaryIO,
) -> None:
    """Write units whose pixels come in strips of rows, see `StripWriter`.

    Parameters
    ----------
    strips : rows and, by name, these rows of each plane; all rows, in any order.
    """
    writer = StripWriter(units, stream)
    for rows, planes in strips:
        writer.put(rows, planes)
    writer.close()


@dataclass(eq=False)
class _Place:
    """Where a unit stands in the file, and the sum of what was written of it."""

    unit: Unit
    header: int
    begin: int
    total: int = 0

    def write(self, stream: BinaryIO) -> None:
        """Write the whole unit."""
        stream.seek(self.header)
        write_units([self.unit], stream)

    def put(self, first: int, strip: NDArray[Any], stream: BinaryIO) -> None:
        """Write rows from `first` on, (..., rows, cols)."""
        assert isinstance(self.unit.data, np.ndarray)
        *_, rows, cols = self.unit.data.shape
        for number, part in enumerate(strip.reshape(-1, *strip.shape[-2:])):
            within = (number * rows + first) * cols * strip.dtype.itemsize
            # a strip that begins within a word: its sum is that of words turned by so many bytes
            self.total = folded(self.total + (pixel_sum(part) << (-8 * within % 32)))
            stream.seek(self.begin + within)
            for piece in stored_pieces(part):
                stream.write(piece)
