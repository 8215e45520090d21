"""The members of ICameraV4: a table from the name in the address to what it does with the camera."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hardware.errors import CameraError
from hardware.simulator import protocol
from hardware.simulator.cooler import Cooler
from hardware.simulator.model import MOST_BINNING, READOUT_MODES, CameraModel
from hardware.simulator.protocol import (
    AlpacaError,
    Parameters,
    boolean,
    integer,
    invalid,
    not_implemented,
    number,
    words,
)

NAME = "darkpipe simulated camera"
INTERFACE_VERSION = 4
DRIVER_VERSION = "1.0"

Get = Callable[[CameraModel], Any]
Parse = Callable[[str, str], Any]


@dataclass(frozen=True)
class Member:
    """A property or a method. get, put : None where the protocol has none. parameters : of put, in the order of its
    arguments. offline : answers without a connection."""

    get: Get | None = None
    put: Callable[..., Any] | None = None
    parameters: tuple[tuple[str, Parse], ...] = ()
    offline: bool = False

    def call_put(self, camera: CameraModel, given: Parameters) -> Any:
        """Read the parameters, then do it. Raises `BadRequestError` before anything is done."""
        values = [parse(name, given.text(name)) for name, parse in self.parameters]
        assert self.put is not None
        return self.put(camera, *values)


def fixed(value: Any, *, offline: bool = False) -> Member:
    """A property that never changes."""
    return Member(get=lambda camera: value, offline=offline)


def read(get: Get) -> Member:
    """A property that cannot be written."""
    return Member(get=get)


def of_sensor(get: Callable[[Any], Any]) -> Member:
    """A property that the sensor's spec tells."""
    return Member(get=lambda camera: get(camera.sensor.spec))


def written(name: str, parse: Parse, get: Get, put: Callable[..., Any], *, offline: bool = False) -> Member:
    """A property that can be written, by a parameter of its own name."""
    return Member(get, put, ((name, parse),), offline)


def method(put: Callable[..., Any], *parameters: tuple[str, Parse], offline: bool = False) -> Member:
    """Something to do."""
    return Member(None, put, parameters, offline)


def absent(name: str, parse: Parse | None = None) -> Member:
    """A property that this camera does not have; parse : of its parameter, where it can be written in others."""
    refuse = refusal(name)
    return Member(refuse) if parse is None else Member(refuse, refuse, ((name, parse),))


def refusal(name: str) -> Callable[..., Any]:
    """Whatever is asked: not implemented."""

    def refuse(camera: CameraModel, *values: Any) -> Any:
        raise not_implemented(name)

    return refuse


def connect(camera: CameraModel, connected: bool = True) -> None:
    """Connect, or not."""
    camera.connected = connected


def frame_member(name: str, attribute: str) -> Member:
    """One of the four numbers of the sub-frame."""
    return written(
        name,
        integer,
        lambda camera: getattr(camera.settings, attribute),
        lambda camera, pixels: camera.set_frame(**{attribute: pixels}),
    )


def bayer_offset(name: str) -> Member:
    """Where the filter pattern begins; a monochrome camera has none."""

    def get(camera: CameraModel) -> int:
        if not camera.sensor.spec.color:
            raise not_implemented(name)
        return 0

    return read(get)


def last_start(camera: CameraModel) -> str:
    """Start of the last exposure, UTC, as in FITS."""
    start: datetime = camera.last_exposure()[1]
    return start.replace(tzinfo=None).isoformat(timespec="milliseconds")


def switch_cooler(camera: CameraModel, text: str) -> None:
    """The switch; as text, since some servers take one spelling alone."""
    on = boolean("CoolerOn", text)
    if camera.faults.lasting("lower_case_switch") is not None:
        on = text == "true"
    camera.set_cooler_on(on)


def of_cooler(name: str, get: Callable[[Cooler], Any]) -> Member:
    """What only a camera with a cooler can tell."""
    return read(lambda camera: get(camera.need_cooler(name)))


def device_state(camera: CameraModel) -> list[dict[str, Any]]:
    """All that changes, in one call; what is refused is left out."""
    state = []
    for name in DEVICE_STATE:
        get = MEMBERS[name.lower()].get
        assert get is not None
        try:
            state.append({"Name": name, "Value": get(camera)})
        except AlpacaError:
            continue
    stamp = camera.clock.utc().replace(tzinfo=None).isoformat(timespec="milliseconds")
    return [*state, {"Name": "TimeStamp", "Value": stamp}]


def action(camera: CameraModel, name: str, parameters: str) -> str:
    """The actions of this camera: 'fault' with {"name": …, …} as in `Faults.set`, or {"clear": name or null}; and
    'restart'."""
    if name.lower() == "restart":
        camera.restart()
        return ""
    if name.lower() != "fault":
        raise AlpacaError(protocol.ACTION_NOT_IMPLEMENTED, f"there is no action '{name}'")
    try:
        told = json.loads(parameters)
        if "clear" in told:
            camera.faults.clear(told["clear"])
        else:
            camera.faults.set(told.pop("name"), **told)
    except (ValueError, TypeError, KeyError, AttributeError, CameraError) as error:
        raise invalid(f"Parameters of action fault: {error}") from None
    return json.dumps(camera.faults.active)


DEVICE_STATE = (
    "CameraState",
    "CCDTemperature",
    "CoolerPower",
    "HeatSinkTemperature",
    "ImageReady",
    "IsPulseGuiding",
    "PercentCompleted",
)

