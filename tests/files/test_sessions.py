"""Temperature logs beside the frames."""

from __future__ import annotations

from pathlib import Path

from darkpipe.files.sessions import read_log, temperature_logs
from hardware.temperature_log import HEADER

ROW = b"2025-07-29T22:00:00.000,-10.0,-10.0,-10.0,50.0,True,True,0.0,,\n"
LINES = (
    '{"frames": 1}',
    '{"session":"first","stamp":"20250729_220000","configuration":{},"utc":"x"}',
    '{"taken":"bias/1","stamp":"20250729_220000"}',
    '{"session":"second","stamp":"20250730_220000","configuration":{},"utc":"x"}',
    '{"session":"lost","stamp":"20250731_220000"}',
    '{"session": "torn", "sta',
)


def test_logs_of_the_sessions_are_found_from_the_frames(tmp_path: Path) -> None:
    raw = tmp_path / "darks"
    frame = raw / "T-10.0C" / "exp_1.000s" / "dark_20250729_220000_001.fits"
    frame.parent.mkdir(parents=True)
    (raw / "frames.jsonl").write_text("\n".join(LINES))
    for stamp in ("20250729_220000", "20250730_220000", "20200101_000000"):
        (raw / f"temperature_{stamp}.ecsv").write_bytes(HEADER + ROW)
    found = temperature_logs([frame, tmp_path / "elsewhere" / "dark.fits"])
    assert [path.name for path in found] == ["temperature_20250729_220000.ecsv", "temperature_20250730_220000.ecsv"]
    assert temperature_logs([tmp_path / "elsewhere" / "dark.fits"]) == []


def test_a_log_without_readings_is_none(tmp_path: Path) -> None:
    path = tmp_path / "log.ecsv"
    for content in (HEADER, HEADER + b"2025-07-29T22:00:00.000,,,,,,,,,started\n", b"no table", HEADER + b"torn,"):
        path.write_bytes(content)
        assert read_log(path) is None
    path.write_bytes(HEADER + ROW)
    table = read_log(path)
    assert table is not None
    assert list(table["temperature_c"]) == [-10.0]
