"""The order of the steps, the modes, and what a run needs: settings, lock, journal, engine.

As a library: ``MasterController({"load_data": {"basepath": "frames"}}).run("full")``.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from darkpipe import settings as composing
from darkpipe.errors import SettingsError
from darkpipe.jobs.contract import Place, Step, sections_of
from darkpipe.jobs.engine import open_engine
from darkpipe.jobs.explain import explain
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.lock import hold
from darkpipe.jobs.report import NoProgress, Progress, RunReport
from darkpipe.jobs.runner import Runner
from darkpipe.jobs.walk import Walk

STEP_MODULES = (
    "steps.step0_acquire_darks",
    "steps.step1_load_data",
    "steps.step2_subtract_bias",
    "steps.step3_group_darks_by_temp_exp",
    "steps.step4_mask_hotpixels",
    "steps.step5_fit_dark_model",
    "steps.step6_generate_synthetic_darks",
    "steps.step7_evaluate_model",
    "steps.step8_check_model",
    "steps.step12_calibrate",
)
"""The order. Steps 0 and 1 see the whole output directory, the others one configuration at a time."""

CALIBRATION = STEP_MODULES.index("steps.step12_calibrate")
FIRST_STEP_OF_CAMPAIGN = 2
FIRST_STEP_OF_MODEL = 5  # those before it write what is known of the frames themselves


@cache
def load_steps() -> tuple[Step, ...]:
    """The modules of STEP_MODULES, imported when they are needed: they bring numba and astropy along."""
    return tuple(cast(Step, importlib.import_module(name)) for name in STEP_MODULES)


@dataclass(frozen=True)
class Mode:
    """What a mode is: data.

    steps : numbers, in order; frame_steps : further ones that go first where frames are given (--basepath);
    camera_steps : further ones that go first where a camera is configured.
    overrides : settings that the mode itself wants, by dotted place.
    required : settings that must be given, by the flag that gives them.
    prunes : steps whose plan in this mode holds all of their products, so that the others can be removed.
    model_dir : dotted place of the setting that names the model, where new frames must not go into its own directory.
    question : a function, 'module.name', that answers in lines of text instead of running steps.
    instead : dotted place of a setting that stands for the folder of frames: where it is given, step 1 is left out and
    nothing is pruned.
    """

    help: str
    steps: tuple[int, ...] = ()
    frame_steps: tuple[int, ...] = ()
    camera_steps: tuple[int, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    prunes: tuple[int, ...] = ()
    model_dir: str | None = None
    question: str | None = None
    instead: str | None = None


BASEPATH = "load_data.basepath"
FRAMES = {"--basepath": BASEPATH}
CAMERA_ADDRESS = "camera.address"
CAMERA_SECTIONS = ("camera", "dark_capture")
ONE_CELL = {
    "--temp_single": "generate_synthetic_darks.temp_single_c",
    "--exptime_single": "generate_synthetic_darks.exptime_single_s",
}


EVALUATION: dict[str, Any] = {
    "steps": (7,),
    "frame_steps": (1, 2, 3, 4),
    "prunes": (1, 2, 3, 4, 7),
    "model_dir": "evaluate_model.model_dir",
}


def _synthetic(what: str) -> dict[str, str]:
    return {"generate_synthetic_darks.what": what}


MODES: dict[str, Mode] = {
    "full": Mode(
        "everything: missing frames (with a camera), index, bias, master darks, models, synthetic darks, evaluation",
        steps=(1, 2, 3, 4, 5, 6, 7),
        camera_steps=(0,),
        overrides=_synthetic("cells"),
        required=FRAMES,
        prunes=(1, 2, 3, 4, 5, 6, 7),
    ),
    "acquire": Mode("take the frames that are still missing, with a camera", steps=(0,)),
    "cameras": Mode("list the cameras that answer on this network", question="steps.step0_acquire_darks.list_cameras"),
    "fit_2d_model": Mode(
        "fit the models of temperature and exposure",
        steps=(1, 2, 3, 4, 5),
        overrides={"fit_dark_model.model_set": "two_dimensional"},
        required=FRAMES,
        prunes=(1, 2, 3, 4),
    ),
    "synthetic_only": Mode(
        "synthetic darks from a model: every cell, or the given --temps", (6,), overrides=_synthetic("temperatures")
    ),
    "synthetic_2d": Mode(
        "synthetic darks from a model: every cell, and --temps x --exptimes", (6,), overrides=_synthetic("grid")
    ),
    "synthetic_2d_single": Mode(
        "one synthetic dark, for --temp_single and --exptime_single",
        (6,),
        overrides=_synthetic("single"),
        required=ONE_CELL,
    ),
    "evaluation_only": Mode(
        "synthetic against real masters; with --basepath: against those of new frames", **EVALUATION
    ),
    "evaluate_2d_model": Mode("the same as evaluation_only", **EVALUATION),
    "check_model": Mode(
        "new frames against a model: has the camera aged? Ends with 3 if the model has drifted or is stale",
        steps=(1, 2, 3, 8),
        required={**FRAMES, "--model_dir": "check_model.model_dir"},
        prunes=(1, 2, 3, 8),
        model_dir="check_model.model_dir",
    ),
    "calibrate": Mode(
        "bias and dark off light frames, each with the dark of its own exposure and temperature; with --like: one dark",
        steps=(1, CALIBRATION),
        overrides={"load_data.kinds": ["light", "flat"]},
        required={**FRAMES, "--model_dir": "calibrate.model_dir"},
        prunes=(1, CALIBRATION),
        model_dir="calibrate.model_dir",
        instead="calibrate.like",
    ),
}


class MasterController:
    """Runs modes.

    Parameters
    ----------
    settings : plain dict or `Settings`; what it does not hold has its default. The mode's own settings win over it.
    flags : settings that win over the mode's.
    source : where `settings` were read from, for messages.
    steps, layout : the steps and the class of output directories; others than the pipeline's own are for tests.
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
        steps: Sequence[Step] | None = None,
        layout: Callable[[Path], Place] | None = None,
        progress: Progress | None = None,
    ) -> None:
        given = settings.model_dump(exclude_unset=True) if isinstance(settings, BaseModel) else dict(settings or {})
        self.steps = load_steps() if steps is None else tuple(steps)
        self.model = composing.compose(
            {step.NAME: step.Settings for step in self.steps if sections_of(step) == (step.NAME,)},
            [step.Settings for step in self.steps if sections_of(step) != (step.NAME,)],
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
        self._keep_apart(mode_named(mode), numbers, settings)
        forced = self._forced(numbers, force)
        report = RunReport(mode, dry_run)
        out = self.place(settings)
        with contextlib.nullcontext() if dry_run else hold(out.root):
            if not dry_run:
                _remove_drafts(out.root)
            journal = Journal(out.root, read_only=dry_run)
            for warning in journal.warnings:
                report.note(warning)
            engine = partial(open_engine, settings.engine, settings.workers, settings.dask_scheduler)
            with contextlib.closing(Runner(journal, engine, settings.workers, self.progress)) as runner:
                of_all = [self.steps[number] for number in numbers if number < FIRST_STEP_OF_CAMPAIGN]
                of_campaign = [self.steps[number] for number in numbers if number >= FIRST_STEP_OF_CAMPAIGN]
                prunable = () if self._instead(mode_named(mode)) else mode_named(mode).prunes
                prunes = {self.steps[number].NAME for number in prunable}
                Walk(journal, runner, report, settings, out, of_all, of_campaign, forced, prunes).go()
        return report

    def explain(self, product: Path) -> str:
        """Where a product comes from, as a tree down to the raw frames. A relative path is looked for in the
        output directory, then in the working directory.

        Raises
        ------
        ProductError
            if the journal does not know it.
        """
        root = self.place(self.settings()).root
        journal = Journal(root, read_only=True)
        inside = root / product
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
