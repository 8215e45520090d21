"""Messages of the library that no other test meets."""

from __future__ import annotations

import numpy as np
import pytest

import darkpipe
from darkpipe import DarkModel, MeanAccumulator, fit_dark_model
from darkpipe.errors import DesignError, FrameError, SettingsError

SMALL = darkpipe.simulate_campaign(rows=24, cols=28, n_darks=3, n_biases=4)


@pytest.fixture(scope="module")
def model() -> DarkModel:
    return darkpipe.example_model()


def test_arrays_that_are_no_frames(model: DarkModel) -> None:
    with pytest.raises(SettingsError, match=r"a frame is an image \(rows, cols\), not \(3,\)"):
        model.calibrate(np.ones(3), -5.0, 60.0)
    with pytest.raises(DesignError, match=r"a frame is an image of \(rows, cols\), not \(0, 4\)"):
        MeanAccumulator((0, 4))


@pytest.mark.parametrize("out", [np.empty((3, 3), np.float32), np.empty((0, 0))])
def test_no_place_for_a_signal(model: DarkModel, out: np.ndarray) -> None:
    with pytest.raises(SettingsError, match="a contiguous float32 array of"):
        model.signal(-5.0, 60.0, out=out)


def test_growth_is_unknown_at_one_temperature() -> None:
    one = SMALL.temperatures_c == SMALL.temperatures_c[0]
    found = fit_dark_model(
        [frame for frame, take in zip(SMALL.darks, one, strict=True) if take],
        SMALL.temperatures_c[one],
        SMALL.exposures_s[one],
        bias_frames=SMALL.biases,
        bias_temperatures_c=SMALL.bias_temperatures_c,
    )
    with pytest.raises(DesignError, match="was fitted at one temperature: it does not know how the dark current moves"):
        found.dark_current(-5.0)


def test_no_dark_is_left() -> None:
    darks = SMALL.darks.copy()
    corners = (np.s_[:6, :7], np.s_[:6, -7:], np.s_[-6:, :7], np.s_[-6:, -7:])
    for number, dark in enumerate(darks):  # light in another corner of each of the three frames of a cell
        dark[corners[number % 3]] += 3000
    with pytest.raises(FrameError, match="every dark was rejected"):
        fit_dark_model(
            darks, SMALL.temperatures_c, SMALL.exposures_s, bias_frames=SMALL.biases,
            bias_temperatures_c=SMALL.bias_temperatures_c,
        )  # fmt: skip


def test_a_glow_that_is_not_there() -> None:
    campaign = darkpipe.simulate_campaign(
        rows=24,
        cols=28,
        n_darks=3,
        n_biases=4,
        temperatures_c=(-15.0, -10.0, -5.0, 0.0),
        exposures_s=(30.0, 100.0, 300.0),
    )
    with pytest.raises(DesignError, match="exp_2d_glow cannot be fitted: "):
        fit_dark_model(
            campaign.darks, campaign.temperatures_c, campaign.exposures_s, bias_frames=campaign.biases,
            bias_temperatures_c=campaign.bias_temperatures_c, model="exp_2d_glow",
        )  # fmt: skip
