"""What tells one file from the next under the same name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkpipe.same_file import Identity, Stamp, identity, identity_if_there


def test_a_file_that_was_replaced_is_another_one(tmp_path: Path) -> None:
    """Even with the size and the time of the first, which is all that a coarse clock says."""
    path, new = tmp_path / "a", tmp_path / "b"
    path.write_text("first")
    new.write_text("other")
    was = os.stat(path)
    os.utime(new, ns=(was.st_atime_ns, was.st_mtime_ns))
    before = identity(path)
    assert before == identity_if_there(path) == Identity.of(was)
    os.replace(new, path)
    assert identity(path) != before
    assert Stamp.of(os.stat(path)) == Stamp.of(was)


def test_a_file_that_was_written_in_place_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("first")
    before, was = identity(path), os.stat(path)
    path.write_text("longer than the first")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert identity(path) != before
    path.write_text("first")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 1))
    assert identity(path) != before
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert identity(path) == before


def test_a_copy_with_its_times_has_the_stamp_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    shutil.copy2(tmp_path / "a", tmp_path / "copy")
    assert Stamp.of(os.stat(tmp_path / "copy")) == Stamp.of(os.stat(tmp_path / "a"))
    assert identity(tmp_path / "copy") != identity(tmp_path / "a")


def test_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert identity_if_there(tmp_path / "none") is None
    assert identity_if_there(tmp_path / "none" / "below") is None
    with pytest.raises(FileNotFoundError):
        identity(tmp_path / "none")
