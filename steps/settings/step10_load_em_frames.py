"""Settings of step 10."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "load_em_frames"

Rectangle = tuple[
    Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]


class Settings(BaseModel):
    """Where the frames of an EM-CCD are, how their headers are read, and which of their pixels are what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basepath: Path | None = Field(None, description="folder of the frames, in electrons; sub-folders are searched")
    keyword_synonyms: dict[str, list[str]] = Field(
        default_factory=dict,
        description="header keywords by quantity, tried before the known ones; {em_gain: [EMGAIN_M, EMGAIN_A]} takes "
        "the measured gain before the commanded one",
    )
    same_gain: float = Field(0.001, gt=0, lt=1, description="EM gains no further apart belong to one stack [fraction]")
    divided_by_gain: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether pixels were divided by the EM gain; auto: where the unit is 'detected electron'"
    )
    assume_electrons: bool = Field(False, description="take whole numbers without a unit for electrons")
    detector: Literal["custom", "roman_coronagraph"] = Field(
        "custom", description="whose areas these are; custom: the frame is all image, but for what is given here"
    )
    image_area: Rectangle | None = Field(
        None, description="first row, first column, rows, columns: what a dark is made of"
    )
    active_area: Rectangle | None = Field(
        None, description="the same of all pixels that collect dark current; none: the image area"
    )
    prescan_area: Rectangle | None = Field(None, description="the same of the prescan; none: there is none")
    telemetry_rows: tuple[int, int | None] | None = Field(
        None, description="first row and row after the last, from the end if negative; [-1, null]: the last row"
    )
