"""The simulated camera as an ASCOM Alpaca server over HTTP, in a thread of this process."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hardware.clock import Clock, ScaledClock, SystemClock
from hardware.errors import CameraTransportError, CameraValueError
from hardware.simulator.application import Application
from hardware.simulator.cooler import Cooler
from hardware.simulator.faults import Fault, Faults
from hardware.simulator.model import CameraModel
from hardware.simulator.responder import Responder
from hardware.simulator.sensor import Sensor, SensorSpec

LOG = logging.getLogger("darkpipe.capture")
START_S = 20.0
STOP_S = 10.0
KEEP_ALIVE_S = 60
HIGHEST_PORT = 65535


class SimulatorServer:
    """A camera that answers at `address`, until `stop`; a context manager.

    spec : of the sensor. time_scale : speed of the camera's clock. clock : in place of one of that speed. host, port :
    to listen at; port 0 takes a free one. discovery_port : answers discovery there (32227 is usual); None: does not.
    cooler : makes the cooler from the clock. has_cooler : False for a camera whose sensor is as warm as its
    surroundings. faults : switched on from the start.

    `faults`, `sensor`, `cooler` and `model` may be used from any thread while it runs.

    Raises
    ------
    CameraTransportError
        if the address cannot be listened at.
    CameraValueError
        for a time scale that is none.
    """

    def __init__(
        self,
        spec: SensorSpec | None = None,
        *,
        time_scale: float = 1.0,
        clock: Clock | None = None,
        cooler: Callable[[Clock], Cooler] = Cooler,
        has_cooler: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        discovery_port: int | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        try:
            self.clock = clock or (SystemClock() if time_scale == 1 else ScaledClock(time_scale))
        except ValueError as error:
            raise CameraValueError(str(error)) from None
        self.time_scale = time_scale
        self.faults = Faults()
        for fault in faults:
            self.faults.arm(fault)
        self.sensor = Sensor(spec or SensorSpec())
        self.cooler = cooler(self.clock)
        self.model = CameraModel(self.sensor, self.cooler, self.clock, self.faults, has_cooler=has_cooler)
        self._socket = _listen(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        self._application = Application(self.model, time_scale, host)
        self._server = _Server(self._application)
        self._thread = threading.Thread(target=self._run, name="alpaca-simulator", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(START_S) or not self._thread.is_alive():
            self.stop()
            raise CameraTransportError("the simulator did not start", where=self.address)
        self._responder = self._answer_discovery(discovery_port)

    @property
    def address(self) -> str:
        """'127.0.0.1:11111', as a driver wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def restart(self) -> None:
        """The camera loses its power for a moment; the server goes on."""
        self.model.restart()

    def stop(self) -> None:
        """End it: connections are closed, whatever they are waiting for. May be called twice."""
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._socket.close()
        responder = getattr(self, "_responder", None)
        if responder is not None:
            responder.stop()
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.ready.set()

    def _answer_discovery(self, port: int | None) -> Responder | None:
        if port is None:
            return None
        try:
            return Responder(self.host, port, self.port)
        except CameraTransportError as error:
            LOG.warning("%s", error)
            return None


class _Server(uvicorn.Server):
    """A uvicorn that says when it listens, and leaves no connection waiting when it ends."""

    def __init__(self, application: Application) -> None:
        protocol = _protocol(application)
        super().__init__(
            uvicorn.Config(
                application,
                http=protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # our own log has what matters; broken connections are ordered here
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=2,
                limit_concurrency=200,
            )
        )
        self.ready = threading.Event()
        self._application = application

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for transport in list(self._application.transports.values()):
            transport.abort()
        await super().shutdown(sockets=sockets)


def _protocol(application: Application) -> type[asyncio.Protocol]:
    """HTTP connections that the application can find by the client's address, to break them when a fault says so."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._peer = transport.get_extra_info("peername")[:2]
            application.transports[self._peer] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            application.transports.pop(self._peer, None)
            super().connection_lost(exc)

    return Protocol


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `CameraTransportError` if the address is taken, or not of this machine."""
    if not 0 <= port <= HIGHEST_PORT:
        raise CameraTransportError(f"there is no port {port}", where=f"{host}:{port}")
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise CameraTransportError(f"cannot listen: {error}", where=f"{host}:{port}") from None
    try:
        if sys.platform != "win32":  # there it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        do = "Take another port, or end the program that has it."
        raise CameraTransportError(f"cannot listen: {error}", where=f"{host}:{port}", do=do) from None
    return listener
