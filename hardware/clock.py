"""Time, as everything around a camera sees it: injected, so that tests take no real seconds."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Durations come from `monotonic_s`, time stamps from `utc`; the two are never mixed."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def utc(self) -> datetime:
        """The time of day, aware, in UTC; somebody may set it at any moment."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait; signals end it with their exception."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def utc(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0))


class ScaledClock:
    """A clock that runs `scale` times as fast, together with a simulator that does the same.

    Raises
    ------
    ValueError
        for a scale that is not a positive number.
    """

    def __init__(self, scale: float) -> None:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"a clock cannot run {scale} times as fast")
        self.scale = scale
        self._start_s = time.monotonic()
        self._start_utc = datetime.now(UTC)

    def monotonic_s(self) -> float:
        return (time.monotonic() - self._start_s) * self.scale

    def utc(self) -> datetime:
        return self._start_utc + timedelta(seconds=self.monotonic_s())

    def sleep(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0) / self.scale)
