"""The journal beside the frames: names that stay, runs that resume, and every kind of damage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpipe.files.frames import find_frames
from darkpipe.files.layout import RawDir
from hardware.camera import CameraInfo, Exposure
from hardware.errors import CaptureError
from hardware.frames import journal_file
from hardware.frames.frame_file import FrameTemperatures, write_dark
from hardware.frames.frame_journal import FrameJournal, Session
from hardware.planning.slots import Slot

UTC_NOW = datetime(2025, 7, 29, 14, 30, 22, tzinfo=UTC)
HERE = {"camera": "C", "gain": 100}
THERE = {"camera": "C", "gain": 200}
INFO = CameraInfo("C", sensor_cols=8, sensor_rows=8)


def slot(number: int, temperature_c: float | None = -10.0, exposure_s: float = 1.0) -> Slot:
    return Slot("dark", exposure_s, temperature_c, number)


SLOTS = [slot(1), slot(2), slot(3)]


def opened(root: Path, *, read_only: bool = False, several: bool = False) -> tuple[FrameJournal, Session]:
    """Journal and session as a run opens them."""
    journal = FrameJournal(RawDir(root), read_only=read_only)
    session = journal.open_session(None, HERE, UTC_NOW)
    session.assign(SLOTS, several)
    return journal, session


def put(session: Session, wanted: Slot, *, seed: int = 0) -> Path:
    """The file of a slot, without a line in the journal."""
    pixels = np.random.default_rng(seed).integers(0, 1000, (8, 8)).astype(np.uint16)
    write_dark(
        session.path(wanted),
        Exposure(pixels, wanted.exposure_s, UTC_NOW, UTC_NOW + timedelta(seconds=1), 1.0),
        info=INFO,
        slot=wanted,
        frame_id=session.frame_id(wanted),
        session=session.name,
        temperatures=FrameTemperatures(),
    )
    return session.path(wanted)


def take(session: Session, wanted: Slot) -> Path:
    """A slot taken as a run does it."""
    session.begin(wanted, UTC_NOW)
    path = put(session, wanted)
    found = path.stat()
    session.taken(wanted, "digest", found.st_size, found.st_mtime_ns)
    return path


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# names
def test_the_layout_of_the_guide(tmp_path: Path) -> None:
    session = FrameJournal(RawDir(tmp_path)).open_session(None, HERE, UTC_NOW)
    assert session.stamp == session.name == "20250729_143022"
    bias = Slot("bias", 0.001, -10.0, 2)
    one = session.assign([slot(1), bias], False)
    assert one[slot(1)] == tmp_path / "exp_1.000s" / "dark_20250729_143022_001.fits"
    assert one[bias] == tmp_path / "exp_0.001s" / "bias_20250729_143022_002.fits"
    several = session.assign([slot(1, -5.0)], True)
    assert several[slot(1, -5.0)] == tmp_path / "T-5.0C" / "exp_1.000s" / "dark_20250729_143022_001.fits"


def test_a_slot_keeps_its_file_and_a_file_its_slot(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    before = {s: session.path(s) for s in SLOTS}
    session.assign([*SLOTS, slot(1, -5.0)], True)
    # one temperature after the other, each as the only one of its plan
    later = FrameJournal(RawDir(tmp_path)).open_session(None, HERE, UTC_NOW + timedelta(days=1))
    alone = later.assign([slot(1, 0.0), slot(1, None), slot(1, -10.02), slot(1, -10.04)], False)
    assert {s: later.path(s) for s in SLOTS} == before
    everything = [*before.values(), later.path(slot(1, -5.0)), *alone.values()]
    assert len(set(everything)) == len(everything)
    assert later.path(slot(1, 0.0)).parts[-3] == "T0.0C"
    assert later.path(slot(1, -10.04)).name == "dark_20250729_143022_001-2.fits"
    assert later.assign(list(alone), True) == alone


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bias", "dark"]),
            st.sampled_from([3.2e-5, 3.25e-5, 0.001, 1.0]),
            st.sampled_from([None, -10.0, -10.01, -10.04, 0.0]),
            st.integers(1, 3),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_no_two_slots_ever_share_a_file(tmp_path_factory: pytest.TempPathFactory, plans: list[Any]) -> None:
    root = tmp_path_factory.mktemp("raw")
    known: dict[Slot, Path] = {}
    for kind, exposure_s, temperature_c, number, several in plans:
        session = FrameJournal(RawDir(root)).open_session(None, HERE, UTC_NOW)
        wanted = Slot(kind, exposure_s, temperature_c, number)
        path = session.assign([wanted], several)[wanted]
        assert known.setdefault(wanted, path) == path
    assert len(set(known.values())) == len(known)


# sessions
def test_the_newest_session_of_a_configuration_goes_on(tmp_path: Path) -> None:
    first = FrameJournal(RawDir(tmp_path)).open_session(None, HERE, UTC_NOW)
    later = UTC_NOW + timedelta(hours=5)
    assert FrameJournal(RawDir(tmp_path)).open_session(None, HERE, later).stamp == first.stamp
    named = FrameJournal(RawDir(tmp_path)).open_session("autumn", HERE, later)
    assert (named.name, named.stamp) == ("autumn", "20250729_193022")
    assert FrameJournal(RawDir(tmp_path)).open_session(None, HERE, later).name == "autumn"
    assert FrameJournal(RawDir(tmp_path)).open_session(first.name, HERE, later).stamp == first.stamp


def test_another_configuration_has_its_own_session_and_stamp(tmp_path: Path) -> None:
    journal = FrameJournal(RawDir(tmp_path))
    sessions = [journal.open_session(name, conf, UTC_NOW) for name in (None, "x") for conf in (HERE, THERE)]
    assert len({session.stamp for session in sessions}) == 4
    again = FrameJournal(RawDir(tmp_path))
    assert [again.open_session(name, conf, UTC_NOW).stamp for name in (None, "x") for conf in (HERE, THERE)] == [
        sessions[2].stamp,
        sessions[3].stamp,
        sessions[2].stamp,
        sessions[3].stamp,
    ]


def test_the_configuration_of_a_camera_survives_the_file(tmp_path: Path) -> None:
    info = CameraInfo("Ü", gain=None, offset=5, sensor_cols=8, sensor_rows=6, binning=(2, 2))
    first = FrameJournal(RawDir(tmp_path)).open_session(None, info.configuration, UTC_NOW)
    assert FrameJournal(RawDir(tmp_path)).open_session(None, info.configuration, UTC_NOW).stamp == first.stamp
    assert len(FrameJournal(RawDir(tmp_path))._book.sessions) == 1


# resuming
def test_what_was_taken_is_there_and_the_rest_is_missing(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    assert session.missing(SLOTS) == SLOTS
    take(session, slot(2))
    journal, again = opened(tmp_path)
    assert again.missing(SLOTS) == [slot(1), slot(3)]
    assert journal.warnings == []


def test_a_file_as_recorded_is_not_read_again(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    path = take(session, slot(1))
    found = path.stat()
    path.write_bytes(b"x" * found.st_size)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert session.missing([slot(1)]) == []


def test_a_file_that_was_copied_is_verified_once_and_recorded_anew(tmp_path: Path) -> None:
    _, session = opened(tmp_path / "a")
    take(session, slot(1))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    os.utime(tmp_path / "b" / "exp_1.000s" / "dark_20250729_143022_001.fits", ns=(5, 5))
    journal, copy = opened(tmp_path / "b")
    assert copy.missing(SLOTS) == [slot(2), slot(3)]
    size = journal.raw.journal.stat().st_size
    assert opened(tmp_path / "b")[1].missing(SLOTS) == [slot(2), slot(3)]
    assert journal.raw.journal.stat().st_size == size
    assert journal.warnings == []


def test_a_frame_that_is_gone_is_missing_again(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    take(session, slot(1)).unlink()
    journal, again = opened(tmp_path)
    assert again.missing(SLOTS) == SLOTS
    assert "its file is gone" in journal.warnings[0]
    take(again, slot(1))
    assert opened(tmp_path)[1].missing(SLOTS) == [slot(2), slot(3)]


def test_a_frame_whose_line_a_crash_prevented_is_taken_in(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    session.begin(slot(1), UTC_NOW)
    path = put(session, slot(1))
    before = path.read_bytes()
    journal, again = opened(tmp_path)
    assert not journal.interrupted()  # its frame is there: whatever exposes now is somebody else's
    assert again.missing(SLOTS) == [slot(2), slot(3)]
    assert "not recorded; it is taken in" in journal.warnings[0]
    assert path.read_bytes() == before
    assert not journal.interrupted()
    assert opened(tmp_path)[0].warnings == []


@pytest.mark.parametrize("recorded", [True, False])
def test_a_damaged_frame_is_put_aside_and_never_deleted(tmp_path: Path, recorded: bool) -> None:
    _, session = opened(tmp_path)
    path = take(session, slot(1)) if recorded else put(session, slot(1))
    torn = path.read_bytes()[:-100]
    path.write_bytes(torn)
    journal, again = opened(tmp_path)
    assert again.missing(SLOTS) == SLOTS
    assert not path.exists()
    aside = list(journal.raw.rejected_folder.iterdir())
    assert [p.read_bytes() for p in aside] == [torn]
    assert "the file is torn" in journal.warnings[0]
    assert aside[0].name in journal.warnings[0]
    assert find_frames(tmp_path) == []  # whoever reads the folder meets no rejected frame


def test_somebody_elses_files_are_put_aside_one_beside_the_other(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    mine = put(session, slot(2)).read_bytes()
    path = session.path(slot(1))
    for number in range(3):
        path.write_bytes(mine[:2800] + bytes([number]) * 80 + mine[2880:] if number else mine)
        journal, session = opened(tmp_path)
        assert slot(1) in session.missing(SLOTS)
        assert "FRAMEID" in journal.warnings[0] or "damaged" in journal.warnings[0]
    assert len(list(RawDir(tmp_path).rejected_folder.iterdir())) == 3


def test_a_later_try_does_not_meet_the_name_of_what_was_put_aside(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    session.begin(slot(1), UTC_NOW)
    path = put(session, slot(1))
    path.write_bytes(b"torn")
    assert session.missing([slot(1)]) == [slot(1)]
    session.begin(slot(1), UTC_NOW)
    assert not journal.raw.rejected(path, session.attempts(slot(1))).exists()


def test_a_folder_in_the_place_of_a_frame_is_put_aside(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    (session.path(slot(1)) / "inside").mkdir(parents=True)
    assert session.missing(SLOTS) == SLOTS
    assert "no regular file" in journal.warnings[0]
    take(session, slot(1))
    assert session.missing(SLOTS) == [slot(2), slot(3)]


def test_attempts_are_counted_over_all_runs(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    assert session.attempts(slot(1)) == 0
    session.begin(slot(1), UTC_NOW)
    session.rejected(slot(1), journal.raw.rejected(session.path(slot(1)), 1), ["too warm"])
    assert not journal.interrupted()
    _, again = opened(tmp_path)
    again.begin(slot(1), UTC_NOW)
    assert again.attempts(slot(1)) == 2
    assert again.attempts(slot(2)) == 0
    line = json.loads(journal.raw.journal.read_bytes().splitlines()[-2])
    assert line["reasons"] == ["too warm"]
    assert line["path"].startswith("rejected/")


def test_an_exposure_that_has_no_end_is_an_interrupted_one(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    assert not journal.interrupted()
    session.begin(slot(1), UTC_NOW)
    assert journal.interrupted()
    assert FrameJournal(RawDir(tmp_path), read_only=True).interrupted()
    take(session, slot(1))
    assert not FrameJournal(RawDir(tmp_path), read_only=True).interrupted()


def test_what_a_camera_was_is_remembered_by_what_was_asked_for(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    asked = {"address": "a:1", "gain": None}
    info = CameraInfo("C", pixel_size_um=(3.8, 3.8), exposure_max_s=float("inf"), gain=5)
    assert journal.recall(asked) is None
    journal.remember(asked, INFO)
    journal.remember({**asked, "gain": 1}, INFO)
    journal.remember(asked, info)
    size = journal.raw.journal.stat().st_size
    journal.remember(asked, info)
    assert journal.raw.journal.stat().st_size == size
    again = FrameJournal(RawDir(tmp_path), read_only=True)
    assert again.recall(asked) == info
    assert again.recall({**asked, "gain": 1}) == INFO
    assert again.recall({"address": "b:1", "gain": None}) is None


def test_looking_writes_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    _, look = opened(empty, read_only=True)
    assert look.missing(SLOTS) == SLOTS
    assert not empty.exists()
    _, session = opened(tmp_path / "raw")
    take(session, slot(1))
    put(session, slot(2))
    put(session, slot(3)).write_bytes(b"torn")
    before = content(tmp_path / "raw")
    _, look = opened(tmp_path / "raw", read_only=True)
    assert look.missing(SLOTS) == [slot(3)]
    look.assign([slot(9)], False)
    assert content(tmp_path / "raw") == before
    assert opened(tmp_path / "raw")[1].missing(SLOTS) == [slot(3)]  # as it said


def test_half_written_drafts_of_a_killed_run_are_cleared_away_and_no_others(tmp_path: Path) -> None:
    _, session = opened(tmp_path)
    mine = session.path(slot(1)).with_name(".dark_20250729_143022_001.fits.77-3.draft")
    other = tmp_path / "out" / ".index.ecsv.88-1.draft"
    for path in (mine, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    opened(tmp_path, read_only=True)
    assert mine.exists()
    opened(tmp_path)
    assert not mine.exists()
    assert other.exists()


# damage of the journal itself
def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    take(session, slot(1))
    with open(journal.raw.journal, "ab") as stream:
        stream.write(b'{"taken":"T-10.0C/dark/1s/002","stamp":"2025')
    again, session = opened(tmp_path)
    assert "last line was not finished" in again.warnings[0]
    take(session, slot(2))
    assert opened(tmp_path)[0].warnings == []
    assert opened(tmp_path)[1].missing(SLOTS) == [slot(3)]


BAD_LINES = [
    b"rubbish",
    b"\xff\xfe\x00",
    b"[]",
    b"{}",
    b'{"slot":"a","stamp":"b"}',
    b'{"slot":"a","stamp":"b","path":"../../outside.fits"}',
    b'{"slot":"a","stamp":"b","path":"/outside.fits"}',
    b'{"slot":"other","stamp":"b","path":"exp_1.000s/dark_20250729_143022_001.fits"}',
    b'{"taken":"a","stamp":"b","digest":"","size":null,"mtime_ns":1}',
    b'{"taken":"a","stamp":"b","digest":"","size":Infinity,"mtime_ns":1}',
    b'{"begin":["a"],"stamp":"b"}',
    b'{"session":1,"stamp":"b","configuration":{}}',
    b'{"session":"a","stamp":"b","configuration":[]}',
    b'{"something new":1}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_is_skipped_and_said(tmp_path: Path, line: bytes) -> None:
    journal, session = opened(tmp_path)
    take(session, slot(1))
    lines = journal.raw.journal.read_bytes().splitlines()
    journal.raw.journal.write_bytes(b"\n".join([*lines[:-1], line, lines[-1], b""]))
    again, session = opened(tmp_path)
    assert again.warnings == [f"frames.jsonl: line {len(lines)} cannot be read and is skipped"]
    assert session.missing(SLOTS) == [slot(2), slot(3)]
    assert line in again.raw.journal.read_bytes()


@given(st.data())
def test_whatever_a_crash_leaves_the_frames_that_are_whole_are_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("raw")
    journal, session = opened(root)
    planned = journal.raw.journal.stat().st_size
    for wanted in SLOTS:
        take(session, wanted)
    whole = journal.raw.journal.read_bytes()
    journal.raw.journal.write_bytes(whole[: data.draw(st.integers(planned, len(whole)))])
    assert opened(root)[1].missing(SLOTS) == []


def test_a_lost_session_line_does_not_give_its_names_away(tmp_path: Path) -> None:
    journal, session = opened(tmp_path)
    path = take(session, slot(1))
    lines = [line for line in journal.raw.journal.read_bytes().splitlines(True) if b'"session"' not in line]
    journal.raw.journal.write_bytes(b"".join(lines))
    _, other = opened(tmp_path)
    assert other.stamp != session.stamp
    assert other.path(slot(1)) != path


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    RawDir(tmp_path).journal.write_text('{"frames":2}\n')
    with pytest.raises(CaptureError, match="format 2"):
        FrameJournal(RawDir(tmp_path))


def test_a_journal_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    RawDir(tmp_path).journal.mkdir()
    with pytest.raises(CaptureError, match="cannot read the frame journal"):
        FrameJournal(RawDir(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match=r"cannot (read|write)"):
        opened(tmp_path / "file")


def test_a_line_that_could_not_be_written_whole_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, session = opened(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal_file.os, "fsync", full)
        with pytest.raises(CaptureError, match="the disk is full"):
            session.begin(slot(1), UTC_NOW)
    assert session.attempts(slot(1)) == 0
    take(session, slot(2))
    again, session = opened(tmp_path)
    assert again.warnings == []
    assert (session.attempts(slot(1)), session.attempts(slot(2))) == (0, 1)


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}, {here!r}]
from test_frame_journal import SLOTS, opened, put, slot, UTC_NOW
_, session = opened(Path(sys.argv[1]))
session.begin(SLOTS[0], UTC_NOW)
put(session, SLOTS[0])
session.begin(SLOTS[1], UTC_NOW)
print("now", flush=True)
sys.stdin.read()
"""


def test_after_a_kill_everything_is_found_again(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parent
    script = KILLED.format(root=str(here.parents[2]), tests=str(here.parents[1]), here=str(here))
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.kill()
    journal, session = opened(tmp_path)
    assert journal.interrupted()
    assert session.missing(SLOTS) == [slot(2), slot(3)]


def test_ten_thousand_slots_are_planned_and_looked_up(tmp_path: Path) -> None:
    many = [slot(number, -10.0, float(exposure)) for exposure in range(1, 11) for number in range(1, 1001)]
    session = FrameJournal(RawDir(tmp_path)).open_session(None, HERE, UTC_NOW)
    paths = session.assign(many, False)
    assert len(set(paths.values())) == len(many)
    assert FrameJournal(RawDir(tmp_path)).open_session(None, HERE, UTC_NOW).missing(many) == many
