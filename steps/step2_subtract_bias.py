"""Step 2: master biases, the bias of each dark, and a look at what level is left -> bias/, corrected.ecsv.

Also measures the numbers that later jobs need (`reference.yaml`): read noise, conversion gain, scale factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from darkpipe.errors import FrameError, NothingToModelError
from darkpipe.files.ahead import each_ahead
from darkpipe.files.bias_files import BiasSource, adopt_bias_model, find_bias_model, write_line_through
from darkpipe.files.clamp import note_clamp
from darkpipe.files.corrections import (
    LINE,
    BiasStack,
    Levels,
    Tolerances,
    bias_stacks,
    bias_tables,
    cells_of,
    corrected_names,
    corrected_rows,
)
from darkpipe.files.index import ACCEPTED, RawFrame, read_frames, rejection_lines
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import ReferenceValues, read_reference, write_reference
from darkpipe.files.measure import RawStack, read_noise_map
from darkpipe.files.products import Card, Frame, write_frame
from darkpipe.files.reference import Overrides, reference_values, settled
from darkpipe.files.stacking import Clipping, Stack, combine_stack, combined_strips, write_master
from darkpipe.files.tables import read_table, write_table
from darkpipe.files.witnesses import GainCell, Witnesses, bias_witnesses, choose_witnesses, names, of_names
from darkpipe.jobs.contract import Job
from steps.settings.step2_subtract_bias import NAME as NAME
from steps.settings.step2_subtract_bias import Settings as Settings

VERSION = 5


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Bias table; reference values; read-noise map; master biases; the line through them; table of darks.

    Raises
    ------
    FrameError
        when bias frames are required and there are none.
    NothingToModelError
        at the end, when the configuration holds no darks.
    """
    if out.owner is not None:
        settings = _as_measured(settings, read_reference(out.owner.reference))
    frames = read_frames(out.index, out.campaign or "")
    darks = [f for f in frames if f.kind == "dark"]
    given = find_bias_model(settings.bias_model) if settings.bias_model else []
    wanted = not given and settings.bias != "offset_map"
    biases = [f for f in frames if f.kind == "bias"] if wanted else []
    if settings.bias == "frames" and not biases and not given:
        raise FrameError("there are no bias frames for these darks", where=out.base, do="take some, or set bias: auto")
    stacks: dict[str, BiasStack] = {}
    if biases:
        yield [_bias_table_job(out, settings)]
        stacks = bias_stacks(read_table(out.biases), read_table(out.bias_frames), biases)
    yield [_reference_job(out, settings, darks, stacks)]
    noise = _read_noise_jobs(out, stacks)
    if noise:
        yield noise
    masters = [_master_job(out, settings, stack, bool(noise)) for stack in stacks.values()]
    if masters:
        yield masters
    line = _line_jobs(out, given, stacks)
    if line:
        yield line
    if not darks:
        raise NothingToModelError(
            "this configuration has bias frames but no darks: its master bias was made, nothing can be modelled",
            where=out.campaign or out.root,
        )
    yield [_correct_job(out, settings, stacks, bool(line), bool(noise))]
    if settings.keep_corrected:
        yield _keep_jobs(out, darks)


def _as_measured(settings: Settings, reference: ReferenceValues) -> Settings:
    """A few new frames of a campaign take its numbers: all of its frames together tell them better."""
    names = ("scale_factor", "gain_e_per_adu", "read_noise_adu", "readout_exposure_s")
    known = {name: getattr(reference, name) for name in names}
    return settings.model_copy(update={**known, "reference_temperature_c": reference.temperature_c})


# --- bias frames -----------------------------------------------------------------------------------------------------


def _tolerances(settings: Settings) -> Tolerances:
    return Tolerances(settings.temperature_tolerance_c, settings.exposure_tolerance)


def _bias_table_job(out: OutputDir, settings: Settings) -> Job:
    params = {"campaign": out.campaign or "", "tolerances": asdict(_tolerances(settings))}
    return Job(tabulate_biases, (out.index,), (out.biases, out.bias_frames), params, label="table of bias frames")


