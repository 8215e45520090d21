"""Step 7: held-out and in-sample errors of the models, and pictures of them -> evaluation/."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from darkpipe.errors import DesignError
from darkpipe.files.evaluating import (
    Held,
    held_out_plane,
    held_out_row,
    read_json,
    relative_name,
    write_json,
    write_maps,
    write_picture,
)
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_cells, read_reference
from darkpipe.files.model_maps import Description, read_description
from darkpipe.files.reduced_planes import reduced_flags, reduced_plane
from darkpipe.files.seen_frames import seen_cells
from darkpipe.files.shared_maps import maps_shared
from darkpipe.files.synthetic import model_for
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.jobs.contract import Job
from darkpipe.report.drawing import dark_image, error_map, evaluation_summary, hot_pixel_map, parameter_maps
from darkpipe.report.painters import coming, png
from darkpipe.report.sizes import GRAVITY, PANEL_SIDE, SIDE
from darkpipe.report.text import cells_table
from darkpipe.science.blocks import block_mean
from darkpipe.science.models import MODELS
from darkpipe.science.reduced import Reduced
from steps.settings.step7_evaluate_model import NAME as NAME
from steps.settings.step7_evaluate_model import Settings as Settings

VERSION = 6

MANY = 4  # cells, from which on it pays to hold all maps: memory has to be filled first
SMALL_SIDE = 160  # of the maps that stand side by side in the report

log = logging.getLogger("darkpipe")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Errors and pictures of each cell, and what needs none of these; then the table; then the summary.

    Raises
    ------
    ProductError
        when there is no model, or no masters.
    """
    folder = ModelDir.at(settings.model_dir or out.model.path)
    own = folder.path.resolve() == out.model.path.resolve()
    place = out if own or out.groups.is_file() else _campaign_of(folder)
    own = folder.path.resolve() == place.model.path.resolve()
    description = read_description(folder.description)
    cells = read_cells(place.groups)
    known = (
        set() if own else seen_cells(place.group_frames, place.index, place.campaign or "", folder.frames)
    )  # frames of the model, given as new ones
    if known:
        log.warning("the model was fitted to frames of %d of these %d cells: errors there are in sample", len(known),
                    len(cells))  # fmt: skip
    jobs = []
    for cell in cells:
        try:
            key = model_for(description, settings.model, cell.temperature_c, cell.exposure_s)
        except DesignError as error:
            log.warning("cell %s is not evaluated: %s", cell.name, error)
            continue
        jobs.append(_cell_job(out, place, folder, description, settings, cell, key, own, cell.name in known))
    if not jobs:
        raise DesignError("the model fits none of these masters", where=folder.path)
    beside = [_candidates_job(out, folder, description, own), *_picture_jobs(out, folder, description, settings)]
    with maps_shared() if len(jobs) >= MANY else nullcontext():
        yield [*jobs, *beside]
    measured = tuple(j.outputs[0] for j in jobs)
    yield [_table_job(out, folder, description, measured, own, known)]
    yield [_summary_job(out, description)]


def _campaign_of(folder: ModelDir) -> OutputDir:
    return OutputDir(folder.path.parent, "")


def _model_inputs(folder: ModelDir, description: Description, key: str) -> list[Path]:
    m = description.find(key)
    files = [folder.description, *folder.maps(m.name, m.cell).values(), folder.covariance(m.name, m.cell)]
    optional = [folder.hot_pixel_mask, folder.saturation_map, folder.offset(m.name, m.cell)]
    return files + [p for p in optional if p.is_file()]


def _cell_job(
    out: OutputDir,
    place: OutputDir,
    folder: ModelDir,
    description: Description,
    settings: Settings,
    cell: Cell,
    key: str,
    own: bool,
    seen: bool,
) -> Job:
    m = description.find(key)
    extra = (folder.held_out(m.name, m.cell), folder.held_out_maps(m.name, m.cell)) if own else ()
    bias = (folder.bias_line,) if description.has_bias and not cell.bias else ()
    inputs = (place.master_dark(cell.name), place.reference, *_model_inputs(folder, description, key), *bias, *extra)
    outputs: list[Path] = [out.measured_cell(cell.name), out.error_maps(cell.name)]
    if settings.pictures:
        outputs += [out.picture(kind, cell.name) for kind in ("mae", "mape", "synthetic_dark")]
    params = {"cell": vars(cell), "model": key, "own": own, "seen": seen, "pictures": settings.pictures}
    return Job(evaluate, inputs, tuple(outputs), params, label=f"evaluate {cell.name}")


