"""Step 13: the dark of any EM gain and exposure from noise maps -> em_darks/synthetic_dark_*.fits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from darkpipe.errors import SettingsError
from darkpipe.files.layout import ModelDir, OutputDir, em_setting_name
from darkpipe.files.noise_map_files import MAPS, read_noise_maps, stack_rows, write_em_dark
from darkpipe.jobs.contract import Job
from darkpipe.science.em_darks import synthesised_dark, within_range
from steps.settings.step13_synthetic_noise_map_dark import NAME as NAME
from steps.settings.step13_synthetic_noise_map_dark import Settings as Settings

VERSION = 1

log = logging.getLogger("darkpipe")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job.

    Raises
    ------
    SettingsError
        without an EM gain and an exposure.
    ProductError
        when there are no noise maps.
    """
    gain, exposure = settings.em_gain, settings.exptime_single_s
    if gain is None or exposure is None:
        raise SettingsError("a dark needs both --em_gain and --exptime_single")
    maps = ModelDir.with_noise_maps(settings.model_dir or out.model.path).noise_maps
    stacks = stack_rows(maps["F"])
    gains, times = [s.em_gain for s in stacks], [s.exposure_s for s in stacks]
    if not (within_range(gain, gains) and within_range(exposure, times)):
        log.warning(
            "outside what was calibrated (EM gain %g to %g, %g to %g s), extrapolated and flagged so",
            min(gains), max(gains), min(times), max(times),
        )  # fmt: skip
    name = em_setting_name(gain, exposure)
    target = settings.output or out.em_dark("synthetic", name, settings.full_frame)
    params = {
        "em_gain": gain,
        "exposure_s": exposure,
        **settings.model_dump(include={"full_frame", "errors"}),
    }
    inputs = tuple(maps[letter] for letter in MAPS)
    yield [Job(synthesize, inputs, (target,), params, requested=True, label=f"dark from noise maps {name}")]


def synthesize(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    em_gain: float,
    exposure_s: float,
    full_frame: bool,
    errors: Literal["covariance", "independent"],
) -> dict[Path, str]:
    """F/g + C + t D, with its error."""
    maps = read_noise_maps(dict(zip(MAPS, inputs, strict=True)))
    dark = synthesised_dark(maps, em_gain, exposure_s, full_frame=full_frame, errors=errors)
    return {outputs[0]: write_em_dark(outputs[0], dark, "noise maps", [path.name for path in inputs])}
