"""Sums of errors go through the files of tiles as they are, and add up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from darkpipe.errors import ProductError
from darkpipe.files.arrays import read_arrays, write_arrays
from darkpipe.files.assembling import read_sums
from darkpipe.files.tile_sums import BINS, TEXT, Sums, add_sums, pack_sums
from darkpipe.science.error_sums import ErrorSums, scaled_errors
from darkpipe.science.metrics import CellErrors, accumulate

CELLS = 3


def tile(seed: int, cells: int = CELLS) -> Any:
    """Sums of a tile of some cells; that of the second could not be predicted."""
    rng = np.random.default_rng(seed)
    held, inside, base = [], [], []
    for k in range(cells):
        truth, flagged = rng.uniform(0, 8000, 5000).astype(np.float32), rng.random(5000) < 0.1
        guess = (truth + rng.normal(0, 3, 5000)).astype(np.float32)
        error = np.full(5000, 3, np.float32)
        held.append(CellErrors.empty() if k == 1 else accumulate(guess, error, truth, error, flagged))
        found = scaled_errors(guess, 1.0, truth, None, flagged)
        base.append(found)
        inside.append(ErrorSums(found.n, found.total, held[-1].errors.sum(axis=0)))
    return SimpleNamespace(held_out=held, in_sample=inside, baseline=base)


def test_tiles_add_up_through_their_files(tmp_path: Path) -> None:
    tiles = [tile(seed) for seed in range(3)]
    known: Sums = {}
    for k, one in enumerate(tiles):
        write_arrays(tmp_path / f"{k}.npz", pack_sums(one))
        add_sums(known, read_arrays(tmp_path / f"{k}.npz", "a tile", ""))
    assert list(known) == ["held_out", "in_sample", "baseline"]
    for kind, cells in known.items():
        for k in range(CELLS):
            first, second, third = (getattr(one, kind)[k] for one in tiles)
            assert cells[k] == first + second + third, (kind, k)
            assert cells[k] != first + second or (kind, k) == ("held_out", 1)


def test_what_was_packed_is_as_it_was() -> None:
    one, same = tile(1), tile(1)
    known: Sums = {}
    add_sums(known, pack_sums(one))
    add_sums(known, pack_sums(one))
    for kind in known:
        assert getattr(one, kind) == getattr(same, kind)


def test_sums_of_other_cells_are_refused() -> None:
    known: Sums = {}
    add_sums(known, pack_sums(tile(1)))
    with pytest.raises(ValueError, match="zip"):
        add_sums(known, pack_sums(tile(1, CELLS + 1)))


@pytest.mark.parametrize("gone", [TEXT, BINS])
def test_a_tile_without_its_sums_is_told(gone: str, tmp_path: Path) -> None:
    arrays = pack_sums(tile(1)) | {"together": np.zeros((CELLS, 3)), "held_out_error": np.zeros((CELLS, 4, 4))}
    del arrays[gone]
    write_arrays(tmp_path / "tile.npz", arrays)
    with pytest.raises(ProductError, match=f"a tile lacks {gone}"):
        read_sums([tmp_path / "tile.npz"])
