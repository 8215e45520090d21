"""The lock of an output directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import darkpipe.errors
from darkpipe.errors import BusyError, PipelineError
from darkpipe.jobs import lock
from darkpipe.jobs.lock import HOLDER_NAME, LOCK_NAME, hold

PROJECT = Path(darkpipe.errors.__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from darkpipe.jobs.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {process.pid} on .*, since 2") as caught, hold(tmp_path / "out"):
            pass
        assert caught.value.exit_code == 75
        process.kill()
        process.wait()
    with hold(tmp_path / "out"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
def test_a_lock_whose_file_was_removed_is_one_all_the_same(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / LOCK_NAME).unlink()
        with pytest.raises(BusyError, match=f"process {os.getpid()}"), hold(tmp_path):
            pass
        assert json.loads((tmp_path / HOLDER_NAME).read_text())["pid"] == os.getpid()
    with hold(tmp_path):
        pass


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path), pytest.raises(BusyError), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot write here"), hold(tmp_path / "file" / "out"):
        pass


# notes of other computers
ELSEWHERE = {"pid": 7, "host": "another", "start": "2025-07-29T22:00:00+00:00"}
BEATER = """
import os, sys, time
while True:
    os.utime(sys.argv[1])
    time.sleep(0.02)
"""


def leave_note(root: Path, **changes: object) -> Path:
    path = root / HOLDER_NAME
    path.write_text(json.dumps(ELSEWHERE | changes))
    return path


def test_a_note_of_a_dead_process_here_costs_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is free, so the process is dead, whatever lives under its number now."""
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: pytest.fail("waited"))
    leave_note(tmp_path, host=socket.gethostname(), pid=os.getpid())
    with hold(tmp_path):
        assert json.loads((tmp_path / HOLDER_NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / HOLDER_NAME).exists()


def test_a_note_of_a_dead_run_elsewhere_is_watched_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SILENT_S", 0.3)
    monkeypatch.setattr(lock, "LOOK_EVERY_S", 0.01)
    leave_note(tmp_path)
    begin = time.monotonic()
    with hold(tmp_path):
        assert time.monotonic() - begin >= 0.3
        assert json.loads((tmp_path / HOLDER_NAME).read_text())["host"] == socket.gethostname()


@pytest.mark.parametrize("clock", [0.0, -1e8, 1e8], ids=["now", "years ago", "years ahead"])
def test_a_run_elsewhere_whose_lock_cannot_be_seen_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    """As on a network drive that keeps locks from other computers, whatever their clocks say."""
    monkeypatch.setattr(lock, "LOOK_EVERY_S", 0.01)
    note = leave_note(tmp_path)
    os.utime(note, (time.time() + clock, time.time() + clock))
    before = note.read_text()
    with subprocess.Popen([sys.executable, "-c", BEATER, str(note)]) as beater:
        try:
            with pytest.raises(BusyError, match="process 7 on another, since 2025"), hold(tmp_path):
                pass
        finally:
            beater.kill()
    assert note.read_text() == before


def test_a_run_elsewhere_that_ends_lets_us_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = leave_note(tmp_path)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: note.unlink(missing_ok=True))
    with hold(tmp_path):
        pass


def test_a_holder_touches_its_note_until_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    threads = threading.active_count()
    with hold(tmp_path):
        assert threading.active_count() == threads + 1
        note = tmp_path / HOLDER_NAME
        os.utime(note, (1e9, 1e9))
        end = time.monotonic() + 30
        while note.stat().st_mtime == 1e9 and time.monotonic() < end:
            time.sleep(0.005)
        assert note.stat().st_mtime != 1e9
    assert threading.active_count() == threads
    assert not note.exists()


@pytest.mark.parametrize("content", ["", "[1]", '"x"', "{", '{"host": 3}', "[" * 5000])
def test_a_note_that_makes_no_sense_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(lock, "SILENT_S", 0.02)
    (tmp_path / HOLDER_NAME).write_text(content)
    with hold(tmp_path), pytest.raises(BusyError), hold(tmp_path):
        pass


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: object, timeout: float) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(lock.FileLock, "acquire", none)
    with pytest.raises(PipelineError, match="no locks"), hold(tmp_path):
        pass
