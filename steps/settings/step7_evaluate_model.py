"""Settings of step 7."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from steps.settings.model_names import ModelName

NAME = "evaluate_model"


class Settings(BaseModel):
    """Which model is held against which masters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the model; none: ours")
    model: ModelName = Field("auto", description="the model that is drawn; auto: the one that the fit chose")
    pictures: bool = Field(True, description="draw maps of each cell; without: numbers and the summary only")
