"""Step 6: darks from the model -> synthetic/."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from darkpipe.errors import SettingsError
from darkpipe.files.layout import ModelDir, OutputDir, cell_name
from darkpipe.files.model_maps import Description, FittedModel, read_description
from darkpipe.files.synthetic import Wanted, model_for, write_synthetic
from darkpipe.files.wanted_darks import cells_of_model, inputs_of_dark, say_outside
from darkpipe.jobs.contract import Job
from steps.settings.step6_generate_synthetic_darks import NAME as NAME
from steps.settings.step6_generate_synthetic_darks import Settings as Settings

VERSION = 3

log = logging.getLogger("darkpipe")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job a dark.

    Raises
    ------
    ProductError
        when there is no model.
    DesignError
        when the model cannot make one of the darks.
    """
    folder = ModelDir.at(settings.model_dir or out.model.path)
    description = read_description(folder.description)
    jobs: dict[Path, Job] = {}
    outside: dict[str, FittedModel] = {}
    for temperature, exposure, requested in _points(out, settings, description):
        key = model_for(description, settings.model, temperature, exposure)
        if not description.find(key).covers(temperature, description.accumulated(exposure)):
            outside[cell_name(temperature, exposure)] = description.find(key)
        job = _job(out, folder, description, settings, key, temperature, exposure, requested)
        jobs.setdefault(job.outputs[0], job)
    say_outside(outside)
    if settings.what == "single":
        log.info("the dark: %s", next(iter(jobs)))
    yield list(jobs.values())


def _points(out: OutputDir, settings: Settings, description: Description) -> list[tuple[float, float, bool]]:
    """(temperature, exposure, whether it was asked for) of each dark."""
    cells = _cells(out, settings, description)
    temperatures, exposures = settings.temperatures_c, settings.exposures_s
    match settings.what:
        case "single":
            if settings.temp_single_c is None or settings.exptime_single_s is None:
                raise SettingsError("one dark needs both --temp_single and --exptime_single")
            return [(settings.temp_single_c, settings.exptime_single_s, True)]
        case "temperatures":
            base = _one_exposure(cells, exposures)
            if temperatures:
                return [(t, e, True) for t in temperatures for e in base]
            return [(t, e, True) for t, e in cells if any(abs(e - b) <= 0.01 * b for b in base)]
        case "grid":
            grid_t = temperatures or sorted({t for t, _ in cells})
            grid_e = exposures or sorted({e for _, e in cells})
            asked = [(t, e, True) for t in grid_t for e in grid_e] if temperatures or exposures else []
            return [(t, e, True) for t, e in cells] + asked
        case _:
            return [(t, e, False) for t, e in cells] if settings.keep_synthetic else []


def _cells(out: OutputDir, settings: Settings, description: Description) -> list[tuple[float, float]]:
    """The cells of the model's own campaign, as far as the synthesising model can make them."""
    groups = out.groups
    if settings.model_dir:
        groups = OutputDir(ModelDir.at(settings.model_dir).path.parent, "").groups
    return cells_of_model(groups, description, settings.model)


def _one_exposure(cells: list[tuple[float, float]], given: list[float]) -> list[float]:
    """The given exposures, else the one that most cells have (the longest of equals)."""
    if given:
        return given
    if not cells:
        raise SettingsError("the model's campaign is not at hand, so its exposures are unknown", do="give --exptimes")
    exposures = [e for _, e in cells]
    return [max(set(exposures), key=lambda e: (sum(abs(x - e) <= 0.01 * e for x in exposures), e))]


def _job(
    out: OutputDir,
    folder: ModelDir,
    description: Description,
    settings: Settings,
    key: str,
    temperature_c: float,
    exposure_s: float,
    requested: bool,
) -> Job:
    suffix = ("_bias" if settings.include_bias else "") + ("_uint16" if settings.dtype == "uint16" else "")
    target = out.synthetic(cell_name(temperature_c, exposure_s), suffix)
    if settings.what == "single" and settings.output:
        target = settings.output
    inputs = inputs_of_dark(folder, description, key, temperature_c, exposure_s, settings.include_bias)
    params: dict[str, Any] = {
        "model": key,
        "temperature_c": temperature_c,
        "exposure_s": exposure_s,
        "include_bias": settings.include_bias,
        "dtype": settings.dtype,
    }
    label = f"synthetic dark {cell_name(temperature_c, exposure_s)}"
    return Job(synthesize, tuple(inputs), (target,), params, requested=requested, label=label)


def synthesize(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    model: str,
    temperature_c: float,
    exposure_s: float,
    include_bias: bool,
    dtype: Literal["float32", "uint16"],
) -> dict[Path, str]:
    """Make one dark from the maps of the model."""
    folder = ModelDir(inputs[0].parent)
    wanted = Wanted(model, temperature_c, exposure_s, include_bias, dtype)
    return {outputs[0]: write_synthetic(outputs[0], folder, read_description(inputs[0]), wanted)}
