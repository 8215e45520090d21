from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpipe.science.noise import (
    choose_scale_factor,
    fit_variance_prior,
    integer_median,
    integer_sigma,
    pair_sigma,
    pixel_variance,
    read_noise_from_pairs,
    robust_median,
    robust_sigma,
)

REAL = Path(os.environ.get("DARKPIPE_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def biases(n: int, sigma: float | NDArray[np.float64], p: int = 100_000, drift: float = 0.0) -> NDArray[np.uint16]:
    rng = np.random.default_rng(round(1000 * float(np.mean(sigma))) + n)
    level = rng.uniform(500, 560, p) + drift * np.arange(n)[:, None]
    return np.rint(level + rng.normal(0, 1, (n, p)) * sigma).astype(np.uint16)


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.8, 1.0, 1.7, 3.0, 4.5, 10.0])
@pytest.mark.parametrize("drift", [0.0, 0.4, 3.0])
def test_common_read_noise_of_integers(sigma: float, drift: float) -> None:
    frames = biases(3, sigma, drift=drift)
    found = read_noise_from_pairs(frames)
    assert found is not None
    whole = np.sqrt(np.mean(np.diff(frames.astype(float), axis=0).var(axis=1)) / 2)
    assert whole == pytest.approx(np.hypot(sigma, np.sqrt(1 / 12)), rel=0.015)  # quantisation is part of it
    assert found.sigma_adu == pytest.approx(whole, rel=0.01)
    assert found.pair_sigma_adu == pytest.approx(whole, rel=0.015)
    assert float(np.sqrt(np.mean(found.map_adu.astype(float) ** 2))) == pytest.approx(whole, rel=0.02)
    assert found.map_adu.std() < 0.02 * whole


def test_hot_pixels_and_cosmic_rays_do_not_move_it() -> None:
    frames = biases(2, 2.0)
    frames[0, ::100] += 40
    assert pair_sigma(frames[0], frames[1]) == pytest.approx(np.hypot(2, np.sqrt(1 / 12)), rel=0.01)


def test_continuous_values_and_missing_ones() -> None:
    rng = np.random.default_rng(2)
    frames = rng.normal(100, 1.3, (2, 200_000)).astype(np.float32)
    frames[0, ::50] = np.nan
    frames[1, 1::99] += 100
    assert pair_sigma(frames[0], frames[1]) == pytest.approx(1.3, rel=0.01)
    assert np.isnan(pair_sigma(frames[0] * np.nan, frames[1]))


def test_left_aligned_data_after_scaling_are_integers() -> None:
    frames = biases(2, 0.6)
    native = (frames * np.uint16(16)).astype(np.float32) / np.float32(16)
    assert pair_sigma(native[0], native[1]) == pytest.approx(pair_sigma(frames[0], frames[1]), rel=1e-9)


def test_one_frame_cannot_tell() -> None:
    assert read_noise_from_pairs(np.zeros((1, 50), np.uint16)) is None
    with pytest.raises(ValueError, match="frames"):
        read_noise_from_pairs(np.zeros(50, np.uint16))


def test_identical_frames_have_no_noise() -> None:
    frames = np.tile(np.arange(1000, dtype=np.uint16), (3, 1))
    found = read_noise_from_pairs(frames)
    assert found is not None
    assert found.sigma_adu == 0.0
    assert found.map_adu.max() < 0.01


@pytest.mark.parametrize(("n", "core_scatter", "hot_scatter"), [(2, 0.15, 1.0), (5, 0.1, 0.5), (10, 0.07, 0.3)])
def test_the_map_finds_the_noisy_pixels_and_leaves_the_rest_alone(
    n: int, core_scatter: float, hot_scatter: float
) -> None:
    rng = np.random.default_rng(8)
    p = 60_000
    noisy = rng.random(p) < 0.01
    sigma = 2 * np.exp(np.where(noisy, rng.normal(1.3, 0.4, p), rng.normal(0, 0.03, p)))
    found = read_noise_from_pairs(biases(n, sigma, p))
    assert found is not None
    ratio = found.map_adu / np.hypot(sigma, np.sqrt(1 / 12))
    assert ratio[~noisy].std() < core_scatter
    assert np.median(ratio[~noisy]) == pytest.approx(1, abs=0.06 if n == 2 else 0.02)
    assert found.sigma_adu == pytest.approx(np.hypot(2, np.sqrt(1 / 12)), rel=0.02)
    if n > 2:
        assert np.median(ratio[noisy]) == pytest.approx(1, abs=0.1)
        assert np.abs(ratio[noisy] - 1).mean() < hot_scatter


