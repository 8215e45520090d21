"""Planes of products for pictures, read in bands: none is in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from darkpipe.files.bands import rows_of
from darkpipe.files.products import read_planes, read_shape
from darkpipe.science.band_order import ValueCounts
from darkpipe.science.blocks import block_side
from darkpipe.science.reduced import Reduced, ReducedFlags

BYTES_A_PIXEL = 16


def reduced_plane(path: Path, name: str, max_side: int) -> Reduced:
    """The named plane of a product, as a picture of at most so many points a side shows it; raises as `read_planes`."""
    shape = read_shape(path)
    return Reduced.of_bands(shape, _bands(path, name, shape, max_side), max_side)


def reduced_flags(path: Path, name: str, flags: Sequence[int], max_side: int) -> ReducedFlags:
    """The same of a plane of bits; `flags` that are shown, in rising order."""
    shape = read_shape(path)
    return ReducedFlags.of_bands(shape, _bands(path, name, shape, max_side), flags, max_side)


def counted_plane(path: Path, name: str) -> ValueCounts:
    """How many pixels of a plane have which value."""
    counts, shape = ValueCounts(), read_shape(path)
    for _, band in _bands(path, name, shape, max(shape)):
        counts.add(band)
    return counts


def _bands(path: Path, name: str, shape: tuple[int, int], max_side: int) -> Iterator[tuple[int, NDArray[Any]]]:
    for rows in rows_of(shape, BYTES_A_PIXEL, block_side(shape, max_side)):
        yield rows.start, read_planes(path, [name], rows)[0]
