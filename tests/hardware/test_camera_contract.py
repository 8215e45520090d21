"""What every camera must do, whatever stands behind it: in process, our server, and a server that is not ours."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator
from datetime import UTC, timedelta

import numpy as np
import other_simulator
import pytest

from hardware.alpaca.driver import AlpacaCamera
from hardware.camera import Camera
from hardware.clock import ScaledClock
from hardware.errors import CameraDriverError, CameraError, CameraNotConnectedError, CameraValueError
from hardware.settings import CameraSettings
from hardware.simulator.camera import SimulatedCamera
from hardware.simulator.cooler import Cooler
from hardware.simulator.sensor import Sensor, SensorSpec
from hardware.simulator.server import SimulatorServer

COLS, ROWS = other_simulator.COLS, other_simulator.ROWS
SPEC = SensorSpec(rows=ROWS, cols=COLS, readout_s=0.02)
SCALE = 20.0
EXPOSURE_S = 0.2


@contextlib.contextmanager
def in_process() -> Iterator[Camera]:
    clock = ScaledClock(SCALE)
    yield SimulatedCamera(Sensor(SPEC), Cooler(clock), clock)


@contextlib.contextmanager
def our_server() -> Iterator[Camera]:
    with SimulatorServer(SPEC, time_scale=SCALE) as server:
        yield AlpacaCamera.connect(CameraSettings(address=server.address))


@contextlib.contextmanager
def other_server() -> Iterator[Camera]:
    with other_simulator.running() as address:
        yield AlpacaCamera.connect(CameraSettings(address=address))


MAKERS = {"in process": in_process, "our server": our_server, "other server": other_server}


@pytest.fixture(params=MAKERS, scope="module")
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    with MAKERS[request.param]() as camera:
        yield camera
        camera.close()


def let_it_end(camera: Camera) -> None:
    """The other server says that an aborted exposure has stopped, and shows its image when it would have ended."""
    if camera.info.name == "Simulator Camera":
        time.sleep(EXPOSURE_S)


class TestEveryCamera:
    def test_it_says_what_it_is(self, camera: Camera) -> None:
        info = camera.info
        assert info.name
        assert camera.where
        assert (info.sensor_cols, info.sensor_rows) == (COLS, ROWS)
        assert info.shape == (ROWS, COLS)
        assert 0 < info.max_adu <= 65535
        assert 0 <= info.exposure_min_s < EXPOSURE_S < info.exposure_max_s
        assert info.has_cooler
        assert info.can_set_temperature
        assert info.gain is not None
        assert info.pixel_size_um is not None
        assert info.configuration["shape"] == [ROWS, COLS]

    def test_a_frame_is_rows_by_cols_of_the_callers_own(self, camera: Camera) -> None:
        pixels = camera.expose_dark(EXPOSURE_S).pixels
        assert pixels.shape == (ROWS, COLS)
        assert pixels.dtype == np.uint16
        assert pixels.dtype.isnative
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
        assert pixels.std() > 0

    def test_a_frame_says_when_it_was_taken(self, camera: Camera) -> None:
        first, second = camera.expose_dark(EXPOSURE_S), camera.expose_dark(2 * EXPOSURE_S)
        for exposure, asked_s in ((first, EXPOSURE_S), (second, 2 * EXPOSURE_S)):
            assert exposure.exposure_s == pytest.approx(asked_s, rel=0.02)
            assert exposure.started.tzinfo is UTC
            assert exposure.monotonic_s >= 0.98 * asked_s
            elapsed = exposure.ended - exposure.started
            assert abs(elapsed - timedelta(seconds=exposure.monotonic_s)) < timedelta(seconds=0.5)
        assert second.started >= first.ended

    def test_the_shortest_exposures_follow_each_other_and_differ(self, camera: Camera) -> None:
        frames = [camera.expose_dark(max(camera.info.exposure_min_s, 0.001)).pixels for _ in range(4)]
        for one, other in itertools.pairwise(frames):
            assert np.count_nonzero(one != other) > one.size / 10

    def test_the_middle_is_told_once(self, camera: Camera) -> None:
        readings: list[float | None] = []
        camera.expose_dark(EXPOSURE_S, at_middle=lambda: readings.append(camera.temperature_c()))
        assert len(readings) == 1
        assert readings[0] is not None
        assert -150 < readings[0] < 100

    def test_what_the_middle_raises_ends_the_exposure(self, camera: Camera) -> None:
        def stop() -> None:
            raise InterruptedError("enough")

        with pytest.raises(InterruptedError, match="enough"):
            camera.expose_dark(EXPOSURE_S, at_middle=stop)
        assert camera.is_idle()
        let_it_end(camera)
        assert camera.expose_dark(EXPOSURE_S).pixels.shape == (ROWS, COLS)

    def test_an_aborted_exposure_gives_no_frame(self, camera: Camera) -> None:
        camera.abort()  # nothing runs: no harm
        with pytest.raises(CameraDriverError, match="aborted"):
            camera.expose_dark(EXPOSURE_S, at_middle=camera.abort)
        assert camera.is_idle()
        let_it_end(camera)
        assert camera.expose_dark(EXPOSURE_S).pixels.shape == (ROWS, COLS)

    @pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, -math.inf, 1e9])
    def test_an_impossible_exposure_is_refused(self, camera: Camera, seconds: float) -> None:
        with pytest.raises(CameraValueError):
            camera.expose_dark(seconds)
        assert camera.is_idle()

    def test_the_cooler_reads_back(self, camera: Camera) -> None:
        for on in (True, False, True):
            camera.write_cooler_on(on)
            assert camera.cooler_on() is on
        power = camera.cooler_power_percent()
        assert power is not None
        assert 0 <= power <= 100
        camera.write_cooler_on(False)

    def test_the_set_point_reads_back_and_zero_is_one(self, camera: Camera) -> None:
        for celsius in (-12.5, 0.0, 5.0, 0.0):
            camera.write_set_point(celsius)
            assert camera.set_point_c() == celsius

    @pytest.mark.parametrize("celsius", [-300.0, 101.0, math.nan, math.inf])
    def test_an_impossible_set_point_is_refused(self, camera: Camera, celsius: float) -> None:
        camera.write_set_point(-5.0)
        with pytest.raises(CameraError):
            camera.write_set_point(celsius)
        assert camera.set_point_c() == -5.0

    def test_it_connects_again_as_it_was(self, camera: Camera) -> None:
        before = camera.info
        camera.reconnect()
        assert camera.info == before
        assert camera.expose_dark(EXPOSURE_S).pixels.shape == (ROWS, COLS)

    # the last one: the camera is gone afterwards
    def test_it_is_closed_once_and_for_all(self, camera: Camera) -> None:
        camera.close()
        camera.close()
        with pytest.raises(CameraNotConnectedError):
            camera.expose_dark(EXPOSURE_S)
        with pytest.raises(CameraNotConnectedError):
            camera.temperature_c()
