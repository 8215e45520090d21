"""Servers with odd manners, made of the simulator and a proxy that changes what passes through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from alpaca_proxy import AlpacaProxy, LineFault  # the importer has the folder of the tests on its path

Change = Callable[[str, bytes, bytes], bytes | None]
"""(first line of the request, the request, the answer) -> another answer; None: as it is."""


class MeddlingProxy(AlpacaProxy):
    """A proxy that may change requests and answers as well as spoil the line.

    changes : applied in order to every answer. json_only : clients get no ImageBytes. meddled : how often it did
    anything but forward.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.changes: list[Change] = []
        self.json_only = False
        self.meddled = 0

    async def _forward(self, request: bytes) -> bytes:
        line = request.split(b"\r\n", 1)[0].decode()
        if self.json_only and b"imagebytes" in request:
            self.meddled += 1
            request = request.replace(b"application/imagebytes", b"application/json")
        answer = await super()._forward(request)
        for change in self.changes:
            changed = change(line, request, answer)
            if changed is not None:
                self.meddled += 1
                answer = changed
        return answer

    def _fault(self, line: str) -> LineFault | None:
        fault = super()._fault(line)
        self.meddled += fault is not None
        return fault


def http(body: bytes, status: str = "200 OK", *, kind: str = "application/json", more: str = "") -> bytes:
    """An answer with a length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def value(member: str, new: Callable[[Any], Any]) -> Change:
    """Another value of a property, made from its own; where it is an error, it stays one."""

    def change(line: str, request: bytes, answer: bytes) -> bytes | None:
        if not line.startswith(f"GET /api/v1/camera/0/{member}?"):
            return None
        told = json.loads(answer.partition(b"\r\n\r\n")[2])
        if told.get("ErrorNumber") or (changed := new(told["Value"])) == told["Value"]:
            return None
        return http(json.dumps(told | {"Value": changed}).encode())

    return change


def instead(match: str, answer: bytes) -> Change:
    """One answer to every request whose first line contains `match`."""
    return lambda line, request, there: answer if match in line else None


def emptied(cols: int, rows: int, fraction: float, *, by_columns: bool) -> Change:
    """Images of which the last columns, or rows, are 0, as if a buffer had not been filled."""

    def change(line: str, request: bytes, answer: bytes) -> bytes | None:
        if "/imagearray?" not in line:
            return None
        pixels = np.frombuffer(answer[-2 * cols * rows :], "<u2").reshape(cols, rows).copy()
        if by_columns:
            pixels[round((1 - fraction) * cols) :] = 0
        else:
            pixels[:, round((1 - fraction) * rows) :] = 0
        return answer[: -2 * cols * rows] + pixels.tobytes()

    return change


class Cache:
    """A caching proxy between us and the camera: every image is the first one. A change."""

    def __init__(self) -> None:
        self._first: bytes | None = None

    def __call__(self, line: str, request: bytes, answer: bytes) -> bytes | None:
        if "/imagearray?" not in line:
            return None
        first, self._first = self._first, self._first or answer
        return first
