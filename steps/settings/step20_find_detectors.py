"""Settings of step 20."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "detectors"


class Settings(BaseModel):
    """A focal plane of many detectors as one run: a model for each, in a folder of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["folders", "hdus"] | None = Field(
        None,
        description="where the frames of a detector are: folders: each folder below basepath is one; hdus: each image"
        " of a file is one, by EXTNAME; null: there is one detector",
    )
    names: list[str] = Field(default_factory=list, description="only these; empty: all that are found")
    basepath: Path | None = Field(None, description="folder of the raw frames; set by the controller")
