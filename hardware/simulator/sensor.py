"""A sensor with known truth: frames as a cooled camera reads them out, and the noise-free signal behind them.

Dark current is the sum, pixel by pixel, of generation in the depletion region, T^1.5 exp(-E/kT) with E near half of
the band gap, and of diffusion from the bulk, T^3 exp(-E/kT) with E near the gap (Grove 1967, Janesick 2001, Widenhorn
et al. 2002). Every pixel has its own two currents and its own two energies, so that no formula with a few numbers for
all pixels describes it exactly. A frame depends on the seed, on its number and on its settings alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from hardware.errors import CameraValueError
from hardware.simulator.sensor_spec import SensorSpec

__all__ = ["Sensor", "SensorSpec"]

Image = NDArray[np.float64]

BOLTZMANN_EV_K = 8.617333262e-5
ZERO_C_K = 273.15
BLOCK_ROWS = 96  # a part of a frame with a random stream of its own: pixels do not depend on the number of threads
MOST_THREADS = 8
# streams of random numbers, so that a change of one leaves the others alone
CURRENTS, HOT, TELEGRAPH, BIAS, FRAME, BLOCK, STATES = range(1, 8)


class Sensor:
    """The sensor that a `SensorSpec` describes.

    spec : what it is. hot, telegraph : (rows, cols) bool, unbinned: pixels with a defect; pixels of which the dark
    current jumps between two values.
    """

    def __init__(self, spec: SensorSpec) -> None:
        self.spec = spec
        self._draw_currents()
        self._draw_hot_pixels()
        self._draw_telegraph_pixels()
        self._draw_bias()

    def _rng(self, *stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.spec.seed, *stream]))

    def _normal(self, rng: np.random.Generator, mean: float, scatter: float) -> NDArray[np.float32]:
        values = rng.standard_normal(self.shape(), dtype=np.float32)
        values *= np.float32(scatter)
        values += np.float32(mean)
        return values

    def _draw_currents(self) -> None:
        """Currents [e-/s at the reference temperature] and energies [eV] of every pixel."""
        spec, rng = self.spec, self._rng(CURRENTS)
        self._generation_e_s = np.exp(self._normal(rng, 0.0, spec.generation_scatter))
        self._generation_e_s *= np.float32(spec.generation_e_s)
        self._generation_ev = self._normal(rng, spec.generation_energy_ev, spec.generation_energy_scatter_ev)
        self._diffusion_e_s = np.exp(self._normal(rng, 0.0, spec.diffusion_scatter))
        self._diffusion_e_s *= np.float32(spec.diffusion_e_s)
        self._diffusion_ev = self._normal(rng, spec.diffusion_energy_ev, spec.diffusion_energy_scatter_ev)

    def _draw_hot_pixels(self) -> None:
        """A hot pixel has a defect in its depletion region: more generation, through a trap of its own depth."""
        spec, rng = self.spec, self._rng(HOT)
        self.hot: NDArray[np.bool_] = rng.random(self.shape(), dtype=np.float32) < spec.hot_fraction
        number = int(np.count_nonzero(self.hot))
        excess = spec.generation_e_s * 10 ** rng.uniform(*spec.hot_decades, number)
        self._generation_e_s[self.hot] += excess.astype(np.float32)
        energies = rng.normal(spec.generation_energy_ev, spec.hot_energy_scatter_ev, number)
        self._generation_ev[self.hot] = energies.astype(np.float32)

    def _draw_telegraph_pixels(self) -> None:
        spec, rng = self.spec, self._rng(TELEGRAPH)
        self.telegraph: NDArray[np.bool_] = rng.random(self.shape(), dtype=np.float32) < spec.telegraph_fraction
        self._telegraph_at = np.flatnonzero(self.telegraph)
        number = self._telegraph_at.size
        self._telegraph_e_s: Image = spec.telegraph_e_s * np.exp(rng.normal(0.0, 0.5, number))
        self._telegraph_phase = rng.integers(0, spec.telegraph_dwell_frames, number)

    def _draw_bias(self) -> None:
        spec, rng = self.spec, self._rng(BIAS)
        self._bias_columns: Image = rng.normal(0.0, spec.bias_column_adu, spec.cols)
        self._bias_rows: Image = spec.bias_row_ramp_adu * np.linspace(-0.5, 0.5, spec.rows)
        self._bias_pixels = self._normal(rng, spec.bias_level_adu, spec.bias_pixel_adu)

    def shape(self, binning: int = 1) -> tuple[int, int]:
        """(rows, cols) of the frames; what does not fill a bin is left out."""
        if not 1 <= binning <= min(self.spec.rows, self.spec.cols):
            raise CameraValueError(f"a sensor of {self.spec.rows} rows cannot be binned {binning} x {binning}")
        return self.spec.rows // binning, self.spec.cols // binning

    def electrons_per_adu(self, gain: int | None = None) -> float:
        """Electrons of one ADU at a gain setting in tenths of a decibel; None: the default setting."""
        above = self.spec.gain_or_default(gain) - self.spec.gain_setting
        return self.spec.electrons_per_adu / math.pow(10.0, above / 200)

    def saturation_adu(self, *, binning: int = 1, gain: int | None = None) -> float:
        """Dark signal above bias [ADU] at which a pixel is full or the converter ends, whichever comes first."""
        room: float = self.spec.max_adu - self.spec.bias_level_adu
        return min(room, self.spec.full_well_e * self._checked(binning) ** 2 / self.electrons_per_adu(gain))

    # truth

    def bias_adu(self, *, binning: int = 1, offset: int | None = None) -> Image:
        """True bias (rows, cols) [ADU]: the mean of frames without exposure time."""
        return _binned(self._bias(slice(None), offset), self._checked(binning)) / binning**2

    def expected_dark_adu(
        self, exposure_s: float, temperature_c: float, *, binning: int = 1, gain: int | None = None
    ) -> Image:
        """True dark signal above bias (rows, cols) [ADU]: the mean of frames without noise and cosmic rays.

        Amplifier glow is in it, and the black clamp where that is on; a telegraph pixel is in the middle between its
        two states. It is not clipped: beyond `saturation_adu` frames show less.

        Raises
        ------
        CameraValueError
            for an exposure, temperature or binning that cannot be.
        """
        _check(exposure_s, temperature_c)
        electrons = self._rate_e_s(slice(None), temperature_c) * exposure_s
        step = self._telegraph_e_s * self._generation_factor(temperature_c) * exposure_s
        electrons.reshape(-1)[self._telegraph_at] += 0.5 * step
        total = _binned(electrons, self._checked(binning)) - self._clamp_e(exposure_s, temperature_c) * binning**2
        return total / self.electrons_per_adu(gain)

    def _checked(self, binning: int) -> int:
        self.shape(binning)
        return binning

    def _bias(self, rows: slice, offset: int | None) -> Image:
        spec = self.spec
        raised = (spec.offset_or_default(offset) - spec.offset_setting) * spec.adu_per_offset
        bias: Image = self._bias_pixels[rows] + self._bias_columns
        bias += self._bias_rows[rows, None] + raised
        return bias

    def _rate_e_s(self, rows: slice, temperature_c: float) -> Image:
        """Dark current and glow of some rows [e-/s], telegraph pixels in their lower state."""
        spec = self.spec
        inverse, ratio = _arrhenius(temperature_c, spec.reference_c)
        rate: Image = np.multiply(self._generation_ev[rows], -inverse, dtype=np.float64)
        np.exp(rate, out=rate)
        rate *= self._generation_e_s[rows]
        rate *= math.pow(ratio, 1.5)
        diffusion: Image = np.multiply(self._diffusion_ev[rows], -inverse, dtype=np.float64)
        np.exp(diffusion, out=diffusion)
        diffusion *= self._diffusion_e_s[rows]
        diffusion *= ratio**3
        rate += diffusion
        if spec.glow_e_s > 0:
            down, across = self._distance_from_corner()
            rate += spec.glow_e_s * np.exp(-down[rows, None] / spec.glow_reach) * np.exp(-across / spec.glow_reach)
        return rate

    def _distance_from_corner(self) -> tuple[Image, Image]:
        """Distance from the amplifier's corner down and across, in parts of the longer side."""
        spec = self.spec
        top, left = spec.glow_corner
        down, across = np.arange(spec.rows, dtype=np.float64), np.arange(spec.cols, dtype=np.float64)
        longest = max(spec.rows, spec.cols)
        return (down if top else down[::-1]) / longest, (across if left else across[::-1]) / longest

    def _generation_factor(self, temperature_c: float) -> float:
        inverse, ratio = _arrhenius(temperature_c, self.spec.reference_c)
        return math.exp(-self.spec.generation_energy_ev * inverse) * math.pow(ratio, 1.5)

    def _clamp_e(self, exposure_s: float, temperature_c: float) -> float:
        """What the black clamp takes from every pixel: the signal of a typical shielded pixel."""
        spec = self.spec
        if not spec.black_clamp:
            return 0.0
        inverse, ratio = _arrhenius(temperature_c, spec.reference_c)
        diffusion = spec.diffusion_e_s * math.exp(-spec.diffusion_energy_ev * inverse) * ratio**3
        return exposure_s * (spec.generation_e_s * self._generation_factor(temperature_c) + diffusion)

    # frames

    def dark_frame(
        self,
        exposure_s: float,
        temperature_c: float,
        frame_number: int,
        *,
        binning: int = 1,
        gain: int | None = None,
        offset: int | None = None,
        light_adu_per_s: float = 0.0,
    ) -> NDArray[np.uint16]:
        """One frame (rows, cols), C order. The same arguments give the same pixels.

        gain, offset : settings; None: the defaults of the spec. binning : charge of binning x binning pixels is added
        before it is read. light_adu_per_s : light that leaks in, at its brightest corner, as a smooth gradient.

        Raises
        ------
        CameraValueError
            for arguments that cannot be.
        """
        _check(exposure_s, temperature_c)
        if exposure_s > self.spec.exposure_max_s:
            raise CameraValueError(f"an exposure of {exposure_s} s is above {self.spec.exposure_max_s} s")
        if frame_number < 0 or not (math.isfinite(light_adu_per_s) and light_adu_per_s >= 0):
            raise CameraValueError(
                f"frame number {frame_number} and light {light_adu_per_s} ADU/s must not be negative"
            )
        return _FrameMaker(
            self, exposure_s, temperature_c, frame_number, self._checked(binning), gain, offset, light_adu_per_s
        ).frame()


