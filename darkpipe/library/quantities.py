"""Temperatures and exposures as plain numbers, or as quantities of `astropy.units`."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import SettingsError

Number: TypeAlias = Any
"""A number, an array of numbers, or an `astropy.units.Quantity` of them."""

ZERO_KELVIN_C = -273.15


def celsius(value: Number, name: str = "temperature_c") -> float:
    """A temperature in °C: a number, or a quantity (deg_C, K).

    Raises
    ------
    SettingsError
        for another unit, for more than one value, and for what lies below absolute zero or is no number.
    """
    found = _one(celsius_of(value, name), name)
    return found


def seconds(value: Number, name: str = "exposure_s") -> float:
    """An exposure in s: a number, or a quantity of time.

    Raises
    ------
    SettingsError
        for another unit, for more than one value, and for what is not above 0 s.
    """
    found = _one(seconds_of(value, name), name)
    if not found > 0:
        raise SettingsError(f"an exposure must be above 0 s, not {found:g}", where=name)
    return found


def celsius_of(values: Number, name: str = "temperatures_c") -> NDArray[np.float64]:
    """The same of many, (n,); NaN stays."""
    found = _plain(values, name, "deg_C", "a temperature (deg_C or K)")
    if (found < ZERO_KELVIN_C).any():
        raise SettingsError(f"a temperature of {np.nanmin(found):g} °C lies below absolute zero", where=name)
    return found


def seconds_of(values: Number, name: str = "exposures_s") -> NDArray[np.float64]:
    """The same of many, (n,), 0 included."""
    found = _plain(values, name, "s", "a time")
    if (found < 0).any():
        raise SettingsError(f"an exposure of {np.nanmin(found):g} s is below 0 s", where=name)
    return found


def _plain(values: Number, name: str, unit: str, what: str) -> NDArray[np.float64]:
    if hasattr(values, "to_value"):
        from astropy import units

        try:
            same = units.temperature() if unit == "deg_C" else []
            return np.asarray(values.to_value(unit, equivalencies=same), np.float64)
        except units.UnitConversionError:
            raise SettingsError(f"{values.unit} is no unit of {what}", where=name, do=f"give it in {unit}") from None
    if isinstance(values, list | tuple) and any(hasattr(v, "to_value") for v in values):
        return np.array([_plain(v, name, unit, what) for v in values], np.float64)
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise SettingsError(f"{values!r} is not {what}", where=name, do=f"give a number in {unit}") from None


def _one(values: NDArray[np.float64], name: str) -> float:
    if values.size != 1:
        raise SettingsError(f"one value is wanted, not {values.size}", where=name)
    found = float(values.reshape(()))
    if not math.isfinite(found):
        raise SettingsError(f"{found} is not a finite number", where=name)
    return found
