"""Maps from tiles: those of the run, and no tile is filled up with what memory held before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import Campaign

from darkpipe.errors import ProductError
from darkpipe.files.arrays import read_arrays, write_arrays
from darkpipe.files.assembling import count_rows, write_maps
from darkpipe.files.fitting import UnitFiles
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import read_cells, read_reference

MODEL = "two_component"


def tiles_of(campaign: Campaign) -> tuple[UnitFiles, list[Path]]:
    out = OutputDir(campaign.out)
    files = UnitFiles(MODEL, "", read_cells(out.groups), read_reference(out.reference), 1.12)
    return files, sorted(out.model.tile(MODEL, "", 0, "fit").parent.glob(f"{MODEL}_fit_*.npz"))


def test_maps_of_tiles_are_those_of_the_run(finished: Campaign, tmp_path: Path) -> None:
    files, tiles = tiles_of(finished)
    assert tiles
    paths = {name: tmp_path / f"{name}.fits" for name in ("chi2", "status")}
    digests = write_maps(paths, files, tiles, count_rows(tiles))
    assert list(digests) == list(paths.values())
    folder = OutputDir(finished.out).model
    assert paths["chi2"].read_bytes() == folder.chi2(MODEL, "").read_bytes()
    assert paths["status"].read_bytes() == folder.status_map(MODEL, "").read_bytes()


def test_a_tile_that_lacks_a_plane_is_refused(finished: Campaign, tmp_path: Path) -> None:
    files, tiles = tiles_of(finished)
    kept = read_arrays(tiles[0], "a tile", "")
    assert np.isfinite(kept.pop("covariance.4")).any()
    tile = tmp_path / "tile.npz"
    write_arrays(tile, kept)
    with pytest.raises(ProductError, match=r"a tile lacks covariance\.4"):
        write_maps({"covariance": tmp_path / "covariance.fits"}, files, [tile], len(kept["dq"]))
    assert not (tmp_path / "covariance.fits").exists()
