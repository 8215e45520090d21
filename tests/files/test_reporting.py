"""Rows of tables as plain data."""

import math

from astropy.table import MaskedColumn, Table

from darkpipe.files.reporting import rows_of
from darkpipe.files.tables import write_table


def test_rows_are_plain_and_what_is_missing_is_no_number(tmp_path):
    table = Table({"name": ["a", "b"], "good": [True, False], "level": [1.5, math.nan]})
    table["count"] = MaskedColumn([3, 4], mask=[False, True])
    write_table(tmp_path / "t.ecsv", table)
    first, second = rows_of(tmp_path / "t.ecsv")
    assert first == {"name": "a", "good": True, "level": 1.5, "count": 3}
    assert [type(v) for v in first.values()] == [str, bool, float, int]
    assert (second["name"], second["good"]) == ("b", False)
    assert math.isnan(second["level"])
    assert math.isnan(second["count"])


def test_no_table_and_an_empty_one_have_no_rows(tmp_path):
    write_table(tmp_path / "t.ecsv", Table({"name": [], "level": []}, dtype=[str, float]))
    assert rows_of(None) == rows_of(tmp_path / "none.ecsv") == rows_of(tmp_path / "t.ecsv") == []
