"""What a camera says about its temperature and its cooler, and whether that can be believed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from hardware.camera import Camera
from hardware.clock import Clock
from hardware.errors import (
    CameraDriverError,
    CameraNotImplementedError,
    CameraProtocolError,
    CameraValueError,
    ImplausibleReadingError,
)

log = logging.getLogger("darkpipe.capture")

COLDEST_C, WARMEST_C = -150.0, 100.0
ASK_AGAIN = 4  # bad answers in a row until the thermometer is given up
ASK_AGAIN_S = 1.0
JUMP_C, JUMP_C_PER_S = 5.0, 0.5  # no sensor is faster; a reading beyond that is asked again
NO_VALUE = (CameraNotImplementedError, CameraDriverError, CameraProtocolError, CameraValueError)


@dataclass(frozen=True)
class CoolingStatus:
    """The temperature at a moment, and what the cooler does. None: not known, or this camera does not say.

    utc : when. temperature_c : of the sensor. target_c : where it shall be in the end; set_point_c : as the camera has
    it now. power_percent : of the cooler, 0 to 100. cooler_on : as it reads back. stable : it has held at the target.
    slope_c_per_min : its drift. heat_sink_c : temperature of the heat sink.
    """

    utc: datetime
    temperature_c: float | None
    target_c: float | None = None
    set_point_c: float | None = None
    power_percent: float | None = None
    cooler_on: bool | None = None
    stable: bool = False
    slope_c_per_min: float | None = None
    heat_sink_c: float | None = None


def why_implausible(temperature_c: float | None) -> str | None:
    """Why no sensor can have this temperature; None if one can."""
    if temperature_c is None:
        return "no temperature at all"
    if not math.isfinite(temperature_c):
        return "no number"
    if not COLDEST_C <= temperature_c <= WARMEST_C:
        return f"{temperature_c:.2f} °C"
    return None


class Thermometer:
    """The readings of a camera, with a second look at strange temperatures."""

    def __init__(self, camera: Camera, clock: Clock) -> None:
        self._camera, self._clock = camera, clock
        self._last: tuple[float, float] | None = None
        self._told = False

    def temperature_c(self, *, needed: bool) -> float | None:
        """Temperature of the sensor [°C]; a strange answer is asked again.

        needed : False: None where there is no thermometer, or none that can be believed (said once).

        Raises
        ------
        ImplausibleReadingError
            if it is needed, and several answers in a row were none that a sensor can give.
        CameraError
            of the line, as they come.
        """
        reasons: list[str] = []
        most = ASK_AGAIN if needed or self._last is not None else 1
        while len(reasons) < most:
            if reasons:
                self._clock.sleep(ASK_AGAIN_S)
            value, why = self._ask()
            if value is not None and why is None:
                if reasons:
                    log.warning("the thermometer gave %s; asked again: %.2f °C", reasons[-1], value)
                return self._confirmed(value)
            reasons.append(why or "nothing")
        self._last = None
        if needed:
            raise ImplausibleReadingError(
                f"the thermometer cannot be believed: {len(reasons)} times in a row it gave {reasons[-1]}",
                where=self._camera.where,
                do="Look at the temperature in the camera's own program, switch the camera off and on, and run again",
            )
        if not self._told:
            log.warning("%s gives no temperature that can be believed: %s", self._camera.where, reasons[-1])
            self._told = True
        return None

    def _ask(self) -> tuple[float | None, str | None]:
        """An answer, and why it cannot be one."""
        try:
            value = self._camera.temperature_c()
        except NO_VALUE as error:
            return None, f"an error ({error.what})"
        return value, why_implausible(value)

    def _confirmed(self, value: float) -> float:
        """A jump that no sensor makes is asked once more; the second answer is taken."""
        if self._last is not None:
            then_s, before = self._last
            if abs(value - before) > JUMP_C + JUMP_C_PER_S * (self._clock.monotonic_s() - then_s):
                self._clock.sleep(ASK_AGAIN_S)
                again, why = self._ask()
                if again is not None and why is None:
                    log.warning("the temperature jumped from %.2f to %.2f °C; asked again: %.2f", before, value, again)
                    value = again
        self._last = (self._clock.monotonic_s(), value)
        return value

    def power_percent(self) -> float | None:
        """Power of the cooler; None also for what is no percentage."""
        value = _number(self._camera.cooler_power_percent)
        return value if value is not None and -0.5 <= value <= 100.5 else None

    def heat_sink_c(self) -> float | None:
        """Temperature of the heat sink [°C]."""
        value = _number(self._camera.heat_sink_c)
        return None if why_implausible(value) else value

    def set_point_c(self) -> float | None:
        """The set point as it reads back [°C]."""
        return _number(self._camera.set_point_c)

    def cooler_on(self) -> bool | None:
        """Whether the cooler is on, as it reads back."""
        try:
            return self._camera.cooler_on()
        except NO_VALUE:
            return None


def _number(read: Callable[[], float | None]) -> float | None:
    """A reading that is welcome but not needed: a camera that cannot give it is not at fault."""
    try:
        value = read()
    except NO_VALUE:
        return None
    return float(value) if value is not None and math.isfinite(value) else None
