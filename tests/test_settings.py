"""Settings: merging, messages, paths, and YAML that can be read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from darkpipe.errors import SettingsError
from darkpipe.settings import (
    absolute_paths,
    check_keys,
    commented_yaml,
    compose,
    lookup,
    merged,
    nested,
    plain_sections,
    read_yaml,
    validate,
)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cooling(Section):
    target_c: float = Field(-10.0, description="Set point.")


class Fit(Section):
    """How the model is fitted."""

    kappa: float = Field(4.5, gt=0, description="Where samples are left out, in sigma. " * 6)
    model: Literal["auto", "exp_2d"] = "auto"
    bias: Path | Literal["none"] | None = None
    more: tuple[Path, ...] = ()
    limits: tuple[float, float] = (-float("inf"), 1e-9)
    cooling: Cooling | None = Cooling()
    kind: int | Cooling = 3


class Empty(Section):
    pass


MODEL = compose({"fit": Fit, "empty": Empty})


def test_later_layers_win_key_by_key() -> None:
    layers = ({"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 3}}, {"a": None}, {"a": {"e": 0}})
    assert merged(*layers[:2]) == {"a": {"b": 3, "c": 2}, "d": 1}
    assert merged(*layers) == {"a": {"e": 0}, "d": 1}
    assert nested({"a.b": 1, "a.c.d": 0.0, "e": None}) == {"a": {"b": 1, "c": {"d": 0.0}}, "e": None}
    assert lookup({"a": {"b": 0.0}}, "a.b") == 0.0
    assert lookup({"a": {"b": 0.0}}, "a.b.c") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"fit": {"kapa": 1}}, r"unknown setting 'fit.kapa' \[x.yaml\]. Did you mean 'fit.kappa'\?"),
        ({"fit": {"cooling": {"target": 1}}}, r"'fit.cooling.target' .* Did you mean 'fit.cooling.target_c'\?"),
        ({"fitt": {}}, r"unknown setting 'fitt' .* Did you mean 'fit'\?"),
        ({"kappa": 1}, r"Did you mean 'fit.kappa'\?"),
        ({"empty": {"zzz": 1}}, r"unknown setting 'empty.zzz'"),
        ({3: 1}, r"unknown setting '3'"),
    ],
)
def test_unknown_keys_are_named(data: dict[Any, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_keys(MODEL, data, "x.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"fit": {"kappa": 0}}, r"fit.kappa: Input should be greater than 0 \(it is 0\)"),
        ({"fit": {"kind": {"target_c": "warm"}}}, "fit.kind"),
        ({"workers": 0}, "workers"),
        ({"engine": "rockets"}, "engine.*'threads'"),
        ({"fit": 3}, "fit"),
    ],
)
def test_wrong_values_are_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        validate(MODEL, data)


def test_an_empty_section_has_its_defaults() -> None:
    settings: Any = validate(MODEL, {"fit": None, "select": {"gain": 100}})
    assert settings.fit == Fit()
    assert settings.select == {"gain": "100"}


def test_relative_paths_belong_to_a_folder(tmp_path: Path) -> None:
    data = {"output_dir": "out", "log_level": "INFO", "fit": {"bias": "b.fits", "more": ["x", "/y"], "model": "auto"}}
    found = absolute_paths(MODEL, data, tmp_path)
    assert found["output_dir"] == tmp_path / "out"
    assert found["log_level"] == "INFO"
    assert found["fit"] == {"bias": tmp_path / "b.fits", "more": [tmp_path / "x", Path("/y")], "model": "auto"}
    assert absolute_paths(MODEL, {"fit": {"bias": "none"}}, tmp_path) == {"fit": {"bias": "none"}}
    assert absolute_paths(MODEL, {"fit": {"bias": None}}, tmp_path) == {"fit": {"bias": None}}
    assert absolute_paths(MODEL, {"output_dir": "~/x"}, tmp_path)["output_dir"] == Path("~/x").expanduser()


def test_printed_settings_can_be_read_again(tmp_path: Path) -> None:
    data = {"fit": {"kappa": 3, "bias": "ü/b.fits", "limits": [-1, float("inf")]}, "select": {"gain": "100"}}
    settings = validate(MODEL, absolute_paths(MODEL, data, tmp_path))
    text = commented_yaml(settings)
    assert "# How the model is fitted." in text
    assert "  # Where samples are left out" in text
    assert max(map(len, text.splitlines())) <= 120
    path = tmp_path / "sub" / "printed.yaml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    again = read_yaml(path)
    check_keys(MODEL, again, path)
    read = validate(MODEL, absolute_paths(MODEL, again, path.parent))
    assert read.model_dump() == settings.model_dump() | {"output_dir": Path.cwd() / "output"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "'a' stands twice"),
        ("a: [1\n", "this is no YAML"),
        ("- 1\n", "name: value"),
        ("a: \udcff", "no YAML"),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=message):
        read_yaml(tmp_path / "x.yaml")


def test_a_file_that_is_missing_or_empty(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings"):
        read_yaml(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "x.yaml") == {}


def test_settings_are_shown_without_the_place_of_the_machine(tmp_path: Path) -> None:
    data = {"fit": {"kappa": 3.0, "bias": tmp_path / "raw" / "b.fits", "more": [tmp_path / "out" / "c.fits"]}}
    shown = plain_sections(validate(MODEL, data), ["fit", "empty", "workers"], tmp_path / "out")
    assert shown["given"] == {"fit": {"kappa": 3.0, "bias": "../raw/b.fits", "more": ["c.fits"]}}
    assert shown["all"]["fit"]["model"] == "auto"
    assert shown["all"]["empty"] == {}
    assert "workers" not in shown["all"]
