"""Every fault does what its name says, when it was told to, and stops."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import requests
from raw_alpaca import IMAGE_BYTES, RawCamera, wait_for

from hardware.errors import CameraValueError
from hardware.simulator.faults import FAULTS, Fault, Faults, parse_fault
from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

ROWS, COLS = 40, 60
LOST = requests.exceptions.ConnectionError


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(SensorSpec(rows=ROWS, cols=COLS, readout_s=0.01), time_scale=20) as running:
        yield running


@pytest.fixture
def camera(server: SimulatorServer) -> Iterator[RawCamera]:
    server.faults.clear()
    server.restart()
    with RawCamera(server.address) as raw:
        raw.connect()
        yield raw
    server.faults.clear()


class TestWhen:
    def test_from_the_first_occasion_until_it_is_cleared(self) -> None:
        faults = Faults()
        faults.set("drop")
        assert [faults.acts("drop", "gain") is not None for _ in range(3)] == [True] * 3
        faults.clear("drop")
        assert faults.acts("drop", "gain") is None
        assert faults.active == ()

    def test_from_a_later_occasion_so_often(self) -> None:
        faults = Faults()
        faults.set("drop", first=3, times=2)
        assert [faults.acts("drop") is not None for _ in range(6)] == [False, False, True, True, False, False]

    def test_on_its_member_alone(self) -> None:
        faults = Faults()
        faults.set("drop", member="CameraState", first=2)
        assert faults.acts("drop", "gain") is None
        assert [faults.acts("drop", "camerastate") is not None for _ in range(2)] == [False, True]

    def test_lasting_ones_begin_at_once_or_with_an_exposure(self) -> None:
        faults = Faults()
        faults.set("frozen_reading")
        faults.set("inverted_switch", first=3, times=1)
        told = []
        for _ in range(4):
            told.append((faults.lasting("frozen_reading") is not None, faults.lasting("inverted_switch") is not None))
            faults.exposure()
        assert told == [(True, False), (True, False), (True, True), (True, False)]

    def test_actions_are_spared_unless_they_are_meant(self) -> None:
        faults = Faults()
        faults.set("hang")
        assert faults.acts("hang", "action") is None
        faults.set("hang", member="action")
        assert faults.acts("hang", "action") is not None

    def test_clear_ends_all(self) -> None:
        faults = Faults()
        faults.set("drop")
        faults.set("hang")
        faults.clear()
        assert faults.active == ()


class TestWords:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("hang", Fault("hang")),
            ("drop=3", Fault("drop", first=3)),
            ("drop=3,times=1,member=camerastate", Fault("drop", "camerastate", 3, 1)),
            ("slow_image,value=2.5", Fault("slow_image", value=2.5)),
            ("implausible_reading, value=null", Fault("implausible_reading", value="null")),
        ],
    )
    def test_are_read(self, text: str, fault: Fault) -> None:
        assert parse_fault(text) == fault

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            "drop=x",
            "drop=0",
            "drop=1.5",
            "drop,often=3",
            "drop,times=0",
            "drop,seen=3",
            "drop,first=1,first",
            "slow_image,value=much",
            "slow_image,value=null",
            "slow_image,member=gain",
            "not_implemented",
        ],
    )
    def test_that_make_no_sense_are_refused(self, text: str) -> None:
        with pytest.raises(CameraValueError, match="fault"):
            parse_fault(text)

    def test_restart_acts_once_unless_told_otherwise(self) -> None:
        assert Fault("restart").times == 1
        assert Fault("restart", times=3).times == 3

    @pytest.mark.parametrize("name", FAULTS)
    def test_every_fault_says_what_it_does(self, name: str) -> None:
        kind, meaning = FAULTS[name]
        assert kind in ("call", "exposure", "download", "reading", "lasting")
        assert meaning


class TestLine:
    def test_hang(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("hang", member="gain", times=1)
        with pytest.raises(requests.exceptions.ReadTimeout):
            requests.get(camera.base + "gain", timeout=0.2)
        assert camera.value("gain") == 100

    def test_drop_does_nothing(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("drop", member="gain", times=2)
        with pytest.raises(LOST):
            camera.put("gain", Gain=120)
        with pytest.raises(LOST):
            camera.get("gain")
        assert camera.value("gain") == 100

    def test_lost_answer_does_what_was_asked(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("lost_answer", times=1)
        assert camera.write("gain", Gain=120) == 0
        with pytest.raises(LOST):
            camera.put("startexposure", Duration=100, Light="false")
        assert camera.value("camerastate") == 2
        server.faults.set("lost_answer", member="gain")
        with pytest.raises(LOST):
            camera.put("gain", Gain=130)
        assert camera.value("gain") == 130

    def test_slow_call(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("slow_call", member="gain", value=0.2)
        begun = time.monotonic()
        assert camera.value("gain") == 100
        assert time.monotonic() - begun >= 0.2

    def test_garbage(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("garbage", member="gain", times=1)
        with pytest.raises(requests.exceptions.JSONDecodeError):
            camera.get("gain").json()
        assert camera.value("gain") == 100

    def test_not_implemented(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("not_implemented", member="gain")
        assert camera.error("gain") == camera.write("gain", Gain=120) == 0x400
        server.faults.set("not_implemented_400")
        assert camera.get("gain").status_code == camera.get("gains").status_code == 400
        assert camera.value("offset") == 50

    def test_driver_error(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("driver_error", member="ccdtemperature", times=1)
        assert camera.error("ccdtemperature") == 0x500
        assert camera.value("ccdtemperature") == 20


class TestImages:
    @pytest.fixture(autouse=True)
    def _image(self, camera: RawCamera) -> None:
        camera.expose(0.1)

    def header(self, camera: RawCamera) -> list[int]:
        return list(np.frombuffer(camera.get("imagearray", IMAGE_BYTES).content, "<i4", 11).tolist())

    def test_slow_image(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("slow_image", value=0.3, times=1)
        begun = time.monotonic()
        assert camera.image().shape == (ROWS, COLS)
        assert time.monotonic() - begun >= 0.3

    @pytest.mark.parametrize("headers", [IMAGE_BYTES, None])
    def test_truncated_image(self, server: SimulatorServer, camera: RawCamera, headers: dict[str, str] | None) -> None:
        whole = len(camera.get("imagearray", headers).content)
        server.faults.set("truncated_image", times=1)
        with pytest.raises((LOST, requests.exceptions.ChunkedEncodingError)):
            camera.get("imagearray", headers)
        server.faults.set("truncated_image", value=1, times=1)
        assert abs(len(camera.get("imagearray", headers).content) - whole / 2) < 5
        assert abs(len(camera.get("imagearray", headers).content) - whole) < 5

    def test_swapped_dimensions(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("swapped_dimensions", times=2)
        assert self.header(camera)[8:10] == [ROWS, COLS]
        assert np.shape(camera.value("imagearray")) == (ROWS, COLS)
        assert self.header(camera)[8:10] == [COLS, ROWS]

    def test_wrong_dimensions(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("wrong_dimensions", times=2)
        assert camera.image().shape == (ROWS, COLS - 1)
        assert np.shape(camera.value("imagearray")) == (COLS - 1, ROWS)
        assert camera.image().shape == (ROWS, COLS)

    @pytest.mark.parametrize("wire_type", [1, 2, 3, 4, 5, 6, 7, 9])
    def test_other_element_types(self, server: SimulatorServer, camera: RawCamera, wire_type: int) -> None:
        pixels = camera.image()
        server.faults.set("wrong_element_type", value=wire_type, times=1)
        content = camera.get("imagearray", IMAGE_BYTES).content
        assert np.frombuffer(content, "<i4", 11)[6] == wire_type
        dtype = ["", "<i2", "<i4", "<f8", "<f4", "<u8", "u1", "<i8", "", "<u4"][wire_type]
        sent = np.frombuffer(content, dtype, offset=44).reshape(COLS, ROWS).T
        np.testing.assert_array_equal(sent, pixels.astype(dtype))

    def test_an_unknown_element_type(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("wrong_element_type", times=2)
        assert self.header(camera)[6] == 42
        assert isinstance(camera.value("imagearray")[0][0], float)

    def test_error_frame(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("error_frame", times=2)
        answer = camera.get("imagearray", IMAGE_BYTES)
        assert answer.headers["content-type"] == "application/imagebytes"
        assert np.frombuffer(answer.content, "<i4", 11)[1] == 0x500
        assert answer.content[44:].decode()
        assert camera.error("imagearray") == 0x500
        assert camera.image().shape == (ROWS, COLS)


class TestExposures:
    def test_camera_error(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("camera_error", first=2, times=1)
        camera.expose(0.1)
        assert camera.write("startexposure", Duration=1, Light="false") == 0
        assert camera.value("camerastate") == 2
        wait_for(lambda: camera.value("camerastate") == 5)
        assert camera.error("imageready") == 0x500
        assert camera.error("imagearray") == 0x40B
        camera.expose(0.1)  # the next one is well

    def test_never_ready(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("never_ready", times=1)
        assert camera.write("startexposure", Duration=0.1, Light="false") == 0
        wait_for(lambda: camera.value("camerastate") == 4)
        server.clock.sleep(10)
        assert camera.value("camerastate") == 4
        assert camera.value("imageready") is False
        camera.write("abortexposure")
        camera.expose(0.1)

    def test_stale_ready(self, server: SimulatorServer, camera: RawCamera) -> None:
        camera.expose(0.1)
        old = camera.image()
        server.faults.set("stale_ready", value=0.2)
        assert camera.write("startexposure", Duration=10, Light="false") == 0
        assert camera.value("imageready") is True
        np.testing.assert_array_equal(camera.image(), old)
        wait_for(lambda: not camera.value("imageready"))
        assert camera.error("imagearray") == 0x40B
        wait_for(lambda: camera.value("imageready"))
        assert not np.array_equal(camera.image(), old)

    def test_stale_ready_needs_an_image(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("stale_ready")
        camera.write("startexposure", Duration=100, Light="false")
        assert camera.value("imageready") is False

    def test_light_leak(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("light_leak", value=100)
        camera.expose(10)
        excess = camera.image() - server.sensor.bias_adu() - server.sensor.expected_dark_adu(10, 20)
        assert 100 < np.median(excess) < 1000
        server.faults.clear()
        camera.expose(10)
        excess = camera.image() - server.sensor.bias_adu() - server.sensor.expected_dark_adu(10, 20)
        assert abs(np.median(excess)) < 20

    def test_duplicate_image(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("duplicate_image", first=3, times=1)
        images = []
        for _ in range(4):
            camera.expose(0.1)
            images.append(camera.image())
        same = [np.array_equal(one, other) for one, other in pairwise(images)]
        assert same == [False, True, False]

    def test_constant_and_saturated_images(self, server: SimulatorServer, camera: RawCamera) -> None:
        for name, level in (("constant_image", 1000), ("saturated_image", 65535)):
            server.faults.set(name, times=1)
            camera.expose(0.1)
            assert (camera.image() == level).all()
        camera.expose(0.1)
        assert camera.image().std() > 0

    def test_restart(self, server: SimulatorServer, camera: RawCamera) -> None:
        for member, name, value in (("gain", "Gain", 120), ("setccdtemperature", "SetCCDTemperature", -15)):
            camera.write(member, **{name: value})
        camera.write("cooleron", CoolerOn="true")
        server.faults.set("restart", first=2)
        camera.expose(0.1)
        assert camera.write("startexposure", Duration=1, Light="false") == 0
        assert camera.value("connected") is False
        assert camera.error("gain") == 0x407
        camera.connect()
        assert (camera.value("gain"), camera.value("setccdtemperature"), camera.value("cooleron")) == (100, 0, False)
        assert camera.value("camerastate") == 0
        assert camera.value("imageready") is False


class TestCooler:
    @pytest.fixture
    def server(self) -> Iterator[SimulatorServer]:
        """One whose sensor is as warm as its surroundings: a restart does not warm it."""
        with SimulatorServer(SensorSpec(rows=ROWS, cols=COLS, readout_s=0.01), time_scale=20) as running:
            yield running

    @pytest.mark.parametrize(("value", "reading"), [(None, -273.15), (999, 999), ("null", None), ("nan", math.nan)])
    def test_implausible_readings(
        self, server: SimulatorServer, camera: RawCamera, value: float | str | None, reading: float | None
    ) -> None:
        server.faults.set("implausible_reading", value=value, first=2, times=1)
        assert camera.value("ccdtemperature") == 20
        assert camera.value("ccdtemperature") == pytest.approx(reading, nan_ok=True)
        assert camera.value("ccdtemperature") == 20

    def cool(self, server: SimulatorServer, camera: RawCamera, celsius: float, text: str = "True") -> float:
        """True temperature after ten seconds of cooling."""
        camera.write("cooleron", CoolerOn=text)  # first: an inverted switch cools while it is off
        camera.write("setccdtemperature", SetCCDTemperature=celsius)
        assert camera.value("setccdtemperature") == celsius
        server.clock.sleep(10)
        return server.cooler.true_temperature_c()

    def test_frozen_reading(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("frozen_reading")
        first = camera.value("ccdtemperature")
        assert self.cool(server, camera, -20) < first - 2
        assert camera.value("ccdtemperature") == first
        server.faults.clear()
        assert camera.value("ccdtemperature") < first - 2

    @pytest.mark.parametrize("name", ["inverted_switch", "ignored_set_point", "lower_case_switch"])
    def test_coolers_that_do_not_cool(self, server: SimulatorServer, camera: RawCamera, name: str) -> None:
        server.cooler.set_point_c = 50.0  # what an ignored set point leaves in force
        server.faults.set(name)
        before = server.cooler.true_temperature_c()
        assert self.cool(server, camera, -20) > before - 0.1
        assert camera.value("cooleron") is (name != "lower_case_switch")
        server.faults.clear()
        assert self.cool(server, camera, -20) < before - 2

    def test_lower_case_switch_takes_lower_case(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("lower_case_switch")
        before = server.cooler.true_temperature_c()
        assert self.cool(server, camera, -20, "true") < before - 2

    def test_cooler_never_arrives(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.faults.set("cooler_never_arrives", first=2)
        camera.write("startexposure", Duration=0.1, Light="false")
        camera.write("abortexposure")
        assert self.cool(server, camera, -30) < 19
        camera.value("camerastate")
        assert server.cooler.never_arrives
        server.faults.clear("cooler_never_arrives")
        camera.value("camerastate")
        assert not server.cooler.never_arrives

    def test_what_the_test_itself_has_set_is_left_alone(self, server: SimulatorServer, camera: RawCamera) -> None:
        server.cooler.inverted_switch = True
        try:
            camera.value("camerastate")
            assert server.cooler.inverted_switch
        finally:
            server.cooler.inverted_switch = False


class TestActions:
    def test_faults_from_another_process(self, server: SimulatorServer, camera: RawCamera) -> None:
        told = {"name": "drop", "member": "gain", "times": 1}
        answer = camera.put("action", Action="Fault", Parameters=json.dumps(told)).json()
        assert json.loads(answer["Value"]) == ["drop"]
        with pytest.raises(LOST):
            camera.get("gain")
        camera.put("action", Action="fault", Parameters=json.dumps({"name": "hang"}))
        assert set(server.faults.active) == {"drop", "hang"}
        camera.put("action", Action="fault", Parameters=json.dumps({"clear": "hang"}))
        assert server.faults.active == ("drop",)
        camera.put("action", Action="fault", Parameters='{"clear": null}')
        assert server.faults.active == ()

    @pytest.mark.parametrize(
        "parameters",
        [
            "",
            "{",
            "[]",
            "3",
            "null",
            '{"name": "nonsense"}',
            '{"first": 2}',
            '{"name": "drop", "often": 1}',
            '{"name": "drop", "first": "2"}',
            '{"name": "drop", "first": true}',
            '{"name": []}',
            '{"clear": []}',
            '{"clear": "nonsense"}',
        ],
    )
    def test_that_make_no_sense_are_refused(self, server: SimulatorServer, camera: RawCamera, parameters: str) -> None:
        assert camera.write("action", Action="fault", Parameters=parameters) == 0x401
        assert server.faults.active == ()

    def test_restart_at_once(self, server: SimulatorServer, camera: RawCamera) -> None:
        camera.write("gain", Gain=120)
        assert camera.write("action", Action="restart", Parameters="") == 0
        assert camera.value("connected") is False
