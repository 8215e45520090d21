"""The end-of-run table: nothing is lost, nothing is wider than the page."""

import itertools

import pytest

from darkpipe.report.text import WIDTH, cells_table, model_lines, product_lines, rejected_frames, run_summary


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


def test_every_rejected_frame_is_counted_under_its_reason():
    rows = [{"name": f"night/{k}.fit", "reason": "no temperature in the header"} for k in range(7)]
    rows += [{"name": "zero.fit", "reason": "zero bytes"}, {"name": "odd.fit", "reason": None}]
    lines = rejected_frames(rows, found=74)
    text = "\n".join(lines)
    assert lines[0] == "Rejected 9 of 74 frames:"
    assert "7  no temperature in the header" in lines[1]
    assert "night/0.fit, night/1.fit, night/2.fit and 4 more" in lines[2]
    assert "zero.fit" in text
    assert "no reason given" in text
    assert rejected_frames([], found=74) == ["No frames rejected, 74 found."]
    assert rejected_frames([]) == ["No frames rejected."]


def test_the_model_says_why():
    lines = model_lines(
        {
            "chosen": "two_component",
            "why": "smallest held-out error",
            "margin_percent": 7.123,
            "scores": {"exp_2d": 1.32, "two_component": 1.2345, "exp_t": float("nan")},
            "left_out": {"exp_1d": "needs one exposure at three temperatures"},
        }
    )
    assert lines[0] == "Model: two_component, smallest held-out error (by 7.12 %)"
    assert lines[1].endswith("two_component 1.234, exp_2d 1.320")
    assert "exp_1d not fitted: needs" in lines[2]


def test_paths_are_never_cut():
    path = "/" + "long folder/" * 20 + "Überblick.ecsv"
    assert product_lines({"numbers": path})[1].endswith(path)


def test_names_that_are_no_text_are_escaped():
    lines = rejected_frames([{"name": "a\udcff\nb.fit", "reason": "odd"}])
    assert lines[2].strip() == "a\\udcff\\nb.fit"
    "\n".join(lines).encode("utf-8")


@pytest.mark.parametrize("drop", [(), ("cells",), ("rejected", "model"), ("products", "notes", "title")])
def test_the_whole_stays_within_the_page(drop):
    sections = {
        "title": "STL-1001_g100_b1",
        "cells": cells((-10, 0), (10, 300)),
        "rejected": [{"name": "n" * 60 + f"{k}.fit", "reason": "because " * 30} for k in range(5)],
        "frames_found": 12,
        "model": {"chosen": "exp_2d", "why": "asked for", "left_out": {"two_component": "one temperature " * 12}},
        "notes": ["Gain 2.06 e-/ADU ± 0.1 at −10 °C. " * 5],
        "products": {"model": "out/dark_model"},
    }
    for name in drop:
        sections.pop(name)
    lines = run_summary(sections)
    assert max(len(line) for line in lines) <= WIDTH
    assert all(line.isascii() and line == line.rstrip() for line in lines)
    assert ("", "") not in set(itertools.pairwise(lines))
    assert run_summary({}) == []


def test_no_cells_is_said():
    assert cells_table([]) == ["No cells."]
