"""Jobs that look at every pixel of a sensor hold bands of it: a large sensor takes no more memory than a small one.

What a job holds is measured here against one plane of its sensor; with one of them in memory as a whole, it is above.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from darkpipe.files import bands, measure, sensor, special_pixels
from darkpipe.files.bad_pixels import read_bad_pixels
from darkpipe.files.bias_files import BiasSource, bias_of_model
from darkpipe.files.corrections import Levels
from darkpipe.files.layout import ModelDir
from darkpipe.files.measure import RawStack, read_noise_map
from darkpipe.files.model_maps import Description, FittedModel
from darkpipe.files.products import Frame, write_frame, write_primary
from darkpipe.files.sensor import ModelFiles, counted, write_growth_maps
from darkpipe.files.sensor_rows import Gain, bias_rows
from darkpipe.files.special_pixels import ReadNoise, Thresholds, find_saturation, find_special
from darkpipe.files.synthetic import Wanted, write_synthetic
from darkpipe.science.drift import Drift
from darkpipe.science.flags import DQ
from darkpipe.science.models import Reference

SHAPE = (1900, 1800)
PLANE_BYTES = 4 * SHAPE[0] * SHAPE[1]
GRID = FittedModel("exp_2d", "", (-10.0, 0.0), (10.0, 300.0), Reference(-10.0), 0.01, 1.05, 9)
DESCRIBED = Description("exp_2d", "why", SHAPE, "cam_b1", 2.0, 5.0, 1.0, 0.0, True, (GRID,))


class Sensor:
    """The products of a campaign: raw biases, masters, a model with its bias and mask."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(4)
        self.folder, self.model = folder, ModelDir(folder / "model")
        noise = rng.normal(0.0, 3.0, SHAPE).astype(np.float32)
        self.raw = [folder / f"raw{k}.fits" for k in range(3)]
        for k, path in enumerate(self.raw):
            write_primary(path, (1000 + np.roll(noise, 7 * k, axis=0)).astype(np.uint16), [])
        ones, dq = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.uint16)
        dq[rng.random(SHAPE) < 1e-3] = int(DQ.SATURATED)
        flat = {"COUNT": np.full(SHAPE, 5, np.uint16), "REJECTED": np.zeros(SHAPE, np.uint16), "SCATTER": ones}
        self.masters = [folder / f"master{k}.fits" for k in range(3)]
        for k, path in enumerate(self.masters):
            header = [("KAPPA", 4.5, ""), ("BIAS", "T", ""), ("CCD-TEMP", 5.0 * k - 10, ""), ("EXPTIME", 60.0, "")]
            write_frame(path, Frame((20.0 + noise) * (k + 1), ones, dq, extra={**flat, "BIASERR": ones}, header=header))
        values = {"A": 2.0, "gamma": 1.0, "B": 0.1}
        cards = [("T-REF", -10.0, ""), ("T-MIN", -10.0, ""), ("T-MAX", 0.0, ""), ("EXPMAX", 300.0, "")]
        for name, path in self.model.maps("exp_2d").items():
            value = np.full(SHAPE, values[name], np.float32)
            write_frame(path, Frame(value, ones, dq, header=[*cards, ("EGAP", 1.12, "")]))
        write_frame(self.model.covariance("exp_2d"), Frame(np.full((6, *SHAPE), 1e-5, np.float32)))
        line = {"B1": ones, "COVAR": np.full((3, *SHAPE), 0.01, np.float32)}
        write_frame(self.model.bias_line, Frame(1000 + noise, extra=line, header=[("T_REF", -5.0, "")]))
        write_frame(self.model.hot_pixel_mask, Frame((dq > 0).astype(np.uint8), dq=dq))

    def saturation(self, path: Path) -> None:
        find_saturation(self.masters, [-10.0, -5.0, 0.0], [60.0] * 3, 65_000.0).write(path)

    def mask(self, path: Path) -> None:
        level = self.folder / "saturation.fits"
        if not level.exists():
            self.saturation(level)
        given = [f"cell{k}" for k in range(3)], [5, 5, 5], [2, 1, 0], Thresholds(), level, ReadNoise(3.0)
        find_special(self.masters, *given).write(path)

    def read_noise(self, path: Path) -> None:
        read_noise_map([RawStack(self.raw, [0] * 3, *SHAPE, [1000.0] * 3)], 1.0, ["a"]).write(path)

    def levels(self, _: Path) -> None:
        Levels.of(BiasSource(self.masters[0]))
        Levels.of(BiasSource(self.model.bias_line, -3.0))

    def bias_line(self, path: Path) -> None:
        bias_of_model(self.model.bias_line, "b", line=True).write(path)
        bias_of_model(self.masters[0], "b", line=False).write(path)

    def growth(self, path: Path) -> None:
        files = ModelFiles("exp_2d", self.model.maps("exp_2d"), self.model.covariance("exp_2d"))
        write_growth_maps([path, path.with_name("other.fits")], files, ["a"], -5.0)

    def summary(self, _: Path) -> None:
        counted(self.model.hot_pixel_mask, self.model.hot_pixel_mask)
        bias_rows(self.model.bias_line, self.model.hot_pixel_mask, -5.0, Drift(0.1), Gain(2.0, 0.1, 2.0))

    def dark(self, path: Path, kind: Literal["float32", "uint16"] = "float32") -> None:
        write_synthetic(path, self.model, DESCRIBED, Wanted("exp_2d", -5.0, 60.0, True, kind))

    def dark_in_counts(self, path: Path) -> None:
        self.dark(path, "uint16")

    def bad_pixels(self, _: Path) -> None:
        read_bad_pixels([self.model.hot_pixel_mask, self.masters[0]], DQ.SATURATED)


JOBS: list[Callable[[Sensor, Path], None]] = [
    Sensor.read_noise,
    Sensor.levels,
    Sensor.saturation,
    Sensor.mask,
    Sensor.bias_line,
    Sensor.growth,
    Sensor.summary,
    Sensor.dark,
    Sensor.dark_in_counts,
    Sensor.bad_pixels,
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sensor:
    return Sensor(tmp_path_factory.mktemp("sensor"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands and samples as small against this sensor as they are against a large one."""
    for module, name, value in (
        (bands, "BAND_BYTES", 1 << 18), (sensor, "BAND_BYTES", 1 << 18), (measure, "STRIP_BYTES", 1 << 18),
        (measure, "SAMPLE_PIXELS", 1 << 13), (special_pixels, "SAMPLE_PIXELS", 1 << 13), (bands, "SAMPLE_BANDS", 4),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_no_job_holds_a_plane(made: Sensor, tmp_path: Path, job: Callable[[Sensor, Path], None]) -> None:
    job(made, tmp_path / "once.fits")  # compiled, and what is kept of the headers
    tracemalloc.start()
    job(made, tmp_path / "made.fits")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < PLANE_BYTES / 2, f"{peak / PLANE_BYTES:.2f} planes of 4 bytes a pixel"
