"""A camera in process: simulated sensor and cooler behind the `Camera` protocol, without a line in between."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardware.camera import CameraInfo, Exposure
from hardware.clock import Clock
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraTransportError,
    CameraValueError,
)
from hardware.simulator.cooler import Cooler
from hardware.simulator.sensor import Sensor


class SimulatedCamera:
    """Implements `hardware.camera.Camera`; exposures take the time of the clock that is given.

    sensor, cooler, clock : what it is made of. gain, offset : settings, None for the defaults of the sensor; binning,
    readout_mode : settings. first_frame_number : of the first exposure. has_cooler : False leaves a thermometer alone;
    can_set_temperature : False leaves a switch alone.

    next_frame_number : decides, with the settings, the noise of the next frame. It grows by one with each frame that
    is read out, not with those that are broken off; a run that goes on sets it to get the pixels of an unbroken one.

    Faults, to be set at any time: `error_state` (the driver fails in the middle of each exposure), `line_down` (no
    answer to anything until `reconnect`), `light_leak_adu_per_s`, `constant_image` (all pixels alike) and
    `duplicate_image` (the last frame once more).

    Raises
    ------
    CameraValueError
        for settings that the sensor does not have.
    """

    def __init__(
        self,
        sensor: Sensor,
        cooler: Cooler,
        clock: Clock,
        *,
        gain: int | None = None,
        offset: int | None = None,
        binning: int = 1,
        readout_mode: str = "Normal",
        first_frame_number: int = 0,
        has_cooler: bool = True,
        can_set_temperature: bool = True,
    ) -> None:
        self.sensor, self.cooler, self.clock = sensor, cooler, clock
        self.next_frame_number = first_frame_number
        self.error_state = self.line_down = self.constant_image = self.duplicate_image = False
        self.light_leak_adu_per_s = 0.0
        self._has_cooler, self._can_set = has_cooler, has_cooler and can_set_temperature
        self._gain = sensor.spec.gain_or_default(gain)
        self._offset = sensor.spec.offset_or_default(offset)
        sensor.shape(binning)  # refuses a binning that cannot be
        self._binning, self._readout_mode = binning, readout_mode
        self._closed = self._aborted = False
        self._exposes = threading.Lock()
        self._last: NDArray[np.uint16] | None = None

    @property
    def info(self) -> CameraInfo:
        spec = self.sensor.spec
        return CameraInfo(
            name="Simulated camera",
            camera_id=f"simulated-{spec.rows}x{spec.cols}-{spec.seed}",
            driver="darkpipe simulator, in process",
            sensor_name="Simulated sensor",
            sensor_cols=spec.cols,
            sensor_rows=spec.rows,
            pixel_size_um=(spec.pixel_size_um, spec.pixel_size_um),
            color=spec.color,
            max_adu=spec.max_adu,
            exposure_min_s=spec.exposure_min_s,
            exposure_max_s=spec.exposure_max_s,
            exposure_resolution_s=spec.exposure_resolution_s,
            has_cooler=self._has_cooler,
            can_set_temperature=self._can_set,
            gain=self._gain,
            offset=self._offset,
            readout_mode=self._readout_mode,
            binning=(self._binning, self._binning),
            electrons_per_adu=self.sensor.electrons_per_adu(self._gain),
        )

    @property
    def where(self) -> str:
        return "simulated camera"

    def temperature_c(self) -> float | None:
        self._answer()
        return self.cooler.temperature_c()

    def heat_sink_c(self) -> float | None:
        self._answer()
        return self.cooler.heat_sink_c() if self._has_cooler else None

    def cooler_power_percent(self) -> float | None:
        self._answer()
        return self.cooler.power_percent() if self._has_cooler else None

    def set_point_c(self) -> float | None:
        self._answer()
        return self.cooler.set_point_c if self._can_set else None

    def cooler_on(self) -> bool | None:
        self._answer()
        return self.cooler.on if self._has_cooler else None

    def write_set_point(self, celsius: float) -> None:
        """Write the set point [°C].

        Raises
        ------
        CameraValueError, CameraNotImplementedError
            if it cannot be, or if there is none.
        """
        self._answer()
        if not self._can_set:
            raise CameraNotImplementedError("the camera has no set point", where=self.where)
        self.cooler.set_point_c = celsius

    def write_cooler_on(self, on: bool) -> None:
        """Switch the cooler; raises `CameraNotImplementedError` if there is none."""
        self._answer()
        if not self._has_cooler:
            raise CameraNotImplementedError("the camera has no cooler", where=self.where)
        self.cooler.on = on

    def expose_dark(self, seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        """One dark exposure at the temperature of its middle.

        at_middle : called once in the middle. What it raises ends the exposure.

        Raises
        ------
        CameraValueError
            for an exposure outside the limits.
        CameraBusyError
            if an exposure runs already.
        CameraDriverError
            in the error state, or if the exposure was aborted.
        CameraTransportError, CameraNotConnectedError
            if the line is down, or the camera is closed.
        """
        self._answer()
        actual_s = self._allowed(seconds)
        if not self._exposes.acquire(blocking=False):
            raise CameraBusyError("an exposure runs already", where=self.where, do="wait for its end, or abort it")
        try:
            return self._expose(actual_s, at_middle)
        finally:
            self._exposes.release()

    def _allowed(self, seconds: float) -> float:
        """The exposure as the electronics can time it."""
        spec = self.sensor.spec
        if not spec.exposure_min_s <= seconds <= spec.exposure_max_s:
            raise CameraValueError(
                f"an exposure of {seconds} s is outside {spec.exposure_min_s} to {spec.exposure_max_s} s",
                where=self.where,
            )
        step = spec.exposure_resolution_s
        return round(round(seconds / step) * step, 9) if step > 0 else float(seconds)

    def _expose(self, exposure_s: float, at_middle: Callable[[], None] | None) -> Exposure:
        clock = self.clock
        self._aborted = False
        started, start_s = clock.utc(), clock.monotonic_s()
        clock.sleep(exposure_s / 2)
        temperature_c = self.cooler.true_temperature_c()
        if at_middle is not None:
            at_middle()
        self._still_exposing()
        clock.sleep(max(start_s + exposure_s - clock.monotonic_s(), 0.0))
        ended, end_s = clock.utc(), clock.monotonic_s()
        self._still_exposing()
        clock.sleep(self.sensor.spec.readout_s)
        self._answer()
        pixels = self._pixels(exposure_s, temperature_c)
        self.next_frame_number += 1
        return Exposure(pixels, exposure_s, started, ended, end_s - start_s)

    def _still_exposing(self) -> None:
        self._answer()
        if self.error_state:
            raise CameraDriverError("the camera reports an error state", where=self.where, do="switch it off and on")
        if self._aborted:
            raise CameraDriverError("the exposure was aborted", where=self.where)

    def _pixels(self, exposure_s: float, temperature_c: float) -> NDArray[np.uint16]:
        if self.duplicate_image and self._last is not None:
            return self._last.copy()
        pixels = self.sensor.dark_frame(
            exposure_s,
            temperature_c,
            self.next_frame_number,
            binning=self._binning,
            gain=self._gain,
            offset=self._offset,
            light_adu_per_s=self.light_leak_adu_per_s,
        )
        if self.constant_image:
            pixels[:] = round(self.sensor.spec.bias_level_adu)
        self._last = pixels.copy()  # the caller may change its own
        return pixels

    def abort(self) -> None:
        """End an exposure that runs in another thread, or in whose middle we are, with `CameraDriverError`."""
        self._answer()
        self._aborted = True

    def is_idle(self) -> bool:
        self._answer()
        return not self._exposes.locked()

    def reconnect(self) -> None:
        """Connect again; raises `CameraNotConnectedError` after `close`. The cooler is as it is."""
        if self._closed:
            raise CameraNotConnectedError("the camera was closed", where=self.where, do="open it again")
        self.line_down = False

    def restart(self) -> None:
        """A fault: the device loses its power for a moment, and with it its cooler's state, and the line."""
        self.cooler.restart()
        self.line_down = self._aborted = True

    def close(self) -> None:
        self._closed = True

    def _answer(self) -> None:
        """Every call goes through here, as through a line."""
        if self._closed:
            raise CameraNotConnectedError("the camera was closed", where=self.where, do="open it again")
        if self.line_down:
            raise CameraTransportError("the camera does not answer", where=self.where, do="reconnect")
