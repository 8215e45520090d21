"""What all tests share: where the real frames are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("darkpipe", deadline=None)  # machines of a busy team are slow at times
settings.load_profile("darkpipe")


def real_data_root() -> Path:
    """DARKPIPE_REAL_DATA if set, else ../shared/data beside the checkout."""
    named = os.environ.get("DARKPIPE_REAL_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real frames; the test is skipped, saying so, where they are absent."""
    root = real_data_root()
    if not root.is_dir():
        pytest.skip(f"real frames are absent: no folder {root} (set DARKPIPE_REAL_DATA)")
    return root
