"""The lines of the frame journal: read, forgiving what a crash left; appended and brought to the disk.

{"frames":1}                                                              the format
{"session":"S","stamp":"20250729_143022","configuration":{…},"utc":"…"}   a session begins; its stamp is its key
{"camera":{…},"info":{…}}                                                 a camera as asked for, and what it is
{"slot":"T-10.0C/dark/2s/003","stamp":"…","path":"exp_2.000s/dark_…"}     the file of a slot, fixed for ever
{"begin":"<slot>","stamp":"…","utc":"…"}                                  an exposure is asked for
{"taken":"<slot>","stamp":"…","digest":"…","size":2880,"mtime_ns":1}      its file is on the disk
{"rejected":"<slot>","stamp":"…","path":"rejected/…","reasons":["…"]}     it came and was not good enough
{"lost":"<slot>","stamp":"…","path":"rejected/…","reasons":["…"]}         its file is gone or was put aside
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkpipe.files.layout import SAFE_NAME, RawDir
from hardware.errors import CaptureError
from hardware.frames.disk import disk_error

FORMAT = 1
EVENTS = ("begin", "taken", "rejected", "lost")
SUFFIX = RawDir(Path()).frame("stamp", "dark", 1.0, 1).suffix  # of all frames: no line may lead to another kind of file

Line = dict[str, Any]


@dataclass
class SessionLine:
    """One session, as it was opened first."""

    name: str
    stamp: str
    configuration: Line


@dataclass
class SlotState:
    """What became of one slot. begun : how often; size, mtime_ns : of its file as it was recorded; None: not there."""

    begun: int = 0
    size: int | None = None
    mtime_ns: int | None = None


@dataclass
class Book:
    """What the journal says, in memory.

    sessions : in the order they began. cameras : as asked for, and what they turned out to be.
    paths : by stamp and slot; owners : the other way round. last : event and its slot.
    """

    sessions: list[SessionLine] = field(default_factory=list)
    paths: dict[tuple[str, str], str] = field(default_factory=dict)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    states: dict[tuple[str, str], SlotState] = field(default_factory=dict)
    cameras: list[tuple[Line, Line]] = field(default_factory=list)
    last: tuple[str, tuple[str, str]] | None = None
    warnings: list[str] = field(default_factory=list)
    whole_bytes: int = 0

    def add(self, line: Line) -> None:
        """Take in one line. Raises KeyError, TypeError or ValueError if it makes no sense."""
        if "session" in line:
            name, stamp, configuration = line["session"], line["stamp"], line["configuration"]
            _must(isinstance(name, str) and isinstance(stamp, str) and isinstance(configuration, dict))
            _must(SAFE_NAME.fullmatch(stamp) is not None)  # it becomes a part of names of files
            self.sessions.append(SessionLine(name, stamp, configuration))
        elif "slot" in line:
            key, path = (_text(line["stamp"]), _text(line["slot"])), _text(line["path"])
            _must(self.paths.get(key, path) == path and self.owners.get(path, key) == key)
            _must(path.endswith(SUFFIX) and all(SAFE_NAME.fullmatch(part) for part in path.split("/")))
            self.paths[key], self.owners[path] = path, key
        elif "camera" in line:
            _must(isinstance(line["camera"], dict) and isinstance(line["info"], dict))
            self.cameras.append((line["camera"], line["info"]))
        elif "frames" not in line:
            event = next(name for name in EVENTS if name in line)
            key = _text(line["stamp"]), _text(line[event])
            self._happened(event, key, line)
            self.last = event, key

    def _happened(self, event: str, key: tuple[str, str], line: Line) -> None:
        state = self.states.setdefault(key, SlotState())
        if event == "begin":
            state.begun += 1
        elif event == "taken":
            state.size, state.mtime_ns = int(line["size"]), int(line["mtime_ns"])
        elif event == "lost":
            state.size = state.mtime_ns = None


def _must(holds: bool) -> None:
    if not holds:
        raise ValueError("a line that makes no sense")


def _text(value: Any) -> str:
    _must(isinstance(value, str) and bool(value))
    return str(value)


def load(path: Path) -> Book:
    """Read a journal. A torn last line is left out, a bad line in the middle skipped; both are said in `warnings`.

    Raises
    ------
    CaptureError
        if the file cannot be read, or is of another format.
    """
    book = Book()
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return book
    except OSError as error:
        raise CaptureError(
            f"cannot read the frame journal: {error.strerror or error}",
            where=path,
            do="Give back read permission, or choose another folder as dark_capture.output_dir.",
        ) from error
    book.whole_bytes = content.rfind(b"\n") + 1
    if book.whole_bytes < len(content):
        book.warnings.append(f"{path.name}: its last line was not finished and is left out")
    for number, raw in enumerate(content[: book.whole_bytes].split(b"\n")[:-1], 1):
        try:
            line = json.loads(raw)
            _must(isinstance(line, dict))
            if line.get("frames", FORMAT) != FORMAT:
                raise CaptureError(
                    f"the frame journal has format {ascii(line['frames'])[:40]}, not {FORMAT}: another version's",
                    where=path,
                    do="Use that version, or another dark_capture.output_dir.",
                )
            book.add(line)
        except (ValueError, KeyError, TypeError, OverflowError, StopIteration, RecursionError):
            book.warnings.append(f"{path.name}: line {number} cannot be read and is skipped")
    return book


def append(path: Path, book: Book, lines: Iterable[Line]) -> None:
    """Write lines behind the last whole one, force them to the disk, and take them into the book.

    Raises
    ------
    DiskSpaceError, CaptureError
        if they cannot be written; what was half written is overwritten by the next call.
    """
    new = list(lines)
    if not new:
        return
    head: list[Line] = [] if book.whole_bytes else [{"frames": FORMAT}]
    content = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in [*head, *new])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        with open(path, "w+b" if fresh else "r+b") as stream:
            stream.seek(book.whole_bytes)
            stream.truncate()
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise disk_error(error, path) from error
    book.whole_bytes += len(content)
    for line in new:
        book.add(line)
