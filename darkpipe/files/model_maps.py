"""Dark models on disk: parameter maps, and what was fitted (`model.yaml`)."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from darkpipe import plain_yaml
from darkpipe.errors import DesignError, ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.files.layout import ModelDir
from darkpipe.files.products import Card, Frame, Product, read_header, read_into_plane, read_planes
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.regular import read_text
from darkpipe.same_file import Identity, identity
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS, Reference
from darkpipe.science.models.families import make_dark, make_signal, signal_along
from darkpipe.science.saturation import PLATEAU_ERROR, Saturation

F4 = NDArray[np.float32]
Planes = tuple[F4, F4, NDArray[np.uint16]]
BY_BIAS = "BYBIAS"  # planes, and card with their number: how the parameters move with the biases of the campaign


@dataclass(frozen=True)
class FittedModel:
    """One fitted model: its name, the cell it belongs to ('' or, for a one-axis model, 'texp10s' / 'T-10.0C'), the
    reference its maps are quoted at, and its score (mean over cells of held-out error over noise floor)."""

    name: str
    cell: str
    temperature_c: tuple[float, float]
    exposure_s: tuple[float, float]
    reference: Reference
    relative_error: float = 0.0
    score: float | None = None
    cells: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}/{self.cell}" if self.cell else self.name

    def covers(self, temperature_c: float, exposure_s: float) -> bool:
        """Whether a point lies in the fitted range (0.5 °C and 1 % of margin)."""
        (t0, t1), (e0, e1) = self.temperature_c, self.exposure_s
        return t0 - 0.5 <= temperature_c <= t1 + 0.5 and 0.99 * e0 <= exposure_s <= 1.01 * e1


ANOTHER_LAW = {
    "exp_2d": "two_component",
    "two_component": "exp_2d",
    "exp_2d_glow": "two_component_glow",
    "two_component_glow": "exp_2d_glow",
}
"""Laws of temperature that differ where no frame was taken; that of a real sensor may lie between the two."""


@dataclass(frozen=True)
class Description:
    """Content of model.yaml."""

    chosen: str
    why: str
    shape: tuple[int, int]
    configuration: str
    gain_e_per_adu: float
    read_noise_adu: float
    scale_factor: float
    bias_exposure_s: float
    has_bias: bool
    models: tuple[FittedModel, ...]
    not_fitted: Mapping[str, str] = field(default_factory=dict)
    camera: str = ""
    notes: tuple[str, ...] = ()
    readout_exposure_s: float = 0.0

    def accumulated(self, exposure_s: float) -> float:
        """For how long a frame of this exposure gathers dark signal that its bias does not hold [s]: what the models
        are functions of."""
        return exposure_s + self.readout_exposure_s

    def find(self, key: str) -> FittedModel:
        """The fitted model of this key ('exp_2d', 'exp_1d/texp10s').

        Raises
        ------
        DesignError
            naming what was fitted and why the wanted one was not.
        """
        for m in self.models:
            if m.key == key:
                return m
        why = self.not_fitted.get(key, "it was not asked for")
        have = ", ".join(m.key for m in self.models) or "none"
        raise DesignError(f"model {key} is not among the fitted ones ({have}): {why}", do="choose one with --model")

    def another_law(self, model: FittedModel) -> FittedModel | None:
        """The other law of temperature that was fitted to the same frames, if any."""
        name = ANOTHER_LAW.get(model.key)
        return next((m for m in self.models if m.key == name), None)


def write_description(path: Path, description: Description) -> str:
    """Write model.yaml; returns its digest."""
    data: dict[str, Any] = {
        "chosen": description.chosen,
        "why": description.why,
        "configuration": description.configuration,
        "camera": description.camera,
        "shape": list(description.shape),
        "gain_e_per_adu": description.gain_e_per_adu,
        "read_noise_adu": description.read_noise_adu,
        "scale_factor": description.scale_factor,
        "bias_exposure_s": description.bias_exposure_s,
        "readout_exposure_s": description.readout_exposure_s,
        "has_bias": description.has_bias,
        "models": [
            {
                "name": m.name,
                "cell": m.cell,
                "formula": MODELS[m.name].formula,
                "cells": m.cells,
                "temperature_c": list(m.temperature_c),
                "exposure_s": list(m.exposure_s),
                "reference_temperature_c": m.reference.temperature_c,
                "reference_exposure_s": m.reference.exposure_s,
                "energy_gap_ev": m.reference.energy_gap_ev,
                "relative_error": m.relative_error,
                "score": m.score,
            }
            for m in description.models
        ],
        "not_fitted": dict(description.not_fitted),
        "notes": list(description.notes),
    }
    return replace_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110))


def read_description(path: Path) -> Description:
    """Read model.yaml.

    Raises
    ------
    ProductError
        when it is missing or not what `write_description` writes.
    """
    try:
        return _description_of(path, identity(path))
    except (OSError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ProductError(f"the model's description cannot be read ({error})", where=path, do="fit again") from error


@lru_cache(maxsize=64)
def _description_of(path: Path, file: Identity) -> Description:
    """Of this very file: each of a hundred frames asks for the same one, and YAML is slow to parse."""
    data = plain_yaml.load(read_text(path))
    models = tuple(
        FittedModel(
            m["name"],
            m["cell"],
            (m["temperature_c"][0], m["temperature_c"][1]),
            (m["exposure_s"][0], m["exposure_s"][1]),
            Reference(m["reference_temperature_c"], m["reference_exposure_s"], m["energy_gap_ev"]),
            m["relative_error"],
            m["score"],
            m["cells"],
        )
        for m in data["models"]
    )
    for m in models:
        _check_name(m.name, MODELS)
        _check_name(m.cell)
    _check_name(data["configuration"])
    return Description(
        data["chosen"],
        data["why"],
        (data["shape"][0], data["shape"][1]),
        data["configuration"],
        data["gain_e_per_adu"],
        data["read_noise_adu"],
        data["scale_factor"],
        data["bias_exposure_s"],
        data["has_bias"],
        models,
        data["not_fitted"],
        data["camera"],
        tuple(data.get("notes", ())),
        data.get("readout_exposure_s", 0.0),
    )


def _check_name(name: Any, known: Container[str] | None = None) -> None:
    """Refuse what would not do as a part of a path: the file may be somebody else's.

    Raises
    ------
    ValueError
    """
    if not isinstance(name, str) or _PART.fullmatch(name) is None or (known is not None and name not in known):
        raise ValueError(f"{str(name)[:60]!r} is no name of a model, a cell or a configuration")


_PART = re.compile(r"(?:[A-Za-z0-9+][A-Za-z0-9._+-]*)?")


@dataclass(frozen=True)
class ModelMaps:
    """Maps of one fitted model in memory: parameters (3, rows, cols), covariance (6, rows, cols), dq and the level of
    saturation [ADU] (rows, cols), which is one number spread out where no pixel has a level of its own."""

    model: FittedModel
    parameters: F4
    covariance: F4
    dq: NDArray[np.uint16]
    saturation_adu: F4

    def band(self, rows: slice) -> ModelMaps:
        """A band of rows of the maps; no copies."""
        return ModelMaps(
            self.model, self.parameters[:, rows], self.covariance[:, rows], self.dq[rows], self.saturation_adu[rows]
        )

    def _design(self, temperature_c: float, exposure_s: float) -> NDArray[np.float64]:
        """(3, 1) of a cell."""
        design = MODELS[self.model.name].design
        x = design(np.array([temperature_c]), np.array([exposure_s]), self.model.reference)
        return np.ascontiguousarray(x, dtype=float)

    def change(self, temperature_c: float, exposure_s: float, step: F4) -> F4:
        """By how much the dark signal moves [ADU], (rows, cols), where the parameters do by step (3, rows, cols), which
        is small; 0 where the pixel is saturated."""
        spec, x, flat = MODELS[self.model.name], self._design(temperature_c, exposure_s), self.parameters.reshape(3, -1)
        found = np.empty(self.dq.size, np.float32)
        signal_along(spec.family, x, np.ascontiguousarray(flat), np.ascontiguousarray(step.reshape(3, -1)), found)
        signal = self.signal(temperature_c, exposure_s)
        return np.where(signal >= self.saturation_adu, np.float32(0), found.reshape(self.dq.shape))

    def synthesize(self, temperature_c: float, exposure_s: float, out: Planes | None = None) -> Planes:
        """Dark signal [ADU], its 1 sigma [ADU] and DQ, (rows, cols) each; NaN where the pixel was not fitted. No pixel
        exceeds its level of saturation. out : contiguous planes for them."""
        spec, x, shape = MODELS[self.model.name], self._design(temperature_c, exposure_s), self.dq.shape
        if out is None:
            out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
        signal, error, dq = out
        run: Any = make_dark
        run(
            spec.family, x, _flat(self.parameters), _flat(self.covariance), self._level,
            np.float32(PLATEAU_ERROR), self.dq.ravel(), int(DQ.SATURATED),
            0 if self.model.covers(temperature_c, exposure_s) else int(DQ.EXTRAPOLATED),
            signal.reshape(-1), error.reshape(-1), dq.reshape(-1),
        )  # fmt: skip
        return out

    def signal(self, temperature_c: float, exposure_s: float, out: F4 | None = None) -> F4:
        """The dark signal of `synthesize` alone [ADU], (rows, cols), into `out` where that is given."""
        out = np.empty(self.dq.shape, np.float32) if out is None else out
        run: Any = make_signal
        run(
            MODELS[self.model.name].family, self._design(temperature_c, exposure_s), _flat(self.parameters),
            self._level, out.reshape(-1),
        )  # fmt: skip
        return out

    @property
    def _level(self) -> F4:
        """(n,) level of saturation, or (1,) where all pixels have the same; writable, or kernels are compiled twice."""
        same = not any(self.saturation_adu.strides)
        level = self.saturation_adu[:1, :1].copy() if same else np.ascontiguousarray(self.saturation_adu)
        return level.ravel()


def _flat(cube: F4) -> tuple[F4, ...]:
    """Planes of a cube, each flattened; copied only where its rows are not one behind the other."""
    return tuple(np.ascontiguousarray(plane).reshape(-1) for plane in cube)


def read_maps(
    folder: ModelDir, model: FittedModel, rows: slice = slice(None), memory: ThreadMemory | None = None
) -> ModelMaps:
    """Maps of a fitted model (a band of rows of them), with the DQ of hot-pixel mask and fit together.

    memory : for maps that are not kept until others of this model are read.

    Raises
    ------
    ProductError
        when a map is missing or damaged.
    """
    spec = MODELS[model.name]
    files = folder.maps(model.name, model.cell)
    dq = read_bits(folder, model, rows, memory)
    shape = (3, *dq.shape)
    parameters = np.empty(shape, np.float32) if memory is None else memory.plane("maps", shape, np.float32)
    slots = {p.slot: folder.product(files[p.name]) for p in spec.parameters}
    for slot, plane in enumerate(parameters):
        if slot in slots:
            read_into_plane(slots[slot], "SCI", rows, plane)
        else:
            plane[:] = 0.0
    (covariance,) = read_planes(folder.product(folder.covariance(model.name, model.cell)), ["SCI"], rows, memory)
    level = np.broadcast_to(np.float32(np.inf), dq.shape)
    if folder.has(folder.saturation_map):
        known = saturation_of(folder.product(folder.saturation_map), rows, memory)
        own = np.isfinite(known.level_adu).any()
        level = known.of().reshape(dq.shape) if own else np.broadcast_to(np.float32(known.common_adu), dq.shape)
    return ModelMaps(model, parameters, np.ascontiguousarray(covariance), dq, level)


def read_bits(
    folder: ModelDir, model: FittedModel, rows: slice = slice(None), memory: ThreadMemory | None = None
) -> NDArray[np.uint16]:
    """DQ of hot-pixel mask and fit together, (rows, cols); `memory` and what it raises as `read_maps`."""
    first = next(iter(folder.maps(model.name, model.cell).values()))  # the same bits stand in all of them
    dq: NDArray[np.uint16] = read_planes(folder.product(first), ["DQ"], rows, memory)[0].astype(np.uint16, copy=False)
    if folder.has(folder.hot_pixel_mask):
        dq |= read_planes(folder.product(folder.hot_pixel_mask), ["DQ"], rows, memory)[0].astype(np.uint16, copy=False)
    return dq


def saturation_frame(found: Saturation, shape: tuple[int, int]) -> Frame:
    """The plateaus of all pixels: SCI is the level [ADU], NaN where none is seen; CELLS how many lie on it."""
    cards: list[Card] = [("SATLEVEL", found.common_adu, "[adu] of pixels without a level of their own")]
    return Frame(found.level_adu.reshape(shape), header=cards, extra={"CELLS": found.cells.reshape(shape)})


def read_saturation(folder: ModelDir, rows: slice = slice(None)) -> Saturation:
    """Plateaus of a band of rows, flattened."""
    return saturation_of(folder.product(folder.saturation_map), rows)


def saturation_of(product: Product, rows: slice = slice(None), memory: ThreadMemory | None = None) -> Saturation:
    """What `saturation_frame` made, a band of rows, flattened; memory : as for `read_maps`."""
    level, cells = read_planes(product, ["SCI", "CELLS"], rows, memory)
    return Saturation(level.ravel(), cells.ravel(), float(read_header(product)["SATLEVEL"]))
