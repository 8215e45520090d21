"""Maps of a model, and its table of held-out errors, from the tiles that were fitted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.errors import ProductError
from darkpipe.files.ahead import ahead
from darkpipe.files.arrays import read_arrays
from darkpipe.files.bias_files import line_of_levels
from darkpipe.files.fitting import PLANES, Tile, UnitFiles, plane_name
from darkpipe.files.model_maps import BY_BIAS
from darkpipe.files.products import Card, Frame, blank
from darkpipe.files.strips import write_together
from darkpipe.files.tables import table_of
from darkpipe.files.tile_sums import BINS, TEXT, Sums, add_sums
from darkpipe.science.design import Unit
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS

_VARIANCE_SLOT = {0: 0, 1: 3, 2: 5}  # of the six of a covariance
TO_DO = "run step 5 again"
_NEEDED = {
    "covariance": ("covariance", "by_bias"),
    "chi2": ("chi2", "dof"),
    "status": ("dq",),
    "offset": ("offset",),
}
"""Arrays of a tile that a map is made of; that of a parameter is made of parameters, covariance and bits."""


@dataclass
class Assembled:
    """A unit put together from its tiles: arrays by name, as in `fit_band`; sums of errors by kind, one a cell;
    held_out_error : mean absolute ones of blocks (n, r, c)."""

    arrays: Tile
    held_out_error: NDArray[np.float32]
    together: NDArray[np.float64]
    sums: Sums


def assemble(tiles: Iterable[Tile]) -> Assembled:
    """Put tiles of `fit_band` together, in the order of their rows."""
    parts: dict[str, list[NDArray[Any]]] = {}
    sums: Sums = {}
    for tile in tiles:
        add_sums(sums, tile)
        for name, array in tile.items():
            if name not in (TEXT, BINS):
                parts.setdefault(name, []).append(array)
    together = np.sum(parts.pop("together"), axis=0)
    joined = {name: np.concatenate(arrays, axis=-2) for name, arrays in parts.items()}
    return Assembled(joined, joined.pop("held_out_error"), together, sums)


def map_names(files: UnitFiles, tile: Tile) -> list[str]:
    """What `parameter_map` makes of these: the parameters, 'covariance', 'chi2', 'status', and 'offset', the fitted
    level, if there is any."""
    names = [*(p.name for p in files.unit.model.parameters), "covariance", "chi2", "status"]
    return [*names, "offset"] if "offset" in tile else names


def parameter_maps(files: UnitFiles, made: Assembled) -> dict[str, Frame]:
    """The maps of a unit by their names."""
    return {name: parameter_map(files, name, made.arrays) for name in map_names(files, made.arrays)}


def parameter_map(files: UnitFiles, name: str, tile: Tile) -> Frame:
    """One map, or a band of it: of a parameter value, 1 sigma and status."""
    return _Maps.of(files).frame(name, tile)


@dataclass(frozen=True)
class _Maps:
    """Makes the maps of a unit. cards : that all of them have."""

    files: UnitFiles
    unit: Unit
    cards: list[Card]

    @classmethod
    def of(cls, files: UnitFiles) -> _Maps:
        unit = files.unit
        reference = unit.map_reference
        cards: list[Card] = [
            ("MODEL", files.model, MODELS[files.model].formula[:40]),
            ("SCOPE", files.scope, "cells of one exposure or temperature, if any"),
            ("T-REF", reference.temperature_c, "[deg C] temperature the parameters are quoted at"),
            ("T-MIN", float(files.temperature_c.min()), "[deg C] lowest fitted"),
            ("T-MAX", float(files.temperature_c.max()), "[deg C] highest fitted"),
            ("EXPMIN", float(files.exposure_s.min()), "[s] shortest fitted"),
            ("EXPMAX", float(files.exposure_s.max()), "[s] longest fitted"),
            ("EGAP", reference.energy_gap_ev, "[eV] energy gap"),
        ]
        return cls(files, unit, cards)

    def frame(self, name: str, tile: Tile) -> Frame:
        """One map, or a band of it."""
        if name == "covariance":
            return self._covariance(tile)
        if name == "chi2":
            return Frame(tile["chi2"], unit="", header=self.cards, extra={"DOF": tile["dof"]})
        if name == "status":
            seen = (tile["dq"] & ~np.uint16(DQ.PRIOR)) != 0  # a borrowed shape is no flaw
            return Frame(seen.view(np.uint8), dq=tile["dq"], unit="", header=self.cards)
        if name == "offset":
            return line_of_levels(tile["offset"][0], tile["offset"][1], self.files.level_temperatures_c)
        parameter = next(p for p in self.unit.model.parameters if p.name == name)
        return Frame(
            tile["parameters"][parameter.slot],
            np.sqrt(tile["covariance"][_VARIANCE_SLOT[parameter.slot]]),
            tile["dq"],
            parameter.unit,
            [*self.cards, ("PARAM", name, "parameter of this map")],
            inputs=[c.name for c in self.files.cells],
        )

    def _covariance(self, tile: Tile) -> Frame:
        """The covariance, and, where biases were subtracted, how the parameters move with them."""
        told = ", ".join(f"{p.slot}: {p.name}" for p in self.unit.model.parameters)
        cards = [*self.cards, ("PLANES", "00 01 02 11 12 22", f"slots {told}")]
        if not any(cell.bias for cell in self.files.cells):
            return Frame(tile["covariance"], unit="", header=cards)
        slots = [p.slot for p in self.unit.model.parameters]
        chosen = [*slots, *(3 + slot for slot in slots)]
        planes = tile["by_bias"] if chosen == list(range(6)) else tile["by_bias"][chosen]
        cards.append((BY_BIAS, len(slots), "parameters in BYBIAS: by 1 adu of bias, by 1 adu/K from T-REF on"))
        return Frame(tile["covariance"], unit="", header=cards, extra={BY_BIAS: planes})


def write_maps(paths: Mapping[str, Path], files: UnitFiles, tiles: Sequence[Path], rows: int) -> dict[Path, str]:
    """Write maps, by their names, from the tiles in the order of their rows: each tile is read once, and one is in
    memory beside the next; returns the digests.

    rows : of all tiles together.

    Raises
    ------
    ProductError
        when a tile is missing or damaged, or a map cannot be written.
    """
    maps = _Maps.of(files)
    wanted = {array for name in paths for array in _NEEDED.get(name, ("parameters", "covariance", "dq"))}

    def bands() -> Iterator[tuple[slice, list[Mapping[str, NDArray[Any]]]]]:
        begin = 0
        for path in tiles:
            tile = _read_tile(path, wanted)
            end = begin + next(iter(tile.values())).shape[-2]
            yield slice(begin, end), [maps.frame(name, tile).planes for name in paths]
            begin = end

    first = _read_tile(tiles[0], wanted)
    templates = [_blank(maps.frame(name, first), rows) for name in paths]
    digests = write_together(list(paths.values()), templates, ahead(bands()))
    return dict(zip(paths.values(), digests, strict=True))


def _blank(frame: Frame, rows: int) -> Frame:
    """The same without pixels, so many rows high."""
    planes: dict[str, Any] = {n: blank((*p.shape[:-2], rows, p.shape[-1]), p.dtype) for n, p in frame.planes.items()}
    science, error, dq = (planes.pop(name, None) for name in ("SCI", "ERR", "DQ"))
    return replace(frame, science=science, error=error, dq=dq, extra=planes)


def count_rows(tiles: Sequence[Path]) -> int:
    """Rows of the tiles of a unit together.

    Raises
    ------
    ProductError
        when a tile is missing or damaged.
    """
    return sum(_read_tile(tile, ("dq",))["dq"].shape[0] for tile in tiles)


def read_sums(tiles: Sequence[Path]) -> Assembled:
    """What tells of a fit as a whole: sums, and errors of blocks.

    Raises
    ------
    ProductError
        when a tile is missing or damaged.
    """
    return assemble(_read_tile(tile, (TEXT, BINS, "together", "held_out_error")) for tile in tiles)


def _read_tile(path: Path, names: Collection[str]) -> Tile:
    """Arrays of a tile; the planes of those of `PLANES`, which are kept one by one, put together again."""
    whole: Tile = {}
    parts = {plane_name(name, k): (name, k) for name in PLANES if name in names for k in range(PLANES[name])}

    def place(part: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
        if part not in parts:
            return np.empty(shape, kind)
        name, number = parts[part]
        if name not in whole:
            whole[name] = np.empty((PLANES[name], *shape), kind)
        plane: NDArray[Any] = whole[name][number]
        return plane

    found = read_arrays(path, "a tile", TO_DO, {*names, *parts}, place)
    if missing := sorted({*names, *parts} - {*found, *whole}):
        raise ProductError(f"a tile lacks {', '.join(missing)}", where=path, do=TO_DO)
    return {name: array for name, array in found.items() if name not in parts} | whole


def held_out(files: UnitFiles, made: Assembled) -> tuple[Table, Frame]:
    """The table of held-out errors, with the model's score in its meta, and the reduced maps of them."""
    rows = []
    ratios = []
    for k, cell in enumerate(files.cells):
        held = made.sums["held_out"][k].summary()
        inside = made.sums["in_sample"][k].summary()
        base = made.sums["baseline"][k].summary()
        floor = held["noise_floor_unflagged_adu"]
        if held["n_pixels"] and floor > 0:
            ratios.append(held["mae_unflagged_adu"] / floor)
        number, deviation, shared = made.together[k]
        rows.append(
            {
                "cell": cell.name,
                "temperature_c": cell.temperature_c,
                "exposure_s": cell.exposure_s,
                "n_frames": cell.frames,
                **held,
                "in_sample_mae_adu": inside["mae_adu"],
                "in_sample_median_error_adu": inside["median_error_adu"],
                "nearest_scaled_mae_adu": base["mae_adu"],
                "nearest_scaled_mae_unflagged_adu": base["mae_unflagged_adu"],
                "together_percent": 100.0 * deviation / number if number else np.nan,
                "together_error_percent": 100.0 * shared / number if number else np.nan,
            }
        )
    score = float(np.mean(ratios)) if ratios else None
    made_table = table_of(rows)
    made_table.meta["model"] = files.model
    made_table.meta["score"] = score
    frame = Frame(
        made.held_out_error, header=[("CONTENT", "held-out error", "mean absolute, block averaged; one plane a cell")]
    )
    frame.inputs = [c.name for c in files.cells]
    return made_table, frame
