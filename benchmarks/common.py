"""What the benchmarks share: running the pipeline, robust numbers, a table of targets and verdicts."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """A finished process. Peak memory is that of the largest process of its tree, as the kernel counted it."""

    seconds: float
    peak_mb: float
    cpu_seconds: float
    exit_code: int
    output: str


@dataclass(frozen=True)
class Verdict:
    """A measured figure beside its target; passed None: shown, not judged."""

    what: str
    value: str
    target: str = ""
    passed: bool | None = None


def best(
    work: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
    made: Callable[[], Iterable[Path]] = tuple,
) -> float:
    """Seconds of the fastest of several runs, after one that does not count; `made` : files that each run is to write
    where none stands, as a first one does (ext4 writes out a file that replaces another there and then)."""
    work()
    taken = []
    for _ in range(rounds):
        for path in made():
            path.unlink()
        begin = clock()
        work()
        taken.append(clock() - begin)
    return min(taken)


def real_data() -> Path:
    """Folder of the real frames: DARKPIPE_REAL_DATA, else shared/data beside the checkout."""
    return Path(os.environ.get("DARKPIPE_REAL_DATA") or REPOSITORY.parent / "shared" / "data")


def pipeline_command() -> list[str]:
    """How the pipeline is called; DARKPIPE_COMMAND overrides it (another version, for a comparison)."""
    command = os.environ.get("DARKPIPE_COMMAND")
    return shlex.split(command) if command else [sys.executable, str(REPOSITORY / "run_pipeline.py")]


# peak memory of a process begins with that of the one that started it: a small one in between starts what is measured
_LAUNCH = """
import json, os, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:]), 0)
used = {"seconds": time.perf_counter() - start, "code": os.waitstatus_to_exitcode(status),
        "peak": usage.ru_maxrss, "cpu_s": usage.ru_utime + usage.ru_stime}
with open(sys.argv[1], "w") as file:
    json.dump(used, file)
"""


def run_pipeline(*arguments: object, check: bool = True) -> Run:
    """Run the pipeline in a process of its own and wait; RuntimeError with its last lines if it fails and check."""
    command = [*pipeline_command(), *map(str, arguments)]
    with tempfile.TemporaryFile() as log, tempfile.NamedTemporaryFile() as taken:
        launched = [sys.executable, "-S", "-c", _LAUNCH, taken.name, *command]
        subprocess.run(launched, stdout=log, stderr=subprocess.STDOUT, check=False)
        used = json.loads(taken.read())
        log.seek(0)
        output = log.read().decode(errors="replace")
    if check and used["code"] != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {used['code']}:\n{output[-3000:]}")
    scale = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10
    return Run(used["seconds"], used["peak"] * scale, used["cpu_s"], used["code"], output)


def robust_spread(values: ArrayLike) -> float:
    """Half the width between the 15.87 and 84.13 percentiles of the finite values: 1 sigma of a Gaussian."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if x.size == 0:
        return float("nan")
    low, high = np.percentile(x, [15.866, 84.134])
    return float(high - low) / 2


def print_verdicts(title: str, verdicts: Sequence[Verdict]) -> bool:
    """Print the table; True if nothing failed."""
    print(f"\n{title}")
    wide = max(len(v.what) for v in verdicts)
    for v in verdicts:
        mark = {None: "", True: "ok", False: "MISSED"}[v.passed]
        print(f"  {v.what:<{wide}}  {v.value:>12}  {v.target:<22} {mark}")
    return all(v.passed is not False for v in verdicts)
