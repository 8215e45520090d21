"""Master darks for other programs: the counts that a camera would write, in files that say what they are."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from helpers import (
    CAMPAIGN,
    CELLS,
    STUCK_HIGH,
    STUCK_LOW,
    Campaign,
    command,
    environment,
    header,
    labels,
    make_campaign,
    planes,
    products,
    run_well,
    sound,
    table,
    unsaturated,
)

import run_pipeline
from darkpipe.errors import FrameError, SettingsError
from darkpipe.jobs.report import RunReport
from master_controller import MasterController

ASKED = {"temperatures_c": [-7.5, -2.0], "exposures_s": [50.0, 250.0]}
POINTS = [(t, e) for t in ASKED["temperatures_c"] for e in ASKED["exposures_s"]]


def export(work: Campaign, **settings: Any) -> RunReport:
    report = MasterController({"output_dir": work.out, "workers": 2, "export_library": settings}).run("export_library")
    report.raise_for_failure()
    return report


def dark_of(out: Path, temperature_c: float, exposure_s: float, setting: str = "g100_o50_b1") -> Path:
    name = f"master_dark_T{temperature_c:.1f}C_texp{exposure_s:g}s_{setting}.fits"
    return out / "library" / f"T{temperature_c:.1f}C" / name


def with_bias(work: Campaign, temperature_c: float, exposure_s: float) -> np.ndarray:
    """The synthetic dark with its bias, in native ADU."""
    target = work.root / "with_bias.fits"
    section = {"temp_single_c": temperature_c, "exptime_single_s": exposure_s, "output": target, "include_bias": True}
    run_well(work, "synthetic_2d_single", generate_synthetic_darks=section)
    return planes(target)["SCI"]


@pytest.fixture(scope="module")
def left_aligned(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Twelve bits shifted to the top of sixteen, a pedestal, rows from the top; up to the model."""
    cards = (("ROWORDER", "TOP-DOWN"), ("PEDESTAL", -25), ("XPIXSZ", 3.76), ("BAYERPAT", "RGGB"))
    recipe = dataclasses.replace(
        CAMPAIGN, rows=30, cols=34, adc_bits=12, left_aligned=True, header=cards, bias_level_adu=300.0,
        temperatures_c=(-10.0, 0.0), exposures_s=(30.0, 100.0), gain_setting=None,
    )  # fmt: skip
    campaign = make_campaign(tmp_path_factory.mktemp("left_aligned"), recipe)
    run_well(campaign, chosen={"until_step": 5})
    return campaign


def test_counts_are_bias_and_dark_within_rounding(work: Campaign) -> None:
    export(work, **ASKED)
    for temperature_c, exposure_s in POINTS:
        path = dark_of(work.out, temperature_c, exposure_s)
        with fits.open(path, checksum=True) as hdus:
            assert len(hdus) == 1
            assert hdus[0].header["BITPIX"] == 16
            assert hdus[0].header["BZERO"] == 32768
            counts = hdus[0].data
        assert counts.dtype == np.uint16
        wanted = with_bias(work, temperature_c, exposure_s).astype(float)
        known = np.isfinite(wanted) & (wanted < 65535)
        assert np.abs(counts - wanted)[known].max() <= 0.5 + 1e-2  # float32 of 30,000 has steps of 0.002
        truth = work.sensor.bias_adu(temperature_c) + work.sensor.signal_adu(temperature_c, exposure_s)
        inside = sound() & unsaturated(work.sensor, temperature_c, exposure_s) & (truth < 3000)
        assert abs(np.median((counts - truth)[inside])) < 1.0


def test_pixels_without_a_model_get_their_surroundings(work: Campaign) -> None:
    export(work, **ASKED)
    path = dark_of(work.out, -7.5, 50.0)
    counts = fits.getdata(path).astype(float)
    assert header(path)["N_BLANK"] == 2
    for where in (STUCK_HIGH, STUCK_LOW):
        assert abs(counts[where] - np.median(counts)) < 50


def test_headers_say_what_programs_match_by(work: Campaign) -> None:
    export(work, **ASKED)
    cards = header(dark_of(work.out, -7.5, 50.0))
    expected = {
        "IMAGETYP": "Master Dark", "EXPTIME": 50.0, "EXPOSURE": 50.0, "CCD-TEMP": -7.5, "SET-TEMP": -7.5,
        "GAIN": 100.0, "OFFSET": 50.0, "XBINNING": 1, "YBINNING": 1, "INSTRUME": "Simulated CCD", "EGAIN": 0.8,
        "BUNIT": "adu", "EXTRAPOL": False, "SYNTHET": True, "SCALEFAC": 1.0, "N_CLIP": 0,
    }  # fmt: skip
    assert {key: cards[key] for key in expected} == expected
    assert "DATE-OBS" not in cards
    export(work, **ASKED, image_type="DARK", format="float32")
    assert header(dark_of(work.out, -2.0, 250.0))["IMAGETYP"] == "DARK"


