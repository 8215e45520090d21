"""Which temperature a dark is made for, and what is said where header and hot pixels disagree."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import Campaign

from darkpipe.errors import FrameError
from darkpipe.files.calibrating import Asked, _Kept, _Ready, common_error, decide_temperature
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import OutputDir
from darkpipe.files.model_maps import read_description
from darkpipe.science.calibration import Dark
from darkpipe.science.thermometer import NOTHING, Reading

ASKED = Asked(
    key="two_component", window=Window(0, 0, 10, 10), exposure_s=100.0, temperature_c=-10.0, temperature_sigma_c=0.1,
    temperature_source="set point", reading_c=-10.1, set_point_c=-10.0, pedestal_adu=0.0, saturation_raw=65535.0,
    use_thermometer=False, worst_c=1.0, differs_c=1.0, repair=False, residual=False,
)  # fmt: skip
PATH = Path("m31.fits")


def reading(temperature_c: float, error_c: float = 0.05) -> Reading:
    return Reading(temperature_c, error_c, 300, 1.0, 0.1)


@pytest.mark.parametrize(
    ("hot", "said"),
    [
        (reading(-9.2), False),
        (reading(-8.5), True),
        (reading(-11.5), True),
        (reading(-8.5, 0.6), False),  # 1.5 °C may be chance
        (NOTHING, False),
    ],
)
def test_a_trusted_header_is_checked(hot: Reading, said: bool) -> None:
    found = decide_temperature(hot, ASKED, PATH)
    assert (found.value_c, found.sigma_c, found.source) == (-10.0, 0.1, "set point")
    assert bool(found.note) == said
    assert not said or f"{hot.temperature_c:.2f}" in found.note


def test_the_thermometer_is_followed_where_it_can_tell() -> None:
    asked = dataclasses.replace(ASKED, use_thermometer=True)
    found = decide_temperature(reading(-7.0), asked, PATH)
    assert (found.value_c, found.sigma_c, found.source) == (-7.0, 0.05, "hot pixels")
    assert "the header -10.00 °C" in found.note
    for poor in (reading(-7.0, 1.5), NOTHING):
        found = decide_temperature(poor, asked, PATH)
        assert (found.value_c, found.source) == (-10.0, "set point")
        assert "that of the header is taken" in found.note


def test_without_a_header_the_hot_pixels_must_tell() -> None:
    silent = dataclasses.replace(ASKED, use_thermometer=True, temperature_c=None, temperature_source="")
    assert decide_temperature(reading(0.0), silent, PATH).value_c == 0.0
    for hot, told in ((NOTHING, "not at all"), (reading(-7.0, 1.5), r"only to 1\.5 °C")):
        with pytest.raises(FrameError, match=told) as caught:
            decide_temperature(hot, silent, PATH)
        assert "m31.fits" in str(caught.value)


def test_the_common_error_falls_with_the_number_of_cells(plain: Campaign) -> None:
    description = read_description(OutputDir(plain.out, "").model.description)
    model = dataclasses.replace(description.find("two_component"), relative_error=0.02, cells=8)
    assert common_error(model) == pytest.approx(0.02 * math.sqrt(2 / 8))
    assert common_error(dataclasses.replace(model, cells=1)) == pytest.approx(0.02)


def band(rows: int) -> _Ready:
    """A band of a dark that takes 16 bytes a row."""
    plane, nothing = np.zeros((rows, 1), np.float32), np.empty((0, 0), np.float32)
    dark = Dark(plane, nothing, nothing, plane, nothing, np.zeros((rows, 2), np.uint16))
    return _Ready(dark, plane, nothing, nothing, 0)


def test_of_a_dark_that_is_too_large_as_much_is_kept_as_there_is_room_for() -> None:
    made: list[tuple[str, int]] = []
    kept = _Kept(100 * 16)

    def make(name: str, first: int) -> _Ready:
        made.append((name, first))
        return band(30)

    def ask(name: str) -> None:
        for first in range(5):
            kept.get(name, first, partial(make, name, first))

    ask("a")
    assert made == [("a", k) for k in range(5)]
    made.clear()
    ask("a")
    assert made == [("a", 3), ("a", 4)]  # the first three are there
    made.clear()
    ask("b")  # another dark takes their place
    ask("b")
    assert made == [*(("b", k) for k in range(5)), ("b", 3), ("b", 4)]
    made.clear()
    ask("a")
    assert made == [("a", k) for k in range(5)]
