"""Step 15: the bad pixels of a model as lists that other programs read -> dark_model/bad_pixels_*."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from darkpipe.files.bad_pixels import bits_of, read_bad_pixels, write_pixinsight_list, write_siril_list
from darkpipe.files.frame_match import is_bottom_up
from darkpipe.files.layout import OutputDir
from darkpipe.files.model_maps import read_description
from darkpipe.jobs.contract import Job
from steps.settings.step15_list_bad_pixels import NAME as NAME
from steps.settings.step15_list_bad_pixels import Settings as Settings

VERSION = 1


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job for all lists.

    Raises
    ------
    ProductError
        when there is no model.
    """
    description = read_description(out.model.description)
    chosen = description.find(description.chosen)
    inputs = (out.model.hot_pixel_mask, out.model.status_map(chosen.name, chosen.cell))
    bits = sorted(set(settings.bits))
    params = {"bits": bits, "configuration": description.configuration, "model": chosen.key}
    lists = out.model.bad_pixels
    yield [Job(write_lists, inputs, (lists["siril"], lists["pixinsight"]), params, label="lists of bad pixels")]


def write_lists(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, bits: list[str], configuration: str, model: str
) -> dict[Path, str]:
    """The pixels with one of the bits, by mask and fit together."""
    bad = read_bad_pixels(inputs, bits_of(bits))
    head = f"darkpipe: {', '.join(bits)}; {configuration}, model {model}"
    return {
        outputs[0]: write_siril_list(outputs[0], bad, head),
        outputs[1]: write_pixinsight_list(outputs[1], bad, is_bottom_up(configuration)),
    }
