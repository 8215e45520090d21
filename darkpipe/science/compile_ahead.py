"""The loops of the fit, compiled by a process of their own while a first run still combines its frames.

To compile is Python code, of which one thread at a time runs, and the loops of the fit are half of it. They are needed
last; so where nothing is compiled yet, another process begins with them, and leaves them where a run finds what is
compiled (`jit_cache`: who needs a kernel that another process has in hand waits for it). It ends with the run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from darkpipe.science.jit_folder import cache_folder

START = "import sys; sys.path[:] = sys.argv[1:]; from darkpipe.science.compile_ahead import serve; serve()"
COMPILED = "*/fit_loops.fit_packed-*.nbi"  # what numba writes of the largest of them

_lock = threading.Lock()
_users = 0
_process: subprocess.Popen[bytes] | None = None


@contextmanager
def compiling_ahead(wanted: bool) -> Iterator[None]:
    """Until the end of this, the first kernel that has to be compiled starts the process, if it is wanted."""
    global _users, _process
    with _lock:
        _users += wanted
    try:
        yield
    finally:
        with _lock:
            _users -= wanted
            ended, _process = (None, _process) if _users else (_process, None)
        if ended is not None:
            with suppress(OSError):
                ended.communicate()  # closes its input


def begin() -> None:
    """Start the process where one is wanted, none was started, and the loops of the fit are not there."""
    global _process
    with _lock:
        if not _users or _process is not None or not sys.executable or any(Path(cache_folder()).glob(COMPILED)):
            return
        command, nothing = [sys.executable, "-c", START, *sys.path], subprocess.DEVNULL
        with suppress(OSError):
            _process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nothing, stderr=nothing)


def serve() -> None:
    """Compile, until the standard input ends, as it does when the process dies that wants it. Ctrl-C is for that
    process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_input, daemon=True).start()
    compile_fit()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def compile_fit() -> None:
    """Fit a handful of made-up pixels in every way there is."""
    import numpy as np

    from darkpipe.science.fit import Cells, fit_tile, residuals
    from darkpipe.science.models import EXP_2D, Reference
    from darkpipe.science.population import Population, prior_of, problem_for

    grid = np.meshgrid(np.array([-10.0, 0.0, 10.0]), np.array([10.0, 60.0, 300.0]), indexing="ij")
    temperature_c, exposure_s = grid[0].ravel(), grid[1].ravel()
    n, pixels = temperature_c.size, 32
    signal = np.repeat((0.1 * exposure_s * np.exp(0.1 * temperature_c)).astype(np.float32)[:, None], pixels, axis=1)
    signal[:, 0] = np.nan  # of no use: left to the fit of single pixels
    signal[0, 1] += 1000.0  # a cell that disagrees
    cells = Cells(
        signal, np.full((n, pixels), 5, np.uint16), np.full(pixels, 25.0, np.float32), 1.0, np.zeros(n), np.zeros(n),
        np.zeros(n, np.int64), np.ones((1, pixels), np.float32),
    )  # fmt: skip
    problem = problem_for(EXP_2D, temperature_c, exposure_s, Reference(0.0))
    prior, start = prior_of(problem, Population(), cells)
    fitted = fit_tile(problem, cells, prior, start, np.ones(n, np.bool_))
    residuals(problem, cells, prior, fitted.parameters)
