"""Step 1: look at every raw frame once, and accept it or reject it with a reason -> index.ecsv."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from darkpipe.deferred import import_soon
from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.atomic import replace_text
from darkpipe.files.frames import FrameSurvey, frames_beside, name_fault, shown_name, survey_frame
from darkpipe.files.headers import CALIBRATION
from darkpipe.files.index import index_rows, read_index, rejection_lines, survey_key, write_index
from darkpipe.files.layout import OutputDir
from darkpipe.files.tables import ASTROPY
from darkpipe.jobs.contract import Job
from steps.settings.step1_load_data import NAME as NAME
from steps.settings.step1_load_data import Settings as Settings

VERSION = 2
NEEDED_NEXT = (ASTROPY, "scipy.special", "scipy.optimize")  # by those who read the frames' table, and the steps behind


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One survey job a frame, then the index.

    Raises
    ------
    SettingsError
        without a folder of frames, or when it is the output directory.
    FrameError
        when the folder holds no frame.
    """
    folders = [Path(os.path.abspath(path)) for path in (settings.basepath, settings.acquired) if path is not None]
    if not folders:
        raise SettingsError("no folder of raw frames was given", where="load_data.basepath", do="use --basepath")
    for folder in folders:
        if not folder.is_dir():
            raise SettingsError("there is no such folder of raw frames", where=folder, do="check --basepath")
    root = _common(folders)
    files = sorted({file for folder in folders for file in frames_beside("raw frames", folder, out.root)})
    if not files:
        where = " and ".join(map(str, folders))
        raise FrameError("no FITS file was found", where=where, do="check --basepath (*.fit, *.fits, *.fts, .gz, .fz)")
    names = [f.relative_to(root).as_posix() for f in files]
    surveys = [_survey_job(out, settings, f, n) for f, n in zip(files, names, strict=True)]
    yield surveys
    params: dict[str, Any] = {
        "files": [_listed(n) for n in names],
        "root": Path(os.path.relpath(root, os.path.abspath(out.root))).as_posix(),
        "expect_filter": settings.expect_filter,
    }
    if set(settings.kinds) != set(CALIBRATION):
        params["kinds"] = sorted(set(settings.kinds))
    yield [Job(index, tuple(j.outputs[0] for j in surveys), (out.index,), params, label="index of frames")]


def _common(folders: Sequence[Path]) -> Path:
    """The folder that names of frames are relative to."""
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # two drives on Windows
        raise SettingsError(
            "the frames stand on different drives",
            where=" and ".join(map(str, folders)),
            do="Let --basepath and dark_capture.output_dir be on the same one",
        ) from None


def _survey_job(out: OutputDir, settings: Settings, path: Path, name: str) -> Job:
    if fault := name_fault(name):
        told = _listed(name)
        return Job(refuse, (), (out.survey(survey_key(told)),), {"file": told, "reason": fault}, label=told)
    output = (out.survey(survey_key(name)),)
    if not _can_be_opened(path):
        # a job cannot have such an input; when the file is mended, it becomes one
        reason = survey_frame(path).rejected or "cannot be read"
        return Job(refuse, (), output, {"file": name, "reason": reason}, label=name)
    params: dict[str, Any] = {
        "synonyms": settings.keyword_synonyms,
        "bias_max_exposure_s": settings.bias_max_exposure_s,
        "file": name,
    }
    if settings.detector:
        params["detector"] = settings.detector
    return Job(survey, (path,), output, params, label=name, origins=bool(settings.detector))


def _listed(name: str) -> str:
    """A name for the table; one that it cannot keep is marked, so that no two frames come to one name."""
    if not name_fault(name):
        return name
    return f"{shown_name(name)} ({survey_key(name)[:6]})"


def _can_be_opened(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.R_OK)
    except OSError:
        return False


def refuse(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, file: str, reason: str) -> dict[Path, str]:
    """Take down a file that cannot be opened: a broken link, no permission, no regular file."""
    return {outputs[0]: replace_text(outputs[0], FrameSurvey(rejected=reason).to_json())}


def survey(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    file: str,
    synonyms: Mapping[str, list[str]],
    bias_max_exposure_s: float,
    detector: str = "",
    origins: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[Path, str]:
    """Read one raw frame whole (one detector's image, where the digest of the file is known) and write what its header
    and its pixels say."""
    import_soon(*NEEDED_NEXT)
    known = (origins or {}).get(str(inputs[0]), {}).get("digest", "")
    found = survey_frame(
        inputs[0], synonyms=synonyms, bias_max_exposure_s=bias_max_exposure_s, detector=detector, file_digest=known
    )
    digests = {outputs[0]: replace_text(outputs[0], found.to_json())}
    if found.file_digest and not known:
        digests[inputs[0]] = found.file_digest
    return digests


def index(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    files: list[str],
    root: str,
    expect_filter: str,
    kinds: Collection[str] = CALIBRATION,
) -> dict[Path, str]:
    """Put the surveys into one table."""
    surveys = [FrameSurvey.from_json(path.read_text(encoding="utf-8")) for path in inputs]
    rows = index_rows(list(zip(files, surveys, strict=True)), expect_filter=expect_filter, kinds=kinds)
    return {outputs[0]: write_index(outputs[0], rows, root)}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Accepted and rejected frames, with reasons."""
    table = read_index(out.index)
    accepted = sum(str(r["status"]) == "accepted" for r in table)
    rows = [("frames", f"{len(table)} found, {accepted} accepted, {len(table) - accepted} rejected")]
    return rows + [("rejected", line) for line in rejection_lines(table, out.index)]
