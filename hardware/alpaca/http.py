"""HTTP to an Alpaca server: one connection, a deadline and a size limit on every answer, no redirects, no proxies.

Time-outs of a socket bound each wait, not the whole: a server that sends a byte now and then would hold a client for
ever. So a timer closes the socket at the deadline, whatever is going on.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from hardware.errors import CameraProtocolError, CameraTimeoutError, CameraTransportError

CONNECT_S = 3.0
GET_S = 5.0
PUT_S = 10.0
STUMBLES_S = (0.05, 0.2)  # pauses before a question is asked again to which the server answered HTTP 5xx
ANSWER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20


_WHOLE = re.compile(r"\s*-?[0-9]{1,12}\s*")
_KEYS = {key.lower(): key for key in ("Value", "ErrorNumber", "ErrorMessage")}


class LineDroppedError(CameraTransportError):
    """The connection ended before the answer was whole; the server may or may not have done what was asked."""


@dataclass(frozen=True)
class Answer:
    """An answer of any status. body : at most as long as the limit of its question."""

    status_code: int
    content_type: str
    body: bytes | bytearray
    url: str

    @property
    def text(self) -> str:
        return self.body[:ANSWER_BYTES].decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body as JSON, its keys as the protocol spells them; `ValueError` if it is none."""
        found = json.loads(self.body)
        return spelled(found) if isinstance(found, dict) else found


class _Bounded(io.RawIOBase):
    """What comes from a socket, up to so many bytes: whatever lengths an answer announces for its parts, no more of it
    is taken in. (http.client reads a chunk of negative length to the end.)"""

    def __init__(self, raw: io.RawIOBase, most: int) -> None:
        self._raw, self._left = raw, most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._raw.readinto(buffer)
        self._left -= count or 0
        if self._left < 0:
            raise CameraProtocolError("an answer is longer than any that is read")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that is read from at most `most_bytes`."""

    def __init__(self, sock: socket.socket, *given: Any, most_bytes: int, **named: Any) -> None:
        super().__init__(sock, *given, **named)
        raw = sock.makefile("rb", buffering=0)
        self.fp.close()
        self.fp = io.BufferedReader(_Bounded(cast(io.RawIOBase, raw), most_bytes))


class HttpLine:
    """A kept connection to one server; `get` and `put` are what the client library asks of its session.

    address : 'host:port', with 'https://' before it if need be. Questions of several threads wait for each other.
    """

    def __init__(self, address: str) -> None:
        scheme, _, rest = address.rpartition("://")
        self.scheme = scheme.lower() or "http"
        self.netloc = rest.rstrip("/")
        self.url = f"{self.scheme}://{self.netloc}"
        parts = urlsplit(self.url)
        self._host, self._port = parts.hostname or "", _port(parts.netloc, self.url)
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.RLock()
        self._put_s = PUT_S

    def get(self, url: str, params: Mapping[str, Any] | None = None, **_: Any) -> Answer:
        """One GET; repeated once if the connection drops, and where the server stumbles (HTTP 5xx)."""
        query = f"?{urlencode(params)}" if params else ""
        return self.ask_firmly(urlsplit(url).path + query)

    def ask_firmly(self, target: str) -> Answer:
        """A GET that is repeated after HTTP 5xx, which comes of a fault of the server and may not come again."""
        for pause_s in STUMBLES_S:
            answer = self.ask("GET", target, deadline_s=GET_S)
            if answer.status_code < 500 or answer.status_code == 501:
                return answer
            time.sleep(pause_s)
        return self.ask("GET", target, deadline_s=GET_S)

    def put(self, url: str, data: Mapping[str, Any] | None = None, **_: Any) -> Answer:
        """One PUT of form data; never repeated here."""
        return self.ask("PUT", urlsplit(url).path, body=urlencode(data or {}), deadline_s=self._put_s)

    @contextlib.contextmanager
    def patient(self, seconds: float) -> Iterator[None]:
        """A longer deadline for PUTs that take long in some drivers (connecting)."""
        before, self._put_s = self._put_s, seconds
        try:
            yield
        finally:
            self._put_s = before

    def ask(
        self,
        method: str,
        target: str,
        *,
        body: str | None = None,
        accept: str = "application/json",
        deadline_s: float,
        limit_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        """Send a question and read the whole answer; a GET is repeated once if the connection drops.

        Raises
        ------
        CameraTimeoutError, CameraTransportError
            if the answer is not here, whole, at the deadline, or the connection fails.
        CameraProtocolError
            if the answer is longer than `limit_bytes`, or no HTTP.
        """
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with self._lock:
            end_s = time.monotonic() + deadline_s
            try:
                return self._once(method, target, body, headers, deadline_s, limit_bytes)
            except LineDroppedError:
                left_s = end_s - time.monotonic()
                if method != "GET" or left_s <= 0:
                    raise
                return self._once(method, target, body, headers, left_s, limit_bytes)

    def close(self) -> None:
        """End the connection; the next question opens another one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _once(
        self, method: str, target: str, body: str | None, headers: dict[str, str], deadline_s: float, limit: int
    ) -> Answer:
        expired = threading.Event()
        keep = False
        timer: threading.Timer | None = None
        response: http.client.HTTPResponse | None = None
        try:
            connection = self._connected(min(CONNECT_S, deadline_s))
            sock = connection.sock
            timer = threading.Timer(deadline_s, _cut, (sock, expired))
            timer.daemon = True
            timer.start()
            sock.settimeout(deadline_s)
            # twice: chunks have heads of their own
            connection.response_class = functools.partial(_Response, most_bytes=2 * limit + ANSWER_BYTES)  # type: ignore[assignment]
            connection.request(method, target, body, headers)
            _acknowledge_at_once(sock)
            response = connection.getresponse()
            content = _content(response, limit, self.url)
            keep = not response.will_close and response.isclosed()
            kind = response.headers.get("Content-Type", "") or ""
            return Answer(response.status, kind, content, f"{self.url}{target.partition('?')[0]}")
        except (OSError, http.client.HTTPException, ValueError, LineDroppedError) as error:
            raise self._failed(error, expired.is_set(), deadline_s) from error
        finally:
            if timer is not None:
                timer.cancel()
            # also after an interrupt: a half-read answer must not be taken for the next one
            if not keep:
                self.close()
                if response is not None:  # it holds the socket open
                    response.close()

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
            connection = kind(self._host, self._port, timeout=seconds)
            try:
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _failed(self, error: Exception, expired: bool, deadline_s: float) -> CameraTransportError | CameraProtocolError:
        if isinstance(error, LineDroppedError) and not expired:
            return error
        if expired or isinstance(error, TimeoutError):
            return CameraTimeoutError(
                f"no whole answer within {deadline_s:.3g} s",
                where=self.url,
                do="Is the server hung, or the network slow?",
            )
        if isinstance(error, ConnectionRefusedError | socket.gaierror):
            what = "connection refused" if isinstance(error, ConnectionRefusedError) else "unknown host"
            return CameraTransportError(what, where=self.url, do="Start the Alpaca server, or correct camera.address")
        if isinstance(error, ssl.SSLError):
            return CameraTransportError(
                f"no https can be had there ({_described(error)})",
                where=self.url,
                do="Alpaca servers speak plain http: take https:// out of camera.address, or mend the certificate",
            )
        if isinstance(error, OSError | http.client.RemoteDisconnected | http.client.IncompleteRead):
            return LineDroppedError(f"the connection was lost ({_described(error)})", where=self.url)
        return CameraProtocolError(
            f"the answer is no HTTP ({_described(error)})", where=self.url, do="Is this the port of an Alpaca server?"
        )


