"""Which Alpaca cameras answer on this network. Whatever answers is a stranger: it is bounded in time and size, and what
makes no sense is skipped and said.
"""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ifaddr

from hardware.alpaca.calls import AlpacaCalls, management, said
from hardware.alpaca.http import HttpLine
from hardware.errors import CameraError, CameraTransportError

log = logging.getLogger("darkpipe.capture")

PORT = 32227
QUESTION = b"alpacadiscovery1"
LOOPBACK = "127.0.0.1"
REPEAT_S = 0.5  # datagrams get lost
MAX_SERVERS = 64
MAX_CAMERAS = 16


@dataclass(frozen=True)
class FoundCamera:
    """A camera that answered. address : 'host:port' of its server. unique_id, server : '' if it does not say."""

    address: str
    device_number: int
    name: str
    unique_id: str
    server: str

    def __str__(self) -> str:
        of = f" of {self.server}" if self.server else ""
        return f"{self.address} camera {self.device_number} '{self.name}'{of}"


def find_servers(timeout_s: float = 2.0, port: int = PORT, targets: Sequence[str] | None = None) -> list[str]:
    """Addresses 'host:port' of the Alpaca servers that answer in time, loopback first.

    targets : where to ask instead of loopback and the broadcast addresses of this machine.

    Raises
    ------
    CameraTransportError
        if nothing can be asked at all.
    """
    own = _own_addresses()
    wanted = list(targets) if targets is not None else [LOOPBACK, *own.values(), "255.255.255.255"]
    found: dict[str, None] = {}
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.bind(("", 0))
            sock.setblocking(False)
            _ask_and_listen(sock, dict.fromkeys(wanted), port, timeout_s, found)
    except OSError as error:
        raise CameraTransportError(f"servers cannot be looked for: {error}", do="Set camera.address") from error
    # a server of this machine answers once as loopback and once for each network
    local = {address for address in found if address.startswith(f"{LOOPBACK}:")}
    ports = {address.rpartition(":")[2] for address in local}
    others = [
        a for a in found if a not in local and not (a.rpartition(":")[0] in own and a.rpartition(":")[2] in ports)
    ]
    return sorted(local) + sorted(others)


def find_cameras(timeout_s: float = 2.0, port: int = PORT, targets: Sequence[str] | None = None) -> list[FoundCamera]:
    """The cameras of all servers that answer; arguments as of `find_servers`."""
    servers = find_servers(timeout_s, port, targets)
    if not servers:
        return []
    with ThreadPoolExecutor(min(len(servers), 16)) as pool:
        lists = list(pool.map(cameras_of, servers))
    cameras: dict[object, FoundCamera] = {}
    for camera in (camera for listed in lists for camera in listed):
        # loopback comes first, and a camera that is reached in two ways is one camera
        cameras.setdefault(camera.unique_id or (camera.address, camera.device_number), camera)
    return list(cameras.values())


def cameras_of(address: str) -> list[FoundCamera]:
    """The cameras of one server; [] if it has none, or its answers make no sense."""
    line = HttpLine(address)
    try:
        description, listed = management(line, "description"), management(line, "configureddevices")
        server = said(description.get("ServerName", ""))[:80] if isinstance(description, Mapping) else ""
        if listed is None:
            return _without_management(address, server)
        return list(_listed(listed, address, server))[:MAX_CAMERAS]
    except CameraError as error:
        log.warning("%s answered to the search, but cannot be asked for cameras: %s", address, error.what)
        return []
    finally:
        line.close()


def _ask_and_listen(
    sock: socket.socket, targets: Iterable[str], port: int, timeout_s: float, found: dict[str, None]
) -> None:
    end, ask_at = time.monotonic() + timeout_s, 0.0
    while (now := time.monotonic()) < end:
        if now >= ask_at:
            for target in targets:
                with contextlib.suppress(OSError):  # a network that is down is no reason not to ask the others
                    sock.sendto(QUESTION, (target, port))
            ask_at = now + REPEAT_S
        if not select.select([sock], [], [], max(min(end, ask_at) - now, 0.0))[0]:
            continue
        with contextlib.suppress(ConnectionError, BlockingIOError):  # nobody listens on some address
            answer, sender = sock.recvfrom(1024)
            address = _server_of(answer, sender[0])
            if address is not None and len(found) < MAX_SERVERS:
                found[address] = None


def _server_of(answer: bytes, host: str) -> str | None:
    try:
        told = json.loads(answer)
        port = {str(key).lower(): value for key, value in told.items()}["alpacaport"]
        if isinstance(port, bool) or not 0 < int(port) < 65536:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        log.warning("%s answers to the search with '%s', which is no port", host, said(repr(answer[:60])))
        return None
    return f"{host}:{int(port)}"


def _listed(listed: Any, address: str, server: str) -> Iterable[FoundCamera]:
    for device in listed if isinstance(listed, list) else []:
        if not isinstance(device, Mapping) or str(device.get("DeviceType", "")).lower() != "camera":
            continue
        number = device.get("DeviceNumber")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 32:
            log.warning("%s lists a camera with number '%s', which is skipped", address, said(number)[:40])
            continue
        name = said(device.get("DeviceName") or "")[:80]
        yield FoundCamera(address, number, name, said(device.get("UniqueID") or "")[:80], server)


def _without_management(address: str, server: str) -> list[FoundCamera]:
    """There are servers without /management: camera 0 is tried."""
    calls = AlpacaCalls(address, 0)
    try:
        return [FoundCamera(address, 0, calls.text("Name")[:80], "", server)]
    finally:
        calls.line.close()


def _own_addresses() -> dict[str, str]:
    """IPv4 addresses of this machine, each with the broadcast address of its network; loopback left out."""
    found: dict[str, str] = {}
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if ip.is_IPv4 and isinstance(ip.ip, str) and not ip.ip.startswith("127."):
                packed = int.from_bytes(socket.inet_aton(ip.ip), "big") | ((1 << (32 - ip.network_prefix)) - 1)
                found[ip.ip] = socket.inet_ntoa(packed.to_bytes(4, "big"))
    return found
