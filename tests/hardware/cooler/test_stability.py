"""When a temperature counts as stable: properties of the pure window logic."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware.cooler.stability import (
    Sample,
    TemperatureWindow,
    is_stable,
    last_stretch,
    noise_c,
    resolution_c,
    slope_of,
)

RULES = {"tolerance_c": 1.0, "dwell_s": 60.0, "max_slope_c_per_min": 0.3}


def series(values, every_s=2.0, start_s=0.0):
    return [Sample(start_s + k * every_s, v) for k, v in enumerate(values)]


def line(slope_c_per_min, seconds=120.0, at_end_c=0.0, every_s=2.0):
    count = int(seconds / every_s) + 1
    return series([at_end_c - slope_c_per_min / 60 * (seconds - k * every_s) for k in range(count)], every_s)


@given(st.floats(-60, 30), st.floats(-0.99, 0.99), st.floats(0, 1e7))
def test_what_holds_within_the_tolerance_is_stable(target_c, off_c, start_s):
    assert is_stable(series([target_c + off_c] * 40, start_s=start_s), target_c, **RULES)


@given(st.integers(10, 39), st.sampled_from([-1.0, 1.0]), st.floats(1.01, 30))
def test_one_sample_outside_is_enough_to_wait(place, side, off_c):
    values = [0.0] * 40
    values[place] = side * off_c
    assert not is_stable(series(values), 0.0, **RULES)


def test_the_first_sample_that_is_near_is_not_stable():
    approach = series([5.0] * 40 + [0.5])
    assert not is_stable(approach, 0.0, **RULES)
    assert not is_stable([Sample(0.0, 0.0)], 0.0, **RULES)
    assert not is_stable([], 0.0, **RULES)


def test_the_dwell_must_be_covered():
    assert not is_stable(series([0.0] * 30), 0.0, **RULES)  # 58 s
    assert is_stable(series([0.0] * 31), 0.0, **RULES)


@given(st.floats(0.0, 0.29))
def test_slow_drifts_are_stable_from_both_sides(slope):
    assert is_stable(line(slope), 0.0, **RULES)
    assert is_stable(line(-slope), 0.0, **RULES)


@given(st.floats(0.31, 0.99))
def test_steep_drifts_are_not_though_all_is_within_the_tolerance(slope):
    assert not is_stable(line(slope), 0.0, **RULES)
    assert not is_stable(line(-slope), 0.0, **RULES)


@given(st.lists(st.floats(-1.5, 1.5), min_size=31, max_size=60))
def test_heights_and_signs_make_no_difference(values):
    here = is_stable(series(values), 0.0, **RULES)
    assert is_stable(series([-v for v in values]), 0.0, **RULES) == here


@pytest.mark.parametrize("step_c", [0.1, 0.2, 0.25, 0.5])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_coarse_and_noisy_thermometers_become_stable_soon(step_c, noise):
    """A sensor that really rests, at any place between two steps, is found stable within two dwells."""
    for seed in range(40):
        dice = random.Random(seed)
        truth_c = -10 + dice.uniform(-0.4, 0.4)
        window = TemperatureWindow(60.0, 1.0, 0.3)
        needed_s = next(
            (
                t_s
                for t_s in range(0, 600, 2)
                if window.add(t_s, round((truth_c + dice.gauss(0, noise)) / step_c) * step_c) or window.is_stable(-10.0)
            ),
            math.inf,
        )
        assert needed_s <= 120, (seed, needed_s)


@pytest.mark.parametrize("step_c", [0.1, 0.25, 0.5])
def test_steps_do_not_hide_a_steep_drift(step_c):
    for seed in range(40):
        dice = random.Random(seed)
        slope, start_c = dice.choice([-1, 1]) * dice.uniform(1.3, 6.0), dice.uniform(-1, 1)
        window = TemperatureWindow(60.0, 5.0, 0.3)
        for t_s in range(0, 400, 2):
            window.add(t_s, round((start_c + slope * t_s / 60) / step_c) * step_c)
            assert not window.is_stable(0.0)


@given(st.floats(-3, 3), st.floats(-50, 50), st.integers(3, 60))
def test_a_line_has_its_slope_and_no_error(slope, height, count):
    found = slope_of(series([height + slope * k * 2 / 60 for k in range(count)]))
    assert found is not None
    assert found.c_per_min == pytest.approx(slope, abs=1e-6)
    assert found.error_c_per_min == pytest.approx(0, abs=1e-6)


def test_the_error_of_a_slope_is_that_of_many_tries():
    slopes, errors = [], []
    for seed in range(400):
        dice = random.Random(seed)
        found = slope_of(series([dice.gauss(0, 0.2) for _ in range(31)]))
        assert found is not None
        slopes.append(found.c_per_min)
        errors.append(found.error_c_per_min)
    scatter = math.sqrt(sum(s * s for s in slopes) / len(slopes))
    assert sum(errors) / len(errors) == pytest.approx(scatter, rel=0.12)


def test_a_step_of_the_thermometer_is_part_of_the_error():
    one_step = series([0.0] * 15 + [0.5] * 16)
    fine, coarse = slope_of(one_step), slope_of(one_step, 0.5)
    assert fine is not None
    assert coarse is not None
    assert fine.c_per_min == coarse.c_per_min == pytest.approx(0.75, abs=0.05)
    assert coarse.error_c_per_min > fine.error_c_per_min


def test_a_single_step_of_a_coarse_thermometer_is_forgiven():
    settled = series([0.5] * 6 + [0.0] * 25)
    assert is_stable(settled, 0.0, **RULES, step_c=0.5)
    assert not is_stable(settled, 0.0, **RULES, step_c=0.01), "a fine one would have shown the way"


def test_no_slope_without_time():
    assert slope_of([]) is None
    assert slope_of([Sample(1.0, 2.0)]) is None
    assert slope_of([Sample(1.0, 2.0), Sample(1.0, 3.0)]) is None


def test_steps_and_noise_are_recognized():
    assert resolution_c([]) == resolution_c([1.0, 1.0]) == 0.0
    assert resolution_c([20.0, 19.5, 18.0, 17.5]) == pytest.approx(0.5)
    assert resolution_c([20.0, 10.0]) == 0.0  # that is no step
    assert noise_c([1.0, 2.0, 3.0, 4.0]) == 0.0
    assert noise_c([1.0]) == 0.0
    dice = random.Random(1)
    assert noise_c([dice.gauss(0, 0.3) + math.sin(k / 20) for k in range(4000)]) == pytest.approx(0.3, rel=0.05)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=40), st.floats(0, 100))
def test_the_last_stretch_is_as_short_as_can_be(gaps, seconds):
    samples = [Sample(t, 0.0) for t in itertools.accumulate(gaps)]
    found = last_stretch(samples, seconds)
    if not found:
        assert samples[-1].t_s - samples[0].t_s < seconds
        return
    assert found == samples[-len(found) :]
    assert found[-1].t_s - found[0].t_s >= seconds - 1e-5
    assert len(found) == 1 or found[-1].t_s - found[1].t_s < seconds


def test_readings_at_start_middle_and_end_of_a_long_exposure_are_enough():
    window = TemperatureWindow(60.0, 1.0, 0.3)
    for t_s in (0, 150, 300, 450):
        window.add(t_s, -10.0)
    assert window.is_stable(-10.0)
    window.add(600, -8.5)
    assert not window.is_stable(-10.0)


def test_what_was_hours_ago_says_nothing():
    window = TemperatureWindow(60.0, 1.0, 0.3)
    window.add(0, -10.0)
    window.add(7200, -10.0)
    assert not window.is_stable(-10.0)


def test_without_a_dwell_the_drift_is_still_measured():
    window = TemperatureWindow(0.0, 1.0, 0.3)
    for t_s in range(0, 60, 2):
        window.add(t_s, 5.0 - t_s / 6)  # 10 °C a minute, through the target
        assert not window.is_stable(0.0)
    for t_s in range(60, 80, 2):
        window.add(t_s, 0.0)
    assert window.is_stable(0.0)


def test_another_target_needs_another_dwell_but_the_thermometer_stays_the_same():
    window = TemperatureWindow(60.0, 1.0, 0.3)
    for t_s in range(0, 100, 2):
        window.add(t_s, -10.0 + 0.5 * (t_s % 4 == 0))
    window.clear()
    window.add(100, -10.0)
    assert window.slope() is None
    assert not window.is_stable(-10.0)
    assert window.step_c == 0.5
