"""The protocol of ASCOM Alpaca for every member of an ICameraV4, asked in bare HTTP, with manners good and bad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from raw_alpaca import IMAGE_BYTES, RawCamera, wait_for

from hardware.simulator.sensor import SensorSpec
from hardware.simulator.server import SimulatorServer

NOT_IMPLEMENTED, NOT_CONNECTED, INVALID_OPERATION, NO_SUCH_ACTION = 0x400, 0x407, 0x40B, 0x40C
ROWS, COLS = 40, 60
NEVER_IMPLEMENTED = {"bayeroffsetx", "bayeroffsety", "fastreadout", "gains", "offsets", "subexposureduration"}
AFTER_AN_IMAGE = {"imagearray", "imagearrayvariant", "lastexposureduration", "lastexposurestarttime"}

# every property of the interface, and what type it has
READ: dict[str, type | tuple[type, ...]] = {
    "connected": bool,
    "connecting": bool,
    "description": str,
    "devicestate": list,
    "driverinfo": str,
    "driverversion": str,
    "interfaceversion": int,
    "name": str,
    "supportedactions": list,
    "bayeroffsetx": int,
    "bayeroffsety": int,
    "binx": int,
    "biny": int,
    "camerastate": int,
    "cameraxsize": int,
    "cameraysize": int,
    "canabortexposure": bool,
    "canasymmetricbin": bool,
    "canfastreadout": bool,
    "cangetcoolerpower": bool,
    "canpulseguide": bool,
    "cansetccdtemperature": bool,
    "canstopexposure": bool,
    "ccdtemperature": float,
    "cooleron": bool,
    "coolerpower": float,
    "electronsperadu": float,
    "exposuremax": float,
    "exposuremin": float,
    "exposureresolution": float,
    "fastreadout": bool,
    "fullwellcapacity": float,
    "gain": int,
    "gainmax": int,
    "gainmin": int,
    "gains": list,
    "hasshutter": bool,
    "heatsinktemperature": float,
    "imagearray": list,
    "imagearrayvariant": list,
    "imageready": bool,
    "ispulseguiding": bool,
    "lastexposureduration": float,
    "lastexposurestarttime": str,
    "maxadu": int,
    "maxbinx": int,
    "maxbiny": int,
    "numx": int,
    "numy": int,
    "offset": int,
    "offsetmax": int,
    "offsetmin": int,
    "offsets": list,
    "percentcompleted": int,
    "pixelsizex": float,
    "pixelsizey": float,
    "readoutmode": int,
    "readoutmodes": list,
    "sensorname": str,
    "sensortype": int,
    "setccdtemperature": float,
    "startx": int,
    "starty": int,
    "subexposureduration": float,
}

# every PUT of the interface with good parameters
WRITTEN: dict[str, dict[str, str]] = {
    "action": {"Action": "restart", "Parameters": ""},
    "commandblind": {"Command": "x", "Raw": "true"},
    "commandbool": {"Command": "x", "Raw": "true"},
    "commandstring": {"Command": "x", "Raw": "true"},
    "connect": {},
    "connected": {"Connected": "True"},
    "disconnect": {},
    "abortexposure": {},
    "binx": {"BinX": "2"},
    "biny": {"BinY": "2"},
    "cooleron": {"CoolerOn": "True"},
    "fastreadout": {"FastReadout": "False"},
    "gain": {"Gain": "120"},
    "numx": {"NumX": "20"},
    "numy": {"NumY": "20"},
    "offset": {"Offset": "40"},
    "pulseguide": {"Direction": "0", "Duration": "1"},
    "readoutmode": {"ReadoutMode": "0"},
    "setccdtemperature": {"SetCCDTemperature": "-10.0"},
    "startexposure": {"Duration": "0.001", "Light": "False"},
    "startx": {"StartX": "0"},
    "starty": {"StartY": "0"},
    "stopexposure": {},
    "subexposureduration": {"SubExposureDuration": "0.1"},
}
WITHOUT_EFFECT = {"commandblind", "commandbool", "commandstring", "fastreadout", "pulseguide", "subexposureduration"}
TEXTS = {"Action", "Parameters", "Command"}  # parameters that may be anything
IDS = {"ClientID": "123456", "ClientTransactionID": "67890"}
BAD_IDS = ["", "     ", "-12345", "NASDAQ", "1.5", "4294967296", "0x10", "１２"]


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatorServer]:
    with SimulatorServer(SensorSpec(rows=ROWS, cols=COLS, readout_s=0.01)) as running:
        yield running


def parameters_written() -> list[tuple[str, str]]:
    return [(member, name) for member, given in WRITTEN.items() for name in given]


class TestEveryProperty:
    @pytest.mark.parametrize("member", READ)
    def test_has_its_type_or_its_error(self, camera: RawCamera, member: str) -> None:
        answer = camera.get(member, **IDS)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        told = answer.json()
        assert told["ClientTransactionID"] == 67890
        assert told["ServerTransactionID"] >= 1
        if member in NEVER_IMPLEMENTED:
            assert told["ErrorNumber"] == NOT_IMPLEMENTED
        elif member in AFTER_AN_IMAGE:
            assert told["ErrorNumber"] == INVALID_OPERATION
        else:
            assert told["ErrorNumber"] == 0
            assert told["ErrorMessage"] == ""
            kind = READ[member]
            assert isinstance(told["Value"], kind)
            assert isinstance(told["Value"], bool) is (kind is bool)
        if told["ErrorNumber"]:
            assert told["ErrorMessage"]
            assert "Value" not in told

    @pytest.mark.parametrize("member", READ)
    def test_names_of_parameters_may_have_any_case(self, camera: RawCamera, member: str) -> None:
        for ids in (
            {"clientid": "1", "ClientTransactionID": "67890"},
            {"ClientID": "1", "clienttransactionid": "67890"},
            {"CLIENTID": "1", "CLIENTTRANSACTIONID": "67890", "ExtraParameter": "ExtraValue"},
        ):
            answer = camera.get(member, **ids)
            assert answer.status_code == 200
            assert answer.json()["ClientTransactionID"] == 67890

    @pytest.mark.parametrize("member", READ)
    def test_refuses_bad_identifiers(self, camera: RawCamera, member: str) -> None:
        for name in IDS:
            for bad in BAD_IDS:
                assert camera.get(member, **IDS | {name: bad}).status_code == 400, (name, bad)

    @pytest.mark.parametrize("member", READ)
    def test_is_spelled_in_lower_case(self, camera: RawCamera, member: str) -> None:
        assert camera.get(member.upper()).status_code == 404
        assert camera.get(member.capitalize()).status_code == 404
        assert camera.get(member + "x").status_code == 404

    @pytest.mark.parametrize("member", sorted(READ.keys() - WRITTEN.keys()))
    def test_cannot_be_written_if_it_is_read_only(self, camera: RawCamera, member: str) -> None:
        answer = camera.put(member, Value="1")
        assert answer.status_code == 405

    @pytest.mark.parametrize("member", sorted(READ.keys() - {"connected"}))
    def test_needs_a_connection_unless_it_is_of_the_driver(self, camera: RawCamera, member: str) -> None:
        assert camera.write("connected", Connected="false") == 0
        common = {
            "connecting",
            "description",
            "driverinfo",
            "driverversion",
            "interfaceversion",
            "name",
            "supportedactions",
        }
        assert camera.error(member) == (0 if member in common else NOT_CONNECTED)


class TestEveryPut:
    @pytest.mark.parametrize("member", WRITTEN)
    def test_takes_good_parameters(self, camera: RawCamera, member: str) -> None:
        extra = {"ExtraParameter": "ExtraValue"}
        for ids in (IDS, IDS | extra):
            answer = camera.put(member, **WRITTEN[member], **ids)
            wait_for(lambda: camera.get("camerastate").json().get("Value", 0) == 0)
            assert answer.status_code == 200
            told = answer.json()
            assert told["ErrorNumber"] == (NOT_IMPLEMENTED if member in WITHOUT_EFFECT else 0), told
            assert told["ClientTransactionID"] == 67890
            assert told["ServerTransactionID"] >= 1
            camera.connect()

    @pytest.mark.parametrize(("member", "name"), parameters_written())
    def test_names_of_parameters_are_case_sensitive(self, camera: RawCamera, member: str, name: str) -> None:
        for wrong in (name.lower(), name.upper(), name.swapcase(), name + "s"):
            if wrong != name:
                given = {wrong if key == name else key: value for key, value in WRITTEN[member].items()}
                assert camera.put(member, **given, **IDS).status_code == 400, wrong
        missing = {key: value for key, value in WRITTEN[member].items() if key != name}
        assert camera.put(member, **missing, **IDS).status_code == 400
        assert camera.value("camerastate") == 0

    @pytest.mark.parametrize(("member", "name"), [p for p in parameters_written() if p[1] not in TEXTS])
    def test_values_of_another_type_are_refused(self, camera: RawCamera, member: str, name: str) -> None:
        for bad in ("", " ", "asduio6fghZZ", "1,5", "nan", "inf", "1e999", "١", "1_0"):
            answer = camera.put(member, **WRITTEN[member] | {name: bad}, **IDS)
            assert answer.status_code == 400, bad
            assert name in answer.text
        assert camera.value("camerastate") == 0

    @pytest.mark.parametrize("member", WRITTEN)
    def test_identifiers_in_wrong_case_are_overlooked(self, camera: RawCamera, member: str) -> None:
        answer = camera.put(member, **WRITTEN[member], ClientID="1", clienttransactionid="67890")
        assert answer.status_code == 200
        assert answer.json()["ClientTransactionID"] == 0
        wait_for(lambda: camera.get("camerastate").json().get("Value", 0) == 0)
        camera.connect()
        answer = camera.put(member, **WRITTEN[member], clientid="1", ClientTransactionID="67890")
        assert answer.status_code == 200
        assert answer.json()["ClientTransactionID"] == 67890
        wait_for(lambda: camera.get("camerastate").json().get("Value", 0) == 0)

    @pytest.mark.parametrize("member", WRITTEN)
    def test_bad_identifiers_are_refused_before_anything_is_done(self, camera: RawCamera, member: str) -> None:
        for name in IDS:
            for bad in BAD_IDS:
                assert camera.put(member, **WRITTEN[member], **IDS | {name: bad}).status_code == 400, (name, bad)
        assert camera.value("camerastate") == 0
        assert camera.value("gain") == 100
        assert camera.value("connected") is True

    @pytest.mark.parametrize("member", WRITTEN)
    def test_is_spelled_in_lower_case(self, camera: RawCamera, member: str) -> None:
        assert camera.put(member.upper(), **WRITTEN[member]).status_code == 404

    @pytest.mark.parametrize("member", sorted(WRITTEN.keys() - READ.keys()))
    def test_methods_cannot_be_read(self, camera: RawCamera, member: str) -> None:
        assert camera.get(member).status_code == 405

    def test_parameters_belong_into_the_body(self, camera: RawCamera) -> None:
        answer = camera.session.put(camera.base + "gain?Gain=120&ClientTransactionID=3", timeout=5)
        assert answer.status_code == 400
        assert camera.value("gain") == 100


class TestAddresses:
    @pytest.mark.parametrize(
        "path",
        [
            "/apx/v1/camera/0/description",
            "/api/1/camera/0/description",
            "/api/v/camera/0/description",
            "/api/V1/camera/0/description",
            "/api/v2/camera/0/description",
            "/api/v1/CAMERA/0/description",
            "/api/v1/telescope/0/description",
            "/api/v1/baddevicetype/0/description",
            "/api/v1/camera/-1/description",
            "/api/v1/camera/1/description",
            "/api/v1/camera/99999/description",
            "/api/v1/camera/A/description",
            "/api/v1/camera/0/descrip",
            "/api/v1/camera/0/",
            "/api/v1/camera/0",
            "/api/v1/camera/0/gain/extra",
            "/management/v2/description",
            "/MANAGEMENT/v1/description",
        ],
    )
    def test_what_is_no_address_is_refused(self, camera: RawCamera, path: str) -> None:
        answer = camera.session.get(camera.server + path, timeout=5, allow_redirects=False)
        assert answer.status_code in (400, 404)

    @pytest.mark.parametrize("verb", ["POST", "DELETE", "PATCH", "OPTIONS"])
    def test_other_verbs_are_refused(self, camera: RawCamera, verb: str) -> None:
        assert camera.session.request(verb, camera.base + "gain", data={"Gain": "1"}, timeout=5).status_code == 405
        assert camera.value("gain") == 100

    @pytest.mark.parametrize("member", ["gain", "startexposure"])
    def test_head_does_nothing(self, camera: RawCamera, member: str) -> None:
        answer = camera.session.head(camera.base + member, timeout=5)
        assert answer.status_code == (200 if member in READ else 405)
        assert camera.value("camerastate") == 0

    def test_management_needs_no_connection(self, camera: RawCamera) -> None:
        camera.write("connected", Connected="false")

        def ask(path: str) -> Any:
            answer = camera.session.get(f"{camera.server}/management/{path}", params=IDS, timeout=5).json()
            assert answer["ClientTransactionID"] == 67890
            assert answer["ServerTransactionID"] >= 1
            return answer["Value"]

        assert ask("apiversions") == [1]
        described = ask("v1/description")
        assert set(described) >= {"ServerName", "Manufacturer", "ManufacturerVersion", "Location"}
        (device,) = ask("v1/configureddevices")
        assert device["DeviceType"] == "Camera"
        assert device["DeviceNumber"] == 0
        assert device["DeviceName"] == camera.value("name")
        assert len(device["UniqueID"]) > 8
        bad = camera.session.get(f"{camera.server}/management/apiversions?ClientID=x", timeout=5)
        assert bad.status_code == 400

    def test_server_transactions_count_up(self, camera: RawCamera) -> None:
        numbers = [camera.get("gain").json()["ServerTransactionID"] for _ in range(5)]
        assert numbers == sorted(set(numbers))

    def test_the_highest_client_transaction_comes_back(self, camera: RawCamera) -> None:
        assert camera.get("gain", ClientTransactionID=2**32 - 1).json()["ClientTransactionID"] == 2**32 - 1
        camera.expose(0.001)
        frame = camera.get("imagearray", IMAGE_BYTES, ClientTransactionID=2**32 - 1).content
        assert np.frombuffer(frame, "<u4", 11)[2] == 2**32 - 1


class TestConnection:
    def test_connect_and_disconnect(self, camera: RawCamera) -> None:
        assert camera.write("disconnect") == 0
        assert camera.value("connected") is False
        assert camera.write("connect") == 0
        assert camera.value("connecting") is False
        assert camera.value("connected") is True

    @pytest.mark.parametrize("text", ["true", "True", "TRUE", "tRuE"])
    def test_truth_may_have_any_case(self, camera: RawCamera, text: str) -> None:
        camera.write("connected", Connected="false")
        assert camera.write("connected", Connected=text) == 0
        assert camera.value("connected") is True

    @pytest.mark.parametrize("member", sorted(WRITTEN.keys() - {"connected", "connect", "disconnect", "action"}))
    def test_nothing_is_done_without_one(self, camera: RawCamera, member: str) -> None:
        camera.write("connected", Connected="false")
        assert camera.write(member, **WRITTEN[member]) in (NOT_CONNECTED, NOT_IMPLEMENTED)

    def test_unknown_actions_are_refused(self, camera: RawCamera) -> None:
        assert camera.write("action", Action="dance", Parameters="") == NO_SUCH_ACTION
        assert camera.value("supportedactions") == ["fault", "restart"]
