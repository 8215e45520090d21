"""What a dark model is: a family of formulas, a design, a domain and names for its maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.models.families import EXPONENTIAL, GLOWING, LINEAR

F8 = NDArray[np.float64]

KELVIN = 273.15
MIN_SPAN_K = 0.45  # rms temperature contrast that a cell design must have to tell a slope in temperature
MIN_SPAN_LN_T = 0.1  # the same for ln(exposure)
MIN_SPAN_LN_T_ON_A_LEVEL = 0.03  # the same where the level is free, too: gamma then has a prior near 1
MIN_CONTRAST = 0.03  # the same for the currents of a linear model and for glow, relative
GLOW = "E"  # name of the parameter that is amplifier glow


@dataclass(frozen=True)
class Reference:
    """Where the parameters of a model are quoted.

    temperature_c : T_min of the exponentials, T_0 of the two currents.
    exposure_s : exposure at which an exponential's amplitude is quoted (1 s in the maps).
    energy_gap_ev : E_g of the two currents.
    """

    temperature_c: float
    exposure_s: float = 1.0
    energy_gap_ev: float = 1.12


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model: its slot in the family's (3,) array, name, unit, and the name of its map file."""

    slot: int
    name: str
    unit: str
    file: str


@dataclass(frozen=True)
class Model:
    """A dark model.

    design : (T_c (n,), t_s (n,), Reference) -> (3, n) columns of `families.evaluate`.
    lower, upper : (3,) domain of the parameters.
    axes : what must vary in the campaign: 'T', 't' or 'Tt'.
    linear_in_time : S is exactly proportional to t.
    """

    name: str
    formula: str
    family: int
    parameters: tuple[Parameter, ...]
    design: Callable[[F8, F8, Reference], F8]
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    axes: str
    needs: str

    @property
    def free(self) -> NDArray[np.bool_]:
        """(3,) which slots are fitted."""
        used = {p.slot for p in self.parameters}
        return np.array([i in used for i in range(3)])

    @property
    def glow_slot(self) -> int | None:
        """Slot of the amplifier glow E [ADU/s], None for a model without."""
        return next((p.slot for p in self.parameters if p.name == GLOW), None)

    def lacks(self, temperature_c: F8, exposure_s: F8, offsets: NDArray[np.int64], reference: Reference) -> str | None:
        """Why a campaign of these cells (n,) cannot carry the model, or None.

        `offsets` (n,) numbers the free level each cell hangs on (-1: its bias is known). The rank of the design is
        judged at a typical dark current (gamma 1, B 0.1/K) with the weights of its shot noise: each column, freed from
        the others, must keep a contrast.
        """
        x = self.design(temperature_c, exposure_s, reference)
        free = self.free
        if self.family == EXPONENTIAL:
            signal = np.exp(x[0] * free[1] + 0.1 * x[1] * free[2])
            columns = [signal, signal * x[0], signal * x[1]]
            on_level = bool((offsets >= 0).any())
            limits = [0.0, MIN_SPAN_LN_T_ON_A_LEVEL if on_level else MIN_SPAN_LN_T, MIN_SPAN_K]
        elif self.family == GLOWING:
            signal = x[0] * np.exp(0.1 * x[1])
            columns = [signal, x[0], signal * x[1]]
            limits = [0.0, MIN_CONTRAST, MIN_CONTRAST]
        else:
            signal = x[0] + x[1]
            columns = list(x)
            limits = [MIN_CONTRAST] * 3
        weight = 1.0 / np.sqrt(signal)
        kept = [(c * weight, lim) for c, lim, f in zip(columns, limits, free, strict=True) if f]
        levels = [(offsets == o) * weight for o in sorted(set(offsets.tolist())) if o >= 0]
        unknowns = len(kept) + len(levels)
        if temperature_c.size < unknowns:
            return f"{self.needs}; {temperature_c.size} cell(s) for {unknowns} unknowns a pixel"
        for i, (column, limit) in enumerate(kept):
            others = [c for j, (c, _) in enumerate(kept) if j != i] + levels
            scale = np.linalg.norm(column if self.family != EXPONENTIAL else kept[0][0])
            left = column if not others else column - _project(np.stack(others, 1), column)
            if not np.linalg.norm(left) > max(limit, 1e-6) * scale:
                return f"{self.needs}; the cells tell them apart too little"
        return None


