"""Batches: what a job must have done, how many are under way, what a failure leaves."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import toy_steps

from darkpipe.errors import PipelineError, ProductError
from darkpipe.files.atomic import file_digest, replace_text
from darkpipe.jobs.contract import Digests, Job
from darkpipe.jobs.engine import open_engine
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.report import JobRun, NoProgress
from darkpipe.jobs.runner import PENDING_PER_WORKER, Runner, StaleJob, execute

STEP = toy_steps.STEPS[2]


def write(inputs: Any, outputs: tuple[Path, ...], text: str = "x") -> Digests:
    return {path: replace_text(path, text) for path in outputs}


def nothing(inputs: Any, outputs: Any) -> Digests:
    return {}


def no_digests(inputs: Any, outputs: tuple[Path, ...]) -> Any:
    replace_text(outputs[0], "x")


def disturb(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> Digests:
    inputs[0].write_text("something else")
    return write(inputs, outputs)


def fail(inputs: Any, outputs: Any) -> Digests:
    raise PipelineError("no", where=outputs[0])


class Counting(Executor):
    """Counts how many jobs are under way at most."""

    def __init__(self) -> None:
        self.inner, self.now, self.most, self.lock = ThreadPoolExecutor(2), 0, 0, threading.Lock()

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        future = self.inner.submit(fn, *args, **kwargs)
        future.add_done_callback(lambda _: self.ended())
        return future

    def ended(self) -> None:
        with self.lock:
            self.now -= 1


def run(root: Path, jobs: list[Job], executor: Executor | None = None) -> list[JobRun]:
    runner = Runner(Journal(root), lambda: executor or ThreadPoolExecutor(2), 2)
    try:
        return runner.run(STEP, "", runner.stale(STEP, jobs))
    finally:
        runner.close()


def test_an_output_must_be_replaced(tmp_path: Path) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("of an earlier run")
    with pytest.raises(PipelineError, match="without replacing this file"):
        execute(Job(nothing, (), (old,), {}))
    with pytest.raises(PipelineError, match="without making this file"):
        execute(Job(nothing, (), (new,), {}))
    with pytest.raises(TypeError, match="must return digests"):
        execute(Job(no_digests, (), (new,), {}))
    assert execute(Job(write, (), (old, new), {"text": "of an earlier run"})).outputs[0].size == 17


def test_an_input_that_is_gone_or_changes_fails_the_job(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    runs = run(tmp_path, [Job(write, (source,), (tmp_path / "a.txt",), {})])
    assert "an input is missing" in str(runs[0].error)
    source.write_text("here")
    runs = run(tmp_path, [Job(disturb, (source,), (tmp_path / "a.txt",), {})])
    assert "changed while the pipeline runs" in str(runs[0].error)
    assert len(run(tmp_path, [Job(write, (source,), (tmp_path / "a.txt",), {})])) == 1


def test_failures_leave_the_others_recorded(tmp_path: Path) -> None:
    jobs = [Job(fail if n % 3 == 0 else write, (), (tmp_path / f"{n}.txt",), {}) for n in range(10)]
    runs = run(tmp_path, jobs)
    assert [str(n) for n, item in enumerate(runs) if item.error] == ["0", "3", "6", "9"]
    assert len(run(tmp_path, jobs)) == 4


def test_few_jobs_are_under_way(tmp_path: Path) -> None:
    counting = Counting()
    jobs = [Job(write, (), (tmp_path / f"{n}.txt",), {}) for n in range(60)]
    assert len(run(tmp_path, jobs, counting)) == 60
    assert 2 < counting.most <= PENDING_PER_WORKER * 2


def test_nothing_is_opened_for_nothing(tmp_path: Path) -> None:
    runner = Runner(Journal(tmp_path), lambda: pytest.fail("opened"), 2)
    assert runner.run(STEP, "", []) == []
    runner.close()


def test_jobs_in_order_stay_here_and_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def expose(inputs: Any, outputs: tuple[Path, ...]) -> Digests:
        seen.append((outputs[0].name, threading.get_ident()))
        time.sleep(0.001)
        return write(inputs, outputs)

    jobs = [Job(expose, (), (tmp_path / f"{n}.txt",), {}, in_order=True) for n in range(5)]
    runner = Runner(Journal(tmp_path), lambda: pytest.fail("opened"), 2)
    runner.run(STEP, "", runner.stale(STEP, jobs))
    runner.close()
    assert seen == [(f"{n}.txt", threading.get_ident()) for n in range(5)]


def test_a_dead_worker_is_an_expected_failure(tmp_path: Path) -> None:
    class Dead(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            raise BrokenProcessPool("killed")

    runs = run(tmp_path, [Job(write, (), (tmp_path / "a.txt",), {})], Dead())
    assert "a worker process died" in str(runs[0].error)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_engines_carry_jobs_and_errors(tmp_path: Path, kind: Any) -> None:
    with open_engine(kind, 1) as executor:
        replaced = Job(toy_steps.synthesise, (tmp_path / "m.txt",), (tmp_path / "a.txt",), {"cell": "x"})
        with pytest.raises(PipelineError, match="an input is missing") as caught:
            executor.submit(execute, replaced).result()
        assert caught.value.where == str(tmp_path / "m.txt")
        (tmp_path / "m.txt").write_text("m")
        assert executor.submit(execute, replaced).result().outputs[0].size == 3


def test_a_forced_job_gets_its_further_arguments_and_no_other_recipe(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    job = Job(write, (), (target,), {}, when_forced={"text": "anew"})
    with contextlib.closing(Runner(Journal(tmp_path), lambda: ThreadPoolExecutor(1), 1)) as runner:
        runner.run(STEP, "", runner.stale(STEP, [job]))
        assert target.read_text() == "x"
        assert runner.stale(STEP, [job]) == []
        runner.run(STEP, "", runner.stale(STEP, [job], force=True))
        assert target.read_text() == "anew"
        assert runner.stale(STEP, [job]) == []


def tell(inputs: tuple[Path, ...], outputs: tuple[Path, ...], origins: dict[str, Any], **params: Any) -> Digests:
    return {outputs[0]: replace_text(outputs[0], json.dumps(origins | params))}


@pytest.mark.parametrize("in_order", [False, True])
def test_a_job_that_asks_is_told_where_its_inputs_come_from(tmp_path: Path, in_order: bool) -> None:
    source, made, told = (tmp_path / name for name in ("in.txt", "made.txt", "told.txt"))
    source.write_text("raw")
    job = Job(tell, (source, made), (told,), {"a": 1}, in_order=in_order, origins=True)
    run(tmp_path, [Job(write, (source,), (made,), {})])
    assert [item.error for item in run(tmp_path, [job])] == [None]
    known = json.loads(told.read_text())
    assert known["a"] == 1
    assert known[str(source)] == {"digest": file_digest(source), "size": 3}
    assert known[str(made)] == {"digest": file_digest(made), "size": 1, "step": STEP.NAME, "version": STEP.VERSION}
    assert run(tmp_path, [job]) == []  # what is told is no part of the recipe: only contents count
    source.write_text("other")
    assert [item.reason for item in run(tmp_path, [job])] == ["input changed: in.txt"]


def test_origins_of_an_input_that_is_gone_fail_the_job_alone(tmp_path: Path) -> None:
    jobs = [
        Job(tell, (tmp_path / "nothing.txt",), (tmp_path / "a.txt",), {}, origins=True),
        Job(write, (), (tmp_path / "b.txt",), {}),
    ]
    runs = run(tmp_path, jobs)
    assert sorted(str(item.error) for item in runs)[0] == "None"
    assert any("an input is missing" in str(item.error) for item in runs)


def test_workers_end_although_the_journal_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, journal = ThreadPoolExecutor(2), Journal(tmp_path)
    runner = Runner(journal, lambda: executor, 2)
    runner.run(STEP, "", runner.stale(STEP, [Job(write, (), (tmp_path / "a",), {})]))

    def refuse() -> None:
        raise ProductError("cannot write the journal")

    monkeypatch.setattr(journal, "commit", refuse)
    with pytest.raises(ProductError):
        runner.close()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(print)


class Begun(NoProgress):
    """How many batches have begun, and not ended."""

    open = 0

    def begin(self, name: str, jobs: int) -> None:
        self.open += 1

    def end(self) -> None:
        self.open -= 1


def test_a_frame_that_cannot_be_read_any_more_fails_its_job_alone(tmp_path: Path) -> None:
    lost, kept, table, first, second = (tmp_path / name for name in ("lost", "kept", "table", "first", "second"))
    lost.write_text("1")
    kept.write_text("2")
    run(tmp_path, [Job(write, (lost, kept), (table,), {})])
    lost.unlink()
    lost.mkdir()  # nobody can read that, whatever rights they have
    later, progress = toy_steps.STEPS[3], Begun()
    jobs = [Job(write, (lost,), (first,), {}), Job(write, (kept,), (second,), {})]
    with contextlib.closing(Runner(Journal(tmp_path), lambda: ThreadPoolExecutor(1), 1, progress)) as runner:
        runner.rely_on([STEP])
        runs = runner.run(later, "", [StaleJob(job, "never made") for job in jobs])
    assert ["cannot read" in str(item.error) for item in runs] == [True, False]
    assert second.read_text() == "x"
    assert progress.open == 0
