"""One frame from its raw file to a calibrated one: its temperature, its dark, the subtraction, band by band."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError
from darkpipe.files import keywords as kw
from darkpipe.files.bias_files import BiasSource
from darkpipe.files.frame_match import Window
from darkpipe.files.layout import ModelDir
from darkpipe.files.lights import Light, kept_cards, native
from darkpipe.files.model_maps import Description, FittedModel, read_maps
from darkpipe.files.probe_files import ProbeSet, around, bands, bias_file, bulk, search_range
from darkpipe.files.products import Card, Frame, Product, read_planes, with_mask, write_frame
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.same_file import identity
from darkpipe.science.bit_planes import tally
from darkpipe.science.calibration import (
    REPAIRABLE,
    Calibrated,
    Counts,
    Dark,
    DarkNoise,
    dark_variance,
    repair,
    subtract,
)
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS
from darkpipe.science.neighbours import gather
from darkpipe.science.order import median_without
from darkpipe.science.saturation import ON_COMMON
from darkpipe.science.thermometer import FrameNoise, Law, Reading, measure_temperature

F4 = NDArray[np.float32]
Bools = NDArray[np.bool_]

HALF_STEP_C = 0.25  # of the growth with temperature
KEPT_BYTES = 256 << 20  # of darks that further frames may need
UNDESCRIBED = int(REPAIRABLE | DQ.SATURATED)  # bits of a dark that says nothing of its pixel


@dataclass(frozen=True)
class Asked:
    """What is known of a frame before it is read, and what is to be done with it.

    key : of the model. temperature_c : that of the header after the rule for cells, None where it has none;
    temperature_source : 'set point', 'measured', 'assumed' or ''. reading_c, set_point_c : as the header has them.
    use_thermometer : the hot pixels say the temperature of the dark. worst_c : 1 sigma beyond which they are not taken.
    differs_c : from which difference on they contradict the header. stride : 2 for a Bayer mosaic.
    saturation_raw : raw counts from which on a pixel is saturated.
    """

    key: str
    window: Window
    exposure_s: float
    temperature_c: float | None
    temperature_sigma_c: float
    temperature_source: str
    reading_c: float | None
    set_point_c: float | None
    pedestal_adu: float
    saturation_raw: float
    use_thermometer: bool
    worst_c: float
    differs_c: float
    repair: bool
    residual: bool
    stride: int = 1


@dataclass(frozen=True)
class Temperature:
    """Of the dark: value, 1 sigma [°C], where it comes from, what the hot pixels say, and what is to be said of it."""

    value_c: float
    sigma_c: float
    source: str
    hot: Reading
    note: str = ""


@dataclass(frozen=True)
class ModelFiles:
    """A model and what stands beside it; `read_noise`: its map, None: the number in the description is taken."""

    folder: ModelDir
    description: Description
    read_noise: Product | None

    def noise(self, rows: slice, cols: slice) -> F4 | float:
        """Read noise of a part of the frame [ADU]."""
        if self.read_noise is None:
            return self.description.read_noise_adu
        found = read_planes(self.read_noise, ["SCI"], rows)[0][:, cols]
        return np.where(np.isfinite(found), found, np.float32(self.description.read_noise_adu)).astype(np.float32)

    def law(self, model: FittedModel, exposure_s: float) -> Law:
        """What the hot pixels of a frame of this exposure [s] obey."""
        known = self.description
        return Law(MODELS[model.name], model.reference, known.accumulated(exposure_s), known.bias_exposure_s)


def common_error(model: FittedModel) -> float:
    """Relative error that all pixels of a dark share: the multiplicative error of single cells, such as that of their
    temperatures, averaged by the fit over cells (the mean leverage, parameters / cells)."""
    return model.relative_error * math.sqrt(min(1.0, len(MODELS[model.name].parameters) / max(model.cells, 1)))


def read_thermometer(light: Light, found: ProbeSet, files: ModelFiles, asked: Asked) -> Reading:
    """What the hot pixels of a frame say of its temperature."""
    model = files.description.find(asked.key)
    near = asked.temperature_c if asked.temperature_c is not None else sum(model.temperature_c) / 2.0
    offsets = around(asked.stride)
    r, c = found.probes.rows - asked.window.row, found.probes.cols - asked.window.col
    raw = gather(light.raw, r, c, offsets)
    frame = native(raw, files.description.scale_factor, asked.pedestal_adu).astype(np.float64)
    observed = np.where(raw >= asked.saturation_raw, np.nan, frame - found.bias_at(near))
    law, known = files.law(model, asked.exposure_s), files.description
    # the scatter of the masters about the scale holds what the model is off by, where it could be measured
    common = 0.0 if math.isfinite(found.scale.scatter_c) else common_error(model)
    noise = FrameNoise(known.read_noise_adu, known.gain_e_per_adu, model.relative_error, common)
    reading = measure_temperature(observed, np.isnan(observed[:, 0]), found.probes, law, noise, search_range(model))
    return found.scale.corrected(reading)


def decide_temperature(hot: Reading, asked: Asked, path: Path) -> Temperature:
    """The temperature of the dark, from the header or the hot pixels, and where they disagree.

    Raises
    ------
    FrameError
        when neither can tell.
    """
    told = math.isfinite(hot.temperature_c)
    precise = told and hot.error_c <= asked.worst_c
    header = asked.temperature_c
    if header is None:
        if not precise:
            why = f"only to {hot.error_c:.1f} °C" if told else "not at all"
            raise FrameError(
                f"the header has no temperature, and the hot pixels tell it {why}", where=path,
                do="name the keyword under load_data: keyword_synonyms; short exposures have too little dark signal",
            )  # fmt: skip
        return Temperature(hot.temperature_c, hot.error_c, "hot pixels", hot)
    note = ""
    apart = hot.temperature_c - header if told else 0.0
    if abs(apart) > asked.differs_c and abs(apart) > 3.0 * math.hypot(hot.error_c, asked.temperature_sigma_c):
        note = f"the hot pixels say {hot.temperature_c:.2f} ± {hot.error_c:.2f} °C, the header {header:.2f} °C"
    if asked.use_thermometer and precise:
        return Temperature(hot.temperature_c, hot.error_c, "hot pixels", hot, note)
    if asked.use_thermometer:
        note = "the hot pixels do not tell the temperature well enough: that of the header is taken"
    return Temperature(header, asked.temperature_sigma_c, asked.temperature_source, hot, note)


@dataclass
class Result:
    """A calibrated frame, whole planes: science, 1 sigma [ADU], bits.

    repairable : pixels that the model does not describe; only where they are repaired, else without pixels.
    dark, dark_error, growth : the dark, its 1 sigma [ADU], its growth [ADU/K]; only where `residual` asks for them,
    else without pixels. bulk_adu : dark of the ordinary pixel. flagged : pixels that the model does not describe;
    repaired : those of them that were.
    """

    science: F4
    error: F4
    dq: NDArray[np.uint16]
    repairable: Bools
    dark: F4
    dark_error: F4
    growth: F4
    bulk_adu: float
    flagged: int = 0
    repaired: int = 0

    @classmethod
    def empty(cls, asked: Asked, bulk_adu: float, memory: ThreadMemory | None) -> Result:
        """Planes to be filled."""
        rows, cols = asked.window.rows, asked.window.cols
        plane = _new if memory is None else memory.plane
        science, error = (plane(name, (rows, cols), np.float32) for name in ("science", "error"))
        bits, bad = plane("dq", (rows, cols), np.uint16), np.empty((rows if asked.repair else 0, cols), bool)
        dark = [np.empty((rows if asked.residual else 0, cols), np.float32) for _ in range(3)]
        return cls(science, error, bits, bad, dark[0], dark[1], dark[2], bulk_adu)


def _new(name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    return np.empty(shape, kind)


@dataclass(frozen=True)
class _Ready:
    """A band of a dark with what all frames of its temperature and exposure share: its variance, that of the read noise
    [ADU²], the level above the bias from which on a pixel is full [ADU], and how many pixels can be repaired. The
    growth of the dark is there where it is asked for."""

    dark: Dark
    variance: F4
    noise_variance: F4
    full: F4
    flagged: int

    @property
    def size(self) -> int:
        """Bytes."""
        planes = (*vars(self.dark).values(), self.variance, self.noise_variance, self.full)
        return sum(int(plane.nbytes) for plane in planes)


class _Kept:
    """Bands of the darks that were used last, within a fixed amount of memory: most frames of a night have one
    exposure and one set point. Of a dark that is larger, as many bands as there is room for. Shared by the threads of a
    process."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._lock, self._taken = most_bytes, Lock(), 0
        self._bands = OrderedDict[tuple[Hashable, int], _Ready]()

    def get(self, dark: Hashable, band: int, make: Callable[[], _Ready]) -> _Ready:
        """A band of a dark, made where it is not kept."""
        with self._lock:
            found = self._bands.get((dark, band))
            if found is not None:
                self._bands.move_to_end((dark, band))
                return found
        made = make()
        with self._lock:
            if (dark, band) not in self._bands:
                for key in [key for key in self._bands if key[0] != dark]:
                    if self._taken + made.size <= self._most:
                        break
                    self._taken -= self._bands.pop(key).size
                if self._taken + made.size <= self._most:
                    self._bands[dark, band] = made
                    self._taken += made.size
        return made


