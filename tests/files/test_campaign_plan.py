"""A planned campaign in numbers: what would be fitted to it, where its errors are told, what its tables hold."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.errors import DesignError
from darkpipe.files.campaign_plan import Outline, changes_table, fitting_of, grid_of, merits, predicted_table
from darkpipe.science.campaign import CameraNoise, PixelKind

GRID = Outline(tuple((t, e, 4) for t in (0.0, -10.0) for e in (120.0, 30.0)), 8)
HOW = {"model": "auto", "temperature_error_c": 0.1, "energy_gap_ev": 1.12}
NOISE = CameraNoise(3.0, 0.8)
KINDS = [PixelKind("bulk", 0.6, 0.125, 0.0), PixelKind("hot", 40.0, 0.1, 0.0)]


def test_what_would_be_fitted() -> None:
    fitting = fitting_of(GRID, **HOW)
    assert fitting.unit.model.name == "exp_2d"
    assert fitting.other is not None
    assert fitting.other.model.name == "two_component"
    assert fitting.other.fit_reference.temperature_c == -5.0
    planned = fitting.planned
    assert planned.group.tolist() == [0, 0, 1, 1]
    assert planned.bias_frames.tolist() == [8, 8]
    np.testing.assert_allclose(planned.stations.variance_k2, 0.01)
    points = np.array([[-10.4, 30.0], [-10.6, 30.0], [0.0, 121.0], [0.0, 122.0]]).T
    assert fitting.outside(*points).tolist() == [False, True, False, True]


def test_without_biases_the_levels_are_free() -> None:
    three = Outline(tuple((t, e, 4) for t in (0.0, -10.0) for e in (120.0, 60.0, 30.0)), 0)
    planned = fitting_of(three, **HOW).planned
    assert planned.bias_frames.tolist() == [0, 0]


def test_models_of_one_axis_make_what_they_can() -> None:
    one_t = fitting_of(Outline(((-10.0, 30.0, 4), (-10.0, 120.0, 4)), 8), **HOW)
    assert one_t.unit.model.name == "exp_t"
    assert one_t.makes(-10.3, 700.0)
    assert not one_t.makes(-9.0, 60.0)
    one_e = fitting_of(Outline(((-10.0, 30.0, 4), (0.0, 30.0, 4)), 8), **{**HOW, "model": "exp_1d"})
    assert one_e.makes(5.0, 30.1)
    assert not one_e.makes(-5.0, 60.0)
    with pytest.raises(DesignError, match="two temperatures"):
        fitting_of(Outline(((-10.0, 30.0, 4),), 8), **HOW)


def test_errors_are_told_at_the_cells_between_them_and_beyond() -> None:
    temperatures, exposures = grid_of(GRID)
    assert temperatures == [-15.0, -10.0, -5.0, 0.0, 5.0]
    assert exposures == [20.0, 30.0, 60.0, 120.0, 180.0]
    assert grid_of(Outline(((-10.0, 30.0, 4), (-10.0, 120.0, 4)), 8))[0] == [-10.0]


def test_tables_agree_with_each_other() -> None:
    fitting = fitting_of(GRID, **HOW)
    table = predicted_table(fitting, KINDS, NOISE, GRID)
    assert len(table) == 2 * 25
    row = next(r for r in table if (r["pixel"], r["temperature_c"], r["exposure_s"]) == ("hot", -5.0, 60.0))
    assert row["with_bias_adu"] == pytest.approx(np.hypot(row["error_adu"], row["bias_error_adu"]), rel=1e-5)
    assert row["error_e"] == pytest.approx(0.8 * row["error_adu"], rel=1e-5)
    assert 0 < row["shared_adu"] < row["error_adu"]
    point = (np.array([-5.0]), np.array([60.0]))
    assert merits(fitting, KINDS, NOISE, point)["hot"] == pytest.approx(
        row["error_adu"] / row["frame_noise_adu"], rel=1e-4
    )
    same = {"change": "plan", "what": "the plan", "cells": GRID.cells, "biases": 8, "temperature_c": np.nan}
    variants = [{**same, "exposure_s": np.nan, "seconds": 7200.0}]
    variants.append({**variants[0], "change": "cell", "cells": GRID.cells[:1]})
    changes = changes_table(variants, KINDS, NOISE, {**HOW, "model": "exp_2d"}, point)
    assert (changes["frames"][0], changes["hours"][0], changes["hot_percent"][0]) == (32, 2.0, 0.0)
    assert np.isnan(changes["hot_percent"][1])
