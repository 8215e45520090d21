"""Cooling: cameras with manners of their own must not be accused; ramps, reconnects, cameras without a cooler."""

from __future__ import annotations

import itertools
import math

import pytest
from cooled_camera import MANNERS, Bench

from hardware.errors import (
    CameraTransportError,
    CoolingError,
)


@pytest.mark.parametrize("manners", MANNERS.values(), ids=MANNERS)
@pytest.mark.parametrize("target_c", [-10.0, 0.0, 5.4])
def test_cameras_with_their_own_manners_arrive(manners, target_c):
    bench = Bench(**manners)
    status = bench.cool(target_c)
    assert status.stable
    assert status.target_c == target_c
    assert abs(status.temperature_c - target_c) <= 1.0
    assert abs(bench.true_c - target_c) <= 1.6  # the tolerance, and what noise and a step of a degree hide
    at_end = bench.clock.now_s
    window = [r for r in bench.readings if (r.utc - bench.clock.start_utc).total_seconds() >= at_end - 60]
    assert len(window) >= 30
    assert all(abs(r.temperature_c - target_c) <= 1.0 for r in window)


@pytest.mark.parametrize("step_c", [0.0, 0.1, 0.5])
def test_minutes_at_full_power_are_no_fault_while_it_cools(step_c):
    bench = Bench({"cooling_timeout": 3600}, time_constant_s=600.0, step_c=step_c)
    status = bench.cool(-20.0)
    full = [r for r in bench.readings if r.power_percent and r.power_percent >= 98]
    assert (full[-1].utc - full[0].utc).total_seconds() > 600
    assert status.stable


@pytest.mark.parametrize("step_c", [0.0, 0.5])
def test_creeping_up_to_the_limit_of_the_cooler_is_no_fault(step_c):
    assert Bench({"cooling_timeout": 7200}, time_constant_s=600.0, step_c=step_c).cool(-24.0).stable


@pytest.mark.parametrize(("gain", "integral_s", "time_s"), [(8.0, 60.0, 150.0), (6.0, 40.0, 200.0)])
def test_overshoot_and_ringing_end_in_stability(gain, integral_s, time_s):
    bench = Bench(
        {"cooling_timeout": 1800}, gain_percent_per_c=gain, integral_s=integral_s, time_constant_s=time_s, step_c=0.1
    )
    assert bench.cool(-10.0).stable
    assert min(r.temperature_c for r in bench.readings) < -12.0  # it did overshoot


@pytest.mark.parametrize("power", [lambda power: power, lambda power: None], ids=["power", "no power"])
def test_a_cold_sensor_that_warms_until_the_cooler_has_started_is_no_fault(power):
    slow_start = {"power_rise_percent_per_s": 0.5, "dead_s": 30.0}
    bench = Bench({"cooling_timeout": 900}, true_c=-8.0, wanted_c=-8.0, told_power=power, **slow_start)
    assert bench.cool(-10.0).stable
    assert max(r.temperature_c for r in bench.readings) > -4.0


def test_another_set_point_is_not_stable_though_the_temperature_still_is():
    bench = Bench()
    assert bench.cool(-10.0).stable
    bench.camera.wanted_c = -14.0
    assert not bench.cooling.status().stable


def test_from_below_as_from_above():
    bench = Bench(true_c=-20.0, switched_on=True, wanted_c=-20.0)
    assert bench.cool(-5.0).stable
    assert bench.true_c == pytest.approx(-5.0, abs=0.2)
    assert bench.readings[0].temperature_c < -19


def test_zero_degrees_is_a_temperature():
    bench = Bench()
    status = bench.cool(0.0)
    assert status.target_c == 0.0
    assert status.set_point_c == 0.0
    assert bench.set_points()[-1] == 0.0
    assert math.copysign(1.0, Bench().cool(-0.0).target_c) == 1.0


def test_several_temperatures_one_after_the_other():
    bench = Bench()
    for target_c in (-10.0, 0.0, -15.0):
        assert bench.cool(target_c).stable
        assert bench.true_c == pytest.approx(target_c, abs=0.3)
    assert [value for what, value in bench.camera.written if what == "on"] == [True]


