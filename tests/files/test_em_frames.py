"""EM-CCD frames in, noise maps out and in again."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from em_frames import GRID, add_frames, em_sensor, frames_in, stacks
from em_frames import write_em_frame as write

from darkpipe.errors import FrameError, ProductError
from darkpipe.files.em_frames import read_em_frame
from darkpipe.files.noise_map_files import read_noise_maps, write_em_dark, write_noise_maps
from darkpipe.science.em_darks import synthesised_dark
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps
from darkpipe.science.regions import Area, DetectorRegions

SHAPE = (30, 44)
REGIONS = DetectorRegions(30, 44, image=Area(2, 14, 20, 24), prescan=Area(0, 0, 30, 10), telemetry_rows=(-1, None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("em")
    rng = np.random.default_rng(2)
    for i, (frames, g, t, masks) in enumerate(stacks(em_sensor(rng, SHAPE), rng, [3] * 6)):
        for j, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            error = np.ones((1, *SHAPE))
            write(root / f"stack{i}" / f"f{j}.fits", frame, g, t, ERR=error, DQ=mask.astype(np.uint16) * 4)
    return root


@pytest.fixture(scope="module")
def maps(folder: Path) -> NoiseMaps:
    calibration = NoiseMapCalibration(REGIONS, NoiseMapOptions(k_gain_e_per_dn=7.0))
    frames, refused = frames_in(folder)
    assert not refused
    add_frames(calibration, frames)
    return calibration.fit()


def test_a_folder_is_sorted_by_setting(folder: Path, maps: NoiseMaps) -> None:
    frames, _ = frames_in(folder)
    assert [(f.em_gain, f.exposure_s) for f in frames[::3]] == sorted(GRID)
    assert {f.shape for f in frames} == {SHAPE}
    pixels, masks, errors = read_em_frame(frames[0])
    assert masks is not None
    assert errors is not None
    assert pixels.shape == masks.shape == errors.shape == SHAPE
    assert [(s.em_gain, s.exposure_s, s.frames) for s in maps.stacks] == [(*setting, 3) for setting in sorted(GRID)]


def test_frames_that_are_none_are_refused_with_their_reason(tmp_path: Path) -> None:
    image = np.ones(SHAPE)
    write(tmp_path / "good.fits", image, 5.0, 1.0)
    write(tmp_path / "no_gain.fits", image, None, 1.0)
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    adu = write(tmp_path / "adu.fits", image, 5.0, 1.0)
    fits.setval(adu, "BUNIT", value="ADU", ext=1)
    (tmp_path / "text.fits").write_text("no frame")
    (write(tmp_path / "torn.fits", image, 5.0, 1.0)).write_bytes(adu.read_bytes()[:6000])
    write(tmp_path / "odd_mask.fits", image, 5.0, 1.0, DQ=np.zeros((3, 3), np.uint16))
    good, reasons = frames_in(tmp_path)
    assert "no EM gain" in reasons["no_gain.fits"]
    assert "no image" in reasons["empty.fits"]
    assert "adu" in reasons["adu.fits"]
    assert "cannot be read" in reasons["text.fits"]
    usable = {f.path.name: f for f in good}
    pixels, masks, errors = read_em_frame(usable["good.fits"])
    assert masks is None
    assert errors is None
    np.testing.assert_array_equal(pixels, image)
    with pytest.raises(FrameError, match="DQ has shape"):
        read_em_frame(usable["odd_mask.fits"])
    if "torn.fits" in usable:
        with pytest.raises(FrameError, match="cannot be read"):
            read_em_frame(usable["torn.fits"])


def numbers(value: object, name: str = "") -> dict[str, object]:
    """All that a record holds, by name: a card has sixteen digits."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in numbers(inner, f"{name}.{key}").items()}
    return {name: value}


@pytest.mark.parametrize("whole", [False, True])
def test_maps_come_back_as_they_were_written(tmp_path: Path, maps: NoiseMaps, whole: bool) -> None:
    if whole:
        regions = DetectorRegions.whole(*SHAPE)
        kept = {name: figures for name, figures in maps.summary.items() if name != "prescan"}
        maps = replace(maps, regions=regions, summary=kept, read_noise_e=np.nan)
    paths = {letter: tmp_path / f"{letter}_map.fits" for letter in "FCD"}
    digests = write_noise_maps(paths, maps, ["stack0/f0.fits"])
    assert set(digests) == set(paths.values())
    back = read_noise_maps(paths)
    for field in fields(NoiseMaps):
        one, other = getattr(back, field.name), getattr(maps, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
        else:
            assert numbers(one) == pytest.approx(numbers(other), nan_ok=True), field.name
    dark = synthesised_dark(back, 50.0, 20.0)
    np.testing.assert_array_equal(dark.dark_e, synthesised_dark(maps, 50.0, 20.0).dark_e)
    write_em_dark(tmp_path / "dark.fits", dark, "noise maps")
    assert fits.getheader(tmp_path / "dark.fits")["EMGAIN"] == 50.0
    with fits.open(paths["D"], checksum=True) as hdus:
        np.testing.assert_array_equal(hdus["ERR"].data, maps.dark_error_e_per_s)
        assert hdus["SCI"].header["BUNIT"] == "electron/s"


def test_other_files_are_no_maps(tmp_path: Path, maps: NoiseMaps) -> None:
    paths = {letter: tmp_path / f"{letter}_map.fits" for letter in "FCD"}
    write_noise_maps(paths, maps)
    with pytest.raises(ProductError, match="no noise map C"):
        read_noise_maps({**paths, "C": paths["D"]})
    paths["D"].unlink()
    with pytest.raises(ProductError, match="missing"):
        read_noise_maps(paths)
