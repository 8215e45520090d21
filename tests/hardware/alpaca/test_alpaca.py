"""Connecting, settings and readings: the driver against servers that are odd."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from canned_alpaca import COLS, ROWS, CannedAlpaca, Http, Refusal
from opened_cameras import answering, connected

from hardware.alpaca import http as alpaca_http
from hardware.alpaca import setup as alpaca_setup
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraProtocolError,
    CameraTransportError,
    CameraValueError,
)


class TestConnecting:
    def test_it_connects_and_lets_go(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        assert server.members["connected"] is True
        assert camera.where == f"http://{server.address} camera 0"
        assert camera.info.camera_id == "canned-1"
        assert camera.info.shape == (ROWS, COLS)
        camera.close()
        assert server.members["connected"] is False

    def test_a_camera_that_was_connected_stays_so(self, server: CannedAlpaca) -> None:
        server.members["connected"] = True
        connected(server.address).close()
        assert server.members["connected"] is True

    def test_version_4_connects_in_the_background(self, server: CannedAlpaca) -> None:
        asked = iter([True, True, False])
        server.members |= {"interfaceversion": 4, "connecting": lambda: next(asked)}
        server.on_put["connect"] = lambda _: server.members.update(connected=True)
        connected(server.address).close()
        assert [member for member, _ in server.puts].count("connect") == 1

    def test_version_4_in_name_only(self, server: CannedAlpaca) -> None:
        server.members["interfaceversion"] = 4
        connected(server.address)
        assert server.members["connected"] is True

    @pytest.mark.usefixtures("short_deadlines")
    @pytest.mark.parametrize("spelling", ["true", "True"])
    def test_a_server_that_knows_one_spelling_of_true(self, server: CannedAlpaca, spelling: str) -> None:
        for member, key in (("connected", "Connected"), ("cooleron", "CoolerOn")):
            server.on_put[member] = lambda form, m=member, k=key: server.members.update({m: form[k] == spelling})
        camera = connected(server.address)
        assert server.members["connected"] is True
        if spelling == "true":
            camera.write_cooler_on(True)
            assert camera.cooler_on() is True

    def test_a_server_that_refuses_lower_case(self, server: CannedAlpaca) -> None:
        def switch(form: dict[str, str]) -> None:
            if form["CoolerOn"] not in ("True", "False"):
                raise Http(400, b"bad value")
            server.members["cooleron"] = form["CoolerOn"] == "True"

        server.on_put["cooleron"] = switch
        camera = connected(server.address)
        camera.write_cooler_on(True)
        assert camera.cooler_on() is True
        camera.write_cooler_on(False)
        assert camera.cooler_on() is False

    @pytest.mark.usefixtures("short_deadlines")
    def test_a_camera_that_never_connects(self, server: CannedAlpaca) -> None:
        server.on_put["connected"] = lambda _: None
        with pytest.raises(CameraNotConnectedError, match="does not connect"):
            connected(server.address)

    def test_nobody_there(self) -> None:
        with CannedAlpaca() as gone:
            address = gone.address
        with pytest.raises(CameraTransportError, match="refused"):
            connected(address)

    def test_no_such_camera(self, server: CannedAlpaca) -> None:
        with pytest.raises(CameraNotImplementedError, match="no camera 3"):
            connected(server.address, device_number=3)

    def test_no_management(self, server: CannedAlpaca) -> None:
        server.management.clear()
        camera = connected(server.address)
        assert camera.info.camera_id == ""
        assert camera.expose_dark(0.01).pixels.shape == (ROWS, COLS)

    @pytest.mark.parametrize("take_over", [False, True])
    def test_a_camera_that_exposes(self, server: CannedAlpaca, take_over: bool) -> None:
        server.begin({"Duration": "30"})
        if not take_over:
            with pytest.raises(CameraBusyError, match="exposing"):
                connected(server.address)
            assert server.members["connected"] is False
            return
        assert connected(server.address, take_over=True).is_idle()
        assert ("abortexposure" in dict(server.puts)) is True

    def test_stop_where_abort_is_not_there(self, server: CannedAlpaca) -> None:
        server.begin({"Duration": "30"})
        server.members["abortexposure"] = 0

        def refuse(_: dict[str, str]) -> None:
            raise Refusal(0x400)

        server.on_put |= {"abortexposure": refuse, "stopexposure": lambda _: setattr(server, "ready_at", 0.0)}
        assert connected(server.address, take_over=True).is_idle()

    def test_redirects_are_not_followed(self, server: CannedAlpaca) -> None:
        def elsewhere() -> None:
            raise Http(302, headers={"Location": f"http://{server.address}/api/v1/camera/0/binx"})

        server.members["cameraxsize"] = elsewhere
        with pytest.raises(CameraProtocolError, match="302"):
            connected(server.address)

    def test_proxies_of_the_environment_are_not_asked(
        self, server: CannedAlpaca, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert connected(server.address).expose_dark(0.0).pixels.size == ROWS * COLS


class TestSettings:
    def test_all_of_them_are_written_and_read_back(self, server: CannedAlpaca) -> None:
        server.members |= {"startx": 3, "numx": 5, "offset": 1, "offsetmin": 0, "offsetmax": 50}
        info = connected(server.address, gain=42, offset=7, readout_mode="low noise", binning=2).info
        assert (info.gain, info.offset, info.readout_mode, info.binning) == (42, 7, "Low Noise", (2, 2))
        assert info.shape == (ROWS // 2, COLS // 2)
        members = server.members
        assert [members[m] for m in ("startx", "starty", "numx", "numy")] == [0, 0, COLS // 2, ROWS // 2]
        assert (members["gain"], members["offset"], members["readoutmode"]) == (42, 7, 1)

    def test_settings_that_are_null_stay_as_they_are(self, server: CannedAlpaca) -> None:
        server.members |= {"gain": 33, "readoutmode": 1}
        info = connected(server.address).info
        assert (info.gain, info.offset, info.readout_mode) == (33, None, "Low Noise")
        assert {member for member, _ in server.puts} == {"connected"}

    @pytest.mark.parametrize(
        ("names", "wanted", "index", "gain"),
        [(["ISO 100", "ISO 800"], 800, 1, 800), (["Low", "Mid", "High"], 2, 2, 2), (["5", "3", "1"], 3, 1, 3)],
    )
    def test_gain_from_a_list(self, server: CannedAlpaca, names: list[str], wanted: int, index: int, gain: int) -> None:
        server.members |= {"gains": names, "gain": 0}
        assert connected(server.address, gain=wanted).info.gain == gain
        assert server.members["gain"] == index

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"gain": 101}, "101 is outside 0 to 100"),
            ({"offset": 1}, "[Oo]ffset"),
            ({"readout_mode": "Turbo"}, "Turbo.*Low Noise"),
            ({"readout_mode": 2}, "'2'.*Low Noise"),
            ({"sensor_width": 0.07}, "0.07 mm.*0.06 mm"),
            ({"sensor_height": 0.05}, "0.05 mm.*0.035 mm"),
            ({"pixel_size": 3.76}, "3.76 µm.*5 µm"),
            ({"type": "color"}, "color.*mono"),
            ({"bit_depth": 12}, "4095.*65535"),
            ({"time_scale": 10.0}, "not our simulator"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, server: CannedAlpaca, settings: dict[str, object], words: str) -> None:
        with pytest.raises((CameraValueError, CameraNotImplementedError), match=words):
            connected(server.address, **settings)
        assert not server.exposures

    def test_what_fits_is_accepted(self, server: CannedAlpaca) -> None:
        info = connected(
            server.address, sensor_width=0.06, sensor_height=0.0352, pixel_size=5.05, type="mono", bit_depth=16
        ).info
        assert info.pixel_size_um == (5.0, 5.0)

    @pytest.mark.parametrize("member", ["gain", "binx", "numx", "startx", "readoutmode"])
    def test_a_setting_that_reads_back_otherwise(self, server: CannedAlpaca, member: str) -> None:
        server.members[member] = 5
        server.on_put[member] = lambda _: None
        with pytest.raises(CameraValueError, match="reads back 5"):
            connected(server.address, gain=20, readout_mode="Normal")

    def test_members_that_are_missing(self, server: CannedAlpaca) -> None:
        def missing() -> None:
            raise Http(400, b"not implemented")

        for member in ("readoutmodes", "readoutmode", "gain", "gainmin", "gainmax", "sensorname", "sensortype",
                       "electronsperadu", "cooleron", "cansetccdtemperature", "exposureresolution", "maxadu",
                       "pixelsizex", "driverinfo", "ccdtemperature", "cangetcoolerpower"):  # fmt: skip
            server.members[member] = missing
        camera = connected(server.address, sensor_width=0.06)
        info = camera.info
        assert (info.gain, info.readout_mode, info.has_cooler, info.max_adu) == (None, "", False, 65535)
        assert info.pixel_size_um is None
        assert camera.temperature_c() is None
        assert camera.set_point_c() is None
        assert camera.cooler_on() is None
        assert camera.cooler_power_percent() is None
        with pytest.raises(CameraNotImplementedError):
            camera.write_cooler_on(True)
        with pytest.raises(CameraNotImplementedError):
            camera.write_set_point(0.0)
        assert camera.expose_dark(0.01).exposure_s == 0.01


class TestReadings:
    @pytest.mark.parametrize(
        ("sent", "read"), [(-10.25, -10.25), (0, 0.0), (-273.15, -273.15), (999, 999.0), ("-3.5", -3.5)]
    )
    def test_a_reading_is_passed_on(self, server: CannedAlpaca, sent: object, read: float) -> None:
        server.members["ccdtemperature"] = sent
        assert connected(server.address).temperature_c() == read

    @pytest.mark.parametrize("sent", [None, float("nan")])
    def test_no_number_is_nan(self, server: CannedAlpaca, sent: object) -> None:
        server.members["ccdtemperature"] = sent
        reading = connected(server.address).temperature_c()
        assert reading is not None
        assert np.isnan(reading)

    @pytest.mark.parametrize("sent", ["cold", True, [1], {"a": 1}])
    def test_nonsense_is_refused(self, server: CannedAlpaca, sent: object) -> None:
        server.members["ccdtemperature"] = sent
        with pytest.raises(CameraProtocolError, match="CCDTemperature"):
            connected(server.address).temperature_c()

    @pytest.mark.parametrize(
        ("number", "kind"),
        [
            (0x401, CameraValueError),
            (0x407, CameraNotConnectedError),
            (0x40B, CameraDriverError),
            (0x40C, CameraDriverError),
            (0x4FF, CameraDriverError),
            (0x500, CameraDriverError),
            (0x1234567, CameraDriverError),
            (-5, CameraDriverError),
            (-2147220473, CameraNotConnectedError),
            (0x80040407, CameraNotConnectedError),
        ],
    )
    def test_error_numbers(self, server: CannedAlpaca, number: int, kind: type[CameraError]) -> None:
        def refuse() -> None:
            raise Refusal(number, "a\nmessage\x1b[31m of its own")

        server.members["ccdtemperature"] = refuse
        camera = connected(server.address)
        with pytest.raises(kind, match=r"CCDTemperature: .*a message \[31m of its own"):
            camera.temperature_c()

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"Value": 1}', b'{"ErrorNumber": 0, "ErrorMessage": ""}',
         b"<html>", b"\xff\xfe", b"[" * 50_000, b'{"ErrorNumber": "no", "ErrorMessage": 7, "Value": 1}'],
    )  # fmt: skip
    def test_garbage_is_one_of_our_errors(self, server: CannedAlpaca, body: bytes) -> None:
        camera = connected(server.address)
        server.raw["GET", "ccdtemperature"] = answering(body)
        with pytest.raises(CameraError) as caught:
            camera.temperature_c()
        assert "CCDTemperature" in str(caught.value)
        assert server.address in str(caught.value)

    def test_an_endless_answer_is_refused(self, server: CannedAlpaca) -> None:
        camera = connected(server.address)
        server.raw["GET", "ccdtemperature"] = answering(b" " * (alpaca_http.ANSWER_BYTES + 1))
        with pytest.raises(CameraProtocolError, match="longer"):
            camera.temperature_c()


def test_what_goes_wrong_at_the_end_is_said(server: CannedAlpaca, caplog: pytest.LogCaptureFixture) -> None:
    camera = connected(server.address)

    def refuse(_: dict[str, str]) -> None:
        raise Refusal(0x500, "stuck")

    server.on_put["connected"] = refuse
    with caplog.at_level(logging.WARNING, "darkpipe.capture"):
        camera.close()
    assert "stuck" in caplog.text


def test_waiting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_setup, "POLL_S", 0.0)
    asked = iter([False, False, True])
    assert alpaca_setup.wait_until(lambda: next(asked), 5.0)
    assert not alpaca_setup.wait_until(lambda: False, 0.0)
