"""A dark model in the hand: darks of any temperature and exposure, maps, calibration of frames, the thermometer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError, SettingsError
from darkpipe.files.ahead import each_ahead
from darkpipe.files.bands import halves
from darkpipe.files.layout import ModelDir, cell_name
from darkpipe.files.model_maps import Description, FittedModel, ModelMaps, read_bits, read_description, read_maps
from darkpipe.files.products import read_header, read_planes
from darkpipe.files.sensor import ModelFiles, growth_maps
from darkpipe.files.synthetic import Wanted, model_for, outside_words, synthetic_frame
from darkpipe.library.frame import Frame
from darkpipe.library.keeping import keep_model
from darkpipe.library.origin import FitsRange, Origin, configured, origin_on_disk
from darkpipe.library.quantities import Number, celsius, seconds
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS
from darkpipe.science.sensor import grows

if TYPE_CHECKING:
    from darkpipe.library.lights import Reading

log = logging.getLogger("darkpipe")


class DarkModel:
    """A fitted dark model, read from a directory (`DarkModel.read`) or fitted in memory (`fit_dark_model`).

    Maps are read when they are asked for, so that a model of a large camera costs no memory until then; those of the
    last dark are kept for the next one (42 bytes a pixel).

    Attributes
    ----------
    description : everything of model.yaml: the models with their ranges and held-out scores, gain, read noise.
    rejected : reasons by frame, of those that a fit in memory left out.

    Examples
    --------
    >>> import darkpipe
    >>> model = darkpipe.example_model()
    >>> model.name
    'two_component'
    >>> dark = model.synthesize(temperature_c=-8.0, exposure_s=180.0)
    >>> dark.shape, dark.header["EXPTIME"], dark.header["EXTRAPOL"]
    ((32, 48), 180.0, False)

    Quantities are taken as well:

    >>> from astropy import units as u
    >>> same = model.synthesize(265.15 * u.K, 3.0 * u.min)
    >>> bool((same.science == dark.science).all())
    True
    """

    def __init__(self, folder: ModelDir, description: Description, origin: Origin, model: str = "auto") -> None:
        self.description = description
        self._folder, self._origin = folder, origin
        self._wanted = model
        self._kept: ModelMaps | None = None
        if model != "auto" and model not in {m.name for m in description.models}:
            description.find(model)  # says which there are, and why this one is not

    @classmethod
    def read(cls, path: str | PathLike[str], configuration: str | None = None, *, model: str = "auto") -> DarkModel:
        """Read a model.

        Parameters
        ----------
        path : an output directory of the pipeline, its `dark_model` folder, or what `write` wrote.
        configuration : of an output directory that holds several cameras, gains or binnings: which one.
        model : 'auto' (what the fit chose), or another of the fitted ones.

        Raises
        ------
        ProductError
            when there is no model, or it is damaged.
        DesignError
            when there are several configurations and none is named, or none of that name; when the model was not
            fitted.
        """
        folder = configured(Path(path), configuration)
        description = read_description(folder.description)
        return cls(folder, description, origin_on_disk(folder, description), model)

    @property
    def rejected(self) -> Mapping[str, str]:
        return self._origin.rejected

    @property
    def name(self) -> str:
        """The model that synthesises: 'exp_2d', 'two_component', …; of a model of one axis with its cells,
        'exp_1d/texp10s'."""
        return self.description.chosen if self._wanted == "auto" else self._wanted

    @property
    def names(self) -> tuple[str, ...]:
        """All that were fitted."""
        return tuple(m.key for m in self.description.models)

    def using(self, model: str) -> DarkModel:
        """The same with another of the fitted models.

        Raises
        ------
        DesignError
            when it was not fitted, saying why.
        """
        return DarkModel(self._folder, self.description, self._origin, model)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols) of its frames."""
        return self.description.shape

    @property
    def fits_range(self) -> FitsRange:
        """Temperatures and exposures of the campaign; a dark outside of them is extrapolated, and flagged so."""
        mine = [m for m in self.description.models if self.name in (m.key, m.name)]
        later = self.description.readout_exposure_s
        temperatures = [t for m in mine for t in m.temperature_c]
        exposures = [round(e - later, 9) for m in mine for e in m.exposure_s]
        cells = self._origin.cells or [(t, e) for t, e in zip(temperatures, exposures, strict=True)]
        return FitsRange(
            (min(temperatures), max(temperatures)),
            (min(exposures), max(exposures)),
            tuple(sorted({t for t, _ in cells})),
            tuple(sorted({e for _, e in cells})),
        )

    def covers(self, temperature_c: Number, exposure_s: Number) -> bool:
        """Whether a dark lies inside of what was fitted (0.5 °C and 1 % of margin)."""
        temperature, exposure = celsius(temperature_c), seconds(exposure_s)
        return self._model(temperature, exposure).covers(temperature, self.description.accumulated(exposure))

    def synthesize(self, temperature_c: Number, exposure_s: Number, include_bias: bool = False) -> Frame:
        """The dark of a temperature and an exposure, with its 1 sigma and quality bits.

        Beyond the campaign it is extrapolated: every pixel carries `DQ.EXTRAPOLATED`, a warning is logged, and half of
        the difference from the other law of temperature, if one was fitted, is in the error.

        Parameters
        ----------
        temperature_c : [°C], or a quantity (deg_C, K).
        exposure_s : [s], or a quantity.
        include_bias : as a camera would give it; else bias-subtracted.

        Returns
        -------
        Frame
            native ADU, (rows, cols). Pixels without a model are NaN and carry `DQ.FIT_FAILED`.

        Raises
        ------
        DesignError
            when the model has no bias to include, or, of a model of one axis, is asked for another exposure
            (temperature) than it was fitted at.
        SettingsError
            for a unit of another kind, an exposure that is not above 0, a temperature below absolute zero.

        Examples
        --------
        >>> import darkpipe
        >>> model = darkpipe.example_model()
        >>> dark = model.synthesize(10.0, 60.0)  # the campaign ends at 0 °C
        >>> bool(dark.flagged(darkpipe.DQ.EXTRAPOLATED).all())
        True
        >>> model.synthesize("cold", 60.0)
        Traceback (most recent call last):
        ...
        darkpipe.errors.SettingsError: 'cold' is not a temperature (deg_C or K) [temperature_c]. give a number in deg_C
        """
        temperature, exposure = celsius(temperature_c), seconds(exposure_s)
        found = self._model(temperature, exposure)
        if not found.covers(temperature, self.description.accumulated(exposure)):
            log.warning("%s", outside_words(found, [cell_name(temperature, exposure)]))
        wanted = Wanted(found.key, temperature, exposure, include_bias)
        return Frame.of(synthetic_frame(self._folder, self.description, wanted, self._maps(found)))

    def signal(
        self, temperature_c: Number, exposure_s: Number, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """The image of `synthesize` alone, without bias, error and bits: several times faster.

        Parameters
        ----------
        out : (rows, cols) float32, contiguous: is overwritten and returned.

        Raises
        ------
        DesignError
            as `synthesize`.
        SettingsError
            as `synthesize`; for an `out` of another shape or type.

        Examples
        --------
        >>> import darkpipe
        >>> model = darkpipe.example_model()
        >>> bool((model.signal(-8.0, 180.0) == model.synthesize(-8.0, 180.0).science).all())
        True
        """
        temperature, exposure = celsius(temperature_c), seconds(exposure_s)
        out = np.empty(self.shape, np.float32) if out is None else out
        if out.shape != self.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise SettingsError(f"a contiguous float32 array of {self.shape} is needed", where="out")
        maps, seconds_in_all = self._maps(self._model(temperature, exposure)), self.description.accumulated(exposure)

        def make(rows: slice) -> None:
            maps.band(rows).signal(temperature, seconds_in_all, out[rows])

        for _ in each_ahead(make, halves(self.shape[0]), threads=2):
            pass
        return out

    # --- maps --------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the model's maps: 'A', 'B', 'gamma'; 'G', 'D'."""
        return tuple(p.name for p in MODELS[self.name.split("/")[0]].parameters)

    def parameter(self, name: str) -> Frame:
        """The map of a parameter: value, 1 sigma, bits; its unit is that of the formula (docs/science.md).

        Raises
        ------
        SettingsError
            for a name that the model does not have.
        """
        if name not in self.parameters:
            raise SettingsError(
                f"{self.name} has no parameter {name!r}", where="name", do="choose of " + ", ".join(self.parameters)
            )
        model = self._one()
        path = self._folder.maps(model.name, model.cell)[name]
        value, error, bits = read_planes(self._folder.product(path), ["SCI", "ERR", "DQ"])
        unit = next(p.unit for p in MODELS[model.name].parameters if p.name == name)
        return Frame(value, error, bits.astype(np.uint16), unit, (("PARAM", name, "parameter of this map"),))

    @property
    def mask(self) -> NDArray[np.uint16]:
        """(rows, cols) bits of special pixels (`darkpipe.DQ`): of the mask and of the fit together."""
        return read_bits(self._folder, self._one())

    def dark_current(self, temperature_c: Number) -> Frame:
        """Dark current of every pixel at a temperature [ADU/s] with its 1 sigma: the dark signal of the longest fitted
        exposure over that exposure.

        Examples
        --------
        >>> import numpy as np, darkpipe
        >>> model = darkpipe.example_model()
        >>> cold, warm = (float(np.median(model.dark_current(t).science)) for t in (-10.0, 0.0))
        >>> 2.0 < warm / cold < 6.0
        True
        """
        temperature, files, model = self._growing(temperature_c)
        found, bits = files.growth(temperature, slice(None), read_header(next(iter(files.maps.values()))))
        value, error = (np.asarray(v, np.float32).reshape(self.shape) for v in
                        (found.current_adu_s, found.current_error_adu_s))  # fmt: skip
        bits = bits.reshape(self.shape)
        if not model.covers(temperature, model.exposure_s[1]):
            bits = bits | np.uint16(DQ.EXTRAPOLATED)
        cards = (("T-REF", temperature, "[deg C] temperature that the value holds at"),)
        return Frame(value, error, bits, "adu / s", cards)

    def activation_energy(self, temperature_c: Number) -> Frame:
        """Activation energy of the dark current of every pixel at a temperature [eV], with its 1 sigma.

        E_a = k T² d ln I/dT (Widenhorn et al. 2001, J. Appl. Phys. 89, 8179). NaN with the bit FIT_FAILED where the
        current is not clearly above its error.

        Raises
        ------
        DesignError
            when the model does not know how the dark current moves with temperature.
        """
        return self._growth_maps(temperature_c)[0]

    def doubling_temperature(self, temperature_c: Number) -> Frame:
        """By how many °C the dark current of every pixel doubles, at a temperature, with its 1 sigma: ln 2/(d ln I/dT).

        (EMVA 1288, Release 3.0.) NaN, and errors raised, as `activation_energy`.
        """
        return self._growth_maps(temperature_c)[1]

    def _growth_maps(self, temperature_c: Number) -> tuple[Frame, Frame]:
        temperature, files, _ = self._growing(temperature_c)
        energy, doubling = growth_maps(files, [], temperature)
        return Frame.of(energy), Frame.of(doubling)

    def _growing(self, temperature_c: Number) -> tuple[float, ModelFiles, FittedModel]:
        model = self._one()
        if not grows(MODELS[model.name]):
            raise DesignError(
                f"{model.key} was fitted at one temperature: it does not know how the dark current moves with it",
                do="fit a campaign of several temperatures",
            )
        product = self._folder.product
        maps = {name: product(path) for name, path in self._folder.maps(model.name, model.cell).items()}
        files = ModelFiles(model.name, maps, product(self._folder.covariance(model.name, model.cell)))
        return celsius(temperature_c), files, model

    # --- frames ------------------------------------------------------------------------------------------------------

    def calibrate(
        self,
        frame: NDArray[Any],
        temperature_c: Number,
        exposure_s: Number,
        *,
        temperature_sigma_c: float = 0.0,
        pedestal_adu: float = 0.0,
        origin: tuple[int, int] = (0, 0),
        repair: bool = False,
        bayer: bool = False,
    ) -> Frame:
        """A raw frame less bias and dark, as `--mode calibrate` does.

        ERR holds read noise, shot noise of all charge, and the error of dark and bias; DQ the bits of the model, and
        SATURATED and CLIPPED_LOW of the frame.

        Parameters
        ----------
        frame : (rows, cols) raw counts, of the whole frame or of a part of it.
        temperature_sigma_c : 1 sigma of the temperature [°C].
        pedestal_adu : added to make the frame zero-based [native ADU].
        origin : first (row, column) of the frame in the model's frame.
        repair : replace pixels that the model does not describe by the median of their neighbours.
        bayer : a colour mosaic; neighbours are then pixels of the same colour.

        Raises
        ------
        DesignError
            when the model has no bias to subtract. SettingsError : for a frame that is no part of the model's.
        """
        from darkpipe.library.lights import Taken, calibrate

        temperature, exposure = celsius(temperature_c), seconds(exposure_s)
        taken = Taken(np.asarray(frame), exposure, pedestal_adu, origin, 2 if bayer else 1)
        model = self._model(temperature, exposure)
        return calibrate(
            self._folder, self.description, self._origin, model, taken, temperature, temperature_sigma_c, repair
        )

    def measure_temperature(
        self,
        frame: NDArray[Any],
        exposure_s: Number,
        *,
        near_c: Number | None = None,
        pedestal_adu: float = 0.0,
        origin: tuple[int, int] = (0, 0),
        bayer: bool = False,
    ) -> Reading:
        """The temperature of the sensor by the frame's own hot pixels (Widenhorn et al.), with its error.

        Parameters
        ----------
        frame, pedestal_adu, origin, bayer : as in `calibrate`.
        near_c : about which temperature the bias is taken [°C]; None: the middle of the campaign.

        Returns
        -------
        Reading
            temperature_c, error_c [°C]: NaN where the hot pixels cannot tell; pixels: how many had a say.
        """
        from darkpipe.library.lights import Taken, read_temperature

        near = sum(self.fits_range.temperature_c) / 2.0 if near_c is None else celsius(near_c, "near_c")
        exposure = seconds(exposure_s)
        taken = Taken(np.asarray(frame), exposure, pedestal_adu, origin, 2 if bayer else 1)
        return read_temperature(self._folder, self.description, self._origin, self._model(near, exposure), taken, near)

    # --- words and files ---------------------------------------------------------------------------------------------

    def report(self) -> str:
        """What the model is, in lines of text: formula, range, why it was chosen, numbers of the camera, notes, and
        where the page is that the pipeline wrote of it (`evaluation/report.html`), if there is one."""
        known = self.description
        lines = [f"model {self.name}" + (f": {known.why}" if self._wanted == "auto" else "")]
        for m in known.models:
            (t0, t1), (e0, e1) = m.temperature_c, m.exposure_s
            score = "" if m.score is None else f"; held-out error {m.score:.3f} of the noise floor"
            lines.append(
                f"  {m.key}: {MODELS[m.name].formula}; {m.cells} cells, {t0:g} to {t1:g} °C, {e0:g} to {e1:g} s{score}"
            )
        lines += [f"  not fitted: {key}: {why}" for key, why in known.not_fitted.items()]
        bias = "with its bias" if known.has_bias else "its level was fitted"
        lines.append(
            f"frames of {known.shape[0]} x {known.shape[1]} pixels, {known.camera or known.configuration}, {bias}"
        )
        lines.append(
            f"gain {known.gain_e_per_adu:g} e-/ADU, read noise {known.read_noise_adu:g} ADU, "
            f"{known.scale_factor:g} raw count{'s' if known.scale_factor != 1 else ''} per ADU"
        )
        lines += [f"note: {note}" for note in known.notes]
        lines += [f"left out: {name}: {why}" for name, why in self.rejected.items()]
        lines += [f"report: {self._origin.report}"] if self._origin.report is not None else []
        return "\n".join(lines)

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the model into a folder, as the pipeline lays it out, so that `read`, `--model_dir` and other programs
        find it there. What is of another model in that folder stays.

        Raises
        ------
        ProductError
            when it cannot be written.
        """
        return keep_model(Path(path), self._folder, self.description, self._origin.tables)

    def __repr__(self) -> str:
        (t0, t1), (e0, e1) = self.fits_range[:2]
        rows, cols = self.shape
        return f"<DarkModel {self.name}, {rows} x {cols}, {t0:g} to {t1:g} °C, {e0:g} to {e1:g} s>"

    def _maps(self, found: FittedModel) -> ModelMaps:
        """Maps of a fitted model; those that were asked for last are kept."""
        if self._kept is None or self._kept.model != found:
            self._kept = read_maps(self._folder, found)
        return self._kept

    def _model(self, temperature_c: float, exposure_s: float) -> FittedModel:
        """The fitted model that makes this dark."""
        return self.description.find(model_for(self.description, self._wanted, temperature_c, exposure_s))

    def _one(self) -> FittedModel:
        """The fitted model that the maps are of; of several of one axis the first."""
        return next(m for m in self.description.models if self.name in (m.key, m.name))
