"""Lists of bad pixels as other programs read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.atomic import replace_text
from darkpipe.files.bands import rows_of
from darkpipe.files.products import read_planes, read_shape
from darkpipe.science.flags import DQ

BYTES_A_PIXEL = 16  # of what is held of a band at a time


def bits_of(names: Sequence[str]) -> DQ:
    """The bits of these names, in any case ('hot', 'unstable')."""
    bits = DQ.GOOD
    for name in names:
        bits |= DQ[name.upper()]
    return bits


@dataclass(frozen=True, eq=False)
class BadPixels:
    """The pixels of a sensor that have some bits: its shape (rows, cols), row and column of each in the order of the
    file, and whether it is dead, (n,) each."""

    shape: tuple[int, int]
    row: NDArray[np.intp]
    col: NDArray[np.intp]
    dead: NDArray[np.bool_]

    @classmethod
    def of_bands(cls, shape: tuple[int, int], bands: Iterable[tuple[int, NDArray[Any]]], bits: DQ) -> BadPixels:
        """Of planes of bits in bands of rows, in their order, each with the number of its first row."""
        found = [np.zeros((3, 0), np.intp)]
        for first, dq in bands:
            row, col = np.nonzero((dq & np.uint16(bits)) != 0)
            found.append(np.stack([row + first, col, (dq[row, col] & np.uint16(DQ.DEAD)) != 0]))
        row, col, dead = np.concatenate(found, axis=1)
        return cls(shape, row, col, dead.astype(np.bool_))

    @classmethod
    def of(cls, dq: NDArray[np.uint16], bits: DQ) -> BadPixels:
        """Of a plane of bits, (rows, cols)."""
        return cls.of_bands((dq.shape[0], dq.shape[1]), [(0, dq)], bits)


def read_bad_pixels(paths: Sequence[Path], bits: DQ) -> BadPixels:
    """The pixels that have one of the bits in the plane DQ of any of some products; raises as `read_planes`."""
    shape = read_shape(paths[0])

    def band(rows: slice) -> tuple[int, NDArray[np.uint16]]:
        return rows.start, np.bitwise_or.reduce(
            [read_planes(path, ["DQ"], rows)[0].astype(np.uint16) for path in paths]
        )

    return BadPixels.of_bands(shape, map(band, rows_of(shape, BYTES_A_PIXEL)), bits)


def write_siril_list(path: Path, bad: BadPixels, head: str) -> str:
    """Write pixels as a list for Siril's `cosme`; returns its digest.

    A line `P x y H` a pixel: x is the column, y counts the rows from the last one of the file, both from 0; whatever
    ROWORDER says. H takes the mean of the neighbours, C (dead pixels) their median.
    """
    lines = [f"# {head}", "# P x y: column, and row from the last one in the file, from 0; H bright, C dark"]
    rows = bad.shape[0] - 1 - bad.row
    for row, col, dead in zip(rows.tolist(), bad.col.tolist(), bad.dead.tolist(), strict=True):
        lines.append(f"P {col} {row} {'C' if dead else 'H'}")
    return replace_text(path, "\n".join(lines) + "\n")


def write_pixinsight_list(path: Path, bad: BadPixels, bottom_up: bool) -> str:
    """Write pixels as a defect list of PixInsight's CosmeticCorrection; returns its digest.

    A line `Col x first last` a run of pixels in a column, both ends part of it, `Col x` a whole column; coordinates
    from 0, rows from the top of the image as PixInsight shows it: the first row of the file, or with `bottom_up`
    (ROWORDER) its last one.
    """
    rows = bad.shape[0]
    row = rows - 1 - bad.row if bottom_up else bad.row
    order = np.lexsort((row, bad.col))
    row, col = row[order], bad.col[order]
    new = np.ones(row.size, np.bool_)
    new[1:] = (np.diff(col) != 0) | (np.diff(row) != 1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], row.size)[: first.size] - 1
    runs = zip(col[first].tolist(), row[first].tolist(), row[last].tolist(), strict=True)
    return replace_text(path, "".join(f"Col {c}\n" if b - a + 1 == rows else f"Col {c} {a} {b}\n" for c, a, b in runs))
