"""Single figures of a calibration of noise maps: bias offset, read noise from the pattern, means and variances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.noise_levels import Design
from darkpipe.science.regions import DetectorRegions

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]


@dataclass(frozen=True)
class BiasOffset:
    """What the stacks hold in the prescan beyond the fitted F + g C + g t D, median over it and mean over stacks.

    low, high : the same with all three maps an error higher, lower. unit : 'DN', or 'e-' where no k-gain was given.
    All NaN without a prescan.
    """

    value: float
    low: float
    high: float
    unit: str

    @property
    def error(self) -> float:
        """The larger distance to a bound."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True)
class MapSummary:
    """A map over an area, before negative values are changed; the unit is that of the map.

    mean, median : of its pixels. variance : over its pixels. error_variance : mean square of their errors.
    """

    mean: float
    median: float
    variance: float
    error_variance: float


def bias_offset(
    means: Sequence[F8],
    design: Design,
    values: F4,
    covariance: F4,
    regions: DetectorRegions,
    k_gain_e_per_dn: float | None,
) -> BiasOffset:
    """Offset of the bias, from the means (m of (rows, cols)), the maps (3, rows, cols) and their covariance."""
    unit = "e-" if k_gain_e_per_dn is None else "DN"
    if regions.prescan is None:
        return BiasOffset(np.nan, np.nan, np.nan, unit)
    area = regions.prescan.slices
    good = np.isfinite(values[0][area])
    if not good.any():
        return BiasOffset(np.nan, np.nan, np.nan, unit)
    f, c, d = (plane[area][good] for plane in values)
    errors = [np.sqrt(covariance[j][area][good]) for j in (0, 3, 5)]
    found = np.empty((3, len(means)))
    for i, mean in enumerate(means):
        g, gt = np.float32(design.em_gain[i]), np.float32(design.em_gain[i] * design.exposure_s[i])
        residual = mean[area][good].astype(np.float32) - (f + g * c + gt * d)
        reach = errors[0] + g * errors[1] + gt * errors[2]
        found[:, i] = [float(np.median(r)) for r in (residual, residual - reach, residual + reach)]
    value, low, high = found.mean(axis=1) / (k_gain_e_per_dn or 1.0)
    return BiasOffset(float(value), float(low), float(high), unit)


def summaries(values: F4, covariance: F4, regions: DetectorRegions) -> dict[str, dict[str, MapSummary]]:
    """Figures of the maps (3, rows, cols) by area and letter."""
    areas = {"image": regions.image, "collecting": regions.collecting, "prescan": regions.prescan}
    out: dict[str, dict[str, MapSummary]] = {}
    for name, area in areas.items():
        if area is None or (name == "collecting" and area == regions.image):
            continue
        out[name] = {
            letter: _summary(values[j][area.slices], covariance[k][area.slices])
            for letter, j, k in (("F", 0, 0), ("C", 1, 3), ("D", 2, 5))
        }
    if "collecting" not in out:
        out["collecting"] = out["image"]
    return out


def _summary(plane: F4, variance: F4) -> MapSummary:
    good = plane[np.isfinite(plane)]
    if good.size == 0:
        return MapSummary(np.nan, np.nan, np.nan, np.nan)
    mean = float(good.mean(dtype=np.float64))
    spread = float(np.square(good - np.float32(mean)).mean(dtype=np.float64))
    error = variance[np.isfinite(variance)]
    return MapSummary(mean, float(np.median(good)), spread, float(error.mean(dtype=np.float64)))


def profile_read_noise(
    means: Sequence[F8], mean_frames: F8, design: Design, values: F4, regions: DetectorRegions
) -> float:
    """Read noise [e-] from how the mean of the stack of smallest gain x time varies over the collecting pixels.

    Variance of that mean times its frames, less that of the maps, where F counts as often as it repeats: by the
    correlation with the next stack (same exposure, next gain, else next gain x time). The fixed pattern must be small
    beside the noise of the mean: where it is large, this tends to sqrt(2) times the read noise. NaN where it is
    negative or a gain has no next one.
    """
    g, t = design.em_gain, design.exposure_s
    order = np.argsort(g * t, kind="stable")
    first = int(order[0])
    above = g[g > g[first]]
    nearest = np.flatnonzero((t == t[first]) & (g == above.min())) if above.size else np.empty(0, np.int64)
    second = int(nearest[0]) if nearest.size else int(order[1])
    area = regions.collecting.slices
    f, c, d = (plane[area].astype(np.float64) for plane in values)
    good = np.isfinite(f)
    if good.sum() < 2:
        return float("nan")
    a, b = means[first][area][good], means[second][area][good]
    correlation = _correlation(a, b)
    n = mean_frames[first]
    dark = float(np.var(d[good] * t[first] + c[good])) * g[first] ** 2
    square = float(np.var(a)) * n - dark - ((n - 1) * correlation + 1) * float(np.var(f[good]))
    return float(np.sqrt(square)) if square >= 0 else float("nan")


def _correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else 0.0
