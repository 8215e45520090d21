"""Lists of bad pixels as other programs read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.atomic import replace_text
from darkpipe.science.flags import DQ

Bools = NDArray[np.bool_]


def bits_of(names: Sequence[str]) -> DQ:
    """The bits of these names, in any case ('hot', 'unstable')."""
    bits = DQ.GOOD
    for name in names:
        bits |= DQ[name.upper()]
    return bits


def write_siril_list(path: Path, dq: NDArray[np.uint16], bits: DQ, head: str) -> str:
    """Write the pixels (rows, cols) with any of the bits as a list for Siril's `cosme`; returns its digest.

    A line `P x y H` a pixel: x is the column, y counts the rows from the last one of the file, both from 0; whatever
    ROWORDER says. H takes the mean of the neighbours, C (dead pixels) their median.
    """
    rows = dq.shape[0]
    lines = [f"# {head}", "# P x y: column, and row from the last one in the file, from 0; H bright, C dark"]
    for row, col in np.argwhere((dq & np.uint16(bits)) != 0):
        kind = "C" if dq[row, col] & np.uint16(DQ.DEAD) else "H"
        lines.append(f"P {col} {rows - 1 - row} {kind}")
    return replace_text(path, "\n".join(lines) + "\n")


def write_pixinsight_list(path: Path, dq: NDArray[np.uint16], bits: DQ, bottom_up: bool) -> str:
    """Write the pixels (rows, cols) with any of the bits as a defect list of PixInsight's CosmeticCorrection; returns
    its digest.

    A line `Col x first last` a run of pixels in a column, both ends part of it, `Col x` a whole column; coordinates
    from 0, rows from the top of the image as PixInsight shows it: the first row of the file, or with `bottom_up`
    (ROWORDER) its last one.
    """
    bad = (dq & np.uint16(bits)) != 0
    if bottom_up:
        bad = bad[::-1]
    lines = [
        f"Col {col}" if last - first + 1 == bad.shape[0] else f"Col {col} {first} {last}"
        for col in np.nonzero(bad.any(axis=0))[0]
        for first, last in _runs(bad[:, col])
    ]
    return replace_text(path, "".join(f"{line}\n" for line in lines))


def _runs(bad: NDArray[Any]) -> Iterator[tuple[int, int]]:
    """First and last index of each run of True."""
    steps = np.diff(np.concatenate(([0], bad.astype(np.int8), [0])))
    yield from zip(np.nonzero(steps == 1)[0].tolist(), (np.nonzero(steps == -1)[0] - 1).tolist(), strict=True)