_READY = _Kept(KEPT_BYTES)


def _held_files(files: ModelFiles, model: FittedModel) -> Hashable:
    """What the files of a model are now: a dark that was made of them holds as long as they are the same. None of a
    model in memory, whose darks are not kept."""
    folder = files.folder
    places = [*folder.maps(model.name, model.cell).values(), folder.covariance(model.name, model.cell)]
    places += [folder.hot_pixel_mask, folder.saturation_map, bias_file(folder, files.description, model)]
    products = [folder.product(path) for path in places if folder.has(path)]
    products += [] if files.read_noise is None else [files.read_noise]
    if not all(isinstance(product, Path) for product in products):
        return None
    return tuple((path, identity(path)) for path in products if isinstance(path, Path))


def _prepare(
    files: ModelFiles, model: FittedModel, asked: Asked, temperature_c: float, rows: slice, extra: DarkNoise
) -> _Ready:
    dark, well = make_dark(files, model, asked, temperature_c, rows)
    noise = np.square(np.asarray(files.noise(rows, asked.window.across), np.float32))
    same = np.ravel(well[:1, :1]) if not any(well.strides) else well
    variance, nothing = dark_variance(dark, extra), np.empty((0, 0), np.float32)
    # what goes into the variance alone, or is not asked for, need not be kept; views would keep the rest of the rows
    kept = Dark(
        np.ascontiguousarray(dark.signal), nothing, dark.growth.copy() if asked.residual else nothing,
        np.ascontiguousarray(dark.bias), nothing, np.ascontiguousarray(dark.dq),
    )  # fmt: skip
    # a dark at its saturation level says nothing of the light; a star that saturates is no fault of the pixel
    flagged = int(np.count_nonzero(dark.dq & np.uint16(UNDESCRIBED)))
    return _Ready(kept, variance, noise, np.asarray(ON_COMMON * same, np.float32), flagged)


