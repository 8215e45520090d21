"""Runs that are killed at random moments and begun again, until everything is there: by kill -9 alone, with a clock
that jumps, and with the folder moved between the runs."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import pipeline_command
from benchmarks.crash_rig import DEADLINE_S, TOKEN, Job, Server, faults_of, tracebacks
from benchmarks.robustness_rows import Row

KILLS_OF_A_CHAIN = 4  # then the run may end
EARLIEST = 0.02  # of the time of an unbroken run


@dataclass
class Tally:
    """What came of some kills. when : after which part of an unbroken run's time."""

    kills: int = 0
    chains: int = 0
    too_late: int = 0
    orphans_s: float = 0.0
    broken: list[str] = field(default_factory=list)
    when: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Way:
    """How runs are broken: which engine, as which kind of process, under which circumstances."""

    engine: str = "threads"
    real: bool = False
    clock: bool = False
    moved: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """For the command line."""
        return () if self.engine == "threads" else ("--engine", self.engine)


def chain(job: Job, way: Way, folder: Path, server: Server, rng: random.Random, tally: Tally, most: int) -> None:
    """One folder from its beginning to its end, killed on the way: the last run is left alone and must complete it."""
    root = job.fresh(folder / "chain")
    server.forget()
    usual_s = job.seconds if way.engine == "threads" and not way.real else job.seconds + STARTUP_S
    for number in range(most):
        after_s = rng.uniform(EARLIEST, 0.7) * usual_s
        code, told = killed(job, way, root, server, after_s, rng)
        tally.orphans_s = max(tally.orphans_s, server.orphans_s())
        if code != -signal.SIGKILL:
            tally.too_late += 1
            if code:
                tally.broken.append(f"{job.name}, {way}: run {number} ended with {code}: {told[-300:]}")
            break
        tally.kills += 1
        if way.moved:
            target = folder / f"moved-{rng.randrange(10**6)}"
            root = Path(shutil.move(root, target))
    code = server.run(*order_of(job, way, root, rng), shim=shim_of(way, rng))
    told = server.said
    wrong = faults_of(job, root)
    wrong += [f"the run ended with {code}: {told[-600:]}"] if code else []
    wrong += [f"a traceback: {text[:1500]}" for text in tracebacks(told)]
    if not wrong and (code := again(job, root, server)):
        wrong.append(f"one more run {code}")
    tally.broken += [f"{job.name}, {way}: {text}" for text in wrong]
    tally.chains += 1
    shutil.rmtree(root)


STARTUP_S = 2.0  # interpreter and imports, of a process of its own


def killed(job: Job, way: Way, root: Path, server: Server, after_s: float, rng: random.Random) -> tuple[int, str]:
    """Start a run and kill it; exit code and what it said."""
    if way.real and not job.frames:
        arguments = [str(part) for part in job.order(root, *way.flags)[1:]]
        line, environment = [*pipeline_command(), *arguments], {**os.environ, TOKEN: server.token}
        pipe: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with subprocess.Popen(line, env=environment, **pipe) as process:
            time.sleep(after_s)
            process.send_signal(signal.SIGKILL)
            told, _ = process.communicate(timeout=DEADLINE_S)
        return process.returncode, told
    code = server.killed(*order_of(job, way, root, rng), after_s=after_s, shim=shim_of(way, rng))
    return code, server.said


def order_of(job: Job, way: Way, root: Path, rng: random.Random) -> tuple[Any, ...]:
    """What the server is told; the clock of a camera is injected, and jumps by itself."""
    if job.frames:
        return (*job.order(root), *((rng.randrange(10**9),) if way.clock else ()))
    return job.order(root, *way.flags)


def shim_of(way: Way, rng: random.Random) -> Mapping[str, Any]:
    """The clock of the process."""
    return {"clock": rng.randrange(10**9)} if way.clock else {}


def again(job: Job, root: Path, server: Server) -> str:
    """What one more run does that it should not, in words; '' if it finds everything made."""
    if job.frames:
        return ""
    journals = {path: path.read_bytes() for path in root.rglob("journal.jsonl")}
    code = server.run(*job.order(root))
    if code:
        return f"ended with {code}"
    changed = [path.parent.name for path, content in journals.items() if path.read_bytes() != content]
    return f"made something in {changed}" if changed else ""


def row_of(name: str, job: Job, ways: list[Way], kills: int, folder: Path, server: Server, seed: int) -> Row:
    """Kill so many runs of a job, in the given ways in turn."""
    rng, tally, begin = random.Random(f"{seed} {name}"), Tally(), time.monotonic()
    for way in endless(ways):
        if tally.kills >= kills or tally.broken or tally.too_late > 3 * kills:
            break
        chain(job, way, folder, server, rng, tally, min(KILLS_OF_A_CHAIN, kills - tally.kills))
    if tally.orphans_s > MOST_ORPHANS_S:
        tally.broken.append(f"{name}: a worker outlived its run by {tally.orphans_s:.1f} s")
    ended = "" if not tally.too_late else f", {tally.too_late} ended before"
    note = f"{tally.kills} kills in {tally.chains} folders{ended}; workers gone after {1e3 * tally.orphans_s:.0f} ms"
    good = tally.kills - len(tally.broken)
    return Row(name, tally.kills, good, 0, tally.broken, time.monotonic() - begin, None, note)


MOST_ORPHANS_S = 9.0  # of a worker that was still importing when its controller died, on a busy machine


def endless(ways: list[Way]) -> Iterator[Way]:
    """One after the other, again and again."""
    while True:
        yield from ways


def rows(jobs: list[Job], folder: Path, server: Server, full: bool, seed: int = 7) -> Iterator[Row]:
    """All kills: 200 in full, each job on threads and on processes, and with clock and folder in motion."""
    threads = [Way(), Way(), Way(), Way(real=True)]
    processes = [Way("processes"), Way("processes", real=True)]
    acquisition = jobs[-1]
    for job, on_threads, on_processes in zip(jobs, (64, 28, 28, 40), (20, 10, 10, 0), strict=True):
        usual = [Way()] if job.frames else threads
        kills = on_threads if full else 4
        yield row_of(f"kill -9: {job.name}, threads", job, usual, kills, folder, server, seed)
        if on_processes:
            kills = on_processes if full else 1
            yield row_of(f"kill -9: {job.name}, processes", job, processes, kills, folder, server, seed)
    for job in (jobs[0], jobs[1], acquisition):
        kills = 12 if full else 2
        yield row_of(f"clock jumps: {job.name}", job, [Way(clock=True)], kills, folder, server, seed)
    for job in (jobs[0], acquisition):
        kills = 8 if full else 2
        yield row_of(f"folder moved: {job.name}", job, [Way(moved=True)], kills, folder, server, seed)
