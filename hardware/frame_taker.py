"""One frame of the plan: temperature gate, exposure, checks, file; again where something was wrong."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from darkpipe.files.layout import RawDir
from hardware.camera import Camera, Exposure
from hardware.clock import Clock
from hardware.cooling import Cooling, CoolingStatus
from hardware.errors import (
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraProtocolError,
    CameraTransportError,
    CaptureError,
)
from hardware.frames.checks import FrameChecks
from hardware.frames.frame_file import FrameTemperatures, write_dark
from hardware.frames.frame_journal import Session
from hardware.planning.plan import Slot
from hardware.results import Rejected
from hardware.settings import AcquisitionSettings

log = logging.getLogger("darkpipe.capture")

T = TypeVar("T")

FAILURES_OF_THE_LINE = (CameraTransportError, CameraNotConnectedError, CameraProtocolError, CameraDriverError)
RECONNECT_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)
EXPOSURE_TOLERANCE = 0.02  # of LastExposureDuration against what was asked for
EXPOSURE_TOLERANCE_S = 0.005  # short ones are rounded to what the shutter can do
SET_POINT_TOLERANCE_C = 0.15  # of two readings of one set point
LEAST_RETAKES = 10


@dataclass(frozen=True)
class Gate:
    """What the temperature of a frame must be; off: it is recorded only.

    set_point : the cooler is ours, and nobody else may change it. set_point_c : what it read back when it was stable,
    since some drivers round; None: the target.
    """

    target_c: float | None = None
    tolerance_c: float = 1.0
    on: bool = False
    set_point: bool = False
    set_point_c: float | None = None

    def reasons(self, readings: Sequence[CoolingStatus | None]) -> list[str]:
        """Why the readings of a frame are not those of its set point; [] if they are."""
        if not self.on or self.target_c is None:
            return []
        found = []
        for when, reading in zip(("start", "middle", "end"), readings, strict=True):
            if reading is None:
                continue  # of the middle: the line failed for a moment, start and end are there
            if reading.temperature_c is None or abs(reading.temperature_c - self.target_c) > self.tolerance_c:
                told = "none" if reading.temperature_c is None else f"{reading.temperature_c:.2f} °C"
                found.append(f"temperature {told} at the {when}, not {self.target_c:g} °C")
            if self.set_point and self._moved(reading):
                found.append(f"somebody changed the cooler at the {when}: {_set_to(reading)}")
        return found

    def _moved(self, reading: CoolingStatus) -> bool:
        if reading.cooler_on is False:
            return True
        wanted = self.target_c if self.set_point_c is None else self.set_point_c
        return (
            wanted is not None
            and reading.set_point_c is not None
            and abs(reading.set_point_c - wanted) > SET_POINT_TOLERANCE_C
        )


def _set_to(reading: CoolingStatus) -> str:
    if reading.cooler_on is False:
        return "it is off"
    return f"set point {reading.set_point_c:g} °C" if reading.set_point_c is not None else "no set point"


@dataclass(frozen=True)
class Shot:
    """An exposure that came: of which slot, with which readings before, amid and after it, under which gate."""

    slot: Slot
    exposure: Exposure
    readings: tuple[CoolingStatus | None, ...]
    gate: Gate


@dataclass
class FrameTaker:
    """Takes frames, one at a time.

    event : is told what happens, for the temperature log. told : the same for people.
    recover : called after a reconnect or a rejected temperature: brings the cooler back to where it must be, and gives
    the gate of the next try.
    budget : retakes that the whole run may use.
    """

    camera: Camera
    cooling: Cooling
    settings: AcquisitionSettings
    session: Session
    raw: RawDir
    checks: FrameChecks
    clock: Clock
    event: Callable[[str], None]
    recover: Callable[[], Gate]
    budget: int
    rejected: list[Rejected] = field(default_factory=list)
    retakes: int = 0
    last_reason: str = "no frame came"
    told: Callable[[str], None] = lambda text: None

    def take(self, slot: Slot, path: Path, gate: Gate) -> str:
        """Take one frame and write it; returns the digest of its file.

        Raises
        ------
        CaptureError
            if it was rejected too often, or the budget of the run is used up, naming the reasons.
        CameraError, CoolingError
            if the camera does not come back, or the temperature does not.
        DiskSpaceError
            if the disk is full.
        """
        for tries in range(self.settings.dark_capture.max_retakes + 1):
            if tries:
                self._count_retake(slot)
            self.session.begin(slot, self.clock.utc())
            try:
                exposure, readings = self._expose(slot)
            except BaseException as error:
                with contextlib.suppress(CaptureError):  # of a disk that is full: the first error counts
                    self.session.rejected(slot, None, [str(error) or type(error).__name__])
                if not isinstance(error, FAILURES_OF_THE_LINE) or tries == self.settings.dark_capture.max_retakes:
                    raise
                self.last_reason = str(error)
                log.warning("%s: %s; trying again", path.name, error)
                self._reconnect()
                gate = self.through(self.recover)
                continue
            off = gate.reasons(readings)
            reasons = off + self._exposure_reasons(slot, exposure) + self.checks.check(slot, exposure.pixels)
            shot = Shot(slot, exposure, tuple(readings), gate)
            if not reasons:
                return self._keep(shot, path)
            self._put_aside(shot, path, reasons)
            if off:
                gate = self.through(self.recover)
        raise CaptureError(
            f"{self.settings.dark_capture.max_retakes + 1} tries gave no good frame: {self.last_reason}",
            where=path,
            do=f"Look at the frames in {self.raw.rejected_folder}, mend the cause, and run again",
        )

    def through(self, act: Callable[[], T]) -> T:
        """Do something with the camera that takes long, and again after a line that broke meanwhile.

        Raises
        ------
        CameraError
            if it does not come back, or the line breaks too often.
        """
        for _ in range(self.settings.dark_capture.max_retakes):
            try:
                return act()
            except FAILURES_OF_THE_LINE as error:
                log.warning("%s; trying again", error)
                self._reconnect()
        return act()

    # one exposure
    def _expose(self, slot: Slot) -> tuple[Exposure, list[CoolingStatus | None]]:
        middle: list[CoolingStatus | None] = []
        start = self.cooling.status()

        def at_middle() -> None:
            try:
                middle.append(self.cooling.status())
            except CameraError as error:  # the exposure goes on; start and end have to do
                log.warning("no temperature in the middle of the exposure: %s", error)

        self.told(f"exposing {slot.exposure_s:g} s")
        self.event(f"{slot.kind} {slot.exposure_s:g} s start")
        try:
            exposure = self.camera.expose_dark(slot.exposure_s, at_middle=at_middle)
            end = self.cooling.status()
        except BaseException:
            self.event("exposure aborted")
            with contextlib.suppress(CameraError):
                self.camera.abort()
            raise
        self.event(f"{slot.kind} {slot.exposure_s:g} s end")
        return exposure, [start, middle[0] if middle else None, end]

    def _exposure_reasons(self, slot: Slot, exposure: Exposure) -> list[str]:
        allowed = max(EXPOSURE_TOLERANCE * slot.exposure_s, EXPOSURE_TOLERANCE_S)
        if abs(exposure.exposure_s - slot.exposure_s) <= allowed:
            return []
        return [f"the camera says that it exposed {exposure.exposure_s:g} s, not {slot.exposure_s:g} s"]

    # what becomes of it
    def _keep(self, shot: Shot, path: Path) -> str:
        warnings = list(self.checks.warnings)
        digest = self._write(shot, path, warnings)
        stat = path.stat()
        self.session.taken(shot.slot, digest, stat.st_size, stat.st_mtime_ns)
        self.checks.accept(shot.slot, shot.exposure.pixels)
        for warning in warnings:
            log.warning("%s: %s", path.name, warning)
        log.info("%s", self._line(shot, path), extra={"frame": True})
        return digest

    def _put_aside(self, shot: Shot, path: Path, reasons: Sequence[str]) -> None:
        aside = self.raw.rejected(path, self.session.attempts(shot.slot))
        self._write(shot, aside, reasons)
        self.session.rejected(shot.slot, aside, list(reasons))
        self.event("rejected")
        self.last_reason = "; ".join(reasons)
        self.rejected.append(Rejected(aside, tuple(reasons)))
        log.warning("%s is rejected: %s", path.name, "; ".join(reasons))

    def _write(self, shot: Shot, path: Path, qc: Sequence[str]) -> str:
        start, middle, end = shot.readings
        temperatures = FrameTemperatures(
            start=start.temperature_c if start else None,
            middle=middle.temperature_c if middle else None,
            end=end.temperature_c if end else None,
            # what a cooler that is off would do says nothing about the frame
            set_point=end.set_point_c if end and end.cooler_on is not False else None,
            power=end.power_percent if end else None,
            heat_sink=end.heat_sink_c if end else None,
        )
        return write_dark(
            path,
            shot.exposure,
            info=self.camera.info,
            slot=shot.slot,
            frame_id=self.session.frame_id(shot.slot),
            session=self.session.name,
            temperatures=temperatures,
            retries=max(self.session.attempts(shot.slot) - 1, 0),
            qc=qc,
            gate=shot.gate.on,
            clock_jump_s=(shot.exposure.ended - shot.exposure.started).total_seconds() - shot.exposure.monotonic_s,
        )

    def _line(self, shot: Shot, path: Path) -> str:
        known = [r.temperature_c for r in shot.readings if r is not None and r.temperature_c is not None]
        mean = f" at {sum(known) / len(known):.2f} °C" if known else ""
        return f"{path.relative_to(self.raw.root).as_posix()}: {shot.exposure.exposure_s:g} s{mean}"

    # when something went wrong
    def _count_retake(self, slot: Slot) -> None:
        self.retakes += 1
        if self.retakes > self.budget:
            raise CaptureError(
                f"all {self.budget} retakes of this run are used up; the last one for: {self.last_reason}",
                where=self.camera.where,
                do="Mend the cause and run again: what is there is kept",
            )

    def _reconnect(self) -> None:
        """Connect again, with growing pauses in real time."""
        deadline_s = time.monotonic() + self.settings.camera.reconnect_timeout_s
        pauses = iter((*RECONNECT_PAUSES_S, *([RECONNECT_PAUSES_S[-1]] * 10_000)))
        while True:
            try:
                self.camera.reconnect()
                break
            except FAILURES_OF_THE_LINE as error:
                pause_s = next(pauses)
                if time.monotonic() + pause_s > deadline_s:
                    raise
                log.warning("no connection to the camera yet (%s); trying again", error)
                time.sleep(pause_s)
        log.info("connected to the camera again")
