"""Settings of step 17."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from darkpipe.bounds import Celsius, Exposure
from steps.settings.model_names import ModelName

NAME = "export_library"


class Settings(BaseModel):
    """Which master darks are written for other programs, and in which form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="output directory (or its dark_model) with the model; none: ours")
    model: ModelName = Field("auto", description="the model that synthesises; auto: the one that the fit chose")
    temperatures_c: list[Celsius] = Field(
        default_factory=list, description="temperatures of the darks [°C]; none: those of the campaign"
    )
    exposures_s: list[Exposure] = Field(
        default_factory=list, description="exposures of the darks [s]; none: those of the campaign"
    )
    format: Literal["uint16", "float32"] = Field(
        "uint16", description="pixels. uint16: rounded raw counts, which every program reads; float32: unrounded"
    )
    include_bias: bool = Field(True, description="with the bias, for programs that subtract darks from raw lights")
    unit_range: bool = Field(
        False, description="float32 from 0 to 1, as PixInsight and N.I.N.A. take it; else raw counts"
    )
    image_type: Literal["Master Dark", "DARK", "Dark Frame"] = Field(
        "Master Dark", description="IMAGETYP. PixInsight knows masters by that word; N.I.N.A. asks unless it is DARK"
    )
    like: Path | None = Field(None, description="a raw frame whose header the darks get; none: one of the campaign")
    keyword_synonyms: dict[str, list[str]] = Field(
        default_factory=dict, description="further keywords for the header of `like`"
    )
