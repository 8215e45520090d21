"""A proxy for HTTP with the faults of a bad line, between a driver and a server that knows nothing of them."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

DRIP_BYTES = 1


@dataclass
class LineFault:
    """What happens to requests whose first line contains `match`.

    kind : 'drop' closes without forwarding; 'lose' forwards, then closes without the answer; 'hang' forwards
    nothing and waits; 'cut' sends half of the answer; 'drip' sends it byte by byte, `seconds` apart. times : so often.
    """

    match: str
    kind: Literal["drop", "lose", "hang", "cut", "drip"]
    times: int = 1
    seconds: float = 0.05


class AlpacaProxy:
    """Forwards to `upstream` ('host:port') from `address`. seen : first lines of the requests, as they came."""

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self.faults: list[LineFault] = []
        self.seen: list[str] = []
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._listens = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listens.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        clients: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            clients.add(task)
            try:
                await self._client(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                clients.discard(task)
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listens.set()
        await self._end.wait()
        server.close()
        for task in list(clients):
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            request = head + await reader.readexactly(_length(head))
            line = head.split(b"\r\n", 1)[0].decode()
            self.seen.append(line)
            fault = self._fault(line)
            kind = fault.kind if fault is not None else None
            if kind == "hang":
                await self._end.wait()
            if kind == "drop":
                return
            answer = await self._forward(request)
            if kind == "lose":
                return
            if fault is not None and kind == "drip":
                for start in range(0, len(answer), DRIP_BYTES):
                    writer.write(answer[start : start + DRIP_BYTES])
                    await writer.drain()
                    await asyncio.sleep(fault.seconds)
                return
            writer.write(answer[: len(answer) // 2] if kind == "cut" else answer)
            await writer.drain()
            if kind == "cut":
                return

    async def _forward(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.readexactly(_length(head))
        finally:
            writer.close()

    def _fault(self, line: str) -> LineFault | None:
        for fault in self.faults:
            if fault.match in line and fault.times > 0:
                fault.times -= 1
                return fault
        return None


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
