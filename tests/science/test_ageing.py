"""Rates, level and hot pixels of new masters against a model, on numbers whose truth is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from darkpipe.science.ageing import CellOfCheck, Shared, cell_ratio, compare_cell, leverage, solve, weighted_median
from darkpipe.science.changed_pixels import calm, combine_excess, judge_excess
from darkpipe.science.verdict import Criterion, Limits, worst

N = 20_000
SHARED = Shared(drift_adu=0.5, level_sigma_adu=0.5, temperature_sigma_c=0.0)
CELLS = [(t, e) for t in (-10.0, 0.0) for e in (30.0, 100.0, 300.0)]
GROWTH = 0.12


def cells_with(
    bulk: float, hot: float, level: float, rng: np.random.Generator, *, drift: float = 0.5, cells: Sequence = CELLS
) -> list[CellOfCheck]:
    """Masters of a sensor whose rates changed by these factors."""
    is_hot = np.arange(N) < 200
    rate = np.where(is_hot, 10 ** rng.uniform(1.5, 3, N), rng.normal(1.0, 0.2, N)).astype(np.float32) * 0.3
    out = []
    for t, e in cells:
        signal = (rate * e * math.exp(GROWTH * t)).astype(np.float32)
        error = np.sqrt(9.0 + signal / 2.0).astype(np.float32)
        factor = np.where(is_hot, hot, bulk)
        noise = rng.normal(0, 1, N) * error
        master = (signal * factor + level + drift * rng.normal() + noise).astype(np.float32)
        found = compare_cell(master, signal, error, ~is_hot, is_hot)
        out.append(CellOfCheck(found, t, 0.0, 1, GROWTH, GROWTH, 0.0))
    return out


def test_what_changed_is_found() -> None:
    found = solve(cells_with(1.05, 1.2, 0.3, np.random.default_rng(1)), SHARED)
    assert found.bulk[0] == pytest.approx(1.05, abs=3 * found.bulk[1])
    assert found.hot[0] == pytest.approx(1.2, abs=3 * found.hot[1])
    assert found.level_adu[0] == pytest.approx(0.3, abs=3 * found.level_adu[1])
    assert found.bulk[1] < 0.015
    assert found.hot[1] < 0.005


def test_errors_are_those_of_the_scatter() -> None:
    rng = np.random.default_rng(2)
    done = [solve(cells_with(1.0, 1.0, 0.0, rng), SHARED) for _ in range(60)]
    for name in ("rate", "bulk", "hot", "level_adu"):
        value, error = np.array([getattr(d, name) for d in done]).T
        truth = 0.0 if name == "level_adu" else 1.0
        pulls = (value - truth) / error
        # a level that is really 0 pulls less than its prior; errors are enlarged where chi² is large by chance
        assert 0.5 < pulls.std() < 1.25, name
        assert abs(pulls.mean()) < 0.5, name


def test_a_temperature_error_is_no_change_of_rate() -> None:
    """0.3 °C make 3.7 %: significant by the noise alone, not with the thermometer's error in it."""
    cells = cells_with(math.exp(GROWTH * 0.3), math.exp(GROWTH * 0.3), 0.0, np.random.default_rng(3))
    tight, loose = (solve(cells, Shared(0.5, 0.5, sigma)) for sigma in (0.0, 0.3))
    assert (tight.hot[0] - 1) / tight.hot[1] > 5
    assert (loose.hot[0] - 1) / loose.hot[1] < 2


def test_cells_of_one_temperature_share_its_error() -> None:
    several = [c for c in cells_with(1.0, 1.0, 0.0, np.random.default_rng(4)) if c.temperature_c == 0.0]
    warm = [CellOfCheck(c.change, 0.0, 0.2, 1, GROWTH, GROWTH, 0.0) for c in several]
    error = solve(warm, SHARED).hot[1]  # not less by the number of cells; more where their chi² is large
    assert GROWTH * 0.2 < error < 1.4 * GROWTH * 0.2


def test_one_cell_without_biases_tells_hot_rates_alone() -> None:
    cells = cells_with(1.1, 1.1, 40.0, np.random.default_rng(5), cells=[(0.0, 300.0)])
    found = solve(cells, Shared(0.5, math.inf, 0.0))
    assert found.hot[0] == pytest.approx(1.1, abs=4 * found.hot[1])
    assert found.bulk[1] > 0.2  # rate and level of the bulk cannot be told apart