def tabulate_biases(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    campaign: str,
    tolerances: Mapping[str, float],
) -> dict[Path, str]:
    """Group the bias frames by temperature and look for odd ones."""
    frames = read_frames(inputs[0], campaign, ["bias"])
    masters, rows = bias_tables(frames, Tolerances(**tolerances))
    return {outputs[0]: write_table(outputs[0], masters), outputs[1]: write_table(outputs[1], rows)}


def _master_job(out: OutputDir, settings: Settings, stack: BiasStack, noise_map: bool) -> Job:
    first = stack.frames[0]
    params = {
        "files": [f.file for f in stack.frames],
        "hdus": [f.hdu for f in stack.frames],
        "offset_raw": stack.offset_raw,
        "pattern_top_raw": stack.pattern_top_raw,
        "shape": [first.rows, first.cols],
        "pedestal_adu": first.pedestal_adu,
        "temperature_c": stack.temperature_c,
        "kappa": settings.kappa,
        "noise_map": noise_map,
    }
    known = (out.reference, out.read_noise_map) if noise_map else (out.reference,)
    paths = tuple(f.path for f in stack.frames)
    return Job(
        combine_biases, (*known, *paths), (out.master_bias(stack.name),), params, label=f"master bias {stack.name}"
    )


def combine_biases(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    files: list[str],
    hdus: list[int],
    offset_raw: list[float],
    pattern_top_raw: float,
    shape: list[int],
    pedestal_adu: float,
    temperature_c: float,
    kappa: float,
    noise_map: bool,
) -> dict[Path, str]:
    """Clipped mean of the bias frames of one temperature."""
    reference = read_reference(inputs[0])
    offsets = [o / reference.scale_factor for o in offset_raw]
    stack = Stack(inputs[-len(files) :], hdus, shape[0], shape[1], offsets, pedestal_adu)
    noise = inputs[1] if noise_map else None
    level_adu = pattern_top_raw / reference.scale_factor
    how = Clipping(kappa, 0.0, bias_level_adu=level_adu, temperature_c=temperature_c)
    made = combined_strips(stack, reference, noise, None, how)
    cards: list[Card] = [
        ("IMAGETYP", "Master Bias", "kind of frame"),
        ("CCD-TEMP", temperature_c, "[deg C] temperature of the master"),
        ("EXPTIME", reference.bias_exposure_s, "[s]"),
        ("RDNOISE", reference.read_noise_at(temperature_c), "[adu] read noise of one frame"),
        ("STEP", NAME, "step that made this"),
        ("STEPVERS", VERSION, "its version"),
    ]
    return {outputs[0]: write_master(outputs[0], made, stack, cards, files, bias=False)}


# --- reference values ------------------------------------------------------------------------------------------------


def _reference_job(
    out: OutputDir, settings: Settings, darks: Sequence[RawFrame], stacks: Mapping[str, BiasStack]
) -> Job:
    cells = cells_of(darks, _tolerances(settings))
    biases = [(s.temperature_c, s.frames) for s in stacks.values()]
    witnesses = choose_witnesses(darks, cells, biases)
    overrides = Overrides(**{name: getattr(settings, name) for name in Overrides.names()})
    params = {
        "campaign": out.campaign or "",
        "noise_files": names(witnesses.noise),
        "noise_c": list(witnesses.noise_c),
        "gain_cells": [cell.to_dict() for cell in witnesses.gain],
        "has_bias": witnesses.has_bias,
        "temperatures_c": [c.temperature.temperature_c for c in cells] or [t for t, _ in biases],
        "overrides": overrides.to_dict(),
    }
    # a frame may serve several; each file is an input once
    stacks_used = (*witnesses.noise, *(cell.files for cell in witnesses.gain))
    paths = dict.fromkeys(f.path for stack in stacks_used for f in stack)
    label = "read noise, gain, scale factor"
    return Job(measure, (out.index, *paths), (out.reference,), params, label=label, when_forced={"anew": True})


