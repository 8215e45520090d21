"""Pictures come out of other processes as they come out of this one; what becomes of these processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from darkpipe.errors import PipelineError
from darkpipe.report import painters
from darkpipe.report.drawing import bias_levels, dark_image, hot_pixel_curve
from darkpipe.report.painters import painting, png

IMAGE = np.random.default_rng(1).normal(5.0, 1.0, (60, 80)).astype(np.float32)
ROOT = Path(__file__).resolve().parents[2]


def children() -> list[int]:
    """Of this process."""
    return [] if painters._team is None else [p._process.pid for p in painters._team._all if p._process is not None]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def team() -> Iterator[None]:
    with painting(4):
        yield


def test_pictures_are_the_same_in_other_processes() -> None:
    alone = [png(dark_image, IMAGE + k, -10.0, 60.0, subtitle="exp_2d", dpi=90) for k in range(3)]
    alone.append(png(hot_pixel_curve, IMAGE, -10.0, 60.0))
    with painting(4), ThreadPoolExecutor(3) as threads:
        coming = [threads.submit(png, dark_image, IMAGE + k, -10.0, 60.0, subtitle="exp_2d", dpi=90) for k in range(3)]
        coming.append(threads.submit(png, hot_pixel_curve, IMAGE, -10.0, 60.0))
        assert [c.result() for c in coming] == alone
        begun = children()
        assert 1 <= len(begun) <= 2
    assert children() == []
    assert not any(map(is_there, begun))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_single_worker_draws_by_itself(workers: int) -> None:
    with painting(workers):
        painters.coming()
        assert png(dark_image, IMAGE, -10.0, 60.0).startswith(b"\x89PNG")
        assert children() == []


def test_processes_begin_when_a_picture_is_coming_and_end_with_the_last_user() -> None:
    with painting(2):
        assert children() == []
        with painting(8):
            painters.coming()
            begun = children()
            assert len(begun) == painters.AT_FIRST
        assert children() == begun
    assert not any(map(is_there, begun))


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX systems do")
def test_a_killed_process_fails_its_picture_and_not_the_next(team: None) -> None:
    png(dark_image, IMAGE, -10.0, 60.0)
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(PipelineError, match="draws pictures died") as caught:
        png(dark_image, IMAGE, -10.0, 60.0)
    assert caught.value.where == "dark_image"
    assert png(dark_image, IMAGE, -10.0, 60.0).startswith(b"\x89PNG")
    assert children() != [pid]


def test_what_drawing_raises_is_raised_here_with_its_place(team: None) -> None:
    with pytest.raises(AttributeError, match="no attribute") as caught:
        png(bias_levels, "no table")
    assert "in the process that draws" in caught.value.__notes__[0]
    assert "bias_levels" in caught.value.__notes__[0]
    assert len(children()) == 1  # it lives on


def test_where_no_process_can_begin_pictures_are_drawn_here(team: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(ROOT / "no such program"))
    assert png(dark_image, IMAGE, -10.0, 60.0).startswith(b"\x89PNG")
    assert children() == []


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX systems do")
def test_painters_end_with_a_killed_run() -> None:
    script = (
        "import os, time; from darkpipe.report import painters\n"
        "with painters.painting(2):\n"
        "    painters.coming(); print(painters._team._all[0]._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_there(pid)
        run.kill()
    for _ in range(300):
        if not is_there(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the process that draws outlives the run")


def test_no_process_begins_before_its_time_in_a_run_that_draws_nothing() -> None:
    with painting(2, soon=False):
        painters.coming()
        assert children() == []
        with painting(2):
            painters.coming()
            assert len(children()) == painters.AT_FIRST
