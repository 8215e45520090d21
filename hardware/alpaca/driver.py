"""A camera behind an ASCOM Alpaca server. Calls, set-up, exposure and image have modules of their own; this one is the
`Camera` that is made of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.alpaca import setup
from hardware.alpaca.calls import AlpacaCalls
from hardware.alpaca.exposure import Habits, OneExposure, check_exposure
from hardware.alpaca.image import download
from hardware.camera import CameraInfo, Exposure
from hardware.clock import Clock, ScaledClock, SystemClock
from hardware.errors import (
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraProtocolError,
    CameraTransportError,
    CameraValueError,
)
from hardware.settings import CameraSettings

log = logging.getLogger("darkpipe.capture")

OUR_SIMULATOR = "darkpipe simulator"


class AlpacaCamera:
    """Implements `hardware.camera.Camera` over HTTP; made by `connect`.

    clock : the time of its exposures; that of a `ScaledClock` for our simulator, if that runs faster than life.
    """

    def __init__(
        self,
        calls: AlpacaCalls,
        settings: CameraSettings,
        clock: Clock,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._calls, self._settings, self.clock, self._on_close = calls, settings, clock, on_close
        self._info: CameraInfo | None = None
        self._was_connected = True
        self._closed = False
        self._set_to: dict[str, int] = {}
        self._running: OneExposure | None = None
        self._habits = Habits()

    @classmethod
    def connect(
        cls,
        settings: CameraSettings,
        clock: Clock | None = None,
        *,
        take_over: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> AlpacaCamera:
        """Connect to the camera of the settings, check it, set it, and read that back.

        clock : None takes the system's, or that of our simulator. take_over : stop an exposure that runs.
        on_close : called once, when the camera is let go.

        Raises
        ------
        CameraTransportError, CameraNotConnectedError
            if the server or its camera cannot be reached.
        CameraValueError
            if it is not the camera of the settings, or cannot be set like that.
        CameraBusyError
            if it is exposing, and not to be taken over.
        """
        if settings.address is None:
            raise CameraValueError("no address of a camera is given", do="Set camera.address to host:port")
        calls = AlpacaCalls(settings.address, settings.device_number or 0)
        try:
            camera = cls(calls, settings, clock_of(calls, settings, clock), on_close)
            camera._make_ready(take_over)
        except BaseException:
            calls.line.close()
            raise
        log.info("%s: connected to %s", calls.where, camera.info.name)
        return camera

    @property
    def info(self) -> CameraInfo:
        """What it is, and how it is set."""
        assert self._info is not None  # set by `connect`, which is the only maker
        return self._info

    @property
    def where(self) -> str:
        """Address for messages, 'http://127.0.0.1:11111 camera 0'."""
        return self._calls.where

    def temperature_c(self) -> float | None:
        """Sensor temperature [°C]; NaN for null."""
        return self._reading("CCDTemperature")

    def heat_sink_c(self) -> float | None:
        """Temperature of the heat sink [°C]; None where the camera does not want to tell."""
        try:
            return self._reading("HeatSinkTemperature")
        except (CameraTransportError, CameraNotConnectedError):
            raise
        except CameraError as error:  # a comfort; several drivers fail here without a sensor
            log.debug("%s", error)
            return None

    def cooler_power_percent(self) -> float | None:
        """Power of the cooler, 0 to 100."""
        if not self.info.has_cooler or not self._open().optional(self._calls.boolean, "CanGetCoolerPower"):
            return None
        return self._reading("CoolerPower")

    def set_point_c(self) -> float | None:
        """The set point as it reads back [°C]; None also if none was ever set."""
        return self._reading("SetCCDTemperature") if self.info.can_set_temperature else None

    def cooler_on(self) -> bool | None:
        """Whether the cooler is on, as it reads back."""
        return self._open().optional(self._calls.boolean, "CoolerOn")

    def write_set_point(self, celsius: float) -> None:
        """Write the set point [°C]; `CameraValueError` if it is refused."""
        if not math.isfinite(celsius):
            raise CameraValueError(f"{celsius} is no set point", where=self.where)
        if not self.info.can_set_temperature:
            raise CameraNotImplementedError("the camera has no set point", where=self.where)
        self._open().write("SetCCDTemperature", float(celsius))

    def write_cooler_on(self, on: bool) -> None:
        """Switch the cooler."""
        if not self.info.has_cooler:
            raise CameraNotImplementedError("the camera has no cooler", where=self.where)
        self._open().write_boolean("CoolerOn", on)

    def expose_dark(self, seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        """One dark exposure of the whole sensor, downloaded; see `Camera.expose_dark`."""
        calls = self._open()
        check_exposure(seconds, self.info, self.where)
        one = OneExposure(
            calls, self.clock, float(seconds), self._settings.readout_timeout_s, self._download, self._habits
        )
        setup.check_still_set(calls, self._set_to)
        one.prepare()
        self._running = one
        try:
            one.start()
            timing = one.wait(at_middle)
            pixels = one.image()
            actual_s = one.actual_s(self.info.exposure_resolution_s)
            setup.check_still_set(calls, self._set_to)  # somebody may have changed them since the start
        except BaseException:  # an interrupt, too, must not leave an exposure behind
            self._abort_quietly()
            raise
        finally:
            self._running = None
        return Exposure(pixels, actual_s, timing.started, timing.ended, timing.monotonic_s)

    def _download(self) -> NDArray[np.uint16]:
        return download(
            self._settings.address or "",
            self._calls.number_on_server,
            self.info.shape,
            deadline_s=self._settings.readout_timeout_s,
            where=self.where,
        )

    def abort(self) -> None:
        """Stop an exposure that runs, if one does; `expose_dark`, if it waits for it, raises `CameraDriverError`."""
        if self._running is not None:
            self._running.cancel()
        state = self._open().state()
        if state is None or state in setup.BUSY_STATES:
            setup.stop_exposure(self._calls)
        else:
            setup.clear(self._calls, state)

    def is_idle(self) -> bool:
        """Whether no exposure runs, of ours or of anybody else."""
        return self._open().state() not in setup.BUSY_STATES

    def reconnect(self) -> None:
        """Connect again; an exposure that still runs was ours, and is stopped. Settings are written and verified.

        Raises
        ------
        CameraValueError
            if another camera answers there now; else as `connect`.
        """
        self._open()
        self._calls.line.close()
        before = self.info
        # the library remembers the interface version of the server that it first met
        self._calls = AlpacaCalls(self._settings.address or "", self._calls.number_on_server)
        self._make_ready(take_over=True)
        # what it said when we came stays: a camera that has just come back may not say all of it
        now, self._info = self.info, before
        if now.configuration != before.configuration:
            what = f"after the reconnect the camera is {now.configuration}, before it was {before.configuration}"
            raise CameraValueError(what, where=self.where, do="Give gain, offset and readout_mode in the settings")
        log.info("%s: connected again", self.where)

    def close(self) -> None:
        """Let the camera go; the cooler is left as it is. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._was_connected:
                setup.disconnect_device(self._calls)
        except CameraError as error:
            log.warning("%s: it could not be disconnected: %s", self.where, error.what)
        finally:
            self._calls.line.close()
            if self._on_close is not None:
                self._on_close()

    def _open(self) -> AlpacaCalls:
        if self._closed:
            raise CameraNotConnectedError("the camera was closed", where=self.where)
        return self._calls

    def _make_ready(self, take_over: bool) -> None:
        calls = self._calls
        was_connected = setup.connect_device(calls)
        if self._info is None:
            self._was_connected = was_connected
        try:
            setup.make_idle(calls, take_over)
            facts = setup.read_facts(calls)
            setup.check_settings(facts, self._settings, self.where)
            wanted = self._settings
            if self._info is not None:  # null is 'as it is': as it was when we came
                wanted = wanted.model_copy(update={"gain": self._info.gain, "offset": self._info.offset})
                wanted = wanted.model_copy(update={"readout_mode": self._info.readout_mode or None})
            self._info = replace(facts, **setup.apply_settings(calls, facts, wanted))
            self._set_to = setup.settings_there(calls)
        except BaseException:
            if self._info is None and not was_connected:
                self._disconnect_quietly()
            raise

    def _disconnect_quietly(self) -> None:
        try:
            setup.disconnect_device(self._calls)
        except CameraError as error:
            log.debug("%s", error)

    def _reading(self, member: str) -> float | None:
        calls = self._open()
        return calls.optional(calls.number, member)

    def _abort_quietly(self) -> None:
        try:
            self.abort()
        except CameraError as error:
            log.warning("%s: the exposure could not be stopped: %s", self.where, error.what)


