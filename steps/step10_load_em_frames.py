"""Step 10: the dark frames of an EM-CCD, by EM gain and exposure; the others with a reason -> em_frames.ecsv."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darkpipe.errors import DesignError, FrameError, SettingsError
from darkpipe.files.em_table import (
    REJECTED,
    common_shape,
    describe_frames,
    read_em_table,
    regions_of,
    regions_text,
    stacks_of,
    write_em_table,
)
from darkpipe.files.frames import frames_beside, name_fault, shown_name
from darkpipe.files.index import rejection_lines
from darkpipe.files.layout import OutputDir
from darkpipe.files.tables import read_table
from darkpipe.jobs.contract import Job
from steps.settings.step10_load_em_frames import NAME as NAME
from steps.settings.step10_load_em_frames import Settings as Settings

VERSION = 1


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job: the table.

    Raises
    ------
    SettingsError
        without a folder of frames, or when it is the output directory.
    FrameError
        when the folder holds no frame.
    """
    if settings.basepath is None:
        raise SettingsError("no folder of frames was given", where="load_em_frames.basepath", do="use --basepath")
    folder = Path(os.path.abspath(settings.basepath))
    if not folder.is_dir():
        raise SettingsError("there is no such folder of frames", where=folder, do="check --basepath")
    files = frames_beside("frames", folder, Path(os.path.abspath(out.root)))
    if not files:
        raise FrameError("no FITS file was found", where=folder, do="check --basepath (*.fit, *.fits, *.fts, .gz, .fz)")
    named = [f for f in files if not name_fault(f.relative_to(folder).as_posix())]
    readable = tuple(f for f in named if f.is_file() and os.access(f, os.R_OK))
    params = {
        "root": Path(os.path.relpath(folder, os.path.abspath(out.root))).as_posix(),
        "unreadable": [shown_name(f.relative_to(folder).as_posix()) for f in files if f not in set(readable)],
        "areas": {
            "image": settings.image_area,
            "active": settings.active_area,
            "prescan": settings.prescan_area,
            "telemetry_rows": settings.telemetry_rows,
        },
        **settings.model_dump(
            include={"keyword_synonyms", "same_gain", "divided_by_gain", "assume_electrons", "detector"}
        ),
    }
    yield [Job(survey, readable, (out.em_frames,), params, label="table of EM-CCD frames")]


def survey(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    root: str,
    unreadable: list[str],
    areas: Mapping[str, Any],
    keyword_synonyms: Mapping[str, list[str]],
    same_gain: float,
    divided_by_gain: str,
    assume_electrons: bool,
    detector: str,
) -> dict[Path, str]:
    """Read the headers, refuse frames of other shapes, and sort the rest into stacks."""
    folder = Path(os.path.abspath(outputs[0].parent / root))
    refused = {
        folder / name: "cannot be read: a broken link, no permission, or a name that no table keeps"
        for name in unreadable
    }
    good, bad = describe_frames(
        inputs, synonyms=keyword_synonyms, assume_electrons=assume_electrons, divided=divided_by_gain
    )
    refused |= bad
    if not good:
        lines = "; ".join(f"{path.name}: {why}" for path, why in list(refused.items())[:3])
        raise FrameError(f"none of {len(refused)} files can be used ({lines})", where=folder)
    regions = regions_of(common_shape(good) if detector == "custom" else (0, 0), detector, areas)
    rows, cols = regions.shape
    for frame in good:
        if frame.shape != regions.shape:
            r, c = frame.shape
            refused[frame.path] = f"{r} x {c} pixels, not {rows} x {cols}"
    fitting = [frame for frame in good if frame.shape == regions.shape]
    if not fitting:
        raise DesignError(
            f"no frame has the {rows} x {cols} pixels of detector: {detector}", where=folder,
            do="set load_em_frames: detector and its areas to those of these frames",
        )  # fmt: skip
    return {outputs[0]: write_em_table(outputs[0], folder, stacks_of(fitting, same_gain), refused, regions)}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Frames used and refused, with reasons, the stacks, and which pixels are what."""
    table = read_table(out.em_frames)
    rejected = table[table["status"] == REJECTED]
    found = read_em_table(out.em_frames)
    stacks = found.stacks
    numbers = [len(s.frames) for s in stacks]
    rows = [
        ("frames", f"{len(table)} found, {len(table) - len(rejected)} used, {len(rejected)} rejected"),
        ("stacks", f"{len(stacks)} of EM gain and exposure, {min(numbers)} to {max(numbers)} frames each"),
        ("areas", regions_text(found.regions)),
    ]
    return rows + [("rejected", line) for line in rejection_lines(rejected, out.em_frames)]
