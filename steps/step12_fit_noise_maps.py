"""Step 12: F, C and D (fixed pattern, clock-induced charge, dark current) of an EM-CCD -> dark_model/noise_maps/."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from darkpipe.errors import PipelineError
from darkpipe.files.em_frames import read_undivided
from darkpipe.files.em_table import frame_data, frames_from, input_names, read_em_table, regions_data, regions_from
from darkpipe.files.layout import OutputDir
from darkpipe.files.noise_map_files import map_lines, mean_lines, write_noise_maps
from darkpipe.jobs.contract import Job
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, check_design
from steps.settings.step12_fit_noise_maps import NAME as NAME
from steps.settings.step12_fit_noise_maps import Settings as Settings

VERSION = 1

log = logging.getLogger("darkpipe")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job. Whether the stacks can tell the maps apart is looked at before a frame is read.

    Raises
    ------
    ProductError
        without the table of frames.
    DesignError
        when the stacks are too few, or cannot tell F, C and D apart.
    """
    table = read_em_table(out.em_frames)
    gains, times = (np.array([getattr(s, name) for s in table.stacks]) for name in ("em_gain", "exposure_s"))
    check_design(gains, times)
    frames = [frame for stack in table.stacks for frame in stack.frames]
    params = {
        "stacks": [[s.em_gain, s.exposure_s, len(s.frames)] for s in table.stacks],
        "frames": [frame_data(frame) for frame in frames],
        "regions": regions_data(table.regions),
        "options": settings.model_dump(),
    }
    outputs = tuple(out.model.noise_maps.values())
    yield [Job(fit, tuple(f.path for f in frames), outputs, params, label=f"noise maps of {len(frames)} frames")]


def fit(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    stacks: list[tuple[float, float, int]],
    frames: list[list[Any]],
    regions: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[Path, str]:
    """The maps from the frames, one frame in memory at a time."""
    detector = regions_from(regions)
    calibration = NoiseMapCalibration(detector, NoiseMapOptions(**options))
    waiting = iter(frames_from(inputs, detector.shape, frames))
    for number, (em_gain, exposure_s, count) in enumerate(stacks, 1):
        log.info("noise maps: stack %d of %d, EM gain %g, %g s", number, len(stacks), em_gain, exposure_s)
        for _ in range(count):
            frame = next(waiting)
            pixels, masks, errors = read_undivided(frame)
            try:
                calibration.add(pixels, em_gain, exposure_s, masks, errors)
            except PipelineError as error:
                raise type(error)(error.what, where=frame.path, do=error.do) from error
    paths = dict(zip(("F", "C", "D"), outputs, strict=True))
    return write_noise_maps(paths, calibration.fit(), input_names(inputs))


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Figures of the calibration, and where the maps are."""
    maps = out.model.noise_maps
    return [*map_lines(maps["F"]), *mean_lines(maps), ("products", f"noise maps: {maps['F'].parent}")]
