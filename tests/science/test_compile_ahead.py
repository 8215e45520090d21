"""Kernels that another process compiles: of the types that a run asks for, once, and never in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from darkpipe.science import jit_cache
from darkpipe.science.jit import kernel

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="locks and signals of POSIX")
SAME_TYPES = """
import darkpipe
from darkpipe.science.compile_ahead import compile_fit
from darkpipe.science.fit_loops import fit_packed, fit_singly, residuals_of_tile

frames = darkpipe.simulate_campaign(rows=64, cols=64)
darkpipe.fit_dark_model(
    frames.darks, frames.temperatures_c, frames.exposures_s, bias_frames=frames.biases,
    bias_temperatures_c=frames.bias_temperatures_c, gain_e_per_adu=1.2,
)
kernels = fit_packed, fit_singly, residuals_of_tile
asked = [list(kernel.signatures) for kernel in kernels]
compile_fit()
assert [list(kernel.signatures) for kernel in kernels] == asked, asked
print(*(len(signatures) for signatures in asked))
"""
COUNT = """
import numpy as np
from numba.core import event

from darkpipe.science import reduced

class Listener(event.Listener):
    def on_start(self, event):
        print(event.data["dispatcher"].py_func.__name__)

    def on_end(self, event):
        pass

event.register("numba:compile", Listener())
print(reduced.Reduced.of(np.ones((40, 40)), 8).small.mean())
"""
WAITING = """
import sys, time
from darkpipe.science import compile_ahead
with compile_ahead.compiling_ahead(True):
    compile_ahead.begin()
    print(compile_ahead._process.pid, flush=True)
    time.sleep(60 if sys.argv[1:] else 0)
print("ended")
"""


def started(script: str, *words: str, **env: str) -> subprocess.Popen[str]:
    """A fresh process in this checkout."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *words], cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True
    )


def is_gone(pid: int, within_s: float = 20.0) -> bool:
    """Whether a process ends in this time; one that nobody asked for its exit status has ended too."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_it_compiles_what_a_fit_asks_for_and_nothing_else() -> None:
    done = started(SAME_TYPES)
    assert done.communicate(timeout=600)[0].split() == ["1", "1", "1"]
    assert done.returncode == 0


@POSIX
def test_two_processes_compile_a_kernel_once(tmp_path: Path) -> None:
    both = [started(COUNT, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    told = [process.communicate(timeout=300)[0].split() for process in both]
    assert [lines[-1] for lines in told] == ["1.0", "1.0"]
    assert sum(lines.count("_reduce_band") for lines in told) == 1, told


@POSIX
def test_a_process_that_keeps_a_kernel_in_hand_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(jit_cache, "cache_folder", lambda: str(tmp_path))
    monkeypatch.setattr(jit_cache, "PATIENCE_S", 1.0)

    @kernel
    def doubled(x: np.ndarray) -> float:
        return float(2.0 * x[0])

    cache = doubled.compiled._cache  # type: ignore[attr-defined]
    with open(Path(cache.cache_path) / f"{cache._impl.filename_base}.lock", "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        start = time.monotonic()
        assert doubled(np.ones(1)) == 2.0
        assert time.monotonic() - start > 1.0
    assert cache._in_hand is None


@POSIX
def test_the_process_that_compiles_ends_with_the_run_however_that_ends(tmp_path: Path) -> None:
    with started(WAITING, "long", NUMBA_CACHE_DIR=str(tmp_path / "killed")) as killed:
        assert killed.stdout is not None
        helper = int(killed.stdout.readline())
        killed.send_signal(signal.SIGKILL)
    assert is_gone(helper)
    left = started(WAITING, NUMBA_CACHE_DIR=str(tmp_path / "left"))
    told = left.communicate(timeout=60)[0].split()
    assert told[1:] == ["ended"]
    assert is_gone(int(told[0]), within_s=1.0)
