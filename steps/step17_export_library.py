"""Step 17: master darks for other programs, in raw counts with the camera's own header -> library/."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.frame_match import Window, window_of
from darkpipe.files.index import RawFrame, read_frames, survey_key, survey_of
from darkpipe.files.layout import SAFE_NAME, ModelDir, OutputDir, cell_name
from darkpipe.files.library import library_rows, write_library_table, write_page
from darkpipe.files.lights import describe
from darkpipe.files.master_export import Form, camera_cards, cards_by_name, setting_name, write_master
from darkpipe.files.model_maps import Description, FittedModel, read_description
from darkpipe.files.products import Card
from darkpipe.files.synthetic import Wanted, model_for
from darkpipe.files.tables import read_table
from darkpipe.files.values import Card as RawCard
from darkpipe.files.wanted_darks import cells_of_model, inputs_of_dark, say_outside
from darkpipe.jobs.contract import Job
from steps.settings.step17_export_library import NAME as NAME
from steps.settings.step17_export_library import Settings as Settings

VERSION = 1

log = logging.getLogger("darkpipe")


@dataclass(frozen=True)
class _Camera:
    """What the darks get from the raw frames: cards of the header, pedestal, and 2 for a Bayer mosaic."""

    cards: list[Card]
    pedestal_adu: float = 0.0
    stride: int = 1


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job a dark; then the table and the page that goes with them.

    Raises
    ------
    ProductError
        when there is no model.
    DesignError
        when the model cannot make one of the darks.
    SettingsError
        for darks that would have the same name, and for a form that there is not.
    FrameError
        when `like` is of another configuration than the model, or a sub-frame of it.
    """
    if settings.unit_range and settings.format != "float32":
        raise SettingsError("whole counts do not go into a range from 0 to 1", where="unit_range", do="Take float32")
    folder = ModelDir.at(settings.model_dir or out.model.path)
    description = read_description(folder.description)
    campaign = _campaign(folder) if settings.model_dir else out
    camera = _camera(settings, campaign, description)
    jobs: dict[Path, Job] = {}
    outside: dict[str, FittedModel] = {}
    for temperature, exposure in _points(campaign, settings, description):
        job = _job(out, folder, description, settings, camera, temperature, exposure)
        if job.outputs[0] in jobs:
            raise SettingsError(
                f"two darks would both be called {job.outputs[0].name}", do="give temperatures that differ by 0.1 °C"
            )
        jobs[job.outputs[0]] = job
        model = description.find(job.params["model"])
        if not model.covers(temperature, description.accumulated(exposure)):
            outside[cell_name(temperature, exposure)] = model
    say_outside(outside)
    yield list(jobs.values())
    params = {
        "darks": [[job.params["temperature_c"], job.params["exposure_s"]] for job in jobs.values()],
        "form": next(iter(jobs.values())).params["form"],
        "camera": description.camera,
        "scale_factor": description.scale_factor,
    }
    yield [Job(catalogue, tuple(jobs), (out.library_table, out.library_readme), params, label="table of the library")]


def _campaign(folder: ModelDir) -> OutputDir | None:
    """The campaign around a model: of the only configuration, or of one of several; None where it was moved alone."""
    around = folder.path.absolute().parent
    if OutputDir(around).index.is_file():
        return OutputDir(around, "")
    if SAFE_NAME.match(around.name) and OutputDir(around.parent).index.is_file():
        return OutputDir(around.parent, around.name)
    return OutputDir(around, "") if OutputDir(around, "").groups.is_file() else None


def _points(campaign: OutputDir | None, settings: Settings, description: Description) -> list[tuple[float, float]]:
    """(temperature, exposure) of each dark: the cells, or the grid of what is given with what the cells have."""
    given_t, given_e = sorted(set(settings.temperatures_c)), sorted(set(settings.exposures_s))
    cells: list[tuple[float, float]] = []
    if campaign is not None and not (given_t and given_e):
        cells = cells_of_model(campaign.groups, description, settings.model)
    if not cells and not (given_t and given_e):
        raise SettingsError(
            "the model's campaign is not at hand, so its cells are unknown", do="give --temps and --exptimes"
        )
    if not given_t and not given_e:
        return sorted(set(cells))
    temperatures = given_t or sorted({t for t, _ in cells})
    exposures = given_e or sorted({e for _, e in cells})
    return [(t, e) for t in temperatures for e in exposures]


