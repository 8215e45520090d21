"""Telegraph pixels among stable ones with cosmic rays: found, and no others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from darkpipe.science.combine import clipped_mean
from darkpipe.science.flags import DQ
from darkpipe.science.unstable import CellScatter, FrameScatter

NOISE, KAPPA = 6.0, 4.5
Array = NDArray[np.float64]


def series(n: int, p: int, seed: int, *, hits: float = 2e-4, noise: Array | float = NOISE) -> Array:
    """(n, p) samples of one level, a few of them hit by cosmic rays."""
    rng = np.random.default_rng(seed)
    charge = rng.gamma(1.0, 40 * NOISE, (n, p))
    return rng.normal(100.0, noise, (n, p)) + np.where(rng.random((n, p)) < hits, charge, 0.0)


def telegraph(n: int, p: int, amplitude: float, duty: float, seed: int) -> Array:
    """What two states add; each exposure is in one of them."""
    rng = np.random.default_rng(seed + 1000)
    return amplitude * NOISE * (rng.random((n, p)) < duty)


def scatter_of(samples: Array, noise: Array | float = NOISE) -> CellScatter:
    made = clipped_mean(
        samples.astype(np.float32), level_adu=None, read_noise_adu=np.float32(noise), gain_e_per_adu=np.inf,
        bias_adu=None, kappa=KAPPA,
    )  # fmt: skip
    variance = (made.error**2 * made.count).astype(np.float32)
    return CellScatter(made.scatter, made.count.astype(int) + made.rejected, made.rejected, variance)


def unstable(*cells: Array, rate: float = 1e-3, noise: Array | float = NOISE, **known: Any) -> NDArray[np.bool_]:
    """Which pixels are called unstable by the cells together."""
    test = FrameScatter(cells[0].shape[1], np.float32(noise), known.get("noise_frames", 0), KAPPA)
    for samples in cells:
        test.add(scatter_of(samples, noise))
    return np.asarray((test.flag(rate) & DQ.UNSTABLE) != 0)


@pytest.mark.parametrize(("n", "hits"), [(3, 2e-4), (5, 2e-4), (20, 0.0), (20, 2e-4), (20, 2e-3), (50, 2e-4)])
def test_stable_pixels_with_cosmic_rays_are_stable(n: int, hits: float) -> None:
    p = 200_000
    wrong = unstable(series(n, p, n, hits=hits)).sum()
    assert wrong < 1e-3 * p + 3 * np.sqrt(1e-3 * p)
    assert wrong > 1e-4 * p  # a test that flags nothing finds nothing


@pytest.mark.parametrize("duty", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("amplitude", [5.0, 7.0, 30.0])
def test_telegraphs_of_twenty_frames_are_found(amplitude: float, duty: float) -> None:
    samples = series(20, 50_000, 3)
    samples[:, :1000] += telegraph(20, 1000, amplitude, duty, 4)
    found = unstable(samples)
    assert found[:1000].mean() > 0.95
    assert found[1000:].mean() < 1.3e-3


def test_one_high_sample_is_a_cosmic_ray_and_one_low_is_not() -> None:
    samples = series(20, 50_000, 5)
    middle = samples[:, :200].mean(axis=0)
    samples[7, :100] = middle[:100] + 20 * NOISE
    samples[7, 100:200] = middle[100:] - 20 * NOISE
    found = unstable(samples)
    assert found[:100].mean() < 0.2
    assert found[100:200].all()


def test_two_high_samples_of_twenty_are_no_chance() -> None:
    samples = series(20, 50_000, 6)
    samples[3:5, :100] += 20 * NOISE
    assert unstable(samples)[:100].mean() > 0.95
    often = series(20, 50_000, 7, hits=0.02)  # where one pixel in three is hit, they are
    often[3:5, :100] += 20 * NOISE
    assert unstable(often)[:100].mean() < 0.5


def test_cells_add_up() -> None:
    step = telegraph(5, 500, 5.0, 0.5, 8)
    alone, more = series(5, 20_000, 9), [series(5, 20_000, 10 + i) for i in range(5)]
    alone[:, :500] += step
    for i, samples in enumerate(more):
        samples[:, :500] += telegraph(5, 500, 5.0, 0.5, 20 + i)
    one, six = unstable(alone)[:500].mean(), unstable(alone, *more)
    assert one < 0.7
    assert six[:500].mean() > 0.99
    assert six[500:].mean() < 1.5e-3


def test_a_noise_that_is_wrong_for_all_is_measured() -> None:
    samples = series(20, 100_000, 11, noise=1.2 * NOISE)
    assert unstable(samples).mean() < 1.3e-3


def test_pixels_of_different_noise_under_a_common_one_are_stable() -> None:
    rng = np.random.default_rng(12)
    noise = NOISE * np.exp(rng.normal(0, 0.15, 100_000))
    samples = series(20, 100_000, 13, noise=noise)
    samples[:, :1000] += telegraph(20, 1000, 10.0, 0.5, 14)
    found = unstable(samples)
    assert found[1000:].mean() < 1.5e-3
    assert found[:1000].mean() > 0.95


def test_a_noisy_pixel_is_known_no_better_than_its_frames_tell() -> None:
    rng = np.random.default_rng(15)
    p, n = 100_000, 10
    noise = np.where(np.arange(p) < 20_000, 4.0, 1.0) * NOISE
    measured = noise * np.where(noise > NOISE, np.sqrt(rng.chisquare(n, p) / n), 1.0)
    found = unstable(series(20, p, 16, hits=0.0, noise=noise), noise=measured, noise_frames=n)
    assert found[:20_000].mean() < 2e-3
    assert unstable(series(20, p, 16, hits=0.0, noise=noise), noise=measured)[:20_000].mean() > 0.05


def test_hot_pixels_that_follow_the_temperature_are_stable() -> None:
    """Of 5 % bright pixels, all move together by more than the noise model says."""
    rng = np.random.default_rng(17)
    p, n = 40_000, 20
    signal = np.where(np.arange(p) < 2000, 4000.0, 50.0)
    common = 1 + rng.normal(0, 0.03, (n, 1))
    samples = rng.normal(signal * common, np.sqrt(NOISE**2 + signal))
    samples[:, :40] += 40 * np.sqrt(4000.0) * (rng.random((n, 40)) < 0.5)
    made = clipped_mean(
        samples.astype(np.float32), level_adu=None, read_noise_adu=NOISE, gain_e_per_adu=1.0, bias_adu=0.0,
        relative_error=0.01, kappa=KAPPA,
    )  # fmt: skip
    test = FrameScatter(p, NOISE, 0, KAPPA)
    variance = (made.error**2 * made.count).astype(np.float32)
    test.add(CellScatter(made.scatter, made.count.astype(int) + made.rejected, made.rejected, variance))
    found = (test.flag(1e-3) & DQ.UNSTABLE) != 0
    assert found[40:2000].mean() < 0.005
    assert found[:40].mean() > 0.9


def test_a_constant_pixel_is_dead() -> None:
    samples = series(14, 1000, 18)
    samples[:, 0] = 100.0
    test = FrameScatter(1000, NOISE, 0, KAPPA)
    test.add(scatter_of(samples))
    assert test.flag(1e-3)[0] == DQ.DEAD
    few = FrameScatter(1000, NOISE, 0, KAPPA)
    few.add(scatter_of(samples[:4]))
    assert few.flag(1e-3)[0] == 0  # too few frames to say


def test_what_is_missing_takes_no_part() -> None:
    samples = series(6, 2000, 19)
    cell = scatter_of(samples)
    cell.scatter[:10] = np.nan
    cell.samples[10:20] = 0
    test = FrameScatter(2000, NOISE, 0, KAPPA)
    test.add(cell)
    assert not test.flag(0.5)[:20].any()
    nothing = FrameScatter(3, NOISE, 0, KAPPA)
    assert not nothing.flag(0.5).any()


def test_wrong_input_is_refused() -> None:
    test = FrameScatter(5, NOISE, 0, KAPPA)
    with pytest.raises(ValueError, match="shape"):
        test.add(scatter_of(series(4, 6, 1)))
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            test.flag(rate)


def test_a_sample_that_is_settled_in_a_thread_tells_what_one_that_is_flagged_tells() -> None:
    noise = np.random.default_rng(8).gamma(200.0, NOISE / 200.0, 30_000).astype(np.float32)
    cells = [scatter_of(series(10, 30_000, seed, noise=noise), noise) for seed in range(3)]
    flagged, settled = (FrameScatter(30_000, np.float32(NOISE), 0, KAPPA) for _ in range(2))
    with ThreadPoolExecutor(1) as pool:
        for cell in cells:
            flagged.add(cell)
            flagged.flag(1e-3)
            settled.take(cell, settled.measure(cell))
            settled.settle(pool)
        found = []
        for like in (flagged, settled):
            band = FrameScatter(30_000, np.float32(NOISE), 0, KAPPA, like)
            found.append([])
            for cell in cells:
                band.add(cell)
                found[-1].append(band.flag(1e-3))
    assert (found[0][-1] & DQ.UNSTABLE).any()
    np.testing.assert_array_equal(found[0], found[1])