def evaluate(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    cell: dict[str, Any],
    model: str,
    own: bool,
    seen: bool,
    pictures: bool,
) -> dict[Path, str]:
    """Errors of the model against one master, as numbers and small maps, and three pictures: absolute and relative
    error, synthetic dark."""
    if pictures:
        coming()
    it = Cell(**cell)
    folder = ModelDir(inputs[2].parent)
    description = read_description(inputs[2])
    both = Held(folder, description, model, it, read_reference(inputs[1]), inputs[0]).compare(SIDE)
    found = both.errors.summary()
    fitted = description.find(model)
    row = {
        "model": fitted.key,
        "cell": it.name,
        "temperature_c": it.temperature_c,
        "exposure_s": it.exposure_s,
        "n_frames": it.frames,
        "inside": fitted.covers(it.temperature_c, description.accumulated(it.exposure_s)),
        "median_signal_adu": both.median_adu,
        **found,
    }
    plane = held_out_plane(inputs[-1], it.name) if own else None
    held_out = plane is not None
    absolute = plane if plane is not None else both.absolute
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = 100.0 * absolute / both.bright
    small = {name: block_mean(image, SMALL_SIDE) for name, image in (("absolute", absolute), ("relative", relative))}
    digests = {outputs[0]: write_json(outputs[0], row), outputs[1]: write_maps(outputs[1], held_out, small)}
    if not pictures:
        return digests
    said = held_out_row(inputs[-2], it.name) if held_out else found
    cell_of = (it.temperature_c, it.exposure_s)
    kind = "held out" if held_out else "in sample" if seen or (own and row["inside"]) else "new"
    drawn = (
        png(error_map, Reduced.of(absolute, SIDE), "MAE", "ADU", *cell_of, kind=kind, summary=said),
        png(error_map, Reduced.of(relative, SIDE), "MAPE", "%", *cell_of, kind=kind, summary=said),
        png(dark_image, Reduced.of(both.signal, SIDE), *cell_of, subtitle=fitted.key),
    )
    for path, picture in zip(outputs[2:], drawn, strict=True):
        digests[path] = write_picture(path, picture)
    return digests


def _table_job(
    out: OutputDir, folder: ModelDir, description: Description, measured: tuple[Path, ...], own: bool, seen: set[str]
) -> Job:
    held = tuple(folder.held_out(m.name, m.cell) for m in description.models) if own else ()
    models = [m.key for m in description.models] if own else []
    params = {"chosen": description.chosen, "models": models, "known": sorted(seen)}
    return Job(
        tabulate, (folder.description, *measured, *held), (out.evaluation_table,), params, label="evaluation.ecsv"
    )


def _candidates_job(out: OutputDir, folder: ModelDir, description: Description, own: bool) -> Job:
    held = tuple(folder.held_out(m.name, m.cell) for m in description.models) if own else ()
    return Job(rank, (folder.description, *held), (out.candidates,), {}, label="candidates.ecsv")


