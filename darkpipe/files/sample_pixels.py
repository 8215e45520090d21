"""A few pixels of a campaign against the model: what every master says of them, and the model between the masters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.files.ageing import predict
from darkpipe.files.bands import rows_of
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import Cell, ReferenceValues, effective_exposure
from darkpipe.files.model_maps import Description, FittedModel, ModelMaps, read_bits, read_maps
from darkpipe.files.products import read_planes, read_shape
from darkpipe.files.synthetic import model_for
from darkpipe.files.tables import read_table, table_of, write_table
from darkpipe.science.band_order import ValueCounts
from darkpipe.science.flags import DQ, MODEL_INVALID

KINDS = ("bulk", "warm", "hot")
SHARES = (0.3, 0.8)  # of the pixels of a kind that are fainter than the ones that are shown
MOST_CURVES = 5
POINTS = 16  # of a curve
BYTES_A_PIXEL = 24  # of what is held of a band at a time
NOT_BULK = DQ.HOT | DQ.WARM | DQ.OUTLIER | DQ.FEW_SAMPLES | DQ.CLIPPED_LOW

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]
Band: TypeAlias = tuple[int, F4, Bits]


@dataclass(frozen=True)
class Source:
    """Where the numbers come from: the model, and the masters of the campaign with their cells."""

    folder: ModelDir
    description: Description
    reference: ReferenceValues
    cells: Sequence[Cell]
    masters: Sequence[Path]

    def models(self) -> list[FittedModel]:
        """That the chosen one stands for: one, or those of one axis."""
        base = self.description.chosen.split("/")[0]
        return [m for m in self.description.models if m.name == base]


def write_sample_pixels(path: Path, source: Source, brightest: int) -> str:
    """Two pixels of each kind (bulk, warm, hot), of those that the model describes; returns the digest.

    Rows ``kind, row, col, what, temperature_c, exposure_s, signal_adu, error_adu``: `what` is measured (a master, with
    its 1 sigma), or a curve of the model at one temperature ('over exposure') or one exposure ('over temperature').

    brightest : number of the cell in whose master pixels are ranked.
    """
    key = model_for(
        source.description, "auto", source.cells[brightest].temperature_c, source.cells[brightest].exposure_s
    )
    model, master = source.description.find(key), source.masters[brightest]

    def bands() -> Iterator[Band]:
        for part in rows_of(read_shape(master), BYTES_A_PIXEL):
            (signal,) = read_planes(master, ["SCI"], part)
            yield part.start, signal, read_bits(source.folder, model, part)

    rows: list[dict[str, Any]] = []
    for kind, row, col in chosen_pixels(bands):
        pixel = _Pixel(source, row, col)
        about = {"kind": kind, "row": row, "col": col}
        rows += [{**about, **values} for values in (*pixel.measured(), *pixel.curves())]
    if not rows:
        rows = [
            {
                "kind": "",
                "row": -1,
                "col": -1,
                "what": "none",
                "temperature_c": math.nan,
                "exposure_s": math.nan,
                "signal_adu": math.nan,
                "error_adu": math.nan,
            }
        ]
    return write_table(path, table_of(rows))


def chosen_pixels(bands: Callable[[], Iterable[Band]]) -> list[tuple[str, int, int]]:
    """(kind, row, column) of the pixels that stand for their kinds: 30 and 80 % of the kind are fainter.

    bands : gives a master [ADU] and the bits of mask and fit anew each time, by bands of rows: number of the first row,
        signal and bits (rows, cols).
    """
    counts = {kind: ValueCounts() for kind in KINDS}
    for _, signal, dq in bands():
        for kind, members in _members(signal, dq).items():
            counts[kind].add(signal[members] + np.float32(0))  # one zero
    ranks = [(kind, rank) for kind in KINDS for rank in _ranks(counts[kind].number)]
    around = [counts[kind].around(rank) for kind, rank in ranks]
    near: list[list[tuple[NDArray[np.int64], F4]]] = [[] for _ in ranks]
    columns = 1
    for first, signal, dq in bands():
        columns, kinds = signal.shape[1], _members(signal, dq)
        for (kind, _), (low, high, _), found in zip(ranks, around, near, strict=True):
            places = np.flatnonzero(kinds[kind] & (signal >= low) & (signal <= high))
            found.append((places + first * columns, signal.ravel()[places]))
    return [
        (kind, *divmod(_of_rank(found, rank - below), columns))
        for (kind, rank), (_, _, below), found in zip(ranks, around, near, strict=True)
    ]


def _members(signal: F4, dq: Bits) -> dict[str, NDArray[np.bool_]]:
    """Which pixels belong to each kind."""
    valid = np.isfinite(signal) & ((dq & int(MODEL_INVALID)) == 0)
    hot, warm = (dq & int(DQ.HOT)) != 0, (dq & int(DQ.WARM)) != 0
    return {"bulk": valid & ((dq & int(NOT_BULK)) == 0), "warm": valid & warm & ~hot, "hot": valid & hot}


def _ranks(number: int) -> list[int]:
    return sorted({min(int(share * number), number - 1) for share in SHARES}) if number else []


def _of_rank(found: Sequence[tuple[NDArray[np.int64], F4]], rank: int) -> int:
    """The place of a rank by value; of equal values the first place comes first."""
    places, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return int(places[np.argsort(values, kind="stable")[rank]])


class _Pixel:
    """One pixel in all masters and by the model; only its row is read."""

    def __init__(self, source: Source, row: int, col: int) -> None:
        self._source, self._col, self._rows = source, col, slice(row, row + 1)
        fitted = source.models()
        self._maps: Mapping[str, ModelMaps] = {m.key: read_maps(source.folder, m, self._rows) for m in fitted}
        self._own = {key: _of_column(maps, col) for key, maps in self._maps.items()}

    def _key(self, temperature_c: float, exposure_s: float) -> str | None:
        try:
            return model_for(self._source.description, "auto", temperature_c, exposure_s)
        except DesignError:
            return None

    def measured(self) -> Iterable[dict[str, Any]]:
        """A row a master; exposures as the model counts them, without that of the bias."""
        s = self._source
        for cell, master in zip(s.cells, s.masters, strict=True):
            science, error = (float(p[0, self._col]) for p in read_planes(master, ["SCI", "ERR"], self._rows))
            key = self._key(cell.temperature_c, cell.exposure_s)
            if not cell.bias and key is not None:
                found = predict(s.folder, s.description, self._maps[key], cell, s.reference, self._rows)
                science -= 0.0 if found.level is None else float(found.level[0, self._col])
            yield _row("measured", cell.temperature_c, effective_exposure(cell, s.reference), science, error)

    def curves(self) -> Iterable[dict[str, Any]]:
        """The model between the masters, at the temperatures and exposures of some of them."""
        cells = self._source.cells
        exposures = [effective_exposure(c, self._source.reference) for c in cells]
        low, high = min(exposures), max(exposures)
        for temperature in _some({c.temperature_c for c in cells}):
            for exposure in np.geomspace(low, high, POINTS if high > low else 1):
                yield from self._model("over exposure", temperature, float(exposure))
        low, high = min(c.temperature_c for c in cells), max(c.temperature_c for c in cells)
        for exposure in _some(set(exposures)):
            for temperature in np.linspace(low, high, POINTS if high > low else 1):
                yield from self._model("over temperature", float(temperature), exposure)

    def _model(self, what: str, temperature_c: float, exposure_s: float) -> Iterable[dict[str, Any]]:
        key = self._key(temperature_c, exposure_s - self._source.description.readout_exposure_s)
        if key is not None:
            signal, error, _ = self._own[key].synthesize(temperature_c, exposure_s)
            yield _row(what, temperature_c, exposure_s, float(signal[0, 0]), float(error[0, 0]))


def _of_column(maps: ModelMaps, col: int) -> ModelMaps:
    """One pixel of a row of maps."""
    own = slice(col, col + 1)
    return replace(
        maps,
        parameters=maps.parameters[..., own],
        covariance=maps.covariance[..., own],
        dq=maps.dq[:, own],
        saturation_adu=maps.saturation_adu[:, own],
    )


def _row(what: str, temperature_c: float, exposure_s: float, signal: float, error: float) -> dict[str, Any]:
    return {
        "what": what,
        "temperature_c": round(temperature_c, 4),
        "exposure_s": float(f"{exposure_s:.8g}"),
        "signal_adu": float(f"{signal:.7g}"),
        "error_adu": float(f"{error:.4g}"),
    }


def _some(values: set[float]) -> list[float]:
    """At most a handful, spread over their order, with the first and the last."""
    ordered = sorted(values)
    if len(ordered) <= MOST_CURVES:
        return ordered
    return [ordered[int(k)] for k in np.unique(np.rint(np.linspace(0, len(ordered) - 1, MOST_CURVES)))]


def read_sample_pixels(path: Path, over: str) -> list[dict[str, Any]]:
    """The pixels as `darkpipe.report.plots` draws them, with the curves 'over exposure' or 'over temperature'."""
    table = read_table(path)
    pixels = []
    for kind, row, col in dict.fromkeys((str(r["kind"]), int(r["row"]), int(r["col"])) for r in table):
        mine = table[(table["row"] == row) & (table["col"] == col) & (table["kind"] == kind)]
        masters = mine[mine["what"] == "measured"]
        if not len(masters):
            continue
        pixel: dict[str, Any] = {"label": f"{kind}: row {row}, column {col}", "kind": kind}
        for name in ("temperature_c", "exposure_s", "signal_adu", "error_adu"):
            pixel[name] = np.asarray(masters[name], np.float64)
        curve = mine[mine["what"] == over]
        fixed, along = ("temperature_c", "exposure_s") if over == "over exposure" else ("exposure_s", "temperature_c")
        levels = [curve[curve[fixed] == v] for v in dict.fromkeys(curve[fixed].tolist())]
        pixel["curves"] = [
            (float(c[fixed][0]), np.asarray(c[along], np.float64), np.asarray(c["signal_adu"], np.float64))
            for c in levels
        ]
        pixels.append(pixel)
    return pixels
