"""What a run says: log file, lines or a progress bar on the console, and the table at the end."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from darkpipe.errors import printable
from darkpipe.jobs.report import PART, RunReport
from darkpipe.regular import check_regular

MOST_LINES_IN_ORDER = 10
MOST_LINES_ALIKE = 20  # jobs of one step with one reason, beyond which the first and the last are named
LOG_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


CAPTURE = "darkpipe.capture"
"""Logger of everything about a camera. Its records may be marked as `state` (of the moment: shown beside the bar, kept
nowhere) or as `frame` (a line a frame: not on a terminal, where the bar shows it)."""


@contextlib.contextmanager
def logging_to(
    folder: Path | None, level: str, *, quiet: bool, console: Console, bar: JobBar | None = None
) -> Iterator[None]:
    """Log to `folder`/pipeline_YYYYMMDD.log (None: to no file) and to the console, until the end of the block.

    The file gets a line for each job; the console only at level DEBUG. What a camera does goes to
    dark_capture_YYYYMMDD.log as well; its state of the moment to the bar.
    """
    logger, capture = logging.getLogger("darkpipe"), logging.getLogger(CAPTURE)
    handlers = [(logger, _console_handler("WARNING" if quiet else level, console))]
    if folder is not None:
        handlers.append((logger, _file_handler(folder, level, "pipeline")))
        handlers.append((capture, _file_handler(folder, level, "dark_capture")))
    if bar is not None:
        handlers.append((capture, _StateHandler(bar)))
    before = logger.level, logger.propagate
    logger.setLevel(min(handler.level for _, handler in handlers))
    logger.propagate = False
    for owner, handler in handlers:
        handler.addFilter(_named_part)
        owner.addHandler(handler)
    try:
        yield
    finally:
        logger.level, logger.propagate = before
        logger.setLevel(before[0])
        for owner, handler in handlers:
            owner.removeHandler(handler)
            handler.close()


def _console_handler(level: str, console: Console) -> logging.Handler:
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_path=False, markup=False, highlighter=None)
        handler.setFormatter(_Printable("%(message)s"))
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(_Printable("%(levelname)s: %(message)s"))
        handler.addFilter(_plain_information)
    handler.setLevel(level)
    unwanted = ("detail", "state", "frame") if console.is_terminal else ("detail", "state")
    handler.addFilter(lambda record: level == "DEBUG" or not any(getattr(record, mark, False) for mark in unwanted))
    return handler


class _Printable(logging.Formatter):
    """What comes of headers and file names can neither end a line nor reach a terminal as a command.

    A traceback keeps its lines, each moved in, so that none can pass for a line of the log.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class _StateHandler(logging.Handler):
    """Shows the state of the moment beside the bar."""

    def __init__(self, bar: JobBar) -> None:
        super().__init__(logging.INFO)
        self._bar = bar

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "state", False):
            self._bar.state(record.getMessage())


def _named_part(record: logging.LogRecord) -> bool:
    """Begin with the detector, where there are several; once, however many handlers there are."""
    if PART.get() and not hasattr(record, "part"):
        record.part = PART.get()
        record.msg = f"{PART.get()}: ".replace("%", "%%" if record.args else "%") + str(record.msg)
    return True


def _plain_information(record: logging.LogRecord) -> bool:
    record.levelname = record.levelname.lower()
    return True


class _LateFile(logging.FileHandler):
    """Makes the folder at the first line: a run that is refused leaves nothing behind. A disk that refuses the log is
    said once and ends no run: what it means for the products, they say themselves."""

    refused = False

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            check_regular(path)  # a pipe would be waited for
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the file may have to be opened first, which raises."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say why a line could not be written; anything but a disk is a bug, and logging's own business."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.refused:
            self.refused = True
            logging.getLogger("darkpipe").warning(
                "the log cannot be written: %s [%s]", error.strerror or error, self.baseFilename
            )

    def close(self) -> None:
        """Let the file go; lines that a full disk did not take are lost."""
        with contextlib.suppress(OSError):
            super().close()


def _file_handler(folder: Path, level: str, name: str) -> logging.Handler:
    handler = _LateFile(folder / f"{name}_{datetime.now():%Y%m%d}.log", encoding="utf-8", delay=True)
    handler.addFilter(lambda record: level == "DEBUG" or not getattr(record, "state", False))
    handler.setFormatter(_Printable(LOG_FORMAT))
    handler.setLevel("DEBUG" if level == "DEBUG" else "INFO")
    return handler


