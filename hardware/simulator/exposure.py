"""One exposure of the simulated camera, from its start to its image."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from hardware.simulator.faults import Fault
from hardware.simulator.imagebytes import to_wire_order
from hardware.simulator.protocol import DOWNLOAD, ERROR, EXPOSING, IDLE, READING
from hardware.simulator.sensor import Sensor

LOG = logging.getLogger("darkpipe.capture")
LIT_ADU = 3000.0  # brightest corner of a frame that was taken with the shutter open, whatever its exposure


@dataclass(frozen=True)
class Settings:
    """How the camera is set; an exposure keeps the settings of its start. x, y: of the sub-frame, binned pixels."""

    binning: int
    start_x: int
    start_y: int
    num_x: int
    num_y: int
    gain: int
    offset: int


@dataclass
class Shot:
    """An exposure on its way.

    number : of the frame, decides its noise. duration_s : as it will be. started_s : of the camera's clock.
    previous : image before this one; stale_until_s : it is shown for so long (real time). faults : those that act.
    image : (width, height), when it is there.
    """

    number: int
    duration_s: float
    light: bool
    settings: Settings
    started_s: float
    started_utc: datetime
    readout_s: float
    faults: Mapping[str, Fault]
    previous: NDArray[np.uint16] | None = None
    image: NDArray[np.uint16] | None = None
    stale_until_s: float = -math.inf
    failure: str = ""
    readings: list[tuple[float, float]] = field(default_factory=list)
    reading_out: Future[None] | None = None

    @property
    def ended_s(self) -> float:
        """When the shutter closes."""
        return self.started_s + self.duration_s

    def look(self, now_s: float, temperature_c: float, sensor: Sensor, pool: Executor) -> None:
        """The time is now: note how warm the sensor is, and read it out once the exposure has ended."""
        if self.reading_out is None:
            self.readings.append((min(now_s, self.ended_s), temperature_c))
            if now_s >= self.ended_s:
                # beside the server's own thread: a large frame takes seconds, and state must be told meanwhile
                self.reading_out = pool.submit(self._make, sensor)

    def state(self, now_s: float) -> int:
        """Camera state in the protocol's numbers."""
        if now_s < self.ended_s:
            return EXPOSING
        if self.failure or "camera_error" in self.faults:
            return ERROR
        if "never_ready" in self.faults:
            return DOWNLOAD
        return IDLE if self.image is not None and now_s >= self.ended_s + self.readout_s else READING

    def percent(self, now_s: float) -> int:
        """Part of the exposure that is over."""
        if self.duration_s <= 0:
            return 100
        return int(100 * min(max((now_s - self.started_s) / self.duration_s, 0.0), 1.0))

    def mean_temperature_c(self) -> float:
        """Mean over the exposure, from the readings in between."""
        times, readings = np.array(self.readings).T
        span = times[-1] - times[0]
        if span <= 0:
            return float(readings[-1])
        return float(np.sum(np.diff(times) * (readings[1:] + readings[:-1]) / 2) / span)

    def _make(self, sensor: Sensor) -> None:
        try:
            self.image = to_wire_order(self._cut(self._pixels(sensor)))
        except Exception as error:  # whatever it is: the camera says so, instead of never being ready
            LOG.exception("the simulated read-out failed")
            self.failure = f"{type(error).__name__}: {error}"

    def _pixels(self, sensor: Sensor) -> NDArray[np.uint16]:
        setting = self.settings
        constant = self.faults.get("constant_image")
        if constant is not None or "saturated_image" in self.faults:
            level = sensor.spec.max_adu if constant is None else constant.number(1000.0)
            return np.full(sensor.shape(setting.binning), level, np.uint16)
        leak = self.faults.get("light_leak")
        light = 0.0 if leak is None else leak.number(20.0)
        light += LIT_ADU / max(self.duration_s, 1e-9) if self.light else 0.0
        return sensor.dark_frame(
            self.duration_s,
            self.mean_temperature_c(),
            self.number,
            binning=setting.binning,
            gain=setting.gain,
            offset=setting.offset,
            light_adu_per_s=light,
        )

    def _cut(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        setting = self.settings
        if "duplicate_image" in self.faults and self.previous is not None:
            return self.previous.T
        rows = slice(setting.start_y, setting.start_y + setting.num_y)
        return pixels[rows, setting.start_x : setting.start_x + setting.num_x]
