"""Requests to the simulated camera: addresses, parameters, answers, and the faults of server and line."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import re
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hardware.simulator import imagebytes
from hardware.simulator.image_response import IMAGE_BYTES, JSON, BrokenResponse, image_response
from hardware.simulator.members import DRIVER_VERSION, IMAGES, MEMBERS, NAME, Member
from hardware.simulator.model import CameraModel
from hardware.simulator.protocol import (
    DRIVER_ERROR,
    HIGHEST_ID,
    NOT_CONNECTED,
    NOT_IMPLEMENTED,
    AlpacaError,
    BadRequestError,
    Parameters,
    Transaction,
    not_implemented,
)

LOG = logging.getLogger("darkpipe.capture")
SERVER_NAME = "darkpipe simulator"
LONGEST_BODY = 64 * 1024
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::", "")
GARBAGE = b"<html><body>It works!</body></html>"


class Application:
    """The ASGI application of one camera.

    transports : open connections by (host, port) of the client; the server keeps it, faults break them.
    """

    def __init__(self, model: CameraModel, time_scale: float, host: str) -> None:
        self.model, self.time_scale, self.host = model, time_scale, host
        self.transports: dict[tuple[str, int], asyncio.Transport] = {}
        self._numbers = itertools.count()
        self._starlette: ASGIApp = Starlette(
            routes=[
                Route("/api/v1/camera/{number}/{member}", self._device, methods=["GET", "PUT"]),
                Route("/management/apiversions", self._management(lambda: [1])),
                Route("/management/v1/description", self._management(self._description)),
                Route("/management/v1/configureddevices", self._management(self._devices)),
                Route("/setup", self._setup),
                Route("/setup/v1/camera/0/setup", self._setup),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not self._for_us(Request(scope).headers.get("host", "")):
            # a page of some web site must not reach the camera under a name of its own
            answer = PlainTextResponse("this server does not go by that name", 400)
            await answer(scope, receive, send)
            return
        await self._starlette(scope, receive, send)

    def _for_us(self, host: str) -> bool:
        name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
        if name in LOOPBACK or name == self.host.lower():
            return True
        return self.host in ANY_ADDRESS and _is_ip_address(name)

    def _transaction(self, client: int) -> Transaction:
        return Transaction(client, next(self._numbers) % HIGHEST_ID + 1)

    # what does not belong to a device

    def _description(self) -> dict[str, Any]:
        return {
            "ServerName": SERVER_NAME,
            "Manufacturer": "darkpipe",
            "ManufacturerVersion": DRIVER_VERSION,
            "Location": "in this computer",
            "TimeScale": float(self.time_scale),
        }

    def _devices(self) -> list[dict[str, Any]]:
        unique_id = f"darkpipe-simulator-{self.model.sensor.spec.seed}"
        return [{"DeviceName": NAME, "DeviceType": "Camera", "DeviceNumber": 0, "UniqueID": unique_id}]

    def _management(self, value: Callable[[], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                given = Parameters(request.scope["query_string"], any_case=True)
            except BadRequestError as error:
                return PlainTextResponse(error.message, error.status)
            transaction = self._transaction(given.client_transaction_id)
            return Response(transaction.answer({"Value": value()}), media_type=JSON)

        return answer

    async def _setup(self, request: Request) -> Response:
        faults = ", ".join(self.model.faults.active) or "none"
        return HTMLResponse(
            f"<!doctype html><title>{SERVER_NAME}</title><h1>{NAME}</h1>"
            f"<p>Clock: {self.time_scale:g} times as fast. Faults: {faults}. Settings are given at its start.</p>"
        )

    # the camera

    async def _device(self, request: Request) -> Response:
        name = request.path_params["member"]
        try:
            member = _find(request.path_params["number"], name, request.method)
            if request.method == "PUT":
                given = Parameters(await _body(request), any_case=False)
            else:
                given = Parameters(request.scope["query_string"], any_case=True)
            transaction = self._transaction(given.client_transaction_id)
            return await self._misbehave(request, name) or await self._answer(request, name, member, given, transaction)
        except BadRequestError as error:
            return PlainTextResponse(error.message, error.status)

    async def _misbehave(self, request: Request, name: str) -> Response | None:
        """Faults of the server and the line, before anything is done."""
        faults = self.model.faults
        if faults.acts("hang", name):
            while (await request.receive())["type"] != "http.disconnect":
                pass
            return BrokenResponse(self.transports)
        if faults.acts("drop", name):
            return BrokenResponse(self.transports)
        slow = faults.acts("slow_call", name)
        if slow is not None:
            await asyncio.sleep(slow.number(2.0))
        return None

    async def _answer(
        self, request: Request, name: str, member: Member, given: Parameters, transaction: Transaction
    ) -> Response:
        faults = self.model.faults
        try:
            value = self._do(request.method, name, member, given)
        except AlpacaError as error:
            if error.number == NOT_IMPLEMENTED and faults.acts("not_implemented_400", name):
                raise BadRequestError(error.message) from None
            if name in IMAGES and _wants_bytes(request):
                return Response(imagebytes.error_frame(error, transaction), media_type=IMAGE_BYTES)
            return Response(transaction.answer({}, error), media_type=JSON)
        if request.method == "PUT" and faults.acts("lost_answer", name):
            return BrokenResponse(self.transports)
        if faults.acts("garbage", name):
            return Response(GARBAGE, media_type=JSON)
        if name in IMAGES:
            return await image_response(value, transaction, faults, self.transports, _wants_bytes(request))
        has_value = request.method != "PUT" or name == "action"
        return Response(transaction.answer({"Value": value} if has_value else {}), media_type=JSON)

    def _do(self, method: str, name: str, member: Member, given: Parameters) -> Any:
        """What the member does. Raises `AlpacaError`, `BadRequestError`."""
        model, faults = self.model, self.model.faults
        with model.lock:
            if faults.acts("not_implemented", name):
                raise not_implemented(name)
            if faults.acts("driver_error", name):
                raise AlpacaError(DRIVER_ERROR, "the driver has failed, as ordered")
            if not (model.connected or member.offline):
                raise AlpacaError(NOT_CONNECTED, "the camera is not connected")
            try:
                model.update()
                if method == "PUT":
                    return member.call_put(model, given)
                assert member.get is not None
                return member.get(model)
            except (AlpacaError, BadRequestError):
                raise
            except Exception as error:  # a bug here must look like one of a driver, and be seen
                LOG.exception("the simulator failed at %s", name)
                raise AlpacaError(DRIVER_ERROR + 1, f"{type(error).__name__}: {error}") from None


def _find(number: str, name: str, method: str) -> Member:
    """The member, by its address. Raises `BadRequestError`."""
    if number != "0":
        raise BadRequestError(f"there is no camera {number}, only camera 0")
    member = MEMBERS.get(name)
    if member is None:
        raise BadRequestError(f"a camera has no member '{name}' (all lower case)", 404)
    if (member.put if method == "PUT" else member.get) is None:
        raise BadRequestError(f"{name} cannot be asked by {method}", 405)
    return member


async def _body(request: Request) -> bytes:
    """The body, if it is not too long. Raises `BadRequestError`."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise BadRequestError(f"a request is at most {LONGEST_BODY} bytes long", 413)
    return body


def _wants_bytes(request: Request) -> bool:
    return IMAGE_BYTES in request.headers.get("accept", "").lower()


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
