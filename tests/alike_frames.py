"""Sets of alike frames with known truth, in plain numpy: a pattern with hot pixels, normal noise, whole counts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits


class Alike(NamedTuple):
    """A folder of frames, and what they were made of; arrays (rows, cols), frames (n, rows, cols)."""

    folder: Path
    pattern: np.ndarray
    noise: np.ndarray
    frames: np.ndarray


def header(**cards: object) -> fits.Header:
    """Of a dark of 30 s at −10 °C; '_' stands for '-', None takes a card away."""
    known: dict[str, object] = {
        "IMAGETYP": "Dark Frame",
        "EXPTIME": 30.0,
        "CCD_TEMP": -10.0,
        "SET_TEMP": -10.0,
        "INSTRUME": "QHY42",
        "GAIN": 10,
        "XBINNING": 1,
        "YBINNING": 1,
        "DATE_OBS": "2024-05-08T03:38:48",
        "FILTER": "None",
    }
    made = fits.Header()
    for name, value in {**known, **cards}.items():
        if value is not None:
            made[name.replace("_", "-")] = value
    return made


def write_alike(
    folder: Path,
    n: int = 8,
    shape: tuple[int, int] = (60, 80),
    *,
    sigma: float = 12.0,
    drift: float = 0.0,
    hot: float = 0.01,
    seed: int = 1,
    dtype: str = "uint16",
    suffix: str = ".fits",
    **cards: object,
) -> Alike:
    """Write n frames 00001.fits … ; drift: counts that each frame lies above the one before."""
    random = np.random.default_rng([seed, n])
    folder.mkdir(parents=True, exist_ok=True)
    base = 100.0 if dtype == "uint8" else 1000.0
    pattern = base + random.normal(0, 3, shape) + np.linspace(0, 20, shape[1])
    where = random.random(shape) < hot
    pattern = pattern + where * 10 ** random.uniform(2.0, 4.5, shape)
    noise = np.where(where, 2.0 * sigma, sigma)
    level = drift * np.arange(n)[:, None, None]
    top = 65535 if dtype not in ("int16", "uint8") else np.iinfo(dtype).max
    frames = np.clip(np.rint(random.normal(pattern + level, noise, (n, *shape))), 0, top).astype(dtype)
    for k, frame in enumerate(frames):
        path = folder / f"{k + 1:05d}{suffix}"
        if suffix.endswith(".fz"):
            fits.CompImageHDU(frame, header(**cards)).writeto(path, overwrite=True)
        else:
            fits.writeto(path, frame, header(**cards), overwrite=True)
    return Alike(folder, pattern, noise, frames)
