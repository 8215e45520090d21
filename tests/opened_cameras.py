"""Cameras opened by tests, and answers given by hand."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

from hardware.alpaca.driver import AlpacaCamera
from hardware.settings import CameraSettings

OPENED: list[AlpacaCamera] = []  # closed after each test


def connected(address: str, *, take_over: bool = False, **settings: object) -> AlpacaCamera:
    """The camera at this address, with these settings."""
    camera = AlpacaCamera.connect(CameraSettings(address=address, **settings), take_over=take_over)  # type: ignore[arg-type]
    OPENED.append(camera)
    return camera


def answering(body: bytes, kind: str = "application/json") -> Callable[[BaseHTTPRequestHandler], None]:
    """For `CannedAlpaca.raw`: this body, whatever is asked."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer
