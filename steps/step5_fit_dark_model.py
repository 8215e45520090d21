"""Step 5: per-pixel fit in bands of rows, then assembly -> dark_model/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpipe.errors import DesignError
from darkpipe.files.assembling import count_rows, held_out, read_sums, write_maps
from darkpipe.files.bias_files import bias_of_model
from darkpipe.files.check_history import last_check
from darkpipe.files.clamp import clamp_notes
from darkpipe.files.corrections import LINE
from darkpipe.files.describing import describe_models, fitted_model
from darkpipe.files.drift import drift_of
from darkpipe.files.fitting import (
    UnitFiles,
    find_population,
    fit_band,
    plan_units,
    read_population,
    tile_bands,
    write_population,
    write_tile,
)
from darkpipe.files.glow import Masters, glow_notes, read_glow, search_glow, why_no_glow
from darkpipe.files.history import keep_description, keeping_replaced, last_change, note_changes
from darkpipe.files.index import RawFrame, read_frames
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_cells, read_reference
from darkpipe.files.model_maps import FittedModel, read_description, read_saturation, write_description
from darkpipe.files.products import read_header, read_shape, write_frame
from darkpipe.files.seen_frames import write_seen
from darkpipe.files.sensor import ModelFiles, summary_lines, write_growth_maps, write_summary
from darkpipe.files.sensor_rows import SummaryFiles, header_gain, sensor_rows
from darkpipe.files.tables import read_table, write_table
from darkpipe.jobs.contract import Job
from darkpipe.report.painters import coming
from darkpipe.science.design import Unit
from darkpipe.science.drift import Drift
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS, WITH_GLOW
from darkpipe.science.sensor import grows
from steps.settings.step5_fit_dark_model import NAME as NAME
from steps.settings.step5_fit_dark_model import Settings as Settings

VERSION = 10


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Search for glow; populations; tiles of all models; their maps; the description with the chosen model; what it
    says of the sensor.

    Raises
    ------
    DesignError
        when the campaign can carry none of the models, or not the one asked for.
    """
    cells = [c for c in read_cells(out.groups) if not _excluded(c, settings)]
    reference = read_reference(out.reference)
    units, missing, one_level = plan_units(
        cells, reference, settings.model, settings.energy_gap_ev, settings.model_set == "two_dimensional"
    )
    shape = read_shape(out.master_dark(cells[0].name))
    corrected = read_table(out.corrected).meta
    noise_map = bool(corrected["noise_map"])
    drift = drift_of(out.corrected, out.bias_frames, reference.scale_factor)
    jobs = [_UnitJobs(out, u, [cells[i] for i in u.cells], shape, noise_map, one_level, drift, settings) for u in units]
    glow = _glow_job([job for job in jobs if job.glows])
    if glow is not None:
        yield [glow]
        jobs = _where_it_glows(jobs, missing, settings.model)
    yield [job.population() for job in jobs]
    yield [tile for job in jobs for tile in job.tiles()]
    bias = _bias_jobs(out, cells)
    yield [*(job.assembly() for job in jobs), *bias]
    maps = [job.growth(reference.temperature_c) for job in jobs if grows(job.unit.model)]
    yield [_description_job(out, settings, jobs, missing, bool(bias), shape, clamp_notes(corrected)), *maps]
    chosen = read_description(out.model.description).chosen
    # the index itself is no input: a frame that was rejected changes it, and nothing else
    frames = read_frames(out.index, out.campaign or "")
    sensor = _sensor_job(next(job for job in jobs if job.unit.key == chosen), bool(bias), header_gain(frames))
    yield [sensor, _frames_job(out, jobs, cells, bool(bias), frames)]


def _excluded(cell: Cell, settings: Settings) -> bool:
    return any(abs(cell.temperature_c - t) <= 0.5 for t in settings.exclude_temperatures_c)


