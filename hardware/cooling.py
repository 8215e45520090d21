"""The cooler of a camera: set points that are verified, temperatures that are awaited, and a warm-up at the end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from hardware.camera import Camera
from hardware.clock import Clock
from hardware.cooler import warming
from hardware.cooler.set_point import WITHOUT, SetPoint
from hardware.cooler.stability import TemperatureWindow
from hardware.cooler.switch import CoolerSwitch
from hardware.cooler.thermometer import NO_VALUE, CoolingStatus, Thermometer
from hardware.cooler.watch import CoolingWatch, Verdict, WatchedReading
from hardware.cooler.watched_time import WatchedTime
from hardware.errors import CoolingError, CoolingTimeoutError, ImplausibleReadingError
from hardware.settings import CoolingSettings

__all__ = ["Cooling", "CoolingStatus"]

log = logging.getLogger("darkpipe.capture")

POLL_S = 2.0
LOST_AFTER = 3  # readings in a row that show another set point, or the cooler off


class Cooling:
    """Drives the cooler of one camera, to set points one after the other.

    camera, clock : injected. settings : how. on_reading : called with every status that is read.

    With `auto_cooling: false` nothing is ever written: `set_target_temperature` says what is waited for.
    Errors of the line (`CameraTransportError`, `CameraNotConnectedError`) pass through every method: reconnect, then
    `assert_state`.

    target_c : what is waited for [°C]; None before. best_reachable_c : the set point nearest to one that could not be
    reached; None as long as none failed.
    """

    def __init__(
        self,
        camera: Camera,
        settings: CoolingSettings,
        clock: Clock,
        on_reading: Callable[[CoolingStatus], None] | None = None,
    ) -> None:
        self.camera, self.settings, self.clock, self.on_reading = camera, settings, clock, on_reading
        self.target_c: float | None = None
        self.best_reachable_c: float | None = None
        self._thermometer = Thermometer(camera, clock)
        self._switch = CoolerSwitch(camera, self._thermometer, clock)
        self._set_point = SetPoint(camera, self._thermometer, clock, settings.temperature_tolerance)
        self._window = TemperatureWindow(
            settings.stable_seconds, settings.temperature_tolerance, settings.max_slope_c_per_min
        )
        self._believed = True  # the thermometer

    # to be told
    def enable(self) -> None:
        """Switch the cooler on, and verify that it is. May be called again.

        Raises
        ------
        CoolingError
            if there is no cooler, or its switch reads back off.
        """
        if not self.settings.auto_cooling:
            return
        if not self.camera.info.has_cooler:
            raise CoolingError("this camera has no cooler", where=self.camera.where, do=WITHOUT)
        if self.target_c is None and self._thermometer.cooler_on() is not True:
            self._hold_here()
        self._switch.turn_on()

    def _hold_here(self) -> None:
        """A cooler that is switched on rushes to whatever set point it has: give it the temperature that it has."""
        here_c = self._thermometer.temperature_c(needed=False)
        if here_c is not None and self.camera.info.can_set_temperature:
            with contextlib.suppress(*NO_VALUE):
                self.camera.write_set_point(round(here_c, 1))

    def set_target_temperature(self, celsius: float) -> None:
        """Go to another temperature [°C]: the set point is written, in steps if a ramp is set, and verified.

        Raises
        ------
        CoolingError
            if the camera has no set point, or reads back another one.
        UnreachableTemperatureError
            if the camera refuses this set point.
        """
        self.target_c = float(celsius) + 0.0
        self._window.clear()
        if self.settings.auto_cooling:
            self._set_point.go_to(self.target_c, self.settings.ramp_c_per_min)

    def wait_for_target_temperature(self) -> CoolingStatus:
        """Wait until the temperature has held at the target.

        Raises
        ------
        CoolingTimeoutError
            if it did not within `cooling_timeout`, counted from the end of the ramp; of a longer gap between two looks
            (a computer that slept) 10 s count.
        UnreachableTemperatureError
            if full power makes no progress; `best_reachable_c` is known then.
        ImplausibleReadingError
            if the thermometer cannot be believed.
        CoolingError
            if the cooler goes the wrong way, does nothing, or lost its set point. A cooler with a switch that works
            the wrong way round is off then, as far as it can be had.
        """
        if self.target_c is None:
            raise CoolingError("there is no temperature to wait for", where=self.camera.where)
        watch = CoolingWatch(self.target_c, self.settings.temperature_tolerance)
        time = WatchedTime(self.clock.monotonic_s())
        end_s, lost = self._deadline_s(), 0
        while True:
            self._set_point.delay(time.look(self.clock.monotonic_s()))
            status = self.status()
            if status.stable:
                self._believed = True
                return status
            lost = lost + 1 if self._lost(status) else 0
            if lost >= LOST_AFTER:
                raise self._lost_error(status)
            if self._set_point.note(status.set_point_c):
                end_s = self._deadline_s() - time.missed_s  # a ramp of the camera's own counts as one of ours
            self._judge(watch, status, time.now_s, end_s - time.now_s)
            if time.now_s >= end_s:
                verdict = watch.last_word(status.slope_c_per_min, self.settings.cooling_timeout)
                raise self._error_of(verdict) if verdict else self._timeout(status)
            self.clock.sleep(min(POLL_S, end_s - time.now_s))

    def status(self) -> CoolingStatus:
        """Everything that can be read, now; a ramp goes on.

        Raises
        ------
        ImplausibleReadingError
            if there is a target, and the thermometer cannot be believed.
        CoolingError
            if a ramp cannot go on.
        """
        self._set_point.go_on()
        temperature_c = self._thermometer.temperature_c(needed=self.target_c is not None)
        if temperature_c is not None:
            self._window.add(self.clock.monotonic_s(), temperature_c)
        slope = self._window.slope()
        set_point_c, on = self._thermometer.set_point_c(), self._thermometer.cooler_on()
        status = CoolingStatus(
            utc=self.clock.utc(),
            temperature_c=temperature_c,
            target_c=self.target_c,
            set_point_c=set_point_c,
            power_percent=self._thermometer.power_percent(),
            cooler_on=on,
            stable=self._holds(set_point_c, on),
            slope_c_per_min=None if slope is None else slope.c_per_min,
            heat_sink_c=self._thermometer.heat_sink_c(),
        )
        if self.on_reading is not None:
            self.on_reading(status)
        return status

    def assert_state(self) -> None:
        """Write and verify set point and switch again, as after a reconnect; the temperature has to settle anew.

        Raises
        ------
        CoolingError
            as `enable` and `set_target_temperature`.
        """
        self._window.clear()
        if self.target_c is None:
            return
        self.set_target_temperature(self.target_c)
        if self._switch.on:
            self._switch.turn_on()

    def warm_up(self) -> None:
        """Raise the set point slowly until the sensor follows its surroundings, then switch the cooler off.

        Ends in bounded time, whatever the camera says. An interrupt ends it: the cooler is switched off at once. Does
        nothing where the cooler was not switched on from here.

        Raises
        ------
        CoolingError
            if the cooler cannot be switched off.
        """
        if not self._switch.on:
            return
        self._let_go()
        try:
            if self._switch.trusted:
                speed, believed = self.settings.warmup_c_per_min, self._believed
                warming.warm_up(self.camera, self.status, self.clock, speed, believed=believed)
        finally:
            self._switch.turn_off()

    def disable(self) -> None:
        """Switch the cooler off at once, and verify that; does nothing where it was not switched on from here.

        Raises
        ------
        CoolingError
            if it stays on.
        """
        self._let_go()
        self._switch.turn_off()

    def _let_go(self) -> None:
        self._set_point.forget()
        self.target_c = None
        self._window.clear()

    # judging
    def _holds(self, set_point_c: float | None, on: bool | None) -> bool:
        if self.target_c is None or (self.settings.auto_cooling and on is False):
            return False
        return self._set_point.arrived(set_point_c) and self._window.is_stable(self.target_c)

    def _deadline_s(self) -> float:
        return self._set_point.end_s + self.settings.cooling_timeout

    def _judge(self, watch: CoolingWatch, status: CoolingStatus, watched_s: float, time_left_s: float) -> None:
        if status.temperature_c is None or status.target_c is None:
            return
        watch.add(WatchedReading(watched_s, status.temperature_c, status.power_percent))
        in_force_c = self._set_point.in_force_c(status.set_point_c) if self.settings.auto_cooling else None
        verdict = watch.verdict(status.target_c if in_force_c is None else in_force_c, time_left_s)
        if verdict is not None:
            raise self._error_of(verdict)

    def _error_of(self, verdict: Verdict) -> CoolingError:
        if verdict.reachable_c is not None:
            self.best_reachable_c = verdict.reachable_c
        self._believed = not issubclass(verdict.kind, ImplausibleReadingError)
        if verdict.switch and self.settings.auto_cooling:
            self._switch.distrust()
        return verdict.kind(verdict.what, where=self.camera.where, do=verdict.do)

    def _outside(self, status: CoolingStatus) -> bool:
        if status.temperature_c is None or status.target_c is None:
            return True
        return abs(status.temperature_c - status.target_c) > self.settings.temperature_tolerance

    def _lost(self, status: CoolingStatus) -> bool:
        """Whether somebody, or a restart, changed what was written; a cooler that is off may hold at room temperature
        where nothing is asked of it."""
        if status.cooler_on is False and (self.settings.auto_cooling or self._outside(status)):
            return True
        return self._set_point.changed_by_others(status.set_point_c)

    def _lost_error(self, status: CoolingStatus) -> CoolingError:
        do = "Look whether the camera restarted, or another program sets it; then run again"
        if status.cooler_on is False:
            if not self.settings.auto_cooling:
                do = "Switch it on, or set camera.cooling.auto_cooling: true"
            return CoolingError(f"the cooler is off, at {status.temperature_c:.1f} °C", where=self.camera.where, do=do)
        return CoolingError(
            f"on the way to {status.target_c:.1f} °C the set point turned into {status.set_point_c:.1f} °C",
            where=self.camera.where,
            do=do,
        )

    def _timeout(self, status: CoolingStatus) -> CoolingTimeoutError:
        tolerance_c, step_c = self.settings.temperature_tolerance, self._window.step_c
        do = "Raise camera.cooling.cooling_timeout if it only needs longer, or choose a warmer set point"
        if not self._outside(status):
            do = "It swings or drifts: raise temperature_tolerance or max_slope_c_per_min, or shorten stable_seconds"
        if step_c > 2 * tolerance_c:
            do = f"The thermometer has steps of {step_c:.2f} °C: raise camera.cooling.temperature_tolerance"
        drift = "" if status.slope_c_per_min is None else f", {status.slope_c_per_min:+.2f} °C/min"
        power = "" if status.power_percent is None else f", cooler at {status.power_percent:.0f} %"
        return CoolingTimeoutError(
            f"the temperature was not stable at {status.target_c:.1f} °C within {self.settings.cooling_timeout:g} s: "
            f"it is {status.temperature_c:.2f} °C{drift}{power}",
            where=self.camera.where,
            do=do,
        )
