"""Servers and cameras that are odd, but can be worked with; and where that must not go too far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from canned_alpaca import CannedAlpaca, Http, Refusal, encoded_image, image_bytes
from opened_cameras import answering, connected

from hardware.alpaca.driver import AlpacaCamera
from hardware.dark_capture import DarkCapture
from hardware.errors import (
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraTimeoutError,
    CameraTransportError,
    CameraValueError,
)
from hardware.settings import AcquisitionSettings

INVALID_OPERATION, DRIVER = 0x40B, 0x500


def refusing(number: int = 0x400) -> Callable[..., object]:
    """A member that always answers with this error."""

    def refuse(*_: object) -> object:
        raise Refusal(number)

    return refuse


def stumbling(member: object, times: int = 1) -> Callable[..., object]:
    """A member that answers HTTP 500 the first times it is asked."""
    left = [times]

    def answer(*form: object) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise Http(500)
        return member(*form) if callable(member) else member

    return answer


class TestSpelling:
    @pytest.mark.parametrize(
        "body",
        [
            {"value": -10.5, "errornumber": 0, "errormessage": ""},
            {"value": "-10.5", "errorNumber": "0", "errorMessage": None},
            {"Value": "-10.5", "ErrorNumber": "0", "ErrorMessage": ""},
        ],
    )
    def test_keys_and_numbers(self, server: CannedAlpaca, body: dict[str, object]) -> None:
        server.raw["GET", "ccdtemperature"] = answering(json.dumps(body).encode())
        assert connected(server.address).temperature_c() == -10.5

    def test_an_error_is_still_one(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.raw["GET", "ccdtemperature"] = answering(b'{"value": 0, "errornumber": "1280", "errormessage": "stuck"}')
        with pytest.raises(CameraDriverError, match="stuck"):
            camera.temperature_c()

    def test_an_image(self, server: CannedAlpaca) -> None:
        body = {"value": encoded_image().tolist(), "errornumber": "0", "errormessage": ""}
        server.raw["GET", "imagearray"] = answering(json.dumps(body).encode())
        np.testing.assert_array_equal(connected(server.address).expose_dark(0.0).pixels, encoded_image().T)

    def test_states_and_types_as_text(self, server: CannedAlpaca) -> None:
        server.members |= {"camerastate": "0", "sensortype": "2"}
        camera = connected(server.address)
        assert camera.info.color
        assert camera.is_idle()


class TestStumblingServers:
    def test_every_question_fails_once(self, server: CannedAlpaca) -> None:
        server.members = {name: stumbling(member) for name, member in server.members.items()}
        server.members["connected"] = False  # is set by the driver
        server.management = {name: stumbling(told) for name, told in server.management.items()}
        camera = connected(server.address)
        assert camera.info.sensor_name == "C1"
        assert camera.info.camera_id == "canned-1"  # else its frames would be another session's
        assert camera.info.gain == 10

    def test_setting_twice_does_no_harm(self, server: CannedAlpaca) -> None:
        server.on_put["gain"] = stumbling(lambda form: server.members.update(gain=int(form["Gain"])))
        assert connected(server.address, gain=55).info.gain == 55

    def test_an_exposure_is_not_started_twice(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.on_put["startexposure"] = stumbling(server.begin)
        with pytest.raises(CameraDriverError, match="500"):
            camera.expose_dark(0.01)
        assert server.exposures == 0

    def test_image_bytes_that_fail(self, server: CannedAlpaca) -> None:
        body = json.dumps({"ErrorNumber": 0, "ErrorMessage": "", "Value": encoded_image().tolist()}).encode()

        def answer(handler: BaseHTTPRequestHandler) -> None:
            if "imagebytes" not in handler.headers["Accept"]:
                return answering(body)(handler)
            handler.send_response(500)
            handler.send_header("Content-Length", "0")
            return handler.end_headers()

        server.raw["GET", "imagearray"] = answer
        np.testing.assert_array_equal(connected(server.address).expose_dark(0.0).pixels, encoded_image().T)


class TestWhatIsNotThere:
    @pytest.mark.parametrize("number", [INVALID_OPERATION, DRIVER])
    def test_descriptions(self, server: CannedAlpaca, number: int) -> None:
        for member in ("sensorname", "driverinfo", "sensortype", "pixelsizex", "cooleron", "electronsperadu"):
            server.members[member] = refusing(number)
        info = connected(server.address).info
        assert (info.sensor_name, info.pixel_size_um, info.has_cooler, info.electrons_per_adu) == (
            "",
            None,
            False,
            None,
        )

    @pytest.mark.parametrize("member", ["cameraxsize", "exposureresolution", "maxadu", "gain", "readoutmode"])
    def test_what_a_frame_depends_on_must_be_said(self, server: CannedAlpaca, member: str) -> None:
        server.members[member] = refusing(DRIVER)
        with pytest.raises(CameraDriverError, match=f"(?i){member}"):
            connected(server.address)

    def test_a_cooler_is_not_forgotten(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.members |= {"cooleron": refusing(DRIVER), "cansetccdtemperature": refusing(DRIVER)}
        camera.reconnect()
        assert camera.info.has_cooler
        assert camera.info.can_set_temperature

    def test_a_list_that_is_an_invalid_operation(self, server: CannedAlpaca) -> None:
        server.members["gains"] = refusing(INVALID_OPERATION)
        assert connected(server.address, gain=70).info.gain == 70

    def test_a_list_that_fails_is_no_number(self, server: CannedAlpaca) -> None:
        """The number of a place in the list must not pass for a gain."""
        server.members["gains"] = refusing(DRIVER)
        with pytest.raises(CameraDriverError, match="Gains"):
            connected(server.address)

    def test_a_gain_that_is_asked_for(self, server: CannedAlpaca) -> None:
        for member in ("gain", "gainmin", "gainmax"):
            server.members[member] = refusing()
        server.on_put["gain"] = refusing()
        with pytest.raises(CameraNotImplementedError, match=r"Take camera\.gain out"):
            connected(server.address, gain=5)


class TestFrames:
    @pytest.mark.parametrize("members", [("binx", "biny"), ("startx", "starty"), ("numx", "numy")])
    def test_nothing_to_set(self, server: CannedAlpaca, members: tuple[str, str]) -> None:
        for member in members:
            server.members[member] = server.on_put[member] = refusing()
        np.testing.assert_array_equal(connected(server.address).expose_dark(0.0).pixels, encoded_image().T)

    def test_a_part_of_the_sensor_is_still_found_out(self, server: CannedAlpaca) -> None:
        for member in ("numx", "numy"):
            server.members[member] = server.on_put[member] = refusing()
        server.image = image_bytes(encoded_image()[:8])
        with pytest.raises(CameraError, match="8 × 7 pixels, not 12 × 7"):
            connected(server.address).expose_dark(0.0)

    def test_no_binning(self, server: CannedAlpaca) -> None:
        server.on_put["binx"] = refusing()
        with pytest.raises(CameraNotImplementedError, match=r"camera\.binning"):
            connected(server.address, binning=2)

    def test_a_width_that_is_rounded(self, server: CannedAlpaca) -> None:
        server.on_put["numx"] = lambda form: server.members.update(numx=int(form["NumX"]) // 4 * 4)
        with pytest.raises(CameraValueError, match=r"NumX was set to 6, but reads back 4.*camera\.binning"):
            connected(server.address, binning=2)

    def test_signed_counts(self, server: CannedAlpaca) -> None:
        server.image = image_bytes(encoded_image().astype(np.int16) - np.int16(500))
        with pytest.raises(CameraError, match="unsigned"):
            connected(server.address).expose_dark(0.0)


class TestExposures:
    def test_a_rounded_exposure_is_refused_again_and_again(self, server: CannedAlpaca) -> None:
        """A second answer that is the same as the first is no sign of a value that is stuck."""
        server.members["lastexposureduration"] = lambda: 0.192 if server.exposures else 0.0
        camera = connected(server.address)
        for _ in range(3):
            with pytest.raises(CameraDriverError, match=r"0\.2 s were asked for.*0\.192 s"):
                camera.expose_dark(0.2)

    def test_a_stuck_duration_is_remembered(self, server: CannedAlpaca) -> None:
        server.members["lastexposureduration"] = 3.0
        camera = connected(server.address)
        assert [camera.expose_dark(0.01).exposure_s for _ in range(3)] == [0.01] * 3

    def test_a_gain_that_changes_during_the_exposure(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        with pytest.raises(CameraNotConnectedError, match="Gain was 10 and is now 77"):
            camera.expose_dark(0.05, at_middle=lambda: server.members.update(gain=77))

    @pytest.mark.usefixtures("short_deadlines")
    def test_a_camera_that_shows_nothing_but_its_image(self, server: CannedAlpaca) -> None:
        camera = blind(server)
        with pytest.raises(CameraTimeoutError, match="never left"):
            camera.expose_dark(0.01)
        server.on_put["startexposure"] = lambda _: setattr(server, "image", image_bytes(encoded_image() + np.uint16(1)))
        np.testing.assert_array_equal(camera.expose_dark(0.01).pixels, encoded_image().T + 1)

    @pytest.mark.usefixtures("short_deadlines")
    def test_the_image_before_is_never_a_new_one(self, server: CannedAlpaca) -> None:
        camera = blind(server)
        for _ in range(2):
            with pytest.raises(CameraTimeoutError, match="never left"):
                camera.expose_dark(0.01)

    @pytest.mark.usefixtures("short_deadlines")
    def test_the_image_before_may_be_there_for_a_while(self, server: CannedAlpaca) -> None:
        camera = blind(server)
        with pytest.raises(CameraTimeoutError, match="never left"):
            camera.expose_dark(0.01)
        begun = [float("inf")]
        server.on_put["startexposure"] = lambda _: begun.__setitem__(0, time.monotonic())

        def answer(handler: BaseHTTPRequestHandler) -> None:
            late = time.monotonic() - begun[0] > 0.7
            image = encoded_image() + np.uint16(1) if late else encoded_image()
            answering(image_bytes(image), "application/imagebytes")(handler)

        server.raw["GET", "imagearray"] = answer
        np.testing.assert_array_equal(camera.expose_dark(0.01).pixels, encoded_image().T + 1)


def blind(server: CannedAlpaca) -> AlpacaCamera:
    """A camera whose image is always ready, and which says nothing else."""
    server.members |= {"imageready": True, "camerastate": refusing(), "lastexposureduration": refusing()}
    server.members["lastexposurestarttime"] = refusing()
    return connected(server.address, readout_timeout_s=1.2)


def test_https_that_is_none(server: CannedAlpaca) -> None:
    with pytest.raises(CameraTransportError, match=r"no https.*plain http"):
        connected(f"https://{server.address}")


@pytest.mark.parametrize(("on", "told"), [(False, None), (True, -10.0)])
def test_the_set_point_of_a_cooler_that_is_off_is_no_temperature(
    server: CannedAlpaca, tmp_path: Path, on: bool, told: float | None
) -> None:
    """Where a camera has no thermometer, SET-TEMP would be taken for the temperature of the frame."""
    server.members |= {"cooleron": on, "ccdtemperature": refusing()}
    settings = AcquisitionSettings.model_validate(
        {
            "dark_capture": {"num_darks": 1, "output_dir": tmp_path, "bias_pause_s": 0},
            "camera": {"address": server.address},
        }
    )
    with DarkCapture(connected(server.address), settings) as capture:
        result = capture.capture_bias_only()
    assert fits.getheader(result.files[0]).get("SET-TEMP") == told