def _where_it_glows(jobs: Sequence[_UnitJobs], missing: dict[str, str], wanted: str) -> list[_UnitJobs]:
    """The units without glow, and those with it where the search found some; else it is noted why not."""
    missing |= {j.unit.key: why for j in jobs if j.glows and (why := why_no_glow(j.files.glow_blocks(j.name)))}
    if wanted in missing and MODELS[wanted].glow_slot is not None:
        raise DesignError(f"{wanted} cannot be fitted: {missing[wanted]}", do="choose --model auto")
    return [job for job in jobs if job.unit.key not in missing]


def _glow_job(jobs: Sequence[_UnitJobs]) -> Job | None:
    """One search for all models with glow: they look at the same masters."""
    if not jobs:
        return None
    first = jobs[0]
    return Job(
        look_for_glow,
        (*first.known, first.files.hot_pixel_mask, *first.masters),
        tuple(job.files.glow_blocks(job.name) for job in jobs),
        {"units": [job.described for job in jobs], "noise_map": first.noise_map},
        label="search for amplifier glow",
    )


def look_for_glow(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, units: list[dict[str, Any]], noise_map: bool
) -> dict[Path, str]:
    """Whether blocks of the sensor glow, by each model that knows of glow."""
    files = [_unit_files(inputs[0], u) for u in units]
    first = len(inputs) - len(files[0].cells)
    masters = Masters(inputs[first:], inputs[1] if noise_map else None, inputs[first - 1])
    return {path: write_frame(path, found) for path, found in zip(outputs, search_glow(files, masters), strict=True)}


class _UnitJobs:
    """The jobs of one fitted model."""

    def __init__(
        self,
        out: OutputDir,
        unit: Unit,
        cells: Sequence[Cell],
        shape: tuple[int, int],
        noise_map: bool,
        one_level: bool,
        drift: Mapping[str, Any],
        settings: Settings,
    ) -> None:
        self.out, self.unit, self.cells, self.shape, self.settings = out, unit, cells, shape, settings
        self.name, self.scope = unit.model.name, unit.scope
        self.noise_map = noise_map
        self.known = (out.reference, *((out.read_noise_map,) if noise_map else ()))
        self.masters = tuple(out.master_dark(c.name) for c in cells)
        self.files = out.model
        self.glows = unit.model.glow_slot is not None
        self.described: dict[str, Any] = {
            "model": self.name,
            "scope": self.scope,
            "cells": [vars(c) for c in cells],
            "energy_gap_ev": settings.energy_gap_ev,
            "one_level": one_level,
            "drift": drift,
        }

    @property
    def bands(self) -> list[slice]:
        """Rows of the tiles."""
        return tile_bands(self.shape, len(self.cells))

    def population(self) -> Job:
        params = {
            "unit": self.described,
            "noise_map": self.noise_map,
            "rows": self.shape[0],
            "shapes_by_level": self.settings.shape_prior == "signal",
        }
        return Job(
            estimate,
            (*self.known, self.files.hot_pixel_mask, *self.masters),
            (self.files.population(self.name, self.scope),),
            params,
            label=f"population of {self.unit.key}",
        )

    def tiles(self) -> list[Job]:
        exclude = int(DQ.HOT) if self.settings.exclude_hot_from_fit else 0
        common = {"unit": self.described, "noise_map": self.noise_map, "exclude": exclude}
        inputs = (
            *self.known,
            *((self.files.glow_blocks(self.name),) if self.glows else ()),
            self.files.saturation_map,
            self.files.hot_pixel_mask,
            self.files.population(self.name, self.scope),
            *self.masters,
        )
        return [
            Job(
                fit,
                inputs,
                (self.files.tile(self.name, self.scope, rows.start, "fit"),),
                {**common, "rows": [rows.start, rows.stop]},
                label=f"fit {self.unit.key} rows {rows.start}-{rows.stop - 1}",
            )
            for rows in self.bands
        ]

    @property
    def of_model(self) -> tuple[str, ...]:
        """What of `outputs` a model is made of; the rest tells of its fit."""
        return (*self.files.maps(self.name, self.scope), "covariance", "offset")

    @property
    def outputs(self) -> dict[str, Path]:
        """Files of the assembled maps by what they hold."""
        model, scope = self.name, self.scope
        named = {
            **self.files.maps(model, scope),
            "covariance": self.files.covariance(model, scope),
            "chi2": self.files.chi2(model, scope),
            "status": self.files.status_map(model, scope),
            "held_out": self.files.held_out(model, scope),
            "held_out_maps": self.files.held_out_maps(model, scope),
        }
        if any(not c.bias for c in self.cells):
            named["offset"] = self.files.offset(model, scope)
        return named

    def assembly(self) -> Job:
        tiles = tuple(self.files.tile(self.name, self.scope, rows.start, "fit") for rows in self.bands)
        named = self.outputs
        params = {"unit": self.described, "named": list(named)}
        inputs = (self.out.reference, *tiles)
        return Job(assemble, inputs, tuple(named.values()), params, label=f"maps of {self.unit.key}")

    def growth(self, temperature_c: float) -> Job:
        model, scope = self.name, self.scope
        maps = self.files.maps(model, scope)
        return Job(
            map_growth,
            (*maps.values(), self.files.covariance(model, scope)),
            (self.files.activation_energy(model, scope), self.files.doubling_temperature(model, scope)),
            {"model": model, "temperature_c": temperature_c},
            label=f"activation energy of {self.unit.key}",
        )


