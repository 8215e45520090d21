"""The temperature that a header gives a frame, and the table of calibrated frames."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers import table

from darkpipe.files.calibrated_table import temperature_of_header, written_table

NAN = math.nan


@pytest.mark.parametrize(
    ("reading", "wanted", "value", "source"),
    [
        (-10.2, -10.0, -10.0, "set point"),
        (-9.5, -10.0, -10.0, "set point"),
        (-9.4, -10.0, -9.4, "measured"),
        (0.0, 0.0, 0.0, "set point"),
        (0.0, None, 0.0, "measured"),
        (3.5, NAN, 3.5, "measured"),
        (None, -10.0, -10.0, "set point"),
        (NAN, NAN, None, ""),
        (None, None, None, ""),
    ],
)
def test_the_set_point_counts_while_the_camera_is_regulated(
    reading: float | None, wanted: float | None, value: float | None, source: str
) -> None:
    found = temperature_of_header(reading, wanted, 0.5, 0.1)
    assert (found.value_c, found.source) == (value, source)


def test_frames_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    done = [{"file": "b.fits", "dark_c": -5.0, "note": "", "kind": "light", "source": "measured", "model": "exp_2d"}]
    left = [{"file": "a.fits", "kind": "flat", "reason": "no temperature in its header"}]
    written_table(tmp_path / "t.ecsv", done, left)
    rows = table(tmp_path / "t.ecsv")
    assert list(rows["file"]) == ["a.fits", "b.fits"]
    assert list(rows["status"]) == ["left out", "calibrated"]
    assert rows[0]["reason"] == "no temperature in its header"
    assert rows[1]["dark_c"] == -5.0
    assert math.isnan(rows[0]["dark_c"])
