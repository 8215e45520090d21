"""Looking for cameras, among answers of any kind."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator

import pytest
from canned_alpaca import CannedAlpaca, Http

from hardware import discovery
from hardware.discovery import cameras_of, find_cameras, find_servers
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

HERE = ("127.0.0.1",)


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A responder that sends all of these to whoever asks; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(0.05)
        ended = threading.Event()
        asked: list[bytes] = []

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    question, sender = sock.recvfrom(100)
                    asked.append(question)
                    for answer in answers:
                        sock.sendto(answer, sender)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            ended.set()
            thread.join()
        assert set(asked) == {b"alpacadiscovery1"}


def port_of(server: CannedAlpaca) -> int:
    return int(server.address.rpartition(":")[2])


def test_servers_are_found_once_each() -> None:
    answers = (b'{"AlpacaPort": 11111}', b'{"AlpacaPort":11112}', b'{"alpacaport": 11111}', b'{"AlpacaPort": "11113"}')
    with answering(*answers) as port:
        found = find_servers(0.8, port, HERE)
    assert found == ["127.0.0.1:11111", "127.0.0.1:11112", "127.0.0.1:11113"]


@pytest.mark.parametrize(
    "answer",
    [b"", b"{", b"[]", b"5", b"{}", b"null", b'{"AlpacaPort": null}', b'{"AlpacaPort": true}', b'{"AlpacaPort": 0}',
     b'{"AlpacaPort": 65536}', b'{"AlpacaPort": -1}', b'{"AlpacaPort": [1]}', b'{"AlpacaPort": 1e999}', b"\xff\xfe\x00",
     b'{"AlpacaPort": "80/../x"}', b"[" * 1000, b'{"AlpacaPort": NaN}'],
)  # fmt: skip
def test_nonsense_is_skipped_and_said(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with answering(answer, b'{"AlpacaPort": 11111}') as port, caplog.at_level(logging.WARNING, "darkpipe.capture"):
        assert find_servers(0.3, port, HERE) == ["127.0.0.1:11111"]
    assert "127.0.0.1" in caplog.text


def test_a_flood_is_bounded() -> None:
    flood = [b'{"AlpacaPort": %d}' % (20000 + n) for n in range(3 * discovery.MAX_SERVERS)]
    with answering(*flood) as port:
        assert len(find_servers(0.3, port, HERE)) <= discovery.MAX_SERVERS


def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert find_servers(0.2, port, (*HERE, "no such host", "127.0.0.2")) == []
        assert find_cameras(0.2, port, HERE) == []


def test_the_camera_of_a_server() -> None:
    with CannedAlpaca() as server, answering(b'{"AlpacaPort": %d}' % port_of(server)) as port:
        (camera,) = find_cameras(0.3, port, HERE)
    assert camera.address == server.address
    assert (camera.device_number, camera.name, camera.unique_id) == (0, "Canned camera", "canned-1")
    assert camera.server == "canned"
    assert server.address in str(camera)


def test_our_simulator_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with SimulatorServer(SensorSpec(rows=16, cols=16), discovery_port=port) as server:
        (camera,) = find_cameras(0.5, port, HERE)
    assert camera.address == server.address
    assert camera.server == "darkpipe simulator"


def test_one_camera_behind_two_servers_is_one() -> None:
    with CannedAlpaca() as one, CannedAlpaca() as two:
        answers = [b'{"AlpacaPort": %d}' % port_of(server) for server in (one, two)]
        with answering(*answers) as port:
            assert len(find_cameras(0.3, port, HERE)) == 1
            two.management["configureddevices"] = [
                {"DeviceType": "camera", "DeviceNumber": number, "DeviceName": "", "UniqueID": ""} for number in (0, 4)
            ]
            assert len(find_cameras(0.3, port, HERE)) == 3


@pytest.mark.parametrize(
    "listed",
    [[], {}, "x", 5, [None], [{"DeviceType": "Telescope", "DeviceNumber": 0}], [{"DeviceType": "Camera"}],
     [{"DeviceType": "Camera", "DeviceNumber": -1}], [{"DeviceType": "Camera", "DeviceNumber": "0; rm"}],
     [{"DeviceType": None, "DeviceNumber": 0}], [{"DeviceType": "Camera", "DeviceNumber": True}]],
)  # fmt: skip
def test_a_server_without_a_camera_that_makes_sense(listed: object) -> None:
    with CannedAlpaca() as server:
        server.management["configureddevices"] = listed
        assert cameras_of(server.address) == []


def test_a_server_without_management_is_tried() -> None:
    with CannedAlpaca() as server:
        server.management.clear()
        (camera,) = cameras_of(server.address)
        assert (camera.device_number, camera.name) == (0, "Canned camera")

        def gone() -> None:
            raise Http(404)

        server.members["name"] = gone
        assert cameras_of(server.address) == []


def test_a_server_that_is_none_is_skipped_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with CannedAlpaca() as gone:
        address = gone.address
    with caplog.at_level(logging.WARNING, "darkpipe.capture"):
        assert cameras_of(address) == []
    assert address in caplog.text