class JobBar:
    """A progress bar of the jobs of a batch; nothing where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._name = ""
        self._users: list[JobBar] = []  # of the lines below each other: the last takes all of it away
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            # no markup: a label holds names of files, and '[/b].fits' is one
            TextColumn("{task.fields[label]}", markup=False),
            TextColumn("{task.fields[state]}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task: TaskID | None = None

    def part(self, name: str) -> JobBar:
        """A line of its own for one of several that are at work side by side."""
        other = copy.copy(self)
        other._name, other._task = name, None
        return other

    def begin(self, title: str, total: int) -> None:
        """Show an empty bar."""
        self._users.append(self)
        self._bar.start()
        named = " ".join(filter(None, (self._name, title)))
        self._task = self._bar.add_task(named, total=total, label="", state="")

    def advance(self, label: str) -> None:
        """One job further."""
        if self._task is not None:
            self._bar.update(self._task, advance=1, label=printable(label))

    def state(self, text: str) -> None:
        """What holds at this moment, in a few words."""
        if self._task is not None:
            self._bar.update(self._task, state=printable(text))

    def end(self) -> None:
        """Take the bar away."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None
        if self in self._users:
            self._users.remove(self)
        if not self._users:
            self._bar.stop()


def error_console() -> Console:
    """Where progress and log lines go: not among what the run prints."""
    return Console(stderr=True)


def print_report(report: RunReport) -> None:
    """Print the table at the end of a run, or what a dry run found."""
    if report.dry_run:
        print("\n".join(map(printable, _dry_run_lines(report))))
        return
    console = Console(file=sys.stdout)
    rows = _count_rows([report, *(part for _, part in report.parts)])
    if console.is_terminal:
        table = Table("step", "made", "up to date", "failed", "removed")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for step, *numbers in [("step", "made", "up to date", "failed", "removed"), *rows]:
            print(f"{step:<28}" + "".join(f"{number:>12}" for number in numbers))
    print("\n".join(_detector_lines(report)), end="\n" if report.parts else "")
    for campaign, lines in report.summaries:
        if campaign:
            print(printable(campaign))
        width = max((len(name) for name, _ in lines), default=0)
        before = ""
        for name, text in lines:
            shown = "" if name == before else name  # rows of one name hang together
            print(printable(f"  {shown:<{width}}  {text}".rstrip()))
            before = name


def _detector_lines(report: RunReport) -> Iterator[str]:
    """A line a detector: what was made, and what it failed of."""
    if not report.parts:
        return
    width = max(len("detector"), *(len(name) for name, _ in report.parts)) + 2
    yield f"{'detector':<{width}}" + "".join(f"{title:>12}" for title in ("made", "up to date", "failed")) + "  result"
    for name, part in report.parts:
        numbers = [sum(getattr(c, key) for c in part.counts) for key in ("made", "up_to_date", "failed")]
        result = "FAILED: " + str(part.failures[0]) if part.failures else "; ".join(part.findings) or "ok"
        yield f"{name:<{width}}" + "".join(f"{number:>12}" for number in numbers) + f"  {result}"
    failed = sum(bool(part.failures) for _, part in report.parts)
    yield f"{len(report.parts)} detectors, {failed} failed"


def _count_rows(reports: Sequence[RunReport]) -> list[tuple[str, ...]]:
    totals: dict[str, list[int]] = {}
    for count in (count for report in reports for count in report.counts):
        row = totals.setdefault(count.step, [0, 0, 0, 0])
        for column, number in enumerate((count.made, count.up_to_date, count.failed, count.removed)):
            row[column] += number
    return [(step, *map(str, numbers)) for step, numbers in totals.items()]


def _dry_run_lines(report: RunReport, most: int = MOST_LINES_ALIKE) -> Iterator[str]:
    ordered = [job for job in report.jobs if job.in_order]  # the step itself has said what they are
    told = len(ordered) > MOST_LINES_IN_ORDER
    if told:
        yield f"{ordered[0].step}: {len(ordered)} jobs one after the other, {ordered[0].label} … {ordered[-1].label}"
    alike: dict[tuple[str, str, str], list[str]] = {}
    for job in report.jobs:
        if not (told and job.in_order):
            alike.setdefault((job.campaign, job.step, job.reason), []).append(job.label)
    for (campaign, step, reason), labels in alike.items():
        if len(labels) > most:
            labels = [f"{len(labels)} jobs, {labels[0]} … {labels[-1]}"]
        for label in labels:
            yield ": ".join(filter(None, (campaign, step, label, reason)))
    for step, campaign in report.unknown:
        yield ": ".join(filter(None, (campaign, step, "not yet known, its inputs are to be made first")))
    settled = [name for name, part in report.parts if part.up_to_date]
    for name, part in report.parts:
        if name not in settled:
            yield from (f"{name}: {line}" for line in _dry_run_lines(part, most=1))
            yield from (f"{name}: FAILED: {failure}" for failure in part.failures)
    if report.up_to_date:
        yield "everything is up to date"
    elif settled:
        yield f"{len(settled)} of {len(report.parts)} detectors: everything is up to date"
