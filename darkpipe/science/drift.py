"""The drift of the pedestal from frame to frame: which error it leaves in the level of a master."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Drift:
    """Pedestal drift: 1 sigma of the level of one frame [ADU], and how many frames are in each master bias.

    The level of a frame is set to that of its cell before frames are combined, so the cell's own level is that of the
    median of its frames, and all its pixels share the error of that.
    """

    frame_adu: float = 0.0
    bias_frames: Mapping[str, int] = field(default_factory=dict)

    def level_variance(self, frames: int) -> float:
        """Square of the 1 sigma of the level of a master of so many frames [ADU²]."""
        return (1.0 if frames < 3 else math.pi / 2.0) * self.frame_adu**2 / max(frames, 1)

    def of_bias(self, name: str) -> float:
        """The same for a master bias, or for the line through all."""
        return self.level_variance(self.bias_frames.get(name, self.all_bias_frames))

    @property
    def all_bias_frames(self) -> int:
        """Of all master biases together."""
        return sum(self.bias_frames.values())
