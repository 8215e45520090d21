"""Where compiled code is kept: a folder of the user's own, for this version of the package and this kind of processor.

numba keeps compiled code with a stamp of the *file the function stands in*; code that was inlined from another file
is not looked at, so a change there would go unnoticed. Here the folder is named after the content of all of the package
`darkpipe.science`: any change of it compiles anew.

Loading compiled code is running it. So a folder is used only if it belongs to the user and nobody else can write to it;
if there is no such place, one is made for this run alone, and its worker processes are told of it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import logging
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import xxhash

USER_SET = "NUMBA_CACHE_DIR"
OF_THIS_RUN = "DARKPIPE_CACHE_OF_RUN"
LOCK_NAME = "lock"
OWN_PLACE = ("darkpipe", "compiled")
NAME_LENGTH = 16
FORGOTTEN_DAYS, TOUCH_S = 30, 86400.0

log = logging.getLogger("darkpipe")


@cache
def cache_folder() -> str:
    """Folder for the compiled code of this version of the package, made if need be.

    Returns
    -------
    below NUMBA_CACHE_DIR where that is set, else below the user's folder for such things; where neither can be used,
    a folder of this run alone, which is removed at its end.
    """
    name = _version_name()
    of_run = os.environ.get(OF_THIS_RUN)
    for root in [Path(of_run)] if of_run else _roots():
        try:
            folder = _own_folder(root, name)
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            log.warning("compiled code cannot be kept in %s: %s", root, error)
            continue
        _forget_old(folder)
        return str(folder)
    return str(_folder_of_this_run(name))


def say_if_cold() -> None:
    """Say that kernels are about to be compiled, where there are none for this version yet."""
    folder = Path(cache_folder())
    if not any(path.is_dir() for path in folder.iterdir()):
        say_compiling()


@cache
def say_compiling() -> None:
    """Say it once a process."""
    log.info("compiling kernels, once for this version (a minute or two); later runs start at once")


def _version_name() -> str:
    """What compiled code depends on, as the name of a folder."""
    from llvmlite.binding import get_host_cpu_name  # numba itself, which takes longer to import, is not needed here

    digest = xxhash.xxh3_64()
    versions = (importlib.metadata.version("numba"), sys.implementation.cache_tag or "")
    for part in (*versions, get_host_cpu_name()):
        digest.update(part.encode() + b"\0")
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _roots() -> Iterator[Path]:
    """NUMBA_CACHE_DIR where it is set, then the user's own folder for such things."""
    given = os.environ.get(USER_SET)
    if given:
        yield Path(given)
    if os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        yield Path(os.environ["LOCALAPPDATA"]).joinpath(*OWN_PLACE)
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        if os.path.isabs(home):
            yield Path(home).joinpath(*OWN_PLACE)


def _own_folder(root: Path, name: str) -> Path:
    """The folder `name` below `root`, made if need be; of the user, and closed to all others.

    Raises
    ------
    OSError
        if it cannot be made or written to, belongs to somebody else, or others can write to it or exchange it.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    if root.parts[-2:] == OWN_PLACE:  # made by us, and with the user's umask in former versions
        with contextlib.suppress(OSError):
            root.chmod(0o700)
    _refuse_shared(os.stat(root), may_be_sticky=True)
    folder = root / name
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _refuse_shared(os.lstat(folder), may_be_sticky=False)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def _refuse_shared(status: os.stat_result, *, may_be_sticky: bool) -> None:
    """Raise the OSError that says who else could put code here.

    may_be_sticky : the folder may be everybody's, if its entries can be exchanged by their owners alone.
    """
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError("this is no folder, or a link to one")
    if os.name == "nt":  # there, who may write is no matter of these bits
        return
    shared = stat.S_IMODE(status.st_mode) & 0o022
    if may_be_sticky and status.st_mode & stat.S_ISVTX:
        return
    if status.st_uid != os.geteuid() and not (may_be_sticky and status.st_uid == 0):
        raise PermissionError("it belongs to somebody else")
    if shared:
        raise PermissionError("others can write to it")


def _folder_of_this_run(name: str) -> Path:
    """A new folder that only the user can look into; this process removes it at its end, its workers use it too."""
    root = Path(tempfile.mkdtemp(prefix="darkpipe-"))
    os.environ[OF_THIS_RUN] = str(root)
    atexit.register(_remove_own, root, os.getpid())
    log.warning("compiled code is kept for this run only; set %s to a folder of your own", USER_SET)
    return _own_folder(root, name)


def _remove_own(root: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(root, ignore_errors=True)


def _forget_old(folder: Path) -> None:
    """Note that this version is in use, and remove those that were not for a month."""
    now = time.time()
    with contextlib.suppress(OSError):
        if now - folder.stat().st_mtime < TOUCH_S and (folder / LOCK_NAME).exists():
            return
        (folder / LOCK_NAME).touch()
        os.utime(folder)
        for other in folder.parent.iterdir():
            is_ours = len(other.name) == NAME_LENGTH and (other / LOCK_NAME).is_file()
            if is_ours and now - other.stat().st_mtime > FORGOTTEN_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
