"""Noise maps by the step: against truth and library, what they carry, pixels and designs that cannot be fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from em_folder import FRAMES, REGIONS, SHAPE, EmFolder, make_em_folder
from em_frames import GRID, add_frames, frames_in, write_em_campaign, write_em_frame
from helpers import assert_pulls, header, labels, planes

from darkpipe.errors import DesignError, FrameError
from darkpipe.files.layout import OutputDir
from darkpipe.files.noise_map_files import read_noise_maps
from darkpipe.science.flags import DQ
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps

PIXELS = ~REGIONS.telemetry[:, None] & np.ones(SHAPE, np.bool_)


def maps_of(folder: EmFolder) -> NoiseMaps:
    return read_noise_maps(OutputDir(folder.out).model.noise_maps)


def test_maps_are_the_truth_within_their_errors(em_plain: EmFolder) -> None:
    maps, sensor = maps_of(em_plain), em_plain.sensor
    inside = np.zeros(SHAPE, np.bool_)
    inside[REGIONS.collecting.slices] = True
    for value, truth, error in (
        (maps.fixed_e, sensor.fixed_e, maps.fixed_error_e),
        (maps.cic_e, sensor.cic_e, maps.cic_error_e),
        (maps.dark_e_per_s, sensor.dark_e_per_s, maps.dark_error_e_per_s),
    ):
        assert_pulls(value[inside], truth[inside], error[inside], np.ones(inside.sum(), np.bool_), 0.1)
    assert (maps.dark_e_per_s[PIXELS & ~inside] == 0).all()
    assert np.isnan(maps.fixed_e[-1]).all()


def test_the_step_does_what_the_library_does(em_plain: EmFolder) -> None:
    calibration = NoiseMapCalibration(REGIONS, NoiseMapOptions(k_gain_e_per_dn=7.0))
    add_frames(calibration, frames_in(em_plain.frames)[0])
    expected, found = calibration.fit(), maps_of(em_plain)
    for name in ("fixed_e", "cic_e", "dark_e_per_s", "covariance", "chi2", "adjusted_r2", "unusable_stacks", "dq"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_everything_that_is_documented_is_there(em_plain: EmFolder) -> None:
    folder = em_plain.out / "dark_model" / "noise_maps"
    assert {p.name for p in folder.iterdir()} == {"F_map.fits", "C_map.fits", "D_map.fits"}
    made = planes(folder / "F_map.fits")
    assert {"SCI", "ERR", "DQ", "COV", "CHI2", "R2", "UNUSABLE", "INPUTDQ", "INPUTS"} == set(made)
    assert np.nanmax(made["R2"]) <= 1
    cards = header(folder / "F_map.fits")
    assert cards["B_O_LOW"] < cards["B_O"] < cards["B_O_HIGH"]
    assert cards["B_O_UNIT"] == "DN"
    assert cards["RDNOISE"] == pytest.approx(100, rel=0.05)
    assert cards["NSTACKS"] == len(GRID)
    for letter, truth in (("F", 20.0), ("C", 0.02), ("D", 1e-3)):
        h = header(folder / f"{letter}_map.fits")
        pixels = REGIONS.image.rows * REGIONS.image.cols
        assert abs(h["IM_MN"] - truth) < 4 * np.sqrt(h["IM_VA"] / pixels), letter
        assert h["IM_EV"] == pytest.approx(h["IM_VA"] - (25.0 if letter == "F" else 0.0), rel=0.15), letter
        assert {"CO_MN", "PR_MN"} <= set(h)
    assert fits.getheader(folder / "D_map.fits", "SCI")["BUNIT"] == "electron/s"


def test_what_the_end_of_the_run_says(em_plain: EmFolder) -> None:
    report = em_plain.run("fit_noise_maps", fit_noise_maps={"k_gain_e_per_dn": 7.0})
    assert report.up_to_date
    rows = dict(report.summaries[0][1])
    assert rows["noise maps"] == f"{6 * FRAMES} frames in 6 stacks, EM gain 1 to 1000, 2 to 100 s"
    assert rows["pixels"].startswith("0 without a fit (NaN), ")
    assert rows["bias offset"].split()[1] == "DN"
    assert "electron/s" in rows["D, dark current"]


def mask(folder: EmFolder, pixel: tuple[int, int], settings: list[tuple[float, float]], bits: int = 8) -> None:
    """Mask a pixel in all frames of some stacks."""
    for setting in settings:
        for path in folder.stack(*setting):
            with fits.open(path, mode="update") as hdus:
                hdus["DQ"].data[pixel] = bits


def test_pixels_that_lack_stacks(em_work: EmFolder) -> None:
    mask(em_work, (10, 20), [GRID[0]])
    mask(em_work, (10, 21), [GRID[0], GRID[3]])
    mask(em_work, (10, 22), [GRID[0], GRID[3], GRID[4]], bits=32)  # three are left
    for path in [p for setting in GRID for p in em_work.stack(*setting)]:
        with fits.open(path, mode="update") as hdus:
            hdus[1].data[10, 23] = np.nan
            if path.name == "dark00.fits":
                hdus[1].data[10, 24] = np.inf
    report = em_work.run_well("fit_noise_maps", fit_noise_maps={"k_gain_e_per_dn": 7.0})
    maps = maps_of(em_work)
    place = (10, slice(20, 25))
    assert list(maps.unusable_stacks[place]) == [1, 2, 3, 6, 0]
    assert [bool(b & DQ.FIT_FAILED) for b in maps.dq[place]] == [False, False, True, True, False]
    assert [bool(b & DQ.FEW_SAMPLES) for b in maps.dq[place]] == [True, True, True, True, False]
    assert list(np.isnan(maps.fixed_e[place])) == [False, False, True, True, False]
    assert maps.input_dq[10, 22] == 32
    assert maps.cic_error_e[10, 21] > maps.cic_error_e[10, 24]
    assert dict(report.summaries[0][1])["pixels"].startswith("2 without a fit (NaN), ")


def test_a_pixel_whose_stacks_are_of_one_gain(tmp_path: Path) -> None:
    grid = ((1.0, 2.0), (1.0, 10.0), (1.0, 50.0), (1.0, 100.0), (500.0, 2.0), (500.0, 100.0))
    folder = make_em_folder(tmp_path, 3, grid)
    mask(folder, (10, 20), list(grid[4:]))  # four are left, which cannot tell F from C
    folder.run_well("fit_noise_maps")
    maps = maps_of(folder)
    assert maps.unusable_stacks[10, 20] == 2
    assert np.isnan([maps.fixed_e[10, 20], maps.cic_e[10, 20], maps.dark_e_per_s[10, 20]]).all()
    assert maps.dq[10, 20] & DQ.FIT_FAILED
    assert np.isfinite(maps.fixed_e[10, 19])


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (GRID[:3], "at least 4 stacks of different EM gain and exposure, here are 3"),
        (((50.0, 2.0), (50.0, 10.0), (50.0, 30.0), (50.0, 60.0)), "all stacks have one EM gain"),
        (((1.0, 30.0), (10.0, 30.0), (100.0, 30.0), (1000.0, 30.0)), "all stacks have one exposure"),
        (((50.0, 30.0),), "here are 1"),
    ],
)
def test_designs_that_cannot_tell_the_maps_apart(
    em_plain: EmFolder, tmp_path: Path, grid: tuple[tuple[float, float], ...], reason: str
) -> None:
    rng = np.random.default_rng(1)
    write_em_campaign(tmp_path / "frames", em_plain.sensor, rng, [2] * len(grid), grid)
    report = EmFolder(tmp_path, em_plain.sensor).run("fit_noise_maps")
    with pytest.raises(DesignError, match=reason):
        report.raise_for_failure()
    assert report.exit_code == 1
    assert not (tmp_path / "out" / "dark_model").exists()


def test_one_frame_a_stack_needs_a_read_noise(em_plain: EmFolder, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    write_em_campaign(tmp_path / "frames", em_plain.sensor, rng, [1] * len(GRID), cosmics=0.0)
    folder = EmFolder(tmp_path, em_plain.sensor)
    with pytest.raises(DesignError, match="give the read noise"):
        folder.run("fit_noise_maps").raise_for_failure()
    folder.run_well("fit_noise_maps", fit_noise_maps={"read_noise_e": 100.0})
    assert np.isfinite(maps_of(folder).fixed_e[PIXELS]).all()


def test_a_frame_that_is_damaged_is_named(em_work: EmFolder) -> None:
    path = em_work.stack(100, 30)[1]
    write_em_frame(path, np.ones(SHAPE, np.float32), 100.0, 30.0, DQ=np.zeros((3, 3), np.uint16))
    with pytest.raises(FrameError, match="DQ has shape") as caught:
        em_work.run("fit_noise_maps").raise_for_failure()
    assert str(path) in str(caught.value)


def test_what_makes_the_maps_stale(em_work: EmFolder) -> None:
    same: dict[str, Any] = {"k_gain_e_per_dn": 7.0}
    assert em_work.run("fit_noise_maps", fit_noise_maps=same).up_to_date
    report = em_work.run("fit_noise_maps", fit_noise_maps={**same, "negatives": "zero"})
    assert labels(report) == [f"noise maps of {6 * FRAMES} frames"]
    assert min(np.nanmin(maps_of(em_work).cic_e), np.nanmin(maps_of(em_work).dark_e_per_s)) == 0
    em_work.stack(100, 30)[0].unlink()
    report = em_work.run_well("fit_noise_maps", fit_noise_maps=same)
    assert labels(report) == ["table of EM-CCD frames", f"noise maps of {6 * FRAMES - 1} frames"]
    report = em_work.run_well("fit_noise_maps", fit_noise_maps=same, load_em_frames={"prescan_area": None})
    assert len(labels(report)) == 2
    assert "B_O" not in header(em_work.out / "dark_model" / "noise_maps" / "F_map.fits")


def test_the_choices_of_the_fit_arrive(em_work: EmFolder) -> None:
    before = maps_of(em_work)
    em_work.run_well("fit_noise_maps", fit_noise_maps={"weighting": "equal", "dark_outside": "fitted"})
    after = maps_of(em_work)
    assert after.options.weighting == "equal"
    assert np.nanmedian(after.fixed_error_e) > 1.01 * np.nanmedian(before.fixed_error_e)
    assert (after.dark_e_per_s[PIXELS] != 0).all()
    em_work.run_well("fit_noise_maps", fit_noise_maps={"least_share": 1.0})
    assert maps_of(em_work).unusable_stacks[PIXELS].mean() > 0.2
