"""Where every file of an output directory stands; here and in `layout_model` alone paths are spelled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkpipe.errors import ProductError
from darkpipe.files.index import campaign_matches, campaign_names
from darkpipe.files.layout_model import ModelDir
from darkpipe.files.layout_names import cell_name, em_setting_name, exposure_label, six_digits, temperature_label
from darkpipe.files.seen_frames import has_unseen

__all__ = [
    "ModelDir",
    "OutputDir",
    "RawDir",
    "cell_name",
    "em_setting_name",
    "exposure_label",
    "six_digits",
    "temperature_label",
]

LEAST_DECIMALS = 3  # of exposures in the folders of raw frames: exp_1.000s

SAFE_NAME = re.compile(r"^[A-Za-z0-9+][A-Za-z0-9._+-]*\Z")


@dataclass(frozen=True)
class RawDir:
    """A folder of raw frames that are taken here, `dark_capture.output_dir`; not part of an output directory."""

    root: Path

    @property
    def journal(self) -> Path:
        """What was planned and what became of it; the capture alone writes it."""
        return self.root / "frames.jsonl"

    @property
    def lock(self) -> Path:
        return self.root / ".capture.lock"

    def frame(self, stamp: str, kind: str, exposure_s: float, number: int, temperature_c: float | None = None) -> Path:
        """'exp_1.000s/dark_20250729_143022_001.fits', below 'T-10.0C' where a temperature is given."""
        text = np.format_float_positional(six_digits(exposure_s), min_digits=LEAST_DECIMALS)
        folder = self.root if temperature_c is None else self.root / temperature_label(temperature_c)
        return folder / f"exp_{text}s" / f"{kind}_{stamp}_{number:03d}.fits"

    @property
    def rejected_folder(self) -> Path:
        """Frames that came and were not good enough."""
        return self.root / "rejected"

    def rejected(self, frame: Path, attempt: int) -> Path:
        """Where the given frame of the library stands after its attempt number `attempt` was rejected. No program
        takes such a name for a frame: whoever reads the whole folder gets the good ones alone."""
        flat = "_".join(frame.relative_to(self.root).parts)
        return self.rejected_folder / f"{flat.removesuffix('.fits')}_r{attempt}.fits.rejected"

    def temperature_log(self, stamp: str) -> Path:
        return self.root / f"temperature_{stamp}.ecsv"


@dataclass(frozen=True)
class OutputDir:
    """An output directory, or the part of it that belongs to one configuration.

    campaign : None for the whole directory; '' for a single configuration, which stands directly in it; else the
        name of a configuration, which is its sub-folder.
    owner : of a place for frames that a model has not seen: that of the model.
    """

    root: Path
    campaign: str | None = None
    owner: OutputDir | None = None

    def __post_init__(self) -> None:
        if self.campaign and not SAFE_NAME.match(self.campaign):
            raise ProductError(
                f"{self.campaign!r} cannot be the name of a configuration",
                where=self.index,
                do="Delete the index and run again: it is made anew.",
            )

    @property
    def base(self) -> Path:
        """Folder of this configuration."""
        return self.root / self.campaign if self.campaign else self.root

    def of(self, campaign: str) -> OutputDir:
        return OutputDir(self.root, campaign)

    def campaigns(self) -> list[OutputDir]:
        """The configurations that the index holds, those with most darks first; the directory itself before that."""
        return [self.of(name) for name in campaign_names(self.index)]

    def matches(self, select: Mapping[str, str]) -> bool:
        """Whether this configuration has these values, by the index."""
        return campaign_matches(self.index, self.campaign or "", select)

    def new_frames(self) -> OutputDir | None:
        """The place for the frames that the model here has not seen, laid out as an output directory; None where there
        are none, or no model that is whole."""
        if not has_unseen(self.index, self.campaign or "", self.model.frames):
            return None
        return self.last_check

    @property
    def last_check(self) -> OutputDir:
        """The place of the new frames that were held against the model before it was fitted the last time."""
        return OutputDir(self.base / "new_frames", "", self)

    # the whole directory
    @property
    def index(self) -> Path:
        return self.root / "index.ecsv"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def detectors(self) -> Path:
        """Table of the detectors of a focal plane, each of which has an output directory of its name in this one."""
        return self.root / "detectors.ecsv"

    def survey(self, key: str) -> Path:
        return self.root / "survey" / key[:2] / f"{key}.json"

    def temperature_picture(self, log: Path) -> Path:
        """Temperature, set point and power over a session of frames, from its temperature log."""
        return self.logs / f"{log.stem}.png"

    # darks of an EM-CCD
    @property
    def em_frames(self) -> Path:
        """Table of the frames by EM gain and exposure, with those refused and why."""
        return self.base / "em_frames.ecsv"

    def em_dark(self, kind: str, setting: str, full_frame: bool) -> Path:
        """'traditional' | 'synthetic' dark of one EM gain and exposure, of the image area or the full frame."""
        return self.base / "em_darks" / f"{kind}_dark_{setting}{'_full' if full_frame else ''}.fits"

    # bias
    @property
    def biases(self) -> Path:
        """Table of the master biases."""
        return self.base / "bias" / "biases.ecsv"

    @property
    def bias_frames(self) -> Path:
        """Table of the bias frames: which master each belongs to, or why it was rejected."""
        return self.base / "bias" / "bias_frames.ecsv"

    def master_bias(self, name: str) -> Path:
        return self.base / "bias" / f"master_bias_{name}.fits"

    @property
    def bias_line(self) -> Path:
        return self.base / "bias" / "bias_model.fits"

    @property
    def read_noise_map(self) -> Path:
        return self.base / "bias" / "read_noise_map.fits"

    @property
    def reference(self) -> Path:
        return self.base / "reference.yaml"

    @property
    def corrected(self) -> Path:
        return self.base / "corrected.ecsv"

    def corrected_dark(self, stem: str) -> Path:
        return self.base / "dark_corrected_darks" / f"{stem}.fits"

    # masters
    @property
    def groups(self) -> Path:
        return self.base / "groups.ecsv"

    @property
    def group_frames(self) -> Path:
        return self.base / "group_frames.ecsv"

    def master_dark(self, cell: str) -> Path:
        return self.base / "dark_masks_by_temp" / f"darks_{cell}.fits"

    # model and what is made of it
    @property
    def model(self) -> ModelDir:
        return ModelDir(self.base / "dark_model")

    @property
    def sensor_summary(self) -> Path:
        """Dark current, noise, gain and the like of the sensor, each with its error."""
        return self.base / "sensor_summary.ecsv"

    def synthetic(self, cell: str, suffix: str = "") -> Path:
        return self.base / "synthetic" / f"synthetic_dark_{cell}{suffix}.fits"

    @property
    def evaluation(self) -> Path:
        return self.base / "evaluation"

    @property
    def evaluation_table(self) -> Path:
        return self.evaluation / "evaluation.ecsv"

    @property
    def candidates(self) -> Path:
        return self.evaluation / "candidates.ecsv"

    def measured_cell(self, cell: str) -> Path:
        """Errors of the model against one master."""
        return self.evaluation / "cells" / f"{cell}.json"

    def error_maps(self, cell: str) -> Path:
        """Absolute and relative errors of one cell as small maps."""
        return self.evaluation / "cells" / f"{cell}.npz"

    @property
    def sample_pixels(self) -> Path:
        """A few pixels against the model: measured in every cell, and as the model has them between."""
        return self.evaluation / "sample_pixels.ecsv"

    @property
    def report(self) -> Path:
        """Everything about a campaign and its model on one page."""
        return self.evaluation / "report.html"

    def picture(self, kind: str, cell: str = "") -> Path:
        """'mae' | 'mape' | 'synthetic_dark' with a cell, or a summary without one."""
        return self.evaluation / (f"{kind}_{cell}.png" if cell else f"{kind}.png")

    # frames with bias and dark subtracted
    @property
    def calibrated_folder(self) -> Path:
        return self.base / "calibrated"

    @property
    def calibrated_table(self) -> Path:
        """One row a frame: the temperature of its dark, what the hot pixels say, figures, or why it was left out."""
        return self.calibrated_folder / "calibrated.ecsv"

    def calibrated(self, stem: str) -> Path:
        return self.calibrated_folder / f"{stem}.fits"

    def calibrated_numbers(self, stem: str) -> Path:
        """The row of one frame."""
        return self.calibrated_folder / "numbers" / f"{stem}.json"

    def thermometer(self, model: str, stride: int) -> Path:
        """The hot pixels of a model that tell the temperature; of a Bayer mosaic, with stride 2."""
        return self.calibrated_folder / "thermometer" / f"{model.replace('/', '_')}_{stride}.npz"

    def dark_like(self, stem: str, suffix: str = "") -> Path:
        """The one dark for a frame."""
        return self.base / "synthetic" / f"dark_for_{stem}{suffix}.fits"

    # a campaign that is planned
    @property
    def planned_errors(self) -> Path:
        """Errors that darks of a planned campaign would have, over temperature and exposure."""
        return self.base / "campaign_plan" / "predicted_errors.ecsv"

    @property
    def planned_changes(self) -> Path:
        """What more or fewer frames would do to them, and cost."""
        return self.base / "campaign_plan" / "changes.ecsv"

    @property
    def planned_picture(self) -> Path:
        return self.base / "campaign_plan" / "campaign_plan.png"

    @property
    def planned_text(self) -> Path:
        return self.base / "campaign_plan" / "campaign_plan.txt"

    # master darks for other programs
    @property
    def library(self) -> Path:
        return self.base / "library"

    @property
    def library_table(self) -> Path:
        """One row a master dark of the library."""
        return self.library / "library.ecsv"

    @property
    def library_readme(self) -> Path:
        """How each program takes them."""
        return self.library / "README.txt"

    def library_dark(self, temperature_c: float, exposure_s: float, setting: str) -> Path:
        """'library/T-10.0C/master_dark_T-10.0C_texp300s_g100_o50_b1.fits'."""
        name = "_".join(("master_dark", cell_name(temperature_c, exposure_s), *filter(None, (setting,))))
        return self.library / temperature_label(temperature_c) / f"{name}.fits"

    # a master the classical way, and what is left of its frames
    @property
    def characterized(self) -> Path:
        return self.base / "characterize"

    @property
    def frame_set(self) -> Path:
        """Every frame that was found: what it has, and whether it is one of the set."""
        return self.characterized / "frames.ecsv"

    def classic_master(self, kind: str) -> Path:
        """'master_dark.fits': the plain median or average of the set."""
        return self.characterized / f"master_{kind}.fits"

    def subtracted(self, stem: str) -> Path:
        """One frame less the master."""
        return self.characterized / "subtracted" / f"{stem}.fits"

    def set_numbers(self, stem: str) -> Path:
        """Statistics of one frame before and after."""
        return self.characterized / "numbers" / f"{stem}.json"

    @property
    def set_statistics(self) -> Path:
        """One row a frame: statistics before and after."""
        return self.characterized / "statistics.ecsv"

    def set_picture(self, what: str) -> Path:
        """'master_dark', 'subtracted_dark_window', 'histogram', …"""
        return self.characterized / f"{what}.png"

    def frame_picture(self, stem: str, what: str) -> Path:
        """'frame' | 'subtracted' of one frame."""
        return self.characterized / "pictures" / f"{stem}_{what}.png"

    # new frames against a model
    @property
    def check(self) -> Path:
        return self.base / "check"

    @property
    def check_table(self) -> Path:
        return self.check / "check_model.ecsv"

    @property
    def check_verdict(self) -> Path:
        return self.check / "verdict.yaml"

    @property
    def check_picture(self) -> Path:
        return self.check / "check_model.png"

    @property
    def changed_pixels(self) -> Path:
        """Pixels that became hot since the model, or ceased to be."""
        return self.check / "changed_pixels.ecsv"

    def compared_cell(self, cell: str) -> Path:
        """One new master against the model, in numbers."""
        return self.check / "cells" / f"{cell}.json"
