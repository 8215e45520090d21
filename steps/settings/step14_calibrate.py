"""Settings of step 14."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "calibrate"


class Settings(BaseModel):
    """Which model light frames are calibrated with, and what says their temperature."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the model")
    model: Literal["auto", "exp_1d", "exp_t", "exp_2d", "two_component"] = Field(
        "auto", description="the model that makes the darks; auto: the one that the fit chose"
    )
    temperature: Literal["header", "thermometer"] = Field(
        "header", description="header: set point while regulated, else the reading; thermometer: the hot pixels"
    )
    temperature_tolerance_c: float = Field(
        0.5, gt=0, description="a reading this close to the set point: the camera is regulated [°C]"
    )
    temperature_error_c: float = Field(0.1, ge=0, description="1 sigma of a reading of the header [°C]")
    thermometer_error_c: float = Field(
        1.0, gt=0, description="hot pixels that tell the temperature less well than this are not followed, 1 sigma [°C]"
    )
    disagreement_c: float = Field(
        1.0, gt=0, description="hot pixels and header: a difference from which it is said [°C]"
    )
    repair: bool = Field(False, description="replace pixels that the model does not describe by their neighbours")
    residual: bool = Field(False, description="also fit the scale of the dark to the frame, and correlate the two")
    like: Path | None = Field(None, description="make the one dark for this frame, instead of calibrating a folder")
    output: Path | None = Field(None, description="file of the dark for `like`; none: in synthetic/")
    include_bias: bool = Field(False, description="of the dark for `like`: with bias, as a camera would give it")
    dtype: Literal["float32", "uint16"] = Field(
        "float32", description="of the dark for `like`. float32: SCI, ERR, DQ in native ADU; uint16: raw counts"
    )
    keyword_synonyms: dict[str, list[str]] = Field(
        default_factory=dict, description="further keywords for the header of `like`; else those of load_data hold"
    )
