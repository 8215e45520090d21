"""Cells and master darks against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simulated
from astropy.io import fits
from helpers import (
    CAMPAIGN,
    CELL_NAMES,
    CELLS,
    CONSTANT,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    assert_pulls,
    header,
    inputs_of,
    make_campaign,
    planes,
    run_well,
    sound,
    table,
    unsaturated,
)

from darkpipe.science.flags import DQ
from steps.step3_group_darks_by_temp_exp import VERSION

UNTIL_3 = {"until_step": 3}


def master(campaign: Campaign, name: str) -> Path:
    return campaign.out / "dark_masks_by_temp" / f"darks_{name}.fits"


def test_the_cells_are_those_that_were_taken(finished: Campaign) -> None:
    groups = table(finished.out / "groups.ecsv")
    assert list(groups["cell"]) == CELL_NAMES
    assert list(zip(groups["temperature_c"], groups["exposure_s"], strict=True)) == CELLS
    assert set(groups["frames"]) == {CAMPAIGN.n_darks}
    assert set(groups["temperature_source"]) == {"set point"}
    frames = table(finished.out / "group_frames.ecsv")
    for name, cell in zip(CELL_NAMES, CELLS, strict=True):
        mine = [str(r["file"]) for r in frames if r["cell"] == name]
        assert mine == [p.name for p in finished.frames_of(*cell)]
    assert sorted(p.name for p in (finished.out / "dark_masks_by_temp").iterdir()) == sorted(
        f"darks_{name}.fits" for name in CELL_NAMES
    )


@pytest.mark.parametrize(("name", "cell"), list(zip(CELL_NAMES, CELLS, strict=True)))
def test_master_dark_is_the_true_signal(finished: Campaign, name: str, cell: tuple[float, float]) -> None:
    path = master(finished, name)
    made = planes(path)
    inside = sound() & unsaturated(finished.sensor, *cell)
    assert_pulls(made["SCI"], finished.sensor.signal_adu(*cell), made["ERR"], inside, 0.1)
    np.testing.assert_array_equal(made["COUNT"][inside] + made["REJECTED"][inside], CAMPAIGN.n_darks)
    assert np.median(made["CHI2"][inside]) == pytest.approx(0.79, abs=0.15)  # median of chi²(3)/3
    cards = header(path)
    assert (cards["IMAGETYP"], cards["CCD-TEMP"], cards["EXPTIME"]) == ("Master Dark", *cell)
    assert (cards["SET-TEMP"], cards["CELL"], cards["BIAS"]) == (cell[0], name, f"T{cell[0]:.1f}C")
    assert (cards["NCOMBINE"], cards["EGAIN"]) == (CAMPAIGN.n_darks, 0.8)
    assert header(path, "SCI")["BUNIT"] == "adu"
    assert inputs_of(path) == [p.name for p in finished.frames_of(*cell)]


def test_pixels_without_a_valid_sample_have_no_error_and_a_bit(finished: Campaign) -> None:
    made = planes(master(finished, "T0.0C_texp300s"))
    full = ~unsaturated(finished.sensor, 0.0, 300.0)
    assert full.sum() > 3
    beyond = finished.sensor.bias_adu(0.0) + finished.sensor.signal_adu(0.0, 300.0) > 80_000
    assert (made["DQ"][beyond] & DQ.SATURATED).all()
    assert not made["COUNT"][beyond].any()
    assert not np.isfinite(made["ERR"][beyond]).any()
    for where, bit in ((STUCK_HIGH, DQ.SATURATED), (STUCK_LOW, DQ.CLIPPED_LOW)):
        assert made["DQ"][where] & bit
        assert not np.isfinite(made["ERR"][where])
        assert np.isnan(made["SCI"][where])  # neither bias nor dark tells anything: never 0
    assert made["DQ"][STUCK_LOW] & DQ.NO_BIAS
    assert not made["DQ"][CONSTANT]


def test_the_master_says_which_step_and_version_made_it(finished: Campaign) -> None:
    cards = header(master(finished, CELL_NAMES[0]))
    assert "group_darks" in cards.values(), repr(cards)
    assert cards["STEPVERS"] == VERSION, repr(cards)


def test_cosmic_rays_do_not_reach_the_master(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, temperatures_c=(-10.0,), exposures_s=(100.0,), n_darks=6, n_biases=8, cosmic_rate_cm2_s=3.0
    )
    run_well(campaign, chosen=UNTIL_3)
    made = planes(master(campaign, "T-10.0C_texp100s"))
    cold = ~campaign.sensor.hot
    darks = [s for s in simulated.shots(campaign.sensor.recipe) if s.kind == "dark"]
    hit = np.any([campaign.sensor.expose(shot).cosmic for shot in darks], axis=0)
    assert hit.sum() > 50
    assert made["REJECTED"].sum() > 0.7 * hit.sum()
    pull = ((made["SCI"] - campaign.sensor.signal_adu(-10.0, 100.0)) / made["ERR"])[cold]
    assert np.std(pull) < 1.15
    assert np.abs(pull).max() < 8


def test_one_frame_a_cell_is_a_master_of_one(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, temperatures_c=(-10.0,), exposures_s=(30.0,), n_darks=1)
    run_well(campaign, chosen=UNTIL_3)
    path = master(campaign, "T-10.0C_texp30s")
    made = planes(path)
    assert header(path)["NCOMBINE"] == 1
    assert set(np.unique(made["COUNT"])) <= {0, 1}
    assert "REJECTED" not in made
    assert (made["DQ"] & DQ.FEW_SAMPLES).all()
    good = unsaturated(campaign.sensor, -10.0, 30.0)
    assert_pulls(made["SCI"], campaign.sensor.signal_adu(-10.0, 30.0), made["ERR"], good, 0.12)


def test_jitter_makes_one_cell_named_by_its_set_point(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, temperatures_c=(-10.0, 0.0), exposures_s=(30.0,), temperature_jitter_k=0.15, thermometer_step_k=0.1
    )
    run_well(campaign, chosen=UNTIL_3)
    assert list(table(campaign.out / "groups.ecsv")["cell"]) == ["T-10.0C_texp30s", "T0.0C_texp30s"]


def test_without_set_points_a_cell_keeps_its_first_name(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, temperatures_c=(-10.04,), exposures_s=(30.0,), thermometer_step_k=0.01, temperature_jitter_k=0.02
    )
    for path in campaign.raw.glob("*.fits"):
        fits.delval(path, "SET-TEMP")
    run_well(campaign, chosen=UNTIL_3)
    (name,) = table(campaign.out / "groups.ecsv")["cell"]
    assert name == "T-10.0C_texp30s"
    for number in range(6):  # the mean moves over the border of a tenth
        path = campaign.add_frame(-10.04, 30.0, 50 + number)
        fits.setval(path, "CCD-TEMP", value=-10.3)
        fits.delval(path, "SET-TEMP")
    run_well(campaign, chosen=UNTIL_3)
    groups = table(campaign.out / "groups.ecsv")
    assert list(groups["cell"]) == [name]
    assert groups["temperature_c"][0] < -10.15
    assert groups["frames"][0] == 10


def test_exposures_that_differ_by_a_millisecond_are_one_cell_and_others_not(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, temperatures_c=(-10.0,), exposures_s=(10.0, 10.5), n_darks=2)
    fits.setval(campaign.frames_of(-10.0, 10.0)[0], "EXPTIME", value=10.001)
    run_well(campaign, chosen=UNTIL_3)
    groups = table(campaign.out / "groups.ecsv")
    assert list(groups["frames"]) == [2, 2]
    assert [str(c).split("_")[1] for c in groups["cell"]] in (["texp10s", "texp10.5s"], ["texp10.0005s", "texp10.5s"])
