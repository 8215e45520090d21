"""Subtraction, its error, repair, and the figures of the dark's fit, on arrays with known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import spread

from darkpipe.science.calibration import (
    Calibrated,
    Counts,
    Dark,
    DarkNoise,
    calibrate,
    fit_pattern,
    local,
    repair,
    subtract,
)
from darkpipe.science.flags import DQ

SHAPE = (120, 100)
GAIN, READ = 1.6, 4.0


def dark_of(rng: np.random.Generator, error: float = 3.0) -> tuple[Dark, np.ndarray]:
    """What a model says of a sensor, and its true dark."""
    true = rng.gamma(4.0, 20.0, SHAPE)
    sigma = np.full(SHAPE, error, np.float32)
    signal = (true + sigma * rng.normal(size=SHAPE)).astype(np.float32)
    bias = rng.normal(1000, 5, SHAPE).astype(np.float32)
    zero = np.zeros(SHAPE, np.float32)
    return Dark(signal, sigma, (0.1 * signal).astype(np.float32), bias, zero + 1, np.zeros(SHAPE, np.uint16)), true


def test_the_error_is_that_of_the_difference() -> None:
    rng = np.random.default_rng(4)
    dark, true = dark_of(rng)
    light = np.linspace(5, 300, SHAPE[1])[None, :] * np.ones(SHAPE)
    bias = dark.bias + rng.normal(size=SHAPE)
    frame = rng.poisson((true + light) * GAIN) / GAIN + bias + READ * rng.normal(size=SHAPE)
    none = np.zeros(SHAPE, bool)
    done = calibrate(frame.astype(np.float32), dark, DarkNoise(0.0, 0.0), READ, GAIN, none)
    pulls = (done.science - light) / done.error
    assert spread(pulls) == pytest.approx(1.0, abs=0.03)
    assert np.median(pulls) == pytest.approx(0.0, abs=0.05)
    variance = READ**2 + np.maximum(frame - dark.bias, 0) / GAIN + 3.0**2 + 1.0
    np.testing.assert_allclose(done.error, np.sqrt(variance), rtol=1e-5)
    np.testing.assert_allclose(done.dark_error, np.sqrt(10.0), rtol=1e-5)
    assert done.science.dtype == done.error.dtype == np.float32


def test_errors_that_grow_with_the_dark_count_from_the_ordinary_pixel_on() -> None:
    dark, _ = dark_of(np.random.default_rng(4), error=0.0)
    frame = dark.bias + dark.signal
    extra = DarkNoise(0.02, 0.3, bulk_adu=80.0, bulk_growth_adu_k=8.0)
    done = calibrate(frame, dark, extra, READ, GAIN, np.zeros(SHAPE, bool))
    expected = np.sqrt(1.0 + (0.02 * (dark.signal - 80)) ** 2 + (0.3 * (dark.growth - 8)) ** 2)
    np.testing.assert_allclose(done.dark_error, expected, rtol=1e-4)


def test_bits_are_those_of_the_model_and_of_the_frame() -> None:
    dark, _ = dark_of(np.random.default_rng(4))
    dark.dq[3, 4] = int(DQ.HOT)
    dark.signal[5, 6] = np.nan
    dark.bias[7, 8], dark.bias_error[7, 8] = np.nan, np.inf
    full = np.zeros(SHAPE, bool)
    full[3, 4] = full[9, 9] = True
    done = calibrate(np.full(SHAPE, 1100, np.float32), dark, DarkNoise(0, 0), READ, GAIN, full)
    assert done.dq[3, 4] == int(DQ.HOT | DQ.SATURATED)
    assert done.dq[9, 9] == int(DQ.SATURATED)
    assert done.dq[5, 6] == int(DQ.FIT_FAILED)
    assert done.dq[7, 8] == int(DQ.NO_BIAS)
    missing = ~np.isfinite(done.science)
    assert set(zip(*np.nonzero(missing), strict=True)) == {(5, 6), (7, 8)}
    assert np.array_equal(missing, ~np.isfinite(done.error))
    assert dark.dq[9, 9] == 0  # the model's own bits are left alone


@pytest.mark.parametrize("stride", [1, 2])
def test_repair_takes_good_neighbours_of_the_same_colour(stride: int) -> None:
    y, x = np.mgrid[:40, :50]
    science = (100.0 + 200.0 * ((y % 2) + (x % 2)) * (stride == 2)).astype(np.float32)
    truth = science.copy()
    error, dq = np.full(science.shape, 2.0, np.float32), np.zeros(science.shape, np.uint16)
    bad = np.zeros(science.shape, bool)
    for where in ((0, 0), (20, 20), (20, 22), (21, 20), (39, 49)):
        bad[where] = True
        science[where] = np.nan
    science[22, 20], dq[22, 20] = 60000, int(DQ.SATURATED)  # a neighbour that must not be taken
    dq[20, 20] = int(DQ.DEAD)
    before = science.copy()
    assert repair(science, error, dq, bad, stride) == 5
    np.testing.assert_allclose(science[bad], truth[bad])
    assert (error[bad] > 2.0).all()
    assert dq[20, 20] == int(DQ.DEAD | DQ.REPAIRED)
    assert np.array_equal(science[~bad], before[~bad])
    assert not (dq[~bad] & int(DQ.REPAIRED)).any()


def test_a_pixel_without_good_neighbours_stays_as_it_is() -> None:
    science = np.ones((9, 9), np.float32)
    error, dq, bad = np.ones((9, 9), np.float32), np.zeros((9, 9), np.uint16), np.ones((9, 9), bool)
    bad[0, 0] = False
    assert repair(science, error, dq, bad) == 0
    assert not dq.any()


@pytest.mark.parametrize(("k", "wrong"), [(1.0, 0.0), (1.0, 6.0), (0.8, 4.0), (1.3, 4.0)])
def test_the_scale_is_found_with_its_error(k: float, wrong: float) -> None:
    """An error in the pattern alone would pull it down: with 6 ADU of error on 40 ADU of pattern, to 0.98."""
    rng = np.random.default_rng(11)
    pulls = []
    for _ in range(80):
        true = rng.normal(0, 40, 3000)
        true[:30] += rng.uniform(500, 3000, 30)
        pattern = true + wrong * rng.normal(size=true.size)
        frame = k * true + 10.0 * rng.normal(size=true.size)
        frame[::50] += 5000.0  # stars
        sigma = np.full(true.size, 10.0)
        fit = fit_pattern(frame - pattern, pattern, sigma, np.full(true.size, wrong))
        pulls.append((fit.scale - k) / fit.scale_error)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)
    assert abs(np.mean(pulls)) < 0.6


def test_correlation_falls_when_the_dark_fits() -> None:
    rng = np.random.default_rng(12)
    pattern = rng.normal(0, 40, 5000)
    noise = 10.0 * rng.normal(size=pattern.size)
    sigma, none = np.full(pattern.size, 10.0), np.zeros(pattern.size)
    good = fit_pattern(noise, pattern, sigma, none)
    assert good.before > 0.9
    assert abs(good.after) < 4 * good.after_error < 0.1
    poor = fit_pattern(noise + 0.2 * pattern, pattern, sigma, none)
    assert poor.after > 10 * good.after_error
    assert poor.scale == pytest.approx(1.2, abs=0.02)
    assert np.isnan(fit_pattern(noise[:5], pattern[:5], sigma[:5], none[:5]).scale)
    assert np.isnan(fit_pattern(noise, 0.0 * pattern, sigma, none).scale)


def test_local_values_do_not_see_a_slope_and_know_a_star() -> None:
    rng = np.random.default_rng(13)
    y, x = np.mgrid[:60, :60]
    plane = 100 + 3.0 * y - 2.0 * x + rng.normal(0, 1.0, (60, 60))
    rows, cols = np.array([10, 30, 45]), np.array([20, 30, 12])
    plane[rows, cols] += 50.0
    star = plane + 5000 * np.exp(-((y - 31) ** 2 + (x - 31) ** 2) / 4.0)
    noise = np.full(3, 1.0)
    value, sigma = local(plane, rows, cols)
    np.testing.assert_allclose(value, 50.0, atol=6.0)
    bright, wide = local(star, rows, cols, noise)
    assert abs(bright[1] - 50.0) < 4 * wide[1]
    assert wide[1] > 100 > sigma[1]


@pytest.mark.parametrize("saturation", [4000.0, 3999.5, 0.0, 1e9, np.inf, np.nan])
@pytest.mark.parametrize("shape", [(1, 3), (70, 61)])
def test_counts_come_out_as_the_frame_that_they_are(shape: tuple[int, int], saturation: float) -> None:
    rng = np.random.default_rng(5)
    plane = rng.normal(50, 5, shape).astype(np.float32)
    dark = Dark(plane, plane, plane, plane + 200, plane, rng.integers(0, 9, shape).astype(np.uint16))
    raw = rng.integers(0, 5000, shape).astype(np.uint16)
    raw[0, :3] = 0, 4000, 65535
    counts = Counts(raw, 16.0, -3.5, saturation)
    np.testing.assert_array_equal(counts.native, raw.astype(np.float32) / 16 - 3.5)
    results = []
    for frame in (counts, (counts.native, counts.state), replace(counts, raw=raw.astype(np.int32))):
        out = Calibrated(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16), plane)
        subtract(frame, dark, plane, np.full(1, 9, np.float32), GAIN, plane, out)
        results.append(out)
    for other in results[1:]:
        for name in ("science", "error", "dq"):
            np.testing.assert_array_equal(getattr(results[0], name), getattr(other, name))
    assert np.isfinite(results[0].error).all()
    assert ((results[0].dq & int(DQ.SATURATED)) != 0)[raw >= saturation].all()
    assert ((results[0].dq & int(DQ.CLIPPED_LOW)) != 0)[raw == 0].all()
