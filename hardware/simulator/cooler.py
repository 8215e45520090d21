"""A thermoelectric cooler of limited power, with its thermometer and its switch, and what can be wrong with them."""

from __future__ import annotations

import math
import threading

import numpy as np

from hardware.clock import Clock
from hardware.errors import CameraValueError

ABSOLUTE_ZERO_C = -273.15
HIGHEST_SET_POINT_C = 100.0
WEAK_PART = 0.3  # of the depth below ambient that is left when the cooler never arrives
SETTLED_C = 0.001  # closer than this the controller holds the set point exactly


class Cooler:
    """First order: the sensor follows ambient with a time constant, the cooler pulls it below by up to `max_delta_c`.

    The controller takes full power (or none) until the set point is near, then approaches it without overshoot and
    holds it exactly. Between two looks the temperature is computed in closed form, so that neither how often one looks
    nor the length of a gap matters. May be used from several threads.

    clock : time. ambient_c, max_delta_c, time_constant_s : as above. control_time_s : of the approach to the set point.
    thermometer_step_c, noise_c : step and noise of the reading, 0 for none. set_point_c : the one it wakes up with.
    heat_sink_rise_c : of the heat sink above ambient at full power. seed : of the noise.

    Attributes that are faults: `frozen_reading` (the thermometer repeats its last value), `ignored_set_point` (a set
    point reads back and nothing follows it), and the properties `inverted_switch` (on is off; it reads back as
    written) and `never_arrives` (most of the power is gone).
    """

    def __init__(
        self,
        clock: Clock,
        ambient_c: float = 20.0,
        max_delta_c: float = 45.0,
        time_constant_s: float = 60.0,
        *,
        control_time_s: float = 5.0,
        thermometer_step_c: float = 0.0,
        noise_c: float = 0.0,
        set_point_c: float = 0.0,
        heat_sink_rise_c: float = 8.0,
        seed: int = 0,
    ) -> None:
        if not (0 < control_time_s < time_constant_s and max_delta_c >= 0):
            raise CameraValueError(
                f"no cooler has a control time of {control_time_s} s, a time constant of {time_constant_s} s "
                f"and {max_delta_c} °C below ambient"
            )
        self.clock = clock
        self.max_delta_c, self.time_constant_s, self.control_time_s = max_delta_c, time_constant_s, control_time_s
        self.thermometer_step_c, self.noise_c, self.heat_sink_rise_c = thermometer_step_c, noise_c, heat_sink_rise_c
        self.frozen_reading = False
        self.ignored_set_point = False
        self._default_set_point_c = set_point_c
        self._inverted_switch = self._never_arrives = self._on = False
        self._ambient_c = self._true_c = ambient_c
        self._set_point_c = self._followed_c = set_point_c
        self._last_reading_c: float | None = None
        self._rng = np.random.default_rng(seed)
        self._seen_s = clock.monotonic_s()
        self._lock = threading.RLock()

    # what a driver sees

    @property
    def set_point_c(self) -> float:
        """The set point as it reads back [°C]; writing one that cannot be raises `CameraValueError`."""
        return self._set_point_c

    @set_point_c.setter
    def set_point_c(self, celsius: float) -> None:
        if not ABSOLUTE_ZERO_C <= celsius <= HIGHEST_SET_POINT_C:
            raise CameraValueError(f"{celsius} °C is no set point", do="stay within -273.15 to 100 °C")
        with self._lock:
            self._advance()
            self._set_point_c = float(celsius)
            if not self.ignored_set_point:
                self._followed_c = float(celsius)

    @property
    def on(self) -> bool:
        """The switch as it reads back."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        with self._lock:
            self._advance()
            self._on = bool(on)

    def temperature_c(self) -> float:
        """Reading of the thermometer [°C], with its noise and its steps."""
        with self._lock:
            if self.frozen_reading and self._last_reading_c is not None:
                return self._last_reading_c
            reading = self.true_temperature_c()
            if self.noise_c > 0:
                reading += float(self._rng.normal(0.0, self.noise_c))
            if self.thermometer_step_c > 0:
                reading = round(reading / self.thermometer_step_c) * self.thermometer_step_c
            self._last_reading_c = reading
            return reading

    def power_percent(self) -> float:
        """Power of the cooler, 0 to 100."""
        with self._lock:
            self._advance()
            if not self._cools():
                return 0.0
            slope = (self._followed_c - self._true_c) / self.control_time_s
            needed_c = self._ambient_c - self._true_c - slope * self.time_constant_s
            if self._depth_c() <= 0:
                return 100.0 if needed_c > 0 else 0.0
            return min(max(needed_c / self._depth_c(), 0.0), 1.0) * 100.0

    def heat_sink_c(self) -> float:
        """Temperature of the heat sink [°C]; it follows the power."""
        with self._lock:
            return self._ambient_c + self.heat_sink_rise_c * self.power_percent() / 100.0

    # what nobody sees

    def true_temperature_c(self) -> float:
        """Temperature of the sensor [°C]."""
        with self._lock:
            self._advance()
            return self._true_c

    @property
    def ambient_c(self) -> float:
        """Temperature around the camera [°C]; may change."""
        return self._ambient_c

    @ambient_c.setter
    def ambient_c(self, celsius: float) -> None:
        with self._lock:
            self._advance()
            self._ambient_c = float(celsius)

    @property
    def inverted_switch(self) -> bool:
        """Whether on means off."""
        return self._inverted_switch

    @inverted_switch.setter
    def inverted_switch(self, inverted: bool) -> None:
        with self._lock:
            self._advance()
            self._inverted_switch = bool(inverted)

    @property
    def never_arrives(self) -> bool:
        """Whether most of the power is gone."""
        return self._never_arrives

    @never_arrives.setter
    def never_arrives(self, weak: bool) -> None:
        with self._lock:
            self._advance()
            self._never_arrives = bool(weak)

    def restart(self) -> None:
        """What a loss of power does: off, the set point of the start; the sensor stays as cold as it is."""
        with self._lock:
            self._advance()
            self._on = False
            self._set_point_c = self._followed_c = self._default_set_point_c

    def _cools(self) -> bool:
        return self._on != self._inverted_switch

    def _depth_c(self) -> float:
        return self.max_delta_c * (WEAK_PART if self._never_arrives else 1.0)

    def _advance(self) -> None:
        """Bring the temperature to the present."""
        now_s = self.clock.monotonic_s()
        gap_s, self._seen_s = max(now_s - self._seen_s, 0.0), now_s
        if not self._cools():
            self._true_c = _approach(self._true_c, self._ambient_c, gap_s, self.time_constant_s)
            return
        gap_s -= self._saturated(gap_s)
        if gap_s > 0:
            self._true_c = _approach(self._true_c, self._followed_c, gap_s, self.control_time_s)
            if abs(self._true_c - self._followed_c) < SETTLED_C:
                self._true_c = self._followed_c

    def _saturated(self, gap_s: float) -> float:
        """Drive with full power, or with none, for as long as the controller asks for more; returns the seconds."""
        for full in (True, False):
            limit_c = self._ambient_c - (self._depth_c() if full else 0.0)
            handover_c = self._handover_c(limit_c)
            if (self._true_c > handover_c) if full else (self._true_c < handover_c):
                break
        else:
            return 0.0
        needed_s = math.inf
        if (limit_c < handover_c) if full else (limit_c > handover_c):
            needed_s = self.time_constant_s * math.log((self._true_c - limit_c) / (handover_c - limit_c))
        if needed_s < gap_s:
            self._true_c = handover_c
            return needed_s
        self._true_c = _approach(self._true_c, limit_c, gap_s, self.time_constant_s)
        return gap_s

    def _handover_c(self, limit_c: float) -> float:
        """Where the slope that the controller wants, (set point - T) / control time, is the one that the power gives,
        (limit - T) / time constant."""
        part = self.control_time_s / self.time_constant_s
        return (self._followed_c - part * limit_c) / (1 - part)


def _approach(start_c: float, end_c: float, seconds: float, time_constant_s: float) -> float:
    return end_c + (start_c - end_c) * math.exp(-seconds / time_constant_s)
