"""From the bytes of an answer to pixels: what is accepted, what is refused, and why."""

from __future__ import annotations

import json

import numpy as np
import pytest
from canned_alpaca import COLS, ROWS, encoded_image, image_bytes
from hypothesis import given
from hypothesis import strategies as st

from hardware.alpaca.http import Answer
from hardware.alpaca.image import decode
from hardware.errors import (
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraProtocolError,
    CameraTransportError,
)

SHAPE = (ROWS, COLS)
BYTES, JSON = "application/imagebytes", "application/json; charset=utf-8"


def decoded(body: bytes, kind: str = BYTES, status: int = 200) -> np.ndarray:
    return decode(Answer(status, kind, body, "http://x"), SHAPE, "here")


def as_json(value: object, **more: object) -> bytes:
    return json.dumps({"Type": 2, "Rank": 2, "ErrorNumber": 0, "ErrorMessage": "", "Value": value} | more).encode()


@pytest.mark.parametrize("kind", ["<i2", "<i4", "<f8", "<f4", "<u8", "<i8", "<u2", "<u4"])
def test_every_element_type_comes_out_upright(kind: str) -> None:
    pixels = decoded(image_bytes(encoded_image().astype(kind)))
    assert pixels.dtype == np.uint16
    assert pixels.shape == SHAPE
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    for row, col in ((0, 0), (0, COLS - 1), (ROWS - 1, 0), (3, 5)):
        assert pixels[row, col] == 100 * col + row


def test_bytes_as_pixels() -> None:
    small = (encoded_image() % 251).astype("u1")
    np.testing.assert_array_equal(decoded(image_bytes(small)), small.T)


def test_json_comes_out_upright() -> None:
    np.testing.assert_array_equal(decoded(as_json(encoded_image().tolist()), JSON), encoded_image().T)
    np.testing.assert_array_equal(decoded(as_json(encoded_image().tolist()), "text/plain"), encoded_image().T)


@pytest.mark.parametrize("kind", [BYTES + "; charset=utf-8", "Application/ImageBytes"])
def test_the_content_type_may_be_spelled_freely(kind: str) -> None:
    np.testing.assert_array_equal(decoded(image_bytes(encoded_image()), kind), encoded_image().T)


def test_pixels_may_start_later() -> None:
    body = image_bytes(encoded_image(), start=60)
    np.testing.assert_array_equal(decoded(body[:44] + bytes(16) + body[44:]), encoded_image().T)


def test_a_third_dimension_of_one_is_none() -> None:
    np.testing.assert_array_equal(decoded(image_bytes(encoded_image(), rank=3, d3=1)), encoded_image().T)
    deep = encoded_image()[..., None].tolist()
    np.testing.assert_array_equal(decoded(as_json(deep), JSON), encoded_image().T)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"version": 1 << 24}, "version"),
        ({"start": 12}, "start at byte 12"),
        ({"start": 1 << 30}, "start at byte"),
        ({"start": -44}, "start at byte -44"),
        ({"start": 45}, "truncated"),
        ({"sent_as": 42}, "element types"),
        ({"sent_as": 0}, "element types"),
        ({"element": -1}, "element types"),
        ({"sent_as": 3}, "truncated"),
        ({"sent_as": 6}, "too long"),
        ({"rank": 1}, "dimensions"),
        ({"rank": -1}, "dimensions"),
        ({"rank": 3, "d3": 3}, "3 dimensions"),
        ({"d1": ROWS, "d2": COLS}, "swapped"),
        ({"d1": COLS - 1}, "not 12 × 7"),
        ({"d1": -COLS, "d2": -ROWS}, "not 12 × 7"),
        ({"d1": 2 * COLS, "d2": ROWS}, "not 12 × 7"),
    ],
)
def test_a_wrong_header_is_refused(header: dict[str, int], words: str) -> None:
    with pytest.raises(CameraProtocolError, match=words):
        decoded(image_bytes(encoded_image(), **header))


@pytest.mark.parametrize("length", [0, 1, 43, 44, 45, 44 + 2 * ROWS * COLS - 1])
def test_a_truncated_image_is_refused(length: int) -> None:
    with pytest.raises(CameraProtocolError):
        decoded(image_bytes(encoded_image())[:length])


def test_a_longer_image_is_refused() -> None:
    with pytest.raises(CameraProtocolError, match="too long"):
        decoded(image_bytes(encoded_image()) + b"\0\0")


@pytest.mark.parametrize(
    ("kind", "value"),
    [("<i2", -1), ("<i4", 65536), ("<i4", -1), ("<u4", 1 << 31), ("<f8", np.nan), ("<f8", np.inf), ("<f4", 0.5)],
)
def test_counts_that_are_none_are_refused(kind: str, value: float) -> None:
    image = encoded_image().astype(kind)
    image[3, 4] = value
    with pytest.raises(CameraProtocolError, match="counts"):
        decoded(image_bytes(image))


def test_an_error_frame_is_the_error_it_holds() -> None:
    frame = image_bytes(encoded_image(), error=0x407)[:44] + "nicht verbunden: §".encode()
    with pytest.raises(CameraNotConnectedError, match="nicht verbunden: §"):
        decoded(frame)
    with pytest.raises(CameraDriverError, match="0x500"):
        decoded(image_bytes(encoded_image(), error=0x500, start=0)[:44])


@pytest.mark.parametrize(
    "value",
    [
        None,
        5,
        [],
        [[]],
        {},
        "x",
        [[1, 2], [3]],
        [[[1, 2, 3]] * ROWS] * COLS,
        [["a"] * ROWS] * COLS,
        [[True] * ROWS] * 12,
    ],
)
def test_json_that_is_no_image_is_refused(value: object) -> None:
    with pytest.raises(CameraProtocolError):
        decoded(as_json(value), JSON)


@pytest.mark.parametrize("bad", [-1, 65536, 1.5, 10**30, None, float("nan"), [1]])
def test_json_with_a_wrong_count_is_refused(bad: object) -> None:
    value = encoded_image().tolist()
    value[2][3] = bad
    with pytest.raises(CameraProtocolError):
        decoded(as_json(value), JSON)


def test_an_error_in_json_is_that_error() -> None:
    with pytest.raises(CameraDriverError, match="no image"):
        decoded(as_json(None, ErrorNumber=0x40B, ErrorMessage="no image"), JSON)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nonsense", b"[" * 100_000])
def test_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(CameraProtocolError):
        decoded(body, JSON)


@pytest.mark.parametrize("kind", ["", "text/html", "application/octet-stream"])
def test_another_content_is_refused(kind: str) -> None:
    with pytest.raises(CameraProtocolError, match="neither"):
        decoded(image_bytes(encoded_image()), kind)


@pytest.mark.parametrize(
    ("status", "kind"), [(302, CameraProtocolError), (404, CameraProtocolError), (500, CameraDriverError)]
)
def test_another_status_is_an_error(status: int, kind: type[CameraError]) -> None:
    with pytest.raises(kind, match=str(status)):
        decoded(b"sorry", "text/plain", status)
    with pytest.raises(CameraTransportError):
        decoded(b"sorry", "text/plain", 503)


@given(st.binary(max_size=300), st.sampled_from([BYTES, JSON, "text/plain"]))
def test_whatever_comes_it_is_one_of_our_errors(body: bytes, kind: str) -> None:
    with pytest.raises(CameraError):
        decoded(body, kind)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=11, max_size=11))
def test_whatever_the_header_it_is_an_image_or_one_of_our_errors(fields: list[int]) -> None:
    body = np.array(fields, "<i4").tobytes() + image_bytes(encoded_image())[44:]
    with pytest.raises(CameraError):
        decoded(body)
