"""What a run did, as data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from darkpipe.errors import PipelineError

log = logging.getLogger("darkpipe")

PART: ContextVar[str] = ContextVar("part", default="")
"""The detector that this thread works for, where a run has several: log lines begin with it."""

TOLD_EACH = 3  # failures with one cause

FINDING = 3  # exit code: everything was made, and what it says is that something is not as it should be


@dataclass(frozen=True)
class JobRun:
    """A job that was run, or in a dry run: would be."""

    step: str
    campaign: str
    label: str
    reason: str
    outputs: tuple[Path, ...]
    error: PipelineError | None = None
    in_order: bool = False


@dataclass
class StepCount:
    """Jobs of a step in a campaign."""

    step: str
    campaign: str
    made: int = 0
    up_to_date: int = 0
    failed: int = 0
    removed: int = 0


@dataclass(frozen=True)
class Failure:
    """What failed: a job, or with an empty label: the plan of a step, or the run itself."""

    step: str
    campaign: str
    label: str
    error: PipelineError

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.campaign, self.step, self.label, str(self.error))))


@dataclass
class RunReport:
    """What `MasterController.run` did.

    jobs : jobs that were run (dry run: would be), in the order of the plans.
    unknown : (step, campaign) that a dry run cannot plan yet.
    notes : things worth knowing that are no failures.
    summaries : (campaign, rows) that the steps add for the table at the end.
    findings : what a step that judges has to say against what it judged (`check_model`: the model has drifted).
    parts : the reports of the detectors, by name, where there are several; what else stands here is of all of them.
    """

    mode: str
    dry_run: bool = False
    counts: list[StepCount] = field(default_factory=list)
    jobs: list[JobRun] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    summaries: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    parts: list[tuple[str, RunReport]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of the first failure: 1, or 2 for a setting, or 75 for a busy device; else 3 where there is a finding;
        0 made or up to date."""
        if failures := self.all_failures:
            return failures[0].error.exit_code
        return FINDING if self.findings or any(part.findings for _, part in self.parts) else 0

    @property
    def all_failures(self) -> list[Failure]:
        """Failures of this run and of its parts."""
        return self.failures + [failure for _, part in self.parts for failure in part.failures]

    @property
    def up_to_date(self) -> bool:
        """Nothing was to be done."""
        own = not (self.jobs or self.failures or self.unknown)
        return own and all(part.up_to_date for _, part in self.parts)

    def raise_for_failure(self) -> None:
        """Raise the first failure, if there is one.

        Raises
        ------
        PipelineError
            what failed first.
        """
        if failures := self.all_failures:
            raise failures[0].error

    def note(self, text: str) -> None:
        """Keep and log something worth knowing."""
        self.notes.append(text)
        log.warning(text)

    def find(self, text: str) -> None:
        """Keep and log a finding."""
        self.findings.append(text)
        log.warning(text)

    def fail(self, failure: Failure) -> None:
        """Keep and log a failure."""
        self.failures.append(failure)
        log.error(str(failure))

    def fail_all(self, failures: Sequence[Failure]) -> None:
        """Keep the failures of a batch and log them. Of many with one cause the first is told, and how many more there
        are: on a full disk a line for each of them would take the room that they want."""
        alike: dict[tuple[type, str, str | None], list[Failure]] = {}
        for failure in failures:
            error = failure.error
            alike.setdefault((type(error), error.what, error.do), []).append(failure)
        for group in alike.values():
            told = group if len(group) <= TOLD_EACH else group[:1]
            for failure in told:
                self.fail(failure)
            if rest := group[len(told) :]:
                self.failures += rest
                names = f"{rest[0].label} to {rest[-1].label}"
                where = (rest[0].campaign, rest[0].step, f"{len(rest)} more failed alike", names)
                log.error("%s", ": ".join(filter(None, where)))


class Progress(Protocol):
    """Who wants to see jobs pass by."""

    def begin(self, title: str, total: int) -> None:
        """So many jobs of a batch are about to be run."""
        ...

    def advance(self, label: str) -> None:
        """A job has ended."""
        ...

    def end(self) -> None:
        """The batch has ended."""
        ...


class NoProgress:
    """Nobody looks."""

    def begin(self, title: str, total: int) -> None:
        """Nothing."""

    def advance(self, label: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""
