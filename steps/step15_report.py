"""Step 15 has its place here; it plans nothing yet."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from darkpipe.files.layout import OutputDir
from darkpipe.jobs.contract import Job

NAME = "report"
VERSION = 1


class Settings(BaseModel):
    """Nothing to set."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """No jobs."""
    return iter(())
