"""A small Alpaca camera over real HTTP, whose every answer a test can replace: for servers odder than our simulator."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np

COLS, ROWS = 12, 7
IDLE, EXPOSING = 0, 2


class Refusal(Exception):
    """An Alpaca error, raised by a member."""

    def __init__(self, number: int, message: str = "no") -> None:
        super().__init__(message)
        self.number = number


class Http(Exception):
    """An answer of another HTTP status than 200."""

    def __init__(self, status: int, body: bytes = b"no", headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def image_bytes(columns: np.ndarray, **header: int) -> bytes:
    """(cols, rows) as ImageBytes; `header` replaces fields of it."""
    numbers = {"i2": 1, "i4": 2, "f8": 3, "f4": 4, "u8": 5, "u1": 6, "i8": 7, "u2": 8, "u4": 9}
    sent_as = numbers[columns.dtype.str[1:]]
    fields = {"version": 1, "error": 0, "client": 0, "server": 1, "start": 44, "element": 2, "sent_as": sent_as}
    fields |= {"rank": 2, "d1": columns.shape[0], "d2": columns.shape[1], "d3": 0} | header
    return struct.pack("<11i", *fields.values()) + columns.tobytes()


def encoded_image() -> np.ndarray:
    """(cols, rows): every count says where it is, 100 x + y."""
    return (100 * np.arange(COLS)[:, None] + np.arange(ROWS)).astype(np.uint16)


class CannedAlpaca:
    """Camera 0 at `address`.

    members : of the camera, lower case, to a value, or to a function that gives it or raises. on_put : lower case, to a
    function of the form's fields; a member that is not there takes what it is given. puts : (member, fields) as they
    came. management : as members. image : ImageBytes of the next download. raw : ('GET' or 'PUT', member) to a function
    of the handler, which answers as it likes.
    """

    def __init__(self) -> None:
        self.members: dict[str, Any] = dict(_DEFAULTS)
        self.members |= {
            "imageready": lambda: self.has_image and time.monotonic() >= self.ready_at,
            "camerastate": lambda: IDLE if time.monotonic() >= self.ready_at else EXPOSING,
            "lastexposurestarttime": self._start_time,
            "lastexposureduration": self._duration,
        }
        self.on_put: dict[str, Callable[[dict[str, str]], object]] = {
            "startexposure": self.begin,
            "abortexposure": lambda _: setattr(self, "ready_at", 0.0),
        }
        self.management: dict[str, Any] = {"description": {"ServerName": "canned"}, "configureddevices": _LISTED}
        self.puts: list[tuple[str, dict[str, str]]] = []
        self.raw: dict[tuple[str, str], Callable[[BaseHTTPRequestHandler], None]] = {}
        self.image: bytes = image_bytes(encoded_image())
        self.exposures, self.has_image, self.ready_at, self.seconds = 0, False, 0.0, 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def begin(self, form: dict[str, str]) -> None:
        """Start an exposure."""
        self.seconds = float(form["Duration"])
        self.ready_at = time.monotonic() + self.seconds + 0.02
        self.has_image = True
        self.exposures += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _start_time(self) -> str:
        if not self.exposures:
            raise Refusal(0x402)
        return f"2025-01-01T00:00:{self.exposures:02d}"

    def _duration(self) -> float:
        if not self.exposures:
            raise Refusal(0x402)
        return self.seconds


def _missing() -> None:
    raise Refusal(0x400, "not implemented")


_DEFAULTS: dict[str, Any] = {
    "connected": False,
    "interfaceversion": 3,
    "name": "Canned camera",
    "driverinfo": "Canned driver",
    "driverversion": "1.2",
    "sensorname": "C1",
    "sensortype": 0,
    "cameraxsize": COLS,
    "cameraysize": ROWS,
    "pixelsizex": 5.0,
    "pixelsizey": 5.0,
    "maxadu": 65535,
    "exposuremin": 0.0,
    "exposuremax": 3600.0,
    "exposureresolution": 0.0,
    "binx": 1,
    "biny": 1,
    "startx": 0,
    "starty": 0,
    "numx": COLS,
    "numy": ROWS,
    "gain": 10,
    "gainmin": 0,
    "gainmax": 100,
    "gains": _missing,
    "offset": _missing,
    "offsets": _missing,
    "offsetmin": _missing,
    "offsetmax": _missing,
    "readoutmode": 0,
    "readoutmodes": ["Normal", "Low Noise"],
    "electronsperadu": 0.8,
    "cooleron": False,
    "cansetccdtemperature": True,
    "cangetcoolerpower": True,
    "coolerpower": 40.0,
    "ccdtemperature": -10.0,
    "setccdtemperature": -10.0,
    "heatsinktemperature": _missing,
}
_LISTED = [{"DeviceName": "Canned camera", "DeviceType": "Camera", "DeviceNumber": 0, "UniqueID": "canned-1"}]


def _handler(canned: CannedAlpaca) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            if parts[0] == "management":
                return self._answer("GET", parts[-1], lambda: _value(canned.management, parts[-1]))
            if parts[-2] != "0":
                return self._send(400, b"no such device", "text/plain")
            if parts[-1] == "imagearray" and ("GET", "imagearray") not in canned.raw:
                return self._send(200, canned.image, "application/imagebytes")
            return self._answer("GET", parts[-1], lambda: _value(canned.members, parts[-1]))

        def do_PUT(self) -> None:
            member = urlsplit(self.path).path.rpartition("/")[2]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = {key: values[0] for key, values in parse_qs(body).items()}
            canned.puts.append((member, form))
            self._answer("PUT", member, lambda: _put(canned, member, form))

        def _answer(self, method: str, member: str, value: Callable[[], object]) -> None:
            if (method, member) in canned.raw:
                canned.raw[method, member](self)
                return
            number, message, told = 0, "", None
            try:
                told = value()
            except Refusal as refusal:
                number, message = refusal.number, str(refusal)
            except Http as http:
                self._send(http.status, http.body, "text/plain", http.headers)
                return
            body = {"ErrorNumber": number, "ErrorMessage": message, "Value": told, "ServerTransactionID": 1}
            self._send(200, json.dumps(body).encode(), "application/json")

        def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, text in ({"Content-Type": kind, "Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(key, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _value(members: dict[str, Any], name: str) -> object:
    if name not in members:
        raise Http(404)
    value = members[name]
    return value() if callable(value) else value


def _put(canned: CannedAlpaca, member: str, form: dict[str, str]) -> None:
    if member in canned.on_put:
        canned.on_put[member](form)
        return
    if member not in canned.members:
        raise Http(400, b"unknown member")
    if canned.members[member] is _missing:
        _missing()
    text = next(text for key, text in form.items() if key.lower() == member)
    if text.lower() in ("true", "false"):
        canned.members[member] = text.lower() == "true"
    else:
        canned.members[member] = float(text) if "." in text else int(text)
