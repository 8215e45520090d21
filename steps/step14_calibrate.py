"""Step 14: bias and dark off every light frame, made for its own exposure and temperature -> calibrated/."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from darkpipe.errors import DesignError, FrameError, SettingsError
from darkpipe.files.calibrated_table import ACCEPTED, temperature_of_header, written_table
from darkpipe.files.calibrating import (
    Asked,
    ModelFiles,
    decide_temperature,
    read_thermometer,
    record,
    subtract_dark,
    write_calibrated,
)
from darkpipe.files.corrections import corrected_names
from darkpipe.files.dark_pattern import figures
from darkpipe.files.evaluating import read_json, write_json
from darkpipe.files.frame_match import Window, window_of
from darkpipe.files.index import RawFrame, read_frames, rejection_lines, survey_key, survey_of
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.lights import describe, read_light
from darkpipe.files.masters import Cell, read_cells, read_reference
from darkpipe.files.model_maps import Description, read_description
from darkpipe.files.probe_files import bias_file, read_probes, write_probes
from darkpipe.files.synthetic import Wanted, model_for, write_synthetic
from darkpipe.files.tables import read_table
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.jobs.contract import Job
from steps.settings.step14_calibrate import NAME as NAME
from steps.settings.step14_calibrate import Settings as Settings

VERSION = 3
KINDS = ("light", "flat", "dark", "bias")
TOP_RAW = 65535.0
_MEMORY = ThreadMemory()  # of the frame that a thread works on

log = logging.getLogger("darkpipe")


@dataclass(frozen=True)
class _Model:
    """A model on disk, for planning: its files as inputs of jobs."""

    folder: ModelDir
    description: Description

    @property
    def beside(self) -> OutputDir:
        """The output directory around it."""
        return OutputDir(self.folder.path.parent, "")

    def key(self, settings: Settings, temperature_c: float | None, exposure_s: float) -> str:
        """Of the model that makes such a dark; an unknown temperature counts as one in its range."""
        if temperature_c is None:
            temperature_c = sum(self.description.models[0].temperature_c) / 2.0
        return model_for(self.description, settings.model, temperature_c, exposure_s)

    def files(self, key: str) -> list[Path]:
        """Everything that a dark is made of."""
        m = self.description.find(key)
        files = [self.folder.description, *self.folder.maps(m.name, m.cell).values()]
        files += [self.folder.covariance(m.name, m.cell), bias_file(self.folder, self.description, m)]
        return files + [p for p in (self.folder.hot_pixel_mask, self.folder.saturation_map) if p.is_file()]

    def saturation_raw(self, stated: float) -> float:
        """Raw counts from which on a pixel of a frame counts as saturated."""
        if self.beside.reference.is_file():
            return read_reference(self.beside.reference).saturation_raw
        return stated if math.isfinite(stated) else TOP_RAW


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """The hot pixels of the model, every frame, the table; or the one dark for a frame.

    Raises
    ------
    ProductError
        when there is no model, or no index.
    FrameError
        when the frames are of another configuration than the model, or none of them can be calibrated.
    """
    folder = ModelDir.at(settings.model_dir or out.model.path)
    model = _Model(folder, read_description(folder.description))
    if settings.like is not None:
        yield from _plan_like(out, settings, model, settings.like)
        return
    frames = read_frames(out.index, out.campaign or "", KINDS)
    if not frames:
        raise FrameError("there is no frame to calibrate", where=out.index, do="check --basepath")
    window = window_of(frames[0].configuration, model.description.configuration)
    bayer = survey_of(out.survey(survey_key(frames[0].file))).info
    stride = 2 if bayer is not None and bayer.bayer else 1
    asked, left_out = _frames(frames, settings, model, window, stride)
    if not asked:
        raise FrameError(
            f"not one of these {len(frames)} frames can be calibrated: {left_out[0]['reason']}", where=out.base,
            do="temperature: thermometer takes it from the hot pixels" if settings.temperature == "header" else None,
        )  # fmt: skip
    yield [_probe_job(out, model, key, stride) for key in sorted({str(a["key"]) for _, a in asked})]
    stems = corrected_names([f.file for f in frames])
    yield [_frame_job(out, model, frame, params, stems[frame.file], stride) for frame, params in asked]
    numbers = [out.calibrated_numbers(stems[frame.file]) for frame, _ in asked]
    yield [Job(table, tuple(numbers), (out.calibrated_table,), {"left_out": left_out}, label="table of frames")]


def _frames(
    frames: Sequence[RawFrame], settings: Settings, model: _Model, window: Window, stride: int
) -> tuple[list[tuple[RawFrame, dict[str, Any]]], list[dict[str, str]]]:
    """Frames with the params of their jobs, and those that are left out, with the reason."""
    asked: list[tuple[RawFrame, dict[str, Any]]] = []
    left_out: list[dict[str, str]] = []
    for f in frames:
        try:
            params = _params(settings, model, window, stride, f.exposure_s, f.temperature_c, f.set_point_c)
        except (DesignError, FrameError) as error:
            left_out.append({"file": f.file, "kind": f.kind, "reason": error.what})
            continue
        extra = {"pedestal_adu": f.pedestal_adu, "saturation_raw": model.saturation_raw(f.saturation)}
        asked.append((f, {**params, **extra, "name": f.file, "kind": f.kind}))
    return asked, left_out


def _params(
    settings: Settings,
    model: _Model,
    window: Window,
    stride: int,
    exposure_s: float,
    reading_c: float | None,
    set_point_c: float | None,
) -> dict[str, Any]:
    """What the job of a frame has to know of it; `FrameError`, `DesignError`: why there can be none."""
    if not exposure_s > 0:
        raise FrameError(f"its exposure is {exposure_s:g} s: it holds no dark signal")
    found = temperature_of_header(
        reading_c, set_point_c, settings.temperature_tolerance_c, settings.temperature_error_c
    )
    if found.value_c is None and settings.temperature == "header":
        raise FrameError("no temperature in its header")
    key = model.key(settings, found.value_c, exposure_s)
    return {
        "key": key,
        "window": [window.row, window.col, window.rows, window.cols],
        "exposure_s": exposure_s,
        "temperature_c": found.value_c,
        "temperature_sigma_c": settings.temperature_error_c,
        "temperature_source": found.source,
        "reading_c": _none(reading_c),
        "set_point_c": _none(set_point_c),
        "use_thermometer": settings.temperature == "thermometer",
        "worst_c": settings.thermometer_error_c,
        "differs_c": settings.disagreement_c,
        "repair": settings.repair,
        "residual": settings.residual,
        "stride": stride,
    }


def _none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _probe_job(out: OutputDir, model: _Model, key: str, stride: int) -> Job:
    """The masters of the model's campaign, where they are at hand, tell the scale of the thermometer."""
    beside, m = model.beside, model.description.find(key)
    cells = read_cells(beside.groups) if beside.groups.is_file() and not m.cell else []
    cells = [
        c
        for c in cells
        if c.bias and beside.master_dark(c.name).is_file() and c.exposure_s > model.description.bias_exposure_s
        and m.covers(c.temperature_c, model.description.accumulated(c.exposure_s))
    ]  # fmt: skip
    masters = [beside.master_dark(c.name) for c in cells]
    params = {"key": key, "stride": stride, "cells": [vars(c) for c in cells]}
    inputs = (*model.files(key), *masters)
    return Job(probes, inputs, (out.thermometer(key, stride),), params, label=f"hot pixels of {key} as a thermometer")


