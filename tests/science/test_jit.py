"""Compiled code is kept where no change of the package can meet it, and where nobody but its user can write."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = "from darkpipe.science.jit_folder import cache_folder; print(cache_folder())"
USE = (
    "import logging, sys, numpy as np\n"
    "logging.basicConfig(level='INFO', format='%(message)s', stream=sys.stdout)\n"
    "from darkpipe.science.blocks import block_mean\n"
    "for kind in {kinds}:\n"
    "    print(kind, *block_mean(np.arange(16.0).reshape(4, 4).astype(kind), 2).ravel())\n"
)
RESULTS = ["f4 2.5 4.5 10.5 12.5", "f8 2.5 4.5 10.5 12.5"]
NOBODY = 65534
AS_ROOT = os.name == "posix" and os.geteuid() == 0
POSIX = pytest.mark.skipif(os.name == "nt", reason="owners and modes of POSIX")


def python(checkout: Path, script: str, *before: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh process in this checkout; before : words of a command that starts it."""
    return subprocess.run(
        [*before, sys.executable, "-c", script],
        cwd=checkout,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=True,
    )


def folder_of(checkout: Path, **env: str) -> str:
    """What a fresh process in this checkout uses."""
    return python(checkout, SHOW, **env).stdout.strip()


def copy_of(target: Path) -> Path:
    shutil.copytree(ROOT / "darkpipe", target / "darkpipe", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def blocked(tmp_path: Path) -> str:
    """A path at which no folder can be made, by nobody."""
    file = tmp_path / "file"
    file.write_text("a file is no folder")
    return str(file)


def test_a_change_of_an_inlined_file_changes_the_folder(tmp_path: Path) -> None:
    checkout = copy_of(tmp_path / "checkout")
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    before = folder_of(checkout, **env)
    assert before.startswith(str(tmp_path / "cache"))
    assert folder_of(checkout, **env) == before
    families = checkout / "darkpipe" / "science" / "models" / "families.py"
    families.write_text(families.read_text() + "\n# changed\n")
    assert folder_of(checkout, **env) != before


@POSIX
def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = Path(folder_of(ROOT, NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_where_the_given_place_is_none_the_users_own_is_taken(tmp_path: Path) -> None:
    done = python(ROOT, SHOW, NUMBA_CACHE_DIR=blocked(tmp_path), XDG_CACHE_HOME=str(tmp_path / "own"))
    assert done.stdout.startswith(str(tmp_path / "own"))
    assert "cannot be kept in" in done.stderr


WORKER = (
    "import os, multiprocessing\n"
    "from darkpipe.science.jit_folder import cache_folder\n"
    "if __name__ == '__main__':\n"
    "    print(cache_folder(), oct(os.stat(cache_folder()).st_mode & 0o777))\n"
    "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
    "        print(pool.apply(cache_folder), '-')\n"
)


@pytest.mark.skipif(os.name == "nt", reason="another variable names the user's folder")
def test_without_any_place_there_is_one_for_the_run_and_its_workers(tmp_path: Path) -> None:
    no = blocked(tmp_path)
    script = tmp_path / "run.py"
    script.write_text(WORKER)
    env = {**os.environ, "NUMBA_CACHE_DIR": no, "XDG_CACHE_HOME": no, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=True)
    (own, mode), (of_worker, _) = (line.split() for line in done.stdout.splitlines())
    assert own == of_worker
    assert own.startswith(str(tmp_path))
    assert mode == "0o700"
    assert "for this run only" in done.stderr
    assert not Path(own).exists()  # gone with the run


@POSIX
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_place_where_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    done = python(ROOT, SHOW, NUMBA_CACHE_DIR=str(shared), XDG_CACHE_HOME=str(tmp_path / "own"))
    assert done.stdout.startswith(str(tmp_path / "own"))
    assert "others can write to it" in done.stderr
    shared.chmod(0o1777)  # as /tmp: only the owner of an entry can exchange it
    assert folder_of(ROOT, NUMBA_CACHE_DIR=str(shared)).startswith(str(shared))


@pytest.mark.skipif(not AS_ROOT, reason="needs root, to give a folder to somebody else")
@pytest.mark.parametrize("depth", ["root", "version"])
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, depth: str) -> None:
    place = tmp_path / "cache"
    folder = Path(folder_of(ROOT, NUMBA_CACHE_DIR=str(place)))
    os.chown(folder if depth == "version" else place, NOBODY, NOBODY)
    done = python(ROOT, SHOW, NUMBA_CACHE_DIR=str(place), XDG_CACHE_HOME=str(tmp_path / "own"))
    assert done.stdout.startswith(str(tmp_path / "own"))
    assert "belongs to somebody else" in done.stderr


@POSIX
def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = Path(folder_of(ROOT, NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    shutil.rmtree(folder)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    done = python(ROOT, SHOW, NUMBA_CACHE_DIR=str(tmp_path / "cache"), XDG_CACHE_HOME=str(tmp_path / "own"))
    assert done.stdout.startswith(str(tmp_path / "own"))


@POSIX
@pytest.mark.skipif(
    AS_ROOT and shutil.which("setpriv") is None, reason="root needs setpriv (util-linux), to be held off"
)
def test_a_read_only_checkout_compiles_once_and_is_left_as_it_is(tmp_path: Path) -> None:
    checkout = copy_of(tmp_path / "checkout")
    everything = sorted(checkout.rglob("*"))
    for path in (checkout, *everything):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # root may write anywhere, but for root without this capability
    bound = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if AS_ROOT else []
    env = {"XDG_CACHE_HOME": str(tmp_path / "home"), "NUMBA_CACHE_DIR": ""}
    script = USE.format(kinds=["f4"])
    first, second = (python(checkout, script, *bound, **env).stdout.splitlines() for _ in range(2))
    assert first[0].startswith("compiling kernels")
    assert first[1:] == second == RESULTS[:1]
    assert sorted(checkout.rglob("*")) == everything
    assert list((tmp_path / "home").rglob("*.nbc"))


def test_two_processes_that_compile_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([sys.executable, "-c", USE.format(kinds=[kind])], env=env, stdout=subprocess.PIPE, text=True)
        for kind in ("f4", "f8")
    ]
    assert [process.communicate()[0].splitlines()[-1] for process in both] == RESULTS
    later = python(ROOT, USE.format(kinds=["f4", "f8"]), NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert later.stdout.splitlines() == RESULTS  # nothing was lost: nothing is compiled


def test_code_of_another_signature_is_not_used(tmp_path: Path) -> None:
    """What a file system without locks could leave: the index of one process beside the code of another."""
    env = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    script = USE.format(kinds=["f4", "f8"])
    python(ROOT, script, **env)
    one, other = sorted((tmp_path / "cache").rglob("*_reduce*.nbc"))
    shutil.copyfile(one, other)
    again = python(ROOT, script, **env).stdout.splitlines()
    assert [line for line in again if not line.startswith("compiling")] == RESULTS
    assert len(again) == 3
    assert python(ROOT, script, **env).stdout.splitlines() == RESULTS  # and it is put right


def test_code_of_versions_long_gone_is_removed(tmp_path: Path) -> None:
    old, young, other = (tmp_path / "cache" / name for name in ("0123456789abcdef", "f123456789abcdef", "mine"))
    for folder in (old, young, other):
        folder.mkdir(parents=True, mode=0o700)
        (folder / "lock").touch()
    for folder in (old, other):
        os.utime(folder, (0, 0))
    (tmp_path / "cache").chmod(0o700)
    own = Path(folder_of(ROOT, NUMBA_CACHE_DIR=str(tmp_path / "cache")))
    assert set((tmp_path / "cache").iterdir()) == {young, other, own}
