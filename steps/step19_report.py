"""Step 19: everything about a campaign and its model on one page that needs no other file -> evaluation/report.html."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from darkpipe.errors import DesignError, ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.files.evaluating import Held, read_small_maps, write_picture
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_reference
from darkpipe.files.model_maps import read_description
from darkpipe.files.products import read_header, read_planes
from darkpipe.files.reduced_planes import counted_plane, reduced_plane
from darkpipe.files.reporting import Subject, product_rows, read_facts, rows_of, tables_of
from darkpipe.files.reporting import products_of as files_of
from darkpipe.files.sample_pixels import Source, read_sample_pixels, write_sample_pixels
from darkpipe.files.sessions import read_log, temperature_logs
from darkpipe.files.synthetic import model_for
from darkpipe.files.tables import read_table
from darkpipe.jobs.contract import Job
from darkpipe.report.drawing import (
    accuracy_grid,
    bias_levels,
    dark_image,
    dark_vs_exposure_and_temperature,
    dark_vs_inverse_temperature,
    glow_map,
    hot_pixel_curve,
    residual_map,
    temperature_figure,
    write_page,
)
from darkpipe.report.painters import png, written
from darkpipe.report.sizes import PRINT_DPI, SIDE
from darkpipe.report.text import GRIDS
from darkpipe.version import __version__
from steps.settings.step19_report import NAME as NAME
from steps.settings.step19_report import Settings as Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 3

MOST_LOGS = 6
PACKAGES = ("numpy", "scipy", "astropy", "numba", "matplotlib")
OVER = ("over exposure", "over temperature")  # curves of sample pixels
FROM_EVALUATION = ("evaluation_summary", "parameter_maps", "hot_pixel_map")  # pictures of step 7


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Pictures, then the page.

    Raises
    ------
    ProductError
        when there are no master darks to tell of.
    """
    if not settings.write:
        return
    subject = Subject.of(out)
    samples = _samples_job(subject)
    masters, tables = _pictures_of_masters(subject), _pictures_of_tables(subject)
    yield [*([] if samples is None else [samples]), *masters, *tables]
    curves: list[Job] = []
    if samples is not None and read_sample_pixels(out.sample_pixels, OVER[0]):
        names = ("dark_vs_exposure", "dark_vs_temperature")
        curves = [
            Job(draw_samples, (out.sample_pixels,), (out.picture(name),), {"over": over}, label=f"sample pixels {over}")
            for name, over in zip(names, OVER, strict=True)
        ]
        yield curves
    drawn = [path for job in (*masters, *curves, *tables) for path in job.outputs]
    yield [_page_job(subject, drawn, settings)]


def _samples_job(subject: Subject) -> Job | None:
    """A few pixels of each kind, where there is a model."""
    if subject.description is None or subject.folder is None:
        return None
    base = subject.description.chosen.split("/")[0]
    keys = [m.key for m in subject.description.models if m.name == base]
    usable = [k for k, cell in enumerate(subject.cells) if _key(subject, cell) is not None]
    if not usable:
        return None
    files = list(dict.fromkeys(path for key in keys for path in subject.model_files(key)))
    masters = [subject.place.master_dark(c.name) for c in subject.cells]
    brightest = [k for k in subject.ranked() if k in usable][-1]
    params = {"cells": [vars(c) for c in subject.cells], "brightest": brightest}
    inputs = (subject.place.reference, *files, *masters)
    return Job(sample, inputs, (subject.out.sample_pixels,), params, label="sample pixels")


def _key(subject: Subject, cell: Cell) -> str | None:
    if subject.description is None:
        return None
    try:
        return model_for(subject.description, "auto", cell.temperature_c, cell.exposure_s)
    except DesignError:
        return None


def sample(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, cells: list[dict[str, Any]], brightest: int
) -> dict[Path, str]:
    """Pixels that stand for their kinds, in every master and by the model."""
    folder = ModelDir(inputs[1].parent)
    masters = inputs[len(inputs) - len(cells) :]
    source = Source(folder, read_description(inputs[1]), read_reference(inputs[0]), [Cell(**c) for c in cells], masters)
    return {outputs[0]: write_sample_pixels(outputs[0], source, brightest)}


