"""Sets of simulated frames characterised from the library and the command line, against plain numpy; real ones too."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alike_frames import write_alike
from astropy.io import fits
from helpers import header, inputs_of, labels, planes, products, row, table
from PIL import Image

import run_pipeline
from darkpipe.errors import DesignError, FrameError, PipelineError, SettingsError
from darkpipe.files.frames import survey_frame
from darkpipe.jobs.report import RunReport
from darkpipe.science.flags import DQ
from master_controller import MasterController

PLAIN = {"median": np.median, "average": np.mean}


def characterize(
    root: Path, *, frames: str = "frames", out: str = "out", flags: Any = None, **settings: Any
) -> RunReport:
    given = {"output_dir": root / out, "workers": 2, "load_data": {"basepath": root / frames},
             "characterize": {"pictures": "none", **settings}}  # fmt: skip
    return MasterController(given, flags=flags).run("characterize")


def well(root: Path, **settings: Any) -> Path:
    """Run without a failure; the folder of the products."""
    characterize(root, **settings).raise_for_failure()
    return root / settings.get("out", "out") / "characterize"


def failure(root: Path, **settings: Any) -> PipelineError:
    report = characterize(root, **settings)
    assert report.exit_code in (1, 2)
    return report.failures[0].error


def half_width(values: np.ndarray) -> float:
    low, high = np.percentile(values, [15.865525, 84.134475])
    return float(high - low) / 2


@pytest.mark.parametrize("method", ["median", "average"])
def test_master_and_residuals_are_those_of_numpy(tmp_path: Path, method: str) -> None:
    made = write_alike(tmp_path / "frames", 9, GAIN=10)
    before = products(made.folder)
    out = well(tmp_path, combine=method)
    assert products(made.folder) == before
    wide = made.frames.astype(np.float64)
    master = planes(out / "master_dark.fits")
    assert {name: plane.dtype.name for name, plane in master.items() if name != "INPUTS"} == {
        "SCI": "float32", "ERR": "float32", "DQ": "uint16", "SIGMA": "float32", "COUNT": "uint16",
        "EXPECTED": "float32",
    }  # fmt: skip
    np.testing.assert_allclose(master["SCI"], PLAIN[method](wide, axis=0), rtol=3e-7)
    np.testing.assert_allclose(master["SIGMA"], wide.std(axis=0, ddof=1), rtol=0.05, atol=0.3)
    assert (master["COUNT"] == 9).all()
    rows = table(out / "statistics.ecsv")
    for k in range(9):
        left = planes(out / "subtracted" / f"{k + 1:05d}.fits")
        np.testing.assert_allclose(left["SCI"], wide[k] - master["SCI"], atol=1e-2)
        assert left["SCI"].dtype == np.float32
        r = row(out / "statistics.ecsv", file=f"{k + 1:05d}.fits")
        for name, image in (("before", wide[k]), ("after", left["SCI"].astype(np.float64))):
            assert r[f"{name}_mean_adu"] == pytest.approx(image.mean(), abs=1e-3)
            assert r[f"{name}_std_adu"] == pytest.approx(image.std(), rel=1e-4)
            assert (r[f"{name}_minimum_adu"], r[f"{name}_maximum_adu"]) == pytest.approx(
                (image.min(), image.max()), abs=1e-3
            )
            assert r[f"{name}_median_adu"] == pytest.approx(np.median(image), abs=0.6)
            assert r[f"{name}_p95_adu"] == pytest.approx(np.percentile(image, 95), abs=0.6)
            assert r[f"{name}_sigma_adu"] == pytest.approx(half_width(image), abs=0.6)
            assert r[f"{name}_hot"] == np.count_nonzero(image > r[f"{name}_hot_above_adu"])
    assert len(rows) == 9
    assert rows.meta["master"]["combine"] == method
    assert rows.meta["master"]["median_adu"] == pytest.approx(np.median(master["SCI"]), abs=0.6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["median", "average"])
def test_another_package_makes_the_same(tmp_path: Path, method: str) -> None:
    ccdproc = pytest.importorskip("ccdproc", reason="pip install ccdproc")
    from astropy import units as u
    from astropy.nddata import CCDData

    made = write_alike(tmp_path / "frames", 6)
    out = well(tmp_path, combine=method)
    darks = [CCDData.read(path, unit=u.adu) for path in sorted(made.folder.iterdir())]
    master = ccdproc.combine(darks, method=method)
    np.testing.assert_allclose(planes(out / "master_dark.fits")["SCI"], master.data, rtol=3e-7)
    left = ccdproc.subtract_dark(darks[5], master, data_exposure=30 * u.s, dark_exposure=30 * u.s, scale=False)
    np.testing.assert_allclose(planes(out / "subtracted" / "00006.fits")["SCI"], left.data, atol=0.01)
    # and it reads what is made here
    assert CCDData.read(out / "master_dark.fits", hdu="SCI").unit == u.adu


@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize("n", [2, 3, 4, 10])
def test_the_noise_after_subtraction_is_what_was_expected(tmp_path: Path, method: str, n: int) -> None:
    """A frame is part of its master: the expectation knows, from the scatter of the frames and their number alone."""
    write_alike(tmp_path / "frames", n, (160, 160), sigma=20.0, drift=7.0)
    rows = table(well(tmp_path, combine=method) / "statistics.ecsv")
    np.testing.assert_allclose(rows["sigma_ratio"], 1.0, atol=0.04)
    if method == "average":
        assert rows["expected_sigma_adu"][0] == pytest.approx(20.0 * math.sqrt(1 - 1 / n), rel=0.03)


@pytest.mark.parametrize("method", ["median", "average"])
def test_the_error_of_the_master_is_true(tmp_path: Path, method: str) -> None:
    made = write_alike(tmp_path / "frames", 6, (200, 200), sigma=20.0, hot=0.0)
    master = planes(well(tmp_path, combine=method) / "master_dark.fits")
    pulls = (master["SCI"] - made.pattern) / master["ERR"]
    assert half_width(pulls) == pytest.approx(1.0, abs=0.03)
    assert abs(np.median(pulls)) < 0.03


def test_headers_say_what_was_done_and_keep_what_was_there(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames", 4, FILTER="R", CTYPE1="RA---TAN", PEDESTAL=-100, SET_TEMP=-10.5)
    out = well(tmp_path)
    top = header(out / "master_dark.fits")
    expected = {"IMAGETYP": "Master Dark", "EXPTIME": 30.0, "CCD-TEMP": -10.0, "SET-TEMP": -10.5, "NCOMBINE": 4,
                "COMBINE": "median", "FILTER": "R", "GAIN": 10, "INSTRUME": "QHY42", "PEDESTAL": -100.0,
                "STEP": "characterize"}  # fmt: skip
    assert {key: top[key] for key in expected} == expected
    assert "DATE-OBS" not in top  # of no single frame
    assert inputs_of(out / "master_dark.fits") == [f"{k:05d}.fits" for k in range(1, 5)]
    left = header(out / "subtracted" / "00002.fits")
    expected = {"IMAGETYP": "Subtracted Dark", "CALSTAT": "D", "MASTER": "master_dark.fits", "NCOMBINE": 4,
                "COMBINE": "median", "FILTER": "R", "DATE-OBS": "2024-05-08T03:38:48", "EXPTIME": 30.0}  # fmt: skip
    assert {key: left[key] for key in expected} == expected
    assert left["SIGMA"] == pytest.approx(left["SIGMAEXP"], rel=0.2)
    assert "PEDESTAL" not in left
    assert "median of 4 frames" in str(left["HISTORY"])
    assert header(out / "subtracted" / "00002.fits", "SCI")["CTYPE1"] == "RA---TAN"
    assert inputs_of(out / "subtracted" / "00002.fits") == ["00002.fits", "master_dark.fits"]
    # neither is taken for a raw frame
    for path in (out / "master_dark.fits", out / "subtracted" / "00002.fits"):
        assert survey_frame(path).info.kind == "master"  # type: ignore[union-attr]


def test_hot_saturated_and_empty_pixels_are_flagged(tmp_path: Path) -> None:
    made = write_alike(tmp_path / "frames", 5, hot=0.0)
    for k, path in enumerate(sorted(made.folder.iterdir())):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[3, 4] = 65535
            hdus[0].data[5, 6] = 65535 if k < 2 else 1000
            hdus[0].data[7, 8] = 0
            hdus[0].data[9, 10] = 5000
    dq = planes(well(tmp_path) / "master_dark.fits")["DQ"]
    assert dq[3, 4] == DQ.HOT | DQ.SATURATED
    assert dq[5, 6] == 0  # two of five: the median is another
    assert dq[7, 8] == DQ.CLIPPED_LOW
    assert dq[9, 10] == DQ.HOT
    assert np.count_nonzero(dq) == 3
    assert list(table(tmp_path / "out" / "characterize" / "statistics.ecsv")["saturated"]) == [2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [
        ("int16", ".fits"),
        ("uint8", ".fits"),
        ("int32", ".fts"),
        ("float32", ".fit"),
        ("uint16", ".fits.gz"),
        ("uint16", ".fits.fz"),
    ],
)
def test_every_kind_of_file_gives_the_same(tmp_path: Path, dtype: str, suffix: str) -> None:
    made = write_alike(tmp_path / "frames", 5, dtype=dtype, suffix=suffix)
    out = well(tmp_path)
    wide = made.frames.astype(np.float64)
    np.testing.assert_allclose(planes(out / "master_dark.fits")["SCI"], np.median(wide, axis=0), rtol=1e-6)
    left = sorted((out / "subtracted").iterdir())
    np.testing.assert_allclose(planes(left[1])["SCI"], wide[1] - np.median(wide, axis=0), atol=0.01)


def test_pixels_without_a_value(tmp_path: Path) -> None:
    made = write_alike(tmp_path / "frames", 4, dtype="float32")
    for k, path in enumerate(sorted(made.folder.iterdir())):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[:2] = np.nan
            hdus[0].data[2 + k] = np.nan
    out = well(tmp_path, pictures="representative")
    master = planes(out / "master_dark.fits")
    assert np.isnan(master["SCI"][:2]).all()
    assert np.isnan(master["ERR"][:2]).all()
    assert (master["DQ"][:2] == DQ.FEW_SAMPLES).all()
    np.testing.assert_allclose(master["SCI"][2], np.median(made.frames[1:, 2].astype(np.float64), axis=0), rtol=1e-6)
    assert (master["COUNT"][2:6] == 3).all()
    left = planes(out / "subtracted" / "00001.fits")["SCI"]
    assert np.isnan(left[:3]).all()
    assert np.isfinite(left[3:]).all()
    assert list(table(out / "statistics.ecsv")["after_missing"]) == [3 * 80] * 4


def test_frames_that_hardly_differ(tmp_path: Path) -> None:
    """No noise to speak of: nothing is expected, nothing fails."""
    (tmp_path / "frames").mkdir()
    write_alike(tmp_path / "frames", 3)
    for k, path in enumerate(sorted((tmp_path / "frames").iterdir())):
        with fits.open(path, mode="update") as hdus:
            hdus[0].data[:] = 65535
            hdus[0].data[0, 0] = 100 + k
    out = well(tmp_path, pictures="all")
    rows = table(out / "statistics.ecsv")
    assert max(rows["after_sigma_adu"]) < 0.3  # that of the steps between counts
    assert max(rows["after_hot"]) <= 1
    assert (planes(out / "master_dark.fits")["DQ"][1:] & DQ.SATURATED).all()


def test_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames", 4)
    folder = tmp_path / "frames"
    shutil.copy(folder / "00001.fits", folder / "copy.fits")
    (folder / "torn.fits").write_bytes((folder / "00002.fits").read_bytes()[:5000])
    write_alike(folder / "flat", 1, IMAGETYP="Flat Field", EXPTIME=2.0)
    report = characterize(tmp_path, select={"kind": "dark"})
    report.raise_for_failure()
    rows = {r["file"]: (r["status"], r["reason"]) for r in table(tmp_path / "out" / "characterize" / "frames.ecsv")}
    assert len(rows) == 7
    assert rows["copy.fits"] == ("rejected", "duplicate: same pixels as 00001.fits")
    assert rows["torn.fits"][0] == "rejected"
    assert rows["flat/00001.fits"] == ("left out", "kind is flat, selected is dark")
    told = [f"{name}: {text}" for name, text in report.summaries[0][1]]
    assert any(text.startswith("rejected: torn.fits") for text in told)
    assert any(text == "left out: 1 frame: kind is flat, selected is dark" for text in told)
    assert any(text.startswith("master: median of 4 frames") for text in told)


def test_what_does_not_look_like_one_set_is_said(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames", 8)
    noisy = write_alike(tmp_path / "other", 1, sigma=40.0, seed=1)
    shutil.copy(noisy.folder / "00001.fits", tmp_path / "frames" / "noisy.fits")
    with fits.open(tmp_path / "frames" / "00003.fits", mode="update") as hdus:
        hdus[0].header["CCD-TEMP"] = -7.0
        hdus[0].data += 60
    report = characterize(tmp_path)
    told = " | ".join(text for name, text in report.summaries[0][1] if name == "look at")
    assert "noisier than expected by 10 % or more: noisy.fits" in told
    assert "levels from" in told
    assert "temperatures from -10.0 to -7.0" in told


def test_it_resumes_and_makes_what_changed_alone(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames", 4)
    well(tmp_path, pictures="representative")
    before = products(tmp_path / "out")
    assert characterize(tmp_path, pictures="representative").up_to_date
    # another stretch draws again and computes nothing
    report = characterize(tmp_path, pictures="representative", black_point=990.0)
    assert [label.partition(" 0")[0] for label in labels(report)] == ["pictures of the master", "pictures of"]
    (tmp_path / "out" / "characterize" / "subtracted" / "00002.fits").unlink()
    assert "subtract from 00002.fits" in labels(characterize(tmp_path, pictures="representative"))
    assert products(tmp_path / "out") == before
    write_alike(tmp_path / "more", 1, seed=5)
    shutil.copy(tmp_path / "more" / "00001.fits", tmp_path / "frames" / "00009.fits")
    report = characterize(tmp_path)
    assert "master of 5 frames" in labels(report)
    (tmp_path / "frames" / "00009.fits").unlink()
    well(tmp_path, keep_subtracted=False)
    out = tmp_path / "out" / "characterize"
    assert not list((out / "subtracted").glob("*.fits"))  # what is no longer wanted goes
    assert not list(out.glob("*.png"))
    assert len(list((out / "numbers").iterdir())) == 4


@pytest.mark.parametrize("engine", ["threads", "processes"])
def test_engines_and_strips_give_the_same_bytes(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_alike(tmp_path / "frames", 5)
    well(tmp_path)
    if engine == "threads":
        monkeypatch.setattr("darkpipe.files.stacking.STRIP_BYTES", 4 * 80 * 5 * 7)
    given = {"output_dir": tmp_path / "again", "engine": engine, "load_data": {"basepath": tmp_path / "frames"},
             "characterize": {"pictures": "none"}}  # fmt: skip
    MasterController(given).run("characterize").raise_for_failure()
    assert products(tmp_path / "again") == products(tmp_path / "out")


def test_expectations_that_hold_change_nothing_and_those_that_fail_name_the_frames(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames", 3, FILTER="Red")
    well(tmp_path, expect_shape="60x80", expect_exposure_s=30.2, expect_filter="red")
    error = failure(tmp_path, expect_shape="80x60", expect_exposure_s=60.0, expect_filter="Blue")
    assert isinstance(error, FrameError)
    told = "60 x 80 pixels, expected 80 x 60 (rows first); exposure 30 s, expected 60 s; filter Red, expected Blue"
    assert f"{told}: 00001.fits, 00002.fits, 00003.fits" in str(error)
    # what was made before stays
    assert (tmp_path / "out" / "characterize" / "master_dark.fits").is_file()


def test_mixed_frames_are_refused_and_can_be_chosen(tmp_path: Path) -> None:
    write_alike(tmp_path / "frames" / "a", 3)
    write_alike(tmp_path / "frames" / "b", 4, EXPTIME=60.0)
    write_alike(tmp_path / "frames" / "c", 2, (60, 70))
    error = failure(tmp_path)
    assert isinstance(error, DesignError)
    assert "these 9 frames are 3 groups" in str(error)
    assert "4 of 60 s, 60 x 80 pixels" in str(error)
    out = well(tmp_path, select={"exposure": "60"})
    assert header(out / "master_dark.fits")["NCOMBINE"] == 4
    assert {path.name for path in (out / "subtracted").iterdir()} == {f"b__{k:05d}.fits" for k in range(1, 5)}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"window": "0:61,0:5"}, "does not lie in frames of 60 rows and 80 columns"),
        ({"representative": "7.fits"}, r"no frame of the set is called '7\.fits'"),
        ({"select": {"exposre": "3"}}, "cannot select frames by exposre"),
        ({"black_point": 1e6, "pictures": "representative"}, r"black point \(1e\+06\) must lie below the white point"),
    ],
)
def test_settings_that_the_frames_refute(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    write_alike(tmp_path / "frames", 3)
    with pytest.raises(SettingsError, match=told):
        characterize(tmp_path, **settings).raise_for_failure()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"window": "10-20"}, "window is ROW0:ROW1,COL0:COL1"),
        ({"expect_shape": "60"}, "rows first"),
        ({"black_point": 5.0, "white_point": 5.0}, "must lie below"),
        ({"black_point": 5.0, "white_point": 5.5}, "more than one unit"),
        ({"residual_points": [1.0]}, "two numbers"),
        ({"residual_points": [3.0, -3.0]}, "must lie below"),
        ({"expect_exposure_s": -1.0}, "greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        characterize(tmp_path, **settings)
    assert not (tmp_path / "out").exists()


def test_the_command_line_draws_what_the_notebook_drew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_alike(tmp_path / "frames", 4)
    arguments = [
        "--mode",
        "characterize",
        "--basepath",
        str(tmp_path / "frames"),
        "--output_dir",
        str(tmp_path / "out"),
    ]
    arguments += [
        "--combine",
        "average",
        "--expect-shape",
        "60x80",
        "--expect-exposure",
        "30",
        "--expect_filter",
        "none",
    ]
    arguments += ["--black_point", "990", "--white_point", "5000", "--residual_points", "-100 100", "--stretch", "log"]
    assert run_pipeline.main([*arguments, "--window", "40:59,30:49", "--select", "kind=dark"]) == 0
    said = capsys.readouterr().out
    assert "average of 4 frames" in said
    out = tmp_path / "out" / "characterize"
    names = ("master_dark", "master_dark_window", "representative_dark", "subtracted_dark", "subtracted_dark_window",
             "histogram", "statistics")  # fmt: skip
    assert {path.stem for path in out.glob("*.png")} == set(names)
    for name in names:
        with Image.open(out / f"{name}.png") as picture:
            assert round(picture.info["dpi"][0]) == 150
            assert min(picture.size) > 300
    assert run_pipeline.main([*arguments, "--window", "5:2,0:3"]) == 2
    assert "the window '5:2,0:3' is empty" in capsys.readouterr().err
    assert run_pipeline.main([*arguments[:-4], "--dry_run"]) == 0


def test_biases_and_lights_without_a_temperature(tmp_path: Path) -> None:
    cards = {"CCD_TEMP": None, "SET_TEMP": None}
    write_alike(tmp_path / "frames", 3, IMAGETYP="Bias Frame", EXPTIME=0.0, **cards)
    out = well(tmp_path)
    assert header(out / "master_bias.fits")["IMAGETYP"] == "Master Bias"
    assert "CCD-TEMP" not in header(out / "master_bias.fits")
    assert header(out / "subtracted" / "00001.fits")["CALSTAT"] == "B"
    write_alike(tmp_path / "lights", 3, IMAGETYP="Light Frame", **cards)
    assert (well(tmp_path, frames="lights", out="two") / "master_light.fits").is_file()


@pytest.mark.real
@pytest.mark.parametrize("method", ["median", "average"])
@pytest.mark.parametrize(
    ("folder", "select", "frames"),
    [
        ("st8_itb_cc0", {"exposure": "25"}, 7),
        ("st8_itb_cc0", {"exposure": "3"}, 6),
        ("stl1001e_sbu_dev/2017_cgs", {"exposure": "60", "temperature": "-5"}, 11),
        ("stl1001e_sbu_dev/2017_cgs", {"kind": "bias", "temperature": "-10"}, 10),
        ("cmos_dl_nrc_bias", {"temperature": "15"}, 10),
        ("st402_sbu", {"exposure": "240"}, 5),
    ],
)
def test_real_frames(
    real_data: Path, tmp_path: Path, folder: str, select: dict[str, str], frames: int, method: str
) -> None:
    """The master is that of numpy, and the noise after subtraction within 5 % of what is expected."""
    given = {"output_dir": tmp_path / "out", "load_data": {"basepath": real_data / folder},
             "characterize": {"combine": method, "select": select, "pictures": "none"}}  # fmt: skip
    MasterController(given).run("characterize").raise_for_failure()
    out = tmp_path / "out" / "characterize"
    chosen = [str(r["file"]) for r in table(out / "frames.ecsv") if r["status"] == "combined"]
    assert len(chosen) == frames
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cube = np.array([fits.getdata(real_data / folder / name) for name in chosen], np.float64)
    (master,) = out.glob("master_*.fits")
    np.testing.assert_allclose(planes(master)["SCI"], PLAIN[method](cube, axis=0), rtol=1e-6)
    rows = table(out / "statistics.ecsv")
    assert np.median(rows["sigma_ratio"]) == pytest.approx(1.0, abs=0.05)
    assert (rows["after_sigma_adu"] < rows["before_sigma_adu"]).all()
