"""The camera in process: time, frames, settings, refusals and faults."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from fake_clock import FakeClock

from hardware.camera import Camera
from hardware.errors import (
    CameraBusyError,
    CameraDriverError,
    CameraError,
    CameraNotConnectedError,
    CameraNotImplementedError,
    CameraTransportError,
    CameraValueError,
)
from hardware.simulator.camera import SimulatedCamera
from hardware.simulator.cooler import Cooler
from hardware.simulator.sensor import Sensor, SensorSpec

SPEC = SensorSpec(rows=24, cols=32, seed=3, readout_s=0.5)


class HandClock(FakeClock):
    """`when` holds what happens at given moments, in the middle of a sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.when: list[tuple[float, Callable[[], None]]] = []

    def sleep(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.when and self.when[0][0] <= end_s:
            self.now_s, call = self.when.pop(0)
            call()
        super().sleep(end_s - self.now_s)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def made(clock: HandClock, **more: object) -> SimulatedCamera:
    return SimulatedCamera(Sensor(SPEC), Cooler(clock), clock, **more)  # type: ignore[arg-type]


def test_it_is_a_camera(clock: HandClock) -> None:
    camera: Camera = made(clock)
    for name in (name for name in vars(Camera) if not name.startswith("_")):
        assert hasattr(camera, name), name


def test_info_says_what_it_is(clock: HandClock) -> None:
    info = made(clock, gain=0, offset=10, binning=2, readout_mode="Fast").info
    assert info.shape == (12, 16)
    assert (info.gain, info.offset, info.readout_mode, info.binning) == (0, 10, "Fast", (2, 2))
    assert info.electrons_per_adu == pytest.approx(10**0.5)
    assert (info.sensor_rows, info.sensor_cols, info.max_adu) == (24, 32, 65535)
    assert (info.has_cooler, info.can_set_temperature) == (True, True)
    assert info.camera_id != SimulatedCamera(Sensor(SensorSpec(24, 32, seed=4)), Cooler(clock), clock).info.camera_id


def test_an_exposure_takes_its_time(clock: HandClock) -> None:
    camera = made(clock)
    middles = []
    exposure = camera.expose_dark(30.0, at_middle=lambda: middles.append(clock.now_s))
    assert middles == [15.0]
    assert exposure.exposure_s == exposure.monotonic_s == 30.0
    assert (exposure.started, exposure.ended) == (
        clock.utc() - timedelta(seconds=30.5),
        exposure.started + timedelta(0, 30),
    )
    assert clock.now_s == 30.5
    assert exposure.pixels.shape == camera.info.shape
    assert exposure.pixels.dtype == np.uint16
    assert exposure.pixels.flags.c_contiguous


def test_time_in_the_middle_is_part_of_the_exposure(clock: HandClock) -> None:
    assert made(clock).expose_dark(30.0, at_middle=lambda: clock.sleep(10.0)).monotonic_s == 30.0
    late = made(clock).expose_dark(30.0, at_middle=lambda: clock.sleep(20.0))
    assert (late.exposure_s, late.monotonic_s) == (30.0, 35.0)


def test_a_frame_has_the_temperature_of_its_middle(clock: HandClock) -> None:
    camera = SimulatedCamera(Sensor(SPEC), Cooler(clock, thermometer_step_c=5.0), clock)
    camera.write_set_point(-30.0)
    camera.write_cooler_on(True)
    truths = []
    exposure = camera.expose_dark(60.0, at_middle=lambda: truths.append(camera.cooler.true_temperature_c()))
    assert -20.0 < truths[0] < 10.0
    assert np.array_equal(exposure.pixels, camera.sensor.dark_frame(60.0, truths[0], 0))


def test_a_run_that_goes_on_takes_the_same_pixels(clock: HandClock) -> None:
    whole = made(clock)
    frames = [whole.expose_dark(5.0).pixels for _ in range(4)]
    assert whole.next_frame_number == 4
    rest = made(HandClock(), first_frame_number=2)
    again = [rest.expose_dark(5.0).pixels for _ in range(2)]
    rest.next_frame_number = 0
    again += [rest.expose_dark(5.0).pixels for _ in range(2)]
    assert [frame.tobytes() for frame in again] == [frames[k].tobytes() for k in (2, 3, 0, 1)]
    assert len({frame.tobytes() for frame in frames}) == 4


def test_settings_reach_the_pixels(clock: HandClock) -> None:
    camera = made(clock, gain=200, offset=80, binning=2)
    expected = camera.sensor.dark_frame(5.0, 20.0, 0, gain=200, offset=80, binning=2)
    assert np.array_equal(camera.expose_dark(5.0).pixels, expected)


def test_exposures_are_those_the_electronics_can_time(clock: HandClock) -> None:
    camera = made(clock)
    assert camera.expose_dark(0.1 + 0.2).exposure_s == 0.3
    assert camera.expose_dark(1.1).exposure_s == 1.1
    assert camera.expose_dark(1.0000004).exposure_s == 1.0
    assert camera.expose_dark(SPEC.exposure_min_s).exposure_s == SPEC.exposure_min_s


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_exposures_outside_the_limits(clock: HandClock, seconds: float) -> None:
    camera = made(clock)
    with pytest.raises(CameraValueError, match="outside"):
        camera.expose_dark(seconds)
    assert (camera.is_idle(), camera.next_frame_number, clock.now_s) == (True, 0, 0.0)


@pytest.mark.parametrize("more", [{"gain": 301}, {"gain": -1}, {"offset": 101}, {"binning": 0}, {"binning": 25}])
def test_settings_that_it_does_not_have(clock: HandClock, more: dict[str, object]) -> None:
    with pytest.raises(CameraValueError):
        made(clock, **more)


def test_cooler_is_driven_and_read_back(clock: HandClock) -> None:
    camera = made(clock)
    assert (camera.set_point_c(), camera.cooler_on()) == (0.0, False)
    camera.write_set_point(-10.0)
    camera.write_cooler_on(True)
    clock.sleep(600.0)
    assert (camera.set_point_c(), camera.cooler_on(), camera.temperature_c()) == (-10.0, True, -10.0)
    assert camera.cooler_power_percent() == pytest.approx(100 * 30 / 45)
    assert camera.heat_sink_c() == pytest.approx(20 + 8 * 30 / 45)
    with pytest.raises(CameraValueError):
        camera.write_set_point(200.0)
    camera.close()
    assert camera.cooler.on


def test_a_camera_without_a_cooler_has_a_thermometer(clock: HandClock) -> None:
    camera = made(clock, has_cooler=False)
    assert camera.temperature_c() == 20.0
    assert (camera.heat_sink_c(), camera.cooler_power_percent()) == (None, None)
    assert (camera.set_point_c(), camera.cooler_on()) == (None, None)
    assert (camera.info.has_cooler, camera.info.can_set_temperature) == (False, False)
    with pytest.raises(CameraNotImplementedError):
        camera.write_set_point(-10.0)
    with pytest.raises(CameraNotImplementedError):
        camera.write_cooler_on(True)


def test_a_cooler_without_a_set_point(clock: HandClock) -> None:
    camera = made(clock, can_set_temperature=False)
    assert (camera.info.has_cooler, camera.info.can_set_temperature, camera.set_point_c()) == (True, False, None)
    with pytest.raises(CameraNotImplementedError):
        camera.write_set_point(-10.0)
    camera.write_cooler_on(True)
    assert camera.cooler_on()


def test_abort_in_the_middle_ends_the_exposure(clock: HandClock) -> None:
    camera = made(clock)
    with pytest.raises(CameraDriverError, match="aborted"):
        camera.expose_dark(30.0, at_middle=camera.abort)
    assert (camera.is_idle(), camera.next_frame_number, clock.now_s) == (True, 0, 15.0)
    camera.expose_dark(30.0)
    assert camera.next_frame_number == 1


def test_abort_of_the_second_half_gives_no_frame(clock: HandClock) -> None:
    camera = made(clock)
    clock.when = [(27.0, camera.abort)]
    with pytest.raises(CameraDriverError, match="aborted"):
        camera.expose_dark(30.0)
    assert camera.next_frame_number == 0


def test_abort_of_nothing_is_no_failure(clock: HandClock) -> None:
    camera = made(clock)
    camera.abort()
    camera.expose_dark(1.0)


def test_one_exposure_at_a_time(clock: HandClock) -> None:
    camera = made(clock)
    seen: list[object] = []

    def second() -> None:
        seen.append(camera.is_idle())
        try:
            camera.expose_dark(1.0)
        except CameraBusyError as error:
            seen.append(error.exit_code)

    def at_middle() -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    camera.expose_dark(30.0, at_middle=at_middle)
    assert seen == [False, 75]
    assert camera.is_idle()


def test_an_interrupt_leaves_the_camera_idle(clock: HandClock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    for moment_s in (3.0, 27.0, 30.2):
        camera = made(HandClock())
        camera.clock.when = [(moment_s, interrupt)]  # type: ignore[attr-defined]
        with pytest.raises(KeyboardInterrupt):
            camera.expose_dark(30.0)
        assert (camera.is_idle(), camera.next_frame_number) == (True, 0)
        camera.expose_dark(1.0)


def test_what_the_middle_raises_ends_the_exposure(clock: HandClock) -> None:
    camera = made(clock)

    def fail() -> None:
        raise CameraError("thermometer")

    with pytest.raises(CameraError, match="thermometer"):
        camera.expose_dark(30.0, at_middle=fail)
    assert camera.is_idle()


def test_pixels_are_the_callers_own(clock: HandClock) -> None:
    camera = made(clock)
    first = camera.expose_dark(5.0).pixels
    kept = first.copy()
    first[:] = 0
    camera.duplicate_image = True
    for _ in range(2):
        again = camera.expose_dark(5.0).pixels
        assert np.array_equal(again, kept)
        again[:] = 0


def test_fault_duplicate_image(clock: HandClock) -> None:
    camera = made(clock)
    camera.duplicate_image = True
    first = camera.expose_dark(5.0).pixels
    assert np.array_equal(camera.expose_dark(5.0).pixels, first)
    camera.duplicate_image = False
    assert not np.array_equal(camera.expose_dark(5.0).pixels, first)


def test_fault_constant_image(clock: HandClock) -> None:
    camera = made(clock)
    camera.constant_image = True
    assert np.ptp(camera.expose_dark(5.0).pixels) == 0


def test_fault_light_leak(clock: HandClock) -> None:
    camera = made(clock)
    camera.light_leak_adu_per_s = 100.0
    pixels = camera.expose_dark(10.0).pixels
    assert np.array_equal(pixels, camera.sensor.dark_frame(10.0, 20.0, 0, light_adu_per_s=100.0))


def test_fault_error_state(clock: HandClock) -> None:
    camera = made(clock)
    camera.error_state = True
    with pytest.raises(CameraDriverError, match="error state"):
        camera.expose_dark(5.0)
    camera.error_state = False
    camera.expose_dark(5.0)
    assert camera.next_frame_number == 1


def set_line_down(camera: SimulatedCamera) -> None:
    camera.line_down = True


@pytest.mark.parametrize("moment_s", [3.0, 8.0, 10.2])
@pytest.mark.parametrize("fault", [set_line_down, SimulatedCamera.restart], ids=["line down", "restart"])
def test_line_goes_down_during_an_exposure(
    clock: HandClock, fault: Callable[[SimulatedCamera], None], moment_s: float
) -> None:
    camera = made(clock)
    camera.write_set_point(-10.0)
    clock.when = [(moment_s, lambda: fault(camera))]
    with pytest.raises(CameraTransportError):
        camera.expose_dark(10.0)
    for call in (camera.temperature_c, camera.is_idle, camera.abort, camera.set_point_c, camera.cooler_on):
        with pytest.raises(CameraTransportError):
            call()
    camera.reconnect()
    assert camera.is_idle()
    assert camera.set_point_c() == (-10.0 if fault is set_line_down else 0.0)
    camera.expose_dark(10.0)
    assert camera.next_frame_number == 1


def test_a_restart_that_nobody_noticed_loses_the_exposure(clock: HandClock) -> None:
    camera = made(clock)
    clock.when = [(3.0, camera.restart), (4.0, camera.reconnect)]
    with pytest.raises(CameraDriverError, match="aborted"):
        camera.expose_dark(10.0)


def test_closed_is_closed(clock: HandClock) -> None:
    camera = made(clock)
    camera.close()
    camera.close()
    for call in (camera.temperature_c, camera.reconnect, lambda: camera.expose_dark(1.0)):
        with pytest.raises(CameraNotConnectedError, match="closed"):
            call()
    assert camera.info.name
    assert camera.where
