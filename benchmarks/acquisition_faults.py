"""Small campaigns with a simulated camera, one for every fault that a camera, its server, its line, its cooler, its
disk and its users can have: what became of each.

The promise: a run completes with all frames right, or stops with an error that names the fault before its deadline. In
no case is there a wrong, duplicate, truncated or mislabelled frame in the library, a hang, or a cooler left in an
unknown state. The exit code is 1 if a row breaks it. Frames are judged by what the simulator remembers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from benchmarks.campaign_judge import Judgement  # noqa: E402
from benchmarks.fault_cases import all_cases  # noqa: E402
from benchmarks.fault_rig import EXPOSURES_S, FRAMES, TEMPERATURES_C, Row, private_cache, run_case  # noqa: E402

SIDE_BY_SIDE = 7  # campaigns; most of their time is waiting
LONGEST_S = 900.0  # until all of it is called hung
WIDE = 60  # characters of an outcome


def run_number(number: int, root: str) -> Row:
    """The row of a case, in a process of its own; a fault that escapes from the rig is a broken promise, too."""
    folder = Path(root) / f"{number:03d}"
    folder.mkdir()
    private_cache(Path(root) / "cache")
    case = all_cases()[number]
    try:
        return run_case(case, folder)
    except Exception as error:
        why = f"the benchmark failed: {type(error).__name__}: {error}"
        return Row(case.name, case.when, case.how, "unknown", 0.0, case.limit_s, Judgement(), "unknown", (why,))


def run_cases(numbers: Sequence[int], processes: int = SIDE_BY_SIDE) -> list[Row]:
    """The rows of some cases, by their numbers among all, in that order."""
    cases = all_cases()
    longest_first = sorted(numbers, key=lambda number: -cases[number].limit_s)
    with tempfile.TemporaryDirectory() as root, multiprocessing.get_context("spawn").Pool(processes) as pool:
        pending = {number: pool.apply_async(run_number, (number, root)) for number in longest_first}
        return [pending[number].get(LONGEST_S) for number in numbers]


def told(row: Row) -> str:
    """A line of the table."""
    found = row.judgement
    kinds = (found.right.total(), *(found.faults[kind] for kind in ("wrong", "duplicate", "truncated", "mislabelled")))
    counts = "".join(f"{count:>4}" for count in kinds)
    outcome = "completed" if row.outcome == "completed" else f"stopped: {row.outcome.partition(': ')[2] or row.outcome}"
    outcome = re.sub(r"https?://\S+ camera \d+: ", "", " ".join(outcome.split()))
    outcome = outcome if len(outcome) <= WIDE else outcome[: WIDE - 1] + "…"
    mark = "BROKEN: " + "; ".join(row.broken)[:300] if row.broken else "ok"
    time_told = f"{row.seconds:5.1f} /{row.limit_s:4.0f}"
    injected = f"{row.case:<34.34} {row.when:<8} {row.how:<46.46}"
    return f"{injected} {time_told} {counts}  {row.cooler:<9} {outcome:<{WIDE}} {mark}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="rows whose fault matches")
    parser.add_argument("--processes", type=int, default=SIDE_BY_SIDE)
    options = parser.parse_args(arguments)
    chosen = [number for number, case in enumerate(all_cases()) if re.search(options.only, case.name)]
    begun_s = time.monotonic()
    rows = run_cases(chosen, options.processes)
    frames = len(TEMPERATURES_C) * len(EXPOSURES_S) * FRAMES
    print(f"campaigns of {frames} frames; files in the library: right, wrong, duplicate, truncated, mislabelled")
    print(f"{'fault':<34} {'from':<8} {'injected by':<46} {'time / limit':<12} "
          f"{'  R   W   D   T   M':<20}  {'cooler':<9} {'outcome':<{WIDE}}")  # fmt: skip
    for row in rows:
        print(told(row))
    broken = sum(bool(row.broken) for row in rows)
    completed = sum(row.outcome == "completed" for row in rows)
    print(f"{len(rows)} campaigns: {completed} completed, {len(rows) - completed} stopped, "
          f"{broken} broke the promise; {time.monotonic() - begun_s:.0f} s")  # fmt: skip
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
