"""Pipes and devices in the place of files: told at once, never waited for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from darkpipe.errors import PipelineError
from darkpipe.files.arrays import read_arrays
from darkpipe.files.detectors import units_of_file
from darkpipe.files.fitting import read_population
from darkpipe.files.index import survey_of
from darkpipe.files.lights import read_light
from darkpipe.files.masters import read_reference
from darkpipe.files.products import read_header, read_planes
from darkpipe.files.stack import FrameStack
from darkpipe.files.tables import read_table
from darkpipe.jobs import journal_file
from darkpipe.jobs.stamps import digest
from darkpipe.regular import check_regular, regular

READERS: list[Callable[[Path], object]] = [
    digest,
    read_table,
    read_header,
    lambda path: read_planes(path, ["SCI"]),
    lambda path: read_arrays(path, "the arrays", "run again"),
    journal_file.load,
    read_reference,
    read_population,
    survey_of,
    lambda path: read_light(path, 0),
    lambda path: FrameStack([path], [0], 4, 5),
    units_of_file,
]
DEADLINE_S = 60.0

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are those of Unix")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("number", range(len(READERS)))
def test_no_reader_waits_for_a_pipe(pipe: Path, number: int) -> None:
    """As a folder of products from somebody else may hold, once it is unpacked."""
    told: list[str] = []

    def read() -> None:
        try:
            READERS[number](pipe)
        except PipelineError as error:
            told.append(str(error))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(DEADLINE_S)
    assert not reader.is_alive(), "it waits for the pipe"
    assert told
    assert str(pipe) in told[0]


def test_files_are_opened_and_all_else_is_refused(pipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    check_regular(file)
    with open(file, opener=regular, encoding="utf-8") as stream:
        assert stream.read() == "content"
    open_before = len(os.listdir("/dev/fd"))
    for path, kind in ((pipe, OSError), (Path("/dev/null"), OSError), (tmp_path / "gone", FileNotFoundError)):
        with pytest.raises(kind):
            check_regular(path)
        with pytest.raises(kind):
            open(path, opener=regular).close()
    with pytest.raises(IsADirectoryError):
        open(tmp_path, opener=regular).close()
    assert len(os.listdir("/dev/fd")) == open_before
