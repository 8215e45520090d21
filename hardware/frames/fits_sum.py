"""Checksums of FITS files (standard 4.0, section 4.4.2.7 and appendix J), at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WHOLE = 0xFFFFFFFF
"""Sum of a header unit whose CHECKSUM agrees."""

_CHUNK_BYTES = 1 << 20  # stays in the processor's cache from the first look to the last
_PUNCTUATION = frozenset(b":;<=>?@[\\]^_`")


def ones_sum(content: NDArray[Any] | bytes | memoryview, start: int = 0) -> int:
    """Ones' complement sum of big-endian words of 32 bits.

    Parameters
    ----------
    content : bytes, or contiguous array of bytes; as if zeros filled the last word.
    start : sum of what stands before, whole words.
    """
    flat = np.frombuffer(content, np.uint8)
    total = start
    for begin in range(0, flat.size, _CHUNK_BYTES):
        piece = flat[begin : begin + _CHUNK_BYTES]
        whole = piece.size // 4 * 4
        total += int(piece[:whole].view(">u4").astype(np.uint32).sum(dtype=np.uint64))
        total += int.from_bytes(piece[whole:].tobytes().ljust(4, b"\0"), "big")
    while total >> 32:
        total = (total & WHOLE) + (total >> 32)
    return total


def checksum_text(total: int) -> str:
    """The sixteen characters that make a unit whole whose words add up to `total` while CHECKSUM is all '0'.

    Each byte of the complement is spread over four characters, which are moved apart in pairs until none is
    punctuation. The last one comes first: the text begins one byte off a word.
    """
    columns = [_four_characters(byte) for byte in (total ^ WHOLE).to_bytes(4, "big")]
    text = "".join(chr(column[row]) for row in range(4) for column in columns)
    return text[-1] + text[:-1]


def _four_characters(byte: int) -> list[int]:
    quarter, rest = divmod(byte, 4)
    four = [ord("0") + quarter + rest, *[ord("0") + quarter] * 3]
    for pair in (0, 2):
        while not _PUNCTUATION.isdisjoint(four[pair : pair + 2]):
            four[pair] += 1
            four[pair + 1] -= 1
    return four
