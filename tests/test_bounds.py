"""Temperatures and exposures that settings take, the same wherever darks are asked for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from hardware.settings import CoolingSettings, DarkCaptureSettings
from steps.settings import (
    step6_generate_synthetic_darks,
    step13_synthetic_noise_map_dark,
    step17_export_library,
    step18_plan_campaign,
)

DARKS, LIBRARY = step6_generate_synthetic_darks.Settings, step17_export_library.Settings
EM_DARK, PLAN = step13_synthetic_noise_map_dark.Settings, step18_plan_campaign.PlannedCampaign

TEMPERATURES: list[tuple[type[BaseModel], str]] = [
    (DARKS, "temperatures_c"),
    (DARKS, "temp_single_c"),
    (LIBRARY, "temperatures_c"),
    (PLAN, "temperatures_c"),
    (PLAN, "temp_single_c"),
    (DarkCaptureSettings, "temperatures_c"),
    (CoolingSettings, "target_temperature"),
]
EXPOSURES: list[tuple[type[BaseModel], str]] = [
    (DARKS, "exposures_s"),
    (DARKS, "exptime_single_s"),
    (LIBRARY, "exposures_s"),
    (PLAN, "exposures_s"),
    (PLAN, "exptime_single_s"),
    (DarkCaptureSettings, "science_exposure_time"),
]
OF_A_BIAS_TOO: list[tuple[type[BaseModel], str]] = [
    (EM_DARK, "exptime_single_s"),
    (DarkCaptureSettings, "min_exposure"),
]


def given(model: type[BaseModel], name: str, value: float) -> Any:
    """What the settings make of it."""
    wanted: Any = [value] if name.endswith("s_c") or name == "exposures_s" else value
    further = {"max_exposure": 86400.0} if name == "min_exposure" else {}
    kept = getattr(model.model_validate({name: wanted, **further}), name)
    return kept[0] if isinstance(wanted, list) else kept


@pytest.mark.parametrize(("model", "name"), TEMPERATURES)
def test_temperatures_of_a_sensor(model: type[BaseModel], name: str) -> None:
    for value in (-273.0, 0.0, 100.0):
        assert given(model, name, value) == value
    for value in (-273.15, 100.1, 293.15, math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError, match=name):
            given(model, name, value)


@pytest.mark.parametrize(("model", "name"), [*EXPOSURES, *OF_A_BIAS_TOO])
def test_exposures(model: type[BaseModel], name: str) -> None:
    for value in (1e-6, 86400.0, *([0.0] if (model, name) in OF_A_BIAS_TOO else [])):
        assert given(model, name, value) == value
    for value in (-1e-6, 86401.0, math.nan, math.inf, *([0.0] if (model, name) in EXPOSURES else [])):
        with pytest.raises(ValidationError, match=name):
            given(model, name, value)
