"""Bounds of the temperatures and exposures that settings ask for: wide enough for every sensor, and no wider, so that a
slip (kelvin, milliseconds) is told at once. Settings that speak of frames that are there take what headers may say."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

_LONGEST_S = 86400  # a day

Celsius = Annotated[float, Field(gt=-273.15, le=100, allow_inf_nan=False)]
"""A temperature of a sensor; at absolute zero no law of dark current holds."""

Exposure = Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
"""The exposure of a dark."""

ExposureOrZero = Annotated[float, Field(ge=0, le=_LONGEST_S, allow_inf_nan=False)]
"""That of a frame that may be a bias."""

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Any other quantity that cannot be 0."""