def _pictures_of_masters(subject: Subject) -> list[Job]:
    """The brightest master and one in the middle, what a model leaves of them, and how many pixels are how bright."""
    out, place = subject.out, subject.place
    ranked = subject.ranked()
    shown = dict.fromkeys([ranked[-1], ranked[len(ranked) // 2]])
    jobs = [job for k in shown for job in _dark_jobs(subject, subject.cells[k])]
    cell = subject.cells[ranked[-1]]
    params = {"temperature_c": cell.temperature_c, "exposure_s": cell.exposure_s}
    jobs.append(
        Job(
            draw_curve,
            (place.master_dark(cell.name),),
            (out.picture("hot_pixel_curve"),),
            params,
            label="hot-pixel curve",
        )
    )
    return jobs


def _pictures_of_tables(subject: Subject) -> list[Job]:
    """Accuracy of each cell, glow, levels of the biases, temperature logs; each where there is such a thing."""
    out, place = subject.out, subject.place
    jobs: list[Job] = []
    if out.evaluation_table.is_file():
        jobs += [
            Job(
                draw_grid,
                (out.evaluation_table,),
                (out.picture(f"grid_{name}"),),
                {"name": name},
                label=f"{name} of each cell",
            )
            for name in GRIDS
        ]
    if (glow := subject.glow()) is not None and subject.description is not None:
        shape = {"shape": list(subject.description.shape)}
        jobs.append(Job(draw_glow, (glow,), (out.picture("glow_map"),), shape, label="glow map"))
    if out.index.is_file() and any(np.isfinite(r["level_raw"]) and r["bias"] for r in rows_of(place.bias_frames)):
        inputs = (place.bias_frames, out.index, place.biases, place.reference)
        jobs.append(Job(draw_biases, inputs, (out.picture("bias_levels"),), {}, label="levels of the biases"))
    logs = [log for log in temperature_logs(subject.raw_frames()) if read_log(log) is not None][-MOST_LOGS:]
    return jobs + [Job(draw_log, (log,), (out.picture(log.stem),), {}, label=log.stem) for log in logs]


def _dark_jobs(subject: Subject, cell: Cell) -> list[Job]:
    """The master of a cell, and what is left of it beside the model."""
    out, place = subject.out, subject.place
    about = {"cell": vars(cell)}
    seen = any(r["cell"] == cell.name and r["kind"] == "seen" for r in rows_of(out.evaluation_table))
    jobs = [
        Job(
            draw_master,
            (place.master_dark(cell.name),),
            (out.picture("master_dark", cell.name),),
            about,
            label=f"master dark {cell.name}",
        )
    ]
    if (key := _key(subject, cell)) is not None:
        inputs = (place.master_dark(cell.name), place.reference, *subject.model_files(key))
        params = {**about, "model": key, "own": subject.own or seen}
        jobs.append(
            Job(draw_residual, inputs, (out.picture("residual", cell.name),), params, label=f"residual {cell.name}")
        )
    return jobs


def _saved(path: Path, draw: Callable[..., Figure], *args: Any, **options: Any) -> dict[Path, str]:
    return {path: write_picture(path, png(draw, *args, **options))}


def draw_master(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, cell: dict[str, Any]) -> dict[Path, str]:
    """A master dark."""
    signal = reduced_plane(inputs[0], "SCI", SIDE)
    frames = f"{cell['frames']} frame{'s' if cell['frames'] != 1 else ''}"
    said = f"of {frames}, bias subtracted; stretch: asinh about the median"
    at = cell["temperature_c"], cell["exposure_s"]
    return _saved(outputs[0], dark_image, signal, *at, title="Master dark", subtitle=said)


def draw_residual(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, cell: dict[str, Any], model: str, own: bool
) -> dict[Path, str]:
    """What a synthetic dark leaves of a master."""
    description = read_description(inputs[2])
    it = Cell(**cell)
    held = Held(ModelDir(inputs[2].parent), description, model, it, read_reference(inputs[1]), inputs[0])
    inside = description.find(model).covers(it.temperature_c, description.accumulated(it.exposure_s))
    kind = "in sample: the cell was part of the fit" if own and inside else "the cell was not part of the fit"
    left, said = held.residual(SIDE), f"{model}, {kind}"
    return _saved(outputs[0], residual_map, left, it.temperature_c, it.exposure_s, subtitle=said)


def draw_curve(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, temperature_c: float, exposure_s: float
) -> dict[Path, str]:
    """How many pixels lie above each signal."""
    signal = counted_plane(inputs[0], "SCI")
    return _saved(outputs[0], hot_pixel_curve, signal, temperature_c, exposure_s)


def draw_samples(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, over: str) -> dict[Path, str]:
    """Pixels against exposure, or against 1/T."""
    if over == OVER[0]:
        draw, title = dark_vs_exposure_and_temperature, "Dark signal against exposure: masters and model"
    else:
        draw, title = dark_vs_inverse_temperature, "Dark signal against 1/T: masters and model"
    return _saved(outputs[0], draw, read_sample_pixels(inputs[0], over), title, across=2)


def draw_grid(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, name: str) -> dict[Path, str]:
    """One figure of accuracy for each cell."""
    return _saved(outputs[0], accuracy_grid, name, rows_of(inputs[0]), str(read_table(inputs[0]).meta["chosen"]))


def draw_glow(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, shape: list[int]) -> dict[Path, str]:
    """Where the amplifier glows."""
    value, glowing = read_planes(inputs[0], ["SCI", "GLOWING"])
    side = int(read_header(inputs[0])["SIDE"])
    return _saved(outputs[0], glow_map, value, glowing, side, (shape[0], shape[1]))


def draw_biases(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """The level of the bias frames in the order they were taken."""
    frames, index, biases = (rows_of(path) for path in inputs[:3])
    dates = {r["file"]: r["date_obs"] for r in index}
    temperatures = {r["bias"]: r["temperature_c"] for r in biases}
    scale = read_reference(inputs[3]).scale_factor
    rows = [
        {
            "level_adu": r["level_raw"] / scale,
            "temperature_c": temperatures[r["bias"]],
            "date_obs": dates.get(r["file"]),
        }
        for r in frames
        if r["bias"] in temperatures and np.isfinite(r["level_raw"])
    ]
    return _saved(outputs[0], bias_levels, rows)


def draw_log(inputs: tuple[Path, ...], outputs: tuple[Path, ...]) -> dict[Path, str]:
    """The temperature log of a session."""
    table = read_log(inputs[0])
    if table is None:
        raise ProductError("the temperature log cannot be read", where=inputs[0], do="run again")
    return _saved(outputs[0], temperature_figure, table, dpi=PRINT_DPI)


def _page_job(subject: Subject, drawn: list[Path], settings: Settings) -> Job:
    out = subject.out
    named = tables_of(subject)
    pictures = [path for name in FROM_EVALUATION if (path := out.picture(name)).is_file()] + drawn
    if subject.check.check_picture.is_file():
        pictures.append(subject.check.check_picture)
    maps = [(c.name, path) for c in subject.cells if (path := out.error_maps(c.name)).is_file()]
    products = [p for p in files_of(subject) if p not in named.values()]
    params = {
        "named": list(named),
        "pictures": [p.name for p in pictures],
        "maps": [name for name, _ in maps],
        "products": len(products),
        "campaign": out.campaign or "",
        "run": settings.run,
        "software": {"darkpipe": __version__, "Python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "step": VERSION,
    }
    inputs = (*named.values(), *pictures, *(path for _, path in maps), *products)
    return Job(write, tuple(inputs), (out.report,), params, label=out.report.name, origins=True)


def write(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    named: list[str],
    pictures: list[str],
    maps: list[str],
    products: int,
    campaign: str,
    run: dict[str, Any],
    software: dict[str, str],
    step: int,
    origins: dict[str, dict[str, Any]],
) -> dict[Path, str]:
    """The page."""
    rest = list(inputs)
    tables = {name: rest.pop(0) for name in named}
    images = {name: rest.pop(0).read_bytes() for name in pictures}
    errors = {name: read_small_maps(rest.pop(0)) for name in maps}
    facts = read_facts(tables, campaign)
    kept = [path for name, path in tables.items() if name not in ("verdict", "checks")]
    facts["products"] = product_rows([*kept, *rest], outputs[0].parents[1], origins)
    facts |= {"campaign": campaign, "run": run, "software": software}
    return {outputs[0]: replace_text(outputs[0], written(write_page, facts, images, errors))}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Where the report is."""
    return [("report", str(out.report))] if out.report.is_file() else []
