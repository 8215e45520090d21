"""What is not imported where it is not needed: so that help, settings and a run without work are there at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Campaign, environment, flags

PROJECT = Path(__file__).resolve().parents[1]
COMPUTING = {
    "numba",
    "llvmlite",
    "scipy",
    "matplotlib",
    "PIL",
    "jinja2",
    "distributed",
    "alpaca",
    "requests",
    "uvicorn",
}
READING = {"numpy", "astropy", "darkpipe.files", "darkpipe.science", "darkpipe.report"}
SCRIPT = (
    "import sys, run_pipeline\n"
    "code = 0\n"
    "try:\n"
    "    code = run_pipeline.main(sys.argv[1:])\n"
    "except SystemExit as end:\n"
    "    code = end.code or 0\n"
    "print('exit', code)\n"
    "print('modules', *sys.modules)\n"
)


def imported(*arguments: str) -> set[str]:
    """Modules that a command line has imported when it is done; it must end with 0."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *arguments],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    *_, code, modules = done.stdout.splitlines()
    assert code == "exit 0", done.stdout + done.stderr
    return set(modules.split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("--print_config",), ("--mode", "full", "--print_config")])
def test_help_and_settings_import_no_step_and_nothing_that_computes(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)
    assert not modules & (COMPUTING | READING)
    assert not {name for name in modules if name.startswith("steps.step")}


def test_an_unchanged_run_imports_nothing_that_computes(reported: Campaign) -> None:
    modules = imported(*flags(reported, pictures=True))
    assert {"steps.step5_fit_dark_model", "steps.step19_report", "numpy"} <= modules
    assert not modules & COMPUTING
    assert "steps.step14_calibrate" not in modules  # of another mode


def test_kernels_are_there_without_numba_and_work_with_it() -> None:
    script = (
        "import sys, numpy as np\n"
        "from darkpipe.science.models import families\n"
        "from darkpipe.science import fit_kernel, combine_kernels, noise_map_kernel\n"
        "print('numba' in sys.modules)\n"
        "x, p = np.zeros((3, 1)), np.ones((3, 2), np.float32)\n"
        "signal, variance = np.empty((2, 2), np.float32)\n"
        "families.synthesize(0, x, p, np.zeros((6, 2), np.float32), signal, variance)\n"
        "print('numba' in sys.modules, *signal, families.synthesize.py_func.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["False", "True 1.0 1.0 synthesize"]
