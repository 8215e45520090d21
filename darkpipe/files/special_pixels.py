"""Special pixels of a campaign, from its masters: levels of saturation, and the mask of hot, dead and unstable ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ahead import each_ahead
from darkpipe.files.bands import rows_of, sample_rows
from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import saturation_frame, saturation_of
from darkpipe.files.products import Card, Frame, Product, blank, read_header, read_planes, read_shape
from darkpipe.files.strips import InStrips, Strip
from darkpipe.science.flags import DQ
from darkpipe.science.hot_pixels import Limits, population
from darkpipe.science.saturation import Saturation, common_level, find_plateaus
from darkpipe.science.unstable import CellScatter, FrameScatter, NoiseFound
from darkpipe.science.unstable_kernel import frame_variance

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]

SAMPLE_PIXELS = 1 << 20  # that tell of the noise model
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
) -> InStrips:
    """Look for pixels whose signal stops growing; only the brightest of each master can. top_adu : of the converter."""
    shape = read_shape(masters[0])
    charge = np.array(temperature_c), np.array(exposure_s)
    plateaus: list[F4] = []

    def look(rows: slice) -> tuple[slice, F4, NDArray[np.uint8]]:
        signal = np.stack([read_planes(master, ["SCI"], rows)[0].ravel() for master in masters])
        return rows, *find_plateaus(signal, *charge, top_adu)

    def strips() -> Iterator[Strip]:
        for rows, level, cells in each_ahead(look, rows_of(shape, 4 * len(masters)), threads=2):
            plateaus.append(level[np.isfinite(level)])  # of a few pixels
            yield rows, {"SCI": level.reshape(-1, shape[1]), "CELLS": cells.reshape(-1, shape[1])}

    def common() -> Saturation:
        return Saturation(*blank_plateaus, common_level(np.concatenate(plateaus or [blank_plateaus[0]]), top_adu))

    blank_plateaus = blank((0,), np.float32), blank((0,), np.uint8)
    empty = Saturation(blank(shape, np.float32), blank(shape, np.uint8), top_adu)
    return InStrips(saturation_frame(empty, shape), strips(), lambda: saturation_frame(common(), (0, 0)).header)


def find_special(
    masters: Sequence[Product],
    cells: Sequence[str],
    frames: Sequence[int],
    ranked: Sequence[int],
    thresholds: Thresholds,
    saturation: Product,
    noise: ReadNoise,
) -> InStrips:
    """The mask: bits by the reference master, and by what all masters say of their frames.

    Of a sensor of more than `SAMPLE_PIXELS` the masters are read in bands of rows, and what the frames say of the noise
    model is told from so many of its pixels, in rows spread over it. The median chi² of a cell's ordinary pixels is
    then known to 0.04 % (of 20 frames), where that of a pixel scatters by 32 %.

    Parameters
    ----------
    cells, frames : name and number of frames of each master. ranked : their positions, the reference master first.
    saturation : the map of plateaus.
    """
    first = ranked[0]
    shape = read_shape(masters[0])
    limits = _limits(
        masters[first], hot_sigma=thresholds.hot_sigma, warm_sigma=thresholds.warm_sigma,
        dead_sigma=thresholds.dead_sigma,
    )  # fmt: skip
    again: Limits | None = None
    if frames[first] < FEW_FRAMES and len(ranked) > 1:
        again = _limits(
            masters[ranked[1]], hot_sigma=thresholds.warm_sigma, warm_sigma=0.6 * thresholds.warm_sigma, dead_sigma=5.0
        )
    look = _Look(masters, frames, ranked, thresholds.unstable_rate, saturation, noise, shape)
    numbers = dict.fromkeys((DQ.HOT, DQ.WARM, DQ.DEAD, DQ.SATURATED, DQ.UNSTABLE), 0)

    def strips() -> Iterator[Strip]:
        for rows, found in look.bits():
            for part in rows_of(found.shape, 40):
                here = slice(rows.start + part.start, rows.start + part.stop)
                dark, error, bits = read_planes(masters[first], ["SCI", "ERR", "DQ"], here)
                special = limits.flag(dark, error, bits)
                if again is not None:
                    special = _confirmed(special, again, *read_planes(masters[ranked[1]], ["SCI", "ERR", "DQ"], here))
                found[part] |= special
            for name in numbers:
                numbers[name] += int(np.count_nonzero(found & int(name)))
            yield rows, {"SCI": ((found & int(DQ.HOT)) != 0).astype(np.uint8), "DQ": found}

    about: list[Card] = [
        ("REFCELL", cells[first], "master the thresholds are of"),
        ("MEDIAN", limits.median_adu, "[adu] of the population there"),
        ("SIGMA", limits.sigma_adu, "[adu] robust sigma there"),
        ("HOTABOVE", limits.median_adu + limits.hot_sigma * limits.sigma_adu, "[adu] hot above"),
        ("WARMABOV", limits.median_adu + limits.warm_sigma * limits.sigma_adu, "[adu] warm above"),
        ("EXPTIME", read_header(masters[first]).get("EXPTIME", math.nan), "[s] of the reference master"),
        ("CCD-TEMP", read_header(masters[first]).get("CCD-TEMP", math.nan), "[deg C] of the reference master"),
    ]

    def cards() -> list[Card]:
        return [*about, *((f"N_{name.name}"[:8], n, f"pixels {name.name}") for name, n in numbers.items())]

    planes = blank(shape, np.uint8), blank(shape, np.uint16)
    template = Frame(planes[0], dq=planes[1], unit="", header=cards(), inputs=list(cells))
    return InStrips(template, strips(), cards)


def _limits(master: Product, **sigmas: float) -> Limits:
    """What the pixels of a master are judged by."""
    shape = read_shape(master)

    def read(rows: slice) -> tuple[F4, F4, NDArray[np.bool_]]:
        dark, error, bits = read_planes(master, ["SCI", "ERR", "DQ"], rows)
        return dark, error, population(dark, bits)

    return Limits.of_bands(lambda: each_ahead(read, rows_of(shape, 32)), **sigmas)


def _confirmed(found: Bits, again: Limits, dark: F4, error: F4, bits: Bits) -> Bits:
    """Hot and warm only where another master stands out as well."""
    either = np.uint16(DQ.HOT | DQ.WARM)
    return np.where((again.flag(dark, error, bits) & either) == 0, found & ~either, found).astype(np.uint16)


@dataclass(frozen=True)
class ReadNoise:
    """Of a pixel [ADU]: one number, or a map, with the frames it was measured on (0 without a map)."""

    sigma_adu: float
    noise_map: Product | None = None
    frames: int = 0

    @classmethod
    def of(cls, reference: ReferenceValues, noise_map: Product | None) -> ReadNoise:
        """As the masters had it."""
        frames = 0 if noise_map is None else int(read_header(noise_map).get("NCOMBINE", 0))
        return cls(reference.read_noise_adu, noise_map, frames)

    def read(self, rows: Sequence[slice]) -> F4 | float:
        """Of the pixels of some rows, flattened."""
        if self.noise_map is None:
            return self.sigma_adu
        return _joined([read_planes(self.noise_map, ["SCI"], part) for part in rows])[0]


@dataclass(frozen=True)
class _Look:
    """All masters of a campaign, as they are read for the bits that a pixel has in any of them, or by its frames.

    Unstable is what is so over the frames of the brightest cell, the two, four … brightest, or all of them: the step of
    a telegraph pixel grows with the charge, so many cells without any would hide it in their noise.
    """

    masters: Sequence[Product]
    frames: Sequence[int]
    ranked: Sequence[int]
    rate: float
    saturation: Product
    noise: ReadNoise
    shape: tuple[int, int]

    def bits(self) -> Iterator[tuple[slice, Bits]]:
        """Rows and their bits (rows, cols), band by band; a sensor that is no larger than a sample is one band."""
        sample = sample_rows(self.shape, SAMPLE_PIXELS)
        if len(sample) == 1:
            yield sample[0], self._look(sample[0], None)
            return
        with ThreadPoolExecutor(1) as pool:
            like = self._sample(sample, pool)
            rows = rows_of(self.shape, 80)
            yield from zip(rows, each_ahead(lambda band: self._look(band, like), rows, threads=2), strict=True)

    def _scatter(self, rows: Sequence[slice], like: FrameScatter | None) -> FrameScatter:
        """Of the pixels of some rows, before any cell."""
        pixels = sum(part.stop - part.start for part in rows) * self.shape[1]
        kappa = float(read_header(self.masters[0]).get("KAPPA", 4.5))
        return FrameScatter(pixels, self.noise.read(rows), self.noise.frames, kappa, like)

    def _looks(self) -> set[int]:
        """After how many cells that tell the pixels are tested."""
        told = sum(self.frames[i] > 1 for i in self.ranked)
        return {2**k for k in range(told.bit_length()) if 2**k < told} | {told}

    def _sample(self, rows: Sequence[slice], pool: Executor) -> FrameScatter:
        """What these rows say of the noise model; part of it is still sought in the pool."""
        scatter, looks = self._scatter(rows, None), self._looks()

        def measured(i: int) -> tuple[CellScatter, NoiseFound | None]:
            cell = self._cell(i, rows, [])[0]
            return cell, scatter.measure(cell)

        telling = [i for i in self.ranked if self.frames[i] > 1]
        for number, (cell, found) in enumerate(each_ahead(measured, telling, threads=2), 1):
            scatter.take(cell, found)
            if number in looks:
                scatter.settle(pool)
        return scatter

    def _look(self, band: slice, like: FrameScatter | None) -> Bits:
        """Bits of the pixels of some rows; `like`: of a sample of the sensor."""
        rows, looks = [band], self._looks()
        level = saturation_of(self.saturation, band)
        out = np.zeros(level.level_adu.shape, np.uint16)
        unstable = np.zeros_like(out)
        scatter = self._scatter(rows, like)
        number = 0
        cells = map(self._read, self.ranked, itertools.repeat(rows))
        for cell, signal, bits in cells if like else each_ahead(lambda i: self._read(i, rows), self.ranked):
            out |= bits & np.uint16(DQ.SATURATED | DQ.NO_BIAS | DQ.CLIPPED_LOW)
            out[level.reached(signal)] |= np.uint16(DQ.SATURATED)
            if cell is None:
                continue
            scatter.add(cell)
            number += 1
            if number in looks:
                # whether a pixel is constant, all cells say together
                unstable = (unstable & np.uint16(DQ.UNSTABLE)) | scatter.flag(self.rate / len(looks))
        return (out | unstable).reshape(-1, self.shape[1])

    def _read(self, i: int, rows: Sequence[slice]) -> tuple[CellScatter | None, F4, Bits]:
        """What a master says of its frames (None of one: nothing), its signal and its bits."""
        if self.frames[i] < 2:
            signal, bits = _joined([read_planes(self.masters[i], ["SCI", "DQ"], part) for part in rows])
            return None, signal, bits
        cell, bits, signal = self._cell(i, rows, ["SCI"])
        return cell, signal, bits

    def _cell(self, i: int, rows: Sequence[slice], further: Sequence[str]) -> tuple[Any, ...]:
        """What a master says of its frames, its bits, and further planes of it."""
        master = self.masters[i]
        of_bias = ["BIASERR"] if read_header(master).get("BIAS") else []
        names = ["DQ", "SCATTER", "COUNT", "REJECTED", "ERR", *of_bias, *further]
        bits, scatter, count, rejected, error, *others = _joined([read_planes(master, names, part) for part in rows])
        samples, variance = np.empty(error.shape, np.int32), np.empty(error.shape, np.float32)
        run: Any = frame_variance
        run(
            error, others[0] if of_bias else np.zeros_like(error), bits, count, rejected,
            int(DQ.SATURATED | DQ.CLIPPED_LOW), samples, variance,
        )  # fmt: skip
        return CellScatter(scatter, samples, rejected, variance), bits, *others[len(of_bias) :]


def _joined(parts: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Planes of several bands, each flattened and put together."""
    if len(parts) == 1:
        return [plane.ravel() for plane in parts[0]]
    return [np.concatenate([plane.ravel() for plane in planes]) for planes in zip(*parts, strict=True)]
