"""Images on the wire: ImageBytes and JSON. The first axis of Alpaca is the width, and it is the slow one."""

from __future__ import annotations

import json
import struct

import numpy as np
from numpy.typing import NDArray

from hardware.simulator.protocol import AlpacaError, Transaction

VERSION = 1
HEADER = struct.Struct("<11i")
INT32, UINT16 = 2, 8
TYPES = {1: "<i2", 2: "<i4", 3: "<f8", 4: "<f4", 5: "<u8", 6: "u1", 7: "<i8", 8: "<u2", 9: "<u4"}
BLOCK = 256  # pixels: two blocks of uint16 stay in the second-level cache


def to_wire_order(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(cols, rows) in memory order from (rows, cols), block by block: several times as fast as in one go."""
    rows, cols = pixels.shape
    turned = np.empty((cols, rows), np.dtype("<u2"))
    for row in range(0, rows, BLOCK):
        for col in range(0, cols, BLOCK):
            turned[col : col + BLOCK, row : row + BLOCK] = pixels[row : row + BLOCK, col : col + BLOCK].T
    return turned


def header(shape: tuple[int, int], transaction: Transaction, *, wire_type: int = UINT16) -> bytes:
    """44 bytes ahead of the pixels; shape is (width, height)."""
    width, height = shape
    ids = (_signed(transaction.client), _signed(transaction.server))
    return HEADER.pack(VERSION, 0, *ids, HEADER.size, INT32, wire_type, 2, width, height, 0)


def error_frame(error: AlpacaError, transaction: Transaction) -> bytes:
    """The header with an error number, and the message as UTF-8 in place of the pixels."""
    ids = (_signed(transaction.client), _signed(transaction.server))
    return HEADER.pack(VERSION, error.number, *ids, HEADER.size, 0, 0, 0, 0, 0, 0) + error.message.encode()


def as_type(turned: NDArray[np.uint16], wire_type: int) -> memoryview:
    """The bytes of an image in another element type; an unknown type number leaves them as they are."""
    converted = turned.astype(TYPES.get(wire_type, "<u2"), copy=False)
    return np.ascontiguousarray(converted).data.cast("B") if converted.size else memoryview(b"")


def as_json(turned: NDArray[np.uint16], transaction: Transaction, *, value_type: int = INT32) -> bytes:
    """The image as nested lists, a list a column; value_type 3 sends numbers with a decimal point."""
    values = turned.astype(np.float64).tolist() if value_type == 3 else turned.tolist()
    image = json.dumps(values, separators=(",", ":")).encode()
    answer = transaction.answer({"Type": value_type, "Rank": 2})
    return answer[:-1] + b', "Value": ' + image + b"}"


def _signed(identifier: int) -> int:
    """An unsigned 32-bit number in the signed field that carries it."""
    return identifier - 2**32 if identifier >= 2**31 else identifier
