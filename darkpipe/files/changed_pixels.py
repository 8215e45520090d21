"""Pixels that became hot since a model was made, from masters on disk, in bands of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.files.ageing import combined_error, is_hot, master_noise, predict
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import Cell, ReferenceValues
from darkpipe.files.model_maps import Description, ModelMaps, read_maps
from darkpipe.files.products import read_planes
from darkpipe.files.tables import table_of
from darkpipe.science.ageing import CellChange, Change
from darkpipe.science.changed_pixels import Excess, HotChanges, calm, combine_excess, judge_excess
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.models import TWO_COMPONENT, Reference
from darkpipe.science.noise import robust_median, robust_sigma

F4 = NDArray[np.float32]

BAND_BYTES = 128 << 20
LONGEST_LIST = 10_000
NOT_DESCRIBED = MODEL_INVALID & ~DQ.SATURATED  # a pixel that saturates in some cells is described in the others
MODEL_FULL = 0.98  # of a pixel's level of saturation: predicted beyond, a cell does not tell
FULL_ERROR, FULL_SHARE = 0.1, 0.5  # of a saturated sample: taken for its error; of it, predicted at most
KINDS = ("new", "vanished", "unconfirmed")


@dataclass(frozen=True)
class Compared:
    """A cell that takes part: its master, the model's key there, and what `compare_cell` found."""

    cell: Cell
    master: Path
    key: str
    change: CellChange


@dataclass(frozen=True)
class Search:
    """What counts as a changed pixel. hot_sigma : as in mask_hotpixels, of the model's signal in the reference cell."""

    sigma: float
    confirm_sigma: float
    hot_sigma: float


