"""Input and output of step 5: bands of masters in, tiles of parameters out, maps assembled from tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from darkpipe import plain_yaml
from darkpipe.errors import DesignError, ProductError
from darkpipe.files.arrays import write_arrays
from darkpipe.files.atomic import replace_text
from darkpipe.files.layout import exposure_label, temperature_label
from darkpipe.files.masters import Cell, ReferenceValues, bias_groups, effective_exposure, read_band
from darkpipe.files.products import Product, read_planes, read_shape
from darkpipe.files.tile_sums import pack_sums
from darkpipe.regular import read_text
from darkpipe.science.blocks import block_mean_of, block_side
from darkpipe.science.design import Campaign, Unit, can_leave_out, make_unit, plan_fits
from darkpipe.science.drift import Drift
from darkpipe.science.flags import MODEL_INVALID
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

PLANES = {"parameters": 3, "covariance": 6}
"""Arrays of a tile whose planes are kept one by one."""


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
        return _population_in(read_text(path))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ProductError(f"the population cannot be read ({error})", where=path, do="run step 5 again") from error


@lru_cache(maxsize=8)
def _population_in(text: str) -> Population:
    """Kept: every tile of a model reads the same file, and YAML is slow to read."""
    return Population.from_dict(plain_yaml.load(text))


@lru_cache(maxsize=8)
def _dispensable(
    model: str, cells: tuple[Cell, ...], reference: ReferenceValues, energy_gap_ev: float, one_level: bool
) -> list[bool]:
    """Which cells the design can do without, of a unit as in `UnitFiles`; kept, since it is the same for every tile."""
    files = UnitFiles(model, "", cells, reference, energy_gap_ev, one_level)
    unit, campaign = files.unit, campaign_of(cells, reference, one_level)
    return [can_leave_out(unit, campaign, k) for k in range(len(cells))]


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
    leave = _dispensable(files.model, tuple(files.cells), files.reference, files.energy_gap_ev, files.one_level)
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
        **pack_sums(made),
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
    """Keep a tile, planes of `PLANES` by themselves, since few maps are made of all of them; returns the digest."""
    parts: Tile = {}
    for name, array in tile.items():
        if name in PLANES:
            parts |= {plane_name(name, number): plane for number, plane in enumerate(array)}
        else:
            parts[name] = array
    return write_arrays(path, parts)


def plane_name(name: str, number: int) -> str:
    """Of one of the planes of an array of `PLANES`, in the file of a tile."""
    return f"{name}.{number}"
