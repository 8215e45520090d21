"""New masters against a model on disk: one cell, and what all cells share (pedestal, its drift, master biases)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.files.bias_files import T_REF, BiasSource
from darkpipe.files.index import ACCEPTED
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import UNUSABLE, Cell, ReferenceValues, effective_exposure
from darkpipe.files.model_maps import Description, FittedModel, ModelMaps, read_maps
from darkpipe.files.products import read_header, read_planes
from darkpipe.files.tables import read_table
from darkpipe.science.ageing import CellChange, CellOfCheck, compare_cell, leverage
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.noise import MAD_TO_SIGMA, robust_median
from darkpipe.science.quadrature import quadrature

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]

BRIGHT = DQ.HOT | DQ.WARM
DEFECT = 3.0  # times the bulk's signal: a hot pixel whose rate is that of its defect
TYPICAL_GROWTH_PER_C = 0.12  # of dark current, where the model has no signal to tell it from
UNKNOWN_DRIFT_ADU = 1.0  # of a pedestal from frame to frame: real cameras show 0.5 to 1 ADU
LEAST_DRIFT_ADU = 0.05
ENOUGH_FRAMES = 6  # to measure the drift
SAME_TEMPERATURE_C = 1.0  # within which a single master bias serves


@dataclass(frozen=True)
class Prediction:
    """What a master should read: level + signal [ADU], 1 sigma of both without the multiplicative error, bits."""

    signal: F4
    level: F4 | None
    error: F4
    dq: Bits


def predict(
    folder: ModelDir,
    description: Description,
    maps: ModelMaps,
    cell: Cell,
    reference: ReferenceValues,
    rows: slice = slice(None),
) -> Prediction:
    """The model at a cell. Where the new frames have no biases, the model's own bias (or fitted level) is the level."""
    signal, error, dq = maps.synthesize(cell.temperature_c, effective_exposure(cell, reference))
    if cell.bias:
        return Prediction(signal, None, error, dq)
    source = folder.bias_line if description.has_bias else folder.offset(maps.model.name, maps.model.cell)
    if not source.is_file():
        return Prediction(signal, None, error, dq)
    if description.has_bias and description.bias_exposure_s > 0:
        signal = signal - maps.signal(cell.temperature_c, description.bias_exposure_s)
    level, level_error, _ = BiasSource(source, cell.temperature_c).read(rows)
    return Prediction(signal, level, quadrature(error, level_error), dq)


def master_noise(
    master_error: F4, count: NDArray[np.uint16], prediction: Prediction, cell: Cell, description: Description
) -> F4:
    """1 sigma of a master. One without a bias took the level of its darkest pixels for that of no signal, though they
    have shot noise, too, and its read noise is an upper limit: there the model's numbers make it."""
    if cell.bias:
        return master_error
    variance = description.read_noise_adu**2 + np.fmax(prediction.signal, 0.0) / description.gain_e_per_adu
    made = np.sqrt(variance / np.maximum(count, 1))
    return np.asarray(np.where(np.isfinite(master_error), made, master_error), np.float32)


def combined_error(master_error: F4, prediction: Prediction, model: FittedModel) -> F4:
    """1 sigma of master - prediction of each pixel, with the model's multiplicative error."""
    multiplicative = model.relative_error * prediction.signal
    return np.asarray(np.sqrt(master_error**2 + prediction.error**2 + multiplicative**2), np.float32)


@dataclass(frozen=True)
class Beyond:
    """Of a cell outside of the range of its model. other : key of another law that was fitted to the same frames, None
    where there is none. temperatures : that were fitted, [°C], with 1 sigma and the number of cells."""

    other: str | None
    temperatures: Sequence[tuple[float, float, int]]


def compare_master(
    folder: ModelDir,
    description: Description,
    key: str,
    cell: Cell,
    reference: ReferenceValues,
    master: Path,
    beyond: Beyond | None,
) -> dict[str, Any]:
    """The numbers of one cell, for JSON: those of `CellChange`, the growth of both populations with temperature, and
    what extrapolation adds to their errors."""
    model = description.find(key)
    maps = read_maps(folder, model)
    found = predict(folder, description, maps, cell, reference)
    science, master_error, bits, count = read_planes(master, ["SCI", "ERR", "DQ", "COUNT"])
    error = combined_error(master_noise(master_error, count, found, cell, description), found, model)
    usable = ((found.dq & int(MODEL_INVALID)) == 0) & ((bits & int(UNUSABLE)) == 0)
    bright = (found.dq & int(BRIGHT)) != 0
    observed = science if found.level is None else science - found.level
    bulk = usable & ~bright
    hot = usable & is_hot(found, bulk)
    change = compare_cell(observed.ravel(), found.signal.ravel(), error.ravel(), bulk.ravel(), hot.ravel())
    exposure_s = effective_exposure(cell, reference)
    warmer = maps.signal(cell.temperature_c + 1.0, exposure_s)
    growth = {
        f"{name}_growth_per_c": _growth(found.signal[where], warmer[where])
        for name, where in (("bulk", bulk), ("hot", hot))
    }
    extrapolation: dict[str, Any] = {"extrapolated": beyond is not None, "bulk_law": 0.0, "hot_law": 0.0}
    extrapolation["leverage_c"] = list(leverage(cell.temperature_c, beyond.temperatures)) if beyond else []
    if beyond is not None and beyond.other is not None:
        another = read_maps(folder, description.find(beyond.other)).signal(cell.temperature_c, exposure_s)
        extrapolation |= {f"{name}_law": _law(found.signal[where], another[where])
                          for name, where in (("bulk", bulk), ("hot", hot))}  # fmt: skip
    known = {"model": key, "cell": asdict(cell), "relative_error": model.relative_error}
    return {**known, **growth, **extrapolation, **asdict(change)}


