"""Step 18: what a planned campaign will tell and cost, before a frame of it is taken -> campaign_plan/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkpipe.errors import DesignError, SettingsError
from darkpipe.files.atomic import replace_file, replace_text
from darkpipe.files.campaign_plan import (
    Fitting,
    KnownSensor,
    Outline,
    changes_table,
    fitting_of,
    grid_of,
    kinds_of,
    predicted_table,
    read_sensor,
)
from darkpipe.files.layout import OutputDir
from darkpipe.files.tables import read_table, write_table
from darkpipe.jobs.contract import Job
from darkpipe.report.drawing import campaign_figure, plan_lines, save_png
from darkpipe.science.campaign import CameraNoise, PixelKind
from darkpipe.science.misfit import Misfit
from darkpipe.science.population import Population
from hardware.camera import CameraInfo
from hardware.planning.plan import CapturePlan, Slot, estimate, make_plan
from steps.settings.step18_plan_campaign import NAME as NAME
from steps.settings.step18_plan_campaign import SECTIONS as SECTIONS
from steps.settings.step18_plan_campaign import PlannedCampaign
from steps.settings.step18_plan_campaign import Settings as Settings

VERSION = 1

READ_NOISE_E, GAIN = 5.0, 1.0  # of a camera that nothing is said of
GLOW = "_glow"  # how the names of models end that have it
MOST_CELLS = 400  # of a plan; each is looked at by itself


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Predict; draw and write in words.

    Raises
    ------
    SettingsError
        when the plan lacks its temperatures, or half of the dark that matters most is given.
    DesignError
        when it carries no model, or none for the dark that matters most.
    ProductError
        when there is no model in model_dir.
    """
    wanted = settings.plan_campaign
    name = wanted.model.removesuffix(GLOW)
    sensor = None if wanted.model_dir is None else read_sensor(wanted.model_dir, name)
    outline = _outline(settings, sensor)
    how: dict[str, Any] = {
        "model": name if sensor is None else sensor.model.name,
        "temperature_error_c": wanted.temperature_error_c,
        "energy_gap_ev": wanted.energy_gap_ev,
    }
    fitting = fitting_of(outline, **how)  # says now what a plan lacks
    params = {
        "variants": [_priced(v, settings, sensor) for v in _variants(outline)],
        "noise": vars(_noise(wanted, sensor)),
        "kinds": None if sensor is not None else _kinds(wanted),
        "how": how,
        "target": _target(wanted, fitting),
    }
    tables = (out.planned_errors, out.planned_changes)
    yield [Job(foresee, () if sensor is None else sensor.files, tables, params, label="errors of the planned campaign")]
    yield [Job(draw, tables, (out.planned_picture, out.planned_text), {}, label="picture of the planned campaign")]


def _target(wanted: PlannedCampaign, fitting: Fitting) -> list[float] | None:
    """The dark that matters most."""
    t, e = wanted.temp_single_c, wanted.exptime_single_s
    if (t is None) != (e is None):
        raise SettingsError(
            "of the dark that matters most only one of temperature and exposure is given",
            where=NAME, do="Give --temp_single and --exptime_single, or neither",
        )  # fmt: skip
    if t is None or e is None:
        return None
    if not fitting.makes(t, e):
        raise DesignError(
            f"{fitting.unit.model.name} of this plan makes no dark of {t:g} °C and {e:g} s",
            do="plan a second temperature and a second exposure, or ask for a dark of those of the plan",
        )
    return [t, e]


def _outline(settings: Settings, sensor: KnownSensor | None) -> Outline:
    """The plan in numbers: what is set, else that of the model, else that of dark_capture."""
    wanted = settings.plan_campaign
    if sensor is not None:
        base = sensor.outline
    elif wanted.temperatures_c and wanted.exposures_s:  # the rest of dark_capture, its limits included, says nothing
        base = Outline((), settings.dark_capture.num_darks)
    else:
        base = _captured(settings)
    known = [n for *_, n in base.cells]
    frames = wanted.frames or (max(known, key=known.count) if known else settings.dark_capture.num_darks)
    if wanted.temperatures_c or wanted.exposures_s:
        temperatures = wanted.temperatures_c or list(dict.fromkeys(c[0] for c in base.cells))
        exposures = wanted.exposures_s or base.exposures_s
        cells = tuple(
            (float(t), float(e), frames) for t in dict.fromkeys(temperatures) for e in dict.fromkeys(exposures)
        )
    else:
        cells = tuple((t, e, wanted.frames or n) for t, e, n in base.cells)
    if len(cells) > MOST_CELLS:
        raise SettingsError(f"the plan has {len(cells)} cells, more than {MOST_CELLS}", where=NAME)
    return Outline(cells, base.biases if wanted.biases is None else wanted.biases)


