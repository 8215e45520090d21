"""Settings of step 6."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkpipe.bounds import Celsius, Exposure
from steps.settings.model_names import ModelName

NAME = "generate_synthetic_darks"


class Settings(BaseModel):
    """Which darks are made, from which model, and in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["cells", "temperatures", "grid", "single"] = Field(
        "cells",
        description="cells: one dark a cell; temperatures: every cell of one exposure, or the given temperatures; "
        "grid: every cell, and temperatures x exposures; single: one dark",
    )
    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the model; none: ours")
    model: ModelName = Field("auto", description="the model that synthesises; auto: the one that the fit chose")
    temperatures_c: list[Celsius] = Field(default_factory=list, description="temperatures of further darks [°C]")
    exposures_s: list[Exposure] = Field(default_factory=list, description="exposures of further darks [s]")
    temp_single_c: Celsius | None = Field(None, description="temperature of the single dark [°C]")
    exptime_single_s: Exposure | None = Field(None, description="exposure of the single dark [s]")
    output: Path | None = Field(None, description="file of the single dark; none: in synthetic/")
    include_bias: bool = Field(False, description="add the bias again, as a camera would give it")
    dtype: Literal["float32", "uint16"] = Field(
        "float32", description="float32: SCI, ERR, DQ in native ADU; uint16: raw counts in the primary HDU"
    )
    keep_synthetic: bool = Field(True, description="write one synthetic dark a cell in full runs")
