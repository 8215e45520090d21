"""The camera behind the protocol, rule by rule: settings, cooling, exposures, images."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from raw_alpaca import IMAGE_BYTES, RawCamera, wait_for

from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

NOT_IMPLEMENTED, INVALID_VALUE, INVALID_OPERATION = 0x400, 0x401, 0x40B
ROWS, COLS = 40, 60
AFTER_AN_IMAGE = ("imagearray", "imagearrayvariant", "lastexposureduration", "lastexposurestarttime")


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(SensorSpec(rows=ROWS, cols=COLS, readout_s=0.01)) as running:
        yield running


class TestSettings:
    @pytest.mark.parametrize("member", ["BinX", "BinY"])
    def test_binning_has_limits(self, camera: RawCamera, member: str) -> None:
        highest = camera.value("max" + member.lower())
        assert highest == 4
        for good in range(1, highest + 1):
            assert camera.write(member.lower(), **{member: good}) == 0
            assert camera.value(member.lower()) == good
            assert camera.value("binx") == camera.value("biny")  # CanAsymmetricBin is false
        for bad in (0, -1, highest + 1, 10**9):
            assert camera.write(member.lower(), **{member: bad}) == INVALID_VALUE
        assert camera.value(member.lower()) == highest

    @pytest.mark.parametrize("name", ["Gain", "Offset"])
    def test_gain_and_offset_have_a_range_and_no_names(self, camera: RawCamera, name: str) -> None:
        member = name.lower()
        low, high = camera.value(member + "min"), camera.value(member + "max")
        assert camera.error(member + "s") == NOT_IMPLEMENTED
        for good in (low, high):
            assert camera.write(member, **{name: good}) == 0
            assert camera.value(member) == good
        for bad in (low - 1, high + 1, -(10**12)):
            assert camera.write(member, **{name: bad}) == INVALID_VALUE
        assert camera.value(member) == high

    def test_electrons_per_adu_follow_the_gain(self, camera: RawCamera) -> None:
        camera.write("gain", Gain=0)
        low = camera.value("electronsperadu")
        camera.write("gain", Gain=200)
        assert camera.value("electronsperadu") == pytest.approx(low / 10)

    def test_readout_modes(self, camera: RawCamera) -> None:
        names = camera.value("readoutmodes")
        for mode in range(len(names)):
            assert camera.write("readoutmode", ReadoutMode=mode) == 0
            assert camera.value("readoutmode") == mode
        for bad in (-1, len(names)):
            assert camera.write("readoutmode", ReadoutMode=bad) == INVALID_VALUE

    def test_a_monochrome_camera_has_no_bayer_pattern(self, camera: RawCamera) -> None:
        assert camera.value("sensortype") == 0
        assert camera.error("bayeroffsetx") == camera.error("bayeroffsety") == NOT_IMPLEMENTED

    def test_a_colour_camera_has_one(self) -> None:
        with SimulatorServer(SensorSpec(rows=8, cols=8, color=True)) as server, RawCamera(server.address) as camera:
            camera.connect()
            assert camera.value("sensortype") == 2
            assert camera.value("bayeroffsetx") == camera.value("bayeroffsety") == 0

    def test_limits_are_in_order(self, camera: RawCamera) -> None:
        assert 0 <= camera.value("exposuremin") <= camera.value("exposuremax")
        assert 0 <= camera.value("exposureresolution") <= camera.value("exposuremax")
        assert (camera.value("cameraxsize"), camera.value("cameraysize")) == (COLS, ROWS)
        assert (camera.value("numx"), camera.value("numy")) == (COLS, ROWS)
        assert (camera.value("startx"), camera.value("starty")) == (0, 0)
        assert camera.value("interfaceversion") == 4
        assert camera.value("maxadu") == 65535


class TestCooling:
    @pytest.mark.parametrize("celsius", [0.0, -0.0, -10.5, -273.15, 100.0])
    def test_set_points_that_can_be(self, camera: RawCamera, celsius: float) -> None:
        assert camera.write("setccdtemperature", SetCCDTemperature=celsius) == 0
        assert camera.value("setccdtemperature") == celsius

    @pytest.mark.parametrize("celsius", [-273.16, -280.0, 100.01, 1e300])
    def test_set_points_that_cannot(self, camera: RawCamera, celsius: float) -> None:
        camera.write("setccdtemperature", SetCCDTemperature=-5)
        assert camera.write("setccdtemperature", SetCCDTemperature=celsius) == INVALID_VALUE
        assert camera.value("setccdtemperature") == -5

    def test_the_switch(self, camera: RawCamera) -> None:
        assert camera.value("cooleron") is False
        assert camera.value("coolerpower") == 0
        for text, on in (("True", True), ("false", False), ("true", True)):
            assert camera.write("cooleron", CoolerOn=text) == 0
            assert camera.value("cooleron") is on
        camera.write("setccdtemperature", SetCCDTemperature=-20)
        assert camera.value("coolerpower") == 100
        assert camera.value("ccdtemperature") <= 20
        assert camera.value("heatsinktemperature") > 20

    def test_a_camera_without_a_cooler_has_a_thermometer(self) -> None:
        spec = SensorSpec(rows=8, cols=8)
        with SimulatorServer(spec, has_cooler=False) as server, RawCamera(server.address) as camera:
            camera.connect()
            assert camera.value("cansetccdtemperature") is camera.value("cangetcoolerpower") is False
            assert camera.value("ccdtemperature") == 20
            for member in ("cooleron", "coolerpower", "heatsinktemperature", "setccdtemperature"):
                assert camera.error(member) == NOT_IMPLEMENTED
            assert camera.write("cooleron", CoolerOn="true") == NOT_IMPLEMENTED
            assert camera.write("setccdtemperature", SetCCDTemperature=0) == NOT_IMPLEMENTED
            assert {state["Name"] for state in camera.value("devicestate")} == {
                "CameraState", "CCDTemperature", "ImageReady", "IsPulseGuiding", "PercentCompleted", "TimeStamp",
            }  # fmt: skip


class TestExposures:
    def test_before_the_first_one(self, camera: RawCamera) -> None:
        assert camera.value("imageready") is False
        assert camera.value("camerastate") == 0
        assert camera.value("percentcompleted") == 0
        for member in AFTER_AN_IMAGE:
            assert camera.error(member) == INVALID_OPERATION
        frame = camera.get("imagearray", IMAGE_BYTES)
        assert frame.headers["content-type"] == "application/imagebytes"
        assert np.frombuffer(frame.content, "<i4", 11).tolist()[:2] == [1, INVALID_OPERATION]
        assert frame.content[44:].decode() == "there is no image"

    def test_one_exposure_from_start_to_image(self, camera: RawCamera) -> None:
        before = datetime.now(UTC)
        assert camera.write("startexposure", Duration=0.2, Light="False") == 0
        assert camera.value("camerastate") == 2
        assert camera.value("imageready") is False
        assert 0 <= camera.value("percentcompleted") < 100
        assert camera.error("imagearray") == INVALID_OPERATION
        wait_for(lambda: camera.value("imageready"))
        assert camera.value("camerastate") == 0
        assert camera.value("percentcompleted") == 100
        assert camera.value("lastexposureduration") == pytest.approx(0.2, rel=0.02)
        started = datetime.fromisoformat(camera.value("lastexposurestarttime")).replace(tzinfo=UTC)
        assert abs(started - before) < timedelta(seconds=2)
        assert started + timedelta(seconds=0.2) <= datetime.now(UTC)

    def test_image_bytes_and_json_are_the_same_image(self, camera: RawCamera) -> None:
        camera.expose(0.01)
        pixels = camera.image()
        assert pixels.shape == (ROWS, COLS)
        for member in ("imagearray", "imagearrayvariant"):
            told = camera.get(member, {"Accept": "application/json"}).json()
            assert (told["Type"], told["Rank"], told["ErrorNumber"]) == (2, 2, 0)
            np.testing.assert_array_equal(np.array(told["Value"]).T, pixels)

    @pytest.mark.parametrize(
        "accept", ["application/imagebytes, application/json", "application/json,Application/ImageBytes"]
    )
    def test_image_bytes_among_other_types(self, camera: RawCamera, accept: str) -> None:
        camera.expose(0.01)
        assert camera.get("imagearray", {"Accept": accept}).headers["content-type"] == "application/imagebytes"

    @pytest.mark.parametrize("binning", [1, 2, 3, 4])
    def test_full_frames_of_every_binning(self, camera: RawCamera, binning: int) -> None:
        cols, rows = COLS // binning, ROWS // binning
        camera.write("binx", BinX=binning)
        camera.write("numx", NumX=cols)
        camera.write("numy", NumY=rows)
        camera.expose(0.01)
        assert camera.image().shape == (rows, cols)

    @pytest.mark.parametrize("binning", [1, 2, 3, 4])
    @pytest.mark.parametrize("frame", [(0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0), (10**6, 0, 0, 0)])
    def test_frames_beyond_the_chip(self, camera: RawCamera, binning: int, frame: tuple[int, int, int, int]) -> None:
        x, y, more_x, more_y = frame
        camera.write("biny", BinY=binning)
        camera.write("startx", StartX=x)
        camera.write("starty", StartY=y)
        camera.write("numx", NumX=COLS // binning + more_x)
        camera.write("numy", NumY=ROWS // binning + more_y)
        assert camera.write("startexposure", Duration=0.01, Light="false") == INVALID_VALUE
        assert camera.value("camerastate") == 0
        assert camera.value("imageready") is False

    @pytest.mark.parametrize(("member", "name"), [("numx", "NumX"), ("numy", "NumY")])
    def test_frames_of_nothing(self, camera: RawCamera, member: str, name: str) -> None:
        for bad in (0, -1, 2**31):
            assert camera.write(member, **{name: bad}) == INVALID_VALUE

    @pytest.mark.parametrize(("member", "name"), [("startx", "StartX"), ("starty", "StartY")])
    def test_frames_that_begin_before_the_chip(self, camera: RawCamera, member: str, name: str) -> None:
        assert camera.write(member, **{name: -1}) == INVALID_VALUE

    def test_a_sub_frame_is_a_part_of_the_sensor(self) -> None:
        quiet = {"read_noise_e": 0.0, "pedestal_drift_adu": 0.0, "readout_s": 0.0}
        spec = SensorSpec(rows=ROWS, cols=COLS, bias_pixel_adu=50.0, **quiet)
        with SimulatorServer(spec) as server, RawCamera(server.address) as camera:
            camera.connect()
            for name, pixels in {"StartX": 7, "StartY": 3, "NumX": 20, "NumY": 10}.items():
                assert camera.write(name.lower(), **{name: pixels}) == 0
            camera.expose(0.0001)
            truth = server.sensor.bias_adu()[3:13, 7:27]
            assert np.abs(camera.image() - truth).max() < 5

    @pytest.mark.parametrize("seconds", [-1.0, -0.001, 0.0, 3601.0, 1e308])
    def test_exposures_that_cannot_be(self, camera: RawCamera, seconds: float) -> None:
        assert camera.write("startexposure", Duration=seconds, Light="False") == INVALID_VALUE
        assert camera.value("camerastate") == 0

    def test_only_one_at_a_time(self, camera: RawCamera) -> None:
        assert camera.write("startexposure", Duration=100, Light="False") == 0
        assert camera.write("startexposure", Duration=1, Light="False") == INVALID_OPERATION
        assert camera.write("abortexposure") == 0
        assert camera.value("camerastate") == 0
        assert camera.value("imageready") is False

    def test_stop_keeps_what_is_there(self, camera: RawCamera) -> None:
        assert camera.write("startexposure", Duration=100, Light="False") == 0
        assert camera.write("stopexposure") == 0
        wait_for(lambda: camera.value("imageready"))
        assert camera.value("lastexposureduration") < 50
        assert camera.image().shape == (ROWS, COLS)

    def test_abort_and_stop_do_no_harm_when_idle(self, camera: RawCamera) -> None:
        assert camera.write("abortexposure") == camera.write("stopexposure") == 0
        camera.expose(0.01)
        assert camera.write("abortexposure") == camera.write("stopexposure") == 0
        assert camera.value("imageready") is True

    def test_an_aborted_exposure_leaves_no_image(self, camera: RawCamera) -> None:
        camera.expose(0.01)
        first = camera.value("lastexposurestarttime")
        camera.write("startexposure", Duration=100, Light="False")
        camera.write("abortexposure")
        assert camera.value("imageready") is False
        assert camera.error("imagearray") == INVALID_OPERATION
        assert camera.value("lastexposurestarttime") == first

    def test_pulse_guiding_is_not_for_this_camera(self, camera: RawCamera) -> None:
        assert camera.value("canpulseguide") is False
        assert camera.value("ispulseguiding") is False
        assert camera.write("pulseguide", Direction=0, Duration=10) == NOT_IMPLEMENTED
