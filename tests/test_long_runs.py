"""Long runs in small: what a process keeps of each frame is counted, not timed."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import run_pipeline
from benchmarks import long_runs
from darkpipe.jobs import journal_file as jobs_file
from darkpipe.jobs.journal import Journal
from hardware.frames import journal_file as frames_file

PROJECT = Path(run_pipeline.__file__).parent
LINES = 6000


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files and threads are counted in /proc")
def test_a_long_acquisition_keeps_no_file_and_no_thread(tmp_path: Path) -> None:
    row, samples = long_runs.acquire(tmp_path / "darks", 120)
    assert row.broken == []
    assert row.good == row.tried == 120
    assert len(samples) == long_runs.SAMPLES


def test_what_is_not_flat_is_seen() -> None:
    first = long_runs.Sample(100, 1.0, 100.0, 8, 2)
    last = long_runs.Sample(200, 2.0, 101.0, 8 + long_runs.OPEN_AT_A_TIME + 1, 3)
    found = "; ".join(long_runs.faults_of([first, first, last]))
    assert "files grew" in found
    assert "threads grew" in found
    assert "10.0 kB a frame" in found
    assert long_runs.faults_of([first, first]) == []


@pytest.mark.parametrize(
    ("module", "write", "load"),
    [
        (jobs_file, long_runs.journal_of_jobs, lambda path: Journal(path.parent, read_only=True).warnings),
        (frames_file, long_runs.journal_of_frames, lambda path: frames_file.load(path).warnings),
    ],
    ids=["jobs", "frames"],
)
def test_lines_of_a_journal_are_parsed_many_at_a_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    write: Callable[[Path, int], Path],
    load: Callable[[Path], list[str]],
) -> None:
    path = write(tmp_path, LINES)
    lines = path.read_bytes().count(b"\n")
    calls, really = [], json.loads
    monkeypatch.setattr(module.json, "loads", lambda text: (calls.append(len(text)), really(text))[1])
    assert load(path) == []
    assert len(calls) <= lines / module.PARSED_AT_ONCE + 1


def test_a_bad_line_among_many_frames_costs_itself_alone(tmp_path: Path) -> None:
    path = long_runs.journal_of_frames(tmp_path, LINES)
    lines = path.read_bytes().splitlines(keepends=True)
    for number, bad in ((2500, b"{\n"), (2501, b'{"slot":1}\n'), (4100, b"\xff\n"), (4101, b"[" * 3000 + b"\n")):
        lines.insert(number, bad)
    whole = frames_file.load(path)
    path.write_bytes(b"".join(lines))
    book = frames_file.load(path)
    assert book.states == whole.states
    assert book.paths == whole.paths
    told = [warning.partition(": ")[2] for warning in book.warnings]
    assert told == [f"line {n} cannot be read and is skipped" for n in (2501, 2502, 4101, 4102)]


# clocks
STAMPS_FOR_PEOPLE = {
    "darkpipe/console.py",  # name of the log
    "darkpipe/jobs/journal.py",
    "darkpipe/jobs/lock.py",
    "hardware/clock.py",  # the injected one
    "hardware/connect.py",
    "hardware/planning/worklist.py",  # stamp of a session
}


AGE_OF_FILES = ("jit_folder.py: time.time",)  # compiled code that was not used for a month


def test_no_duration_is_measured_with_the_time_of_day() -> None:
    """Somebody may set it at any moment; what waits, waits by a monotonic clock."""
    found, stamps = [], set()
    for folder in ("darkpipe", "hardware", "steps"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Attribute):
                    continue
                name = ast.unparse(node)
                if f"{path.name}: {name}" in AGE_OF_FILES:
                    continue
                if name in ("time.time", "time.time_ns", "datetime.utcnow", "date.today"):
                    found.append(f"{path.name}: {name}")
                if name in ("datetime.now", "datetime.datetime.now"):
                    stamps.add(path.relative_to(PROJECT).as_posix())
    assert found == []
    assert stamps <= STAMPS_FOR_PEOPLE
