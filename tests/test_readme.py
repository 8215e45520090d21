"""Every command of the README does what the README says it does; tables of the documents are those of the program.

Run in an empty folder, in the order of the README. Substituted, so that this takes seconds and needs no network:

* `make demo` and `make test`: the lines that make would run once the environment is ready are run; that a fresh machine
  gets one is seen from what make plans;
* lines of `pip` and `venv` are left out; pytest only collects, and that in the checkout;
* `python` and `.venv\\Scripts\\python`: this interpreter; `\\` in paths: `/`; the scripts are those of this checkout;
* the demo has 64 x 64 pixels and a faster clock; the simulated camera of the README is small and fast too, listens at a
  free port, which takes the place of the one in the README, and ends with the test;
* a YAML example is written to the file that its first line names; lines for cron and the Windows task scheduler are
  not scheduled, but the pipeline's command in them is run;
* a command that stands twice is run once.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from astropy.io import fits

import run_pipeline
from darkpipe.files.frame_set import SELECT_KEYS
from darkpipe.files.headers import QUANTITIES
from darkpipe.files.index import SELECTABLE
from darkpipe.science.flags import DQ
from master_controller import MODES, MasterController
from run_pipeline import FLAGS

PROJECT = Path(run_pipeline.__file__).resolve().parent
README = (PROJECT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL_DEMO = "import sys, demo; demo.SIZE, demo.TIME_SCALE = 64, 1000; sys.exit(demo.main())"
SIMULATOR = "python -m hardware.simulator "
SMALL_CAMERA = ["--port", "0", "--no-discovery", "--rows", "48", "--cols", "64", "--time-scale", "400"]
CAMERA_ADDRESS = "127.0.0.1:11111"


class Block(NamedTuple):
    """A fenced block of the README: its language and content."""

    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


BLOCKS = [Block(*found.groups()) for found in FENCE.finditer(README)]
PAGES = sorted((PROJECT / "docs").rglob("*.md"))
DOCUMENTS = ["README.md", *(page.relative_to(PROJECT).as_posix() for page in PAGES)]
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def run(command: str, place: Path) -> str:
    """Run one command of the README; what it printed."""
    words = [word.replace("\\", "/") for word in shlex.split(command.replace("\\", "\\\\"))]
    if words[0] in ("python", ".venv/Scripts/python", ".venv/bin/python"):
        words[0] = sys.executable
    if words[1] == "examples/demo.py":
        words[1:2] = ["-c", SMALL_DEMO]
    words = [str(PROJECT / word) if word == "run_pipeline.py" else word for word in words]
    if "pytest" in words:
        words += ["--collect-only", "-q", "-p", "no:cacheprovider", "tests/test_settings.py"]
        place = PROJECT
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "examples"), str(PROJECT)])}
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def small_camera(command: str) -> Iterator[str]:
    """The address of the simulated camera of the README, small and fast."""
    words = [sys.executable, *shlex.split(command)[1:], *SMALL_CAMERA]  # the last of a flag that stands twice counts
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            yield found.group()
        finally:
            process.terminate()
    assert process.returncode == 0


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
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        yield line.replace(str(ready / "bin" / "python"), "python")


def steps_of(line: str, place: Path) -> Iterator[str]:
    """The commands behind a line, without those that make the environment."""
    if line.startswith("make "):
        if shutil.which("make"):
            yield from made_by(line.removeprefix("make "), place)
    elif not is_set_up(line):
        yield line


@NEEDS_MAKE
@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_sets_up_a_fresh_machine(target: str, tmp_path: Path) -> None:
    assert f"make {target}" in [line for block in BLOCKS if block.language == "sh" for line in block.lines]
    words = ["make", "--dry-run", "--no-print-directory", f"VENV={tmp_path}/fresh", "PYTHON=python3.99", target]
    planned = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert f"python3.99 -m venv {tmp_path}/fresh" in planned
    required = "requirements.txt" if target == "demo" else "requirements-dev.txt"
    assert f"{tmp_path}/fresh/bin/python -m pip install --quiet -r {required}" in planned


@pytest.mark.slow
def test_commands_of_the_readme(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        run_all(tmp_path, stack)
    out = tmp_path / "demo" / "out"
    for product in ("index.ecsv", "dark_model/dark_A_map.fits", "evaluation/evaluation_summary.png"):
        assert (out / product).is_file(), product
    assert (out / "synthetic" / "synthetic_dark_T-8.0C_texp90s.fits").is_file()
    assert (tmp_path / "demo" / "check" / "evaluation" / "evaluation.ecsv").is_file()
    assert fits.getdata(tmp_path / "demo" / "dark_for_my_program.fits").dtype.name == "uint16"
    # of the simulated camera: 3 temperatures x (bias + 4 exposures) x 5, and 3 x 2 in another session
    assert len(list((tmp_path / "observatory" / "darks").rglob("*.fits"))) == 81
    assert (tmp_path / "observatory" / "model" / "dark_model" / "model.yaml").is_file()
    # scheduled commands; camera.yaml has been written above
    scheduled = [line for block in BLOCKS if block.language == "text" for line in block.lines if "run_pipeline" in line]
    assert len(scheduled) == 2
    for line in scheduled:
        found = re.search(r"(run_pipeline\.py .*?--quiet)", line)
        assert found
        assert run("python " + found.group(1), tmp_path) == ""


def run_all(tmp_path: Path, stack: contextlib.ExitStack) -> None:
    """Run every command and example in the order of the README; what runs on ends with the stack."""
    done = set()
    camera = CAMERA_ADDRESS
    for block in BLOCKS:
        if block.language == "yaml":
            name = block.text.splitlines()[0].lstrip("# ").partition(";")[0]
            (tmp_path / name).write_text(block.text.replace(CAMERA_ADDRESS, camera))
        elif block.language == "python":
            (tmp_path / "example.py").write_text(block.text)
            run("python example.py", tmp_path)
        for line in block.lines if block.language in ("sh", "bat") else ():
            for step in steps_of(line, tmp_path):
                same = step.replace(".venv\\Scripts\\python", "python").replace("\\", "/")
                if same.startswith(SIMULATOR):
                    camera = stack.enter_context(small_camera(same))
                elif same not in done:
                    run(same, tmp_path)
                done.add(same)
    assert len(done) > 18
    assert camera != CAMERA_ADDRESS


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
    for page in (PROJECT / name for name in DOCUMENTS):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", DOCUMENTS)
def test_settings_in_the_documents_are_valid(page: str) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    for language, content in FENCE.findall(text):
        if language == "yaml":
            MasterController(yaml.safe_load(content)).settings("full")


@pytest.mark.parametrize("page", DOCUMENTS)
def test_flags_in_the_documents_are_known(page: str) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    for language, content in FENCE.findall(text):
        for line in content.splitlines() if language in ("sh", "text") else ():
            if line.startswith("python run_pipeline.py"):
                words = run_pipeline.spelled(shlex.split(line)[2:])
                given = vars(run_pipeline.build_parser().parse_args(list(words)))
                assert given["mode"] is None or given["mode"] in MODES


def test_quality_bits_are_those_of_the_program() -> None:
    table = (PROJECT / "docs" / "file_formats.md").read_text(encoding="utf-8").partition("## Quality bits")[2]
    listed = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \|", table.partition("\n## ")[0], flags=re.MULTILINE)
    assert [(int(bit), int(value), name) for bit, value, name in listed] == [
        (int(bit).bit_length() - 1, int(bit), str(bit.name)) for bit in DQ if bit
    ]


def test_words_of_settings_are_those_of_the_program() -> None:
    text = (PROJECT / "docs" / "how_to.md").read_text(encoding="utf-8")
    for start, known in (("Quantities: ", QUANTITIES), ("Keys: ", SELECTABLE), ("A selection goes by ", SELECT_KEYS)):
        listed = text.partition(start)[2].partition(". ")[0].partition(".\n")[0].partition(". The column")[0]
        assert set(re.findall(r"`(\w+)`", listed)) == set(known)
