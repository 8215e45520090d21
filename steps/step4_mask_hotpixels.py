"""Step 4: special pixels from the masters -> dark_model/hot_pixel_mask.fits, saturation_map.fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from darkpipe.errors import SettingsError
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import Cell, read_cells, read_reference
from darkpipe.files.model_maps import read_saturation, write_saturation
from darkpipe.files.products import Card, Frame, read_header, read_planes, read_shape, write_frame
from darkpipe.files.tables import read_table
from darkpipe.jobs.contract import Job
from darkpipe.science.flags import DQ
from darkpipe.science.hot_pixels import classify
from darkpipe.science.saturation import WORTH_LOOKING, Saturation, common_level, find_plateaus
from darkpipe.science.unstable import CellScatter, FrameScatter

NAME = "mask_hotpixels"
VERSION = 2

FEW_FRAMES = 3  # a reference master of fewer frames holds cosmic rays: another master must confirm its hot pixels


class Settings(BaseModel):
    """Thresholds of special pixels, and the master they are seen in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hot_sigma: float = Field(5.0, gt=0, description="hot: above median + this many robust sigma of the reference cell")
    warm_sigma: float = Field(3.0, gt=0, description="warm: above median + this many robust sigma")
    dead_sigma: float = Field(5.0, gt=0, description="dead: below zero by this many robust sigma")
    unstable_rate: float = Field(1e-3, gt=0, lt=0.1, description="false alarms a stable pixel may give")
    reference_cell: str = Field("auto", description="name of the cell (T-10.0C_texp300s), or auto: the most signal")


def plan(out: OutputDir, settings: Settings) -> Iterator[list[Job]]:
    """One job over all masters.

    Raises
    ------
    SettingsError
        when `reference_cell` is not one of the campaign's.
    """
    cells = read_cells(out.groups)
    names = [c.name for c in cells]
    if settings.reference_cell != "auto" and settings.reference_cell not in names:
        raise SettingsError(
            f"there is no cell {settings.reference_cell}",
            where="mask_hotpixels.reference_cell",
            do="choose one of " + ", ".join(names),
        )
    ranked = sorted(range(len(cells)), key=lambda i: _typical_signal(cells[i]), reverse=True)
    if settings.reference_cell != "auto":
        ranked.insert(0, ranked.pop(ranked.index(names.index(settings.reference_cell))))
    params = {"ranked": ranked, "cells": names, "frames": [c.frames for c in cells], **settings.model_dump()}
    masters = tuple(out.master_dark(n) for n in names)
    saturation = Job(
        find_saturation,
        (out.reference, *masters),
        (out.model.saturation_map,),
        {"temperature_c": [c.temperature_c for c in cells], "exposure_s": [c.exposure_s for c in cells]},
        label="levels of saturation",
    )
    yield [saturation]
    noise_map = bool(read_table(out.corrected).meta["noise_map"])
    params["noise_map"] = noise_map
    known = (out.reference, *((out.read_noise_map,) if noise_map else ()))
    inputs = (out.model.saturation_map, *known, *masters)
    yield [Job(mask, inputs, (out.model.hot_pixel_mask,), params, label="mask of special pixels")]


def _typical_signal(cell: Cell) -> float:
    """What a silicon sensor would show, up to a factor: doubling every 6.5 °C."""
    return cell.exposure_s * math.exp2(cell.temperature_c / 6.5)


def find_saturation(
    inputs: tuple[Path, ...], outputs: tuple[Path, ...], *, temperature_c: list[float], exposure_s: list[float]
) -> dict[Path, str]:
    """Look for pixels whose signal stops growing; only the brightest of each master can."""
    reference = read_reference(inputs[0])
    top = reference.saturation_raw / reference.scale_factor
    shape = read_shape(inputs[1])
    bright = np.zeros(shape, np.bool_)
    for path in inputs[1:]:
        bright |= read_planes(path, ["SCI"])[0] > WORTH_LOOKING * top
    signal = np.stack([read_planes(path, ["SCI"])[0][bright] for path in inputs[1:]])
    level, cells = np.full(shape, np.float32(np.nan)), np.zeros(shape, np.uint8)
    level[bright], cells[bright] = find_plateaus(signal, np.array(temperature_c), np.array(exposure_s), top)
    found = Saturation(level.ravel(), cells.ravel(), common_level(level, top))
    return {outputs[0]: write_saturation(outputs[0], found, shape)}