def probes(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, key: str, stride: int, cells: list[dict[str, Any]]
) -> dict[Path, str]:
    """The pixels of a model that tell the temperature, and what they read on its masters."""
    folder = ModelDir(inputs[0].parent)
    masters = list(zip(inputs[len(inputs) - len(cells) :], [Cell(**c) for c in cells], strict=True))
    return {outputs[0]: write_probes(outputs[0], folder, read_description(inputs[0]), key, stride, masters)}


def _frame_job(
    out: OutputDir, model: _Model, frame: RawFrame, params: Mapping[str, Any], stem: str, stride: int
) -> Job:
    key = str(params["key"])
    noise = [model.beside.read_noise_map] if model.beside.read_noise_map.is_file() else []
    inputs = (frame.path, out.thermometer(key, stride), *model.files(key), *noise)
    outputs = (out.calibrated(stem), out.calibrated_numbers(stem))
    own = {**params, "noise_map": bool(noise), **({"hdu": frame.hdu} if frame.hdu else {})}
    return Job(calibrate, inputs, outputs, own, label=f"calibrate {frame.file}")


def calibrate(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    name: str,
    kind: str,
    window: Sequence[int],
    noise_map: bool,
    hdu: int | None = None,
    **params: Any,
) -> dict[Path, str]:
    """One frame: its temperature, its dark, the subtraction, the figures."""
    asked = Asked(window=Window(*window), **params)
    files = ModelFiles(ModelDir(inputs[2].parent), read_description(inputs[2]), inputs[-1] if noise_map else None)
    light = read_light(inputs[0], hdu, _MEMORY)
    found = read_probes(inputs[1], asked.window)
    temperature = decide_temperature(read_thermometer(light, found, files, asked), asked, inputs[0])
    result = subtract_dark(light, found, files, asked, temperature, _MEMORY)
    more = figures(result, found, files, asked, temperature) if asked.residual else {}
    return {
        outputs[0]: write_calibrated(outputs[0], result, light, files, asked, temperature, name),
        outputs[1]: write_json(outputs[1], record(asked, temperature, result, name, kind, more)),
    }


