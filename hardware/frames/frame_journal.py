"""What was planned and what became of it: the journal beside the frames, which makes a run resumable.

The capture alone writes it, under its lock. A slot keeps its file name for ever, and a name belongs to one slot.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from darkpipe.errors import ProductError
from darkpipe.files.atomic import file_digest, remove_drafts, sync
from darkpipe.files.layout import RawDir
from hardware.camera import CameraInfo
from hardware.errors import CaptureError
from hardware.frames.disk import disk_error
from hardware.frames.frame_file import verify_frame
from hardware.frames.journal_file import Line, SessionLine, SlotState, append, load
from hardware.planning.slots import Slot

_CAMERA_INFO = TypeAdapter(CameraInfo)


class FrameJournal:
    """The journal of a folder of raw frames.

    read_only : nothing is written, nor moved: for a look at what is there.
    warnings : what was wrong with the file, or with frames, in words; it grows.

    Raises
    ------
    CaptureError
        if the journal cannot be read, or is of another format.
    """

    def __init__(self, raw: RawDir, *, read_only: bool = False) -> None:
        self.raw, self.read_only = raw, read_only
        self._book = load(raw.journal)
        self.warnings: list[str] = self._book.warnings
        if not read_only:  # what a kill left half written; elsewhere in the folder others may be writing
            folders = {(raw.root / path).parent for path in self._book.paths.values()} | {raw.rejected_folder}
            for folder in folders:
                remove_drafts(folder)

    @property
    def has_sessions(self) -> bool:
        """Whether a session was begun here."""
        return bool(self._book.sessions)

    def open_session(self, name: str | None, configuration: Mapping[str, Any], utc: datetime) -> Session:
        """The session of this name and configuration; where there is none, a new one begins.

        Parameters
        ----------
        name : None: the newest of this configuration, under whatever name.
        configuration : `CameraInfo.configuration`. Frames of another one are another session, with another stamp.
        utc : time of day, for the stamp of a new session.

        Raises
        ------
        CaptureError
            if the journal cannot be written.
        """
        wanted = dict(configuration)
        for known in reversed(self._book.sessions):
            if known.configuration == wanted and name in (None, known.name):
                return Session(self, known)
        stamp = self._free_stamp(utc)
        line: Line = {
            "session": name or stamp,
            "stamp": stamp,
            "configuration": wanted,
            "utc": utc.astimezone(UTC).isoformat(timespec="seconds"),
        }
        self._record([line])
        return Session(self, self._book.sessions[-1])

    def remember(self, asked: Mapping[str, Any], info: CameraInfo) -> None:
        """Note what a camera is that was asked for like this (address, gain, …), for runs that need not ask it.

        Raises
        ------
        CaptureError
            if the journal cannot be written.
        """
        if self.recall(asked) != info:
            self._record([{"camera": dict(asked), "info": asdict(info)}])

    def recall(self, asked: Mapping[str, Any]) -> CameraInfo | None:
        """What the camera that was asked for like this was, when it was used last; None: it never was."""
        for known, info in reversed(self._book.cameras):
            if known == dict(asked):
                with contextlib.suppress(ValidationError):  # of another version, or edited
                    camera = _CAMERA_INFO.validate_python(info)
                    if min(camera.binning) > 0:
                        return camera
        return None

    def interrupted(self) -> bool:
        """Whether an exposure of ours may run still: the last thing that was written is its begin, and its frame is
        not there."""
        event, (stamp, key) = self._book.last or ("", ("", ""))
        if event != "begin":
            return False
        name = self._book.paths.get((stamp, key))
        return name is None or verify_frame(self.raw.root / name, f"{stamp}/{key}") is not None

    def _free_stamp(self, utc: datetime) -> str:
        taken = {session.stamp for session in self._book.sessions} | {stamp for stamp, _ in self._book.paths}
        moment = utc.astimezone(UTC)
        while (stamp := moment.strftime("%Y%m%d_%H%M%S")) in taken:
            moment += timedelta(seconds=1)
        return stamp

    def _record(self, lines: Sequence[Line]) -> None:
        if not self.read_only:
            append(self.raw.journal, self._book, lines)
            return
        for line in lines:
            self._book.add(line)


class Session:
    """Frames of one configuration, under one stamp. Made by `FrameJournal.open_session`.

    name, stamp : 'YYYYMMDD_HHMMSS', part of all its file names.
    """

    def __init__(self, journal: FrameJournal, line: SessionLine) -> None:
        self._journal, self._line = journal, line
        self._raw, self._book = journal.raw, journal._book

    @property
    def name(self) -> str:
        return self._line.name

    @property
    def stamp(self) -> str:
        return self._line.stamp

    def frame_id(self, slot: Slot) -> str:
        """Identity of the frame of a slot, for its header: '20250729_143022/T-10.0C/dark/2s/003'."""
        return f"{self.stamp}/{slot.key}"

    def path(self, slot: Slot) -> Path:
        """File of a slot that was assigned one."""
        return self._raw.root / self._book.paths[self._key(slot)]

    def attempts(self, slot: Slot) -> int:
        """So many exposures of this slot were begun, in all runs, this one included."""
        return self._state(slot).begun

    def assign(self, slots: Sequence[Slot], several_temperatures: bool) -> dict[Slot, Path]:
        """The file of each slot. One that has a name keeps it, whatever is planned around it now.

        Parameters
        ----------
        several_temperatures : new names stand below a folder of their temperature.

        Raises
        ------
        CaptureError
            if the journal cannot be written.
        """
        reserved: set[str] = set()
        lines: list[Line] = []
        for slot in slots:
            if self._key(slot) not in self._book.paths:
                path = self._free_path(slot, several_temperatures, reserved)
                reserved.add(path)
                lines.append({"slot": slot.key, "stamp": self.stamp, "path": path})
        self._journal._record(lines)
        return {slot: self.path(slot) for slot in slots}

    def _free_path(self, slot: Slot, several_temperatures: bool, reserved: set[str]) -> str:
        folders = [slot.temperature_c] if several_temperatures else [None, slot.temperature_c]
        paths = [self._raw.frame(self.stamp, slot.kind, slot.exposure_s, slot.number, t) for t in folders]
        last = paths[-1]
        further = (last.with_name(f"{last.stem}-{n}{last.suffix}") for n in count(2))
        names = (path.relative_to(self._raw.root).as_posix() for path in chain(paths, further))
        return next(name for name in names if name not in self._book.owners and name not in reserved)

    # what happens to a slot
    def begin(self, slot: Slot, utc: datetime) -> None:
        """An exposure is about to be asked for."""
        self._event("begin", slot, utc=utc.astimezone(UTC).isoformat(timespec="milliseconds"))

    def taken(self, slot: Slot, digest: str, size: int, mtime_ns: int) -> None:
        """Its frame is on the disk, under its name."""
        self._event("taken", slot, digest=digest, size=size, mtime_ns=mtime_ns)

    def rejected(self, slot: Slot, path: Path | None, reasons: Sequence[str]) -> None:
        """Its frame came and was put aside, at `path` (None: it was not kept)."""
        self._event("rejected", slot, path=self._name(path), reasons=list(reasons))

    def _event(self, event: str, slot: Slot, **more: Any) -> None:
        self._journal._record([{event: slot.key, "stamp": self.stamp, **more}])

    # what is there
    def missing(self, slots: Iterable[Slot]) -> list[Slot]:
        """The slots whose frame is not on the disk, whole, in the order given; all must have been assigned.

        A file as it was recorded counts as there. Any other is read and verified: a frame whose record a crash has
        prevented is taken in; one that is damaged, or somebody else's, is moved to the rejected ones, never deleted.

        Raises
        ------
        CaptureError
            if a file cannot be moved, or the journal not be written.
        """
        return [slot for slot in slots if not self._is_there(slot)]

    def _is_there(self, slot: Slot) -> bool:
        path, state = self.path(slot), self._state(slot)
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            if state.size is not None:
                self._lose(slot, None, "its file is gone: it is taken again")
            return False
        except OSError as error:
            raise CaptureError(f"cannot look for a frame: {error.strerror or error}", where=path) from error
        # no inode: frames may have been copied to another disk since, with their times
        if (found.st_size, found.st_mtime_ns) == (state.size, state.mtime_ns):
            return True
        reason = verify_frame(path, self.frame_id(slot)) if stat.S_ISREG(found.st_mode) else "no regular file"
        if reason is not None:
            self._lose(slot, path, reason)
            return False
        if state.size is None:
            self._journal.warnings.append(f"{self._name(path)}: whole, but not recorded; it is taken in")
        self.taken(slot, self._digest(path), found.st_size, found.st_mtime_ns)
        return True

    def _digest(self, path: Path) -> str:
        try:
            return file_digest(path)
        except OSError as error:
            raise CaptureError(f"cannot read a frame: {error.strerror or error}", where=path) from error

    def _lose(self, slot: Slot, path: Path | None, reason: str) -> None:
        """Enter that a slot is empty again; a file that stands there is put aside."""
        aside: Path | None = None
        told = f"{self._name(self.path(slot))}: {reason}"
        if path is not None and not self._journal.read_only:
            aside = self._put_aside(slot, path)
            told += f"; moved to {self._name(aside)}"
        self._journal.warnings.append(told)
        self._event("lost", slot, path=self._name(aside), reasons=[reason])

    def _put_aside(self, slot: Slot, path: Path) -> Path:
        aside = self._free_aside(path, self.attempts(slot))
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, aside)
        except OSError as error:
            raise disk_error(error, path) from error
        with contextlib.suppress(ProductError):
            sync([aside])
        return aside

    def _free_aside(self, path: Path, attempt: int) -> Path:
        """A free name among the rejected frames; later attempts have others."""
        first = aside = self._raw.rejected(path, attempt)
        number = 1
        while os.path.lexists(aside):
            number += 1
            aside = first.with_name(f"{first.name}-{number}")
        return aside

    def _name(self, path: Path | None) -> str | None:
        return None if path is None else path.relative_to(self._raw.root).as_posix()

    def _key(self, slot: Slot) -> tuple[str, str]:
        return self.stamp, slot.key

    def _state(self, slot: Slot) -> SlotState:
        return self._book.states.get(self._key(slot)) or SlotState()