def mask(
    inputs: tuple[Path, ...],
    outputs: tuple[Path, ...],
    *,
    ranked: list[int],
    cells: list[str],
    frames: list[int],
    hot_sigma: float,
    warm_sigma: float,
    dead_sigma: float,
    unstable_rate: float,
    reference_cell: str,
    noise_map: bool,
) -> dict[Path, str]:
    """Flag pixels by the reference master, and by what all masters say of their frames."""
    saturation = read_saturation(ModelDir(inputs[0].parent))
    noise = ReadNoise.of(inputs[1], inputs[2] if noise_map else None)
    inputs = inputs[-len(cells) :]
    first = ranked[0]
    dark, error, bits = read_planes(inputs[first], ["SCI", "ERR", "DQ"])
    found, stats = classify(dark, error, bits, hot_sigma=hot_sigma, warm_sigma=warm_sigma, dead_sigma=dead_sigma)
    if frames[first] < FEW_FRAMES and len(ranked) > 1:
        found = _confirmed(found, inputs[ranked[1]], warm_sigma)
    found = found | _from_cells(inputs, saturation) | _from_frames(inputs, frames, ranked, unstable_rate, noise)
    cards: list[Card] = [
        ("REFCELL", cells[first], "master the thresholds are of"),
        ("MEDIAN", stats.median_adu, "[adu] of the population there"),
        ("SIGMA", stats.sigma_adu, "[adu] robust sigma there"),
        ("HOTABOVE", stats.hot_above_adu, "[adu] hot above"),
        ("WARMABOV", stats.warm_above_adu, "[adu] warm above"),
        ("EXPTIME", read_header(inputs[first]).get("EXPTIME", math.nan), "[s] of the reference master"),
        ("CCD-TEMP", read_header(inputs[first]).get("CCD-TEMP", math.nan), "[deg C] of the reference master"),
    ]
    for name in (DQ.HOT, DQ.WARM, DQ.DEAD, DQ.SATURATED, DQ.UNSTABLE):
        cards.append((f"N_{name.name}"[:8], int(np.count_nonzero(found & int(name))), f"pixels {name.name}"))
    hot = ((found & int(DQ.HOT)) != 0).astype(np.uint8)
    frame = Frame(hot, dq=found.astype(np.uint16), unit="", header=cards, inputs=cells)
    return {outputs[0]: write_frame(outputs[0], frame)}


def _confirmed(found: NDArray[np.uint16], other: Path, warm_sigma: float) -> NDArray[np.uint16]:
    """Hot and warm only where another master stands out as well."""
    dark, error, bits = read_planes(other, ["SCI", "ERR", "DQ"])
    again, _ = classify(dark, error, bits, hot_sigma=warm_sigma, warm_sigma=0.6 * warm_sigma)
    either = np.uint16(DQ.HOT | DQ.WARM)
    return np.where((again & either) == 0, found & ~either, found).astype(np.uint16)


def _from_cells(masters: tuple[Path, ...], saturation: Saturation) -> NDArray[np.uint16]:
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
    def of(cls, reference: Path, noise_map: Path | None) -> ReadNoise:
        """As the masters had it."""
        if noise_map is None:
            return cls(read_reference(reference).read_noise_adu, 0)
        return cls(read_planes(noise_map, ["SCI"])[0].ravel(), int(read_header(noise_map).get("NCOMBINE", 0)))


def _from_frames(
    masters: tuple[Path, ...], frames: list[int], ranked: list[int], rate: float, noise: ReadNoise
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


def _scatter_of(master: Path) -> CellScatter:
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


def summary(out: OutputDir) -> list[tuple[str, str]]:
    """Counts of special pixels."""
    h = read_header(out.model.hot_pixel_mask)
    names = {"N_HOT": "hot", "N_WARM": "warm", "N_DEAD": "dead", "N_SATURA": "saturated", "N_UNSTAB": "unstable"}
    counts = ", ".join(f"{h[card]} {name}" for card, name in names.items())
    return [("special pixels", f"{counts} (reference {h['REFCELL']})")]
