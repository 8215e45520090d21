"""Settings of step 19."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

NAME = "report"


class Settings(BaseModel):
    """Whether a report is written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    write: bool = Field(True, description="write evaluation/report.html and its pictures")
    run: dict[str, Any] = Field(
        default_factory=dict, description="settings of the steps of the same run, to be shown; set by the controller"
    )
