"""A batch of jobs on an executor: bounded in memory, checked, recorded as results come."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from darkpipe.errors import PipelineError
from darkpipe.jobs.contract import Job, Step
from darkpipe.jobs.freshness import Content, Known, await_contents
from darkpipe.jobs.journal import Journal, Outcome, Seen
from darkpipe.jobs.report import JobRun, NoProgress, Progress
from darkpipe.jobs.stamps import identity, stamp
from darkpipe.same_file import Stamp

log = logging.getLogger("darkpipe")

Origins: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What the journal knows of the inputs of a job, by path as text."""

PENDING_PER_WORKER = 4
COMMIT_EVERY_S = 10.0
LOOK_EVERY_S = 1.0  # some systems deliver Ctrl-C only between two waits


class StaleJob:
    """A job with the reason why it is to be run, and what became of it."""

    def __init__(self, job: Job, reason: str, forced: bool = False) -> None:
        self.job, self.reason, self.forced = job, reason, forced
        self.error: PipelineError | None = None
        self.ended = False

    def described(self, step: Step, campaign: str) -> JobRun:
        """What a report says of it."""
        return JobRun(step.NAME, campaign, self.job.name, self.reason, self.job.outputs, self.error, self.job.in_order)


class Runner:
    """Runs batches and records them.

    Parameters
    ----------
    journal : where jobs are looked up and recorded.
    open_executor : called at the first job that needs it: a run that does nothing starts no processes.
    workers : how many jobs run at a time.
    progress : is told of each job.
    stop : once it is set, the run goes on as after an interrupt, which reaches the main thread alone.
    """

    def __init__(
        self,
        journal: Journal,
        open_executor: Callable[[], Executor],
        workers: int,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._journal, self._open_executor, self._workers = journal, open_executor, workers
        self._progress = progress or NoProgress()
        self._executor: Executor | None = None
        self._used: dict[str, str] = {}
        self._read_before: dict[str, str] = {}
        self._committed_s = time.monotonic()

    def rely_on(self, earlier: Sequence[Step]) -> None:
        """Raw frames are to be as these steps have read them, which are no part of this run: their tables hold."""
        for step in earlier:
            for key, content in self._journal.read_by(step.NAME).items():
                self._read_before.setdefault(key, content)

    def stale(self, step: Step, jobs: Sequence[Job], *, force: bool = False) -> list[StaleJob]:
        """The jobs of a batch that have to be run, each with its reason."""
        seen: Seen = {}
        stale = []
        for job in jobs:
            reason = self._journal.stale(step, job, seen) or ("forced" if force else None)
            if reason is not None:
                stale.append(StaleJob(job, reason, force))
        for key, content in seen.items():
            if content is not None:
                self._used.setdefault(key, content)
        return stale

    def run(self, step: Step, campaign: str, stale: Sequence[StaleJob]) -> list[JobRun]:
        """Run jobs that are independent of each other, and record those that succeed; returns those that were run.

        A `PipelineError` fails its job; the others are finished, but those that go in order. At any other exception,
        and at an interrupt, no further job is started, those that run are finished and recorded, and it is raised
        again.
        """
        self._progress.begin(" ".join(filter(None, (step.NAME, campaign))), len(stale))
        try:
            if self._read_before:
                for item in stale:
                    self._refuse_others(item)
            due = [item for item in stale if not item.ended]
            for item in due:
                if item.job.in_order:
                    self._settle(step, campaign, item, partial(execute, item.job, item.forced, self._origins(item)))
                    self._commit_if_due()
                    if item.error is not None:
                        break
            self._run_pooled(step, campaign, [item for item in due if not item.job.in_order])
        finally:
            self._journal.commit()
            self._progress.end()
        return [item.described(step, campaign) for item in stale if item.ended]

    def _refuse_others(self, item: StaleJob) -> None:
        """Fail a job whose raw frames are others than its plan knows: it would put the pixels of one under the header
        of another."""
        for path in item.job.inputs:
            key = self._journal.key(path)
            if key not in self._read_before:
                continue
            try:
                if self._journal.is_other(key, self._read_before[key]):
                    what = "this frame is another one than an earlier step has read"
                    raise PipelineError(what, where=path, do="Run without --from_step")
            except PipelineError as error:
                item.error, item.ended = error, True
                return

    def close(self) -> None:
        """Record what is left, and end the workers, whatever the disk says. Raises as `Journal.commit`."""
        try:
            self._journal.commit()
        finally:
            if self._executor is not None:
                self._executor.shutdown(wait=True, cancel_futures=True)
                self._executor = None

    def _run_pooled(self, step: Step, campaign: str, stale: Sequence[StaleJob]) -> None:
        waiting = iter(stale)
        pending: dict[Future[Outcome], StaleJob] = {}
        try:
            while True:
                if self._stop.is_set():
                    raise KeyboardInterrupt
                while len(pending) < self._most_pending() and (item := next(waiting, None)):
                    pending[self._submit(item)] = item
                if not pending:
                    return
                done, _ = wait(pending, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(step, campaign, pending[future], future.result)
                    del pending[future]  # after: what an interrupt meets here is settled once more, not forgotten
                self._commit_if_due()
        except BaseException:
            for future in pending:
                future.cancel()
            self._finish(step, campaign, pending)
            raise

    def _most_pending(self) -> int:
        return PENDING_PER_WORKER * int(getattr(self._executor, "slots", self._workers))

    def _finish(self, step: Step, campaign: str, pending: Mapping[Future[Outcome], StaleJob]) -> None:
        """After a bug or an interrupt: wait for the jobs that run, and record them."""
        for future, item in pending.items():
            try:
                self._settle(step, campaign, item, future.result)
            except CancelledError:
                continue
            except Exception:  # the first one is raised already; this one is for the log
                log.exception("%s: %s", step.NAME, item.job.name)

    def _submit(self, item: StaleJob) -> Future[Outcome]:
        if self._executor is None:
            self._executor = self._open_executor()
        try:
            known = self._known(item.job) if getattr(self._executor, "shares_files", False) else None
            return self._executor.submit(execute, item.job, item.forced, self._origins(item), known)
        except (BrokenExecutor, PipelineError) as error:
            broken: Future[Outcome] = Future()
            broken.set_exception(error)
            return broken

    def _origins(self, item: StaleJob) -> Origins | None:
        return self._journal.origins(item.job.inputs) if item.job.origins else None

    def _known(self, job: Job) -> Known:
        """Inputs as this run has seen or made them."""
        known = {}
        for path in job.inputs:
            file = self._journal.latest(self._journal.key(path))
            if file is not None and self._used.get(file.path) == file.digest:
                known[str(path)] = Content(Stamp(file.size, file.mtime_ns), file.digest)
        return known

    def _settle(self, step: Step, campaign: str, item: StaleJob, outcome_of: Callable[[], Outcome]) -> None:
        try:
            outcome = outcome_of()
            self._record(step, campaign, item.job, outcome)
        except PipelineError as error:
            item.error = error
        except BrokenExecutor:
            item.error = PipelineError(
                "a worker process died (out of memory?)", where=item.job.name, do="Try fewer --workers"
            )
        item.ended = True
        if item.error is None:  # what failed is told at the end of the batch
            log.info("%s: made %s (%s)", step.NAME, item.job.name, item.reason, extra={"detail": True})
        self._progress.advance(item.job.name)

    def _record(self, step: Step, campaign: str, job: Job, outcome: Outcome) -> None:
        if getattr(self._executor, "shares_files", False) and not job.in_order:
            said = {str(path): digest for path, digest in outcome.digests.items()}
            made = zip(job.outputs, outcome.outputs, strict=True)
            await_contents({str(path): Content(taken, said.get(str(path), "")) for path, taken in made})
        contents = self._journal.contents(job, outcome)
        for path in job.inputs:
            key = self._journal.key(path)
            if self._used.setdefault(key, contents[key]) != contents[key]:
                _discard(job)
                raise _changed(path)
        self._journal.record(step, job, outcome, campaign, contents=contents)
        for path in job.outputs:
            key = self._journal.key(path)
            self._used[key] = contents[key]

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._committed_s > COMMIT_EVERY_S:
            self._journal.commit()
            self._committed_s = time.monotonic()


def execute(job: Job, forced: bool = False, origins: Origins | None = None, known: Known | None = None) -> Outcome:
    """Call a job where the worker is, and see to it that it did what it says.

    origins : for a job that asks for them, see `Job`. known : inputs as the controller sees them, where that may be
    otherwise than here for a while.

    Raises
    ------
    PipelineError
        of the job itself; or if an input is missing or changed meanwhile, or an output was not replaced.
    TypeError
        if the function does not return digests.
    """
    if known is not None:
        await_contents(known)
    inputs = tuple(_present(path) for path in job.inputs)
    before = [identity(path) for path in job.outputs]
    further = {**(job.when_forced if forced else {}), **({} if origins is None else {"origins": origins})}
    digests = job.function(job.inputs, job.outputs, **job.params, **further)
    if not isinstance(digests, Mapping):
        raise TypeError(f"{job.function.__qualname__} must return digests by path, not {type(digests).__name__}")
    for path, then in zip(job.inputs, inputs, strict=True):
        if stamp(path) != then:
            _discard(job)
            raise _changed(path)
    outputs = []
    for path, old in zip(job.outputs, before, strict=True):
        new = identity(path)
        if new is None:
            raise PipelineError("the job ended without making this file", where=path)
        if new == old:
            raise PipelineError("the job ended without replacing this file", where=path)
        outputs.append(Stamp(new.size, new.mtime_ns))
    return Outcome(dict(digests), inputs, tuple(outputs))


def _discard(job: Job) -> None:
    """Remove what a job made of two versions of a file: a later run that begins behind it would take it as it is."""
    for path in job.outputs:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _present(path: Path) -> Stamp:
    found = stamp(path)
    if found is None:
        raise PipelineError("an input is missing", where=path, do="Run again from the step that makes it")
    return found


def _changed(path: Path) -> PipelineError:
    return PipelineError("this file changed while the pipeline runs", where=path, do="Run again")
