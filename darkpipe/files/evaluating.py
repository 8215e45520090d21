"""Evaluation on disk: errors of a model against masters, the table of them, and the pictures drawn from both."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ageing import Prediction, master_noise, predict
from darkpipe.files.arrays import read_arrays
from darkpipe.files.atomic import replace_file, replace_text
from darkpipe.files.bands import rows_of
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import Description
from darkpipe.files.products import read_inputs, read_layer, read_planes, read_shape
from darkpipe.files.shared_maps import maps_of
from darkpipe.files.tables import read_table
from darkpipe.regular import read_text
from darkpipe.science.band_order import ValueCounts
from darkpipe.science.blocks import block_side
from darkpipe.science.flags import MODEL_INVALID
from darkpipe.science.metrics import CellErrors, ErrorCounts
from darkpipe.science.reduced import Reduced, error_blocks

F4 = NDArray[np.float32]

NAN = math.nan
BYTES_A_PIXEL = 90  # of all that is held of a band at a time
BRIGHT = 5.0  # errors of a master above which a relative error says something


@dataclass(frozen=True)
class Compared:
    """A master against what a model says of it: the errors, the median of the master [ADU], and maps of blocks, at most
    so many a side as was asked for: mean absolute error, the master where it is clearly above its error, the model's
    signal [ADU]."""

    errors: CellErrors
    median_adu: float
    absolute: F4
    bright: F4
    signal: F4


@dataclass(frozen=True)
class Held:
    """A master that is held against a model, in bands of rows: signal beyond the bias's own exposure.

    A master without a bias has that of the model subtracted here. Where the model has none either, both stand on the
    level that was fitted with it. key : of the fitted model.
    """

    folder: ModelDir
    description: Description
    key: str
    cell: Cell
    reference: ReferenceValues
    master: Path

    def band(self, rows: slice) -> tuple[Prediction, F4, F4, F4]:
        """Of some rows: what the model says, its signal, the master and its 1 sigma [ADU]."""
        science, noise, count = read_planes(self.master, ["SCI", "ERR", "COUNT"], rows)
        maps = maps_of(self.folder, self.description.find(self.key), rows)
        found = predict(self.folder, self.description, maps, self.cell, self.reference, rows)
        signal = found.signal
        if found.level is not None and self.description.has_bias:
            science = science - found.level
            noise = master_noise(noise, count, found, self.cell, self.description)
        elif found.level is not None:
            signal = signal + found.level
        return found, np.asarray(signal, np.float32), np.asarray(science, np.float32), np.asarray(noise, np.float32)

    def measured(self, rows: slice) -> F4:
        """The master of `band` alone [ADU]."""
        (science,) = read_planes(self.master, ["SCI"], rows)
        if self.cell.bias or not self.description.has_bias or not self.folder.bias_line.is_file():
            return np.asarray(science, np.float32)
        level = BiasSource(self.folder.bias_line, self.cell.temperature_c).read(rows)[0]
        return np.asarray(science - level, np.float32)

    def compare(self, max_side: int) -> Compared:
        """Errors, and maps of at most so many blocks a side; no band parts a block."""
        shape = read_shape(self.master)
        side = block_side(shape, max_side)
        bands = rows_of(shape, BYTES_A_PIXEL, side)
        errors, counts = ErrorCounts(), ValueCounts()
        maps: list[list[F4]] = [[], [], []]
        for rows in bands:
            found, signal, science, noise = self.band(rows)
            flagged = (found.dq & int(MODEL_INVALID)) != 0
            errors.add(signal, np.asarray(found.error, np.float32), science, noise, flagged)
            counts.add(science)
            for parts, blocks in zip(maps, error_blocks(signal, science, noise, BRIGHT, side), strict=True):
                parts.append(blocks)
        median = counts.median(self.measured(rows) for rows in bands)
        return Compared(errors.errors(), median, *(np.concatenate(parts) for parts in maps))

    def residual(self, max_side: int) -> Reduced:
        """Master - model [ADU], as a picture of at most so many points a side shows it."""
        shape = read_shape(self.master)
        return Reduced.of_bands(
            shape, self._residuals(rows_of(shape, BYTES_A_PIXEL, block_side(shape, max_side))), max_side
        )

    def _residuals(self, bands: Iterable[slice]) -> Iterator[tuple[int, F4]]:
        for rows in bands:
            _, signal, science, _ = self.band(rows)
            yield rows.start, science - signal


def held_out_plane(path: Path, cell: str) -> NDArray[np.float32] | None:
    """Reduced map of held-out errors of a cell, None if the unit did not have it."""
    names = [str(n).strip() for n in read_inputs(path)]
    if cell not in names:
        return None
    plane: NDArray[np.float32] = read_layer(path, "SCI", names.index(cell))
    return plane if np.isfinite(plane).any() else None


def held_out_row(path: Path, cell: str) -> dict[str, float]:
    """The held-out errors of a cell as the fit measured them."""
    table = read_table(path)
    for r in table:
        if str(r["cell"]) == cell:
            return {n: float(r[n]) for n in table.colnames if table[n].dtype.kind in "fiu"}
    return {}


def write_json(path: Path, data: Mapping[str, Any]) -> str:
    """Plain data as JSON; NaN as null. Returns the digest."""
    clean = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in data.items()}
    return replace_text(path, json.dumps(clean, indent=1) + "\n")


def write_picture(path: Path, picture: bytes) -> str:
    """What was drawn. Returns the digest."""

    def write(stream: BinaryIO) -> None:
        stream.write(picture)

    return replace_file(path, write)


def read_json(path: Path) -> dict[str, Any]:
    """Plain data back, null as NaN."""
    data: dict[str, Any] = json.loads(read_text(path))
    return {k: (NAN if v is None else v) for k, v in data.items()}


def write_maps(path: Path, held_out: bool, maps: Mapping[str, NDArray[np.float32]]) -> str:
    """Small maps of the errors of a cell by name, and whether it was left out of the fit. Returns the digest."""
    arrays = {name: np.asarray(image, np.float32) for name, image in maps.items()}
    return replace_file(path, lambda stream: np.savez(stream, held_out=np.array(held_out), **arrays))  # type: ignore[arg-type]


def read_small_maps(path: Path) -> tuple[bool, dict[str, NDArray[np.float32]]]:
    """What `write_maps` wrote.

    Raises
    ------
    ProductError
        when the file is missing or damaged.
    """
    arrays = read_arrays(path, "the map of errors", "run with --force")
    return bool(arrays.get("held_out", False)), {name: image for name, image in arrays.items() if name != "held_out"}


def relative_name(path: Path, folder: Path) -> str:
    """A path as seen from a folder, with forward slashes; as it is where it lies on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(os.path.abspath(path)).as_posix()
