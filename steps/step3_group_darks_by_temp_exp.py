"""Step 3: cells of darks, and the master dark of each -> groups.ecsv, dark_masks_by_temp/."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from darkpipe.errors import FrameError
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.clamp import clamp_notes
from darkpipe.files.corrections import LINE, Tolerances
from darkpipe.files.groups import group_tables
from darkpipe.files.index import ACCEPTED, RawFrame, read_frames
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import read_reference
from darkpipe.files.products import Card
from darkpipe.files.stacking import (
    Clipping,
    Stack,
    combined_strips,
    measure_hidden_charge,
    spread_in_cell,
    write_master,
)
from darkpipe.files.tables import read_table, write_table
from darkpipe.jobs.contract import Job
from steps.settings.step3_group_darks_by_temp_exp import NAME as NAME
from steps.settings.step3_group_darks_by_temp_exp import Settings as Settings

VERSION = 4


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """The tables of cells, then one job a master dark.

    Raises
    ------
    FrameError
        when no dark was left.
    """
    if not any(str(r["status"]) == ACCEPTED for r in read_table(out.corrected)):
        raise FrameError("every dark of this configuration was rejected", where=out.corrected, do="see its reasons")
    outputs = (out.groups, out.group_frames)
    yield [Job(group, (out.index, out.corrected), outputs, {"campaign": out.campaign or ""}, label="cells of darks")]
    yield _master_jobs(out, settings)


def group(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, campaign: str) -> dict[Path, str]:
    """Put the accepted darks into cells; a cell keeps the name it was first given."""
    table = read_table(inputs[1])
    corrected = {str(r["file"]): r for r in table if str(r["status"]) == ACCEPTED}
    darks = [f for f in read_frames(inputs[0], campaign, ["dark"]) if f.file in corrected]
    tolerances = Tolerances(**table.meta["tolerances"])
    cells, frames = group_tables(darks, corrected, tolerances, outputs[0])
    return {outputs[0]: write_table(outputs[0], cells), outputs[1]: write_table(outputs[1], frames)}


def _master_jobs(out: OutputDir, settings: Settings) -> list[Job]:
    raw = {f.file: f for f in read_frames(out.index, out.campaign or "", ["dark"])}
    members: dict[str, list[tuple[RawFrame, float]]] = {}
    for r in read_table(out.group_frames):
        members.setdefault(str(r["cell"]), []).append((raw[str(r["file"])], float(r["offset_adu"])))
    corrected = read_table(out.corrected).meta
    noise_map = (out.read_noise_map,) if corrected["noise_map"] else ()
    # only where there is a clamp: elsewhere the jobs are what they were
    clamped = {"clamped": True} if clamp_notes(corrected) else {}
    jobs = []
    for r in read_table(out.groups):
        cell, bias = str(r["cell"]), str(r["bias"])
        frames = [f for f, _ in members[cell]]
        source: tuple[Path, ...] = ()
        if bias:
            source = (out.bias_line if bias.startswith(LINE) else out.master_bias(bias),)
        params = {
            "cell": cell,
            "files": [f.file for f in frames],
            "hdus": [f.hdu for f in frames],
            # the first frame's pedestal is added to all of them
            "offset_adu": [o + frames[0].pedestal_adu - f.pedestal_adu for f, o in members[cell]],
            "shape": [frames[0].rows, frames[0].cols],
            "pedestal_adu": frames[0].pedestal_adu,
            "configuration": frames[0].configuration,
            "camera": frames[0].camera,
            "exposure_s": float(r["exposure_s"]),
            "temperature_c": float(r["temperature_c"]),
            "temperature_sigma_c": float(r["temperature_sigma_c"]),
            "temperature_source": str(r["temperature_source"]),
            "measured_c": float(r["measured_c"]) if math.isfinite(r["measured_c"]) else None,
            "set_point_c": float(r["set_point_c"]) if math.isfinite(r["set_point_c"]) else None,
            "bias": bias,
            "noise_map": bool(noise_map),
            "kappa": settings.kappa,
            "relative_error": settings.relative_error,
            **clamped,
        }
        inputs = (out.reference, *noise_map, *source, *(f.path for f in frames))
        jobs.append(Job(combine_darks, inputs, (out.master_dark(cell),), params, label=f"master dark {cell}"))
    return jobs


def combine_darks(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    cell: str,
    files: list[str],
    hdus: list[int],
    offset_adu: list[float],
    shape: list[int],
    pedestal_adu: float,
    configuration: str,
    camera: str,
    exposure_s: float,
    temperature_c: float,
    temperature_sigma_c: float,
    temperature_source: str,
    measured_c: float | None,
    set_point_c: float | None,
    bias: str,
    noise_map: bool,
    kappa: float,
    relative_error: float,
    clamped: bool = False,
) -> dict[Path, str]:
    """Clipped mean of the darks of one cell, minus their bias."""
    reference = read_reference(inputs[0])
    source = None
    if bias:
        path = inputs[2] if noise_map else inputs[1]
        source = BiasSource(path, temperature_c if bias.startswith(LINE) else None)
    stack = Stack(inputs[-len(files) :], hdus, shape[0], shape[1], offset_adu, pedestal_adu)
    spread = spread_in_cell(relative_error, temperature_sigma_c)
    noise = inputs[1] if noise_map else None
    hidden = measure_hidden_charge(stack, reference) if clamped and bias else 0.0
    how = Clipping(kappa, spread, temperature_c=temperature_c, hidden_adu=hidden)
    made = combined_strips(stack, reference, noise, source, how)
    cards: list[Card] = [
        ("IMAGETYP", "Master Dark", "bias subtracted" if bias else "bias NOT subtracted: there was none"),
        ("EXPTIME", exposure_s, "[s]"),
        ("CCD-TEMP", temperature_c, f"[deg C] that is fitted: {temperature_source}"),
        ("T-SIGMA", round(temperature_sigma_c, 4), "[deg C] 1 sigma of it"),
        ("T-MEAS", measured_c if measured_c is not None else math.nan, "[deg C] mean measured"),
        ("SET-TEMP", set_point_c if set_point_c is not None else math.nan, "[deg C] set point"),
        ("EGAIN", reference.gain_e_per_adu, f"[e-/adu] {reference.gain_source}"),
        ("RDNOISE", reference.read_noise_at(temperature_c), "[adu] read noise of one frame"),
        ("INSTRUME", camera or configuration, "camera"),
        ("CONFIG", configuration, "configuration"),
        ("BIAS", bias, "which bias was subtracted"),
        ("CELL", cell, "name of the cell"),
        ("KAPPA", kappa, "[sigma] beyond which a sample was rejected"),
        *([("HIDDEN", round(hidden, 3), "[adu] charge that the black clamp took away")] if clamped else []),
        ("STEP", NAME, "step that made this"),
        ("STEPVERS", VERSION, "its version"),
    ]
    return {outputs[0]: write_master(outputs[0], made, stack, cards, files, bias=bool(bias))}
