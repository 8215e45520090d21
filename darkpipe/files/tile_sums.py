"""Sums of errors in a tile: as numbers in text, and their histograms, of which most is empty, as bins that are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.error_sums import ErrorSums
from darkpipe.science.metrics import CellErrors
from darkpipe.science.tile import TileFit

KINDS: Mapping[str, type[CellErrors] | type[ErrorSums]] = {
    "held_out": CellErrors,
    "in_sample": ErrorSums,
    "baseline": ErrorSums,
}
"""Sums of a tile, one a cell, by the names that they have in `TileFit`."""

TEXT, BINS = "sums", "bins"
"""Names of the two arrays: JSON, in which a histogram is the number of its columns in the other, (2, m)."""

Sums = dict[str, list[Any]]


def pack_sums(fit: TileFit) -> dict[str, NDArray[Any]]:
    """The sums of a tile, as two arrays."""
    bins: list[NDArray[np.int64]] = [np.empty((2, 0), np.int64)]

    def plain(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        bins.append(value)
        return {BINS: value.shape[1]}

    told = {
        kind: [{name: plain(value) for name, value in cell.to_dict().items()} for cell in getattr(fit, kind)]
        for kind in KINDS
    }
    return {TEXT: np.frombuffer(json.dumps(told).encode(), np.uint8), BINS: np.concatenate(bins, axis=1)}


def add_sums(known: Sums, tile: Mapping[str, NDArray[Any]]) -> None:
    """Add the sums of a tile, which `pack_sums` packed, to those that are known, by kind; the first are taken over.

    Raises
    ------
    KeyError, ValueError, IndexError
        where it is not that, or of other cells.
    """
    begin = 0

    def whole(value: Any) -> Any:
        nonlocal begin
        if not (isinstance(value, dict) and BINS in value):
            return value
        begin += value[BINS]
        return tile[BINS][:, begin - value[BINS] : begin]

    for kind, cells in json.loads(tile[TEXT].tobytes()).items():
        found = [{name: whole(value) for name, value in cell.items()} for cell in cells]
        if kind in known:
            known[kind] = [one.plus(more) for one, more in zip(known[kind], found, strict=True)]
        else:
            known[kind] = [KINDS[kind].from_dict(cell) for cell in found]