def rank(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """One row a model, best first: what `auto` compared, and why the rest was not fitted."""
    description = read_description(inputs[0])
    rows: list[dict[str, Any]] = []
    for i, m in enumerate(description.models):
        cells = read_table(inputs[1 + i]) if len(inputs) > 1 else ()
        held = [float(r["mae_unflagged_adu"]) for r in cells if r["n_pixels"]]
        rows.append(
            {
                "model": m.key,
                "chosen": m.key == description.chosen,
                "score": math.nan if m.score is None else m.score,
                "mean_held_out_mae_unflagged_adu": float(np.mean(held)) if held else math.nan,
                "cells": m.cells,
                "cells_left_out": len(held),
                "coldest_c": m.temperature_c[0],
                "warmest_c": m.temperature_c[1],
                "shortest_s": m.exposure_s[0],
                "longest_s": m.exposure_s[1],
                "relative_error": m.relative_error,
                "why": description.why if m.key == description.chosen else "",
            }
        )
    rows.sort(key=lambda r: (math.isnan(r["score"]), r["score"], r["model"]))
    blank = dict.fromkeys(rows[0], math.nan) | {"chosen": False, "cells": 0, "cells_left_out": 0}
    rows += [{**blank, "model": key, "why": f"not fitted: {why}"} for key, why in description.not_fitted.items()]
    table = table_of(rows)
    table.meta["score"] = "mean over cells of held-out error / noise floor, unflagged pixels"
    return {outputs[0]: write_table(outputs[0], table)}


def tabulate(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, chosen: str, models: list[str], known: list[str]
) -> dict[Path, str]:
    """One row a model and cell: held-out errors where there are any, with in-sample ones and the baseline beside."""
    description, *numbers = inputs
    n = len(numbers) - len(models)
    drawn = [read_json(p) for p in numbers[:n]]
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    for key, path in zip(models, numbers[n:], strict=True):
        for r in read_table(path):
            values = dict(zip(r.colnames, r.values(), strict=True))
            kind = "held out" if values["n_pixels"] else "in sample"
            rows.append({"model": key, "kind": kind, **values})
            seen.add((key, str(values["cell"])))
    for row in drawn:
        if (row["model"], row["cell"]) in seen:
            continue
        kind = "seen" if row["cell"] in known else "new" if row["inside"] else "extrapolated"
        rows.append({"model": row["model"], "kind": kind, **row})
    median = {r["cell"]: r["median_signal_adu"] for r in drawn}
    for row in rows:
        row["median_signal_adu"] = median.get(row["cell"], math.nan)
        row.pop("inside", None)
    rows.sort(key=lambda r: (r["model"] != chosen, r["model"], r["temperature_c"], r["exposure_s"]))
    table = table_of(rows)
    table.meta["chosen"] = chosen
    table.meta["model"] = relative_name(description.parent, outputs[0].parent)
    return {outputs[0]: write_table(outputs[0], table)}


def _summary_job(out: OutputDir, description: Description) -> Job:
    return Job(
        summarize, (out.evaluation_table,), (out.picture("evaluation_summary"),), {"chosen": description.chosen},
        label="evaluation_summary.png",
    )  # fmt: skip


def summarize(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, chosen: str) -> dict[Path, str]:
    """One page: errors of every cell against noise floor and baseline."""
    return {outputs[0]: write_picture(outputs[0], png(evaluation_summary, _summary_rows(inputs[0], only="")))}


def _summary_rows(path: Path, only: str) -> list[dict[str, Any]]:
    rows = []
    table = read_table(path)

    def number(row: Any, name: str) -> float:
        return float(row[name]) if name in table.colnames else math.nan

    for r in table:
        if only and str(r["model"]).split("/")[0] != only:
            continue
        held = str(r["kind"]) not in ("in sample", "seen")
        inside = number(r, "mae_adu" if str(r["kind"]) == "seen" else "in_sample_mae_adu")
        rows.append(
            {
                "model": str(r["model"]),
                "cell": str(r["cell"]),
                "kind": str(r["kind"]),
                "temperature_c": float(r["temperature_c"]),
                "exposure_s": float(r["exposure_s"]),
                "n_frames": int(r["n_frames"]),
                "median_signal_adu": float(r["median_signal_adu"]),
                "mae_held_out_adu": float(r["mae_adu"]) if held else math.nan,
                "mae_in_sample_adu": inside,
                "mae_baseline_adu": number(r, "nearest_scaled_mae_adu"),
                "noise_floor_adu": float(r["noise_floor_adu"]),
                "pull_spread": float(r["pull_spread_unflagged"]),
                "median_relative_percent": float(r["median_relative_percent"]),
            }
        )
    return rows


def _picture_jobs(out: OutputDir, folder: ModelDir, description: Description, settings: Settings) -> list[Job]:
    if not settings.pictures:
        return []
    m = next((m for m in description.models if m.key == description.chosen), description.models[0])
    files = folder.maps(m.name, m.cell)
    units = {p.name: p.unit for p in MODELS[m.name].parameters}
    params = {"names": list(files), "units": [units[n] for n in files], "title": f"Parameters of {m.key}"}
    jobs = [
        Job(draw_parameters, tuple(files.values()), (out.picture("parameter_maps"),), params, label="parameter maps")
    ]
    if folder.hot_pixel_mask.is_file():
        jobs.append(
            Job(draw_mask, (folder.hot_pixel_mask,), (out.picture("hot_pixel_map"),), {}, label="hot-pixel map")
        )
    return jobs


def draw_parameters(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, names: list[str], units: list[str], title: str
) -> dict[Path, str]:
    """Maps of the parameters of the chosen model."""
    maps = {n: (reduced_plane(p, "SCI", PANEL_SIDE), u) for n, p, u in zip(names, inputs, units, strict=True)}
    return {outputs[0]: write_picture(outputs[0], png(parameter_maps, maps, title))}


def draw_mask(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """Map of special pixels."""
    flags = reduced_flags(inputs[0], "DQ", GRAVITY, SIDE)
    return {outputs[0]: write_picture(outputs[0], png(hot_pixel_map, flags))}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """The cells with the held-out error of the chosen model, its noise floor and the baseline; where things are."""
    table = read_table(out.evaluation_table)
    rows: Sequence[dict[str, Any]] = _summary_rows(out.evaluation_table, only=str(table.meta["chosen"]).split("/")[0])
    lines = [("cells", line) for line in cells_table(rows)]
    products = {
        "master darks": out.master_dark("x").parent,
        "model": out.model.path if out.model.description.is_file() else out.model.description,
        "synthetic darks": out.synthetic("x").parent,
        "evaluation": out.evaluation,
    }
    return lines + [("products", f"{what}: {path}") for what, path in products.items() if path.is_dir()]
