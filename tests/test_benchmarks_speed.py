"""The table of speed, simulated frames of any size, and the curves of cost: their parts that take no time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from benchmarks import made_frames, run, scaling, table
from benchmarks.table import Line

MARKS = "<!-- measured by benchmarks/{} -->\n\nold\n\n<!-- end of what was measured -->"
FASTER = Line("masters", 0.2, {"ccdproc": 8.0, "siril": 2.0}, 0.05, "10 × siril", True, "500 MB")
SLOWER = Line("fit", 0.2, {}, None, "< 0.1 s", False)


def test_a_line_has_its_ratios() -> None:
    assert table.cells(FASTER) == (
        "masters (500 MB)", "200 ms", "ccdproc 8 s, siril 2 s", "40 ×, 10 ×", "50 ms", "4 ×", "10 × siril", "reached",
    )  # fmt: skip
    assert table.cells(SLOWER)[2:] == ("", "", "", "", "< 0.1 s", "MISSED")


@pytest.mark.parametrize(
    ("value", "text"), [(1234.6, "1235 s"), (12.345, "12.3 s"), (0.05, "50 ms"), (2.5e-6, "2.5 µs"), (3e-9, "3 ns")]
)
def test_seconds_have_the_unit_that_suits_them(value: float, text: str) -> None:
    assert table.seconds(value) == text


def test_the_tables_go_into_their_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "collected", lambda groups, quick: [FASTER])
    for name in ("SPEED", "README"):
        monkeypatch.setattr(run, name, tmp_path / name)
        (tmp_path / name).write_text(f"before\n{MARKS.format('run.py')}\nafter\n")
    assert run.main(["--write"]) == 0
    assert "| masters (500 MB) |" in (tmp_path / "SPEED").read_text()
    assert "| masters | 200 ms | ccdproc 40, siril 10 | 4 |" in (tmp_path / "README").read_text()
    assert "old" not in (tmp_path / "README").read_text()
    (tmp_path / "README").write_text("no place\n")
    with pytest.raises(ValueError, match="has no place"):
        run.main(["--write"])


def test_the_pages_have_a_place_for_what_is_measured() -> None:
    for page, script in ((run.SPEED, "run.py"), (run.README, "run.py"), (scaling.PAGE, "scaling.py")):
        text = page.read_text(encoding="utf-8")
        assert re.search(MARKS.format(script).replace("old", ".+"), text, re.DOTALL)
        assert "Not measured" not in text


def test_the_table_is_one_of_markdown_and_names_the_machine() -> None:
    head, rule, *rows, empty, machine = table.markdown([FASTER, SLOWER]).splitlines()
    assert head.count("|") == len(table.HEAD) + 1
    assert set(rule) == {"|", "-"}
    assert {len(row) for row in rows} == {len(head)}
    assert empty == ""
    assert f"numpy {np.__version__}" in machine


def test_a_missed_target_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = [FASTER]
    monkeypatch.setattr(run, "collected", lambda groups, quick: found)
    assert run.main(["--quick", "--markdown", str(tmp_path / "table.md")]) == 0
    assert "| masters" in (tmp_path / "table.md").read_text()
    found.append(SLOWER)
    assert run.main([]) == 1


def test_simulated_frames_are_what_their_headers_say(tmp_path: Path) -> None:
    campaign = made_frames.Campaign(30, 41, (-10.0, 0.0), (60.0,), frames=3, biases=2)
    files = sorted(made_frames.make_frames(tmp_path / "raw", campaign).iterdir())
    assert len(files) == campaign.files == 10
    assert sum(path.stat().st_size for path in files) >= campaign.raw_bytes
    headers = [fits.getheader(path) for path in files]
    assert [h["EXPTIME"] for h in headers] == [0, 0, 60, 60, 60] * 2
    assert len({h["DATE-OBS"] for h in headers}) == 10
    bias, dark = (fits.getdata(files[k]).astype(float) for k in (5, 7))
    assert bias.shape == (30, 41)
    assert np.median(bias) == pytest.approx(made_frames.PEDESTAL_ADU, abs=1.5)
    read_noise_adu = made_frames.READ_NOISE_E / made_frames.GAIN_E_PER_ADU
    assert np.std(fits.getdata(files[6]).astype(float) - bias) / np.sqrt(2) == pytest.approx(read_noise_adu, rel=0.1)
    assert np.mean(dark - bias) > 0.5  # 0.02 ADU/s for a minute, and hot pixels


def points(times: list[float]) -> list[scaling.Point]:
    return [scaling.Point("frames", 10**k, 1.0, 4, t, 2 * t, 500.0) for k, t in enumerate(times, 1)]


def test_growth_is_the_exponent_between_the_last_points() -> None:
    assert scaling.growth(points([3.0, 4.0, 40.0])) == pytest.approx(1.0)
    assert scaling.growth(points([3.0, 4.0, 8.0])) == pytest.approx(np.log10(2))


def test_the_measured_part_of_the_page_is_replaced_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "scaling.md"
    page.write_text(f"before\n\n{MARKS.format('scaling.py')}\n\nafter\n")
    monkeypatch.setattr(scaling, "PAGE", page)
    monkeypatch.setattr(scaling, "FIGURE", tmp_path / "scaling.svg")
    for _ in range(2):
        scaling.write({"frames": points([3.0, 30.0])})
    text = page.read_text()
    assert text.startswith("before\n\n<!-- measured")
    assert text.endswith("-->\n\nafter\n")
    assert "| frames | 100 | 1.00 | 4 | 30.0 | 60.0 | 500 |" in text
    assert "old" not in text
    first = (tmp_path / "scaling.svg").read_bytes()
    scaling.write({"frames": points([3.0, 30.0])})
    assert (tmp_path / "scaling.svg").read_bytes() == first  # nothing of the day in it


def test_all_points_fit_on_a_disk_of_60_gb() -> None:
    needed = [scaling.needed_bytes(size) for sizes in scaling.campaigns(small=False).values() for size in sizes]
    assert max(needed) + scaling.FREE_BYTES < 60e9
    largest = max((size for sizes in scaling.campaigns(small=False).values() for size in sizes), key=lambda c: c.rows)
    assert (largest.rows, largest.columns) == (6388, 9576)
