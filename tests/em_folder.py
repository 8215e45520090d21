"""A folder of simulated EM-CCD frames and the modes that are run on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from em_frames import GRID, EmSensor, em_sensor, write_em_campaign

from darkpipe.jobs.report import RunReport
from darkpipe.science.regions import Area, DetectorRegions
from master_controller import MasterController

SHAPE = (40, 56)
REGIONS = DetectorRegions(
    *SHAPE, image=Area(2, 14, 30, 36), active=Area(0, 12, 36, 40), prescan=Area(0, 0, 40, 10), telemetry_rows=(-1, None)
)
AREAS: dict[str, Any] = {
    "image_area": [2, 14, 30, 36],
    "active_area": [0, 12, 36, 40],
    "prescan_area": [0, 0, 40, 10],
    "telemetry_rows": [-1, None],
}
FRAMES = 6


@dataclass(frozen=True)
class EmFolder:
    """root/frames with 6 frames of each of 6 stacks, root/out with what is made of them, and the true sensor."""

    root: Path
    sensor: EmSensor

    @property
    def frames(self) -> Path:
        return self.root / "frames"

    @property
    def out(self) -> Path:
        return self.root / "out"

    def stack(self, em_gain: float, exposure_s: float) -> list[Path]:
        """The frames of one setting."""
        return sorted((self.frames / f"gain{em_gain:g}_{exposure_s:g}s").iterdir())

    def copied_to(self, root: Path) -> EmFolder:
        """The same elsewhere, to be changed."""
        shutil.copytree(self.root, root)
        return EmFolder(root, self.sensor)

    def run(self, mode: str, *, chosen: dict[str, Any] | None = None, **sections: Any) -> RunReport:
        """Run a mode; sections: settings; chosen: dry_run and the like."""
        given: dict[str, Any] = {"output_dir": self.out, "workers": 2}
        given["load_em_frames"] = {"basepath": self.frames, **AREAS, **sections.pop("load_em_frames", {})}
        return MasterController({**given, **sections}).run(mode, **(chosen or {}))

    def run_well(self, mode: str, **sections: Any) -> RunReport:
        """The same, for a run that must not fail."""
        report = self.run(mode, **sections)
        report.raise_for_failure()
        return report


def make_em_folder(root: Path, counts: int = FRAMES, grid: tuple[tuple[float, float], ...] = GRID) -> EmFolder:
    """Frames of a sensor that collects dark current in the active area alone."""
    rng = np.random.default_rng(5)
    sensor = em_sensor(rng, SHAPE)
    outside = np.ones(SHAPE, np.bool_)
    outside[REGIONS.collecting.slices] = False
    sensor.dark_e_per_s[outside] = 0.0
    write_em_campaign(root / "frames", sensor, rng, [counts] * len(grid), grid)
    return EmFolder(root, sensor)
