"""Synthetic darks on disk: from the model's maps to a frame, bias-subtracted or as the camera would give it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.files.ahead import each_ahead
from darkpipe.files.bands import rows_of
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import Description, FittedModel, ModelMaps, Planes, read_maps
from darkpipe.files.products import Card, Frame, blank, with_mask
from darkpipe.files.strips import InStrips, write_primary_strips
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.files.with_bias import error_of_sum, knows_shared, shared_variance
from darkpipe.science.models import MODELS
from darkpipe.science.quadrature import quadrature

F4 = NDArray[np.float32]

UINT16_TOP = 65535
_MAPS = ThreadMemory()  # of the band that a thread works on


@dataclass(frozen=True)
class Wanted:
    """A dark that is asked for. model: key of the fitted model. window: part of the model's frame; None: all."""

    model: str
    temperature_c: float
    exposure_s: float
    include_bias: bool = False
    dtype: Literal["float32", "uint16"] = "float32"
    window: Window | None = None


def write_synthetic(path: Path, folder: ModelDir, description: Description, wanted: Wanted) -> str:
    """Synthesise one dark (`synthetic_frame`) and write it; returns the digest.

    float32: SCI, ERR, DQ, MASK extensions in native ADU. uint16: an image in the primary HDU in raw counts, rounded and
    clipped to what the type holds, as capture software writes it.

    Raises
    ------
    DesignError
        when the bias is asked for and the model has none, or the model lacks this exposure or temperature.
    """
    made = _making(folder, description, wanted, None)
    part, cards = made.part, made.cards()
    shape = (part.rows, part.cols)
    strips = each_ahead(made.window, rows_of((part.rows, description.shape[1]), 60), threads=2)
    signal, dq = blank(shape, np.float32), blank(shape, np.uint16)
    if wanted.dtype == "float32":
        template = Frame(signal, signal, dq, header=cards, extra={"MASK": blank(shape, np.uint8)})
        return InStrips(template, ((rows, with_mask(Frame(*planes)).planes) for rows, planes in strips)).write(path)
    lost = [0, 0]

    def counts() -> Iterator[tuple[slice, NDArray[np.uint16]]]:
        for rows, planes in strips:
            image, outside, missing = _to_counts(planes[0], description.scale_factor)
            lost[0], lost[1] = lost[0] + outside, lost[1] + missing
            yield rows, image

    return write_primary_strips(path, dq, counts(), lambda: _cards_of_counts(cards, *lost))


def synthetic_frame(folder: ModelDir, description: Description, wanted: Wanted, held: ModelMaps | None = None) -> Frame:
    """One dark: image, 1 sigma [native ADU] and bits, with its cards.

    Parameters
    ----------
    held : the maps of the model that is wanted, whole, where they are in memory.

    Raises
    ------
    DesignError
        as `write_synthetic`.
    """
    made = _making(folder, description, wanted, held)
    part = made.part
    shape = (part.rows, part.cols)
    signal, error, dq = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)

    def make(here: slice) -> None:
        room = (signal[here], error[here], dq[here]) if part.cols == description.shape[1] else None
        planes = made.window(here, room)[1]
        if room is None or any(plane is not own for plane, own in zip(planes, room, strict=True)):
            signal[here], error[here], dq[here] = planes

    for _ in each_ahead(make, rows_of((part.rows, description.shape[1]), 60), threads=2):
        pass
    return Frame(signal, error, dq, header=made.cards())


def _making(folder: ModelDir, description: Description, wanted: Wanted, held: ModelMaps | None) -> _Making:
    model = description.find(wanted.model)
    beside = law_beside(description, model, wanted.temperature_c, wanted.exposure_s)
    return _Making(folder, description, wanted, model, beside, held)