def measure(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    campaign: str,
    noise_files: list[list[str]],
    noise_c: list[float],
    gain_cells: list[dict[str, Any]],
    has_bias: bool,
    temperatures_c: list[float],
    overrides: Mapping[str, Any],
    anew: bool = False,
) -> dict[Path, str]:
    """Measure what the headers do not settle; what moved by less than its error is left as it was, unless `anew`."""
    frames = read_frames(inputs[0], campaign)
    by_file = {f.file: f for f in frames}
    gain = [GainCell.from_dict(cell, by_file) for cell in gain_cells]
    witnesses = Witnesses(of_names(noise_files, by_file), noise_c, gain, has_bias)
    values, errors = reference_values(frames, witnesses, temperatures_c, Overrides(**overrides))
    return {outputs[0]: write_reference(outputs[0], values if anew else settled(outputs[0], values, errors))}


def _read_noise_jobs(out: OutputDir, stacks: Mapping[str, BiasStack]) -> list[Job]:
    several = bias_witnesses([s.frames for s in stacks.values() if len(s.frames) > 1])
    if not several:
        return []
    params = {
        "files": names(several),
        "hdus": [[f.hdu for f in stack] for stack in several],
        "levels": [[f.median for f in stack] for stack in several],
        "shape": [several[0][0].rows, several[0][0].cols],
    }
    inputs = (out.reference, *(f.path for stack in several for f in stack))
    return [Job(map_read_noise, inputs, (out.read_noise_map,), params, label="read-noise map")]


def map_read_noise(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    files: list[list[str]],
    hdus: list[list[int]],
    levels: list[list[float]],
    shape: list[int],
) -> dict[Path, str]:
    """Read noise of every pixel from the bias frames, those of one temperature among themselves."""
    reference = read_reference(inputs[0])
    paths = iter(inputs[1:])
    stacks = [
        RawStack([next(paths) for _ in stack], numbers, shape[0], shape[1], level)
        for stack, numbers, level in zip(files, hdus, levels, strict=True)
    ]
    flat = [name for stack in files for name in stack]
    # a setting tells the level; the data still tell how pixels differ
    factor = reference.read_noise_adu / (reference.read_noise_measured_adu or reference.read_noise_adu)
    return {outputs[0]: read_noise_map(stacks, reference.scale_factor, flat, factor).write(outputs[0])}


# --- line, darks -----------------------------------------------------------------------------------------------------


def _line_jobs(out: OutputDir, given: Sequence[Path], stacks: Mapping[str, BiasStack]) -> list[Job]:
    if given:
        return [Job(adopt_line, tuple(given), (out.bias_line,), {}, label="bias model, as given")]
    if len(stacks) < 2:
        return []
    temperatures = [s.temperature_c for s in stacks.values()]
    if max(temperatures) - min(temperatures) < 1.0:
        return []
    inputs = tuple(out.master_bias(name) for name in stacks)
    params = {"temperature_c": temperatures, "t_ref_c": float(round(float(np.mean(temperatures))))}
    return [Job(fit_line, inputs, (out.bias_line,), params, label="bias line b0 + b1 (T - T_ref)")]


