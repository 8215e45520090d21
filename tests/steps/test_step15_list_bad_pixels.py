"""Lists of bad pixels beside the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers import CONSTANT, STUCK_HIGH, STUCK_LOW, Campaign, labels, planes, products, run, run_well

from darkpipe.errors import SettingsError
from darkpipe.science.flags import DQ, MODEL_INVALID

SECTION = "bad_pixels"


def by_siril(campaign: Campaign) -> set[tuple[int, int]]:
    """(row, col) of the pixels in the list for Siril."""
    rows = planes(campaign.model / "hot_pixel_mask.fits")["DQ"].shape[0]
    lines = (campaign.model / "bad_pixels_siril.lst").read_text().splitlines()
    words = [line.split() for line in lines if not line.startswith("#")]
    assert all(word[0] == "P" and word[3] in "HC" for word in words)
    return {(rows - 1 - int(y), int(x)) for _, x, y, _ in words}


def by_bits(campaign: Campaign, bits: int) -> set[tuple[int, int]]:
    dq = planes(campaign.model / "hot_pixel_mask.fits")["DQ"]
    dq = dq | planes(campaign.model / "two_component" / "status_map.fits")["DQ"]
    return {(int(row), int(col)) for row, col in np.argwhere(dq & bits)}


def list_again(campaign: Campaign, **settings: Any) -> list[str]:
    report = run(campaign, chosen={"from_step": 15}, **{SECTION: settings})
    report.raise_for_failure()
    return labels(report)


def test_a_full_run_lists_what_no_dark_corrects(plain: Campaign) -> None:
    listed = by_siril(plain)
    assert listed == by_bits(plain, int(MODEL_INVALID))
    assert {STUCK_HIGH, STUCK_LOW, CONSTANT} <= listed
    assert len(listed) < plain.sensor.hot.sum()  # hot pixels are corrected by their dark
    text = (plain.model / "bad_pixels_siril.lst").read_text()
    assert f"P {STUCK_HIGH[1]} {47 - STUCK_HIGH[0]} " in text
    assert "dead, fit_failed, nonlinear, saturated, unstable" in text
    columns = (plain.model / "bad_pixels_pixinsight.txt").read_text().splitlines()
    assert f"Col {STUCK_LOW[1]} {STUCK_LOW[0]} {STUCK_LOW[0]}" in columns


def test_the_bits_are_a_setting(work: Campaign) -> None:
    before = products(work.out)
    assert list_again(work) == []
    assert list_again(work, bits=["hot", "unstable"]) == ["lists of bad pixels"]
    assert by_siril(work) == by_bits(work, int(DQ.HOT | DQ.UNSTABLE)) > by_bits(work, int(DQ.UNSTABLE))
    assert list_again(work) == ["lists of bad pixels"]
    assert products(work.out) == before
    with pytest.raises(SettingsError, match="bits"):
        list_again(work, bits=["lukewarm"])


def test_the_lists_go_with_the_model(work: Campaign) -> None:
    run_well(work, "fit_2d_model", fit_dark_model={"exclude_temperatures_c": [0.0]})
    assert by_siril(work) == by_bits(work, int(MODEL_INVALID))
