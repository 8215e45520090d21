"""The set point of a cooler: written in steps, verified, and watched afterwards."""

from __future__ import annotations

import logging

from hardware.camera import Camera
from hardware.clock import Clock
from hardware.cooler.thermometer import Thermometer
from hardware.errors import CameraNotImplementedError, CameraValueError, CoolingError, UnreachableTemperatureError

log = logging.getLogger("darkpipe.capture")

STEP_C = 0.5  # a set point is written when it is due by so much: each write is a call to the camera
READ_BACK_S = 10.0  # some drivers show a new value only after a while
ROUNDED_C = 0.05  # one that reads back farther off was rounded, which is said
COARSEST_C = 1.0  # to which cameras round set points
PAUSE_S = 120.0  # a camera that approaches its set point in steps of its own does not rest for so long
WITHOUT = "Set camera.cooling.enable_cooling: false (temperatures are recorded only), or auto_cooling: false"


class Ramp:
    """A set point that moves to its end at a given speed.

    start_c : where the sensor is [°C], or None. end_c : the set point in the end [°C]. c_per_min : speed, None: at
    once. begun_s : monotonic time. written_c : what was written last; the caller sets it.
    """

    def __init__(self, start_c: float | None, end_c: float, c_per_min: float | None, begun_s: float) -> None:
        self.start_c = end_c if start_c is None or c_per_min is None else start_c
        self.end_c, self.begun_s = end_c, begun_s
        self.written_c: float | None = None
        self._c_per_s = (c_per_min or 0.0) / 60

    @property
    def end_s(self) -> float:
        """Monotonic time at which the set point is at its end."""
        way_c = abs(self.end_c - self.start_c)
        return self.begun_s + (way_c / self._c_per_s if way_c else 0.0)

    @property
    def finished(self) -> bool:
        """Whether the end was written."""
        return self.written_c == self.end_c

    def due_c(self, now_s: float) -> float | None:
        """The set point to be written now [°C]; None if what was written is good enough."""
        if self.finished:
            return None
        if now_s >= self.end_s:
            return self.end_c
        way_c = self._c_per_s * max(now_s - self.begun_s, 0.0)
        set_point_c = round(self.start_c + (way_c if self.end_c > self.start_c else -way_c), 1)
        if self.written_c is not None and abs(set_point_c - self.written_c) < STEP_C:
            return None
        return set_point_c