def subtract_dark(
    light: Light,
    found: ProbeSet,
    files: ModelFiles,
    asked: Asked,
    temperature: Temperature,
    memory: ThreadMemory | None = None,
) -> Result:
    """Bias and dark off a frame, in bands of rows; memory : for the planes of the result, where these are not kept."""
    model = files.description.find(asked.key)
    law = files.law(model, asked.exposure_s)
    sigma_c = 0.0 if temperature.source == "set point" else temperature.sigma_c
    extra = DarkNoise(model.relative_error, sigma_c, *bulk(found, law, temperature.value_c))
    out = Result.empty(asked, extra.bulk_adu, memory)
    counts = Counts(light.raw, files.description.scale_factor, asked.pedestal_adu, asked.saturation_raw)
    same = _held_files(files, model)
    key = (same, asked.key, asked.window, asked.exposure_s, temperature.value_c, extra, asked.residual)
    for band in bands(asked.window):
        here = slice(band.start - asked.window.row, band.stop - asked.window.row)
        make = partial(_prepare, files, model, asked, temperature.value_c, band, extra)
        ready = make() if same is None else _READY.get(key, band.start, make)
        done = Calibrated(out.science[here], out.error[here], out.dq[here], ready.variance)
        gain, noise = files.description.gain_e_per_adu, ready.noise_variance
        subtract(counts.rows(here), ready.dark, ready.variance, noise, gain, ready.full, done)
        out.flagged += ready.flagged
        if asked.residual:
            out.dark[here], out.dark_error[here] = ready.dark.signal, np.sqrt(ready.variance)
            out.growth[here] = ready.dark.growth
        if asked.repair:
            out.repairable[here] = (ready.dark.dq & np.uint16(UNDESCRIBED)) != 0
    if asked.repair:
        out.repaired = repair(out.science, out.error, out.dq, out.repairable, asked.stride)
    return out