def test_status_tells_everything():
    bench = Bench()
    bench.cool()
    bench.clock.sleep(100)
    status = bench.cooling.status()
    assert status.utc == bench.clock.utc()
    assert (status.cooler_on, status.set_point_c, status.heat_sink_c) == (True, -10.0, 25.0)
    assert status.power_percent == pytest.approx(100 * 30 / 45, abs=1)
    assert abs(status.slope_c_per_min) < 0.1
    assert status.stable


def test_switching_on_does_not_rush_to_an_old_set_point():
    bench = Bench(wanted_c=-30.0)
    bench.cooling.enable()
    assert bench.camera.written == [("set point", 20.0), ("on", True)]


# ramps


def test_a_ramp_is_followed_and_the_time_counts_from_its_end():
    bench = Bench({"ramp_c_per_min": 2.0})
    assert bench.cool(-10.0).stable
    assert bench.clock.now_s > 15 * 60
    assert bench.set_points() == sorted(bench.set_points(), reverse=True)
    steps = [abs(b - a) for a, b in itertools.pairwise(bench.set_points())]
    assert max(steps) <= 1.0
    minute = [r for k, r in enumerate(bench.readings) if k % 30 == 0]
    assert max(abs(b.temperature_c - a.temperature_c) for a, b in itertools.pairwise(minute)) < 3.0


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("step_c", [0.0, 0.5])
def test_ramps_are_not_taken_for_faults(speed, step_c):
    assert Bench({"ramp_c_per_min": speed, "temperature_tolerance": 0.5}, step_c=step_c).cool(-10.0).stable


def test_a_ramp_upwards():
    bench = Bench({"ramp_c_per_min": 3.0}, true_c=-20.0, wanted_c=-20.0, switched_on=True)
    assert bench.cool(-5.0).stable
    assert bench.set_points() == sorted(bench.set_points())


# cameras without


def test_no_cooler_and_no_set_point():
    bench = Bench(has_cooler=False, can_set=False)
    assert bench.cooling.status().temperature_c == 20.0
    with pytest.raises(CoolingError, match="no cooler"):
        bench.cooling.enable()
    with pytest.raises(CoolingError, match="no set point"):
        bench.cooling.set_target_temperature(-10.0)
    with pytest.raises(CoolingError, match="no temperature to wait for"):
        Bench().cooling.wait_for_target_temperature()


def test_a_set_point_that_only_reads():
    bench = Bench(can_set=False)
    with pytest.raises(CoolingError, match=r"no set point.*auto_cooling: false"):
        bench.cool()


def test_hands_off():
    bench = Bench({"auto_cooling": False}, switched_on=True, wanted_c=-10.0)
    assert bench.cool(-10.0).stable
    bench.cooling.assert_state()
    bench.cooling.warm_up()
    bench.cooling.disable()
    assert bench.camera.written == []


def test_hands_off_a_cooler_that_is_off():
    bench = Bench({"auto_cooling": False})
    with pytest.raises(CoolingError, match=r"is off.*auto_cooling: true"):
        bench.cool(-10.0)
    assert bench.camera.written == []
    assert Bench({"auto_cooling": False}).cool(20.0).stable


# the line, and what is lost with it


def test_errors_of_the_line_pass_through():
    bench = Bench()
    bench.cool()
    bench.camera.line_down = True
    with pytest.raises(CameraTransportError):
        bench.cooling.status()


@pytest.mark.parametrize("ramp", [None, 4.0])
def test_after_a_restart_everything_is_written_again_and_has_to_settle(ramp):
    bench = Bench({"ramp_c_per_min": ramp})
    bench.cool()
    bench.camera.switched_on, bench.camera.wanted_c = False, 20.0
    bench.clock.sleep(60)
    assert not bench.cooling.status().stable
    before_s = bench.clock.now_s
    bench.cooling.assert_state()
    assert bench.camera.switched_on
    assert not bench.cooling.status().stable
    status = bench.cooling.wait_for_target_temperature()
    assert status.stable
    assert status.set_point_c == -10.0
    assert bench.clock.now_s - before_s >= 60


def test_nothing_is_asserted_that_was_never_asked_for():
    bench = Bench()
    bench.cooling.assert_state()
    assert bench.camera.written == []
