"""Which bias a dark gets, which frames do not belong to their cell, and what level is left."""

from __future__ import annotations

import numpy as np
import pytest
from made_frames import made_frame

from darkpipe.files.corrections import (
    LINE,
    Levels,
    Tolerances,
    bias_stacks,
    bias_tables,
    cells_of,
    choose_bias,
    corrected_names,
    corrected_rows,
)
from darkpipe.files.index import ACCEPTED, REJECTED, RawFrame
from darkpipe.files.masters import ReferenceValues

TOLERANCES = Tolerances(0.5, 0.01)
REFERENCE = ReferenceValues(1.0, 4.0, 1.0, "header", 60000.0, 0.0, -10.0)


def biases(n: int, **values: object) -> list[RawFrame]:
    return [made_frame(f"b{i}.fits", kind="bias", exposure_s=0.0, **values) for i in range(n)]


def corrected(darks: list[RawFrame], at: dict[str, float], tolerance: float = 1.0) -> list[dict[str, object]]:
    levels = {name: Levels(990.0, (990.0,) * 4) for name in at}
    table = corrected_rows(darks, TOLERANCES, REFERENCE, at, levels, None, tolerance, True)
    return [dict(zip(r.colnames, r.values(), strict=True)) for r in table]


def test_a_pedestal_jump_is_rejected_with_its_reason() -> None:
    darks = [made_frame(f"{i}.fits", median=1010.0 + 0.2 * i) for i in range(4)]
    darks.append(made_frame("jump.fits", median=1070.0))
    rows = {str(r["file"]): r for r in corrected(darks, {"T-10.0C": -10.0})}
    assert rows["jump.fits"]["status"] == REJECTED
    assert "+59" in str(rows["jump.fits"]["reason"])
    assert "pedestal jump" in str(rows["jump.fits"]["reason"])
    assert [rows[f"{i}.fits"]["status"] for i in range(4)] == [ACCEPTED] * 4
    # the level of the cell is that of the frames that are kept
    assert rows["0.fits"]["offset_adu"] == pytest.approx(-0.3)


def test_a_light_frame_among_darks_is_rejected() -> None:
    darks = [made_frame(f"{i}.fits") for i in range(3)] + [made_frame("jupiter.fits", sigma=40.0)]
    row = corrected(darks, {"T-10.0C": -10.0})[-1]
    assert (row["file"], row["status"]) == ("jupiter.fits", REJECTED)
    assert "light" in str(row["reason"])


def test_a_bias_far_off_its_temperature_is_said() -> None:
    darks = [
        made_frame("near.fits", set_point_c=-10.5, temperature_c=-10.5),
        made_frame("far.fits", set_point_c=0.0, temperature_c=0.0),
    ]
    levels = {"T-10.0C": Levels(990.0, (990.0,) * 4)}
    table = corrected_rows(darks, TOLERANCES, REFERENCE, {"T-10.0C": -10.0}, levels, None, 1.0, False)
    assert table.meta["notes"] == ["darks at 0.0 C get the bias of -10.0 C: none is nearer"]
    assert (table.meta["noise_map"], list(table["bias"])) == (False, ["T-10.0C"] * 2)


def test_the_nearest_bias_then_the_line() -> None:
    at = {"cold": -10.0, "warm": 0.0}
    assert choose_bias(-9.5, at, 1.0, line=True) == "cold"
    assert choose_bias(-5.0, at, 1.0, line=True) == LINE
    assert choose_bias(-4.0, at, 1.0, line=False) == "warm"
    assert choose_bias(-4.0, {}, 1.0, line=False) == ""


def test_biases_are_grouped_by_temperature_and_odd_ones_rejected() -> None:
    frames = [*biases(5), made_frame("jump.fits", kind="bias", exposure_s=0.0, median=1060.0)]
    frames += [made_frame("warm.fits", kind="bias", exposure_s=0.0, set_point_c=0.0, temperature_c=0.1, median=1005.0)]
    masters, rows = bias_tables(frames, TOLERANCES)
    assert [(str(m["bias"]), int(m["frames"])) for m in masters] == [("T-10.0C", 5), ("T0.0C", 1)]
    reasons = {str(r["file"]): str(r["reason"]) for r in rows if str(r["status"]) == REJECTED}
    assert list(reasons) == ["jump.fits"]
    stacks = bias_stacks(masters, rows, frames)
    assert [f.file for f in stacks["T-10.0C"].frames] == [f"b{i}.fits" for i in range(5)]
    assert stacks["T0.0C"].level_raw == 1005.0


def test_pedestals_may_differ_within_a_cell() -> None:
    """x = raw + pedestal of the first - offset must be the same number for all."""
    frames = [made_frame("a.fits", kind="bias", exposure_s=0.0, median=1000.0)]
    frames += [
        made_frame(f"p{i}.fits", kind="bias", exposure_s=0.0, median=1100.0, pedestal_adu=-100.0) for i in range(2)
    ]
    masters, rows = bias_tables(frames, TOLERANCES)
    assert all(str(r["status"]) == ACCEPTED for r in rows)
    assert float(masters["level_raw"][0]) == 1000.0
    stack = bias_stacks(masters, rows, frames)["T-10.0C"]
    first = stack.frames[0].pedestal_adu
    assert [f.median + first - o for f, o in zip(stack.frames, stack.offset_raw, strict=True)] == [1000.0] * 3


def test_jitter_without_set_points_is_one_cell_a_temperature() -> None:
    rng = np.random.default_rng(1)
    darks = [
        made_frame(f"{t}_{i}.fits", set_point_c=np.nan, temperature_c=t + rng.uniform(-0.3, 0.3))
        for t in (-10.0, -5.0, 0.0)
        for i in range(6)
    ]
    cells = cells_of(darks, TOLERANCES)
    assert [len(c.members) for c in cells] == [6, 6, 6]
    assert [c.temperature.temperature_c for c in cells] == pytest.approx([-10.0, -5.0, 0.0], abs=0.25)
    assert {c.temperature.source for c in cells} == {"measured"}


def test_a_set_point_of_zero_is_a_temperature() -> None:
    cell = cells_of([made_frame("a.fits", set_point_c=0.0, temperature_c=0.2)], TOLERANCES)[0]
    assert (cell.temperature.temperature_c, cell.temperature.source) == (0.0, "set point")


def test_corrected_darks_never_share_a_name() -> None:
    names = corrected_names(["x.fits", "X.fit", "s/y.fits", "s__y.fits", "z.fits"])
    assert len({n.casefold() for n in names.values()}) == 5
    assert names["z.fits"] == "z"
    assert names["x.fits"].startswith("x-")


def test_the_pattern_of_a_bias_is_no_charge() -> None:
    frames = biases(3, sigma=6.0)
    masters, rows = bias_tables(frames, TOLERANCES)
    stack = bias_stacks(masters, rows, frames)["T-10.0C"]
    assert (stack.level_raw, stack.pattern_top_raw) == (1000.0, 1030.0)
