"""The simulated cooler against a plain integration of its equation, its steady states, and its faults."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from fake_clock import FakeClock

from hardware.errors import CameraValueError
from hardware.simulator.cooler import Cooler

AMBIENT_C, DEPTH_C, TAU_S, CONTROL_S = 20.0, 45.0, 60.0, 5.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def cooling(clock: FakeClock, set_point_c: float, **more: float) -> Cooler:
    cooler = Cooler(clock, AMBIENT_C, DEPTH_C, TAU_S, **more)  # type: ignore[arg-type]
    cooler.set_point_c = set_point_c
    cooler.on = True
    return cooler


def after(cooler: Cooler, clock: FakeClock, seconds: float) -> float:
    clock.sleep(seconds)
    return cooler.true_temperature_c()


def euler(start_c: float, set_point_c: float, ambient_c: float, seconds: float, step_s: float = 0.002) -> float:
    """The same machine in small steps, written on its own."""
    celsius = start_c
    for _ in range(round(seconds / step_s)):
        wanted = (set_point_c - celsius) / CONTROL_S
        most, least = (ambient_c - celsius) / TAU_S, (ambient_c - DEPTH_C - celsius) / TAU_S
        celsius += min(max(wanted, least), most) * step_s
    return celsius


def test_it_stays_at_ambient_until_it_is_switched_on(clock: FakeClock) -> None:
    cooler = Cooler(clock, AMBIENT_C)
    cooler.set_point_c = -10.0
    assert after(cooler, clock, 3600.0) == AMBIENT_C
    assert (cooler.on, cooler.power_percent(), cooler.heat_sink_c()) == (False, 0.0, AMBIENT_C)


def test_full_power_is_an_exponential(clock: FakeClock) -> None:
    cooler = cooling(clock, -60.0)
    assert cooler.power_percent() == 100.0
    for _ in range(4):
        expected = AMBIENT_C - DEPTH_C * (1 - math.exp(-clock.now_s / TAU_S))
        assert cooler.true_temperature_c() == pytest.approx(expected, abs=1e-9)
        clock.sleep(30.0)


def test_closed_form_is_the_integral(clock: FakeClock) -> None:
    cooler, celsius = cooling(clock, AMBIENT_C), AMBIENT_C
    rng = np.random.default_rng(1)
    for _ in range(40):
        set_point, ambient, seconds = rng.uniform(-35, 30), rng.uniform(5, 30), rng.exponential(30.0)
        cooler.ambient_c, cooler.set_point_c = ambient, set_point
        celsius = euler(celsius, set_point, ambient, seconds)
        assert after(cooler, clock, seconds) == pytest.approx(celsius, abs=0.02)


@pytest.mark.parametrize("set_point_c", [-40.0, -24.9, -10.0, 19.0, 25.0])
def test_looking_does_not_change_anything(clock: FakeClock, set_point_c: float) -> None:
    watched, alone = cooling(clock, set_point_c), cooling(clock, set_point_c)
    for seconds in np.random.default_rng(2).exponential(0.7, 200):
        clock.sleep(float(seconds))
        watched.temperature_c()
        watched.power_percent()
    assert watched.true_temperature_c() == pytest.approx(alone.true_temperature_c(), abs=1e-9)


@pytest.mark.parametrize("gap_s", [180.0, 43_200.0, 1e9])
def test_it_holds_the_set_point_exactly(clock: FakeClock, gap_s: float) -> None:
    cooler = cooling(clock, -10.0)
    assert after(cooler, clock, gap_s) == -10.0
    assert cooler.power_percent() == pytest.approx(100 * 30 / 45)
    assert cooler.heat_sink_c() == pytest.approx(AMBIENT_C + 8 * 30 / 45)


def test_it_comes_without_overshoot_and_as_fast_as_its_power_allows(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    readings = [after(cooler, clock, 1.0) for _ in range(150)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(readings))
    assert min(readings) == -10.0
    # an unlimited controller would be there in a few control times
    assert readings[59] > -9.0
    assert readings[89] == pytest.approx(-10.0, abs=0.1)


def test_beyond_its_power_it_ends_above_the_set_point(clock: FakeClock) -> None:
    cooler = cooling(clock, -40.0)
    assert after(cooler, clock, 1000.0) == pytest.approx(AMBIENT_C - DEPTH_C, abs=1e-4)
    assert cooler.power_percent() == 100.0


def test_it_cannot_heat(clock: FakeClock) -> None:
    cooler = cooling(clock, 35.0)
    assert after(cooler, clock, 1000.0) == AMBIENT_C
    assert cooler.power_percent() == 0.0


def test_set_point_of_zero_is_a_temperature(clock: FakeClock) -> None:
    cooler = cooling(clock, 0.0)
    assert after(cooler, clock, 300.0) == 0.0


def test_what_was_before_a_change_is_not_forgotten(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(600.0)
    cooler.set_point_c = 10.0
    assert cooler.true_temperature_c() == -10.0
    clock.sleep(600.0)
    cooler.inverted_switch = True
    assert cooler.true_temperature_c() == 10.0
    clock.sleep(600.0)
    cooler.inverted_switch = False
    assert cooler.true_temperature_c() == pytest.approx(AMBIENT_C, abs=0.01)


def test_off_follows_ambient_slowly(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(600.0)
    cooler.on = False
    assert after(cooler, clock, TAU_S) == pytest.approx(AMBIENT_C - 30 / math.e)
    assert after(cooler, clock, 3600.0) == pytest.approx(AMBIENT_C)


def test_a_warm_day_takes_the_set_point_away(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(600.0)
    cooler.ambient_c = 40.0
    assert cooler.true_temperature_c() == -10.0
    assert after(cooler, clock, 1000.0) == pytest.approx(-5.0, abs=1e-4)
    assert cooler.power_percent() == 100.0
    cooler.ambient_c = 20.0
    assert after(cooler, clock, 600.0) == -10.0


def test_thermometer_has_steps(clock: FakeClock) -> None:
    cooler = cooling(clock, -9.8, thermometer_step_c=0.5)
    assert after(cooler, clock, 600.0) == -9.8
    assert cooler.temperature_c() == -10.0
    cooler.set_point_c = 20.0
    readings = []
    for _ in range(200):
        clock.sleep(1.0)
        readings.append(cooler.temperature_c())
        assert abs(cooler.temperature_c() - cooler.true_temperature_c()) <= 0.25
    assert len(set(readings)) > 20


def test_thermometer_has_noise_that_repeats_with_its_seed(clock: FakeClock) -> None:
    one, two = (cooling(clock, -10.0, noise_c=0.1, seed=3) for _ in range(2))
    clock.sleep(600.0)
    readings = np.array([one.temperature_c() for _ in range(500)])
    assert readings.std() == pytest.approx(0.1, rel=0.15)
    assert readings.mean() == pytest.approx(-10.0, abs=0.03)
    assert readings.tolist() == [two.temperature_c() for _ in range(500)]
    assert one.true_temperature_c() == -10.0


def test_fault_never_arrives(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(600.0)
    cooler.never_arrives = True
    assert cooler.true_temperature_c() == -10.0
    assert after(cooler, clock, 1000.0) == pytest.approx(AMBIENT_C - 0.3 * DEPTH_C, abs=1e-3)
    assert cooler.power_percent() == 100.0
    cooler.never_arrives = False
    assert after(cooler, clock, 600.0) == -10.0


def test_fault_frozen_reading(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(20.0)
    last = cooler.temperature_c()
    cooler.frozen_reading = True
    clock.sleep(600.0)
    assert cooler.temperature_c() == last > 0
    assert cooler.true_temperature_c() == -10.0
    cooler.frozen_reading = False
    assert cooler.temperature_c() == -10.0


def test_a_reading_that_freezes_before_the_first_look_freezes_at_it(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    cooler.frozen_reading = True
    clock.sleep(10.0)
    first = cooler.temperature_c()
    clock.sleep(10.0)
    assert cooler.temperature_c() == first


def test_fault_inverted_switch(clock: FakeClock) -> None:
    cooler = Cooler(clock, AMBIENT_C, DEPTH_C, TAU_S)
    cooler.inverted_switch = True
    cooler.set_point_c = -10.0
    cooler.on = True
    assert cooler.on is True
    assert after(cooler, clock, 600.0) == AMBIENT_C
    assert cooler.power_percent() == 0.0
    cooler.on = False
    assert cooler.on is False
    assert after(cooler, clock, 600.0) == -10.0
    assert cooler.power_percent() > 50.0


def test_fault_ignored_set_point(clock: FakeClock) -> None:
    cooler = cooling(clock, 5.0)
    cooler.ignored_set_point = True
    cooler.set_point_c = -10.0
    assert cooler.set_point_c == -10.0
    assert after(cooler, clock, 600.0) == 5.0
    cooler.ignored_set_point = False
    cooler.set_point_c = -10.0
    assert after(cooler, clock, 600.0) == -10.0


def test_restart_loses_the_state_but_not_the_cold(clock: FakeClock) -> None:
    cooler = cooling(clock, -10.0)
    clock.sleep(600.0)
    cooler.restart()
    assert (cooler.on, cooler.set_point_c, cooler.power_percent()) == (False, 0.0, 0.0)
    assert cooler.true_temperature_c() == -10.0
    assert after(cooler, clock, 30.0) > -5.0
    cooler.on = True
    assert after(cooler, clock, 600.0) == 0.0


@pytest.mark.parametrize("celsius", [-273.16, 100.01, math.nan, math.inf])
def test_set_points_that_cannot_be(clock: FakeClock, celsius: float) -> None:
    cooler = cooling(clock, -10.0)
    with pytest.raises(CameraValueError, match="no set point"):
        cooler.set_point_c = celsius
    assert cooler.set_point_c == -10.0


@pytest.mark.parametrize(("depth_c", "tau_s", "control_s"), [(45.0, 5.0, 5.0), (45.0, 60.0, 0.0), (-1.0, 60.0, 5.0)])
def test_coolers_that_cannot_be(clock: FakeClock, depth_c: float, tau_s: float, control_s: float) -> None:
    with pytest.raises(CameraValueError):
        Cooler(clock, AMBIENT_C, depth_c, tau_s, control_time_s=control_s)


def test_a_cooler_without_any_power(clock: FakeClock) -> None:
    cooler = Cooler(clock, AMBIENT_C, 0.0)
    cooler.set_point_c, cooler.on = -10.0, True
    assert after(cooler, clock, 600.0) == AMBIENT_C
    assert cooler.power_percent() == 100.0
