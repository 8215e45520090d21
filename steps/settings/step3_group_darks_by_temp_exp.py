"""Settings of step 3."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

NAME = "group_darks"


class Settings(BaseModel):
    """How the frames of a cell are combined (what makes a cell is a matter of subtract_bias)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kappa: float = Field(4.5, gt=1, description="clipping threshold in sigma of the noise model")
    relative_error: float = Field(
        0.01, ge=0, description="multiplicative error of a frame within its cell, beside that of its temperature"
    )