def spelled(found: dict[str, Any]) -> dict[str, Any]:
    """An answer with keys and error number as the protocol has them: there are servers that write keys in lower case,
    and numbers as text."""
    answer = {_KEYS.get(key.lower(), key): value for key, value in found.items()}
    number = answer.get("ErrorNumber")
    if isinstance(number, str) and _WHOLE.fullmatch(number):
        answer["ErrorNumber"] = int(number)
    return answer


def _port(netloc: str, url: str) -> int:
    text = netloc.rpartition(":")[2]
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CameraTransportError(f"'{text}' is no port", where=url, do="Give camera.address as host:port")
    return int(text)


def _content(response: http.client.HTTPResponse, limit: int, where: str) -> bytes | bytearray:
    """The body, read into one buffer where its length is announced."""
    if response.chunked:
        response.fp = cast(Any, _NoNegative(response.fp))
    length = response.length
    if length is not None and length > limit:
        raise CameraProtocolError(f"an answer of {length} bytes is longer than {limit}", where=where)
    if length is None:
        content = bytearray()
        while chunk := response.read(min(CHUNK_BYTES, limit - len(content) + 1)):
            content += chunk
            if len(content) > limit:
                raise CameraProtocolError(f"an answer is longer than {limit} bytes", where=where)
        if not content and not response.chunked:  # an end within the head looks like this
            raise LineDroppedError("the answer is empty", where=where)
        return content
    content, filled = bytearray(length), 0
    view = memoryview(content)
    while filled < length:
        count = response.readinto(view[filled:])
        if not count:
            raise LineDroppedError(f"the answer ended after {filled} of {length} bytes", where=where)
        filled += count
    response.read()  # at the end, so that the connection can be used again
    return content


class _NoNegative:
    """A stream that refuses to be read by a negative count: `http.client` takes the length of a chunk as the server
    says it, and -1 would read without end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, count: int) -> bytes:
        if count < 0:
            raise http.client.HTTPException("a chunk of negative length")
        content: bytes = self._stream.read(count)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _acknowledge_at_once(sock: socket.socket) -> None:
    """Many small servers send head and body apart, and the body only when the head is acknowledged: 40 ms later."""
    if hasattr(socket, "TCP_QUICKACK"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _cut(sock: socket.socket, expired: threading.Event) -> None:
    expired.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _described(error: Exception) -> str:
    text = "".join(c if c.isprintable() else " " for c in f"{type(error).__name__} {error}")
    return " ".join(text.split())[:120]
