"""A camera that is nothing but a cooler and a thermometer, on a fake clock; the ways of real ones can be switched on.

Its physics: the sensor follows the surroundings with a time constant and is pulled below by the power; a regulator
with integral part (which winds up, so that it overshoots and rings) sets the power, which may rise slowly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fake_clock import FakeClock

from hardware.camera import CameraInfo, Exposure
from hardware.cooling import Cooling, CoolingStatus
from hardware.errors import CameraNotImplementedError, CameraTransportError, CameraValueError
from hardware.settings import CoolingSettings

STEP_S = 0.5


@dataclass
class CooledCamera:
    """Implements `hardware.camera.Camera`, without exposures.

    Physics: ambient_c and its drift, deepest_c below ambient at full power, time_constant_s, gain_percent_per_c and
    integral_s of the regulator, power_rise_percent_per_s, own_ramp_c_per_min: the camera moves to a set point slowly,
    dead_s: the cooler starts so late, told_power: what it says of its power.
    Thermometer: step_c, noise_c, and `glitches`: what is answered instead, one after the other (callables raise).
    Faults: inverted ('honest' or 'lying' about it), deaf_switch, deaf_set_point, frozen, unplugged (power without an
    effect), accepts (the range of set points), line_down.
    """

    clock: FakeClock
    ambient_c: float = 20.0
    drift_c_per_h: float = 0.0
    deepest_c: float = 45.0
    time_constant_s: float = 90.0
    gain_percent_per_c: float = 40.0
    integral_s: float = 1e9
    power_rise_percent_per_s: float = 1e9
    own_ramp_c_per_min: float | None = None
    dead_s: float = 0.0
    highest_power: float = 100.0
    told_power: Callable[[float], float | None] = lambda power: power
    step_c: float = 0.0
    noise_c: float = 0.0
    glitches: list[Any] = field(default_factory=list)
    set_point_step_c: float = 0.0
    accepts: tuple[float, float] = (-100.0, 100.0)
    inverted: str = ""
    deaf_switch: bool = False
    deaf_set_point: bool = False
    frozen: bool = False
    unplugged: bool = False
    line_down: bool = False
    tells_heat_sink: bool = True
    has_switch: bool = True
    has_cooler: bool = True
    can_set: bool = True
    true_c: float | None = None
    switched_on: bool = False
    wanted_c: float = 20.0

    def __post_init__(self) -> None:
        self.true_c = self.ambient_c if self.true_c is None else self.true_c
        self.written: list[tuple[str, Any]] = []
        self.reconnects = 0
        self.power = self.windup = 0.0
        self.on_since_s = 0.0
        self.internal_c = self.wanted_c
        self._seen_s = 0.0
        self._shown_c: float | None = None
        self._random = random.Random(5)

    # physics
    @property
    def cools(self) -> bool:
        """Whether the cooler really is on."""
        return self.switched_on != bool(self.inverted)

    def look(self) -> None:
        """Bring everything to the present."""
        while self._seen_s + 1e-9 < self.clock.now_s:
            step_s = min(STEP_S, self.clock.now_s - self._seen_s)
            self._seen_s += step_s
            self._step(step_s)

    def _step(self, step_s: float) -> None:
        assert self.true_c is not None
        surroundings_c = self.ambient_c + self.drift_c_per_h * self._seen_s / 3600
        if self.own_ramp_c_per_min is None:
            self.internal_c = self.wanted_c
        else:
            way = self.own_ramp_c_per_min / 60 * step_s
            self.internal_c += max(-way, min(way, self.wanted_c - self.internal_c))
        asked = 0.0
        if self.cools and self._seen_s - self.on_since_s >= self.dead_s:
            error_c = self.true_c - (self.ambient_c if self.deaf_set_point else self.internal_c)
            self.windup += error_c * step_s / self.integral_s
            holding = 100 * (surroundings_c - self.internal_c) / self.deepest_c if self.integral_s > 1e8 else 0.0
            asked = self.gain_percent_per_c * (error_c + self.windup) + holding
        else:
            self.windup = 0.0
        asked = max(0.0, min(asked, self.highest_power))
        self.power = min(asked, self.power + self.power_rise_percent_per_s * step_s)
        settles_c = surroundings_c - (0.0 if self.unplugged else self.deepest_c * self.power / 100)
        self.true_c += (settles_c - self.true_c) * step_s / self.time_constant_s

    # the protocol
    @property
    def info(self) -> CameraInfo:
        return CameraInfo("Fake", has_cooler=self.has_cooler, can_set_temperature=self.can_set)

    @property
    def where(self) -> str:
        return "fake camera"

    def temperature_c(self) -> float | None:
        self._answer()
        if self.glitches:
            odd = self.glitches.pop(0)
            return odd() if callable(odd) else odd
        if self.frozen and self._shown_c is not None:
            return self._shown_c
        assert self.true_c is not None
        shown = self.true_c + self._random.gauss(0, self.noise_c)
        self._shown_c = round(shown / self.step_c) * self.step_c if self.step_c else shown
        return self._shown_c

    def heat_sink_c(self) -> float | None:
        self._answer()
        if not self.tells_heat_sink:
            raise CameraNotImplementedError("no heat sink")
        return self.ambient_c + 5.0

    def cooler_power_percent(self) -> float | None:
        self._answer()
        return self.told_power(self.power)

    def set_point_c(self) -> float | None:
        self._answer()
        return self.wanted_c if self.own_ramp_c_per_min is None else round(self.internal_c, 1)

    def cooler_on(self) -> bool | None:
        self._answer()
        if not self.has_switch:
            return None
        return self.switched_on if self.inverted != "honest" else not self.switched_on

    def write_set_point(self, celsius: float) -> None:
        self._answer()
        if not self.can_set:
            raise CameraNotImplementedError("no set point")
        if not self.accepts[0] <= celsius <= self.accepts[1]:
            raise CameraValueError(f"{celsius} is out of range")
        self.written.append(("set point", celsius))
        step = self.set_point_step_c
        self.wanted_c = round(celsius / step) * step if step else celsius
        self.internal_c = self.true_c if self.own_ramp_c_per_min and self.true_c is not None else self.wanted_c

    def write_cooler_on(self, on: bool) -> None:
        self._answer()
        if not self.has_switch:
            raise CameraNotImplementedError("no switch")
        self.written.append(("on", on))
        if not self.deaf_switch:
            self.on_since_s = self.clock.now_s if on and not self.switched_on else self.on_since_s
            self.switched_on = on

    def _answer(self) -> None:
        self.look()
        if self.line_down:
            raise CameraTransportError("no answer")

    def expose_dark(self, seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def is_idle(self) -> bool:
        return True

    def reconnect(self) -> None:
        self.reconnects += 1
        self._answer()

    def close(self) -> None:
        pass


class Bench:
    """A camera, its cooling, and all readings; `settings` are those of CoolingSettings, the rest is for the camera."""

    def __init__(self, settings: dict[str, Any] | None = None, **camera: Any) -> None:
        self.clock = FakeClock()
        self.camera = CooledCamera(self.clock, **camera)
        self.readings: list[CoolingStatus] = []
        told = CoolingSettings(enable_cooling=True, **(settings or {}))
        self.cooling = Cooling(self.camera, told, self.clock, self.readings.append)

    def cool(self, target_c: float = -10.0) -> CoolingStatus:
        """Go there and wait."""
        self.cooling.enable()
        self.cooling.set_target_temperature(target_c)
        return self.cooling.wait_for_target_temperature()

    @property
    def true_c(self) -> float:
        """Of the sensor, now."""
        self.camera.look()
        assert self.camera.true_c is not None
        return self.camera.true_c

    def set_points(self) -> list[float]:
        """All that were written."""
        return [value for what, value in self.camera.written if what == "set point"]


# what cameras do that is no fault
MANNERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "steps of 0.1": {"step_c": 0.1},
    "steps of 0.5": {"step_c": 0.5},
    "steps of a degree": {"step_c": 1.0},
    "noise": {"noise_c": 0.2},
    "steps and noise": {"step_c": 0.5, "noise_c": 0.2},
    "power unknown": {"told_power": lambda power: None},
    "power always 100": {"told_power": lambda power: 100.0},
    "power always 0": {"told_power": lambda power: 0.0},
    "power in other units": {"told_power": lambda power: power * 2.55},
    "no heat sink": {"tells_heat_sink": False},
    "no switch": {"has_switch": False, "switched_on": True},
    "starts late": {"dead_s": 100.0},
    "power rises slowly": {"power_rise_percent_per_s": 1.0},
    "evening": {"drift_c_per_h": -3.0},
    "morning": {"drift_c_per_h": 3.0},
    "ramps by itself": {"own_ramp_c_per_min": 1.0},
    "ramps by itself, in degrees": {"own_ramp_c_per_min": 1.0, "step_c": 1.0},
    "rounds set points": {"set_point_step_c": 1.0},
}
