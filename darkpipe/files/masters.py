"""Masters of a campaign: the table of cells, and bands of rows of their masters as the fit wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe import plain_yaml
from darkpipe.errors import ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.files.products import Card, Frame, Product, blank, read_header, read_planes
from darkpipe.files.tables import read_table
from darkpipe.regular import read_text
from darkpipe.science.drift import Drift
from darkpipe.science.fit import Cells, Stations
from darkpipe.science.flags import DQ

UNUSABLE = DQ.SATURATED | DQ.CLIPPED_LOW
SIGNIFICANT_ERRORS = 2.0  # by which the read noise of a temperature must differ from the pooled one to count


@dataclass(frozen=True)
class Cell:
    """One (temperature, exposure) of a campaign.

    temperature_c : the temperature that is fitted; temperature_sigma_c : its 1 sigma.
    bias : name of the master bias, 'line' for the bias model, '' for none.
    """

    name: str
    temperature_c: float
    temperature_sigma_c: float
    exposure_s: float
    frames: int
    bias: str


def bias_groups(cells: Sequence[Cell], one_level: bool) -> list[str]:
    """Which bias each cell hangs on: cells of one bias share its error. Without a bias the level is free: one for each
    temperature, since it moves with it, or one for all where a campaign has too few exposures for that."""
    return [c.bias or ("level" if one_level else f"level at {c.temperature_c:.2f} C") for c in cells]


def stations_of(cells: Sequence[Cell]) -> Stations:
    """The temperatures of the cells: those of one set point share the error of the thermometer."""
    numbers: dict[float, int] = {}
    of_cell = [numbers.setdefault(round(c.temperature_c, 3), len(numbers)) for c in cells]
    sigma = [float(np.mean([c.temperature_sigma_c for c, i in zip(cells, of_cell, strict=True) if i == s]))
             for s in numbers.values()]  # fmt: skip
    return Stations(np.array(of_cell, np.int64), np.array(sigma) ** 2)


def read_cells(path: Path) -> list[Cell]:
    """The rows of groups.ecsv."""
    return cells_in(read_table(path))


def cells_in(table: Table) -> list[Cell]:
    """The rows of the table of cells."""
    return [
        Cell(
            str(r["cell"]),
            float(r["temperature_c"]),
            float(r["temperature_sigma_c"]),
            float(r["exposure_s"]),
            int(r["frames"]),
            str(r["bias"]),
        )
        for r in table
    ]


@dataclass(frozen=True)
class ReferenceValues:
    """Numbers that were derived from the data and that many jobs need (`reference.yaml`).

    scale_factor : raw counts per native ADU. read_noise_adu : of a single frame. saturation_raw : level from which on a
    sample does not count. bias_exposure_s : exposure of the bias frames. temperature_c : T_0 of the physical model.
    noise_level_adu : without bias frames, what the darks read, pedestal added, that the read noise was measured on; the
    shot noise at that level is in it.
    read_noise_error_adu : 1 sigma of what was measured. read_noise_by_temperature : (temperature [°C], read noise, its
    1 sigma [ADU]) of each bias of two frames or more, in the order of temperature, as measured.
    """

    scale_factor: float
    read_noise_adu: float
    gain_e_per_adu: float
    gain_source: str
    saturation_raw: float
    bias_exposure_s: float
    temperature_c: float
    gain_measured_e_per_adu: float | None = None
    gain_measured_error: float | None = None
    clipped_low_raw: float = 0.0
    noise_level_adu: float | None = None
    notes: tuple[str, ...] = ()
    read_noise_error_adu: float | None = None
    read_noise_measured_adu: float | None = None
    read_noise_by_temperature: tuple[tuple[float, float, float], ...] = ()
    readout_exposure_s: float = 0.0

    def read_noise_factor(self, temperature_c: float) -> float:
        """Read noise at a temperature over that of `read_noise_adu` and of the map of pixels, which are pooled.

        1 at a temperature whose noise differs from the pooled one by less than two of its errors, and where nothing
        was measured. Between temperatures linear; beyond the last one that of the last: nothing tells how it goes on.
        """
        pooled = self.read_noise_measured_adu
        if not self.read_noise_by_temperature or not pooled:
            return 1.0
        known = sorted(self.read_noise_by_temperature)
        factors = [s / pooled if abs(s - pooled) > SIGNIFICANT_ERRORS * e else 1.0 for _, s, e in known]
        return float(np.interp(temperature_c, [t for t, _, _ in known], factors))

    def read_noise_at(self, temperature_c: float) -> float:
        """Of the typical pixel at a temperature [ADU], four digits."""
        return float(f"{self.read_noise_adu * self.read_noise_factor(temperature_c):.4g}")

    def describe(self) -> str:
        """The measured ones in a line."""
        return (
            f"read noise {self.read_noise_adu:g} ADU, gain {self.gain_e_per_adu:g} e-/ADU ({self.gain_source}), "
            f"scale factor {self.scale_factor:g}"
        )


def effective_exposure(cell: Cell, reference: ReferenceValues) -> float:
    """Exposure beyond that of the bias: a bias that is a short dark took its share of the signal away, and what darks
    accumulate after the exposure, unlike their biases, comes on top."""
    if cell.bias and cell.exposure_s > reference.bias_exposure_s:
        return cell.exposure_s - reference.bias_exposure_s + reference.readout_exposure_s
    return cell.exposure_s + reference.readout_exposure_s


def write_reference(path: Path, values: ReferenceValues) -> str:
    """Write reference.yaml; returns its digest."""
    data = {k: (list(v) if isinstance(v, tuple) else v) for k, v in vars(values).items()}
    data["read_noise_by_temperature"] = [list(row) for row in values.read_noise_by_temperature]
    return replace_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def read_reference(path: Path) -> ReferenceValues:
    """Read reference.yaml.

    Raises
    ------
    ProductError
        when it is missing or damaged.
    """
    try:
        return _reference_in(read_text(path))
    except (OSError, TypeError, ValueError) as error:
        raise ProductError(f"reference.yaml cannot be read ({error})", where=path, do="run step 2 again") from error


@lru_cache(maxsize=8)
def _reference_in(text: str) -> ReferenceValues:
    """Kept: a hundred jobs of a run read the same file, and YAML is slow to read."""
    data: dict[str, Any] = plain_yaml.load(text)
    by_temperature = tuple((float(t), float(s), float(e)) for t, s, e in data.get("read_noise_by_temperature", ()))
    lists = {"notes": tuple(data.get("notes", ())), "read_noise_by_temperature": by_temperature}
    return ReferenceValues(**{**data, **lists})


@dataclass(frozen=True)
class Master:
    """Planes (rows, cols) of a master: signal above the bias, its error with the bias's, bits, frames kept and
    rejected, reduced chi² of the frames kept, one-sided chi² of all of them (`science.combine`), and the error of the
    bias alone (inf: there was none)."""

    science: NDArray[np.float32]
    error: NDArray[np.float32]
    dq: NDArray[np.uint16]
    count: NDArray[np.uint16]
    rejected: NDArray[np.uint16]
    chi2: NDArray[np.float32]
    scatter: NDArray[np.float32]
    bias_error: NDArray[np.float32]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Master:
        """Planes to be filled."""
        return cls(*(np.empty(shape, kind) for kind in cls.kinds().values()))

    @classmethod
    def blank(cls, shape: tuple[int, int]) -> Master:
        """Planes that take no memory: what a file of strips is laid out by."""
        return cls(*(blank(shape, kind) for kind in cls.kinds().values()))

    @classmethod
    def kinds(cls) -> dict[str, type[np.generic]]:
        """Types of the planes by name."""
        return {f.name: np.uint16 if f.name in ("dq", "count", "rejected") else np.float32 for f in fields(cls)}


MASTER_PLANES = {
    "science": "SCI", "error": "ERR", "dq": "DQ", "count": "COUNT", "rejected": "REJECTED", "chi2": "CHI2",
    "scatter": "SCATTER", "bias_error": "BIASERR",
}  # fmt: skip
"""Extension of each plane of a master."""


def master_frame(master: Master, cards: Sequence[Card], inputs: Sequence[str], *, frames: int, bias: bool) -> Frame:
    """A master as a product: SCI, ERR, DQ, COUNT; with two frames or more also REJECTED, CHI2 and SCATTER; BIASERR
    where a bias was subtracted. `MASTER_PLANES` names them."""
    extra: dict[str, NDArray[Any]] = {"COUNT": master.count}
    if frames > 1:
        extra |= {"REJECTED": master.rejected, "CHI2": master.chi2, "SCATTER": master.scatter}
    if bias:
        extra["BIASERR"] = master.bias_error
    header: list[Card] = [*cards, ("NCOMBINE", frames, "frames in the mean")]
    return Frame(master.science, master.error, master.dq, header=header, extra=extra, inputs=list(inputs))


@dataclass(frozen=True)
class Band:
    """A band of rows of all masters: `cells` for the fit, and the masters' own errors (n, P) [ADU]."""

    cells: Cells
    error_adu: NDArray[np.float32]
    shape: tuple[int, int]


