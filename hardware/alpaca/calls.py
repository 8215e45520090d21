"""Members of an Alpaca camera, through the client library, and its exceptions translated: the only place that knows
either.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

from alpaca.camera import Camera as ClientCamera  # type: ignore[import-untyped]
from alpaca.exceptions import AlpacaRequestException  # type: ignore[import-untyped]

from hardware.alpaca.http import HttpLine, LineDroppedError
from hardware.errors import (
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraProtocolError,
    CameraTransportError,
    CameraValueError,
)

log = logging.getLogger("darkpipe.capture")

T = TypeVar("T")


class ValueNotSetError(CameraDriverError):
    """The camera has this value, but nobody has set it yet."""


class InvalidOperationError(CameraDriverError):
    """The camera cannot do this, or not in the state that it is in."""


class ServerFaultError(CameraDriverError):
    """HTTP 500: the server itself stumbled over the question; it may not do so again."""


_BY_NUMBER: dict[int, type[CameraError]] = {
    0x400: CameraNotImplementedError,
    0x401: CameraValueError,
    0x402: ValueNotSetError,
    0x407: CameraNotConnectedError,
    0x40B: InvalidOperationError,
}


def error_of(number: int, message: object, member: str, where: str) -> CameraError:
    """The error of an Alpaca error number; COM's own numbers (0x80040400 …), which some servers send, count as well."""
    short = number & 0xFFF if (number & 0xFFFFFFFF) >> 12 == 0x80040 else number
    kind = _BY_NUMBER.get(short, CameraDriverError)
    return kind(f"{member}: the camera answers '{said(message)}' (error 0x{number & 0xFFFFFFFF:X})", where=where)


def translate(error: Exception, member: str, where: str, *, writing: bool = False) -> CameraError:
    """Whatever a call of the client library raised, as one of ours."""
    if isinstance(error, CameraError):
        return error
    if isinstance(error, AlpacaRequestException):
        return _http_error(error.number, error.message, member, where, writing)
    number = getattr(error, "number", None)
    if isinstance(number, int):
        return error_of(number, getattr(error, "message", error), member, where)
    what = f"{member}: the answer is not what the protocol says ({type(error).__name__}: {said(error)})"
    return CameraProtocolError(what, where=where)


def said(message: object) -> str:
    """A foreign text, made fit for one line of ours."""
    line = "".join(c if c.isprintable() else " " for c in str(message))
    return " ".join(line.split())[:300]


def _http_error(status: int, message: str, member: str, where: str, writing: bool) -> CameraError:
    what = f"{member}: the server answers HTTP {status} '{said(message)}'"
    lower = str(message).lower()
    unknown = not writing or "implement" in lower or "not supported" in lower
    if status in (404, 405, 501) or (status == 400 and unknown):
        return CameraNotImplementedError(what, where=where)
    if status == 400:
        return CameraValueError(what, where=where)
    if status in (502, 503, 504):
        return CameraTransportError(what, where=where)
    if status < 400:
        do = "Redirects are not followed: give the camera's own address" if status >= 300 else None
        return CameraProtocolError(what, where=where, do=do)
    return ServerFaultError(what, where=where)


