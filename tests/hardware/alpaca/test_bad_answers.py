"""Answers that would fill the memory, or be read without end."""

from __future__ import annotations

import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from corpus.answers import COLS, COLUMNS, ROWS, as_json

from hardware.alpaca.http import Answer, HttpLine, spelled
from hardware.alpaca.image import decode
from hardware.errors import CameraProtocolError

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def endless() -> Iterator[str]:
    """A server whose first chunk has a length of -1, and that goes on sending."""
    listening = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        try:
            line, _ = listening.accept()
            with line:
                line.recv(1 << 16)
                line.sendall(CHUNKED + b"-1\r\n")
                while not ended.is_set():
                    line.sendall(bytes(1 << 16))
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    ended.set()
    listening.close()
    thread.join(10)


def test_a_chunk_of_negative_length_is_not_read_without_end(endless: str) -> None:
    line = HttpLine(endless)
    with pytest.raises(CameraProtocolError, match="no HTTP"):
        line.ask("PUT", "/api/v1/camera/0/gain", deadline_s=30.0)
    line.close()


def decoded(body: bytes) -> None:
    decode(Answer(200, "application/json", body, "http://x"), (ROWS, COLS), "here")


def test_a_list_of_a_long_text_makes_no_wide_array() -> None:
    """As an array of texts it would have 400,000 characters a pixel."""
    body = as_json([["x" * 400_000] + ["y"] * (ROWS - 1), *COLUMNS.tolist()[1:]])
    tracemalloc.start()
    with pytest.raises(CameraProtocolError, match="is not 7 numbers"):
        decoded(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(body)


def test_more_lists_than_an_image_has_are_not_parsed() -> None:
    body = b'{"Value": [' + b"[]," * 300_000 + b"[]]}"
    tracemalloc.start()
    with pytest.raises(CameraProtocolError, match="more lists"):
        decoded(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(body)


@pytest.mark.parametrize("number", ["--5", "5" * 5000, "٣", "", "-", "1e3", "0x5"])
def test_an_error_number_that_is_none_stays_a_text(number: str) -> None:
    assert spelled({"errornumber": number})["ErrorNumber"] == number
    with pytest.raises(Exception, match="answers 'no'") as caught:
        decoded(json.dumps({"ErrorNumber": number, "ErrorMessage": "no"}).encode())
    assert caught.type.__mro__[1].__name__ == "CameraError"


def test_an_error_number_in_words_is_a_number() -> None:
    assert spelled({"ErrorNumber": " 1024 "})["ErrorNumber"] == 1024
    assert spelled({"ErrorNumber": "-5"})["ErrorNumber"] == -5
