"""Settings of step 12."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "fit_noise_maps"


class Settings(BaseModel):
    """How the noise maps of an EM-CCD are fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weighting: Literal["noise", "frames", "equal"] = Field(
        "noise", description="of the stacks: by the variance of their means, by their unmasked frames, or equal"
    )
    negatives: Literal["keep", "zero"] = Field(
        "keep", description="C and D below 0: kept, or put to 0, which makes the mean of a dark too high"
    )
    dark_outside: Literal["zero", "fitted"] = Field("zero", description="D of pixels that collect no dark current")
    least_share: float = Field(
        0.5, ge=0, le=1, description="of a stack's frames, that a pixel must have unmasked for the stack to be used"
    )
    frame_errors: Literal["common", "independent", "ignore"] = Field(
        "common", description="what the frames' own errors (ERR) are within a stack"
    )
    gain_stages: int = Field(604, ge=1, description="stages of the gain register, for its excess noise")
    read_noise_e: float | None = Field(
        None, gt=0, description="read noise [e- rms], for stacks whose noise cannot be measured; none: from the others"
    )
    k_gain_e_per_dn: float | None = Field(
        None, gt=0, description="conversion gain [e-/DN]; none: the bias offset is told in electrons"
    )
