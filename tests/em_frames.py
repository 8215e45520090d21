"""Simulated dark frames of an EM-CCD: fixed pattern, clock-induced charge, dark current, gain register, read noise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from darkpipe.files.em_frames import EmFrame, read_undivided
from darkpipe.files.em_table import describe_frames
from darkpipe.science.noise_levels import excess_noise2
from darkpipe.science.noise_maps import NoiseMapCalibration

STAGES = 604
GRID = ((1.0, 2.0), (1.0, 100.0), (100.0, 100.0), (1000.0, 2.0), (1000.0, 100.0), (100.0, 30.0))
"""EM gain and exposure of six stacks."""
COSMIC_E = 1e5


@dataclass
class EmSensor:
    """Truth, (rows, cols) each: F and C [e-], D [e-/s]; and the read noise [e-].

    electrons : 'gaussian': the variance of the gain register, in the shape of a Gaussian. 'register': Poisson
        electrons and the gamma distribution of their multiplication.
    """

    fixed_e: np.ndarray
    cic_e: np.ndarray
    dark_e_per_s: np.ndarray
    read_noise_e: float = 100.0
    electrons: str = "gaussian"

    def level(self, em_gain: float, exposure_s: float) -> np.ndarray:
        """Expected frame [e-], after the gain."""
        return self.fixed_e + em_gain * (self.cic_e + exposure_s * self.dark_e_per_s)

    def frames(self, rng: np.random.Generator, em_gain: float, exposure_s: float, n: int) -> np.ndarray:
        """(n, rows, cols) frames."""
        mean = self.cic_e + exposure_s * self.dark_e_per_s
        shape = (n, *mean.shape)
        noise = self.read_noise_e * rng.standard_normal(shape)
        if self.electrons == "register":
            there = rng.poisson(mean, shape)
            out = em_gain * (rng.standard_gamma(np.maximum(there, 1)) if em_gain > 1 else 1.0 * there) * (there > 0)
            return self.fixed_e + out + noise
        sigma = em_gain * np.sqrt(excess_noise2(np.float64(em_gain), STAGES) * mean)
        return self.level(em_gain, exposure_s) + sigma * rng.standard_normal(shape) + noise


def em_sensor(rng: np.random.Generator, shape: tuple[int, int], hot: float = 0.0, **more: object) -> EmSensor:
    """A sensor with uniform C and D but for a fraction of hot pixels."""
    dark = np.full(shape, 1e-3)
    is_hot = rng.random(shape) < hot
    dark[is_hot] += rng.exponential(0.5, shape)[is_hot]
    return EmSensor(rng.normal(20.0, 5.0, shape), np.full(shape, 0.02), dark, **more)  # type: ignore[arg-type]


def stacks(
    sensor: EmSensor,
    rng: np.random.Generator,
    counts: Sequence[int],
    grid: Sequence[tuple[float, float]] = GRID,
    cosmics: float = 0.01,
) -> Iterator[tuple[np.ndarray, float, float, np.ndarray]]:
    """Frames, EM gain, exposure and masks of each stack; masked pixels hold cosmic rays."""
    for (em_gain, exposure_s), n in zip(grid, counts, strict=True):
        frames = sensor.frames(rng, em_gain, exposure_s, n)
        masks = rng.random(frames.shape) < cosmics
        frames[masks] += COSMIC_E
        yield frames, em_gain, exposure_s, masks


def write_em_frame(
    path: Path, image: np.ndarray, gain: float | None, exposure_s: float, unit: str = "detected EM electron",
    **planes: np.ndarray,
) -> Path:  # fmt: skip
    """A frame as a pipeline for EM-CCDs leaves it: empty primary HDU, then the image and its planes (ERR, DQ)."""
    hdu = fits.ImageHDU(image)
    hdu.header["EXPTIME"] = exposure_s
    if unit:
        hdu.header["BUNIT"] = unit
    if gain is not None:
        hdu.header["EMGAIN_C"] = gain
    hdus = [fits.PrimaryHDU(), hdu, *(fits.ImageHDU(plane, name=name) for name, plane in planes.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def write_em_campaign(
    root: Path, sensor: EmSensor, rng: np.random.Generator, counts: Sequence[int],
    grid: Sequence[tuple[float, float]] = GRID, cosmics: float = 0.01,
) -> list[Path]:  # fmt: skip
    """Frames of the stacks with their masks, in a folder a stack."""
    paths = []
    for frames, g, t, masks in stacks(sensor, rng, counts, grid, cosmics):
        for j, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            name = root / f"gain{g:g}_{t:g}s" / f"dark{j:02d}.fits"
            paths.append(write_em_frame(name, frame.astype(np.float32), g, t, DQ=mask.astype(np.uint16) * 4))
    return paths


def frames_in(folder: Path) -> tuple[list[EmFrame], dict[str, str]]:
    """The usable frames of a folder by EM gain and exposure, and by name why the others are not."""
    paths = sorted(folder.rglob("*.fits"))
    good, refused = describe_frames(paths, synonyms={}, assume_electrons=False, divided="auto")
    return sorted(good, key=lambda f: (f.em_gain, f.exposure_s, f.path)), {p.name: why for p, why in refused.items()}


def add_frames(calibration: NoiseMapCalibration, frames: Sequence[EmFrame]) -> None:
    """Read frames one by one into a calibration."""
    for frame in frames:
        pixels, masks, errors = read_undivided(frame)
        calibration.add(pixels, frame.em_gain, frame.exposure_s, masks, errors)
