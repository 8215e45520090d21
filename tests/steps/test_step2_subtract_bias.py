"""Master biases, the line through them, read noise, reference values and the look at each dark, against the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import simulated
import yaml
from astropy.io import fits
from helpers import (
    CAMPAIGN,
    CONSTANT,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    assert_pulls,
    header,
    inputs_of,
    make_campaign,
    planes,
    row,
    run,
    run_well,
    sound,
    table,
)

from darkpipe.science.flags import DQ

UNTIL_2 = {"until_step": 2}


@pytest.mark.parametrize("temperature_c", CAMPAIGN.temperatures_c)
def test_master_bias_is_the_true_bias(finished: Campaign, temperature_c: float) -> None:
    path = finished.out / "bias" / f"master_bias_T{temperature_c:.1f}C.fits"
    made = planes(path)
    assert_pulls(made["SCI"], finished.sensor.bias_adu(temperature_c), made["ERR"], sound(), 0.1)
    assert (made["SCI"].dtype, made["ERR"].dtype, made["DQ"].dtype) == (np.float32, np.float32, np.uint16)
    assert (made["COUNT"] + made["REJECTED"])[sound()].min() == CAMPAIGN.n_biases
    assert not made["DQ"][sound()].any()
    cards = header(path)
    assert (cards["IMAGETYP"], cards["CCD-TEMP"], cards["EXPTIME"]) == ("Master Bias", temperature_c, 0.0)
    assert cards["NCOMBINE"] == CAMPAIGN.n_biases
    assert header(path, "SCI")["BUNIT"] == header(path, "ERR")["BUNIT"] == "adu"
    shots = simulated.shots(CAMPAIGN)
    own = [
        f"frame_{n:04d}.fits" for n, s in enumerate(shots, 1) if (s.kind, s.temperature_c) == ("bias", temperature_c)
    ]
    assert inputs_of(path) == own


def test_stuck_pixels_have_no_bias(finished: Campaign) -> None:
    made = planes(finished.out / "bias" / "master_bias_T0.0C.fits")
    for where, bit in ((STUCK_HIGH, DQ.SATURATED), (STUCK_LOW, DQ.CLIPPED_LOW)):
        assert made["DQ"][where] & bit
        assert made["COUNT"][where] == 0
        assert not np.isfinite(made["ERR"][where])
        assert np.isnan(made["SCI"][where])
    assert made["SCI"][CONSTANT] == pytest.approx(1000.0, abs=0.05)  # levels of frames drift a little


def test_bias_line_has_the_true_slope(finished: Campaign) -> None:
    path = finished.out / "bias" / "bias_model.fits"
    made = planes(path)
    t_ref = header(path)["T_REF"]
    assert t_ref == -5.0
    assert_pulls(made["SCI"], finished.sensor.bias_adu(t_ref), np.sqrt(made["COVAR"][0]), sound(), 0.1)
    assert_pulls(made["B1"], finished.sensor.bias_slope, np.sqrt(made["COVAR"][2]), sound(), 0.1)
    assert np.isnan(made["SCI"][STUCK_LOW])
    assert np.isnan(made["B1"][STUCK_LOW])


def test_read_noise_is_the_true_one(finished: Campaign) -> None:
    made = planes(finished.out / "bias" / "read_noise_map.fits")["SCI"]
    truth = np.hypot(2.5 / 0.8, np.sqrt(1 / 12))  # quantisation is part of what a frame shows
    assert np.median(made[sound()]) == pytest.approx(truth, rel=0.03)
    # one common read noise: the map is shrunk to it, far below the 27 % scatter of a sigma from 8 frames
    assert np.std(made[sound()]) < 0.08 * truth
    reference = yaml.safe_load((finished.out / "reference.yaml").read_text())
    assert reference["read_noise_adu"] == pytest.approx(truth, rel=0.03)
    assert (reference["scale_factor"], reference["temperature_c"], reference["bias_exposure_s"]) == (1.0, -5.0, 0.0)
    assert (reference["gain_e_per_adu"], reference["gain_source"]) == (0.8, "header")
    assert reference["gain_measured_e_per_adu"] == pytest.approx(0.8, abs=4 * reference["gain_measured_error"])


def test_read_noise_map_follows_the_pixels(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, read_noise_spread=0.5, n_biases=20, temperatures_c=(-10.0,), exposures_s=(10.0,), n_darks=2
    )
    run_well(campaign, chosen=UNTIL_2)
    made = planes(campaign.out / "bias" / "read_noise_map.fits")["SCI"]
    truth = np.sqrt((campaign.sensor.read_noise_e / 0.8) ** 2 + 1 / 12)
    ratio = np.log(made / truth)
    assert np.std(ratio) < 0.19  # 20 frames alone: 1/sqrt(2·19) = 0.16
    assert abs(np.median(ratio)) < 0.05
    assert np.corrcoef(made.ravel(), truth.ravel())[0, 1] > 0.9


def test_every_dark_gets_its_bias_and_its_level(finished: Campaign) -> None:
    corrected = table(finished.out / "corrected.ecsv")
    shots = [s for s in simulated.shots(CAMPAIGN) if s.kind == "dark"]
    assert len(corrected) == len(shots)
    assert set(corrected["status"]) == {"accepted"}
    for r, shot in zip(corrected, shots, strict=True):
        assert r["bias"] == f"T{shot.temperature_c:.1f}C"
        assert (r["cell_temperature_c"], r["exposure_s"]) == (shot.temperature_c, shot.exposure_s)
        truth = np.median(finished.sensor.signal_adu(shot.temperature_c, shot.exposure_s))
        assert r["level_adu"] == pytest.approx(truth, abs=0.5 + 0.03 * truth)
        assert abs(r["offset_adu"]) < 0.3 + 0.02 * truth
    biases = table(finished.out / "bias" / "bias_frames.ecsv")
    assert set(biases["status"]) == {"accepted"}
    assert list(table(finished.out / "bias" / "biases.ecsv")["frames"]) == [8, 8, 8]


@pytest.fixture
def small(tmp_path: Path) -> Campaign:
    return make_campaign(tmp_path, temperatures_c=(-10.0, -5.0), exposures_s=(30.0, 100.0), n_darks=4)


def shift(path: Path, adu: int) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[:] = np.minimum(hdus[0].data.astype(int) + adu, 65535)


def test_a_dark_far_off_its_cell_is_rejected_with_the_reason(small: Campaign) -> None:
    leak = small.frames_of(-5.0, 100.0)[1]
    shift(leak, 300)
    run_well(small, chosen={"until_step": 3})
    found = row(small.out / "corrected.ecsv", file=leak.name)
    assert found["status"] == "rejected"
    assert "level" in found["reason"]
    master = small.out / "dark_masks_by_temp" / "darks_T-5.0C_texp100s.fits"
    assert header(master)["NCOMBINE"] == 3
    assert leak.name not in inputs_of(master)
    others = [r["status"] for r in table(small.out / "corrected.ecsv") if r["file"] != leak.name]
    assert set(others) == {"accepted"}


def test_a_bias_far_off_is_rejected_with_the_reason(small: Campaign) -> None:
    shift(small.raw / "frame_0002.fits", 300)
    run_well(small, chosen=UNTIL_2)
    found = row(small.out / "bias" / "bias_frames.ecsv", file="frame_0002.fits")
    assert found["status"] == "rejected"
    assert found["reason"]
    assert header(small.out / "bias" / "master_bias_T-10.0C.fits")["NCOMBINE"] == 7


def test_corrected_darks_are_kept_on_request(small: Campaign) -> None:
    run_well(small, chosen=UNTIL_2, subtract_bias={"keep_corrected": True})
    kept = sorted((small.out / "dark_corrected_darks").glob("*.fits"))
    assert len(kept) == 16
    bias = planes(small.out / "bias" / "master_bias_T-10.0C.fits")["SCI"]
    raw = small.frames_of(-10.0, 100.0)[0]
    path = small.out / "dark_corrected_darks" / raw.name
    image = fits.getdata(raw).astype(np.float32)
    good = image < 62000
    np.testing.assert_array_equal(planes(path)["SCI"][good], (image - bias)[good])
    cards = header(path)
    assert (cards["EXPTIME"], cards["CCD-TEMP"], cards["BIAS"]) == (100.0, -10.0, "T-10.0C")
    assert inputs_of(path) == [raw.name]


def test_corrected_darks_of_one_stem_do_not_meet(small: Campaign) -> None:
    first, second = small.frames_of(-10.0, 100.0)[:2]
    first.rename(small.raw / "a.fits")
    second.rename(small.raw / "a.fit")
    run_well(small, chosen=UNTIL_2, subtract_bias={"keep_corrected": True})
    kept = sorted((small.out / "dark_corrected_darks").iterdir())
    assert len(kept) == 16


def test_without_bias_frames(small: Campaign) -> None:
    for path in small.raw.glob("*.fits"):
        if fits.getheader(path)["IMAGETYP"] == "Bias Frame":
            path.unlink()
    report = run(small, subtract_bias={"bias": "frames"})
    assert report.exit_code == 1
    assert "no bias frames" in str(report.failures[0])
    run_well(small, chosen=UNTIL_2)
    assert set(table(small.out / "corrected.ecsv")["bias"]) == {""}
    notes = yaml.safe_load((small.out / "reference.yaml").read_text())["notes"]
    assert any("no bias frames" in note for note in notes)


def test_the_level_is_fitted_where_that_is_asked_for(small: Campaign) -> None:
    run_well(small, chosen=UNTIL_2, subtract_bias={"bias": "offset_map"})
    assert set(table(small.out / "corrected.ecsv")["bias"]) == {""}
    assert not list(small.out.rglob("master_bias*"))


def test_a_dark_far_from_every_bias_takes_the_line(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path, temperatures_c=(-10.0, -5.0, 0.0), exposures_s=(30.0,), n_biases=8, n_darks=4)
    for path in campaign.raw.glob("*.fits"):
        if fits.getheader(path)["IMAGETYP"] == "Bias Frame" and fits.getheader(path)["SET-TEMP"] == -5.0:
            path.unlink()
    run_well(campaign, chosen={"until_step": 3})
    assert [str(r["bias"]) for r in table(campaign.out / "corrected.ecsv")] == ["T-10.0C"] * 4 + ["line"] * 4 + [
        "T0.0C"
    ] * 4
    master = planes(campaign.out / "dark_masks_by_temp" / "darks_T-5.0C_texp30s.fits")
    assert_pulls(master["SCI"], campaign.sensor.signal_adu(-5.0, 30.0), master["ERR"], master["COUNT"] > 0, 0.12)


def test_twelve_bits_in_sixteen_are_found(tmp_path: Path) -> None:
    campaign = make_campaign(
        tmp_path, adc_bits=12, left_aligned=True, temperatures_c=(-10.0,), exposures_s=(30.0,), n_darks=4,
        bias_level_adu=200.0,
    )  # fmt: skip
    run_well(campaign, chosen={"until_step": 3})
    assert yaml.safe_load((campaign.out / "reference.yaml").read_text())["scale_factor"] == 16.0
    made = planes(campaign.out / "bias" / "master_bias_T-10.0C.fits")
    assert_pulls(made["SCI"], campaign.sensor.bias_adu(-10.0), made["ERR"], made["COUNT"] > 0, 0.12)


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [("gain_e_per_adu", 1.5, "gain_e_per_adu"), ("read_noise_adu", 4.0, "read_noise_adu"),
     ("scale_factor", 2.0, "scale_factor"), ("reference_temperature_c", -8.0, "temperature_c")],
)  # fmt: skip
def test_settings_override_header_and_data(small: Campaign, setting: str, value: float, name: str) -> None:
    run_well(small, chosen=UNTIL_2, subtract_bias={setting: value})
    assert yaml.safe_load((small.out / "reference.yaml").read_text())[name] == value
