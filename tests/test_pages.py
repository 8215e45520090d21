"""The pages for users: their commands run, and the messages that they explain are those of the program.

The commands are run in the order of their pages, in one folder. Substituted, so that this takes a minute: the simulated
frames are few and small; `demo/out`, where a page speaks of a model that is there, is that of the first page; lines of
pip and venv are left out; commands that take frames are checked elsewhere, with a camera (test_acquire.py), those of
camera.yaml with the README's (test_readme.py).
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import run_pipeline

PROJECT = Path(run_pipeline.__file__).resolve().parent
PAGES = ("first_ten_minutes.md", "scheduling.md", "which_campaign.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("--mode acquire", "--config observatory.yaml --mode full", "--config camera.yaml")
SOURCES = [
    *PROJECT.glob("*.py"),
    *(p for name in ("darkpipe", "steps", "hardware") for p in (PROJECT / name).rglob("*.py")),
]
ANYTHING = "…"  # in a message, what differs from case to case


def run(command: str, place: Path) -> str:
    """Run one command; what it printed."""
    words = [str(PROJECT / w) if w in ("run_pipeline.py", "tests/simulated.py") else w for w in shlex.split(command)]
    words = ["tiny" if w == "demo" else w for w in words]
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_commands_of_the_pages(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "out").symlink_to(tmp_path / "out")
    done = 0
    for page in PAGES:
        for language, text in FENCE.findall((PROJECT / "docs" / page).read_text(encoding="utf-8")):
            if language == "yaml":
                (tmp_path / text.splitlines()[0].lstrip("# ").partition(";")[0]).write_text(text, encoding="utf-8")
            for line in text.splitlines() if language == "sh" else ():
                if not any(words in line for words in ELSEWHERE):
                    run(line, tmp_path)
                    done += 1
    assert done == 12
    assert (tmp_path / "out" / "synthetic" / "synthetic_dark_T-8.0C_texp90s.fits").is_file()
    assert (tmp_path / "dark_m8_90s.fits").is_file()
    assert (tmp_path / "calibrated" / "calibrated" / "calibrated.ecsv").is_file()
    for plan in ("plan", "plan2", "plan3"):
        assert (tmp_path / plan / "campaign_plan" / "campaign_plan.png").is_file()


def texts() -> Iterator[str]:
    """Every text in the source; of one with values in it, `…` in their places."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else ANYTHING for v in node.values)
                yield "".join(str(part) for part in parts)


def explained() -> list[str]:
    """The messages of the page on troubleshooting: first cell of each row of its tables."""
    page = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)


def test_explained_messages_are_those_of_the_program() -> None:
    known = list(texts())
    messages = explained()
    assert len(messages) > 80
    assert len(set(messages)) == len(messages)
    for message in messages:
        parts = [re.escape(part.strip()) for part in message.split(ANYTHING)]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        assert any(pattern.search(text) for text in known), f"no such message: {message}"
