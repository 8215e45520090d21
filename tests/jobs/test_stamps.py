"""Looking at files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from darkpipe.errors import PipelineError
from darkpipe.jobs.stamps import identity, stamp


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
