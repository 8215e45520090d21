"""From pixel values to 256 shades of grey, with a chosen black point and range: logarithmic or linear."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Kind = Literal["log", "linear"]


@dataclass(frozen=True)
class Stretch:
    """A stretch of pixel values to shades.

    linear: shade = 256 (v − black) / (white − black). log: shade = 256 log10(v − black) / log10(white − black), so
    that values up to one unit above the black point are black. In both: rounded down, 0 below and at the black point,
    255 at the white point and above. Negative values and zeros are values like others: what counts is their distance
    from the black point.

    Parameters
    ----------
    black, white : values, in the unit of the image. kind : 'log' or 'linear'.

    Raises
    ------
    ValueError : points that are not finite, black not below white, a logarithmic range of one unit or less.

    Examples
    --------
    >>> import numpy as np
    >>> Stretch(5000, 30000, "log").levels(np.array([4000, 5001, 5500, 30000])).tolist()
    [0, 0, 157, 255]
    >>> Stretch(-1000, 1000, "linear").levels(np.array([-1000.0, 0.0, np.nan, 1000.0])).tolist()
    [0, 128, 0, 255]
    """

    black: float
    white: float
    kind: Kind = "log"

    def __post_init__(self) -> None:
        if self.kind not in ("log", "linear"):
            raise ValueError(f"a stretch is 'log' or 'linear', not {self.kind!r}")
        if not (math.isfinite(self.black) and math.isfinite(self.white)):
            raise ValueError(f"black and white point must be finite, not {self.black:g} and {self.white:g}")
        if not self.black < self.white:
            raise ValueError(f"the black point ({self.black:g}) must lie below the white point ({self.white:g})")
        if self.kind == "log" and not self.white - self.black > 1.0:
            raise ValueError(
                f"a logarithmic stretch needs more than one unit between black and white point, not "
                f"{self.white - self.black:g}"
            )

    def fraction(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie between black (0) and white (1), any shape; below, above: limited; NaN stays NaN."""
        distance = np.asarray(values, np.float64) - self.black
        span = self.white - self.black
        if self.kind == "linear":
            return np.clip(distance / span, 0.0, 1.0)
        return np.clip(np.log10(np.maximum(distance, 1.0)) / math.log10(span), 0.0, 1.0)

    def value(self, fraction: float) -> float:
        """The value at a fraction of the way from black to white; the first of a logarithmic stretch is black + 1."""
        span = self.white - self.black
        return self.black + (span * fraction if self.kind == "linear" else span**fraction)

    def levels(self, image: ArrayLike) -> NDArray[np.uint8]:
        """Shades 0 to 255 of an image of any shape, uint8; NaN is 0, +inf 255."""
        pixels: NDArray[Any] = np.asarray(image)
        shades = np.floor(256.0 * np.nan_to_num(self.fraction(pixels), nan=0.0))
        return np.asarray(np.minimum(shades, 255.0)).astype(np.uint8)
