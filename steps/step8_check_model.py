"""Step 8: new frames against a model that is not fitted again: is it still that of the camera? -> check/."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from darkpipe.errors import DesignError, NothingToModelError
from darkpipe.files.ageing import Beyond, cell_of_check, compare_master, pedestal_drift, pedestal_shift
from darkpipe.files.atomic import replace_file
from darkpipe.files.changed_pixels import Compared, Search, find_changed_pixels
from darkpipe.files.check_history import note_check
from darkpipe.files.evaluating import read_json, write_json
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, effective_exposure, read_cells, read_reference
from darkpipe.files.model_check import cell_table, criteria_of, read_verdict, verdict_data, write_verdict
from darkpipe.files.model_maps import Description, read_description
from darkpipe.files.products import read_header
from darkpipe.files.seen_frames import read_temperatures
from darkpipe.files.synthetic import model_for
from darkpipe.files.tables import read_table, write_table
from darkpipe.jobs.contract import Job
from darkpipe.report.drawing import ageing_summary, save_png, verdict_lines
from darkpipe.science.ageing import Shared, solve
from steps.settings.step8_check_model import NAME as NAME
from steps.settings.step8_check_model import Settings as Settings

VERSION = 3

log = logging.getLogger("darkpipe")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Each cell; the verdict over all; the picture.

    Raises
    ------
    ProductError
        when there is no model, or no masters.
    NothingToModelError
        when these frames are of another configuration than the model.
    DesignError
        when no cell lies in the range of the model.
    """
    folder = ModelDir.at(settings.model_dir or out.model.path) if out.owner is None else out.owner.model
    if out.owner is not None:  # the model as it was used
        settings = settings.model_copy(update={"model": "auto"})
    description = read_description(folder.description)
    cells = read_cells(out.groups)
    _same_configuration(out, description, cells[0])
    chosen = _cells_in_range(out, description, cells, settings)
    if not chosen:
        m = description.models[0]
        raise DesignError(
            "none of these cells lies in the range of the model", where=folder.path,
            do=f"it holds from {m.temperature_c[0]:g} to {m.temperature_c[1]:g} °C, {m.exposure_s[0]:g} to "
               f"{m.exposure_s[1]:g} s; extrapolate: true checks beyond",
        )  # fmt: skip
    yield [
        Job(
            compare,
            (out.reference, out.master_dark(c.name), *_model_files(folder, description, key), *beyond.files),
            (out.compared_cell(c.name),),
            {"cell": vars(c), "model": key, "extrapolated": beyond.far, "other": beyond.other},
            label=f"compare {c.name}",
        )
        for c, key in chosen
        for beyond in (_beyond(out, folder, description, c, key),)
    ]
    yield [_judge_job(out, folder, description, settings, chosen)]
    inputs = (out.check_table, out.changed_pixels, out.check_verdict)
    yield [Job(draw, inputs, (out.check_picture,), {"shape": list(description.shape)}, label="picture of the check")]
    if out.owner is not None:
        seen = (out.owner.model.description, out.owner.model.frames)
        yield [Job(keep, (out.check_verdict, out.index, *seen), (out.owner.model.checks,), {}, label="list of checks")]


def _same_configuration(out: OutputDir, description: Description, cell: Cell) -> None:
    mine = str(read_header(out.master_dark(cell.name)).get("CONFIG", ""))
    if mine != description.configuration:
        raise NothingToModelError(
            f"these frames are of the configuration {mine or 'unknown'}, the model of {description.configuration}",
            where=out.base,
            do="check it with frames of the same camera, gain, offset, binning and read-out mode",
        )


def _cells_in_range(
    out: OutputDir, description: Description, cells: list[Cell], settings: Settings
) -> list[tuple[Cell, str]]:
    """Cells that the model can be held against, with the key of the model there."""
    reference = read_reference(out.reference)
    chosen: list[tuple[Cell, str]] = []
    for cell in cells:
        try:
            key = model_for(description, settings.model, cell.temperature_c, cell.exposure_s)
        except DesignError as error:
            log.warning("cell %s is not compared: %s", cell.name, error)
            continue
        inside = description.find(key).covers(cell.temperature_c, effective_exposure(cell, reference))
        if inside or settings.extrapolate:
            chosen.append((cell, key))
        else:
            log.warning("cell %s is not compared: it lies outside the range of the model", cell.name)
    return chosen


class _Beyond(NamedTuple):
    """Of a cell: whether it lies outside of the range of the model; another law fitted there; files for that."""

    far: bool
    other: str | None
    files: tuple[Path, ...]


def _beyond(out: OutputDir, folder: ModelDir, description: Description, cell: Cell, key: str) -> _Beyond:
    model = description.find(key)
    if model.covers(cell.temperature_c, effective_exposure(cell, read_reference(out.reference))):
        return _Beyond(False, None, ())
    law = description.another_law(model)
    other = None if law is None else law.key
    files = [*folder.maps(law.name).values(), folder.covariance(law.name)] if law else []
    return _Beyond(True, other, (*files, *((folder.frames,) if folder.frames.is_file() else ())))


def _model_files(folder: ModelDir, description: Description, key: str) -> list[Path]:
    m = description.find(key)
    files = [folder.description, *folder.maps(m.name, m.cell).values(), folder.covariance(m.name, m.cell)]
    optional = (folder.hot_pixel_mask, folder.saturation_map, folder.offset(m.name, m.cell), folder.bias_line)
    return files + [p for p in optional if p.is_file()]


