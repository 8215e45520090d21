"""Input and output of step 5: bands of masters in, tiles of parameters out, maps assembled from tiles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe import plain_yaml
from darkpipe.errors import DesignError, ProductError
from darkpipe.files.arrays import read_arrays
from darkpipe.files.atomic import replace_file, replace_text
from darkpipe.files.bias_files import line_of_levels
from darkpipe.files.layout import exposure_label, temperature_label
from darkpipe.files.masters import Cell, ReferenceValues, bias_groups, effective_exposure, read_band
from darkpipe.files.model_maps import BY_BIAS
from darkpipe.files.products import Card, Frame, Product, read_planes, read_shape
from darkpipe.files.tables import table_of
from darkpipe.science.blocks import block_mean_of, block_side
from darkpipe.science.design import Campaign, Unit, can_leave_out, make_unit, plan_fits
from darkpipe.science.drift import Drift
from darkpipe.science.error_sums import ErrorSums
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.metrics import CellErrors
from darkpipe.science.models import MODELS
from darkpipe.science.population import Population, estimate_population, problem_for, with_shape_prior
from darkpipe.science.saturation import Saturation
from darkpipe.science.tile import TileFit, bits_of, fit_unit

PICTURE_SIDE = 512  # pixels a side that maps of errors are reduced to
SAMPLE_PIXELS = 60_000
SAMPLE_BANDS = 6
TILE_BYTES = 128 << 20
TILE_ROWS = 64

Tile = dict[str, NDArray[Any]]
"""What the fit of a band of rows left, by name."""


@dataclass(frozen=True)
class UnitFiles:
    """What a job of step 5 needs to know: the model, its scope, and its cells as plain data."""

    model: str
    scope: str
    cells: Sequence[Cell]
    reference: ReferenceValues
    energy_gap_ev: float
    one_level: bool = False
    drift: Drift = field(default_factory=Drift)

    @property
    def hangs_on(self) -> list[str]:
        """Bias, or free level, of each cell."""
        return bias_groups(self.cells, self.one_level)

    @property
    def free_level(self) -> NDArray[np.bool_]:
        """Of each group, in the order in which they appear, whether it is a free level."""
        free = {name: not cell.bias for cell, name in zip(self.cells, self.hangs_on, strict=True)}
        return np.array(list(free.values()), np.bool_)

    @property
    def level_temperatures_c(self) -> list[float]:
        """Mean temperature of the cells of each free level, in the order of the levels."""
        of: dict[str, list[float]] = {}
        for cell, name in zip(self.cells, self.hangs_on, strict=True):
            if not cell.bias:
                of.setdefault(name, []).append(cell.temperature_c)
        return [float(np.mean(temperatures)) for temperatures in of.values()]

    @property
    def temperature_c(self) -> NDArray[np.float64]:
        return np.array([c.temperature_c for c in self.cells])

    @property
    def exposure_s(self) -> NDArray[np.float64]:
        return np.array([effective_exposure(c, self.reference) for c in self.cells])

    @property
    def unit(self) -> Unit:
        return make_unit(
            MODELS[self.model], self.scope, tuple(range(len(self.cells))), self.temperature_c, self.exposure_s,
            self.reference.temperature_c, self.energy_gap_ev,
        )  # fmt: skip


def campaign_of(cells: Sequence[Cell], reference: ReferenceValues, one_level: bool) -> Campaign:
    """The campaign as the design sees it."""
    names = bias_groups(cells, one_level)
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return Campaign(
        np.array([c.temperature_c for c in cells]),
        np.array([effective_exposure(c, reference) for c in cells]),
        [temperature_label(c.temperature_c) for c in cells],
        [exposure_label(c.exposure_s) for c in cells],
        np.array([-1 if c.bias else number[name] for c, name in zip(cells, names, strict=True)]),
    )


def plan_units(
    cells: Sequence[Cell], reference: ReferenceValues, model: str, energy_gap_ev: float, two_dimensional: bool
) -> tuple[list[Unit], dict[str, str], bool]:
    """What is fitted, why the rest is not, and whether cells without a bias share one level over all temperatures.

    Parameters
    ----------
    model : the one asked for, or 'auto'. two_dimensional : leave out models of one exposure or temperature.

    Raises
    ------
    DesignError
        when the campaign can carry none of the models, or not the one asked for.
    """
    if not cells:
        raise DesignError("no cell is left to be fitted", do="check exclude_temperatures_c")
    wanted = [model] if model != "auto" else []
    for one_level in (False, True):
        campaign = campaign_of(cells, reference, one_level)
        units, missing = plan_fits(campaign, wanted, reference.temperature_c, energy_gap_ev)
        if two_dimensional:
            units = [u for u in units if not u.scope]
        if units and not (wanted and all(u.model.name != model for u in units)):
            break
    if not units:
        why = "; ".join(m for m in missing.values() if m.startswith(tuple(MODELS)))
        raise DesignError(f"no model can be fitted: {campaign.describe()}. {why}", do="add temperatures or exposures")
    if wanted and not any(u.model.name == model for u in units):
        raise DesignError(
            f"{model} cannot be fitted: {missing.get(model, MODELS[model].needs)}; {campaign.describe()}",
            do="choose --model auto",
        )
    return units, missing, one_level


def tile_bands(shape: tuple[int, int], cells: int) -> list[slice]:
    """Bands of rows that are fitted at once, of a campaign of so many cells."""
    rows, cols = shape
    fits = max(1, TILE_BYTES // (max(cols, 1) * (25 * cells + 150)))
    height = min(TILE_ROWS, fits)
    block = -(-max(rows, cols) // PICTURE_SIDE)  # pictures average blocks of this many rows
    height = max(block, height // block * block)
    return [slice(r, min(r + height, rows)) for r in range(0, rows, height)]


def find_population(
    files: UnitFiles,
    masters: Sequence[Product],
    read_noise: Product | None,
    mask: Product,
    rows: int,
    shapes_by_level: bool,
) -> Population:
    """Estimate the population of a unit on bands of rows spread over the sensor.

    Pixels that no model describes (unstable, saturated, dead ones) are none of it.
    """
    cols = read_planes(masters[0], ["SCI"], slice(0, 1))[0].shape[1]
    height = max(1, min(rows // SAMPLE_BANDS or 1, SAMPLE_PIXELS // SAMPLE_BANDS // max(cols, 1)))
    starts = sorted({int(s) for s in np.linspace(0, rows - height, SAMPLE_BANDS)})
    parts = []
    for s in starts:
        band = slice(s, s + height)
        good = (read_planes(mask, ["DQ"], band)[0].ravel() & int(MODEL_INVALID)) == 0
        read = read_band(masters, files.cells, files.hangs_on, files.reference, read_noise, band, files.drift)
        parts.append(read.cells.at(np.flatnonzero(good)))
    cells = parts[0].joined(parts[1:])
    unit = files.unit
    problem = problem_for(unit.model, files.temperature_c, files.exposure_s, unit.fit_reference)
    found = estimate_population(problem, cells)
    if shapes_by_level:
        found = with_shape_prior(problem, cells, found)
    return Population.from_dict(found.to_dict())  # with the digits that it is written with


def write_population(path: Path, found: Population) -> str:
    """Write population.yaml; returns the digest."""
    return replace_text(path, yaml.safe_dump(found.to_dict(), sort_keys=False, default_flow_style=None))


def read_population(path: Path) -> Population:
    """Read population.yaml.

    Raises
    ------
    ProductError
        when it is missing or damaged.
    """
    try:
        return Population.from_dict(plain_yaml.load(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ProductError(f"the population cannot be read ({error})", where=path, do="run step 5 again") from error


def fit_rows(
    files: UnitFiles,
    masters: Sequence[Product],
    read_noise: Product | None,
    mask: Product,
    population: Population,
    saturation: Saturation,
    rows: slice,
    exclude: int,
    glow: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[TileFit, tuple[int, int]]:
    """Fit a band of rows; the fit, and the shape of the band. `exclude`: pixels with one of these bits are not fitted;
    `glow`: smooth glow of the rows' pixels and its 1 sigma, for a model with glow."""
    band = read_band(masters, files.cells, files.hangs_on, files.reference, read_noise, rows, files.drift)
    bits = read_planes(mask, ["DQ"], rows)[0].ravel()
    if exclude:
        band.cells.count[:, (bits & exclude) != 0] = 0
    unit = files.unit
    campaign = campaign_of(files.cells, files.reference, files.one_level)
    leave = [can_leave_out(unit, campaign, k) for k in range(len(files.cells))]
    flagged = (bits & int(MODEL_INVALID)) != 0
    made = fit_unit(
        unit, band.cells, band.error_adu, files.temperature_c, files.exposure_s, population, flagged,
        saturation, leave, files.free_level, glow,
    )  # fmt: skip
    return made, band.shape


