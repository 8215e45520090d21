"""The part of the report that holds predictions against masters: what is told, and what it weighs."""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkpipe.report.accuracy import accuracy_section, held_out_facts, of_chosen
from darkpipe.report.blocks import Pictures, Table

NAN = math.nan


def row(temperature: float, exposure: float, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": "exp_2d", "kind": "held out", "cell": f"T{temperature:.1f}C_texp{exposure:g}s",
        "temperature_c": temperature, "exposure_s": exposure, "n_frames": 5, "median_signal_adu": 100.0, "mae_adu": 6.0,
        "in_sample_mae_adu": 5.0, "noise_floor_adu": 4.0, "nearest_scaled_mae_adu": 9.0, "median_error_adu": -0.5,
        "mape_percent": 7.0, "mae_unflagged_adu": 5.5, "noise_floor_unflagged_adu": 4.0, "pull_median_unflagged": 0.01,
        "nearest_scaled_mae_unflagged_adu": 8.0, "pull_spread_unflagged": 1.02, "pull_interval_68_unflagged": 1.01,
        "pull_outlier_fraction_unflagged": 0.001, "n_pixels_unflagged": 1000, "n_below_300_unflagged": 900,
        "mae_below_300_unflagged_adu": 5.0, "noise_floor_below_300_unflagged_adu": 4.0,
        "pull_spread_below_300_unflagged": 1.0, "n_above_5000_unflagged": 0, "mae_above_5000_unflagged_adu": NAN,
    }  # fmt: skip
    return values | changes


def facts(*rows: dict[str, Any], chosen: str = "exp_2d") -> dict[str, Any]:
    return {"evaluation": list(rows), "chosen": chosen}


def tables(found: Any) -> dict[str, Table]:
    return {block.caption: block for block in found.blocks if isinstance(block, Table)}


def test_the_model_that_makes_the_darks_is_told_of_in_order() -> None:
    rows = [row(0.0, 30.0), row(-10.0, 300.0), row(-10.0, 30.0), row(0.0, 30.0, model="two_component")]
    places = [(r["temperature_c"], r["exposure_s"]) for r in of_chosen(facts(*rows))]
    assert places == [(-10.0, 30.0), (-10.0, 300.0), (0.0, 30.0)]
    both = [row(0.0, 30.0, model="exp_1d/texp30s"), row(0.0, 300.0, model="exp_1d/texp300s")]
    assert len(of_chosen(facts(*both, chosen="exp_1d/texp30s"))) == 2  # models of one axis stand for each other


def test_accuracy_in_a_few_figures() -> None:
    items = dict(held_out_facts(facts(row(0.0, 30.0), row(0.0, 300.0, mae_unflagged_adu=6.5))))
    assert items["Held-out error"] == "1.50 × noise floor"
    assert items["Nearest master, scaled"] == "2.00 × noise floor"
    assert items["Spread of the pulls, median"] == "1.02"
    inner = row(0.0, 30.0, kind="in sample", mae_adu=NAN)
    assert held_out_facts(facts(inner)) == [("Held-out error", "no cell could be left out")]
    assert "Error on new frames" in dict(held_out_facts(facts(row(0.0, 30.0, kind="new"))))
    assert held_out_facts(facts()) == []


def test_tables_hold_what_was_measured() -> None:
    found = tables(accuracy_section(facts(row(0.0, 30.0), row(0.0, 300.0, n_below_300_unflagged=0)), {}, {}))
    cells = found["Errors of each cell"]
    assert [head for head in cells.heads if "MAE" in head] == ["MAE held out [ADU]", "MAE in sample [ADU]"]
    assert [value.text for value in cells.rows[0]] == [
        "0.0", "30", "5", "100", "6.00", "5.00", "4.00", "9.00", "−0.500", "7.00",
    ]  # fmt: skip
    assert [value.text for value in found["Pulls of each cell"].rows[0]][2:] == [
        "0.010",
        "1.020",
        "1.010",
        "0.100",
        "1,000",
    ]
    assert [[v.text for v in r] for r in found["Errors by signal"].rows] == [
        ["below 300 ADU", "900", "5.00", "4.00", "1.250", "1.000"]
    ]


def test_nothing_measured_is_no_section() -> None:
    assert accuracy_section(facts(), {}, {}) is None


@pytest.mark.parametrize("count", [1, 24, 200])
def test_maps_of_many_cells_stay_light(count: int) -> None:
    random = np.random.default_rng(3)
    rows = [row(float(k), 30.0) for k in range(count)]
    noise = random.exponential(5.0, (160, 160)).astype(np.float32)
    maps = {r["cell"]: (True, {"absolute": noise, "relative": np.full((160, 160), np.nan, np.float32)}) for r in rows}
    found = accuracy_section(facts(*rows), {}, maps)
    assert found is not None
    (pictures,) = [block for block in found.blocks if isinstance(block, Pictures)]  # no relative error is known
    assert len(pictures.items) == count
    assert pictures.legend is not None
    assert sum(len(picture.png) for picture in pictures.items) < 700_000
    with Image.open(BytesIO(pictures.items[0].png)) as image:
        assert 30 <= max(image.size) <= 160


def test_maps_have_row_0_below_and_grey_where_nothing_is_known() -> None:
    image = np.full((8, 8), 1.0, np.float32)
    image[0, :], image[7, 0] = 100.0, np.nan
    maps = {"T0.0C_texp30s": (False, {"absolute": image, "relative": image})}
    found = accuracy_section(facts(row(0.0, 30.0)), {}, maps)
    assert found is not None
    first = next(block for block in found.blocks if isinstance(block, Pictures)).items[0]
    assert first.caption.endswith("(in sample)")
    with Image.open(BytesIO(first.png)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels[7].min(axis=0)[0] > 200  # bright, at the bottom
    assert np.ptp(pixels[0, 0]) < 8  # grey
    assert np.ptp(pixels[3, 3]) > 30
