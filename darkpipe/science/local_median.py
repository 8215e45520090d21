"""Median of the box around every pixel, exactly, by a network of comparisons that thousands of pixels go through together.

A network sorts without a branch: each of its steps puts the smaller of two values in one place and the larger in another.
So a step over a row of pixels is packed, sixteen pixels an instruction. Of a network that sorts the box (Batcher's
odd-even merge sort: Knuth, *The Art of Computer Programming*, 5.2.2 M) only the steps that the middle depends on are
made; and the columns of a box are sorted once for all boxes that share them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.combine_kernels import comparators
from darkpipe.science.jit import kernel

F4 = NDArray[np.float32]
Ints = NDArray[np.int32]
