"""Light frames of the simulated camera, calibrated from the command line: the sky comes back, the dark is gone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from helpers import (
    Campaign,
    assert_pulls,
    header,
    labels,
    planes,
    products,
    row,
    run_well,
    sound,
    spread,
    steps_run,
    table,
)
from simulated import Sensor
from sky import Sky, light_image, write_light

import run_pipeline
from darkpipe.errors import SettingsError
from darkpipe.jobs.report import RunReport
from darkpipe.science.flags import DQ, MODEL_INVALID
from master_controller import MasterController

SKY = Sky(sky_adu_s=0.4, stars=3, brightest_adu_s=60.0)
T_C, T_S = -7.0, 200.0  # between the cells


def calibrate(work: Campaign, lights: Path, out: Path, *, kinds: list[str] | None = None, **settings: Any) -> RunReport:
    given = {"output_dir": out, "workers": 2, "load_data": {"basepath": lights}, "calibrate": settings}
    chosen: dict[str, Any] = {"calibrate": {"model_dir": str(work.out)}}
    if kinds is not None:
        chosen["load_data"] = {"kinds": kinds}
    return MasterController(given, flags=chosen).run("calibrate")


def rows_of(out: Path) -> Any:
    return table(out / "calibrated" / "calibrated.ecsv")


def quiet_pixels(sensor: Sensor, dq: np.ndarray) -> np.ndarray:
    """Pixels that are neither flagged nor in a star."""
    rate = SKY.rate(*sensor.hot.shape)
    dark_sky = rate < 1.3 * np.median(rate)
    return sound(sensor.hot.shape) & dark_sky & ((dq & int(MODEL_INVALID)) == 0)


def test_the_sky_comes_back_with_its_error(work: Campaign, tmp_path: Path) -> None:
    before = products(work.out)
    for number in range(4):
        write_light(tmp_path / "lights" / f"m31_{number}.fits", work.sensor, T_C, T_S, sky=SKY, seed=number)
    report = calibrate(work, tmp_path / "lights", tmp_path / "out")
    report.raise_for_failure()
    assert products(work.out) == before  # the model is looked at, not touched
    truth = SKY.rate(*work.sensor.hot.shape) * T_S
    pulls = []
    for number in range(4):
        found = planes(tmp_path / "out" / "calibrated" / f"m31_{number}.fits")
        assert {k: found[k].dtype.name for k in ("SCI", "ERR", "DQ")} == {
            "SCI": "float32", "ERR": "float32", "DQ": "uint16",
        }  # fmt: skip
        where = quiet_pixels(work.sensor, found["DQ"])
        pulls.append(((found["SCI"] - truth) / found["ERR"])[where])
        hot = where & work.sensor.hot
        left = found["SCI"][hot] - truth[hot]
        assert spread(left) < 0.15 * np.median(work.sensor.signal_adu(T_C, T_S)[hot])
    together = np.concatenate(pulls)
    assert together.size > 4000
    assert spread(together) == pytest.approx(1.0, abs=0.05)
    assert abs(np.median(together)) < 0.15
    assert list(rows_of(tmp_path / "out")["dark_c"]) == [T_C] * 4


def test_the_header_says_what_was_done_and_keeps_what_was_there(work: Campaign, tmp_path: Path) -> None:
    cards = {"CTYPE1": "RA---TAN", "CRVAL1": 10.68, "PEDESTAL": -25}
    write_light(tmp_path / "lights" / "a.fits", work.sensor, -5.1, T_S, set_point_c=-5.0, sky=SKY, cards=cards)
    calibrate(work, tmp_path / "lights", tmp_path / "out").raise_for_failure()
    path = tmp_path / "out" / "calibrated" / "a.fits"
    top = header(path)
    expected = {
        "OBJECT": "M 31", "FILTER": "R", "IMAGETYP": "Light Frame", "EXPTIME": T_S, "T-DARK": -5.0,
        "T-SOURCE": "set point", "EXPDARK": T_S, "CALSTAT": "BD", "EXTRAPOL": False, "PEDADDED": -25.0, "N_REPAIR": 0,
    }  # fmt: skip
    assert {key: top[key] for key in expected} == expected
    assert top["CREATOR"].startswith("darkpipe ")
    assert top["MODEL"] in ("exp_2d", "two_component")
    assert abs(top["T-HOT"] - -5.1) < 4 * top["T-HOTERR"] < 2.0
    history = " ".join(top["HISTORY"])
    assert "dark of model" in history
    assert "200 s" in history
    assert "PEDESTAL" not in top
    assert header(path, "SCI")["CTYPE1"] == "RA---TAN"
    assert "CTYPE1" not in header(path, "ERR")
    # what is calibrated is not calibrated again
    report = calibrate(work, path.parent, tmp_path / "again")
    assert report.exit_code == 1
    assert "calibrated" in str(table(tmp_path / "again" / "index.ecsv")["reason"][0])


def test_frames_resume_and_only_new_ones_are_made(work: Campaign, tmp_path: Path) -> None:
    lights, out = tmp_path / "lights", tmp_path / "out"
    for seed, night in enumerate(("one", "two")):
        write_light(lights / night / "a.fits", work.sensor, T_C, T_S, sky=SKY, seed=seed)
    first = calibrate(work, lights, out)
    first.raise_for_failure()
    made = {p.name for p in (out / "calibrated").glob("*.fits")}
    assert made == {"one__a.fits", "two__a.fits"}  # the same name in two folders
    before = products(out)
    assert calibrate(work, lights, out).up_to_date
    assert products(out) == before
    write_light(lights / "two" / "b.fits", work.sensor, T_C, T_S, sky=SKY, seed=9)
    assert labels(calibrate(work, lights, out), "calibrate") == ["calibrate two/b.fits", "table of frames"]
    (out / "calibrated" / "one__a.fits").unlink()
    assert labels(calibrate(work, lights, out)) == ["calibrate one/a.fits"]
    assert {k: v for k, v in products(out).items() if "one__" in k or "two__a" in k} == {
        k: v for k, v in before.items() if "one__" in k or "two__a" in k
    }
    (lights / "one" / "a.fits").unlink()
    report = calibrate(work, lights, out)
    report.raise_for_failure()
    assert not (out / "calibrated" / "one__a.fits").exists()
    # a master that changes makes everything anew
    work.add_frame(0.0, 300.0)
    run_well(work, chosen={"until_step": 5})
    assert "calibrate two/a.fits" in labels(calibrate(work, lights, out))


@pytest.mark.parametrize(
    ("card", "value", "told"), [("GAIN", 200.0, "gain 200 against 100"), ("XBINNING", 2, "binning")]
)
def test_another_configuration_is_refused_and_the_others_go_on(
    work: Campaign, tmp_path: Path, card: str, value: object, told: str
) -> None:
    write_light(tmp_path / "lights" / "good.fits", work.sensor, T_C, T_S, sky=SKY)
    other = {card: value} if card == "GAIN" else {card: value, "YBINNING": value}
    write_light(tmp_path / "lights" / "other.fits", work.sensor, T_C, T_S, sky=SKY, seed=3, cards=other)
    report = calibrate(work, tmp_path / "lights", tmp_path / "out")
    assert report.exit_code == 1
    assert told in str(report.failures[0])
    made = [p.name for p in (tmp_path / "out").rglob("good.fits")]
    assert made == ["good.fits"]


def test_a_sub_frame_takes_the_models_window(work: Campaign, tmp_path: Path) -> None:
    image = light_image(work.sensor, SKY, T_C, T_S, 1)
    write_light(tmp_path / "whole" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    part = {"XORGSUBF": 8, "YORGSUBF": 4}
    write_light(tmp_path / "part" / "a.fits", work.sensor, T_C, T_S, sky=SKY, cards=part)
    with fits.open(tmp_path / "part" / "a.fits", mode="update") as hdus:
        hdus[0].data = image[4:34, 8:33]
    for name in ("whole", "part"):
        calibrate(work, tmp_path / name, tmp_path / f"{name}_out", thermometer_error_c=5.0).raise_for_failure()
    whole, sub = (planes(tmp_path / f"{n}_out" / "calibrated" / "a.fits") for n in ("whole", "part"))
    for plane in ("SCI", "DQ"):
        np.testing.assert_array_equal(sub[plane], whole[plane][4:34, 8:33])
    np.testing.assert_allclose(sub["ERR"], whole["ERR"][4:34, 8:33], rtol=2e-3)  # the ordinary pixel is another
    assert header(tmp_path / "part_out" / "calibrated" / "a.fits")["WIN-X"] == 8


def test_the_thermometer_serves_headers_that_lie_or_are_silent(work: Campaign, tmp_path: Path) -> None:
    lights = tmp_path / "lights"
    write_light(lights / "liar.fits", work.sensor, T_C, T_S, sky=SKY, reading_c=-1.0, set_point_c=-1.0)
    silent = {"CCD-TEMP": None, "SET-TEMP": None}
    write_light(lights / "silent.fits", work.sensor, T_C, T_S, sky=SKY, seed=2, cards=silent)
    report = calibrate(work, lights, tmp_path / "header")
    report.raise_for_failure()
    left_out = row(tmp_path / "header" / "calibrated" / "calibrated.ecsv", file="silent.fits")
    assert "no temperature" in left_out["reason"]
    liar = row(tmp_path / "header" / "calibrated" / "calibrated.ecsv", file="liar.fits")
    assert "the hot pixels say" in liar["note"]
    assert liar["dark_c"] == -1.0
    said = [text for _, rows in report.summaries for _, text in rows]
    assert any("liar.fits: the hot pixels say" in text for text in said)

    calibrate(work, lights, tmp_path / "hot", temperature="thermometer").raise_for_failure()
    truth = SKY.rate(*work.sensor.hot.shape) * T_S
    for name in ("liar", "silent"):
        found = row(tmp_path / "hot" / "calibrated" / "calibrated.ecsv", file=f"{name}.fits")
        assert found["source"] == "hot pixels"
        assert abs(found["dark_c"] - T_C) < 4 * found["dark_error_c"] < 2.0
        made = planes(tmp_path / "hot" / "calibrated" / f"{name}.fits")
        where = quiet_pixels(work.sensor, made["DQ"])
        hot = where & work.sensor.hot
        pulls = ((made["SCI"] - truth) / made["ERR"])[hot]
        assert spread(pulls) < 1.6
    wrong = planes(tmp_path / "header" / "calibrated" / "liar.fits")
    right = planes(tmp_path / "hot" / "calibrated" / "liar.fits")
    hot = quiet_pixels(work.sensor, right["DQ"]) & work.sensor.hot
    assert spread((right["SCI"] - truth)[hot]) < 0.3 * spread((wrong["SCI"] - truth)[hot])


def test_too_little_dark_signal_tells_no_temperature(work: Campaign, tmp_path: Path) -> None:
    silent = {"CCD-TEMP": None, "SET-TEMP": None}
    write_light(tmp_path / "lights" / "flat.fits", work.sensor, T_C, 0.05, kind="Flat Frame", cards=silent)
    report = calibrate(work, tmp_path / "lights", tmp_path / "out", temperature="thermometer")
    assert report.exit_code == 1
    assert "the header has no temperature, and the hot pixels tell it" in str(report.failures[0])
    write_light(tmp_path / "lights" / "flat.fits", work.sensor, T_C, 0.05, kind="Flat Frame")
    calibrate(work, tmp_path / "lights", tmp_path / "out", temperature="thermometer").raise_for_failure()
    found = rows_of(tmp_path / "out")[0]
    assert (found["source"], found["dark_c"]) == ("set point", T_C)
    assert "do not tell" in found["note"]


def test_flats_are_taken_and_darks_only_when_asked_for(work: Campaign, tmp_path: Path) -> None:
    lights = tmp_path / "lights"
    write_light(lights / "flat.fits", work.sensor, T_C, 30.0, sky=Sky(sky_adu_s=300.0, stars=0), kind="Flat Field")
    write_light(lights / "flatdark.fits", work.sensor, T_C, 30.0, seed=2, kind="Dark Flat")
    calibrate(work, lights, tmp_path / "out").raise_for_failure()
    assert list(rows_of(tmp_path / "out")["file"]) == ["flat.fits"]
    flat = planes(tmp_path / "out" / "calibrated" / "flat.fits")
    where = sound(work.sensor.hot.shape) & ((flat["DQ"] & int(MODEL_INVALID)) == 0)
    truth = Sky(sky_adu_s=300.0, stars=0).rate(*work.sensor.hot.shape) * 30.0
    assert_pulls(flat["SCI"], truth, flat["ERR"], where, within=0.08)
    reasons = {str(r["file"]): str(r["reason"]) for r in table(tmp_path / "out" / "index.ecsv")}
    assert "wanted here: flat, light" in reasons["flatdark.fits"]
    calibrate(work, lights, tmp_path / "out", kinds=["dark"]).raise_for_failure()
    assert list(rows_of(tmp_path / "out")["file"]) == ["flatdark.fits"]
    left = planes(tmp_path / "out" / "calibrated" / "flatdark.fits")
    assert_pulls(left["SCI"], 0.0 * truth, left["ERR"], where, within=0.08)


def test_residual_figures_say_whether_the_dark_fits(work: Campaign, tmp_path: Path) -> None:
    lights = tmp_path / "lights"
    write_light(lights / "good.fits", work.sensor, T_C, T_S, sky=SKY)
    write_light(lights / "short.fits", work.sensor, T_C, T_S, sky=SKY, seed=2, cards={"EXPTIME": 0.8 * T_S})
    calibrate(work, lights, tmp_path / "out", residual=True).raise_for_failure()
    where = tmp_path / "out" / "calibrated" / "calibrated.ecsv"
    good, short = row(where, file="good.fits"), row(where, file="short.fits")
    assert abs(good["scale"] - 1.0) < 4 * good["scale_error"] < 0.4
    assert abs(short["scale"] - 1.25) < 4 * short["scale_error"]
    assert good["correlation_before"] > 0.9
    assert abs(good["correlation_after"]) < 0.3 < abs(short["correlation_after"])
    assert good["sigma_after_adu"] < good["sigma_before_adu"]
    plain = calibrate(work, lights, tmp_path / "plain")
    plain.raise_for_failure()
    assert "scale" not in rows_of(tmp_path / "plain").colnames
    a, b = (planes(tmp_path / n / "calibrated" / "good.fits") for n in ("out", "plain"))
    np.testing.assert_array_equal(a["SCI"], b["SCI"])


def test_repair_is_off_by_default(work: Campaign, tmp_path: Path) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    for name, on in (("off", False), ("on", True)):
        calibrate(work, tmp_path / "lights", tmp_path / name, repair=on).raise_for_failure()
    off, on_ = (planes(tmp_path / n / "calibrated" / "a.fits") for n in ("off", "on"))
    repaired = (on_["DQ"] & int(DQ.REPAIRED)) != 0
    assert 1 <= repaired.sum() == header(tmp_path / "on" / "calibrated" / "a.fits")["N_REPAIR"] < 100
    assert not (off["DQ"] & int(DQ.REPAIRED)).any()
    np.testing.assert_array_equal(on_["SCI"][~repaired], off["SCI"][~repaired])
    truth = SKY.rate(*work.sensor.hot.shape) * T_S
    assert np.median(np.abs(on_["SCI"] - truth)[repaired]) < 40
    assert np.isfinite(on_["SCI"][repaired]).all()


def test_saturated_pixels_are_marked(work: Campaign, tmp_path: Path) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    with fits.open(tmp_path / "lights" / "a.fits", mode="update") as hdus:
        hdus[0].data[10:13, 20:23] = 65535
        hdus[0].data[30, 5] = 0
    calibrate(work, tmp_path / "lights", tmp_path / "out", repair=True).raise_for_failure()
    dq = planes(tmp_path / "out" / "calibrated" / "a.fits")["DQ"]
    assert ((dq[10:13, 20:23] & int(DQ.SATURATED)) != 0).all()
    assert not (dq[10:13, 20:23] & int(DQ.REPAIRED)).any()  # a bright star is no fault of the pixel
    assert dq[30, 5] & int(DQ.CLIPPED_LOW)
    clear = sound(work.sensor.hot.shape) & ~work.sensor.hot
    clear[10:13, 20:23] = False
    assert not (dq[clear] & int(DQ.SATURATED)).any()


def test_the_one_dark_for_a_frame(work: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    light = tmp_path / "elsewhere" / "m31.fits"
    write_light(light, work.sensor, T_C, T_S, sky=SKY, reading_c=-3.0, set_point_c=-3.0)
    line = ["--mode", "calibrate", "--like", str(light), "--model_dir", str(work.out), "--output_dir"]
    assert run_pipeline.main([*line, str(tmp_path / "out"), "--quiet"]) == 0
    capsys.readouterr()
    made = tmp_path / "out" / "synthetic" / "dark_for_m31.fits"
    assert (header(made)["CCD-TEMP"], header(made)["EXPTIME"]) == (-3.0, T_S)
    found = planes(made)
    hot = sound(work.sensor.hot.shape) & ((found["DQ"] & int(MODEL_INVALID)) == 0)
    truth = work.sensor.signal_adu(-3.0, T_S)
    assert spread((found["SCI"] - truth)[hot] / truth[hot]) < 0.2
    target = tmp_path / "mine.fits"
    more = ["--temperature", "thermometer", "--include_bias", "--dtype", "uint16", "--output", str(target)]
    assert run_pipeline.main([*line, str(tmp_path / "out"), *more, "--quiet"]) == 0
    assert abs(header(target)["CCD-TEMP"] - T_C) < 1.0
    assert fits.getdata(target).dtype.name == "uint16"
    assert not (tmp_path / "out" / "index.ecsv").exists()
    assert run_pipeline.main([*line, str(tmp_path / "out"), "--output", str(light), "--quiet"]) == 1 + 1
    assert "cannot replace its frame" in capsys.readouterr().err


def test_a_single_dark_takes_nothing_away(work: Campaign, tmp_path: Path) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    calibrate(work, tmp_path / "lights", tmp_path / "out").raise_for_failure()
    before = products(tmp_path / "out")
    report = calibrate(work, tmp_path / "lights", tmp_path / "out", like=str(tmp_path / "lights" / "a.fits"))
    report.raise_for_failure()
    assert steps_run(report) == ["calibrate"]
    after = products(tmp_path / "out")
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"synthetic/dark_for_a.fits"}


def test_the_command_line(work: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    line = ["--mode", "calibrate", "--basepath", str(tmp_path / "lights"), "--output_dir", str(tmp_path / "out")]
    assert run_pipeline.main(line) == 2  # no model
    assert "--model_dir" in capsys.readouterr().err
    line += ["--model_dir", str(work.model)]  # the folder of the model alone
    assert run_pipeline.main([*line, "--residual", "--repair"]) == 0
    told = capsys.readouterr().out
    assert "1 of 1 frames" in told
    assert run_pipeline.main([*line, "--kinds", "lihgt"]) == 2
    assert "kinds" in capsys.readouterr().err
    assert run_pipeline.main([*line, "--residual", "--repair", "--dry_run"]) == 0
    assert run_pipeline.main(["--mode", "full", "--residual", *line[2:]]) == 2


def test_lights_are_not_indexed_over_the_model(work: Campaign, tmp_path: Path) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    with pytest.raises(SettingsError, match="directory of the model"):
        calibrate(work, tmp_path / "lights", work.out)


def test_a_model_folder_that_was_moved_alone_serves(work: Campaign, tmp_path: Path) -> None:
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    calibrate(work, tmp_path / "lights", tmp_path / "one").raise_for_failure()
    moved = tmp_path / "alone" / "dark_model"
    moved.parent.mkdir()
    work.model.rename(moved)
    given = {"output_dir": tmp_path / "two", "load_data": {"basepath": tmp_path / "lights"}}
    MasterController(given, flags={"calibrate": {"model_dir": str(moved)}}).run("calibrate").raise_for_failure()
    one, two = (rows_of(tmp_path / n)[0] for n in ("one", "two"))
    # without the masters the thermometer has no scale of its own, and says so by its error
    assert one["hot_error_c"] < two["hot_error_c"] or math.isclose(one["hot_error_c"], two["hot_error_c"], rel_tol=0.2)
    a, b = (planes(tmp_path / n / "calibrated" / "a.fits") for n in ("one", "two"))
    np.testing.assert_array_equal(a["SCI"], b["SCI"])
    np.testing.assert_allclose(a["ERR"], b["ERR"], rtol=0.2)  # the map of the read noise stayed behind


def test_a_model_of_frames_without_biases_serves(work: Campaign, tmp_path: Path) -> None:
    for path in work.raw.glob("*.fits"):
        if fits.getval(path, "IMAGETYP").startswith("Bias"):
            path.unlink()
    run_well(work, chosen={"until_step": 5})
    write_light(tmp_path / "lights" / "a.fits", work.sensor, T_C, T_S, sky=SKY)
    calibrate(work, tmp_path / "lights", tmp_path / "out", residual=True).raise_for_failure()
    found = planes(tmp_path / "out" / "calibrated" / "a.fits")
    where = quiet_pixels(work.sensor, found["DQ"])
    truth = SKY.rate(*work.sensor.hot.shape) * T_S
    pulls = ((found["SCI"] - truth) / found["ERR"])[where]
    assert spread(pulls) < 1.1
    assert abs(np.median(pulls)) < 1.0
    told = rows_of(tmp_path / "out")[0]
    assert abs(told["hot_c"] - T_C) < 4 * told["hot_error_c"]