def _captured(settings: Settings) -> Outline:
    """What step 0 would take."""
    wanted = settings.plan_campaign
    slots = make_plan(settings, None, None).slots
    counts: dict[tuple[str, float, float | None], int] = {}
    for slot in slots:
        counts[slot.setting] = counts.get(slot.setting, 0) + 1
    if wanted.temperatures_c is None and any(t is None for *_, t in counts):
        raise SettingsError(
            "the temperatures of the planned campaign are not known", where=NAME,
            do="Give --temps, or dark_capture: temperatures_c in the settings, or --model_dir",
        )  # fmt: skip
    darks = tuple((t or 0.0, e, n) for (kind, e, t), n in counts.items() if kind == "dark")
    if not darks:
        raise SettingsError("this plan has no darks", where=NAME, do="Give --exptimes, or change dark_capture")
    return Outline(darks, max((n for (kind, *_), n in counts.items() if kind == "bias"), default=0))


def _variants(outline: Outline) -> Iterator[dict[str, Any]]:
    """The plan, and plans with more or fewer frames: what changes, in a word and as a sentence."""

    def variant(change: str, what: str, cells: Sequence[Any], biases: int, t: float = np.nan, e: float = np.nan) -> Any:
        return {"change": change, "what": what, "cells": [list(c) for c in cells], "biases": biases,
                "temperature_c": t, "exposure_s": e}  # fmt: skip

    cells, b = outline.cells, outline.biases
    yield variant("plan", "the plan", cells, b)
    yield variant("everything", "twice the frames of everything", [(t, e, 2 * n) for t, e, n in cells], 2 * b)
    if all(n > 1 for *_, n in cells):
        yield variant("half", "half the frames of everything", [(t, e, n // 2) for t, e, n in cells], -(-b // 2))
    yield variant("darks", "twice the darks", [(t, e, 2 * n) for t, e, n in cells], b)
    yield variant("biases", "twice the biases" if b else "20 biases at each temperature", cells, 2 * b or 20)
    for name, position, values, unit in (
        ("temperature", 0, outline.temperatures_c, "°C"),
        ("exposure", 1, outline.exposures_s, "s"),
    ):
        for v in values if len(values) > 1 else ():
            at = {"t" if position == 0 else "e": v}
            more = [(t, e, n * (1 + ((t, e)[position] == v))) for t, e, n in cells]
            fewer = [c for c in cells if c[position] != v]
            yield variant(name, f"twice the darks of {v:g} {unit}", more, b, **at)
            yield variant(f"without {name}", f"without {v:g} {unit}", fewer, b, **at)
    for k, (t, e, n) in enumerate(cells):
        more = [*cells[:k], (t, e, 2 * n), *cells[k + 1 :]]
        yield variant("cell", f"twice the darks of {t:g} °C, {e:g} s", more, b, t, e)


def _priced(variant: Mapping[str, Any], settings: Settings, sensor: KnownSensor | None) -> dict[str, Any]:
    """The variant with the camera time that it takes [s], as step 0 estimates it."""
    temperatures = list(dict.fromkeys(c[0] for c in variant["cells"]))
    shortest = settings.dark_capture.min_exposure
    slots = [Slot("bias", shortest, t, k + 1) for t in temperatures for k in range(variant["biases"])]
    slots += [Slot("dark", e, t, k + 1) for t, e, n in variant["cells"] for k in range(n)]
    shape = settings.plan_campaign.frame_shape or (None if sensor is None else sensor.description.shape)
    info = None if shape is None else CameraInfo("", sensor_rows=shape[0], sensor_cols=shape[1])
    captured = CapturePlan(tuple(slots), (), tuple(temperatures))
    cost = estimate(captured, slots, info, settings, settings.plan_campaign.start_c)
    return {**variant, "seconds": round(cost.total_s, 1)}


def _noise(wanted: PlannedCampaign, sensor: KnownSensor | None) -> CameraNoise:
    known = sensor.noise if sensor is not None else CameraNoise(READ_NOISE_E / GAIN, GAIN, 60000.0)
    gain = wanted.gain_e_per_adu or known.gain_e_per_adu
    if wanted.read_noise_e is not None:
        read = wanted.read_noise_e / gain
    else:
        read = known.read_noise_adu * known.gain_e_per_adu / gain
    drift = known.drift_adu if wanted.pedestal_drift_adu is None else wanted.pedestal_drift_adu
    full = wanted.saturation_adu or known.saturation_adu
    return CameraNoise(read, gain, full, drift, wanted.temperature_jitter_c)


def _kinds(wanted: PlannedCampaign) -> list[dict[str, Any]]:
    """Bulk and hot pixels as the settings have them, as plain data."""
    gain = wanted.gain_e_per_adu or GAIN
    return [
        {
            "name": name,
            "current_adu_s": rate / gain,
            "growth_per_k": float(np.log(2.0)) / doubling,
            "temperature_c": wanted.reference_temperature_c,
            "relative_error": wanted.relative_error,
        }
        for name, rate, doubling in (
            ("bulk", wanted.bulk_e_s, wanted.bulk_doubling_c),
            ("hot", wanted.hot_e_s, wanted.hot_doubling_c),
        )
    ]


def foresee(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    variants: list[dict[str, Any]],
    noise: dict[str, float],
    kinds: list[dict[str, Any]] | None,
    how: dict[str, Any],
    target: list[float] | None,
) -> dict[Path, str]:
    """Errors over temperature and exposure; what changes of the plan would do to them."""
    camera = CameraNoise(**noise)
    pixels = kinds_of(read_sensor(inputs[0].parent, how["model"])) if kinds is None else [_pixel(k) for k in kinds]
    first = variants[0]
    outline = Outline(tuple((t, e, n) for t, e, n in first["cells"]), first["biases"])
    fitting = fitting_of(outline, **how)
    errors = predicted_table(fitting, pixels, camera, outline)
    inside = (outline.temperatures_c[0], outline.temperatures_c[-1]), (outline.exposures_s[0], outline.exposures_s[-1])
    grid = [[v for v in axis if low <= v <= high] for axis, (low, high) in zip(grid_of(outline), inside, strict=True)]
    points = [target] if target else [[t, e] for t in grid[0] for e in grid[1]]
    wanted = (np.array([p[0] for p in points]), np.array([p[1] for p in points]))
    changes = changes_table(variants, pixels, camera, {**how, "model": fitting.unit.model.name}, wanted)
    errors.meta |= {
        "model": fitting.unit.model.name,
        "carried": list(fitting.carried),
        "cells": [list(c) for c in outline.cells],
        "biases": outline.biases,
        "hours": first["seconds"] / 3600.0,
        "target": target,
        "noise": {k: float(v) for k, v in noise.items() if np.isfinite(v)},
        "pixels": [
            {"name": k.name, "e_s": k.current_adu_s * camera.gain_e_per_adu, "temperature_c": k.temperature_c,
             "doubling_c": float(np.log(2.0) / k.growth_per_k), "relative_error": k.population.relative_error}
            for k in pixels
        ],
    }  # fmt: skip
    return {outputs[0]: write_table(outputs[0], errors), outputs[1]: write_table(outputs[1], changes)}


def _pixel(kind: Mapping[str, Any]) -> PixelKind:
    given = {k: v for k, v in kind.items() if k != "relative_error"}
    return PixelKind(**given, population=Population(misfits=(Misfit(1.0, kind["relative_error"], 0.0),)))


def draw(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """The errors as a picture, and the plan in words."""
    errors, changes = read_table(inputs[0]), read_table(inputs[1])
    figure = campaign_figure(list(errors), list(changes), errors.meta)
    text = "\n".join(plan_lines(list(errors), list(changes), errors.meta)) + "\n"
    return {
        outputs[0]: replace_file(outputs[0], lambda stream: save_png(figure, stream)),
        outputs[1]: replace_text(outputs[1], text),
    }


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """The plan in words, and where its products are."""
    errors = read_table(out.planned_errors)
    rows = [("plan", line) for line in plan_lines(list(errors), list(read_table(out.planned_changes)), errors.meta)]
    return [*rows, ("products", f"campaign_plan: {out.planned_errors.parent}")]
