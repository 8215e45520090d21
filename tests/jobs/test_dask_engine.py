"""The Dask engine on real clusters of two worker processes: what it makes, and what it does when parts of it die.

Everything has a deadline, so that a cluster that hangs is a failure and no wait without end.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
from dask_helpers import AtJob, kill_a_worker, within
from test_master_controller import PROJECT, labels, products
from toy_steps import controller, write_frames

from darkpipe.errors import BusyError, PipelineError, SettingsError
from darkpipe.jobs import dask_engine, dask_worker
from darkpipe.jobs.engine import open_engine
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.report import NoProgress, RunReport

distributed = pytest.importorskip("distributed", reason="pip install distributed")
dask = pytest.importorskip("dask", reason="pip install distributed")

NAMES = [f"a-{cell}-{number}" for cell in "pqrstuvwxyz" for number in (1, 2)]
PATIENCE_S = 60.0
SEARCH = os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])


@contextlib.contextmanager
def cluster_of(workers: int, **more: Any) -> Iterator[Any]:
    """A cluster of its own, as a user would start it beside the pipeline."""
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})
    with (
        patient,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            **more,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SEARCH)
        with cluster_of(2) as made:
            yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_frames(tmp_path / "raw", *NAMES)
    return tmp_path


@pytest.fixture
def expected(root: Path) -> dict[str, bytes]:
    """What the engine of threads makes."""
    assert controller(root).run("full").exit_code == 0
    made = products(root)
    (root / "out").rename(root / "threads")
    return made


def dask_run(root: Path, scheduler: str | None, seconds: float = 300.0, progress: Any = None, **more: Any) -> RunReport:
    made = controller(root, engine="dask", dask_scheduler=scheduler, dask_patience_s=PATIENCE_S, **more)
    made.progress = progress or NoProgress()
    return within(seconds, lambda: made.run("full"))


def workers_of(scheduler: str) -> list[int]:
    with distributed.Client(scheduler, set_as_default=False) as client:
        return sorted(client.run(os.getpid).values())


# products
def test_a_cluster_makes_what_threads_make(root: Path, cluster: Any, expected: dict[str, bytes]) -> None:
    report = dask_run(root, cluster.scheduler_address)
    assert report.exit_code == 0
    assert products(root) == expected
    assert dask_run(root, cluster.scheduler_address).up_to_date


def test_a_killed_worker_costs_nothing_but_time(
    root: Path, cluster: Any, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = workers_of(cluster.scheduler_address)
    kill = AtJob(len(NAMES) + 4, lambda: os.kill(before[0], signal.SIGKILL))
    report = dask_run(root, cluster.scheduler_address, progress=kill, cells={"pause_s": 0.4})
    assert kill.left <= 0
    assert report.exit_code == 0
    assert products(root) == expected
    assert before[0] not in workers_of(cluster.scheduler_address)
    assert len(report.jobs) == len(NAMES) + 1 + 12 + 4 + 11


def test_the_cluster_of_its_own_survives_a_killed_worker(root: Path, expected: dict[str, bytes]) -> None:
    killed: list[int] = []
    report = dask_run(
        root, None, progress=AtJob(len(NAMES) + 4, lambda: killed.append(kill_a_worker())), cells={"pause_s": 0.4}
    )
    assert killed
    assert report.exit_code == 0
    assert products(root) == expected


def test_a_job_that_kills_its_workers_fails_alone(root: Path, cluster: Any, expected: dict[str, bytes]) -> None:
    (root / "raw" / "a-s-1.txt").write_text("999")
    report = dask_run(root, cluster.scheduler_address, seconds=400.0)
    (failure,) = report.failures
    assert failure.label == "master s"
    assert failure.error.exit_code == 1
    assert "takes its workers down" in str(failure)
    made = {job.label for job in report.jobs if job.error is None}
    assert {f"master {cell}" for cell in "pqrtuvwxyz"} < made
    (root / "raw" / "a-s-1.txt").write_text(str(sum(b"a-s-1")))
    report = dask_run(root, cluster.scheduler_address)
    assert labels(report)[:3] == ["survey a-s-1.txt", "index", "master s"]
    assert products(root) == expected


def test_errors_and_bugs_come_back(root: Path, cluster: Any) -> None:
    (root / "raw" / "a-s-1.txt").write_text("-1")
    report = dask_run(root, cluster.scheduler_address)
    assert "a negative value" in str(report.failures[0])
    (root / "raw" / "a-s-1.txt").write_text("666")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        dask_run(root, cluster.scheduler_address)


# the end of a run
@contextlib.contextmanager
def toy_process(root: Path, scheduler: str, pause_s: float) -> Iterator[subprocess.Popen[bytes]]:
    call = f"import pathlib, toy_steps; toy_steps.main(pathlib.Path({str(root)!r}), 'dask', {pause_s}, {scheduler!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", call],
        env={**os.environ, "PYTHONPATH": SEARCH},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=180)


def at_work(scheduler: str, root: Path) -> list[str]:
    with distributed.Client(scheduler, set_as_default=False) as client:
        told = client.run(dask_worker.running_in, str(root / "out"))
    return [name for names in told.values() for name in names]


def until(condition: Callable[[], Any], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_an_interrupt_waits_for_what_runs_and_keeps_it(root: Path, cluster: Any, expected: dict[str, bytes]) -> None:
    scheduler = cluster.scheduler_address
    with toy_process(root, scheduler, 1.5) as process:
        until(lambda: any("master" in name for name in at_work(scheduler, root)))
        process.send_signal(signal.SIGINT)
        process.wait(timeout=180)
        assert process.returncode != 0
        assert at_work(scheduler, root) == []
    made = {path.stem for path in (root / "out" / "masters").glob("*.txt")}
    assert made
    journal = Journal(root / "out", read_only=True)
    assert all(journal.maker(f"masters/{name}.txt") for name in made)
    assert len(made) < 11
    time.sleep(0.5)
    assert {path.stem for path in (root / "out" / "masters").glob("*.txt")} == made
    report = dask_run(root, scheduler, cells={"pause_s": 1.5})
    assert not {f"master {name}" for name in made} & set(labels(report))
    assert products(root) == expected


def test_the_next_run_waits_for_the_jobs_of_one_that_was_killed(
    root: Path, cluster: Any, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = cluster.scheduler_address
    with toy_process(root, scheduler, 4.0):
        until(lambda: any("master" in name for name in at_work(scheduler, root)))
        with (
            distributed.Client(scheduler, set_as_default=False) as client,
            pytest.raises(BusyError, match="workers are still at jobs of a run that has ended"),
        ):
            dask_engine._await_no_jobs(client, str(root / "out"), 0.0)
    with caplog.at_level(logging.INFO, "darkpipe"):
        report = dask_run(root, scheduler)
    assert "still at work: master" in caplog.text
    assert report.exit_code == 0
    assert products(root) == expected


# what is refused, and when waiting ends
def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_no_scheduler_is_said_in_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "CONNECT_S", 0.5)
    address = f"tcp://127.0.0.1:{free_port()}"
    report = dask_run(root, address, seconds=200.0)
    assert report.exit_code == 1
    assert "no Dask scheduler answers" in str(report.failures[0])
    assert address in str(report.failures[0])


@pytest.mark.parametrize("address", ["carrier-pigeon://host:1", "tcp://host:port"])
def test_an_address_that_is_none(tmp_path: Path, address: str) -> None:
    with pytest.raises(SettingsError, match="no address of a Dask scheduler"):
        within(200.0, lambda: open_engine("dask", 1, address, root=tmp_path))
    left = [client for client in gc.get_objects() if type(client) is distributed.Client]
    assert {client.status for client in left} <= {"closed"}  # the collector would close it in any thread, and block it


def test_a_cluster_without_workers(tmp_path: Path) -> None:
    with cluster_of(0) as empty:
        address = empty.scheduler_address
        with pytest.raises(PipelineError, match=r"no worker for 0\.5 s"):
            within(200.0, lambda: open_engine("dask", 1, address, root=tmp_path, patience_s=0.5))


def test_workers_that_leave_for_good_end_the_run(root: Path) -> None:
    with cluster_of(1) as brief:
        leave = AtJob(len(NAMES) + 3, lambda: brief.scale(0))
        made = controller(
            root, engine="dask", dask_scheduler=brief.scheduler_address, dask_patience_s=1.5, cells={"pause_s": 0.5}
        )
        made.progress = leave
        report = within(200.0, lambda: made.run("full"))
    assert report.exit_code == 1
    assert "has had no worker for 1.5 s" in str(report.failures[0])


@contextlib.contextmanager
def scheduler_process() -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a scheduler with one worker, and what kills it."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    line = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    scheduler = subprocess.Popen([*line, "--no-dashboard"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = worker_process(address, SEARCH, "--no-nanny")
    try:
        until(lambda: workers_of(address))
        yield address, scheduler.kill
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait(timeout=180)


def test_a_scheduler_that_dies_ends_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    monkeypatch.setattr(dask_engine, "CONNECT_S", 5.0)
    with scheduler_process() as (address, kill):
        report = dask_run(root, address, progress=AtJob(len(NAMES) + 3, kill), cells={"pause_s": 0.5})
    assert report.exit_code == 1
    assert "connection to the Dask scheduler was lost" in str(report.failures[0])
    assert controller(root).run("full").exit_code == 0
    assert products(root) == expected


def refuses(engine: Executor) -> bool:
    try:
        engine.submit(len, "ab")
    except PipelineError as error:
        return "connection to the Dask scheduler was lost" in str(error)
    return False


def test_no_job_is_sent_to_a_scheduler_that_has_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "CONNECT_S", 2.0)
    with scheduler_process() as (address, kill):
        engine = within(200.0, lambda: open_engine("dask", 1, address, root=tmp_path))
        assert engine.submit(len, "abc").result(timeout=200.0) == 3
        kill()
        until(lambda: refuses(engine))
        within(200.0, engine.shutdown)


def worker_process(address: str, search: str, *more: str, hidden: Path | None = None) -> subprocess.Popen[bytes]:
    """A worker as a cluster's node has it; `hidden`: a folder that it sees an empty one in place of."""
    line = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", *more]
    if hidden is not None:
        shell = f'mount -t tmpfs none "{hidden}" && exec "$@"'
        line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh", *line]
    env = {**os.environ, "PYTHONPATH": search}
    return subprocess.Popen(line, env=env, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def foreign_worker(search: str, hidden: Path | None = None) -> Iterator[str]:
    with cluster_of(0) as cluster:
        process = worker_process(cluster.scheduler_address, search, "--no-nanny", hidden=hidden)
        try:
            yield cluster.scheduler_address
        finally:
            process.terminate()
            process.wait(timeout=180)


def test_a_worker_with_another_version_is_refused(root: Path) -> None:
    other = root / "other"
    for package in ("darkpipe", "steps"):
        (other / package).parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-r", str(PROJECT / package), str(other / package)], check=True)
    text = (other / "darkpipe" / "version.py").read_text()
    (other / "darkpipe" / "version.py").write_text(text.replace('__version__ = "', '__version__ = "9.'))
    with foreign_worker(str(other)) as address:
        report = dask_run(root, address, seconds=200.0)
    said = str(report.failures[0])
    assert "a Dask worker has other versions than the run: darkpipe 9." in said
    assert "numpy" not in said
    assert report.exit_code == 1


def test_a_worker_without_the_package_is_refused(root: Path) -> None:
    with foreign_worker("") as address:
        report = dask_run(root, address, seconds=200.0)
    assert "No module named 'darkpipe'" in str(report.failures[0])


def can_hide() -> bool:
    line = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    with contextlib.suppress(OSError):
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    return False


@pytest.mark.skipif(not can_hide(), reason="needs `unshare` of util-linux, and user namespaces")
def test_a_worker_that_does_not_see_the_folder_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "SHOWN_WITHIN_S", 0.5)
    (root / "out").mkdir()
    with foreign_worker(SEARCH, hidden=root / "out") as address:
        report = dask_run(root, address, seconds=200.0)
    assert "does not share the output directory: No such file" in str(report.failures[0])
    assert not [path for path in (root / "out").iterdir() if "dask" in path.name]


