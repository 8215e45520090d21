"""Readings: one odd answer is asked again, several are refused."""

from __future__ import annotations

import math

import pytest
from cooled_camera import Bench

from hardware.errors import (
    CameraDriverError,
    CameraProtocolError,
    ImplausibleReadingError,
)


def broken(error):
    def answer():
        raise error("odd")

    return answer


ODD = [None, math.nan, math.inf, -273.15, 999.0, -999.0, broken(CameraProtocolError), broken(CameraDriverError)]


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_reading_is_asked_again_and_said(odd, caplog):
    bench = Bench()
    bench.cool()
    bench.camera.glitches = [odd]
    assert bench.cooling.status().temperature_c == pytest.approx(-10.0, abs=0.2)
    assert "asked again" in caplog.text
    assert bench.cooling.status().stable


@pytest.mark.parametrize("odd", ODD)
def test_odd_readings_in_a_row_are_refused(odd):
    bench = Bench()
    bench.camera.glitches = [odd] * 100
    with pytest.raises(ImplausibleReadingError, match="4 times in a row"):
        bench.cool()


def test_a_jump_that_no_sensor_makes_is_asked_again(caplog):
    bench = Bench()
    bench.cool()
    bench.clock.sleep(2)
    bench.camera.glitches = [85.0]
    assert bench.cooling.status().temperature_c == pytest.approx(-10.0, abs=0.2)
    assert "jumped" in caplog.text
    bench.camera.glitches = [12.0, 12.0]
    assert bench.cooling.status().temperature_c == 12.0, "what is said twice is believed"


def test_without_a_target_a_missing_thermometer_is_no_fault(caplog):
    bench = Bench(has_cooler=False, can_set=False)
    bench.camera.glitches = [-273.15] * 3
    assert [bench.cooling.status().temperature_c for _ in range(3)] == [None] * 3
    assert caplog.text.count("can be believed") == 1
    assert bench.cooling.status().temperature_c == 20.0


@pytest.mark.parametrize("power", [-1.0, 255.0, math.nan, None])
def test_a_power_that_is_none_is_not_passed_on(power):
    assert Bench(told_power=lambda _: power).cooling.status().power_percent is None
