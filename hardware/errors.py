"""What can go wrong with a camera: one family, so that a caller needs to know one name.

Whatever a client library, a socket or a driver raises is translated into one of these; each says what happened, at
which address, and what to do.
"""

from __future__ import annotations

from darkpipe.errors import BusyError, PipelineError


class CameraError(PipelineError):
    """Something about a camera, its cooler or the frames it gives."""


class CameraTransportError(CameraError):
    """No answer, or not a whole one: connection refused, dropped, timed out. A reconnect may help."""


class CameraTimeoutError(CameraTransportError):
    """The server answers, but what was asked for did not happen before its deadline."""


class CameraNotConnectedError(CameraError):
    """The server runs, but its camera is not connected, or is gone."""


class CameraNotImplementedError(CameraError):
    """The camera does not have this property or method."""


class CameraValueError(CameraError):
    """The camera refuses a value, or reads back another one than was set."""


class CameraDriverError(CameraError):
    """The driver reports a failure of its own."""


class CameraProtocolError(CameraError):
    """The answer is not what the protocol says: wrong dimensions, truncated image, no JSON."""


class CameraBusyError(CameraError, BusyError):
    """Somebody else uses this camera."""

    exit_code = 75


class CoolingError(CameraError):
    """The cooler does not do what it was told, or its thermometer cannot be believed."""


class CoolingTimeoutError(CoolingError):
    """The temperature was not stable at the set point in time."""


class UnreachableTemperatureError(CoolingError):
    """Full power is not enough for this set point."""


class ImplausibleReadingError(CoolingError):
    """The thermometer says what no sensor can have."""


class CaptureError(CameraError):
    """Frames of the plan could not be taken as they must be."""


class DiskSpaceError(CaptureError):
    """The disk cannot hold what is to be written."""
