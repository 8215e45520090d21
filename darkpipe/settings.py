"""Settings: merged from plain dicts, validated once, printed as commented YAML.

Defaults < YAML < mode < flags. This module knows no steps: it composes the sections that it is given.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from darkpipe import plain_yaml
from darkpipe.errors import SettingsError, one_line

COMMENT_WIDTH = 110
MOST_WORKERS = 4096


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class RunSettings(BaseModel):
    """Settings of a run; the sections of the steps stand below them."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    output_dir: Path = Field(Path("output"), description="Folder of everything that is made.")
    engine: Literal["threads", "processes", "dask"] = Field("threads", description="Where jobs run.")
    workers: int = Field(
        default_factory=available_cores, ge=1, le=MOST_WORKERS, description="Jobs at a time; default: one a core."
    )
    dask_scheduler: str | None = Field(
        None, description="Address for engine dask, tcp://host:8786; null: a local cluster."
    )
    dask_patience_s: float = Field(
        300.0,
        gt=0,
        description="Engine dask: how long to wait for workers, where none has come yet or all were lost [s].",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="What is logged.")
    quiet: bool = Field(False, description="Print warnings and errors only.")
    select: dict[str, str] = Field(
        default_factory=dict, description="Take only configurations with these values, e.g. {gain: 100}."
    )


def compose(sections: Mapping[str, type[BaseModel]], at_top: Sequence[type[BaseModel]] = ()) -> type[RunSettings]:
    """The model of all settings: those of the run, a section for each name, and models whose fields are sections
    themselves."""
    fields: dict[str, Any] = {}
    for name, section in sections.items():
        doc = (section.__doc__ or "").strip().partition("\n")[0]
        fields[name] = (section, Field(default_factory=section, description=doc or None))
    bases = cast(tuple[type[RunSettings], ...], (*at_top, RunSettings))
    return create_model("Settings", __base__=bases, **fields)


# plain dicts
def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win; sections are merged key by key. A section without content (`load_data:`) is empty."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = result.get(key)
                result[key] = merged(below if isinstance(below, Mapping) else {}, value)
            else:
                result[key] = value
    return result


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """{'a.b': 1} as {'a': {'b': 1}}."""
    result: dict[str, Any] = {}
    for place, value in dotted.items():
        *sections, name = place.split(".")
        level = result
        for section in sections:
            level = level.setdefault(section, {})
        level[name] = value
    return result


def lookup(data: Mapping[str, Any], place: str) -> Any:
    """The value at a dotted place; None if there is none."""
    value: Any = data
    for name in place.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a settings file.

    Raises
    ------
    SettingsError
        if it cannot be read, is no YAML, no mapping, larger than any settings, or names a key twice.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise SettingsError("the settings are no regular file", where=path)
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise SettingsError(f"more than {LARGEST_BYTES} bytes: larger than any settings", where=path)
        data = plain_yaml.load(content.decode("utf-8"), keys_once=True)
    except OSError as error:
        raise SettingsError(f"cannot read the settings: {error.strerror}", where=path) from error
    except ValueError as error:
        raise SettingsError(f"this is no YAML: {one_line(error, 300)}", where=path) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError("settings are lines of `name: value`", where=path)
    return data


LARGEST_BYTES = 1 << 18


# against the model
def check_keys(model: type[BaseModel], data: Mapping[str, Any], source: str | Path | None, place: str = "") -> None:
    """Refuse a key that the model does not have.

    Raises
    ------
    SettingsError
        with the full place of the key and the nearest known name.
    """
    for key, value in data.items():
        if key not in _fields(model):
            what = f"unknown setting '{place}{one_line(key)[:60]}'"
            raise SettingsError(what, where=source, do=_nearest(model, place, str(key)[:60]))
        section = _section(_fields(model)[key])
        if section is not None and isinstance(value, Mapping):
            check_keys(section, value, source, f"{place}{key}.")


