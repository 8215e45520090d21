"""A small campaign with known defects, and what tests of the whole pipeline ask of its products."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import simulated
import yaml
from astropy.io import fits
from astropy.table import Table
from simulated import PRESETS, Recipe, Sensor

import run_pipeline
from darkpipe.jobs.report import JobRun, RunReport
from darkpipe.jobs.walk import NEW_FRAMES
from master_controller import MasterController

PROJECT = Path(run_pipeline.__file__).parent
GAP_EV = 1.12

# rows and columns differ so that a transposed plane cannot pass
CAMPAIGN = dataclasses.replace(PRESETS["tiny"], rows=48, cols=40, n_darks=4, n_biases=8, hot_fraction=0.02)
STUCK_HIGH, STUCK_LOW, CONSTANT = (3, 7), (20, 33), (41, 11)
DEFECTS = {STUCK_HIGH: 65535, STUCK_LOW: 0, CONSTANT: 1000}
CELLS = [(t, e) for t in CAMPAIGN.temperatures_c for e in CAMPAIGN.exposures_s]
CELL_NAMES = [f"T{t:.1f}C_texp{e:g}s" for t, e in CELLS]
BRIGHTEST = CELL_NAMES[-1]
PLAIN = {"evaluate_model": {"pictures": False}, "report": {"write": False}}  # without what takes time to draw
PICTURES = {"pictures": True}  # setting with which the finished campaign was made


class Campaign(NamedTuple):
    """A folder with `raw` (frames) and `out` (products) in it, and the truth."""

    root: Path
    sensor: Sensor
    defects: bool = False

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def model(self) -> Path:
        return self.out / "dark_model"

    def copied_to(self, folder: Path) -> Campaign:
        """The same elsewhere, with the times of the files, so that nothing in it is stale."""
        shutil.copytree(self.root, folder, symlinks=True)
        return self._replace(root=folder)

    def frames_of(self, temperature_c: float, exposure_s: float) -> list[Path]:
        """The raw darks of one cell."""
        names = (name for name, _ in simulated.file_names(simulated.shots(self.sensor.recipe)))
        return [
            self.raw / name
            for name, shot in zip(names, simulated.shots(self.sensor.recipe), strict=True)
            if (shot.kind, shot.temperature_c, shot.exposure_s) == ("dark", temperature_c, exposure_s)
        ]

    def add_frame(self, temperature_c: float, exposure_s: float, repeat: int = 90) -> Path:
        """One more dark, with the defects of the others."""
        path = simulated.add_frame(self.raw, self.sensor, temperature_c, exposure_s, repeat)
        if self.defects:
            give_defects([path])
        return path


def give_defects(frames: Iterable[Path]) -> None:
    """Pixels that are stuck at the top, at zero, and at a value between, in every frame."""
    for path in frames:
        with fits.open(path, mode="update") as hdus:
            for where, value in DEFECTS.items():
                hdus[0].data[where] = value


def make_campaign(root: Path, recipe: Recipe = CAMPAIGN, *, defects: bool = False, **changes: Any) -> Campaign:
    """Frames of a recipe in root/raw."""
    sensor = simulated.write_campaign(root / "raw", recipe, **changes)
    if defects:
        give_defects(sorted((root / "raw").glob("*.fits")))
    return Campaign(root, sensor, defects)


def settings_of(campaign: Campaign, **sections: Any) -> dict[str, Any]:
    """Settings for a campaign; without pictures and report unless a section says otherwise."""
    given: dict[str, Any] = {
        "output_dir": campaign.out,
        "workers": 2,
        "load_data": {"basepath": campaign.raw},
        "evaluate_model": {"pictures": False},
        "report": {"write": False},
    }
    for name, section in sections.items():
        given[name] = {**given[name], **section} if isinstance(given.get(name), dict) else section
    return given


def run(campaign: Campaign, mode: str = "full", *, chosen: dict[str, Any] | None = None, **sections: Any) -> RunReport:
    """Run a mode as a library does; `chosen`: from_step, until_step, force, dry_run; sections: settings."""
    return MasterController(settings_of(campaign, **sections)).run(mode, **(chosen or {}))


def run_well(campaign: Campaign, mode: str = "full", **sections: Any) -> RunReport:
    """The same, for a run that must not fail."""
    report = run(campaign, mode, **sections)
    report.raise_for_failure()
    return report


def flags(campaign: Campaign, mode: str = "full", *more: str, pictures: bool = False) -> list[str]:
    """A command line for a campaign."""
    line = ["--mode", mode, "--output_dir", str(campaign.out)]
    if mode in ("full", "fit_2d_model"):
        line += ["--basepath", str(campaign.raw)]
    if not pictures and "--config" not in more:
        line += ["--config", str(write_yaml(campaign.root / "plain.yaml", PLAIN))]
    return [*line, *more]


def write_yaml(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def environment() -> dict[str, str]:
    """Of a process that is run from anywhere."""
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


def command(*arguments: str) -> list[str]:
    """run_pipeline.py as a process."""
    return [sys.executable, str(PROJECT / "run_pipeline.py"), *arguments]


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and wait for it."""
    return subprocess.run(
        command(*arguments), env=environment(), cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@contextmanager
def once_the_survey_is_done(act: Callable[[], None]) -> Iterator[None]:
    """Do something between step 1 and step 2 of a run in this process, in the thread that plans them."""

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if re.match(r"load_data: \d+ made", record.getMessage()):
                act()

    watch, log = Watch(), logging.getLogger("darkpipe")
    before = log.level
    log.addHandler(watch)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(watch)


# products
def planes(path: Path) -> dict[str, np.ndarray]:
    """Every extension by name, native byte order; checksums and the standard are verified on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(path, checksum=True, memmap=False) as hdus:
            hdus.verify("exception")
            for hdu in hdus:
                assert {"CHECKSUM", "DATASUM"} <= set(hdu.header), (path.name, hdu.name)
            return {h.name: h.data.astype(h.data.dtype.newbyteorder("=")) for h in hdus if h.data is not None}


def header(path: Path, extension: int | str = 0) -> fits.Header:
    return fits.getheader(path, extension)


def table(path: Path) -> Table:
    """A table as it was written: an empty text is read as a masked one."""
    found = Table.read(path, format="ascii.ecsv")
    for name in found.colnames:
        if found[name].dtype.kind == "U" and hasattr(found[name], "mask"):
            found[name] = found[name].filled("")
    return found


def row(path: Path, **values: Any) -> Any:
    """The one row of a table with these values."""
    rows = [r for r in table(path) if all(r[name] == value for name, value in values.items())]
    assert len(rows) == 1, (path, values, len(rows))
    return rows[0]


def inputs_of(path: Path) -> list[str]:
    return [str(name) for name in fits.getdata(path, "INPUTS")["FILE"]]


def products(out: Path) -> dict[str, bytes]:
    """Bytes of every file of an output directory besides journal, lock, logs, and what depends on earlier runs: the
    archive of replaced models, and the check that was made before a model was replaced."""
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    found = {k: v for k, v in found.items() if "dark_model/history/" not in k and "new_frames/" not in k}
    return {
        k: v for k, v in found.items() if not k.startswith("logs/") and k not in ("journal.jsonl", ".pipeline.lock")
    }


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names that are in one of both only, or have other bytes."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def labels(report: RunReport, step: str | None = None) -> list[str]:
    """The jobs that were run, in the order of the plans, without those that check new frames before a fit."""
    return [job.label for job in report.jobs if step in (None, job.step) and not of_check(job)]


def of_check(job: JobRun) -> bool:
    """Whether a job belongs to the check of new frames before a fit."""
    return job.campaign.endswith(NEW_FRAMES)


def steps_run(report: RunReport) -> list[str]:
    """Steps of which at least one job was run; a check of new frames before a fit does not count."""
    return list(dict.fromkeys(job.step for job in report.jobs if not of_check(job)))


# truth
def sound(shape: tuple[int, int] = (CAMPAIGN.rows, CAMPAIGN.cols)) -> np.ndarray:
    """True at the pixels without a defect."""
    mask = np.ones(shape, bool)
    for where in DEFECTS:
        mask[where] = False
    return mask


def unsaturated(sensor: Sensor, temperature_c: float, exposure_s: float) -> np.ndarray:
    """Pixels that stay below 90 % of the converter's range."""
    level = sensor.bias_adu(temperature_c) + sensor.signal_adu(temperature_c, exposure_s)
    return np.asarray(level < 0.9 * sensor.recipe.top_adu)


def spread(values: np.ndarray) -> float:
    """Robust standard deviation: half the width that holds 68.27 %."""
    low, high = np.quantile(values[np.isfinite(values)], [0.158655, 0.841345])
    return float(high - low) / 2


def assert_pulls(value: np.ndarray, truth: np.ndarray, error: np.ndarray, where: np.ndarray, within: float) -> None:
    """(value - truth)/error is finite, of spread 1 within `within`, and its mean is 0 within four of its errors."""
    pull = ((value - truth) / error)[where]
    assert np.isfinite(pull).all()
    assert abs(spread(pull) - 1.0) < within, spread(pull)
    middle = float(np.median(pull))
    assert abs(middle) < 4 * 1.253 / np.sqrt(pull.size), middle
