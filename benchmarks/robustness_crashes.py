"""Crashes, two at once, long runs: everything that can end a run early or come in its way, again and again.

The promise: whatever ends a run, the next one goes on from there, and what it makes in the end is, to the last byte,
what a run makes that nothing disturbs. No draft stays behind, no frame is lost, no worker outlives its run, and no disk
that refuses ends in anything but a message. The exit code is 1 if a row breaks it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from benchmarks import crash_disk, crash_kills, crash_read_only, crash_together, long_runs  # noqa: E402
from benchmarks.crash_rig import Server, prepare  # noqa: E402
from benchmarks.robustness_rows import Row  # noqa: E402

IN_MEMORY = Path("/dev/shm")  # where there is one: it is not the speed of a disk that is looked at
SECTIONS = ("kills", "disk", "together", "long")


def sections(full: bool, chosen: Sequence[str] = SECTIONS) -> Iterator[Row]:
    """The rows as they come."""
    place = IN_MEMORY if IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="darkpipe-crash-", dir=place) as name:
        folder = Path(name)
        folder.chmod(0o755)  # another user is to read what is below
        if set(chosen) - {"long"}:
            with Server(folder) as server:
                jobs = prepare(folder, server)
                if "kills" in chosen:
                    yield from crash_kills.rows(jobs, folder, server, full)
                if "disk" in chosen:
                    yield from crash_disk.rows(jobs, folder, server, full)
                    for job in jobs:
                        yield crash_read_only.turned_read_only(job, folder, server, 10 if full else 1)
                if "together" in chosen:
                    yield from crash_together.rows(jobs, folder, server, full)
        if "long" in chosen:
            found, samples = long_runs.rows(folder, full)
            yield from found
            print("\n".join(samples), flush=True)


def run(full: bool) -> list[Row]:
    """All rows; `full`: 200 kills, every call that writes, 10,000 frames; else a few of each, in some minutes."""
    return list(sections(full))


def told(row: Row) -> str:
    """A line of the table."""
    mark = "ok" if not row.broken else f"BROKEN ({len(row.broken)}): {row.broken[0][:1500]}"
    counts = f"{row.tried:>6} {row.good:>6} {row.refused:>6}"
    return f"{row.name:<44} {counts} {row.seconds:7.1f} s  {row.note}\n{'':<44} {mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a few of each (the default)")
    size.add_argument("--full", action="store_true", help="200 kills, each call that writes, 10,000 frames")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="sections; may be repeated")
    options = parser.parse_args(arguments)
    begin_s, broken = time.monotonic(), 0
    print(f"{'what':<44} {'tried':>6} {'good':>6} {'refusd':>6}")
    for row in sections(options.full, options.only or SECTIONS):
        print(told(row), flush=True)
        broken += bool(row.broken)
    print(f"{broken} rows broke the promise; {time.monotonic() - begin_s:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
