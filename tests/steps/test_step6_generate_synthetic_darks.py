"""Synthetic darks against the true signal, the true bias, and raw frames of the same sensor."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from helpers import (
    CELL_NAMES,
    CELLS,
    CONSTANT,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    assert_pulls,
    header,
    make_campaign,
    planes,
    run,
    run_well,
    sound,
    spread,
    unsaturated,
)
from simulated import Shot

import run_pipeline
from darkpipe.errors import SettingsError
from darkpipe.science.flags import DQ

SECTION = "generate_synthetic_darks"


def single(campaign: Campaign, temperature_c: float, exposure_s: float, **more: object) -> Path:
    """One dark in a file of its own."""
    target = campaign.root / f"single_{len(list(campaign.root.glob('single_*')))}.fits"
    section = {"temp_single_c": temperature_c, "exptime_single_s": exposure_s, "output": target, **more}
    run_well(campaign, "synthetic_2d_single", **{SECTION: section})
    return target


def test_one_dark_a_cell(finished: Campaign) -> None:
    made = sorted(p.name for p in (finished.out / "synthetic").iterdir())
    assert made == sorted(f"synthetic_dark_{name}.fits" for name in CELL_NAMES)


@pytest.mark.parametrize(("name", "cell"), list(zip(CELL_NAMES, CELLS, strict=True)))
def test_a_dark_is_the_true_signal(finished: Campaign, name: str, cell: tuple[float, float]) -> None:
    path = finished.out / "synthetic" / f"synthetic_dark_{name}.fits"
    made = planes(path)
    truth = finished.sensor.signal_adu(*cell)
    inside = sound() & unsaturated(finished.sensor, *cell)
    assert_pulls(made["SCI"], truth, made["ERR"], inside, 0.1)
    faint = inside & (truth < 20)
    if faint.sum() > 100:
        expected = np.sqrt(np.mean(made["ERR"][faint] ** 2) / faint.sum())
        assert abs(np.mean((made["SCI"] - truth)[faint])) < 4 * expected + 0.02
    cards = header(path)
    assert (cards["IMAGETYP"], cards["CCD-TEMP"], cards["SET-TEMP"], cards["EXPTIME"]) == ("Dark Frame", cell[0], *cell)
    assert (cards["MODEL"], cards["EXTRAPOL"], cards["BIASINCL"]) == ("two_component", False, False)
    assert header(path, "SCI")["BUNIT"] == header(path, "ERR")["BUNIT"] == "adu"
    assert (made["SCI"].dtype, made["ERR"].dtype, made["DQ"].dtype) == (np.float32, np.float32, np.uint16)


def test_bits_are_those_of_mask_and_fit(finished: Campaign) -> None:
    made = planes(finished.out / "synthetic" / f"synthetic_dark_{CELL_NAMES[0]}.fits")
    mask = planes(finished.model / "hot_pixel_mask.fits")["DQ"]
    status = planes(finished.model / "two_component" / "status_map.fits")["DQ"]
    np.testing.assert_array_equal(made["DQ"], mask | status)
    for where in (STUCK_HIGH, STUCK_LOW):
        assert np.isnan(made["SCI"][where])
        assert np.isnan(made["ERR"][where])
        assert made["DQ"][where] & DQ.FIT_FAILED
    assert made["DQ"][CONSTANT] & DQ.DEAD
    assert np.isfinite(made["SCI"][sound()]).all()


def test_no_dark_exceeds_what_a_pixel_can_read(finished: Campaign) -> None:
    made = planes(finished.out / "synthetic" / "synthetic_dark_T0.0C_texp300s.fits")
    over = finished.sensor.bias_adu(0.0) + finished.sensor.signal_adu(0.0, 300.0) > 70_000
    assert over.sum() > 3
    assert np.nanmax(made["SCI"]) < 65_535
    assert (made["DQ"][over] & DQ.SATURATED).all()


def test_a_dark_between_the_cells(work: Campaign) -> None:
    path = single(work, -7.3, 170.0)
    made = planes(path)
    inside = sound() & unsaturated(work.sensor, -7.3, 170.0)
    assert_pulls(made["SCI"], work.sensor.signal_adu(-7.3, 170.0), made["ERR"], inside, 0.1)
    assert not (made["DQ"] & DQ.EXTRAPOLATED).any()


@pytest.mark.parametrize(("temperature_c", "exposure_s"), [(5.0, 100.0), (-5.0, 1000.0), (-5.0, 1.0)])
def test_a_dark_outside_of_the_campaign_says_so(work: Campaign, temperature_c: float, exposure_s: float) -> None:
    path = single(work, temperature_c, exposure_s)
    made = planes(path)
    assert (made["DQ"] & DQ.EXTRAPOLATED).all()
    assert (header(path)["EXTRAPOL"], header(path)["LAWERR"]) == (True, "exp_2d")
    inside = sound() & unsaturated(work.sensor, temperature_c, exposure_s)
    other = planes(single(work, temperature_c, exposure_s, model="exp_2d"))["SCI"]
    of_law = 0.5 * np.abs(made["SCI"] - other)
    assert np.all(made["ERR"][inside] >= of_law[inside])
    own = np.sqrt(made["ERR"] ** 2 - of_law**2)
    assert_pulls(made["SCI"], work.sensor.signal_adu(temperature_c, exposure_s), own, inside, 0.1)


def test_with_its_bias_a_dark_is_what_a_camera_gives(work: Campaign) -> None:
    path = single(work, -7.0, 100.0, include_bias=True)
    made = planes(path)
    truth = work.sensor.signal_adu(-7.0, 100.0) + work.sensor.bias_adu(-7.0)
    pull = ((made["SCI"] - truth) / made["ERR"])[sound() & (truth < 58_000)]
    assert spread(pull) == pytest.approx(1.0, abs=0.1)
    assert abs(np.median(pull)) < 4 * 1.253 / np.sqrt(pull.size)
    assert (header(path)["BIASINCL"], header(path)["BIASCOV"]) == (True, True)
    plain = planes(single(work, -7.0, 100.0))["ERR"]
    # what the bias is off by went out of the masters, and comes in again
    bias = planes(work.model / "bias_model.fits")["COVAR"][0] ** 0.5
    typical = sound() & (truth < 2000)
    assert np.median((made["ERR"] / np.hypot(plain, bias))[typical]) < 0.95


def test_a_model_that_does_not_tell_what_it_shares_with_the_bias_gives_an_upper_limit(
    work: Campaign, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(work.model, old / "dark_model")
    with fits.open(old / "dark_model" / "two_component" / "covariance.fits", mode="update") as hdus:
        del hdus[0].header["BYBIAS"], hdus["BYBIAS"]
    target, known = tmp_path / "dark.fits", single(work, -7.0, 100.0, include_bias=True)
    line = ["--mode", "synthetic_2d_single", "--output_dir", str(tmp_path / "out"), "--model_dir", str(old)]
    line += ["--temp_single", " -7", "--exptime_single", "100", "--include_bias", "--output", str(target)]
    assert run_pipeline.main(line) == 0
    assert (header(target)["BIASCOV"], header(known)["BIASCOV"]) == (False, True)
    np.testing.assert_array_equal(planes(target)["SCI"], planes(known)["SCI"])
    assert np.median((planes(target)["ERR"] / planes(known)["ERR"])[sound()]) > 1.05


def test_uint16_is_the_rounded_frame_in_the_primary_hdu(work: Campaign) -> None:
    exact = planes(single(work, -7.0, 100.0, include_bias=True))["SCI"]
    path = single(work, -7.0, 100.0, include_bias=True, dtype="uint16")
    with fits.open(path, checksum=True) as hdus:
        assert len(hdus) == 1
        image = hdus[0].data
    raw_header = header(path)
    assert image.dtype == np.uint16
    assert (fits.getheader(path)["BZERO"], raw_header["BITPIX"]) == (32768, 16)
    known = np.isfinite(exact)
    np.testing.assert_array_equal(image[known], np.clip(np.rint(exact[known]), 0, 65535))
    assert not image[~known].any()
    assert (raw_header["N_BLANK"], raw_header["N_CLIP"]) == (2, 0)
    assert (raw_header["IMAGETYP"], raw_header["EXPTIME"], raw_header["CCD-TEMP"]) == ("Dark Frame", 100.0, -7.0)


def test_uint16_without_bias_clips_at_zero_and_counts_it(work: Campaign) -> None:
    exact = planes(single(work, -10.0, 30.0))["SCI"]
    path = single(work, -10.0, 30.0, dtype="uint16")
    negative = np.rint(exact) < 0
    assert header(path)["N_CLIP"] == negative.sum()
    assert not fits.getdata(path)[negative].any()


def test_left_aligned_data_come_back_in_raw_counts(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, adc_bits=12, left_aligned=True, bias_level_adu=200.0)
    run_well(campaign, chosen={"until_step": 5})
    image = fits.getdata(single(campaign, -5.0, 100.0, include_bias=True, dtype="uint16")).astype(float)
    truth = campaign.sensor.signal_adu(-5.0, 100.0) + campaign.sensor.bias_adu(-5.0)
    good = truth < 3500
    assert np.median(np.abs(image / 16 - truth)[good]) < 1.5
    raw = campaign.sensor.expose(Shot("dark", -5.0, 100.0, 500)).image.astype(float)
    assert np.median(raw[good] - image[good]) == pytest.approx(0.0, abs=16)


def test_a_bias_that_is_a_short_dark_is_not_counted_twice(tmp_path: Path) -> None:
    """Bias frames of 2 s hold dark signal themselves; a dark with its bias must hold it once."""
    campaign = make_campaign(tmp_path, bias_exposure_s=2.0, bulk_rate_adu_s=20.0, n_biases=12, hot_decades=(0.1, 1.0))
    run_well(campaign, chosen={"until_step": 5}, load_data={"bias_max_exposure_s": 2.0})
    signal = planes(single(campaign, -5.0, 30.0))
    assert_pulls(signal["SCI"], campaign.sensor.signal_adu(-5.0, 30.0), signal["ERR"], np.isfinite(signal["SCI"]), 0.15)
    whole = planes(single(campaign, -5.0, 30.0, include_bias=True))
    truth = campaign.sensor.signal_adu(-5.0, 30.0) + campaign.sensor.bias_adu(-5.0)
    assert np.median(whole["SCI"] - truth) == pytest.approx(0.0, abs=1.0)


def test_no_bias_no_frame_as_of_a_camera_unless_the_level_was_fitted(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, n_biases=0, exposures_s=(10.0, 100.0, 300.0))
    run_well(campaign, chosen={"until_step": 5})
    whole = planes(single(campaign, -5.0, 100.0, include_bias=True))["SCI"]
    truth = campaign.sensor.signal_adu(-5.0, 100.0) + campaign.sensor.bias_adu(-5.0)
    good = truth < 55_000
    assert np.median((whole - truth)[good]) == pytest.approx(0.0, abs=1.5)
    assert np.median(np.abs(whole - truth)[good]) < 5


def test_cells_are_not_kept_on_request(work: Campaign) -> None:
    report = run_well(work, **{SECTION: {"keep_synthetic": False}})
    assert not (work.out / "synthetic").exists()
    assert sorted(report.removed) == sorted(f"synthetic/synthetic_dark_{name}.fits" for name in CELL_NAMES)
    assert (work.out / "evaluation" / "evaluation.ecsv").is_file()


def test_an_exposure_must_be_above_zero(work: Campaign) -> None:
    with pytest.raises(
        SettingsError, match=r"generate_synthetic_darks\.exposures_s\.1: .*greater than 0 \(it is 0\.0\)"
    ):
        run(work, "synthetic_2d", **{SECTION: {"exposures_s": [100.0, 0.0]}})


def test_a_dark_names_the_camera_as_its_frames_do(work: Campaign) -> None:
    """Programs match darks to lights by INSTRUME: it is the camera's own name, not ours for its configuration."""
    cards = header(single(work, -7.0, 100.0))
    assert cards["INSTRUME"] == work.sensor.recipe.camera
    assert cards["CONFIG"].startswith(work.sensor.recipe.camera.replace(" ", "-"))