def make_dark(
    files: ModelFiles, model: FittedModel, asked: Asked, temperature_c: float, rows: slice
) -> tuple[Dark, F4]:
    """Dark and bias of a band of rows for a frame, and the level of saturation [ADU].

    SATURATED means this dark: that a pixel saturated in some cell of the campaign is no concern of a shorter frame.
    """
    cols = asked.window.across
    maps = read_maps(files.folder, model, rows)
    maps = replace(maps, dq=maps.dq & np.uint16(~int(DQ.SATURATED) & 0xFFFF))
    exposure_s = files.description.accumulated(asked.exposure_s)
    signal, error, dq = maps.synthesize(temperature_c, exposure_s)
    warm, cold = (maps.signal(temperature_c + d, exposure_s) for d in (HALF_STEP_C, -HALF_STEP_C))
    if files.description.bias_exposure_s > 0:
        # the bias frames were short darks and hold that much of the signal already
        signal = signal - maps.signal(temperature_c, files.description.bias_exposure_s)
    source = files.folder.product(bias_file(files.folder, files.description, model))
    bias, bias_error, _ = BiasSource(source, temperature_c).read(rows)
    growth = ((warm - cold) / np.float32(2.0 * HALF_STEP_C)).astype(np.float32)
    dark = Dark(signal[:, cols], error[:, cols], growth[:, cols], bias[:, cols], bias_error[:, cols], dq[:, cols])
    return dark, maps.saturation_adu[:, cols]


def write_calibrated(
    path: Path, result: Result, light: Light, files: ModelFiles, asked: Asked, temperature: Temperature, name: str
) -> str:
    """Write the frame with its header: the cards of the raw one, and what was done; returns the digest."""
    cards = _cards(files, asked, temperature, result)
    kept, coordinates = kept_cards(light.cards, {key for key, _, _ in cards} | {kw.CREATOR})
    header = [*kept, *cards, *_history(files, asked, temperature, result)]
    frame = Frame(result.science, result.error, result.dq, header=header, image_header=coordinates, inputs=[name])
    return write_frame(path, with_mask(frame))