def compare(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    cell: dict[str, Any],
    model: str,
    extrapolated: bool,
    other: str | None,
) -> dict[Path, str]:
    """One master against the model."""
    folder = ModelDir(inputs[2].parent)
    temperatures = read_temperatures(folder.frames) if folder.frames in inputs else []
    beyond = Beyond(other, temperatures) if extrapolated else None
    description, reference = read_description(inputs[2]), read_reference(inputs[0])
    row = compare_master(folder, description, model, Cell(**cell), reference, inputs[1], beyond)
    return {outputs[0]: write_json(outputs[0], row)}


def _judge_job(
    out: OutputDir, folder: ModelDir, description: Description, settings: Settings, chosen: list[tuple[Cell, str]]
) -> Job:
    """The verdict; biases of the cells' temperatures tell the pedestal."""
    names = {c.bias for c, _ in chosen if c.bias}
    temperatures = [c.temperature_c for c, _ in chosen]
    biases = [
        (str(r["bias"]), float(r["temperature_c"]), int(r["frames"]))
        for r in (read_table(out.biases) if names and out.biases.is_file() else ())
        if any(abs(float(r["temperature_c"]) - t) <= 1.0 for t in temperatures)
    ]
    keys = list(dict.fromkeys(key for _, key in chosen))
    model_files = list(dict.fromkeys(p for key in keys for p in _model_files(folder, description, key)))
    masters = [path for c, _ in chosen for path in (out.compared_cell(c.name), out.master_dark(c.name))]
    tables = [out.bias_frames] if out.bias_frames.is_file() else []
    inputs = (out.reference, *model_files, *masters, *(out.master_bias(b) for b, *_ in biases), out.corrected, *tables)
    params = {
        "cells": [c.name for c, _ in chosen],
        "left_out": sorted({c.name for c in read_cells(out.groups)} - {c.name for c, _ in chosen}),
        "biases": [list(b) for b in biases],
        **settings.model_dump(exclude={"model_dir", "model", "extrapolate"}),
    }
    outputs = (out.check_table, out.changed_pixels, out.check_verdict)
    return Job(judge, inputs, outputs, params, label="verdict on the model")


def judge(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    cells: list[str],
    left_out: list[str],
    biases: list[tuple[str, float, int]],
    **limits: Any,
) -> dict[Path, str]:
    """Rates, level, hot pixels; the verdict by the limits."""
    out, folder = OutputDir(inputs[0].parent, ""), ModelDir(inputs[1].parent)
    description, reference = read_description(inputs[1]), read_reference(inputs[0])
    rows = [read_json(out.compared_cell(name)) for name in cells]
    checked = [cell_of_check(row) for row in rows]
    drift = limits["pedestal_drift_adu"] or pedestal_drift(out.corrected, out.bias_frames, reference.scale_factor)
    has_bias = all(row["cell"]["bias"] for row in rows)
    shared = Shared(drift, drift if has_bias else float("inf"), limits["temperature_error_c"])
    change = solve(checked, shared)
    masters = [(out.master_bias(name), temperature, n) for name, temperature, n in biases]
    pedestal = pedestal_shift(folder, masters, drift) if has_bias else change.level_adu
    compared = [
        Compared(Cell(**row["cell"]), out.master_dark(name), row["model"], cell.change)
        for name, row, cell in zip(cells, rows, checked, strict=True)
    ]
    search = Search(limits["pixel_sigma"], limits["confirm_sigma"], limits["hot_above_sigma"])
    found = find_changed_pixels(folder, description, compared, reference, change, search)
    of = {
        "rate": limits["rate_limits"],
        "pedestal_noises": limits["pedestal_limits"],
        "hot_fraction": limits["hot_limits"],
        "pulls": limits["pull_limits"],
    }
    criteria = criteria_of(change, pedestal, found, checked, description.read_noise_adu, of)
    about = {
        "model": description.chosen if len({r["model"] for r in rows}) > 1 else rows[0]["model"],
        "configuration": description.configuration,
        "cells": cells,
        "outside_the_model": left_out,
        "extrapolated": [row["cell"]["name"] for row in rows if row["extrapolated"]],
        "pedestal_drift_adu": drift,
    }
    verdict = verdict_data(criteria, limits["significance"], change, change.level_adu, found, about)
    table = cell_table(rows, checked, change, shared)
    table.meta["verdict"] = verdict["verdict"]
    return {
        outputs[0]: write_table(outputs[0], table),
        outputs[1]: write_table(outputs[1], found.table()),
        outputs[2]: write_verdict(outputs[2], verdict),
    }


def draw(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, shape: list[int]) -> dict[Path, str]:
    """One page: the ratios, levels and pulls of the cells, where pixels changed, and the verdict."""
    figure = ageing_summary(
        list(read_table(inputs[0])), list(read_table(inputs[1])), read_verdict(inputs[2]), (shape[0], shape[1])
    )
    return {outputs[0]: replace_file(outputs[0], lambda stream: save_png(figure, stream))}


def keep(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """Note the verdict with the model that it is on, before that is replaced."""
    return {outputs[0]: note_check(outputs[0], *inputs)}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """The verdict with its criteria, the cells, and where the products are."""
    verdict = read_verdict(out.check_verdict)
    rows = [("verdict", line) for line in verdict_lines(verdict, list(read_table(out.check_table)))]
    return [*rows, ("products", f"check: {out.check}")]


def finding(out: OutputDir) -> str | None:
    """What the exit code has to say: the model has drifted, or is stale; None if it is current."""
    verdict: Mapping[str, Any] = read_verdict(out.check_verdict)
    if verdict["verdict"] == "current":
        return None
    beyond = verdict.get("extrapolated")
    where = f"; extrapolated beyond the range of the model: {', '.join(beyond)}" if beyond else ""
    return (
        f"the model is {verdict['verdict'] if verdict['verdict'] == 'stale' else 'off: it has drifted'}; "
        + "; ".join(verdict["why"])
        + where
    )
