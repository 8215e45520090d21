"""Tables on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import MaskedColumn, Table

from darkpipe.errors import ProductError
from darkpipe.files.atomic import file_digest
from darkpipe.files.tables import read_table, write_table


def table_of_everything() -> Table:
    table = Table(
        {
            "file": ["a.fits", 'odd, "name".fits', "µ°.fits", ""],
            "exposure_s": np.array([3.4e-05, 1e-32, 0.1 + 0.2, np.nan]),
            "signal_adu": np.array([0.1, 1.5, -2.0, np.inf], np.float32),
            "count": np.array([1, 2, 3, 65535], np.uint16),
            "digest": ["0123456789", "1e5", "00", "None"],
            "good": [True, False, True, False],
            "note": MaskedColumn(["x", "y", "z", "two\nlines"], mask=[False, True, False, False]),
            "offset": MaskedColumn([1.0, 2.0, 3.0, 4.0], mask=[False, True, False, False]),
        },
        meta={"root": "../raw", "n": 4, "list": [1.5, 2.5]},
    )
    table["exposure_s"].unit = units.s
    table["exposure_s"].description = "exposure"
    return table


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = table_of_everything()
    digest = write_table(tmp_path / "sub" / "t.ecsv", table)
    back = read_table(tmp_path / "sub" / "t.ecsv")
    assert digest == file_digest(tmp_path / "sub" / "t.ecsv")
    assert back.colnames == table.colnames
    for name in ("file", "count", "good", "digest"):
        assert back[name].tolist() == table[name].tolist()
        assert back[name].dtype.kind == table[name].dtype.kind
    np.testing.assert_array_equal(back["exposure_s"], table["exposure_s"])
    np.testing.assert_array_equal(back["signal_adu"], table["signal_adu"])
    assert back["signal_adu"].dtype == np.float32
    assert back["note"].tolist() == ["x", "", "z", "two\nlines"]  # texts are never masked: the index compares them
    assert not hasattr(back["file"], "mask")
    assert back["offset"].mask.tolist() == [False, True, False, False]
    assert back["exposure_s"].unit == units.s
    assert dict(back.meta) == {"root": "../raw", "n": 4, "list": [1.5, 2.5]}


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.ecsv", table_of_everything())
    assert write_table(tmp_path / "b.ecsv", table_of_everything()) == first
    assert write_table(tmp_path / "c.ecsv", read_table(tmp_path / "a.ecsv")) == first
    assert b"\r" not in (tmp_path / "a.ecsv").read_bytes()


def test_tables_of_one_row_and_of_none(tmp_path: Path) -> None:
    for rows in (0, 1):
        table = Table({"name": np.array(["x"], str)[:rows], "value": np.array([1.5])[:rows]})
        write_table(tmp_path / "t.ecsv", table)
        back = read_table(tmp_path / "t.ecsv")
        assert (len(back), back.colnames) == (rows, ["name", "value"])
        assert back["value"].dtype == np.float64


def test_a_missing_table_is_said_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match=r"missing.*t\.ecsv.*Run the step"):
        read_table(tmp_path / "t.ecsv")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a b\n1 2\n",
        b"\xff\xfe\x00",
        b"# %ECSV 1.0\n# ---\n# datatype: [\n",
        b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n# schema: astropy-2.0\na\nx y z\n",
        b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\n# schema: astropy-2.0\na\nword\n",
    ],
)
def test_a_damaged_table_is_said_with_advice(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.ecsv").write_bytes(content)
    with pytest.raises(ProductError, match=r"t\.ecsv.*Delete it and run again"):
        read_table(tmp_path / "t.ecsv")


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "t.ecsv").mkdir()
    with pytest.raises(ProductError):
        read_table(tmp_path / "t.ecsv")


def test_what_a_caller_does_to_a_table_no_other_sees(tmp_path: Path) -> None:
    path = tmp_path / "t.ecsv"
    write_table(path, Table({"a": [1, 2]}, meta={"list": [1]}))
    table = read_table(path)
    table["a"][0] = 7
    table.meta["list"].append(2)
    table.remove_row(1)
    again = read_table(path)
    assert list(again["a"]) == [1, 2]
    assert again.meta["list"] == [1]


def test_a_table_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.ecsv"
    for value in range(20):  # within one tick of the clock of the file system, and of the same size
        write_table(path, Table({"a": [value % 10]}))
        assert list(read_table(path)["a"]) == [value % 10]
    path.unlink()
    with pytest.raises(ProductError, match="missing"):
        read_table(path)
