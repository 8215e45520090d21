"""Two at once: scheduled runs that overlap, a run during an acquisition, two acquisitions of one folder, and locks that
other processes and other computers have left."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from astropy.table import Table

from benchmarks.common import pipeline_command
from benchmarks.crash_rig import DEADLINE_S, REPOSITORY, Job, Server, faults_of
from benchmarks.robustness_rows import Row

BUSY = 75
TOGETHER = 4
SPREAD_S = 3.0
NOTE = ".pipeline.lock.json"


def rows(jobs: list[Job], folder: Path, server: Server, full: bool, seed: int = 11) -> Iterator[Row]:
    """All of it."""
    pipeline, acquisition = jobs[0], jobs[-1]
    yield overlapping(pipeline, folder, 6 if full else 1, seed)
    yield during_acquisition(acquisition, folder, server, 6 if full else 1)
    yield two_acquisitions(acquisition, folder, server, 10 if full else 2)
    yield other_computer(pipeline, folder, server)


def overlapping(job: Job, folder: Path, times: int, seed: int) -> Row:
    """Four runs of one command begin within seconds: one works, the others end with 75; nothing is made twice."""
    begin, broken, codes, rng = time.monotonic(), list[str](), Counter[int](), random.Random(seed)
    for _ in range(times):
        root = job.fresh(folder / "together")
        line = [*pipeline_command(), *(str(part) for part in job.order(root)[1:]), "--quiet"]
        runs = []
        for _ in range(TOGETHER):
            runs.append(
                subprocess.Popen(
                    line,
                    env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            time.sleep(rng.uniform(0.0, SPREAD_S / TOGETHER))
        told = [run.communicate(timeout=DEADLINE_S)[0] for run in runs]
        codes.update(run.returncode for run in runs)
        for run, text in zip(runs, told, strict=True):
            if run.returncode not in (0, BUSY) or "Traceback" in text:
                broken.append(f"exit code {run.returncode}: {text[-500:]}")
        if all(run.returncode for run in runs):
            broken.append("no run came through")
        broken += faults_of(job, root)
    note = f"exit codes {dict(sorted(codes.items()))}"
    name = "overlapping scheduled runs"
    return Row(name, sum(codes.values()), codes[0], codes[BUSY], broken, time.monotonic() - begin, None, note)


def during_acquisition(acquisition: Job, folder: Path, server: Server, times: int) -> Row:
    """Runs over a folder that frames are being written into: each sees whole frames alone, and the last one all."""
    begin, broken, codes = time.monotonic(), list[str](), Counter[int]()
    with Server(folder) as camera:
        for _ in range(times):
            root = acquisition.fresh(folder / "meanwhile")
            flags = ["--mode", "full", "--basepath", str(root / "darks"), "--output_dir", str(root / "out")]
            order = ("pipeline", *flags, "--until_step", "1")
            process = Background(camera, acquisition, root)
            while not process.ended.is_set():
                server.forget()
                codes[server.run(*order)] += 1
                if "Traceback" in server.said:
                    broken.append(f"a traceback: {server.said[-1000:]}")
            code = server.run(*order)
            broken += [f"after the acquisition: exit code {code}: {server.said[-500:]}"] if code else []
            broken += index_faults(root, len(acquisition.whole))
            shutil.rmtree(root / "out")
            broken += faults_of(acquisition, root)
    note = f"exit codes of the runs meanwhile {dict(sorted(codes.items()))} (1, 2: no frame, no folder yet)"
    tried = sum(codes.values())
    broken += [f"exit code {code}" for code in codes if code not in (0, 1, 2)]
    seconds = time.monotonic() - begin
    return Row("runs during an acquisition", tried, codes[0], tried - codes[0], broken, seconds, None, note)


class Background:
    """A run on a server of its own, in a thread that waits for it. code : its exit code, when it has `ended`."""

    def __init__(self, server: Server, job: Job, root: Path) -> None:
        self.ended, self.code = threading.Event(), -1
        self._server, self._order = server, job.order(root)
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        self.code = self._server.run(*self._order)
        self.ended.set()


def index_faults(root: Path, wanted: int) -> list[str]:
    """Frames that the table of frames lacks or rejects."""
    table = Table.read(root / "out" / "index.ecsv", format="ascii.ecsv")
    accepted = sum(str(row["status"]) == "accepted" for row in table)
    return [] if accepted == wanted else [f"{accepted} frames in the index, {wanted} were taken"]


def two_acquisitions(job: Job, folder: Path, server: Server, times: int) -> Row:
    """Two cameras into one folder: one works, the other is refused, and no frame is anybody else's."""
    begin, broken, codes = time.monotonic(), list[str](), Counter[int]()
    with Server(folder) as other:
        for _ in range(times):
            root = job.fresh(folder / "both")
            process = Background(other, job, root)
            found = [server.run(*job.order(root))]
            process.thread.join()
            found.append(process.code)
            codes.update(found)
            if "Traceback" in server.said + other.said:
                broken.append("a traceback: " + (server.said + other.said)[-800:])
            if any(found) and server.run(*job.order(root)):
                broken.append(f"not completed: {server.said[-300:]}")
            broken += faults_of(job, root)
    note = f"exit codes {dict(sorted(codes.items()))}"
    tried = sum(codes.values())
    return Row(
        "two acquisitions, one folder", tried, codes[0], tried - codes[0], broken, time.monotonic() - begin, None, note
    )


BEATING = """
import os, sys, time
while True:
    os.utime(sys.argv[1])
    time.sleep(1.0)
"""


def other_computer(job: Job, folder: Path, server: Server) -> Row:
    """Notes of holders whose lock is free: of a dead process here, of a dead run elsewhere, of a living one there."""
    begin, broken, refused = time.monotonic(), list[str](), 0
    told = []
    for host, lives, wanted in ((socket.gethostname(), False, 0), ("another", False, 0), ("another", True, BUSY)):
        root = job.fresh(folder / "elsewhere")
        server.run(*job.order(root))
        note = root / "out" / NOTE
        note.write_text(json.dumps({"pid": 1, "host": host, "start": "2025-07-29T22:00:00+00:00"}))
        beating = subprocess.Popen([sys.executable, "-c", BEATING, str(note)]) if lives else None
        since = time.monotonic()
        code = server.run(*job.order(root))
        told.append(f"{'alive' if lives else 'dead'} on {'this' if host != 'another' else 'another'} computer: "
                    f"code {code} after {time.monotonic() - since:.1f} s")  # fmt: skip
        if beating is not None:
            beating.kill()
            beating.wait()
            if note.exists() and "another" not in note.read_text():
                broken.append("the note of the other computer was written over")
            note.unlink(missing_ok=True)
        refused += code == BUSY
        broken += [f"exit code {code}, not {wanted}: {told[-1]}"] if code != wanted else []
        broken += faults_of(job, root)
    return Row(
        "locks that others left", 3, 3 - refused, refused, broken, time.monotonic() - begin, None, "; ".join(told)
    )
