"""The warm-up: slow, bounded, and off at its end."""

from __future__ import annotations

import itertools
import math

import pytest
from cooled_camera import MANNERS, Bench

from hardware.errors import (
    CameraTransportError,
    CoolingError,
    ImplausibleReadingError,
)


@pytest.mark.parametrize("manners", MANNERS.values(), ids=MANNERS)
def test_the_warm_up_is_slow_and_ends_off(manners):
    bench = Bench(**manners)
    bench.cool()
    start_s, first = bench.clock.now_s, len(bench.readings)
    bench.cooling.warm_up()
    assert ("on", False) in bench.camera.written or not bench.camera.has_switch
    assert not bench.camera.switched_on or not bench.camera.has_switch
    assert bench.true_c > (18.0 if manners.get("own_ramp_c_per_min") is None else 4.0)
    assert bench.clock.now_s - start_s < 2400
    rising = [
        r.set_point_c
        for r in bench.readings[first:]
        if r.set_point_c is not None and not bench.camera.own_ramp_c_per_min
    ]
    assert rising == sorted(rising)
    assert bench.set_points()[-1] <= 35.0
    speeds = [b - a for a, b in zip(bench.set_points()[1:], bench.set_points()[2:], strict=False) if a > -10]
    assert max(speeds, default=0) <= 1.1
    assert not bench.cooling.status().stable
    assert bench.cooling.target_c is None


def test_the_warm_up_waits_for_cameras_that_warm_slowly():
    bench = Bench({"cooling_timeout": 3600}, time_constant_s=600.0)
    bench.cool(-20.0)
    bench.cooling.warm_up()
    assert bench.true_c > 15


def test_the_warm_up_is_bounded_when_the_thermometer_fails():
    bench = Bench()
    bench.cool()
    start_s = bench.clock.now_s
    bench.camera.glitches = [math.nan] * 10_000
    bench.cooling.warm_up()
    assert not bench.camera.switched_on
    assert 5 * 60 < bench.clock.now_s - start_s < 3600


def test_the_set_point_does_not_run_away_from_a_camera_that_warms_slowly():
    bench = Bench({"cooling_timeout": 3600}, time_constant_s=600.0, told_power=lambda power: None)
    bench.cool(-20.0)
    first = len(bench.readings)
    bench.cooling.warm_up()
    assert max(r.set_point_c - r.temperature_c for r in bench.readings[first:]) < 3.6


@pytest.mark.parametrize("power", [lambda power: power, lambda power: None], ids=["power", "no power"])
def test_a_frozen_thermometer_does_not_hurry_the_warm_up(power):
    bench = Bench(told_power=power)
    bench.camera.frozen = True
    with pytest.raises(ImplausibleReadingError):
        bench.cool()
    assert bench.true_c < -9
    start_s, truth = bench.clock.now_s, []
    bench.clock.on_sleep = lambda now_s: truth.append((now_s - start_s, bench.true_c))
    bench.cooling.warm_up()
    assert not bench.camera.switched_on
    assert bench.true_c > 10
    assert all(true_c < -10 + 5 * seconds / 60 + 1.5 for seconds, true_c in truth)


def test_a_camera_that_refuses_warm_set_points_is_switched_off():
    bench = Bench(accepts=(-50.0, 0.0))
    bench.cool()
    bench.cooling.warm_up()
    assert not bench.camera.switched_on
    assert max(bench.set_points()) <= 0.0


def test_an_interrupt_of_the_warm_up_switches_off_at_once():
    bench = Bench()
    bench.cool()
    at_s = bench.clock.now_s

    def interrupt(now_s):
        if now_s > at_s + 30:
            bench.clock.on_sleep = None
            raise KeyboardInterrupt

    bench.clock.on_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.cooling.warm_up()
    assert not bench.camera.switched_on
    assert bench.clock.now_s < at_s + 40


def test_a_line_that_breaks_during_the_warm_up_is_mended():
    bench = Bench()
    bench.cool()
    at_s = bench.clock.now_s
    bench.clock.on_sleep = lambda now_s: setattr(bench.camera, "line_down", at_s + 60 < now_s < at_s + 75)
    bench.cooling.warm_up()
    assert bench.camera.reconnects >= 1
    assert not bench.camera.switched_on


def test_a_line_that_stays_broken_is_said_in_bounded_time():
    bench = Bench()
    bench.cool()
    at_s = bench.clock.now_s
    bench.clock.on_sleep = lambda now_s: setattr(bench.camera, "line_down", now_s > at_s + 60)
    with pytest.raises(CameraTransportError):
        bench.cooling.warm_up()
    assert bench.clock.now_s < at_s + 300


def test_a_cooler_that_stays_on_is_an_error():
    bench = Bench()
    bench.cool()
    bench.camera.deaf_switch = True
    with pytest.raises(CoolingError, match="cannot be switched off"):
        bench.cooling.disable()


def test_off_at_once_and_only_once():
    bench = Bench()
    bench.cool()
    bench.cooling.disable()
    written = list(bench.camera.written)
    bench.cooling.disable()
    bench.cooling.warm_up()
    assert bench.camera.written == written
    assert written[-1] == ("on", False)


def test_the_warm_up_goes_on_slowly_when_the_computer_wakes():
    bench = Bench()
    bench.cool(-20.0)
    first = len(bench.readings)
    bench.clock.overslept = {len(bench.clock.naps) + 60: 3600.0}
    bench.cooling.warm_up()
    assert not bench.clock.overslept
    assert not bench.camera.switched_on
    assert bench.true_c > 18.0
    points = [r.set_point_c for r in bench.readings[first:] if r.set_point_c is not None]
    assert max(b - a for a, b in itertools.pairwise(points)) < 1.5
