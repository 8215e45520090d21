"""Settings of step 13."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkpipe.bounds import ExposureOrZero

NAME = "synthetic_noise_map_dark"


class Settings(BaseModel):
    """The dark that is made of noise maps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the maps; none: ours")
    em_gain: float | None = Field(None, ge=1, description="EM gain of the dark")
    exptime_single_s: ExposureOrZero | None = Field(None, description="exposure of the dark [s]")
    full_frame: bool = Field(False, description="the whole frame, else the image area")
    errors: Literal["covariance", "independent"] = Field(
        "covariance", description="with what the errors of F, C and D share; independent: without, as corgidrp"
    )
    output: Path | None = Field(None, description="file of the dark; none: in em_darks/")
