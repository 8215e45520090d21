"""What is to be taken: the plan, the file of each of its frames, and which of them are missing."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from darkpipe.errors import FrameError
from darkpipe.files.frames import find_frames
from darkpipe.files.layout import RawDir
from hardware.camera import CameraInfo
from hardware.cooling import CoolingStatus
from hardware.frames.frame_journal import FrameJournal, Session
from hardware.planning.flats import detect_flat_exposure
from hardware.planning.plan import CapturePlan, Estimate, Slot, estimate, make_plan, plan_table
from hardware.settings import AcquisitionSettings

log = logging.getLogger("darkpipe.capture")

ASKED_OF_CAMERA = ("address", "device_number", "gain", "offset", "readout_mode", "binning")


def raw_dir(settings: AcquisitionSettings) -> RawDir:
    """The folder of the raw frames."""
    return RawDir(Path(os.path.abspath(settings.dark_capture.output_dir)))


def asked_of_camera(settings: AcquisitionSettings) -> dict[str, Any]:
    """Which camera the settings ask for, and how it is to be set; plain data."""
    return {name: getattr(settings.camera, name) for name in ASKED_OF_CAMERA}


class Worklist:
    """The frames that the settings ask of a camera, and what there is of them. Nothing is written.

    utc : when it was made, for the stamp of a session that begins.
    plan, session, paths : frames, where they belong, and the file of each. missing : those that are not there.
    strangers : frames that stand in the folder while its journal knows of no session: it was lost, or they are others'.

    Raises
    ------
    SettingsError
        if no frame is left to take. CaptureError : if the journal cannot be read.
    """

    def __init__(self, settings: AcquisitionSettings, info: CameraInfo, utc: datetime) -> None:
        self.settings, self.info, self.utc = settings, info, utc
        self.journal = FrameJournal(raw_dir(settings), read_only=True)
        self.plan: CapturePlan = make_plan(settings, info, _flat_exposure(settings))
        self._counts = Counter(slot.setting for slot in self.plan.slots)
        self.strangers = 0 if self.journal.has_sessions else _frames_in(self.journal.raw.root)
        self._look(settings.dark_capture.session)

    def open_for_writing(self) -> bool:
        """Enter the plan into the journal, and look again, putting aside what is damaged. To be called under the lock
        of the folder. False if that is not the same any more."""
        paths, missing = self.paths, set(self.missing)
        self.journal = FrameJournal(self.journal.raw)
        self.journal.remember(asked_of_camera(self.settings), self.info)
        self._look(self.session.name)
        for warning in self.journal.warnings:
            log.warning("%s", warning)
        return self.paths == paths and set(self.missing) == missing

    def _look(self, session: str | None) -> None:
        several = len(set(self.plan.temperatures_c)) > 1
        self.session: Session = self.journal.open_session(session, self.info.configuration, self.utc)
        self.paths: dict[Slot, Path] = self.session.assign(self.plan.slots, several)
        self.missing: list[Slot] = self.session.missing(self.plan.slots)

    def batches(self) -> Iterator[tuple[str, list[Slot]]]:
        """What is missing, a batch a temperature, each with its label."""
        for temperature_c, slots in groupby(self.missing, key=lambda slot: slot.temperature_c):
            yield "" if temperature_c is None else f"{temperature_c:.1f} °C", list(slots)

    def _strangers_told(self) -> list[str]:
        if not self.strangers:
            return []
        journal = self.journal.raw.journal.name
        return [f"note: {self.strangers} frames stand there that {journal} does not know: none is counted as taken"]

    def number(self, slot: Slot) -> str:
        """'3/20': which one it is of those that the plan wants of its setting."""
        return f"{slot.number}/{self._counts[slot.setting]}"

    def identity(self, slot: Slot) -> dict[str, Any]:
        """What a frame is, as plain data."""
        return {
            "configuration": self.info.configuration,
            "session": self.session.name,
            "kind": slot.kind,
            "exposure_s": slot.exposure_s,
            "temperature_c": slot.temperature_c,
            "number": slot.number,
        }

    def estimate(self, missing: Sequence[Slot], cooling: CoolingStatus | None = None) -> Estimate:
        """What these frames cost. cooling : where the cooler is now, if that is known."""
        return estimate(self.plan, missing, self.info, self.settings, cooling.temperature_c if cooling else None)

    def described(self, where: str, cooling: CoolingStatus | None) -> list[str]:
        """The plan for people: frames there and wanted, remarks, time and bytes. where : of the camera."""
        return [
            f"camera: {self.info.name} at {where}",
            f"frames go to {self.journal.raw.root}, session {self.session.name}",
            *plan_table(self.plan, self.missing),
            *(f"note: {remark}" for remark in self.plan.remarks),
            *self._strangers_told(),
            *self.estimate(self.missing, cooling).lines,
        ]


def _frames_in(folder: Path) -> int:
    try:
        return len(find_frames(folder))
    except FrameError:  # there is no such folder yet
        return 0


def complete(settings: AcquisitionSettings) -> str | None:
    """A sentence, where everything that the settings ask for is there, so that no camera is needed; else None.

    What the camera can do is taken from the last run that asked for the same one.
    """
    cooling = settings.camera.cooling
    if cooling.enable_cooling and not cooling.auto_cooling:
        return None  # what is set at the camera decides what is to be taken
    info = FrameJournal(raw_dir(settings), read_only=True).recall(asked_of_camera(settings))
    if info is None:
        return None
    work = Worklist(settings, info, datetime.now(UTC))
    if work.missing:
        return None
    return f"all {len(work.plan.slots)} frames of the plan are there (session {work.session.name})"


def _flat_exposure(settings: AcquisitionSettings) -> float | None:
    """Exposure of flat darks [s]: as given, or as the flats say."""
    capture = settings.dark_capture
    if capture.flat_exposure_time is not None or capture.flats_dir is None or capture.select != "all":
        return capture.flat_exposure_time
    found = detect_flat_exposure(capture.flats_dir)
    (log.info if found.seconds is not None else log.warning)("flat darks: %s", found.why)
    return found.seconds
