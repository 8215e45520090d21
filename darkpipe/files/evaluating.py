"""Evaluation on disk: errors of a model against masters, the table of them, and the pictures drawn from both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.atomic import replace_text
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import Cell, ReferenceValues, effective_exposure
from darkpipe.files.model_maps import Description, read_maps
from darkpipe.files.products import read_inputs, read_planes
from darkpipe.files.tables import read_table
from darkpipe.science.flags import MODEL_INVALID
from darkpipe.science.metrics import accumulate

NAN = math.nan


def prediction_of(
    folder: ModelDir, description: Description, key: str, cell: Cell, reference: ReferenceValues
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
    """What a master of this cell should read by the model: signal beyond the bias's own exposure, or, without bias
    frames, signal on the fitted level; its 1 sigma, and bits; (rows, cols) each."""
    model = description.find(key)
    exposure_s = effective_exposure(cell, reference)
    signal, error, dq = read_maps(folder, model).synthesize(cell.temperature_c, exposure_s)
    if not cell.bias:
        level = folder.offset(model.name, model.cell)
        if level.is_file():
            signal = signal + BiasSource(level, cell.temperature_c).read()[0]
    return signal.astype(np.float32), error.astype(np.float32), dq


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
