"""Bringing the camera to each temperature of the plan, and what is done where that fails."""

from __future__ import annotations

import logging
from dataclasses import replace

from darkpipe.errors import LeftOutError
from hardware.camera import Camera
from hardware.cooling import Cooling
from hardware.errors import CameraError, CoolingError
from hardware.frame_taker import Gate
from hardware.settings import AcquisitionSettings, CoolingSettings

log = logging.getLogger("darkpipe.capture")


class AtTemperature:
    """The temperature that the camera is at.

    gate : what the temperature of a frame must be now. skipped_c : temperatures that were left out, with the reason.
    """

    def __init__(self, cooling: Cooling, settings: CoolingSettings) -> None:
        self._cooling, self._settings = cooling, settings
        self._here: tuple[float | None] | None = None
        self._touched = False
        self.gate = Gate()
        self.skipped_c: dict[float | None, str] = {}

    def go_to(self, temperature_c: float | None) -> None:
        """Be there, stable; None: wherever it is.

        Raises
        ------
        LeftOutError
            if it cannot be had, and `on_failure` is `skip_temperature`.
        CoolingError
            if it cannot be had, and `on_failure` is `stop`.
        CameraError
            if the camera does not answer.
        """
        if self._here == (temperature_c,):
            return
        self._here, self.gate = None, Gate()
        if temperature_c is not None:
            self._touched = self._touched or self._settings.auto_cooling
            try:
                self._cool_to(temperature_c)
            except CoolingError as error:
                self._without(temperature_c, error)
        self._here = (temperature_c,)

    def recover(self) -> Gate:
        """After a broken line or a wrong temperature: everything about the cooler is asserted and awaited again. Raises
        as `go_to`; returns the gate of the further tries."""
        if not self.gate.on and not self._touched:
            return self.gate
        self._cooling.assert_state()
        if self.gate.on:
            try:
                status = self._cooling.wait_for_target_temperature()
                self.gate = replace(self.gate, set_point_c=status.set_point_c)
            except CoolingError as error:
                assert self.gate.target_c is not None
                self._without(self.gate.target_c, error)
        return self.gate

    def end(self) -> None:
        """Warm up, or hold, if the cooler was touched. What fails is said, and hides no other error."""
        self._here = None
        if not self._touched:
            return
        try:
            if self._settings.warmup:
                log.info("warming up")
                self._cooling.warm_up()
                log.info("the cooler is off")
            else:
                log.warning("warmup is false: the cooler is left on at its set point")
            self._touched = False
        except KeyboardInterrupt:
            log.warning("the warm-up was interrupted: the cooler is off")
            raise
        except CameraError as error:
            log.error("the cooler may still be on, it could not be switched off: %s", error)

    def _cool_to(self, temperature_c: float) -> None:
        log.info("to %.1f °C", temperature_c)
        self._cooling.enable()
        self._cooling.set_target_temperature(temperature_c)
        if not self._settings.wait_for_cooling:
            log.warning("wait_for_cooling is false: frames are taken at once, at whatever temperature")
            return
        status = self._cooling.wait_for_target_temperature()
        power = "" if status.power_percent is None else f", cooler at {status.power_percent:.0f} %"
        log.info("stable at %.2f °C%s", status.temperature_c, power)
        tolerance_c = self._settings.temperature_tolerance
        ours = self._settings.auto_cooling
        self.gate = Gate(temperature_c, tolerance_c, on=True, set_point=ours, set_point_c=status.set_point_c)

    def _without(self, temperature_c: float, error: CoolingError) -> None:
        policy = self._settings.on_failure
        if policy == "stop":
            raise error
        if policy == "skip_temperature":
            self.skipped_c[temperature_c] = str(error)
            raise LeftOutError(f"{temperature_c:.1f} °C is left out: {error}") from error
        log.warning("%s; frames are taken all the same (on_failure: continue), without a temperature gate", error)
        self.gate = Gate()


def refuse_without_cooler(camera: Camera, settings: AcquisitionSettings) -> None:
    """Raise `CoolingError` where temperatures are asked of a camera that cannot be cooled."""
    if settings.temperatures_c is None or camera.info.has_cooler or not settings.camera.cooling.auto_cooling:
        return
    raise CoolingError(
        "this camera has no cooler, but temperatures are asked for",
        where=camera.where,
        do="Set camera.cooling.enable_cooling: false (temperatures are recorded), or auto_cooling: false",
    )


def with_what_is_set(settings: AcquisitionSettings, camera: Camera, cooling: Cooling) -> AcquisitionSettings:
    """With `auto_cooling: false`, the set point that somebody else has set is the temperature of the plan; the settings
    with it.

    Raises
    ------
    CoolingError
        if the camera tells neither a set point nor a temperature.
    """
    if not settings.camera.cooling.enable_cooling or settings.camera.cooling.auto_cooling:
        return settings
    status = cooling.status()
    there = status.set_point_c if status.set_point_c is not None else status.temperature_c
    if there is None:
        raise CoolingError("the camera tells no temperature to take darks at", where=camera.where)
    wanted = settings.temperatures_c or ()
    if any(abs(there - target_c) > settings.camera.cooling.temperature_tolerance for target_c in wanted):
        told = ", ".join(f"{target_c:g}" for target_c in wanted)
        log.warning("auto_cooling is false: darks are taken at the %.1f °C that are set, not at %s °C", there, told)
    update = {"target_temperature": round(there, 1) + 0.0, "temperatures_c": None}
    there_settings = settings.camera.cooling.model_copy(update=update)
    return settings.model_copy(
        update={
            "camera": settings.camera.model_copy(update={"cooling": there_settings}),
            "dark_capture": settings.dark_capture.model_copy(update={"temperatures_c": None}),
        }
    )