def clock_of(calls: AlpacaCalls, settings: CameraSettings, clock: Clock | None) -> Clock:
    """The clock for a camera: the one given, else that of our simulator, else the system's.

    Raises
    ------
    CameraValueError
        if the settings want a time scale that this server does not have.
    """
    scale = _time_scale(calls)
    wanted = settings.time_scale
    if wanted is not None and scale is None:
        raise CameraValueError(
            f"camera.time_scale is {wanted:g}, but this server is not our simulator", where=calls.where, do="Remove it"
        )
    if wanted is not None and scale is not None and not math.isclose(wanted, scale, rel_tol=1e-6):
        what = f"camera.time_scale is {wanted:g}, but the simulator runs {scale:g} times as fast as life"
        raise CameraValueError(what, where=calls.where, do="Set it to null: the simulator says how fast it runs")
    if clock is not None:
        return clock
    return SystemClock() if scale in (None, 1.0) else ScaledClock(float(scale or 1.0))


def _time_scale(calls: AlpacaCalls) -> float | None:
    """How fast our simulator runs; None for any other server."""
    said: Any = calls.management("description")
    if not isinstance(said, Mapping) or said.get("ServerName") != OUR_SIMULATOR:
        return None
    scale = said.get("TimeScale", 1.0)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise CameraProtocolError(f"the simulator says that its time scale is {scale!r}", where=calls.where)
    return float(scale)