def test_several_cells_without_biases_tell_rate_and_level_apart() -> None:
    found = solve(cells_with(1.1, 1.1, 40.0, np.random.default_rng(6)), Shared(0.5, math.inf, 0.0))
    assert found.level_adu[0] == pytest.approx(40.0, abs=3 * found.level_adu[1])
    assert found.bulk[0] == pytest.approx(1.1, abs=3 * found.bulk[1])
    assert found.bulk[1] < 0.03


def test_few_pixels_and_nothing_known() -> None:
    plane = np.array([1.0, np.nan], np.float32)
    found = compare_cell(plane, plane, plane, np.array([True, True]), np.array([False, False]))
    assert (found.n_bulk, found.n_hot) == (1, 0)
    assert math.isnan(found.difference_adu)
    change = solve([CellOfCheck(found, 0.0, 0.0, 1, GROWTH, GROWTH, 0.0)], SHARED)
    assert math.isnan(change.bulk[0])
    assert math.isnan(change.hot[0])


def test_outliers_do_not_move_the_ratio() -> None:
    rng = np.random.default_rng(7)
    signal = np.full(1000, 100.0, np.float32)
    master = signal + rng.normal(0, 1, 1000).astype(np.float32)
    master[:100] += 1e6
    found = compare_cell(master, signal, np.ones(1000, np.float32), np.ones(1000, bool), np.zeros(1000, bool))
    assert abs(found.difference_adu) < 0.3
    assert found.bulk_spread == pytest.approx(1.1, abs=0.15)


def test_a_third_of_the_hot_pixels_may_vanish() -> None:
    """The brightest ones, too: no pixel has so much weight that a few of them decide."""
    rng = np.random.default_rng(9)
    signal = (10 ** rng.uniform(2, 5, 300)).astype(np.float32)
    error = np.sqrt(9.0 + signal / 2.0).astype(np.float32)
    master = (signal * 1.05 + rng.normal(0, 1, 300) * error).astype(np.float32)
    master[np.argsort(signal)[-100:]] = 0.0
    found = compare_cell(master, signal, error, np.zeros(300, bool), np.ones(300, bool))
    assert found.hot_change == pytest.approx(0.05, abs=0.02)


def test_ratio_of_one_cell() -> None:
    cells = cells_with(1.05, 1.05, 0.0, np.random.default_rng(8), drift=0.0)
    found = cell_ratio(cells[-1], solve(cells, SHARED), SHARED)
    assert found["bulk"][0] == pytest.approx(1.05, abs=3 * found["bulk"][1])
    assert found["hot"][0] == pytest.approx(1.05, abs=3 * found["hot"][1])


def test_temperature_errors_of_the_campaign_grow_beyond_it() -> None:
    """A line through two temperatures, carried on by its own length: minus the first, twice the second."""
    pair = [(-10.0, 0.1, 3), (-5.0, 0.1, 3)]
    assert leverage(0.0, pair) == pytest.approx((-0.1, 0.2))
    assert leverage(-10.0, pair) == pytest.approx((0.1, 0.0))
    assert leverage(-7.5, pair) == pytest.approx((0.05, 0.05))
    assert leverage(3.0, [(0.0, 0.2, 1)]) == pytest.approx((0.2,))  # one temperature: its own error, no slope
    assert leverage(0.0, []) == ()


def test_errors_beyond_the_campaign_are_those_that_its_temperatures_make() -> None:
    rng = np.random.default_rng(5)
    fitted = [(-10.0, 0.12, 6), (-5.0, 0.12, 6)]
    shifts = np.array(leverage(0.0, fitted)) / 0.12
    cells = [(0.0, e) for e in (30.0, 100.0, 300.0)]
    pulls, blind = [], []
    for _ in range(40):
        wrong = math.exp(GROWTH * float(shifts @ rng.normal(0.0, 0.12, 2)))  # of the model, for all cells alike
        made = cells_with(wrong, wrong, 0.0, rng, cells=cells)
        far = [dataclasses.replace(c, leverage_c=leverage(c.temperature_c, fitted)) for c in made]
        for into, found in ((pulls, solve(far, SHARED)), (blind, solve(made, SHARED))):
            into.append((found.rate[0] - 1.0) / found.rate[1])
    assert 0.7 < np.std(pulls) < 1.3
    assert np.std(blind) > 3


def test_another_law_is_an_error_that_more_cells_do_not_lessen() -> None:
    made = cells_with(1.1, 1.1, 0.0, np.random.default_rng(6))
    far = [dataclasses.replace(c, bulk_law=0.1, hot_law=0.1) for c in made]
    found = solve(far, SHARED)
    for part in (found.rate, found.bulk, found.hot):
        assert part[1] == pytest.approx(0.1, rel=0.15)
        assert part[0] == pytest.approx(1.1, abs=0.05)
    assert solve(made, SHARED).rate[1] < 0.01
    assert cell_ratio(far[0], found, SHARED)["hot"][1] > 0.1


