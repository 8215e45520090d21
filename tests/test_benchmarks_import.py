"""Every benchmark can at least be read: one that nobody runs for a while breaks without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.stem for path in (PROJECT / "benchmarks").glob("*.py") if path.stem != "__init__")
PEERS = ("ccdproc", "corgidrp", "lmfit", "bottleneck", "playwright", "alpaca", "alpyca", "distributed", "requests")
"""What some of them compare with or talk to, and not everybody has."""

SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"benchmarks.{name}")
    except Exception as error:
        print(name, type(error).__name__, getattr(error, "name", None), error, sep="\\t")
"""


@pytest.fixture(scope="module")
def failures() -> dict[str, tuple[str, str, str]]:
    """Kind, module in question and message of each benchmark that could not be imported; all in one process."""
    paths = [str(PROJECT), str(PROJECT / "tests")]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}{SCRIPT}", *MODULES],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {name: (kind, module, message) for name, kind, module, message in rows}


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_can_be_imported(name: str, failures: dict[str, tuple[str, str, str]]) -> None:
    kind, module, message = failures.get(name, ("", "", ""))
    if kind == "ModuleNotFoundError" and module.partition(".")[0] in PEERS:
        pytest.skip(f"pip install {module.partition('.')[0]}")
    assert not kind, f"{kind}: {message}"
