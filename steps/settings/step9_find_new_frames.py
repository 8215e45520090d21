"""Settings of step 9."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

NAME = "new_frames"


class Settings(BaseModel):
    """Whether new frames are held against the model before it is fitted again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: bool = Field(True, description="hold new frames against the model before it is fitted again with them")
