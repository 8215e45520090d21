"""The image of an Alpaca camera, from the bytes of an answer to pixels. Nothing is taken on trust: an image is what the
protocol says and has the size that was set, or it is refused.

Alpaca's first dimension is the width, and it is the slow axis: an image comes column by column.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.alpaca.calls import error_of
from hardware.alpaca.http import Answer, HttpLine, spelled
from hardware.errors import CameraDriverError, CameraProtocolError, CameraTransportError

IMAGE_BYTES = "application/imagebytes"
HEADER = struct.Struct("<11i")
MEMBER = "ImageArray"

# of ImageBytes: number of an element type to what it is
ELEMENT_TYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in enumerate(("<i2", "<i4", "<f8", "<f4", "<u8", "u1", "<i8", "<u2", "<u4"), start=1)
}
BYTES_PER_PIXEL = 16  # of the longest answer that is read: '-2147483648, ' in JSON, eight bytes in ImageBytes
SPARE_BYTES = 1 << 20
SPARE_LISTS = 1000
HIGHEST = np.iinfo(np.uint16).max
STRIP_COLS = 256  # an image is turned round in strips, which stay in the cache of a processor


def download(address: str, number: int, shape: tuple[int, int], *, deadline_s: float, where: str) -> NDArray[np.uint16]:
    """The image that is ready, as (rows, cols) uint16 in C order, over a connection of its own.

    address : of the server. number : of the camera. shape : (rows, cols) it must have.

    Raises
    ------
    CameraTransportError, CameraTimeoutError
        if it is not here, whole, at the deadline.
    CameraProtocolError
        if it is not an image of this shape with counts from 0 to 65535.
    CameraError
        of any kind, if the camera answers with an error.
    """
    line = HttpLine(address)
    limit = shape[0] * shape[1] * BYTES_PER_PIXEL + SPARE_BYTES
    target = f"/api/v1/camera/{number}/imagearray?ClientID=1&ClientTransactionID=1"
    try:
        answer = line.ask("GET", target, accept=IMAGE_BYTES, deadline_s=deadline_s, limit_bytes=limit)
        if answer.status_code in (400, 406, 415, 500):  # there are servers that know nothing but JSON
            answer = line.ask("GET", target, deadline_s=deadline_s, limit_bytes=limit)
    finally:
        line.close()
    return decode(answer, shape, where)


def decode(answer: Answer, shape: tuple[int, int], where: str) -> NDArray[np.uint16]:
    """The pixels of an answer; see `download`."""
    if not 200 <= answer.status_code < 300:
        what = f"{MEMBER}: the server answers HTTP {answer.status_code} '{answer.text[:200]}'"
        if answer.status_code in (502, 503, 504):
            raise CameraTransportError(what, where=where)
        raise (CameraDriverError if answer.status_code == 500 else CameraProtocolError)(what, where=where)
    kind_of_content = answer.content_type.partition(";")[0].strip().lower()
    if kind_of_content == IMAGE_BYTES:
        return from_image_bytes(answer.body, shape, where)
    if kind_of_content.endswith("json") or answer.body[:64].lstrip()[:1] == b"{":
        return from_json(answer.body, shape, where)
    raise CameraProtocolError(f"{MEMBER}: neither ImageBytes nor JSON, but '{answer.content_type[:60]}'", where=where)


def from_image_bytes(body: bytes | bytearray, shape: tuple[int, int], where: str) -> NDArray[np.uint16]:
    """The pixels of an ImageBytes answer."""
    if len(body) < HEADER.size:
        raise CameraProtocolError(f"{MEMBER}: {len(body)} bytes are no ImageBytes header", where=where)
    version, error, _, _, start, element, sent_as, rank, d1, d2, d3 = HEADER.unpack_from(body)
    if version != 1:
        raise CameraProtocolError(f"{MEMBER}: ImageBytes of version {version}, not 1", where=where)
    if not HEADER.size <= start <= len(body):
        if error:
            start = HEADER.size
        else:
            what = f"{MEMBER}: pixels are to start at byte {start} of {len(body)}"
            raise CameraProtocolError(what, where=where)
    if error:
        raise error_of(error, bytes(body[start:]).decode("utf-8", errors="replace"), MEMBER, where)
    if element not in ELEMENT_TYPES or sent_as not in ELEMENT_TYPES:
        raise CameraProtocolError(f"{MEMBER}: unknown element types {element}, {sent_as}", where=where)
    _check_dimensions((d1, d2, d3)[: max(rank, 0)] if rank in (2, 3) else (), shape, where)
    kind = ELEMENT_TYPES[sent_as]
    wanted = d1 * d2 * kind.itemsize
    if len(body) - start != wanted:
        word = "truncated" if len(body) - start < wanted else "too long"
        what = f"{MEMBER}: the image is {word}: {len(body) - start} bytes for {d1} × {d2} pixels of {kind.itemsize}"
        raise CameraProtocolError(what, where=where)
    return _upright(np.frombuffer(body, kind, offset=start).reshape(d1, d2), where)


def from_json(body: bytes | bytearray, shape: tuple[int, int], where: str) -> NDArray[np.uint16]:
    """The pixels of a JSON answer: a list of columns."""
    if body.count(b"[") > shape[1] * (shape[0] + 1) + SPARE_LISTS or body.count(b"{") > SPARE_LISTS:
        # an empty list takes thirty times the room of its two characters
        raise CameraProtocolError(f"{MEMBER}: the answer holds more lists than an image has columns", where=where)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise CameraProtocolError(f"{MEMBER}: the answer is no JSON ({type(error).__name__})", where=where) from None
    if not isinstance(found, dict):
        raise CameraProtocolError(f"{MEMBER}: the answer is no JSON object", where=where)
    found = spelled(found)
    number = found.get("ErrorNumber", 0)
    if number != 0:
        raise error_of(number if isinstance(number, int) else -1, found.get("ErrorMessage", ""), MEMBER, where)
    columns = found.get("Value")
    if not isinstance(columns, list) or not columns or not all(isinstance(column, list) for column in columns):
        raise CameraProtocolError(f"{MEMBER}: the answer holds no image", where=where)
    del found
    first = columns[0]
    depth = (len(first[0]),) if first and isinstance(first[0], list) else ()
    _check_dimensions((len(columns), len(first), *depth), shape, where)
    upright = np.empty(shape, np.uint16)
    for x, column in enumerate(columns):
        upright[:, x] = _json_column(column, shape[0], where)
        columns[x] = None  # numbers of JSON take many times the room of pixels
    return upright


def _json_column(column: list[Any], rows: int, where: str) -> NDArray[np.uint16]:
    deep = bool(column) and isinstance(column[0], list)
    flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in column] if deep else column
    # of numbers alone: of texts numpy would make an array as wide as the longest of them
    values = np.array(flat) if len(flat) == rows and set(map(type, flat)) <= {int, float} else np.empty(0)
    if values.shape != (rows,) or values.dtype.kind not in "iuf":
        raise CameraProtocolError(f"{MEMBER}: a column of the image is not {rows} numbers", where=where)
    _check_range(values, where)
    return values.astype(np.uint16)


def _check_dimensions(dimensions: tuple[int, ...], shape: tuple[int, int], where: str) -> None:
    rows, cols = shape
    if len(dimensions) == 3 and dimensions[2] == 1:
        dimensions = dimensions[:2]
    if dimensions == (cols, rows):
        return
    if len(dimensions) != 2:
        what = f"{MEMBER}: {len(dimensions)} dimensions {dimensions}, where an image of one plane was asked for"
        raise CameraProtocolError(what, where=where, do="Choose a raw (not a debayered) read-out in the driver")
    swapped = " (width and height are swapped)" if dimensions == (rows, cols) else ""
    what = f"{MEMBER}: the image is {dimensions[0]} × {dimensions[1]} pixels, not {cols} × {rows}{swapped}"
    raise CameraProtocolError(what, where=where)


def _check_range(values: NDArray[Any], where: str) -> None:
    """Counts must be whole, and fit; in a frame of 16 bits nothing needs to be looked at."""
    if values.dtype in (np.dtype("<u2"), np.dtype("u1")):
        return
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= HIGHEST):  # also false for NaN
        what = f"{MEMBER}: counts from {low} to {high}, outside 0 to {HIGHEST}"
        raise CameraProtocolError(what, where=where, do="Choose raw, unsigned counts of 16 bits in the driver")
    if values.dtype.kind == "f" and not np.array_equal(values, np.trunc(values)):
        raise CameraProtocolError(f"{MEMBER}: counts that are not whole numbers", where=where)


def _upright(columns: NDArray[Any], where: str) -> NDArray[np.uint16]:
    """(cols, rows) of any type to (rows, cols) uint16, C order."""
    _check_range(columns, where)
    upright = np.empty(columns.shape[::-1], np.uint16)
    for x in range(0, len(columns), STRIP_COLS):
        upright[:, x : x + STRIP_COLS] = columns[x : x + STRIP_COLS].T.astype(np.uint16, copy=False)
    return upright
