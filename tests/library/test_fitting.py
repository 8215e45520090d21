"""Models fitted in memory: those that the pipeline fits to the same frames, bit by bit."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData
from helpers import CAMPAIGN, Campaign, make_campaign, planes, run_well

import darkpipe
from darkpipe import DarkModel, fit_dark_model
from darkpipe.errors import DesignError, FrameError, SettingsError

SMALL = darkpipe.simulate_campaign(rows=40, cols=48, n_darks=3, n_biases=4)
BIASES: dict[str, Any] = {"bias_frames": SMALL.biases, "bias_temperatures_c": SMALL.bias_temperatures_c}


def raw_frames(folder: Path, kind: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Images, readings, set points and exposures of all frames of a kind, in the order of their names."""
    found = []
    for path in sorted(folder.glob("*.fits")):
        with fits.open(path) as hdus:
            if str(hdus[0].header["IMAGETYP"]).startswith(kind):
                cards = [float(hdus[0].header[key]) for key in ("CCD-TEMP", "SET-TEMP", "EXPTIME")]
                found.append((hdus[0].data.astype(np.uint16), *cards))
    images, *numbers = zip(*found, strict=True)
    return (list(images), *(np.array(n) for n in numbers))  # type: ignore[return-value]


def fitted_to(campaign: Campaign, **more: Any) -> DarkModel:
    darks, read, fixed, exposure = raw_frames(campaign.raw, "Dark")
    gain = campaign.sensor.recipe.gain_e_per_adu
    return fit_dark_model(darks, read, exposure, set_points_c=fixed, gain_e_per_adu=gain, **more)


def biases_of(campaign: Campaign) -> dict[str, Any]:
    images, read, fixed, _ = raw_frames(campaign.raw, "Bias")
    return {"bias_frames": images, "bias_temperatures_c": read, "bias_set_points_c": fixed}