@dataclass
class Found:
    """Counts by kind, the pixels as rows, and what could be seen at all: the typical error in the reference cell."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    rows: list[dict[str, Any]] = field(default_factory=list)
    compared: int = 0
    detectable_adu: float = float("nan")
    hot_above_adu: float = float("nan")
    reference_cell: str = ""

    def table(self) -> Table:
        """Rows by significance, at most `LONGEST_LIST`."""
        ordered = sorted(self.rows, key=lambda r: (KINDS.index(r["kind"]), -abs(r["significance"]), r["y"], r["x"]))
        names = ("x", "y", "kind", "before_adu", "now_adu", "error_adu", "significance")
        types = (int, int, "U11", float, float, float, float)
        table = table_of(ordered[:LONGEST_LIST]) if ordered else Table(names=names, dtype=types)
        table.meta |= {"reference_cell": self.reference_cell, **self.counts}
        return table


def find_changed_pixels(
    folder: ModelDir,
    description: Description,
    cells: Sequence[Compared],
    reference: ReferenceValues,
    change: Change,
    search: Search,
) -> Found:
    """Look for pixels that became hot, or ceased to be, in all cells together.

    Rates that changed for all (bulk and hot apart) and the level of each cell are taken out first; errors are enlarged
    by the spread that the pulls of the cell have.
    """
    brightest = max(cells, key=lambda c: c.cell.exposure_s * 2.0 ** (c.cell.temperature_c / 6.5))
    found = Found(reference_cell=brightest.cell.name)
    template = _template(cells, brightest)
    maps = read_maps(folder, description.find(brightest.key))
    before, model_error, dq = maps.synthesize(brightest.cell.temperature_c, brightest.cell.exposure_s)
    valid = (dq & int(NOT_DESCRIBED)) == 0
    middle = robust_median(before[valid])
    sigma = max(robust_sigma(before[valid]), robust_median(model_error[valid]))
    found.hot_above_adu = middle + search.hot_sigma * sigma
    errors = []
    rows, cols = description.shape
    height = max(1, BAND_BYTES // (len(cells) * cols * 40))
    for first in range(0, rows, height):
        band = slice(first, min(first + height, rows))
        start, was_hot = before[band].ravel(), (dq[band].ravel() & int(DQ.HOT)) != 0
        own = np.where(was_hot | (start > found.hot_above_adu), start, np.float32(np.nan))
        excess = _excess(folder, description, cells, reference, change, template, own, search.confirm_sigma, band)
        compared = valid[band].ravel() & np.isfinite(excess.sigmas)
        judged = judge_excess(start, excess, was_hot, compared, found.hot_above_adu, middle, search.sigma)
        _add(found, judged, start, excess, band.start, cols)
        found.compared += int(compared.sum())
        errors.append(excess.error_adu[compared])
    found.detectable_adu = search.sigma * robust_median(np.concatenate(errors))
    return found


def _template(cells: Sequence[Compared], reference: Compared) -> NDArray[np.float64]:
    """Signal of a generating defect in each cell over that in the reference cell."""
    temperature = np.array([c.cell.temperature_c for c in [*cells, reference]])
    exposure = np.array([c.cell.exposure_s for c in [*cells, reference]])
    generation = TWO_COMPONENT.design(temperature, exposure, Reference(reference.cell.temperature_c))[0]
    return np.asarray(generation[:-1] / generation[-1])


def _excess(
    folder: ModelDir,
    description: Description,
    cells: Sequence[Compared],
    reference: ReferenceValues,
    change: Change,
    template: NDArray[np.float64],
    own: F4,
    confirm_sigma: float,
    band: slice,
) -> Excess:
    """`own` (p,): signal in the reference cell of pixels that are hot by the model; a change of theirs is taken to grow
    as the pixel does."""
    maps = {key: read_maps(folder, description.find(key), band) for key in {c.key for c in cells}}
    planes = [_difference(folder, description, c, reference, change, maps[c.key], band) for c in cells]
    difference, error, vouching, signal = (np.stack(p) for p in zip(*planes, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = np.where(own > 0, np.fmax(signal, 0.0) / own, template[:, None].astype(np.float32))
    return combine_excess(difference, error, growth, vouching, confirm_sigma)


def _difference(
    folder: ModelDir,
    description: Description,
    it: Compared,
    reference: ReferenceValues,
    change: Change,
    maps: ModelMaps,
    band: slice,
) -> tuple[F4, F4, NDArray[np.bool_], F4]:
    """Master minus model with what changed for all taken out, its 1 sigma, whether the frames agree, and the signal
    of the model; (p,) each."""
    prediction = predict(folder, description, maps, it.cell, reference, band)
    science, master_error, bits, count = read_planes(it.master, ["SCI", "ERR", "DQ", "COUNT"], band)
    full = (bits & int(DQ.SATURATED)) != 0
    noise = master_noise(master_error, count, prediction, it.cell, description)
    error = combined_error(noise, prediction, maps.model)
    # at least as bright as it reads: counted as if it were that, unless the model says the same
    error = np.where(full, np.fmax(np.nan_to_num(error), FULL_ERROR * np.abs(science)), error)
    error[full & ~(prediction.signal < FULL_SHARE * science)] = np.nan
    error[prediction.signal >= MODEL_FULL * maps.saturation_adu] = np.nan
    c = it.change
    bright = is_hot(prediction, None, c.bulk_signal_adu)
    bulk_rate, hot_rate = (ratio[0] - 1.0 if np.isfinite(ratio[0]) else 0.0 for ratio in (change.bulk, change.hot))
    level = c.difference_adu - bulk_rate * c.bulk_signal_adu if np.isfinite(c.difference_adu) else change.level_adu[0]
    least = 0.1  # of a rate, so that what is left can be divided by it
    rate = np.where(bright, np.float32(max(1.0 + hot_rate, least)), np.float32(max(1.0 + bulk_rate, least)))
    expected = prediction.signal * rate + np.float32(level)
    if prediction.level is not None:
        expected = expected + prediction.level
    error *= np.where(bright, _enlarged(c.hot_spread), _enlarged(c.bulk_spread))
    agree = full & (it.cell.frames > 1)
    if it.cell.frames > 1:
        agree = agree | calm(count, read_planes(it.master, ["CHI2"], band)[0])
    return (
        # in units of the old rates, so that a pixel that vanished loses all it had, and no more
        np.asarray((science - expected) / rate, np.float32).ravel(),
        np.asarray(error / rate, np.float32).ravel(),
        np.asarray(agree).ravel(),
        prediction.signal.ravel(),
    )


def _enlarged(spread: float) -> np.float32:
    return np.float32(max(1.0, spread) if np.isfinite(spread) else 1.0)


def _add(found: Found, judged: HotChanges, before: F4, excess: Excess, first_row: int, cols: int) -> None:
    masks: Mapping[str, NDArray[np.bool_]] = {
        "new": judged.new,
        "vanished": judged.vanished,
        "unconfirmed": judged.unconfirmed,
    }
    for kind, mask in masks.items():
        where = np.flatnonzero(mask)
        found.counts[kind] += where.size
        strongest = where[np.argsort(-np.abs(excess.sigmas[where]), kind="stable")[:LONGEST_LIST]]
        for p in strongest.tolist():
            found.rows.append(
                {
                    "x": p % cols,
                    "y": first_row + p // cols,
                    "kind": kind,
                    "before_adu": round(float(before[p]), 3),
                    "now_adu": round(float(before[p] + excess.signal_adu[p]), 3),
                    "error_adu": round(float(excess.error_adu[p]), 3),
                    "significance": round(float(excess.sigmas[p]), 2),
                }
            )
