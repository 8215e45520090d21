"""The log file of a run, on a disk that refuses it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from rich.console import Console

from darkpipe.console import logging_to

log = logging.getLogger("darkpipe")
FULL = Path("/dev/full")


def write_lines(folder: Path) -> None:
    with logging_to(folder, "INFO", quiet=True, console=Console(stderr=True)):
        for number in range(5):
            log.info("line %d", number)


def test_a_log_has_its_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lines(tmp_path / "logs")
    (file,) = (tmp_path / "logs").glob("pipeline_*.log")
    assert [line.rpartition(" ")[2] for line in file.read_text().splitlines()] == list("01234")
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("a file in its place")
    write_lines(tmp_path / "logs")
    said = capsys.readouterr().err
    assert said.count("the log cannot be written") == 1
    assert "Traceback" not in said


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = logging.FileHandler._open

    def on_a_full_disk(self: logging.FileHandler) -> object:
        os.symlink(FULL, self.baseFilename)
        return opened(self)

    monkeypatch.setattr(logging.FileHandler, "_open", on_a_full_disk)
    write_lines(tmp_path / "logs")
    said = capsys.readouterr().err
    assert said.count("the log cannot be written: No space left on device") == 1
    assert "Traceback" not in said
    assert "Logging error" not in said