def test_weighted_median() -> None:
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == 2.0
    assert weighted_median(np.array([1.0, 2.0, 50.0]), np.array([10.0, 10.0, 1.0])) < 2.1
    assert math.isnan(weighted_median(np.zeros(0), np.zeros(0)))


# pixels
TEMPLATE = np.array([0.1, 0.3, 1.0])


def excess_of(difference: np.ndarray, vouching: np.ndarray | None = None):
    n, p = difference.shape
    agree = np.zeros((n, p), bool) if vouching is None else vouching
    return combine_excess(difference.astype(np.float32), np.ones((n, p), np.float32), TEMPLATE[:, None], agree, 4.0)


def test_a_cosmic_ray_is_no_hot_pixel() -> None:
    """100 sigma in one cell, nothing in the others: not confirmed; a defect of the same size shows in all."""
    ray, defect = np.array([[0.0], [0.0], [100.0]]), TEMPLATE[:, None] * 100.0
    assert not excess_of(ray).confirmed[0]
    assert not excess_of(ray[::-1]).confirmed[0]
    found = excess_of(defect)
    assert found.confirmed[0]
    assert found.signal_adu[0] == pytest.approx(100.0)
    assert found.sigmas[0] == pytest.approx(100.0 * math.sqrt((TEMPLATE**2).sum()))


def test_a_master_whose_frames_agree_vouches_for_itself() -> None:
    ray = np.array([[0.0], [0.0], [100.0]])
    vouching = np.array([[False], [False], [True]])
    assert excess_of(ray, vouching).confirmed[0]
    assert not excess_of(ray, vouching[::-1]).confirmed[0]  # another cell's word is not its own


def test_a_cell_that_does_not_tell_is_left_out() -> None:
    seen = TEMPLATE[:, None] * 100.0
    seen[1] = np.nan
    assert excess_of(seen).signal_adu[0] == pytest.approx(100.0)
    assert np.isnan(excess_of(np.full((3, 1), np.nan)).sigmas[0])
    assert not excess_of(np.full((3, 1), np.nan)).confirmed[0]


def test_calm_frames() -> None:
    count = np.array([0, 1, 2, 2, 5, 5], np.uint16)
    chi2 = np.array([np.nan, np.nan, 1.0, 30.0, 1.2, 8.0], np.float32)
    assert calm(count, chi2).tolist() == [False, False, True, False, True, False]


def test_which_pixels_changed_sides() -> None:
    before = np.array([10.0, 10.0, 10.0, 90.0, 90.0, 90.0, 10.0], np.float32)
    rise = np.array([100.0, 100.0, 20.0, -80.0, -80.0, -38.0, 100.0])
    found = excess_of(TEMPLATE[:, None] * rise, np.ones((3, 7), bool))
    was_hot = np.array([False, True, False, True, False, True, False])
    compared = np.array([True, True, True, True, True, True, False])
    judged = judge_excess(before, found, was_hot, compared, hot_above_adu=55.0, median_adu=10.0, sigma=6.0)
    assert judged.new.tolist() == [True, False, False, False, False, False, False]
    # the last of the hot ones keeps more than half of what it had
    assert judged.vanished.tolist() == [False, False, False, True, True, False, False]
    assert not judged.unconfirmed.any()


# verdict
@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1.02, 0.001, "current"),  # significant, but small
        (1.05, 0.001, "drifted"),
        (0.95, 0.001, "drifted"),
        (1.05, 0.03, "current"),  # large, but by chance
        (1.2, 0.01, "stale"),
        (math.nan, math.nan, "current"),
    ],
)
def test_a_change_counts_if_it_is_large_and_certain(value: float, error: float, expected: str) -> None:
    assert Criterion("rate", value, error, 1.0, Limits(0.03, 0.1)).verdict(3.0) == expected


def test_what_could_hide_in_the_error_is_said() -> None:
    assert Criterion("rate", 1.0, 0.02, 1.0, Limits(0.03, 0.1)).blind(3.0)
    assert not Criterion("rate", 1.0, 0.005, 1.0, Limits(0.03, 0.1)).blind(3.0)
    assert Criterion("rate", math.nan, math.nan, 1.0, Limits(0.03, 0.1)).blind(3.0)


def test_the_worst_counts() -> None:
    assert worst([]) == "current"
    assert worst(["current", "stale", "drifted"]) == "stale"
