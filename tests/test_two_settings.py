"""Runs with different settings into one output directory: one at a time, and what the last one makes is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import PLAIN, Campaign, call, flags, once_the_survey_is_done, products, run_well, write_yaml

from darkpipe.errors import BusyError

FIRST: dict[str, Any] = {
    "fit_dark_model": {"model": "exp_2d"},
    "subtract_bias": {"bias_model": None},
    "group_darks": {"temperature_tolerance_c": 0.4},
}
SECOND: dict[str, Any] = {
    "fit_dark_model": {"model": "two_component", "use_prior": False},
    "mask_hotpixels": {"sigma": 4.0},
}


def settled(campaign: Campaign, sections: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """What these settings alone make of the frames."""
    alone = campaign.copied_to(folder)
    for path in sorted(alone.out.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run_well(alone, **sections)
    return products(alone.out)