def test_raw_counts_have_the_scale_the_pedestal_and_the_rows_of_the_frames(left_aligned: Campaign) -> None:
    export(left_aligned)
    cells = [(t, e) for t in (-10.0, 0.0) for e in (30.0, 100.0)]
    assert len(table(left_aligned.out / "library" / "library.ecsv")) == len(cells)
    for temperature_c, exposure_s in cells:
        path = dark_of(left_aligned.out, temperature_c, exposure_s, "o50_b1")
        cards = header(path)
        expected = {
            "ROWORDER": "TOP-DOWN", "PEDESTAL": -25.0, "XPIXSZ": 3.76, "BAYERPAT": "RGGB", "SCALEFAC": 16.0,
            "EGAIN": 0.8, "OFFSET": 50.0,
        }  # fmt: skip
        assert {key: cards[key] for key in expected} == expected
        raw = np.mean([fits.getdata(p) for p in left_aligned.frames_of(temperature_c, exposure_s)], axis=0)
        apart = fits.getdata(path) - raw
        quiet = ~left_aligned.sensor.hot
        assert abs(np.median(apart[quiet])) < 16.0  # one count of the converter; the pedestal is 400 raw counts
        assert np.corrcoef(fits.getdata(path)[quiet], raw[quiet])[0, 1] > 0.8  # neither flipped nor turned
    # whole counts of the converter would be multiples of 16; the dark is finer than those
    assert len(np.unique(fits.getdata(path) % 16)) == 16


def test_without_bias_and_in_other_forms(left_aligned: Campaign) -> None:
    export(left_aligned, include_bias=False, format="float32")
    path = dark_of(left_aligned.out, 0.0, 100.0, "o50_b1")
    counts = fits.getdata(path)
    assert counts.dtype.kind == "f"
    assert counts.dtype.itemsize == 4
    truth = left_aligned.sensor.signal_adu(0.0, 100.0) * 16
    assert abs(np.median(counts - truth)) < 16.0
    assert "PEDESTAL" not in header(path)
    assert header(path)["BIASINCL"] is False
    export(left_aligned, format="float32", unit_range=True)
    unit = fits.getdata(path).astype(float)
    assert header(path)["RAWTOP"] == 65535
    assert "BUNIT" not in header(path)
    export(left_aligned)
    np.testing.assert_allclose(np.minimum(unit * 65535, 65535), fits.getdata(path), atol=0.51)
    with pytest.raises(SettingsError, match="whole counts"):
        export(left_aligned, unit_range=True)


