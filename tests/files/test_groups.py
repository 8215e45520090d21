"""Cells and their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_frames import made_frame

from darkpipe.files.corrections import Tolerances
from darkpipe.files.groups import group_tables
from darkpipe.files.index import RawFrame
from darkpipe.files.tables import write_table

TOLERANCES = Tolerances(0.5, 0.01)


def names_of(darks: list[RawFrame], old: Path, bias: str = "T-10.0C") -> dict[str, list[str]]:
    rows = {f.file: {"bias": bias, "level_adu": 1.0, "offset_adu": 0.0} for f in darks}
    cells, frames = group_tables(darks, rows, TOLERANCES, old)
    write_table(old, cells)
    return {str(c): [str(r["file"]) for r in frames if r["cell"] == c] for c in cells["cell"]}


def test_cells_by_temperature_and_exposure_never_by_name(tmp_path: Path) -> None:
    darks = [
        made_frame("T-5/dark_300s.fits", exposure_s=60.0),
        made_frame("b.fits", exposure_s=60.4, temperature_c=-10.3),
        made_frame("c.fits", exposure_s=62.0),
        made_frame("d.fits", set_point_c=0.0, temperature_c=-0.2),
    ]
    found = names_of(darks, tmp_path / "groups.ecsv")
    assert list(found.values()) == [["T-5/dark_300s.fits", "b.fits"], ["c.fits"], ["d.fits"]]
    assert list(found)[1:] == ["T-10.0C_texp62s", "T0.0C_texp60s"]


def test_a_measured_cell_keeps_the_name_it_was_first_given(tmp_path: Path) -> None:
    old = tmp_path / "groups.ecsv"
    darks = [made_frame("a.fits", set_point_c=np.nan, temperature_c=-10.14)]
    assert list(names_of(darks, old)) == ["T-10.1C_texp60s"]
    darks.append(made_frame("b.fits", set_point_c=np.nan, temperature_c=-10.44))
    assert list(names_of(darks, old)) == ["T-10.1C_texp60s"]


def test_a_regulated_cell_is_named_by_its_set_point(tmp_path: Path) -> None:
    old = tmp_path / "groups.ecsv"
    assert list(names_of([made_frame("a.fits", set_point_c=np.nan, temperature_c=-9.8)], old)) == ["T-9.8C_texp60s"]
    assert list(names_of([made_frame("a.fits", set_point_c=-10.0, temperature_c=-9.8)], old)) == ["T-10.0C_texp60s"]


def test_a_damaged_old_table_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "groups.ecsv").write_text("no table")
    assert list(names_of([made_frame("a.fits")], tmp_path / "groups.ecsv")) == ["T-10.0C_texp60s"]


def test_cells_on_a_line_have_a_bias_each(tmp_path: Path) -> None:
    darks = [made_frame("a.fits"), made_frame("b.fits", set_point_c=0.0, temperature_c=0.0)]
    rows = {f.file: {"bias": "line", "level_adu": 1.0, "offset_adu": 0.0} for f in darks}
    cells, _ = group_tables(darks, rows, TOLERANCES, tmp_path / "groups.ecsv")
    assert [str(b) for b in cells["bias"]] == ["line T-10.0C", "line T0.0C"]
