"""The run loop: steps one after the other, campaigns one after the other; plan, skip, run, record, stop."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from darkpipe.errors import LeftOutError, NothingToModelError, PipelineError, ProductError, SettingsError
from darkpipe.jobs.contract import Job, Place, Step, settings_of
from darkpipe.jobs.journal import Journal
from darkpipe.jobs.report import Failure, RunReport, StepCount
from darkpipe.jobs.runner import Runner, StaleJob
from darkpipe.settings import RunSettings, output_places

log = logging.getLogger("darkpipe")


NEW_FRAMES = "new_frames"  # in the journal, the configuration that products of a check belong to


@dataclass(frozen=True)
class Check:
    """Steps that look at the frames which a model has not seen, before the step named `before` begins to replace it."""

    before: str
    steps: Sequence[Step]


@dataclass
class Walk:
    """One walk through steps and campaigns. A dry run leaves a campaign at the first batch with stale jobs.

    of_all : steps that see the whole output directory; of_campaign : steps that see one configuration at a time.
    forced, prunes : names of steps that are run whether stale or not; whose leftovers are removed.
    check : what comes before a model is replaced. Nothing in it is a failure of the run, which replaces the model
        whatever is found: findings and failures become notes.
    """

    journal: Journal
    runner: Runner
    report: RunReport
    settings: RunSettings
    out: Place
    of_all: Sequence[Step]
    of_campaign: Sequence[Step]
    forced: Collection[str]
    prunes: Collection[str]
    check: Check | None = None
    nothing: NothingToModelError | None = None

    def go(self) -> None:
        """All steps, all campaigns."""
        if not self._stage(self.out, self.of_all):
            self._unknown(self.of_campaign, "")
            return
        if not self.of_campaign:
            return
        try:
            campaigns = self.out.campaigns()
            selected = self._selected(campaigns)
        except PipelineError as error:
            self.report.fail(Failure("", "", "", error))
            return
        if not campaigns and self.nothing is None:
            self.nothing = NothingToModelError("no frame was accepted", do="The table of frames gives the reasons")
        carried = [self._stage(place, self.of_campaign) for place in selected]
        if self.nothing is not None and not any(carried) and not self.report.failures:
            self.report.fail(Failure("", "", "", self.nothing))
        if carried and all(carried) and not self.report.dry_run:
            current = {place.campaign or "" for place in campaigns}
            self._prune_vanished(current | {_of_check(name) for name in current})

    def _selected(self, campaigns: Sequence[Place]) -> list[Place]:
        select = self.settings.select
        selected = [place for place in campaigns if not select or place.matches(select)]
        if campaigns and not selected:
            names = ", ".join(place.campaign or "the only one" for place in campaigns)
            raise SettingsError(
                "no configuration has the selected values", where=f"select {select}", do=f"There is: {names}"
            )
        return selected

    def _stage(self, place: Place, steps: Sequence[Step]) -> bool:
        """Steps one after the other; whether all of them came to their end."""
        campaign = place.campaign or ""
        for position, step in enumerate(steps):
            if self.check is not None and self.check.before == step.NAME and not self._look_at_new_frames(place):
                self._unknown(steps[position:], campaign)
                return False
            try:
                ended = self._step(step, place, campaign)
            except NothingToModelError as error:
                self.nothing = error
                self.report.note(": ".join(filter(None, (campaign, step.NAME, str(error)))))
                self._summarise(place, steps[: position + 1])
                return False
            except PipelineError as error:
                self.report.fail(Failure(step.NAME, campaign, "", error))
                ended = False
            if not ended:
                told = bool(self.report.jobs) and self.report.jobs[-1].in_order  # such a step has told all it plans
                self._unknown(steps[position + told :], campaign)
                self._summarise(place, steps[:position])
                return False
        self._summarise(place, steps)
        return True

    def _look_at_new_frames(self, place: Place) -> bool:
        """Run the check; whether the walk goes on, as it does but for a dry run that found something to do."""
        assert self.check is not None
        label = _of_check(place.campaign or "")
        before = len(self.report.failures)
        try:
            new = place.new_frames()
            if new is None:
                return True
            ended = all(self._step(step, new, label) for step in self.check.steps)
            if self.report.dry_run:
                return ended
            for step in self.check.steps if ended else ():
                finding = getattr(step, "finding", None)
                if finding is not None and (text := finding(new)):
                    self.report.note(f"{label}, before the model is fitted again: {text}")
        except LeftOutError as error:
            log.info("%s: %s", label, error)
        except PipelineError as error:
            self.report.note(f"{label} were not held against the model: {error}")
        failed = self.report.failures[before:]
        del self.report.failures[before:]
        for failure in failed:
            self.report.note(f"{label} were not held against the model: {failure.error}")
        return True

    def _step(self, step: Step, place: Place, campaign: str) -> bool:
        count = StepCount(step.NAME, campaign)
        self.report.counts.append(count)
        planned: set[str] = set()
        batches = step.plan(place, settings_of(step, self.settings))
        with contextlib.ExitStack() as stack:
            if isinstance(batches, Generator):
                stack.callback(batches.close)
            for batch in batches:
                self._claim(step, batch, planned)
                stale = self.runner.stale(step, batch, force=step.NAME in self.forced)
                count.up_to_date += len(batch) - len(stale)
                if stale and self.report.dry_run:
                    self.report.jobs += [item.described(step, campaign) for item in stale]
                    return False
                if stale and not self._run_batch(step, campaign, stale, count):
                    return False
        if step.NAME in self.prunes and not self.report.dry_run:
            count.removed = self._prune(step, campaign, planned)
        log.info(
            "%s: %d made, %d up to date", " ".join(filter(None, (step.NAME, campaign))), count.made, count.up_to_date
        )
        return True

    def _run_batch(self, step: Step, campaign: str, stale: Sequence[StaleJob], count: StepCount) -> bool:
        runs = self.runner.run(step, campaign, stale)
        self.report.jobs += runs
        failed = [run for run in runs if run.error is not None]
        count.made += len(runs) - len(failed)
        for run in [run for run in failed if isinstance(run.error, LeftOutError)]:
            self.report.note(": ".join(filter(None, (campaign, step.NAME, str(run.error)))))
            failed.remove(run)
        count.failed += len(failed)
        for run in failed:
            if isinstance(run.error, NothingToModelError):
                raise run.error
        self.report.fail_all([Failure(step.NAME, campaign, r.label, cast(PipelineError, r.error)) for r in failed])
        return not failed

    def _claim(self, step: Step, batch: Sequence[Job], planned: set[str]) -> None:
        for job in batch:
            for path in job.outputs:
                self._stay_inside(path)
            keys = {self.journal.key(path) for path in job.outputs}
            if both := keys & planned:
                raise ValueError(f"{step.NAME}: two jobs make the same product: {sorted(both)}")
            planned |= keys

    def _stay_inside(self, path: Path) -> None:
        """Refuse a product elsewhere than where the user lets darkpipe write: whatever a header, a table or a model of
        somebody else says, it names no place."""
        place = Path(os.path.abspath(path))
        if not any(place.is_relative_to(root) for root in self._roots):
            raise ProductError(
                "a product would stand outside of the places that were named",
                where=path,
                do="Something in its model or tables is not as darkpipe writes it: do not use them",
            )

    @functools.cached_property
    def _roots(self) -> list[Path]:
        return [Path(os.path.abspath(place)) for place in (self.out.root, *output_places(self.settings))]

    def _prune(self, step: Step, campaign: str, planned: Collection[str]) -> int:
        removed, kept = self.journal.remove(self.journal.orphans(step.NAME, campaign, planned))
        for key in removed:
            log.info("%s: removed %s, which is not part of the campaign any more", step.NAME, key)
        for key in kept:
            self.report.note(f"{step.NAME}: {key} is not ours any more and is left where it is")
        self.report.removed += removed
        return len(removed)

    def _prune_vanished(self, current: set[str]) -> None:
        for step in (*self.of_campaign, *(self.check.steps if self.check else ())):
            if step.NAME in self.prunes:
                for campaign in sorted(self.journal.campaigns(step.NAME) - current):
                    self._prune(step, campaign, ())

    def _unknown(self, steps: Sequence[Step], campaign: str) -> None:
        if self.report.dry_run:
            self.report.unknown += [(step.NAME, campaign) for step in steps]

    def _summarise(self, place: Place, steps: Sequence[Step]) -> None:
        if self.report.dry_run:
            return
        rows: list[tuple[str, str]] = []
        for step in steps:
            summary = getattr(step, "summary", None)
            finding = getattr(step, "finding", None)
            with contextlib.suppress(ProductError):  # of a step that came to nothing
                rows += [] if summary is None else summary(place)
                if finding is not None and (text := finding(place)):
                    self.report.find(": ".join(filter(None, (place.campaign, text))))
        if rows:
            self.report.summaries.append((place.campaign or "", rows))


def _of_check(campaign: str) -> str:
    return f"{campaign}/{NEW_FRAMES}" if campaign else NEW_FRAMES
