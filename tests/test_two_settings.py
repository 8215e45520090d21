"""Runs with different settings into one output directory: one at a time, and what the last one makes is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import PLAIN, Campaign, call, flags, once_the_survey_is_done, products, run_well, write_yaml

FIRST: dict[str, Any] = {
    "group_darks": {"kappa": 4.0},
    "mask_hotpixels": {"hot_sigma": 6.0},
    "fit_dark_model": {"model": "exp_2d"},
}
SECOND: dict[str, Any] = {
    "group_darks": {"kappa": 3.0},
    "mask_hotpixels": {"hot_sigma": 4.0},
    "fit_dark_model": {"model": "two_component"},
}


@pytest.fixture(scope="module")
def alone(plain: Campaign, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """What either makes of the frames in an output directory of its own."""
    found = []
    for sections in (FIRST, SECOND):
        campaign = empty(plain, tmp_path_factory.mktemp("alone"))
        run_well(campaign, **sections)
        found.append(products(campaign.out))
    return found


def empty(plain: Campaign, folder: Path) -> Campaign:
    """The frames, and nothing made of them yet."""
    campaign = plain.copied_to(folder / "campaign")
    campaign.out.rename(folder / "aside")
    return campaign


def by_command(campaign: Campaign, sections: dict[str, Any]) -> tuple[int, str]:
    config = write_yaml(campaign.root / "settings.yaml", {**PLAIN, **sections})
    done = call(*flags(campaign, "full", "--quiet", "--config", str(config)))
    return done.returncode, done.stderr


def test_the_second_of_two_at_once_is_refused_and_leaves_no_trace(
    plain: Campaign, tmp_path: Path, alone: list[dict[str, bytes]]
) -> None:
    campaign = empty(plain, tmp_path)
    ended: list[tuple[int, str]] = []
    with once_the_survey_is_done(lambda: ended.append(by_command(campaign, SECOND))):
        run_well(campaign, **FIRST)
    assert [code for code, _ in ended] == [75]
    assert "another run" in ended[0][1]
    assert products(campaign.out) == alone[0]


def test_one_after_the_other_the_last_one_counts(
    plain: Campaign, tmp_path: Path, alone: list[dict[str, bytes]]
) -> None:
    campaign = empty(plain, tmp_path)
    run_well(campaign, chosen={"until_step": 4}, **FIRST)  # masters and masks, but no model
    assert by_command(campaign, SECOND) == (0, "")
    assert products(campaign.out) == alone[1]
    run_well(campaign, chosen={"until_step": 5}, **FIRST)  # a model, but nothing made of it
    assert by_command(campaign, SECOND) == (0, "")
    assert products(campaign.out) == alone[1]
    run_well(campaign, **FIRST)
    assert products(campaign.out) == alone[0]
