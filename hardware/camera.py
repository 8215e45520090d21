"""What darkpipe asks of a camera. A new kind of camera is one file, one line in `connect`, and one parameter of the
camera contract test.

There is no way to ask for a light frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CameraInfo:
    """What a camera is, and how it is set. None: the camera does not say.

    name : as its driver calls it. camera_id : unique, of the device; '' if it has none. driver : program and version.
    sensor_cols, sensor_rows : of the whole sensor, unbinned [pixels]. pixel_size_um : width and height, unbinned.
    color : whether there is a colour filter array; sensor_name : e.g. 'IMX571'.
    max_adu : highest count that can come.
    exposure_min_s, exposure_max_s, exposure_resolution_s : limits; resolution 0: any.
    has_cooler : can be switched; can_set_temperature : has a set point.
    gain, offset : settings; readout_mode : its name; electrons_per_adu : EGAIN as the driver says.
    """

    name: str
    camera_id: str = ""
    driver: str = ""
    sensor_name: str = ""
    sensor_cols: int = 0
    sensor_rows: int = 0
    pixel_size_um: tuple[float, float] | None = None
    color: bool = False
    max_adu: int = 65535
    exposure_min_s: float = 0.0
    exposure_max_s: float = float("inf")
    exposure_resolution_s: float = 0.0
    has_cooler: bool = False
    can_set_temperature: bool = False
    gain: int | None = None
    offset: int | None = None
    readout_mode: str = ""
    binning: tuple[int, int] = (1, 1)
    electrons_per_adu: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of the frames it gives: the whole sensor, binned."""
        return self.sensor_rows // self.binning[1], self.sensor_cols // self.binning[0]

    @property
    def configuration(self) -> dict[str, Any]:
        """What makes frames of this camera comparable; plain data, the key of a session."""
        return {
            "camera": self.name,
            "camera_id": self.camera_id,
            "gain": self.gain,
            "offset": self.offset,
            "readout_mode": self.readout_mode,
            "binning": list(self.binning),
            "shape": list(self.shape),
        }


@dataclass(frozen=True)
class Exposure:
    """One dark exposure.

    pixels : (rows, cols) uint16, C order, the caller's own. exposure_s : actual, as the camera says, else as asked.
    started, ended : aware, UTC. monotonic_s : seconds from start to end by the clock that cannot be set.
    """

    pixels: NDArray[np.uint16]
    exposure_s: float
    started: datetime
    ended: datetime
    monotonic_s: float


class Camera(Protocol):
    """A camera that is connected, set to full frame, to its gain, offset, binning and read-out mode, and verified.

    Every method ends before a deadline and raises a `CameraError` for whatever goes wrong. Readings are None where the
    camera does not have them; a value that is there is passed on as it is, plausible or not (`cooling` judges).
    """

    @property
    def info(self) -> CameraInfo: ...

    @property
    def where(self) -> str:
        """Address for messages, 'http://127.0.0.1:11111 camera 0'."""
        ...

    def temperature_c(self) -> float | None:
        """Sensor temperature [°C]."""
        ...

    def heat_sink_c(self) -> float | None:
        """Temperature of the heat sink [°C]."""
        ...

    def cooler_power_percent(self) -> float | None:
        """Power of the cooler, 0 to 100."""
        ...

    def set_point_c(self) -> float | None:
        """The set point as it reads back [°C]."""
        ...

    def cooler_on(self) -> bool | None:
        """Whether the cooler is on, as it reads back."""
        ...

    def write_set_point(self, celsius: float) -> None:
        """Write the set point. Raises `CameraValueError` if it is refused; reading back is the caller's."""
        ...

    def write_cooler_on(self, on: bool) -> None:
        """Switch the cooler. Reading back is the caller's."""
        ...

    def expose_dark(self, seconds: float, *, at_middle: Callable[[], None] | None = None) -> Exposure:
        """One dark exposure of the whole sensor, downloaded.

        at_middle : called once in the middle of the exposure (temperatures are read there).

        Raises
        ------
        CameraTransportError, CameraTimeoutError, CameraDriverError, CameraProtocolError, CameraValueError
            after the exposure was aborted as far as the camera still listens. Never returns a frame of which it is
            not known that it belongs to this exposure, whole.
        """
        ...

    def abort(self) -> None:
        """Stop an exposure that runs, if one does."""
        ...

    def is_idle(self) -> bool:
        """Whether no exposure runs, of ours or of anybody else."""
        ...

    def reconnect(self) -> None:
        """Connect again after a failure of the line; settings are written and verified again. What the cooler does
        afterwards is unknown: the caller asserts that."""
        ...

    def close(self) -> None:
        """Let the camera go; the cooler is left as it is. May be called twice."""
        ...