def products_of(model: DarkModel, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    model.write(folder)
    return {p.relative_to(folder).as_posix(): planes(p) for p in sorted(folder.rglob("*.fits"))}


def test_the_fit_is_that_of_the_pipeline(plain: Campaign, tmp_path: Path) -> None:
    model = fitted_to(plain, **biases_of(plain))
    by_pipeline = DarkModel.read(plain.out)
    assert model.names == by_pipeline.names
    assert model.name == by_pipeline.name == "two_component"
    for mine, theirs in zip(model.description.models, by_pipeline.description.models, strict=True):
        assert mine == theirs  # ranges, references, scores, misfits
    for name in ("why", "gain_e_per_adu", "read_noise_adu", "scale_factor", "has_bias", "notes", "not_fitted"):
        assert getattr(model.description, name) == getattr(by_pipeline.description, name), name
    assert model.fits_range == by_pipeline.fits_range
    made = products_of(model, tmp_path / "model")
    assert {"hot_pixel_mask.fits", "bias_model.fits", "dark_A_map.fits", "two_component/covariance.fits"} < set(made)
    for name, found in made.items():
        expected = planes(plain.model / name)
        for plane in set(found) - {"INPUTS"}:
            np.testing.assert_array_equal(found[plane], expected[plane], err_msg=f"{name} {plane}")


ODD = dataclasses.replace(
    CAMPAIGN, rows=64, cols=56, temperatures_c=(-12.0, -6.0, 0.0, 4.0), exposures_s=(30.0, 100.0, 300.0), n_darks=3,
    glow_rate_adu_s=4.0, pedestal_drift_adu=1.0, temperature_jitter_k=0.05, thermometer_step_k=0.1, adc_bits=12,
    left_aligned=True, bias_level_adu=300.0, hot_decades=(0.3, 1.5), gain_e_per_adu=2.0,
)  # fmt: skip


@pytest.mark.slow
def test_an_odd_campaign_comes_out_as_in_the_pipeline(tmp_path: Path) -> None:
    """Glow, drift, 12 bits at the top of 16, a temperature without biases that takes the line through the others."""
    odd = make_campaign(tmp_path, ODD)
    for path in odd.raw.glob("*.fits"):
        if fits.getval(path, "IMAGETYP").startswith("Bias") and fits.getval(path, "SET-TEMP") == -6.0:
            path.unlink()
    run_well(odd, "fit_2d_model")
    # the header's e-/ADU is of a native count here, as the setting is
    model, by_pipeline = fitted_to(odd, **biases_of(odd)), DarkModel.read(odd.out)
    assert model.name == by_pipeline.name == "two_component_glow"
    assert model.description.scale_factor == 16.0
    assert model.description.notes == by_pipeline.description.notes
    assert "amplifier glow" in model.description.notes[0]
    assert model.description.models == by_pipeline.description.models
    for temperature, exposure in ((-6.0, 100.0), (8.0, 60.0)):
        mine, theirs = (m.synthesize(temperature, exposure, include_bias=True) for m in (model, by_pipeline))
        for name in ("science", "error", "dq"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)


def test_without_biases_it_is_that_of_the_pipeline_too(work: Campaign, tmp_path: Path) -> None:
    for path in work.raw.glob("*.fits"):
        if fits.getval(path, "IMAGETYP").startswith("Bias"):
            path.unlink()
    run_well(work, "fit_2d_model")
    model = fitted_to(work)
    assert not model.description.has_bias
    made = products_of(model, tmp_path / "model")
    assert "two_component/offset_map.fits" in made
    for name, found in made.items():
        np.testing.assert_array_equal(found["SCI"], planes(work.model / name)["SCI"], err_msg=name)


def test_cubes_sequences_and_ccddata_are_alike() -> None:
    ccds = [CCDData(d.astype(float), unit="adu") for d in SMALL.darks]
    cube = fit_dark_model(SMALL.darks, SMALL.temperatures_c, SMALL.exposures_s, **BIASES)
    kelvin, minutes = (SMALL.temperatures_c + 273.15) * u.K, SMALL.exposures_s / 60.0 * u.min
    same = fit_dark_model(ccds, kelvin, minutes, **BIASES)
    np.testing.assert_allclose(
        cube.synthesize(-7.0, 60.0).science, same.synthesize(-7.0, 60.0).science, rtol=1e-4, atol=1e-3
    )


def test_a_master_bias_is_taken_as_it_is() -> None:
    bias = np.asarray(SMALL.bias_adu, np.float32)
    model = fit_dark_model(
        SMALL.darks, SMALL.temperatures_c, SMALL.exposures_s, bias=bias, gain_e_per_adu=1.2, read_noise_adu=4.0
    )
    dark, full = model.synthesize(-7.0, 60.0), model.synthesize(-7.0, 60.0, include_bias=True)
    np.testing.assert_allclose(full.science - dark.science, bias, atol=1e-3)
    pulls = (dark.science - SMALL.truth(-7.0, 60.0)) / dark.error
    assert 0.8 < np.nanstd(pulls) < 1.2


def test_masked_pixels_of_ccddata_are_missing() -> None:
    mask = np.zeros(SMALL.darks.shape[1:], bool)
    mask[3, 4] = True
    ccds = [CCDData(d.astype(np.float32), unit="adu", mask=mask) for d in SMALL.darks]
    dark = fit_dark_model(ccds, SMALL.temperatures_c, SMALL.exposures_s, **BIASES).synthesize(-7.0, 60.0)
    assert np.argwhere(~np.isfinite(dark.science)).tolist() == [[3, 4]]
    assert dark.flagged()[3, 4]


def test_odd_frames_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    darks = SMALL.darks.copy()
    darks[5] += 500  # a light leak
    with caplog.at_level(logging.WARNING, "darkpipe"):
        model = fit_dark_model(darks, SMALL.temperatures_c, SMALL.exposures_s, **BIASES)
    assert list(model.rejected) == ["dark 5"]
    assert "light leak" in model.rejected["dark 5"]
    assert any("dark 5 is left out" in r.getMessage() for r in caplog.records)
    assert "left out: dark 5" in model.report()


def test_one_exposure_gives_a_model_of_one_axis() -> None:
    use = SMALL.exposures_s == 100.0
    model = fit_dark_model(SMALL.darks[use], SMALL.temperatures_c[use], 100.0, model="exp_1d", **BIASES)
    assert model.names[-1] == model.name == "exp_1d/texp100s"
    assert model.synthesize(-7.0, 100.0).header["MODEL"] == "exp_1d/texp100s"
    with pytest.raises(DesignError, match="cannot make a dark of -7 °C and 60 s"):
        model.synthesize(-7.0, 60.0)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"temperatures_c": [1.0, 2.0]}, SettingsError, "36 frames and values of shape"),
        ({"temperatures_c": 5.0 * u.s}, SettingsError, "s is no unit of a temperature"),
        ({"exposures_s": 5.0 * u.m}, SettingsError, "m is no unit of a time"),
        ({"exposures_s": 0.0}, SettingsError, "above 0 s"),
        ({"temperatures_c": np.nan}, SettingsError, "neither temperature nor set point"),
        ({"bias_temperatures_c": None}, SettingsError, "the temperatures of the bias frames are not known"),
        ({"bias": np.zeros((40, 48))}, SettingsError, "either bias frames or a master bias"),
        ({"bias_frames": SMALL.biases[:, :5]}, FrameError, "another shape"),
        ({"frames": SMALL.darks[0, 0]}, FrameError, "an image of numbers"),
        ({"frames": []}, FrameError, "there are no frames"),
        ({"frames": SMALL.darks - 1000.5}, FrameError, "fractions in its pixels"),
        ({"frames": np.zeros_like(SMALL.darks)}, FrameError, "all pixels read the same"),
        ({"model": "exp"}, SettingsError, "there is no model 'exp'"),
        ({"temperatures_c": -10.0, "exposures_s": 30.0}, DesignError, "no model can be fitted"),
    ],
)
def test_what_cannot_be_fitted_is_said(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    given = {"frames": SMALL.darks, "temperatures_c": SMALL.temperatures_c, "exposures_s": SMALL.exposures_s}
    with pytest.raises(kind, match=message):
        fit_dark_model(**{**given, **BIASES, **changes})
