"""What a run finds on the disk: nothing is taken twice, and what is damaged is put aside and taken again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from capture_helpers import TINY, Bench, cooled, digests, drafts, events, frames, header, journal, settings_for

from darkpipe.files.layout import RawDir
from hardware.errors import CameraDriverError, CaptureError
from hardware.frames.frame_journal import FrameJournal

FRAMES = 18  # of the plan at two temperatures


def unbroken(folder: Path) -> dict[str, str]:
    """Digests of the pixels of a run that nothing disturbs."""
    Bench().capture(cooled(folder, -10.0, -5.0)).capture_darks()
    return digests(folder)


@pytest.mark.parametrize("breaks", [(1,), (4, 9), (10,), (11, 12, 18)])
def test_a_run_that_goes_on_takes_the_pixels_of_an_unbroken_one(tmp_path: Path, breaks: tuple[int, ...]) -> None:
    """The frame number goes on where the last run was interrupted, as that of a camera does that stays on."""
    folder = tmp_path / "broken"
    for number in breaks:
        there = len(frames(folder))
        bench = Bench(first_frame_number=there)
        bench.interrupt_in(number - there)
        with pytest.raises(KeyboardInterrupt):
            bench.capture(cooled(folder, -10.0, -5.0)).capture_darks()
        assert len(frames(folder)) == number - 1
    bench = Bench()
    bench.camera.next_frame_number = len(frames(folder))
    result = bench.capture(cooled(folder, -10.0, -5.0)).capture_darks()
    assert len(result.taken) == FRAMES - breaks[-1] + 1
    whole = unbroken(tmp_path / "unbroken")
    assert digests(folder) == whole
    assert len(set(whole.values())) == len(whole) == FRAMES
    assert set(events(folder, "taken").values()) == {1}
    assert sum(events(folder, "begin").values()) == FRAMES + len(breaks)


def test_a_complete_plan_is_complete(tmp_path: Path) -> None:
    whole = unbroken(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    bench = Bench()
    result = bench.capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    assert result.taken == ()
    assert len(result.files) == len(whole)
    assert bench.camera.exposures == bench.camera.writes == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def spoil_pixels(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3000] ^= 0x55
    path.write_bytes(content)


def spoil_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"GAIN    =                  100", b"GAIN    =                  101"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, spoil_pixels, spoil_header, empty])
def test_a_damaged_frame_is_put_aside_said_and_taken_again(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    whole = unbroken(tmp_path)
    victim = sorted(whole)[7]
    damage(tmp_path / victim)
    spoilt = (tmp_path / victim).read_bytes()
    result = Bench(first_frame_number=100).capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    assert result.taken == (tmp_path / victim,)
    (aside,) = RawDir(tmp_path).rejected_folder.iterdir()
    assert aside.read_bytes() == spoilt
    now = digests(tmp_path)
    assert {name for name in whole if now[name] != whole[name]} == {victim}
    assert victim in caplog.text
    assert aside.name in caplog.text


def test_a_frame_that_was_deleted_is_taken_again_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = unbroken(tmp_path)
    victim = sorted(whole)[3]
    (tmp_path / victim).unlink()
    result = Bench(first_frame_number=100).capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    assert result.taken == (tmp_path / victim,)
    assert f"{victim}: its file is gone" in caplog.text
    assert set(digests(tmp_path)) == set(whole)


def test_a_look_moves_nothing(tmp_path: Path) -> None:
    whole = unbroken(tmp_path)
    truncate(tmp_path / sorted(whole)[7])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with Bench().capture(cooled(tmp_path, -10.0, -5.0)) as capture:
        assert any("1 frame to take of 18" in line for line in capture.described())
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_frame_whose_line_in_the_journal_was_lost_is_taken_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a crash between the two."""
    bench = Bench()
    bench.interrupt_in(8)
    with pytest.raises(KeyboardInterrupt):
        bench.capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    file = RawDir(tmp_path).journal
    lines = file.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith(b'{"taken"'))
    file.write_bytes(b"".join(lines[:last]) + lines[last][:20])
    assert len(frames(tmp_path)) == 7
    result = Bench(first_frame_number=7).capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    assert len(result.taken) == FRAMES - 7
    assert "it is taken in" in caplog.text
    assert set(events(tmp_path, "taken").values()) == {1}
    assert digests(tmp_path) == unbroken(tmp_path.parent / f"{tmp_path.name}-unbroken")


