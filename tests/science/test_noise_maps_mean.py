"""The masked mean of a stack, against plain numpy and against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.errors import DesignError
from darkpipe.science.flags import DQ
from darkpipe.science.masked_mean import MeanAccumulator, masked_mean


@pytest.fixture
def stack() -> tuple[np.ndarray, np.ndarray, np.ma.MaskedArray]:
    """Frames with every kind of pixel: one masked in all frames, one in all but one; more pixels than a block."""
    rng = np.random.default_rng(1)
    frames = rng.normal(1e4, 30.0, (7, 23, 61))
    masks = rng.random(frames.shape) < 0.2
    masks[:, 3, 5], masks[:, 4, 6] = True, True
    masks[2, 4, 6] = False
    frames[masks] = 1e9
    return frames, masks, np.ma.masked_array(frames, masks)


def test_mean_variance_and_counts_are_numpys(stack: tuple[np.ndarray, np.ndarray, np.ma.MaskedArray]) -> None:
    frames, masks, plain = stack
    found = masked_mean(frames, masks)
    np.testing.assert_allclose(found.mean, plain.mean(axis=0).filled(np.nan), rtol=1e-14)
    np.testing.assert_array_equal(found.count, plain.count(axis=0))
    expected = np.where(found.count > 1, plain.var(axis=0, ddof=1).filled(np.nan), np.nan)
    np.testing.assert_allclose(found.variance, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.masked, plain.count(axis=0) == 0)
    assert found.masked[3, 5]
    assert not found.masked[4, 6]
    few = (found.count < 2) | (2 * found.count < 7)
    np.testing.assert_array_equal(found.dq, np.where(few, DQ.FEW_SAMPLES, 0))
    pixel = found.error("pixel")
    np.testing.assert_allclose(pixel, np.sqrt(expected / np.maximum(found.count, 1)), rtol=1e-5)
    with pytest.raises(ValueError, match="scatter"):
        found.error("sample")  # type: ignore[arg-type]


def test_frames_one_by_one_and_in_parts_give_the_same(
    stack: tuple[np.ndarray, np.ndarray, np.ma.MaskedArray],
) -> None:
    frames, masks, _ = stack
    whole = masked_mean(frames, masks)
    parts = MeanAccumulator((23, 61))
    parts.add(frames[:3].astype(">f8"), masks[:3])
    for frame, mask in zip(frames[3:], masks[3:], strict=True):
        parts.add(frame, mask)
    found = parts.result()
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-14)
    np.testing.assert_allclose(found.variance, whole.variance, rtol=1e-5)
    np.testing.assert_array_equal(found.count, whole.count)
    assert found.frames == 7


@pytest.mark.parametrize("kind", [np.float32, np.uint16, np.int16, np.int64])
def test_kinds_of_numbers(kind: type) -> None:
    frames = np.random.default_rng(2).integers(0, 3000, (4, 5, 6)).astype(kind)
    np.testing.assert_allclose(masked_mean(frames).mean, frames.mean(axis=0, dtype=np.float64), rtol=1e-12)


def test_pixels_that_are_no_numbers_are_masked() -> None:
    frames = np.ones((3, 2, 2), np.float32)
    errors = np.ones((3, 2, 2), np.float32)
    frames[0, 0, 0], frames[:, 0, 1], errors[1, 1, 0] = np.nan, np.inf, np.nan
    found = masked_mean(frames, errors=errors)
    np.testing.assert_array_equal(found.count, [[2, 0], [2, 3]])
    np.testing.assert_array_equal(found.mean, [[1, np.nan], [1, 1]])
    assert not found.enough_for_read_noise
    assert masked_mean(np.ones((3, 2, 2))).enough_for_read_noise


def test_bits_of_pixels_without_any_frame_are_kept() -> None:
    masks = np.zeros((2, 2, 2), np.int64)
    masks[0, 0, 0], masks[1, 0, 0], masks[0, 1, 1] = 4, 1 << 20, 2
    masks[:, 0, 1] = 8
    found = masked_mean(np.ones((2, 2, 2)), masks)
    np.testing.assert_array_equal(found.input_dq, [[0x8004, 8], [0, 0]])
    np.testing.assert_array_equal(found.count, [[0, 0], [2, 1]])


def test_errors_of_the_frames_are_joined() -> None:
    errors = np.array([3.0, 4.0])[:, None, None] * np.ones((2, 2, 2))
    masks = np.zeros((2, 2, 2), bool)
    masks[1, 1, 1] = True
    found = masked_mean(np.ones((2, 2, 2)), masks, errors)
    assert found.frame_error is not None
    np.testing.assert_allclose(found.frame_error, [[np.sqrt(12.5)] * 2, [np.sqrt(12.5), 3.0]], rtol=1e-6)
    assert masked_mean(np.ones((2, 2, 2))).frame_error is None


@pytest.mark.parametrize("n", [3, 10, 40])
def test_error_of_the_mean_is_calibrated(n: int) -> None:
    rng = np.random.default_rng(n)
    sigma = np.where(rng.random((200, 200)) < 0.01, 30.0, 5.0)
    frames = 100.0 + sigma * rng.standard_normal((n, 200, 200))
    found = masked_mean(frames, rng.random(frames.shape) < 0.1)
    pulls = (found.mean - 100.0) / found.error()
    quiet = sigma == 5.0
    assert np.nanstd(pulls[quiet]) == pytest.approx(1.0, abs=0.05)
    if n >= 10:  # fewer cannot tell a noisy pixel from a quiet one
        assert np.nanstd(pulls[~quiet]) == pytest.approx(1.0, abs=0.2)


def test_constant_and_single_frames_have_no_surprising_error() -> None:
    single = masked_mean(np.full((1, 3, 3), 7.0))
    np.testing.assert_array_equal(single.mean, 7.0)
    assert np.isnan(single.error()).all()
    assert (single.dq == DQ.FEW_SAMPLES).all()
    assert (np.nan_to_num(masked_mean(np.full((4, 3, 3), 7.0)).error()) < 1e-5).all()


def test_what_does_not_fit_is_refused() -> None:
    good = np.ones((2, 3, 4))
    accumulator = MeanAccumulator((3, 4))
    with pytest.raises(DesignError, match="without frames"):
        accumulator.result()
    for frames, more, words in (
        (np.ones((2, 4, 3)), {}, "frames of shape"),
        (np.ones(3), {}, "frames of shape"),
        (np.ones((0, 3, 4)), {}, "frames of shape"),
        (good.astype(complex), {}, "no real numbers"),
        (good, {"masks": np.zeros((3, 4), bool)}, "1 mask"),
        (good, {"masks": np.zeros((2, 3, 4))}, "no bits"),
        (good, {"masks": np.zeros((2, 4, 3), bool)}, "masks of shape"),
        (good, {"errors": np.ones((3, 4))}, "1 error plane"),
    ):
        with pytest.raises(DesignError, match=words):
            accumulator.add(frames, **more)
    assert accumulator.frames == 0
    accumulator.add(good, errors=good)
    with pytest.raises(DesignError, match="some frames"):
        accumulator.add(good)
    with pytest.raises(DesignError, match="stack is"):
        masked_mean(np.ones((3, 4)))
    with pytest.raises(DesignError, match="image"):
        MeanAccumulator((0, 4))
    accumulator.frames = 65535
    with pytest.raises(DesignError, match="at most"):
        accumulator.add(good, errors=good)
