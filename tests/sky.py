"""Light on the simulated sensor: sky with a slope, stars, and frames of it as capture programs write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simulated
from astropy.io import fits
from numpy.typing import NDArray
from simulated import Exposure, Sensor, Shot

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Sky:
    """sky_adu_s : level and slope over the frame; stars : how many; brightest_adu_s : the sum of the brightest one."""

    sky_adu_s: float = 0.5
    slope: float = 0.3
    stars: int = 12
    brightest_adu_s: float = 200.0
    fwhm: float = 2.6
    seed: int = 5

    def rate(self, rows: int, cols: int) -> Image:
        """(rows, cols) ADU/s."""
        rng = np.random.default_rng([self.seed, 9])
        y, x = np.mgrid[:rows, :cols]
        light = self.sky_adu_s * (1.0 + self.slope * (y / rows - 0.5))
        sigma = self.fwhm / 2.355
        for _ in range(self.stars):
            r, c = rng.uniform(0, rows), rng.uniform(0, cols)
            flux = self.brightest_adu_s * 10 ** rng.uniform(-2.0, 0.0)
            light = light + flux / (2 * np.pi * sigma**2) * np.exp(-((y - r) ** 2 + (x - c) ** 2) / (2 * sigma**2))
        return light


def light_image(
    sensor: Sensor, sky: Sky | None, temperature_c: float, exposure_s: float, seed: int
) -> NDArray[np.uint16]:
    """Raw counts of one frame at a true temperature."""
    r = sensor.recipe
    rng = np.random.default_rng([r.seed, 4, seed])
    signal = sensor.signal_adu(temperature_c, exposure_s)
    light = sky.rate(r.rows, r.cols) * exposure_s if sky is not None else 0.0
    electrons = rng.poisson((signal + light) * r.gain_e_per_adu) + rng.normal(0, 1, signal.shape) * sensor.read_noise_e
    native = np.floor(electrons / r.gain_e_per_adu + sensor.bias_adu(temperature_c) + 0.5)
    return (np.clip(native, 0, r.top_adu) * r.scale_factor).astype(np.uint16)


def write_light(
    path: Path,
    sensor: Sensor,
    temperature_c: float,
    exposure_s: float,
    *,
    sky: Sky | None = None,
    seed: int = 1,
    set_point_c: float | None = None,
    reading_c: float | None = None,
    kind: str = "Light Frame",
    cards: dict[str, object] | None = None,
) -> NDArray[np.uint16]:
    """Write a frame that was taken at a true temperature; the header says `reading_c` and `set_point_c`, by default the
    truth. Cards of value None are taken out."""
    image = light_image(sensor, sky, temperature_c, exposure_s, seed)
    reading = temperature_c if reading_c is None else reading_c
    shot = Shot("dark", temperature_c if set_point_c is None else set_point_c, exposure_s, seed)
    exposure = Exposure(shot, image, temperature_c, reading, np.zeros(image.shape, bool))
    header = simulated.header_of(sensor.recipe, exposure, simulated.EPOCH)
    header["IMAGETYP"] = kind
    header["OBJECT"] = "M 31"
    header["FILTER"] = "R"
    for key, value in (cards or {}).items():
        if value is None:
            header.remove(key)
        else:
            header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(image, header).writeto(path, overwrite=True)
    return image
