"""The camera behind the server: what it is, how it is set, what it does. It knows nothing of HTTP."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from hardware.clock import Clock
from hardware.simulator.cooler import ABSOLUTE_ZERO_C, HIGHEST_SET_POINT_C, Cooler
from hardware.simulator.exposure import Settings, Shot
from hardware.simulator.faults import EXPOSURE, FAULTS, Fault, Faults
from hardware.simulator.protocol import (
    DRIVER_ERROR,
    ERROR,
    EXPOSING,
    IDLE,
    INVALID_OPERATION,
    AlpacaError,
    invalid,
    not_implemented,
)
from hardware.simulator.sensor import Sensor

MOST_BINNING = 4
READOUT_MODES = ("Normal", "Fast")
FAST_READOUT = 0.25  # part of the normal read-out time
STALE_S = 0.2  # so long have real servers called the image before this one ready
COOLER_FAULTS = {
    "frozen_reading": "frozen_reading",
    "cooler_never_arrives": "never_arrives",
    "inverted_switch": "inverted_switch",
    "ignored_set_point": "ignored_set_point",
}


class CameraModel:
    """One camera: sensor, cooler, clock, and the state that its driver keeps.

    Methods raise `AlpacaError` for what the protocol refuses. Hold `lock` around a call where other threads call too.

    light_frames : number of exposures that were asked for with light. next_frame_number : of the next exposure; with
    the seed it decides the noise.
    """

    def __init__(
        self, sensor: Sensor, cooler: Cooler, clock: Clock, faults: Faults, *, has_cooler: bool = True
    ) -> None:
        self.sensor, self.cooler, self.clock, self.faults = sensor, cooler, clock, faults
        self.has_cooler = has_cooler
        self.next_frame_number = self.light_frames = 0
        self.lock = threading.RLock()
        self._spoiled: set[str] = set()  # attributes of the cooler that a fault has changed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-out")
        self._wake()

    def _wake(self) -> None:
        """As after power-on."""
        spec = self.sensor.spec
        self.connected = False
        self.settings = Settings(1, 0, 0, spec.cols, spec.rows, spec.gain_setting, spec.offset_setting)
        self.readout_mode = 0
        self._shot: Shot | None = None
        self._done: Shot | None = None  # its image is ready
        self._last: tuple[float, datetime] | None = None

    def restart(self) -> None:
        """Power goes and comes back: settings, set point, cooler, exposure, image and connection are lost."""
        with self.lock:
            self._wake()
            self.cooler.restart()

    def close(self) -> None:
        """Wait for a read-out that runs."""
        self._pool.shutdown(wait=True)

    def update(self) -> float:
        """Bring everything up to the present, which is returned [s]."""
        with self.lock:
            self._apply_cooler_faults()
            now_s = self.clock.monotonic_s()
            shot = self._shot
            if shot is not None:
                shot.look(now_s, self.cooler.true_temperature_c(), self.sensor, self._pool)
                if shot.state(now_s) == IDLE:
                    self._shot, self._done = None, shot
                    self._last = (shot.duration_s, shot.started_utc)
            return now_s

    def _apply_cooler_faults(self) -> None:
        for name, attribute in COOLER_FAULTS.items():
            if self.faults.lasting(name) is not None:
                setattr(self.cooler, attribute, True)
                self._spoiled.add(attribute)
            elif attribute in self._spoiled:
                setattr(self.cooler, attribute, False)
                self._spoiled.remove(attribute)

    # settings

    def set_binning(self, binning: int) -> None:
        """Both ways: this camera bins symmetrically."""
        if not 1 <= binning <= MOST_BINNING:
            raise invalid(f"binning must be 1 to {MOST_BINNING}, not {binning}")
        self.settings = dataclasses.replace(self.settings, binning=binning)

    def set_frame(self, **changed: int) -> None:
        """One of start_x, start_y, num_x, num_y; whether all fit together is seen when an exposure starts."""
        for name, pixels in changed.items():
            if not (0 if name.startswith("start") else 1) <= pixels < 2**31:
                raise invalid(f"a frame cannot have {name} {pixels}")
        self.settings = dataclasses.replace(self.settings, **changed)

    def set_gain(self, gain: int) -> None:
        """Gain setting, within `SensorSpec.gain_range`."""
        _check_range("Gain", gain, self.sensor.spec.gain_range)
        self.settings = dataclasses.replace(self.settings, gain=gain)

    def set_offset(self, offset: int) -> None:
        """Offset setting, within `SensorSpec.offset_range`."""
        _check_range("Offset", offset, self.sensor.spec.offset_range)
        self.settings = dataclasses.replace(self.settings, offset=offset)

    def set_readout_mode(self, mode: int) -> None:
        """Index into `READOUT_MODES`."""
        _check_range("ReadoutMode", mode, (0, len(READOUT_MODES) - 1))
        self.readout_mode = mode

    # cooler

    def need_cooler(self, name: str) -> Cooler:
        """The cooler, if there is one."""
        if not self.has_cooler:
            raise not_implemented(name)
        return self.cooler

    def set_set_point(self, celsius: float) -> None:
        """Set point of the cooler [°C]."""
        cooler = self.need_cooler("SetCCDTemperature")
        if not ABSOLUTE_ZERO_C <= celsius <= HIGHEST_SET_POINT_C:
            raise invalid(f"the set point must be {ABSOLUTE_ZERO_C} to {HIGHEST_SET_POINT_C} °C, not {celsius}")
        cooler.set_point_c = celsius

    def set_cooler_on(self, on: bool) -> None:
        """Switch the cooler."""
        self.need_cooler("CoolerOn").on = on

    def temperature_c(self) -> float | None:
        """Reading of the thermometer [°C]; a fault may make it anything, None included."""
        fault = self.faults.acts("implausible_reading")
        if fault is None:
            return self.cooler.temperature_c()
        return None if fault.value == "null" else fault.number(ABSOLUTE_ZERO_C)

    # exposures

    def start_exposure(self, seconds: float, light: bool) -> None:
        """Start one; its image is ready after exposure and read-out."""
        now_s = self.update()
        if self._shot is not None and self._shot.state(now_s) != ERROR:
            raise AlpacaError(INVALID_OPERATION, "an exposure is already running")
        self._check_frame()
        spec = self.sensor.spec
        if not spec.exposure_min_s <= seconds <= spec.exposure_max_s:
            limits = f"{spec.exposure_min_s} to {spec.exposure_max_s} s"
            raise invalid(f"the exposure must be {limits}, not {seconds} s")
        step = spec.exposure_resolution_s
        if step > 0:
            seconds = min(max(round(seconds / step) * step, spec.exposure_min_s), spec.exposure_max_s)
        self.faults.exposure()
        acting = {name: self.faults.acts(name) for name, (kind, _) in FAULTS.items() if kind == EXPOSURE}
        self._shot = Shot(
            number=self.next_frame_number,
            duration_s=seconds,
            light=light,
            settings=self.settings,
            started_s=now_s,
            started_utc=self.clock.utc(),
            readout_s=spec.readout_s * (FAST_READOUT if self.readout_mode == 1 else 1.0),
            faults={name: fault for name, fault in acting.items() if fault is not None},
            previous=self._done.image if self._done is not None else None,
            stale_until_s=_stale_until(acting.get("stale_ready")),
        )
        self._done = None
        self.next_frame_number += 1
        self.light_frames += light
        self.update()
        if acting["restart"] is not None:
            self.restart()

    def _check_frame(self) -> None:
        setting = self.settings
        rows, cols = self.sensor.shape(setting.binning)
        if setting.start_x + setting.num_x > cols or setting.start_y + setting.num_y > rows:
            wanted = f"{setting.num_x} x {setting.num_y} from {setting.start_x}, {setting.start_y}"
            raise invalid(f"a frame of {wanted} does not fit the {cols} x {rows} pixels of binning {setting.binning}")

    def abort_exposure(self) -> None:
        """End an exposure and forget it; nothing happens if none runs."""
        self.update()
        self._shot = None

    def stop_exposure(self) -> None:
        """End an exposure early and keep what it has; nothing happens if none runs."""
        now_s = self.update()
        shot = self._shot
        if shot is not None and shot.state(now_s) == EXPOSING:
            shot.duration_s = max(now_s - shot.started_s, self.sensor.spec.exposure_min_s)
            self.update()

    def camera_state(self) -> int:
        """0 idle, 2 exposing, 3 reading, 4 download, 5 error."""
        now_s = self.update()
        return IDLE if self._shot is None else self._shot.state(now_s)

    def percent_completed(self) -> int:
        """Part of the exposure that is over; 100 when an image is there."""
        now_s = self.update()
        if self._shot is not None:
            return self._shot.percent(now_s)
        return 100 if self._done is not None else 0

    def image_ready(self) -> bool:
        """Whether `image` has one."""
        if self.camera_state() == ERROR:
            raise AlpacaError(DRIVER_ERROR, "the exposure has failed" + (self._shot.failure if self._shot else ""))
        return self._done is not None or self._stale() is not None

    def image(self) -> NDArray[np.uint16]:
        """The last image, (width, height) in memory order, as it is sent."""
        self.update()
        image = self._done.image if self._done is not None else self._stale()
        if image is None:
            raise AlpacaError(INVALID_OPERATION, "there is no image")
        return image

    def _stale(self) -> NDArray[np.uint16] | None:
        shot = self._shot
        return shot.previous if shot is not None and time.monotonic() < shot.stale_until_s else None

    def last_exposure(self) -> tuple[float, datetime]:
        """Duration [s] and start of the last exposure that gave an image."""
        self.update()
        if self._last is None:
            raise AlpacaError(INVALID_OPERATION, "no image has been taken")
        return self._last


def _check_range(name: str, value: int, limits: tuple[int, int]) -> None:
    if not limits[0] <= value <= limits[1]:
        raise invalid(f"{name} must be {limits[0]} to {limits[1]}, not {value}")


def _stale_until(fault: Fault | None) -> float:
    """Until when, by the machine's own clock: servers lag in real time, however fast the camera's clock runs."""
    return -math.inf if fault is None else time.monotonic() + fault.number(STALE_S)
