"""Settings of step 8."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from steps.settings.model_names import ModelName

NAME = "check_model"


class Settings(BaseModel):
    """Which model is checked, and from which change on it has drifted or is stale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the model")
    model: ModelName = Field("auto", description="the model that is checked; auto: the one that the fit chose")
    extrapolate: bool = Field(False, description="also look at cells outside the range that the model was fitted in")
    significance: float = Field(3.0, gt=0, description="a change counts if it exceeds this many of its errors")
    rate_limits: tuple[float, float] = Field(
        (0.03, 0.10), description="change of the dark rate (bulk, or hot pixels), from which drifted, stale [fraction]"
    )
    pedestal_limits: tuple[float, float] = Field(
        (1.0, 10.0), description="shift of the pedestal, from which drifted, stale [read noises]"
    )
    hot_limits: tuple[float, float] = Field(
        (0.001, 0.005), description="pixels that became or ceased to be hot, from which drifted, stale [fraction]"
    )
    pull_limits: tuple[float, float] = Field(
        (0.3, 1.0), description="spread of the pulls beyond 1 (median of the cells), from which drifted, stale"
    )
    pixel_sigma: float = Field(6.0, gt=0, description="a pixel changed if by more than this many errors of both")
    confirm_sigma: float = Field(4.0, gt=0, description="of the other cells, for a pixel that one frame shows best")
    hot_above_sigma: float = Field(
        5.0, gt=0, description="hot: above median + this many robust sigma, as in mask_hotpixels"
    )
    temperature_error_c: float = Field(
        0.05, ge=0, description="of the thermometer between the model's frames and these, 1 sigma [°C]"
    )
    pedestal_drift_adu: float | None = Field(
        None, gt=0, description="scatter of the pedestal from frame to frame [ADU]; none: measured"
    )