def test_the_posterior_is_calibrated() -> None:
    rng = np.random.default_rng(5)
    p, dof, prior_dof = 200_000, 9, 20.0
    truth = 4.0 * prior_dof / rng.chisquare(prior_dof, p)
    sample = truth * rng.chisquare(dof, p) / dof
    prior = fit_variance_prior(sample, np.full(p, dof))
    assert prior.core_variance == pytest.approx(4.0, rel=0.03)
    assert prior.core_dof == pytest.approx(prior_dof, rel=0.2)
    posterior = prior.posterior_variance(sample, np.full(p, dof))
    for low, high in ((0, 10), (45, 55), (90, 99)):
        inside = (posterior > np.percentile(posterior, low)) & (posterior < np.percentile(posterior, high))
        assert truth[inside].mean() == pytest.approx(posterior[inside].mean(), rel=0.03)


@pytest.mark.parametrize(
    ("dof", "core_dof", "ratio", "tail"), [(9, 3.0, 300.0, 0.3), (100, 300.0, 300.0, 0.05), (100, 3.0, 300.0, 0.004)]
)
def test_core_and_tail_are_told_apart_however_far_they_lie_from_the_start(
    dof: int, core_dof: float, ratio: float, tail: float
) -> None:
    rng = np.random.default_rng(7)
    p = 100_000
    noisy = rng.random(p) < tail
    truth = 5.0 * np.where(noisy, ratio * 3.0 / rng.chisquare(3.0, p), core_dof / rng.chisquare(core_dof, p))
    prior = fit_variance_prior(truth * rng.chisquare(dof, p) / dof, np.full(p, dof))
    assert prior.core_variance == pytest.approx(5.0, rel=0.03)
    assert prior.core_dof == pytest.approx(core_dof, rel=0.15)
    assert prior.tail_variance == pytest.approx(5.0 * ratio, rel=0.15)
    assert prior.tail_weight == pytest.approx(tail, rel=0.1)


def test_pixels_without_samples_get_the_prior() -> None:
    rng = np.random.default_rng(6)
    sample = rng.chisquare(5, 1000) / 5
    sample[0] = np.nan
    prior = fit_variance_prior(sample, np.full(1000, 5))
    sigma = prior.sigma_map(sample, np.full(1000, 5))
    assert np.isfinite(sigma).all()
    assert sigma[0] == pytest.approx(1.0, abs=0.1)
    assert np.isnan(fit_variance_prior(np.full(3, np.nan), np.zeros(3)).core_variance)


def test_pixel_variance_against_numpy() -> None:
    frames = biases(5, 3.0, 500).astype(np.float32)
    level = np.array([0.0, 1.0, 2.0, -1.0, 0.5])
    variance, dof = pixel_variance(frames, level)
    np.testing.assert_allclose(variance, (frames - level[:, None]).var(axis=0, ddof=1), rtol=1e-4)
    frames[0, 0] = np.nan
    frames[1:, 1] = np.nan
    variance, dof = pixel_variance(frames, level)
    np.testing.assert_array_equal(dof[:3], [3, 0, 4])
    assert variance[0] == pytest.approx(np.nanvar(frames[:, 0] - level, ddof=1), rel=1e-4)
    assert np.isnan(variance[1])
    drifting = biases(5, 3.0, 50_000, drift=2.0)
    assert pixel_variance(drifting)[0].mean() == pytest.approx(9 + 1 / 12, rel=0.02)


