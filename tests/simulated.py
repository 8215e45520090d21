"""A sensor with known truth, and campaigns of raw frames taken with it.

The physics here is written on its own and imports nothing of the project, so that tests and benchmarks compare the
pipeline with something it does not share. Two laws of dark signal:

* ``physics``: depletion-region generation (activation energy E_g/2, prefactor T^1.5) plus diffusion (E_g, T^3), rates
  after Grove (1967), Janesick (2001), Widenhorn et al. (2002); temperature-independent amplifier glow on request;
* ``exponential``: ``A * t**gamma * exp(B * (T - T_min))`` with A, B, gamma drawn for each pixel.

A frame depends on the recipe's seed and on (kind, temperature, exposure, repeat) alone: a campaign that grows keeps
the pixels of the frames it already had. As a script: ``python tests/simulated.py OUT_DIR --preset demo``.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import datetime
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import constants

Image = NDArray[np.float64]

BOLTZMANN_EV = constants.k / constants.e
ZERO_C_K = constants.zero_Celsius
EPOCH = datetime.datetime(2025, 1, 1, 20, 0, 0, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a campaign. Rates are native ADU per second at 0 °C."""

    rows: int = 256
    cols: int = 256
    temperatures_c: tuple[float, ...] = (-20.0, -15.0, -10.0, -5.0, 0.0)
    exposures_s: tuple[float, ...] = (10.0, 30.0, 60.0, 150.0, 300.0)
    n_darks: int = 8
    n_biases: int = 20
    frames_of: tuple[tuple[float, float, int], ...] = ()  # (T, t, n): other numbers of darks; n = 0 drops the cell
    seed: int = 1
    law: str = "physics"  # or 'exponential'
    # dark current
    bulk_rate_adu_s: float = 0.6
    bulk_spread: float = 0.25  # sigma of the logarithm
    bulk_generation_fraction: float = 0.45  # physics: share of generation in a bulk pixel at 0 °C
    band_gap_ev: float = 1.12
    bulk_b_per_k: tuple[float, float] = (0.125, 0.006)  # exponential: mean and spread
    hot_b_per_k: tuple[float, float] = (0.100, 0.008)
    gamma: tuple[float, float] = (1.0, 0.015)
    hot_fraction: float = 0.004
    hot_decades: tuple[float, float] = (0.3, 3.3)  # log10 of hot excess over bulk, uniform in the logarithm
    glow_rate_adu_s: float = 0.0  # amplifier glow in the corner, independent of temperature
    telegraph_fraction: float = 0.0
    telegraph_rate_adu_s: float = 5.0  # step between the two states
    # read-out
    gain_e_per_adu: float = 0.8
    read_noise_e: float = 2.5
    read_noise_spread: float = 0.0  # sigma of the logarithm, pixel to pixel
    bias_level_adu: float = 1000.0
    bias_column_adu: float = 3.0
    bias_pixel_adu: float = 1.5
    bias_slope_adu_k: tuple[float, float] = (0.4, 0.02)  # mean and pixel-to-pixel spread
    bias_exposure_s: float = 0.0  # above zero: the bias frames are short darks
    pedestal_drift_adu: float = 0.0  # sigma, one number a frame
    black_clamp: bool = False  # the camera subtracts what shielded pixels read: the mean bulk dark signal
    adc_bits: int = 16
    left_aligned: bool = False  # fewer bits, shifted to the top of 16
    # thermometer
    temperature_jitter_k: float = 0.0  # sigma of the true temperature about the set point
    set_point_error_k: float = 0.0  # sigma, one number a temperature: by this all its frames are off the set point
    thermometer_step_k: float = 0.0
    thermometer_noise_k: float = 0.0  # sigma of a reading, before its quantisation
    # cosmic rays
    cosmic_rate_cm2_s: float = 0.03
    pixel_um: float = 24.0
    cosmic_charge_e: float = 1500.0  # mean charge a pixel of a track
    # header
    camera: str = "Simulated CCD"
    gain_setting: float | None = 100.0
    offset_setting: float | None = 50.0
    em_gain: float | None = None
    binning: int = 1
    header: tuple[tuple[str, object], ...] = ()  # cards added last

    @property
    def scale_factor(self) -> int:
        """Raw counts per native ADU."""
        return 1 << (16 - self.adc_bits) if self.left_aligned else 1

    @property
    def top_adu(self) -> int:
        """Largest native value of the ADC."""
        return (1 << self.adc_bits) - 1


