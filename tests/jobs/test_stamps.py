"""Looking at files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from darkpipe.errors import PipelineError, ProductError
from darkpipe.jobs import stamps
from darkpipe.jobs.stamps import NO_SYNC, identity, stamp, sync


@pytest.mark.skipif(os.name == "nt", reason="links of POSIX")
def test_a_link_that_leads_nowhere_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "lost").symlink_to("gone")
    for name in ("self", "lost", "none"):
        assert stamp(tmp_path / name) is None
        assert identity(tmp_path / name) is None


def test_what_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot look at this file"):
        stamp(tmp_path / ("x" * 5000))


def refusing(number: int, calls: list[int]) -> object:
    def fsync(handle: int) -> None:
        calls.append(handle)
        raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_disk_that_fails_at_the_end_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    (tmp_path / "a").write_text("x")
    monkeypatch.setattr(stamps.os, "fsync", refusing(number, []))
    with pytest.raises(ProductError, match=os.strerror(number)) as caught:
        sync([os.fspath(tmp_path / "a")])
    assert caught.value.where == str(tmp_path / "a")


@pytest.mark.parametrize("number", sorted(set(NO_SYNC)), ids=errno.errorcode.get)
def test_a_file_system_that_cannot_sync_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "a").write_text("x")
    calls: list[int] = []
    monkeypatch.setattr(stamps.os, "fsync", refusing(number, calls))
    sync([os.fspath(tmp_path / "a"), os.fspath(tmp_path / "gone")])
    assert len(calls) >= 1