COMMON = {
    "action": method(action, ("Action", words), ("Parameters", words), offline=True),
    "commandblind": method(refusal("CommandBlind"), ("Command", words), ("Raw", boolean), offline=True),
    "commandbool": method(refusal("CommandBool"), ("Command", words), ("Raw", boolean), offline=True),
    "commandstring": method(refusal("CommandString"), ("Command", words), ("Raw", boolean), offline=True),
    "connect": method(connect, offline=True),
    "connected": written("Connected", boolean, lambda camera: camera.connected, connect, offline=True),
    "connecting": fixed(False, offline=True),
    "description": fixed("A camera that is not there, of darkpipe", offline=True),
    "devicestate": read(device_state),
    "disconnect": method(lambda camera: connect(camera, False), offline=True),
    "driverinfo": fixed("darkpipe simulator: dark frames with known truth, and faults on request", offline=True),
    "driverversion": fixed(DRIVER_VERSION, offline=True),
    "interfaceversion": fixed(INTERFACE_VERSION, offline=True),
    "name": fixed(NAME, offline=True),
    "supportedactions": fixed(["fault", "restart"], offline=True),
}

SENSOR = {
    "bayeroffsetx": bayer_offset("BayerOffsetX"),
    "bayeroffsety": bayer_offset("BayerOffsetY"),
    "cameraxsize": of_sensor(lambda spec: spec.cols),
    "cameraysize": of_sensor(lambda spec: spec.rows),
    "electronsperadu": read(lambda camera: camera.sensor.electrons_per_adu(camera.settings.gain)),
    "exposuremax": of_sensor(lambda spec: spec.exposure_max_s),
    "exposuremin": of_sensor(lambda spec: spec.exposure_min_s),
    "exposureresolution": of_sensor(lambda spec: spec.exposure_resolution_s),
    "fullwellcapacity": of_sensor(lambda spec: spec.full_well_e),
    "hasshutter": fixed(True),
    "maxadu": of_sensor(lambda spec: spec.max_adu),
    "pixelsizex": of_sensor(lambda spec: spec.pixel_size_um),
    "pixelsizey": of_sensor(lambda spec: spec.pixel_size_um),
    "sensorname": of_sensor(lambda spec: f"simulated {spec.cols} x {spec.rows}"),
    "sensortype": of_sensor(lambda spec: protocol.RGGB if spec.color else protocol.MONOCHROME),
}

SETTINGS = {
    "binx": written("BinX", integer, lambda camera: camera.settings.binning, CameraModel.set_binning),
    "biny": written("BinY", integer, lambda camera: camera.settings.binning, CameraModel.set_binning),
    "canasymmetricbin": fixed(False),
    "canfastreadout": fixed(False),
    "fastreadout": absent("FastReadout", boolean),
    "gain": written("Gain", integer, lambda camera: camera.settings.gain, CameraModel.set_gain),
    "gainmax": of_sensor(lambda spec: spec.gain_range[1]),
    "gainmin": of_sensor(lambda spec: spec.gain_range[0]),
    "gains": absent("Gains"),
    "maxbinx": fixed(MOST_BINNING),
    "maxbiny": fixed(MOST_BINNING),
    "numx": frame_member("NumX", "num_x"),
    "numy": frame_member("NumY", "num_y"),
    "offset": written("Offset", integer, lambda camera: camera.settings.offset, CameraModel.set_offset),
    "offsetmax": of_sensor(lambda spec: spec.offset_range[1]),
    "offsetmin": of_sensor(lambda spec: spec.offset_range[0]),
    "offsets": absent("Offsets"),
    "readoutmode": written("ReadoutMode", integer, lambda camera: camera.readout_mode, CameraModel.set_readout_mode),
    "readoutmodes": fixed(list(READOUT_MODES)),
    "startx": frame_member("StartX", "start_x"),
    "starty": frame_member("StartY", "start_y"),
    "subexposureduration": absent("SubExposureDuration", number),
}

COOLING = {
    "cangetcoolerpower": read(lambda camera: camera.has_cooler),
    "cansetccdtemperature": read(lambda camera: camera.has_cooler),
    "ccdtemperature": read(CameraModel.temperature_c),
    "cooleron": written("CoolerOn", words, lambda camera: camera.need_cooler("CoolerOn").on, switch_cooler),
    "coolerpower": of_cooler("CoolerPower", Cooler.power_percent),
    "heatsinktemperature": of_cooler("HeatSinkTemperature", Cooler.heat_sink_c),
    "setccdtemperature": written(
        "SetCCDTemperature",
        number,
        lambda camera: camera.need_cooler("SetCCDTemperature").set_point_c,
        CameraModel.set_set_point,
    ),
}

EXPOSURES = {
    "abortexposure": method(CameraModel.abort_exposure),
    "camerastate": read(CameraModel.camera_state),
    "canabortexposure": fixed(True),
    "canpulseguide": fixed(False),
    "canstopexposure": fixed(True),
    "imagearray": read(CameraModel.image),
    "imagearrayvariant": read(CameraModel.image),
    "imageready": read(CameraModel.image_ready),
    "ispulseguiding": fixed(False),
    "lastexposureduration": read(lambda camera: camera.last_exposure()[0]),
    "lastexposurestarttime": read(last_start),
    "percentcompleted": read(CameraModel.percent_completed),
    "pulseguide": method(refusal("PulseGuide"), ("Direction", integer), ("Duration", integer)),
    "startexposure": method(CameraModel.start_exposure, ("Duration", number), ("Light", boolean)),
    "stopexposure": method(CameraModel.stop_exposure),
}

IMAGES = ("imagearray", "imagearrayvariant")

MEMBERS: dict[str, Member] = COMMON | SENSOR | SETTINGS | COOLING | EXPOSURES
