from __future__ import annotations

import platform
import warnings
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from darkpipe.science import combine_kernels
from darkpipe.science.combine import Combined, clipped_mean, median
from darkpipe.science.flags import DQ

READ_NOISE, GAIN, BIAS = 6.7, 2.06, 1000.0


def frames(n: int, p: int, signal_adu: float | NDArray[Any], seed: int = 1) -> NDArray[np.uint16]:
    """Raw integers: Poisson electrons, Gaussian read noise, a level that is no integer."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(np.broadcast_to(signal_adu, (n, p)) * GAIN)
    return np.rint(BIAS + 0.37 + electrons / GAIN + rng.normal(0, READ_NOISE, (n, p))).astype(np.uint16)


def combine(samples: NDArray[Any], **changes: Any) -> Combined:
    settings: dict[str, Any] = {
        "level_adu": None,
        "read_noise_adu": np.hypot(READ_NOISE, np.sqrt(1 / 12)),
        "gain_e_per_adu": GAIN,
        "bias_adu": BIAS + 0.37,
    }
    return clipped_mean(samples, **(settings | changes))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 10, 31, 64, 97, 200])
def test_median_is_numpys_bit_for_bit(n: int) -> None:
    rng = np.random.default_rng(n)
    integers = rng.integers(0, 65536, (n, 1500)).astype(np.uint16)
    integers[:, 700:] = rng.integers(995, 1005, (n, 800))  # ties
    np.testing.assert_array_equal(median(integers), np.median(integers, axis=0))
    floats = rng.normal(0, 50, (n, 1100)).astype(np.float32)
    floats[rng.random(floats.shape) < 0.02] = np.nan
    floats[:, 5] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN
        expected = np.nanmedian(floats, axis=0)
    np.testing.assert_array_equal(median(floats), expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 40])
@pytest.mark.parametrize("signal", [4.0, 300.0])
def test_clean_data_are_unbiased_and_errors_are_true(n: int, signal: float) -> None:
    p = 160_000
    out = combine(frames(n, p, signal, seed=n), kappa=4.5)
    sigma = np.sqrt(READ_NOISE**2 + 1 / 12 + signal / GAIN)
    deviation = out.mean - (BIAS + 0.37 + signal)
    assert abs(deviation.mean()) < 0.01 * sigma / np.sqrt(n)
    assert (deviation / out.error).std() == pytest.approx(1.0, abs=0.02)
    if n > 1:
        assert out.chi2[out.count > 1].mean() == pytest.approx(1.0, abs=0.02)
        assert out.rejected.sum() < 2e-4 * n * p
    assert np.array_equal(out.count + out.rejected, np.full(p, n))


@pytest.mark.parametrize("n", [3, 4, 5, 8, 10, 20])
def test_cosmic_rays_go_and_only_they(n: int) -> None:
    p = 20_000
    samples = frames(n, p, 50.0, seed=n)
    rng = np.random.default_rng(n + 50)
    where = rng.integers(0, n, p)
    samples[where, np.arange(p)] += rng.integers(80, 30_000, p).astype(np.uint16)
    out = combine(samples)
    assert (out.rejected == 1).mean() > 0.995
    assert abs((out.mean - (BIAS + 50.37)).mean()) < 0.1
    assert ((out.mean - (BIAS + 50.37)) / out.error).std() == pytest.approx(1.0, abs=0.05)


def test_a_few_samples_cannot_hide_an_outlier_in_their_own_scatter() -> None:
    samples = np.full((4, 1), 1000, np.uint16)
    samples[1] = 5000
    out = combine(samples)
    assert out.mean[0] == 1000
    assert out.count[0] == 3


def test_hot_pixels_that_follow_the_temperature_are_not_eaten() -> None:
    rng = np.random.default_rng(4)
    n, p, jitter = 10, 20_000, 0.03
    samples = frames(n, p, 20_000.0 * (1 + jitter * rng.normal(0, 1, (n, p))), seed=9)
    eaten = combine(samples, relative_error=0.0)
    kept = combine(samples, relative_error=jitter)
    assert eaten.rejected.mean() > 0.5
    assert kept.rejected.mean() < 0.002
    assert ((kept.mean - BIAS - 20_000) / kept.error).std() == pytest.approx(1.0, abs=0.03)


def test_of_two_only_the_high_one_goes() -> None:
    samples = np.array([[1000, 1000, 1000, 1100], [1015, 1100, 900, 1000]], np.uint16)
    out = combine(samples, bias_adu=1000.0)
    np.testing.assert_allclose(out.mean, [1007.5, 1000, 900, 1000])
    np.testing.assert_array_equal(out.count, [2, 1, 1, 1])
    np.testing.assert_array_equal(out.dq & DQ.FEW_SAMPLES != 0, [False, True, True, True])


def test_a_bias_that_is_only_for_reading_is_not_compiled_for_anew() -> None:
    raw, bias = np.full((5, 40), 700, np.uint16), np.full(40, 500.0, np.float32)
    found = clipped_mean(raw, level_adu=None, read_noise_adu=5.0, gain_e_per_adu=1.0, bias_adu=bias)
    known = list(combine_kernels.clip_strip.signatures)
    bias.flags.writeable = False
    again = clipped_mean(raw, level_adu=None, read_noise_adu=5.0, gain_e_per_adu=1.0, bias_adu=bias)
    np.testing.assert_array_equal(again.mean, found.mean)
    assert list(combine_kernels.clip_strip.signatures) == known


def test_one_is_taken_as_it_is_and_said_so() -> None:
    out = combine(np.array([[1000, 60_000]], np.uint16))
    np.testing.assert_array_equal(out.mean, [1000, 60_000])
    assert (out.dq == DQ.FEW_SAMPLES).all()
    assert np.isnan(out.chi2).all()
    assert np.isfinite(out.error).all()


def test_saturated_clipped_and_missing_samples_are_left_out() -> None:
    samples = np.full((4, 6), 1000, np.float32)
    samples[0, 1] = 65535  # a cosmic ray that saturates
    samples[:, 2] = 65535
    samples[:3, 3] = 65535
    samples[2, 4] = 0
    samples[:, 5] = np.nan
    out = combine(samples, valid_low=0, valid_high=65535)
    np.testing.assert_array_equal(out.mean, [1000, 1000, np.nan, 1000, 1000, np.nan])
    np.testing.assert_array_equal(out.count, [4, 3, 0, 1, 3, 0])
    few, saturated = int(DQ.FEW_SAMPLES), int(DQ.SATURATED)
    np.testing.assert_array_equal(out.dq, [0, 0, few | saturated, few | saturated, DQ.CLIPPED_LOW, few])
    assert not out.rejected.any()
    assert np.isnan(out.error[[2, 5]]).all()


def test_levels_scale_and_pedestal() -> None:
    native = frames(6, 3000, 10.0, seed=2).astype(np.float64)
    level = np.array([-3.0, -1.0, 0.0, 0.5, 1.5, 2.0])
    plain = combine(native.astype(np.float32))
    scaled = combine(
        ((native + level[:, None] + 100) * 16).astype(np.float32),
        level_adu=level,
        scale_factor=16.0,
        pedestal_adu=-100.0,
    )
    np.testing.assert_allclose(scaled.mean, plain.mean, rtol=1e-6)
    np.testing.assert_array_equal(scaled.count, plain.count)
    np.testing.assert_allclose(scaled.chi2, plain.chi2, rtol=2e-3)


def test_a_pixel_of_two_levels_keeps_all_and_admits_it() -> None:
    samples = np.array([[1000], [1000], [1500], [1500]], np.uint16)
    out = combine(samples)
    assert out.mean[0] == 1250
    assert out.count[0] == 4
    assert out.dq[0] == DQ.FEW_SAMPLES
    assert out.error[0] == pytest.approx(np.std([0, 0, 500, 500], ddof=1) / 2, rel=1e-5)
    assert out.chi2[0] > 100


def test_no_bias_means_no_shot_noise_and_nan_bias_means_all_is_signal() -> None:
    samples = frames(5, 100, 5000.0)
    assert combine(samples, bias_adu=None).error[0] == pytest.approx(
        6.706 / np.sqrt(combine(samples, bias_adu=None).count[0]), rel=1e-3
    )
    out = combine(samples, bias_adu=np.full(100, np.nan, np.float32))
    assert np.isfinite(out.mean).all()
    np.testing.assert_allclose(out.error, np.sqrt((6.706**2 + out.mean / GAIN) / out.count), rtol=1e-3)


@pytest.mark.parametrize("n", [2, 5, 40, 120])
def test_strips_and_types_make_no_difference(n: int) -> None:
    samples = frames(n, 5000, np.linspace(0, 2000, 5000), seed=n)
    samples[0, ::7] += 500
    whole = combine(samples, level_adu=np.linspace(-1, 1, n))
    parts = [combine(samples[:, a : a + 617], level_adu=np.linspace(-1, 1, n)) for a in range(0, 5000, 617)]
    as_float = combine(samples.astype(np.float32), level_adu=np.linspace(-1, 1, n))
    for name in ("mean", "error", "count", "rejected", "chi2", "dq"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
        np.testing.assert_array_equal(getattr(as_float, name), getattr(whole, name))


def test_a_thousand_frames() -> None:
    out = combine(frames(1000, 512, 100.0))
    assert ((out.mean - BIAS - 100.37) / out.error).std() == pytest.approx(1.0, abs=0.1)
    assert out.count.min() > 990


def test_no_pixels_is_no_fault() -> None:
    assert combine(np.empty((3, 0), np.uint16)).mean.shape == (0,)


@pytest.mark.parametrize(
    "changes",
    [
        {"level_adu": [0.0]},
        {"level_adu": [0.0, np.nan, 0.0]},
        {"read_noise_adu": np.nan},
        {"read_noise_adu": np.ones(7)},
        {"gain_e_per_adu": 0.0},
        {"kappa": np.nan},
        {"scale_factor": -1.0},
        {"relative_error": -0.1},
    ],
)
def test_wrong_parameters_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        combine(frames(3, 10, 5.0), **changes)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="frames, pixels"):
        combine(np.zeros((0, 5), np.uint16))
    with pytest.raises(ValueError, match="frames, pixels"):
        median(np.zeros(5, np.uint16))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
@pytest.mark.parametrize(("name", "arrays"), [("_gather", 5), ("_gather_squares", 6), ("_limits", 5)])
def test_inner_loops_are_vectorised(name: str, arrays: int) -> None:
    # compiled afresh: what comes from the cache has no assembly to show
    kernel = njit(nogil=True, error_model="numpy")(getattr(combine_kernels, name).py_func)
    data = [np.ones(256, np.float32) for _ in range(arrays)]
    kernel(*data)
    assembly = "\n".join(kernel.inspect_asm().values())
    assert any(packed in assembly for packed in ("mulps", "subps", "minps", "maxps"))


def test_the_scatter_counts_all_samples_and_a_high_one_as_kappa_squared() -> None:
    n, p, kappa = 10, 20_000, 4.5
    raw = frames(n, p, 50.0, seed=77)
    raw[3, :100] += 3000  # a cosmic ray
    raw[3, 100:200] -= 600  # never one
    raw[2:6, 200:300] += 2000  # a telegraph
    out = combine(raw, kappa=kappa)
    calm = out.rejected[300:] == 0
    np.testing.assert_allclose(out.scatter[300:][calm], (out.chi2 * (out.count - 1.0))[300:][calm], rtol=1e-4)
    assert out.scatter[300:].mean() == pytest.approx(n - 1, rel=0.02)
    kept = (out.chi2 * (out.count - 1.0))[:100]
    np.testing.assert_allclose(out.scatter[:100], kept + kappa**2, rtol=1e-3)
    sigma2 = READ_NOISE**2 + 1 / 12 + 50 / GAIN
    assert np.median(out.scatter[100:200]) == pytest.approx(600**2 / sigma2, rel=0.1)
    assert (out.scatter[200:300] > 60).all()


def test_the_scatter_of_few_samples() -> None:
    raw = frames(2, 1000, 50.0, seed=78)
    raw[0, :10] += 3000
    out = combine(raw, kappa=4.5)
    np.testing.assert_allclose(out.scatter[:10], 4.5**2, rtol=1e-5)
    assert out.scatter[10:].mean() == pytest.approx(1.0, rel=0.15)
    assert np.isnan(combine(frames(1, 10, 50.0)).scatter).all()
