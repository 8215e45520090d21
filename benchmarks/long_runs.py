"""Long runs: ten thousand small frames through acquisition and pipeline, and journals of 10^5 lines: whether memory,
open files and threads stay flat, and how fast the journals are read."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import pipeline_command
from benchmarks.crash_child import capture_of
from benchmarks.crash_rig import REPOSITORY
from benchmarks.robustness_rows import Row

FRAMES = 10_000
SETTINGS = 12  # three temperatures, bias and three exposures
SAMPLES = 10
OPEN_AT_A_TIME = 2  # frames that the jobs of a moment read
LINES = 100_000
MOST_LOAD_S = 1.0
MOST_KB_A_FRAME = 4.0  # that a process may keep of each frame: its line of the plan, its state, its digest


@dataclass(frozen=True)
class Sample:
    """Of a process: frames done, time, memory that is its own, open files, threads."""

    done: int
    seconds: float
    memory_mb: float
    files: int
    threads: int


def sample(process: int | str, done: int, begin_s: float) -> Sample:
    """What a process has now; `OSError` if it is gone."""
    folder = Path("/proc") / str(process)
    pages = int((folder / "statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    files, threads = len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))
    return Sample(done, time.monotonic() - begin_s, memory, files, threads)


def growth_kb(samples: Sequence[Sample]) -> float:
    """Memory that a frame costs in the second half of a run [kB]."""
    half, last = samples[len(samples) // 2], samples[-1]
    return (last.memory_mb - half.memory_mb) * 1e3 / max(last.done - half.done, 1)


def told(samples: Sequence[Sample]) -> list[str]:
    """Lines of a table."""
    return [
        f"    {s.done:>6} frames {s.seconds:7.1f} s {s.memory_mb:7.1f} MB {s.files:>3} files {s.threads:>3} threads"
        for s in samples
    ]


def faults_of(samples: Sequence[Sample]) -> list[str]:
    """What is not flat: between the first sample, when all is set up, and the last."""
    first, last = samples[0], samples[-1]
    found = []
    if last.files > first.files + OPEN_AT_A_TIME:
        found.append(f"open files grew from {first.files} to {last.files}")
    if last.threads > first.threads:
        found.append(f"threads grew from {first.threads} to {last.threads}")
    if growth_kb(samples) > MOST_KB_A_FRAME:
        found.append(f"memory grew by {growth_kb(samples):.1f} kB a frame")
    return found


def acquire(folder: Path, frames: int) -> tuple[Row, list[str]]:
    """So many frames with a camera in process and a clock that takes no time."""
    samples: list[Sample] = []
    begin_s = time.monotonic()
    capture, _ = capture_of(folder, -(-frames // SETTINGS), rows=32, cols=32, exposures=3)
    with capture:
        slots = [slot for _, batch in capture.work.batches() for slot in batch]
        every = max(len(slots) // SAMPLES, 1)
        for number, slot in enumerate(slots, 1):
            capture.take_slot(slot)
            if number % every == 0:
                gc.collect()
                samples.append(sample("self", number, begin_s))
        capture.finish()
    there = sum(1 for _ in folder.rglob("*.fits"))
    broken = faults_of(samples) + ([] if there == len(slots) else [f"{there} of {len(slots)} frames are there"])
    return row_of("acquisition", len(slots), samples, broken), told(samples)


def pipeline(folder: Path, frames: int) -> tuple[Row, list[str]]:
    """The whole pipeline over these frames, as a process of its own that is looked at from outside."""
    samples: list[Sample] = []
    begin_s = time.monotonic()
    out = folder.parent / "out"
    line = [*pipeline_command(), "--mode", "full", "--basepath", str(folder), "--output_dir", str(out), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryFile() as said, subprocess.Popen(line, env=environment, stdout=said, stderr=said) as process:
        ended = threading.Event()
        waiting = threading.Thread(target=lambda: (process.wait(), ended.set()))
        waiting.start()
        while not ended.wait(0.2):
            with contextlib.suppress(OSError):
                samples.append(sample(process.pid, looked_at(out), begin_s))
        waiting.join()
        said.seek(0)
        text = said.read().decode(errors="replace")
    surveyed = [s for s in samples if 0 < s.done < frames] or samples[:1]  # not what comes after the last frame
    chosen = surveyed[:: max(len(surveyed) // SAMPLES, 1)][1:] or surveyed
    broken = faults_of(chosen) + ([f"exit code {process.returncode}: {text[-800:]}"] if process.returncode else [])
    row = row_of("pipeline", frames, chosen, broken)
    highest = max(s.memory_mb for s in samples)
    end = f"all in all {samples[-1].seconds:.0f} s, at most {highest:.0f} MB, {max(s.files for s in samples)} files, " \
          f"{max(s.threads for s in samples)} threads"  # fmt: skip
    note = f"while frames are read: {row.note}; {end}"
    whole = Row(row.name, row.tried, row.good, 0, row.broken, time.monotonic() - begin_s, highest, note)
    return whole, [*told(chosen), f"    {end}"]


def looked_at(out: Path) -> int:
    """Frames that were looked at: each leaves a file (the journal is written now and then)."""
    return sum(1 for _ in (out / "survey").glob("*/*.json"))


def row_of(name: str, frames: int, samples: Sequence[Sample], broken: list[str]) -> Row:
    """The row of a long run."""
    first, last = samples[0], samples[-1]
    per_frame = [1e3 * (b.seconds - a.seconds) / max(b.done - a.done, 1) for a, b in itertools.pairwise(samples)]
    pace = f"{per_frame[0]:.2f} ms a frame at first, {per_frame[-1]:.2f} at last" if per_frame else ""
    note = (
        f"{first.memory_mb:.0f} MB after {first.done} frames, {last.memory_mb:.0f} after {last.done} "
        f"({growth_kb(samples):.2f} kB a frame in the second half); {first.files} to {last.files} files, "
        f"{first.threads} to {last.threads} threads; {pace}"
    )
    peak = max(s.memory_mb for s in samples)
    return Row(f"long run: {name}", frames, frames if not broken else 0, 0, broken, last.seconds, peak, note)


# journals
def journal_of_jobs(folder: Path, lines: int) -> Path:
    """A journal as a pipeline writes it: half files, half jobs."""
    from darkpipe.jobs.journal import JOURNAL_NAME
    from darkpipe.jobs.journal_file import encode, encode_recipe

    path = folder / JOURNAL_NAME
    with open(path, "wb") as file:
        file.write(encode({"journal": 1}))
        file.write(encode_recipe("0" * 32, '{"function":"f","params":{},"step":"cells","version":1}') + b"\n")
        for number in range(1, lines // 2):
            name = f"survey/{number:06d}.json"
            file.write(encode({"file": [number, name, 700, 1763680000000000000 + number, f"{number:032x}"]}))
            job = {"job": "cells", "campaign": "", "recipe": "0" * 32, "inputs": [max(1, number - 1)]}
            more = {"outputs": [number], "requested": False, "label": name, "time": "2026-01-01T00:00:00"}
            file.write(encode(job | more))
    return path


def journal_of_frames(folder: Path, lines: int) -> Path:
    """A frame journal as an acquisition writes it: a name, a begin and an end for each frame."""
    from darkpipe.files.layout import RawDir
    from hardware.frames.journal_file import Book, append

    path, book = RawDir(folder).journal, Book()
    stamp = "20250729_220000"
    written: list[dict[str, object]] = [{"session": "s", "stamp": stamp, "configuration": {"gain": 100}, "utc": "2025"}]
    for number in range(lines // 3):
        slot, name = f"T-10.0C/dark/300s/{number:06d}", f"exp_300.000s/dark_{stamp}_{number:06d}.fits"
        digest, end = f"{number:032x}", 1763680000000000000 + number
        written.append({"slot": slot, "stamp": stamp, "path": name})
        written.append({"begin": slot, "stamp": stamp, "utc": "2025-07-29T22:00:00.000+00:00"})
        written.append({"taken": slot, "stamp": stamp, "digest": digest, "size": 8640, "mtime_ns": end})
    append(path, book, written)
    return path


def best_s(load: Callable[[], object], times: int = 3) -> float:
    """The shortest of some times that it takes [s], of the processor: others may be using this machine."""
    found = []
    for _ in range(times):
        begin = time.process_time()
        load()
        found.append(time.process_time() - begin)
    return min(found)


def loading(folder: Path, lines: int) -> list[Row]:
    """How fast both journals are read."""
    from darkpipe.jobs.journal import Journal
    from hardware.frames.journal_file import load

    jobs, frames = folder / "jobs", folder / "frames"
    jobs.mkdir()
    path = journal_of_jobs(jobs, lines), journal_of_frames(frames, lines)
    found = []
    for name, file, read in (
        ("journal of jobs", path[0], lambda: Journal(jobs, read_only=True)),
        ("journal of frames", path[1], lambda: load(path[1])),
    ):
        count = file.read_bytes().count(b"\n")
        seconds = best_s(read)
        broken = [] if seconds < MOST_LOAD_S * count / LINES else [f"{seconds:.2f} s for {count} lines"]
        note = f"{count} lines, {file.stat().st_size / 1e6:.1f} MB: read in {seconds:.2f} s"
        found.append(Row(f"long run: {name}", 1, int(not broken), 0, broken, seconds, None, note))
    return found


def rows(folder: Path, full: bool) -> tuple[list[Row], list[str]]:
    """All of it; lines with the samples on the way."""
    place = folder / "long"
    place.mkdir()
    frames = FRAMES if full else 1200  # of fewer the half goes by while modules are still being imported
    acquired, first = acquire(place / "darks", frames)
    modelled, then = pipeline(place / "darks", acquired.tried)
    return [acquired, modelled, *loading(place, LINES)], ["  acquisition", *first, "  pipeline", *then]
