"""Step 9: the frames that a model has not seen, before it is fitted again -> new_frames/index.ecsv.

It begins the check that modes with a fit make of their own model; steps 2, 3 and 8 go on with these frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from darkpipe.errors import LeftOutError
from darkpipe.files.layout import OutputDir
from darkpipe.files.seen_frames import write_unseen
from darkpipe.jobs.contract import Job
from steps.settings.step9_find_new_frames import NAME as NAME
from steps.settings.step9_find_new_frames import Settings as Settings

VERSION = 1


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One table; `out` is the place of the new frames.

    Raises
    ------
    LeftOutError
        when the settings do not want the check.
    """
    if out.owner is None or not settings.check:
        raise LeftOutError("new frames are not held against the model (new_frames: check: false)")
    inputs = (out.owner.index, out.owner.model.frames)
    yield [Job(select, inputs, (out.index,), {"campaign": out.owner.campaign or ""}, label="index of new frames")]


def select(inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, campaign: str) -> dict[Path, str]:
    """Rows of the index that the model has not seen."""
    return {outputs[0]: write_unseen(outputs[0], inputs[0], campaign, inputs[1])}
