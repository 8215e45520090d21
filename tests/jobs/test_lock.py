"""The lock of an output directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import darkpipe.errors
from darkpipe.errors import BusyError, PipelineError
from darkpipe.jobs.lock import hold

PROJECT = Path(darkpipe.errors.__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from darkpipe.jobs.lock import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {process.pid} on .*, since 2") as caught, hold(tmp_path / "out"):
            pass
        assert caught.value.exit_code == 75
        process.kill()
        process.wait()
    with hold(tmp_path / "out"):
        pass


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path), pytest.raises(BusyError), hold(tmp_path):
        pass
    with hold(tmp_path):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="cannot write here"), hold(tmp_path / "file" / "out"):
        pass
