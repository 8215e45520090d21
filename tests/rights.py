"""Programs that file modes hold off, also where the tests are run by root."""

from __future__ import annotations

import os
import shutil

import pytest

AS_ROOT = os.name == "posix" and os.geteuid() == 0
POWERS = ",".join(f"-{name}" for name in ("dac_override", "dac_read_search"))
HELD_OFF = ("setpriv", f"--bounding-set={POWERS}", f"--inh-caps={POWERS}") if AS_ROOT else ()
"""What a command line begins with, so that root may write and look no further than the modes say."""

needs_modes = pytest.mark.skipif(
    os.name != "posix" or (AS_ROOT and shutil.which("setpriv") is None),
    reason="modes hold off users of Unix alone, and root with setpriv (util-linux)",
)
