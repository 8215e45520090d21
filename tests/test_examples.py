"""The settings that are handed out: examples/observatory.yaml is whole and true, and the YAML that users of the capture
and the cooling guide have is taken as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from guide_settings import CAPTURE_GUIDE, COOLING_GUIDE
from helpers import call, environment, flags, make_campaign
from pydantic import BaseModel

import run_pipeline
from darkpipe.settings import read_yaml
from hardware.settings import AcquisitionSettings, CameraSettings, CoolingSettings, DarkCaptureSettings
from master_controller import MasterController

EXAMPLES = Path(run_pipeline.__file__).resolve().parent / "examples"
OBSERVATORY = EXAMPLES / "observatory.yaml"
SECTIONS = (
    ("dark_capture", DarkCaptureSettings),
    ("camera", CameraSettings),
    ("camera.cooling", CoolingSettings),
)


def part(settings: dict[str, Any], place: str) -> dict[str, Any]:
    for name in place.split("."):
        settings = settings[name]
    return settings


def plain(value: Any) -> Any:
    """A default as YAML holds it."""
    return str(value) if isinstance(value, Path) else value


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """Name and default of each setting but those that are sections."""
    found = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    return {name: plain(value) for name, value in found.items() if not isinstance(value, BaseModel)}


def commented() -> Iterator[tuple[str, str]]:
    """Name and comment of each line of the file that holds a setting."""
    for line in OBSERVATORY.read_text(encoding="utf-8").splitlines():
        found = re.match(r" +(\w+): *\S.*? # (.*)$", line)
        if found:
            yield found.group(1), found.group(2)


@pytest.mark.parametrize(("place", "model"), SECTIONS)
def test_observatory_holds_every_setting_with_its_default(place: str, model: type[BaseModel]) -> None:
    given = part(read_yaml(OBSERVATORY), place)
    assert {name: value for name, value in given.items() if not isinstance(value, dict)} == defaults(model)


def test_observatory_says_what_the_defaults_are() -> None:
    expected = [pair for _, model in SECTIONS for pair in defaults(model).items()]
    found = list(commented())
    assert sorted(name for name, _ in found) == sorted(name for name, _ in expected)
    told = {(name, comment.rpartition("default ")[2].partition(":")[0]) for name, comment in found}
    as_yaml = {True: "true", False: "false", None: "null"}
    for name, value in expected:
        text = as_yaml[value] if value is None or isinstance(value, bool) else str(value)
        assert (name, text) in told


def test_observatory_is_accepted_and_changes_nothing() -> None:
    settings = MasterController(read_yaml(OBSERVATORY), source=OBSERVATORY).settings("acquire")
    untouched = AcquisitionSettings().model_dump()
    untouched["dark_capture"]["output_dir"] = EXAMPLES / "darks"  # relative to the file
    assert {name: settings.model_dump()[name] for name in untouched} == untouched


@pytest.mark.parametrize(
    ("guide", "place", "temperatures_c"),
    [(CAPTURE_GUIDE, "dark_capture", None), (COOLING_GUIDE, "camera", (-10.0,))],
)
def test_the_guides_are_accepted(guide: str, place: str, temperatures_c: tuple[float, ...] | None) -> None:
    given = yaml.safe_load(guide)
    section = AcquisitionSettings.model_validate(given)
    assert section.temperatures_c == temperatures_c
    found = MasterController(given).settings("acquire").model_dump()[place]
    for name, value in given[place].items():
        wanted = {**found[name], **value} if isinstance(value, dict) else value
        assert wanted == (found[name] if name != "output_dir" else found[name].name)


def test_the_guides_are_accepted_together_with_the_pipeline() -> None:
    given = {**yaml.safe_load(CAPTURE_GUIDE), **yaml.safe_load(COOLING_GUIDE)}
    controller = MasterController(given)
    assert controller.numbers("full")[0] == 0
    assert controller.settings("full").model_dump()["load_data"]["acquired"] == Path.cwd() / "darks"


def test_the_keys_of_the_guides_come_first() -> None:
    given = read_yaml(OBSERVATORY)
    for guide in (CAPTURE_GUIDE, COOLING_GUIDE):
        for section, keys in yaml.safe_load(guide).items():
            assert list(given[section])[: len(keys)] == list(keys)
    cooling = yaml.safe_load(COOLING_GUIDE)["camera"]["cooling"]
    assert list(given["camera"]["cooling"])[: len(cooling)] == list(cooling)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_settings_of_the_examples_are_valid(path: Path) -> None:
    MasterController(read_yaml(path), source=path).settings("full")


@pytest.mark.slow
def test_after_a_warm_up_a_full_run_compiles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "warm_up.py")], env=environment(), capture_output=True, text=True, check=True
    )
    kept = Path(done.stdout.strip().rpartition("kept in ")[2])
    # what only campaigns of many pixels with a strong signal need
    assert list(kept.rglob("*residuals_of_tile*"))
    said = call(*flags(make_campaign(tmp_path)))
    assert said.returncode == 0
    assert "compiling" not in said.stdout + said.stderr
