"""When a temperature counts as stable: pure functions of samples (seconds, °C), no camera and no clock.

Stable: every sample of the last `dwell_s` lies within the tolerance, and the drift over them is below the limit, or at
least not proven to be above it: a thermometer with steps of 0.5 °C shows either no drift or a steep one, so the slope
comes with an error, and twice this error is forgiven.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SLOPE_BASELINE_S = 15.0  # a drift is measured over at least so long, also where no dwell is asked for
LONGEST_GAP_S = (
    900.0  # half of a long exposure; samples on both sides of a longer one have nothing to do with each other
)
COARSEST_STEP_C = 1.0  # larger differences between readings are no steps of a thermometer
ROUNDING_C = 1e-6
FORGIVEN_ERRORS = 2.0
# a reading rounded to a step is off by step / sqrt(12); a slope has two such ends
SLOPE_ERROR_OF_A_STEP = math.sqrt(2 / 12)


class Sample(NamedTuple):
    """A temperature [°C] at a monotonic time [s]."""

    t_s: float
    temperature_c: float


class Slope(NamedTuple):
    """A drift and its 1-sigma error [°C/min]."""

    c_per_min: float
    error_c_per_min: float


def resolution_c(temperatures_c: Iterable[float]) -> float:
    """The step of the thermometer [°C]: the smallest difference between readings; 0 where none is seen."""
    values = sorted(set(temperatures_c))
    steps = [b - a for a, b in itertools.pairwise(values) if b - a > ROUNDING_C]
    smallest = min(steps, default=0.0)
    return smallest if smallest <= COARSEST_STEP_C else 0.0


def noise_c(temperatures_c: Sequence[float]) -> float:
    """Scatter of single readings [°C], from each one and its two neighbours: drifts and swings are no noise."""
    bends = [a - 2 * b + c for a, b, c in zip(temperatures_c, temperatures_c[1:], temperatures_c[2:], strict=False)]
    return math.sqrt(math.fsum(bend * bend for bend in bends) / (6 * len(bends))) if bends else 0.0


def slope_of(samples: Sequence[Sample], step_c: float = 0.0) -> Slope | None:
    """Straight line through the samples by least squares; None if they span no time.

    step_c : step of the thermometer, part of the error.
    """
    if len(samples) < 2:
        return None
    span_s = samples[-1].t_s - samples[0].t_s
    if span_s <= 0:
        return None
    count = len(samples)
    mean_s = math.fsum(s.t_s - samples[0].t_s for s in samples) / count
    mean_c = math.fsum(s.temperature_c for s in samples) / count
    apart = [s.t_s - samples[0].t_s - mean_s for s in samples]
    spread = math.fsum(t * t for t in apart)
    slope = math.fsum(t * (s.temperature_c - mean_c) for t, s in zip(apart, samples, strict=True)) / spread
    noise = noise_c([s.temperature_c for s in samples]) / math.sqrt(spread)
    rounding = SLOPE_ERROR_OF_A_STEP * step_c / span_s
    return Slope(60 * slope, 60 * math.hypot(noise, rounding))


def last_stretch(samples: Sequence[Sample], seconds: float) -> list[Sample]:
    """The newest samples that together span at least `seconds`, as few as possible; [] if all of them do not."""
    if not samples:
        return []
    start_s = samples[-1].t_s - seconds
    for first in range(len(samples) - 1, -1, -1):
        if samples[first].t_s <= start_s + ROUNDING_C:
            return list(samples[first:])
    return []


def is_stable(
    samples: Sequence[Sample],
    target_c: float,
    *,
    tolerance_c: float,
    dwell_s: float,
    max_slope_c_per_min: float,
    step_c: float = 0.0,
) -> bool:
    """Whether the temperature has held at the target, as the head of this module says.

    samples : in order of time. step_c : step of the thermometer.
    """
    held = last_stretch(samples, dwell_s)
    if not held or any(abs(s.temperature_c - target_c) > tolerance_c + ROUNDING_C for s in held):
        return False
    slope = slope_of(last_stretch(samples, max(dwell_s, SLOPE_BASELINE_S)), step_c)
    if slope is None:
        return False
    return abs(slope.c_per_min) <= max_slope_c_per_min + FORGIVEN_ERRORS * slope.error_c_per_min + ROUNDING_C


class TemperatureWindow:
    """The samples of the last minutes, and what they say.

    dwell_s, tolerance_c, max_slope_c_per_min : as `is_stable`.
    """

    def __init__(self, dwell_s: float, tolerance_c: float, max_slope_c_per_min: float) -> None:
        self.dwell_s, self.tolerance_c, self.max_slope_c_per_min = dwell_s, tolerance_c, max_slope_c_per_min
        self._baseline_s = max(dwell_s, SLOPE_BASELINE_S)
        self._samples: deque[Sample] = deque()
        self._readings: deque[float] = deque(maxlen=300)  # for the step of the thermometer, which outlives a target

    def add(self, t_s: float, temperature_c: float) -> None:
        """Take in a reading, newer than all before."""
        longest_s = max(LONGEST_GAP_S, 3 * self.dwell_s)
        if self._samples and t_s - self._samples[-1].t_s > longest_s:
            self._samples.clear()
        self._samples.append(Sample(t_s, temperature_c))
        self._readings.append(temperature_c)
        # one sample from before the window stays: it shows what the window began with
        while len(self._samples) > 1 and self._samples[1].t_s <= t_s - self._baseline_s:
            self._samples.popleft()

    def clear(self) -> None:
        """Begin anew: another target, or a camera of which nothing is known any more."""
        self._samples.clear()

    @property
    def step_c(self) -> float:
        """Step of the thermometer [°C]."""
        return resolution_c(self._readings)

    def slope(self) -> Slope | None:
        """Drift over the window, or over what there is of it."""
        return slope_of(list(self._samples), self.step_c)

    def is_stable(self, target_c: float) -> bool:
        """Whether the temperature has held at this target."""
        return is_stable(
            list(self._samples),
            target_c,
            tolerance_c=self.tolerance_c,
            dwell_s=self.dwell_s,
            max_slope_c_per_min=self.max_slope_c_per_min,
            step_c=self.step_c,
        )