def fit_band(
    files: UnitFiles,
    masters: Sequence[Product],
    read_noise: Product | None,
    mask: Product,
    population: Population,
    saturation: Saturation,
    rows: slice,
    exclude: int,
    glow: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Tile:
    """Fit a band of rows, as `fit_rows`, and keep what maps and table are made of."""
    made, shape = fit_rows(files, masters, read_noise, mask, population, saturation, rows, exclude, glow)
    arrays: Tile = {
        "parameters": made.parameters.reshape(3, *shape),
        "covariance": made.covariance.reshape(6, *shape),
        "chi2": made.chi2.reshape(shape),
        "dof": made.dof.reshape(shape),
        "dq": bits_of(made).reshape(shape),
        "held_out_error": reduced(made.held_out_error_adu.reshape(-1, *shape), read_shape(mask)),
        "together": made.together,
        "by_bias": made.by_bias.reshape(6, *shape),
        "sums": np.frombuffer(
            json.dumps(
                {
                    "held_out": [e.to_dict() for e in made.held_out],
                    "in_sample": [e.to_dict() for e in made.in_sample],
                    "baseline": [e.to_dict() for e in made.baseline],
                }
            ).encode(),
            np.uint8,
        ),
    }
    if made.offset_adu is not None:
        arrays["offset"] = made.offset_adu.reshape(2, -1, *shape)
    return arrays


def reduced(errors: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Mean absolute errors of the blocks that pictures of a frame of this shape show, of a band of its rows
    (n, rows, cols); bands of `tile_bands` part no block."""
    side = block_side(shape, PICTURE_SIDE)
    return np.stack([block_mean_of(np.abs(e), side) for e in errors])


def write_tile(path: Path, tile: Tile) -> str:
    """Keep a tile; returns the digest."""
    return replace_file(path, lambda stream: np.savez(stream, **tile))  # type: ignore[arg-type]


@dataclass
class Assembled:
    """A unit put together from its tiles: maps and sums. held_out_error : mean absolute ones of blocks (n, r, c)."""

    parameters: NDArray[np.float32]
    covariance: NDArray[np.float32]
    chi2: NDArray[np.float32]
    dof: NDArray[np.int16]
    dq: NDArray[np.uint16]
    offset: NDArray[np.float32] | None
    held_out_error: NDArray[np.float32]
    together: NDArray[np.float64]
    by_bias: NDArray[np.float32]
    sums: dict[str, list[Any]]


def read_tiles(paths: Sequence[Path]) -> Assembled:
    """Put the tiles of a unit together, in the order of their rows.

    Raises
    ------
    ProductError
        when a tile is missing or damaged.
    """

    return assemble(read_arrays(path, "a tile", "run step 5 again") for path in paths)


def assemble(tiles: Iterable[Tile]) -> Assembled:
    """Put tiles of `fit_band` together, in the order of their rows."""
    parts: dict[str, list[NDArray[Any]]] = {}
    sums: dict[str, list[Any]] = {}
    for tile in tiles:
        for kind, cells in json.loads(tile["sums"].tobytes()).items():
            of: type[CellErrors] | type[ErrorSums] = CellErrors if kind == "held_out" else ErrorSums
            found = [of.from_dict(c) for c in cells]
            sums[kind] = [a + b for a, b in zip(sums[kind], found, strict=True)] if kind in sums else found
        for name, array in tile.items():
            if name != "sums":
                parts.setdefault(name, []).append(array)
    together = np.sum(parts.pop("together"), axis=0)
    joined = {name: np.concatenate(arrays, axis=-2) for name, arrays in parts.items()}
    return Assembled(
        joined["parameters"],
        joined["covariance"],
        joined["chi2"],
        joined["dof"],
        joined["dq"],
        joined.get("offset"),
        joined["held_out_error"],
        together,
        joined["by_bias"],
        sums,
    )


def parameter_maps(files: UnitFiles, made: Assembled) -> dict[str, Frame]:
    """One map a parameter (value, 1 sigma, status), by its name; 'covariance', 'chi2', 'status', and 'offset', the
    fitted level, if there is any."""
    unit = files.unit
    reference = unit.map_reference
    base: list[Card] = [
        ("MODEL", files.model, MODELS[files.model].formula[:40]),
        ("SCOPE", files.scope, "cells of one exposure or temperature, if any"),
        ("T-REF", reference.temperature_c, "[deg C] temperature the parameters are quoted at"),
        ("T-MIN", float(files.temperature_c.min()), "[deg C] lowest fitted"),
        ("T-MAX", float(files.temperature_c.max()), "[deg C] highest fitted"),
        ("EXPMIN", float(files.exposure_s.min()), "[s] shortest fitted"),
        ("EXPMAX", float(files.exposure_s.max()), "[s] longest fitted"),
        ("EGAP", reference.energy_gap_ev, "[eV] energy gap"),
    ]
    maps: dict[str, Frame] = {}
    variance_slot = {0: 0, 1: 3, 2: 5}
    cells = [c.name for c in files.cells]
    for p in unit.model.parameters:
        cards = [*base, ("PARAM", p.name, "parameter of this map")]
        maps[p.name] = Frame(
            made.parameters[p.slot],
            np.sqrt(made.covariance[variance_slot[p.slot]]),
            made.dq,
            p.unit,
            cards,
            inputs=cells,
        )
    maps["covariance"] = _covariance_frame(files, made, base)
    maps["chi2"] = Frame(made.chi2, unit="", header=base, extra={"DOF": made.dof})
    seen = (made.dq & ~np.uint16(DQ.PRIOR)) != 0  # a borrowed shape is no flaw
    maps["status"] = Frame(seen.astype(np.uint8), dq=made.dq, unit="", header=base)
    if made.offset is not None:
        maps["offset"] = line_of_levels(made.offset[0], made.offset[1], files.level_temperatures_c)
    return maps


def _covariance_frame(files: UnitFiles, made: Assembled, base: Sequence[Card]) -> Frame:
    """The covariance, and, where biases were subtracted, how the parameters move with them."""
    cards = [*base, ("PLANES", "00 01 02 11 12 22", "slots " + _slots(files.unit))]
    if not any(cell.bias for cell in files.cells):
        return Frame(made.covariance, unit="", header=cards)
    slots = [p.slot for p in files.unit.model.parameters]
    planes = made.by_bias[[*slots, *(3 + slot for slot in slots)]]
    cards.append((BY_BIAS, len(slots), "parameters in BYBIAS: by 1 adu of bias, by 1 adu/K from T-REF on"))
    return Frame(made.covariance, unit="", header=cards, extra={BY_BIAS: planes})


def _slots(unit: Unit) -> str:
    return ", ".join(f"{p.slot}: {p.name}" for p in unit.model.parameters)


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
