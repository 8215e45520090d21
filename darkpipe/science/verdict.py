"""Whether a model still describes its camera: measured changes against limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["current", "drifted", "stale"]
ORDER: tuple[Verdict, ...] = ("current", "drifted", "stale")


@dataclass(frozen=True)
class Limits:
    """From which change on a model has drifted, and is stale."""

    drifted: float
    stale: float


@dataclass(frozen=True)
class Criterion:
    """A measured change: its distance from what the model says, 1 sigma, and the limits of the distance."""

    name: str
    value: float
    error: float
    expected: float
    limits: Limits
    unit: str = ""

    def verdict(self, significance: float) -> Verdict:
        """Beyond a limit, and by more than chance: the change itself exceeds `significance` of its errors."""
        change = abs(self.value - self.expected)
        if not change > significance * self.error:
            return "current"
        return "stale" if change > self.limits.stale else "drifted" if change > self.limits.drifted else "current"

    def blind(self, significance: float) -> bool:
        """Whether a change as large as the limit could hide in the error, or nothing was measured."""
        return not (math.isfinite(self.value) and significance * self.error <= self.limits.drifted)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The gravest of them."""
    return max(verdicts, key=ORDER.index, default="current")
