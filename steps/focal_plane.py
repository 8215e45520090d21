"""A run over the detectors of a focal plane: which there are, what each is given, and all of them side by side."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from darkpipe.errors import SettingsError
from darkpipe.jobs.contract import Place, Step
from darkpipe.jobs.focal_plane import SharedEngine, run_parts
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.journal_file import FileLine
from darkpipe.jobs.lock import hold
from darkpipe.jobs.report import Progress, RunReport
from darkpipe.jobs.runner import Runner
from darkpipe.jobs.walk import Walk
from darkpipe.settings import RunSettings
from steps.modes import BASEPATH, FIRST_STEP_OF_CAMPAIGN, FRAMES_STEP, MODES, OF_EACH_DETECTOR, ONE_FILE

SECTION = "detectors"


@dataclass(frozen=True)
class Plan:
    """What a run is to do: numbers of its steps, names of those that are forced."""

    mode: str
    numbers: tuple[int, ...]
    forced: frozenset[str]
    dry_run: bool


class RunOne(Protocol):
    """Runs one output directory. lease : its part of the common engine; stop : once set, no job begins; known : files
    that were read already."""

    def __call__(
        self,
        settings: RunSettings,
        progress: Progress,
        *,
        lease: Callable[[], Executor],
        stop: threading.Event,
        known: Mapping[Path, FileLine],
    ) -> RunReport: ...


def has_many(plan: Plan, settings: RunSettings, *, camera: bool) -> bool:
    """Whether the settings ask for a run over many detectors.

    camera : whether one is configured.

    Raises
    ------
    SettingsError
        if they ask for what many detectors cannot have, or for one model where there are many.
    """
    from darkpipe.files.layout import OutputDir

    wanted: Any = getattr(settings, SECTION)
    if wanted.by is None:
        if wanted.names:
            raise SettingsError("names of detectors without a word on where they are", where=f"{SECTION}.by")
        if plan.numbers[0] < FIRST_STEP_OF_CAMPAIGN and OutputDir(settings.output_dir).detectors.is_file():
            raise SettingsError(
                "this output directory holds a model a detector", where=settings.output_dir, do="Give --detectors"
            )
        return False
    if not MODES[plan.mode].by_detector:
        able = ", ".join(name for name, mode in MODES.items() if mode.by_detector)
        raise SettingsError(f"mode '{plan.mode}' takes one detector", where=f"{SECTION}.by", do=f"For many: {able}")
    if camera:
        raise SettingsError("frames of many detectors cannot be taken here", where=f"{SECTION}.by")
    for place in ONE_FILE:
        if attrgetter(place)(settings) is not None:
            raise SettingsError("one file cannot be that of many detectors", where=place, do="Leave it out")
    return True


def run_detectors(
    plan: Plan,
    settings: RunSettings,
    place: Place,
    step: Step,
    run_one: RunOne,
    open_executor: Callable[[], Executor],
    progress: Progress,
) -> RunReport:
    """Each detector in an output directory of its own, side by side on one engine.

    step : makes the table of detectors.

    Raises
    ------
    SettingsError
        for names that are none; ProductError, where the mode reads no frames and there is no table of detectors.
    BusyError
        if another run holds the lock of all of them.
    """
    report = RunReport(plan.mode, plan.dry_run)
    shared = SharedEngine(open_executor)
    with contextlib.nullcontext() if plan.dry_run else hold(place.root), contextlib.closing(shared):
        known: Mapping[Path, FileLine] = {}
        if plan.numbers[0] == FRAMES_STEP and attrgetter(BASEPATH)(settings) is not None:
            known = _find(plan, settings, place, step, report, shared, progress)
        if report.failures:
            return report
        if plan.dry_run and report.jobs:
            report.unknown.append(("steps", "each detector"))
            return report
        names = _names(settings)
        by = attrgetter(f"{SECTION}.by")(settings)

        def run(name: str, stop: threading.Event) -> RunReport:
            shown = getattr(progress, "part", lambda _: progress)(name)
            return run_one(_settings_of(settings, by, name), shown, lease=shared.lease, stop=stop, known=known)

        at_a_time = len(names) if settings.engine == "dask" else max(2, settings.workers)
        report.parts = run_parts(names, run, plan.mode, at_a_time)
    return report


def _find(
    plan: Plan,
    settings: RunSettings,
    place: Place,
    step: Step,
    report: RunReport,
    shared: SharedEngine,
    progress: Progress,
) -> Mapping[Path, FileLine]:
    """Have the table of detectors made; returns what is known of files that they have in common."""
    from darkpipe.files.detectors import remove_common_drafts

    if not plan.dry_run:
        remove_common_drafts(place.root)
    journal = Journal(place.root, read_only=plan.dry_run)
    forced = {step.NAME} if len(plan.forced) == len(plan.numbers) else set()
    with contextlib.closing(Runner(journal, shared.lease, settings.workers, progress)) as runner:
        Walk(journal, runner, report, settings, place, [step], [], forced, {step.NAME}).go()
    return journal.inputs_of(step.NAME)


def _names(settings: RunSettings) -> list[str]:
    """The detectors of the output directory, or of the models that are read, as far as they are wanted."""
    from darkpipe.files.detectors import chosen, read_detectors
    from darkpipe.files.layout import OutputDir

    models = [getattr(section, "model_dir", None) for _, section in settings]
    tables = [OutputDir(Path(root)).detectors for root in (settings.output_dir, *models) if root is not None]
    table = next((path for path in tables if path.is_file()), tables[0])
    return chosen(read_detectors(table), attrgetter(f"{SECTION}.names")(settings))


def _settings_of(settings: RunSettings, by: str, name: str) -> RunSettings:
    """What a run of this detector alone is given."""
    changes: dict[str, Any] = {"output_dir": settings.output_dir / name}
    for section, value in settings:
        if not isinstance(value, BaseModel) or section == SECTION:
            continue
        own = {field: getattr(value, field, None) for field in OF_EACH_DETECTOR}
        moved: dict[str, Any] = {field: path / name for field, path in own.items() if path is not None}
        if section == BASEPATH.partition(".")[0] and by == "hdus":
            moved = {"detector": name}
        if moved:
            changes[section] = value.model_copy(update=moved)
    return settings.model_copy(update=changes)
