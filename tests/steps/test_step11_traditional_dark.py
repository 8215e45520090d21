"""Master darks of one EM gain and exposure against the truth, with their masks, telemetry rows and choices."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from em_folder import FRAMES, REGIONS, SHAPE, EmFolder
from em_frames import GRID
from helpers import assert_pulls, header, inputs_of, labels, planes

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ

NAMES = [f"g{g:g}_texp{t:g}s" for g, t in sorted(GRID)]


def test_one_dark_a_setting(em_plain: EmFolder) -> None:
    made = {p.name for p in (em_plain.out / "em_darks").iterdir()}
    assert made == {f"traditional_dark_{name}.fits" for name in NAMES}


@pytest.mark.parametrize(("em_gain", "exposure_s"), [(1.0, 100.0), (100.0, 30.0), (1000.0, 100.0)])
def test_a_dark_is_the_true_level_over_the_gain(em_plain: EmFolder, em_gain: float, exposure_s: float) -> None:
    path = em_plain.out / "em_darks" / f"traditional_dark_g{em_gain:g}_texp{exposure_s:g}s.fits"
    made = planes(path)
    truth = (em_plain.sensor.level(em_gain, exposure_s) / em_gain)[REGIONS.image.slices]
    assert made["SCI"].shape == truth.shape == made["COUNT"].shape
    assert_pulls(made["SCI"], truth, made["ERR"], np.ones(truth.shape, np.bool_), 0.1)
    assert (made["COUNT"] <= FRAMES).all()
    assert made["COUNT"].mean() == pytest.approx(0.99 * FRAMES, rel=0.01)
    cards = header(path)
    assert (cards["EMGAIN"], cards["EXPTIME"], cards["NCOMBINE"]) == (em_gain, exposure_s, FRAMES)
    assert (cards["MADEOF"], cards["FULLFRAM"], cards["ENOUGHRN"]) == ("mean of a stack", False, True)
    assert len(inputs_of(path)) == FRAMES


def test_the_full_frame_has_no_telemetry(em_work: EmFolder) -> None:
    em_work.run_well("traditional_dark", traditional_dark={"full_frame": True, "em_gain": 100, "exptime_single_s": 30})
    made = planes(em_work.out / "em_darks" / "traditional_dark_g100_texp30s_full.fits")
    assert made["SCI"].shape == SHAPE
    assert np.isnan(made["SCI"][-1]).all()
    assert np.isnan(made["ERR"][-1]).all()
    assert (made["DQ"][-1] & DQ.FEW_SAMPLES > 0).all()
    assert np.isfinite(made["SCI"][:-1]).all()


def test_non_finite_and_masked_pixels(em_work: EmFolder) -> None:
    stack = em_work.stack(100, 30)
    for i, path in enumerate(stack):
        with fits.open(path, mode="update") as hdus:
            hdus["DQ"].data[5:9, 20] = 0
            hdus[1].data[5, 20] = np.nan  # in every frame
            hdus[1].data[6, 20] = np.inf if i == 0 else 100.0  # in one
            hdus["DQ"].data[7, 20] = 8  # masked in every frame
            hdus["DQ"].data[8, 20] = 8 if i < 4 else 0  # in more than half
    report = em_work.run_well("traditional_dark")
    assert labels(report, "traditional_dark") == ["traditional dark g100_texp30s"]  # the others are not stale
    made = planes(em_work.out / "em_darks" / "traditional_dark_g100_texp30s.fits")
    r, c = REGIONS.image.first_row, 20 - REGIONS.image.first_col
    science, dq, count = made["SCI"][:, c], made["DQ"][:, c], made["COUNT"][:, c]
    assert np.isnan(science[[5 - r, 7 - r]]).all()
    assert science[6 - r] == pytest.approx(1.0)
    assert list(count[5 - r : 9 - r]) == [0, FRAMES - 1, 0, 2]
    assert [bool(bits & DQ.FEW_SAMPLES) for bits in dq[5 - r : 9 - r]] == [True, False, True, True]
    assert header(em_work.out / "em_darks" / "traditional_dark_g100_texp30s.fits")["ENOUGHRN"] is False


def test_the_chosen_setting_alone(em_work: EmFolder) -> None:
    for path in (em_work.out / "em_darks").iterdir():
        path.unlink()
    em_work.run_well("traditional_dark", traditional_dark={"em_gain": 100.4, "exptime_single_s": 30})
    assert [p.name for p in (em_work.out / "em_darks").iterdir()] == ["traditional_dark_g100_texp30s.fits"]
    em_work.run_well("traditional_dark", traditional_dark={"em_gain": 1000})
    assert len(list((em_work.out / "em_darks").iterdir())) == 3
    report = em_work.run("traditional_dark", traditional_dark={"em_gain": 50, "exptime_single_s": 30})
    with pytest.raises(DesignError, match=r"no frames of EM gain 50 and 30 s. there are: 1 at 2 s"):
        report.raise_for_failure()


def test_divided_frames_give_the_same_dark(em_plain: EmFolder, em_work: EmFolder) -> None:
    for path in em_work.stack(100, 30):
        with fits.open(path, mode="update") as hdus:
            hdus[1].data = (hdus[1].data / 100.0).astype(np.float64)
            hdus[1].header["BUNIT"] = "detected electron"
    em_work.run_well("traditional_dark")
    name = "traditional_dark_g100_texp30s.fits"
    one, other = (planes(folder.out / "em_darks" / name) for folder in (em_plain, em_work))
    np.testing.assert_allclose(other["SCI"], one["SCI"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other["ERR"], one["ERR"], rtol=1e-4)


def test_errors_in_some_frames_only(em_work: EmFolder) -> None:
    path = em_work.stack(1, 2)[2]
    with fits.open(path, mode="append") as hdus:
        hdus.append(fits.ImageHDU(np.ones(SHAPE, np.float32), name="ERR"))
    report = em_work.run("traditional_dark")
    with pytest.raises(DesignError, match="some frames of this stack have errors"):
        report.raise_for_failure()
    assert report.exit_code == 1
