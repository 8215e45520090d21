"""Reduction by blocks against plain numpy."""

import numpy as np
import pytest

from darkpipe.science.blocks import block_mean


@pytest.mark.parametrize("shape", [(512, 512), (513, 300), (7, 1), (1, 1), (40, 96)])
@pytest.mark.parametrize("max_side", [1, 10, 64, 1000])
def test_blocks_are_what_numpy_says(shape, max_side):
    random = np.random.default_rng(1)
    image = random.normal(100, 10, shape).astype(np.float32)
    image[random.random(shape) < 0.3] = np.nan
    side = max(1, -(-max(shape) // max_side))
    found = block_mean(image, max_side)
    assert max(found.shape) <= max_side
    for i in range(0, found.shape[0], 3):
        for j in range(0, found.shape[1], 3):
            block = image[i * side : (i + 1) * side, j * side : (j + 1) * side]
            block = block[np.isfinite(block)]
            expected = np.mean(block, dtype=np.float64) if block.size else np.nan
            np.testing.assert_allclose(found[i, j], expected, rtol=1e-6)


def test_integers_and_infinities():
    image = np.array([[1, 5], [3, 7]], np.uint16)
    assert block_mean(image, 1)[0, 0] == 4
    assert block_mean(np.array([[np.inf, 2.0]]), 1)[0, 0] == 2


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="image"):
        block_mean(np.zeros(5), 2)
    with pytest.raises(ValueError, match="side"):
        block_mean(np.zeros((5, 5)), 0)
