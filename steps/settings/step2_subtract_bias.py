"""Settings of step 2."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "subtract_bias"


class Settings(BaseModel):
    """How biases are combined and subtracted, and which numbers override what headers and data say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: Literal["auto", "frames", "offset_map"] = Field(
        "auto", description="auto: bias frames where there are any; frames: required; offset_map: fit the level instead"
    )
    bias_model: Path | None = Field(None, description="a bias model made elsewhere: b0 and b1 maps (file or folder)")
    temperature_tolerance_c: float = Field(0.5, gt=0, description="frames within this are one temperature [°C]")
    exposure_tolerance: float = Field(0.01, gt=0, description="exposures within this fraction are one (or 1 ms)")
    bias_temperature_tolerance_c: float = Field(
        1.0, ge=0, description="a dark takes a master bias within this; beyond it, the line through them [°C]"
    )
    kappa: float = Field(4.5, gt=1, description="clipping threshold in sigma of the noise model")
    scale_factor: float | Literal["auto"] = Field("auto", description="raw counts per native ADU; 16 for 12 in 16 bits")
    gain_e_per_adu: float | None = Field(None, gt=0, description="gain [e-/ADU]; none: header, else measured")
    read_noise_adu: float | None = Field(None, gt=0, description="read noise [ADU rms]; none: measured")
    saturation_fraction: float = Field(0.95, gt=0, le=1, description="of the top; higher samples do not count")
    reference_temperature_c: float | None = Field(None, description="T_0 of the physical model [°C]; none: the mean")
    readout_exposure_s: float = Field(
        0.0,
        ge=0,
        description="what darks accumulate beyond their exposure and biases do not: delays, a slower read-out [s]",
    )
    keep_corrected: bool = Field(False, description="also write every bias-subtracted dark")
