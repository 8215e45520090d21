"""A campaign of darks with one camera: plan, order, cooling, resume, and an orderly end.

    with DarkCapture.open(settings) as capture:
        result = capture.capture_darks()

or, with a camera that is open already, ``DarkCapture(camera, settings).capture_darks()``.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from darkpipe.errors import LeftOutError
from hardware.at_temperature import AtTemperature, refuse_without_cooler, with_what_is_set
from hardware.camera import Camera
from hardware.clock import Clock, SystemClock
from hardware.connect import open_camera
from hardware.cooling import Cooling, CoolingStatus
from hardware.errors import CameraBusyError, CameraError, CaptureError, DiskSpaceError
from hardware.frame_taker import LEAST_RETAKES, FrameTaker
from hardware.frames.checks import FrameChecks
from hardware.frames.disk import disk_error
from hardware.frames.frame_journal import FrameJournal
from hardware.planning.estimate import duration_text
from hardware.planning.slots import Setting, Slot
from hardware.planning.worklist import Worklist, raw_dir
from hardware.results import CaptureResult, CaptureStatus, Rejected
from hardware.settings import AcquisitionSettings
from hardware.temperature_log import TemperatureLog

log = logging.getLogger("darkpipe.capture")

SPARE_DISK = 1.05  # of the bytes of the plan
LEARNED = 10  # frames of each setting that the checks know when a run goes on


class DarkCapture:
    """Takes the frames of a plan that are not there yet.

    Parameters
    ----------
    camera : open; it stays the caller's, unless `open` opened it.
    settings : both sections. clock : default: the camera's own, else the system's.
    on_end : called with the temperature log when a run that took frames ends, whatever its end.

    As a context manager it ends the session on exit: warms up (or holds) and lets the camera go. Without a ``with``
    block each of the three ``capture_…`` methods ends it.

    Raises
    ------
    CameraError
        if the camera is not what the settings say, or a temperature is asked of one without a cooler.
    """

    def __init__(
        self,
        camera: Camera,
        settings: AcquisitionSettings,
        *,
        clock: Clock | None = None,
        on_end: Callable[[Path], None] | None = None,
    ) -> None:
        self.camera, self.on_end = camera, on_end
        self.clock: Clock = clock or getattr(camera, "clock", None) or SystemClock()
        self.raw = raw_dir(settings)
        self._resources = contextlib.ExitStack()
        self._taker: FrameTaker | None = None
        self._log: TemperatureLog | None = None
        self._owns = self._log_fails = False
        self._blocks = 0
        self._taken: dict[Slot, Path] = {}
        self._still: list[Slot] | None = None
        self._rejected: list[Rejected] = []
        self._retakes = 0
        self._text = ""
        self._seen: CoolingStatus | None = None
        self.cooling = Cooling(camera, settings.camera.cooling, self.clock, self._on_reading)
        self.settings = with_what_is_set(settings, camera, self.cooling)
        refuse_without_cooler(camera, self.settings)
        self._at = AtTemperature(self.cooling, self.settings.camera.cooling)
        self._started_s, self._utc = self.clock.monotonic_s(), self.clock.utc()
        self.work = Worklist(self.settings, camera.info, self._utc)

    @classmethod
    def open(cls, settings: AcquisitionSettings) -> Self:
        """Open the camera of the settings, as a context manager that lets it go.

        Raises
        ------
        CameraError
            if it does not answer, is used by somebody else, or is not what the settings say.
        """
        ours = FrameJournal(raw_dir(settings), read_only=True).interrupted()
        camera = open_camera(settings.camera, take_over=ours)
        try:
            capture = cls(camera, settings)
        except BaseException:
            camera.close()
            raise
        capture._owns = True
        return capture

    # the three ways to capture
    def capture_darks(self) -> CaptureResult:
        """Take everything that is missing from the plan.

        Raises
        ------
        CameraError
            one of its family, naming the fault; what was taken is kept, and the next call goes on from there.
        """
        return self._capture(self.settings.dark_capture.select)

    def capture_bias_only(self) -> CaptureResult:
        """Take the bias frames that are missing; raises as `capture_darks`."""
        return self._capture("bias")

    def capture_science_darks_only(self) -> CaptureResult:
        """Take the darks of the science exposure that are missing; raises as `capture_darks`."""
        return self._capture("science")

    def get_status(self) -> CaptureStatus:
        """Where it stands. Asks the camera for its temperature; if that fails, `cooling` is None."""
        cooling: CoolingStatus | None = None
        with contextlib.suppress(CameraError):
            cooling = self.cooling.status()
        missing = self._left()
        return CaptureStatus(
            camera=self.camera.info.name,
            session=self.work.session.name,
            folder=self.raw.root,
            exposures_s=tuple(sorted({slot.exposure_s for slot in self.work.plan.slots})),
            temperatures_c=tuple(dict.fromkeys(slot.temperature_c for slot in self.work.plan.slots)),
            wanted=len(self.work.plan.slots),
            there=len(self.work.plan.slots) - len(missing),
            taken=len(self._taken),
            rejected=len(self._rejected),
            time_left_s=self.work.estimate(missing, cooling).total_s,
            cooling=cooling,
        )

    def _capture(self, select: str) -> CaptureResult:
        with self if not self._blocks else contextlib.nullcontext():
            self._plan(select)
            for line in self.described():
                log.info("%s", line)
            for _, slots in self.work.batches():
                with contextlib.suppress(LeftOutError):
                    for slot in slots:
                        self.take_slot(slot)
            self.finish()
        return self.result()

    def result(self) -> CaptureResult:
        """What was done since this object was made."""
        left = set(self._left())
        statistics = {
            "frames": len(self.work.plan.slots),
            "there": len(self.work.plan.slots) - len(left),
            "taken": len(self._taken),
            "rejected": len(self._rejected),
            "retakes": self._retakes + (self._taker.retakes if self._taker else 0),
            "exposure_s": sum(slot.exposure_s for slot in self._taken),
            "elapsed_s": self.clock.monotonic_s() - self._started_s,
        }
        return CaptureResult(
            session=self.work.session.name,
            files=tuple(self.work.paths[slot] for slot in self.work.plan.slots if slot not in left),
            taken=tuple(self._taken.values()),
            rejected=tuple(self._rejected),
            skipped_c=dict(self._at.skipped_c),
            remarks=tuple(self.work.plan.remarks),
            statistics=statistics,
        )

    def _left(self) -> list[Slot]:
        """What is still to be taken; worked out once a frame, since every reading of the thermometer asks."""
        if self._still is None:
            self._still = [slot for slot in self.work.missing if slot not in self._taken]
        return self._still

    # the plan
    def _plan(self, select: str) -> None:
        """Plan anew, and see what is there. Nothing is written before the folder is locked."""
        capture = self.settings.dark_capture.model_copy(update={"select": select})
        settings = self.settings.model_copy(update={"dark_capture": capture})
        self.work = Worklist(settings, self.camera.info, self._utc)
        self._still = None
        self._drop_taker()

    def _drop_taker(self) -> None:
        """Its plan has ended; another one has a budget of its own."""
        self._retakes += self._taker.retakes if self._taker else 0
        self._taker = None

    def described(self) -> list[str]:
        """The plan for people: frames there and wanted, remarks, time and bytes."""
        cooling: CoolingStatus | None = None
        if self.work.missing:
            with contextlib.suppress(CameraError):
                cooling = self.cooling.status()
        return self.work.described(self.camera.where, cooling)

    # taking
    def take(self, inputs: tuple[Path, ...], outputs: tuple[Path, ...], **identity: Any) -> Mapping[Path, str]:
        """`take_slot` as a job: the frame with this identity, written to the one output."""
        slot = Slot(**{name: identity[name] for name in ("kind", "exposure_s", "temperature_c", "number")})
        return {outputs[0]: self.take_slot(slot)}

    def take_slot(self, slot: Slot) -> str:
        """Take one frame of the plan, at its temperature; returns the digest of its file.

        Raises
        ------
        LeftOutError
            if its temperature cannot be had and `on_failure` is `skip_temperature`.
        CameraError
            for everything else.
        """
        taker = self._taker or self._begin()
        self._text = ""  # while it cools, nothing is exposed
        taker.through(partial(self._at.go_to, slot.temperature_c))
        digest = taker.take(slot, self.work.paths[slot], self._at.gate)
        self._taken[slot], self._still = self.work.paths[slot], None
        if slot.kind == "bias":
            self.clock.sleep(self.settings.dark_capture.bias_pause_s)
        return digest

    def _begin(self) -> FrameTaker:
        """At the first frame of a plan: check the disk, and what is there; open what is written."""
        self._check_disk()
        if self._log is None:
            self._lock_folder()
        if not self.work.open_for_writing():
            raise CaptureError(
                "the folder changed since the plan was made", where=self.raw.root, do="Run the same command again"
            )
        if self._log is None:
            self._log = TemperatureLog(self.raw.temperature_log(self.work.session.stamp), self.clock)
            self._resources.callback(self._log.close)
        self._taker = self._new_taker()
        return self._taker

    def _lock_folder(self) -> None:
        lock = filelock.FileLock(self.raw.lock)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise CameraBusyError(
                "another acquisition writes into this folder", where=self.raw.root, do="Wait for it, or choose another"
            ) from None
        except OSError as error:
            raise disk_error(error, self.raw.lock) from error
        self._resources.callback(lock.release)

    def _new_taker(self) -> FrameTaker:
        return FrameTaker(
            camera=self.camera,
            cooling=self.cooling,
            settings=self.settings,
            session=self.work.session,
            raw=self.raw,
            checks=self._checks(),
            clock=self.clock,
            event=self._on_event,
            recover=self._at.recover,
            budget=max(LEAST_RETAKES, round(self.settings.dark_capture.retake_budget * len(self.work.plan.slots))),
            rejected=self._rejected,
            told=self._tell,
        )

    def _checks(self) -> FrameChecks:
        """Checks that know the last frames of each setting that are there."""
        checks = FrameChecks(self.camera.info)
        missing = set(self.work.missing)
        there = [slot for slot in self.work.plan.slots if slot not in missing]
        settings: dict[Setting, list[Slot]] = {}
        for slot in there:
            settings.setdefault(slot.setting, []).append(slot)
        for slots in settings.values():
            for slot in slots[-LEARNED:]:
                checks.learn_file(slot, self.work.paths[slot])
        return checks

    def _check_disk(self) -> None:
        try:
            self.raw.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.raw.root) from error
        needed = (self.work.estimate(self.work.missing, None).bytes or 0) * SPARE_DISK
        free = shutil.disk_usage(self.raw.root).free
        if free < needed:
            raise DiskSpaceError(
                f"the plan needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB",
                where=self.raw.root,
                do="Make room, take fewer frames, or choose another dark_capture.output_dir",
            )

    # telling
    def _on_reading(self, status: CoolingStatus) -> None:
        self._to_log(lambda lines: lines.reading(status))
        self._tell(self._text, status)

    def _on_event(self, text: str) -> None:
        self._to_log(lambda lines: lines.event(text))

    def _to_log(self, write: Callable[[TemperatureLog], None]) -> None:
        """A log that cannot be written must not end a run, nor its warm-up: what a full disk means, the next frame
        says."""
        if self._log is None:
            return
        try:
            write(self._log)
        except CaptureError as error:
            if not self._log_fails:
                log.warning("%s", error)
            self._log_fails = True

    def _tell(self, text: str, status: CoolingStatus | None = None) -> None:
        """The state of the moment, for the bar."""
        self._text = text or self._text
        if not log.isEnabledFor(logging.INFO) or self._taker is None:
            return
        parts = [self._text]
        if status is not None and status.temperature_c is not None:
            target = "" if status.target_c is None else f" → {status.target_c:.1f} °C"
            parts.append(f"{status.temperature_c:.1f} °C{target}")
            if status.power_percent is not None:
                parts.append(f"cooler {status.power_percent:.0f} %")
            if status.target_c is not None:
                parts.append("stable" if status.stable else "not stable")
        self._seen = status or self._seen
        left_s = self.work.estimate(self._left(), self._seen).total_s
        parts.append(f"all in all {duration_text(left_s)} left")
        log.info("%s", ", ".join(filter(None, parts)), extra={"state": True})

    # the end
    def finish(self) -> None:
        """Say what there is.

        Raises
        ------
        CaptureError
            if frames were to be taken, and none was.
        """
        left = len(self._left())
        if self.work.missing and left == len(self.work.missing):
            reasons = "; ".join(self._at.skipped_c.values()) or "no temperature could be had"
            raise CaptureError(f"not one frame was taken: {reasons}", where=self.camera.where)
        log.info(
            "%d of %d frames are there, %d taken now, %d rejected",
            len(self.work.plan.slots) - left,
            len(self.work.plan.slots),
            len(self._taken),
            len(self._rejected),
        )

    def __enter__(self) -> Self:
        self._blocks += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocks -= 1
        if not self._blocks:
            self._end()

    def _end(self) -> None:
        """Warm up or hold, close the logs, let the camera go. What fails here is said, and hides no other error."""
        with contextlib.ExitStack() as stack:
            if self._owns:
                stack.callback(_said, self.camera.close)
            stack.callback(self._forget)
            stack.callback(_said, self._resources.close)
            self._text = "warming up"  # in case it does
            self._at.end()
            if self._log is not None and self.on_end is not None:
                _said(partial(self.on_end, self._log.path))

    def _forget(self) -> None:
        self._drop_taker()
        self._log = None


def _said(end: Callable[[], object]) -> None:
    """Do something at the end; what fails is said, and hides no other error."""
    try:
        end()
    except Exception as error:  # whatever it is, the frames are safe
        log.error("%s", error)
