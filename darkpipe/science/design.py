"""Which models a campaign can carry, and on which of its cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.models import EXP_1D, EXP_2D, EXP_2D_GLOW, EXP_T, MODELS, TWO_COMPONENT, TWO_COMPONENT_GLOW
from darkpipe.science.models.base import Model, Reference, centred
from darkpipe.science.models.families import LINEAR

F8 = NDArray[np.float64]
# models of temperature and exposure, in the order of preference without a score
RICH = (EXP_2D, TWO_COMPONENT, TWO_COMPONENT_GLOW, EXP_2D_GLOW)


@dataclass(frozen=True)
class Unit:
    """One fit: a model, the positions of its cells, and the references of the fit and of its maps.

    scope : '' for a model of all cells, else which cells: 'texp10s' or 'T-10.0C'.
    """

    model: Model
    scope: str
    cells: tuple[int, ...]
    fit_reference: Reference
    map_reference: Reference

    @property
    def key(self) -> str:
        return f"{self.model.name}/{self.scope}" if self.scope else self.model.name


@dataclass(frozen=True)
class Campaign:
    """The cells of a campaign: temperature [°C], effective exposure [s], labels, and the free level each hangs on
    (-1: its bias is known), all (n,)."""

    temperature_c: F8
    exposure_s: F8
    temperature_labels: Sequence[str]
    exposure_labels: Sequence[str]
    free_level: NDArray[np.int64]

    def describe(self) -> str:
        """Its temperatures and exposures, for messages."""
        temperatures = sorted(set(np.round(self.temperature_c, 2).tolist()))
        exposures = sorted({float(f"{t:.4g}") for t in self.exposure_s})
        return (
            f"this campaign has {_listed(temperatures)} °C and {_listed(exposures)} s"
            f" in {self.temperature_c.size} cell(s)" + (" and no bias" if (self.free_level >= 0).any() else "")
        )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values[:12]) + (" …" if len(values) > 12 else "")


def plan_fits(
    campaign: Campaign, wanted: Iterable[str], reference_temperature_c: float, energy_gap_ev: float
) -> tuple[list[Unit], dict[str, str]]:
    """What is fitted, and why the rest is not.

    Models of temperature and exposure wherever the design has the rank for them; those of one axis where exp_2d does
    not fit, or `wanted` names them.
    """
    units: list[Unit] = []
    missing: dict[str, str] = {}
    for model in RICH:
        _try(model, "", tuple(range(campaign.temperature_c.size)), campaign, reference_temperature_c, energy_gap_ev,
             units, missing)  # fmt: skip
    for model, labels in ((EXP_1D, campaign.exposure_labels), (EXP_T, campaign.temperature_labels)):
        if any(u.model is EXP_2D for u in units) and model.name not in wanted:
            missing[model.name] = "a richer model was fitted; ask for it with --model"
            continue
        before, lacks = len(units), dict[str, str]()
        for scope in dict.fromkeys(labels):
            members = tuple(i for i, label in enumerate(labels) if label == scope)
            _try(model, scope, members, campaign, reference_temperature_c, energy_gap_ev, units, lacks)
        if len(units) == before:
            # of the reasons of all scopes the one that tells most: how many cells there are for how many unknowns
            missing[model.name] = max(lacks.values(), key=len, default=model.needs)
    return units, missing


def _try(
    model: Model,
    scope: str,
    members: tuple[int, ...],
    campaign: Campaign,
    reference_temperature_c: float,
    energy_gap_ev: float,
    units: list[Unit],
    missing: dict[str, str],
) -> None:
    index = np.array(members)
    temperature, exposure = campaign.temperature_c[index], campaign.exposure_s[index]
    unit = make_unit(model, scope, members, temperature, exposure, reference_temperature_c, energy_gap_ev)
    lack = model.lacks(temperature, exposure, campaign.free_level[index], unit.fit_reference)
    if lack is None:
        units.append(unit)
    else:
        missing[unit.key] = lack


def make_unit(
    model: Model,
    scope: str,
    members: tuple[int, ...],
    temperature_c: F8,
    exposure_s: F8,
    reference_temperature_c: float,
    energy_gap_ev: float,
) -> Unit:
    """A unit with its references: exponentials are fitted about the centre of their cells, where the parameters are
    least correlated, and quoted at T_min and 1 s; the currents are fitted and quoted at T_0."""
    if model.family == LINEAR:
        reference = Reference(reference_temperature_c, 1.0, energy_gap_ev)
        return Unit(model, scope, members, reference, reference)
    weight = exposure_s * np.exp2(temperature_c / 6.5)  # cells count about as much as they hold signal
    fit = centred(Reference(0.0), temperature_c, exposure_s, weight)
    return Unit(model, scope, members, fit, Reference(float(temperature_c.min())))


def can_leave_out(unit: Unit, campaign: Campaign, position: int) -> bool:
    """Whether the model still has the rank for a fit without one of the unit's cells."""
    index = np.array([c for i, c in enumerate(unit.cells) if i != position])
    if index.size == 0:
        return False
    return (
        unit.model.lacks(
            campaign.temperature_c[index], campaign.exposure_s[index], campaign.free_level[index], unit.fit_reference
        )
        is None
    )


def nearest_master(position: int, temperature_c: F8, exposure_s: F8) -> int | None:
    """Position of the master a user without a model would scale: the longest other exposure at the same (else the
    nearest) temperature."""
    others = [i for i in range(temperature_c.size) if i != position]
    if not others:
        return None
    away, exposure = np.abs(temperature_c - temperature_c[position]).round(6).tolist(), exposure_s.tolist()
    return min(others, key=lambda i: (away[i], -exposure[i]))


def choose(scores: dict[str, float | None]) -> tuple[str, str]:
    """The model with the smallest score among those that have one, and why, in words."""
    known = {k: s for k, s in scores.items() if s is not None and np.isfinite(s)}
    if not known:
        first = next((k for m in RICH for k in scores if k == m.name), next(iter(scores)))
        return first, "no cell can be left out of so small a campaign, so models cannot be compared"
    best = min(known, key=lambda k: (known[k], k))
    if len(known) == 1:
        return best, f"the only one with a held-out error ({known[best]:.3f} of the noise floor)"
    rest = {k: s for k, s in known.items() if k != best}
    second = min(rest, key=lambda k: rest[k])
    gain = 100.0 * (rest[second] / known[best] - 1.0)
    return best, (
        f"smallest held-out error: {known[best]:.4f} of the noise floor, {gain:.2f} % better than {second} "
        f"({rest[second]:.4f})"
    )


__all__ = ["MODELS", "Campaign", "Unit", "can_leave_out", "choose", "make_unit", "nearest_master", "plan_fits"]