class SetPoint:
    """Brings the set point of a camera to a temperature.

    tolerance_c : a camera may round a set point by so much. A camera may also approach it in steps of its own, reading
    these back: then what it reads back is in force.
    """

    def __init__(self, camera: Camera, thermometer: Thermometer, clock: Clock, tolerance_c: float) -> None:
        self._camera, self._thermometer, self._clock = camera, thermometer, clock
        self._tolerance_c = tolerance_c
        self._ramp: Ramp | None = None
        self._own_steps = False
        self._seen: tuple[float, float] | None = None  # time and value of its last change, as it reads back

    def go_to(self, target_c: float, c_per_min: float | None) -> None:
        """Set out for a temperature [°C], at a speed, or None: at once; errors as `go_on`."""
        if not self._camera.info.can_set_temperature:
            raise CoolingError("this camera has no set point", where=self._camera.where, do=WITHOUT)
        start_c = None if c_per_min is None else self._thermometer.temperature_c(needed=True)
        self._ramp = Ramp(start_c, target_c, c_per_min, self._clock.monotonic_s())
        self._own_steps, self._seen = False, None
        self.go_on()

    def delay(self, seconds: float) -> None:
        """A ramp goes on where it was: nobody looked for so long."""
        if self._ramp is not None and not self._ramp.finished:
            self._ramp.begun_s += seconds

    def forget(self) -> None:
        """Write nothing any more."""
        self._ramp = None

    def go_on(self) -> None:
        """Write the set point of the moment, if it is due.

        Raises
        ------
        UnreachableTemperatureError
            if the camera refuses it.
        CoolingError
            if it cannot be written, or another one than the last is read back.
        """
        ramp = self._ramp
        if ramp is None or (due_c := ramp.due_c(self._clock.monotonic_s())) is None:
            return
        before_c = self._thermometer.set_point_c()
        try:
            self._camera.write_set_point(due_c)
        except CameraValueError as error:
            # some drivers refuse the value that is set already
            if before_c is None or abs(before_c - due_c) > ROUNDED_C:
                raise UnreachableTemperatureError(
                    f"the camera refuses the set point {due_c:.1f} °C: {error.what}",
                    where=self._camera.where,
                    do="Choose one that it can be set to",
                ) from error
        except CameraNotImplementedError as error:
            raise CoolingError("the set point cannot be written", where=self._camera.where, do=WITHOUT) from error
        ramp.written_c = due_c
        if ramp.finished:
            self._verify(due_c, before_c)

    def _verify(self, wanted_c: float, before_c: float | None) -> None:
        end_s = self._clock.monotonic_s() + READ_BACK_S
        while True:
            there_c = self._thermometer.set_point_c()
            if there_c is None:
                return  # it cannot be read
            if abs(there_c - wanted_c) <= self._tolerance_c + ROUNDED_C:
                if abs(there_c - wanted_c) > ROUNDED_C:
                    log.warning("the camera rounded the set point %.2f to %.2f °C", wanted_c, there_c)
                return
            late = self._clock.monotonic_s() >= end_s
            if self._nearer(before_c, there_c) or (late and self._on_the_way(before_c, there_c)):
                log.info("the camera approaches %.1f °C in steps of its own: set point %.1f °C", wanted_c, there_c)
                self._own_steps = True
                return
            if late:
                raise self._another(there_c)
            self._clock.sleep(1.0)

    def _on_the_way(self, before_c: float | None, there_c: float) -> bool:
        """Whether a set point lies between sensor, or the one before, and target; whether it gets on, `note` sees."""
        here_c = self._thermometer.temperature_c(needed=False)
        if here_c is None or self._ramp is None:
            return False
        ends = (here_c, self._ramp.end_c, here_c if before_c is None else before_c)
        return min(ends) - COARSEST_C <= there_c <= max(ends) + COARSEST_C

    def _another(self, there_c: float) -> CoolingError:
        wanted_c = there_c if self._ramp is None else self._ramp.end_c
        return CoolingError(
            f"the set point {wanted_c:.2f} °C was written, and {there_c:.2f} °C is read back",
            where=self._camera.where,
            do="Choose one that the camera can hold, or look whether another program sets it",
        )

    def _nearer(self, before_c: float | None, now_c: float) -> bool:
        """Whether what is read back has moved towards the end."""
        if before_c is None or self._ramp is None:
            return False
        end_c = self._ramp.end_c
        between = min(before_c, end_c) <= now_c <= max(before_c, end_c)
        return between and abs(now_c - end_c) < abs(before_c - end_c) - ROUNDED_C

    def note(self, there_c: float | None) -> bool:
        """Take in what is read back; whether the camera has just made a step of its own.

        Raises
        ------
        CoolingError
            if such a camera has stopped on its way.
        """
        if not self._own_steps or there_c is None or self._ramp is None:
            return False
        now_s, end_c = self._clock.monotonic_s(), self._ramp.end_c
        if self._seen is None or abs(there_c - self._seen[1]) > ROUNDED_C:
            stepped = self._seen is not None and self._nearer(self._seen[1], there_c)
            self._seen = (now_s, there_c)
            return stepped
        if abs(there_c - end_c) > self._tolerance_c + ROUNDED_C and now_s - self._seen[0] > PAUSE_S:
            raise self._another(there_c)
        return False

    def in_force_c(self, there_c: float | None) -> float | None:
        """What the camera regulates to at the moment [°C]: what it reads back, or else what was written."""
        if self._ramp is None:
            return there_c
        return there_c if there_c is not None else self._ramp.written_c

    def changed_by_others(self, there_c: float | None) -> bool:
        """Whether another set point is read back than was written in the end; on a ramp the next step mends that."""
        if self._ramp is None or not self._ramp.finished or self._own_steps or there_c is None:
            return False
        return abs(there_c - self._ramp.end_c) > max(self._tolerance_c, COARSEST_C)

    def arrived(self, there_c: float | None) -> bool:
        """Whether the end was written, and is read back."""
        if self._ramp is None:
            return True
        off_c = 0.0 if there_c is None else abs(there_c - self._ramp.end_c)
        return self._ramp.finished and off_c <= self._tolerance_c + ROUNDED_C

    @property
    def end_s(self) -> float:
        """Monotonic time at which the ramp is at its end; now, if there is none."""
        now_s = self._clock.monotonic_s()
        return now_s if self._ramp is None else max(now_s, self._ramp.end_s)
