"""A disk that turns read-only while a run is at work, as Linux does it to a file system in which it has met an error.

A real ext4 in a file: its kernel is told to meet an error at a random moment of a run. What was not yet on the disk is
lost, open files cannot be written any more. Then it is checked and mounted again, as after a restart, and the run goes
on."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.crash_disk import wrong_with
from benchmarks.crash_rig import Job, Server, faults_of
from benchmarks.robustness_rows import Row

DISK_MB = 96
TURNS = 3  # at most, on the way to one result
EROFS_TOLD = ("Read-only file system", "Input/output error")  # the second: of what was on its way to the disk


class Disk:
    """An ext4 of its own below a folder."""

    def __init__(self, folder: Path) -> None:
        self.image, self.place = folder / "ext4.img", folder / "ext4"
        self.place.mkdir(exist_ok=True)

    def make(self) -> str:
        """Format and mount it; why that is not possible here, or nothing."""
        with open(self.image, "wb") as stream:
            stream.truncate(DISK_MB << 20)
        try:
            _call("mkfs.ext4", "-q", "-F", str(self.image))
            self.mount()
            if not self._trigger().exists():
                self.unmount()
                return "this kernel lets nobody trigger an error of ext4"
        except (OSError, subprocess.CalledProcessError) as error:
            return f"no ext4 can be mounted here ({type(error).__name__})"
        return ""

    def mount(self) -> None:
        """As a machine does it that goes on after an error without writing."""
        _call("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.place))

    def unmount(self) -> None:
        """Nothing may be open on it."""
        _call("umount", str(self.place))

    def fail(self) -> None:
        """From now on it is read-only, for those too who are writing."""
        self._trigger().write_text("broken on purpose")

    def mend(self) -> None:
        """What a restart does."""
        self.unmount()  # what it has lost is 1 or 2 as exit code of the check
        subprocess.run(["e2fsck", "-f", "-y", str(self.image)], capture_output=True, check=False)
        self.mount()

    def _trigger(self) -> Path:
        device = os.stat(self.place).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        return Path("/sys/fs/ext4") / name / "trigger_fs_error"


def _call(*line: str) -> None:
    subprocess.run(line, capture_output=True, check=True)


@contextmanager
def disk_below(folder: Path) -> Iterator[tuple[Disk, str]]:
    """A disk, and why there is none."""
    disk = Disk(folder)
    why = disk.make()
    try:
        yield disk, why
    finally:
        if not why:
            disk.unmount()
        disk.image.unlink(missing_ok=True)


def turned_read_only(job: Job, folder: Path, server: Server, results: int, seed: int = 11) -> Row:
    """The disk fails up to three times on the way to each of so many results."""
    begin, broken, runs, good, refused = time.monotonic(), list[str](), 0, 0, 0
    name, rng = f"disk turns read-only: {job.name}", random.Random(seed)
    with disk_below(folder) as (disk, why):
        if why:
            return Row(name, 0, 0, 0, [], 0.0, None, f"skipped: {why}")
        root = disk.place / "root"
        for _ in range(results):
            job.fresh(root)
            os.sync()
            for _ in range(TURNS):
                server.forget()
                server.start(*job.order(root))
                time.sleep(rng.uniform(0.02, 0.7) * job.seconds)
                disk.fail()
                code, runs = server.end(), runs + 1
                good, refused = good + (code == 0), refused + (code != 0)
                broken += [f"{job.name}: {wrong}" for wrong in wrong_with(code, server.said, True)]
                broken += [f"{job.name}: {wrong}" for wrong in wrong_words(code, server.said, disk.place)]
                disk.mend()
            server.forget()
            code = server.run(*job.order(root))
            broken += [f"{job.name}: mended, it ended with {code}: {server.said[-500:]}"] if code else []
            broken += [f"{job.name}: {wrong}" for wrong in faults_of(job, root)]
    note = f"{results} results, {refused} runs refused"
    return Row(name, runs, good, refused, broken, time.monotonic() - begin, None, note)


def wrong_words(code: int, said: str, place: Path) -> Iterator[str]:
    """Of a run that such a disk ended: it is to name a file on it, and what the system said."""
    if code and not (str(place) in said and any(told in said for told in EROFS_TOLD)):
        yield f"it does not say which file: {said[-700:]}"
