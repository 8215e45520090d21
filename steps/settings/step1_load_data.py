"""Settings of step 1."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "load_data"


class Settings(BaseModel):
    """Where the raw frames are and how their headers are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basepath: Path | None = Field(None, description="folder of raw dark and bias frames; sub-folders are searched")
    acquired: Path | None = Field(
        None, description="folder of the frames that are taken here; set by the controller where a camera is configured"
    )
    detector: str = Field(
        "", description="name of the image (EXTNAME, or its number as hdu3) in files that hold many; empty: the first"
    )
    keyword_synonyms: dict[str, list[str]] = Field(
        default_factory=dict,
        description="further header keywords by quantity, tried before the known ones, e.g. {temperature: [MYTEMP]}",
    )
    bias_max_exposure_s: float = Field(0.01, ge=0, description="darks no longer than this count as bias frames [s]")
    kinds: list[Literal["bias", "dark", "light", "flat"]] = Field(
        ["bias", "dark"], min_length=1, description="kinds of frames that are taken; mode calibrate: light and flat"
    )
    expect_filter: str = Field("", description="reject frames whose FILTER is another one; empty: not checked")