def test_drafts_of_a_run_that_was_killed_are_cleared_away(tmp_path: Path) -> None:
    bench = Bench()
    bench.interrupt_in(5)
    with pytest.raises(KeyboardInterrupt):
        bench.capture(cooled(tmp_path)).capture_darks()
    folder = frames(tmp_path)[0].parent
    (folder / f".{frames(tmp_path)[0].name}.4711-0.draft").write_bytes(b"half of it")
    assert len(drafts(tmp_path)) == 1
    other = tmp_path / "out" / ".index.ecsv.88-1.draft"  # of a pipeline that runs in a folder inside
    other.parent.mkdir()
    other.write_bytes(b"half of it")
    Bench(first_frame_number=4).capture(cooled(tmp_path)).capture_darks()
    assert drafts(tmp_path) == [other]


def test_more_frames_later_take_the_further_ones_alone(tmp_path: Path) -> None:
    Bench().capture(cooled(tmp_path)).capture_darks()
    before = digests(tmp_path)
    result = Bench(first_frame_number=9).capture(cooled(tmp_path, num_darks=5)).capture_darks()
    assert {path.name[-8:] for path in result.taken} == {"004.fits", "005.fits"}
    assert len(result.taken) == 6
    now = digests(tmp_path)
    assert {name: now[name] for name in before} == before
    assert len(now) == 15


def test_fewer_frames_later_want_nothing(tmp_path: Path) -> None:
    Bench().capture(cooled(tmp_path)).capture_darks()
    result = Bench().capture(cooled(tmp_path, num_darks=2)).capture_darks()
    assert (len(result.taken), len(result.files), len(frames(tmp_path))) == (0, 6, 9)


def test_another_gain_is_a_session_of_its_own(tmp_path: Path) -> None:
    Bench(gain=100).capture(cooled(tmp_path)).capture_darks()
    first = digests(tmp_path)
    other = Bench(gain=200).capture(cooled(tmp_path)).capture_darks()
    assert len(other.taken) == 9
    now = digests(tmp_path)
    assert {name: now[name] for name in first} == first
    assert len(now) == 18
    stamps = {header(path)["FRAMEID"].partition("/")[0] for path in frames(tmp_path)}
    assert len(stamps) == 2
    assert {header(path)["GAIN"] for path in other.taken} == {200}
    assert Bench(gain=100).capture(cooled(tmp_path)).capture_darks().taken == ()


def test_a_session_with_a_name_begins_another_one(tmp_path: Path) -> None:
    Bench().capture(cooled(tmp_path)).capture_darks()
    named = Bench(first_frame_number=9).capture(cooled(tmp_path, session="winter")).capture_darks()
    assert (named.session, len(named.taken), len(frames(tmp_path))) == ("winter", 9, 18)
    assert {header(path)["SESSION"] for path in named.taken} == {"winter"}
    assert Bench().capture(cooled(tmp_path, session="winter")).capture_darks().taken == ()
    assert Bench().capture(cooled(tmp_path)).capture_darks().session == "winter"  # the newest one


def test_another_temperature_later_joins_the_session(tmp_path: Path) -> None:
    Bench().capture(cooled(tmp_path)).capture_darks()
    result = Bench(first_frame_number=9).capture(cooled(tmp_path, -10.0, -5.0)).capture_darks()
    assert len(result.taken) == 9
    assert {header(path)["SET-TEMP"] for path in result.taken} == {-5.0}
    assert len({header(path)["SESSION"] for path in frames(tmp_path)}) == 1


def test_a_folder_that_changes_under_the_plan_is_refused(tmp_path: Path) -> None:
    bench, other = Bench(), Bench()
    capture = bench.capture(settings_for(tmp_path))
    with capture:
        other.capture(settings_for(tmp_path)).capture_bias_only()
        with pytest.raises(CaptureError, match="changed since the plan"):
            capture.take_slot(capture.work.missing[0])
    assert bench.camera.exposures == []


def test_an_exposure_that_may_still_run_is_known(tmp_path: Path) -> None:
    """After a kill -9 the camera goes on exposing; after an orderly end it does not."""
    bench = Bench()
    bench.at_exposure(3, lambda: setattr(bench.camera, "error_state", True))
    with pytest.raises(CameraDriverError):
        bench.capture(cooled(tmp_path, max_retakes=0)).capture_darks()
    assert not FrameJournal(RawDir(tmp_path), read_only=True).interrupted()
    lines = journal(tmp_path)
    assert "rejected" in lines[-1]
    file = RawDir(tmp_path).journal
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert FrameJournal(RawDir(tmp_path), read_only=True).interrupted()


def test_a_camera_of_another_size_is_another_configuration(tmp_path: Path) -> None:
    Bench().capture(settings_for(tmp_path)).capture_darks()
    result = Bench(TINY, binning=2).capture(settings_for(tmp_path)).capture_darks()
    assert len(result.taken) == 9
    assert {header(path)["XBINNING"] for path in result.taken} == {2}
