"""Disks that refuse: full at each write in turn, EIO at each write in turn, read-only files and folders; and products
that somebody has edited."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.crash_rig import LOCKS, Job, Server, faults_of
from benchmarks.robustness_rows import Row

NOBODY = 65534
MOST_RUNS = 3000
STEP_KB = 4  # a page: the unit in which a tmpfs gives room
EXPECTED = (1,)  # exit codes of a run that a disk has refused


# a fault at each call that writes
def faults_in_turn(job: Job, error: str, folder: Path, server: Server, most_runs: int = MOST_RUNS) -> Row:
    """Every call that writes a file fails once, one a file and run; the runs go on from each other."""
    begin, broken, runs, good = time.monotonic(), list[str](), 0, 0
    root, book = job.fresh(folder / "faulty"), folder / "faults.txt"
    book.unlink(missing_ok=True)
    shim = {"faults": {"root": str(root), "error": error, "book": str(book)}}
    while runs < most_runs and not broken:
        server.forget()
        before = lines_of(book)
        code = server.run(*job.order(root), shim=shim)
        runs += 1
        met = lines_of(book)[len(before) :]
        broken += [f"{job.name}: {wrong} (faults: {met[:4]})" for wrong in wrong_with(code, server.said, bool(met))]
        good += code == 0
        if not met:
            break
    code = server.run(*job.order(root))
    broken += [f"{job.name}: the last run ended with {code}"] if code else []
    broken += [f"{job.name}: {wrong}" for wrong in faults_of(job, root)]
    faults = lines_of(book)
    whole = "" if runs < most_runs else ", not to the end"
    files = len({line.partition("\t")[0] for line in faults})
    note = f"{len(faults)} faults at calls of {files} files{whole}"
    return Row(
        f"{error} at each write: {job.name}", runs, good, runs - good, broken, time.monotonic() - begin, None, note
    )


def lines_of(book: Path) -> list[str]:
    """The faults so far."""
    return book.read_text().splitlines() if book.exists() else []


def wrong_with(code: int, said: str, refused: bool) -> Iterator[str]:
    """What must not be, of a run that a disk has refused something."""
    if code not in ((0, *EXPECTED) if refused else (0,)):
        yield f"exit code {code}: {said[-700:]}"
    elif "Traceback" in said:
        yield f"a traceback: {said[-1500:]}"


# a disk with so much room
@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], None] | None]:
    """A disk of its own, and what gives it so many kB; None where none may be mounted."""
    folder.mkdir(exist_ok=True)

    def mount(options: str) -> bool:
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            return subprocess.run(line, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    if not mount(f"size={STEP_KB}k"):
        yield None
        return
    try:
        yield lambda kb: None if mount(f"remount,size={kb}k") else (_ for _ in ()).throw(RuntimeError("no remount"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(job: Job, folder: Path, server: Server, step_kb: int) -> Row:
    """The disk has room for one more page with each run, which goes on from the last, until all of it fits."""
    begin, broken, runs, good = time.monotonic(), list[str](), 0, 0
    name = f"disk full, {step_kb} kB more with each run: {job.name}"
    place = folder / "disk"
    with small_disk(place) as room:
        if room is None:
            return Row(name, 0, 0, 0, [], 0.0, None, "skipped: no tmpfs can be mounted here")
        kb = first_kb = 64 + 2 * sum(path.stat().st_size for path in job.seed_from.rglob("*") if path.is_file()) // 1024
        room(kb)
        root = job.fresh(place / "root")
        kb = used_kb(place)
        code = 1
        while code and runs < MOST_RUNS and not broken:
            kb += step_kb
            room(kb)
            server.forget()
            code = server.run(*job.order(root))
            runs += 1
            broken += [f"{job.name}, {kb} kB: {wrong}" for wrong in wrong_with(code, server.said, True)]
        good = int(code == 0)
        room(4 * first_kb + 2 * kb)
        code = server.run(*job.order(root))
        broken += [f"{job.name}: with room the run ended with {code}"] if code else []
        broken += [f"{job.name}: {wrong}" for wrong in faults_of(job, root)]
    note = f"{runs - 1} runs met a full disk; it took {kb} kB in the end"
    return Row(name, runs, good, runs - good, broken, time.monotonic() - begin, None, note)


def used_kb(place: Path) -> int:
    """Of a disk."""
    usage = shutil.disk_usage(place)
    return -(-usage.used // 1024)


# read-only
def read_only(job: Job, folder: Path, server: Server) -> Row:
    """Files and folders that a user without rights may not write: a message, and all of it once they may."""
    begin, broken, tried, refused = time.monotonic(), list[str](), 0, 0
    user = NOBODY if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    rng = random.Random(5)
    for name, cases in read_only_cases(job):
        root = something_to_do(job, folder / "locked", server, rng, fresh=name.startswith("fresh"))
        own(root, user)
        chosen = cases(root)
        modes = {path: path.stat().st_mode for path in chosen}
        for path in chosen:
            path.chmod(0o555 if path.is_dir() else 0o000 if "unreadable" in name else 0o444)
        server.forget()
        server.log.touch()
        os.chmod(server.log, 0o666)
        code = server.run(*job.order(root), user=user)
        tried += 1
        refused += code != 0
        broken += [f"{job.name}, {name}: {wrong}" for wrong in wrong_with(code, server.said, True)]
        for path, mode in modes.items():
            path.chmod(mode)
        code = server.run(*job.order(root), user=user)
        broken += [f"{job.name}, {name}: mended, it ended with {code}: {server.said[-500:]}"] if code else []
        broken += [f"{job.name}, {name}: {wrong}" for wrong in faults_of(job, root)]
        shutil.rmtree(root)
    note = "as a user without rights" if user is not None else "as this user"
    seconds = time.monotonic() - begin
    return Row(f"read-only: {job.name}", tried, tried - refused, refused, broken, seconds, None, note)


def something_to_do(job: Job, root: Path, server: Server, rng: random.Random, *, fresh: bool) -> Path:
    """A folder in which half of the frames, or some of the products, are still to be made; or all."""
    if fresh or job.frames:
        job.fresh(root)
        if not fresh:
            server.run(*job.half(root))
        return root
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(job.finished, root)
    for path in rng.sample(sorted(made_in(job, root)), 8):
        path.unlink()
    return root


def own(root: Path, user: int | None) -> None:
    """Give a tree to a user."""
    if user is not None:
        for path in (root, *root.rglob("*")):
            os.chown(path, user, user)


def read_only_cases(job: Job) -> Iterator[tuple[str, Callable[[Path], list[Path]]]]:
    """Names, and what is made read-only in a folder."""

    def files(root: Path) -> list[Path]:
        return [path for path in root.rglob("*") if path.is_file()]

    def folders(root: Path) -> list[Path]:
        return [path for path in (root, *root.rglob("*")) if path.is_dir()]

    def named(pattern: str) -> Callable[[Path], list[Path]]:
        return lambda root: list(root.glob(pattern))

    yield "fresh, the folder", lambda root: [root]
    yield "all files", files
    yield "all folders", lambda root: folders(root)[::-1]
    if job.frames:
        yield "journal of frames", named("darks/frames.jsonl")
        yield "unreadable journal of frames", named("darks/frames.jsonl")
        yield "temperature log", named("darks/temperature_*")
        yield "folder of frames", named("darks")
        return
    yield "output directory", named("out")
    yield "journal", named("*/journal.jsonl")
    yield "unreadable journal", named("*/journal.jsonl")
    yield "lock", named("*/.pipeline.lock")
    yield "folder of logs", named("*/logs")
    yield "logs", named("*/logs/*")
    yield "folder of the model", named("out/dark_model")
    yield "one folder of products", named("out/dark_masks_by_temp")
    yield "unreadable products", named("out/*.ecsv")


# edited
def edited(job: Job, folder: Path, server: Server, most: int, seed: int = 3) -> Row:
    """A byte of a product is another one, or the product is cut, or gone: it is made again, to the same bytes."""
    begin, broken = time.monotonic(), list[str]()
    rng = random.Random(seed)
    root = job.fresh(folder / "edited")
    server.run(*job.order(root))
    history = root / "out" / "dark_model" / "history"  # keeps what a model was replaced by, an edited one as well
    made = sorted(path.relative_to(root) for path in made_in(job, root))
    chosen = made if len(made) <= most else sorted(rng.sample(made, most))
    for number, name in enumerate(chosen):
        how = (flipped, cut, Path.unlink)[number % 3]
        how(root / name)
        server.forget()
        code = server.run(*job.order(root))
        shutil.rmtree(history, ignore_errors=True)
        wrong = faults_of(job, root) + list(wrong_with(code, server.said, False))
        broken += [f"{name} ({how.__name__}): {text}" for text in wrong]
    note = f"{len(chosen)} of {len(made)} products: a byte changed, cut to half, deleted"
    name = f"product edited: {job.name}"
    return Row(name, len(chosen), len(chosen) - len(broken), 0, broken, time.monotonic() - begin, None, note)


def made_in(job: Job, root: Path) -> list[Path]:
    """Files that the job has made."""
    before = {path.relative_to(job.seed_from) for path in job.seed_from.rglob("*")}
    files = [path for path in root.rglob("*") if path.is_file() and path.name not in LOCKS and "logs" not in path.parts]
    return [path for path in files if path.relative_to(root) not in before]


def flipped(path: Path) -> None:
    """One byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Half of it."""
    os.truncate(path, path.stat().st_size // 2)


def rows(jobs: list[Job], folder: Path, server: Server, full: bool) -> Iterator[Row]:
    """All of them; in quick a few runs of each. A disk that cannot hold its plan refuses an acquisition before its
    first frame, so that its writes are met by the faults alone."""
    pipeline, calibrate, export, acquisition = jobs
    for job in jobs:
        for error in ("EIO", "ENOSPC"):
            yield faults_in_turn(job, error, folder, server, MOST_RUNS if full else 8)
    # the pipeline makes most, and would meet five hundred full disks
    for job, step_kb in ((pipeline, 8 * STEP_KB), (calibrate, STEP_KB), (export, STEP_KB)):
        yield full_disk(job, folder, server, step_kb if full else 32 * STEP_KB)
    for job in (pipeline, export, acquisition) if full else (acquisition,):
        yield read_only(job, folder, server)
    for job in (pipeline, calibrate, export):
        yield edited(job, folder, server, 1000 if full else 6)
