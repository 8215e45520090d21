"""What a step is, and what a job is."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import xxhash
from pydantic import BaseModel

Digests: TypeAlias = Mapping[Path, str]
"""Content digest (xxh3_128, hexadecimal) of files."""


@dataclass(frozen=True)
class Job:
    """One call of a function that makes files from files.

    Parameters
    ----------
    function : at module level; called as ``function(inputs, outputs, **params)``; reads, computes, replaces every
        output, and returns the digests of what it wrote (and, if it likes, of inputs that it has read whole). With
        `in_order` it may be a method of what the plan holds open.
    inputs, outputs : files. A product has one job.
    params : the only settings the function sees; plain data that JSON can hold, and no paths (a folder may move).
    in_order : run one by one, in the controller's process (cameras); the first that fails ends its batch. Such
        products are never pruned.
    requested : made on a user's wish: not pruned when a later plan does not hold it.
    label : a few words for people, "master dark T-10.0C 300 s".
    when_forced : further arguments of the function where the user forces the job. No part of its recipe: they may
        only decide which of equally good results is kept.
    origins : the function is also given ``origins``, what the journal knows of each input, by its path as text:
        `digest`, `size` and, of a product, `step` and `version`. No part of the recipe: it follows from the inputs.

    Raises
    ------
    ValueError
        for a job without outputs, with an output twice, or with an output among its inputs.
    """

    function: Callable[..., Digests]
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    params: Mapping[str, Any]
    in_order: bool = False
    requested: bool = False
    label: str = ""
    when_forced: Mapping[str, Any] = field(default_factory=dict)
    origins: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if not self.outputs or len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"a job needs outputs, each once: {self.outputs}")
        if both := set(self.inputs) & set(self.outputs):
            raise ValueError(f"a job cannot read what it makes: {sorted(map(str, both))}")

    @property
    def name(self) -> str:
        """The label, or the name of the first output."""
        return self.label or self.outputs[0].name


class Place(Protocol):
    """The part of the output directory that the controller needs to know."""

    @property
    def root(self) -> Path: ...

    @property
    def campaign(self) -> str | None: ...

    @property
    def logs(self) -> Path: ...

    def campaigns(self) -> Sequence[Place]:
        """One place for each configuration that the index holds."""
        ...

    def matches(self, select: Mapping[str, str]) -> bool:
        """Whether the configuration of this place has these values ({'gain': '100'})."""
        ...

    def new_frames(self) -> Place | None:
        """Where frames are looked at that the model of this place has not seen; None where there is nothing to look
        at. Only asked where a mode has a check."""
        ...


class Step(Protocol):
    """A module with these names is a step.

    It may also have ``summary(out) -> list[tuple[str, str]]``: rows for the table at the end of a run;
    ``finding(out) -> str | None``: what its products say against what they judge, which the exit code tells; and
    ``SECTIONS``: names of the fields of its Settings, where these stand at the top of the settings file instead of in a
    section of the step's name.
    """

    @property
    def NAME(self) -> str:
        """Its section in the settings."""
        ...

    @property
    def VERSION(self) -> int:
        """Bumped when the meaning of its output changes."""
        ...

    @property
    def Settings(self) -> type[BaseModel]: ...

    @property
    def plan(self) -> Callable[[Any, Any], Iterator[list[Job]]]:
        """``plan(out, settings)``: batches of independent jobs; the next is asked for when the last is on disk.
        A generator is closed at the end, whatever happened: there a plan that holds something open puts it in order."""
        ...


class LateStep:
    """A step of which only the settings are imported until something else of it is asked for.

    Parameters
    ----------
    module : the step. settings : a module with its NAME, its Settings and, if it has any, its SECTIONS.
    """

    def __init__(self, module: str, settings: str) -> None:
        self._module, self._about = module, importlib.import_module(settings)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("NAME", "SECTIONS", "Settings"):
            return getattr(self._about, name)
        return getattr(importlib.import_module(self._module), name)


def sections_of(step: Step) -> tuple[str, ...]:
    """Names at the top of the settings file that belong to a step."""
    return getattr(step, "SECTIONS", (step.NAME,))


def settings_of(step: Step, settings: BaseModel) -> BaseModel:
    """The part of all settings that a step gets to see."""
    if not hasattr(step, "SECTIONS"):
        own: BaseModel = getattr(settings, step.NAME)
        return own
    return step.Settings.model_validate({name: getattr(settings, name) for name in step.SECTIONS})


def recipe_text(step: Step, job: Job) -> str:
    """Name and version of the step, function and params of the job, as one canonical line of JSON.

    Raises
    ------
    TypeError
        naming the parameter that JSON cannot hold.
    """
    function = f"{job.function.__module__}.{job.function.__qualname__}"
    recipe = {"function": function, "params": dict(job.params), "step": step.NAME, "version": step.VERSION}
    try:
        return _canonical(recipe)
    except (TypeError, ValueError) as error:
        for name, value in job.params.items():
            _refuse_foreign(f"{step.NAME}: params[{name!r}]", value)
        raise TypeError(f"{step.NAME}: the params of {job.name!r} are not plain data: {error}") from error


def recipe_digest(text: str) -> str:
    """Digest by which a recipe is known in the journal."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def recipe(step: Step, job: Job) -> str:
    """Digest of everything besides the inputs that the products of a job depend on."""
    return recipe_digest(recipe_text(step, job))


def absolute(path: Path) -> str:
    """The path as one normal absolute string; links are kept as they are."""
    return os.path.abspath(path)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _refuse_foreign(place: str, value: Any) -> None:
    """Raise the TypeError that names the place of a value that JSON cannot hold."""
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place}: the key {key!r} is of type {type(key).__name__}, not a string")
            _refuse_foreign(f"{place}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _refuse_foreign(f"{place}[{number}]", item)
    else:
        raise TypeError(f"{place} is of type {type(value).__name__}; a job's params are plain data that JSON can hold")
