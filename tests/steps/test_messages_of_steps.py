"""What steps refuse, by their own messages: through the controller, on the small campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from em_folder import EmFolder
from helpers import CELLS, Campaign, make_campaign, run, run_well

from darkpipe.errors import PipelineError
from darkpipe.files.layout import OutputDir
from darkpipe.files.tables import read_table, write_table
from master_controller import MasterController
from steps import (
    step0_acquire_darks,
    step1_load_data,
    step6_generate_synthetic_darks,
    step10_load_em_frames,
    step13_synthetic_noise_map_dark,
    step14_calibrate,
    step19_report,
    step20_find_detectors,
)


def refusal(out: Path, mode: str, *, from_step: int | None = None, **sections: Any) -> str:
    """What a run that must fail says."""
    given = {"output_dir": out, "workers": 1, **sections}
    try:
        report = MasterController(given).run(mode, from_step=from_step)
    except PipelineError as error:
        return str(error)
    assert report.failures
    return str(report.failures[0].error)


def test_darks_that_are_not_asked_for_in_full(plain: Campaign) -> None:
    single = step6_generate_synthetic_darks.Settings(what="single", temp_single_c=-7.5)  # modes ask for both
    with pytest.raises(PipelineError) as caught:
        list(step6_generate_synthetic_darks.plan(OutputDir(plain.out, ""), single))
    told = str(caught.value)
    assert "one dark needs both --temp_single and --exptime_single" in told
    told = refusal(plain.out, "synthetic_2d", generate_synthetic_darks={"exposures_s": [0.0]})
    assert "generate_synthetic_darks.exposures_s" in told
    assert "greater than 0" in told


def test_a_model_without_its_campaign(work: Campaign, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    work.model.rename(alone)
    darks = {"model_dir": alone, "temperatures_c": [-7.5]}
    assert "its exposures are unknown" in refusal(tmp_path / "out", "synthetic_only", generate_synthetic_darks=darks)
    assert "its cells are unknown" in refusal(tmp_path / "out", "export_library", export_library={"model_dir": alone})


def test_a_library_that_cannot_be(plain: Campaign, tmp_path: Path) -> None:
    asked = {"model_dir": plain.out, "exposures_s": [50.0]}
    close = {**asked, "temperatures_c": [-7.51, -7.52]}
    assert "two darks would both be called" in refusal(tmp_path, "export_library", export_library=close)
    counts = {**asked, "temperatures_c": [-7.5], "unit_range": True, "format": "uint16"}
    assert "whole counts do not go into a range" in refusal(tmp_path, "export_library", export_library=counts)


def test_no_dark_is_left(work: Campaign) -> None:
    table = read_table(work.out / "corrected.ecsv")
    table["status"] = ["rejected"] * len(table)
    write_table(work.out / "corrected.ecsv", table)
    told = refusal(work.out, "full", from_step=3, load_data={"basepath": work.raw}, report={"write": False})
    assert "every dark of this configuration was rejected" in told


def test_a_dark_of_an_em_ccd_that_is_not_asked_for_in_full(em_plain: EmFolder) -> None:
    settings = step13_synthetic_noise_map_dark.Settings(em_gain=10.0)  # the mode asks for both
    with pytest.raises(PipelineError, match="a dark needs both --em_gain and --exptime_single"):
        list(step13_synthetic_noise_map_dark.plan(OutputDir(em_plain.out, ""), settings))


def test_no_file_is_a_frame_of_an_em_ccd(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    fits.PrimaryHDU(np.ones((4, 5), np.int16)).writeto(tmp_path / "frames" / "a.fits")
    told = refusal(tmp_path / "out", "traditional_dark", load_em_frames={"basepath": tmp_path / "frames"})
    assert "none of 1 files can be used" in told
    assert "raw counts, not electrons" in told


def test_no_light_can_be_calibrated(work: Campaign, tmp_path: Path) -> None:
    frame = tmp_path / "lights" / "light.fits"
    frame.parent.mkdir()
    with fits.open(work.frames_of(0.0, 100.0)[0]) as hdus:
        header = hdus[0].header.copy()
        header["IMAGETYP"] = "Light Frame"
        for keyword in ("CCD-TEMP", "SET-TEMP"):
            header.remove(keyword, ignore_missing=True)
        fits.PrimaryHDU(hdus[0].data, header).writeto(frame)
    given = {"load_data": {"basepath": frame.parent}, "calibrate": {"model_dir": work.out}}
    assert "can be calibrated: " in refusal(tmp_path / "out", "calibrate", **given)


def test_no_camera_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardware import discovery

    monkeypatch.setattr(discovery, "find_cameras", list)
    with pytest.raises(PipelineError, match="no ASCOM Alpaca camera answers on this network"):
        step0_acquire_darks.list_cameras()


def test_a_mode_that_runs_nothing() -> None:
    with pytest.raises(PipelineError, match="runs no steps"):
        MasterController({}).run("cameras")
    with pytest.raises(PipelineError, match="needs --basepath"):
        MasterController({}).run("full")


def test_folders_that_no_mode_lets_pass(tmp_path: Path) -> None:
    out = OutputDir(tmp_path / "out", "")
    for step in (step1_load_data, step10_load_em_frames, step20_find_detectors):  # modes ask for the flag before
        with pytest.raises(PipelineError, match=r"no folder of (raw )?frames was given"):
            list(step.plan(out, step.Settings()))
    for by in ("hdus", "folders"):
        detectors = {"by": by}
        gone = {"load_data": {"basepath": tmp_path / "gone"}, "detectors": detectors}
        assert "there is no such folder of raw frames" in refusal(tmp_path / "out", "full", **gone)
    (tmp_path / "empty").mkdir()
    empty = {"load_data": {"basepath": tmp_path / "empty"}, "detectors": {"by": "hdus"}}
    assert "no FITS file was found" in refusal(tmp_path / "out", "full", **empty)
    named = {"load_data": {"basepath": tmp_path / "empty"}, "detectors": {"names": ["CCD1"]}}
    assert "names of detectors without a word on where they are" in refusal(tmp_path / "out", "full", **named)


def test_a_temperature_log_that_is_torn_before_it_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "temperature_1.ecsv"
    path.write_text("# %ECSV 1.0\n# ---\n")
    with pytest.raises(PipelineError, match="the temperature log cannot be read"):
        step19_report.draw_log((path,), (tmp_path / "log.png",))


def test_glow_that_was_asked_for_and_is_not_there(tmp_path: Path) -> None:
    recipe = {"temperatures_c": (-15.0, -10.0, -5.0, 0.0), "exposures_s": (30.0, 100.0, 300.0), "n_darks": 3}
    campaign = make_campaign(tmp_path / "campaign", **recipe)
    report = run(campaign, fit_dark_model={"model": "exp_2d_glow"})
    assert "exp_2d_glow cannot be fitted: " in str(report.failures[0].error)


def test_a_model_of_one_temperature_for_what_it_cannot(work: Campaign, tmp_path: Path) -> None:
    run_well(work, fit_dark_model={"exclude_temperatures_c": sorted({t for t, _ in CELLS})[1:], "model": "exp_t"})
    warm = make_campaign(tmp_path / "warm", temperatures_c=(20.0, 25.0))
    assert not run(warm, chosen={"until_step": 4}).failures
    report = run(warm, "evaluation_only", evaluate_model={"model_dir": work.model})
    assert "the model fits none of these masters" in str(report.failures[0].error)
    told = refusal(tmp_path / "plan", "plan_campaign", plan_campaign={"model_dir": work.model})
    assert "this model is none of temperature and exposure" in told


def test_lights_that_hold_no_dark_signal_or_are_not_there(work: Campaign, tmp_path: Path) -> None:
    frame = tmp_path / "lights" / "light.fits"
    frame.parent.mkdir()
    with fits.open(work.frames_of(0.0, 100.0)[0]) as hdus:
        header = hdus[0].header.copy()
        header["IMAGETYP"], header["EXPTIME"] = "Light Frame", 0.0
        fits.PrimaryHDU(hdus[0].data, header).writeto(frame)
    given = {"load_data": {"basepath": frame.parent}, "calibrate": {"model_dir": work.out}}
    assert "it holds no dark signal" in refusal(tmp_path / "out", "calibrate", **given)
    index = OutputDir(tmp_path / "out", "").index
    write_table(index, read_table(index)[:0])
    settings = step14_calibrate.Settings(model_dir=work.out)
    with pytest.raises(PipelineError, match="there is no frame to calibrate"):
        list(step14_calibrate.plan(OutputDir(tmp_path / "out", ""), settings))
