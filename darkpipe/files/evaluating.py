"""Evaluation on disk: errors of a model against masters, the table of them, and the pictures drawn from both."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.ageing import master_noise, predict
from darkpipe.files.arrays import read_arrays
from darkpipe.files.atomic import replace_file, replace_text
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import Description, read_maps
from darkpipe.files.products import read_inputs, read_planes
from darkpipe.files.tables import read_table
from darkpipe.science.flags import MODEL_INVALID
from darkpipe.science.metrics import accumulate

NAN = math.nan


@dataclass(frozen=True)
class Compared:
    """A prediction and what was measured, (rows, cols) each [ADU], with 1 sigma; bits of the prediction."""

    signal: NDArray[np.float32]
    error: NDArray[np.float32]
    dq: NDArray[np.uint16]
    master: NDArray[np.float32]
    master_error: NDArray[np.float32]


def compared(
    folder: ModelDir, description: Description, key: str, cell: Cell, reference: ReferenceValues, master: Path
) -> Compared:
    """A master beside what the model says of it: signal beyond the bias's own exposure.

    A master without a bias has that of the model subtracted here. Where the model has none either, both stand on the
    level that was fitted with it.
    """
    science, noise, count = read_planes(master, ["SCI", "ERR", "COUNT"])
    found = predict(folder, description, read_maps(folder, description.find(key)), cell, reference)
    signal, error = found.signal, found.error
    if found.level is not None and description.has_bias:
        science = science - found.level
        noise = master_noise(noise, count, found, cell, description)
    elif found.level is not None:
        signal = signal + found.level
    planes = (np.asarray(v, np.float32) for v in (science, noise))
    return Compared(signal.astype(np.float32), error.astype(np.float32), found.dq, *planes)


def measure_cell(
    signal: NDArray[np.float32],
    error: NDArray[np.float32],
    dq: NDArray[np.uint16],
    master: NDArray[np.float32],
    master_error: NDArray[np.float32],
) -> dict[str, float | int]:
    """Errors of a prediction against a master."""
    flagged = (dq & int(MODEL_INVALID)) != 0
    return accumulate(signal, error, master, master_error, flagged).summary()


def held_out_plane(path: Path, cell: str) -> NDArray[np.float32] | None:
    """Reduced map of held-out errors of a cell, None if the unit did not have it."""
    names = [str(n).strip() for n in read_inputs(path)]
    if cell not in names:
        return None
    (cube,) = read_planes(path, ["SCI"])
    plane: NDArray[np.float32] = cube[names.index(cell)]
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


def read_json(path: Path) -> dict[str, Any]:
    """Plain data back, null as NaN."""
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
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