def _cards(files: ModelFiles, asked: Asked, temperature: Temperature, result: Result) -> list[Card]:
    description = files.description
    model = description.find(asked.key)
    hot = temperature.hot
    cards: list[Card] = [
        ("EXPTIME", asked.exposure_s, "[s]"),
        ("CALSTAT", "BD", "bias and dark are subtracted"),
        ("MODEL", model.key, MODELS[model.name].formula[:40]),
        ("CONFIG", description.configuration, "configuration of the model"),
        ("T-DARK", temperature.value_c, "[deg C] of the dark"),
        ("T-DERR", temperature.sigma_c, "[deg C] its 1 sigma"),
        ("T-SOURCE", temperature.source, "where it comes from"),
        ("T-HOT", hot.temperature_c, "[deg C] by the hot pixels"),
        ("T-HOTERR", hot.error_c, "[deg C] its 1 sigma"),
        ("N-HOT", hot.pixels, "hot pixels that had a say"),
        ("EXPDARK", asked.exposure_s, "[s] of the dark"),
        (
            "EXTRAPOL",
            not model.covers(temperature.value_c, description.accumulated(asked.exposure_s)),
            "outside the fitted range",
        ),
        ("EGAIN", description.gain_e_per_adu, "[e-/adu]"),
        ("RDNOISE", description.read_noise_adu, "[adu] of the typical pixel"),
        ("SCALE", description.scale_factor, "raw counts per adu of this frame"),
        ("PEDADDED", asked.pedestal_adu, "[adu] pedestal that was added"),
        ("WIN-X", asked.window.col, "first column in the model's frame, from 0"),
        ("WIN-Y", asked.window.row, "first row in the model's frame, from 0"),
        ("N_REPAIR", result.repaired, "pixels replaced by their neighbours"),
        ("BUNIT", "adu", "native counts above bias and dark"),
    ]
    return cards


def _history(files: ModelFiles, asked: Asked, temperature: Temperature, result: Result) -> list[Card]:
    said = [
        "darkpipe subtracted bias and dark:",
        f"dark of model {asked.key}, {temperature.value_c:.3f} C ({temperature.source}), {asked.exposure_s:g} s",
        f"of {files.description.configuration}",
        "ERR: read noise, shot noise of light and dark, error of dark and bias",
        f"{result.repaired} pixels repaired" if asked.repair else "no pixel repaired",
    ]
    if temperature.note:
        said.append(temperature.note.replace("±", "+-").replace("°C", "deg C"))
    # a card has 72 characters; a longer text would be split in the middle of a word
    return [("HISTORY", line[k : k + 72], "") for line in said for k in range(0, len(line), 72)]


def record(
    asked: Asked, temperature: Temperature, result: Result, name: str, kind: str, more: Mapping[str, float]
) -> dict[str, Any]:
    """The row of a frame in the table; numbers rounded to what they are good for."""
    shaky, hot = int(DQ.SATURATED | REPAIRABLE), temperature.hot
    saturated, bits = tally(result.dq, int(DQ.SATURATED))
    return {
        "file": name,
        "kind": kind,
        "exposure_s": asked.exposure_s,
        "header_c": _nan(asked.reading_c),
        "set_point_c": _nan(asked.set_point_c),
        "dark_c": round(temperature.value_c, 4),
        "dark_error_c": round(temperature.sigma_c, 4),
        "source": temperature.source,
        "hot_c": round(hot.temperature_c, 4),
        "hot_error_c": round(hot.error_c, 4),
        "hot_pixels": hot.pixels,
        "hot_spread": round(hot.spread, 3),
        "hot_c_per_percent": round(hot.exposure_lever_c, 4),
        "model": asked.key,
        "extrapolated": bool(bits & DQ.EXTRAPOLATED),
        "level_adu": round(median_without(result.science, result.dq, shaky), 4),
        "error_adu": round(median_without(result.error, result.dq, shaky), 4),
        "dark_adu": round(result.bulk_adu, 4),
        "n_saturated": saturated,
        "n_flagged": result.flagged,
        "n_repaired": result.repaired,
        **{key: round(value, 6) for key, value in more.items()},
        "note": temperature.note,
    }


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