@dataclass(frozen=True)
class Shot:
    """One frame to take: what decides its content. kind is 'dark' or 'bias'."""

    kind: str
    temperature_c: float
    exposure_s: float
    repeat: int


@dataclass(frozen=True)
class Exposure:
    """A frame as read out: uint16 raw counts (rows, cols), true and measured temperature in °C."""

    shot: Shot
    image: NDArray[np.uint16]
    true_c: float
    measured_c: float
    cosmic: NDArray[np.bool_]


PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    "tiny": Recipe(
        rows=32,
        cols=32,
        temperatures_c=(-10.0, -5.0, 0.0),
        exposures_s=(30.0, 100.0, 300.0),
        n_darks=3,
        n_biases=5,
        hot_fraction=0.01,
    ),
    "demo": Recipe(
        rows=128,
        cols=128,
        temperatures_c=(-15.0, -10.0, -5.0, 0.0),
        exposures_s=(30.0, 60.0, 120.0, 300.0),
        n_darks=5,
        n_biases=10,
        glow_rate_adu_s=0.3,
        telegraph_fraction=0.001,
        temperature_jitter_k=0.05,
        thermometer_step_k=0.1,
        pedestal_drift_adu=0.5,
    ),
}


class Sensor:
    """The truth: maps of one sensor, its noise-free signal anywhere, and frames taken with it.

    Maps are (rows, cols). ``maps`` holds A, B, gamma (ADU/s^gamma at T_min, 1/K, 1) or G, D, E (ADU/s: generation and
    diffusion at 0 °C, glow). ``hot`` and ``telegraph`` are masks; a telegraph pixel's true signal is its lower state.
    """

    def __init__(self, recipe: Recipe) -> None:
        if recipe.law not in ("physics", "exponential"):
            raise ValueError(f"law is {recipe.law!r}, not 'physics' or 'exponential'")
        self.recipe = recipe
        self.t_min_c = min(recipe.temperatures_c)
        self._draw_currents(np.random.default_rng([recipe.seed, 1]))
        self._draw_readout(np.random.default_rng([recipe.seed, 2]))

    def _draw_currents(self, rng: np.random.Generator) -> None:
        r = self.recipe
        shape = (r.rows, r.cols)
        self.hot: NDArray[np.bool_] = rng.random(shape) < r.hot_fraction
        excess = np.where(self.hot, r.bulk_rate_adu_s * 10 ** rng.uniform(*r.hot_decades, shape), 0.0)
        bulk = r.bulk_rate_adu_s * np.exp(rng.normal(0, r.bulk_spread, shape))
        if r.law == "exponential":
            b = np.where(self.hot, rng.normal(*r.hot_b_per_k, shape), rng.normal(*r.bulk_b_per_k, shape))
            a = (bulk + excess) * np.exp(b * self.t_min_c)
            self.maps: dict[str, Image] = {"A": a, "B": b, "gamma": rng.normal(*r.gamma, shape)}
        else:
            generation = r.bulk_rate_adu_s * np.exp(rng.normal(0, 2 * r.bulk_spread, shape))
            share = r.bulk_generation_fraction
            # a hot pixel is a defect in the depletion region: nearly all of its excess is generation
            leak = rng.uniform(0.0, 0.05, shape) * excess
            self.maps = {"G": share * generation + excess - leak, "D": (1 - share) * bulk + leak}
        y, x = np.mgrid[: r.rows, : r.cols]
        distance = np.hypot(y, x - r.cols + 1) / max(r.rows, r.cols)
        self.maps["E"] = r.glow_rate_adu_s * np.exp(-distance / 0.15)
        self.telegraph: NDArray[np.bool_] = rng.random(shape) < r.telegraph_fraction

    def _draw_readout(self, rng: np.random.Generator) -> None:
        r = self.recipe
        shape = (r.rows, r.cols)
        ramp = 2.0 * np.linspace(-1, 1, r.rows)[:, None]
        columns = rng.normal(0, r.bias_column_adu, r.cols)[None, :]
        self.bias_zero_c: Image = r.bias_level_adu + columns + ramp + rng.normal(0, r.bias_pixel_adu, shape)
        self.bias_slope: Image = rng.normal(*r.bias_slope_adu_k, shape)
        self.read_noise_e: Image = r.read_noise_e * np.exp(rng.normal(0, r.read_noise_spread, shape))

    def arrhenius(self, temperature_c: float, energy_ev: float, power: float) -> float:
        """Rate at a temperature relative to 0 °C: (T/T0)^power * exp(-energy/k * (1/T - 1/T0))."""
        kelvin = temperature_c + ZERO_C_K
        return float((kelvin / ZERO_C_K) ** power * np.exp(-energy_ev / BOLTZMANN_EV * (1.0 / kelvin - 1.0 / ZERO_C_K)))

    def signal_adu(self, temperature_c: float, exposure_s: float) -> Image:
        """True mean dark signal (rows, cols), native ADU, without noise, cosmic rays or clipping."""
        m = self.maps
        glow = m["E"] * exposure_s
        if self.recipe.law == "exponential":
            return m["A"] * exposure_s ** m["gamma"] * np.exp(m["B"] * (temperature_c - self.t_min_c)) + glow
        gap = self.recipe.band_gap_ev
        generation = m["G"] * self.arrhenius(temperature_c, gap / 2, 1.5)
        diffusion = m["D"] * self.arrhenius(temperature_c, gap, 3.0)
        return exposure_s * (generation + diffusion) + glow

    def clamp_adu(self, temperature_c: float, exposure_s: float) -> float:
        """What the black clamp takes from every pixel: the mean dark signal of shielded pixels, which see no glow."""
        if not self.recipe.black_clamp:
            return 0.0
        dark = self.signal_adu(temperature_c, exposure_s) - self.maps["E"] * exposure_s
        return float(dark[~self.hot].mean())

    def shown_adu(self, temperature_c: float, exposure_s: float) -> Image:
        """True mean signal above bias of a frame (rows, cols): the dark signal less what a clamp takes."""
        return self.signal_adu(temperature_c, exposure_s) - self.clamp_adu(temperature_c, exposure_s)

    def bias_adu(self, temperature_c: float) -> Image:
        """True bias (rows, cols) in native ADU."""
        return self.bias_zero_c + self.bias_slope * temperature_c

    def frame_variance_adu2(self, temperature_c: float, exposure_s: float) -> Image:
        """True variance of one frame (rows, cols): read noise, shot noise, quantisation; no drift, no jitter."""
        g = self.recipe.gain_e_per_adu
        return (self.read_noise_e / g) ** 2 + self.signal_adu(temperature_c, exposure_s) / g + 1.0 / 12.0

    def expose(self, shot: Shot) -> Exposure:
        """Take one frame."""
        r = self.recipe
        key = [int(shot.kind == "bias"), round(shot.temperature_c * 1000) + 300_000, round(shot.exposure_s * 1e6)]
        rng = np.random.default_rng([r.seed, 3, *key, shot.repeat])
        true_c = shot.temperature_c + rng.normal(0, 1) * r.temperature_jitter_k + self.off_set_point_k(shot)
        measured_c = true_c
        if r.thermometer_noise_k > 0:
            measured_c += np.random.default_rng([r.seed, 5, *key, shot.repeat]).normal(0, r.thermometer_noise_k)
        if r.thermometer_step_k > 0:
            measured_c = round(measured_c / r.thermometer_step_k) * r.thermometer_step_k
        signal = self.signal_adu(true_c, shot.exposure_s)
        upper = self.telegraph & (rng.random(signal.shape) < 0.5)
        step = r.telegraph_rate_adu_s * shot.exposure_s * self.arrhenius(true_c, r.band_gap_ev / 2, 1.5)
        electrons = rng.poisson((signal + upper * step) * r.gain_e_per_adu).astype(np.float64)
        cosmic = self._cosmic_rays(rng, shot.exposure_s)
        electrons += cosmic + rng.normal(0, 1, signal.shape) * self.read_noise_e
        drift = rng.normal(0, 1) * r.pedestal_drift_adu - self.clamp_adu(true_c, shot.exposure_s)
        native = np.floor(electrons / r.gain_e_per_adu + self.bias_adu(true_c) + drift + 0.5)
        raw = (np.clip(native, 0, r.top_adu) * r.scale_factor).astype(np.uint16)
        return Exposure(shot, raw, true_c, measured_c, cosmic > 0)

    def off_set_point_k(self, shot: Shot) -> float:
        """By how much all frames of the shot's set point are warmer than it."""
        rng = np.random.default_rng([self.recipe.seed, 4, round(shot.temperature_c * 1000) + 300_000])
        return float(rng.normal(0, 1) * self.recipe.set_point_error_k)

    def _cosmic_rays(self, rng: np.random.Generator, exposure_s: float) -> Image:
        """Charge of the cosmic rays of one frame (rows, cols) in electrons: straight tracks of a few pixels."""
        r = self.recipe
        charge = np.zeros((r.rows, r.cols))
        area_cm2 = r.rows * r.cols * (r.pixel_um * 1e-4) ** 2
        for _ in range(rng.poisson(r.cosmic_rate_cm2_s * area_cm2 * exposure_s)):
            y, x, angle = rng.uniform(0, r.rows), rng.uniform(0, r.cols), rng.uniform(0, 2 * np.pi)
            steps = np.arange(1 + rng.geometric(0.35))
            rows = (y + steps * np.sin(angle)).astype(int)
            cols = (x + steps * np.cos(angle)).astype(int)
            inside = (rows >= 0) & (rows < r.rows) & (cols >= 0) & (cols < r.cols)
            np.add.at(charge, (rows[inside], cols[inside]), rng.gamma(2.0, r.cosmic_charge_e / 2, inside.sum()))
        return charge


