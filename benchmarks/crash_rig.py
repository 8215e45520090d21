"""What the crash harness shares: a server to fork runs from, small campaigns with their unbroken products, and the look
at what a crash has left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import yaml
from astropy.io import fits

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import simulated  # noqa: E402
import sky  # noqa: E402

TOKEN = "DARKPIPE_CRASH_TOKEN"
DEADLINE_S = 900.0  # of a run that takes seconds, on a machine that others use as well
ORPHANS_S = 10.0
FRAMES = 8  # of each setting of an acquisition; 3 settings at 2 temperatures
LIGHTS = 6
PLAIN = {"evaluate_model": {"pictures": False}, "report": {"write": False}, "fit_dark_model": {"model": "exp_2d"}}
LOCKS = (".pipeline.lock", ".pipeline.lock.json", "journal.jsonl")
STAMP = re.compile(r"\d{8}_\d{6}")


class Server:
    """A process that has everything imported, from which runs are forked. With `said` what they print.

    user : all runs have the rights of this user (where we may do that).
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / f"said-{uuid.uuid4().hex[:8]}.txt"
        self.token = uuid.uuid4().hex
        environment = {**os.environ, TOKEN: self.token, "PYTHONPATH": str(REPOSITORY), "OPENBLAS_NUM_THREADS": "1"}
        line = [sys.executable, "-m", "benchmarks.crash_child"]
        self._process = subprocess.Popen(
            line, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._answer() != "ready":
            raise RuntimeError("the process to fork from did not start")

    @property
    def said(self) -> str:
        """What all runs printed since `forget`."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def forget(self) -> None:
        """What they printed."""
        self.log.unlink(missing_ok=True)

    def here(self, call: str, *arguments: Any) -> int:
        """In the server itself, so that everything is compiled; the exit code."""
        self._tell({"here": True, "call": call, "arguments": arguments})
        return int(self._answer())

    def start(self, call: str, *arguments: Any, shim: Mapping[str, Any] | None = None, user: int | None = None) -> int:
        """Fork a run; its process id. `end` is to be called before the next."""
        log = str(self.log)
        self._tell({"call": call, "arguments": arguments, "log": log, "shim": dict(shim or {}), "user": user})
        return int(self._answer())

    def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        return int(self._answer())

    def run(self, call: str, *arguments: Any, shim: Mapping[str, Any] | None = None, user: int | None = None) -> int:
        """Start it and wait; the exit code."""
        self.start(call, *arguments, shim=shim, user=user)
        return self.end()

    def killed(self, call: str, *arguments: Any, after_s: float, shim: Mapping[str, Any] | None = None) -> int:
        """Start it, kill it after a while; the exit code, 0 or above if it ended before."""
        process = self.start(call, *arguments, shim=shim)
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        return self.end()

    def orphans_s(self) -> float:
        """How long processes of runs that have ended live on [s]; infinite if it is more than a deadline."""
        begin = time.monotonic()
        while descendants(self.token) - {self._process.pid}:
            if time.monotonic() - begin > ORPHANS_S:
                return float("inf")
            time.sleep(0.005)
        return time.monotonic() - begin

    def _tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(DEADLINE_S)
        self._process.stdout.close()


def descendants(token: str) -> set[int]:
    """Processes that were started, by whomever, below the one with this token."""
    wanted = f"{TOKEN}={token}".encode()
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
    return found


# campaigns
@dataclass(frozen=True)
class Job:
    """What is broken again and again: its name, how it begins, its command line, and what it makes in the end.

    seed_from : a folder to begin with. flags : of the pipeline, with {root} for the folder of the campaign; frames : of
    each setting, where frames are taken instead. whole : the products of an unbroken run, in the folder `finished`.
    """

    name: str
    seed_from: Path
    flags: tuple[str, ...]
    whole: dict[str, str]
    finished: Path
    frames: int = 0
    seconds: float = 0.0

    def order(self, root: Path, *more: str) -> tuple[Any, ...]:
        """What a server is to be told."""
        if self.frames:
            return ("frames", str(root / "darks"), self.frames)
        return ("pipeline", *(flag.format(root=root) for flag in self.flags), *more)

    def half(self, root: Path) -> tuple[Any, ...]:
        """The same with half of the frames."""
        return ("frames", str(root / "darks"), self.frames // 2)

    def fresh(self, root: Path) -> Path:
        """The folder as it is before the first run."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.seed_from, root)
        return root


def write_settings(folder: Path) -> Path:
    """Settings for all runs: no pictures of each cell, which cost most of the time."""
    path = folder / "plain.yaml"
    path.write_text(yaml.safe_dump(PLAIN))
    return path


def write_frames(folder: Path) -> simulated.Sensor:
    """A campaign that is as small as a model allows: 20 frames of 32 x 32 pixels."""
    small = {"temperatures_c": (-10.0, 0.0), "exposures_s": (30.0, 100.0), "n_darks": 3, "n_biases": 4}
    return simulated.write_campaign(folder, simulated.PRESETS["tiny"], **small)


def write_lights(folder: Path, sensor: simulated.Sensor) -> None:
    """Light frames of that camera."""
    for number in range(LIGHTS):
        path = folder / f"light_{number:02d}.fits"
        sky.write_light(path, sensor, -7.0 + number, 200.0, sky=sky.Sky(stars=2), seed=number)


def prepare(folder: Path, server: Server) -> list[Job]:
    """The four jobs: full pipeline, calibrate, library export, acquisition, each with its unbroken products.

    Raises
    ------
    RuntimeError
        if an unbroken run fails.
    """
    empty, raw, model = folder / "empty", folder / "raw", folder / "model"
    empty.mkdir()
    sensor = write_frames(raw / "raw")
    config = write_settings(folder)
    usual = ("--config", str(config), "--workers", "2")
    full = ("--mode", "full", "--basepath", "{root}/raw", "--output_dir", "{root}/out", *usual)
    shutil.copytree(raw, model)
    server.here("pipeline", *(flag.format(root=model) for flag in full), "--quiet")
    lights = folder / "lights"
    shutil.copytree(model, lights)
    write_lights(lights / "lights", sensor)
    calibrate = ("--mode", "calibrate", "--basepath", "{root}/lights", "--output_dir", "{root}/cal")
    grid = ("--temps=-9,-7,-5,-3,-1", "--exptimes=40,80,160,240")
    export = ("--mode", "export_library", "--output_dir", "{root}/out", *grid)
    jobs = [
        Job("full pipeline", raw, full, {}, folder),
        Job("calibrate", lights, (*calibrate, "--model_dir", "{root}/out", *usual), {}, folder),
        Job("library export", model, (*export, *usual), {}, folder),
        Job("acquisition", empty, (), {}, folder, frames=FRAMES),
    ]
    return [unbroken(job, folder / f"whole-{number}", server) for number, job in enumerate(jobs)]


def unbroken(job: Job, root: Path, server: Server) -> Job:
    """The job with the products and the time of a run that nothing breaks. RuntimeError if it fails."""
    times_s = []
    for _ in range(2):
        job.fresh(root)
        begin = time.monotonic()
        code = server.run(*job.order(root))
        times_s.append(time.monotonic() - begin)
        if code:
            raise RuntimeError(f"{job.name}: an unbroken run ended with {code}: {server.said[-3000:]}")
    if not job.frames:
        server.here(*job.order(job.fresh(root), "--quiet"))  # so that what it compiles is there for any user
    return Job(job.name, job.seed_from, job.flags, products(root), root, job.frames, min(times_s))


# the look at what is there
def products(root: Path) -> dict[str, str]:
    """A digest of each file that a run has made: of its bytes; of frames that were taken the pixels, and names without
    their time. Left out: journals, locks, logs, and those of runs before; drafts."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if (
            not path.is_file()
            or path.suffix == ".draft"
            or path.name in LOCKS
            or "/logs/" in name
            or "new_frames/" in name
        ):
            continue
        if name.startswith("darks/"):
            if path.suffix == ".fits" and "rejected" not in name:
                found[STAMP.sub("", name)] = digest_of_pixels(path)
            continue
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def digest_of_pixels(path: Path) -> str:
    """Of a frame whose checksums agree; else what is wrong."""
    with fits.open(path, checksum=True, memmap=False) as hdus:
        hdus.verify("exception")
        return hashlib.sha256(np.ascontiguousarray(hdus[0].data).tobytes()).hexdigest()


def tracebacks(said: str) -> list[str]:
    """Those that a run printed. The interpreter's own are left out, of a worker that it had just begun to start when
    its controller was killed: none of our code had been loaded there."""
    found = [block.split("\n\n")[0] for block in said.split("Traceback (most recent call last):")[1:]]
    return [block for block in found if "spawn_main" not in block or "EOFError" not in block]


def differing(found: Mapping[str, str], whole: Mapping[str, str]) -> list[str]:
    """Names that are in one of both only, or have another content."""
    return sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))


def faults_of(job: Job, root: Path) -> list[str]:
    """What is wrong with a folder after the run that completed it: each in a few words."""
    found = []
    if names := differing(products(root), job.whole):
        found.append(f"{len(names)} products differ: {', '.join(names[:3])}")
    if drafts := [path.name for path in root.rglob("*.draft")]:
        found.append(f"{len(drafts)} stray drafts: {', '.join(drafts[:3])}")
    if left := [path.name for path in root.rglob(".pipeline.lock.json")]:
        found.append(f"notes of holders are left: {left}")
    if job.frames:
        found += faults_of_journal(root / "darks")
    return found


def faults_of_journal(folder: Path) -> list[str]:
    """Frames that the journal has twice, or lost."""
    path = folder / "frames.jsonl"
    if not path.exists():
        return ["there is no journal of frames"]
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    taken = [f"{line['stamp']} {line['taken']}" for line in lines if "taken" in line]
    found = [f"taken twice: {key}" for key in sorted(set(taken)) if taken.count(key) > 1]
    found += [f"lost: {line['lost']}" for line in lines if "lost" in line]
    wanted = len({line["path"] for line in lines if "slot" in line})
    if len(set(taken)) < wanted - 1:  # that of a run that died just before its line is written by the next one
        found.append(f"{len(set(taken))} frames in the journal, {wanted} in the plan")
    return found


@contextlib.contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """A folder that is gone at the end."""
    path = folder / name
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
