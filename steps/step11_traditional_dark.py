"""Step 11: the master dark of each EM gain and exposure that was taken -> em_darks/traditional_dark_*.fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from darkpipe.files.em_frames import EmFrame, read_undivided
from darkpipe.files.em_table import (
    EmStack,
    EmTable,
    frame_data,
    frames_from,
    input_names,
    read_em_table,
    regions_data,
    regions_from,
)
from darkpipe.files.layout import OutputDir
from darkpipe.files.noise_map_files import write_em_dark
from darkpipe.jobs.contract import Job
from darkpipe.science.em_darks import traditional_dark
from darkpipe.science.masked_mean import MeanAccumulator
from steps.settings.step11_traditional_dark import NAME as NAME
from steps.settings.step11_traditional_dark import Settings as Settings

VERSION = 2


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job a stack.

    Raises
    ------
    ProductError
        without the table of frames.
    DesignError
        when no frame has the wished EM gain and exposure.
    """
    table = read_em_table(out.em_frames)
    wished = settings.em_gain is not None or settings.exptime_single_s is not None
    stacks = table.chosen(settings.em_gain, settings.exptime_single_s)
    yield [_job(out, table, stack, settings, wished) for stack in stacks]


def _job(out: OutputDir, table: EmTable, stack: EmStack, settings: Settings, wished: bool) -> Job:
    params = {
        "em_gain": stack.em_gain,
        "exposure_s": stack.exposure_s,
        "frames": [frame_data(frame) for frame in stack.frames],
        "regions": regions_data(table.regions),
        **settings.model_dump(include={"full_frame", "frame_errors", "scatter"}),
    }
    target = out.em_dark("traditional", stack.name, settings.full_frame)
    inputs = tuple(frame.path for frame in stack.frames)
    return Job(combine, inputs, (target,), params, requested=wished, label=f"traditional dark {stack.name}")


def combine(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    em_gain: float,
    exposure_s: float,
    frames: list[list[Any]],
    regions: Mapping[str, Any],
    full_frame: bool,
    frame_errors: Literal["common", "independent", "ignore"],
    scatter: Literal["population", "pixel"],
) -> dict[Path, str]:
    """The mean of one stack, one frame in memory at a time."""
    detector = regions_from(regions)
    taken: list[EmFrame] = frames_from(inputs, detector.shape, frames)
    accumulator = MeanAccumulator(detector.shape)
    for frame in taken:
        accumulator.add(*read_undivided(frame))
    stack = accumulator.result()
    dark = traditional_dark(
        stack, detector, em_gain=em_gain, exposure_s=exposure_s, divided=False, full_frame=full_frame,
        frame_errors=frame_errors, scatter=scatter,
    )  # fmt: skip
    count = stack.count if full_frame else stack.count[detector.image.slices]
    enough = bool((2 * stack.count[~detector.telemetry] >= stack.frames).all())
    cards = [
        ("NCOMBINE", stack.frames, "frames"),
        ("ENOUGHRN", enough, "half of the frames are unmasked in every pixel"),
    ]
    names = input_names(inputs)
    digest = write_em_dark(outputs[0], dark, "mean of a stack", names, cards=cards, planes={"COUNT": count})
    return {outputs[0]: digest}


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Where the darks are."""
    folder = out.em_dark("traditional", "any", full_frame=False).parent
    return [("products", f"traditional darks: {folder}")]
