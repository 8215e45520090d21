"""Loops over planes of bits and words, in one pass each: numpy takes several, with a new plane for each."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]
Words = NDArray[np.uint32]

_BLOCK = 1 << 15
LARGEST = np.float32(3.4028234663852886e38)


@kernel
def _without_value(values: F4, dq: Bits, bits: np.uint16, out: NDArray[np.uint8]) -> None:
    for i in range(values.size):
        out[i] = np.uint8(not abs(values[i]) <= LARGEST) | np.uint8((dq[i] & bits) != np.uint16(0))


@kernel
def _count(dq: Bits, bit: np.uint16) -> np.uint16:
    """How many of fewer than 2^16 pixels have a bit: counted in numbers that are as wide as the pixels."""
    number = np.uint16(0)
    for i in range(dq.size):
        number = np.uint16(number + np.uint16((dq[i] & bit) != np.uint16(0)))
    return number


@kernel
def _union(dq: Bits) -> np.uint16:
    union = np.uint16(0)
    for i in range(dq.size):
        union = np.uint16(union | dq[i])
    return union


@kernel
def _tally(dq: Bits, bit: np.uint16) -> tuple[int, int]:
    number, union = 0, 0
    for first in range(0, dq.size, _BLOCK):
        here = dq[first : min(first + _BLOCK, dq.size)]
        number += int(_count(here, bit))
        union |= int(_union(here))
    return number, union


@kernel
def _sum_words(words: Words, flip: np.uint32) -> np.uint64:
    total = np.uint64(0)
    for i in range(words.size):
        total += np.uint64(words[i] ^ flip)
    return total


@kernel
def _unsigned(stored: Bits, out: Bits) -> None:
    for i in range(stored.size):
        word = stored[i]
        turned = np.uint16(word << np.uint16(8)) | np.uint16(word >> np.uint16(8))
        out[i] = np.uint16(turned ^ np.uint16(0x8000))


def unsigned_of(stored: NDArray[Any], out: Bits) -> None:
    """Unsigned numbers of 16 bits from how FITS stores them: big-endian, with the highest bit turned over.

    Parameters
    ----------
    stored : contiguous, of a type of 16 bits, as the bytes stand in the file. out : of its shape, contiguous.
    """
    words = stored.reshape(-1).view(np.uint16)
    if sys.byteorder == "big":
        np.bitwise_xor(words, np.uint16(0x8000), out=out.reshape(-1))
        return
    run: Any = _unsigned
    run(words, out.reshape(-1))


@kernel
def _sum_turned(words: Words) -> np.uint64:
    total = np.uint64(0)
    for i in range(words.size):
        w = words[i]
        ends = (w << np.uint32(24)) | (w >> np.uint32(24))
        middle = ((w & np.uint32(0xFF00)) << np.uint32(8)) | ((w >> np.uint32(8)) & np.uint32(0xFF00))
        total += np.uint64(np.uint32(ends | middle))  # numba shifts in 64 bits
    return total


def sum_stored(words: Words) -> int:
    """The sum of big-endian numbers of 32 bits, contiguous, up to 2^32 of them."""
    if sys.byteorder == "big":
        return sum_words(words, 0)
    run: Any = _sum_turned
    return int(run(words))


def without_value(values: F4, dq: Bits, bits: int) -> NDArray[np.uint8]:
    """1 where a value is not finite, or its pixel has one of the bits; planes of one shape."""
    out = np.empty(values.shape, np.uint8)
    run: Any = _without_value
    run(_flat(values), _flat(dq), np.uint16(bits), out.reshape(-1))
    return out


def tally(dq: Bits, bit: int) -> tuple[int, int]:
    """How many pixels have a bit, and all bits that are in the plane."""
    run: Any = _tally
    number, union = run(_flat(dq), np.uint16(bit))
    return int(number), int(union)


def sum_words(words: Words, flip: int) -> int:
    """The sum of whole numbers of 32 bits, contiguous, those bits turned over that are set in `flip`; up to 2^32 of
    them."""
    run: Any = _sum_words
    return int(run(words, np.uint32(flip)))


def _flat(plane: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(plane).reshape(-1)