class _FrameMaker:
    """One frame on its way; blocks of rows are made side by side."""

    def __init__(
        self,
        sensor: Sensor,
        exposure_s: float,
        temperature_c: float,
        number: int,
        binning: int,
        gain: int | None,
        offset: int | None,
        light_adu_per_s: float,
    ) -> None:
        self.sensor, self.exposure_s, self.temperature_c = sensor, exposure_s, temperature_c
        self.number, self.binning, self.offset = number, binning, offset
        self.electrons_per_adu = sensor.electrons_per_adu(gain)
        self.light_e = light_adu_per_s * self.electrons_per_adu * exposure_s
        self.clamp_e = sensor._clamp_e(exposure_s, temperature_c) * binning**2
        rng = sensor._rng(FRAME, number)
        self.pedestal_adu = rng.normal(0.0, 1.0) * sensor.spec.pedestal_drift_adu
        self.cosmic_at, self.cosmic_e = _cosmic_rays(sensor.spec, rng, exposure_s)
        self.telegraph_e = self._telegraph_states() * sensor._telegraph_e_s
        self.telegraph_e *= sensor._generation_factor(temperature_c) * exposure_s
        self.pixels: NDArray[np.uint16] = np.empty(sensor.shape(binning), np.uint16)

    def frame(self) -> NDArray[np.uint16]:
        blocks = list(enumerate(self._blocks()))
        threads = min(len(blocks), os.cpu_count() or 1, MOST_THREADS)
        if threads == 1:
            for block in blocks:
                self._read_block(*block)
            return self.pixels
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda block: self._read_block(*block), blocks))
        return self.pixels

    def _blocks(self) -> Iterator[slice]:
        height = max(BLOCK_ROWS // self.binning, 1)
        for start in range(0, self.pixels.shape[0], height):
            yield slice(start, min(start + height, self.pixels.shape[0]))

    def _read_block(self, index: int, binned_rows: slice) -> None:
        """Charge of some rows, then the read-out of it."""
        spec, rng = self.sensor.spec, self.sensor._rng(BLOCK, self.number, index)
        rows = slice(binned_rows.start * self.binning, binned_rows.stop * self.binning)
        mean_e = self.sensor._rate_e_s(rows, self.temperature_c)
        mean_e *= self.exposure_s
        self._add(mean_e, rows, self.sensor._telegraph_at, self.telegraph_e)
        if self.light_e > 0:
            down, across = np.linspace(0.1, 0.5, spec.rows), np.linspace(0.1, 0.5, spec.cols)
            mean_e += self.light_e * (down[rows, None] + across)
        np.minimum(mean_e, 4.0 * spec.full_well_e, out=mean_e)  # full all the same, and within reach of the generator
        electrons = rng.poisson(mean_e).astype(np.float64)
        self._add(electrons, rows, self.cosmic_at, self.cosmic_e)
        np.minimum(electrons, spec.full_well_e, out=electrons)
        electrons = _binned(electrons, self.binning)
        electrons += rng.standard_normal(electrons.shape, dtype=np.float32) * np.float32(spec.read_noise_e)
        electrons *= 1.0 / self.electrons_per_adu
        electrons += _binned(self.sensor._bias(rows, self.offset), self.binning) / self.binning**2
        electrons += self.pedestal_adu - self.clamp_e / self.electrons_per_adu + 0.5  # to round by cutting
        np.clip(electrons, 0, spec.max_adu, out=electrons)
        self.pixels[binned_rows] = electrons

    def _add(self, block: Image, rows: slice, at: NDArray[np.int64], values: Image) -> None:
        """Add values at flat places of the sensor, in ascending order, to the rows they are in."""
        cols = self.sensor.spec.cols
        first, last = np.searchsorted(at, (rows.start * cols, rows.stop * cols))
        np.add.at(block.reshape(-1), at[first:last] - rows.start * cols, values[first:last])

    def _telegraph_states(self) -> NDArray[np.bool_]:
        """Which telegraph pixels are in their upper state: each draws anew after its dwell, at its own moment."""
        sensor = self.sensor
        term, into = divmod(self.number, sensor.spec.telegraph_dwell_frames)
        number = sensor._telegraph_at.size
        now = sensor._rng(STATES, term + 1).random(number) < 0.5
        before = sensor._rng(STATES, term).random(number) < 0.5
        return np.where(into >= sensor._telegraph_phase, now, before)


def _cosmic_rays(
    spec: SensorSpec, rng: np.random.Generator, exposure_s: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Flat places, ascending, and charges [e-] of the cosmic rays of a frame: straight tracks of a few pixels."""
    area_cm2 = spec.rows * spec.cols * (spec.pixel_size_um * 1e-4) ** 2
    number = int(rng.poisson(spec.cosmic_rays_per_cm2_min * area_cm2 * exposure_s / 60))
    length = rng.geometric(0.25, number)
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    angle = np.repeat(rng.uniform(0, 2 * np.pi, number), length)
    row = np.floor(np.repeat(rng.uniform(0, spec.rows, number), length) + step * np.sin(angle)).astype(np.int64)
    col = np.floor(np.repeat(rng.uniform(0, spec.cols, number), length) + step * np.cos(angle)).astype(np.int64)
    charge = rng.gamma(2.0, spec.cosmic_ray_e / 2, step.size)
    inside = (row >= 0) & (row < spec.rows) & (col >= 0) & (col < spec.cols)
    at = row[inside] * spec.cols + col[inside]
    order = np.argsort(at, kind="stable")
    return at[order], charge[inside][order]


def _check(exposure_s: float, temperature_c: float) -> None:
    if not (math.isfinite(exposure_s) and exposure_s >= 0):
        raise CameraValueError(f"an exposure of {exposure_s} s cannot be")
    if not -150.0 <= temperature_c <= 100.0:
        raise CameraValueError(f"a sensor at {temperature_c} °C cannot be", do="stay within -150 to 100 °C")


def _arrhenius(temperature_c: float, reference_c: float) -> tuple[float, float]:
    """1/kT - 1/kT0 [1/eV] and T/T0."""
    kelvin, reference = temperature_c + ZERO_C_K, reference_c + ZERO_C_K
    return (1 / kelvin - 1 / reference) / BOLTZMANN_EV_K, kelvin / reference


def _binned(image: Image, binning: int) -> Image:
    """Sums of binning x binning pixels; what does not fill a bin is left out."""
    if binning == 1:
        return image
    rows, cols = image.shape[0] // binning, image.shape[1] // binning
    whole = image[: rows * binning, : cols * binning]
    summed: Image = whole.reshape(rows, binning, cols, binning).sum(axis=(1, 3))
    return summed