def _unit_files(reference: Path, unit: Mapping[str, Any]) -> UnitFiles:
    cells = [Cell(**c) for c in unit["cells"]]
    values = read_reference(reference)
    drift = Drift(**unit["drift"])
    return UnitFiles(unit["model"], unit["scope"], cells, values, unit["energy_gap_ev"], unit["one_level"], drift)


def estimate(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    unit: Mapping[str, Any],
    noise_map: bool,
    rows: int,
    shapes_by_level: bool,
) -> dict[Path, str]:
    """What the population of pixels tells: typical shape, multiplicative error, shapes by signal level."""
    files = _unit_files(inputs[0], unit)
    mask, masters = inputs[-len(files.cells) - 1], inputs[-len(files.cells) :]
    found = find_population(files, masters, inputs[1] if noise_map else None, mask, rows, shapes_by_level)
    return {outputs[0]: write_population(outputs[0], found)}


def fit(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    unit: Mapping[str, Any],
    noise_map: bool,
    rows: list[int],
    exclude: int,
) -> dict[Path, str]:
    """Fit a band of rows, and predict each cell of it from the others."""
    files = _unit_files(inputs[0], unit)
    levels, mask, population = inputs[-len(files.cells) - 3 : -len(files.cells)]
    noise = inputs[1] if noise_map else None
    band = slice(rows[0], rows[1])
    masters = inputs[-len(files.cells) :]
    saturation = read_saturation(ModelDir(levels.parent), band)
    glows = MODELS[files.model].glow_slot is not None
    glow = read_glow(inputs[-len(files.cells) - 4], band, read_shape(masters[0])) if glows else None
    tile = fit_band(files, masters, noise, mask, read_population(population), saturation, band, exclude, glow)
    return {outputs[0]: write_tile(outputs[0], tile)}


HELD_OUT = ("held_out", "held_out_maps")


def assemble(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    unit: Mapping[str, Any],
    named: list[str],
) -> dict[Path, str]:
    """Maps and table of held-out errors from the tiles."""
    coming()  # pictures of these maps follow in a few seconds, and what draws them takes one to start
    files = _unit_files(inputs[0], unit)
    by_name = dict(zip(named, outputs, strict=True))
    parameters = [p.name for p in MODELS[unit["model"]].parameters]
    kept = [by_name[name] for name in (*parameters, "covariance", "offset") if name in by_name]
    with keeping_replaced(OutputDir(inputs[0].parent, "").model, unit["model"], unit["scope"], kept):
        maps = {name: path for name, path in by_name.items() if name not in HELD_OUT}
        digests = write_maps(maps, files, inputs[1:], count_rows(inputs[1:]))
    table, errors = held_out(files, read_sums(inputs[1:]))
    digests[by_name["held_out"]] = write_table(by_name["held_out"], table)
    return digests | {by_name["held_out_maps"]: write_frame(by_name["held_out_maps"], errors)}


