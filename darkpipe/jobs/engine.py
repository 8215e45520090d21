"""Where jobs run: threads, processes, or Dask. All of them are `concurrent.futures` executors.

An executor may have `slots`, how many jobs run at a time, where that is not what was asked for, and `shares_files`,
true where jobs see the files over a shared file system only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias

EngineKind: TypeAlias = Literal["threads", "processes", "dask"]


def open_engine(
    kind: EngineKind,
    workers: int,
    dask_scheduler: str | None = None,
    *,
    root: Path | None = None,
    patience_s: float = 60,
) -> Executor:
    """An executor with so many workers.

    For Dask alone: `dask_scheduler`, "tcp://host:8786", in place of a cluster on this computer; `root`, the output
    directory, which the workers must see; `patience_s`, how long to wait for workers.

    Raises
    ------
    SettingsError
        for Dask where it is not installed, and for an address that is none.
    PipelineError
        where the scheduler cannot be reached, or its workers cannot do the jobs.
    """
    if kind == "threads":
        return ThreadPoolExecutor(workers, thread_name_prefix="job")
    if kind == "processes":
        # spawned, not forked: a fork of a process with threads can hang
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    from darkpipe.jobs.dask_engine import DaskExecutor, DaskSettings

    return DaskExecutor(DaskSettings(workers, dask_scheduler, root or Path.cwd(), patience_s))


def _start_worker() -> None:
    """Leave Ctrl-C to the controller, and do not outlive it: two writers of one product must not meet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)
