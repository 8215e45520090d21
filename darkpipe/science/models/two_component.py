"""two_component: depletion-region generation and diffusion current, the physics of a silicon pixel.

S = t [ G θ^1.5 exp(-E_g/2k (1/T - 1/T_0)) + D θ^3 exp(-E_g/k (1/T - 1/T_0)) ],  θ = T/T_0 in kelvin.
Sources: Grove 1967 (Physics and Technology of Semiconductor Devices, ch. 5); Janesick 2001 (Scientific CCDs, ch. 7);
Widenhorn et al. 2002 (Proc. SPIE 4669, 193).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.models.base import KELVIN, Model, Parameter, Reference
from darkpipe.science.models.families import LINEAR

BOLTZMANN_EV_PER_K = 8.617333262e-5

F8 = NDArray[np.float64]


def design(temperature_c: F8, exposure_s: F8, reference: Reference) -> F8:
    """(3, n) columns: exposure times the growth of generation and of diffusion since T_0, and 0."""
    kelvin = np.asarray(temperature_c, float) + KELVIN
    kelvin_0 = reference.temperature_c + KELVIN
    theta = kelvin / kelvin_0
    arrhenius = reference.energy_gap_ev / BOLTZMANN_EV_PER_K * (1.0 / kelvin_0 - 1.0 / kelvin)
    t = np.asarray(exposure_s, float)
    return np.stack([t * theta**1.5 * np.exp(0.5 * arrhenius), t * theta**3 * np.exp(arrhenius), np.zeros(t.size)])


MODEL = Model(
    name="two_component",
    formula="S = t (G theta^1.5 exp(-Eg/2k (1/T-1/T0)) + D theta^3 exp(-Eg/k (1/T-1/T0)))",
    family=LINEAR,
    parameters=(Parameter(0, "G", "adu / s", "G_map.fits"), Parameter(1, "D", "adu / s", "D_map.fits")),
    design=design,
    lower=(-1e12, -1e12, 0.0),
    upper=(1e12, 1e12, 0.0),
    axes="T",
    needs="two_component needs at least two temperatures (1 K apart)",
)