def read_band(
    masters: Sequence[Product],
    cells: Sequence[Cell],
    hangs_on: Sequence[str],
    reference: ReferenceValues,
    read_noise: Product | None,
    rows: slice,
    drift: Drift | None = None,
) -> Band:
    """Read rows of every master; `hangs_on` is what `bias_groups` says of the cells.

    Samples that were saturated or clipped count as absent. Groups are numbered as they first appear.
    """
    drift = drift or Drift()
    groups: dict[str, int] = {}
    number = [groups.setdefault(name, len(groups)) for name in hangs_on]
    signal = count = error = variance = None
    shape = (0, 0)
    for k, path in enumerate(masters):
        sci, err, dq, kept = read_planes(path, ["SCI", "ERR", "DQ", "COUNT"], rows)
        if signal is None:
            shape = sci.shape
            signal = np.empty((len(cells), sci.size), np.float32)
            error, count = np.empty_like(signal), np.empty(signal.shape, np.uint16)
            variance = np.empty((len(groups), sci.size), np.float32)
        elif sci.shape != shape:
            raise ProductError(f"a master has another shape, {sci.shape} against {shape}", where=cells[k].name)
        assert error is not None
        assert count is not None
        assert variance is not None
        signal[k], error[k] = sci.ravel(), err.ravel()
        np.multiply(kept, (dq & int(UNUSABLE)) == 0, out=count[k].reshape(shape), casting="unsafe")
        if number[k] not in number[:k]:  # a bias line has an error at each temperature; cells of one group have one
            variance[number[k]] = _bias_variance(path, cells[k], rows, sci.size, drift)
    assert signal is not None
    assert count is not None
    assert error is not None
    assert variance is not None
    read_variance = np.full(signal.shape[1], reference.read_noise_adu**2, np.float32)
    if read_noise is not None:
        sigma = read_planes(read_noise, ["SCI"], rows)[0].ravel()
        read_variance = np.where(np.isfinite(sigma), sigma**2, read_variance).astype(np.float32)
    return Band(
        Cells(
            signal,
            count,
            read_variance,
            reference.gain_e_per_adu,
            np.zeros(len(cells)),
            np.array([drift.level_variance(c.frames) for c in cells]) + _hidden_variance(masters, cells, reference),
            np.array(number),
            variance,
            stations_of(cells),
            np.array([reference.read_noise_factor(c.temperature_c) ** 2 for c in cells]),
            group_drift_adu2=np.array(_of_groups(number, [drift.of_bias(c.bias) if c.bias else 0.0 for c in cells])),
        ),
        error,
        shape,
    )


def _bias_variance(path: Product, cell: Cell, rows: slice, pixels: int, drift: Drift) -> NDArray[np.float32]:
    """(P,) variance of the bias of a master [ADU²], with its drift; infinite where there is none."""
    if not cell.bias:
        return np.full(pixels, np.float32(np.inf))
    error = read_planes(path, ["BIASERR"], rows)[0].ravel()
    variance = np.asarray(error**2 + np.float32(drift.of_bias(cell.bias)), np.float32)
    variance[~np.isfinite(variance)] = np.inf
    return variance


def _of_groups(number: Sequence[int], values: Sequence[float]) -> list[float]:
    """The value of each group, given those of its cells."""
    return list(dict(sorted(zip(number, values, strict=True))).values())


def _hidden_variance(
    masters: Sequence[Product], cells: Sequence[Cell], reference: ReferenceValues
) -> NDArray[np.float64]:
    """(n,) variance [ADU²] of each master from the shot noise of charge that a black clamp took away; 0 without one."""
    hidden = np.array([float(read_header(path).get("HIDDEN", 0.0)) for path in masters])
    return hidden / (reference.gain_e_per_adu * np.array([c.frames for c in cells]))
