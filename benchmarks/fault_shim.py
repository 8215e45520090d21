"""Faults at the calls that write, and a time of day that jumps, for a process that the crash harness has started.

Nothing of the pipeline is replaced: `open`, `os.replace` and their like fail where a disk would, and the time of day is
what somebody set the machine's clock to. Monotonic clocks stay as they are.
"""

from __future__ import annotations

import builtins
import datetime
import errno
import io
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

DRAFT = re.compile(r"^\.(?P<name>.+)\.\d+-\d+\.draft$")
WRITES = re.compile(r"[wax+]")
DATED = re.compile(r"_\d{8}(_\d{6})?")
LONGEST_JUMP_S = 10 * 365.25 * 86400.0
JUMP_EVERY_S = 0.05
MOST_OF_A_LOG = 3  # faults of a log: it has one call a line
MOST_OF_A_FILE = 60


class CountingRaw(io.RawIOBase):
    """An open file whose writes are counted before they are done. No `FileIO`, so that no library writes past it."""

    def __init__(self, raw: io.FileIO, count: Callable[[str], None]) -> None:
        self._raw, self._count = raw, count
        self.mode = raw.mode
        self.name = raw.name

    def write(self, data: Any) -> int:
        """Count, then write."""
        self._count("write")
        return self._raw.write(data)

    def truncate(self, size: int | None = None) -> int:
        """Count, then cut."""
        self._count("truncate")
        return self._raw.truncate(size)

    def readinto(self, buffer: Any) -> int | None:
        """As the file does."""
        return self._raw.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file does."""
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        """As the file does."""
        return self._raw.tell()

    def fileno(self) -> int:
        """As the file does."""
        return self._raw.fileno()

    def readable(self) -> bool:
        """As the file is."""
        return self._raw.readable()

    def writable(self) -> bool:
        """As the file is."""
        return self._raw.writable()

    def seekable(self) -> bool:
        """As the file is."""
        return True

    def close(self) -> None:
        """Both."""
        if not self.closed:
            try:
                super().close()
            finally:
                self._raw.close()


class FaultAtEachCall:
    """Lets the next call that writes a file fail, one call a file and run, until each of them has failed once.

    root : files below it are counted. number : the errno of the fault. book : a file that remembers, over all runs,
    how often a file has failed: its k-th run meets the fault at its k-th call.
    """

    def __init__(self, root: Path, number: int, book: Path, most: int = MOST_OF_A_FILE) -> None:
        self.root, self.number, self.book, self.most = os.path.realpath(root), number, book, most
        lines = book.read_text().splitlines() if book.exists() else []
        self._failed = Counter(line.partition("\t")[0] for line in lines)
        self._calls: Counter[str] = Counter()
        self._open, self._io_open = builtins.open, io.open

    def install(self) -> None:
        """From now on."""
        builtins.open = self._opened  # type: ignore[assignment]
        io.open = self._opened  # type: ignore[assignment]
        for name, position in (("replace", 1), ("rename", 1), ("link", 1), ("mkdir", 0), ("open", 0)):
            setattr(os, name, self._counted(getattr(os, name), name, position))
        really = os.fsync

        def fsync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self._count(os.readlink(f"/proc/self/fd/{number}"), "fsync")
            really(file)

        os.fsync = fsync  # type: ignore[assignment]

    def _counted(self, really: Callable[..., Any], name: str, position: int) -> Callable[..., Any]:
        @wraps(really)
        def call(*given: Any, **more: Any) -> Any:
            writes = name != "open" or (len(given) > 1 and given[1] & (os.O_WRONLY | os.O_RDWR))
            if writes and len(given) > position and isinstance(given[position], str | os.PathLike):
                self._count(os.fspath(given[position]), name)
            return really(*given, **more)

        return call

    def _opened(self, file: Any, mode: str = "r", buffering: int = -1, *given: Any, **more: Any) -> Any:
        if not isinstance(file, str | os.PathLike) or not WRITES.search(mode) or not self._ours(os.fspath(file)):
            return self._open(file, mode, buffering, *given, **more)
        path = os.fspath(file)
        self._count(path, "open")
        plain = mode.replace("t", "").replace("b", "")
        raw = CountingRaw(io.FileIO(path, plain), lambda what: self._count(path, what))
        if buffering == 0:
            return raw
        whole: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return whole if "b" in mode else io.TextIOWrapper(whole, *given, **more, write_through=True)

    def _ours(self, path: str) -> bool:
        full = os.path.realpath(path)
        return full == self.root or full.startswith(self.root + os.sep)

    def _count(self, path: str, what: str) -> None:
        if not self._ours(path):
            return
        folder, name = os.path.split(os.path.relpath(os.path.realpath(path), self.root))
        draft = DRAFT.match(name)
        key = DATED.sub("", os.path.join(folder, draft["name"] if draft else name))
        most = MOST_OF_A_LOG if key.endswith(".log") else self.most
        failed = self._failed[key]
        if failed >= most:
            return
        self._calls[key] += 1
        if self._calls[key] == failed + 1:
            with self._open(self.book, "a") as lines:
                lines.write(f"{key}\t{what}\n")
            raise OSError(self.number, os.strerror(self.number), path)


class JumpingClock:
    """Sets the time of day of this process to another one every few hundredths of a second, years away in both
    directions; files that are replaced get times of that clock."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._time, self._monotonic = time.time, time.monotonic

    def offset_s(self) -> float:
        """By which the clock is wrong at this moment."""
        epoch = int(self._monotonic() / JUMP_EVERY_S)
        return random.Random(f"{self._seed} {epoch}").uniform(-LONGEST_JUMP_S, LONGEST_JUMP_S)

    def now(self) -> float:
        """What the clock shows [s since 1970]."""
        return self._time() + self.offset_s()

    def install(self) -> None:
        """From now on."""
        clock, real = self, datetime.datetime

        class Jumping(real):
            """A datetime of this clock."""

            @classmethod
            def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
                return real.fromtimestamp(clock.now(), tz)

        time.time = self.now  # type: ignore[assignment]
        time.time_ns = lambda: int(self.now() * 1e9)  # type: ignore[assignment]
        for module in list(sys.modules.values()):
            name = getattr(module, "__name__", "")
            ours = name.partition(".")[0] in ("darkpipe", "hardware", "steps", "master_controller", "run_pipeline")
            if ours and getattr(module, "datetime", None) is real:
                module.datetime = Jumping  # type: ignore[attr-defined]
        replace, utime = os.replace, os.utime

        def dated(source: Any, target: Any, **more: Any) -> None:
            moment = max(self.now(), 1.0)
            utime(source, (moment, moment))
            replace(source, target, **more)

        os.replace = dated  # type: ignore[assignment]


def install(given: dict[str, Any]) -> None:
    """Install what a description asks for: {"faults": {"root": …, "error": "EIO", "book": …}, "clock": seed}."""
    if "clock" in given:
        JumpingClock(int(given["clock"])).install()
    if "faults" in given:
        faults = given["faults"]
        FaultAtEachCall(
            Path(faults["root"]),
            getattr(errno, faults["error"]),
            Path(faults["book"]),
            int(faults.get("most", MOST_OF_A_FILE)),
        ).install()