def adopt_line(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """Take over a bias model made elsewhere."""
    return {outputs[0]: adopt_bias_model(inputs, outputs[0])}


def fit_line(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, temperature_c: list[float], t_ref_c: float
) -> dict[Path, str]:
    """A straight line in temperature through the master biases."""
    names = [p.name for p in inputs]
    return {outputs[0]: write_line_through(outputs[0], inputs, temperature_c, t_ref_c, names)}


def _correct_job(
    out: OutputDir, settings: Settings, stacks: Mapping[str, BiasStack], line: bool, noise_map: bool
) -> Job:
    params = {
        "campaign": out.campaign or "",
        "biases": {s.name: s.temperature_c for s in stacks.values()},
        "line": line,
        "noise_map": noise_map,
        "bias_temperature_tolerance_c": settings.bias_temperature_tolerance_c,
        "tolerances": asdict(_tolerances(settings)),
    }
    masters = tuple(out.master_bias(name) for name in stacks)
    inputs = (out.index, out.reference, *masters, *((out.bias_line,) if line else ()))
    return Job(correct, inputs, (out.corrected,), params, label="level of each dark")


def correct(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    campaign: str,
    biases: Mapping[str, float],
    line: bool,
    noise_map: bool,
    bias_temperature_tolerance_c: float,
    tolerances: Mapping[str, float],
) -> dict[Path, str]:
    """Choose the bias of each dark and look at the level that is left after it, and whether the camera clamps it."""
    darks = read_frames(inputs[0], campaign, ["dark"])
    reference = read_reference(inputs[1])
    masters = map(BiasSource, inputs[2 : 2 + len(biases)])
    levels = dict(zip(biases, each_ahead(Levels.of, masters, threads=2), strict=True))
    table = corrected_rows(
        darks,
        Tolerances(**tolerances),
        reference,
        biases,
        levels,
        BiasSource(inputs[-1], 0.0) if line else None,
        bias_temperature_tolerance_c,
        noise_map,
    )
    if biases:
        note_clamp(table, darks, read_frames(inputs[0], campaign, ["bias"]), Tolerances(**tolerances), reference)
    return {outputs[0]: write_table(outputs[0], table)}


def _keep_jobs(out: OutputDir, darks: Sequence[RawFrame]) -> list[Job]:
    by_file = {d.file: d for d in darks}
    stems = corrected_names(by_file)
    jobs = []
    for r in read_table(out.corrected):
        dark, bias = by_file[str(r["file"])], str(r["bias"])
        if str(r["status"]) != ACCEPTED:
            continue
        source = out.bias_line if bias == LINE else out.master_bias(bias)
        params = {
            "file": dark.file,
            "hdu": dark.hdu,
            "shape": [dark.rows, dark.cols],
            "pedestal_adu": dark.pedestal_adu,
            "exposure_s": dark.exposure_s,
            "temperature_c": float(r["cell_temperature_c"]),
            "bias": bias,
        }
        inputs = (out.reference, dark.path, *((source,) if bias else ()))
        target = out.corrected_dark(stems[dark.file])
        jobs.append(Job(keep, inputs, (target,), params, label=f"corrected dark {dark.file}"))
    return jobs


def keep(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    file: str,
    hdu: int,
    shape: list[int],
    pedestal_adu: float,
    exposure_s: float,
    temperature_c: float,
    bias: str,
) -> dict[Path, str]:
    """Write one dark minus its bias [native ADU]."""
    reference = read_reference(inputs[0])
    source = BiasSource(inputs[2], temperature_c if bias == LINE else None) if bias else None
    stack = Stack([inputs[1]], [hdu], shape[0], shape[1], [0.0], pedestal_adu)
    made = combine_stack(stack, reference, None, source, Clipping(1e9, 0.0))
    cards = [
        ("IMAGETYP", "Dark Frame", "bias subtracted"),
        ("EXPTIME", exposure_s, "[s]"),
        ("CCD-TEMP", temperature_c, "[deg C] temperature of its cell"),
        ("BIAS", bias, "which bias was subtracted"),
    ]
    return {outputs[0]: write_frame(outputs[0], Frame(made.science, made.error, made.dq, header=cards, inputs=[file]))}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """What was measured, and the frames that do not fit their cell."""
    values = read_reference(out.reference)
    rows = [("noise", values.describe())]
    notes = read_table(out.corrected).meta["notes"] if out.corrected.is_file() else []
    rows += [("note", note) for note in (*values.notes, *notes)]
    for table in (out.bias_frames, out.corrected):
        if table.is_file():
            rows += [("rejected", line) for line in rejection_lines(read_table(table), table)]
    return rows
