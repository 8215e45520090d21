"""Darks of an EM-CCD: the mean of a stack, and those made of noise maps."""

from __future__ import annotations

import numpy as np
import pytest
from em_frames import em_sensor, stacks

from darkpipe.errors import DesignError
from darkpipe.science.em_darks import synthesised_dark, traditional_dark
from darkpipe.science.flags import DQ
from darkpipe.science.masked_mean import masked_mean
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMaps
from darkpipe.science.regions import Area, DetectorRegions

SHAPE = (60, 80)
REGIONS = DetectorRegions(60, 80, image=Area(5, 30, 40, 44), prescan=Area(0, 0, 60, 20), telemetry_rows=(-2, None))


@pytest.fixture(scope="module")
def maps() -> NoiseMaps:
    rng = np.random.default_rng(5)
    sensor = em_sensor(rng, SHAPE)
    cal = NoiseMapCalibration(REGIONS)
    for frames, g, t, masks in stacks(sensor, rng, [6] * 6):
        masks[:, 10, 40] = g < 1000
        cal.add(frames, g, t, masks)
    return cal.fit()


def test_traditional_dark_in_both_extents() -> None:
    rng = np.random.default_rng(6)
    frames = rng.normal(3.0, 0.5, (8, *SHAPE))
    masks = np.zeros(frames.shape, bool)
    masks[:, 12, 50], masks[:7, 13, 50] = True, True
    stack = masked_mean(frames, masks)
    full = traditional_dark(stack, REGIONS, em_gain=10.0, exposure_s=5.0, full_frame=True)
    image = traditional_dark(stack, REGIONS, em_gain=10.0, exposure_s=5.0)
    assert full.dark_e.shape == SHAPE
    assert image.dark_e.shape == (40, 44)
    for name in ("dark_e", "error_e", "dq"):
        np.testing.assert_array_equal(getattr(full, name)[5:45, 30:74], getattr(image, name))
    assert np.isnan(full.dark_e[-2:]).all()
    assert np.isnan(full.error_e[-2:]).all()
    assert (full.dq[-2:] != 0).all()
    assert np.isnan(full.dark_e[12, 50])
    assert full.dq[12, 50] == full.dq[13, 50] == DQ.FEW_SAMPLES
    assert full.error_e[13, 50] == pytest.approx(0.5, rel=0.1)  # one frame left: the scatter of the others
    np.testing.assert_allclose(image.dark_e[20:], frames.mean(0)[25:45, 30:74], rtol=1e-6)
    undivided = traditional_dark(stack, REGIONS, em_gain=10.0, exposure_s=5.0, divided=False)
    np.testing.assert_allclose(undivided.dark_e, image.dark_e / 10, rtol=1e-6)
    np.testing.assert_allclose(undivided.error_e, image.error_e / 10, rtol=1e-6)


@pytest.mark.parametrize(("kind", "own"), [("common", 3.0), ("independent", 1.0), ("ignore", 0.0)])
def test_errors_of_the_frames_join_those_of_the_scatter(kind: str, own: float) -> None:
    frames = np.random.default_rng(7).normal(0, 6.0, (9, *SHAPE))
    stack = masked_mean(frames, errors=np.full(frames.shape, 3.0))
    dark = traditional_dark(stack, REGIONS, em_gain=1.0, exposure_s=1.0, frame_errors=kind, scatter="pixel")  # type: ignore[arg-type]
    expected = np.sqrt(frames.var(0, ddof=1) / 9 + own**2)[REGIONS.image.slices]
    np.testing.assert_allclose(dark.error_e, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="frame_errors"):
        traditional_dark(stack, REGIONS, em_gain=1.0, exposure_s=1.0, frame_errors="yes")  # type: ignore[arg-type]


def test_errors_of_a_traditional_dark_are_calibrated() -> None:
    rng = np.random.default_rng(8)
    sensor = em_sensor(rng, (200, 200))
    frames = sensor.frames(rng, 100.0, 100.0, 10)
    dark = traditional_dark(
        masked_mean(frames), DetectorRegions.whole(200, 200), em_gain=100.0, exposure_s=100.0, divided=False
    )
    pulls = (dark.dark_e - sensor.level(100.0, 100.0) / 100.0) / dark.error_e
    assert pulls.std() == pytest.approx(1.0, abs=0.05)


def test_synthesised_dark_is_the_formula(maps: NoiseMaps) -> None:
    g, t = 40.0, 25.0
    dark = synthesised_dark(maps, g, t, full_frame=True)
    np.testing.assert_allclose(dark.dark_e, maps.fixed_e / g + t * maps.dark_e_per_s + maps.cic_e, rtol=1e-5, atol=1e-6)
    row = np.array([1 / g, 1.0, t])
    full = np.empty((3, 3, *SHAPE))
    full[np.triu_indices(3)] = maps.covariance
    full[np.triu_indices(3)[::-1]] = maps.covariance
    expected = np.sqrt(np.einsum("i,ijrc,j->rc", row, full, row))
    np.testing.assert_allclose(dark.error_e, expected, rtol=1e-4)
    plain = synthesised_dark(maps, g, t, full_frame=True, errors="independent")
    documented = np.sqrt(maps.fixed_error_e**2 / g**2 + t**2 * maps.dark_error_e_per_s**2 + maps.cic_error_e**2)
    np.testing.assert_allclose(plain.error_e, documented, rtol=1e-5)
    assert np.nanmedian(plain.error_e / dark.error_e) > 1.03
    image = synthesised_dark(maps, g, t)
    np.testing.assert_array_equal(image.dark_e, dark.dark_e[REGIONS.image.slices])
    np.testing.assert_array_equal(image.dq, dark.dq[REGIONS.image.slices])


def test_flags_of_a_synthesised_dark(maps: NoiseMaps) -> None:
    dark = synthesised_dark(maps, 40.0, 25.0, full_frame=True)
    assert dark.dq[10, 40] == DQ.FIT_FAILED | DQ.FEW_SAMPLES
    assert np.isnan(dark.dark_e[10, 40])
    assert np.isnan(dark.dark_e[-2:]).all()
    assert dark.dq[20, 40] == 0
    for g, t in ((2000.0, 25.0), (40.0, 150.0), (40.0, 1.0)):
        assert (synthesised_dark(maps, g, t).dq & DQ.EXTRAPOLATED).all()
    assert not (synthesised_dark(maps, 1000.0, 100.0).dq & DQ.EXTRAPOLATED).any()


def test_settings_are_checked(maps: NoiseMaps) -> None:
    for g, t in ((0.9, 1.0), (np.nan, 1.0), (2.0, -1.0), (2.0, np.nan)):
        with pytest.raises(DesignError, match=r"EM gain|exposure"):
            synthesised_dark(maps, g, t)
    with pytest.raises(ValueError, match="errors"):
        synthesised_dark(maps, 2.0, 1.0, errors="none")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="detector has"):
        traditional_dark(masked_mean(np.ones((2, 4, 4))), REGIONS, em_gain=1.0, exposure_s=1.0)
