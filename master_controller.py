"""The order of the steps, the modes, and what a run needs: settings, lock, journal, engine.

As a library: ``MasterController({"load_data": {"basepath": "frames"}}).run("full")``.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from darkpipe import settings as composing
from darkpipe.errors import PipelineError, SettingsError
from darkpipe.jobs.contract import LateStep, Place, Step, sections_of
from darkpipe.jobs.engine import open_engine
from darkpipe.jobs.explain import explain
from darkpipe.jobs.journal import JOURNAL_NAME, Journal
from darkpipe.jobs.journal_file import FileLine
from darkpipe.jobs.lock import hold
from darkpipe.jobs.report import Failure, NoProgress, Progress, RunReport
from darkpipe.jobs.runner import Runner
from darkpipe.jobs.stamps import say_waited
from darkpipe.jobs.walk import Check, Walk
from darkpipe.same_file import Stamp
from steps.focal_plane import Plan, has_many, run_detectors
from steps.modes import (
    BASEPATH,
    CAMERA_ADDRESS,
    CAMERA_SECTIONS,
    DETECTORS_STEP,
    DRAWING_STEPS,
    FIRST_STEP_OF_CAMPAIGN,
    FIRST_STEP_OF_MODEL,
    MODES,
    REPLACE_MODEL,
    STEP_MODULES,
    STEPS_OF_ALL,
    Mode,
    number_of,
)

__all__ = ["MODES", "STEP_MODULES", "MasterController", "Mode", "load_steps", "mode_named"]


@cache
def load_steps() -> Mapping[int, Step]:
    """The steps of STEP_MODULES by number. Only their settings are imported; a step itself when it is planned."""
    return {number_of(name): cast(Step, LateStep(name, name.replace(".", ".settings."))) for name in STEP_MODULES}


class MasterController:
    """Runs modes.

    Parameters
    ----------
    settings : plain dict or `Settings`; what it does not hold has its default. The mode's own settings win over it.
    flags : settings that win over the mode's.
    source : where `settings` were read from, for messages.
    steps, layout : the steps by number and the class of output directories; others than the pipeline's own are for
        tests.
    progress : is told of each job.

    Raises
    ------
    SettingsError
        for a key that no section has.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | BaseModel | None = None,
        *,
        flags: Mapping[str, Any] | None = None,
        source: Path | None = None,
        steps: Sequence[Step] | Mapping[int, Step] | None = None,
        layout: Callable[[Path], Place] | None = None,
        progress: Progress | None = None,
    ) -> None:
        given = settings.model_dump(exclude_unset=True) if isinstance(settings, BaseModel) else dict(settings or {})
        chosen = load_steps() if steps is None else steps
        self.steps: dict[int, Step] = dict(chosen if isinstance(chosen, Mapping) else enumerate(chosen))
        self.model = composing.compose(
            {step.NAME: step.Settings for step in self.steps.values() if sections_of(step) == (step.NAME,)},
            [step.Settings for step in self.steps.values() if sections_of(step) != (step.NAME,)],
        )
        composing.check_keys(self.model, given, source)
        composing.check_keys(self.model, flags or {}, None)
        base = Path.cwd() if source is None else source.parent
        self._given = composing.absolute_paths(self.model, given, base)
        self._flags = composing.absolute_paths(self.model, flags or {}, Path.cwd())
        self._layout = layout or _output_dir
        self.progress: Progress = progress or NoProgress()

    def settings(self, mode: str | None = None) -> composing.RunSettings:
        """The resolved settings: defaults < given < those of the mode < flags.

        Raises
        ------
        SettingsError
            for an unknown mode or a wrong value.
        """
        own = composing.nested(mode_named(mode).overrides) if mode else {}
        own = {name: value for name, value in own.items() if name in self.model.model_fields}
        settings = composing.validate(self.model, composing.merged(self._given, own, self._flags))
        if mode and self._takes_acquired(mode_named(mode)):
            folder = os.path.abspath(attrgetter("dark_capture.output_dir")(settings))
            loading = attrgetter("load_data")(settings).model_copy(update={"acquired": Path(folder)})
            settings = settings.model_copy(update={"load_data": loading})
        if "detectors" in self.model.model_fields:
            found = attrgetter("detectors")(settings).model_copy(update={"basepath": attrgetter(BASEPATH)(settings)})
            settings = settings.model_copy(update={"detectors": found})
        return settings

    def _told(self, settings: composing.RunSettings, numbers: Sequence[int]) -> composing.RunSettings:
        """The settings, where a step shows them (a field `run`) with those of the other steps of the run in it."""
        names = [name for number in numbers for name in sections_of(self.steps[number])]
        for name in names:
            section = getattr(settings, name)
            if "run" in type(section).model_fields:
                others = [other for other in names if other != name]
                shown = composing.plain_sections(settings, others, settings.output_dir)
                settings = settings.model_copy(update={name: section.model_copy(update={"run": shown})})
        return settings

    def place(self, settings: composing.RunSettings) -> Place:
        """The output directory."""
        return self._layout(Path(os.path.abspath(settings.output_dir)))

    def numbers(self, mode: str) -> tuple[int, ...]:
        """Numbers of the steps of a mode, with those for a camera that is configured, and for new frames that a flag
        gives."""
        chosen = mode_named(mode)
        new_frames = composing.lookup(self._flags, BASEPATH) is not None
        camera = chosen.camera_steps if self._has_camera() else ()
        steps = chosen.steps[1:] if self._instead(chosen) else chosen.steps
        return (*camera, *(chosen.frame_steps if new_frames else ()), *steps)

    def _instead(self, mode: Mode) -> bool:
        """Whether one frame stands for a folder of them."""
        given = composing.merged(self._given, self._flags)
        return mode.instead is not None and composing.lookup(given, mode.instead) is not None

    def _has_camera(self) -> bool:
        """Whether frames come from a camera: its address is given, or its section where no folder of frames is."""
        if not set(CAMERA_SECTIONS) <= set(self.model.model_fields):
            return False
        given = composing.merged(self._given, self._flags)
        if composing.lookup(given, CAMERA_ADDRESS) is not None:
            return True
        return composing.lookup(given, BASEPATH) is None and any(section in given for section in CAMERA_SECTIONS)

    def _takes_acquired(self, mode: Mode) -> bool:
        """Whether frames that were taken here are among those of a mode."""
        of_a_campaign = BASEPATH in mode.required.values() and mode.model_dir is None
        return of_a_campaign and self._has_camera()

    def answer(self, mode: str) -> list[str]:
        """The answer of a mode that runs no steps, in lines.

        Raises
        ------
        PipelineError
            of the question itself; `SettingsError` for wrong settings.
        """
        module, _, name = (mode_named(mode).question or "").rpartition(".")
        self.settings(mode)
        lines: list[str] = getattr(importlib.import_module(module), name)()
        return lines

    def run(
        self,
        mode: str,
        *,
        from_step: int | None = None,
        until_step: int | None = None,
        force: int | bool | None = None,
        dry_run: bool = False,
    ) -> RunReport:
        """Make what is stale of a mode.

        from_step, until_step : numbers; steps outside are not even planned. force : the number of a step that is
        run whether stale or not, True for all. dry_run : find out what would be run and why, and write nothing.

        Returns
        -------
        what was done. Expected failures are in it and not raised (`RunReport.raise_for_failure`).

        Raises
        ------
        SettingsError
            for wrong settings; nothing was run.
        BusyError
            if another run holds the lock.
        """
        settings = self.settings(mode)
        numbers = self._between(mode, from_step, until_step)
        sections = {self.steps[number].NAME for number in numbers}
        for flag, place in mode_named(mode).required.items():
            if place == BASEPATH and self._takes_acquired(mode_named(mode)):
                continue
            if place.partition(".")[0] in sections and attrgetter(place)(settings) is None:
                raise SettingsError(f"mode '{mode}' needs {flag}", do=f"Give the flag, or {place} in the settings")
        forced = self._forced(numbers, force)
        plan = Plan(mode, numbers, forced, dry_run)
        if DETECTORS_STEP not in self.steps or not has_many(plan, settings, camera=self._has_camera()):
            return self._run_one(plan, settings, self.progress)
        out, step = self.place(settings), self.steps[DETECTORS_STEP]
        one = partial(self._run_one, plan)
        return run_detectors(plan, settings, out, step, one, _engine(settings, out.root), self.progress)

    def _run_one(
        self,
        plan: Plan,
        settings: composing.RunSettings,
        progress: Progress,
        *,
        lease: Callable[[], Executor] | None = None,
        stop: threading.Event | None = None,
        known: Mapping[Path, FileLine] | None = None,
    ) -> RunReport:
        """One output directory. lease, stop, known : of a detector among many: the common engine, what ends all, files
        that are read already."""
        mode, numbers, dry_run = plan.mode, plan.numbers, plan.dry_run
        settings = self._told(settings, self.numbers(mode))
        self._keep_apart(mode_named(mode), numbers, settings)
        report = RunReport(mode, dry_run)
        out = self.place(settings)
        with contextlib.nullcontext() if dry_run else hold(out.root):
            if not dry_run:
                _remove_drafts(out.root)
            journal = Journal(out.root, read_only=dry_run)
            for path, file in (known or {}).items():
                journal.learn(path, Stamp(file.size, file.mtime_ns), file.digest)
            for warning in journal.warnings:
                report.note(warning)
            engine = lease or _engine(settings, out.root)
            runner = Runner(journal, engine, settings.workers, progress, stop)
            runner.rely_on([self.steps[number] for number in self.numbers(mode) if number < min(numbers)])
            with _failures_told(report), _helpers(settings, numbers), contextlib.closing(runner):
                of_all = [self.steps[number] for number in numbers if _sees_all(number)]
                of_campaign = [self.steps[number] for number in numbers if not _sees_all(number)]
                prunable = () if self._instead(mode_named(mode)) else mode_named(mode).prunes
                prunes = {self.steps[number].NAME for number in prunable}
                check = self._check(mode_named(mode), numbers)
                Walk(journal, runner, report, settings, out, of_all, of_campaign, plan.forced, prunes, check).go()
            if not dry_run and settings.engine != "threads":
                _remove_drafts(out.root)  # of workers that died
        say_waited()
        return report

    def _check(self, mode: Mode, numbers: Sequence[int]) -> Check | None:
        """What is done before the first of these steps that replaces the model."""
        first = next((number for number in numbers if number in REPLACE_MODEL), None)
        if first is None or not mode.checks:
            return None
        return Check(self.steps[first].NAME, [self.steps[number] for number in mode.checks])

    def explain(self, product: Path) -> str:
        """Where a product comes from, as a tree down to the raw frames. A relative path is looked for in the
        output directory, then in the working directory.

        Raises
        ------
        ProductError
            if the journal does not know it.
        """
        root = self.place(self.settings()).root
        inside = root / product
        around = next((folder for folder in inside.parents if (folder / JOURNAL_NAME).is_file()), root)
        if around != root and around.is_relative_to(root):  # that of a detector
            root = around
        journal = Journal(root, read_only=True)
        return explain(journal, inside if journal.maker(journal.key(inside)) else Path(os.path.abspath(product)))

    def _between(self, mode: str, from_step: int | None, until_step: int | None) -> tuple[int, ...]:
        numbers = self.numbers(mode)
        if not numbers:
            raise SettingsError(f"mode '{mode}' runs no steps", where="--mode")
        first = numbers[0] if from_step is None else from_step
        last = numbers[-1] if until_step is None else until_step
        chosen = tuple(number for number in numbers if first <= number <= last)
        if not chosen:
            raise SettingsError(
                f"mode '{mode}' has no step from {first} to {last}", do=f"Its steps: {', '.join(map(str, numbers))}"
            )
        return chosen

    def _keep_apart(self, mode: Mode, numbers: Sequence[int], settings: composing.RunSettings) -> None:
        """Refuse to index new frames in the directory of the model that they are held against: its own campaign
        would be gone."""
        if mode.model_dir is None or min(numbers) >= FIRST_STEP_OF_MODEL:
            return
        model: Path | None = attrgetter(mode.model_dir)(settings)
        own = os.path.realpath(settings.output_dir)
        if model is None or Path(os.path.realpath(model)).is_relative_to(own):
            raise SettingsError(
                "new frames cannot be indexed in the directory of the model itself",
                where=settings.output_dir,
                do="Give another --output_dir, and the model's as --model_dir",
            )

    def _forced(self, numbers: Sequence[int], force: int | bool | None) -> frozenset[str]:
        if force is not None and not isinstance(force, bool) and force not in numbers:
            raise SettingsError(f"step {force} cannot be forced", do=f"This run has: {', '.join(map(str, numbers))}")
        forced = numbers if force is True else () if force is None or force is False else (force,)
        return frozenset(self.steps[number].NAME for number in forced)


