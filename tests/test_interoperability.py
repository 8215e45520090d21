"""Products in the hands of other programs: astropy, ccdproc, Siril, fitsverify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from em_folder import EmFolder
from helpers import CELL_NAMES, CELLS, STUCK_HIGH, Campaign, make_campaign, run_well
from other_programs import TOP, Siril, fitsverify
from sky import Sky, write_light

from darkpipe.errors import FrameError
from darkpipe.files.bad_pixels import BadPixels, write_siril_list
from darkpipe.files.lights import describe
from darkpipe.files.master_export import camera_cards
from darkpipe.files.products import write_primary
from darkpipe.science.flags import DQ, MODEL_INVALID
from master_controller import MasterController

SKY = Sky(sky_adu_s=0.4, stars=3, brightest_adu_s=60.0)
T_C, T_S = -5.0, 100.0
CELL = "T-5.0C_texp100s"
COORDINATES = {
    "CTYPE1": "RA---TAN", "CRVAL1": 10.68, "CRPIX1": 20.0, "CDELT1": -2e-4,
    "CTYPE2": "DEC--TAN", "CRVAL2": 41.27, "CRPIX2": 24.0, "CDELT2": 2e-4,
}  # fmt: skip


def export(campaign: Campaign, out: Path, **settings: Any) -> Path:
    """A library of master darks of the model of a campaign; the dark of T_C and T_S."""
    given = {"output_dir": out, "workers": 2, "export_library": settings}
    flags = {"export_library": {"model_dir": str(campaign.out)}}
    MasterController(given, flags=flags).run("export_library").raise_for_failure()
    return out / "library" / "T-5.0C" / f"master_dark_{CELL}_g100_o50_b1.fits"


def as_ccddata(path: Path) -> CCDData:
    return CCDData.read(path, hdu_uncertainty="ERR")


# astropy and ccdproc
@pytest.mark.parametrize("folder", ["synthetic", "dark_masks_by_temp"])
def test_darks_are_read_as_ccddata(plain: Campaign, folder: str) -> None:
    name = {"synthetic": f"synthetic_dark_{CELL}", "dark_masks_by_temp": f"darks_{CELL}"}[folder]
    path = plain.out / folder / f"{name}.fits"
    dark = as_ccddata(path)
    assert dark.unit == u.adu
    assert (dark.header["EXPTIME"], dark.header["CCD-TEMP"]) == (T_S, T_C)
    assert isinstance(dark.uncertainty, StdDevUncertainty)
    np.testing.assert_array_equal(dark.data, fits.getdata(path, "SCI"))
    np.testing.assert_array_equal(dark.uncertainty.array, fits.getdata(path, "ERR"))
    bits = CCDData.read(path, hdu_uncertainty="ERR", hdu_mask="DQ").mask
    np.testing.assert_array_equal(bits, fits.getdata(path, "DQ") != 0)


def test_the_mask_of_a_dark_is_what_no_dark_corrects(plain: Campaign) -> None:
    path = plain.out / "synthetic" / f"synthetic_dark_{CELL}.fits"
    dark = as_ccddata(path)
    bits = fits.getdata(path, "DQ")
    np.testing.assert_array_equal(dark.mask, ((bits & int(MODEL_INVALID)) != 0) | ~np.isfinite(dark.data))
    assert dark.mask[STUCK_HIGH]
    assert not (dark.mask & (bits == int(DQ.HOT))).any()
    assert 3 <= dark.mask.sum() < 0.02 * dark.mask.size


def test_ccdproc_subtracts_a_synthetic_dark(plain: Campaign, tmp_path: Path) -> None:
    raw = tmp_path / "light.fits"
    write_light(raw, plain.sensor, T_C, T_S, sky=SKY)
    bias = as_ccddata(plain.out / "bias" / "master_bias_T-5.0C.fits")
    dark = as_ccddata(plain.out / "synthetic" / f"synthetic_dark_{CELL}.fits")
    light = CCDData.read(raw, unit="adu")
    above = ccdproc.subtract_bias(light, bias)
    done = ccdproc.subtract_dark(above, dark, exposure_time="EXPTIME", exposure_unit=u.s)
    good = ~done.mask
    expected = light.data.astype(float) - bias.data - dark.data
    np.testing.assert_allclose(done.data[good], expected[good], atol=0.01)
    truth = SKY.rate(*plain.sensor.hot.shape) * T_S
    assert abs(np.median((done.data - truth)[good])) < 1.0
    # a dark of another exposure, scaled by the headers
    longer = as_ccddata(plain.out / "synthetic" / "synthetic_dark_T-5.0C_texp300s.fits")
    scaled = ccdproc.subtract_dark(above, longer, exposure_time="EXPTIME", exposure_unit=u.s, scale=True)
    good = ~scaled.mask
    np.testing.assert_allclose(scaled.data[good], (above.data - longer.data / 3)[good], atol=0.01)


def test_ccdproc_subtracts_a_dark_of_the_library_from_a_raw_light(plain: Campaign, tmp_path: Path) -> None:
    raw = tmp_path / "light.fits"
    write_light(raw, plain.sensor, T_C, T_S, sky=SKY)
    dark = CCDData.read(export(plain, tmp_path / "out"))
    light = CCDData.read(raw, unit="adu")
    light.data = light.data.astype(float)  # two frames of uint16 would wrap around below zero
    done = ccdproc.subtract_dark(light, dark, exposure_time="EXPTIME", exposure_unit=u.s)
    np.testing.assert_array_equal(done.data, light.data - dark.data)
    assert (done.data < 0).any()


def test_ccdproc_finds_darks_by_their_headers(plain: Campaign, tmp_path: Path) -> None:
    found = ccdproc.ImageFileCollection(plain.out / "synthetic")
    wanted = {"imagetyp": "Dark Frame", "exptime": T_S, "ccd-temp": T_C}
    assert list(found.files_filtered(**wanted)) == [f"synthetic_dark_{CELL}.fits"]
    assert len(found.files_filtered(imagetyp="Dark Frame")) == len(CELLS)
    masters = ccdproc.ImageFileCollection(plain.out / "dark_masks_by_temp")
    assert len(masters.files_filtered(imagetyp="Master Dark", exptime=300.0)) == 3
    path = export(plain, tmp_path / "out")
    library = ccdproc.ImageFileCollection(path.parent, glob_include="*.fits")
    match = {"imagetyp": "Master Dark", "exptime": T_S, "ccd-temp": T_C, "gain": 100, "offset": 50, "xbinning": 1}
    assert list(library.files_filtered(**match)) == [path.name]


# fitsverify
def units_of(path: Path) -> set[str]:
    with fits.open(path) as hdus:
        return {hdu.header["BUNIT"] for hdu in hdus if "BUNIT" in hdu.header}


def test_headers_of_real_cameras_conform_in_a_library(real_data: Path, tmp_path: Path) -> None:
    seen = 0
    for path in sorted((real_data / "headers").iterdir()):
        try:
            found = describe(path)
        except FrameError:
            continue
        cards = camera_cards(found.cards, found.info, include_bias=True)
        assert {"XBINNING", "YBINNING"} <= {key for key, _, _ in cards}
        write_primary(tmp_path / f"{path.stem}.fits", np.zeros((4, 5), np.uint16), cards)
        seen += 1
    assert seen > 20
    assert fitsverify(sorted(tmp_path.iterdir())) == []


def test_every_product_conforms_to_fits(finished: Campaign, tmp_path: Path, em_plain: EmFolder) -> None:
    export(finished, tmp_path / "uint16")
    export(finished, tmp_path / "float32", format="float32", unit_range=True, include_bias=False)
    raw = tmp_path / "lights" / "m31.fits"
    write_light(raw, finished.sensor, T_C, T_S, sky=SKY, cards=COORDINATES)
    for mode, section, basepath in (
        ("calibrate", {"repair": True, "residual": True}, raw.parent),
        ("check_model", {}, finished.raw),
    ):
        given = {"output_dir": tmp_path / mode, "workers": 2, "load_data": {"basepath": basepath}, mode: section}
        flags = {mode: {"model_dir": str(finished.out)}}
        MasterController(given, flags=flags).run(mode).raise_for_failure()
    single = {"temp_single_c": 5.0, "exptime_single_s": T_S, "include_bias": True, "dtype": "uint16"}
    given = {"output_dir": tmp_path / "single", "generate_synthetic_darks": {**single, "model_dir": finished.out}}
    MasterController(given).run("synthetic_2d_single").raise_for_failure()
    em_plain.run_well("synthetic_noise_map_dark", synthetic_noise_map_dark={"em_gain": 300.0, "exptime_single_s": 20.0})
    files = [p for root in (finished.out, em_plain.out, tmp_path) for p in sorted(root.rglob("*.fits")) if p != raw]
    kinds = {p.parent.name for p in files}
    assert {"bias", "dark_masks_by_temp", "dark_model", "synthetic", "calibrated", "em_darks", "noise_maps"} <= kinds
    assert len(files) > 80
    assert fitsverify(files) == []
    units = {unit for path in files for unit in units_of(path)}
    assert {"adu", "electron"} < units
    for unit in units - {"adu / s**gamma"}:  # a power of its own for each pixel
        u.Unit(unit)


def test_products_of_a_sensor_that_glows_conform_to_fits(tmp_path: Path) -> None:
    campaign = make_campaign(tmp_path / "glow", glow_rate_adu_s=3.0)
    run_well(campaign, subtract_bias={"bias": "offset_map"}, chosen={"until_step": 6})
    files = sorted(campaign.out.rglob("*.fits"))
    assert {"glow_blocks.fits", "offset_map.fits"} <= {p.name for p in files}
    assert fitsverify(files) == []


# Siril
@pytest.fixture
def siril(tmp_path: Path) -> Siril:
    return Siril(tmp_path / "siril")


def put_lights(siril: Siril, campaign: Campaign, name: str = "light") -> np.ndarray:
    """Two raw lights, a sequence for Siril; the counts of the first one."""
    for number in (1, 2):
        path = siril.folder / f"{name}_{number:05d}.fit"
        write_light(path, campaign.sensor, T_C, T_S, sky=SKY, seed=number)
    return np.asarray(fits.getdata(siril.folder / f"{name}_00001.fit"), float)


def calibrated(siril: Siril, light: np.ndarray, dark: np.ndarray, name: str) -> np.ndarray:
    """Where Siril's calibrated frame is not the light less the dark; only pixels that are hot in the dark may be so,
    which 1.0 replaces without being asked."""
    apart = np.abs(siril.counts(name) - (light - dark)) > 0.05
    hot = dark > np.nanmedian(dark) + 3.0 * np.nanstd(dark)
    assert not (apart & ~hot).any()
    return apart


@pytest.mark.parametrize(("form", "unit_range"), [("uint16", False), ("float32", False), ("float32", True)])
def test_siril_calibrates_a_raw_light_with_a_dark_of_the_library(
    plain: Campaign, siril: Siril, tmp_path: Path, form: str, unit_range: bool
) -> None:
    path = export(plain, tmp_path / "out", format=form, unit_range=unit_range)
    dark = fits.getdata(path).astype(float) * (TOP if unit_range else 1.0)
    light = put_lights(siril, plain)
    siril.run("set32bits", f"{siril.calibrate} light_ -dark={path} -prefix=pp_")
    repaired = calibrated(siril, light, dark, "pp_light_00001")
    assert repaired.sum() < 0.02 * repaired.size
    # pixel by pixel, the hot ones too
    siril.run("set32bits", "load light_00001", f"isub {path}", "save less")
    np.testing.assert_allclose(siril.counts("less"), light - dark, atol=0.02)
    truth = SKY.rate(*plain.sensor.hot.shape) * T_S
    where = (dark < 5000) & (fits.getdata(plain.model / "hot_pixel_mask.fits", "DQ") & int(MODEL_INVALID) == 0)
    assert abs(np.median((siril.counts("less") - truth)[where])) < 1.5


def test_siril_cuts_off_what_is_below_zero_in_sixteen_bits(plain: Campaign, siril: Siril, tmp_path: Path) -> None:
    path = export(plain, tmp_path / "out")
    dark = fits.getdata(path).astype(float)
    siril.put("flat", np.rint(np.median(dark) * np.ones_like(dark)).astype(np.uint16))
    siril.run("set16bits", "load flat", f"isub {path}", "save less")
    expected = np.median(dark).round() - dark
    assert (expected < 0).any()
    np.testing.assert_array_equal(siril.counts("less"), np.maximum(expected, 0))


def test_siril_takes_a_synthetic_dark_and_a_master_bias_as_they_are(plain: Campaign, siril: Siril) -> None:
    """The image stands in the first extension, in counts: Siril finds it there, and scales it itself."""
    light = put_lights(siril, plain)
    for kind, name in (("synthetic", f"synthetic_dark_{CELL}"), ("dark_masks_by_temp", f"darks_{CELL}")):
        path, bias = plain.out / kind / f"{name}.fits", plain.out / "bias" / "master_bias_T-5.0C.fits"
        siril.run("set32bits", f"{siril.calibrate} light_ -bias={bias} -dark={path} -prefix={kind}_")
        dark, level = (fits.getdata(p, "SCI").astype(float) for p in (path, bias))
        calibrated(siril, light - level, dark, f"{kind}_light_00001")


def test_siril_finds_the_pixels_of_a_list(siril: Siril, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    bad = [(0, 5), (3, 7), (20, 1), (29, 33), (11, 0), (29, 0)]
    dq = np.zeros((30, 40), np.uint16)
    image = rng.integers(995, 1006, dq.shape).astype(np.uint16)
    for where in bad:
        dq[where], image[where] = int(DQ.HOT), 30_000
    dq[17, 22], image[17, 22] = int(DQ.DEAD), 0
    write_siril_list(siril.folder / "bad.lst", BadPixels.of(dq, DQ.HOT | DQ.DEAD), "of a test")
    for order in ("TOP-DOWN", "BOTTOM-UP"):
        fits.PrimaryHDU(image, fits.Header({"ROWORDER": order})).writeto(siril.folder / f"{order}.fit")
        siril.run("set16bits", f"load {order}", "cosme bad.lst", f"save done_{order}")
        done = siril.counts(f"done_{order}")
        assert {(int(r), int(c)) for r, c in np.argwhere(done != image)} == {*bad, (17, 22)}
        assert 990 < done.min() <= done.max() < 1010


def test_siril_repairs_the_bad_pixels_of_a_model(plain: Campaign, siril: Siril) -> None:
    image = np.full(plain.sensor.hot.shape, 1000, np.uint16)
    dq = fits.getdata(plain.out / "synthetic" / f"synthetic_dark_{CELL_NAMES[0]}.fits", "DQ")
    bad = (dq & int(MODEL_INVALID)) != 0
    image[bad] = 9000
    siril.put("frame", image)
    siril.run("set16bits", "load frame", f"cosme {plain.model / 'bad_pixels_siril.lst'}", "save done")
    done = siril.counts("done")
    np.testing.assert_array_equal(done[~bad], 1000)
    assert (done[bad] < 9000).all()
