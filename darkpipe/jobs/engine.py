"""Where jobs run: threads, processes, or Dask. All of them are `concurrent.futures` executors."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, Literal, TypeAlias

from darkpipe.errors import PipelineError, SettingsError

EngineKind: TypeAlias = Literal["threads", "processes", "dask"]


def open_engine(kind: EngineKind, workers: int, dask_scheduler: str | None = None) -> Executor:
    """An executor with so many workers; `dask_scheduler` ("tcp://host:8786") is for Dask alone.

    Raises
    ------
    SettingsError
        for Dask where it is not installed.
    PipelineError
        where the scheduler cannot be reached.
    """
    if kind == "threads":
        return ThreadPoolExecutor(workers, thread_name_prefix="job")
    if kind == "processes":
        # spawned, not forked: a fork of a process with threads can hang
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    return _DaskExecutor(workers, dask_scheduler)


def _start_worker() -> None:
    """Leave Ctrl-C to the controller, and do not outlive it: two writers of one product must not meet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


class _DaskExecutor(Executor):
    """Dask's own executor, which closes the client (and a local cluster) at the end."""

    def __init__(self, workers: int, scheduler: str | None) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise SettingsError(
                "engine 'dask' needs a package that is not installed", where="engine", do="pip install distributed"
            ) from error
        try:
            if scheduler:
                self._client = Client(scheduler, timeout=10)
            else:
                self._client = Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        except OSError as error:
            raise PipelineError(
                f"no Dask scheduler answers: {error}", where=scheduler, do="Start one with `dask scheduler`"
            ) from error
        self._executor: Executor = self._client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait)
        self._client.close()
