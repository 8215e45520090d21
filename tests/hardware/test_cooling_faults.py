"""Cooling: what is wrong is found, named, and left as safe as it can be."""

from __future__ import annotations

import itertools

import pytest
from cooled_camera import Bench, CooledCamera
from fake_clock import FakeClock

from hardware.cooling import Cooling
from hardware.errors import (
    CoolingError,
    CoolingTimeoutError,
    ImplausibleReadingError,
    UnreachableTemperatureError,
)
from hardware.settings import CoolingSettings
from hardware.simulator.cooler import Cooler


@pytest.mark.parametrize("step_c", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("tells", [True, False], ids=["power", "no power"])
def test_an_unreachable_temperature_names_the_best_one(step_c, tells):
    power = (lambda power: power) if tells else (lambda power: None)
    bench = Bench({"cooling_timeout": 3600}, step_c=step_c, told_power=power)
    with pytest.raises(UnreachableTemperatureError, match="cannot reach") as caught:
        bench.cool(-35.0)
    assert bench.clock.now_s < 1200  # the limit is 25 °C below zero, and it takes ten minutes to be sure
    assert bench.cooling.best_reachable_c in (-24.0, -23.0)
    assert f"about {bench.cooling.best_reachable_c:.0f} °C" in str(caught.value)
    assert bench.camera.switched_on, "the next temperature may follow"
    assert bench.cool(bench.cooling.best_reachable_c).stable


def test_a_camera_that_limits_its_power_is_unreachable_too():
    with pytest.raises(UnreachableTemperatureError, match="80 % power"):
        Bench({"cooling_timeout": 3600}, highest_power=80.0).cool(-35.0)


def test_at_the_end_of_the_time_full_power_that_only_creeps_is_not_enough():
    bench = Bench(time_constant_s=55.0, deepest_c=20.0)
    with pytest.raises(UnreachableTemperatureError) as caught:
        bench.cool(-10.0)
    assert bench.clock.now_s <= 302
    assert bench.cooling.best_reachable_c == 2.0
    assert "2 °C" in str(caught.value)


def test_a_cooler_that_only_needs_longer_is_told_so():
    bench = Bench({"cooling_timeout": 120}, time_constant_s=600.0)
    with pytest.raises(CoolingTimeoutError, match=r"within 120 s: it is .* °C/min, cooler at 100 %.*cooling_timeout"):
        bench.cool(-20.0)
    assert 120 <= bench.clock.now_s <= 124
    assert bench.cooling.best_reachable_c is None


@pytest.mark.parametrize("asleep", [{10: 3600}, {1: 290, 7: 290}, dict.fromkeys(range(100), 100)])
def test_a_computer_that_slept_does_not_count_against_the_cooler(asleep):
    bench = Bench(time_constant_s=200.0)
    bench.clock.overslept = dict(asleep)
    status = bench.cool()
    assert status.stable
    assert bench.clock.now_s > 300, "else the timeout was never in question"


def test_a_ramp_goes_on_where_it_was_when_the_computer_wakes():
    bench = Bench({"ramp_c_per_min": 2.0})
    bench.clock.overslept = {60: 3600.0}
    assert bench.cool(-10.0).stable
    assert not bench.clock.overslept
    steps = [a - b for a, b in itertools.pairwise([20.0, *bench.set_points()[1:]])]
    assert max(steps) < 1.0, "half a degree at a time, before the nap and after it"
    assert len(steps) > 50


def test_a_line_that_hangs_at_every_look_still_comes_to_an_end():
    bench = Bench({"cooling_timeout": 120}, time_constant_s=60000.0)
    bench.clock.overslept = dict.fromkeys(range(1000), 30.0)
    with pytest.raises(CoolingTimeoutError, match="within 120 s"):
        bench.cool(-20.0)
    assert len(bench.readings) <= 14


def test_a_thermometer_coarser_than_the_tolerance_is_named():
    with pytest.raises(CoolingTimeoutError, match=r"steps of 0.50 °C"):
        Bench({"temperature_tolerance": 0.2}, step_c=0.5).cool(-10.25)


def test_nothing_without_a_supply():
    with pytest.raises(CoolingError, match="supply") as caught:
        Bench({"cooling_timeout": 3600}, unplugged=True, noise_c=0.03).cool()
    assert "20.0 °C" in str(caught.value)


def test_warmer_than_the_room_cannot_be_had():
    bench = Bench()
    with pytest.raises(UnreachableTemperatureError, match="cannot warm"):
        bench.cool(30.0)
    assert bench.cooling.best_reachable_c == 19.0


@pytest.mark.parametrize("frozen_at_s", [0.0, 20.0, 45.0])
def test_a_reading_that_is_frozen_on_its_way(frozen_at_s):
    bench = Bench({"cooling_timeout": 3600})
    bench.clock.on_sleep = lambda now_s: setattr(bench.camera, "frozen", now_s >= frozen_at_s)
    with pytest.raises(ImplausibleReadingError, match="to the last digit"):
        bench.cool(-10.0)
    assert bench.clock.now_s < 400


def test_a_sensor_that_rests_at_its_target_is_not_frozen():
    bench = Bench(step_c=0.5)
    bench.cool(-10.0)
    for _ in range(200):
        bench.clock.sleep(30)
        assert bench.cooling.status().stable
    assert bench.cooling.wait_for_target_temperature().stable


@pytest.mark.parametrize("step_c", [0.0, 0.1, 0.5])
def test_a_set_point_that_is_ignored(step_c):
    bench = Bench({"cooling_timeout": 3600}, deaf_set_point=True, step_c=step_c)
    with pytest.raises(CoolingError):
        bench.cool()
    assert bench.clock.now_s < 400


def test_a_switch_that_stays_off():
    bench = Bench(deaf_switch=True)
    with pytest.raises(CoolingError, match="reads back off"):
        bench.cool()
    assert not bench.camera.cools


@pytest.mark.parametrize("start_c", [20.0, -5.0])
def test_a_switch_that_works_the_wrong_way_round_is_left_off(start_c):
    bench = Bench({"cooling_timeout": 3600}, inverted="lying", true_c=start_c, wanted_c=start_c)
    with pytest.raises(CoolingError, match="switch"):
        bench.cool(-15.0)
    assert not bench.camera.cools
    written = len(bench.camera.written)
    bench.cooling.warm_up()
    bench.cooling.disable()
    bench.clock.sleep(600)
    assert bench.true_c > 15
    assert bench.camera.written[written:] == [], "what is off stays untouched"
    with pytest.raises(CoolingError, match="does not work"):
        bench.cooling.enable()


def test_a_wrong_switch_that_reads_back_honestly():
    bench = Bench(inverted="honest", switched_on=True)
    with pytest.raises(CoolingError, match="reads back off"):
        bench.cool()
    assert not bench.camera.cools


def test_an_honest_wrong_switch_is_off_after_the_warm_up():
    bench = Bench(inverted="honest", true_c=-5.0)  # it reads on, and is
    bench.cool(-10.0)
    bench.cooling.warm_up()
    assert not bench.camera.cools


def test_a_refused_set_point():
    bench = Bench(accepts=(-50.0, 30.0))
    with pytest.raises(UnreachableTemperatureError, match=r"refuses the set point -60.0"):
        bench.cool(-60.0)


def test_a_clamped_set_point_is_found_though_it_may_be_a_step():
    bench = Bench({"cooling_timeout": 3600})
    write = bench.camera.write_set_point
    bench.camera.write_set_point = lambda celsius: write(max(celsius, -10.0))
    with pytest.raises(CoolingError, match=r"-20.00 °C was written, and -10.00 °C is read back"):
        bench.cool(-20.0)


def test_a_set_point_that_reads_back_elsewhere():
    bench = Bench()
    bench.camera.write_set_point = lambda celsius: setattr(bench.camera, "wanted_c", 35.0)
    with pytest.raises(CoolingError, match="is read back"):
        bench.cool()


def test_a_refusal_of_the_set_point_that_is_there_is_no_fault():
    bench = Bench()
    bench.cool()
    bench.camera.accepts = (50.0, 60.0)
    bench.cooling.set_target_temperature(-10.0)
    assert bench.cooling.wait_for_target_temperature().stable


def test_rounding_is_said(caplog):
    Bench(set_point_step_c=1.0).cool(-10.4)
    assert "rounded" in caplog.text


@pytest.mark.parametrize("what", ["off", "set point"])
def test_somebody_else_at_the_cooler(what):
    bench = Bench({"cooling_timeout": 3600}, time_constant_s=600)

    def meddle(now_s):
        if now_s >= 60:
            bench.camera.wanted_c = 3.0 if what == "set point" else -20.0
            bench.camera.switched_on = what != "off"

    bench.clock.on_sleep = meddle
    with pytest.raises(CoolingError, match="is off" if what == "off" else "turned into 3.0"):
        bench.cool(-20.0)
    assert bench.clock.now_s < 90


# an independent judge


class Judge(CooledCamera):
    """The same camera around the simulator's cooler."""

    def __init__(self, clock, **options):
        super().__init__(clock)
        self.cooler = Cooler(clock, **options)

    def temperature_c(self):
        return self.cooler.temperature_c()

    def cooler_power_percent(self):
        return self.cooler.power_percent()

    def heat_sink_c(self):
        return self.cooler.heat_sink_c()

    def set_point_c(self):
        return self.cooler.set_point_c

    def cooler_on(self):
        return self.cooler.on

    def write_set_point(self, celsius):
        self.cooler.set_point_c = celsius

    def write_cooler_on(self, on):
        self.cooler.on = on


def judged(settings=None, **options):
    clock = FakeClock()
    judge = Judge(clock, **options)
    cooling = Cooling(judge, CoolingSettings(enable_cooling=True, **(settings or {})), clock)

    def cool(target_c=-10.0):
        cooling.enable()
        cooling.set_target_temperature(target_c)
        return cooling.wait_for_target_temperature()

    return judge.cooler, cooling, cool


@pytest.mark.parametrize("options", [{}, {"thermometer_step_c": 0.5}, {"noise_c": 0.1}, {"time_constant_s": 120.0}])
@pytest.mark.parametrize("target_c", [-20.0, 0.0, 10.0])
def test_the_simulated_cooler_is_driven(options, target_c):
    cooler, cooling, cool = judged({"cooling_timeout": 600}, **options)
    assert cool(target_c).stable
    assert cooler.true_temperature_c() == pytest.approx(target_c, abs=0.3)
    cooling.warm_up()
    assert not cooler.on
    assert cooler.true_temperature_c() > 18


@pytest.mark.parametrize("timeout_s", [300, 3600])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("never_arrives", UnreachableTemperatureError),
        ("frozen_reading", ImplausibleReadingError),
        ("inverted_switch", CoolingError),
        ("ignored_set_point", CoolingError),
    ],
)
def test_the_faults_of_the_simulated_cooler_are_found(fault, kind, timeout_s):
    cooler, cooling, cool = judged({"cooling_timeout": timeout_s})
    setattr(cooler, fault, True)
    with pytest.raises(kind) as caught:
        cool()
    assert not isinstance(caught.value, CoolingTimeoutError)
    assert cooling.clock.monotonic_s() < 700
    cooling.warm_up()
    cooling.clock.sleep(900)
    assert cooler.true_temperature_c() > 15
