"""What headers and names of files say is one line of text wherever darkpipe says it."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import hostile_frames
import pytest
from hostile_frames import MARKUP, NEW_LINE, TERMINAL, TURNED
from rich.console import Console

from darkpipe.console import JobBar, logging_to, print_report
from darkpipe.errors import FrameError, printable
from darkpipe.jobs.report import JobRun, RunReport

NASTY = [TERMINAL, NEW_LINE, TURNED, "\udcff", "a\u2029b", "\x00", "\x1c\x1d\x85\x0b\x0c"]


@pytest.mark.parametrize("text", NASTY)
def test_it_is_one_line_that_prints(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(f"a{text}b")[0] == "a"


def test_what_prints_is_kept() -> None:
    for text in ("Kamera Nº 5 µ 相机 -10 °C", "", MARKUP):
        assert printable(text) == text
    assert printable("a\tb\nc\u00a0d") == "a b c d"
    assert printable("a\x1b[31m\u202e\udcff") == r"a\x1b[31m\u202e\udcff"


def test_an_error_is_one_line() -> None:
    error = FrameError(f"what {TERMINAL}", where=f"where {NEW_LINE}", do=TURNED)
    assert str(error).isprintable()
    assert TERMINAL in error.what  # as it is for whoever asks
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("terminal", [True, False])
def test_no_line_of_the_log_is_forged(tmp_path: Path, terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=500)
    with logging_to(tmp_path, "DEBUG", quiet=False, console=console):
        log = logging.getLogger("darkpipe")
        log.warning("frame %s", NEW_LINE + TERMINAL + MARKUP)
        try:
            raise ValueError(NEW_LINE + TERMINAL)
        except ValueError:
            log.exception("a bug at %s", TURNED)
    for text in (stream.getvalue(), next(tmp_path.glob("pipeline_*.log")).read_text(encoding="utf-8")):
        assert "\n2026-01-01" not in text
        assert "forged line" in text
        assert "Traceback" in text
        assert not set(text) & set("\x07\x9b\u202e\x0e\x08\r")
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
    assert hostile_frames.harmless(text.encode())


def test_a_bar_shows_names_as_they_are() -> None:
    stream = io.StringIO()
    bar = JobBar(Console(file=stream, force_terminal=True, width=200))
    bar.begin("load_data", 2)
    bar.advance("loud[/nothing].fits \x1b]0;pwned\x07")
    bar.state("[/b]\x1b[2J")
    bar._bar.refresh()
    bar.end()
    assert "loud[/nothing].fits" in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_the_table_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    report = RunReport("full", dry_run=False)
    report.summaries.append((NEW_LINE, [(TERMINAL, TURNED)]))
    print_report(report)
    dry = RunReport("full", dry_run=True)
    dry.unknown.append((TERMINAL, NEW_LINE))
    print_report(dry)
    printed = capsys.readouterr().out
    assert hostile_frames.harmless(printed.encode())
    assert "\n2026" not in printed
    assert JobRun is not None
