"""Frames of a sensor with telegraph pixels, hot and noisy ones, and cosmic rays; what each pixel is stays known.

Written on its own: nothing of the pipeline, nor of the tests' generator, is used. A telegraph pixel's dark current
switches between two values at the events of a Poisson process of its own that runs on through the read-outs, so an
exposure may hold both states. `amplitude` is the difference of the two signals in units of the noise (read and shot)
that a frame has in the lower state; `duty` the share of time in the upper; `dwell` the mean time in the state that is
left sooner, in exposures.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

AMPLITUDES = (3.0, 5.0, 7.0, 10.0, 30.0)
DUTIES = (0.05, 0.1, 0.3, 0.5, 0.7, 0.9)
DWELLS = (1.0, 3.0, 10.0)
GROUPS = tuple(product(AMPLITUDES, DUTIES, DWELLS))

READOUT_S = 5.0
PIXEL_CM = 24e-4
CHARGE_E = 2000.0  # of a track in a pixel that it crosses from side to side
DIFFUSION = 0.3  # pixels, 1 sigma: tracks have faint borders
DOUBLING_K = 6.5


@dataclass(frozen=True)
class Scene:
    """A campaign. cells : (temperature [°C], exposure [s], frames). Signals in native ADU."""

    cells: tuple[tuple[float, float, int], ...] = ((0.0, 300.0, 20),)
    n_biases: int = 20  # a temperature
    size: int = 512
    seed: int = 1
    held: bool = False  # a telegraph pixel keeps its state for whole exposures, and may change between them
    per_group: int = 120  # telegraph pixels of each group; 0: none
    gain_e_per_adu: float = 1.0
    read_noise_e: float = 6.0
    read_noise_spread: float = 0.0  # sigma of the logarithm, pixel to pixel
    noisy_fraction: float = 0.0  # of pixels with two to five times the read noise
    bulk_rate_e_s: float = 0.35  # at 0 °C
    hot_fraction: float = 0.02
    jitter_k: float = 0.03  # sigma of the true temperature of a frame
    cosmic_rate_cm2_s: float = 0.03
    bits: int = 16
    left_aligned: bool = False
    level_adu: float = 500.0

    @property
    def scale_factor(self) -> int:
        """Raw counts per native ADU."""
        return 1 << (16 - self.bits) if self.left_aligned else 1


class Truth:
    """Maps (size, size): rate_e_s at 0 °C, read_noise_e, bias_adu; masks hot, noisy, telegraph, plain (none of these).

    group : number in `GROUPS` of a telegraph pixel, else -1. hot_telegraph : hot pixels that are telegraphs as well.
    seen : of telegraph pixels, after `write`, exposures spent in the state that was seen less.
    """

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng([scene.seed, 11])
        n, shape = scene.size**2, (scene.size, scene.size)
        self.scene = scene
        order = rng.permutation(n)
        group = np.full(n, -1)
        of_groups, rest = np.split(order, [scene.per_group * len(GROUPS)])
        group[of_groups] = np.arange(of_groups.size) % len(GROUPS)
        hot, noisy = np.zeros(n, bool), np.zeros(n, bool)
        some, rest = np.split(rest, [round(scene.hot_fraction * n)])
        hot[some] = True
        noisy[rest[: round(scene.noisy_fraction * n)]] = True
        flicker = np.zeros(n, bool)
        flicker[some[: some.size // 5 if scene.per_group else 0]] = True
        bulk = scene.bulk_rate_e_s * np.exp(rng.normal(0, 0.25, n))
        self.rate_e_s = (bulk + np.where(hot, scene.bulk_rate_e_s * 10 ** rng.uniform(0.5, 2.5, n), 0)).reshape(shape)
        noise = scene.read_noise_e * np.exp(rng.normal(0, scene.read_noise_spread, n))
        self.read_noise_e = (noise * np.where(noisy, rng.uniform(2, 5, n), 1.0)).reshape(shape)
        columns = rng.normal(0, 2, scene.size)[None, :]
        self.bias_adu = scene.level_adu + columns + rng.normal(0, 1.5, shape)
        self.group, self.hot, self.noisy = (a.reshape(shape) for a in (group, hot, noisy))
        self.hot_telegraph = flicker.reshape(shape)
        self.telegraph = (self.group >= 0) | self.hot_telegraph
        self.plain = ~(self.telegraph | self.hot | self.noisy)
        drawn = np.array(GROUPS)[np.maximum(group, 0)]
        drawn[flicker] = np.stack(
            [rng.choice((5.0, 7.0, 10.0, 30.0), flicker.sum()), rng.uniform(0.3, 0.7, flicker.sum()),
             rng.uniform(1.0, 3.0, flicker.sum())], axis=1,
        )  # fmt: skip
        self.amplitude, self.duty, self.dwell = (drawn[:, i].reshape(shape) for i in range(3))
        self.seen: Array = np.zeros(shape)
        self._upper: Array = np.zeros(shape)
        self._frames = 0

    def signal_e(self, temperature_c: float, exposure_s: float) -> Array:
        """Mean dark signal of the lower state."""
        return np.asarray(self.rate_e_s * exposure_s * 2.0 ** (temperature_c / DOUBLING_K))

    def step_e(self, number: int) -> Array:
        """Difference of the two states in a cell; `amplitude` is that in the first."""
        (t0, s0, _), (t_c, t_s, _) = self.scene.cells[0], self.scene.cells[number]
        first = self.amplitude * np.sqrt(self.read_noise_e**2 + self.signal_e(t0, s0))
        return np.asarray(first * t_s / s0 * 2.0 ** ((t_c - t0) / DOUBLING_K))

    def upper_shares(self, rng: np.random.Generator, exposure_s: float, frames: int) -> Array:
        """(frames, telegraph pixels) share of each exposure spent in the upper state."""
        duty, dwell = self.duty[self.telegraph], self.dwell[self.telegraph] * exposure_s
        high = dwell * np.maximum(duty / (1 - duty), 1.0)
        low = dwell * np.maximum((1 - duty) / duty, 1.0)
        begins = np.arange(frames) * (exposure_s + READOUT_S)
        length = 1e-6 * exposure_s if self.scene.held else exposure_s
        shares = np.empty((frames, duty.size))
        up = rng.random(duty.size) < duty
        steps = 40 + 4 * frames  # stays of mean one exposure or more on both sides
        for k in range(duty.size):
            stays = rng.exponential(1.0, steps)
            stays[0 if up[k] else 1 :: 2] *= high[k]
            stays[1 if up[k] else 0 :: 2] *= low[k]
            ends = np.concatenate(([0.0], np.cumsum(stays)))
            assert ends[-1] > begins[-1] + exposure_s
            in_upper = stays.copy()
            in_upper[1 if up[k] else 0 :: 2] = 0.0
            spent = np.concatenate(([0.0], np.cumsum(in_upper)))
            shares[:, k] = np.interp(begins + length, ends, spent) - np.interp(begins, ends, spent)
        return shares / length

    def cosmic_rays_e(self, rng: np.random.Generator, exposure_s: float) -> Array:
        """Charge of straight tracks, a tenth of a pixel at a time, each bit of charge diffused by itself."""
        size = self.scene.size
        charge = np.zeros((size, size))
        area = (size * PIXEL_CM) ** 2
        for _ in range(rng.poisson(self.scene.cosmic_rate_cm2_s * area * exposure_s)):
            steps = np.arange(1 + int(10 * rng.exponential(2.0))) / 10.0
            angle = rng.uniform(0, 2 * np.pi)
            y = rng.uniform(0, size) + steps * np.sin(angle) + rng.normal(0, DIFFUSION, steps.size)
            x = rng.uniform(0, size) + steps * np.cos(angle) + rng.normal(0, DIFFUSION, steps.size)
            rows, cols = np.floor(y).astype(int), np.floor(x).astype(int)
            inside = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
            bits = rng.gamma(0.5, 0.1 * CHARGE_E / 0.5, steps.size)
            np.add.at(charge, (rows[inside], cols[inside]), bits[inside])
        return charge

    def _counts(self, rng: np.random.Generator, mean_e: Array, extra_e: Array | float) -> NDArray[np.uint16]:
        s = self.scene
        electrons = rng.poisson(mean_e) + extra_e + rng.normal(0, 1, mean_e.shape) * self.read_noise_e
        native = np.rint(electrons / s.gain_e_per_adu + self.bias_adu)
        return (np.clip(native, 0, (1 << s.bits) - 1) * s.scale_factor).astype(np.uint16)

    def write(self, folder: Path) -> None:
        """Write all frames of the campaign."""
        s = self.scene
        folder.mkdir(parents=True, exist_ok=True)
        clock = datetime.datetime(2025, 3, 1, 20, 0, 0)
        for number, (t_c, t_s, n) in enumerate(s.cells):
            rng = np.random.default_rng([s.seed, 12, number])
            level = self.signal_e(t_c, t_s)
            step = self.step_e(number)
            shares = self.upper_shares(rng, t_s, n)
            self._upper[self.telegraph] += shares.sum(axis=0)
            self._frames += n
            for i in range(n):
                mean = level * 2.0 ** (rng.normal(0, s.jitter_k) / DOUBLING_K)
                mean[self.telegraph] += step[self.telegraph] * shares[i]
                image = self._counts(rng, mean, self.cosmic_rays_e(rng, t_s))
                clock += datetime.timedelta(seconds=t_s + READOUT_S)
                self._save(folder / f"dark_{number}_{i:03d}.fits", image, "Dark Frame", t_c, t_s, clock)
        for t_c in sorted({c[0] for c in s.cells}) if s.n_biases else []:
            rng = np.random.default_rng([s.seed, 13, round(1000 * (t_c + 300))])
            for i in range(s.n_biases):
                image = self._counts(rng, np.zeros_like(self.rate_e_s), 0.0)
                clock += datetime.timedelta(seconds=READOUT_S)
                self._save(folder / f"bias_{t_c:+.0f}_{i:03d}.fits", image, "Bias Frame", t_c, 0.0, clock)
        self.seen = np.minimum(self._upper, self._frames - self._upper)

    def _save(
        self, path: Path, image: NDArray[np.uint16], kind: str, t_c: float, t_s: float, clock: datetime.datetime
    ) -> None:
        cards = {
            "IMAGETYP": kind, "EXPTIME": t_s, "CCD-TEMP": t_c, "SET-TEMP": t_c, "GAIN": 100, "OFFSET": 50,
            "EGAIN": self.scene.gain_e_per_adu / self.scene.scale_factor, "XBINNING": 1, "YBINNING": 1,
            "INSTRUME": "Telegraph", "DATE-OBS": clock.isoformat(timespec="milliseconds"),
        }  # fmt: skip
        fits.PrimaryHDU(image, fits.Header(cards)).writeto(path)
