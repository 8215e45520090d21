"""The mask of special pixels against the pixels that were made special."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import (
    BRIGHTEST,
    CELL_NAMES,
    CONSTANT,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    header,
    inputs_of,
    make_campaign,
    planes,
    run,
    run_well,
    sound,
    unsaturated,
)

from darkpipe.science.flags import DQ


def mask_of(campaign: Campaign) -> np.ndarray:
    return planes(campaign.model / "hot_pixel_mask.fits")["DQ"]


def test_the_hot_pixels_of_the_sensor_are_found(finished: Campaign) -> None:
    bits = mask_of(finished)
    sensor = finished.sensor
    hot = sensor.hot & sound()
    assert hot.sum() > 25
    assert (bits[hot] & (DQ.HOT | DQ.WARM)).all()
    assert np.mean((bits[hot] & DQ.HOT) != 0) > 0.95
    # of the others none is called hot whose true signal is not far above the population
    truth = sensor.signal_adu(0.0, 300.0)
    middle = np.median(truth)
    sigma = 1.4826 * np.median(np.abs(truth - middle))
    false = ((bits & DQ.HOT) != 0) & ~hot & sound()
    assert (truth[false] > middle + 4 * sigma).all()


def test_thresholds_are_those_of_the_reference_master(finished: Campaign) -> None:
    path = finished.model / "hot_pixel_mask.fits"
    cards = header(path)
    assert cards["REFCELL"] == BRIGHTEST
    assert (cards["CCD-TEMP"], cards["EXPTIME"]) == (0.0, 300.0)
    dark = planes(finished.out / "dark_masks_by_temp" / f"darks_{BRIGHTEST}.fits")
    signal = dark["SCI"][np.isfinite(dark["ERR"])]
    middle = np.median(signal)
    sigma = 1.4826 * np.median(np.abs(signal - middle))
    assert cards["MEDIAN"] == pytest.approx(middle, rel=1e-3)
    assert cards["SIGMA"] == pytest.approx(sigma, rel=0.02)
    assert cards["HOTABOVE"] == pytest.approx(cards["MEDIAN"] + 5 * cards["SIGMA"])
    assert cards["WARMABOV"] == pytest.approx(cards["MEDIAN"] + 3 * cards["SIGMA"])
    made = planes(path)
    named = np.isfinite(dark["ERR"]) & sound()
    limit = middle + 5 * np.maximum(sigma, dark["ERR"])
    np.testing.assert_array_equal((made["DQ"][named] & DQ.HOT) != 0, dark["SCI"][named] > limit[named])
    np.testing.assert_array_equal(made["SCI"], ((made["DQ"] & DQ.HOT) != 0).astype(np.uint8))
    assert inputs_of(path) == CELL_NAMES


def test_counts_in_the_header_are_those_of_the_plane(finished: Campaign) -> None:
    cards, bits = header(finished.model / "hot_pixel_mask.fits"), mask_of(finished)
    for key, bit in (("N_HOT", DQ.HOT), ("N_WARM", DQ.WARM), ("N_DEAD", DQ.DEAD), ("N_SATURA", DQ.SATURATED)):
        assert cards[key] == ((bits & bit) != 0).sum(), key


def test_stuck_constant_and_saturated_pixels_have_their_bits(finished: Campaign) -> None:
    bits = mask_of(finished)
    assert bits[STUCK_HIGH] & DQ.SATURATED
    assert bits[STUCK_LOW] & DQ.CLIPPED_LOW
    assert bits[CONSTANT] & DQ.DEAD
    assert ((bits & DQ.DEAD) != 0).sum() == 1
    beyond = finished.sensor.bias_adu(0.0) + finished.sensor.signal_adu(0.0, 300.0) > 70_000
    assert beyond.sum() > 3
    assert (bits[beyond] & DQ.SATURATED).all()
    below = unsaturated(finished.sensor, 0.0, 300.0) & sound()
    assert not (bits[below] & DQ.SATURATED).any()


def test_levels_of_saturation(finished: Campaign) -> None:
    path = finished.model / "saturation_map.fits"
    made = planes(path)
    assert made["SCI"].shape == made["CELLS"].shape == (48, 40)
    below = unsaturated(finished.sensor, 0.0, 300.0) & sound()
    assert np.isnan(made["SCI"][below]).all()
    # what a pixel at the converter's top reads, minus the bias
    assert header(path)["SATLEVEL"] == pytest.approx(64_535, abs=3500)


def test_telegraph_pixels_are_unstable(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, telegraph_fraction=0.05, telegraph_rate_adu_s=3.0, hot_fraction=0.0, n_darks=8,
        temperatures_c=(-5.0, 0.0), exposures_s=(100.0, 300.0),
    )  # fmt: skip
    run_well(campaign, chosen={"until_step": 4})
    unstable = (mask_of(campaign) & DQ.UNSTABLE) != 0
    telegraph = campaign.sensor.telegraph
    assert unstable[telegraph].mean() > 0.95
    assert unstable[~telegraph].mean() < 0.01


@pytest.mark.parametrize("n_biases", [0, 10])
def test_one_cell_of_twenty_frames_tells_telegraphs_from_cosmic_rays(tmp_path: Path, n_biases: int) -> None:
    """Steps of seven noises of a frame; without biases too, where the level of no charge is not known."""
    campaign = make_campaign(
        tmp_path, telegraph_fraction=0.03, telegraph_rate_adu_s=0.36, n_darks=20, n_biases=n_biases,
        temperatures_c=(0.0,), exposures_s=(300.0,), rows=96, cols=96, cosmic_rate_cm2_s=0.1,
    )  # fmt: skip
    run_well(campaign, chosen={"until_step": 4})
    unstable = (mask_of(campaign) & DQ.UNSTABLE) != 0
    telegraph, hot = campaign.sensor.telegraph, campaign.sensor.hot
    assert (telegraph & ~hot).sum() > 200
    assert unstable[telegraph & ~hot].mean() > 0.97
    assert unstable[~telegraph].mean() < 2.5e-3


def test_settings_move_the_thresholds(work: Campaign) -> None:
    before = header(work.model / "hot_pixel_mask.fits")
    run_well(
        work, chosen={"until_step": 4}, mask_hotpixels={"hot_sigma": 8.0, "reference_cell": "T-5.0C_texp300s"}
    )  # fmt: skip
    after = header(work.model / "hot_pixel_mask.fits")
    assert after["REFCELL"] == "T-5.0C_texp300s"
    assert after["HOTABOVE"] == pytest.approx(after["MEDIAN"] + 8 * after["SIGMA"])
    assert after["N_HOT"] < before["N_HOT"]


def test_an_unknown_reference_cell_is_a_wrong_setting(work: Campaign) -> None:
    report = run(work, mask_hotpixels={"reference_cell": "T-50.0C_texp300s"})
    assert report.exit_code == 2
    assert "T-50.0C_texp300s" in str(report.failures[0])
    assert "T-5.0C_texp300s" in str(report.failures[0])
