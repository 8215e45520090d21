"""Runs that die at once, and runs that meet."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import PICTURES, Campaign, command, differing, environment, flags, products, run_well

from run_pipeline import main

KILLS = 10


def files(folder: Path) -> int:
    return sum(1 for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0


def start(campaign: Campaign, *more: str, pictures: bool = False) -> subprocess.Popen[str]:
    line = command(*flags(campaign, "full", "--workers", "2", *more, pictures=pictures))
    return subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("engine", "kills"), [("threads", KILLS), ("processes", 1)])
def test_killed_at_random_moments_and_resumed(finished: Campaign, tmp_path: Path, engine: str, kills: int) -> None:
    """Each kill falls at a random moment after some more products have been made, so that all steps get their share."""
    broken = Campaign(tmp_path / "broken", finished.sensor)
    shutil.copytree(finished.raw, broken.raw)
    rng = random.Random(20250101)
    all_files = files(finished.out)
    died_at = []
    for number in range(kills):
        goal = all_files * (number + 0.9 * rng.random()) / kills
        with start(broken, "--engine", engine, pictures=True) as process:
            end = time.monotonic() + 60
            while files(broken.out) < goal and process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(rng.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            _, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        if process.returncode == -signal.SIGKILL:
            died_at.append(files(broken.out))
    assert len(died_at) >= max(1, kills - 1)
    assert died_at[0] < 0.9 * all_files
    report = run_well(broken, evaluate_model=PICTURES)
    assert all(job.reason != "forced" for job in report.jobs)
    assert differing(products(broken.out), products(finished.out)) == []
    assert not list(broken.out.rglob("*.draft"))
    assert run_well(broken, evaluate_model=PICTURES).jobs == []


def test_a_killed_run_loses_no_more_than_its_last_seconds(plain: Campaign, tmp_path: Path) -> None:
    """What a plain batch has made is not made again."""
    broken = Campaign(tmp_path / "broken", plain.sensor)
    shutil.copytree(plain.raw, broken.raw)
    with start(broken) as process:
        while files(broken.out / "dark_masks_by_temp") < 9 and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=60)
    report = run_well(broken, chosen={"until_step": 4})
    again = {job.step for job in report.jobs}
    assert "load_data" not in again
    assert "subtract_bias" not in again


def test_two_runs_at_once(plain: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = Campaign(tmp_path / "both", plain.sensor)
    shutil.copytree(plain.raw, both.raw)
    with start(both) as first:
        while not (both.out / "survey").exists() and first.poll() is None:
            time.sleep(0.005)
        assert main(flags(both, "full", "--quiet")) == 75
        assert first.poll() is None  # the other did not wait for its end
        said = capsys.readouterr().err
        assert "lock" in said
        assert str(first.pid) in said
        assert main(flags(both, "full", "--dry_run", "--quiet")) == 0  # looking is free
        _, told = first.communicate(timeout=120)
    assert first.returncode == 0, told
    assert differing(products(both.out), products(plain.out)) == []


def test_a_lock_of_a_dead_run_does_not_hold(work: Campaign) -> None:
    with start(work, "--force") as process:
        size = (work.out / "journal.jsonl").stat().st_size
        while (work.out / "journal.jsonl").stat().st_size <= size and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=60)
    assert main(flags(work, "full", "--quiet")) == 0
