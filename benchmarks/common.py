"""What the benchmarks share: running the pipeline, robust numbers, a table of targets and verdicts."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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


def real_data() -> Path:
    """Folder of the real frames: DARKPIPE_REAL_DATA, else shared/data beside the checkout."""
    return Path(os.environ.get("DARKPIPE_REAL_DATA") or REPOSITORY.parent / "shared" / "data")


def pipeline_command() -> list[str]:
    """How the pipeline is called; DARKPIPE_COMMAND overrides it (another version, for a comparison)."""
    command = os.environ.get("DARKPIPE_COMMAND")
    return shlex.split(command) if command else [sys.executable, str(REPOSITORY / "run_pipeline.py")]


def run_pipeline(*arguments: object, check: bool = True) -> Run:
    """Run the pipeline in a process of its own and wait; RuntimeError with its last lines if it fails and check."""
    command = [*pipeline_command(), *map(str, arguments)]
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        # wait4, not getrusage(RUSAGE_CHILDREN): the latter keeps the largest of all children so far
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        output = log.read().decode(errors="replace")
    if check and process.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}:\n{output[-3000:]}")
    scale = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10
    return Run(seconds, usage.ru_maxrss * scale, usage.ru_utime + usage.ru_stime, process.returncode, output)


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
