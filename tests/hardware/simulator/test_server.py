"""The server as a thing that is started, spoken to, and stopped."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import requests
from raw_alpaca import IMAGE_BYTES, RawCamera, wait_for

from hardware.errors import CameraTransportError, CameraValueError
from hardware.simulator.cooler import Cooler
from hardware.simulator.faults import Fault
from hardware.simulator.responder import Responder
from hardware.simulator.sensor import Sensor, SensorSpec
from hardware.simulator.server import SimulatorServer

SMALL = SensorSpec(rows=40, cols=60, readout_s=0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(SMALL, time_scale=20, discovery_port=0) as running:
        yield running


class TestLife:
    def test_it_listens_on_loopback_alone(self, server: SimulatorServer) -> None:
        assert server.address == f"127.0.0.1:{server.port}"

    def test_two_at_once(self, server: SimulatorServer) -> None:
        with SimulatorServer(SMALL) as other:
            assert other.port != server.port
            assert requests.get(f"http://{other.address}/management/apiversions", timeout=5).json()["Value"] == [1]

    def test_a_port_that_is_taken_is_said(self, server: SimulatorServer) -> None:
        with pytest.raises(CameraTransportError, match=f"cannot listen.*{server.port}"):
            SimulatorServer(SMALL, port=server.port)

    @pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 99999), ("127.0.0.1", -1), ("203.0.113.1", 0)])
    def test_an_address_that_is_none_is_said(self, host: str, port: int) -> None:
        with pytest.raises(CameraTransportError, match=r"port|listen"):
            SimulatorServer(SMALL, host=host, port=port)

    @pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
    def test_a_clock_that_cannot_run_is_said(self, scale: float) -> None:
        with pytest.raises(CameraValueError, match="clock"):
            SimulatorServer(SMALL, time_scale=scale)

    def test_nothing_listens_after_stop(self) -> None:
        server = SimulatorServer(SMALL)
        server.stop()
        server.stop()
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(f"http://{server.address}/management/apiversions", timeout=5)
        with SimulatorServer(SMALL, port=server.port) as again:
            assert again.port == server.port

    def test_stop_ends_calls_that_hang_and_connections_that_idle(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fault = Fault("hang", "gain")
            server = SimulatorServer(SMALL, faults=[fault])
            idle = socket.create_connection((server.host, server.port), timeout=5)
            outcome: list[BaseException] = []

            def ask() -> None:
                try:
                    requests.get(f"http://{server.address}/api/v1/camera/0/gain", timeout=30)
                except requests.exceptions.RequestException as error:
                    outcome.append(error)

            caller = threading.Thread(target=ask)
            caller.start()
            wait_for(lambda: fault.seen == 1)
            server.stop()
            caller.join(10)
            idle.close()
        assert not caller.is_alive()
        assert isinstance(outcome[0], requests.exceptions.ConnectionError)

    def test_stop_in_the_middle_of_an_exposure(self) -> None:
        with SimulatorServer(SMALL) as server, RawCamera(server.address) as camera:
            camera.connect()
            camera.write("startexposure", Duration=1000, Light="false")
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(f"http://{server.address}/management/apiversions", timeout=5)


class TestIdentity:
    def test_it_says_that_it_is_a_simulator_and_how_fast(self, server: SimulatorServer) -> None:
        told = requests.get(f"http://{server.address}/management/v1/description", timeout=5).json()["Value"]
        assert told["ServerName"] == "darkpipe simulator"
        assert told["TimeScale"] == 20

    def test_setup_pages(self, server: SimulatorServer) -> None:
        for page in ("setup", "setup/v1/camera/0/setup"):
            assert "darkpipe" in requests.get(f"http://{server.address}/{page}", timeout=5).text


class TestSafety:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "10.0.0.1"])
    def test_other_names_are_refused(self, server: SimulatorServer, host: str) -> None:
        answer = requests.get(f"http://{server.address}/management/apiversions", headers={"Host": host}, timeout=5)
        assert answer.status_code == 400

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:11111", "127.0.0.1", "[::1]:11111"])
    def test_names_of_loopback_are_taken(self, server: SimulatorServer, host: str) -> None:
        answer = requests.get(f"http://{server.address}/management/apiversions", headers={"Host": host}, timeout=5)
        assert answer.status_code == 200

    def test_on_all_addresses_numbers_are_taken_and_names_are_not(self) -> None:
        with SimulatorServer(SMALL, host="0.0.0.0") as server:
            ask = f"http://127.0.0.1:{server.port}/management/apiversions"
            assert requests.get(ask, headers={"Host": "192.0.2.7:11111"}, timeout=5).status_code == 200
            assert requests.get(ask, headers={"Host": "evil.example"}, timeout=5).status_code == 400

    def test_long_bodies_are_refused(self, camera: RawCamera) -> None:
        assert camera.put("gain", Gain="1" * 100_000).status_code == 413
        assert camera.put("gain", **{f"P{i}": "1" for i in range(200)}).status_code == 400
        assert camera.value("gain") == 100

    @pytest.mark.parametrize("body", [b"\xff\xfe=1", b"Gain=%ff%fe", b"{}", b"&&&=", b""])
    def test_bodies_that_are_no_form(self, camera: RawCamera, body: bytes) -> None:
        assert camera.session.put(camera.base + "gain", data=body, timeout=5).status_code == 400

    @pytest.mark.parametrize("line", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\x00" * 100_000])
    def test_what_is_no_http_is_refused(self, server: SimulatorServer, camera: RawCamera, line: bytes) -> None:
        with socket.create_connection((server.host, server.port), timeout=5) as raw:
            raw.sendall(line)
            assert b"400" in raw.recv(1000)
        assert camera.value("gain") == 100

    def test_many_clients_at_once(self, server: SimulatorServer, camera: RawCamera) -> None:
        wrong: list[str] = []

        def ask(client: int) -> None:
            with requests.Session() as session:
                for number in range(25):
                    ids = {"ClientTransactionID": client * 1000 + number}
                    told = session.get(camera.base + "gain", params=ids, timeout=10).json()
                    if told["ClientTransactionID"] != ids["ClientTransactionID"] or told["Value"] != 100:
                        wrong.append(str(told))

        clients = [threading.Thread(target=ask, args=(client,)) for client in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(30)
        assert wrong == []


class TestPhysics:
    def test_images_are_those_of_the_sensor(self, server: SimulatorServer, camera: RawCamera) -> None:
        number = server.model.next_frame_number
        camera.expose(2.0)
        expected = Sensor(SMALL).dark_frame(2.0, 20.0, number)
        np.testing.assert_array_equal(camera.image(), expected)

    def test_settings_reach_the_sensor(self, server: SimulatorServer, camera: RawCamera) -> None:
        for member, name, value in (("gain", "Gain", 200), ("offset", "Offset", 70), ("binx", "BinX", 2)):
            camera.write(member, **{name: value})
        camera.write("numx", NumX=30)
        camera.write("numy", NumY=20)
        number = server.model.next_frame_number
        camera.expose(2.0)
        expected = Sensor(SMALL).dark_frame(2.0, 20.0, number, binning=2, gain=200, offset=70)
        np.testing.assert_array_equal(camera.image(), expected)

    def test_settings_of_the_start_count(self, server: SimulatorServer, camera: RawCamera) -> None:
        number = server.model.next_frame_number
        camera.write("startexposure", Duration=2, Light="False")
        camera.write("gain", Gain=200)
        wait_for(lambda: camera.value("imageready"))
        np.testing.assert_array_equal(camera.image(), Sensor(SMALL).dark_frame(2.0, 20.0, number))

    def test_no_two_images_are_the_same(self, camera: RawCamera) -> None:
        camera.expose(0.1)
        first = camera.image()
        camera.expose(0.1)
        assert not np.array_equal(camera.image(), first)

    def test_light_is_found_out(self, server: SimulatorServer, camera: RawCamera) -> None:
        asked = server.model.light_frames
        camera.expose(0.001)
        dark = float(np.median(camera.image()))
        assert server.model.light_frames == asked
        camera.expose(0.001, light=True)
        assert np.median(camera.image()) > dark + 500
        assert server.model.light_frames == asked + 1

    def test_dark_follows_the_temperature(self) -> None:
        cold = SensorSpec(rows=40, cols=60, readout_s=0.0)
        with (
            SimulatorServer(cold, time_scale=500, cooler=lambda clock: Cooler(clock, ambient_c=30)) as server,
            RawCamera(server.address) as camera,
        ):
            camera.connect()
            camera.expose(10)
            warm = camera.image()
            camera.write("setccdtemperature", SetCCDTemperature=-5)
            camera.write("cooleron", CoolerOn="true")
            wait_for(lambda: abs(camera.value("ccdtemperature") + 5) < 0.01)
            camera.expose(10)
            expected = np.median(server.sensor.bias_adu() + server.sensor.expected_dark_adu(10, -5))
            assert np.median(camera.image()) == pytest.approx(expected, abs=1.5)
            assert np.median(warm) > expected + 50

    def test_the_clock_runs_faster(self, server: SimulatorServer, camera: RawCamera) -> None:
        camera.expose(20.0)  # one real second
        assert camera.value("lastexposureduration") == 20.0

    def test_exposures_are_rounded_to_the_resolution(self) -> None:
        spec = SensorSpec(rows=8, cols=8, exposure_min_s=0.01, exposure_resolution_s=0.01, readout_s=0)
        with SimulatorServer(spec, time_scale=50) as server, RawCamera(server.address) as camera:
            camera.connect()
            camera.expose(0.124)
            assert camera.value("lastexposureduration") == pytest.approx(0.12)

    def test_the_fast_mode_reads_faster(self) -> None:
        spec = SensorSpec(rows=8, cols=8, readout_s=1000.0)
        with SimulatorServer(spec, time_scale=5000) as server, RawCamera(server.address) as camera:
            camera.connect()
            taken = []
            for mode in (0, 1):
                camera.write("readoutmode", ReadoutMode=mode)
                begun = server.clock.monotonic_s()
                camera.expose(0.1)
                taken.append(server.clock.monotonic_s() - begun)
            assert taken[0] >= 1000 > taken[1] >= 250

    def test_a_read_out_that_fails_is_an_error_of_the_camera(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **named: object) -> None:
            raise MemoryError("no room")

        with SimulatorServer(SMALL, time_scale=20) as server, RawCamera(server.address) as camera:
            monkeypatch.setattr(server.sensor, "dark_frame", fail)
            camera.connect()
            camera.write("startexposure", Duration=0.1, Light="false")
            wait_for(lambda: camera.value("camerastate") == 5)
            answer = camera.get("imageready").json()
            assert answer["ErrorNumber"] == 0x500
            assert "no room" in answer["ErrorMessage"]


def test_large_images_arrive_whole() -> None:
    spec = SensorSpec(rows=1500, cols=2100, readout_s=0.0)
    with SimulatorServer(spec, time_scale=50) as server, RawCamera(server.address) as camera:
        camera.connect()
        camera.expose(0.1)
        pixels = camera.image()
        assert pixels.shape == (1500, 2100)
        np.testing.assert_array_equal(pixels, server.sensor.dark_frame(0.1, 20.0, 0))


def test_a_client_that_leaves_in_the_middle_of_an_image() -> None:
    spec = SensorSpec(rows=1500, cols=2100, readout_s=0.0)
    with SimulatorServer(spec, time_scale=50) as server, RawCamera(server.address) as camera:
        camera.connect()
        camera.expose(0.1)
        for _ in range(3):
            connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
            connection.request("GET", "/api/v1/camera/0/imagearray", headers=IMAGE_BYTES)
            assert len(connection.getresponse().read(1000)) == 1000
            connection.close()
        assert camera.image().shape == (1500, 2100)


class TestDiscovery:
    def ask(self, port: int, question: bytes) -> bytes | None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.3)
            asker.sendto(question, ("127.0.0.1", port))
            try:
                return asker.recv(100)
            except TimeoutError:
                return None

    def test_the_port_is_told(self) -> None:
        responder = Responder("127.0.0.1", 0, 4567)
        try:
            assert json.loads(self.ask(responder.port, b"alpacadiscovery1") or b"") == {"AlpacaPort": 4567}
            assert self.ask(responder.port, b"hello") is None
            assert self.ask(responder.port, b"") is None
            assert self.ask(responder.port, b"alpacadiscovery1" + b"x" * 2000) is not None
        finally:
            responder.stop()
            responder.stop()

    def test_a_busy_port_is_said_and_not_fatal(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            with SimulatorServer(SMALL, discovery_port=other.getsockname()[1]) as server:
                assert requests.get(f"http://{server.address}/management/apiversions", timeout=5).ok
        assert "cannot answer discovery" in caplog.text
