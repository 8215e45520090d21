"""Settings of step 11."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "traditional_dark"


class Settings(BaseModel):
    """Which master darks of an EM-CCD are made, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    em_gain: float | None = Field(None, ge=1, description="only the darks of this EM gain (1 %); none: of every one")
    exptime_single_s: float | None = Field(
        None, ge=0, description="only the darks of this exposure (1 %) [s]; none: of every one"
    )
    full_frame: bool = Field(False, description="the whole frame, else the image area")
    frame_errors: Literal["common", "independent", "ignore"] = Field(
        "common", description="what the frames' own errors (ERR) are within a stack"
    )
    scatter: Literal["population", "pixel"] = Field(
        "population", description="error of the mean: from a variance drawn to that of all pixels, or the pixel's alone"
    )
