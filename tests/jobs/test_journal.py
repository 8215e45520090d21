"""The journal: what it remembers, what it forgives, how fast it is read."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import toy_steps

from darkpipe.errors import PipelineError, ProductError
from darkpipe.jobs import stamps
from darkpipe.jobs.contract import Digests, Job
from darkpipe.jobs.journal import JOURNAL_NAME, Journal
from darkpipe.jobs.journal_file import FORMAT, encode, encode_recipe
from darkpipe.jobs.runner import execute

STEP = toy_steps.STEPS[2]


def copy(inputs: tuple[Path, ...], outputs: tuple[Path, ...], **params: Any) -> Digests:
    for path in outputs:
        draft = path.with_suffix(".draft")
        draft.write_text(repr([*params.items()]) + "".join(source.read_text() for source in inputs))
        draft.replace(path)
    return {}


def make(root: Path, *names: str, inputs: tuple[str, ...] = ("in.txt",), **params: Any) -> Job:
    return Job(copy, tuple(root / name for name in inputs), tuple(root / name for name in names), params)


def do(journal: Journal, *jobs: Job, campaign: str = "") -> None:
    for job in jobs:
        journal.record(STEP, job, execute(job), campaign)
    journal.commit()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("in.txt", "in2.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


def stale(root: Path, job: Job) -> str | None:
    """As a new run sees it."""
    return Journal(root).stale(STEP, job)


# reasons
def test_reasons_in_words(root: Path) -> None:
    job = make(root, "a.txt", kappa=4.5, rows=[1, 2])
    assert stale(root, job) == "never made"
    do(Journal(root), job)
    assert stale(root, job) is None
    assert stale(root, make(root, "a.txt", kappa=5.0, rows=[1, 2])) == "settings changed: kappa 4.5 -> 5.0"
    assert stale(root, make(root, "a.txt", kappa=4.5, n=1)) == "settings changed: n added; rows dropped"
    two = make(root, "a.txt", inputs=("in.txt", "in2.txt"), kappa=4.5, rows=[1, 2])
    assert stale(root, two) == "input added: in2.txt"
    assert stale(root, make(root, "a.txt", inputs=(), kappa=4.5, rows=[1, 2])) == "input dropped: in.txt"
    assert stale(root, make(root, "a.txt", "b.txt", kappa=4.5, rows=[1, 2])) == "output added: b.txt"
    do(Journal(root), two)
    swapped = make(root, "a.txt", inputs=("in2.txt", "in.txt"), kappa=4.5, rows=[1, 2])
    assert stale(root, swapped) == "inputs in another order"
    newer = toy_steps.changed_step(2, VERSION=7)[2]
    assert Journal(root).stale(newer, two) == "step version changed (1 -> 7)"
    (root / "in.txt").write_text("changed")
    assert stale(root, two) == "input changed: in.txt"
    (root / "in2.txt").unlink()
    assert stale(root, two) == "input gone: in2.txt"


def test_outputs_are_looked_at(root: Path) -> None:
    job = make(root, "a.txt", "b.txt")
    do(Journal(root), job)
    assert stale(root, make(root, "a.txt")) == "output dropped: b.txt"
    (root / "b.txt").write_text("scribble")
    assert stale(root, job) == "output altered: b.txt"
    (root / "b.txt").unlink()
    assert stale(root, job) == "output gone: b.txt"


def test_the_same_content_with_another_time_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make(root, "a.txt")
    do(Journal(root), job)
    os.utime(root / "in.txt", ns=(5, 5))
    journal = Journal(root)
    assert journal.stale(STEP, job) is None
    journal.commit()
    monkeypatch.setattr(stamps, "digest", lambda path: pytest.fail(f"read {path} again"))
    assert stale(root, job) is None


def test_content_that_comes_back_is_not_stale(root: Path) -> None:
    job = make(root, "a.txt")
    do(Journal(root), job)
    (root / "in.txt").write_text("other")
    assert stale(root, job) == "input changed: in.txt"
    (root / "in.txt").write_text("in.txt")
    assert stale(root, job) is None


# the file
def test_paths_are_relative(root: Path) -> None:
    (root / "out").mkdir()
    do(Journal(root / "out"), make(root, "out/a.txt"))
    text = (root / "out" / JOURNAL_NAME).read_text()
    assert str(root) not in text
    assert '"../in.txt"' in text
    assert json.loads(text.splitlines()[0]) == {"journal": 1}


def test_odd_file_names_survive(root: Path) -> None:
    name = os.fsdecode(b"d\xe4rk \n\xff.txt")
    (root / name).write_text("x")
    job = make(root, "ä b.txt", inputs=(name,))
    do(Journal(root), job)
    assert stale(root, job) is None


def test_a_torn_last_line_is_dropped_and_written_over(root: Path) -> None:
    first, second = make(root, "a.txt"), make(root, "b.txt")
    do(Journal(root), first)
    before = (root / JOURNAL_NAME).read_bytes()
    do(Journal(root), second)
    whole = (root / JOURNAL_NAME).read_bytes()
    for length in range(len(before), len(whole)):
        (root / JOURNAL_NAME).write_bytes(whole[:length])
        journal = Journal(root)
        assert journal.stale(STEP, first) is None
        assert journal.stale(STEP, second) == "never made"
        assert bool(journal.warnings) == (whole[length - 1 : length] != b"\n")
    do(journal, second)
    assert Journal(root).warnings == []
    assert stale(root, second) is None


def test_a_bad_line_in_the_middle_is_skipped_and_said(root: Path) -> None:
    jobs = [make(root, f"{name}.txt") for name in "abc"]
    do(Journal(root), *jobs)
    path = root / JOURNAL_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"job"' in line)
    for bad in (b"\x00\x00\x00\n", b'{"job":"cells"}\n', b"17\n", b'{"file":[1,2]}\n', b"{},{}\n", b'{"a":1}\n'):
        path.write_bytes(b"".join([*lines[:number], bad, *lines[number + 1 :]]))
        journal = Journal(root)
        assert journal.warnings == [f"{JOURNAL_NAME}: line {number + 1} cannot be understood and is skipped"]
        assert [journal.stale(STEP, job) for job in jobs] == ["never made", None, None]


def test_a_lost_recipe_is_no_catastrophe(root: Path) -> None:
    job = make(root, "a.txt", kappa=1)
    do(Journal(root), job)
    path = root / JOURNAL_NAME
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if b'"is"' not in line))
    assert stale(root, job) is None
    assert stale(root, make(root, "a.txt", kappa=2)) == "settings changed"


def test_another_format_is_refused(root: Path) -> None:
    (root / JOURNAL_NAME).write_text('{"journal":2}\n')
    with pytest.raises(ProductError, match="another version"):
        Journal(root)


def test_history_is_compacted(root: Path) -> None:
    keep, again, gone = make(root, "keep.txt", "gone.txt"), make(root, "again.txt"), make(root, "b.txt")
    journal = Journal(root)
    do(journal, keep, again, gone)
    journal.remove(["b.txt", "gone.txt"])
    for number in range(1200):
        journal.record(STEP, make(root, "again.txt", number=number), execute(make(root, "again.txt", number=number)))
    journal.commit()
    before = (root / JOURNAL_NAME).stat().st_size
    last = make(root, "again.txt", number=1199)
    fresh = Journal(root)
    assert (root / JOURNAL_NAME).stat().st_size < before / 20
    (root / "new.txt").write_text("x")
    do(fresh, make(root, "c.txt"), make(root, "d.txt", inputs=("in2.txt", "new.txt")))
    for journal in (fresh, Journal(root)):
        assert journal.warnings == []
        assert journal.stale(STEP, last) is None
        assert journal.stale(STEP, gone) == "never made"
        assert journal.stale(STEP, keep) == "never made together"
        assert journal.stale(STEP, make(root, "d.txt", inputs=("in2.txt", "new.txt"))) is None
    assert not list(root.glob(".*.draft"))


def test_a_reader_writes_nothing(root: Path) -> None:
    do(Journal(root), make(root, "a.txt"))
    before = (root / JOURNAL_NAME).read_bytes()
    os.utime(root / "in.txt", ns=(5, 5))
    journal = Journal(root, read_only=True)
    assert journal.stale(STEP, make(root, "a.txt")) is None
    journal.commit()
    assert (root / JOURNAL_NAME).read_bytes() == before


@pytest.mark.slow
def test_a_hundred_thousand_jobs_are_read_in_the_time_of_their_json(tmp_path: Path) -> None:
    count = 100_000
    with open(tmp_path / JOURNAL_NAME, "wb") as file:
        file.write(encode({"journal": 1}))
        file.write(encode_recipe("0" * 32, '{"function":"f","params":{},"step":"cells","version":1}') + b"\n")
        for number in range(1, count + 1):
            digest = f"{number:032x}"
            file.write(
                encode({"file": [number, f"survey/{number:06d}.json", 700, 1763680000000000000 + number, digest]})
            )
            job = {"job": "cells", "campaign": "", "recipe": "0" * 32, "inputs": [max(1, number - 1)]}
            more = {"outputs": [number], "requested": False, "label": f"survey {number}", "time": "2026-01-01T00:00:00"}
            file.write(encode(job | more))
    times_s = []
    for _ in range(3):
        start = time.process_time()
        journal = Journal(tmp_path)
        times_s.append(time.process_time() - start)
    assert journal.maker("survey/100000.json") is not None
    start = time.process_time()
    for line in (tmp_path / JOURNAL_NAME).read_bytes().splitlines():
        json.loads(line)
    assert min(times_s) < 5.0 * (time.process_time() - start)


# disks that refuse
def failing_once(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """fsync of the file of this name fails, the first time alone: so do systems that have lost what was written."""
    really, failed = os.fsync, list[str]()

    def fsync(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.endswith(name) and not failed:
            failed.append(path)
            raise OSError(errno.EIO, "Input/output error")
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return failed


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files are looked up in /proc")
def test_a_product_that_did_not_reach_the_disk_is_not_recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, job = Journal(root), make(root, "a.txt")
    failed = failing_once(monkeypatch, "/a.txt")
    with pytest.raises(ProductError, match="Input/output error"):
        do(journal, job)
    with pytest.raises(ProductError, match="Input/output error"):  # the system would not say it again
        journal.commit()
    assert len(failed) == 1
    assert stale(root, job) == "never made"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="names of open files are looked up in /proc")
def test_a_journal_that_could_not_be_written_is_written_by_the_next_commit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, job = Journal(root), make(root, "a.txt")
    failing_once(monkeypatch, JOURNAL_NAME)
    with pytest.raises(ProductError, match="cannot write the journal"):
        do(journal, job)
    journal.commit()
    assert stale(root, job) is None
    assert Journal(root).warnings == []


def test_a_product_that_cannot_be_removed_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(root)
    do(journal, make(root, "a.txt"))

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", refuse)
        with pytest.raises(ProductError, match="cannot remove a product"):
            journal.remove(["a.txt"])
    assert journal.remove(["a.txt"]) == (["a.txt"], [])


# removing
def test_orphans_are_those_of_a_step_and_campaign(root: Path) -> None:
    journal = Journal(root)
    wished = Job(copy, (root / "in.txt",), (root / "wish.txt",), {}, requested=True)
    camera = Job(copy, (), (root / "raw.txt",), {}, in_order=True)
    do(journal, make(root, "a.txt"), make(root, "b.txt"), wished, camera)
    do(journal, make(root, "c.txt"), campaign="other")
    assert journal.orphans("cells", "", {"a.txt"}) == ["b.txt"]
    assert journal.orphans("cells", "other", ()) == ["c.txt"]
    assert journal.orphans("load_data", "", ()) == []
    assert journal.campaigns("cells") == {"", "other"}


def test_only_our_own_files_are_removed(root: Path) -> None:
    out = root / "out"
    (out / "deep" / "er").mkdir(parents=True)
    journal = Journal(out)
    do(journal, *(make(root, name) for name in ("out/deep/er/a.txt", "out/b.txt", "outside.txt", "out/c.txt")))
    (out / "b.txt").write_text("notes of a user")
    (out / "c.txt").unlink()
    keys = ["deep/er/a.txt", "b.txt", "../outside.txt", "c.txt"]
    assert journal.remove(keys) == (["deep/er/a.txt", "c.txt"], ["b.txt", "../outside.txt"])
    journal.commit()
    assert not (out / "deep").exists()
    assert (out / "b.txt").exists()
    assert (root / "outside.txt").exists()
    assert Journal(out).orphans("cells", "", ()) == []


def test_a_file_that_changes_after_the_job_is_not_recorded(root: Path) -> None:
    job = make(root, "a.txt")
    outcome = execute(job)
    (root / "in.txt").write_text("later")
    with pytest.raises(PipelineError, match="changed while the pipeline runs"):
        Journal(root).record(STEP, job, outcome)


@pytest.mark.parametrize("key", ["../victim", "a/../../victim", "/etc/hostname", "a/b/../../../victim"])
def test_a_journal_of_somebody_else_removes_nothing_outside(tmp_path: Path, key: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"of somebody")
    root = tmp_path / "out"
    (root / "a" / "b").mkdir(parents=True)
    at = stamps.stamp(victim)
    assert at is not None
    job = {
        "job": "step",
        "campaign": "",
        "recipe": "x",
        "inputs": [],
        "outputs": [1],
        "requested": False,
        "label": "",
        "time": "2025-01-01T00:00:00",
    }
    lines = [{"journal": FORMAT}, {"file": [1, key, at.size, at.mtime_ns, stamps.digest(victim)]}, job]
    (root / "journal.jsonl").write_bytes(b"".join(map(encode, lines)))
    journal = Journal(root)
    assert journal.orphans("step", "", ()) == [key]
    assert journal.remove([key]) == ([], [key])
    assert victim.exists()


def test_a_number_belongs_to_one_path(root: Path) -> None:
    """A line that gives a number to another file would make inputs of it."""
    job = make(root, "a.txt")
    do(Journal(root), job)
    lines = (root / JOURNAL_NAME).read_bytes().splitlines(keepends=True)
    stolen = json.loads(next(line for line in lines if b"in.txt" in line))["file"]
    (root / JOURNAL_NAME).write_bytes(b"".join(lines) + encode({"file": [stolen[0], "b.txt", *stolen[2:]]}))
    journal = Journal(root)
    assert any("cannot be understood" in warning for warning in journal.warnings)
    assert journal.stale(STEP, job) is None


def test_no_key_leads_out_of_the_output_directory(root: Path) -> None:
    (root / "out").mkdir()
    job = make(root / "out", "a.txt", inputs=("../in.txt",))
    do(Journal(root / "out"), job)
    path = root / "out" / JOURNAL_NAME
    path.write_bytes(path.read_bytes().replace(b'"a.txt"', b'"x/../../in2.txt"'))
    journal = Journal(root / "out")
    journal.remove(journal.orphans(STEP.NAME, "", []))
    assert (root / "in2.txt").read_text() == "in2.txt"
