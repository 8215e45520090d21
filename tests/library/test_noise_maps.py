"""Noise maps in memory and from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from em_folder import EmFolder
from helpers import planes

import darkpipe
from darkpipe.errors import DesignError, ProductError

RNG = np.random.default_rng(5)
SETTINGS = np.array([(g, t) for g in (1.0, 50.0, 300.0) for t in (2.0, 50.0, 200.0) for _ in range(6)])
GAINS, TIMES = SETTINGS.T
SHAPE = (24, 30)
F, C, D = RNG.normal(30.0, 5.0, SHAPE), 0.03, RNG.uniform(5e-4, 5e-3, SHAPE)
FRAMES = (
    F
    + GAINS[:, None, None] * RNG.poisson(C + TIMES[:, None, None] * D, (TIMES.size, *SHAPE))
    + RNG.normal(0.0, 15.0, (TIMES.size, *SHAPE))
)


def test_maps_in_memory_are_those_of_a_calibration() -> None:
    masks = RNG.random(FRAMES.shape) < 0.02
    maps = darkpipe.fit_noise_maps(FRAMES, GAINS, TIMES / 60.0 * u.min, masks=masks)
    calibration = darkpipe.NoiseMapCalibration(darkpipe.DetectorRegions.whole(*SHAPE))
    for gain, exposure in np.unique(SETTINGS, axis=0):
        of_stack = (gain == GAINS) & (exposure == TIMES)
        calibration.add(FRAMES[of_stack], gain, exposure, masks[of_stack])
    expected = calibration.fit()
    np.testing.assert_allclose(maps.fixed_e, expected.fixed_e, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(maps.dark_e_per_s, expected.dark_e_per_s, rtol=1e-3, atol=1e-6)
    pulls = (maps.fixed_e - F) / maps.fixed_error_e
    assert 0.85 < np.std(pulls) < 1.15
    dark = darkpipe.synthesised_dark(maps, 100.0, 60.0)
    assert abs(np.median(dark.dark_e) - np.median(F / 100.0 + C + 60.0 * D)) < 0.02


def test_maps_on_disk(em_plain: EmFolder, tmp_path: Path) -> None:
    maps = darkpipe.read_noise_maps(em_plain.out)
    expected = planes(em_plain.out / "dark_model" / "noise_maps" / "D_map.fits")
    np.testing.assert_array_equal(maps.dark_e_per_s, expected["SCI"])
    np.testing.assert_allclose(maps.dark_error_e_per_s, expected["ERR"], rtol=1e-6)
    with pytest.raises(ProductError, match="no noise maps here"):
        darkpipe.read_noise_maps(tmp_path)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DesignError, match="3 gains and 54 exposures"):
        darkpipe.fit_noise_maps(FRAMES, GAINS[:3], TIMES)
    with pytest.raises(DesignError, match="all stacks have one EM gain"):
        darkpipe.fit_noise_maps(FRAMES, np.ones(TIMES.size), TIMES + np.arange(TIMES.size) % 5)
