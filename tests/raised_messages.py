"""Which of the messages that darkpipe has were raised while tests ran; hooks of pytest, used by conftest.py.

    pytest --every-message=told        messages of the program that were raised by no test are listed
    pytest --every-message=required    and the run fails if there are any, and if it is one of all tests
    pytest --raised FILE        what was raised is added to a file, for runs in parts; then
    python tests/raised_messages.py FILE      says what is missing

Errors are seen where they are made, in the process of the tests and in those of pytest-xdist.

`required` is for a machine that has what `requirements-dev.txt` lists: the workflow in `.github/` asks for it, `make
test` only tells. Tests that are skipped for want of real frames, of a browser or of other programs are not known to
raise what no other does (else it belongs into `ELSEWHERE`); what only tests with a package raise (`ONLY_WITH`) is not
demanded without it. Part of the tests, by `-k` or by naming files, and systems other than Unix are told what is
missing, and not failed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import ValidationError

PROJECT = Path(__file__).resolve().parents[1]
sys.path.append(str(PROJECT / "docs"))

import message_sites  # noqa: E402 - after the path

ELSEWHERE = {
    "steps/step1_load_data.py:_common": "only Windows has drives",
    "darkpipe/jobs/dask_engine.py:_connect: no Dask cluster could be started here": "half a cluster would stay behind",
}
"""Sites that no test here can reach, each with the reason."""

ONLY_WITH = {"darkpipe/jobs/dask_": "distributed", "darkpipe/jobs/engine.py:": "distributed"}
"""Beginnings of sites that are reached with a package alone, and its name."""

_raised: set[tuple[str, int]] = set()


def begin() -> None:
    """See every error of the family from now on, and every complaint about a value."""
    from darkpipe.errors import PipelineError

    made = PipelineError.__init__

    def seen(self: PipelineError, *args: Any, **kwargs: Any) -> None:
        _note(sys._getframe(1))
        note(sys.exc_info()[1])
        made(self, *args, **kwargs)

    PipelineError.__init__ = seen  # type: ignore[method-assign]


def _note(frame: FrameType) -> None:
    _raised.add((frame.f_code.co_filename, frame.f_lineno))


def note(error: BaseException | None) -> None:
    """See where plain errors came from that are told as one of the family; to be called by a test that catches one."""
    if isinstance(error, ValidationError):
        for item in error.errors():
            note(item.get("ctx", {}).get("error"))
    seen = set[int]()  # errors may be the context of each other
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is not None:
            _raised.add((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        error = error.__cause__ or error.__context__


def raised_sites() -> set[str]:
    """Keys of the sites that were seen so far."""
    lines: dict[str, set[int]] = {}
    for name, line in _raised:
        path = Path(name)
        if path.is_relative_to(PROJECT):
            lines.setdefault(path.relative_to(PROJECT).as_posix(), set()).add(line)
    return {
        site.key
        for site in message_sites.all_sites()
        if any(site.lines[0] <= line <= site.lines[1] for line in lines.get(site.file, ()))
    }


def never_raised(raised: Iterable[str]) -> list[str]:
    """What no test has raised and a test could."""
    known = set(raised)
    return [site.key for site in message_sites.all_sites() if site.key not in known and not _excused(site.key)]


def _excused(key: str) -> bool:
    lacking = [place for place, package in ONLY_WITH.items() if importlib.util.find_spec(package) is None]
    return key.startswith(tuple(lacking)) or any(key.startswith(f"{place}:") for place in ELSEWHERE)


# hooks
class Plugin:
    """Gathers from all processes and judges at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.raised: set[str] = set()
        self.whole = os.name == "posix" and config.args_source is not pytest.Config.ArgsSource.ARGS

    def pytest_deselected(self, items: list[Any]) -> None:
        """Some tests are not run."""
        self.whole = False

    @pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be there
    def pytest_testnodedown(self, node: Any) -> None:
        """A process of pytest-xdist has ended."""
        self.raised |= set(getattr(node, "workeroutput", {}).get("raised_messages", ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over, or judge."""
        self.raised |= raised_sites()
        if hasattr(self.config, "workeroutput"):
            self.config.workeroutput["raised_messages"] = sorted(self.raised)
            return
        file = self.config.getoption("--raised")
        if file:
            with open(file, "a", encoding="utf-8") as stream:
                stream.writelines(f"{key}\n" for key in sorted(self.raised))
        required = self.config.getoption("--every-message") == "required"
        if required and self.whole and never_raised(self.raised) and session.exitstatus == 0:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what is missing."""
        missing = never_raised(self.raised) if self.config.getoption("--every-message") else []
        if missing:
            terminalreporter.section("messages that no test has raised")
            for key in missing:
                terminalreporter.line(key)
            if not self.whole:
                terminalreporter.line("(not all tests were run)")


def add_options(parser: pytest.Parser) -> None:
    """The two flags."""
    parser.addoption(
        "--every-message", choices=("told", "required"), help="list messages raised by no test, or fail of them too"
    )
    parser.addoption("--raised", metavar="FILE", help="add the messages that were raised to a file")


def configure(config: pytest.Config) -> None:
    """Begin to look."""
    begin()
    config.pluginmanager.register(Plugin(config), "raised-messages")


def main() -> int:
    """What is missing of what a file of `--raised` holds."""
    missing = never_raised(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines())
    print("\n".join(missing))
    print(f"{len(missing)} of {len(message_sites.all_sites())} messages were not raised")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
