"""Step 4: special pixels from the masters -> dark_model/hot_pixel_mask.fits, saturation_map.fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from darkpipe.errors import SettingsError
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import read_cells, read_reference
from darkpipe.files.products import read_header
from darkpipe.files.special_pixels import ReadNoise, Thresholds, by_signal, find_saturation, find_special
from darkpipe.files.tables import read_table
from darkpipe.jobs.contract import Job
from steps.settings.step4_mask_hotpixels import NAME as NAME
from steps.settings.step4_mask_hotpixels import Settings as Settings

VERSION = 4


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job over all masters.

    Raises
    ------
    SettingsError
        when `reference_cell` is not one of the campaign's.
    """
    cells = read_cells(out.groups)
    names = [c.name for c in cells]
    if settings.reference_cell != "auto" and settings.reference_cell not in names:
        raise SettingsError(
            f"there is no cell {settings.reference_cell}",
            where="mask_hotpixels.reference_cell",
            do="choose one of " + ", ".join(names),
        )
    ranked = by_signal(cells)
    if settings.reference_cell != "auto":
        ranked.insert(0, ranked.pop(ranked.index(names.index(settings.reference_cell))))
    params = {"ranked": ranked, "cells": names, "frames": [c.frames for c in cells], **settings.model_dump()}
    masters = tuple(out.master_dark(n) for n in names)
    levels = Job(
        saturation,
        (out.reference, *masters),
        (out.model.saturation_map,),
        {"temperature_c": [c.temperature_c for c in cells], "exposure_s": [c.exposure_s for c in cells]},
        label="levels of saturation",
    )
    yield [levels]
    noise_map = bool(read_table(out.corrected).meta["noise_map"])
    params["noise_map"] = noise_map
    known = (out.reference, *((out.read_noise_map,) if noise_map else ()))
    inputs = (out.model.saturation_map, *known, *masters)
    yield [Job(mask, inputs, (out.model.hot_pixel_mask,), params, label="mask of special pixels")]


def saturation(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, temperature_c: list[float], exposure_s: list[float]
) -> dict[Path, str]:
    """Look for pixels whose signal stops growing."""
    reference = read_reference(inputs[0])
    top = reference.saturation_raw / reference.scale_factor
    return {outputs[0]: find_saturation(inputs[1:], temperature_c, exposure_s, top).write(outputs[0])}


def mask(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    ranked: list[int],
    cells: list[str],
    frames: list[int],
    hot_sigma: float,
    warm_sigma: float,
    dead_sigma: float,
    unstable_rate: float,
    reference_cell: str,
    noise_map: bool,
) -> dict[Path, str]:
    """Flag pixels by the reference master, and by what all masters say of their frames."""
    noise = ReadNoise.of(read_reference(inputs[1]), inputs[2] if noise_map else None)
    thresholds = Thresholds(hot_sigma, warm_sigma, dead_sigma, unstable_rate)
    found = find_special(inputs[-len(cells) :], cells, frames, ranked, thresholds, inputs[0], noise)
    return {outputs[0]: found.write(outputs[0])}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Counts of special pixels."""
    h = read_header(out.model.hot_pixel_mask)
    names = {"N_HOT": "hot", "N_WARM": "warm", "N_DEAD": "dead", "N_SATURA": "saturated", "N_UNSTAB": "unstable"}
    counts = ", ".join(f"{h[card]} {name}" for card, name in names.items())
    return [("special pixels", f"{counts} (reference {h['REFCELL']})")]