def _law(signal: F4, another: F4) -> float:
    """What another law predicts more, as a fraction; 0 of no pixels."""
    good = np.isfinite(signal) & np.isfinite(another)
    middle = float(np.median(signal[good])) if good.any() else 0.0
    return float(np.median(another[good] - signal[good])) / middle if middle > 0 else 0.0


def is_hot(prediction: Prediction, bulk: NDArray[np.bool_] | None, bulk_adu: float = math.nan) -> NDArray[np.bool_]:
    """Pixels that are defects, not the upper end of the bulk: flagged hot, and well above the bulk's median (of the
    pixels `bulk`, or given)."""
    middle = robust_median(prediction.signal[bulk]) if bulk is not None else bulk_adu
    floor = DEFECT * max(middle, 0.0) if math.isfinite(middle) else 0.0
    return np.asarray(((prediction.dq & int(DQ.HOT)) != 0) & (prediction.signal > floor))


def _growth(signal: F4, warmer: F4) -> float:
    good = np.isfinite(signal) & np.isfinite(warmer)
    before, after = (float(np.median(v[good])) if good.any() else math.nan for v in (signal, warmer))
    return math.log(after / before) if before > 0 and after > 0 else TYPICAL_GROWTH_PER_C


def cell_of_check(row: Mapping[str, Any]) -> CellOfCheck:
    """What `compare_master` found, read back."""
    names = CellChange.__dataclass_fields__
    return CellOfCheck(
        CellChange(**{name: row[name] for name in names}),
        row["cell"]["temperature_c"],
        row["cell"]["temperature_sigma_c"],
        row["cell"]["frames"],
        row["bulk_growth_per_c"],
        row["hot_growth_per_c"],
        row["relative_error"],
        row["bulk_law"],
        row["hot_law"],
        tuple(row["leverage_c"]),
    )


def pedestal_drift(corrected: Path, bias_frames: Path, scale_factor: float) -> float:
    """Scatter of the pedestal from frame to frame [ADU]: of the bias frames, else of all; where they are too few, what
    real cameras show."""
    biases = read_table(bias_frames) if bias_frames.is_file() else None
    return scatter_of_levels(read_table(corrected), biases, scale_factor)


def scatter_of_levels(corrected: Table, bias_frames: Table | None, scale_factor: float) -> float:
    """`pedestal_drift` of tables in memory; None: there are no bias frames."""
    biases: list[float] = []
    if bias_frames is not None:
        biases = _offsets(bias_frames, "bias", "offset_raw", 1.0 / scale_factor)
    if len(biases) < ENOUGH_FRAMES:
        biases += _offsets(corrected, "cell_temperature_c", "offset_adu", 1.0)
    if len(biases) < ENOUGH_FRAMES:
        return UNKNOWN_DRIFT_ADU
    return max(LEAST_DRIFT_ADU, MAD_TO_SIGMA * float(np.median(np.abs(biases))))


def _offsets(table: Any, group: str, column: str, factor: float) -> list[float]:
    """Distances of frames from the middle of theirs, of groups of two or more, freed from the fit of the middle."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for r in table:
        if str(r["status"]) == ACCEPTED:
            exposure = str(r["exposure_s"]) if "exposure_s" in table.colnames else ""
            groups.setdefault((str(r[group]), exposure), []).append(float(r[column]) * factor)
    out: list[float] = []
    for values in groups.values():
        n = len(values)
        out += [v * math.sqrt(n / (n - 1.0)) for v in values] if n > 1 else []
    return out


def pedestal_shift(
    folder: ModelDir, masters: Sequence[tuple[Path, float, int]], drift_adu: float
) -> tuple[float, float]:
    """New master biases minus the model's bias at their temperature [ADU], with 1 sigma; NaN where there are none.

    Parameters
    ----------
    masters : (file, temperature [°C], frames) of each new master bias. The model's counts as known equally well.
    """
    if not masters or not folder.bias_line.is_file():
        return math.nan, math.nan
    shifts, weights = [], []
    t_ref, sloped = float(read_header(folder.bias_line)[T_REF]), bool(read_planes(folder.bias_line, ["B1"])[0].any())
    for path, temperature_c, frames in masters:
        if not sloped and abs(temperature_c - t_ref) > SAME_TEMPERATURE_C:
            continue  # the model holds one master bias, of another temperature
        (new,) = read_planes(path, ["SCI"])
        difference = new - BiasSource(folder.bias_line, temperature_c).read()[0]
        shifts.append(float(np.median(difference[np.isfinite(difference)])))
        weights.append(max(frames, 1) / (2.0 * drift_adu**2))
    if not shifts:
        return math.nan, math.nan
    mean = float(np.average(shifts, weights=weights))
    scatter = float(np.average((np.array(shifts) - mean) ** 2, weights=weights)) / max(len(shifts) - 1, 1)
    return mean, math.sqrt(1.0 / sum(weights) + scatter)
