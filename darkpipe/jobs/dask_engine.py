"""Jobs on a Dask cluster, as an executor of `concurrent.futures`.

All that is assumed of the workers is a file system that they share with the controller. Dask runs the jobs of a lost
worker again elsewhere; what this module adds is that a job which takes its workers down is found out and fails alone,
that a run ends only when none of its jobs is at work any more, and that waiting has deadlines.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future, InvalidStateError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from darkpipe.errors import BusyError, PipelineError, SettingsError
from darkpipe.jobs import dask_worker
from darkpipe.jobs.contract import Job
from darkpipe.jobs.dask_worker import Ticket

log = logging.getLogger("darkpipe")

Result = TypeVar("Result")

CONNECT_S = 10.0
ANSWER_S = 60.0  # for a question to the scheduler or to all workers
SHOWN_WITHIN_S = 15.0  # a new file, to the workers
LOOK_EVERY_S = 1.0
LOCAL_DEATHS = 1  # so often a job may lose its worker in a local cluster before it is suspected


@dataclass(frozen=True)
class DaskSettings:
    """Where the cluster is. scheduler : its address; None: a cluster on this computer. patience_s : how long to wait
    for a first worker, and for another one where all were lost."""

    workers: int
    scheduler: str | None
    root: Path
    patience_s: float


class _JobFuture(Future[Any]):
    """Cannot be cancelled while its job runs: what runs is waited for, and recorded."""

    def __init__(self, may_be_cancelled: Callable[[], bool]) -> None:
        super().__init__()
        self._may_be_cancelled = may_be_cancelled

    def cancel(self) -> bool:
        return self._may_be_cancelled() and super().cancel()


class _Task:
    """A job that was submitted. suspected : its workers died; it is run again with no other job beside it."""

    def __init__(
        self, ticket: Ticket, function: Callable[..., Any], args: tuple[Any, ...], future: Future[Any]
    ) -> None:
        self.ticket, self.function, self.args, self.future = ticket, function, args, future
        self.suspected = False
        self.sent: Any = None


class DaskExecutor(Executor):
    """An executor on a Dask cluster. The first future that is cancelled ends it: no job begins after that.

    Raises
    ------
    SettingsError
        if `distributed` is not installed, or the address is none.
    PipelineError
        if no scheduler answers, no worker comes, or the workers cannot do these jobs.
    """

    def __init__(self, settings: DaskSettings) -> None:
        self._settings = settings
        self._run = uuid.uuid4().hex[:12]
        self._root = os.path.abspath(settings.root)
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._flying: dict[int, _Task] = {}
        self._suspects: deque[_Task] = deque()
        self._held: deque[_Task] = deque()
        self._over: set[int] | None = None
        self._lost: PipelineError | None = None
        self._attempts = itertools.count()
        self._closed = threading.Event()
        self._stack = contextlib.ExitStack()
        self._client = _connect(settings, self._stack)
        try:
            self._threads: Mapping[str, int] = self._await_workers()
            _check_workers(self._client, self._root, settings)
        except BaseException:
            self._stack.close()
            raise
        self._watch = threading.Thread(target=self._watch_workers, name="dask workers", daemon=True)
        self._watch.start()

    @property
    def slots(self) -> int:
        """Jobs that run at a time: threads of all workers."""
        return max(sum(self._threads.values()), 1)

    @property
    def shares_files(self) -> bool:
        """Whether workers see the files over a shared file system only."""
        return self._settings.scheduler is not None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Send a function with its arguments to a worker."""
        if kwargs:
            raise TypeError("jobs have no keyword arguments here")
        number = next(self._numbers)
        job = next((arg for arg in args if isinstance(arg, Job)), None)
        name = getattr(fn, "__qualname__", str(fn)) if job is None else job.name
        outputs = tuple(map(str, job.outputs)) if job is not None and self.shares_files else ()
        ticket = Ticket(self._run, self._root, number, name, dask_worker.facts(), outputs)
        task = _Task(ticket, fn, args, _JobFuture(lambda: number not in self._end_run()))
        with self._lock:
            if self._over is not None:
                raise RuntimeError("this engine has been shut down")
            if self._lost is not None or self._client.status == "closed":
                raise self._lost_scheduler()
            if self._suspects or any(other.suspected for other in self._flying.values()):
                self._held.append(task)
            else:
                self._send(task)
        return task.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the connection (and a local cluster), after the jobs that run have ended."""
        if self._closed.is_set():
            return
        with self._lock:
            tasks = [*self._flying.values(), *self._suspects, *self._held]
        if tasks or self._over is not None:
            for task in tasks:
                task.future.cancel()
            self._await_quiet()
        self._closed.set()
        self._stack.close()

    # sending and receiving
    def _send(self, task: _Task) -> None:
        key = (f"darkpipe-{self._run}", next(self._attempts))
        self._flying[task.ticket.number] = task
        task.sent = self._client.submit(dask_worker.run_job, task.ticket, task.function, task.args, key=key, pure=False)
        task.sent.add_done_callback(lambda sent: self._ended(task, sent))

    def _ended(self, task: _Task, sent: Any) -> None:
        from distributed.scheduler import KilledWorker

        result: Any = None
        error: BaseException | None = None
        try:
            if sent.cancelled():
                error = CancelledError() if self._ended_before(task) else self._lost_scheduler()
            else:
                result = sent.result(timeout=max(self._settings.patience_s, ANSWER_S))
        except KilledWorker as killed:
            if self._suspect(task):
                return
            error = _killer(task, killed)
        except dask_worker.RunOverError:
            error = CancelledError()
        except Exception as raised:
            waited = isinstance(raised, TimeoutError) and sent.status == "finished"
            error = self._lost_scheduler() if waited else raised
        if isinstance(error, CancelledError):
            Future.cancel(task.future)
        else:
            _settle(task.future, result, error)
        with self._lock:
            self._flying.pop(task.ticket.number, None)
            task.sent = None
            self._go_on()

    def _ended_before(self, task: _Task) -> bool:
        """Whether the run was over before this job began."""
        with self._lock:
            return self._over is not None and task.ticket.number not in self._over

    def _suspect(self, task: _Task) -> bool:
        """Put a job aside whose workers died; False if it was alone when that happened."""
        if task.suspected:
            return False
        log.warning("%s: its workers died; it is run again by itself", task.ticket.name)
        with self._lock:
            task.suspected = True
            self._flying.pop(task.ticket.number, None)
            self._suspects.append(task)
            self._go_on()
        return True

    def _go_on(self) -> None:
        """Suspects run one by one, each with nothing beside it; then the jobs that were held back."""
        if self._flying or self._over is not None:
            return
        if self._suspects:
            self._send(self._suspects.popleft())
        while self._held and not self._flying_suspect():
            self._send(self._held.popleft())

    def _flying_suspect(self) -> bool:
        return any(task.suspected for task in self._flying.values())

    # the end
    def _end_run(self) -> set[int]:
        """No job begins after this; returns the numbers of those that had begun."""
        with self._lock:
            if self._over is None:
                self._over = set()
                try:
                    told = _ask(lambda: self._client.run(dask_worker.end_run, self._run, on_error="ignore"))
                    self._over = {number for numbers in told.values() for number in numbers or ()}
                    waiting = [t.sent for n, t in self._flying.items() if n not in self._over and t.sent is not None]
                    if waiting:
                        _ask(lambda: self._client.cancel(waiting))
                except PipelineError as error:
                    log.warning("the workers were not told to stop: %s", error)
            return self._over

    def _await_quiet(self) -> None:
        """Wait until no job of this run is at work: two writers of one product must not meet."""
        try:
            _await_no_jobs(self._client, self._root, self._settings.patience_s)
        except PipelineError as error:
            log.warning("%s", error)

    # workers
    def _await_workers(self) -> Mapping[str, int]:
        until, said = time.monotonic() + self._settings.patience_s, False
        while not (threads := _ask(self._client.nthreads)):
            if time.monotonic() > until:
                raise self._no_workers()
            if not said:
                log.info("waiting for the first Dask worker, up to %g s", self._settings.patience_s)
                said = True
            time.sleep(0.2)
        return dict(threads)

    def _no_workers(self) -> PipelineError:
        return PipelineError(
            f"the Dask cluster has had no worker for {self._settings.patience_s:g} s",
            where=self._settings.scheduler or "local cluster",
            do="Start workers (`dask worker ADDRESS`), or raise dask_patience_s",
        )

    def _lost_scheduler(self) -> PipelineError:
        return PipelineError(
            "the connection to the Dask scheduler was lost",
            where=self._settings.scheduler or "local cluster",
            do="Run again: what was finished is kept",
        )

    def _watch_workers(self) -> None:
        """Note who comes and goes; with no worker for too long, or no scheduler, nothing would ever end."""
        lonely_since = time.monotonic()
        while not self._closed.wait(LOOK_EVERY_S):
            try:
                threads = dict(_ask(self._client.nthreads))
            except PipelineError:
                if not self._closed.is_set():
                    self._lost = self._lost_scheduler()
                    self._fail_all(self._lost)
                return
            for address in self._threads.keys() - threads.keys():
                log.warning("worker %s is gone; what it was at is run again elsewhere", address)
            self._threads = threads
            if threads:
                lonely_since = time.monotonic()
            elif time.monotonic() - lonely_since > self._settings.patience_s:
                self._fail_all(self._no_workers())
                lonely_since = time.monotonic()

    def _fail_all(self, error: PipelineError) -> None:
        with self._lock:
            tasks = [*self._flying.values(), *self._suspects, *self._held]
            for waiting in (self._flying, self._suspects, self._held):
                waiting.clear()
        for task in tasks:
            _settle(task.future, None, error)


def _settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    try:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
    except InvalidStateError:  # cancelled, or given up by the watch
        pass


def _killer(task: _Task, killed: Any) -> PipelineError:
    return PipelineError(
        f"this job takes its workers down: {killed.allowed_failures + 1} died of it while nothing else ran",
        where=task.ticket.name,
        do="Is there enough memory for it? Give the workers more, or fewer threads each; their logs say more",
    )


def _connect(settings: DaskSettings, stack: contextlib.ExitStack) -> Any:
    """A client, which is closed with the stack."""
    try:
        import dask
        import distributed
    except ImportError as error:
        raise SettingsError(
            "engine 'dask' needs a package that is not installed", where="engine", do="pip install distributed"
        ) from error
    connect = functools.partial(_made, distributed.Client)
    try:
        if settings.scheduler is not None:
            return stack.enter_context(connect(settings.scheduler, timeout=CONNECT_S, set_as_default=False))
        # a worker that is being started again is not to be given up for good
        stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}))
        own = connect(
            n_workers=settings.workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # the system's own limits hold, as with processes
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,  # what matters of it is said here
            scheduler_kwargs={"allowed_failures": LOCAL_DEATHS},
            preload=["darkpipe.jobs.dask_worker"],
            set_as_default=False,
        )
        return stack.enter_context(own)
    except ValueError as error:
        raise SettingsError(
            f"this is no address of a Dask scheduler: {error}",
            where="dask_scheduler",
            do="It looks like tcp://host:8786",
        ) from error
    except (RuntimeError, OSError, ImportError) as error:  # ImportError: of what Dask is set to load first
        if settings.scheduler is None:
            raise PipelineError(
                f"no Dask cluster could be started here: {error}", where="local cluster", do="Try another --engine"
            ) from error
        raise PipelineError(
            f"no Dask scheduler answers: {error}", where=settings.scheduler, do="Start one with `dask scheduler`"
        ) from error


def _made(kind: Any, *args: Any, **named: Any) -> Any:
    """A client; one whose making fails is closed here, not by the garbage collector.

    That could be in any thread, also in one that holds the lock for which the closing waits: none would go on.
    """
    client = kind.__new__(kind)
    try:
        client.__init__(*args, **named)
    except BaseException:
        with contextlib.suppress(Exception):
            client.close()
        raise
    return client


def _check_workers(client: Any, root: str, settings: DaskSettings) -> None:
    """Refuse workers that lack the package, have other versions, or do not see the output directory."""
    found = _ask(lambda: client.run(dask_worker.facts, on_error="return"))
    for address, facts in found.items():
        if isinstance(facts, Exception):
            raise PipelineError(
                f"a Dask worker cannot do these jobs: {facts}",
                where=address,
                do="Install the same version of darkpipe where the workers run",
            )
        dask_worker.refuse_other(dask_worker.facts(), facts)
    if settings.scheduler is None:
        return
    _check_folder(client, root)
    _await_no_jobs(client, root, settings.patience_s)
    kinds = {dask_worker.processor(), *_ask(lambda: client.run(dask_worker.processor)).values()}
    if len(kinds) > 1:
        log.warning(
            "processors differ (%s): the last bit of a result may depend on who computed it, unless NUMBA_CPU_NAME is "
            "set to one name for all",
            ", ".join(sorted(kinds)),
        )


def _check_folder(client: Any, root: str) -> None:
    token = uuid.uuid4().hex
    probe = Path(root) / f".dask.{os.getpid()}-{uuid.uuid4().int % 10**12}.draft"
    try:
        probe.write_text(token, encoding="utf-8")
        try:
            ask = dask_worker.sees
            found = _ask(lambda: client.run(ask, root, probe.name, token, patience_s=SHOWN_WITHIN_S, on_error="return"))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise PipelineError(
            f"cannot write here: {error.strerror}", where=root, do="Take another --output_dir"
        ) from error
    for address, why in found.items():
        if why:
            raise PipelineError(
                f"the Dask worker at {address} does not share the output directory: {why}",
                where=root,
                do="It must stand on a file system that all workers see under the same path, and may write to",
            )


def _await_no_jobs(client: Any, root: str, patience_s: float) -> None:
    """Wait for jobs that a run which was killed has left at work in this directory.

    Raises
    ------
    BusyError
        if some run after that time.
    """
    until, said = time.monotonic() + patience_s, False
    while True:
        found = _ask(lambda: client.run(dask_worker.running_in, root, on_error="ignore"))
        names = sorted({name for names in found.values() for name in names})
        if not names:
            return
        if time.monotonic() > until:
            raise BusyError(
                f"workers are still at jobs of a run that has ended ({', '.join(names[:3])})",
                where=root,
                do="Wait, or start the workers again",
            )
        if not said:
            log.info("waiting for %d jobs that are still at work: %s", len(names), ", ".join(names[:3]))
            said = True
        time.sleep(0.2)


def _ask(question: Callable[[], Result], patience_s: float = ANSWER_S) -> Result:
    """The answer to a question to the cluster, within a deadline: Dask itself has none for most of them.

    Raises
    ------
    PipelineError
        if none came.
    """
    answers: queue.Queue[tuple[Result | None, BaseException | None]] = queue.Queue(1)

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, name="question to dask", daemon=True).start()
    try:
        answer, error = answers.get(timeout=patience_s)
    except queue.Empty:
        raise PipelineError(f"the Dask cluster has not answered for {patience_s:g} s", do="Run again") from None
    if error is not None:
        raise PipelineError(f"the Dask cluster does not answer: {error}", do="Run again") from error
    return answer  # type: ignore[return-value]
