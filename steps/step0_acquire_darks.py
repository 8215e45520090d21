"""Step 0: take the frames that the plan still lacks, from a camera -> raw frames.

The recipe of a frame is its identity and nothing else: a raw frame that verifies never goes stale, whatever settings
or versions change. What is there and what is missing is known from the frame journal beside the frames.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from darkpipe.errors import PipelineError, SettingsError
from darkpipe.files.atomic import replace_file
from darkpipe.files.layout import OutputDir
from darkpipe.jobs.contract import Job
from steps.settings.step0_acquire_darks import NAME as NAME
from steps.settings.step0_acquire_darks import SECTIONS as SECTIONS
from steps.settings.step0_acquire_darks import Settings as Settings

if TYPE_CHECKING:
    from hardware.dark_capture import DarkCapture
    from hardware.planning.slots import Slot

VERSION = 1

log = logging.getLogger("darkpipe.capture")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """A batch a temperature, a job a frame that is missing. Where nothing is, the camera is not even asked.

    Raises
    ------
    SettingsError
        if the folder of the frames is the output directory.
    CameraError
        if the camera does not answer, is not the one that the settings describe, or gave no frame at all.
    """
    # these bring HTTP clients along, which most runs do not need
    from hardware.dark_capture import DarkCapture
    from hardware.planning.worklist import complete, raw_dir

    if os.path.realpath(raw_dir(settings).root) == os.path.realpath(out.root):
        raise SettingsError(  # step 1 would say so, but after a night of frames
            "raw frames and the model cannot share one folder", where=out.root, do="Change dark_capture.output_dir"
        )
    if (done := complete(settings)) is not None:
        log.info("%s", done)
        return
    with DarkCapture.open(settings) as capture:
        for line in capture.described():
            log.info("%s", line)
        capture.on_end = partial(_draw, out)
        for label, slots in capture.work.batches():
            yield [_job(capture, label, slot) for slot in slots]
        capture.finish()


def _job(capture: DarkCapture, temperature: str, slot: Slot) -> Job:
    words = (slot.kind, temperature, f"{slot.exposure_s:g} s", capture.work.number(slot))
    return Job(
        function=capture.take,
        inputs=(),
        outputs=(capture.work.paths[slot],),
        params=capture.work.identity(slot),
        in_order=True,
        label=" ".join(filter(None, words)),
    )


def _draw(out: OutputDir, readings: Path) -> None:
    """A picture of the temperature log. It is a log too, no product: drawn after each run, whatever its end."""
    from darkpipe.report.canvas import save_png
    from darkpipe.report.temperature import temperature_figure
    from hardware.temperature_log import read_temperature_log

    try:
        table = read_temperature_log(readings)
        if not np.isfinite(np.ma.filled(table["temperature_c"].astype(float), np.nan)).any():
            return  # a camera without a thermometer
        figure = temperature_figure(table)
        replace_file(out.temperature_picture(readings), lambda stream: save_png(figure, stream))
    except PipelineError as error:
        log.warning("the temperature log could not be drawn: %s", error)


def list_cameras() -> list[str]:
    """The cameras that answer on this network, a line each.

    Raises
    ------
    CameraError
        if none does.
    """
    from hardware.discovery import find_cameras
    from hardware.errors import CameraError

    found = find_cameras()
    if not found:
        raise CameraError(
            "no ASCOM Alpaca camera answers on this network",
            where="UDP port 32227",
            do="Start its server, or name it: --camera_address HOST:PORT (some servers do not answer to discovery)",
        )
    width = max(len(camera.address) for camera in found)
    return [f"{c.address:<{width}}  camera {c.device_number}  {c.name}  ({c.server})" for c in found]
