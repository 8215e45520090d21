"""One frame in memory against a model: its temperature by hot pixels, and the frame less bias and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from darkpipe.errors import SettingsError
from darkpipe.files.calibrating import Asked, ModelFiles, Temperature, read_thermometer, subtract_dark
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import ModelDir
from darkpipe.files.lights import Light
from darkpipe.files.masters import Cell
from darkpipe.files.model_maps import Description, FittedModel
from darkpipe.files.probe_files import ProbeSet, find_probes
from darkpipe.files.products import Card, Product
from darkpipe.library.frame import Frame
from darkpipe.science.models import MODELS
from darkpipe.science.thermometer import NOTHING, Reading

if TYPE_CHECKING:
    from darkpipe.library.origin import Origin


@dataclass(frozen=True)
class Taken:
    """A raw frame: counts (rows, cols), exposure, pedestal [native ADU], its first (row, column) in the model's frame,
    and the distance of pixels of one colour."""

    raw: NDArray[Any]
    exposure_s: float
    pedestal_adu: float
    origin: tuple[int, int]
    stride: int

    def window(self, shape: tuple[int, int]) -> Window:
        """Its part of the model's frame.

        Raises
        ------
        SettingsError
            when it is none.
        """
        if self.raw.ndim != 2:
            raise SettingsError(f"a frame is an image (rows, cols), not {self.raw.shape}", where="frame")
        (row, col), (rows, cols) = self.origin, self.raw.shape
        if min(row, col) < 0 or row + rows > shape[0] or col + cols > shape[1]:
            raise SettingsError(
                f"{rows} x {cols} pixels from {self.origin} on are no part of the model's {shape[0]} x {shape[1]}",
                where="frame",
            )
        return Window(row, col, rows, cols)


def read_temperature(
    folder: ModelDir, description: Description, origin: Origin, model: FittedModel, taken: Taken, near_c: float
) -> Reading:
    """What the hot pixels say; see `DarkModel.measure_temperature`."""
    asked = _asked(description, origin, model, taken, near_c, 0.0, repair=False)
    probes = _probes(folder, description, model, taken.stride, _telling(origin.masters, description, model))
    files = ModelFiles(folder, description, origin.read_noise)
    return read_thermometer(Light(taken.raw, ()), probes.inside(asked.window), files, asked)


def calibrate(
    folder: ModelDir,
    description: Description,
    origin: Origin,
    model: FittedModel,
    taken: Taken,
    temperature_c: float,
    temperature_sigma_c: float,
    repair: bool,
) -> Frame:
    """Bias and dark off a frame; see `DarkModel.calibrate`."""
    asked = _asked(description, origin, model, taken, temperature_c, temperature_sigma_c, repair=repair)
    probes = _probes(folder, description, model, taken.stride)
    files = ModelFiles(folder, description, origin.read_noise)
    temperature = Temperature(temperature_c, temperature_sigma_c, "given", NOTHING)
    found = subtract_dark(Light(taken.raw, ()), probes.inside(asked.window), files, asked, temperature)
    outside = not model.covers(temperature_c, description.accumulated(taken.exposure_s))
    cards: list[Card] = [
        ("EXPTIME", taken.exposure_s, "[s]"),
        ("CALSTAT", "BD", "bias and dark are subtracted"),
        ("MODEL", model.key, MODELS[model.name].formula[:40]),
        ("T-DARK", temperature_c, "[deg C] of the dark"),
        ("T-DERR", temperature_sigma_c, "[deg C] its 1 sigma"),
        ("EXTRAPOL", outside, "outside the fitted range"),
        ("EGAIN", description.gain_e_per_adu, "[e-/adu]"),
        ("SCALE", description.scale_factor, "raw counts per adu of this frame"),
        ("N_REPAIR", found.repaired, "pixels replaced by their neighbours"),
    ]
    return Frame(found.science, found.error, found.dq, cards=tuple(cards))


def _asked(
    description: Description,
    origin: Origin,
    model: FittedModel,
    taken: Taken,
    temperature_c: float,
    temperature_sigma_c: float,
    *,
    repair: bool,
) -> Asked:
    return Asked(
        key=model.key, window=taken.window(description.shape), exposure_s=taken.exposure_s,
        temperature_c=temperature_c, temperature_sigma_c=temperature_sigma_c, temperature_source="given",
        reading_c=None, set_point_c=None, pedestal_adu=taken.pedestal_adu, saturation_raw=origin.saturation_raw,
        use_thermometer=False, worst_c=math.inf, differs_c=math.inf, repair=repair, residual=False, stride=taken.stride,
    )  # fmt: skip


def _probes(
    folder: ModelDir,
    description: Description,
    model: FittedModel,
    stride: int,
    masters: Sequence[tuple[Product, Cell]] = (),
) -> ProbeSet:
    return find_probes(folder, description, model.key, stride, masters)


def _telling(
    masters: Sequence[tuple[Product, Cell]], description: Description, model: FittedModel
) -> list[tuple[Product, Cell]]:
    """Masters of the model's campaign that tell the scale of the thermometer."""
    return [
        (product, c)
        for product, c in masters
        if not model.cell and c.bias and c.exposure_s > description.bias_exposure_s
        and model.covers(c.temperature_c, description.accumulated(c.exposure_s))
    ]  # fmt: skip


__all__ = ["Reading", "Taken", "calibrate", "read_temperature"]
