"""The harness of crashes in small: each of its sections once, on the real pipeline; and that it sees what is wrong."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import crash_disk, crash_kills, crash_read_only, crash_together
from benchmarks.crash_rig import Job, Server, faults_of, prepare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="fork, kill -9 and /proc of Linux"),
]

Rig = tuple[Path, Server, list[Job]]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A folder that another user may look into, as those of pytest are not; a server to fork from; the four jobs."""
    with tempfile.TemporaryDirectory(prefix="darkpipe-crashes-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Server(folder) as server:
            yield folder, server, prepare(folder, server)


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (0, crash_kills.Way()),
        (0, crash_kills.Way("processes")),
        (0, crash_kills.Way(clock=True, moved=True)),
        (1, crash_kills.Way(real=True)),
        (2, crash_kills.Way()),
        (3, crash_kills.Way(clock=True, moved=True)),
    ],
    ids=["full", "full on processes", "full, clock and folder", "calibrate", "export", "acquisition"],
)
def test_a_run_that_is_killed_goes_on(rig: Rig, number: int, way: crash_kills.Way) -> None:
    folder, server, jobs = rig
    tally, rng = crash_kills.Tally(), random.Random(number)
    while not tally.kills and tally.chains < 5:
        crash_kills.chain(jobs[number], way, folder, server, rng, tally, 2)
    assert tally.broken == []
    assert tally.kills > 0
    assert tally.orphans_s < crash_kills.MOST_ORPHANS_S


@pytest.mark.parametrize(("number", "runs"), [(0, 6), (1, 12), (2, 6), (3, 12)])
def test_a_disk_that_refuses_a_write_ends_in_a_message(rig: Rig, number: int, runs: int) -> None:
    folder, server, jobs = rig
    row = crash_disk.faults_in_turn(jobs[number], "EIO", folder, server, runs)
    assert row.broken == []
    assert row.refused > 0


@pytest.mark.parametrize(("number", "step_kb"), [(0, 256), (2, 16)])
def test_a_disk_that_is_full_ends_in_a_message(rig: Rig, number: int, step_kb: int) -> None:
    folder, server, jobs = rig
    row = crash_disk.full_disk(jobs[number], folder, server, step_kb)
    if not row.tried:
        pytest.skip(row.note)
    assert row.broken == []
    assert row.refused > 1


@pytest.mark.parametrize("number", [2, 3])
def test_a_disk_that_turns_read_only_ends_in_a_message(rig: Rig, number: int) -> None:
    folder, server, jobs = rig
    row = crash_read_only.turned_read_only(jobs[number], folder, server, 2)
    if not row.tried:
        pytest.skip(row.note)
    assert row.broken == []
    assert row.tried == 2 * crash_read_only.TURNS


@pytest.mark.parametrize("number", [0, 3])
def test_what_may_not_be_written_ends_in_a_message(rig: Rig, number: int) -> None:
    if not all(path.stat().st_mode & 0o001 for path in (Path(sys.prefix), *Path(sys.prefix).parents)):
        pytest.skip("another user cannot read this Python's packages; install them where all may read")
    folder, server, jobs = rig
    row = crash_disk.read_only(jobs[number], folder, server)
    assert row.broken == []
    assert row.refused > 1


def test_what_was_edited_is_made_again(rig: Rig) -> None:
    folder, server, jobs = rig
    row = crash_disk.edited(jobs[0], folder, server, 3)
    assert row.broken == []


def test_runs_that_overlap_make_everything_once(rig: Rig) -> None:
    folder, server, jobs = rig
    for row in (
        crash_together.overlapping(jobs[1], folder, 1, 5),
        crash_together.during_acquisition(jobs[3], folder, server, 1),
        crash_together.two_acquisitions(jobs[3], folder, server, 2),
    ):
        assert row.broken == [], row.name


def test_what_is_wrong_is_seen(rig: Rig) -> None:
    """A harness that finds nothing must be able to."""
    folder, server, jobs = rig
    root = jobs[1].fresh(folder / "wrong")
    server.run(*jobs[1].order(root))
    assert faults_of(jobs[1], root) == []
    (product,) = (root / "cal").rglob("calibrated.ecsv")
    product.write_text("x")
    (root / "cal" / ".x.fits.1-1.draft").write_text("")
    (root / "lights" / "light_00.fits").unlink()
    told = "; ".join(faults_of(jobs[1], root))
    assert "2 products differ" in told
    assert "1 stray drafts" in told
    assert list(crash_disk.wrong_with(70, "", True))
    assert list(crash_disk.wrong_with(1, "", False))
    assert list(crash_disk.wrong_with(1, "Traceback (most recent call last)", True))
    acquired = jobs[3].fresh(folder / "wrong")
    server.run(*jobs[3].order(acquired))
    next(acquired.rglob("*.fits")).unlink()
    assert any("products differ" in text for text in faults_of(jobs[3], acquired))
