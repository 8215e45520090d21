"""An Alpaca camera made ready: connected, known, checked against the settings, set, and read back."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from hardware.alpaca.calls import AlpacaCalls, InvalidOperationError, ServerFaultError, said
from hardware.camera import CameraInfo
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraProtocolError,
    CameraTimeoutError,
    CameraTransportError,
    CameraValueError,
)
from hardware.settings import CameraSettings

log = logging.getLogger("darkpipe.capture")

CONNECT_S = 30.0
VERIFY_S = 2.5
ABORT_S = 15.0
POLL_S = 0.1
BUSY_STATES = (1, 2, 3)  # waiting, exposing, reading; some servers stay at 4 (download) after a frame
TOLERANCE = 0.02
IDLE_STATE = 0
ERROR_STATE = 5
REMEMBERED = ("Gain", "Offset", "ReadoutMode", "BinX", "StartX")  # a sub-frame or binning shows in the image as well
ASYNCHRONOUS = 4  # ICamera interface from which on Connect and Connecting are there
CHECK = "Is it the right camera? Correct the settings of the camera"


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Ask until `done`, at most for so many real seconds; whether it was."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
    return True


def connect_device(calls: AlpacaCalls) -> bool:
    """Connect the server to its camera, and verify that. Returns whether it was connected before.

    Raises
    ------
    CameraNotConnectedError
        if it does not say so in time; CameraError of any kind if it says why.
    """
    try:
        before = calls.boolean("Connected")
    except CameraNotImplementedError as error:
        what = f"this server has no camera {calls.number_on_server} ({error.what})"
        raise CameraNotImplementedError(what, where=calls.where, do="Correct camera.device_number") from error
    if before:
        return True
    with calls.line.patient(CONNECT_S):
        asked = False
        if (calls.optional(calls.integer, "InterfaceVersion") or 1) >= ASYNCHRONOUS:
            asked = _connect_asynchronously(calls)
        if not (asked and calls.boolean("Connected")):
            calls.write_boolean("Connected", True)
        if not wait_until(lambda: calls.boolean("Connected"), VERIFY_S):
            calls.write("Connected", "True")  # a server that understands nothing but this spelling
    if not wait_until(lambda: calls.boolean("Connected"), VERIFY_S):
        raise CameraNotConnectedError(
            "the camera does not connect",
            where=calls.where,
            do="Is it plugged in, powered, and free of other programs?",
        )
    return False


def disconnect_device(calls: AlpacaCalls) -> None:
    """Let the server let its camera go."""
    calls.write_boolean("Connected", False)


def _connect_asynchronously(calls: AlpacaCalls) -> bool:
    try:
        calls.do("Connect")
        if not wait_until(lambda: not calls.boolean("Connecting"), CONNECT_S):
            raise CameraTimeoutError(f"still connecting after {CONNECT_S:g} s", where=calls.where)
    except (CameraNotImplementedError, CameraValueError, ServerFaultError):  # says version 4, and is none
        return False
    return True


def make_idle(calls: AlpacaCalls, take_over: bool) -> None:
    """See to it that no exposure runs.

    Raises
    ------
    CameraBusyError
        if one runs and it is not to be taken over; CameraDriverError if it cannot be stopped.
    """
    state = calls.state()
    if state not in BUSY_STATES:
        if take_over or state == ERROR_STATE:
            clear(calls, state)
        return
    if not take_over:
        what = f"the camera is exposing (CameraState {state}) for somebody else"
        raise CameraBusyError(what, where=calls.where, do="Wait until it has ended, or stop it there")
    log.warning("%s: an exposure was running, and is stopped", calls.where)
    stop_exposure(calls)


def clear(calls: AlpacaCalls, state: int | None) -> None:
    """Help a camera out of its error state, or out of a download that never ends: an abort is all there is for that.
    If it does not help, the next exposure says so.
    """
    if state not in (None, IDLE_STATE):
        with contextlib.suppress(CameraError):
            calls.do("AbortExposure")


def stop_exposure(calls: AlpacaCalls) -> None:
    """Abort the exposure that runs, or stop it where it cannot be aborted, and wait until it has ended."""
    try:
        calls.do("AbortExposure")
    except CameraTransportError:
        raise
    except CameraError as error:
        log.debug("%s: %s", calls.where, error)
        calls.do("StopExposure")
    if not wait_until(lambda: calls.state() not in BUSY_STATES, ABORT_S):
        raise CameraDriverError(
            f"the exposure has not stopped within {ABORT_S:g} s", where=calls.where, do="Restart the camera's server"
        )


def read_facts(calls: AlpacaCalls) -> CameraInfo:
    """What the camera is; settings are not in it yet."""
    cols, rows = calls.integer("CameraXSize"), calls.integer("CameraYSize")
    if not (0 < cols < 1 << 17 and 0 < rows < 1 << 17):
        raise CameraProtocolError(f"the sensor is said to have {cols} × {rows} pixels", where=calls.where)
    number = _plausible(calls)
    pitch = [calls.described(calls.number, member) or 0.0 for member in ("PixelSizeX", "PixelSizeY")]
    sensor = calls.described(calls.integer, "SensorType")
    program = (calls.described(calls.text, "DriverInfo"), calls.described(calls.text, "DriverVersion"))
    return CameraInfo(
        name=calls.optional(calls.text, "Name") or f"camera {calls.number_on_server}",
        camera_id=_unique_id(calls),
        driver=" ".join(dict.fromkeys(part for part in program if part)),
        sensor_name=calls.described(calls.text, "SensorName") or "",
        sensor_cols=cols,
        sensor_rows=rows,
        pixel_size_um=(pitch[0], pitch[1]) if all(math.isfinite(side) and side > 0 for side in pitch) else None,
        color=bool(sensor),
        max_adu=min(int(number("MaxADU", 65535.0)), 65535) or 65535,
        exposure_min_s=number("ExposureMin", 0.0),
        exposure_max_s=number("ExposureMax", 0.0) or math.inf,
        exposure_resolution_s=number("ExposureResolution", 0.0),
        has_cooler=calls.described(calls.boolean, "CoolerOn") is not None,
        can_set_temperature=bool(calls.described(calls.boolean, "CanSetCCDTemperature")),
    )


def _plausible(calls: AlpacaCalls) -> Callable[[str, float], float]:
    """A reader of limits: finite and not negative, else what stands for 'not said'."""

    def number(member: str, missing: float) -> float:
        value = calls.optional(calls.number, member)
        return value if value is not None and math.isfinite(value) and value >= 0 else missing

    return number


def _unique_id(calls: AlpacaCalls) -> str:
    listed = calls.management("configureddevices")
    for device in listed if isinstance(listed, list) else []:
        is_camera = isinstance(device, Mapping) and str(device.get("DeviceType", "")).lower() == "camera"
        if is_camera and device.get("DeviceNumber") == calls.number_on_server:
            return said(device.get("UniqueID") or "")[:80]
    return ""


def check_settings(info: CameraInfo, settings: CameraSettings, where: str) -> None:
    """Compare what the settings say about the camera with what it says itself.

    Raises
    ------
    CameraValueError
        where they differ by more than 2 %; names both.
    """
    pitch = info.pixel_size_um
    width = pitch and info.sensor_cols * pitch[0] / 1000
    height = pitch and info.sensor_rows * pitch[1] / 1000
    _compare("sensor_width", settings.sensor_width, width, "mm", where)
    _compare("sensor_height", settings.sensor_height, height, "mm", where)
    _compare("pixel_size", settings.pixel_size, pitch and pitch[0], "µm", where)
    _compare("pixel_size", settings.pixel_size, pitch and pitch[1], "µm", where)
    kind = "color" if info.color else "mono"
    if settings.type not in (None, kind):
        what = f"camera.type is {settings.type}, but the camera says that it is {kind}"
        raise CameraValueError(what, where=where, do=CHECK)
    if settings.bit_depth is not None:
        _compare("bit_depth (its highest count)", 2**settings.bit_depth - 1, info.max_adu, "ADU", where)


def _compare(name: str, wanted: float | None, found: float | None, unit: str, where: str) -> None:
    if wanted is None:
        return
    if found is None:
        log.warning("%s: camera.%s cannot be checked: the camera does not say it", where, name)
    elif abs(found - wanted) > TOLERANCE * wanted:
        what = f"camera.{name} is {wanted:g} {unit}, but the camera says {found:.6g} {unit}"
        raise CameraValueError(what, where=where, do=CHECK)


def apply_settings(calls: AlpacaCalls, info: CameraInfo, settings: CameraSettings) -> dict[str, Any]:
    """Write binning, full frame, read-out mode, gain and offset; read all of it back.

    Returns
    -------
    The fields of `CameraInfo` that follow from it.

    Raises
    ------
    CameraValueError
        if the camera refuses a value or reads back another one; CameraNotImplementedError if it has no such setting.
    """
    mode = _set_readout_mode(calls, settings.readout_mode)
    binning = settings.binning
    _set_whole_frame(calls, info, binning)
    gain = _set_choice(calls, "Gain", settings.gain)
    offset = _set_choice(calls, "Offset", settings.offset)
    electrons = calls.described(calls.number, "ElectronsPerADU")
    known = electrons is not None and math.isfinite(electrons) and electrons > 0
    return {
        "binning": (binning, binning),
        "readout_mode": mode,
        "gain": gain,
        "offset": offset,
        "electrons_per_adu": electrons if known else None,
    }


def _set_whole_frame(calls: AlpacaCalls, info: CameraInfo, binning: int) -> None:
    """Binning and the whole sensor. Where a camera has no binning or no sub-frames, there is nothing to set, and the
    size of its images tells whether they are what was wanted."""
    do = "This camera cannot give its whole sensor like that: choose another camera.binning"
    for member, value, usual in (
        ("BinX", binning, 1),
        ("BinY", binning, 1),
        ("StartX", 0, 0),
        ("StartY", 0, 0),
        ("NumX", info.sensor_cols // binning, info.sensor_cols // binning),
        ("NumY", info.sensor_rows // binning, info.sensor_rows // binning),
    ):
        try:
            set_and_verify(calls, member, value)
        except CameraValueError as error:
            raise CameraValueError(error.what, where=calls.where, do=do) from error
        except CameraNotImplementedError as error:
            if value != usual:
                raise CameraNotImplementedError(error.what, where=calls.where, do=do) from error


def settings_there(calls: AlpacaCalls) -> dict[str, int]:
    """What the camera is set to, as it reads back; what it does not have is left out."""
    readings = {member: calls.optional(calls.integer, member) for member in REMEMBERED}
    return {member: value for member, value in readings.items() if value is not None}


def check_still_set(calls: AlpacaCalls, before: Mapping[str, int]) -> None:
    """Raise `CameraNotConnectedError` where a setting is no longer what it was: a camera that restarted forgets."""
    for member, value in before.items():
        found = calls.optional(calls.integer, member)
        if found != value:
            raise CameraNotConnectedError(
                f"{member} was {value} and is now {found}: the camera was restarted, or somebody else uses it",
                where=calls.where,
                do="Connect again",
            )


def set_and_verify(calls: AlpacaCalls, member: str, value: int) -> None:
    """Write a whole number unless it stands there already, and read it back."""
    if calls.optional(calls.integer, member) == value:
        return
    calls.write(member, value)
    found = calls.integer(member)
    if found != value:
        what = f"{member} was set to {value}, but reads back {found}"
        raise CameraValueError(what, where=calls.where, do="Choose a value that this camera has")


def _set_readout_mode(calls: AlpacaCalls, wanted: str | int | None) -> str:
    names = calls.optional(calls.names, "ReadoutModes") or []
    if wanted is not None:
        set_and_verify(calls, "ReadoutMode", _index_of(wanted, names, "readout_mode", calls.where))
    index = calls.optional(calls.integer, "ReadoutMode")
    if index is None:
        return ""
    return names[index] if 0 <= index < len(names) else str(index)


def _index_of(wanted: str | int, names: list[str], setting: str, where: str) -> int:
    folded = [name.strip().casefold() for name in names]
    if str(wanted).strip().casefold() in folded and not isinstance(wanted, int):
        return folded.index(str(wanted).strip().casefold())
    if str(wanted).strip().isdecimal() and int(wanted) < len(names):
        return int(wanted)
    listed = ", ".join(f"{index} '{name}'" for index, name in enumerate(names)) or "none"
    what = f"the camera has no camera.{setting} '{wanted}'; it has {listed}"
    raise CameraValueError(what, where=where, do="Choose one of these")


def _set_choice(calls: AlpacaCalls, member: str, wanted: int | None) -> int | None:
    """Gain or Offset: a number between limits, or the place in a list of names, or not there at all.

    Where every name of the list holds a number ('ISO 800'), that number is the setting, else its place is.
    """
    try:
        names = calls.optional(calls.names, f"{member}s") or []
    except InvalidOperationError:  # so some drivers say that theirs is a number
        names = []
    values = _values_of(names)
    if wanted is not None:
        if names and wanted not in values:
            what = f"the camera has no camera.{member.lower()} {wanted}; it has {', '.join(names)} ({values})"
            raise CameraValueError(what, where=calls.where, do="Choose one of these")
        if not names:
            _check_limits(calls, member, wanted)
        try:
            set_and_verify(calls, member, values.index(wanted) if names else wanted)
        except CameraNotImplementedError as error:
            do = f"Take camera.{member.lower()} out of the settings"
            raise CameraNotImplementedError(error.what, where=calls.where, do=do) from error
    found = calls.optional(calls.integer, member)
    return values[found] if found is not None and 0 <= found < len(names) else found


def _values_of(names: list[str]) -> list[int]:
    numbers = [re.findall(r"\d+", name) for name in names]
    values = [int(found[0]) for found in numbers if len(found) == 1]
    return values if len(set(values)) == len(names) else list(range(len(names)))


def _check_limits(calls: AlpacaCalls, member: str, wanted: int) -> None:
    low, high = (calls.described(calls.integer, f"{member}{end}") for end in ("Min", "Max"))
    if (low is not None and wanted < low) or (high is not None and wanted > high):
        what = f"camera.{member.lower()} {wanted} is outside {low} to {high}, the limits of this camera"
        raise CameraValueError(what, where=calls.where, do="Choose a value inside")