def shots(recipe: Recipe) -> list[Shot]:
    """Frames of a campaign in the order of taking: at each temperature the biases, then the exposures interleaved."""
    special = {(t_c, t_s): n for t_c, t_s, n in recipe.frames_of}
    plan: list[Shot] = []
    for t_c in recipe.temperatures_c:
        plan += [Shot("bias", t_c, recipe.bias_exposure_s, n) for n in range(recipe.n_biases)]
        counts = {t_s: special.get((t_c, t_s), recipe.n_darks) for t_s in recipe.exposures_s}
        for n in range(max(counts.values(), default=0)):
            plan += [Shot("dark", t_c, t_s, n) for t_s, count in counts.items() if n < count]
    return plan


def header_of(recipe: Recipe, exposure: Exposure, begin: datetime.datetime) -> fits.Header:
    """Header as capture programs write it."""
    shot = exposure.shot
    header = fits.Header()
    header["IMAGETYP"] = "Bias Frame" if shot.kind == "bias" else "Dark Frame"
    header["EXPTIME"] = (shot.exposure_s, "[s]")
    header["CCD-TEMP"] = (round(exposure.measured_c, 4), "[degC]")
    header["SET-TEMP"] = (shot.temperature_c, "[degC]")
    for key, value in (
        ("GAIN", recipe.gain_setting),
        ("EGAIN", recipe.gain_e_per_adu),
        ("OFFSET", recipe.offset_setting),
        ("EMGAIN", recipe.em_gain),
    ):
        if value is not None:
            header[key] = value
    header["XBINNING"] = recipe.binning
    header["YBINNING"] = recipe.binning
    header["INSTRUME"] = recipe.camera
    header["DATE-OBS"] = begin.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    for card in recipe.header:
        header.append(card)
    return header


