"""Waiting for the disk is counted, and can be left out."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from darkpipe.jobs import stamps


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Calls of os.fsync."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    monkeypatch.setattr(stamps, "_waited_s", [0.0])
    return calls


def test_files_and_their_folders_are_waited_for(
    synced: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(stamps.NO_FSYNC, raising=False)
    (tmp_path / "a").touch()
    stamps.sync([str(tmp_path / "a")])
    assert len(synced) == 2 if os.name != "nt" else 1
    with caplog.at_level(logging.INFO, "darkpipe"):
        stamps.say_waited()
    assert "until the products were on the disk" in caplog.text


def test_a_measurement_waits_for_nothing_and_says_so(
    synced: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(stamps.NO_FSYNC, "1")
    (tmp_path / "a").touch()
    stamps.sync([str(tmp_path / "a")])
    assert synced == []
    with caplog.at_level(logging.INFO, "darkpipe"):
        stamps.say_waited()
    assert "may be lost in a power failure" in caplog.text


def test_a_run_that_wrote_nothing_says_nothing(
    synced: list[int], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(stamps.NO_FSYNC, raising=False)
    with caplog.at_level(logging.INFO, "darkpipe"):
        stamps.say_waited()
    assert caplog.text == ""
