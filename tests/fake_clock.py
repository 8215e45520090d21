"""A clock for tests: sleeping takes no time, and moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Implements `hardware.clock.Clock`.

    start_utc : time of day at monotonic 0. on_sleep : called after each sleep with the monotonic time; may raise.
    naps : the sleeps so far [s]. jump_s : somebody set the time of day by so much. overslept : by the number of a
    sleep, how much longer it takes than it was to [s].
    """

    def __init__(
        self,
        start_utc: datetime = datetime(2025, 7, 29, 22, 0, tzinfo=UTC),
        on_sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.start_utc, self.on_sleep = start_utc, on_sleep
        self.now_s, self.jump_s = 0.0, 0.0
        self.naps: list[float] = []
        self.overslept: dict[int, float] = {}

    def monotonic_s(self) -> float:
        return self.now_s

    def utc(self) -> datetime:
        return self.start_utc + timedelta(seconds=self.now_s + self.jump_s)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0, "nobody sleeps backwards"
        self.naps.append(seconds)
        self.now_s += seconds + self.overslept.pop(len(self.naps), 0.0)
        if self.on_sleep is not None:
            self.on_sleep(self.now_s)