def test_darks_beyond_the_campaign_and_counts_beyond_the_range_are_said(
    work: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--mode", "export_library", "--output_dir", str(work.out), "--temps", "-5 3", "--exptimes", "100 1000"]
    assert run_pipeline.main(line) == 0
    said = capsys.readouterr()
    assert "outside the campaign" in said.err
    assert "3 of them extrapolated" in said.out
    rows = {(r["temperature_c"], r["exposure_s"]): r for r in table(work.out / "library" / "library.ecsv")}
    assert {point for point, r in rows.items() if r["extrapolated"]} == {(-5.0, 1000.0), (3.0, 100.0), (3.0, 1000.0)}
    for (temperature_c, exposure_s), r in rows.items():
        path = work.out / "library" / str(r["file"])
        assert path == dark_of(work.out, temperature_c, exposure_s)
        assert header(path)["EXTRAPOL"] == r["extrapolated"]
    clipped = [header(p)["N_CLIP"] for p in sorted((work.out / "library").rglob("*.fits"))]
    assert sum(clipped) >= 1  # hot pixels at the top of the converter, with their bias
    assert f"{sum(clipped)} pixels of {np.count_nonzero(clipped)} darks do not fit" in said.err
    assert f"{sum(clipped)} pixels cut off" in said.out
    page = (work.out / "library" / "README.txt").read_text()
    assert f"in all darks {sum(clipped)} were cut off" in page
    assert "The bias is in them" in page
    assert "3 of them are extrapolated" in page
    assert run_pipeline.main([*line, "--without_bias", "--format", "float32"]) == 0
    page = (work.out / "library" / "README.txt").read_text()
    assert "The bias is not in them" in page
    assert "float32 in raw counts" in page


def test_a_library_is_made_once_and_holds_what_was_asked_for(work: Campaign) -> None:
    assert len(labels(export(work))) == len(CELLS) + 1
    before = products(work.out)
    assert labels(export(work)) == []
    assert products(work.out) == before
    lost = dark_of(work.out, -5.0, 100.0)
    lost.unlink()
    assert labels(export(work)) == ["master dark T-5.0C_texp100s"]  # the table finds the same file again
    assert products(work.out) == before
    export(work, **ASKED)
    made = sorted(p for p in (work.out / "library").rglob("*.fits"))
    assert made == sorted(dark_of(work.out, *point) for point in POINTS)


def test_an_export_that_was_killed_is_finished(work: Campaign) -> None:
    temperatures, exposures = " ".join(f"{-0.1 * n:.1f}" for n in range(40)), "50 60 70 80"
    line = ["--mode", "export_library", "--output_dir", str(work.out), "--temps", temperatures, "--exptimes", exposures]
    process = subprocess.Popen(command(*line, "--quiet"), env=environment(), stderr=subprocess.DEVNULL)
    folder = work.out / "library"
    while process.poll() is None and len(list(folder.rglob("*.fits"))) < 5:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 5 <= len(list(folder.rglob("*.fits"))) < 160
    assert not (folder / "library.ecsv").exists()
    assert run_pipeline.main(line) == 0
    finished = products(folder)
    assert len(finished) == 160 + 2
    shutil.rmtree(folder)
    assert run_pipeline.main(line) == 0
    assert products(folder) == finished


def test_ranges_and_names_are_checked(work: Campaign) -> None:
    for wrong in (
        {"temperatures_c": [-300.0]}, {"temperatures_c": [150.0]}, {"exposures_s": [0.0]}, {"exposures_s": [-1.0]},
        {"exposures_s": [1e6]}, {"format": "int32"}, {"image_type": "Light"},
    ):  # fmt: skip
        with pytest.raises(SettingsError):
            export(work, **wrong)
    with pytest.raises(SettingsError, match=r"T-5\.0C_texp100s"):
        export(work, temperatures_c=[-5.0, -5.01], exposures_s=[100.0])


def test_a_model_that_was_moved_alone_says_what_it_lacks(
    work: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "alone" / "dark_model"
    moved.parent.mkdir()
    work.model.rename(moved)
    line = ["--mode", "export_library", "--output_dir", str(tmp_path / "out"), "--model_dir", str(moved)]
    assert run_pipeline.main([*line, "--temps", "-5"]) == 2
    assert "give --temps and --exptimes" in capsys.readouterr().err
    line += ["--temps", "-5", "--exptimes", "100"]
    assert run_pipeline.main(line) == 0
    assert "give --like FRAME" in capsys.readouterr().err
    cards = header(dark_of(tmp_path / "out", -5.0, 100.0))
    assert (cards["GAIN"], cards["OFFSET"], cards["XBINNING"], cards["EGAIN"]) == (100, 50, 1, 0.8)
    frame = work.frames_of(0.0, 100.0)[0]
    with fits.open(frame, mode="update") as hdus:
        hdus[0].header["XPIXSZ"] = 3.76
    assert run_pipeline.main([*line, "--like", str(frame)]) == 0
    assert "give --like" not in capsys.readouterr().err
    assert header(dark_of(tmp_path / "out", -5.0, 100.0))["XPIXSZ"] == 3.76


def test_without_its_raw_frames_a_campaign_still_tells(work: Campaign) -> None:
    shutil.rmtree(work.raw)
    export(work, **ASKED)
    cards = header(dark_of(work.out, -7.5, 50.0))
    assert (cards["GAIN"], cards["OFFSET"], cards["XBINNING"], cards["INSTRUME"]) == (100, 50, 1, "Simulated CCD")


def test_the_model_of_one_of_several_configurations(work: Campaign, tmp_path: Path) -> None:
    """Its index stands in the folder above."""
    biases = [p for p in sorted(work.raw.glob("*.fits")) if header(p)["IMAGETYP"] == "Bias Frame"]
    for path in biases[:2]:
        with fits.open(path, mode="update") as hdus:
            hdus[0].header["GAIN"] = 200
    run_well(work, chosen={"until_step": 5}, select={"gain": "100"})
    folder = work.out / "Simulated-CCD_g100_o50_b1_48x40"
    moved = Campaign(tmp_path / "elsewhere", work.sensor)
    export(moved, model_dir=folder, **ASKED)
    cards = header(dark_of(moved.out, -7.5, 50.0))
    assert (cards["GAIN"], cards["EGAIN"]) == (100.0, 0.8)
    given = {"output_dir": work.out, "select": {"gain": "100"}, "export_library": ASKED}
    MasterController(given).run("export_library").raise_for_failure()
    assert dark_of(folder, -7.5, 50.0).read_bytes() == dark_of(moved.out, -7.5, 50.0).read_bytes()


def test_a_frame_of_another_camera_is_refused(work: Campaign, tmp_path: Path) -> None:
    frame = tmp_path / "other.fits"
    with fits.open(work.frames_of(0.0, 100.0)[0]) as hdus:
        for cards, match in (({"GAIN": 200}, "gain 200"), ({}, "sub-frame")):
            image = hdus[0].data if cards else hdus[0].data[:20]
            fits.PrimaryHDU(image, fits.Header({**hdus[0].header, **cards})).writeto(frame, overwrite=True)
            with pytest.raises(FrameError, match=match):
                export(work, like=frame, **ASKED)


def test_synthetic_darks_are_no_raw_frames(work: Campaign) -> None:
    """A library beside the raw frames, or among them, is not taken for darks of the camera."""
    export(work, **ASKED, image_type="DARK")
    made = dark_of(work.out, -7.5, 50.0)
    made.rename(work.raw / "library_dark.fits")
    report = run_well(work, chosen={"until_step": 1})
    assert report.exit_code == 0
    rows = [r for r in table(work.out / "index.ecsv") if r["file"] == "library_dark.fits"]
    assert [str(r["status"]) for r in rows] == ["rejected"]
    assert "SYNTHET" in str(rows[0]["reason"])
