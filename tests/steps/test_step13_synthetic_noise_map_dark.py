"""Darks from noise maps against the truth, where the maps are found, and what lies outside of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from em_folder import REGIONS, SHAPE, EmFolder
from helpers import assert_pulls, header, planes

from darkpipe.errors import ProductError
from darkpipe.files.layout import OutputDir
from darkpipe.files.noise_map_files import read_noise_maps
from darkpipe.science.flags import DQ
from master_controller import MasterController

SECTION = "synthetic_noise_map_dark"


def synthesise(folder: EmFolder, out: Path, **settings: object) -> Path:
    """A dark from the maps of a folder, in an output directory of its own."""
    given = {"model_dir": folder.out, "em_gain": 300.0, "exptime_single_s": 50.0, **settings}
    MasterController({"output_dir": out, SECTION: given}).run(SECTION).raise_for_failure()
    return out / "em_darks" / "synthetic_dark_g300_texp50s.fits"


def test_a_dark_is_the_true_level(em_plain: EmFolder, tmp_path: Path) -> None:
    path = synthesise(em_plain, tmp_path / "out")
    made = planes(path)
    truth = (em_plain.sensor.level(300.0, 50.0) / 300.0)[REGIONS.image.slices]
    assert_pulls(made["SCI"], truth, made["ERR"], np.ones(truth.shape, np.bool_), 0.1)
    assert not (made["DQ"] & DQ.EXTRAPOLATED).any()
    cards = header(path)
    assert (cards["EMGAIN"], cards["EXPTIME"], cards["MADEOF"], cards["FULLFRAM"]) == (300.0, 50.0, "noise maps", False)


def test_errors_without_what_the_maps_share(em_plain: EmFolder, tmp_path: Path) -> None:
    path = synthesise(em_plain, tmp_path / "out", errors="independent", full_frame=True)
    made = planes(path.with_stem(f"{path.stem}_full"))
    maps = read_noise_maps(OutputDir(em_plain.out).model.noise_maps)
    square = (maps.fixed_error_e / 300) ** 2 + maps.cic_error_e**2 + (50 * maps.dark_error_e_per_s) ** 2
    assert made["SCI"].shape == SHAPE
    np.testing.assert_allclose(made["ERR"], np.sqrt(square), rtol=1e-5)
    expected = maps.fixed_e / 300 + maps.cic_e + 50 * maps.dark_e_per_s
    np.testing.assert_allclose(made["SCI"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("inside", ["", "dark_model", "dark_model/noise_maps"])
def test_where_the_maps_are_found(em_plain: EmFolder, tmp_path: Path, inside: str) -> None:
    path = synthesise(em_plain, tmp_path / "out", model_dir=em_plain.out / inside, output=tmp_path / "dark.fits")
    assert not path.exists()
    assert header(tmp_path / "dark.fits")["EMGAIN"] == 300.0


def test_there_must_be_maps(em_plain: EmFolder, tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="there are no noise maps here"):
        synthesise(em_plain, tmp_path / "out", model_dir=tmp_path)


def test_a_damaged_map_is_told(em_work: EmFolder, tmp_path: Path) -> None:
    maps = OutputDir(em_work.out).model.noise_maps
    maps["C"].write_bytes(maps["D"].read_bytes())
    with pytest.raises(ProductError, match="this is no noise map C"):
        synthesise(em_work, tmp_path / "out")


@pytest.mark.parametrize(("em_gain", "exposure_s"), [(2000.0, 50.0), (300.0, 500.0), (300.0, 0.0)])
def test_outside_of_what_was_calibrated(
    em_plain: EmFolder, tmp_path: Path, em_gain: float, exposure_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "dark.fits"
    synthesise(em_plain, tmp_path / "out", em_gain=em_gain, exptime_single_s=exposure_s, output=target)
    assert "extrapolated and flagged so" in caplog.text
    assert (planes(target)["DQ"] & DQ.EXTRAPOLATED > 0).all()
