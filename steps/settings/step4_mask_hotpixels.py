"""Settings of step 4."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

NAME = "mask_hotpixels"


class Settings(BaseModel):
    """Thresholds of special pixels, and the master they are seen in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hot_sigma: float = Field(5.0, gt=0, description="hot: above median + this many robust sigma of the reference cell")
    warm_sigma: float = Field(3.0, gt=0, description="warm: above median + this many robust sigma")
    dead_sigma: float = Field(5.0, gt=0, description="dead: below zero by this many robust sigma")
    unstable_rate: float = Field(1e-3, gt=0, lt=0.1, description="false alarms a stable pixel may give")
    reference_cell: str = Field("auto", description="name of the cell (T-10.0C_texp300s), or auto: the most signal")