def _camera(settings: Settings, campaign: OutputDir | None, description: Description) -> _Camera:
    """What the raw frames say: that of `like`, else the first dark of the campaign, else the name of the model's
    configuration."""
    if settings.like is not None:
        found = describe(settings.like, settings.keyword_synonyms)
        if window_of(found.configuration, description.configuration) != Window(0, 0, *description.shape):
            raise FrameError("this is a sub-frame: master darks have the full frame", where=settings.like)
        cards = camera_cards(found.cards, found.info, settings.include_bias)
        return _Camera(cards, found.info.pedestal_adu, 2 if found.info.bayer else 1)
    frame = _first_dark(campaign, description)
    if campaign is None or frame is None:
        log.warning("no raw frame of this model is at hand: its darks get the little that is known; give --like FRAME")
        return _Camera(cards_by_name(description.configuration))
    info = survey_of(campaign.survey(survey_key(frame.file))).info
    raw: tuple[RawCard, ...] = ()
    with contextlib.suppress(FrameError):  # it may be gone: its survey still tells the most of it
        raw = describe(frame.path).cards
    if info is None:
        return _Camera(cards_by_name(description.configuration), frame.pedestal_adu)
    return _Camera(camera_cards(raw, info, settings.include_bias), frame.pedestal_adu, 2 if info.bayer else 1)


def _first_dark(campaign: OutputDir | None, description: Description) -> RawFrame | None:
    if campaign is None or not campaign.index.is_file():
        return None
    frames = read_frames(campaign.index, campaign.campaign or "", ("dark",))
    return next((f for f in frames if f.configuration == description.configuration), None)


def _job(
    out: OutputDir,
    folder: ModelDir,
    description: Description,
    settings: Settings,
    camera: _Camera,
    temperature_c: float,
    exposure_s: float,
) -> Job:
    key = model_for(description, settings.model, temperature_c, exposure_s)
    form = Form(
        settings.format, settings.include_bias, settings.unit_range, settings.image_type, camera.pedestal_adu,
        camera.stride,
    )  # fmt: skip
    params: dict[str, Any] = {
        "model": key,
        "temperature_c": temperature_c,
        "exposure_s": exposure_s,
        "form": vars(form),
        "camera": [list(card) for card in camera.cards],
    }
    inputs = inputs_of_dark(folder, description, key, temperature_c, exposure_s, settings.include_bias)
    target = out.library_dark(temperature_c, exposure_s, setting_name(description.configuration))
    return Job(export, tuple(inputs), (target,), params, label=f"master dark {cell_name(temperature_c, exposure_s)}")


def export(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    model: str,
    temperature_c: float,
    exposure_s: float,
    form: Mapping[str, Any],
    camera: Sequence[Sequence[Any]],
) -> dict[Path, str]:
    """Make one master dark from the maps of the model."""
    folder = ModelDir(inputs[0].parent)
    asked = Form(**form)
    wanted = Wanted(model, temperature_c, exposure_s, asked.include_bias)
    cards = [(str(key), value, str(comment)) for key, value, comment in camera]
    return {outputs[0]: write_master(outputs[0], folder, read_description(inputs[0]), wanted, asked, cards)}


def catalogue(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    darks: list[list[float]],
    form: dict[str, Any],
    camera: str,
    scale_factor: float,
) -> dict[Path, str]:
    """The table of the darks, and the page that says how to use them."""
    rows = library_rows(inputs, outputs[0].parent, darks)
    if clipped := [r for r in rows if r["n_clipped"]]:
        total = sum(r["n_clipped"] for r in clipped)
        log.warning("%d pixels of %d darks do not fit into 0 to 65535 and were cut off", total, len(clipped))
    return {
        outputs[0]: write_library_table(outputs[0], rows),
        outputs[1]: write_page(outputs[1], rows, form, camera, scale_factor),
    }


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """How many darks there are, and what is to be said of them."""
    rows = list(read_table(out.library_table))
    beyond = sum(bool(r["extrapolated"]) for r in rows)
    clipped = sum(int(r["n_clipped"]) for r in rows)
    told = [f"{len(rows)} master darks: {out.library}"]
    told += [f"{beyond} of them extrapolated"] if beyond else []
    told += [f"{clipped} pixels cut off at 0 or 65535"] if clipped else []
    return [("library", "; ".join(told))]
