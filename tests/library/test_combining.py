"""Masters, masks and noise of frames in memory, against what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

import darkpipe
from darkpipe import DQ, Frame
from darkpipe.errors import FrameError

RNG = np.random.default_rng(3)
SHAPE = (40, 30)
CAMPAIGN = darkpipe.simulate_campaign(*SHAPE, temperatures_c=(0.0,), exposures_s=(300.0,), n_darks=8, n_biases=12)


def test_a_master_dark_is_the_truth_with_its_error() -> None:
    bias = darkpipe.combine_frames(CAMPAIGN.biases, read_noise_adu=4.0, gain_e_per_adu=1.2)
    dark = darkpipe.combine_frames(CAMPAIGN.darks, read_noise_adu=4.0, gain_e_per_adu=1.2, bias=bias)
    pulls = (dark.science - CAMPAIGN.truth(0.0, 300.0)) / dark.error
    assert 0.9 < np.std(pulls) < 1.1
    assert dark.header["NCOMBINE"] == 8
    exact = Frame(bias.science, np.zeros(SHAPE, np.float32))
    alone = darkpipe.combine_frames(CAMPAIGN.darks, read_noise_adu=4.0, gain_e_per_adu=1.2, bias=exact)
    np.testing.assert_allclose(dark.error, np.hypot(alone.error, bias.error), rtol=1e-5)


def test_levels_are_aligned_if_asked() -> None:
    frames = CAMPAIGN.biases[:6].copy()
    frames[2] += 300
    given = {"read_noise_adu": 4.0, "gain_e_per_adu": np.inf}
    aligned = darkpipe.combine_frames(frames, **given)
    expected = darkpipe.combine_frames(CAMPAIGN.biases[:6], **given)
    np.testing.assert_allclose(aligned.science, expected.science, atol=0.1)
    raw = darkpipe.combine_frames(frames, align_levels=False, **given)
    assert (np.abs(raw.science - expected.science) < 5).all()  # the odd frame is rejected in every pixel
    assert np.median(raw.error / aligned.error) == pytest.approx(np.sqrt(6 / 5), rel=0.02)


def test_median_and_hot_pixels() -> None:
    image = darkpipe.median_frame(list(CAMPAIGN.darks))
    np.testing.assert_array_equal(image, np.median(CAMPAIGN.darks, axis=0).astype(np.float32))
    dark = RNG.normal(20.0, 2.0, SHAPE)
    dark[5, 6], dark[7, 8], dark[9, 10] = 100.0, 28.0, -50.0
    bits = darkpipe.find_hot_pixels(dark, 2.0)
    assert (bits[5, 6], bits[7, 8], bits[9, 10]) == (DQ.HOT, DQ.WARM, DQ.DEAD)
    noisy = Frame(dark.astype(np.float32), np.full(SHAPE, 40.0, np.float32))
    assert not darkpipe.find_hot_pixels(noisy).any()  # what the error explains is not hot


def test_the_read_noise_of_a_noisy_pixel() -> None:
    sigma = np.full(SHAPE, 5.0)
    sigma[4, 5] = 40.0
    frames = RNG.normal(1000.0, sigma, (20, *SHAPE)).round().astype(np.uint16)
    found = darkpipe.measure_read_noise(frames)
    assert found.sigma_adu == pytest.approx(5.0, rel=0.02)
    assert found.map_adu[4, 5] > 20.0
    assert np.median(found.map_adu) == pytest.approx(5.0, rel=0.05)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(FrameError, match="one frame cannot tell"):
        darkpipe.measure_read_noise(CAMPAIGN.biases[:1])
    with pytest.raises(FrameError, match="different shapes"):
        darkpipe.median_frame([np.ones((2, 3)), np.ones((3, 2))])
    with pytest.raises(FrameError, match=r"\[bias\]"):
        darkpipe.combine_frames(CAMPAIGN.darks, read_noise_adu=4.0, gain_e_per_adu=1.2, bias=np.zeros((2, 2)))
