"""The end-of-run table: nothing is lost, nothing is wider than the page."""

import itertools

from darkpipe.report.text import WIDTH, cells_table


def cells(temperatures, exposures):
    return [
        {
            "temperature_c": float(t),
            "exposure_s": float(e),
            "n_frames": 3,
            "n_rejected": 1,
            "median_signal_adu": 0.5 * e,
            "mae_held_out_adu": 6.0 + t / 10 + e / 100,
            "noise_floor_adu": 5.0,
            "mae_baseline_adu": 9.25,
        }
        for t, e in itertools.product(temperatures, exposures)
    ]


def test_cells_stand_in_order_with_their_numbers():
    lines = cells_table(list(reversed(cells((-10, 0), (10, 300)))))
    body = [line.split() for line in lines[3:7]]
    assert [row[:2] for row in body] == [["-10.0", "10"], ["-10.0", "300"], ["0.0", "10"], ["0.0", "300"]]
    assert body[1] == ["-10.0", "300", "3", "1", "150.00", "8.00", "5.00", "9.25"]


def test_columns_that_nobody_has_are_left_out_and_gaps_are_dashes():
    rows = cells((0,), (10, 20))
    for row in rows:
        del row["mae_baseline_adu"]
    rows[0]["noise_floor_adu"] = float("nan")
    rows[1]["mae_held_out_adu"] = None
    lines = cells_table(rows)
    assert "nearest" not in "\n".join(lines)
    assert lines[3].split()[-2:] == ["6.10", "-"]
    assert lines[4].split()[-2:] == ["-", "5.00"]


def test_many_cells_show_the_worst_and_count_the_rest():
    rows = cells(range(10), (10, 20, 30, 40, 50, 60, 70, 80, 90, 1000))
    lines = cells_table(rows, max_cells=10)
    assert "(90 more cells" in "\n".join(lines)
    assert [line.split()[1] for line in lines[3:13]] == ["1000"] * 10


def test_the_table_stays_within_the_page():
    lines = cells_table([row | {"n_frames": 10**9, "mae_in_sample_adu": 1e5} for row in cells((-10, 0), (10, 300))])
    assert max(len(line) for line in lines) <= WIDTH
    assert all(line.isascii() and line == line.rstrip() for line in lines)


def test_no_cells_is_said():
    assert cells_table([]) == ["No cells."]