def write_frame(path: Path, sensor: Sensor, shot: Shot, begin: datetime.datetime = EPOCH) -> Exposure:
    """Take one frame and write it: uint16 (BZERO 32768) in the primary HDU."""
    exposure = sensor.expose(shot)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(exposure.image, header_of(sensor.recipe, exposure, begin)).writeto(path, overwrite=True)
    return exposure


def file_names(plan: Sequence[Shot], *, folders: bool = False) -> Iterator[tuple[str, datetime.datetime]]:
    """Name (relative to the campaign) and begin of each frame; with folders, one folder an exposure."""
    begin = EPOCH
    for number, shot in enumerate(plan, start=1):
        folder = f"exp_{shot.exposure_s:.3f}s/" if folders else ""
        yield f"{folder}frame_{number:04d}.fits", begin
        begin += datetime.timedelta(seconds=shot.exposure_s + 2.0)


def write_campaign(
    folder: str | Path, recipe: Recipe | None = None, *, folders: bool = False, **changes: object
) -> Sensor:
    """Write all frames of a recipe (default preset 'default', fields changed by keyword); returns the truth."""
    recipe = dataclasses.replace(recipe or PRESETS["default"], **changes)  # type: ignore[arg-type]
    sensor = Sensor(recipe)
    plan = shots(recipe)
    for shot, (name, begin) in zip(plan, file_names(plan, folders=folders), strict=True):
        write_frame(Path(folder) / name, sensor, shot, begin)
    return sensor