def table(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, left_out: list[dict[str, str]]) -> dict[Path, str]:
    """One row a frame; what is to be said of their temperatures is said once."""
    rows = [read_json(path) for path in inputs]
    noted = [r for r in rows if r["note"]]
    if noted:
        more = f" (and {len(noted) - 1} more: see {outputs[0].name})" if len(noted) > 1 else ""
        log.warning("%s: %s%s", noted[0]["file"], noted[0]["note"], more)
    return {outputs[0]: written_table(outputs[0], rows, left_out)}


def _plan_like(out: OutputDir, settings: Settings, model: _Model, path: Path) -> Iterator[list[Job]]:
    """The dark for one frame, from its header or, with the thermometer, its hot pixels."""
    found = describe(path, settings.keyword_synonyms)
    info = found.info
    window = window_of(found.configuration, model.description.configuration)
    stride = 2 if info.bayer else 1
    params = _params(settings, model, window, stride, info.exposure_s or 0.0, info.temperature_c, info.set_point_c)
    params |= {
        "pedestal_adu": info.pedestal_adu,
        "saturation_raw": model.saturation_raw(info.saturation_adu or math.nan),
    }
    key = str(params["key"])
    yield [_probe_job(out, model, key, stride)]
    suffix = ("_bias" if settings.include_bias else "") + ("_uint16" if settings.dtype == "uint16" else "")
    target = settings.output or out.dark_like(next(iter(corrected_names([path.name]).values())), suffix)
    if target.resolve() == path.resolve():
        raise SettingsError("the dark cannot replace its frame", where=target, do="give another --output")
    inputs = (path, out.thermometer(key, stride), *model.files(key))
    params |= {"include_bias": settings.include_bias, "dtype": settings.dtype}
    yield [Job(dark_like, inputs, (target,), params, requested=True, label=f"dark for {path.name}")]


def dark_like(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    window: Sequence[int],
    include_bias: bool,
    dtype: Literal["float32", "uint16"],
    **params: Any,
) -> dict[Path, str]:
    """The dark for one frame."""
    asked = Asked(window=Window(*window), **params)
    files = ModelFiles(ModelDir(inputs[2].parent), read_description(inputs[2]), None)
    light = read_light(inputs[0])
    hot = read_thermometer(light, read_probes(inputs[1], asked.window), files, asked)
    temperature = decide_temperature(hot, asked, inputs[0])
    if temperature.note:
        log.warning("%s: %s", inputs[0].name, temperature.note)
    wanted = Wanted(asked.key, temperature.value_c, asked.exposure_s, include_bias, dtype, asked.window)
    return {outputs[0]: write_synthetic(outputs[0], files.folder, files.description, wanted)}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """How many frames were calibrated, what was left out, where hot pixels and header disagree."""
    rows = list(read_table(out.calibrated_table))
    done = [r for r in rows if str(r["status"]) == ACCEPTED]
    lines = [("calibrated", f"{len(done)} of {len(rows)} frames: {out.calibrated_folder}")]
    told = [r for r in done if math.isfinite(float(r["hot_c"])) and math.isfinite(float(r["header_c"]))]
    if told:
        apart = sorted(float(r["hot_c"]) - float(r["header_c"]) for r in told)
        middle = round(apart[len(apart) // 2], 2) + 0.0  # no -0.00
        lines.append(("hot pixels", f"{middle:+.2f} °C from the readings (median of {len(apart)} frames)"))
    notes = [{"file": r["file"], "reason": r["note"]} for r in done]
    lines += [("temperature", line) for line in rejection_lines(notes, out.calibrated_table)]
    return lines + [("left out", line) for line in rejection_lines(rows, out.calibrated_table)]
