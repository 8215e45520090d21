"""Grids of temperature against exposure."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from darkpipe.report.canvas import save_png
from darkpipe.report.grids import GRIDS, accuracy_grid, cell_grid

NAN = float("nan")


def pixels(page):
    out = BytesIO()
    save_png(page, out)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def written(page):
    return [text.get_text() for text in page.axes[0].texts]


@pytest.mark.parametrize(("down", "across"), [(1, 1), (1, 9), (4, 4), (9, 1), (30, 40), (2, 80)])
def test_grids_of_all_sizes_stay_on_their_page(down, across):
    cells = [(-30.0 + t, 0.125 * (e + 1) ** 2, 1.0 + t * e) for t in range(down) for e in range(across)]
    page = cell_grid(cells, "Mean absolute error", "ADU", note="held out")
    picture = pixels(page)
    edges = (picture[:2], picture[-2:], picture[:, :2].transpose(1, 0, 2), picture[:, -2:].transpose(1, 0, 2))
    assert all(edge.min() > 250 for edge in edges)
    assert max(picture.shape) < 1300
    assert picture.std() > 5


def test_values_stand_in_their_cells_with_three_figures():
    page = cell_grid([(-10.0, 30.0, 1.0), (-10.0, 300.0, 12.345), (0.0, 30.0, NAN), (0.0, 300.0, 1234.5)], "MAE", "ADU")
    axes = page.axes[0]
    assert {(t.get_text(), *t.get_position()) for t in axes.texts} == {("1.00", 0, 0), ("12.3", 1, 0), ("1,234", 1, 1)}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["30", "300"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["−10.0", "0.0"]


def test_colours_diverge_from_what_should_be():
    image = cell_grid([(0.0, 1.0, 0.9), (0.0, 2.0, 1.0), (0.0, 3.0, 1.1)], "Pulls", "σ", about=1.0).axes[0].images[0]
    low, middle, high = (np.asarray(image.get_array())[0, k, :3].astype(int) for k in range(3))
    assert middle.min() > 235
    assert low[0] > low[2]  # orange
    assert high[2] > high[1]  # purple


@pytest.mark.parametrize("value", [0.0, -3.0, NAN, 1e9])
def test_one_value_and_none_are_drawn(value):
    assert pixels(cell_grid([(0.0, 10.0, value)], "MAE", "ADU")).std() > 1


def test_the_chosen_model_is_drawn_with_what_is_known_of_each_cell():
    row = {"model": "exp_2d", "kind": "held out", "temperature_c": 0.0, "exposure_s": 10.0, "mae_adu": 5.0,
           "mape_percent": 7.0, "pull_spread_unflagged": 1.0, "mae_unflagged_adu": 4.0,
           "noise_floor_unflagged_adu": 2.0}  # fmt: skip
    inner = {**row, "exposure_s": 20.0, "kind": "in sample", "in_sample_mae_adu": 3.0, "noise_floor_unflagged_adu": 0.0}
    rows = [row, inner, {**row, "model": "other", "mae_adu": 99.0}]
    assert [written(accuracy_grid(name, rows, "exp_2d")) for name in GRIDS] == [
        ["5.00", "3.00"], ["7.00", "7.00"], ["2.00"], ["1.00", "1.00"],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no cells"):
        accuracy_grid("mae", rows, "two_component")
