"""The page and the words of a planned campaign."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkpipe.report.campaign import campaign_figure, plan_lines
from darkpipe.report.canvas import save_png

META: dict[str, Any] = {
    "model": "exp_2d",
    "carried": ["exp_2d", "two_component"],
    "cells": [[-10.0, 30.0, 5], [-10.0, 120.0, 5], [0.0, 30.0, 5], [0.0, 120.0, 10]],
    "biases": 20,
    "hours": 2.5,
    "target": None,
    "pixels": [
        {"name": "bulk", "e_s": 0.1, "temperature_c": 0.0, "doubling_c": 5.5},
        {"name": "hot", "e_s": 5.0, "temperature_c": 0.0, "doubling_c": 7.0},
    ],
}


def errors(temperatures: tuple[float, ...], exposures: tuple[float, ...], hot: float = 10.0) -> list[dict[str, Any]]:
    return [
        {"pixel": kind, "temperature_c": t, "exposure_s": e, "inside": t <= 0, "signal_adu": 3 * e,
         "error_adu": size * e, "shared_adu": 0.0, "frame_noise_adu": 5.0, "error_e": 0.8 * size * e}
        for kind, size in (("bulk", 0.02), ("hot", 0.02 * hot))
        for t in temperatures
        for e in exposures
    ]  # fmt: skip


def change(name: str, what: str, percent: float, hours: float) -> dict[str, Any]:
    ratio = {"bulk_error_per_frame_noise": 0.1, "hot_error_per_frame_noise": 0.5}
    return {
        "change": name,
        "what": what,
        "frames": 65,
        "hours": hours,
        "bulk_percent": percent,
        "hot_percent": percent / 2,
    } | ratio


CHANGES = [
    change("plan", "the plan", 0.0, 2.5),
    change("everything", "twice the frames of everything", -28.0, 4.5),
    change("half", "half the frames of everything", 40.0, 1.5),
    change("biases", "twice the biases", -6.0, 2.6),
    change("without exposure", "without 30 s", 0.5, 2.0),
    change("without temperature", "without 0 °C", np.nan, 1.5),
    change("cell", "twice the darks of 0 °C, 120 s", -12.0, 2.8),
    change("cell", "twice the darks of 0 °C, 30 s", -10.0, 2.6),
]


def drawn(*args: Any) -> np.ndarray:
    out = BytesIO()
    save_png(campaign_figure(*args), out)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB"))


def test_the_page_shows_both_pixels_and_is_the_same_each_time() -> None:
    rows = errors((-15.0, -10.0, -5.0, 0.0, 5.0), (20.0, 30.0, 60.0, 120.0, 180.0))
    page = drawn(rows, CHANGES, META)
    left, right = page[150:500, 120:600], page[150:500, 880:1360]
    assert left.std() > 20
    assert right.std() > 20
    np.testing.assert_array_equal(page, drawn(rows, CHANGES, META))


@pytest.mark.parametrize("grid", [((-10.0,), (20.0, 60.0, 120.0)), ((-10.0, 0.0), (60.0,))])
def test_one_axis_is_a_line(grid: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    assert drawn(errors(*grid), CHANGES[:1], META).std() > 5


def test_a_page_without_errors_is_refused() -> None:
    with pytest.raises(ValueError, match="no errors"):
        campaign_figure([], CHANGES, META)


def test_the_words_tell_cost_errors_and_what_pays() -> None:
    text = "\n".join(plan_lines(errors((-10.0, 0.0, 5.0), (30.0, 120.0)), CHANGES, META))
    assert "65 frames, about 2 h 30 min of camera time" in text
    assert "5 to 10 darks a cell, 20 biases a temperature" in text
    assert "worst inside: 1.92 e- of 288 e- at -10 °C, 120 s" in text
    assert "on the whole 10 % of the noise of one frame" in text
    assert "makes the noise of a dark frame 12 % larger" in text  # of the hot pixel: sqrt(1 + 0.5²)
    assert "twice the frames of everything: bulk -28.0 %, hot -14.0 % (2 h 00 min more)" in text
    assert "most for its time, of single cells: twice the darks of 0 °C, 30 s" in text
    assert "without 30 s: bulk +0.5 %, hot +0.2 % (30 min less), so it could be left out" in text
    assert "without 0 °C: this model cannot be fitted" in text


def test_the_dark_that_matters_most_is_named() -> None:
    text = "\n".join(plan_lines(errors((-10.0, 0.0), (30.0, 120.0)), CHANGES, {**META, "target": [-5.0, 60.0]}))
    assert "at -5 °C, 60 s 50 % of the noise of one frame" in text
    assert "what more frames would do to the error there" in text


def test_a_pixel_that_is_always_full_is_said() -> None:
    rows = [{**r, "error_e": np.nan} if r["pixel"] == "hot" else r for r in errors((-10.0, 0.0), (30.0, 120.0))]
    assert any("saturated in too many cells" in line for line in plan_lines(rows, CHANGES, META))
