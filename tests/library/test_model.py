"""A model that was read: darks, maps and calibrated frames are those that the pipeline writes."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from helpers import CELL_NAMES, CELLS, Campaign, header, planes, run_well
from sky import Sky, write_light

import darkpipe
from darkpipe import DQ, DarkModel
from darkpipe.errors import DesignError, ProductError, SettingsError
from darkpipe.files.layout import OutputDir
from darkpipe.files.lights import read_light
from darkpipe.files.tables import read_table, write_table
from master_controller import MasterController

T_C, T_S = -7.0, 200.0


@pytest.fixture(scope="module")
def model(plain: Campaign) -> DarkModel:
    return DarkModel.read(plain.out)


def test_a_dark_is_the_file_that_step_6_writes(plain: Campaign, model: DarkModel, tmp_path: Path) -> None:
    for name, cell in zip(CELL_NAMES, CELLS, strict=True):
        written = model.synthesize(*cell).write(tmp_path / f"{name}.fits")
        assert written.read_bytes() == (plain.out / "synthetic" / f"synthetic_dark_{name}.fits").read_bytes(), name


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize(("temperature_c", "exposure_s"), [(-7.0, 45.0), (8.0, 1000.0)])
def test_with_its_bias_beyond_the_campaign_and_as_raw_counts(
    work: Campaign, tmp_path: Path, dtype: str, temperature_c: float, exposure_s: float
) -> None:
    target = tmp_path / "by_pipeline.fits"
    section = {
        "temp_single_c": temperature_c, "exptime_single_s": exposure_s, "output": target, "include_bias": True,
        "dtype": dtype,
    }  # fmt: skip
    run_well(work, "synthetic_2d_single", generate_synthetic_darks=section)
    dark = DarkModel.read(work.model).synthesize(temperature_c, exposure_s, include_bias=True)
    assert dark.write(tmp_path / "by_library.fits", dtype).read_bytes() == target.read_bytes()  # type: ignore[arg-type]


def test_beyond_the_campaign_is_flagged_and_said(model: DarkModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "darkpipe"):
        inside = model.synthesize(-5.0, 100.0)
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "darkpipe"):
        outside = model.synthesize(12.0, 100.0)
    assert "outside the campaign (-10 to 0 °C, 30 to 300 s), extrapolated" in caplog.records[0].getMessage()
    assert not inside.flagged(DQ.EXTRAPOLATED)[np.isfinite(inside.science)].any()
    assert (outside.dq & int(DQ.EXTRAPOLATED)).all()
    assert (inside.header["EXTRAPOL"], outside.header["EXTRAPOL"]) == (False, True)
    assert model.covers(-5.0, 100.0)
    assert not model.covers(12.0, 100.0)


def test_quantities(model: DarkModel) -> None:
    plain = model.synthesize(-5.0, 120.0)
    for temperature, exposure in ((-5.0 * u.deg_C, 2.0 * u.min), (268.15 * u.K, 120_000.0 * u.ms)):
        np.testing.assert_array_equal(model.synthesize(temperature, exposure).science, plain.science)
    for bad in ((5.0 * u.m, 60.0), (-5.0, 60.0 * u.deg_C), (-5.0, -1.0), (-300.0, 60.0), ([-5.0, 0.0], 60.0)):
        with pytest.raises(SettingsError):
            model.synthesize(*bad)


def test_the_range(model: DarkModel) -> None:
    found = model.fits_range
    assert (found.temperature_c, found.exposure_s) == ((-10.0, 0.0), (30.0, 300.0))
    assert (found.temperatures_c, found.exposures_s) == ((-10.0, -5.0, 0.0), (30.0, 100.0, 300.0))
    assert repr(model) == "<DarkModel two_component, 48 x 40, -10 to 0 °C, 30 to 300 s>"


def test_maps_are_those_on_disk(plain: Campaign, model: DarkModel) -> None:
    assert model.parameters == ("G", "D")
    other = model.using("exp_2d")
    found, expected = other.parameter("A"), planes(plain.model / "dark_A_map.fits")
    for plane, name in ((found.science, "SCI"), (found.error, "ERR"), (found.dq, "DQ")):
        np.testing.assert_array_equal(plane, expected[name])
    path = plain.model / "two_component" / "doubling_temperature_map.fits"
    at = header(path)["T-REF"]
    np.testing.assert_array_equal(model.doubling_temperature(at).science, planes(path)["SCI"])
    path = plain.model / "two_component" / "activation_energy_map.fits"
    np.testing.assert_array_equal(model.activation_energy(at).error, planes(path)["ERR"])
    hot = planes(plain.model / "hot_pixel_mask.fits")["DQ"]
    np.testing.assert_array_equal(model.mask & hot, hot)
    with pytest.raises(SettingsError, match="choose of G, D"):
        model.parameter("A")


def test_the_dark_current_is_the_truth(plain: Campaign, model: DarkModel) -> None:
    found = model.dark_current(-5.0)
    truth = plain.sensor.signal_adu(-5.0, 300.0) / 300.0
    good = ~found.flagged()
    pulls = ((found.science - truth) / found.error)[good]
    assert good.mean() > 0.95
    assert 0.8 < np.std(np.clip(pulls, -5, 5)) < 1.25
    assert found.unit == "adu / s"


def test_a_frame_is_calibrated_as_step_14_does(work: Campaign, tmp_path: Path) -> None:
    light = write_light(tmp_path / "lights" / "m31.fits", work.sensor, T_C, T_S, sky=Sky(), seed=1)
    given = {"output_dir": tmp_path / "out", "workers": 1, "load_data": {"basepath": tmp_path / "lights"}}
    chosen = {"calibrate": {"model_dir": str(work.out), "repair": True}}
    MasterController(given, flags=chosen).run("calibrate").raise_for_failure()
    path = tmp_path / "out" / "calibrated" / "m31.fits"
    expected = planes(path)
    model = DarkModel.read(work.out)
    raw = read_light(light if isinstance(light, Path) else tmp_path / "lights" / "m31.fits").raw
    found = model.calibrate(raw, T_C, T_S, repair=True)
    for plane, name in ((found.science, "SCI"), (found.error, "ERR"), (found.dq, "DQ")):
        np.testing.assert_array_equal(plane, expected[name], err_msg=name)
    assert found.header["N_REPAIR"] == header(path)["N_REPAIR"] > 0
    part = model.calibrate(raw[8:40, 4:30], T_C, T_S, origin=(8, 4))
    whole = model.calibrate(raw, T_C, T_S)
    same = whole.science[8:40, 4:30] == part.science
    assert same[np.isfinite(part.science)].all()
    reading = model.measure_temperature(raw, T_S, near_c=T_C)
    cards = header(path)
    assert reading.pixels == cards["N-HOT"]
    if reading.pixels:
        assert reading.temperature_c == pytest.approx(cards["T-HOT"])
    with pytest.raises(SettingsError, match="no part of the model's 48 x 40"):
        model.calibrate(raw, T_C, T_S, origin=(1, 0))


def test_the_thermometer_reads_the_truth() -> None:
    campaign = darkpipe.simulate_campaign(rows=96, cols=96, n_darks=3, n_biases=6, exposures_s=(60.0, 300.0))
    model = darkpipe.fit_dark_model(
        campaign.darks, campaign.temperatures_c, campaign.exposures_s, bias_frames=campaign.biases,
        bias_temperatures_c=campaign.bias_temperatures_c, gain_e_per_adu=campaign.gain_e_per_adu,
    )  # fmt: skip
    reading = model.measure_temperature(campaign.expose(-3.0, 300.0, seed=99), 300.0)
    assert reading.pixels > 30
    assert abs(reading.temperature_c + 3.0) < 4.0 * reading.error_c
    assert reading.error_c < 0.2


def test_written_and_read_again(plain: Campaign, model: DarkModel, tmp_path: Path) -> None:
    again = DarkModel.read(model.write(tmp_path / "copy"))
    np.testing.assert_array_equal(again.synthesize(-7.0, 60.0).error, model.synthesize(-7.0, 60.0).error)
    with_bias = again.synthesize(-7.0, 60.0, include_bias=True)
    np.testing.assert_array_equal(with_bias.science, model.synthesize(-7.0, 60.0, include_bias=True).science)
    assert again.fits_range == model.fits_range
    own = tmp_path / "own"
    shutil.copytree(plain.model, own)
    before = {p.relative_to(own): p.read_bytes() for p in own.rglob("*") if p.is_file()}
    DarkModel.read(own).write(own)  # onto itself: nothing is lost
    assert {p.relative_to(own): p.read_bytes() for p in own.rglob("*") if p.is_file()} == before


def test_the_report_tells_what_the_model_is(model: DarkModel) -> None:
    text = model.report()
    for part in ("model two_component: smallest held-out error", "48 x 40 pixels", "read noise", "exp_2d", "9 cells"):
        assert part in text, part
    assert "report:" not in text  # a model in memory has no page


def test_the_report_says_where_the_page_is(plain: Campaign, tmp_path: Path) -> None:
    shutil.copytree(plain.model, tmp_path / "dark_model")
    assert "report:" not in DarkModel.read(tmp_path).report()
    page = tmp_path / "evaluation" / "report.html"
    page.parent.mkdir()
    page.touch()
    assert DarkModel.read(tmp_path).report().splitlines()[-1] == f"report: {page}"


def test_a_configuration_of_several(plain: Campaign, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = read_table(plain.out / "index.ecsv")
    names = ["g100_48x40", "g200_48x40"]
    table["campaign"] = [names[i % 2] for i in range(len(table))]
    write_table(OutputDir(out).index, table)
    for name in names:
        shutil.copytree(plain.model, out / name / "dark_model")
    with pytest.raises(DesignError, match=r"several configurations here.*name one of them: g100_48x40, g200_48x40"):
        DarkModel.read(out)
    with pytest.raises(DesignError, match="there is no model of g300"):
        DarkModel.read(out, "g300")
    assert DarkModel.read(out, "g200_48x40").names == DarkModel.read(plain.out).names
    shutil.rmtree(out / names[0])
    assert DarkModel.read(out).shape == (48, 40)


def test_what_is_not_there_is_said(tmp_path: Path, model: DarkModel, plain: Campaign) -> None:
    with pytest.raises(ProductError, match="no dark model here"):
        DarkModel.read(tmp_path)
    with pytest.raises(DesignError, match="exp_1d is not among the fitted ones"):
        DarkModel.read(plain.out, model="exp_1d")
    with pytest.raises(DesignError, match="there is no model of another"):
        DarkModel.read(plain.out, "another")
    assert DarkModel.read(plain.out, model.description.configuration).name == model.name
    without = dataclasses.replace(model.description, has_bias=False)
    with pytest.raises(DesignError, match="holds no bias"):
        DarkModel(model._folder, without, model._origin).synthesize(-5.0, 60.0, include_bias=True)
