"""What a fit of a tile gives, and the memory for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
U2 = NDArray[np.uint16]


class Fitted(NamedTuple):
    """Parameters (3, P), covariance (6, P), chi² (P,), degrees of freedom (P,), DQ bits (P,), the offsets of the groups
    (G, P) [ADU] with their variances, and the number of outliers left out (P,).

    held_out_adu, held_out_variance_adu2 : (n, P), what each master should read by the fit of the others, and the
    variance of (master - prediction) without the master's own dark noise; NaN where it was not asked for, or the
    pixel cannot be fitted without the cell. held_out_common_adu2 : (n, P), what errors of the temperatures add to it.
    These move all pixels together: no spread over pixels shows them.
    by_bias : (G, 3, P), by how much the parameters move where the bias of a group is 1 ADU higher; 0 for a free level.
    """

    parameters: F8
    covariance: F8
    chi2: F4
    dof: NDArray[np.int16]
    dq: U2
    offset_adu: F4
    offset_variance_adu2: F4
    outliers: NDArray[np.uint8]
    held_out_adu: F4
    held_out_variance_adu2: F4
    held_out_common_adu2: F4
    by_bias: F4

    def first(self, pixels: int) -> Fitted:
        """The first of the pixels."""
        kept: Any = (np.ascontiguousarray(array[..., :pixels]) for array in self)
        return Fitted(*kept)

    def put(self, those: NDArray[np.int64], into: Fitted, pixels: NDArray[np.int64]) -> None:
        """Write some of these pixels over others; arrays that hold nothing are left out."""
        given: Any
        taken: Any
        for given, taken in zip(self, into, strict=True):
            if given.shape[-1]:
                taken[..., pixels] = given[..., those]


def nothing(groups: int, pixels: int, wanted: NDArray[np.bool_]) -> Fitted:
    """To be filled: only flags, outliers and predictions of cells that are not `wanted` (n,) are set, the rest will be
    written. If no cell is wanted, no memory is taken for predictions."""
    held = _held(wanted.size if wanted.any() else 0, pixels)
    for row in np.flatnonzero(~wanted[: held[0].shape[0]]):
        held[0][row] = held[1][row] = held[2][row] = np.nan
    return Fitted(
        np.empty((3, pixels)), np.empty((6, pixels)), np.empty(pixels, np.float32), np.empty(pixels, np.int16),
        np.zeros(pixels, np.uint16), np.empty((groups, pixels), np.float32), np.empty((groups, pixels), np.float32),
        np.zeros(pixels, np.uint8), *held, np.empty((groups, 3, pixels), np.float32),
    )  # fmt: skip


def predictions_alone(cells: int, pixels: int) -> Fitted:
    """For predictions and degrees of freedom alone; what else there is holds nothing."""
    none = np.empty((0, 0), np.float32)
    return Fitted(
        np.empty((0, 0)), np.empty((0, 0)), none[0:0].ravel(), np.empty(pixels, np.int16), np.empty(0, np.uint16),
        none, none, np.empty(0, np.uint8), *_held(cells, pixels), np.empty((0, 0, 0), np.float32),
    )  # fmt: skip


def _held(cells: int, pixels: int) -> tuple[F4, F4, F4]:
    return (
        np.empty((cells, pixels), np.float32), np.empty((cells, pixels), np.float32),
        np.empty((cells, pixels), np.float32),
    )  # fmt: skip
