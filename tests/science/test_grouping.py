from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkpipe.science.grouping import cell_temperature, cluster_exposures, cluster_values, thermometer_step

temperatures = st.lists(st.floats(-60, 40), min_size=1, max_size=60)


@given(temperatures, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_does_not_matter(values: list[float], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    labels = cluster_values(values, 0.5)
    np.testing.assert_array_equal(cluster_values([values[i] for i in order], 0.5), labels[order])


@given(temperatures, st.floats(0.01, 5))
@settings(max_examples=150, deadline=None)
def test_no_cluster_is_wider_than_two_tolerances(values: list[float], tolerance: float) -> None:
    labels = cluster_values(values, tolerance)
    data = np.array(values)
    assert set(labels) == set(range(labels.max() + 1))
    for label in set(labels):
        assert np.ptp(data[labels == label]) <= 2 * tolerance
    # labels rise with the values: clusters do not interleave
    assert (np.diff(labels[np.argsort(data, kind="stable")]) >= 0).all()


@given(
    st.lists(st.integers(-12, 12), min_size=1, max_size=5, unique=True),
    st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=20),
)
@settings(max_examples=150, deadline=None)
def test_jitter_stays_together_and_set_points_stay_apart(set_points: list[int], jitter: list[float]) -> None:
    truth = np.repeat(np.arange(len(set_points)), len(jitter))
    values = np.repeat(5.0 * np.sort(set_points), len(jitter)) + np.tile(jitter, len(set_points))
    np.testing.assert_array_equal(cluster_values(values, 0.5), truth)


def test_neighbouring_degrees_are_two_cells() -> None:
    np.testing.assert_array_equal(cluster_values([-10, -9, -10, -9.05], 0.5), [0, 1, 0, 1])


def test_a_ramp_is_cut_into_even_pieces() -> None:
    labels = cluster_values(np.linspace(0, 6.5, 131), 0.5)
    assert labels.max() + 1 == 7
    assert np.bincount(labels).min() >= 15


def test_a_long_ramp_is_quick_and_bounded() -> None:
    values = np.random.default_rng(1).uniform(-40, 20, 30_000)
    labels = cluster_values(values, 0.5)
    widths = [np.ptp(values[labels == label]) for label in range(labels.max() + 1)]
    assert max(widths) <= 1.0
    assert 60 <= labels.max() + 1 <= 62


def test_a_ramp_between_two_set_points_is_cut_around_them() -> None:
    values = np.concatenate((np.full(30, -10.0), np.linspace(-10, -5, 11), np.full(30, -5.0)))
    labels = cluster_values(values, 0.5)
    assert len(set(labels[:30])) == 1
    assert len(set(labels[-30:])) == 1


def test_missing_values_belong_nowhere() -> None:
    np.testing.assert_array_equal(cluster_values([np.nan, 1, np.inf, 1.2], 0.5), [-1, 0, -1, 0])
    np.testing.assert_array_equal(cluster_values([np.nan], 0.5), [-1])
    assert cluster_values([], 0.5).size == 0


@pytest.mark.parametrize("tolerance", [0.0, -1.0, np.nan, np.inf])
def test_a_wrong_tolerance_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        cluster_values([1.0], tolerance)


def test_exposures() -> None:
    exposure = [0.0, 0.0005, 0.001, 0.01, 10.0, 10.05, 10.5, 300.0, 301.0, 310.0, np.nan, -1.0]
    np.testing.assert_array_equal(cluster_exposures(exposure), [0, 0, 0, 1, 2, 2, 3, 4, 4, 5, -1, -1])


STL = [-10.203, -9.788, -5.232, -4.818]


def test_the_step_of_a_real_thermometer() -> None:
    assert thermometer_step(STL) == pytest.approx(0.4145, abs=0.001)
    assert thermometer_step(STL * 9) == pytest.approx(0.4145, abs=0.001)
    assert thermometer_step([-10.203] * 4 + [-9.788] * 5) == pytest.approx(0.415)
    assert thermometer_step([-10.0, -10.1, -9.9, -9.8, -10.0, -5.0, -5.1]) == pytest.approx(0.1)


def test_no_step_where_none_can_be_seen() -> None:
    rng = np.random.default_rng(3)
    assert thermometer_step(rng.normal(-10, 0.2, 40)) is None
    assert thermometer_step([-10.0, -5.0, 0.0, 5.0] * 6) is None  # a driver that echoes the set point
    assert thermometer_step([-10.0] * 8) is None
    assert thermometer_step([]) is None
    assert thermometer_step([np.nan, -10.203, -9.788]) is None  # two readings: a chance


def test_the_set_point_counts_while_regulated() -> None:
    cell = cell_temperature([-10.0] * 3, [-10.203, -9.788, -10.203], 0.415)
    assert (cell.temperature_c, cell.source) == (-10.0, "set point")
    assert cell.sigma_c == pytest.approx(0.415 / np.sqrt(12))


def test_a_set_point_of_zero_is_a_value() -> None:
    assert cell_temperature([0.0], [0.2], None).source == "set point"
    assert cell_temperature([0.0], [0.2], None).temperature_c == 0.0


def test_a_cooler_that_does_not_get_there_is_measured() -> None:
    cell = cell_temperature([-20.0] * 4, [-12.0, -12.2, -11.8, -12.0], None)
    assert (cell.temperature_c, cell.source) == (pytest.approx(-12.0), "measured")
    assert cell.sigma_c == pytest.approx(np.std([0, 0.2, -0.2, 0]))
    coarse = cell_temperature([-10.0], [-10.8], 0.9)
    assert coarse.source == "set point"


def test_without_set_point_or_without_reading() -> None:
    assert cell_temperature([None, np.nan], [-0.2, 0.0], None).source == "measured"
    cell = cell_temperature([5.0], [], None, tolerance_c=0.5)
    assert (cell.temperature_c, cell.source) == (5.0, "assumed")
    assert cell.sigma_c == pytest.approx(0.5 / np.sqrt(12))
    with pytest.raises(ValueError, match="set point"):
        cell_temperature([None], [np.nan], None)


def test_set_points_that_disagree_are_not_regulation() -> None:
    assert cell_temperature([-10.0, -10.0, -5.0], [-10.0, -10.0, -9.9], None).source == "measured"