def absolute_paths(model: type[BaseModel], data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The same settings with relative paths made absolute: they are relative to the folder `base`."""
    result = dict(data)
    for key, value in data.items():
        if key not in _fields(model):
            continue
        annotation = _fields(model)[key]
        section = _section(annotation)
        if section is not None and isinstance(value, Mapping):
            result[key] = absolute_paths(section, value, base)
        elif Path in (kinds := set(_kinds(annotation))):
            result[key] = _absolute(value, base, kinds)
    return result


def output_places(settings: BaseModel) -> Iterator[Path]:
    """Files and folders that the user named to be written: every `output` and `output_dir`, of any section."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from output_places(value)
        elif name in ("output", "output_dir") and isinstance(value, Path):
            yield value


def validate(model: type[RunSettings], data: Mapping[str, Any]) -> RunSettings:
    """The settings, frozen.

    Raises
    ------
    SettingsError
        naming the full place of each wrong value.
    """
    plain = {key: {} if value is None and _section(_fields(model).get(key)) else value for key, value in data.items()}
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        raise SettingsError("; ".join(_complaint(model, item) for item in error.errors())) from error


def commented_yaml(settings: BaseModel) -> str:
    """All settings as YAML that can be read again, with what they mean as comments. Paths are absolute."""
    return "".join(_yaml_lines(settings, ""))


def plain_sections(settings: BaseModel, names: Sequence[str], relative_to: Path) -> dict[str, dict[str, Any]]:
    """Sections as plain data, paths relative to a folder: all values, and those that are not the defaults.

    Returns
    -------
    {"all": {section: {name: value}}, "given": the same without what has its default}.
    """
    shown: dict[str, dict[str, Any]] = {"all": {}, "given": {}}
    for name in names:
        section = getattr(settings, name)
        if not isinstance(section, BaseModel):
            continue
        plain = _relative(_plain(section), section, Path(os.path.abspath(relative_to)))
        usual = _plain(type(section)()) if not any(f.is_required() for f in type(section).model_fields.values()) else {}
        shown["all"][name] = plain
        given = {key: value for key, value in plain.items() if usual.get(key) != value}
        if given:
            shown["given"][name] = given
    return shown


def _relative(plain: Any, value: Any, base: Path) -> Any:
    """Plain data with the paths among the values it was made from relative to a folder."""
    if isinstance(value, Path):
        with contextlib.suppress(ValueError):  # another drive on Windows
            return Path(os.path.relpath(plain, base)).as_posix()
        return plain
    if isinstance(value, BaseModel):
        return {name: _relative(plain[name], getattr(value, name), base) for name in plain}
    if isinstance(value, Mapping):
        return {str(key): _relative(plain[str(key)], item, base) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(p, v, base) for p, v in zip(plain, value, strict=True)]
    return plain


def _yaml_lines(settings: BaseModel, pad: str) -> Iterator[str]:
    for name, info in type(settings).model_fields.items():
        value = getattr(settings, name)
        is_section = isinstance(value, BaseModel)
        if is_section:
            yield "\n"
        for line in textwrap.wrap(info.description or "", COMMENT_WIDTH - len(pad)):
            yield f"{pad}# {line}\n"
        if is_section and type(value).model_fields:
            yield f"{pad}{name}:\n"
            yield from _yaml_lines(value, pad + "  ")
        else:
            # {name: value} on one line, without its braces
            plain = {name: _plain(value)}
            text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**9)
            yield f"{pad}{text.strip()[1:-1]}\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return os.path.abspath(value)
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Annotation of each field by the name that it has in a file."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of a section, also where it is optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(filter(None, map(_section, typing.get_args(annotation))), None)
    return None


def _kinds(annotation: Any) -> Iterator[Any]:
    """Types and literal values that stand anywhere in an annotation."""
    if typing.get_origin(annotation) is None:
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _kinds(inner)


def _absolute(value: Any, base: Path, kinds: set[Any]) -> Any:
    if isinstance(value, str | Path) and value not in kinds:  # a literal beside paths is a word: 'auto'
        try:
            return Path(os.path.abspath(base / Path(value).expanduser()))
        except RuntimeError as error:
            raise SettingsError(f"no such home directory: {one_line(value)[:60]}", do="Write the path out.") from error
    if isinstance(value, list | tuple):
        return [_absolute(item, base, kinds) for item in value]
    return value


def _nearest(model: type[BaseModel], place: str, key: str) -> str:
    siblings = list(_fields(model))
    if close := difflib.get_close_matches(key, siblings, n=1):
        return f"Did you mean '{place}{close[0]}'?"
    below: dict[str, list[str]] = {}
    for section, name in _grandchildren(model):
        below.setdefault(name, []).append(f"'{place}{section}.{name}'")
    if close := difflib.get_close_matches(key, list(below), n=1, cutoff=0.8):
        return f"Did you mean {' or '.join(below[close[0]])}?"
    return f"Known here: {', '.join(siblings)}"


def _grandchildren(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for section, annotation in _fields(model).items():
        inner = _section(annotation)
        for name in _fields(inner) if inner is not None else ():
            yield section, name


def _complaint(model: type[BaseModel], item: Any) -> str:
    names: Sequence[str] = _place(model, item["loc"])
    place = ".".join(names)
    if item["type"] == "extra_forbidden":
        return f"unknown setting '{one_line(place)[:80]}'"
    message = item["msg"].removeprefix("Value error, ")
    whole_section = isinstance(item["input"], Mapping | BaseModel)  # the message names what it is about
    given = "" if item["type"] == "missing" or whole_section else f" (it is {_shown(item['input'])})"
    return f"{place or 'settings'}: {message}{given}"


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value))[:80]
    except (ValueError, RecursionError):
        return "a huge number"


def _place(model: type[BaseModel] | None, loc: Sequence[int | str]) -> list[str]:
    """The place without the names that pydantic adds for the members of a union."""
    names: list[str] = []
    for part in loc:
        if model is None and names:
            if isinstance(part, int):
                names.append(str(part))
            continue
        names.append(str(part))
        model = _section(_fields(model).get(str(part))) if model is not None else None
    return names
