"""Calm pixels come out as the slow way would have them, and no other pixel passes for calm."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from darkpipe.science import combine_calm, combine_kernels
from darkpipe.science.combine import clipped_mean
from darkpipe.science.combine_calm import SUMS, WIDTH

KAPPA, LOW, HIGH = 4.5, 900.0, 60_000.0
MODEL = {"read_noise_adu": 6.0, "gain_e_per_adu": 2.0, "bias_adu": 1000.0, "relative_error": 0.01}


def frames(n: int, p: int, noise: float = 6.0) -> NDArray[np.uint16]:
    """Pixels of many signals, with rays, low samples, saturated ones and clipped ones."""
    rng = np.random.default_rng([n, p])
    signal = np.where(rng.random(p) < 0.1, rng.uniform(0, 70_000, p), rng.exponential(20, p))
    made = 1000 + signal + rng.normal(0, 1, (n, p)) * np.sqrt(noise**2 + signal / 2)
    for size in (40, 400, 20_000, -40, -300):
        made[rng.integers(0, n, p // 40), rng.integers(0, p, p // 40)] += size
    return np.clip(np.rint(made), 0, 65535).astype(np.uint16)


def both(samples: NDArray[Any], offset: NDArray[np.float32]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Planes by `clip_strip`, and by the slow way for every pixel."""
    n, p = samples.shape
    net = combine_kernels.comparators(n)
    limits = np.array([1.0, LOW, HIGH], np.float32)
    noise2, bias = np.full(p, 36.0, np.float32), np.full(p, 1000.0, np.float32)
    model = np.array([0.5, 1e-4, KAPPA * np.sqrt(1.0 + 1.0 / max(n // 2, 1)), KAPPA], np.float32)
    found = []
    for slow in (False, True):
        floats, counts = np.empty((4, p), np.float32), np.empty((3, p), np.uint16)
        given = (net, offset, limits, noise2, bias, model, floats, counts)
        if slow:
            combine_kernels._clip_taken(samples, np.arange(p), *given)
        else:
            combine_kernels.clip_strip(samples, *given)
        found.append([*floats, *counts])
    return found[0], found[1]


@pytest.mark.parametrize("noise", [6.0, 12.0])  # as the model says, and twice that
@pytest.mark.parametrize("drift", [0.3, 30.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 10, 21, 50, 97, 200])
def test_the_short_way_and_the_long_one_agree(n: int, drift: float, noise: float) -> None:
    samples = frames(n, 3000, noise)
    offset = np.random.default_rng(n).normal(0, drift, n).astype(np.float32)
    quick, slow = both(samples, offset)
    for name, a, b in zip(("count", "rejected", "dq"), quick[4:], slow[4:], strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    for a, b in zip(quick[:4], slow[:4], strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    error = slow[1]
    assert np.nanmax(np.abs(quick[0] - slow[0]) / error) < 2e-3
    np.testing.assert_allclose(quick[1], error, rtol=1e-5)
    # squares of the deviations are sums of n numbers that float32 rounds
    np.testing.assert_allclose(quick[3], slow[3], rtol=1e-3, atol=1e-3)


def test_missing_samples_are_never_calm() -> None:
    samples = frames(6, 2000).astype(np.float32)
    samples[np.random.default_rng(1).integers(0, 6, 300), np.arange(0, 600, 2)] = np.nan
    samples[:, 1900:] = np.nan
    samples[2, 1500] = np.inf
    quick, slow = both(samples, np.zeros(6, np.float32))
    for a, b in zip(quick[4:], slow[4:], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(quick[0][:600:2], slow[0][:600:2])


@pytest.mark.parametrize("n", [3, 50, 300])
def test_a_pixel_does_not_depend_on_its_neighbours(n: int) -> None:
    samples = frames(n, 1700)
    order = np.random.default_rng(n).permutation(1700)
    given: dict[str, Any] = {"level_adu": np.linspace(-1, 1, n), "valid_low": LOW, "valid_high": HIGH, **MODEL}
    plain, mixed = clipped_mean(samples, **given), clipped_mean(samples[:, order], **given)
    for name in ("mean", "error", "count", "rejected", "chi2", "scatter", "dq"):
        np.testing.assert_array_equal(getattr(plain, name)[order], getattr(mixed, name), err_msg=name)


def test_most_pixels_are_calm() -> None:
    rng = np.random.default_rng(4)
    for n, least in ((2, 0.999), (10, 0.99), (30, 0.99), (50, 0.98), (1000, 0.9)):
        samples = np.rint(1000 + rng.normal(0, 6, (n, WIDTH))).astype(np.uint16)
        sums, calm = np.empty(SUMS, np.float32), np.zeros(WIDTH, np.uint8)
        bias, noise2 = np.full(WIDTH, 1000, np.float32), np.full(WIDTH, 36.1, np.float32)
        model = np.array([0.5, 1e-4, KAPPA * np.sqrt(1.0 + 1.0 / (n // 2)), KAPPA], np.float32)
        within = np.array([0, 65535], np.float32)
        offset = np.zeros(n, np.float32)
        combine_calm.gather_sums(samples, 0, WIDTH, np.float32(1), offset, sums)
        others = combine_calm.judge(n, within, bias, noise2, model, sums, calm)
        assert others == WIDTH - calm.sum()
        if n >= combine_calm.COUNTED:
            combine_calm.judge_closely(samples, 0, within, np.float32(1), offset, bias, noise2, model, sums, calm)
        assert calm.mean() > least


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
@pytest.mark.parametrize("name", ["add_four", "add_one", "judge", "count_beyond", "conclude"])
def test_inner_loops_are_vectorised(name: str) -> None:
    row, one, sums = np.ones(WIDTH, np.uint16), np.float32(1), np.ones(SUMS, np.float32)
    plane, four = np.ones(WIDTH, np.float32), np.ones(4, np.float32)
    arguments: dict[str, tuple[Any, ...]] = {
        "add_four": (row, row, row, row, one, four, sums),
        "add_one": (row, one, one, sums),
        "judge": (5, four[:2], plane, plane, four, sums, np.ones(WIDTH, np.uint8)),
        "count_beyond": (row, one, one, np.ones(2 * WIDTH, np.float32), np.ones(2 * WIDTH, np.int32)),
        "conclude": (5, plane, plane, four, sums, plane.copy(), plane.copy(), plane.copy(), plane.copy()),
    }
    # compiled afresh: what comes from the cache has no assembly to show
    compiled = njit(nogil=True, error_model="numpy")(getattr(combine_calm, name).py_func)
    compiled(*arguments[name])
    assembly = "\n".join(compiled.inspect_asm().values())
    assert "mulps" in assembly
    assert "addps" in assembly
