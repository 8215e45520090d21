"""The frames of a plan, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["bias", "dark"]
Setting = tuple[Kind, float, float | None]
"""Kind, exposure [s] and set point [°C]: what frames have in common that should look alike."""


@dataclass(frozen=True)
class Slot:
    """One frame of a plan, whether it is taken or not.

    exposure_s : as asked of the camera. temperature_c : set point; None: the cooler is not used. number : from 1, of
        the frames of this kind, exposure and temperature.
    key : the same as text, 'T-10.0C/dark/2s/003' or 'uncooled/bias/0.001s/001'; the same for ever.
    """

    kind: Kind
    exposure_s: float
    temperature_c: float | None
    number: int

    @property
    def setting(self) -> Setting:
        return self.kind, self.exposure_s, self.temperature_c

    @property
    def key(self) -> str:
        place = "uncooled" if self.temperature_c is None else f"T{temperature_text(self.temperature_c)}C"
        return f"{place}/{self.kind}/{exposure_text(self.exposure_s)}s/{self.number:03d}"


@dataclass(frozen=True)
class PlannedExposure:
    """One exposure time of a plan; purposes : what it is for, 'bias', 'flat', 'science × 0.5'."""

    kind: Kind
    exposure_s: float
    purposes: tuple[str, ...]


@dataclass(frozen=True)
class CapturePlan:
    """All frames that are wanted.

    slots : in taking order. exposures : bias first, then by time. temperatures_c : in order; (None,) without a cooler.
    remarks : what was left out, rounded or merged, a sentence each.
    """

    slots: tuple[Slot, ...]
    exposures: tuple[PlannedExposure, ...]
    temperatures_c: tuple[float | None, ...]
    remarks: tuple[str, ...] = ()


def temperature_text(temperature_c: float) -> str:
    """'-10.0': one decimal at least, more where they are needed; no sign of a zero."""
    return np.format_float_positional(temperature_c + 0.0, min_digits=1)


def exposure_text(exposure_s: float) -> str:
    """'300', '0.25', '0.000034': as many digits as needed, never an exponent."""
    return np.format_float_positional(exposure_s + 0.0, trim="-")
