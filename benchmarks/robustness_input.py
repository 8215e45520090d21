"""Bad input, by the thousand: every input of tests/corpus ends as accepted rightly, rejected with a reason, or with a
`PipelineError`, before its deadline and within its memory. Fed to processes of their own, which may die.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from corpus.targets import TARGETS, listed  # noqa: E402

from benchmarks.robustness_fuzz import fuzz_rows  # noqa: E402
from benchmarks.robustness_rows import Row  # noqa: E402

SEED = 1
PROCESSES = 2
DEADLINE_S = 60.0  # of one input; the slowest takes a few seconds
START_S = 300.0  # of a process, until its first input: it imports, and makes the inputs
SPARE_MB, TIMES_ITS_SIZE = 200.0, 20.0  # memory that one input may take
BY_CHANCE = {
    "frames": 8000,
    "header cards": 3000,
    "settings": 1500,
    "ImageBytes": 1000,
    "images in JSON": 1000,
    "answers over HTTP": 400,
    "answers to the search": 300,
    "journal of jobs": 600,
    "journal of frames": 600,
}
"""Inputs by chance of a full run, beside those wrong in a known way; a quick one takes a twentieth of both."""
QUICK = 20


@dataclass
class Tally:
    """What became of the inputs of one target."""

    counts: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    late: int = 0
    died: int = 0
    peak_mb: float = 0.0
    slowest: tuple[float, str] = (0.0, "")

    def add(self, outcome: str) -> None:
        """Count one."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1


class Worker:
    """A process that is fed, and its lines."""

    def __init__(self, name: str, first: int, last: int, step: int) -> None:
        command = [sys.executable, str(REPOSITORY / "benchmarks" / "robustness_worker.py"), name]
        command += [str(number) for number in (SEED, first, last, step)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors += self.process.stderr.readlines()[-3:]

    def end(self) -> None:
        """Wait for its end, and let its pipes go."""
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def next(self, timeout_s: float) -> dict[str, object] | None:
        """Its next line; None if it has ended. Raises queue.Empty at the deadline."""
        line = self.lines.get(timeout=timeout_s)
        return None if line is None else json.loads(line)


def feed(name: str, first: int, last: int, step: int, tally: Tally, lock: threading.Lock) -> None:
    """Feed the inputs of a slice; a process that dies or hangs is replaced behind the input it died of."""
    while first < last:
        worker = Worker(name, first, last, step)
        at: dict[str, object] = {}
        why = ""
        while True:
            try:
                told = worker.next(DEADLINE_S if at else START_S)
            except queue.Empty:
                worker.process.kill()
                why = "no answer in time"
                break
            if told is None:
                code = worker.process.wait()
                why = "" if code == 0 else f"the process died ({code}): {' '.join(worker.errors)[-300:]}"
                break
            if "begin" in told:
                at = told
            else:
                with lock:
                    _take(tally, at, told)
                at = {}
        worker.end()
        if not why:
            return
        with lock:
            tally.broken.append(f"{at.get('name', 'the start')} (input {at.get('begin')}): {why}")
            tally.late += why.startswith("no answer")
            tally.died += not why.startswith("no answer")
            tally.add("late" if why.startswith("no answer") else "escaped")
        if not at:
            return
        first = int(str(at["begin"])) + step


def _take(tally: Tally, at: dict[str, object], told: dict[str, object]) -> None:
    outcome, seconds = str(told["outcome"]), float(str(told["s"]))
    peak, base = float(str(told["peak"])), float(str(told["base"]))
    tally.add(outcome)
    tally.slowest = max(tally.slowest, (seconds, str(at["name"])))
    before, tally.peak_mb = tally.peak_mb, max(tally.peak_mb, peak)
    if outcome == "escaped":
        tally.broken.append(f"{at['name']} (input {at['begin']}): {told['why']}")
    allowed = base + SPARE_MB + TIMES_ITS_SIZE * float(str(at["bytes"])) / 2**20
    if peak > allowed and peak > before:
        tally.broken.append(f"{at['name']} (input {at['begin']}): {peak:.0f} MB, at most {allowed:.0f} expected")


def numbers(name: str, full: bool) -> list[tuple[int, int, int]]:
    """Slices (first, last, step) of the inputs of a target, which together are all that are fed."""
    known = len(listed(name))
    if full or name == "bombs":
        last = known + (BY_CHANCE.get(name, 0) if full else 0)
        return [(n, last, PROCESSES) for n in range(PROCESSES)]
    chance = BY_CHANCE.get(name, 0) // QUICK
    return [(0, known, QUICK), (known, known + chance, 1)]


def row_of(name: str, full: bool) -> Row:
    """The row of one target."""
    begun_s = time.monotonic()
    tally, lock = Tally(), threading.Lock()
    with ThreadPoolExecutor(PROCESSES) as pool:
        for done in [pool.submit(feed, name, *piece, tally, lock) for piece in numbers(name, full)]:
            done.result()
    counts = tally.counts
    return Row(
        name=f"input: {name}",
        tried=sum(counts.values()),
        good=counts.get("good", 0),
        refused=counts.get("refused", 0),
        broken=tally.broken,
        seconds=time.monotonic() - begun_s,
        peak_mb=tally.peak_mb,
        note=f"slowest {tally.slowest[0]:.2f} s: {tally.slowest[1][:60]}",
        errors=counts.get("error", 0),
        escaped=counts.get("escaped", 0),
        late=tally.late,
    )


def run(full: bool, only: Sequence[str] = ()) -> list[Row]:
    """One row for each thing that reads what others wrote, then one for each that was fuzzed."""
    rows = [row_of(name, full) for name in TARGETS if not only or name in only]
    return rows + (fuzz_rows(full) if not only else [])
