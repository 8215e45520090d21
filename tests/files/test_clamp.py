"""The note on a clamped black level, from rows of frames."""

from __future__ import annotations

import numpy as np
import pytest
from made_frames import made_frame

from darkpipe.files.clamp import clamp_notes, note_clamp
from darkpipe.files.corrections import Levels, Tolerances, corrected_rows
from darkpipe.files.index import RawFrame
from darkpipe.files.masters import ReferenceValues

TOLERANCES = Tolerances(0.5, 0.01)
REFERENCE = ReferenceValues(1.0, 4.0, 0.8, "header", 60000.0, 0.0, -10.0)
TEMPERATURES = (-20.0, -10.0, 0.0)


def frames(clamped: bool) -> tuple[list[RawFrame], list[RawFrame]]:
    """Darks and biases of a sensor with bulk dark current, whose levels jump by 0.5 ADU from frame to frame."""
    rng = np.random.default_rng(1)
    darks, biases = [], []
    for t in TEMPERATURES:
        at = {"temperature_c": t, "set_point_c": t}
        biases += [
            made_frame(f"b{t}_{i}", kind="bias", exposure_s=0.0, median=1000 + 0.5 * rng.normal(), sigma=4.0, **at)
            for i in range(8)
        ]
        for exposure in (30.0, 100.0, 300.0):
            charge = 0.6 * exposure * 2 ** (t / 6.5)
            spread = float(np.sqrt(16.0 + charge / 0.8 + (0.25 * charge) ** 2))
            for i in range(5):
                level = 1000 + 0.5 * rng.normal() + (0.0 if clamped else charge)
                darks.append(made_frame(f"d{t}_{exposure}_{i}", exposure_s=exposure, median=level, sigma=spread, **at))
    return darks, biases


@pytest.mark.parametrize("clamped", [True, False])
def test_a_clamp_is_said_with_its_size(clamped: bool) -> None:
    darks, biases = frames(clamped)
    at = {f"T{t:.1f}C": t for t in TEMPERATURES}
    levels = {name: Levels(1000.0, (1000.0,) * 4) for name in at}
    table = corrected_rows(darks, TOLERANCES, REFERENCE, at, levels, None, 1.0, False)
    note_clamp(table, darks, biases, TOLERANCES, REFERENCE)
    assert ("clamp" in table.meta) == clamped
    assert len(clamp_notes(table.meta)) == len(table.meta["notes"]) == int(clamped)
    if clamped:
        assert table.meta["clamp"]["offset_sigma_adu"] == pytest.approx(0.5, rel=0.3)
        assert "clamp" in table.meta["notes"][0]


def test_without_bias_frames_nothing_can_be_told() -> None:
    darks, _ = frames(True)
    table = corrected_rows(darks, TOLERANCES, REFERENCE, {}, {}, None, 1.0, False)
    note_clamp(table, darks, [], TOLERANCES, REFERENCE)
    assert "clamp" not in table.meta
