"""Dark models from frames in memory, by the code of the pipeline."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from darkpipe.errors import DesignError, FrameError, SettingsError
from darkpipe.files.assembling import assemble, held_out, parameter_maps
from darkpipe.files.bias_files import bias_of_model
from darkpipe.files.clamp import clamp_notes
from darkpipe.files.corrections import LINE
from darkpipe.files.describing import describe_models, fitted_model
from darkpipe.files.drift import drift_in
from darkpipe.files.fitting import (
    Tile,
    UnitFiles,
    find_population,
    fit_band,
    plan_units,
    tile_bands,
)
from darkpipe.files.glow import Masters, glow_notes, read_glow, search_glow, why_no_glow
from darkpipe.files.held_model import HeldModel
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import FittedModel, saturation_of
from darkpipe.files.products import Card, Frame, Product
from darkpipe.files.reference import Overrides
from darkpipe.library.campaign import HeldCampaign, make_campaign
from darkpipe.library.held_frames import Camera, held_frames, images_of
from darkpipe.library.model import DarkModel
from darkpipe.library.origin import Origin
from darkpipe.library.quantities import Number, celsius_of, seconds_of
from darkpipe.science.drift import Drift
from darkpipe.science.models import MODELS, WITH_GLOW

log = logging.getLogger("darkpipe")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class FitOptions:
    """What is seldom changed in `fit_dark_model`; the defaults are those of the pipeline.

    Attributes
    ----------
    scale_factor : raw counts per native ADU (16 for 12 bits at the top of 16), or 'auto'.
    saturation_raw : level from which on the camera saturates [raw counts]; None: the top of its converter.
    saturation_fraction : of that level; higher samples do not count.
    pedestal_adu : added to the frames to make them zero-based.
    reference_temperature_c : T_0 of the physical model; None: the mean of the campaign.
    readout_exposure_s : what darks gather beyond their exposure and biases do not.
    energy_gap_ev : E_g of the physical model; silicon: 1.12.
    shape_prior : 'signal': the shape of pixels that cannot tell it comes from pixels of their signal; 'wide'.
    workers : threads of the fit; None: one a core.
    """

    scale_factor: float | Literal["auto"] = "auto"
    saturation_raw: float | None = None
    saturation_fraction: float = 0.95
    pedestal_adu: float = 0.0
    reference_temperature_c: float | None = None
    readout_exposure_s: float = 0.0
    energy_gap_ev: float = 1.12
    shape_prior: Literal["signal", "wide"] = "signal"
    workers: int | None = None


def fit_dark_model(
    frames: Any,
    temperatures_c: Number,
    exposures_s: Number,
    *,
    bias_frames: Any = None,
    bias_temperatures_c: Number | None = None,
    bias_exposure_s: Number = 0.0,
    bias: NDArray[Any] | None = None,
    set_points_c: Number | None = None,
    bias_set_points_c: Number | None = None,
    model: str = "auto",
    gain_e_per_adu: float | None = None,
    read_noise_adu: float | None = None,
    camera: str = "",
    options: FitOptions | None = None,
) -> DarkModel:
    """Fit a dark model to raw darks in memory: what the pipeline does from frames to `dark_model/`, without files.

    Frames are put into cells of like temperature and exposure, compared with their cell (odd ones are left out and
    named in a warning and in `DarkModel.rejected`), combined, freed from their bias; special pixels are masked; every
    model that the campaign can carry is fitted to every pixel. docs/science.md has the formulas and their sources.

    Parameters
    ----------
    frames : raw darks [raw counts]: a cube (n, rows, cols), or a sequence of n images (rows, cols) or of
        `astropy.nddata.CCDData`, whose masked pixels count as missing. uint16 as the camera gave them is best.
    temperatures_c : (n,) measured temperatures [°C], or a quantity.
    exposures_s : (n,) exposures [s], or a quantity.
    bias_frames : raw bias frames, as `frames`; None: there are none, and the level of each pixel is fitted as well,
        unless `bias` is given.
    bias_temperatures_c : one number or (m,), of the bias frames; None: they count as taken at every temperature, which
        goes only where the darks have one temperature.
    bias_exposure_s : of the bias frames. They hold that much dark signal, which is accounted for.
    bias : (rows, cols) a master bias for all temperatures [native ADU], in place of bias frames.
    set_points_c, bias_set_points_c : (n,), (m,) set points of a regulated camera [°C]; None: not known. While the
        readings agree with it the set point is the temperature of a frame.
    model : 'auto' (the smallest held-out error), or the name of one: 'exp_2d', 'two_component', 'exp_1d', 'exp_t',
        'two_component_glow', 'exp_2d_glow'.
    gain_e_per_adu : conversion gain [e-/ADU]; None: measured on the frames.
    read_noise_adu : of one frame [ADU rms]; None: measured on the bias frames.
    camera : its name, for headers.
    options : what is seldom changed.

    Returns
    -------
    DarkModel
        in memory; `DarkModel.write` keeps it.

    Raises
    ------
    DesignError
        when the campaign cannot carry the model that is asked for, or any.
    FrameError
        for frames that no camera gives, or of different shapes; when every dark was left out.
    SettingsError
        for temperatures or exposures that do not fit the frames, or in another unit.

    Examples
    --------
    >>> import darkpipe
    >>> sky = darkpipe.simulate_campaign(rows=32, cols=48, seed=1)
    >>> model = darkpipe.fit_dark_model(
    ...     sky.darks, sky.temperatures_c, sky.exposures_s,
    ...     bias_frames=sky.biases, bias_temperatures_c=sky.bias_temperatures_c, gain_e_per_adu=sky.gain_e_per_adu,
    ... )
    >>> dark = model.synthesize(temperature_c=-7.5, exposure_s=120.0)
    >>> dark.shape, bool(abs(dark.science - sky.truth(-7.5, 120.0)).mean() < 2.0)
    ((32, 48), True)
    """
    how = options or FitOptions()
    darks, biases, given = _frames(
        images_of(frames, "frames"), temperatures_c, exposures_s, set_points_c,
        [] if bias_frames is None else images_of(bias_frames, "bias_frames"), bias_temperatures_c, bias_set_points_c,
        bias_exposure_s, bias, Camera(camera, _or_nan(None), _or_nan(how.saturation_raw), how.pedestal_adu),
    )  # fmt: skip
    overrides = Overrides(
        how.scale_factor, gain_e_per_adu, read_noise_adu, how.saturation_fraction, how.reference_temperature_c,
        how.readout_exposure_s,
    )  # fmt: skip
    if model != "auto" and model not in MODELS:
        raise SettingsError(
            f"there is no model {model!r}", where="model", do="choose auto or one of " + ", ".join(MODELS)
        )
    campaign = make_campaign(darks, biases, given, overrides)
    return _Fit(campaign, model, how).run(camera)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _frames(
    darks: Sequence[NDArray[Any]],
    temperatures_c: Number,
    exposures_s: Number,
    set_points_c: Number | None,
    biases: Sequence[NDArray[Any]],
    bias_temperatures_c: Number | None,
    bias_set_points_c: Number | None,
    bias_exposure_s: Number,
    bias: NDArray[Any] | None,
    camera: Camera,
) -> tuple[list[Any], list[Any], Frame | None]:
    """Darks and biases as the pipeline sees them, and the bias that was given."""
    n, m = len(darks), len(biases)
    temperature = _many(celsius_of(temperatures_c), n, "temperatures_c")
    exposure = _many(seconds_of(exposures_s), n, "exposures_s")
    if not (exposure > 0).all():
        raise SettingsError("the exposure of a dark must be above 0 s", where="exposures_s")
    unknown = float("nan")
    set_point = _many(celsius_of(unknown if set_points_c is None else set_points_c), n, "set_points_c")
    if not (np.isfinite(temperature) | np.isfinite(set_point)).all():
        raise SettingsError("a dark has neither temperature nor set point", where="temperatures_c")
    if biases and bias_temperatures_c is None:
        if np.ptp(temperature) > 1.0:
            raise SettingsError("the temperatures of the bias frames are not known", do="give bias_temperatures_c")
        bias_temperatures_c = float(np.mean(temperature))
    if biases and bias is not None:
        raise SettingsError("either bias frames or a master bias", where="bias")
    if any(image.shape != darks[0].shape for image in [*biases[:1], *([] if bias is None else [np.asarray(bias)])]):
        raise FrameError(f"the bias has another shape than the darks, {darks[0].shape}", where="bias")
    held = held_frames(darks, "dark", temperature, set_point, exposure, camera)
    if not biases:
        return held, [], None if bias is None else _given(np.asarray(bias, np.float32), float(np.mean(temperature)))
    at = _many(celsius_of(bias_temperatures_c), m, "bias_temperatures_c")
    fixed = _many(celsius_of(unknown if bias_set_points_c is None else bias_set_points_c), m, "bias_set_points_c")
    took = np.full(m, float(seconds_of(bias_exposure_s, "bias_exposure_s")))
    return held, held_frames(biases, "bias", at, fixed, took, camera), None


def _many(values: NDArray[np.float64], n: int, name: str) -> NDArray[np.float64]:
    if values.shape not in ((), (n,)):
        raise SettingsError(f"{n} frames and values of shape {values.shape}", where=name, do="give one for each frame")
    return np.broadcast_to(values, (n,))


def _given(bias: NDArray[np.float32], temperature_c: float) -> Frame:
    """A master bias as a line in temperature without a slope, taken as exact."""
    cards: list[Card] = [("CCD-TEMP", temperature_c, "[deg C]")]
    master = Frame(bias, np.zeros_like(bias), np.zeros(bias.shape, np.uint16), header=cards)
    return bias_of_model(master, "given", line=False).whole()


@dataclass
class _Fit:
    """The jobs of step 5, one after the other, on masters in memory."""

    campaign: HeldCampaign
    wanted: str
    how: FitOptions
    folder: ModelDir = field(default_factory=lambda: ModelDir(Path("dark_model")))
    held: dict[Path, Frame] = field(default_factory=dict)
    tables: dict[Path, Table] = field(default_factory=dict)
    blocks: dict[str, Frame] = field(default_factory=dict)
    errors: dict[str, Frame] = field(default_factory=dict)

    def run(self, camera: str) -> DarkModel:
        """All models, and the one that is chosen."""
        known = self.campaign
        units, missing = self._units()
        self.held[self.folder.hot_pixel_mask] = known.mask
        self.held[self.folder.saturation_map] = known.saturation
        fitted = [self._fit(unit) for unit in units]
        has_bias = self._keep_bias()
        named = [
            [u.model, *(o.model for o in units if self._glows(u) and _without(u, o))] for u in units if self._glows(u)
        ]
        notes = [*glow_notes(self._of_glow(named), named, known.shape), *clamp_notes(known.corrected.meta)]
        description = describe_models(
            fitted, self.wanted, missing, known.reference, has_bias, known.shape, f"{known.shape[0]}x{known.shape[1]}",
            camera, notes,
        )  # fmt: skip
        origin = Origin(
            [(c.temperature_c, c.exposure_s) for c in known.cells], known.reference.saturation_raw, known.noise,
            list(zip(known.masters, known.cells, strict=True)), dict(known.rejected), self.tables,
        )  # fmt: skip
        return DarkModel(HeldModel(self.folder.path, self.held), description, origin)

    def _units(self) -> tuple[list[UnitFiles], dict[str, str]]:
        """What is fitted, and why the rest is not; models with glow only where there is some."""
        known = self.campaign
        units, missing, one_level = plan_units(known.cells, known.reference, self.wanted, self.how.energy_gap_ev, False)
        drift = Drift(**drift_in(known.corrected, known.bias_frames, known.reference.scale_factor))
        files = [
            UnitFiles(
                u.model.name, u.scope, [known.cells[i] for i in u.cells], known.reference, self.how.energy_gap_ev,
                one_level, drift,
            )
            for u in units
        ]  # fmt: skip
        glowing = [f for f in files if self._glows(f)]
        if glowing:
            found = search_glow(glowing, Masters(self._masters(glowing[0]), known.noise, known.mask))
            self.blocks = {f.model: blocks for f, blocks in zip(glowing, found, strict=True)}
            missing |= {f.model: why for f in glowing if (why := why_no_glow(self.blocks[f.model]))}
        if self.wanted in missing and self.wanted in self.blocks:
            raise DesignError(f"{self.wanted} cannot be fitted: {missing[self.wanted]}", do="choose model='auto'")
        kept = [f for f in files if not (f.model in self.blocks and f.model in missing)]
        self.held |= {self.folder.glow_blocks(f.model): self.blocks[f.model] for f in kept if self._glows(f)}
        return kept, missing

    @staticmethod
    def _glows(unit: UnitFiles) -> bool:
        return MODELS[unit.model].glow_slot is not None

    def _masters(self, unit: UnitFiles) -> list[Product]:
        mine = {c.name for c in unit.cells}
        return [m for m, c in zip(self.campaign.masters, self.campaign.cells, strict=True) if c.name in mine]

    def _fit(self, unit: UnitFiles) -> FittedModel:
        """Population, bands of rows, maps and held-out errors of one model."""
        known, masters, (rows, _) = self.campaign, self._masters(unit), self.campaign.shape
        population = find_population(
            unit, masters, known.noise, known.mask, rows, shapes_by_level=self.how.shape_prior == "signal"
        )

        def fit(band: slice) -> Tile:
            glow = read_glow(self.blocks[unit.model], band, known.shape) if self._glows(unit) else None
            level = saturation_of(known.saturation, band)
            return fit_band(unit, masters, known.noise, known.mask, population, level, band, 0, glow)

        made = assemble(_mapped(fit, tile_bands(known.shape, len(unit.cells)), self.how.workers))
        place, name, scope = self.folder, unit.model, unit.scope
        paths = {
            **place.maps(name, scope),
            "covariance": place.covariance(name, scope),
            "chi2": place.chi2(name, scope),
            "status": place.status_map(name, scope),
            "offset": place.offset(name, scope),
        }
        self.held |= {paths[what]: frame for what, frame in parameter_maps(unit, made).items()}
        table, self.errors[name] = held_out(unit, made)
        self.held[place.held_out_maps(name, scope)] = self.errors[name]
        self.tables[place.held_out(name, scope)] = table
        return fitted_model(unit, table.meta["score"], population)

    def _keep_bias(self) -> bool:
        """The bias goes with the model."""
        known = self.campaign
        used = {c.bias for c in known.cells if c.bias}
        if not used:
            return False
        line = known.line is not None and (any(b.startswith(LINE) for b in used) or len(used) > 1)
        source = known.line if line else known.bias_masters[next(iter(used))]
        assert source is not None
        self.held[self.folder.bias_line] = bias_of_model(source, "bias", line).whole()
        return True

    def _of_glow(self, named: Sequence[Sequence[str]]) -> list[Product]:
        """What `glow_notes` wants of each model with glow and of the same without."""
        found: list[Product] = []
        for models in named:
            found += [self.blocks[models[0]], *(self.errors[name] for name in models)]
        return found


def _without(unit: UnitFiles, other: UnitFiles) -> bool:
    found = WITH_GLOW.get(other.model)
    return found is not None and found.name == unit.model


def _mapped(function: Callable[[T], R], items: Iterable[T], workers: int | None) -> list[R]:
    """In threads: the kernels release the GIL."""
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(function, items))
