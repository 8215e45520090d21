"""Modes on real frames: each does what it says, from the command line and as a library."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from helpers import (
    CELL_NAMES,
    CELLS,
    PICTURES,
    Campaign,
    assert_pulls,
    call,
    differing,
    flags,
    header,
    labels,
    make_campaign,
    planes,
    products,
    run_well,
    settings_of,
    sound,
    steps_run,
    table,
    unsaturated,
)

from darkpipe.science.flags import DQ
from master_controller import MasterController
from run_pipeline import main


def synthetic(campaign: Campaign) -> set[str]:
    """Names in synthetic/ beyond those of the cells."""
    names = {p.name for p in (campaign.out / "synthetic").iterdir()}
    return names - {f"synthetic_dark_{name}.fits" for name in CELL_NAMES}


def assert_true(campaign: Campaign, path: Path, temperature_c: float, exposure_s: float) -> None:
    made = planes(path)
    inside = sound() & unsaturated(campaign.sensor, temperature_c, exposure_s)
    assert_pulls(made["SCI"], campaign.sensor.signal_adu(temperature_c, exposure_s), made["ERR"], inside, 0.1)
    cards = header(path)
    assert (cards["CCD-TEMP"], cards["EXPTIME"]) == (temperature_c, exposure_s)


def test_full_as_a_process_prints_a_table_and_makes_everything(reported: Campaign, tmp_path: Path) -> None:
    fresh = Campaign(tmp_path / "fresh", reported.sensor)
    shutil.copytree(reported.raw, fresh.raw)
    done = call("--mode", "full", "--basepath", "raw", "--output_dir", "out", cwd=fresh.root)
    assert done.returncode == 0, done.stderr
    assert differing(products(fresh.out), products(reported.out)) == []
    text = done.stdout
    assert text.rstrip().splitlines()[-1].split() == ["report", str(fresh.out / "evaluation" / "report.html")]
    for word in ("60 found, 60 accepted, 0 rejected", "two_component: smallest held-out error", "-10.0", "nearest",
                 "master darks", str(fresh.out / "dark_model"), "evaluation"):  # fmt: skip
        assert word in text, word
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    assert len(list((fresh.out / "logs").glob("pipeline_????????.log"))) == 1


def test_full_as_a_library(finished: Campaign) -> None:
    report = MasterController(settings_of(finished, evaluate_model=PICTURES)).run("full")
    assert report.exit_code == 0
    assert report.up_to_date
    assert [count.step for count in report.counts] == [
        *("load_data", "subtract_bias", "group_darks", "mask_hotpixels", "fit_dark_model"),
        *("generate_synthetic_darks", "evaluate_model", "bad_pixels", "report"),
    ]
    rows = [row for _, rows in report.summaries for row in rows]
    assert ("frames", "60 found, 60 accepted, 0 rejected") in rows
    assert next(text for name, text in rows if name == "model").startswith("two_component")


def test_rejected_frames_stand_in_the_table_with_their_reason(
    work: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    fits.setval(work.raw / "frame_0009.fits", "IMAGETYP", value="Light Frame")
    assert main(flags(work, "full", "--until_step", "1")) == 0
    text = capsys.readouterr().out
    assert "60 found, 59 accepted, 1 rejected" in text
    (line,) = [line for line in text.splitlines() if "frame_0009.fits" in line]
    assert "IMAGETYP" in line


def test_synthetic_only_from_a_model_elsewhere(finished: Campaign, tmp_path: Path) -> None:
    line = ["--mode", "synthetic_only", "--model_dir", str(finished.model), "--output_dir", str(tmp_path / "made")]
    assert main([*line, "--temps", "-8 -3.5", "--quiet"]) == 0
    made = sorted((tmp_path / "made" / "synthetic").iterdir())
    assert [p.name for p in made] == ["synthetic_dark_T-3.5C_texp300s.fits", "synthetic_dark_T-8.0C_texp300s.fits"]
    assert_true(finished, made[0], -3.5, 300.0)
    assert_true(finished, made[1], -8.0, 300.0)


def test_synthetic_only_without_temperatures_makes_the_cells_of_one_exposure(
    finished: Campaign, tmp_path: Path
) -> None:
    line = ["--mode", "synthetic_only", "--model_dir", str(finished.out), "--output_dir", str(tmp_path), "--quiet"]
    assert main([*line, "--exptimes", "100"]) == 0
    names = {p.name for p in (tmp_path / "synthetic").iterdir()}
    assert names == {f"synthetic_dark_T{t:.1f}C_texp100s.fits" for t in (-10.0, -5.0, 0.0)}
    own = planes(finished.out / "synthetic" / "synthetic_dark_T-5.0C_texp100s.fits")["SCI"]
    np.testing.assert_array_equal(planes(tmp_path / "synthetic" / "synthetic_dark_T-5.0C_texp100s.fits")["SCI"], own)


def test_synthetic_2d_makes_the_grid(work: Campaign) -> None:
    assert main(flags(work, "synthetic_2d", "--temps", "-7,-2", "--exptimes", "60 200", "--quiet")) == 0
    expected = {f"synthetic_dark_T{t:.1f}C_texp{e}s.fits" for t in (-7.0, -2.0) for e in (60, 200)}
    assert synthetic(work) == expected
    assert_true(work, work.out / "synthetic" / "synthetic_dark_T-2.0C_texp60s.fits", -2.0, 60.0)
    # what was wished for outlives a full run
    run_well(work)
    assert synthetic(work) == expected


def test_synthetic_2d_without_a_grid_makes_every_cell(finished: Campaign, tmp_path: Path) -> None:
    line = ["--mode", "synthetic_2d", "--model-dir", str(finished.out), "--output-dir", str(tmp_path), "--quiet"]
    assert main(line) == 0
    names = {p.name for p in (tmp_path / "synthetic").iterdir()}
    assert names == {f"synthetic_dark_{name}.fits" for name in CELL_NAMES}


def test_synthetic_2d_single_in_its_place_and_to_a_file(work: Campaign, tmp_path: Path) -> None:
    point = ["--temp_single", "-6.5", "--exptime_single", "45"]
    assert main(flags(work, "synthetic_2d_single", *point, "--quiet")) == 0
    assert synthetic(work) == {"synthetic_dark_T-6.5C_texp45s.fits"}
    path = work.out / "synthetic" / "synthetic_dark_T-6.5C_texp45s.fits"
    assert_true(work, path, -6.5, 45.0)
    target = tmp_path / "somewhere" / "dark.fits"
    assert main(flags(work, "synthetic_2d_single", *point, "--output", str(target), "--quiet")) == 0
    assert target.read_bytes() == path.read_bytes()


def test_include_bias_and_uint16_from_the_command_line(work: Campaign) -> None:
    point = ["--temp_single", "-5", "--exptime_single", "100", "--quiet"]
    for more in (["--include_bias"], ["--dtype", "uint16"], ["--include-bias", "--dtype=uint16"]):
        assert main(flags(work, "synthetic_2d_single", *point, *more)) == 0
    folder = work.out / "synthetic"
    stem = "synthetic_dark_T-5.0C_texp100s"
    assert synthetic(work) == {f"{stem}_bias.fits", f"{stem}_uint16.fits", f"{stem}_bias_uint16.fits"}
    plain, whole = (planes(folder / f"{stem}{suffix}.fits")["SCI"] for suffix in ("", "_bias"))
    good = sound() & unsaturated(work.sensor, -5.0, 100.0)
    truth = work.sensor.bias_adu(-5.0)
    assert np.median(np.abs((whole - plain) - truth)[good]) < 1.5
    counts = fits.getdata(folder / f"{stem}_bias_uint16.fits")
    np.testing.assert_array_equal(counts[good], np.rint(whole[good]).astype(np.uint16))


def test_fit_2d_model_stops_at_the_model(finished: Campaign, tmp_path: Path) -> None:
    fresh = Campaign(tmp_path / "fresh", finished.sensor)
    shutil.copytree(finished.raw, fresh.raw)
    assert main(flags(fresh, "fit_2d_model", "--quiet")) == 0
    assert not (fresh.out / "synthetic").exists()
    assert not (fresh.out / "evaluation").exists()
    made = {k: v for k, v in products(fresh.out).items() if k.startswith("dark_model/")}
    same = {k: v for k, v in products(finished.out).items() if k.startswith("dark_model/")}
    assert [k for k in differing(made, same) if k != "dark_model/model.yaml"] == []


@pytest.mark.parametrize("mode", ["evaluation_only", "evaluate_2d_model"])
def test_evaluation_of_the_own_model(work: Campaign, mode: str) -> None:
    before = products(work.out)
    shutil.rmtree(work.out / "evaluation")
    assert main(flags(work, mode, "--quiet")) == 0
    assert differing(products(work.out), before) == []


@pytest.mark.parametrize("mode", ["evaluation_only", "evaluate_2d_model"])
def test_evaluation_of_new_frames_against_a_model(finished: Campaign, tmp_path: Path, mode: str) -> None:
    new = Campaign(tmp_path / "new", finished.sensor)
    new.raw.mkdir(parents=True)
    for path in (*finished.frames_of(0.0, 100.0), *finished.raw.glob("frame_00[4-6]*.fits")):
        shutil.copy(path, new.raw)
        with fits.open(new.raw / path.name, mode="update") as units:
            units[0].header["OBSERVER"] = "somebody else"  # as good as another frame
    more = ["--basepath", str(new.raw), "--model_dir", str(finished.out), "--quiet"]
    assert main(flags(new, mode, *more, pictures=mode == "evaluation_only")) == 0
    rows = table(new.out / "evaluation" / "evaluation.ecsv")
    assert "T0.0C_texp100s" in set(rows["cell"])
    assert set(rows["kind"]) == {"new"}
    assert set(rows["model"]) == {"two_component"}
    assert not (new.model / "model.yaml").exists()
    assert (new.out / "evaluation" / "mae_T0.0C_texp100s.png").is_file() == (mode == "evaluation_only")


@pytest.mark.parametrize("model", ["exp_1d", "exp_t", "exp_2d", "two_component"])
def test_the_model_that_is_asked_for_makes_the_darks(work: Campaign, model: str) -> None:
    assert main(flags(work, "full", "--model", model, "--quiet")) == 0
    described = yaml.safe_load((work.model / "model.yaml").read_text())
    assert described["chosen"].split("/")[0] == model
    assert described["why"] == f"asked for: {model}"
    scopes = {m["cell"] for m in described["models"] if m["name"] == model}
    expected = {"exp_1d": {"texp30s", "texp100s", "texp300s"}, "exp_t": {"T-10.0C", "T-5.0C", "T0.0C"}}
    assert scopes == expected.get(model, {""})
    for name, (t, e) in zip(CELL_NAMES, CELLS, strict=True):
        path = work.out / "synthetic" / f"synthetic_dark_{name}.fits"
        assert header(path)["MODEL"].split("/")[0] == model
        made = planes(path)["SCI"]
        good = sound() & unsaturated(work.sensor, t, e) & np.isfinite(made)
        error = np.median(np.abs(made - work.sensor.signal_adu(t, e))[good])
        assert error < 3 + 0.05 * np.median(work.sensor.signal_adu(t, e)), name
    rows = table(work.out / "evaluation" / "evaluation.ecsv")
    assert model in {str(m).split("/")[0] for m in rows["model"]}


def test_another_model_of_the_same_fit(finished: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--mode", "synthetic_2d", "--model_dir", str(finished.out), "--output_dir", str(tmp_path), "--quiet"]
    assert main([*line, "--model", "exp_2d"]) == 0
    assert header(tmp_path / "synthetic" / f"synthetic_dark_{CELL_NAMES[0]}.fits")["MODEL"] == "exp_2d"
    before = products(tmp_path)
    assert main([*line, "--model", "exp_t"]) == 1
    assert "exp_t is not among the fitted ones" in capsys.readouterr().err
    assert products(tmp_path) == before


@pytest.mark.parametrize("form", ["two maps", "one file", "our own"])
def test_a_bias_model_made_elsewhere(finished: Campaign, tmp_path: Path, form: str) -> None:
    """b0 and b1 maps of the true bias, quoted at 0 °C; no bias frame is looked at."""
    fresh = Campaign(tmp_path / "fresh", finished.sensor)
    shutil.copytree(finished.raw, fresh.raw)
    sensor, given = finished.sensor, tmp_path / "given"
    given.mkdir()
    b0, b1 = (m.astype(np.float32) for m in (sensor.bias_zero_c, sensor.bias_slope))
    if form == "two maps":
        fits.writeto(given / "bias_b0_map.fits", b0)
        fits.writeto(given / "bias_b1_map.fits", b1)
    elif form == "one file":
        hdus = [fits.PrimaryHDU(), fits.ImageHDU(b0, name="B0"), fits.ImageHDU(b1, name="B1")]
        fits.HDUList(hdus).writeto(given / "bias_model.fits")
    else:
        given = finished.out / "bias" / "bias_model.fits"
    assert main(flags(fresh, "full", "--bias_model", str(given), "--until_step", "6", "--quiet")) == 0
    assert not list(fresh.out.rglob("master_bias*"))
    assert {str(b).split()[0] for b in table(fresh.out / "groups.ecsv")["bias"]} == {"line"}
    made = planes(fresh.out / "synthetic" / "synthetic_dark_T-5.0C_texp100s.fits")
    good = sound() & unsaturated(sensor, -5.0, 300.0)
    assert_pulls(made["SCI"], sensor.signal_adu(-5.0, 100.0), made["ERR"], good, 0.12)
    assert not (made["DQ"][good] & DQ.NO_BIAS).any()


def test_two_configurations_and_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"rows": 16, "cols": 12, "n_biases": 3, "n_darks": 2, "hot_fraction": 0.0}
    both = make_campaign(tmp_path, **small)
    other = make_campaign(tmp_path / "other", **small, gain_setting=200.0, gain_e_per_adu=0.4, seed=2)
    shutil.move(other.raw, both.raw / "g200")
    line = flags(both, "full", "--quiet")
    names = ["Simulated-CCD_g100_o50_b1_16x12", "Simulated-CCD_g200_o50_b1_16x12"]
    assert main([*line, "--select", "gain=200"]) == 0
    assert not (both.out / names[0]).exists()
    assert (both.out / names[1] / "dark_model" / "model.yaml").is_file()
    first = products(both.out)
    assert main(line) == 0
    assert (both.out / names[0] / "evaluation" / "evaluation.ecsv").is_file()
    assert differing({k: v for k, v in products(both.out).items() if k in first}, first) == []
    assert main([*line, "--select", "gain=300"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in names)
    # the same frames alone give the same model
    alone = make_campaign(tmp_path / "alone", **small)
    run_well(alone)
    ours = {
        k.removeprefix(f"{names[0]}/"): v for k, v in products(both.out).items() if k.startswith(f"{names[0]}/dark_")
    }
    assert differing(ours, {k: v for k, v in products(alone.out).items() if k.startswith("dark_")}) == []


def test_processes_make_the_same_bytes(plain: Campaign, tmp_path: Path) -> None:
    fresh = Campaign(tmp_path / "fresh", plain.sensor)
    shutil.copytree(plain.raw, fresh.raw)
    done = call(*flags(fresh, "full", "--engine", "processes", "--workers", "2", "--quiet"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert differing(products(fresh.out), products(plain.out)) == []


def test_one_worker_makes_the_same_bytes(plain: Campaign, tmp_path: Path) -> None:
    fresh = Campaign(tmp_path / "fresh", plain.sensor)
    shutil.copytree(plain.raw, fresh.raw)
    report = run_well(fresh, workers=1)
    assert steps_run(report)[-1] == "bad_pixels"
    assert len(labels(report)) == len(set(labels(report)))
    assert differing(products(fresh.out), products(plain.out)) == []