def test_a_late_worker_with_other_versions_fails_its_jobs(tmp_path: Path) -> None:
    mine = dask_worker.facts()
    ticket = dask_worker.Ticket("run", str(tmp_path), 1, "tile 1", {**mine, "numpy": "0.1", "scipy": mine["scipy"]})
    with pytest.raises(PipelineError, match=r"other versions than the run: numpy .*, not 0\.1 \["):
        dask_worker.run_job(ticket, len, ("abc",))


def test_a_job_of_a_run_that_is_over_does_not_begin(tmp_path: Path) -> None:
    ticket = dask_worker.Ticket("over", str(tmp_path), 1, "tile 1", dask_worker.facts())
    assert dask_worker.run_job(ticket, len, ("abc",)) == 3
    assert dask_worker.end_run("over") == []
    with pytest.raises(dask_worker.RunOverError):
        dask_worker.run_job(ticket, len, ("abc",))


def test_nothing_is_left_where_a_worker_cannot_write(tmp_path: Path) -> None:
    (tmp_path / ".dask.1-2.draft").write_text("token")
    assert dask_worker.sees(str(tmp_path), ".dask.1-2.draft", "token", patience_s=0.0) == ""
    assert "reads otherwise" in dask_worker.sees(str(tmp_path), ".dask.1-2.draft", "other", patience_s=0.0)
    assert [path.name for path in tmp_path.iterdir()] == [".dask.1-2.draft"]


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    answered = threading.Event()
    with pytest.raises(PipelineError, match=r"the Dask cluster has not answered for 0\.1 s"):
        dask_engine._ask(lambda: answered.wait(60.0), 0.1)
    answered.set()
    with cluster_of(0) as gone:
        client = distributed.Client(gone.scheduler_address, set_as_default=False)
        client.close()
        with pytest.raises(PipelineError, match="the Dask cluster does not answer"):
            dask_engine._ask(client.nthreads)
    with pytest.raises(PipelineError, match="cannot write here: No such file or directory"):
        dask_engine._check_folder(client, str(tmp_path / "gone"))
