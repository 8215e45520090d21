"""Inputs that a file system shows late."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from darkpipe.errors import PipelineError
from darkpipe.files.atomic import file_digest, replace_text
from darkpipe.jobs.freshness import Content, await_contents
from darkpipe.jobs.stamps import stamp


def content(path: Path) -> Content:
    found = stamp(path)
    assert found is not None
    return Content(found, file_digest(path))


@pytest.mark.parametrize("there", [True, False])
def test_waits_for_what_the_controller_knows(tmp_path: Path, there: bool) -> None:
    made, seen = tmp_path / "made.txt", tmp_path / "seen.txt"
    replace_text(made, "new")
    known = {str(seen): content(made)}
    if there:
        replace_text(seen, "as it was before")
    threading.Timer(0.5, os.replace, (made, seen)).start()
    await_contents(known, patience_s=30.0)
    assert seen.read_text() == "new"


def test_another_time_with_the_same_content_will_do(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "new")
    known = {str(path): content(path)}
    os.utime(path, ns=(1, 1))
    await_contents(known, patience_s=0.0, read_after_s=0.0)


@pytest.mark.parametrize(("there", "said"), [(True, "does not see the file as it was made"), (False, "no such file")])
def test_gives_up_in_the_end(tmp_path: Path, there: bool, said: str) -> None:
    path = tmp_path / "a.txt"
    replace_text(path, "new")
    known = {str(path): content(path)}
    if there:
        replace_text(path, "old")
    else:
        path.unlink()
    began = time.monotonic()
    with pytest.raises(PipelineError, match=said) as caught:
        await_contents(known, patience_s=0.3, read_after_s=0.1)
    assert caught.value.where == str(path)
    assert time.monotonic() - began >= 0.3