def add_frame(folder: str | Path, sensor: Sensor, temperature_c: float, exposure_s: float, repeat: int) -> Path:
    """One more dark of a cell beside the campaign's frames; returns its path."""
    path = Path(folder) / f"extra_{temperature_c:+.1f}C_{exposure_s:g}s_{repeat:03d}.fits"
    write_frame(path, sensor, Shot("dark", temperature_c, exposure_s, repeat), EPOCH + datetime.timedelta(days=2))
    return path


def parse_changes(pairs: Sequence[str]) -> dict[str, object]:
    """'name=value' of the command line to fields of a Recipe; raises ValueError on an unknown name."""
    known = {f.name for f in dataclasses.fields(Recipe)}
    changes: dict[str, object] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in known:
            raise ValueError(f"no field {name!r}; there are {', '.join(sorted(known))}")
        try:
            changes[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            changes[name] = text
    return changes


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a simulated campaign of raw dark and bias frames.")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="default")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--law", choices=("physics", "exponential"))
    parser.add_argument("--folders", action="store_true", help="one sub-folder an exposure")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any field of Recipe")
    options = parser.parse_args(arguments)
    try:
        changes = parse_changes(options.set)
    except ValueError as error:
        parser.error(str(error))
    changes |= {k: v for k, v in (("seed", options.seed), ("law", options.law)) if v is not None}
    start = time.monotonic()
    recipe = write_campaign(options.out_dir, PRESETS[options.preset], folders=options.folders, **changes).recipe
    plan = shots(recipe)
    n_bias = sum(s.kind == "bias" for s in plan)
    print(
        f"{options.out_dir}: {len(plan)} frames of {recipe.cols} x {recipe.rows} ({n_bias} bias, {len(plan) - n_bias} "
        f"dark), law {recipe.law}, seed {recipe.seed}, {time.monotonic() - start:.1f} s"
    )
    print(f"  temperatures [C] {', '.join(f'{t:g}' for t in recipe.temperatures_c)}")
    print(f"  exposures [s]    {', '.join(f'{t:g}' for t in recipe.exposures_s)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
