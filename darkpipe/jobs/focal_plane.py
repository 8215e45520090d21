"""One run in many parts, a detector each: side by side on one engine, none of them stopped by what another fails of."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from typing import Any

from darkpipe.errors import PipelineError
from darkpipe.jobs.report import PART, Failure, RunReport

log = logging.getLogger("darkpipe")

LOOK_EVERY_S = 1.0
MOST_AT_A_TIME = 64  # detectors that are planned at a time


class SharedEngine:
    """An engine that several runners use: opened by the first that needs it, closed by `close`.

    A pool of processes that has lost one is opened anew for those that come later. An engine that cannot be opened is
    not tried again by each.
    """

    def __init__(self, open_executor: Callable[[], Executor]) -> None:
        self._open, self._lock = open_executor, threading.Lock()
        self._executor: Executor | None = None
        self._refused: PipelineError | None = None

    def lease(self) -> Executor:
        """The engine, for one runner."""
        return _Lease(self)

    def current(self, broken: Executor | None = None) -> Executor:
        """The executor that jobs go to; another one than that which is broken."""
        with self._lock:
            if self._refused is not None:
                raise self._refused
            if self._executor is None or self._executor is broken:
                try:
                    self._executor = self._open()
                except PipelineError as error:
                    self._refused = error
                    raise
            return self._executor

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            if self._executor is not None:
                self._executor.shutdown(wait=True, cancel_futures=True)
                self._executor = None


class _Lease(Executor):
    """The part of a shared engine that one runner sees; that it is done does not end the engine."""

    def __init__(self, shared: SharedEngine) -> None:
        self._shared = shared
        executor = shared.current()
        self.shares_files = getattr(executor, "shares_files", False)

    def __getattr__(self, name: str) -> Any:
        if name == "slots":
            return self._shared.current().slots  # type: ignore[attr-defined]
        raise AttributeError(name)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        executor = self._shared.current()
        try:
            return executor.submit(fn, *args, **kwargs)
        except BrokenExecutor:
            return self._shared.current(broken=executor).submit(fn, *args, **kwargs)


def run_parts(
    names: Sequence[str], run_one: Callable[[str, threading.Event], RunReport], mode: str, at_a_time: int
) -> list[tuple[str, RunReport]]:
    """Run the parts, so many at a time; returns their reports in the order of the names.

    run_one : runs the part of this name. It is given an event: once that is set, no further job may begin. Expected
        failures of a part, raised or reported, stay with it.

    Raises
    ------
    whatever else a part raises, when the others have stopped; KeyboardInterrupt, likewise.
    """
    stop, bugs = threading.Event(), list[BaseException]()

    def run(name: str) -> RunReport:
        token = PART.set(name)
        try:
            return RunReport(mode) if stop.is_set() else run_one(name, stop)
        except PipelineError as error:
            report = RunReport(mode)
            report.fail(Failure("", "", "", error))
            return report
        except BaseException as error:
            if not (stop.is_set() and isinstance(error, KeyboardInterrupt)):  # that is how the others are stopped
                bugs.append(error)
            stop.set()
            return RunReport(mode)
        finally:
            PART.reset(token)

    with ThreadPoolExecutor(max(1, min(at_a_time, len(names), MOST_AT_A_TIME)), "detector") as threads:
        running = [threads.submit(run, name) for name in names]
        try:
            while wait(running, timeout=LOOK_EVERY_S).not_done:  # some systems deliver Ctrl-C only between two waits
                pass
        except BaseException:
            stop.set()
            raise
    if bugs:
        raise bugs[0]
    return [(name, future.result()) for name, future in zip(names, running, strict=True)]