@dataclass(frozen=True)
class _Making:
    """A dark that is made band by band of its rows. beside : the other law that it is compared with. held : the maps of
    the model where they are in memory."""

    folder: ModelDir
    description: Description
    wanted: Wanted
    model: FittedModel
    beside: FittedModel | None
    held: ModelMaps | None

    @property
    def part(self) -> Window:
        """What is made of the model's frame."""
        return self.wanted.window or Window(0, 0, *self.description.shape)

    def cards(self) -> list[Card]:
        """The header."""
        wanted, cards = self.wanted, _cards(self.description, self.model, self.wanted)
        if self.beside is not None:
            cards.append(("LAWERR", self.beside.key, "half the difference from it is in ERR"))
        if wanted.include_bias:
            knows = knows_shared(self.folder, self.description, self.model)
            cards.append(("BIASCOV", knows, "ERR knows what dark and bias share; F: upper limit"))
        if wanted.window is not None:
            cards.append(("WIN-X", wanted.window.col, "first column in the model's frame, from 0"))
            cards.append(("WIN-Y", wanted.window.row, "first row in the model's frame, from 0"))
        cards.append(("SCALE", self.description.scale_factor, "raw counts per adu of this frame"))
        return cards

    def window(self, here: slice, room: Planes | None = None) -> tuple[slice, Planes]:
        """Some rows of the part that is wanted, and the planes of `band`; room : where that has all columns."""
        signal, error, dq = self.band(slice(here.start + self.part.row, here.stop + self.part.row), room)
        if self.part.cols != self.description.shape[1]:
            signal, error, dq = signal[:, self.part.across], error[:, self.part.across], dq[:, self.part.across]
        return here, (signal, error, dq)

    def band(self, rows: slice, room: Planes | None) -> Planes:
        """Image, 1 sigma and bits of some rows; room : planes that they may be put into."""
        wanted, exposure_s = self.wanted, self.description.accumulated(self.wanted.exposure_s)
        maps = read_maps(self.folder, self.model, rows, _MAPS) if self.held is None else self.held.band(rows)
        signal, error, dq = maps.synthesize(wanted.temperature_c, exposure_s, room)
        if self.beside is not None:
            # half of the difference: what no frame has shown may follow either law, or lie between them
            another = read_maps(self.folder, self.beside, rows).signal(wanted.temperature_c, exposure_s)
            error = np.where(np.isfinite(another), quadrature(error, 0.5 * np.abs(signal - another)), error)
        if not wanted.include_bias:
            return signal, error.astype(np.float32, copy=False), dq
        bias, bias_error = _level(self.folder, self.description, self.model, wanted, rows)
        if self.description.bias_exposure_s > 0:
            # the bias frames were short darks and hold that much of the signal already
            signal = signal - maps.signal(wanted.temperature_c, self.description.bias_exposure_s)
        shared = shared_variance(self.folder, self.description, maps, wanted.temperature_c, wanted.exposure_s, rows)
        return (signal + bias).astype(np.float32), error_of_sum(error, bias_error, shared).astype(np.float32), dq


def raw_counts(frame: Frame, scale_factor: float) -> tuple[NDArray[np.uint16], list[Card]]:
    """A dark as capture software gives it: uint16 raw counts, and the cards with what did not fit into them."""
    image, outside, missing = _to_counts(frame.science, scale_factor)
    return image, _cards_of_counts(frame.header, outside, missing)


def _to_counts(science: NDArray[Any], scale_factor: float) -> tuple[NDArray[np.uint16], int, int]:
    """Raw counts of some rows, how many pixels did not fit into them, and how many have no value."""
    counts = np.rint(science * scale_factor)
    missing = ~np.isfinite(counts)
    outside = (counts < 0) | (counts > UINT16_TOP)
    image = np.where(missing, 0, np.clip(counts, 0, UINT16_TOP)).astype(np.uint16)
    return image, int(outside.sum()), int(missing.sum())


def _cards_of_counts(cards: Sequence[Card], outside: int, missing: int) -> list[Card]:
    return [
        *(card for card in cards if card[0] != "SCALE"),
        ("N_CLIP", outside, "pixels outside of 0 to 65535, clipped"),
        ("N_BLANK", missing, "pixels without a model, written as 0"),
    ]


