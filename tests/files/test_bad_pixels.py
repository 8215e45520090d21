"""Lists of bad pixels, read back as the programs read them; Siril itself reads them in test_interoperability."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkpipe.files.bad_pixels import BadPixels, bits_of, write_pixinsight_list, write_siril_list
from darkpipe.science.flags import DQ

ROWS, COLS = 9, 7
BAD = {(0, 5): DQ.HOT, (2, 1): DQ.UNSTABLE, (3, 1): DQ.UNSTABLE | DQ.PRIOR, (5, 1): DQ.SATURATED, (8, 0): DQ.DEAD}


def plane() -> np.ndarray:
    dq = np.full((ROWS, COLS), int(DQ.PRIOR), np.uint16)
    for where, bits in BAD.items():
        dq[where] = int(bits)
    return dq


def by_pixinsight(path: Path) -> set[tuple[int, int]]:
    """(row, col) of the pixels that CosmeticCorrection takes from a list: words between single blanks; more than two
    make a range."""
    found = set()
    for line in path.read_text().splitlines():
        words = line.split(" ")
        assert words[0] == "Col"
        first, last = (int(words[2]), int(words[3])) if len(words) > 2 else (0, ROWS - 1)
        found |= {(row, int(words[1])) for row in range(first, last + 1)}
    return found


def test_siril_counts_rows_from_the_last_one(tmp_path: Path) -> None:
    write_siril_list(
        tmp_path / "list.lst", BadPixels.of(plane(), bits_of(["hot", "unstable", "saturated", "dead"])), "of a test"
    )
    head, *lines = (tmp_path / "list.lst").read_text().splitlines()
    assert head == "# of a test"
    assert [line for line in lines if not line.startswith("#")] == [
        "P 5 8 H", "P 1 6 H", "P 1 5 H", "P 1 3 H", "P 0 0 C",
    ]  # fmt: skip


@pytest.mark.parametrize("bottom_up", [False, True])
def test_pixinsight_counts_rows_from_the_top(tmp_path: Path, bottom_up: bool) -> None:
    write_pixinsight_list(
        tmp_path / "list.txt", BadPixels.of(plane(), bits_of(["HOT", "unstable", "saturated", "dead"])), bottom_up
    )
    expected = {(ROWS - 1 - row if bottom_up else row, col) for row, col in BAD}
    assert by_pixinsight(tmp_path / "list.txt") == expected
    if not bottom_up:
        text = (tmp_path / "list.txt").read_text()
        assert text == "Col 0 8 8\nCol 1 2 3\nCol 1 5 5\nCol 5 0 0\n"


def test_a_whole_column_is_one_line(tmp_path: Path) -> None:
    dq = np.zeros((ROWS, COLS), np.uint16)
    dq[:, 4] = int(DQ.HOT)
    write_pixinsight_list(tmp_path / "list.txt", BadPixels.of(dq, DQ.HOT), bottom_up=False)
    assert (tmp_path / "list.txt").read_text() == "Col 4\n"
    assert by_pixinsight(tmp_path / "list.txt") == {(row, 4) for row in range(ROWS)}


def test_only_pixels_with_the_bits_that_are_asked_for(tmp_path: Path) -> None:
    write_pixinsight_list(tmp_path / "list.txt", BadPixels.of(plane(), bits_of(["saturated"])), bottom_up=False)
    assert by_pixinsight(tmp_path / "list.txt") == {(5, 1)}
    write_pixinsight_list(tmp_path / "none.txt", BadPixels.of(plane(), bits_of([])), bottom_up=False)
    assert (tmp_path / "none.txt").read_text() == ""
    write_siril_list(tmp_path / "none.lst", BadPixels.of(plane(), DQ.NONLINEAR), "none")
    assert not [line for line in (tmp_path / "none.lst").read_text().splitlines() if not line.startswith("#")]
