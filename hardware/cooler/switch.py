"""The switch of a cooler, which reads back what it likes."""

from __future__ import annotations

import contextlib
import logging

from hardware.camera import Camera
from hardware.clock import Clock
from hardware.cooler.thermometer import NO_VALUE, Thermometer
from hardware.errors import CameraError, CameraNotImplementedError, CoolingError

log = logging.getLogger("darkpipe.capture")

READ_BACK_S = 10.0
SETTLE_S = 10.0  # until the power follows the switch
IDLE_PERCENT = 2.0
WARM_C = 20.0  # a set point at which no cooler has work to do
UNTRUSTED = "Switch it in the camera's own program, update its driver, or set camera.cooling.auto_cooling: false"


class CoolerSwitch:
    """Switches the cooler of a camera, and verifies it.

    on : it was switched on from here, and not off again. trusted : False once it was found to work the wrong way round.
    """

    def __init__(self, camera: Camera, thermometer: Thermometer, clock: Clock) -> None:
        self._camera, self._thermometer, self._clock = camera, thermometer, clock
        self.on, self.trusted = False, True

    def turn_on(self) -> None:
        """Switch on, if it does not read back on.

        Raises
        ------
        CoolingError
            if it stays off; it is left off then.
        """
        if not self.trusted:
            raise CoolingError("the switch of the cooler does not work", where=self._camera.where, do=UNTRUSTED)
        if self._thermometer.cooler_on() is not True:
            self._write(True)
        self.on = True
        if not self._reads_back(True):
            self.distrust()
            raise CoolingError("the cooler was switched on, and reads back off", where=self._camera.where, do=UNTRUSTED)

    def turn_off(self) -> None:
        """Switch off, if it was switched on from here.

        Raises
        ------
        CoolingError
            if it stays on.
        """
        if not self.on:
            return
        if self.trusted:
            self._write(False)
        if (self.trusted and self._reads_back(False)) or self._leave_off():
            self.on = False
            return
        raise CoolingError(
            "the cooler cannot be switched off", where=self._camera.where, do="Switch off the supply of the camera"
        )

    def distrust(self) -> None:
        """It was found out: leave the cooler off, as far as that can be had, and never touch it again."""
        self.trusted = False
        with contextlib.suppress(CameraError):
            self.on = not self._leave_off()

    def _write(self, on: bool) -> None:
        try:
            self._camera.write_cooler_on(on)
        except CameraNotImplementedError:
            log.info("the cooler of %s has no switch: its set point alone drives it", self._camera.where)

    def _reads_back(self, on: bool) -> bool:
        end_s = self._clock.monotonic_s() + READ_BACK_S
        while (there := self._thermometer.cooler_on()) is not None and there is not on:
            if self._clock.monotonic_s() >= end_s:
                return False
            self._clock.sleep(1.0)
        return True

    def _leave_off(self) -> bool:
        """Off from a switch that may lie: the power tells what it does. The set point stays where it is until then, so
        that a cooler that is on draws power; then it is raised, so that one that is on after all has no work."""
        off = self._thermometer.cooler_on() is False and not self._power_percent()
        for value in (False, True):
            if off:
                break
            with contextlib.suppress(*NO_VALUE):
                self._camera.write_cooler_on(value)
            self._clock.sleep(SETTLE_S)
            off = self._thermometer.cooler_on() is not True and not self._power_percent()
        off = off or self._power_percent() == 0.0  # then it does nothing, whatever its switch reads
        with contextlib.suppress(*NO_VALUE):
            self._camera.write_set_point(WARM_C)
        if not off:
            log.error("the cooler of %s cannot be switched off; its set point was raised", self._camera.where)
        return off

    def _power_percent(self) -> float | None:
        """The power, next to nothing being none."""
        power = self._thermometer.power_percent()
        return 0.0 if power is not None and power <= IDLE_PERCENT else power
