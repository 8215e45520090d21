"""Alpaca discovery: whoever asks by UDP is told the port of the server."""

from __future__ import annotations

import json
import logging
import socket
import threading

from hardware.errors import CameraTransportError

LOG = logging.getLogger("darkpipe.capture")
DISCOVERY_PORT = 32227
QUESTION = b"alpacadiscovery1"
LONGEST_QUESTION = 64


class Responder:
    """Answers discovery in a thread of its own until `stop`.

    host : to listen at, the server's; port : of discovery, 0 for a free one, then in `port`; server_port : the answer.

    Raises
    ------
    CameraTransportError
        if another program has the port.
    """

    def __init__(self, host: str, port: int, server_port: int) -> None:
        self._answer = json.dumps({"AlpacaPort": server_port}).encode()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            do = "The camera answers all the same to whoever knows its address."
            where = f"{host}:{port}"
            raise CameraTransportError(f"cannot answer discovery: {error}", where=where, do=do) from None
        self.port: int = self._socket.getsockname()[1]
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="alpaca-discovery", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it. May be called twice."""
        if self._ended:
            return
        self._ended = True
        # an empty datagram to ourselves wakes the thread; closing a socket in use would not, everywhere
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as waker:
            host = self._socket.getsockname()[0]
            loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
            waker.sendto(b"", (loopback.get(host, host), self.port))
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        while not self._ended:
            try:
                question, sender = self._socket.recvfrom(LONGEST_QUESTION)
                if question.startswith(QUESTION):
                    self._socket.sendto(self._answer, sender)
            except OSError as error:  # a sender that is gone already; the next one may be there
                LOG.debug("discovery: %s", error)
