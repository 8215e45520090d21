"""What tests of the Dask engine share: deadlines, and workers that are killed in the middle of a run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from darkpipe.jobs.report import NoProgress

Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """What the call gives, or a failure when it takes longer."""
    got: list[Result] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            got.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not done after {seconds:g} s"
    if raised:
        raise raised[0]
    return got[0]


class AtJob(NoProgress):
    """Does something once, when so many jobs have ended."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self.left, self.action = number, action

    def advance(self, label: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.action()


def kill_a_worker() -> int:
    """Kill one of the worker processes that this one has started, as a system does that is out of memory."""
    import psutil

    spawned = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    spawned[-1].kill()
    return int(spawned[-1].pid)
