"""Every command of the README does what the README says it does.

Run in a copy of the checkout, in the order of the README. Substituted, so that this takes seconds and needs no network:

* `make demo` and `make test`: their recipes are run with this interpreter instead of a new virtual environment's
  (asked from make with VENV pointing to a ready-made one), the lines of `pip` and `venv` are left out, and pytest
  only collects;
* `python` and `.venv\\Scripts\\python`: this interpreter; `\\` in paths: `/`;
* the preset `demo` of the simulated campaign: `tiny`, smaller by a factor of 50;
* the YAML example is written to the file that its first line names; lines for cron and the Windows task scheduler are
  not scheduled, but the pipeline's command in them is run.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from astropy.io import fits

import run_pipeline
from master_controller import MODES
from run_pipeline import FLAGS

PROJECT = Path(run_pipeline.__file__).resolve().parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_COPIED = (".*", "demo", "out", "output", "build", "dist", "*.egg-info")


class Block(NamedTuple):
    """A fenced block of the README: its language and content."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


BLOCKS = [Block(*found.groups()) for found in FENCE.finditer(README)]
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with the compiled kernels of this one."""
    copy = tmp_path_factory.mktemp("readme") / "darkpipe"
    shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return copy


def run(command: str, place: Path) -> str:
    """Run one command of the README; what it printed."""
    words = [word.replace("\\", "/") for word in shlex.split(command.replace("\\", "\\\\"))]
    if words[0] in ("python", ".venv/Scripts/python", ".venv/bin/python"):
        words[0] = sys.executable
    words = ["tiny" if word == "demo" else word for word in words]
    if "pytest" in words:
        words += ["--collect-only", "-q", "tests/test_settings.py"]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def is_set_up(line: str) -> bool:
    """Whether a line makes the environment."""
    return "-m venv" in line or "-m pip" in line


def made_by(target: str, place: Path) -> Iterator[str]:
    """The lines that make would run for a target once the environment is ready."""
    ready = place / "ready"
    (ready / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("bin/python", ".run", ".dev"):
        (ready / name).touch()
    words = ["make", "--dry-run", "--no-print-directory", f"VENV={ready}", target]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        yield line.replace(str(ready / "bin" / "python"), "python")


@NEEDS_MAKE
@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_sets_up_a_fresh_machine(checkout: Path, target: str) -> None:
    assert f"make {target}" in [line for block in BLOCKS if block.language == "sh" for line in block.lines]
    words = ["make", "--dry-run", "--no-print-directory", "VENV=fresh", "PYTHON=python3.99", target]
    planned = subprocess.run(words, cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert "python3.99 -m venv fresh" in planned
    required = "requirements.txt" if target == "demo" else "requirements-dev.txt"
    assert f"fresh/bin/python -m pip install --quiet -r {required}" in planned


def test_commands_of_the_readme(checkout: Path) -> None:
    ran = []
    for block in BLOCKS:
        if block.language == "yaml":
            (checkout / block.text.splitlines()[0].lstrip("# ").partition(";")[0]).write_text(block.text)
        elif block.language == "python":
            (checkout / "example.py").write_text(block.text)
            ran.append(run("python example.py", checkout))
        for line in block.lines if block.language in ("sh", "bat") else ():
            if line.startswith("make "):
                if shutil.which("make"):
                    ran += [run(step, checkout) for step in made_by(line.removeprefix("make "), checkout)]
            elif not is_set_up(line):
                ran.append(run(line, checkout))
    assert len(ran) > 12
    out = checkout / "demo" / "out"
    for product in ("index.ecsv", "dark_model/dark_A_map.fits", "evaluation/evaluation_summary.png"):
        assert (out / product).is_file(), product
    assert (out / "synthetic" / "synthetic_dark_T-8.0C_texp180s.fits").is_file()
    assert (checkout / "demo" / "check" / "evaluation" / "evaluation.ecsv").is_file()
    assert fits.getdata(checkout / "demo" / "dark_for_my_program.fits").dtype.name == "uint16"
    # scheduled commands; camera.yaml has been written above
    scheduled = [line for block in BLOCKS if block.language == "text" for line in block.lines if "run_pipeline" in line]
    assert len(scheduled) == 2
    for line in scheduled:
        found = re.search(r"(run_pipeline\.py .*?--quiet)", line)
        assert found
        assert run("python " + found.group(1), checkout) == ""


def test_every_block_is_looked_at() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "bat", "python", "yaml", "text"}


def test_modes_and_flags_are_those_of_the_program() -> None:
    _, modes, flags, *_ = re.split(r"^## (?:Modes|Flags|Products)$", README, flags=re.MULTILINE)
    named = {
        word
        for row in modes.splitlines()
        if row.startswith("| `")
        for word in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    assert named == set(MODES)
    described = {
        word for row in flags.splitlines() if row.startswith("|") for word in re.findall(r"`--(\w+)", row.split("|")[1])
    }
    assert described == {flag.name for flag in FLAGS}


def test_exit_codes_are_those_of_the_program() -> None:
    table = README.partition("## Exit codes")[2].partition("## ")[0]
    listed = re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)
    assert listed == re.findall(r"(?:^  |; )(\d+) ", run_pipeline.EXIT_CODES, flags=re.MULTILINE)


def test_links_lead_somewhere() -> None:
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
