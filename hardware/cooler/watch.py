"""Why a temperature is not reached: a judge of readings, without a camera or a clock.

A verdict is passed only where nothing else can be meant. Coolers start late, raise their power over a minute, run at
full power for a quarter of an hour while cooling well, approach a set point in steps of their own, overshoot by
degrees and ring; thermometers have steps of half a degree. So a temperature has stalled only after minutes in which it
moved by less than the thermometer can show, and only if at the speed that may have hidden in this it could not arrive
in time either.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import NamedTuple

from hardware.cooler.stability import noise_c, resolution_c
from hardware.errors import CoolingError, ImplausibleReadingError, UnreachableTemperatureError

STALL_S = 240.0  # without progress for so long: something is wrong
RINGING_S = 720.0  # the same for a temperature that has been at its target: this may be a swing
SMOOTHED = 5  # readings of a running median
LEAST_PROGRESS_C = 0.1
POWER_S = 120.0  # so long is looked back for the power, which may start late
FULL_PERCENT, IDLE_PERCENT = 98.0, 2.0
SAME_PERCENT = 1.0  # power that varies less is held at a limit of the camera
LIMIT_PERCENT = 50.0  # below that no camera limits itself
SWING_PERCENT = 5.0  # a regulator at work
CREEPING_C_PER_MIN = 0.5
AWAY_C = 3.0  # in the wrong direction
AWAY_LATELY_S, AWAY_STILL_C = 60.0, 0.5  # and still by so much, of late
HEADROOM_C = 1.0  # below full power, so that there is something to regulate with


class WatchedReading(NamedTuple):
    """Temperature [°C] and power [%] at a time [s] that never goes back, without those when nobody looked."""

    t_s: float
    temperature_c: float
    power_percent: float | None


class Verdict(NamedTuple):
    """What is wrong. kind : the error to raise. switch : the switch of the cooler cannot be trusted.

    reachable_c : the coldest, or warmest, set point that can be had.
    """

    kind: type[CoolingError]
    what: str
    do: str
    switch: bool = False
    reachable_c: float | None = None


class CoolingWatch:
    """Judges one way to a set point, from the moment at which it is waited for.

    target_c : its end [°C]. tolerance_c : within that it has arrived.
    """

    def __init__(self, target_c: float, tolerance_c: float) -> None:
        self.target_c, self.tolerance_c = target_c, tolerance_c
        self._recent: deque[WatchedReading] = deque()  # of the last STALL_S
        self._values: deque[float] = deque(maxlen=300)
        self._start: WatchedReading | None = None
        self._same_since_s = 0.0  # since when the reading is the same to the last digit
        self._same_power: tuple[float, float] | None = None  # lowest and highest power since then
        self._moved_at_s = 0.0
        self._worst_c = math.inf  # largest distance since the last progress
        self._far_c = 0.0  # largest distance of the smoothed temperature from its start
        self._gained_c = 0.0  # by so much it came nearer to the target than it was
        self._near = False  # it was at the target, or beyond
        self._warmest_c = -math.inf

    def add(self, reading: WatchedReading) -> None:
        """Take in a plausible reading, newer than all before."""
        first = self._start is None
        before = self._recent[-1] if self._recent else reading
        if self._start is None:
            self._start = reading
        self._recent.append(reading)
        while self._recent[0].t_s < reading.t_s - STALL_S:
            self._recent.popleft()
        self._values.append(reading.temperature_c)
        self._warmest_c = max(self._warmest_c, reading.temperature_c)
        self._note_sameness(reading, first or reading.temperature_c != before.temperature_c)
        smooth_c = self.smooth_c
        self._far_c = max(self._far_c, abs(smooth_c - self._start.temperature_c))
        side = math.copysign(1.0, self._start.temperature_c - self.target_c)
        self._near = self._near or side * (smooth_c - self.target_c) <= self.tolerance_c
        distance_c = abs(smooth_c - self.target_c)
        self._gained_c = max(self._gained_c, abs(self._start.temperature_c - self.target_c) - distance_c)
        if first or distance_c <= self._worst_c - self.hidden_c:
            self._moved_at_s, self._worst_c = reading.t_s, distance_c
        self._worst_c = max(self._worst_c, distance_c)

    def _note_sameness(self, reading: WatchedReading, changed: bool) -> None:
        if changed:
            self._same_since_s, self._same_power = reading.t_s, None
        if reading.power_percent is not None:
            low, high = self._same_power or (reading.power_percent, reading.power_percent)
            self._same_power = min(low, reading.power_percent), max(high, reading.power_percent)

    @property
    def smooth_c(self) -> float:
        """Running median of the temperature [°C]."""
        return statistics.median(list(self._values)[-SMOOTHED:])

    @property
    def hidden_c(self) -> float:
        """Movement that steps and noise of the thermometer can hide [°C]."""
        values = [r.temperature_c for r in self._recent]
        return max(LEAST_PROGRESS_C, 1.5 * resolution_c(self._values), 3 * noise_c(values) / math.sqrt(SMOOTHED))

    def verdict(self, set_point_c: float, time_left_s: float) -> Verdict | None:
        """What is wrong, if something certainly is.

        set_point_c : the one in force; on a ramp, not yet the target. time_left_s : until the wait is given up.
        """
        if self._start is None or not self._recent:
            return None
        if (away := self._away()) is not None:
            return away
        now = self._recent[-1]
        stalled_s = now.t_s - self._moved_at_s
        distance_c = abs(self.smooth_c - self.target_c) - self.tolerance_c
        off_ramp = abs(set_point_c - self.target_c) > 1e-6
        lag_c = abs(self.smooth_c - set_point_c) - self.tolerance_c - (2 * self.hidden_c if off_ramp else 0.0)
        if stalled_s < (RINGING_S if self._near else STALL_S) or distance_c <= 0 or lag_c <= 0:
            return None
        if distance_c / (self.hidden_c / stalled_s) <= time_left_s:
            return None  # slow, but it may arrive
        return self._too_warm() if self.smooth_c > self.target_c else self._too_cold()

    def _powers(self) -> list[float] | None:
        """Powers of the last minutes; None if the camera did not say them all."""
        asked = [r for r in self._recent if r.t_s >= self._recent[-1].t_s - POWER_S]
        powers = [r.power_percent for r in asked if r.power_percent is not None]
        return powers if len(powers) == len(asked) else None

    def _away(self) -> Verdict | None:
        """Moving in the wrong direction, and still so after minutes, with a power that does not answer. A sensor that
        is cold already warms for a while until a cooler has started; one that came near may have overshot."""
        assert self._start is not None
        start, now = self._start, self._recent[-1]
        if self._near or now.t_s - start.t_s < STALL_S:
            return None
        side = math.copysign(1.0, start.temperature_c - self.target_c)
        lately = [r.temperature_c for r in self._recent if now.t_s - r.t_s >= AWAY_LATELY_S][-SMOOTHED:]
        away_c = side * (self.smooth_c - start.temperature_c)
        if away_c < max(AWAY_C, 2 * self.hidden_c) or side * (self.smooth_c - statistics.median(lately)) < AWAY_STILL_C:
            return None
        powers = self._powers()
        moved = f"{start.temperature_c:.1f} to {self.smooth_c:.1f} °C, away from the set point {self.target_c:.1f} °C"
        if side > 0 and powers is not None and min(powers) >= FULL_PERCENT:
            return Verdict(
                CoolingError,
                f"the temperature rose from {moved}, with the cooler at {powers[-1]:.0f} % power",
                "Check fan, heat sink and supply of the camera",
            )
        idle = side > 0 and powers is not None and max(powers) <= IDLE_PERCENT
        if idle or powers is None:
            return Verdict(
                CoolingError,
                f"the temperature went from {moved}: the switch of the cooler works the wrong way round, or not at all",
                "Switch it in the camera's own program, update its driver, or set camera.cooling.auto_cooling: false",
                switch=side > 0,
            )
        return None

    def _too_warm(self) -> Verdict:
        powers, here = self._powers(), self._here()
        idle = powers is not None and max(powers) <= IDLE_PERCENT
        if idle and self._gained_c >= self._least_move_c():
            idle, powers = False, None  # it did cool, so this is not its power
        if powers is not None and idle:
            return Verdict(
                CoolingError,
                f"the cooler is switched on but does not cool: its power is {powers[-1]:.0f} %, and {here}",
                "Check the supply of the cooler, switch it in the camera's own program, or update its driver",
                switch=True,
            )
        if self._frozen(powers):
            return self._frozen_verdict()
        limited = powers is not None and min(powers) >= LIMIT_PERCENT and max(powers) - min(powers) <= SAME_PERCENT
        if powers is None or min(powers) >= FULL_PERCENT or limited:
            return self._unreachable(powers, here)
        return self._elsewhere(powers)

    def last_word(self, slope_c_per_min: float | None, timeout_s: float) -> Verdict | None:
        """When the time is over: whether full power is not enough, as it would need as long again at least. The nearer
        a cooler is to its limit, the slower it gets."""
        powers = self._powers()
        distance_c = self.smooth_c - self.target_c - self.tolerance_c if self._values else 0.0
        if powers is None or slope_c_per_min is None or min(powers) < FULL_PERCENT or distance_c <= 0:
            return None
        if abs(slope_c_per_min) > CREEPING_C_PER_MIN or distance_c < -slope_c_per_min * timeout_s / 60:
            return None
        return self._unreachable(powers, f"the sensor is at {self.smooth_c:.1f} °C, with {slope_c_per_min:+.2f} °C/min")

    def _unreachable(self, powers: list[float] | None, here: str) -> Verdict:
        best_c = math.ceil(self.smooth_c + HEADROOM_C)
        power = "" if powers is None else f" at {powers[-1]:.0f} % power"
        effect = "" if self._moved() else "; nothing was cooled at all: check the supply of the cooler"
        return Verdict(
            UnreachableTemperatureError,
            f"the cooler cannot reach {self.target_c:.1f} °C: {here}{power}{effect}",
            f"The coldest set point that it can hold is about {best_c:.0f} °C",
            reachable_c=float(best_c),
        )

    def _too_cold(self) -> Verdict:
        powers, here = self._powers(), self._here()
        works = powers is not None and min(powers) > IDLE_PERCENT
        if self._warmest_c < self.target_c - self.tolerance_c and not works:
            best_c = math.floor(self.smooth_c - HEADROOM_C)
            return Verdict(
                UnreachableTemperatureError,
                f"a cooler cannot warm to {self.target_c:.1f} °C: {here} without cooling",
                f"The warmest set point that can be held here is about {best_c:.0f} °C",
                reachable_c=float(best_c),
            )
        if self._frozen(powers):
            return self._frozen_verdict()
        return self._elsewhere(powers)

    def _here(self) -> str:
        minutes = (self._recent[-1].t_s - self._moved_at_s) / 60
        return f"the sensor is at {self.smooth_c:.1f} °C for {minutes:.0f} min"

    def _least_move_c(self) -> float:
        return max(1.0, 2 * resolution_c(self._values))

    def _moved(self) -> bool:
        return self._far_c >= self._least_move_c()

    def _frozen(self, powers: list[float] | None) -> bool:
        """The same to the last digit, although it must have moved: never since the start, or while the regulator
        worked. A camera at its limit with a coarse thermometer gives the same reading too, but came from elsewhere."""
        if self._recent[-1].t_s - self._same_since_s < STALL_S:
            return False
        worked = self._same_power is not None and self._same_power[1] - self._same_power[0] >= SWING_PERCENT
        full = powers is not None and min(powers) >= FULL_PERCENT
        return not self._moved() or (worked and not full)

    def _frozen_verdict(self) -> Verdict:
        minutes = (self._recent[-1].t_s - self._same_since_s) / 60
        return Verdict(
            ImplausibleReadingError,
            f"the thermometer reads {self._recent[-1].temperature_c:.2f} °C, to the last digit, for {minutes:.0f} min, "
            f"while the cooler is on its way to {self.target_c:.1f} °C",
            "Either the reading is frozen (restart the camera and its driver), or the cooler has no supply, "
            "or another program holds it",
        )

    def _elsewhere(self, powers: list[float] | None) -> Verdict:
        power = "" if powers is None else f" with {powers[-1]:.0f} % power"
        return Verdict(
            CoolingError,
            f"the camera does not follow its set point {self.target_c:.1f} °C: {self._here()}{power}",
            "Look whether another program holds the set point, or whether the camera limits its cooler; then run again",
        )
