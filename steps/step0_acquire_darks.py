"""Step 0: take the frames that the plan still lacks, from a camera.

Its place in the order; the camera side is not there yet, so a run that asks for it is told so.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from darkpipe.errors import SettingsError
from darkpipe.files.layout import OutputDir
from darkpipe.jobs.contract import Job

NAME = "acquire_darks"
VERSION = 1


class Settings(BaseModel):
    """No setting yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """Nothing can be acquired yet.

    Raises
    ------
    SettingsError
        always: a mode that reaches this step wants a camera.
    """
    raise SettingsError(
        "this version cannot take frames from a camera",
        where="acquire_darks",
        do="point --basepath to a folder of raw darks and biases and run --mode full",
    )
    yield []
