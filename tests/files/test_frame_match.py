"""Which frames a model is for, and which part of its frame a sub-frame shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from darkpipe.errors import FrameError
from darkpipe.files.frame_match import Window, window_of
from darkpipe.files.headers import FrameInfo, configuration_name

INFO = FrameInfo(
    "light", camera="ZWO ASI2600MM Pro", serial="sA_1", gain_setting=100.0, offset_setting=50.0, em_gain=1.0,
    binning=(1, 1), readout_mode="High gain usb40", roworder="BOTTOM-UP", flip="Flip/Mirror",
)  # fmt: skip
SHAPE = (100, 160)
MODEL = configuration_name(INFO, *SHAPE)


@pytest.mark.parametrize("info", [INFO, FrameInfo("light"), FrameInfo("light", camera="g7", gain_setting=-3.0)])
def test_the_same_configuration_is_the_whole_frame(info: FrameInfo) -> None:
    name = configuration_name(info, *SHAPE)
    assert window_of(name, name) == Window(0, 0, *SHAPE)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"gain_setting": 200.0}, "gain 200 against 100"),
        ({"gain_setting": None}, "gain not stated against 100"),
        ({"offset_setting": 10.0}, "offset 10 against 50"),
        ({"em_gain": 300.0}, "EM gain 300 against 1"),
        ({"binning": (2, 2)}, "binning 2 against 1"),
        ({"binning": (1, 2)}, "binning 1x2 against 1"),
        ({"camera": "QHY600"}, "camera QHY600 against ZWO-ASI2600MM-Pro"),
        ({"serial": "sB"}, "serial number sB against sA-1"),
        ({"readout_mode": "Low noise"}, "read-out mode Low-noise against High-gain-usb40"),
        ({"roworder": ""}, "orientation not stated against bottomup"),
        ({"flip": ""}, "flip not stated against"),
    ],
)
def test_a_mismatch_names_both(change: dict[str, object], told: str) -> None:
    other = configuration_name(dataclasses.replace(INFO, **change), *SHAPE)
    with pytest.raises(FrameError) as caught:
        window_of(other, MODEL)
    text = str(caught.value)
    assert told in text
    assert other in text
    assert MODEL in text
    assert ";" not in text.split(told)[1]  # nothing else differs


def test_a_sub_frame_takes_its_window() -> None:
    part = configuration_name(dataclasses.replace(INFO, subframe=(30, 20)), 40, 50)
    window = window_of(part, MODEL)
    assert window == Window(20, 30, 40, 50)
    plane = np.arange(100 * 160).reshape(SHAPE)
    assert np.array_equal(window.of(plane), plane[20:60, 30:80])
    # the model's own frame may be a sub-frame too
    model = configuration_name(dataclasses.replace(INFO, subframe=(10, 15)), *SHAPE)
    assert window_of(part, model) == Window(5, 20, 40, 50)


@pytest.mark.parametrize(("origin", "shape"), [((120, 0), (50, 50)), ((0, 60), (50, 50)), ((0, 0), (101, 160))])
def test_what_lies_outside_is_refused(origin: tuple[int, int], shape: tuple[int, int]) -> None:
    part = configuration_name(dataclasses.replace(INFO, subframe=origin), *shape)
    with pytest.raises(FrameError, match="do not lie inside of 100 x 160"):
        window_of(part, MODEL)
    model = configuration_name(dataclasses.replace(INFO, subframe=(10, 10)), *SHAPE)
    whole = configuration_name(INFO, 50, 50)
    with pytest.raises(FrameError, match="do not lie inside"):
        window_of(whole, model)


def test_a_name_of_another_program_is_refused() -> None:
    with pytest.raises(FrameError, match="no configuration"):
        window_of("something", MODEL)
