"""The hot pixels that tell the temperature, taken out of a model once for all frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError, ProductError
from darkpipe.files.arrays import read_arrays
from darkpipe.files.atomic import replace_file
from darkpipe.files.bias_files import T_REF
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import ModelDir
from darkpipe.files.masters import UNUSABLE, Cell
from darkpipe.files.model_maps import Description, FittedModel, read_maps
from darkpipe.files.products import Product, read_header, read_planes
from darkpipe.same_file import Identity, identity
from darkpipe.science.flags import DQ, MODEL_INVALID
from darkpipe.science.models import MODELS
from darkpipe.science.neighbours import box_offsets, gather
from darkpipe.science.thermometer import (
    FrameNoise,
    Law,
    Probes,
    Reading,
    Scale,
    calibrate_scale,
    choose_probes,
    measure_temperature,
)

F4 = NDArray[np.float32]
Ints = NDArray[np.int64]

MOST_CANDIDATES = 4096
BAND_PIXELS = 1 << 21
SEARCH_BEYOND_C = 30.0  # of the model's range: how far the thermometer looks
UNKNOWN_SCALE = calibrate_scale((), np.empty(0))
SHAKY = MODEL_INVALID | DQ.OUTLIER


def bands(window: Window) -> list[slice]:
    """Bands of rows of a window, in the model's rows, that fit into memory."""
    height = max(1, BAND_PIXELS // max(1, window.cols))
    last = window.row + window.rows
    return [slice(r, min(r + height, last)) for r in range(window.row, last, height)]


def bias_file(folder: ModelDir, description: Description, model: FittedModel) -> Path:
    """The bias of a model as a line in temperature; of a campaign without bias frames, the fitted level.

    Raises
    ------
    DesignError
        when the model holds neither.
    """
    path = folder.bias_line if description.has_bias else folder.offset(model.name, model.cell)
    if not folder.has(path):
        raise DesignError(
            "this model holds no bias to subtract", where=path, do="use the whole dark_model folder, or fit again"
        )
    return path


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Candidates with the bias of them and their neighbours, and the scale of the thermometer; equal only to itself.

    bias : (2, n, 1 + m), [ADU] at `t_ref_c` and [ADU/K].
    """

    probes: Probes
    bias: F4
    t_ref_c: float
    scale: Scale

    def bias_at(self, temperature_c: float) -> F4:
        """(n, 1 + m) bias at a temperature [ADU]."""
        return np.asarray(self.bias[0] + self.bias[1] * np.float32(temperature_c - self.t_ref_c), np.float32)

    def inside(self, window: Window) -> ProbeSet:
        """Those inside of a window of the model's frame."""
        r, c = self.probes.rows - window.row, self.probes.cols - window.col
        here = (r >= 0) & (r < window.rows) & (c >= 0) & (c < window.cols)
        return ProbeSet(self.probes.take(here), self.bias[:, here], self.t_ref_c, self.scale)


def write_probes(
    path: Path,
    folder: ModelDir,
    description: Description,
    key: str,
    stride: int,
    masters: Sequence[tuple[Product, Cell]] = (),
) -> str:
    """Choose the candidates of a model, see what they read on its masters, and write it; returns the digest.

    They are the brightest at the model's mean temperature and longest exposure, spread over the frame. Neighbours that
    are hot, or that the model does not describe, do not count. `stride`: 2 for a Bayer mosaic. masters : of known
    temperature, bias-subtracted; without them the readings are as the model's law gives them.
    """
    found = find_probes(folder, description, key, stride, masters)
    return replace_file(path, lambda stream: _save(found, stream))


def find_probes(
    folder: ModelDir,
    description: Description,
    key: str,
    stride: int,
    masters: Sequence[tuple[Product, Cell]] = (),
) -> ProbeSet:
    """The candidates, as `write_probes` keeps them."""
    model = description.find(key)
    rows, cols = description.shape
    middle_c = 0.5 * (model.temperature_c[0] + model.temperature_c[1])
    signal, error = np.empty((rows, cols), np.float32), np.empty((rows, cols), np.float32)
    usable, quiet = np.empty((rows, cols), bool), np.empty((rows, cols), bool)
    for band in bands(Window(0, 0, rows, cols)):
        maps = read_maps(folder, model, band)
        signal[band], error[band], dq = maps.synthesize(middle_c, model.exposure_s[1])
        usable[band] = (dq & int(SHAKY)) == 0
        quiet[band] = (dq & int(MODEL_INVALID | DQ.HOT)) == 0
    r, c = choose_probes(signal, error, usable, MOST_CANDIDATES)
    found = _taken_out(folder, description, model, (r, c), quiet, stride)
    return replace(found, scale=_scale(found.probes, description, model, stride, masters))


def _taken_out(
    folder: ModelDir,
    description: Description,
    model: FittedModel,
    chosen: tuple[Ints, Ints],
    quiet: NDArray[np.bool_],
    stride: int,
) -> ProbeSet:
    r, c = chosen
    line = folder.product(bias_file(folder, description, model))
    offsets = around(stride)
    counts = gather(quiet, r, c, offsets) == 1.0
    counts[:, 0] = True
    parameters = np.full((3, r.size, offsets.shape[0]), np.nan, np.float32)
    bias = np.full((2, r.size, offsets.shape[0]), np.nan, np.float32)
    covariance, level = np.empty((6, r.size), np.float32), np.empty(r.size, np.float32)
    reach = int(offsets.max())
    for band in bands(Window(0, 0, *description.shape)):
        here = np.flatnonzero((r >= band.start) & (r < band.stop))
        if here.size == 0:
            continue
        wide = slice(max(band.start - reach, 0), min(band.stop + reach, description.shape[0]))
        maps = read_maps(folder, model, wide)
        at, columns = r[here] - wide.start, c[here]
        for slot in range(3):
            parameters[slot, here] = gather(maps.parameters[slot], at, columns, offsets)
        for slot, plane in enumerate(read_planes(line, ["SCI", "B1"], wide)):
            bias[slot, here] = gather(plane, at, columns, offsets)
        covariance[:, here] = maps.covariance[:, at, columns]
        level[here] = maps.saturation_adu[at, columns]
    parameters[:, ~counts] = np.nan
    return ProbeSet(Probes(r, c, parameters, covariance, level), bias, float(read_header(line)[T_REF]), UNKNOWN_SCALE)


def _scale(
    probes: Probes, description: Description, model: FittedModel, stride: int, masters: Sequence[tuple[Product, Cell]]
) -> Scale:
    """What the thermometer reads on masters; those that it cannot read have no say."""
    offsets = around(stride)
    readings: list[Reading] = []
    for path, cell in masters:
        science, bits = read_planes(path, ["SCI", "DQ"])
        science = np.where((bits & int(UNUSABLE)) == 0, science, np.float32(np.nan))
        observed = gather(science, probes.rows, probes.cols, offsets)
        n = max(cell.frames, 1)
        noise = FrameNoise(
            description.read_noise_adu / math.sqrt(n), description.gain_e_per_adu * n, model.relative_error
        )
        law = Law(
            MODELS[model.name], model.reference, description.accumulated(cell.exposure_s) - description.bias_exposure_s
        )
        readings.append(
            measure_temperature(observed, np.isnan(observed[:, 0]), probes, law, noise, search_range(model))
        )
    leverage = len(MODELS[model.name].parameters) / max(model.cells, 1)
    return calibrate_scale(readings, np.array([cell.temperature_c for _, cell in masters], np.float64), leverage)


def search_range(model: FittedModel) -> tuple[float, float]:
    """Temperatures that the thermometer thinks of [°C]."""
    low, high = model.temperature_c
    return max(low - SEARCH_BEYOND_C, -150.0), high + SEARCH_BEYOND_C


def around(stride: int) -> Ints:
    """(1 + m, 2) offsets of a pixel and its neighbours."""
    return np.concatenate([np.zeros((1, 2), np.int64), box_offsets(stride)])


def _save(found: ProbeSet, stream: BinaryIO) -> None:
    np.savez(stream, bias=found.bias, t_ref_c=np.array(found.t_ref_c), **vars(found.probes), **vars(found.scale))


def read_probes(path: Path, window: Window) -> ProbeSet:
    """The candidates inside of a window of the model's frame.

    Raises
    ------
    ProductError
        when the file is missing or damaged.
    """
    try:
        file = identity(path)
    except OSError as error:
        raise ProductError(f"the hot pixels cannot be read ({error})", where=path, do="run with --force") from error
    return _probes_of(path, file, window)


@lru_cache(maxsize=4)
def _probes_of(path: Path, file: Identity, window: Window) -> ProbeSet:
    """Of this very file: all frames of a night ask for the same ones."""
    held = read_arrays(path, "the hot pixels", "run with --force")
    try:
        probes = Probes(**{name: held[name] for name in Probes.__dataclass_fields__})
        scale = Scale(held["reads_c"], held["true_c"], held["error_c"], float(held["scatter_c"]))
        bias, t_ref_c = held["bias"], float(held["t_ref_c"])
    except (ValueError, KeyError, TypeError) as error:
        raise ProductError(f"the hot pixels cannot be read ({error})", where=path, do="run with --force") from error
    return ProbeSet(probes, bias, t_ref_c, scale).inside(window)


@lru_cache(maxsize=4)
def bulk(found: ProbeSet, law: Law, temperature_c: float) -> tuple[float, float]:
    """`Law.bulk`, which frames of one exposure and set point share."""
    return law.bulk(found.probes, temperature_c)
