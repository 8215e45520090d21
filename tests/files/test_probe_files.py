"""The hot pixels of a model as they are kept, and the bands in which frames are gone through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import CELLS, Campaign

from darkpipe.errors import ProductError
from darkpipe.files import probe_files
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import OutputDir
from darkpipe.files.masters import read_cells
from darkpipe.files.model_maps import read_description, read_maps
from darkpipe.files.probe_files import bands, read_probes, write_probes


@pytest.mark.parametrize("window", [Window(0, 0, 100, 50), Window(7, 3, 41, 900)])
def test_bands_cover_a_window_once(window: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_files, "BAND_PIXELS", 1000)
    found = [row for band in bands(window) for row in range(band.start, band.stop)]
    assert found == list(range(window.row, window.row + window.rows))


def test_probes_hold_what_the_maps_hold(plain: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_files, "BAND_PIXELS", 400)  # several bands, whose edges neighbours reach over
    out = OutputDir(plain.out, "")
    description = read_description(out.model.description)
    masters = [(out.master_dark(c.name), c) for c in read_cells(out.groups)]
    path = tmp_path / "probes.npz"
    first = write_probes(path, out.model, description, "two_component", 1, masters)
    assert write_probes(path, out.model, description, "two_component", 1, masters) == first
    whole = Window(0, 0, *description.shape)
    found = read_probes(path, whole)
    maps = read_maps(out.model, description.find("two_component"))
    r, c = found.probes.rows, found.probes.cols
    assert r.size >= 20
    np.testing.assert_array_equal(found.probes.parameters[:, :, 0], maps.parameters[:, r, c])
    np.testing.assert_array_equal(found.probes.covariance, maps.covariance[:, r, c])
    inside = np.isfinite(found.probes.parameters[0])
    assert inside[:, 0].all()
    assert 0.5 < inside[:, 1:].mean() < 1.0  # hot neighbours, and those beyond the edge, do not count
    # the masters are at known temperatures
    temperatures = sorted({t for t, _ in CELLS})
    np.testing.assert_allclose(found.scale.true_c, temperatures)
    np.testing.assert_allclose(found.scale.reads_c, temperatures, atol=0.5)
    corner = read_probes(path, Window(0, 0, 20, 20)).probes
    assert ((corner.rows < 20) & (corner.cols < 20)).all()
    assert corner.rows.size == ((r < 20) & (c < 20)).sum()


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "probes.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ProductError, match="cannot be read"):
        read_probes(path, Window(0, 0, 5, 5))
