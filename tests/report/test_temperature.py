"""The picture of a session's temperatures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.colors import to_hex
from PIL import Image

from darkpipe.report.canvas import BLACK, BLUE, ORANGE, VERMILION, save_png
from darkpipe.report.temperature import temperature_figure

START = datetime(2025, 7, 29, 22, 0, tzinfo=UTC)


def log_of(rows):
    """rows: (seconds, temperature, set point, power, event)."""
    times, temperature, set_point, power, event = zip(*rows, strict=True)
    utc = [(START + timedelta(seconds=s)).replace(tzinfo=None).isoformat(timespec="milliseconds") for s in times]
    floats = [np.ma.masked_invalid(np.array(v, float)) for v in (temperature, set_point, power)]
    return Table([utc, *floats, event], names=["utc", "temperature_c", "set_point_c", "power_percent", "event"])


NAN = float("nan")


def session(seconds=600, every_s=2):
    return [(s, 20 - 30 * min(s / 300, 1), -10.0, 100.0 if s < 300 else 60.0, "") for s in range(0, seconds, every_s)]


def exposure(start_s, length_s=300, end="dark 300 s end"):
    return [
        (start_s, -10.0, -10.0, 60.0, ""),
        (start_s, NAN, NAN, NAN, "dark 300 s start"),
        (start_s + length_s / 2, -10.0, -10.0, 60.0, ""),
        (start_s + length_s, -10.0, -10.0, 60.0, ""),
        (start_s + length_s + 0.1, NAN, NAN, NAN, end),
    ]


def lines_of(axes, colour):
    return [line for line in axes.get_lines() if to_hex(line.get_color()) == colour and line.get_marker() != "x"]


def legend_of(page):
    return [text.get_text() for text in page.legends[0].get_texts()]


def png(page):
    out = BytesIO()
    save_png(page, out)
    return out.getvalue()


def test_sensor_set_point_and_power_are_drawn_where_they_belong():
    rows = session()
    upper, lower = temperature_figure(log_of(rows)).axes
    (sensor,), (point,), (power,) = lines_of(upper, BLUE), lines_of(upper, ORANGE), lines_of(lower, BLACK)
    assert list(sensor.get_ydata()) == pytest.approx([r[1] for r in rows])
    assert list(sensor.get_xdata()) == pytest.approx([r[0] for r in rows])
    assert set(point.get_ydata()) == {-10.0}
    assert list(power.get_ydata()) == [r[3] for r in rows]
    low, high = upper.get_ylim()
    assert low < -10 < 20 < high
    assert lower.get_ylim()[1] > 100
    assert "°C" in upper.get_ylabel()
    assert "%" in lower.get_ylabel()
    assert "UTC, 2025-07-29" in lower.get_xlabel()


def test_exposures_are_shaded_and_joined_but_sessions_are_not():
    rows = session() + exposure(600, 1200) + exposure(1900, 300) + [(r[0] + 9000, *r[1:]) for r in session(120)]
    page = temperature_figure(log_of(rows))
    parts = lines_of(page.axes[0], BLUE)
    assert [(part.get_xdata()[0], part.get_xdata()[-1]) for part in parts] == [(0, 2200), (9000, 9118)]
    (shades,) = page.axes[0].collections
    assert [(p.vertices[:, 0].min(), p.vertices[:, 0].max()) for p in shades.get_paths()] == [
        (600, 1800.1),
        (1900, 2200.1),
    ]
    assert "exposures (2)" in legend_of(page)


def test_rejected_frames_and_broken_exposures():
    rows = [*session(), *exposure(600), (901, NAN, NAN, NAN, "rejected"), *exposure(950, 100, "exposure aborted")]
    rows += [(1100, NAN, NAN, NAN, "dark 300 s start")]
    page = temperature_figure(log_of(rows))
    crosses = [line for line in page.axes[0].get_lines() if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[901]]
    assert list(crosses[0].get_ydata()) == [-10.0]
    assert to_hex(crosses[0].get_color()) == VERMILION
    assert "rejected (1)" in legend_of(page)
    assert "exposures (2)" in legend_of(page)


@pytest.mark.parametrize("seconds", [1, 60, 600, 7200, 43_200, 200_000, 5_000_000])
def test_times_are_round_and_few_for_any_length(seconds):
    rows = [(s, -10.0, -10.0, 50.0, "") for s in np.linspace(7, 7 + seconds, 300)]
    page = temperature_figure(log_of(rows))
    page.canvas.draw()
    axes = page.axes[1]
    low, high = axes.get_xlim()
    shown = [
        label.get_text()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert 1 <= len(shown) <= 10
    assert len(set(shown)) == len(shown)


def test_a_temperature_that_rests_is_not_blown_up():
    rows = [(s, -10.0 + 0.001 * (s % 4), -10.0, 50.0, "") for s in range(0, 600, 2)]
    low, high = temperature_figure(log_of(rows)).axes[0].get_ylim()
    assert high - low >= 1.0


def test_a_camera_that_only_tells_its_temperature():
    page = temperature_figure(log_of([(s, 21.0, NAN, NAN, "") for s in range(10)]))
    assert "set point" not in legend_of(page)
    assert any("does not tell its power" in text.get_text() for text in page.axes[1].texts)
    png(page)


def test_one_reading_and_a_clock_that_was_set_back():
    png(temperature_figure(log_of([(5, -10.0, -10.0, 50.0, "")])))
    rows = [(s, -10.0, -10.0, 50.0, "") for s in (0, 10, 20, 5, 15)]
    (line,) = lines_of(temperature_figure(log_of(rows)).axes[0], BLUE)
    assert list(line.get_xdata()) == sorted(line.get_xdata())


def test_no_temperature_at_all_is_refused():
    with pytest.raises(ValueError, match="no temperatures"):
        temperature_figure(log_of([(0, NAN, -10.0, 50.0, "dark 1 s start")]))


def test_the_same_table_gives_the_same_bytes():
    rows = session() + exposure(600)
    first = png(temperature_figure(log_of(rows)))
    assert first == png(temperature_figure(log_of(rows)))
    with Image.open(BytesIO(first)) as picture:
        assert picture.size[0] == 1000
