"""Modules that are imported late, or soon: in a process of its own, which has none of them yet."""

from __future__ import annotations

import subprocess
import sys


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_run_begins_without_the_tables() -> None:
    """They take longer to import than all the rest; frames can be surveyed meanwhile."""
    _python("import sys, steps.step1_load_data; assert not {'astropy', 'scipy', 'numba'} & set(sys.modules)")


def test_what_is_imported_soon_is_there_for_all_threads() -> None:
    _python(
        "import sys, threading\n"
        "from darkpipe.deferred import import_soon, imported\n"
        "import_soon('astropy.table', 'no.such.module')\n"
        "made = imported('astropy.table').Table({'a': [1]})\n"
        "[thread.join() for thread in threading.enumerate() if thread.name == 'imports']\n"
        "import_soon('astropy.table', 'no.such.module')\n"
        "assert made['a'][0] == 1 and threading.active_count() == 1\n"
    )
