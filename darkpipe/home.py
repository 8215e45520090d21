"""A home for the packages that want one, where the user has none that can be looked into.

astropy looks for its settings below the user's home as it is imported, and ends in a traceback where that is forbidden:
a service without a home of its own, a folder `.astropy` that another user once made. Its settings are nothing that a
run needs, so it is pointed to an empty folder then, and nothing changes for anybody who has a home.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

PLACE = "XDG_CONFIG_HOME"
NAMED = (PLACE, "ASTROPY_CONFIG_DIR")
PACKAGE = "astropy"


def provide_home() -> None:
    """Give this process and its workers an empty folder of settings, if the user's cannot be looked into.

    To be called before astropy is imported. The folder is removed when the process ends.
    """
    if _can_be_looked_into():
        return
    root = tempfile.mkdtemp(prefix="darkpipe-home-")
    atexit.register(_remove, root, os.getpid())
    Path(root, PACKAGE).mkdir()
    os.environ |= {name: root for name in NAMED if name == PLACE or name in os.environ}


def _can_be_looked_into() -> bool:
    """As astropy looks: what is not there does not matter, what may not be looked at does."""
    try:
        if any(Path(place).is_dir() for place in map(os.environ.get, NAMED) if place):
            return True
        os.stat(Path.home() / f".{PACKAGE}" / "config")
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return False
    return True


def _remove(root: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(root, ignore_errors=True)
