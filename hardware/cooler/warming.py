"""The way back to the temperature of the surroundings, slowly: a cold sensor that is let go warms by degrees a second,
and catches dew."""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from hardware.camera import Camera
from hardware.clock import Clock
from hardware.cooler.stability import resolution_c
from hardware.cooler.thermometer import NO_VALUE, CoolingStatus
from hardware.cooler.watched_time import WatchedTime
from hardware.errors import CameraNotConnectedError, CameraTransportError

log = logging.getLogger("darkpipe.capture")

POLL_S = 2.0
STEP_C = 0.5
IDLE_PERCENT = 5.0
HIGHEST_SET_POINT_C = 35.0
LEAD_C = 3.0  # the set point is at most so far ahead: a sensor that follows is still cooled
PLATEAU_S = 120.0
PLATEAU_C = 0.3  # movement within PLATEAU_S that counts as none
SPARE_S = 600.0
LONGEST_S = 3600.0  # beyond that, for a camera that warms slowly by itself
ASSUMED_START_C = -20.0  # of a camera whose thermometer fails
ASSUMED_END_C = 20.0
RECONNECTS = 3
RECONNECT_PAUSE_S = 10.0


def warm_up(
    camera: Camera, read: Callable[[], CoolingStatus], clock: Clock, c_per_min: float, *, believed: bool = True
) -> None:
    """Raise the set point until the reading no longer follows it; the cooler is then off by the caller's hand.

    read : reads the status, without a gate on the temperature. c_per_min : speed [°C/min].
    believed : False: the thermometer was found to be wrong, the set point is raised by time alone.

    Ends without an error where the camera refuses a warmer set point, or gives no temperature (then by time alone).

    Raises
    ------
    CameraTransportError, CameraNotConnectedError
        if the camera is gone, and stays so.
    """
    if not camera.info.can_set_temperature:
        log.info("this camera has no set point: its cooler is switched off at once")
        return
    way, time = _Way(c_per_min), WatchedTime(clock.monotonic_s())
    failures = 0
    while True:
        try:
            status = read() if believed else replace(read(), temperature_c=None)
            if status.cooler_on is False:
                return
            time.look(clock.monotonic_s())  # after a gap the set point goes on where it was
            set_point_c = way.next(time.now_s, status)
            if set_point_c is None:
                return
            if set_point_c != way.written_c:
                camera.write_set_point(set_point_c)
                way.written_c = set_point_c
        except (CameraTransportError, CameraNotConnectedError):
            failures += 1
            if failures > RECONNECTS:
                raise
            log.warning("the camera does not answer during the warm-up; connecting again")
            clock.sleep(RECONNECT_PAUSE_S)
            _reconnect(camera)
        except NO_VALUE as error:
            log.info("the camera takes no warmer set point (%s): the cooler is switched off", error.what)
            return
        clock.sleep(POLL_S)


def _reconnect(camera: Camera) -> None:
    try:
        camera.reconnect()
    except (CameraTransportError, CameraNotConnectedError) as error:
        log.warning("no connection: %s", error)


class _Way:
    """Which set point is due, and when the sensor has arrived."""

    def __init__(self, c_per_min: float) -> None:
        self.written_c: float | None = None
        self._c_per_s = c_per_min / 60
        self._set_point_c = math.nan
        self._begun_s = self._seen_s = 0.0
        self._longest_s = math.inf
        self._recent: deque[tuple[float, float]] = deque()

    def next(self, now_s: float, status: CoolingStatus) -> float | None:
        """The set point to be written [°C]; None: it is warm."""
        if math.isnan(self._set_point_c):
            self._begin(now_s, status)
        seconds, self._seen_s = now_s - self._seen_s, now_s
        highest_c = HIGHEST_SET_POINT_C
        if status.temperature_c is None:
            highest_c = ASSUMED_END_C  # nobody sees when it is warm
            self._recent.clear()
            if self._set_point_c >= highest_c:
                return None
        else:
            self._note(now_s, status.temperature_c)
            if not _cools(status):
                highest_c = min(highest_c, max(status.temperature_c + LEAD_C, self._set_point_c))
        if self._plateau(status) or self._too_long(now_s):
            return None
        self._set_point_c = min(self._set_point_c + self._c_per_s * seconds, highest_c)
        due_c = round(self._set_point_c, 1)
        if self.written_c is not None and abs(due_c - self.written_c) < STEP_C and due_c < HIGHEST_SET_POINT_C:
            return self.written_c
        return due_c

    def _begin(self, now_s: float, status: CoolingStatus) -> None:
        known = [t for t in (status.temperature_c, status.set_point_c) if t is not None and t <= HIGHEST_SET_POINT_C]
        self._set_point_c = known[0] if known else ASSUMED_START_C
        self._begun_s = self._seen_s = now_s
        self._longest_s = max(HIGHEST_SET_POINT_C - self._set_point_c, 0.0) / self._c_per_s + SPARE_S

    def _note(self, now_s: float, temperature_c: float) -> None:
        self._recent.append((now_s, temperature_c))
        while len(self._recent) > 2 and self._recent[1][0] <= now_s - PLATEAU_S:
            self._recent.popleft()

    def _plateau(self, status: CoolingStatus) -> bool:
        """The set point is well above, and the reading does not follow any more."""
        if status.temperature_c is None or _cools(status):
            return False
        ahead_c = self._set_point_c - status.temperature_c
        return ahead_c >= max(LEAD_C - 1.0, 2 * self._step_c()) and self._rests()

    def _too_long(self, now_s: float) -> bool:
        late_s = now_s - self._begun_s - self._longest_s
        return late_s > LONGEST_S or (late_s > 0 and (not self._recent or self._rests()))

    def _rests(self) -> bool:
        if self._recent[-1][0] - self._recent[0][0] < PLATEAU_S:
            return False
        values = [t for _, t in self._recent]
        third = max(len(values) // 3, 1)
        moved_c = statistics.median(values[-third:]) - statistics.median(values[:third])
        return moved_c < max(PLATEAU_C, 1.01 * self._step_c())

    def _step_c(self) -> float:
        return resolution_c(t for _, t in self._recent)


def _cools(status: CoolingStatus) -> bool:
    return status.power_percent is not None and status.power_percent > IDLE_PERCENT
