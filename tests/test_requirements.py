"""Packages: lower bounds that the oldest-dependencies run uses, no upper bound without a reason."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers import PROJECT

LINE = re.compile(r"^([A-Za-z0-9_.-]+)(.*?)(?:\s*#\s*(.+))?$")


def packages(name: str) -> dict[str, tuple[str, str]]:
    """Bounds and remark of each package of a file."""
    found = {}
    for line in (PROJECT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-r")):
            match = LINE.match(line)
            assert match, line
            found[match[1]] = (match[2].strip(), match[3] or "")
    return found


def test_the_oldest_run_uses_the_lower_bounds() -> None:
    bounds = {
        name: given.replace(">=", "==").partition(",")[0] for name, (given, _) in packages("requirements.txt").items()
    }
    assert {name: given for name, (given, _) in packages("requirements-oldest.txt").items()} == bounds


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-benchmarks.txt"])
def test_an_upper_bound_has_a_reason(name: str) -> None:
    for package, (bounds, remark) in packages(name).items():
        if "<" in bounds or "==" in bounds or "!=" in bounds:
            assert remark, f"{package}{bounds}: why?"
    if name == "requirements.txt":
        assert all(bounds.startswith(">=") for bounds, _ in packages(name).values())


def test_the_workflow_runs_every_python_from_the_oldest_on() -> None:
    text = (PROJECT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    oldest = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert f">={matrix['python'][0]}" == oldest
    for target in re.findall(r"run: make ([a-z-]+)", text):
        assert re.search(rf"^{target}:", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_knows_what_to_do(tmp_path: Path) -> None:
    for target in ("demo", "install", "test", "test-oldest", "lint", "docs"):
        words = ["make", "-n", f"VENV={tmp_path / 'venv'}", target]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert str(tmp_path) in done.stdout
