"""A server that means harm, over real sockets: every question to it ends, in little memory, in an error of the family;
and what it says of itself reaches no terminal, path or header as more than text."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import hostile_frames
import pytest
from astropy.io import fits
from canned_alpaca import COLS, ROWS, CannedAlpaca
from hostile_frames import NEW_LINE, SCRIPT, TERMINAL, TURNED, WAY_OUT

from darkpipe.files.headers import configuration_name, read_info
from hardware.alpaca.calls import AlpacaCalls
from hardware.alpaca.driver import AlpacaCamera
from hardware.alpaca.http import HttpLine, LineDroppedError
from hardware.alpaca.image import download
from hardware.discovery import FoundCamera, cameras_of
from hardware.errors import CameraError, CameraProtocolError, CameraTimeoutError, CameraTransportError
from hardware.settings import CameraSettings

Act = Callable[[socket.socket], None]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LIMIT_BYTES = 1000


class RawServer:
    """Answers each connection with what a function does to its socket, after the head of the question was read."""

    def __init__(self, act: Act) -> None:
        self.act, self.heads = act, list[bytes]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for a connection
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            try:
                while b"\r\n\r\n" not in head:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    head += piece
                self.heads.append(head)
                self.act(connection)
            except OSError:
                return


@contextlib.contextmanager
def calls_to(server: RawServer) -> Iterator[AlpacaCalls]:
    calls = AlpacaCalls(server.address, 0)
    try:
        yield calls
    finally:
        calls.line.close()


def sends(*pieces: bytes) -> Act:
    def act(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return act


def endless(start: bytes, piece: bytes, pause_s: float = 0.0) -> Act:
    """Never comes to an end by itself."""

    def act(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return act


INTERIM = (CameraTimeoutError, CameraProtocolError, CameraTransportError)
"""Of answers that are to come: Python 3.14 counts them, and gives up before the time does."""


def silent(connection: socket.socket) -> None:
    connection.recv(1)  # until the client has had enough


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (silent, CameraTimeoutError),
        (endless(b"", b"H", 0.05), CameraTimeoutError),
        (endless(OK, b"X-More: 1\r\n", 0.05), CameraTimeoutError),
        (endless(OK + b"Content-Length: 900\r\n\r\n", b"x", 0.05), CameraTimeoutError),
        (endless(CHUNKED, b"1\r\nx\r\n", 0.05), CameraTimeoutError),
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), INTERIM),
        (endless(OK, b"X-More: 1\r\n"), CameraProtocolError),
        (endless(OK + b"X-Long: ", b"x" * 4096), CameraProtocolError),
        (endless(b"HTTP/1.1 200 ", b"x" * 4096), CameraProtocolError),
        (endless(CHUNKED, b"100\r\n" + b"x" * 256 + b"\r\n"), CameraProtocolError),
        (endless(CHUNKED + b"FFFFFFFFFFFF\r\n", b"x" * 4096), CameraProtocolError),
        (endless(CHUNKED, b"1;" + b"x" * 60_000 + b"\r\nx\r\n"), CameraProtocolError),  # little comes of much
        (endless(CHUNKED + b"-1\r\n", b"x" * 4096), CameraError),
        (endless(OK + b"\r\n", b"x" * 4096), CameraProtocolError),
        (endless(OK + b"Content-Length: -5\r\n\r\n", b"x" * 4096), CameraProtocolError),
        (sends(OK + b"Content-Length: 99999999999999999999\r\n\r\n"), CameraProtocolError),
        (sends(OK + b"Content-Length: 500\r\n\r\nshort"), LineDroppedError),
        (sends(CHUNKED + b"zz\r\n"), CameraError),
        (sends(), LineDroppedError),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), CameraProtocolError),
        (sends(b"\x00" * 100 + b"\r\n\r\n"), CameraProtocolError),
    ],
)
def test_every_question_ends(act: Act, kind: type[CameraError] | tuple[type[CameraError], ...]) -> None:
    deadline_s = 0.5 if kind is CameraTimeoutError or kind == INTERIM else 30.0
    tracemalloc.start()
    with RawServer(act) as server, pytest.raises(kind) as caught:
        HttpLine(server.address).ask("GET", "/x", deadline_s=deadline_s, limit_bytes=LIMIT_BYTES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert peak < 20e6


def test_an_image_that_is_announced_too_long_takes_no_memory() -> None:
    act = sends(b"HTTP/1.1 200 OK\r\nContent-Type: application/imagebytes\r\nContent-Length: 20000000000\r\n\r\n")
    tracemalloc.start()
    with RawServer(act) as server, pytest.raises(CameraProtocolError, match="longer than"):
        download(server.address, 0, (ROWS, COLS), deadline_s=30.0, where="here")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"307 Temporary", b"308 Permanent"])
def test_no_redirect_is_followed(status: bytes) -> None:
    with RawServer(sends(OK + b"Content-Length: 2\r\n\r\n{}")) as other:
        location = f"\r\nLocation: http://{other.address}/secret\r\nContent-Length: 0\r\n\r\n".encode()
        with RawServer(sends(b"HTTP/1.1 " + status + location)) as server:
            with calls_to(server) as calls, pytest.raises(CameraProtocolError, match="HTTP 30"):
                calls.text("Name")
            with pytest.raises(CameraError):
                download(server.address, 0, (ROWS, COLS), deadline_s=30.0, where="here")
        assert other.heads == []


def test_nothing_is_unpacked_and_no_cookie_is_kept() -> None:
    packed = b"\x1f\x8b\x08\x00" + b"\x00" * 20
    head = b"Content-Encoding: gzip\r\nSet-Cookie: a=b\r\nContent-Length: 24\r\n\r\n"
    with RawServer(sends(OK + head, packed)) as server:
        line = HttpLine(server.address)
        for _ in range(2):
            assert bytes(line.ask("GET", "/x", deadline_s=30.0).body) == packed
            line.close()
        assert not any(b"cookie" in head.lower() or b"accept-encoding: gzip" in head.lower() for head in server.heads)


BODIES = [
    b"[" * 100_000,
    b'{"Value": ' + b"[" * 100_000,
    b'{"Value": ' + b"9" * 5000 + b', "ErrorNumber": 0, "ErrorMessage": ""}',
    b'{"Value": {"a": 1}, "ErrorNumber": {}, "ErrorMessage": []}',
    b'{"ErrorNumber": 1025, "ErrorMessage": "\\u001b]0;pwned\\u0007\\nforged \\u202e"}',
    b'{"ErrorNumber": "9999999999999999999999", "ErrorMessage": null}',
    b"\xff\xfe\x00",
    b"null",
    b"",
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_answers_that_are_no_numbers(body: bytes) -> None:
    head = OK + f"Content-Length: {len(body)}\r\n\r\n".encode()
    with RawServer(sends(head, body)) as server:
        with calls_to(server) as calls, pytest.raises(CameraError) as caught:
            calls.number("Gain")
        assert str(caught.value).isprintable()
        with pytest.raises(CameraError):
            download(server.address, 0, (ROWS, COLS), deadline_s=30.0, where="here")
        assert cameras_of(server.address) == []


@pytest.mark.parametrize("fields", [{"d1": 2**31 - 1, "d2": 2**31 - 1}, {"start": -44}, {"rank": 3, "d3": 10**9}])
def test_an_image_that_says_that_it_is_huge(fields: dict[str, int]) -> None:
    known = {"version": 1, "error": 0, "client": 0, "server": 1, "start": 44, "element": 2, "sent_as": 8, "rank": 2}
    header = struct.pack("<11i", *(known | {"d1": COLS, "d2": ROWS, "d3": 0} | fields).values())
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/imagebytes\r\nContent-Length: 100\r\n\r\n"
    with RawServer(sends(head, header.ljust(100, b"x"))) as server, pytest.raises(CameraProtocolError):
        download(server.address, 0, (ROWS, COLS), deadline_s=30.0, where="here")


@pytest.fixture
def named() -> Iterator[CannedAlpaca]:
    """A camera that works, and says of itself what it likes."""
    with CannedAlpaca() as server:
        server.members |= {"name": WAY_OUT + TERMINAL, "sensorname": SCRIPT + NEW_LINE}
        server.management["description"] = {"ServerName": TERMINAL + TURNED}
        server.management["configureddevices"] = [
            {
                "DeviceName": NEW_LINE + TERMINAL,
                "DeviceType": "Camera",
                "DeviceNumber": 0,
                "UniqueID": "../" * 30 + TERMINAL,
            }
        ]
        yield server


def test_what_a_camera_calls_itself_is_text(named: CannedAlpaca) -> None:
    found = cameras_of(named.address)
    assert [type(camera) for camera in found] == [FoundCamera]
    assert str(found[0]).isprintable()
    camera = AlpacaCamera.connect(CameraSettings(address=named.address))
    try:
        info = camera.info
        for text in (info.name, info.camera_id, info.sensor_name, camera.where):
            assert text is None or str(text).isprintable()
        header = fits.Header()
        header["INSTRUME"], header["IMAGETYP"], header["EXPTIME"] = info.name, "dark", 1.0
    finally:
        camera.close()
    content = io.BytesIO()
    fits.PrimaryHDU(header=header).writeto(content)
    name = configuration_name(read_info(fits.Header.fromstring(content.getvalue()[:2880].decode())), ROWS, COLS)
    assert "/" not in name
    assert ".." not in name
    assert hostile_frames.harmless(name.encode())


def test_a_port_that_is_no_port() -> None:
    with pytest.raises(CameraTransportError, match="no port"):
        HttpLine("127.0.0.1:99999")
