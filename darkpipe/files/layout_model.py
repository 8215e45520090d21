"""Where every file of a model stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from darkpipe.errors import ProductError
from darkpipe.files.products import Product
from darkpipe.science.models import MODELS


@dataclass(frozen=True)
class ModelDir:
    """The files of a model: `<output>/dark_model` or a folder a user points to."""

    path: Path

    @classmethod
    def at(cls, path: Path) -> ModelDir:
        """The model in `path`, which may be a model folder or the output directory around it.

        Raises
        ------
        ProductError
            when neither holds a model.
        """
        for candidate in (path, path / "dark_model"):
            if (candidate / "model.yaml").is_file():
                return cls(candidate)
        raise ProductError(
            "there is no dark model here (no model.yaml)",
            where=path,
            do="point --model_dir to an output directory of a finished run, or to its dark_model folder",
        )

    @classmethod
    def with_noise_maps(cls, path: Path) -> ModelDir:
        """The noise maps in `path`: a folder of them, a model folder, or the output directory around it.

        Raises
        ------
        ProductError
            when it holds none.
        """
        around = (path.parent,) if path.name == "noise_maps" else ()
        for candidate in (path, path / "dark_model", *around):
            if cls(candidate).noise_maps["F"].is_file():
                return cls(candidate)
        raise ProductError(
            "there are no noise maps here (no noise_maps/F_map.fits)",
            where=path,
            do="point --model_dir to an output directory of fit_noise_maps, or to its dark_model folder",
        )

    def product(self, path: Path) -> Product:
        """What stands at one of the places below."""
        return path

    def has(self, path: Path) -> bool:
        """Whether anything stands there."""
        return path.is_file()

    @property
    def description(self) -> Path:
        return self.path / "model.yaml"

    @property
    def noise_maps(self) -> dict[str, Path]:
        """F, C and D of an EM-CCD, by letter."""
        return {letter: self.folder("noise_maps") / f"{letter}_map.fits" for letter in ("F", "C", "D")}

    @property
    def hot_pixel_mask(self) -> Path:
        return self.path / "hot_pixel_mask.fits"

    @property
    def saturation_map(self) -> Path:
        return self.path / "saturation_map.fits"

    def status_map(self, model: str, cell: str = "") -> Path:
        """DQ bits of the fit, from its residuals."""
        return self.folder(model, cell) / "status_map.fits"

    @property
    def bias_line(self) -> Path:
        """The bias that was subtracted, as b0 and b1 maps: what `--include_bias` adds again."""
        return self.path / "bias_model.fits"

    def folder(self, model: str, cell: str = "") -> Path:
        """Folder of a model's maps; exp_2d keeps its maps directly in dark_model/."""
        if model == "exp_2d":
            return self.path
        return self.path / model / cell if cell else self.path / model

    def maps(self, model: str, cell: str = "") -> dict[str, Path]:
        """File of each parameter of a model, by parameter name."""
        return {p.name: self.folder(model, cell) / p.file for p in MODELS[model].parameters}

    def covariance(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "covariance.fits"

    def chi2(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "chi2_map.fits"

    def activation_energy(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "activation_energy_map.fits"

    def doubling_temperature(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "doubling_temperature_map.fits"

    def offset(self, model: str, cell: str = "") -> Path:
        """The fitted level of each pixel, where a campaign has no bias."""
        return self.folder(model, cell) / "offset_map.fits"

    def held_out(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "held_out.ecsv"

    def held_out_maps(self, model: str, cell: str = "") -> Path:
        """Absolute held-out errors, reduced for pictures."""
        return self.folder(model, cell) / "held_out_maps.fits"

    def glow_blocks(self, model: str) -> Path:
        """Amplifier glow by blocks of the sensor, and whether there is any."""
        return self.folder(model) / "glow_blocks.fits"

    def population(self, model: str, cell: str = "") -> Path:
        return self.folder(model, cell) / "population.yaml"

    @property
    def bad_pixels(self) -> dict[str, Path]:
        """Lists of bad pixels, as other programs read them."""
        return {
            "siril": self.path / "bad_pixels_siril.lst",
            "pixinsight": self.path / "bad_pixels_pixinsight.txt",
        }

    # an archive of the models that were replaced; no product
    def archive(self, number: int, digest: str) -> Path:
        return self.path / "history" / f"{number:04d}_{digest}"

    def archived(self) -> list[Path]:
        """Folders of the archive, the oldest first."""
        return sorted(p for p in (self.path / "history").glob("[0-9][0-9][0-9][0-9]_*") if p.is_dir())

    def changes(self, archive: Path) -> Path:
        """What the model after the archived one says otherwise."""
        return archive / "changes.yaml"

    @property
    def checks(self) -> Path:
        """What new frames said of each model before it was replaced."""
        return self.path / "history" / "checks.ecsv"

    @property
    def frames(self) -> Path:
        """The raw frames that the model has seen, and by which its files can be told from others."""
        return self.path / "frames.ecsv"

    def tile(self, model: str, cell: str, first_row: int, what: str) -> Path:
        return self.folder(model, cell) / "tiles" / f"{model}_{what}_{first_row:06d}.npz"
