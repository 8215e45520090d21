"""Runs that die at once, by kill -9 or a full disk, and are begun again until everything is there."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from capture_helpers import (
    PROJECT,
    Bench,
    Launcher,
    cooled,
    digests,
    drafts,
    events,
    frames,
    header,
    journal,
    pixels,
    take_numbered,
)
from helpers import environment

from darkpipe.files.layout import RawDir
from hardware.errors import DiskSpaceError

KILLS = 20
FRAMES = 30  # of the plan below
MORE_FRAMES = 90  # of that of `take_numbered`, which is quicker
SETTINGS = {
    "output_dir": "out",
    "dark_capture": {
        "output_dir": "darks",
        "num_darks": 5,
        "science_exposure_time": 60.0,
        "exposure_factors": [0.5, 1.0],
        "max_exposure": 60.0,
        "temperatures_c": [-10.0, -5.0],
    },
    "camera": {"cooling": {"cooling_timeout": 1e6}},  # the clock is fast, and the machine may be busy
}

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, and no kill -9, on this system")


@contextlib.contextmanager
def simulated_camera() -> Iterator[str]:
    """The address of a camera in a process of its own."""
    flags = ["--port", "0", "--rows", "32", "--cols", "40", "--seed", "3", "--time-scale", "1000", "--no-discovery"]
    line = [sys.executable, "-m", "hardware.simulator", *flags]
    with subprocess.Popen(line, cwd=PROJECT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            yield found.group()
        finally:
            process.terminate()


def lines(folder: Path) -> int:
    """Of the journal so far."""
    try:
        return RawDir(folder).journal.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def kill_at_random(launcher: Launcher, folder: Path, arguments: list[str], rng: random.Random, pause_s: float) -> int:
    """Start a run, kill it after some more lines in the journal and a moment: before the first frame, in an exposure,
    at a file, between file and journal. Returns its exit code."""
    before, more = lines(folder), rng.randrange(3)
    process = launcher.start(*arguments)
    while more and lines(folder) < before + more and is_alive(process):
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, pause_s if more else 10 * pause_s))
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    return launcher.end()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def assert_nothing_twice(folder: Path, wanted: int) -> None:
    """One line a frame at most: that of a frame whose run died just before is written by the next one."""
    taken = events(folder, "taken")
    assert len(taken) >= wanted - 1
    assert set(taken.values()) == {1}
    assert not any("lost" in line for line in journal(folder))
    assert drafts(folder) == []


@needs_fork
@pytest.mark.slow
def test_killed_at_random_moments_over_the_line(tmp_path: Path) -> None:
    rng = random.Random(20250729)
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(SETTINGS))

    def arguments(address: str, folder: str) -> list[list[str]]:
        return [["--mode", "acquire", "--config", str(tmp_path / folder / "s.yaml"), "--camera_address", address]]

    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()
        shutil.copy(tmp_path / "settings.yaml", tmp_path / name / "s.yaml")
    broken, whole = tmp_path / "broken" / "darks", tmp_path / "whole" / "darks"
    with Launcher("run_pipeline", "main", tmp_path / "said") as launcher:
        with simulated_camera() as address:
            codes = [kill_at_random(launcher, broken, arguments(address, "broken"), rng, 0.05) for _ in range(KILLS)]
            there = len(frames(broken))
            assert codes == [-signal.SIGKILL] * KILLS, launcher.said
            launcher.start(*arguments(address, "broken"))
            assert launcher.end() == 0, launcher.said
        with simulated_camera() as address:
            launcher.start(*arguments(address, "whole"))
            assert launcher.end() == 0, launcher.said
        assert "Traceback" not in launcher.said
    assert 0 < there < FRAMES
    assert_nothing_twice(broken, FRAMES)
    found = digests(broken)
    assert len(set(found.values())) == len(found) == FRAMES
    assert {unstamped(name) for name in found} == {unstamped(name) for name in digests(whole)}
    assert_same_statistics(broken, whole)


def unstamped(name: str) -> str:
    return re.sub(r"_\d{8}_\d{6}_", "_", name)


def assert_same_statistics(broken: Path, whole: Path) -> None:
    """Level and noise of each setting; most frames are others, since the camera counted on."""
    stacks = [stacked(folder) for folder in (broken, whole)]
    assert stacks[0].keys() == stacks[1].keys()
    for key, one in stacks[0].items():
        other = stacks[1][key]
        assert one.shape == other.shape == (5, 32, 40)
        mean_difference = one.mean(axis=0) - other.mean(axis=0)
        noise = [np.median(stack.std(axis=0, ddof=1)) for stack in (one, other)]
        assert abs(np.median(mean_difference)) < 0.5, key
        assert noise[0] == pytest.approx(noise[1], rel=0.15), key


def stacked(folder: Path) -> dict[tuple[float, float], np.ndarray]:
    found: dict[tuple[float, float], list[np.ndarray]] = defaultdict(list)
    for path in frames(folder):
        cards = header(path)
        assert cards["TEMPGATE"]
        assert cards["CCD-TEMP"] == pytest.approx(cards["SET-TEMP"], abs=1.0)
        found[cards["SET-TEMP"], cards["EXPTIME"]].append(pixels(path).astype(float))
    return {key: np.stack(values) for key, values in found.items()}


@needs_fork
def test_killed_at_random_moments_in_process_the_pixels_are_those_of_an_unbroken_run(tmp_path: Path) -> None:
    rng = random.Random(4711)
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    with Launcher("capture_helpers", "take_numbered", tmp_path / "said") as launcher:
        codes = [kill_at_random(launcher, broken, [str(broken)], rng, 0.005) for _ in range(KILLS)]
        there = len(frames(broken))
        launcher.start(str(broken))
        assert launcher.end() == 0, launcher.said
        assert "Traceback" not in launcher.said
    assert codes == [-signal.SIGKILL] * KILLS
    assert 0 < there < MORE_FRAMES
    assert_nothing_twice(broken, MORE_FRAMES)
    assert take_numbered(str(whole)) == 0
    assert digests(broken) == digests(whole)
    assert len(set(digests(whole).values())) == MORE_FRAMES


# the disk
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for a few frames; the test is skipped, saying so, where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        line = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        why = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        why = str(error)
    if why:
        pytest.skip(f"no small disk can be mounted here: {why}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while stream.write(b"\0" * 4096):
            pass


def test_a_disk_that_is_full_in_the_middle(small_disk: Path) -> None:
    """Without a disk to fill, `test_frame_taker.py` has the same with an error that is injected."""
    folder = small_disk / "darks"
    bench = Bench()
    bench.at_exposure(7, lambda: fill(small_disk / "somebody"))
    with pytest.raises(DiskSpaceError, match="the disk is full"):
        bench.capture(cooled(folder)).capture_darks()
    assert not bench.cooler.on
    assert bench.cooler.temperature_c() > 15.0
    assert len(frames(folder)) == 6
    full = Bench()
    with pytest.raises(DiskSpaceError, match="the plan needs"):
        full.capture(cooled(folder)).capture_darks()
    assert full.camera.writes == []
    (small_disk / "somebody").unlink()
    result = Bench(first_frame_number=6).capture(cooled(folder)).capture_darks()
    assert len(result.files) == len(set(digests(folder).values())) == 9
    assert len(result.taken) == 3
    assert set(events(folder, "taken").values()) == {1}
    assert drafts(folder) == []


def test_a_disk_that_is_too_small_for_the_plan_is_refused_first(small_disk: Path) -> None:
    bench = Bench()
    with pytest.raises(DiskSpaceError, match="the plan needs"):
        bench.capture(cooled(small_disk / "darks", num_darks=30)).capture_darks()
    assert bench.camera.writes == bench.camera.exposures == []