class AlpacaCalls:
    """The members of one camera device on one server. Every call ends before a deadline.

    line : the connection, for what is not a member (`/management`).
    """

    def __init__(self, address: str, number: int) -> None:
        self.line = HttpLine(address)
        self.number_on_server = number
        self.where = f"{self.line.url} camera {number}"
        self._client = ClientCamera(self.line.netloc, number, self.line.scheme)
        # the library's own session bounds single waits only, follows redirects and proxies, and reads without limit
        self._client.rqs.close()
        self._client.rqs = self.line

    def raw(self, member: str) -> Any:
        """A property as it comes; repeated by the line if the connection drops, or the server stumbles."""
        # not by its name: two of the library's properties cannot take a number as text
        return self._call(lambda: self._client._get(member.lower()), member, writing=False)

    def number(self, member: str) -> float:
        """A property that is a number; null is NaN, whoever asked judges it."""
        value = self.raw(member)
        if value is None:
            return math.nan
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            with contextlib.suppress(ValueError, OverflowError):
                return float(value)
        raise self._odd(member, value, "a number")

    def integer(self, member: str) -> int:
        """A property that is a whole number."""
        value = self.number(member)
        if not (math.isfinite(value) and value.is_integer()):
            raise self._odd(member, value, "a whole number")
        return int(value)

    def boolean(self, member: str) -> bool:
        """A property that is true or false, as JSON, text or 0 and 1."""
        value = self.raw(member)
        text = value.strip().lower() if isinstance(value, str) else value
        if text in (True, "true", "1"):
            return True
        if text in (False, "false", "0"):
            return False
        raise self._odd(member, value, "true or false")

    def text(self, member: str) -> str:
        """A property that is a text; null is ''."""
        value = self.raw(member)
        if isinstance(value, list):
            value = ", ".join(str(part) for part in value)
        return "" if value is None else said(value)

    def names(self, member: str) -> list[str]:
        """A property that is a list of names."""
        value = self.raw(member)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or not all(isinstance(name, str | int | float) for name in value):
            raise self._odd(member, value, "a list of names")
        return [said(name) for name in value]

    def state(self) -> int | None:
        """CameraState: 0 idle, 1 waiting, 2 exposing, 3 reading, 4 download, 5 error; None if the camera has none."""
        state = self.optional(self.integer, "CameraState")
        if state is not None and not 0 <= state <= 5:
            raise self._odd("CameraState", state, "0 to 5")
        return state

    def optional(self, read: Callable[[str], T], member: str) -> T | None:
        """What `read` gives, or None if the camera does not have this member, or no value for it yet."""
        try:
            return read(member)
        except (CameraNotImplementedError, ValueNotSetError):
            return None

    def described(self, read: Callable[[str], T], member: str) -> T | None:
        """As `optional`, for what only describes a camera: None also where the camera fails to say it."""
        try:
            return self.optional(read, member)
        except (CameraDriverError, CameraProtocolError, CameraValueError) as error:
            log.warning("%s; taken as not there", error)
            return None

    def write(self, member: str, value: float | str) -> None:
        """Set a property; repeated once if the connection drops or the server stumbles: setting twice does no harm."""
        try:
            self._set(member, value)
        except (LineDroppedError, ServerFaultError):
            self._set(member, value)

    def write_boolean(self, member: str, value: bool) -> None:
        """Set a switch. There are servers that take `true` only, and understand `True` as off; others refuse `true`."""
        try:
            self.write(member, str(value).lower())
        except (CameraValueError, CameraNotImplementedError):
            self.write(member, str(value))

    def do(self, method: str, *arguments: Any) -> None:
        """Call a method; sent once."""
        self._call(lambda: getattr(self._client, method)(*arguments), method, writing=True)

    def management(self, what: str) -> Any:
        """The value of /management/v1/`what`; None if the server has no such thing."""
        return management(self.line, what)

    def _set(self, member: str, value: float | str) -> None:
        self._call(lambda: setattr(self._client, member, value), member, writing=True)

    def _call(self, call: Callable[[], T], member: str, *, writing: bool) -> T:
        try:
            return call()
        except Exception as error:  # the library's exceptions have no common base, and others leak out of it
            raise translate(error, member, self.where, writing=writing) from error

    def _odd(self, member: str, value: object, wanted: str) -> CameraProtocolError:
        return CameraProtocolError(f"{member} is '{said(value)[:60]}', not {wanted}", where=self.where)


def management(line: HttpLine, what: str) -> Any:
    """The value of /management/v1/`what` of a server; None if it has no such thing. Raises `CameraTransportError`."""
    try:
        target = f"/management/v1/{what}?ClientID=1&ClientTransactionID=1"
        answer = line.ask_firmly(target)
        found = answer.json() if answer.status_code == 200 else None
    except (LineDroppedError, CameraProtocolError, ValueError, RecursionError):
        return None
    return found.get("Value") if isinstance(found, dict) else None