def law_beside(
    description: Description, model: FittedModel, temperature_c: float, exposure_s: float
) -> FittedModel | None:
    """The other law that a dark outside of the fitted range is compared with; None inside of it, or without another."""
    inside = model.covers(temperature_c, description.accumulated(exposure_s))
    return None if inside else description.another_law(model)


def outside_words(model: FittedModel, names: Sequence[str]) -> str:
    """One line for darks beyond the campaign of a model, by their names."""
    (t0, t1), (e0, e1) = model.temperature_c, model.exposure_s
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"outside the campaign ({t0:g} to {t1:g} °C, {e0:g} to {e1:g} s), extrapolated and flagged so: {listed}"


def _cards(description: Description, model: FittedModel, wanted: Wanted) -> list[Card]:
    cards: list[Card] = [
        ("IMAGETYP", "Dark Frame", "synthetic; " + ("with bias" if wanted.include_bias else "bias subtracted")),
        ("EXPTIME", wanted.exposure_s, "[s]"),
        ("CCD-TEMP", wanted.temperature_c, "[deg C]"),
        ("SET-TEMP", wanted.temperature_c, "[deg C]"),
        ("SYNTHET", True, "computed from a dark model"),
        ("MODEL", model.key, MODELS[model.name].formula[:40]),
        ("T-MIN", model.temperature_c[0], "[deg C] lowest fitted"),
        ("T-MAX", model.temperature_c[1], "[deg C] highest fitted"),
        ("EXPMIN", model.exposure_s[0], "[s] shortest fitted"),
        ("EXPMAX", model.exposure_s[1], "[s] longest fitted"),
        (
            "EXTRAPOL",
            not model.covers(wanted.temperature_c, description.accumulated(wanted.exposure_s)),
            "outside the fitted range",
        ),
        ("EGAIN", description.gain_e_per_adu, "[e-/adu]"),
        ("INSTRUME", description.camera or description.configuration, "camera"),
        ("CONFIG", description.configuration, "configuration"),
        ("BIASINCL", wanted.include_bias, "whether the bias is in"),
    ]
    return cards


def _level(
    folder: ModelDir, description: Description, model: FittedModel, wanted: Wanted, rows: slice
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The bias at this temperature, or the fitted level of a campaign without bias frames; with its error [ADU]."""
    if description.has_bias:
        value, error, _ = BiasSource(folder.product(folder.bias_line), wanted.temperature_c).read(rows)
        return value, error
    offset = folder.offset(model.name, model.cell)
    if not folder.has(offset):
        raise DesignError("this model holds no bias to include", where=folder.path, do="leave --include_bias away")
    value, error, _ = BiasSource(folder.product(offset), wanted.temperature_c).read(rows)
    return value, error


def model_for(description: Description, wanted: str, temperature_c: float, exposure_s: float) -> str:
    """Key of the fitted model that makes this dark: the chosen one, or, of a model of one axis, the one whose exposure
    (temperature) this is.

    Raises
    ------
    DesignError
        when there is none for it.
    """
    name = description.chosen if wanted == "auto" else wanted
    if any(m.key == name for m in description.models) and "/" not in name:
        return name
    base, exposure_s = name.split("/")[0], description.accumulated(exposure_s)
    family = [m for m in description.models if m.name == base]
    for m in family:
        same_exposure = 0.99 * m.exposure_s[0] <= exposure_s <= 1.01 * m.exposure_s[1]
        same_temperature = m.temperature_c[0] - 0.5 <= temperature_c <= m.temperature_c[1] + 0.5
        if (base == "exp_1d" and same_exposure) or (base == "exp_t" and same_temperature):
            return m.key
    if not family:
        description.find(name)  # says what there is
    have = ", ".join(m.cell for m in family)
    axis = "exposure" if base == "exp_1d" else "temperature"
    raise DesignError(
        f"{base} was fitted at {have} alone: it cannot make a dark of {temperature_c:g} °C and {exposure_s:g} s",
        do=f"ask for one of these {axis}s, or take darks that vary in both",
    )
