"""Pixels that stand for their kinds, against the truth that they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import CELLS, Campaign, planes, table

from darkpipe.files.sample_pixels import SHARES, chosen_pixels, read_sample_pixels
from darkpipe.science.flags import DQ


def test_each_kind_has_its_pixels() -> None:
    signal = np.arange(100, dtype=np.float32).reshape(10, 10)
    dq = np.zeros((10, 10), np.uint16)
    dq[9] = DQ.HOT
    dq[8] = DQ.WARM
    dq[9, 9] |= DQ.SATURATED
    dq[0] = DQ.DEAD
    signal[1] = np.nan

    def bands():
        return [(first, signal[first : first + 3], dq[first : first + 3]) for first in range(0, 10, 3)]

    assert chosen_pixels(bands) == [
        ("bulk", 3, 8), ("bulk", 6, 8), ("warm", 8, 3), ("warm", 8, 8), ("hot", 9, 2), ("hot", 9, 7),
    ]  # fmt: skip
    dq[:] = DQ.FIT_FAILED
    assert chosen_pixels(bands) == []
    dq[5, 5] = DQ.HOT
    assert chosen_pixels(bands) == [("hot", 5, 5)]


def test_the_height_of_bands_changes_nothing_and_equal_pixels_go_by_place() -> None:
    random = np.random.default_rng(6)
    signal = np.rint(random.normal(0, 2, (60, 40))).astype(np.float32)
    signal[random.random(signal.shape) < 0.1] = np.nan
    dq = random.choice(np.array([0, int(DQ.HOT), int(DQ.WARM), int(DQ.DEAD)], np.uint16), signal.shape)

    def bands(height: int):
        return lambda: [(k, signal[k : k + height], dq[k : k + height]) for k in range(0, 60, height)]

    found = chosen_pixels(bands(60))
    assert found == chosen_pixels(bands(7)) == chosen_pixels(bands(1))
    for kind, flag in (("bulk", 0), ("warm", int(DQ.WARM)), ("hot", int(DQ.HOT))):
        places = np.flatnonzero((dq == flag) & np.isfinite(signal))
        order = places[np.argsort(signal.ravel()[places], kind="stable")]
        expected = [divmod(int(order[int(share * order.size)]), 40) for share in SHARES]
        assert [(row, col) for k, row, col in found if k == kind] == expected


def test_masters_and_model_of_a_pixel_are_those_of_the_frames(reported: Campaign) -> None:
    path = reported.out / "evaluation" / "sample_pixels.ecsv"
    pixels = read_sample_pixels(path, "over exposure")
    assert [p["kind"] for p in pixels] == ["bulk", "bulk", "warm", "warm", "hot", "hot"]
    rows = table(path)
    for row, col in {(int(r["row"]), int(r["col"])) for r in rows}:
        mine = rows[(rows["row"] == row) & (rows["col"] == col)]
        for temperature, exposure in CELLS:
            found = mine[(mine["what"] == "measured") & (mine["temperature_c"] == temperature)]
            found = found[np.isclose(found["exposure_s"], exposure, rtol=1e-3)]
            master = planes(reported.out / "dark_masks_by_temp" / f"darks_T{temperature:.1f}C_texp{exposure:g}s.fits")
            assert found["signal_adu"][0] == pytest.approx(master["SCI"][row, col], rel=1e-5)
            assert found["error_adu"][0] == pytest.approx(master["ERR"][row, col], rel=1e-3)
            made = planes(reported.out / "synthetic" / f"synthetic_dark_T{temperature:.1f}C_texp{exposure:g}s.fits")
            curve = mine[(mine["what"] == "over exposure") & (mine["temperature_c"] == temperature)]
            between = np.interp(np.log(exposure), np.log(curve["exposure_s"]), curve["signal_adu"])
            assert between == pytest.approx(made["SCI"][row, col], rel=0.03, abs=0.5)


def test_curves_follow_the_axis_that_is_asked_for(reported: Campaign) -> None:
    path = reported.out / "evaluation" / "sample_pixels.ecsv"
    temperatures, exposures = (sorted({cell[k] for cell in CELLS}) for k in (0, 1))
    for pixel in read_sample_pixels(path, "over exposure"):
        assert [level for level, _, _ in pixel["curves"]] == temperatures
        assert all((np.diff(signal) > 0).all() for _, _, signal in pixel["curves"] if pixel["kind"] == "hot")
    for pixel in read_sample_pixels(path, "over temperature"):
        assert np.allclose([level for level, _, _ in pixel["curves"]], exposures, rtol=1e-3)
        assert all((np.diff(along) > 0).all() for _, along, _ in pixel["curves"])
