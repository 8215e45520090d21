"""Special pixels of a campaign, from its masters: levels of saturation, and the mask of hot, dead and unstable ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import saturation_frame
from darkpipe.files.planes import read_header, read_planes, read_shape
from darkpipe.files.products import Card, Frame, Product
from darkpipe.science.flags import DQ
from darkpipe.science.hot_pixels import classify
from darkpipe.science.saturation import WORTH_LOOKING, Saturation, common_level, find_plateaus
from darkpipe.science.unstable import CellScatter, FrameScatter

FEW_FRAMES = 3  # a reference master of fewer frames holds cosmic rays: another master must confirm its hot pixels


@dataclass(frozen=True)
class Thresholds:
    """Of special pixels: robust sigmas off the reference cell, and the false alarms a stable pixel may give."""

    hot_sigma: float = 5.0
    warm_sigma: float = 3.0
    dead_sigma: float = 5.0
    unstable_rate: float = 1e-3


def by_signal(cells: Sequence[Cell]) -> list[int]:
    """Positions of the cells, those first that would show most on a silicon sensor: doubling every 6.5 °C."""
    typical = [c.exposure_s * math.exp2(c.temperature_c / 6.5) for c in cells]
    return sorted(range(len(cells)), key=lambda i: typical[i], reverse=True)


def find_saturation(
    masters: Sequence[Product], temperature_c: Sequence[float], exposure_s: Sequence[float], top_adu: float
) -> Frame:
    """Look for pixels whose signal stops growing; only the brightest of each master can. top_adu : of the converter."""
    shape = read_shape(masters[0])
    bright = np.zeros(shape, np.bool_)
    for master in masters:
        bright |= read_planes(master, ["SCI"])[0] > WORTH_LOOKING * top_adu
    signal = np.stack([read_planes(master, ["SCI"])[0][bright] for master in masters])
    level, cells = np.full(shape, np.float32(np.nan)), np.zeros(shape, np.uint8)
    level[bright], cells[bright] = find_plateaus(signal, np.array(temperature_c), np.array(exposure_s), top_adu)
    return saturation_frame(Saturation(level.ravel(), cells.ravel(), common_level(level, top_adu)), shape)


def find_special(
    masters: Sequence[Product],
    cells: Sequence[str],
    frames: Sequence[int],
    ranked: Sequence[int],
    thresholds: Thresholds,
    saturation: Saturation,
    noise: ReadNoise,
) -> Frame:
    """The mask: bits by the reference master, and by what all masters say of their frames.

    Parameters
    ----------
    cells, frames : name and number of frames of each master. ranked : their positions, the reference master first.
    """
    first = ranked[0]
    dark, error, bits = read_planes(masters[first], ["SCI", "ERR", "DQ"])
    found, stats = classify(
        dark, error, bits, hot_sigma=thresholds.hot_sigma, warm_sigma=thresholds.warm_sigma,
        dead_sigma=thresholds.dead_sigma,
    )  # fmt: skip
    if frames[first] < FEW_FRAMES and len(ranked) > 1:
        found = _confirmed(found, masters[ranked[1]], thresholds.warm_sigma)
    found = found | _from_cells(masters, saturation)
    found = found | _from_frames(masters, frames, ranked, thresholds.unstable_rate, noise)
    cards: list[Card] = [
        ("REFCELL", cells[first], "master the thresholds are of"),
        ("MEDIAN", stats.median_adu, "[adu] of the population there"),
        ("SIGMA", stats.sigma_adu, "[adu] robust sigma there"),
        ("HOTABOVE", stats.hot_above_adu, "[adu] hot above"),
        ("WARMABOV", stats.warm_above_adu, "[adu] warm above"),
        ("EXPTIME", read_header(masters[first]).get("EXPTIME", math.nan), "[s] of the reference master"),
        ("CCD-TEMP", read_header(masters[first]).get("CCD-TEMP", math.nan), "[deg C] of the reference master"),
    ]
    for name in (DQ.HOT, DQ.WARM, DQ.DEAD, DQ.SATURATED, DQ.UNSTABLE):
        cards.append((f"N_{name.name}"[:8], int(np.count_nonzero(found & int(name))), f"pixels {name.name}"))
    hot = ((found & int(DQ.HOT)) != 0).astype(np.uint8)
    return Frame(hot, dq=found.astype(np.uint16), unit="", header=cards, inputs=list(cells))


def _confirmed(found: NDArray[np.uint16], other: Product, warm_sigma: float) -> NDArray[np.uint16]:
    """Hot and warm only where another master stands out as well."""
    dark, error, bits = read_planes(other, ["SCI", "ERR", "DQ"])
    again, _ = classify(dark, error, bits, hot_sigma=warm_sigma, warm_sigma=0.6 * warm_sigma)
    either = np.uint16(DQ.HOT | DQ.WARM)
    return np.where((again & either) == 0, found & ~either, found).astype(np.uint16)


def _from_cells(masters: Sequence[Product], saturation: Saturation) -> NDArray[np.uint16]:
    """Bits that a pixel has in any master; saturated where its signal reached its level in one."""
    shape = read_shape(masters[0])
    out = np.zeros(shape, np.uint16)
    for path in masters:
        signal, bits = read_planes(path, ["SCI", "DQ"])
        out |= (bits & np.uint16(DQ.SATURATED | DQ.NO_BIAS | DQ.CLIPPED_LOW)).astype(np.uint16)
        out[saturation.reached(signal.ravel()).reshape(shape)] |= np.uint16(DQ.SATURATED)
    return out


@dataclass(frozen=True)
class ReadNoise:
    """Of a pixel, one number or (rows · cols,) [ADU]; and the frames it was measured on, if it is a map."""

    sigma_adu: NDArray[np.float32] | float
    frames: int

    @classmethod
    def of(cls, reference: ReferenceValues, noise_map: Product | None) -> ReadNoise:
        """As the masters had it."""
        if noise_map is None:
            return cls(reference.read_noise_adu, 0)
        return cls(read_planes(noise_map, ["SCI"])[0].ravel(), int(read_header(noise_map).get("NCOMBINE", 0)))


def _from_frames(
    masters: Sequence[Product], frames: Sequence[int], ranked: Sequence[int], rate: float, noise: ReadNoise
) -> NDArray[np.uint16]:
    """Unstable over the frames of the brightest cell, the two, four … brightest, and all of them.

    The step of a telegraph pixel grows with the charge, so many cells without any would hide it in their noise.
    """
    shape = read_shape(masters[0])
    told = [i for i in ranked if frames[i] > 1]
    if not told:
        return np.zeros(shape, np.uint16)
    looks = {2**k for k in range(len(told).bit_length()) if 2**k < len(told)} | {len(told)}
    kappa = float(read_header(masters[0]).get("KAPPA", 4.5))
    scatter = FrameScatter(shape[0] * shape[1], noise.sigma_adu, noise.frames, kappa)
    out = np.zeros(shape, np.uint16)
    for number, i in enumerate(told, start=1):
        scatter.add(_scatter_of(masters[i]))
        if number in looks:
            found = scatter.flag(rate / len(looks)).reshape(shape)
            # whether a pixel is constant, all cells say together
            out = (out & np.uint16(DQ.UNSTABLE)) | found
    return out


def _scatter_of(master: Product) -> CellScatter:
    """What a master says of its frames; nothing of saturated and clipped pixels."""
    names = ["SCATTER", "COUNT", "REJECTED", "ERR", "DQ"]
    scatter, count, rejected, error, bits = (p.ravel() for p in read_planes(master, names))
    of_bias = np.zeros_like(error)
    if read_header(master).get("BIAS"):
        of_bias = read_planes(master, ["BIASERR"])[0].ravel()
    told = np.isfinite(error) & np.isfinite(of_bias) & ((bits & np.uint16(DQ.SATURATED | DQ.CLIPPED_LOW)) == 0)
    samples = np.where(told, count.astype(np.int32) + rejected, 0)
    variance = np.zeros(error.shape, np.float32)
    variance[told] = (error[told] ** 2 - of_bias[told] ** 2) * count[told]
    return CellScatter(scatter, samples, rejected, variance)
