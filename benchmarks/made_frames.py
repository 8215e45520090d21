"""Raw frames of a simulated campaign of any size, made as fast as the disk takes them.

A pixel has a dark current of its own (bulk, 0.3 % hot), a level of its own, read noise and shot noise; the noise of a
frame is drawn from a pool that is shifted at random, since drawing 60 million numbers takes longer than all the rest.
Good for times and memory; `benchmarks/simulated_truth.py` is for accuracy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numba import njit
from numpy.typing import NDArray

BLOCK = 2880
READ_NOISE_E, GAIN_E_PER_ADU, PEDESTAL_ADU = 12.0, 2.0, 1000.0
F4 = NDArray[np.float32]


@dataclass(frozen=True)
class Campaign:
    """Size of a campaign: `frames` of each cell, `biases` of each temperature."""

    rows: int = 2048
    columns: int = 2048
    temperatures_c: tuple[float, ...] = (-20.0, -15.0, -10.0, -5.0, 0.0)
    exposures_s: tuple[float, ...] = (10.0, 30.0, 60.0, 120.0)
    frames: int = 20
    biases: int = 20

    @property
    def cells(self) -> int:
        """Cells of darks."""
        return len(self.temperatures_c) * len(self.exposures_s)

    @property
    def files(self) -> int:
        """Frames in all."""
        return self.cells * self.frames + len(self.temperatures_c) * self.biases

    @property
    def raw_bytes(self) -> int:
        """Of all frames."""
        return self.files * self.rows * self.columns * 2

    @property
    def megapixels(self) -> float:
        """Of a frame."""
        return self.rows * self.columns / 1e6


@njit(nogil=True)
def _expose(mean: F4, sigma: F4, pool: F4, shift: int, out: NDArray[np.uint16]) -> None:
    """One frame as FITS holds it: big-endian, the sign bit flipped (BZERO 32768)."""
    n, m = mean.size, pool.size
    for start in range(0, n, m):
        stop = min(start + m, n)
        for i in range(start, stop):
            j = i - start + shift
            if j >= m:
                j -= m
            level = int(min(max(mean[i] + sigma[i] * pool[j] + np.float32(0.5), 0.0), 65535.0)) ^ 32768
            out[i] = ((level & 255) << 8) | (level >> 8)


def make_frames(folder: Path, campaign: Campaign, seed: int = 1) -> Path:
    """Write all frames of a campaign into a new folder, which is returned."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    pixels = campaign.rows * campaign.columns
    pool = rng.standard_normal(min(pixels, 1 << 22), dtype=np.float32)
    rate = np.exp(np.float32(0.4) * _shuffled(pool, pixels, rng) - np.float32(3.8))
    hot = rng.choice(pixels, pixels * 3 // 1000, replace=False)
    rate[hot] *= rng.uniform(10, 300, hot.size).astype(np.float32)
    slope = np.float32(0.09) + np.float32(0.004) * _shuffled(pool, pixels, rng)
    level = np.float32(PEDESTAL_ADU) + np.float32(3.0) * _shuffled(pool, pixels, rng)
    frame = np.empty(-(-2 * pixels // BLOCK) * BLOCK // 2, np.uint16)
    frame[pixels:] = 0
    for number, (t_c, t_s, mean, sigma) in enumerate(_exposures(campaign, rate, slope, level)):
        _expose(mean, sigma, pool, int(rng.integers(pool.size)), frame[:pixels])
        with open(folder / f"f{number:05d}.fits", "wb") as file:
            file.write(_header(campaign, number, t_c + round(float(rng.normal(0, 0.03)), 2), t_c, t_s))
            file.write(frame.data)
    return folder


def _shuffled(pool: F4, pixels: int, rng: np.random.Generator) -> F4:
    """The pool, repeated to the size of a frame and shifted."""
    return np.roll(np.resize(pool, pixels), int(rng.integers(pool.size)))


def _exposures(campaign: Campaign, rate: F4, slope: F4, level: F4) -> Iterator[tuple[float, float, F4, F4]]:
    """Temperature, exposure, mean and sigma [ADU] of each frame."""
    for t_c in campaign.temperatures_c:
        warm = rate * np.exp(slope * np.float32(t_c))
        for t_s in (0.0, *campaign.exposures_s):
            signal = warm * np.float32(t_s)
            mean = level + signal
            sigma = np.sqrt(np.float32((READ_NOISE_E / GAIN_E_PER_ADU) ** 2) + signal / np.float32(GAIN_E_PER_ADU))
            for _ in range(campaign.biases if t_s == 0.0 else campaign.frames):
                yield t_c, t_s, mean, sigma


def _header(campaign: Campaign, number: int, reading_c: float, t_c: float, t_s: float) -> bytes:
    """The header of a frame, padded to whole blocks."""
    values: dict[str, Any] = {"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": campaign.columns}
    values |= {"NAXIS2": campaign.rows, "BSCALE": 1, "BZERO": 32768, "IMAGETYP": "Dark Frame" if t_s else "Bias Frame"}
    values |= {"EXPTIME": t_s, "CCD-TEMP": reading_c, "SET-TEMP": t_c, "GAIN": 100, "EGAIN": GAIN_E_PER_ADU}
    values |= {"XBINNING": 1, "YBINNING": 1, "INSTRUME": f"Simulated {campaign.megapixels:.2f} Mpix"}
    hours, minutes = divmod(number, 60)
    values["DATE-OBS"] = f"2026-{1 + hours // 672:02d}-{1 + hours // 24 % 28:02d}T{hours % 24:02d}:{minutes:02d}:00"
    text = fits.Header(values.items()).tostring(endcard=True, padding=True)
    return str(text).encode("ascii")
