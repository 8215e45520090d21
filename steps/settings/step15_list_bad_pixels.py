"""Settings of step 15."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = "bad_pixels"

Bit = Literal["hot", "warm", "dead", "saturated", "unstable", "nonlinear", "fit_failed", "few_samples", "at_bound"]


class Settings(BaseModel):
    """Which pixels stand in the lists of bad pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: list[Bit] = Field(
        ["dead", "saturated", "unstable", "nonlinear", "fit_failed"],
        description="pixels with one of these bits; as a rule those that no dark corrects, so not the hot ones",
    )
