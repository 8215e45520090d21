"""Images as HTTP answers, whole or spoiled."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hardware.simulator import imagebytes
from hardware.simulator.faults import Faults
from hardware.simulator.protocol import DRIVER_ERROR, AlpacaError, Transaction

JSON = "application/json"
IMAGE_BYTES = "application/imagebytes"
CHUNK = 1 << 20
SLOW_STEPS = 100
UNKNOWN_TYPE = 42

Transports = Mapping[tuple[str, int], asyncio.Transport]


class BrokenResponse(Response):
    """No answer: the connection is closed."""

    def __init__(self, transports: Transports) -> None:
        super().__init__()
        self._transports = transports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await close_connection(scope, receive, self._transports)


async def close_connection(scope: Scope, receive: Receive, transports: Transports) -> None:
    """Close the line of this request and wait until it is closed."""
    transport = transports.get(tuple(scope["client"]))
    if transport is not None:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


class ImageResponse(Response):
    """An image in pieces, without copies of the whole.

    pieces : what is sent. promised : bytes that the header announces; more than there are: the line breaks at the end.
    slow_s : time it takes in all.
    """

    def __init__(
        self, pieces: list[memoryview], media_type: str, transports: Transports, promised: int, slow_s: float
    ) -> None:
        super().__init__(None, media_type=media_type)
        self._pieces, self._transports, self._promised, self._slow_s = pieces, transports, promised, slow_s
        self.headers["content-length"] = str(promised)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        total = sum(map(len, self._pieces))
        step = max(total // SLOW_STEPS, 1) if self._slow_s > 0 else CHUNK
        for piece in self._pieces:
            for start in range(0, len(piece), step):
                await send({"type": "http.response.body", "body": piece[start : start + step], "more_body": True})
                if self._slow_s > 0:
                    await asyncio.sleep(self._slow_s / SLOW_STEPS)
        if self._promised > total:
            await close_connection(scope, receive, self._transports)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def image_response(
    image: NDArray[np.uint16], transaction: Transaction, faults: Faults, transports: Transports, as_bytes: bool
) -> Response:
    """The answer to a download, with the faults that act on it.

    image : (width, height). as_bytes : the client takes ImageBytes; else it gets JSON.
    """
    if faults.acts("error_frame"):
        error = AlpacaError(DRIVER_ERROR, "the image was lost, as ordered")
        if as_bytes:
            return Response(imagebytes.error_frame(error, transaction), media_type=IMAGE_BYTES)
        return Response(transaction.answer({}, error), media_type=JSON)
    if faults.acts("wrong_dimensions"):
        image = image[:-1]
    swapped = faults.acts("swapped_dimensions") is not None
    odd_type = faults.acts("wrong_element_type")
    if as_bytes:
        wire_type = imagebytes.UINT16 if odd_type is None else int(odd_type.number(UNKNOWN_TYPE))
        shape = image.shape[::-1] if swapped else image.shape
        start = imagebytes.header(shape, transaction, wire_type=wire_type)
        pieces = [memoryview(start), imagebytes.as_type(image, wire_type)]
    else:
        told = np.ascontiguousarray(image.T) if swapped else image
        value_type = imagebytes.INT32 if odd_type is None else 3
        text = await asyncio.to_thread(imagebytes.as_json, told, transaction, value_type=value_type)
        pieces = [memoryview(text)]
    total = promised = sum(map(len, pieces))
    truncated = faults.acts("truncated_image")
    if truncated is not None:
        pieces = _first(pieces, total // 2)
        promised = total // 2 if truncated.number(0) == 1 else total
    slow = faults.acts("slow_image")
    media_type = IMAGE_BYTES if as_bytes else JSON
    return ImageResponse(pieces, media_type, transports, promised, 0.0 if slow is None else slow.number(30.0))


def _first(pieces: list[memoryview], size: int) -> list[memoryview]:
    kept = []
    for piece in pieces:
        kept.append(piece[:size])
        size -= len(kept[-1])
    return kept