def glow_design(temperature_c: F8, exposure_s: F8, reference: Reference) -> F8:
    """(3, n) columns t, T - T_ref, 0."""
    t = np.asarray(exposure_s, float)
    return np.stack([t, np.asarray(temperature_c, float) - reference.temperature_c, np.zeros(t.size)])


def _project(basis: F8, vector: F8) -> F8:
    scale = np.linalg.norm(basis, axis=0)
    basis = basis / np.where(scale > 0, scale, 1.0)
    return np.asarray(basis @ np.linalg.lstsq(basis, vector, rcond=1e-9)[0])


def design_slope(model: Model, temperature_c: F8, exposure_s: F8, reference: Reference, step_k: float = 0.01) -> F8:
    """(3, n) derivative of a model's design by the temperature of the cells [1/K], by central differences: designs are
    smooth over far more than the step."""
    temperature = np.asarray(temperature_c, float)
    above, below = (model.design(temperature + d, exposure_s, reference) for d in (step_k, -step_k))
    return np.asarray((above - below) / (2.0 * step_k))


def exponential_design(temperature_c: F8, exposure_s: F8, reference: Reference) -> F8:
    """(3, n) columns ln(t/t_ref), T - T_ref, 0."""
    t = np.asarray(exposure_s, float)
    with np.errstate(divide="ignore"):
        u = np.log(t / reference.exposure_s)
    return np.stack([u, np.asarray(temperature_c, float) - reference.temperature_c, np.zeros(t.size)])


def move_reference(model: Model, p: F8, covariance: F8, old: Reference, new: Reference) -> tuple[F8, F8]:
    """Parameters (3, P) and covariance (6, P) of an exponential quoted at another temperature and exposure.

    A' = A·exp(gamma·ln(t'/t) + B·(T'-T)); its covariance follows by the Jacobian, written so that A = 0 is no trouble.
    A linear model is returned as it is (its reference is part of its design); glow knows no temperature.
    """
    if model.family == LINEAR:
        return p, covariance
    free = model.free
    du = np.log(new.exposure_s / old.exposure_s) if free[1] and model.family == EXPONENTIAL else 0.0
    dv = (new.temperature_c - old.temperature_c) if free[2] else 0.0
    factor = np.exp(p[1] * du + p[2] * dv)
    a = p[0] * factor
    j0, j1, j2 = factor, a * du, a * dv
    c00, c01, c02, c11, c12, c22 = covariance
    moved = np.stack(
        [
            j0 * j0 * c00 + j1 * j1 * c11 + j2 * j2 * c22 + 2 * (j0 * j1 * c01 + j0 * j2 * c02 + j1 * j2 * c12),
            j0 * c01 + j1 * c11 + j2 * c12,
            j0 * c02 + j1 * c12 + j2 * c22,
            c11,
            c12,
            c22,
        ]
    )
    return np.stack([a, p[1], p[2]]), moved


def move_step(model: Model, p: F8, step: F8, old: Reference, new: Reference) -> F8:
    """Small changes (..., 3, P) of parameters p (3, P), quoted at another reference as by `move_reference`."""
    if model.family == LINEAR:
        return step
    du = np.log(new.exposure_s / old.exposure_s) if model.free[1] and model.family == EXPONENTIAL else 0.0
    dv = (new.temperature_c - old.temperature_c) if model.free[2] else 0.0
    factor = np.exp(p[1] * du + p[2] * dv)
    first = factor * (step[..., 0, :] + p[0] * (du * step[..., 1, :] + dv * step[..., 2, :]))
    return np.stack([first, step[..., 1, :], step[..., 2, :]], axis=-2)


def centred(reference: Reference, temperature_c: F8, exposure_s: F8, weight: F8) -> Reference:
    """A reference at the weighted centre of the cells, where amplitude, gamma and B are least correlated."""
    total = float(weight.sum())
    if not total > 0:
        return reference
    ln_t = float((np.log(exposure_s) * weight).sum() / total)
    return replace(
        reference, temperature_c=float((temperature_c * weight).sum() / total), exposure_s=float(np.exp(ln_t))
    )
