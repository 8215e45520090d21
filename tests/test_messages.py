"""Every message of a failure stands in docs/messages.md with cause and cure, and a test raises it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import message_page
import message_sites
import pytest
import raised_messages

import darkpipe
import hardware
import steps
from darkpipe.errors import PipelineError, SettingsError
from master_controller import mode_named
from run_pipeline import build_parser
from steps.flags import numbers


def test_the_page_is_as_the_source_has_it() -> None:
    known = message_page.causes()
    assert message_page.PAGE.read_text(encoding="utf-8") == message_page.page(known), "python docs/message_page.py"


def test_every_message_has_a_cause_and_a_cure() -> None:
    assert message_page.lacking(message_page.causes()) == []


def test_a_message_without_cause_is_told() -> None:
    known = message_page.causes()
    cause = known.pop("what is to be done?")
    told = message_page.lacking({**known, "what is not to be done?": cause})
    assert [line.partition(":")[0] for line in told] == ["no cause", "no such message"]


def kinds(kind: type[PipelineError] = PipelineError) -> Iterator[type[PipelineError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_the_classes_of_the_page_are_those_of_the_program() -> None:
    for package in (darkpipe, hardware, steps):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = {kind for kind in kinds() if kind.__module__.partition(".")[0] in ("darkpipe", "hardware", "steps")}
    assert {kind.__name__ for kind in ours} == set(message_sites.family())
    for kind in ours:
        assert message_sites.exit_code(kind.__name__) == kind.exit_code


def test_texts_are_those_that_are_raised() -> None:
    # of a name that is given in branches, of an f-string, and of a default with values
    texts = {text for site in message_sites.all_sites() for text in site.texts}
    assert {"connection refused", "unknown host", "there is no mode '…'", "empty file (0 bytes)"} < texts
    with pytest.raises(SettingsError) as caught:
        mode_named("fulll")
    pattern = re.escape("there is no mode '…'").replace("…", ".*")
    assert re.fullmatch(pattern, caught.value.what)


def test_what_a_test_raises_is_seen() -> None:
    with pytest.raises(SettingsError):
        build_parser().parse_args(["--temps", "warm"])
    keys = raised_messages.raised_sites()
    assert any(key.startswith("steps/flags.py:number:") for key in keys)
    assert numbers("1,2") == [1.0, 2.0]
    missing = raised_messages.never_raised(keys)
    assert not keys & set(missing)
    assert len(missing) + len(keys) >= len({site.key for site in message_sites.all_sites()}) - len(
        raised_messages.ELSEWHERE
    )
    assert "run_pipeline.py:run: what is to be done?" in raised_messages.never_raised([])


def test_sites_that_no_test_reaches_are_in_the_source() -> None:
    keys = [site.key for site in message_sites.all_sites()]
    for place, reason in raised_messages.ELSEWHERE.items():
        assert reason
        assert any(key.startswith(f"{place}:") for key in keys), place
