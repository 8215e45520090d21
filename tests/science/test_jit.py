"""Compiled code is kept where a change of any source of the package cannot meet it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOW = "from darkpipe.science.jit import cache_folder; print(cache_folder())"


def folder_of(checkout: Path, **env: str) -> str:
    """What a fresh process in this checkout uses."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=checkout,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def copy_of(target: Path) -> Path:
    shutil.copytree(ROOT / "darkpipe", target / "darkpipe", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_a_change_of_an_inlined_file_changes_the_folder(tmp_path: Path) -> None:
    checkout = copy_of(tmp_path / "checkout")
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    before = folder_of(checkout, **env)
    assert before.startswith(str(tmp_path / "cache"))
    assert folder_of(checkout, **env) == before
    families = checkout / "darkpipe" / "science" / "models" / "families.py"
    families.write_text(families.read_text() + "\n# changed\n")
    assert folder_of(checkout, **env) != before


def test_without_a_home_numba_decides(tmp_path: Path) -> None:
    checkout = copy_of(tmp_path / "checkout")
    blocked = tmp_path / "file"
    blocked.write_text("a file is no folder")
    assert folder_of(checkout, NUMBA_CACHE_DIR=str(blocked)) == ""