def _bias_jobs(out: OutputDir, cells: Sequence[Cell]) -> list[Job]:
    """The bias goes with the model, so that it can be added again wherever the model folder is moved."""
    used = {c.bias for c in cells if c.bias}
    if not used:
        return []
    line = any(b.startswith(LINE) for b in used) or len(used) > 1
    source = out.bias_line if line else out.master_bias(next(iter(used)))
    return [Job(keep_bias, (source,), (out.model.bias_line,), {"line": line}, label="bias of the model")]


def keep_bias(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, line: bool) -> dict[Path, str]:
    """Copy the bias model, or make one without a slope of a single master."""
    return {outputs[0]: bias_of_model(inputs[0], inputs[0].name, line).write(outputs[0])}


def _description_job(
    out: OutputDir,
    settings: Settings,
    jobs: Sequence[_UnitJobs],
    missing: Mapping[str, str],
    has_bias: bool,
    shape: tuple[int, int],
    notes: list[str],
) -> Job:
    inputs: list[Path] = [out.reference, out.master_dark(jobs[0].cells[0].name)]
    for job in jobs:
        inputs += [out.model.held_out(job.name, job.scope), out.model.population(job.name, job.scope)]
    glow = []
    for job in jobs:
        if job.glows:
            inputs += [job.files.glow_blocks(job.name), job.files.held_out_maps(job.name)]
            glow.append([job.name])
            for other in (j for j in jobs if WITH_GLOW.get(j.name) is job.unit.model):
                inputs.append(job.files.held_out_maps(other.name))
                glow[-1].append(other.name)
    params = {
        "wanted": settings.model,
        "units": [job.described for job in jobs],
        "missing": dict(missing),
        "has_bias": has_bias,
        "shape": list(shape),
        "glow": glow,
        "notes": list(notes),
    }
    return Job(describe, tuple(inputs), (out.model.description,), params, label="model.yaml")


def describe(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    wanted: str,
    units: list[dict[str, Any]],
    missing: Mapping[str, str],
    has_bias: bool,
    shape: list[int],
    glow: list[list[str]],
    notes: list[str],
) -> dict[Path, str]:
    """Say what was fitted, over which range, which model synthesises and why."""
    made = zip(units, inputs[2::2], inputs[3::2], strict=False)
    fitted = [_fitted(_unit_files(inputs[0], u), errors, population) for u, errors, population in made]
    size = (shape[0], shape[1])
    also = (*glow_notes(inputs[2 + 2 * len(units) :], glow, size), *notes)
    configuration = str(read_header(inputs[1]).get("CONFIG", ""))
    camera = str(read_header(inputs[1]).get("INSTRUME", ""))
    known = read_reference(inputs[0])
    text = describe_models(fitted, wanted, missing, known, has_bias, size, configuration, camera, also)
    replaced = keep_description(folder := ModelDir(outputs[0].parent))
    digest = write_description(outputs[0], text)
    if replaced is not None:
        note_changes(folder, replaced)
    return {outputs[0]: digest}


def _fitted(files: UnitFiles, errors: Path, population: Path) -> FittedModel:
    return fitted_model(files, read_table(errors).meta["score"], read_population(population))


def map_growth(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, model: str, temperature_c: float
) -> dict[Path, str]:
    """Activation energy and doubling temperature of each pixel, from the maps of a model."""
    names = [p.name for p in MODELS[model].parameters]
    files = ModelFiles(model, dict(zip(names, inputs[:-1], strict=True)), inputs[-1])
    digests = write_growth_maps(outputs, files, [p.name for p in inputs[:-1]], temperature_c)
    return dict(zip(outputs, digests, strict=True))


