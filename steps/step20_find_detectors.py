"""Step 20: the detectors of a focal plane, each of which then has a run of its own -> detectors.ecsv."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.atomic import file_digest, replace_text
from darkpipe.files.detectors import (
    chosen,
    detectors_in,
    folders_with_frames,
    read_detectors,
    read_units,
    units_of_file,
    write_detectors,
)
from darkpipe.files.frames import frames_beside
from darkpipe.files.index import survey_key
from darkpipe.files.layout import OutputDir
from darkpipe.jobs.contract import Job
from steps.settings.step20_find_detectors import NAME as NAME
from steps.settings.step20_find_detectors import Settings as Settings

VERSION = 1


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """For images of common files: a job a file that lists them (and has the file read once, for its digest); then the
    table of detectors.

    Raises
    ------
    SettingsError
        without a folder of frames.
    FrameError
        when it holds no frame.
    """
    if settings.basepath is None:
        raise SettingsError("no folder of raw frames was given", where="load_data.basepath", do="use --basepath")
    root = Path(os.path.abspath(settings.basepath))
    if not root.is_dir():
        raise SettingsError("there is no such folder of raw frames", where=root, do="check --basepath")
    if settings.by == "folders":
        names = chosen(folders_with_frames(root, out.root), settings.names)
        yield [Job(list_folders, (), (out.detectors,), {"names": names}, label="table of detectors")]
        return
    files = frames_beside("raw frames", root, out.root)
    if not files:
        raise FrameError("no FITS file was found", where=root, do="check --basepath (*.fit, *.fits, *.fts, .gz, .fz)")
    listed = []
    for file in (f for f in files if f.is_file() and os.access(f, os.R_OK)):  # the others are refused by each detector
        name = file.relative_to(root).as_posix()
        listed.append(Job(list_images, (file,), (out.survey(survey_key(name)),), {"file": name}, label=name))
    yield listed
    tables = tuple(job.outputs[0] for job in listed)
    yield [Job(list_detectors, tables, (out.detectors,), {"names": list(settings.names)}, label="table of detectors")]


def list_folders(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, names: list[str]) -> dict[Path, str]:
    """Write the table of detectors that have folders."""
    return {outputs[0]: write_detectors(outputs[0], "folders", dict.fromkeys(names, 0))}


def list_images(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, file: str) -> dict[Path, str]:
    """Write which images a file holds. The digest of the file is for the journal, from which all detectors have
    it."""
    found: dict[str, Any] = {"file": file, **units_of_file(inputs[0])}
    return {
        outputs[0]: replace_text(outputs[0], json.dumps(found) + "\n"),
        inputs[0]: file_digest(inputs[0]),
    }


def list_detectors(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, names: list[str]) -> dict[Path, str]:
    """Write the table of detectors that are images of common files."""
    counts = detectors_in([read_units(path) for path in inputs])
    kept = chosen(counts, names)
    return {outputs[0]: write_detectors(outputs[0], "hdus", {name: counts[name] for name in kept})}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """How many detectors there are."""
    names = read_detectors(out.detectors)
    return [("detectors", f"{len(names)}: {names[0]} … {names[-1]}" if len(names) > 1 else names[0])]
