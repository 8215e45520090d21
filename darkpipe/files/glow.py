"""The search for amplifier glow in the masters of a campaign, and its map of blocks (`glow_blocks.fits`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ahead import each_ahead
from darkpipe.files.fitting import PICTURE_SIDE, UnitFiles
from darkpipe.files.masters import read_band
from darkpipe.files.products import Card, Frame, Product, read_header, read_planes, read_shape
from darkpipe.science.blocks import block_mean
from darkpipe.science.fit import Cells
from darkpipe.science.flags import DQ
from darkpipe.science.glow import (
    SCATTER,
    GlowBlocks,
    GlowField,
    block_side,
    find_glow,
    find_scatter,
    reduce_blocks,
    smooth,
)
from darkpipe.science.population import problem_for

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
NO_WITNESS = DQ.DEAD | DQ.SATURATED | DQ.UNSTABLE
SCATTER_BANDS = 6


@dataclass(frozen=True)
class Masters:
    """Masters of a campaign's cells, what is known of their noise, and the mask of special pixels."""

    paths: Sequence[Product]
    read_noise: Product | None
    mask: Product

    def read(self, files: UnitFiles, rows: slice) -> tuple[Cells, NDArray[np.bool_]]:
        """Cells of a band of rows, and which of its pixels may witness."""
        band = read_band(self.paths, files.cells, files.hangs_on, files.reference, self.read_noise, rows)
        bits = read_planes(self.mask, ["DQ"], rows)[0].ravel()
        return band.cells, (bits & int(NO_WITNESS)) == 0


