"""Exposures: the driver against cameras and lines that misbehave."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler
from itertools import pairwise

import numpy as np
import pytest
from alpaca_proxy import AlpacaProxy, LineFault
from canned_alpaca import COLS, ROWS, CannedAlpaca, encoded_image, image_bytes
from opened_cameras import answering, connected

from hardware.clock import ScaledClock, SystemClock
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraProtocolError,
    CameraTimeoutError,
    CameraTransportError,
    CameraValueError,
)
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer


class TestExposing:
    def test_pixels_stand_where_they_were(self, server: CannedAlpaca) -> None:
        pixels = connected(server.address).expose_dark(0.01).pixels
        np.testing.assert_array_equal(pixels, encoded_image().T)
        assert pixels[2, 9] == 902

    def test_it_asks_for_a_dark(self, server: CannedAlpaca) -> None:
        connected(server.address).expose_dark(0.25)
        form = dict(server.puts)["startexposure"]
        assert form["Light"] == "False"
        assert float(form["Duration"]) == 0.25

    def test_json_where_there_is_nothing_else(self, server: CannedAlpaca) -> None:
        body = json.dumps({"ErrorNumber": 0, "ErrorMessage": "", "Value": encoded_image().tolist()}).encode()
        server.raw["GET", "imagearray"] = answering(body)
        np.testing.assert_array_equal(connected(server.address).expose_dark(0.0).pixels, encoded_image().T)

    def test_json_after_image_bytes_were_refused(self, server: CannedAlpaca) -> None:
        body = json.dumps({"ErrorNumber": 0, "ErrorMessage": "", "Value": encoded_image().tolist()}).encode()

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if "imagebytes" in handler.headers["Accept"]:
                handler.send_response(406)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            else:
                answering(body)(handler)

        server.raw["GET", "imagearray"] = answer
        np.testing.assert_array_equal(connected(server.address).expose_dark(0.0).pixels, encoded_image().T)

    @pytest.mark.parametrize("said", [0, float("nan"), None, -1])
    def test_a_duration_that_is_none_is_not_believed(self, server: CannedAlpaca, said: object) -> None:
        server.members["lastexposureduration"] = said
        assert connected(server.address).expose_dark(0.1).exposure_s == 0.1

    def test_the_duration_of_the_camera_counts(self, server: CannedAlpaca) -> None:
        server.members["lastexposureduration"] = 0.1013
        assert connected(server.address).expose_dark(0.1).exposure_s == 0.1013

    def test_a_duration_that_never_changes_is_not_believed(self, server: CannedAlpaca) -> None:
        server.members["lastexposureduration"] = 3.0
        assert connected(server.address).expose_dark(0.1).exposure_s == 0.1

    def test_an_exposure_of_another_length_is_refused(self, server: CannedAlpaca) -> None:
        server.members["lastexposureduration"] = lambda: 5.0 if server.exposures else 1.0
        with pytest.raises(CameraDriverError, match=r"0\.1 s were asked for.*5 s"):
            connected(server.address).expose_dark(0.1)

    def test_a_state_that_stays_at_download(self, server: CannedAlpaca) -> None:
        server.members["camerastate"] = 4
        camera = connected(server.address)
        assert camera.is_idle()
        assert camera.expose_dark(0.05).pixels.shape == (ROWS, COLS)

    def test_the_image_before_is_not_taken(self, server: CannedAlpaca) -> None:
        """ImageReady speaks of the old frame for a while after the start, and so do the bytes."""
        camera = connected(server.address)
        camera.expose_dark(0.0)
        new = image_bytes(encoded_image() + np.uint16(1))

        def begin(form: dict[str, str]) -> None:
            server.begin(form)
            server.ready_at = time.monotonic() + 0.4
            began.append(time.monotonic())

        def ready() -> bool:
            age = time.monotonic() - began[-1]
            if began[-1] and age > 0.4:
                server.image = new
            return age < 0.2 or age > 0.4

        began = [0.0]
        server.on_put["startexposure"] = begin
        server.members |= {"imageready": ready, "camerastate": 0}
        np.testing.assert_array_equal(camera.expose_dark(0.01).pixels, encoded_image().T + 1)

    @pytest.mark.usefixtures("short_deadlines")
    def test_an_image_that_was_always_ready_is_not_taken(self, server: CannedAlpaca) -> None:
        server.members |= {"imageready": True, "camerastate": 0, "lastexposurestarttime": "2025-01-01T00:00:00"}
        camera = connected(server.address, readout_timeout_s=0.8)
        with pytest.raises(CameraTimeoutError, match="never left"):
            camera.expose_dark(0.01)

    @pytest.mark.usefixtures("short_deadlines")
    def test_an_image_that_never_comes(self, server: CannedAlpaca) -> None:
        server.members |= {"imageready": False, "camerastate": 4}
        camera = connected(server.address, readout_timeout_s=0.4)
        with pytest.raises(CameraTimeoutError, match="no image"):
            camera.expose_dark(0.01)

    @pytest.mark.usefixtures("short_deadlines")
    def test_an_exposure_that_is_gone(self, server: CannedAlpaca) -> None:
        server.members |= {"imageready": False, "camerastate": 0}
        camera = connected(server.address)
        with pytest.raises(CameraDriverError, match="gone"):
            camera.expose_dark(0.01)

    def test_an_error_state(self, server: CannedAlpaca) -> None:
        server.members["camerastate"] = lambda: 5 if server.exposures else 0
        camera = connected(server.address)
        with pytest.raises(CameraDriverError, match="error state"):
            camera.expose_dark(0.05)

    def test_a_state_of_no_meaning(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.members["camerastate"] = 77
        with pytest.raises(CameraProtocolError, match="CameraState"):
            camera.expose_dark(0.05)

    def test_a_camera_that_somebody_else_uses(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.begin({"Duration": "30"})
        with pytest.raises(CameraBusyError, match="already"):
            camera.expose_dark(0.05)
        assert server.ready_at > time.monotonic(), "the exposure of the other one goes on"

    def test_a_failed_download_stops_nothing_of_the_next(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        good, server.image = server.image, image_bytes(encoded_image().T.copy())
        with pytest.raises(CameraProtocolError, match="swapped"):
            camera.expose_dark(0.01)
        server.image = good
        assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)

    def test_frames_after_each_other_are_each_started_once(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        exposures = [camera.expose_dark(0.005) for _ in range(5)]
        assert server.exposures == 5
        assert all(a.ended <= b.started for a, b in pairwise(exposures))


@pytest.mark.usefixtures("short_deadlines")
class TestLine:
    @pytest.mark.parametrize("member", ["ccdtemperature", "camerastate", "imageready", "lastexposureduration"])
    def test_a_property_is_asked_again_after_a_drop(
        self, server: CannedAlpaca, proxy: AlpacaProxy, member: str
    ) -> None:
        camera = connected(proxy.address)
        for kind in ("drop", "lose", "cut"):
            proxy.faults.append(LineFault(f"/{member}", kind))  # type: ignore[arg-type]
            camera.temperature_c()
            assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)
        assert not any(fault.times for fault in proxy.faults), "every fault has acted"

    def test_but_once_only(self, server: CannedAlpaca, proxy: AlpacaProxy) -> None:
        camera = connected(proxy.address)
        proxy.faults.append(LineFault("/ccdtemperature", "drop", times=5))
        before = len(proxy.seen)
        with pytest.raises(CameraTransportError):
            camera.temperature_c()
        assert len(proxy.seen) - before == 2
        proxy.faults.clear()
        assert camera.temperature_c() == -10.0

    def test_an_exposure_whose_confirmation_is_lost_is_not_started_twice(
        self, server: CannedAlpaca, proxy: AlpacaProxy
    ) -> None:
        camera = connected(proxy.address)
        for seconds in (0.0, 0.4):
            proxy.faults.append(LineFault("/startexposure", "lose"))
            assert camera.expose_dark(seconds).pixels.shape == (ROWS, COLS)
        assert server.exposures == 2

    def test_an_exposure_that_was_never_started_is_an_error(self, server: CannedAlpaca, proxy: AlpacaProxy) -> None:
        camera = connected(proxy.address)
        proxy.faults.append(LineFault("/startexposure", "drop"))
        with pytest.raises(CameraTransportError, match="no exposure runs"):
            camera.expose_dark(0.1)
        assert server.exposures == 0
        assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)

    @pytest.mark.parametrize("kind", ["hang", "drip"])
    def test_no_answer_in_time(self, server: CannedAlpaca, proxy: AlpacaProxy, kind: str) -> None:
        camera = connected(proxy.address)
        proxy.faults.append(LineFault("/ccdtemperature", kind))  # type: ignore[arg-type]
        with pytest.raises(CameraTimeoutError, match=r"0\.3 s"):
            camera.temperature_c()
        assert camera.temperature_c() == -10.0

    @pytest.mark.parametrize(("kind", "error"), [("hang", CameraTimeoutError), ("drip", CameraTimeoutError)])
    def test_an_image_that_trickles(
        self, server: CannedAlpaca, proxy: AlpacaProxy, kind: str, error: type[CameraError]
    ) -> None:
        camera = connected(proxy.address, readout_timeout_s=0.5)
        proxy.faults.append(LineFault("/imagearray", kind))  # type: ignore[arg-type]
        with pytest.raises(error, match=r"0\.5 s"):
            camera.expose_dark(0.01)
        assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)

    def test_an_image_that_is_cut_for_good(self, server: CannedAlpaca, proxy: AlpacaProxy) -> None:
        camera = connected(proxy.address)
        proxy.faults.append(LineFault("/imagearray", "cut", times=2))
        with pytest.raises(CameraTransportError, match="ended after"):
            camera.expose_dark(0.01)

    def test_a_set_point_is_written_again_after_a_drop(self, server: CannedAlpaca, proxy: AlpacaProxy) -> None:
        camera = connected(proxy.address)
        proxy.faults.append(LineFault("/setccdtemperature", "drop"))
        proxy.faults.append(LineFault("PUT /api/v1/camera/0/cooleron", "lose"))
        camera.write_set_point(0.0)
        camera.write_cooler_on(True)
        assert camera.set_point_c() == 0.0
        assert camera.cooler_on() is True

    def test_an_interrupt_stops_the_exposure(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            camera.expose_dark(0.2, at_middle=interrupt)
        assert "abortexposure" in dict(server.puts)
        assert camera.is_idle()

    def test_a_reconnect_sets_what_was_lost(self, server: CannedAlpaca) -> None:
        camera = connected(server.address, gain=42, readout_mode=1)
        server.members |= {"connected": False, "gain": 10, "readoutmode": 0, "numx": 4, "startx": 2}
        server.begin({"Duration": "30"})
        camera.reconnect()
        members = server.members
        assert (members["gain"], members["readoutmode"], members["numx"], members["startx"]) == (42, 1, COLS, 0)
        assert camera.is_idle()

    def test_a_reconnect_brings_back_settings_that_were_left_as_they_were(self, server: CannedAlpaca) -> None:
        server.members |= {"gain": 33, "readoutmode": 1}
        camera = connected(server.address)
        server.members |= {"connected": False, "gain": 0, "readoutmode": 0}
        camera.reconnect()
        assert (server.members["gain"], server.members["readoutmode"]) == (33, 1)

    @pytest.mark.parametrize("member", ["gain", "readoutmode", "startx"])
    def test_settings_that_are_lost_between_frames_are_noticed(self, server: CannedAlpaca, member: str) -> None:
        camera = connected(server.address)
        server.members[member] = 1
        with pytest.raises(CameraNotConnectedError, match="is now 1"):
            camera.expose_dark(0.01)
        assert not server.exposures
        camera.reconnect()
        assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)

    def test_a_reconnect_to_another_camera_is_refused(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.members["name"] = "Another one"
        with pytest.raises(CameraValueError, match="Another one"):
            camera.reconnect()


class TestOurSimulator:
    SPEC = SensorSpec(rows=32, cols=48, readout_s=0.02)

    def test_its_clock_is_taken(self) -> None:
        with SimulatorServer(self.SPEC, time_scale=50.0) as server:
            camera = connected(server.address, time_scale=50.0)
            assert isinstance(camera.clock, ScaledClock)
            assert camera.clock.scale == 50.0
            assert camera.expose_dark(10.0).monotonic_s >= 10.0
            with pytest.raises(CameraValueError, match="50 times"):
                connected(server.address, time_scale=3.0)

    def test_at_the_speed_of_life_it_is_the_systems(self) -> None:
        with SimulatorServer(self.SPEC) as server:
            assert isinstance(connected(server.address).clock, SystemClock)

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            ({"name": "truncated_image", "times": 2}, CameraTransportError),
            ({"name": "truncated_image", "value": 1.0}, CameraProtocolError),
            ({"name": "swapped_dimensions"}, CameraProtocolError),
            ({"name": "wrong_dimensions"}, CameraProtocolError),
            ({"name": "wrong_element_type"}, CameraProtocolError),
            ({"name": "error_frame"}, CameraDriverError),
            ({"name": "slow_image"}, CameraTimeoutError),
            ({"name": "camera_error"}, CameraDriverError),
            ({"name": "never_ready"}, CameraTimeoutError),
            ({"name": "restart"}, CameraError),
            ({"name": "hang", "member": "imageready"}, CameraTimeoutError),
            ({"name": "garbage", "member": "imageready"}, CameraProtocolError),
            ({"name": "driver_error", "member": "startexposure"}, CameraDriverError),
        ],
        ids=lambda part: str(part.get("name")) if isinstance(part, dict) else "",
    )
    @pytest.mark.usefixtures("short_deadlines")
    def test_a_frame_with_a_fault_is_refused_and_the_next_is_good(
        self, fault: dict[str, object], kind: type[CameraError]
    ) -> None:
        with SimulatorServer(self.SPEC) as server:
            camera = connected(server.address, readout_timeout_s=1.5)
            server.faults.set(**({"times": 1} | fault))  # type: ignore[arg-type]
            with pytest.raises(kind):
                camera.expose_dark(0.05)
            server.faults.clear()
            camera.reconnect()
            assert camera.expose_dark(0.05).pixels.shape == (32, 48)

    @pytest.mark.usefixtures("short_deadlines")
    def test_a_stale_frame_is_waited_out(self) -> None:
        with SimulatorServer(self.SPEC) as server:
            camera = connected(server.address)
            before = camera.expose_dark(0.01).pixels
            server.faults.set("stale_ready")
            for _ in range(3):
                pixels = camera.expose_dark(0.01).pixels
                assert np.count_nonzero(pixels != before) > pixels.size / 10
                before = pixels

    def test_a_lost_answer_starts_one_exposure(self) -> None:
        with SimulatorServer(self.SPEC) as server:
            camera = connected(server.address)
            server.faults.set("lost_answer", times=1)
            assert camera.expose_dark(0.05).pixels.shape == (32, 48)
            assert not any(server.faults.acts("lost_answer", "startexposure") for _ in range(2))

    def test_the_switch_that_takes_lower_case_alone(self) -> None:
        with SimulatorServer(self.SPEC) as server:
            server.faults.set("lower_case_switch")
            camera = connected(server.address)
            camera.write_cooler_on(True)
            assert camera.cooler_on() is True
