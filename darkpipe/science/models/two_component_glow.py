"""two_component_glow: the two currents of `two_component` and amplifier glow, which no temperature moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.models import two_component
from darkpipe.science.models.base import GLOW, Model, Parameter, Reference
from darkpipe.science.models.families import LINEAR

F8 = NDArray[np.float64]


def design(temperature_c: F8, exposure_s: F8, reference: Reference) -> F8:
    """(3, n) columns: those of `two_component`, and the exposure."""
    columns = two_component.design(temperature_c, exposure_s, reference)
    columns[2] = exposure_s
    return columns


MODEL = Model(
    name="two_component_glow",
    formula="S = t (G theta^1.5 exp(-Eg/2k (1/T-1/T0)) + D theta^3 exp(-Eg/k (1/T-1/T0)) + E)",
    family=LINEAR,
    parameters=(*two_component.MODEL.parameters, Parameter(2, GLOW, "adu / s", "E_map.fits")),
    design=design,
    lower=(-1e12, -1e12, -1e12),
    upper=(1e12, 1e12, 1e12),
    axes="T",
    needs="two_component_glow needs at least three temperatures",
)