def search_glow(units: Sequence[UnitFiles], masters: Masters) -> list[Frame]:
    """Look for glow with each of several models of the same cells; the map of blocks of each."""
    shape = read_shape(masters.paths[0])
    side = block_side(shape)
    most = max(c.frames for c in units[0].cells)

    def reduced(first: int) -> Cells:
        rows = slice(first, min(first + side, shape[0]))
        cells, usable = masters.read(units[0], rows)
        return reduce_blocks(cells, usable, (rows.stop - rows.start, shape[1]), side, most)

    parts = list(each_ahead(reduced, range(0, shape[0], side), threads=2))
    grid = (-(-shape[0] // side), -(-shape[1] // side))
    blocks = parts[0].joined(parts[1:])
    maps = []
    for files in units:
        unit = files.unit
        slot = unit.model.glow_slot
        assert slot is not None
        problem = problem_for(unit.model, files.temperature_c, files.exposure_s, unit.fit_reference)
        found = find_glow(problem, slot, blocks, grid)
        field = None
        if found.found:
            field = smooth(found, shape, side, 0.0)
            field = replace(field, scatter=_scatter(files, masters, found, field, shape))
        maps.append(_map(files.model, found, field, side))
    return maps


def _scatter(files: UnitFiles, masters: Masters, found: GlowBlocks, field: GlowField, shape: tuple[int, int]) -> float:
    """Relative scatter of single pixels about the smooth map, from rows of blocks that glow."""
    unit, side = files.unit, field.side
    slot = unit.model.glow_slot
    assert slot is not None
    problem = problem_for(unit.model, files.temperature_c, files.exposure_s, unit.fit_reference)
    glowing = np.flatnonzero(found.glowing.any(axis=1))
    if not glowing.size:
        return SCATTER[1]
    chosen = glowing[np.unique(np.linspace(0, glowing.size - 1, SCATTER_BANDS).astype(int))]
    parts, expected, error = [], [], []
    for row in chosen:
        rows = slice(int(row) * side, min((int(row) + 1) * side, shape[0]))
        cells, usable = masters.read(files, rows)
        bright = np.repeat(found.glowing[row], side)[: shape[1]]
        use = np.flatnonzero(usable & np.tile(bright, rows.stop - rows.start))
        value, sigma = field.at(rows, shape)
        parts.append(cells.at(use))
        expected.append(value[use])
        error.append(sigma[use])
    return find_scatter(
        problem, slot, parts[0].joined(parts[1:]), found, np.concatenate(expected), np.concatenate(error)
    )


def _map(model: str, found: GlowBlocks, field: GlowField | None, side: int) -> Frame:
    """SCI, ERR: excess over the common level [ADU/s] and its 1 sigma; GLOWING: blocks that glow; where glow was found
    also U, UERR: the smooth map as parabolas in asinh(E/2h), with its error."""
    cards: list[Card] = [
        ("MODEL", model, "model it was looked for with"),
        ("FOUND", found.found, "whether the sensor glows"),
        ("LARGEST", found.largest_sigma, "[sigma] of the clearest block, or blocks together"),
        ("THRESH", found.threshold_sigma, "[sigma] from where on it counts"),
        ("LEVEL", found.level_adu_s, "[adu / s] common level, subtracted"),
        ("MISFIT", found.misfit, "relative error of a cell that the blocks ask for"),
        ("SIDE", side, "pixels a side of a block"),
    ]
    extra: dict[str, NDArray[np.generic]] = {"GLOWING": found.glowing.astype(np.uint8)}
    if field is not None:
        cards += [
            ("HALF", field.half_adu_s, "[adu / s] h of U = asinh(E / 2h)"),
            ("SCATTER", field.scatter, "relative scatter of pixels about the smooth map"),
            ("FLOOR", field.floor_adu_s, "[adu / s] 1 sigma of the common level"),
        ]
        extra |= {"U": field.parabolas, "UERR": field.error}
    return Frame(
        found.value_adu_s.astype(np.float32), found.error_adu_s.astype(np.float32), unit="adu / s", header=cards,
        extra=extra,
    )  # fmt: skip


def why_no_glow(path: Product) -> str | None:
    """Why no model with glow is fitted, or None where there is glow."""
    header = read_header(path)
    if header["FOUND"]:
        return None
    if "THRESH" not in header:  # infinite: FITS cannot write it
        return "no glow was looked for: the sensor has too few blocks of usable pixels"
    return (
        f"no glow found: the clearest block of {header['SIDE']} x {header['SIDE']} pixels exceeds the rest by "
        f"{max(header['LARGEST'], 0.0):.1f} sigma, {header['THRESH']:.1f} would count"
    )


def describe_glow(path: Product) -> str:
    """Where there is glow, how much of the sensor, and how bright, in words."""
    header = read_header(path)
    value, error, glowing = read_planes(path, ["SCI", "ERR", "GLOWING"])
    peak = np.unravel_index(int(np.argmax(np.where(glowing > 0, value, -np.inf))), value.shape)
    side = int(header["SIDE"])
    return (
        f"amplifier glow ({header['MODEL']}): {np.mean(glowing > 0):.1%} of the sensor, brightest at row "
        f"{int(peak[0]) * side + side // 2}, column {int(peak[1]) * side + side // 2} with "
        f"{value[peak]:.3g} +- {error[peak]:.2g} ADU/s"
    )


def glowing_pixels(path: Product, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(rows, cols) of the sensor: the pixels of blocks that glow."""
    (glowing,) = read_planes(path, ["GLOWING"])
    side = int(read_header(path)["SIDE"])
    return np.asarray(np.kron(glowing > 0, np.ones((side, side), np.bool_))[: shape[0], : shape[1]], np.bool_)


def read_glow(path: Product, rows: slice, shape: tuple[int, int]) -> tuple[F8, F8]:
    """The smooth glow of the pixels of some rows and its 1 sigma [ADU/s], flattened; `shape`: of the sensor."""
    header = read_header(path)
    u, error = (plane.astype(np.float64) for plane in read_planes(path, ["U", "UERR"]))
    field = GlowField(u, error, header["HALF"], header["SCATTER"], header["FLOOR"], header["SIDE"])
    return field.at(rows, shape)


@dataclass(frozen=True)
class Compared:
    """A model with glow beside the same without: names, and their maps of held-out errors."""

    model: str
    maps: Product
    without: str
    maps_without: Product

    def describe(self, blocks: Product, shape: tuple[int, int]) -> str:
        """Their held-out errors inside the blocks that glow: mean over cells of the ratio of mean absolute errors."""
        inside = block_mean(glowing_pixels(blocks, shape), PICTURE_SIDE) > 0.5
        mine, theirs = (read_planes(path, ["SCI"])[0][:, inside] for path in (self.maps, self.maps_without))
        both = np.isfinite(mine) & np.isfinite(theirs)
        told = both.any(axis=1)
        if not told.any():
            return "no cell can be left out to compare it with the model without"
        means = (np.where(both, error, 0.0).sum(axis=1)[told] for error in (mine, theirs))
        ratio = float(np.mean(np.divide(*means)))
        return f"there the held-out error of {self.model} is {ratio:.3f} of that of {self.without}"


def glow_notes(paths: Sequence[Product], models: Sequence[Sequence[str]], shape: tuple[int, int]) -> list[str]:
    """What model.yaml says of the glow.

    Parameters
    ----------
    models : of each model with glow its name and, where it was fitted, that of the same without. paths : of each its
    map of blocks and its held-out maps, then those of the other.
    """
    rest, notes = list(paths), []
    for names in models:
        blocks, maps = rest.pop(0), rest.pop(0)
        note = describe_glow(blocks)
        if len(names) > 1:
            note += "; " + Compared(names[0], maps, names[1], rest.pop(0)).describe(blocks, shape)
        notes.append(note)
    return notes
