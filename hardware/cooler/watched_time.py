"""Time that counts for a cooler: that in which somebody looked at it."""

from __future__ import annotations

LONGEST_LOOK_S = 10.0  # what is longer between two looks is not the cooler's: a computer that slept, a line that hung


class WatchedTime:
    """Seconds from a look on, of which no gap between two looks counts more than `LONGEST_LOOK_S`.

    clock_s : monotonic time of the first look. missed_s : what did not count so far.
    """

    def __init__(self, clock_s: float) -> None:
        self._seen_s = clock_s
        self.missed_s = 0.0

    @property
    def now_s(self) -> float:
        """Monotonic time of the last look, less what did not count."""
        return self._seen_s - self.missed_s

    def look(self, clock_s: float) -> float:
        """Take in a look, later than all before; returns the seconds before it that do not count."""
        late_s = max(clock_s - self._seen_s - LONGEST_LOOK_S, 0.0)
        self._seen_s = clock_s
        self.missed_s += late_s
        return late_s