@contextlib.contextmanager
def _helpers(settings: composing.RunSettings, numbers: Sequence[int]) -> Iterator[None]:
    """Processes that draw and compile, beside threads: other engines do that in their workers."""
    from darkpipe.report.painters import painting  # help and settings need neither
    from darkpipe.science.compile_ahead import compiling_ahead

    workers = settings.workers if settings.engine == "threads" else 1
    draws = any(number in DRAWING_STEPS for number in numbers)
    with painting(workers, soon=draws), compiling_ahead(workers > 1 and FIRST_STEP_OF_MODEL in numbers):
        yield


@contextlib.contextmanager
def _failures_told(report: RunReport) -> Iterator[None]:
    """What fails after the last step, when the journal is closed or leftovers are removed, is a failure as any other;
    a journal that failed before says the same once more."""
    try:
        yield
    except PipelineError as error:
        if str(error) not in [str(failure.error) for failure in report.failures]:
            report.fail(Failure("", "", "", error))


def _engine(settings: composing.RunSettings, root: Path) -> Callable[[], Executor]:
    def opened() -> Executor:
        if settings.engine != "threads":  # what workers that are processes log is not seen
            from darkpipe.science.jit_folder import say_if_cold

            say_if_cold()
        return open_engine(
            settings.engine, settings.workers, settings.dask_scheduler, root=root, patience_s=settings.dask_patience_s
        )

    return opened


def _sees_all(number: int) -> bool:
    """Whether a step is planned for the whole output directory, not for each configuration."""
    return number < FIRST_STEP_OF_CAMPAIGN or number in STEPS_OF_ALL


def mode_named(name: str) -> Mode:
    """The mode of this name.

    Raises
    ------
    SettingsError
        if there is none.
    """
    if name not in MODES:
        close = difflib.get_close_matches(name, list(MODES), n=1)
        advice = f"Did you mean '{close[0]}'?" if close else f"Modes: {', '.join(MODES)}"
        raise SettingsError(f"there is no mode '{name}'", where="--mode", do=advice)
    return MODES[name]


def _output_dir(root: Path) -> Place:
    from darkpipe.files.layout import OutputDir

    return OutputDir(root)


def _remove_drafts(root: Path) -> None:
    from darkpipe.files.atomic import remove_drafts

    remove_drafts(root)
