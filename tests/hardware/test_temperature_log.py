"""The temperature log: whole at any time, whatever a crash leaves."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.table import Table
from fake_clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from darkpipe.files.tables import read_table
from hardware.cooling import CoolingStatus
from hardware.errors import CaptureError
from hardware.temperature_log import HEADER, TemperatureLog, read_temperature_log

UTC_TIME = datetime(2025, 7, 29, 22, 30, 15, 123456, tzinfo=UTC)
FULL = CoolingStatus(UTC_TIME, -10.02, -10.0, -10.0, 63.5, True, True, -0.013, 24.75)
BARE = CoolingStatus(UTC_TIME, None)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "temperature_20250729_220000.ecsv"


def filled(path, count=5):
    log = TemperatureLog(path, FakeClock())
    for _ in range(count):
        log.reading(FULL)
    log.close()
    return path


def test_a_reading_comes_back_as_it_was(path):
    log = TemperatureLog(path, FakeClock())
    log.reading(FULL, "hello")
    log.reading(BARE)
    table = read_temperature_log(path)
    first, bare = table[0], table[1]
    assert first["utc"] == "2025-07-29T22:30:15.123"
    for name in ("temperature_c", "target_c", "set_point_c", "power_percent", "slope_c_per_min", "heat_sink_c"):
        assert first[name] == pytest.approx(getattr(FULL, name))
        assert np.ma.is_masked(bare[name])
    assert first["cooler_on"]
    assert first["stable"]
    assert not bare["stable"]
    assert np.ma.is_masked(bare["cooler_on"])
    assert list(table["event"]) == ["hello", ""]
    assert str(table["temperature_c"].unit) == "deg_C"
    log.close()


def test_events_have_their_time(path):
    clock = FakeClock()
    log = TemperatureLog(path, clock)
    clock.sleep(90.5)
    log.event("dark 300 s start")
    table = read_temperature_log(path)
    assert (table["utc"][0], table["event"][0]) == ("2025-07-29T22:01:30.500", "dark 300 s start")
    assert np.ma.is_masked(table["temperature_c"][0])
    log.close()


@pytest.mark.parametrize("text", ['a, "b", c', "two\nlines", "°C ü", "ends with \\", "#", "'", ""])
def test_any_event_stays_one_row(path, text):
    log = TemperatureLog(path, FakeClock())
    log.event(text)
    log.reading(FULL)
    log.close()
    table = read_temperature_log(path)
    assert list(table["event"]) == [" ".join(text.split()), ""]


def test_it_is_a_table_for_everybody_while_it_grows(path):
    log = TemperatureLog(path, FakeClock())
    assert len(read_temperature_log(path)) == 0
    for count in range(1, 4):
        log.reading(FULL)
        log.event("rejected")
        for table in (read_temperature_log(path), read_table(path), Table.read(path, format="ascii.ecsv")):
            assert len(table) == 2 * count
    log.close()


def test_the_next_run_goes_on(path):
    filled(path, 2)
    filled(path, 3)
    assert len(read_temperature_log(path)) == 5
    assert path.read_bytes().count(b"%ECSV") == 1


@given(st.data())
def test_cut_anywhere_it_is_read_and_goes_on(tmp_path_factory, data):
    path = filled(tmp_path_factory.mktemp("log") / "t.ecsv")
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.sampled_from([b"", b"\0", b"\0" * 512]))
    path.write_bytes(whole[:cut] + tail)
    rows = max(whole[:cut].count(b"\n") - HEADER.count(b"\n"), 0)
    assert len(read_temperature_log(path)) == rows
    filled(path, 1)
    table = read_temperature_log(path)
    assert len(table) == rows + 1
    assert list(table["temperature_c"]) == [-10.02] * (rows + 1)
    assert path.read_bytes().startswith(whole[: len(HEADER)])


def test_a_torn_row_is_said(path, caplog):
    filled(path)
    with open(path, "ab") as stream:
        stream.write(b"2025-07-29T22:")
    filled(path, 1)
    assert "torn" in caplog.text
    assert len(read_temperature_log(path)) == 6


@pytest.mark.parametrize(
    "content", [b"SIMPLE  =", b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n1\n"]
)
def test_other_files_are_left_alone(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    for use in (lambda: TemperatureLog(path, FakeClock()), lambda: read_temperature_log(path)):
        with pytest.raises(CaptureError, match="no temperature log"):
            use()
    assert path.read_bytes() == content


def test_damaged_rows_in_the_middle_are_an_error_with_a_place(path):
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-3] = b"what,is,this\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(CaptureError, match="damaged"):
        read_temperature_log(path)


def test_what_cannot_be_written_or_read_is_said(path, tmp_path):
    with pytest.raises(CaptureError, match="cannot be read"):
        read_temperature_log(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match="cannot be written"):
        TemperatureLog(tmp_path / "file" / "t.ecsv", FakeClock())
    log = TemperatureLog(path, FakeClock())
    log.close()
    log.close()
    with pytest.raises(CaptureError, match="cannot be written"):
        log.event("too late")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_full_disk_is_a_capture_error(path):
    log = TemperatureLog(path, FakeClock())
    log._stream.close()
    log._stream = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(CaptureError, match="free space"):
        log.reading(FULL)
    log._stream.close()


def test_odd_numbers_are_unknown_not_text(path):
    log = TemperatureLog(path, FakeClock())
    log.reading(CoolingStatus(UTC_TIME, math.nan, slope_c_per_min=math.inf))
    log.close()
    table = read_temperature_log(path)
    assert np.ma.is_masked(table["temperature_c"][0])
    assert np.ma.is_masked(table["slope_c_per_min"][0])
