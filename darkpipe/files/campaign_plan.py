"""A planned campaign on disk: what a model tells of its sensor, and the tables of predicted errors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.errors import DesignError, ProductError
from darkpipe.files.drift import drift_of
from darkpipe.files.fitting import plan_units, read_population
from darkpipe.files.layout import ModelDir, OutputDir, cell_name, temperature_label
from darkpipe.files.masters import Cell, ReferenceValues, bias_groups, stations_of
from darkpipe.files.model_maps import ANOTHER_LAW, Description, FittedModel, read_description
from darkpipe.files.products import read_header, read_planes
from darkpipe.files.sensor import UNTYPICAL, ModelFiles, sample_bands
from darkpipe.files.tables import read_table, table_of
from darkpipe.science.campaign import (
    CameraNoise,
    PixelKind,
    PlannedCells,
    Predicted,
    bias_error,
    figure_of_merit,
    predict,
    true_parameters,
)
from darkpipe.science.design import Unit, make_unit
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.models import EXP_1D, EXP_T, MODELS
from darkpipe.science.models.families import EXPONENTIAL
from darkpipe.science.population import Population

F8 = NDArray[np.float64]

BEYOND_C = 5.0  # how far outside of the campaign errors are told, too
BEYOND_FACTOR = 1.5  # the same in exposure


@dataclass(frozen=True)
class Outline:
    """A campaign in plain numbers: cells as (temperature [°C], exposure [s], darks), and biases at each temperature."""

    cells: tuple[tuple[float, float, int], ...]
    biases: int

    @property
    def temperatures_c(self) -> list[float]:
        return sorted({c[0] for c in self.cells})

    @property
    def exposures_s(self) -> list[float]:
        return sorted({c[1] for c in self.cells})

    @property
    def frames(self) -> int:
        """Darks and biases together."""
        return sum(c[2] for c in self.cells) + self.biases * len(self.temperatures_c)


@dataclass(frozen=True)
class Fitting:
    """How a campaign would be fitted: its model, another law if it carries one, and its cells."""

    unit: Unit
    other: Unit | None
    planned: PlannedCells
    carried: tuple[str, ...]

    def outside(self, temperature_c: F8, exposure_s: F8) -> NDArray[np.bool_]:
        """Which points are beyond the campaign, as a synthetic dark would have it."""
        t, e = self.planned.temperature_c, self.planned.exposure_s
        ends = (float(t.min()), float(t.max())), (float(e.min()), float(e.max()))
        model = FittedModel(self.unit.model.name, "", *ends, self.unit.map_reference)
        return np.array([not model.covers(*point) for point in zip(temperature_c, exposure_s, strict=True)])

    def makes(self, temperature_c: float, exposure_s: float) -> bool:
        """Whether the model can make such a dark at all: one of a single exposure or temperature makes no others."""
        model, planned = self.unit.model, self.planned
        if model is EXP_T:
            return bool(abs(temperature_c - planned.temperature_c.mean()) <= 0.5)
        return model is not EXP_1D or bool(abs(exposure_s / planned.exposure_s.mean() - 1.0) <= 0.01)


def fitting_of(outline: Outline, model: str, temperature_error_c: float, energy_gap_ev: float) -> Fitting:
    """What would be fitted to a campaign.

    Raises
    ------
    DesignError
        when it carries no model of all of its cells together, or not the one asked for.
    """
    cells = [
        Cell(cell_name(t_c, t_s), t_c, temperature_error_c, t_s, n, temperature_label(t_c) if outline.biases else "")
        for t_c, t_s, n in outline.cells
    ]
    typical = ReferenceValues(1.0, 1.0, 1.0, "", math.inf, 0.0, _centre_c(outline))
    units, _, one_level = plan_units(cells, typical, model, energy_gap_ev, False)
    of_all = {u.model.name: u for u in units if len(u.cells) == len(cells) and u.model.glow_slot is None}
    if not of_all or (model != "auto" and model not in of_all):
        raise DesignError(
            f"no model describes the {len(cells)} cells of this plan together",
            do="plan at least two temperatures and two exposures of each, or one temperature, or one exposure",
        )
    unit = of_all[model] if model != "auto" else next(iter(of_all.values()))
    names = bias_groups(cells, one_level)
    number = {name: q for q, name in enumerate(dict.fromkeys(names))}
    planned = PlannedCells(
        np.array([c.temperature_c for c in cells]),
        np.array([c.exposure_s for c in cells]),
        np.array([c.frames for c in cells]),
        np.array([number[name] for name in names]),
        np.full(len(number), outline.biases),
        stations_of(cells),
    )
    return Fitting(unit, of_all.get(ANOTHER_LAW.get(unit.model.name, "")), planned, tuple(of_all))


def _centre_c(outline: Outline) -> float:
    """T_0 as step 2 chooses it: the mean of the temperatures, a whole degree."""
    return float(round(np.mean(outline.temperatures_c)))


def grid_of(outline: Outline) -> tuple[list[float], list[float]]:
    """Temperatures and exposures that errors are told at: those of the cells, the middles between them, and beyond."""
    t, e = outline.temperatures_c, outline.exposures_s
    temperatures = [*t, *(0.5 * (a + b) for a, b in itertools.pairwise(t))]
    exposures = [*e, *(math.sqrt(a * b) for a, b in itertools.pairwise(e))]
    if len(t) > 1:
        temperatures += [t[0] - BEYOND_C, t[-1] + BEYOND_C]
    if len(e) > 1:
        exposures += [e[0] / BEYOND_FACTOR, e[-1] * BEYOND_FACTOR]
    return sorted(float(f"{v:.6g}") for v in temperatures), sorted(float(f"{v:.6g}") for v in exposures)


# a model that exists
@dataclass(frozen=True)
class KnownSensor:
    """What an existing model tells before its maps are read: campaign, noise, the model that makes darks."""

    folder: ModelDir
    description: Description
    model: FittedModel
    outline: Outline
    noise: CameraNoise

    @property
    def files(self) -> tuple[Path, ...]:
        """What `kinds_of` reads."""
        m, f = self.model, self.folder
        named = (*f.maps(m.name).values(), f.covariance(m.name), f.population(m.name), f.held_out(m.name))
        return (f.description, *named, *((f.hot_pixel_mask,) if f.hot_pixel_mask.is_file() else ()))


def read_sensor(path: Path, wanted: str) -> KnownSensor:
    """Campaign and noise of a model, from its tables and headers.

    Raises
    ------
    ProductError
        when there is no model, or its tables are missing. DesignError when it has none of temperature and exposure.
    """
    folder = ModelDir.at(path)
    description = read_description(folder.description)
    names = [m.name for m in description.models if not m.cell and m.name in ANOTHER_LAW and "glow" not in m.name]
    first = wanted if wanted != "auto" else description.chosen.removesuffix("_glow")
    if not names or (wanted != "auto" and wanted not in names):
        raise DesignError(
            "this model is none of temperature and exposure, so it tells too little of its sensor to plan by",
            where=folder.path, do="give dark current and noise in the settings (plan_campaign) instead of --model_dir",
        )  # fmt: skip
    model = description.find(first if first in names else names[0])
    rows = read_table(folder.held_out(model.name))
    cells = tuple((float(r["temperature_c"]), float(r["exposure_s"]), int(r["n_frames"])) for r in rows)
    around = OutputDir(folder.path.parent, "")
    biases = [int(r["frames"]) for r in read_table(around.biases)] if around.biases.is_file() else []
    drift = 0.0
    if around.corrected.is_file():
        drift = float(drift_of(around.corrected, around.bias_frames, description.scale_factor)["frame_adu"])
    full = float(read_header(folder.saturation_map)["SATLEVEL"]) if folder.saturation_map.is_file() else math.inf
    noise = CameraNoise(description.read_noise_adu, description.gain_e_per_adu, full, drift)
    most = max((n for *_, n in cells), default=1)
    count = int(np.median(biases)) if biases else (most if description.has_bias else 0)
    return KnownSensor(folder, description, model, Outline(cells, count), noise)


def kinds_of(sensor: KnownSensor) -> list[PixelKind]:
    """The typical bulk pixel of a model and its typical hot one, with the scatter of their shapes and what the formula
    misses of them.

    Raises
    ------
    ProductError
        when too few of its pixels can be used.
    """
    folder, fitted = sensor.folder, sensor.model
    files = ModelFiles(fitted.name, folder.maps(fitted.name), folder.covariance(fitted.name))
    header, at = files.header, fitted.reference.temperature_c
    current, growth, bits = [], [], []
    for band in sample_bands(sensor.description.shape, 30):
        found, dq = files.growth(at, band, header)
        if folder.hot_pixel_mask.is_file():
            dq = dq | read_planes(folder.hot_pixel_mask, ["DQ"], band)[0].ravel().astype(np.uint16)
        current.append(found.current_adu_s)
        growth.append(found.per_k)
        bits.append(dq)
    rate, slope, dq = np.concatenate(current), np.concatenate(growth), np.concatenate(bits)
    population = read_population(folder.population(fitted.name))
    kinds = []
    for name, use in (
        ("bulk", (dq & int(UNTYPICAL)) == 0),
        ("hot", ((dq & int(DQ.HOT)) != 0) & ((dq & int(MODEL_INVALID)) == 0)),
    ):
        typical = PixelKind(name, _median(rate[use]), _median(slope[use]), at, population=population)
        if math.isfinite(typical.current_adu_s) and math.isfinite(typical.growth_per_k):
            kinds.append(replace(typical, scatter=_scatter_of(sensor, typical, population)))
    if not kinds:
        raise ProductError("no pixel of this model can be used", where=folder.path, do="fit it again")
    return kinds


def _median(values: F8) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else math.nan


def _scatter_of(sensor: KnownSensor, kind: PixelKind, population: Population) -> tuple[float, ...] | None:
    """Scatter of the shapes at the level that such a pixel has in the campaign of the model."""
    if population.shape_prior is None:
        return None
    cells, d = sensor.outline.cells, sensor.description
    t = np.array([c[0] for c in cells])
    exposure = np.array([d.accumulated(c[1]) - (d.bias_exposure_s if d.has_bias else 0.0) for c in cells])
    gap = sensor.model.reference.energy_gap_ev
    unit = make_unit(
        MODELS[sensor.model.name], "", tuple(range(len(cells))), t, exposure, sensor.model.reference.temperature_c, gap
    )
    p = true_parameters(unit.model, kind, unit.fit_reference)
    level = p[0] if unit.model.family == EXPONENTIAL else p[:2].sum()
    covariance = population.shape_prior.at(np.array([level]))[1][:, :, 0]
    return tuple(float(v) for v in covariance[np.triu_indices(covariance.shape[0])])


# what is predicted
def predicted_table(fitting: Fitting, kinds: Sequence[PixelKind], noise: CameraNoise, outline: Outline) -> Table:
    """Errors of darks over temperature and exposure, a row a kind of pixel and point [ADU]."""
    temperatures, exposures = grid_of(outline)
    points = np.array(list(itertools.product(temperatures, exposures)))
    t, e = points.T
    outside = fitting.outside(t, e)
    bias = bias_error(fitting.planned, noise, t)
    rows: list[dict[str, Any]] = []
    for kind in kinds:
        found = predict(fitting.unit, fitting.planned, kind, noise, t, e, fitting.other, outside)
        frame = noise.of_frame(found.signal_adu)
        for i in range(t.size):
            error = float(found.error_adu[i])
            rows.append(
                {
                    "pixel": kind.name,
                    "temperature_c": float(t[i]),
                    "exposure_s": float(e[i]),
                    "inside": bool(not outside[i]),
                    "signal_adu": float(found.signal_adu[i]),
                    "error_adu": error,
                    "shared_adu": float(found.shared_adu[i]),
                    "bias_error_adu": float(bias[i]),
                    "with_bias_adu": math.hypot(error, float(bias[i])),
                    "frame_noise_adu": float(frame[i]),
                    "error_e": error * noise.gain_e_per_adu,
                }
            )
    return table_of([{k: _six(v) for k, v in row.items()} for row in rows])


def merits(
    fitting: Fitting,
    kinds: Sequence[PixelKind],
    noise: CameraNoise,
    points: tuple[F8, F8],
) -> dict[str, float]:
    """Of each kind of pixel the error of its darks at the points, over the noise of a frame there, rms."""
    t, e = points
    outside = fitting.outside(t, e)
    found: dict[str, Predicted] = {
        kind.name: predict(fitting.unit, fitting.planned, kind, noise, t, e, fitting.other, outside) for kind in kinds
    }
    return {name: figure_of_merit(p, noise, np.ones(t.size, np.bool_)) for name, p in found.items()}


def changes_table(
    variants: Sequence[Mapping[str, Any]],
    kinds: Sequence[PixelKind],
    noise: CameraNoise,
    how: Mapping[str, Any],
    points: tuple[F8, F8],
) -> Table:
    """What each change of the campaign does to the errors, and costs; the first variant is the plan itself.

    how : model, temperature_error_c and energy_gap_ev, as `fitting_of` takes them.
    """
    rows: list[dict[str, Any]] = []
    plan: dict[str, float] = {}
    for variant in variants:
        outline = Outline(tuple((t, e, int(n)) for t, e, n in variant["cells"]), int(variant["biases"]))
        try:
            found = merits(fitting_of(outline, **how), kinds, noise, points)
        except DesignError:
            found = {kind.name: math.nan for kind in kinds}
        plan = plan or found
        row: dict[str, Any] = {k: variant[k] for k in ("change", "what", "temperature_c", "exposure_s")}
        row |= {"frames": outline.frames, "hours": _six(variant["seconds"] / 3600.0)}
        for kind in kinds:
            row[f"{kind.name}_error_per_frame_noise"] = _six(found[kind.name])
            row[f"{kind.name}_percent"] = _six(100.0 * (found[kind.name] / plan[kind.name] - 1.0))
        rows.append(row)
    return table_of(rows)


def _six(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
