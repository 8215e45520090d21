"""Step 2: master biases, the bias of each dark, and a look at what level is left -> bias/, corrected.ecsv.

Also measures the numbers that later jobs need (`reference.yaml`): read noise, conversion gain, scale factor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from darkpipe.errors import FrameError, NothingToModelError
from darkpipe.files.bias_files import BiasSource, adopt_bias_model, find_bias_model, line_through
from darkpipe.files.corrections import LINE, Levels, Tolerances, bias_tables, cells_of, corrected_rows
from darkpipe.files.index import ACCEPTED, RawFrame, read_frames
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import Master, read_reference, write_master, write_reference
from darkpipe.files.measure import RawStack, write_read_noise_map
from darkpipe.files.products import Frame, read_planes, write_frame
from darkpipe.files.reference import Overrides, reference_values, settled
from darkpipe.files.stacking import Stack, combine_stack
from darkpipe.files.tables import read_table, write_table
from darkpipe.jobs.contract import Job

NAME = "subtract_bias"
VERSION = 1


class Settings(BaseModel):
    """How biases are combined and subtracted, and which numbers override what headers and data say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: Literal["auto", "frames", "offset_map"] = Field(
        "auto", description="auto: bias frames where there are any; frames: required; offset_map: fit the level instead"
    )
    bias_model: Path | None = Field(None, description="a bias model made elsewhere: b0 and b1 maps (file or folder)")
    temperature_tolerance_c: float = Field(0.5, gt=0, description="frames within this are one temperature [°C]")
    exposure_tolerance: float = Field(0.01, gt=0, description="exposures within this fraction are one (or 1 ms)")
    bias_temperature_tolerance_c: float = Field(
        1.0, ge=0, description="a dark takes a master bias within this; beyond it, the line through them [°C]"
    )
    kappa: float = Field(4.5, gt=1, description="clipping threshold in sigma of the noise model")
    scale_factor: float | Literal["auto"] = Field("auto", description="raw counts per native ADU; 16 for 12 in 16 bits")
    gain_e_per_adu: float | None = Field(None, gt=0, description="conversion gain [e-/ADU]; none: header, else measured")
    read_noise_adu: float | None = Field(None, gt=0, description="read noise [ADU rms]; none: measured")
    saturation_fraction: float = Field(0.95, gt=0, le=1, description="of the converter's top; higher samples don't count")
    reference_temperature_c: float | None = Field(None, description="T_0 of the physical model [°C]; none: the mean")
    keep_corrected: bool = Field(False, description="also write every bias-subtracted dark")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Bias table; reference values; read-noise map; master biases; the line through them; table of darks.

    Raises
    ------
    FrameError
        when bias frames are required and there are none.
    NothingToModelError
        at the end, when the configuration holds no darks.
    """
    frames = read_frames(out.index, out.campaign or "")
    darks = [f for f in frames if f.kind == "dark"]
    given = find_bias_model(settings.bias_model) if settings.bias_model else []
    wanted = not given and settings.bias != "offset_map"
    biases = [f for f in frames if f.kind == "bias"] if wanted else []
    if settings.bias == "frames" and not biases and not given:
        raise FrameError(
            "there are no bias frames for these darks", where=out.campaign or out.root, do="take some, or set bias: auto"
        )
    stacks: dict[str, _BiasStack] = {}
    if biases:
        yield [_bias_table_job(out, settings)]
        stacks = _bias_stacks(out, biases)
    yield [_reference_job(out, settings, darks, _largest(stacks))]
    noise = _read_noise_jobs(out, _largest(stacks))
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


# --- bias frames -----------------------------------------------------------------------------------------------------


class _BiasStack:
    """The accepted bias frames of one master."""

    def __init__(self, name: str, temperature_c: float, frames: list[RawFrame], offset_raw: list[float]) -> None:
        self.name, self.temperature_c, self.frames, self.offset_raw = name, temperature_c, frames, offset_raw


def _tolerances(settings: Settings) -> dict[str, float]:
    return {"temperature_tolerance_c": settings.temperature_tolerance_c, "exposure_tolerance": settings.exposure_tolerance}


def _bias_table_job(out: OutputDir, settings: Settings) -> Job:
    params = {"campaign": out.campaign or "", **_tolerances(settings)}
    return Job(tabulate_biases, (out.index,), (out.biases, out.bias_frames), params, label="table of bias frames")


def tabulate_biases(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    campaign: str,
    temperature_tolerance_c: float,
    exposure_tolerance: float,
) -> dict[Path, str]:
    """Group the bias frames by temperature and look for odd ones."""
    frames = read_frames(inputs[0], campaign, ["bias"])
    masters, rows = bias_tables(frames, Tolerances(temperature_tolerance_c, exposure_tolerance))
    return {outputs[0]: write_table(outputs[0], masters), outputs[1]: write_table(outputs[1], rows)}


def _bias_stacks(out: OutputDir, biases: Sequence[RawFrame]) -> dict[str, _BiasStack]:
    by_file = {f.file: f for f in biases}
    stacks = {
        str(r["bias"]): _BiasStack(str(r["bias"]), float(r["temperature_c"]), [], []) for r in read_table(out.biases)
    }
    for r in read_table(out.bias_frames):
        if str(r["status"]) == ACCEPTED:
            stack = stacks[str(r["bias"])]
            stack.frames.append(by_file[str(r["file"])])
            stack.offset_raw.append(float(r["offset_raw"]))
    return stacks


def _largest(stacks: Mapping[str, _BiasStack]) -> _BiasStack | None:
    return max(stacks.values(), key=lambda s: len(s.frames), default=None)


def _master_job(out: OutputDir, settings: Settings, stack: _BiasStack, noise_map: bool) -> Job:
    first = stack.frames[0]
    params = {
        "files": [f.file for f in stack.frames],
        "hdus": [f.hdu for f in stack.frames],
        "offset_raw": stack.offset_raw,
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
    made = combine_stack(
        stack, reference, inputs[1] if noise_map else None, None, kappa=kappa, relative_error=0.0, is_bias=True
    )
    cards = [
        ("IMAGETYP", "Master Bias", "kind of frame"),
        ("CCD-TEMP", temperature_c, "[deg C] temperature of the master"),
        ("EXPTIME", reference.bias_exposure_s, "[s]"),
    ]
    return {outputs[0]: write_master(outputs[0], made, cards, files, frames=len(files), bias=False)}


# --- reference values ------------------------------------------------------------------------------------------------


def _reference_job(
    out: OutputDir, settings: Settings, darks: Sequence[RawFrame], bias: _BiasStack | None
) -> Job:
    """The frames that tell read noise (biases, else the darks of the shortest exposure) and gain (the brightest)."""
    cells = cells_of(darks, Tolerances(settings.temperature_tolerance_c, settings.exposure_tolerance))
    noise = bias.frames if bias else _frames_of(darks, cells, brightest=False)
    gain = _frames_of(darks, cells, brightest=True)
    noise, gain = noise[:20], gain[:20]
    overrides = Overrides(
        settings.scale_factor,
        settings.gain_e_per_adu,
        settings.read_noise_adu,
        settings.saturation_fraction,
        settings.reference_temperature_c,
    )
    params = {
        "campaign": out.campaign or "",
        "noise_files": [f.file for f in noise],
        "gain_files": [f.file for f in gain],
        "has_bias": bias is not None,
        "overrides": overrides.to_dict(),
        **_tolerances(settings),
    }
    # a frame may serve both; each file is an input once
    paths = dict.fromkeys(f.path for f in [*noise, *gain])
    return Job(measure, (out.index, *paths), (out.reference,), params, label="read noise, gain, scale factor")


def _frames_of(darks: Sequence[RawFrame], cells: Sequence[Any], *, brightest: bool) -> list[RawFrame]:
    """Frames of the cell with the highest (or lowest) level among those with two frames or more, if any has."""
    many = [c for c in cells if len(c.members) > 1] or list(cells)
    if not many:
        return []

    def level(cell: Any) -> float:
        return float(np.median([darks[i].median for i in cell.members]))

    chosen = max(many, key=level) if brightest else min(many, key=lambda c: (c.exposure_s, level(c)))
    return [darks[i] for i in chosen.members]


def measure(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    campaign: str,
    noise_files: list[str],
    gain_files: list[str],
    has_bias: bool,
    overrides: Mapping[str, Any],
    temperature_tolerance_c: float,
    exposure_tolerance: float,
) -> dict[Path, str]:
    """Measure what the headers do not settle; what moved by less than its error is left as it was."""
    frames = read_frames(inputs[0], campaign)
    by_file = {f.file: f for f in frames}
    noise, gain = [by_file[n] for n in noise_files], [by_file[n] for n in gain_files]
    values, errors = reference_values(frames, noise, gain, has_bias, Overrides(**overrides))
    return {outputs[0]: write_reference(outputs[0], settled(outputs[0], values, errors))}


def _read_noise_jobs(out: OutputDir, bias: _BiasStack | None) -> list[Job]:
    if bias is None or len(bias.frames) < 2:
        return []
    frames = bias.frames[:20]
    params = {
        "files": [f.file for f in frames],
        "hdus": [f.hdu for f in frames],
        "levels": [f.median for f in frames],
        "shape": [frames[0].rows, frames[0].cols],
    }
    inputs = (out.reference, *(f.path for f in frames))
    return [Job(map_read_noise, inputs, (out.read_noise_map,), params, label="read-noise map")]


def map_read_noise(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    files: list[str],
    hdus: list[int],
    levels: list[float],
    shape: list[int],
) -> dict[Path, str]:
    """Read noise of every pixel from the bias frames of one temperature."""
    reference = read_reference(inputs[0])
    stack = RawStack(inputs[1:], hdus, shape[0], shape[1], levels)
    return {outputs[0]: write_read_noise_map(outputs[0], stack, reference.scale_factor, files)}


# --- line, darks -----------------------------------------------------------------------------------------------------


def _line_jobs(out: OutputDir, given: Sequence[Path], stacks: Mapping[str, _BiasStack]) -> list[Job]:
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
    return {outputs[0]: line_through(outputs[0], inputs, temperature_c, t_ref_c, names)}


def _correct_job(
    out: OutputDir, settings: Settings, stacks: Mapping[str, _BiasStack], line: bool, noise_map: bool
) -> Job:
    params = {
        "campaign": out.campaign or "",
        "biases": {s.name: s.temperature_c for s in stacks.values()},
        "line": line,
        "noise_map": noise_map,
        "bias_temperature_tolerance_c": settings.bias_temperature_tolerance_c,
        **_tolerances(settings),
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
    temperature_tolerance_c: float,
    exposure_tolerance: float,
) -> dict[Path, str]:
    """Choose the bias of each dark and look at the level that is left after it."""
    darks = read_frames(inputs[0], campaign, ["dark"])
    levels = {
        name: Levels.of(read_planes(path, ["SCI"])[0])
        for name, path in zip(biases, inputs[2 : 2 + len(biases)], strict=True)
    }
    table = corrected_rows(
        darks,
        Tolerances(temperature_tolerance_c, exposure_tolerance),
        read_reference(inputs[1]),
        biases,
        levels,
        BiasSource(inputs[-1], 0.0) if line else None,
        bias_temperature_tolerance_c,
        noise_map,
    )
    return {outputs[0]: write_table(outputs[0], table)}


def _keep_jobs(out: OutputDir, darks: Sequence[RawFrame]) -> list[Job]:
    by_file = {d.file: d for d in darks}
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
        stem = os.path.splitext(dark.file.replace("/", "__"))[0]
        jobs.append(Job(keep, inputs, (out.corrected_dark(stem),), params, label=f"corrected dark {dark.file}"))
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
    made: Master = combine_stack(stack, reference, None, source, kappa=1e9, relative_error=0.0)
    cards = [
        ("IMAGETYP", "Dark Frame", "bias subtracted"),
        ("EXPTIME", exposure_s, "[s]"),
        ("CCD-TEMP", temperature_c, "[deg C] temperature of its cell"),
        ("BIAS", bias, "which bias was subtracted"),
    ]
    return {outputs[0]: write_frame(outputs[0], Frame(made.science, made.error, made.dq, header=cards, inputs=[file]))}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """What was measured, and the darks that do not fit their cell."""
    values = read_reference(out.reference)
    rows = [
        (
            "noise",
            f"read noise {values.read_noise_adu:g} ADU, gain {values.gain_e_per_adu:g} e-/ADU ({values.gain_source}), "
            f"scale factor {values.scale_factor:g}",
        )
    ]
    rows += [("note", note) for note in values.notes]
    for table in (out.bias_frames, out.corrected):
        if table.is_file():
            rows += [("rejected", f"{r['file']}: {r['reason']}") for r in read_table(table) if str(r["reason"])]
    return rows