@pytest.mark.parametrize("sigma", [0.8, 1.3, 6.0])
def test_spreads_of_integers_are_finer_than_an_integer(sigma: float) -> None:
    rng = np.random.default_rng(3)
    data = np.rint(rng.normal(100.3, sigma, 200_000)).astype(np.int32)
    assert integer_median(data) == pytest.approx(100.3, abs=0.06)
    assert integer_sigma(data) == pytest.approx(np.hypot(sigma, np.sqrt(1 / 12)), rel=0.04)
    assert robust_sigma(data) == integer_sigma(data)


def test_robust_statistics_of_floats() -> None:
    data = np.append(np.random.default_rng(4).normal(5, 2, 100_000), [np.nan, 1e9])
    assert robust_median(data) == pytest.approx(5, abs=0.03)
    assert robust_sigma(data) == pytest.approx(2, rel=0.02)
    assert np.isnan(robust_median(np.array([np.nan])))
    assert np.isnan(robust_sigma(np.array([np.nan])))
    assert np.isnan(integer_sigma(np.array([], np.uint16)))


def test_frames_vote_for_the_scale() -> None:
    assert choose_scale_factor([16, 16, 16, 32, 1]) == 16
    assert choose_scale_factor([4, 2, 2, 4]) == 2
    assert choose_scale_factor([]) == 1
    with pytest.raises(ValueError, match="powers of two"):
        choose_scale_factor([16, 12])


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real frames in {REAL}")
def test_real_biases() -> None:
    from astropy.io import fits

    def load(pattern: str) -> NDArray[np.uint16]:
        return np.array([fits.getdata(path).ravel() for path in sorted(REAL.glob(pattern))])

    ccd = read_noise_from_pairs(load("stl1001e_sbu_dev/2017_cgs/biases-Neg5*"))
    assert ccd is not None
    assert ccd.sigma_adu == pytest.approx(6.7, abs=0.15)
    assert ccd.map_adu.std() < 0.03 * ccd.sigma_adu  # a CCD has one amplifier
    cmos = read_noise_from_pairs(load("cmos_dl_nrc_bias/bias*.fit"))
    assert cmos is not None
    assert cmos.sigma_adu == pytest.approx(1.16, abs=0.03)
    noisy = (cmos.map_adu > 1.5 * cmos.sigma_adu).mean()
    assert 0.004 < noisy < 0.02


@pytest.mark.parametrize("scale", [1, 4, 16])
@pytest.mark.parametrize("noise", [0.4, 1.3, 25.0])
def test_a_pair_of_sixteen_bit_frames_tells_what_floats_tell(scale: int, noise: float) -> None:
    rng = np.random.default_rng([scale, round(10 * noise)])
    pattern = rng.normal(900, 5, 30_000)
    first, second = (np.rint(pattern + rng.normal(0, noise, pattern.size)).astype(np.uint16) for _ in range(2))
    second[:50] += 2000
    expected = pair_sigma(first.astype(np.float32), second.astype(np.float32))
    assert pair_sigma(scale * first, scale * second, scale) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(np.hypot(noise, 12**-0.5), rel=0.03)


def test_a_scale_that_does_not_divide_the_counts_is_taken_all_the_same() -> None:
    rng = np.random.default_rng(8)
    first, second = (np.rint(rng.normal(900, 20, 30_000)).astype(np.uint16) for _ in range(2))
    assert pair_sigma(first, second, 3.3) == pytest.approx(20 / 3.3, rel=0.02)


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_variances_of_pixels_are_numpys(kind: type, scale: float) -> None:
    rng = np.random.default_rng(9)
    frames = np.rint(rng.normal(4000, 30, (7, 5001))).astype(kind)
    levels = rng.normal(0, 5, 7)
    if kind is np.float32:
        frames[2, :40] = np.nan
        frames[:, 77] = np.nan
        frames[1:, 78] = np.inf
    variance, dof = pixel_variance(frames, levels, scale)
    native = frames.astype(float) * scale - levels[:, None]
    native[~np.isfinite(native)] = np.nan
    known = np.isfinite(native).sum(axis=0)
    np.testing.assert_array_equal(dof, np.maximum(known - 1, 0))
    some = known > 1
    np.testing.assert_allclose(variance[some], np.nanvar(native[:, some], axis=0, ddof=1), rtol=1e-4)
    assert np.isnan(variance[~some]).all()
