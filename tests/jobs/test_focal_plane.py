"""Parts that run side by side: what they share, and what ends them."""

from __future__ import annotations

import io
import logging
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest
from rich.console import Console

from darkpipe.console import JobBar, logging_to
from darkpipe.errors import BusyError, PipelineError
from darkpipe.jobs.focal_plane import SharedEngine, run_parts
from darkpipe.jobs.report import RunReport


class Pool(ThreadPoolExecutor):
    """Counts how often it is opened, and may be broken."""

    opened = 0

    def __init__(self, broken: bool = False) -> None:
        super().__init__(2)
        type(self).opened += 1
        self.broken = broken

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.broken:
            raise BrokenProcessPool("a worker died")
        return super().submit(fn, *args, **kwargs)


@pytest.fixture(autouse=True)
def _counted() -> None:
    Pool.opened = 0


def test_one_engine_for_all_and_not_ended_by_one() -> None:
    shared = SharedEngine(Pool)
    assert Pool.opened == 0
    one, other = shared.lease(), shared.lease()
    assert one.submit(len, "ab").result() == 2
    one.shutdown(wait=True, cancel_futures=True)
    assert other.submit(len, "abc").result() == 3
    assert Pool.opened == 1
    pool = shared.current()
    shared.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(len, "")


def test_a_broken_pool_is_opened_anew() -> None:
    made = iter([Pool(broken=True), Pool()])
    shared = SharedEngine(lambda: next(made))
    assert shared.lease().submit(len, "ab").result() == 2
    shared.close()


def test_an_engine_that_cannot_be_opened_is_tried_once() -> None:
    tried = []

    def fail() -> Executor:
        tried.append(1)
        raise PipelineError("no scheduler")

    shared = SharedEngine(fail)
    for _ in range(3):
        with pytest.raises(PipelineError, match="no scheduler"):
            shared.lease()
    assert len(tried) == 1
    shared.close()


def test_failures_stay_with_their_part() -> None:
    def run(name: str, stop: threading.Event) -> RunReport:
        if name == "b":
            raise BusyError("in use")
        return RunReport("full")

    parts = run_parts(["a", "b", "c"], run, "full", 2)
    assert [name for name, _ in parts] == ["a", "b", "c"]
    assert [part.exit_code for _, part in parts] == [0, 75, 0]


@pytest.mark.parametrize("what", [ZeroDivisionError("a bug"), KeyboardInterrupt()])
def test_a_bug_stops_the_others_and_is_raised(what: BaseException) -> None:
    begun, stopped = threading.Event(), []

    def run(name: str, stop: threading.Event) -> RunReport:
        if name == "bug":
            assert begun.wait(30.0)
            raise what
        begun.set()
        assert stop.wait(30.0)
        stopped.append(name)
        raise KeyboardInterrupt  # as a runner does

    with pytest.raises(type(what)):
        run_parts(["other", "bug", "never begun"], run, "full", 2)
    assert stopped == ["other"]


def test_log_lines_begin_with_their_part(caplog: pytest.LogCaptureFixture) -> None:
    text = io.StringIO()

    def run(name: str, stop: threading.Event) -> RunReport:
        logging.getLogger("darkpipe").warning("%s %d%%", "done", 7)
        logging.getLogger("darkpipe").warning("100% of it")
        return RunReport("full")

    with logging_to(None, "INFO", quiet=False, console=Console(file=text)):
        run_parts(["CCD1"], run, "full", 2)
        logging.getLogger("darkpipe").warning("all")
    assert text.getvalue().splitlines() == ["warning: CCD1: done 7%", "warning: CCD1: 100% of it", "warning: all"]


def test_each_part_has_a_line_of_the_bar_and_the_last_takes_it_away() -> None:
    text = io.StringIO()
    bar = JobBar(Console(file=text, force_terminal=True, width=120))
    one, other = bar.part("CCD1"), bar.part("CCD2")
    one.begin("fit", 3)
    other.begin("index", 1)
    one.advance("tile 0")
    other.advance("index")
    bar._bar.refresh()
    assert {"CCD1 fit", "CCD2 index"} <= {str(task.description) for task in bar._bar.tasks}
    other.end()
    assert bar._bar.live.is_started
    one.end()
    assert not bar._bar.live.is_started
    assert bar._bar.tasks == []
