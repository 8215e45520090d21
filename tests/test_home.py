"""Users whose home cannot be looked into, or who have none: a run ends as it does for anybody else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, command, environment
from rights import HELD_OFF, needs_modes

NOT_OURS = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "ASTROPY_CONFIG_DIR", "ASTROPY_CACHE_DIR", "HOME")
SHOWN = (
    "import os, darkpipe.home as home; home.provide_home(); import astropy.table\n"
    "print(os.environ.get('XDG_CONFIG_HOME', 'as it was'))"
)


def run(*line: str, temporary: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command under the rights of its file modes, with folders of its own for what it keeps."""
    kept = {name: value for name, value in environment().items() if name not in NOT_OURS}
    env = {**kept, "TMPDIR": str(temporary), **variables}
    return subprocess.run([*HELD_OFF, *line], env=env, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


def closed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    folder.chmod(0)
    return folder


@needs_modes
@pytest.mark.parametrize("inside", ["", ".astropy"])
def test_a_home_that_may_not_be_entered_is_no_obstacle(tmp_path: Path, temporary: Path, inside: str) -> None:
    closed(tmp_path / "home" / inside)
    home = {"HOME": str(tmp_path / "home")}
    shown = run(sys.executable, "-c", SHOWN, temporary=temporary, **home)
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).parent == temporary
    frames = tmp_path / "frames"
    frames.mkdir()
    line = command("--mode", "full", "--basepath", str(frames), "--output_dir", str(tmp_path / "out"))
    done = run(*line, temporary=temporary, **home)
    assert done.returncode == 1
    assert "no FITS file was found" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(temporary.iterdir())  # gone with the process


@needs_modes
def test_settings_that_the_user_names_elsewhere_are_used(tmp_path: Path, temporary: Path) -> None:
    closed(tmp_path / "home")
    given = tmp_path / "settings"
    given.mkdir()
    shown = run(
        sys.executable, "-c", SHOWN, temporary=temporary, HOME=str(tmp_path / "home"), XDG_CONFIG_HOME=str(given)
    )
    assert shown.stdout.strip() == str(given)


@needs_modes
@pytest.mark.parametrize("name", ["XDG_CONFIG_HOME", "ASTROPY_CONFIG_DIR"])
def test_settings_elsewhere_that_cannot_be_reached_are_none(tmp_path: Path, temporary: Path, name: str) -> None:
    given = closed(tmp_path / "closed") / "settings"
    shown = run(sys.executable, "-c", SHOWN, temporary=temporary, HOME=str(tmp_path), **{name: str(given)})
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).parent == temporary


@pytest.mark.parametrize("made", ["home", "home/.astropy/config", None])
def test_nothing_changes_for_a_user_with_a_home(tmp_path: Path, temporary: Path, made: str | None) -> None:
    if made:
        (tmp_path / made).mkdir(parents=True)
    shown = run(sys.executable, "-c", SHOWN, temporary=temporary, HOME=str(tmp_path / "home"))
    assert shown.stdout.strip() == "as it was", shown.stderr
    assert not list(temporary.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="users without an entry are those of Unix")
def test_a_user_who_has_no_home_at_all(tmp_path: Path, temporary: Path) -> None:
    script = f"import os; os.environ.pop('HOME'); os.path.expanduser = lambda path: path\n{SHOWN}"
    shown = run(sys.executable, "-c", script, temporary=temporary, HOME=str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).parent == temporary
