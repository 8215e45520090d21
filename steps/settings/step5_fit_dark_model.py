"""Settings of step 5."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steps.settings.model_names import ModelName

NAME = "fit_dark_model"


class Settings(BaseModel):
    """Which models are fitted, to which cells, and which one makes the darks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName = Field("auto", description="the model that synthesises; auto: the smallest held-out error")
    model_set: Literal["all", "two_dimensional"] = Field(
        "all", description="two_dimensional: only models of temperature and exposure"
    )
    exclude_temperatures_c: list[float] = Field(
        default_factory=list, description="cells within 0.5 °C of one of these are not fitted (kept for evaluation)"
    )
    exclude_hot_from_fit: bool = Field(False, description="leave hot pixels without a model")
    shape_prior: Literal["signal", "wide"] = Field(
        "signal",
        description="shape of pixels that cannot tell it: from pixels of their signal, or a wide guess",
    )
    energy_gap_ev: float = Field(1.12, gt=0.1, lt=5, description="E_g of two_component [eV]; silicon: 1.12")