def _frames_job(
    out: OutputDir, jobs: Sequence[_UnitJobs], cells: Sequence[Cell], has_bias: bool, frames: Sequence[RawFrame]
) -> Job:
    """The last word on a model: by it the next run knows which frames are new."""
    made = [path for job in jobs for name, path in job.outputs.items() if name in job.of_model]
    files = [out.model.description, out.model.hot_pixel_mask, out.model.saturation_map, *made]
    files += [out.model.bias_line] if has_bias else []
    sigmas: dict[float, list[float]] = {}
    for c in cells:
        sigmas.setdefault(round(c.temperature_c, 1), []).append(c.temperature_sigma_c)
    params = {
        "frames": [[f.file, f.date_obs, f.digest] for f in frames],
        "temperatures": [[t, max(s), len(s)] for t, s in sorted(sigmas.items())],
    }
    return Job(list_frames, tuple(files), (out.model.frames,), params, label="frames of the model")


def list_frames(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    frames: list[list[str]],
    temperatures: list[tuple[float, float, int]],
) -> dict[Path, str]:
    """The frames that the model has seen."""
    return {outputs[0]: write_seen(outputs[0], frames, inputs, temperatures)}


def _sensor_job(job: _UnitJobs, has_bias: bool, stated: float | None) -> Job:
    """It stands here, not in the evaluation: it tells of the campaign that was fitted, whatever is evaluated later."""
    out, files, model, scope = job.out, job.files, job.name, job.scope
    named: dict[str, Path] = {
        "reference": out.reference,
        "population": files.population(model, scope),
        "covariance": files.covariance(model, scope),
        "status": files.status_map(model, scope),
        "mask": files.hot_pixel_mask,
        "group_frames": out.group_frames,
        **{f"map {name}": path for name, path in files.maps(model, scope).items()},
    }
    if has_bias:
        named["bias"] = files.bias_line
        if out.bias_frames.is_file():  # a bias model made elsewhere comes without
            named["bias_frames"] = out.bias_frames
    params = {"unit": job.described, "named": list(named), "header_gain_e_per_adu": stated}
    return Job(
        describe_sensor, (*named.values(), *job.masters), (out.sensor_summary,), params, label="summary of the sensor"
    )


def describe_sensor(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    unit: Mapping[str, Any],
    named: list[str],
    header_gain_e_per_adu: float | None,
) -> dict[Path, str]:
    """Dark current, its growth, non-uniformity, noise, gain and special pixels, each with its error."""
    given = dict(zip(named, inputs, strict=False))
    maps = {name.removeprefix("map "): path for name, path in given.items() if name.startswith("map ")}
    files = _unit_files(given["reference"], unit)
    found = SummaryFiles(
        given["group_frames"], given["mask"], given["status"], given.get("bias"), given.get("bias_frames"),
        inputs[len(named) :],
    )  # fmt: skip
    made = ModelFiles(unit["model"], maps, given["covariance"])
    rows = sensor_rows(files, header_gain_e_per_adu, made, found, read_population(given["population"]))
    return {outputs[0]: write_summary(outputs[0], rows, {"model": files.unit.key})}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """The chosen model and the others, and what it says of the sensor."""
    found = read_description(out.model.description)
    rows = [("model", f"{found.chosen}: {found.why}")]
    rows += [("note", note) for note in found.notes if note not in clamp_notes(read_table(out.corrected).meta)]
    rows += [("not fitted", f"{key}: {why}") for key, why in found.not_fitted.items()]
    change = last_change(out.model)
    rows += [("since the last model", change.describe())] if change is not None else []
    rows += [("last check", line) for line in last_check(out.model.checks)]
    return rows + [("sensor", line) for line in summary_lines(out.sensor_summary)]
