"""A small simulated campaign, for examples and first steps; tests and benchmarks have a simulation of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from darkpipe.library.fitting import fit_dark_model
from darkpipe.library.model import DarkModel

BOLTZMANN_EV_PER_K = 8.617333262e-5
ZERO_C_K = 273.15
GAP_EV = 1.12


@dataclass(frozen=True, eq=False)
class SimulatedCampaign:
    """Raw frames of a simulated sensor, and its truth.

    darks : (n, rows, cols) uint16 raw counts; temperatures_c, exposures_s : (n,).
    biases : (m, rows, cols) uint16; bias_temperatures_c : (m,).
    generation_adu_s, diffusion_adu_s : (rows, cols) the two dark currents at 0 °C.
    """

    darks: NDArray[np.uint16]
    temperatures_c: NDArray[np.float64]
    exposures_s: NDArray[np.float64]
    biases: NDArray[np.uint16]
    bias_temperatures_c: NDArray[np.float64]
    gain_e_per_adu: float
    read_noise_adu: float
    bias_adu: NDArray[np.float64]
    generation_adu_s: NDArray[np.float64]
    diffusion_adu_s: NDArray[np.float64]

    def truth(self, temperature_c: float, exposure_s: float) -> NDArray[np.float64]:
        """(rows, cols) true dark signal [ADU]: generation with half of silicon's energy gap, diffusion with all of it
        (Widenhorn et al. 2002)."""
        kelvin = temperature_c + ZERO_C_K
        distance = (1.0 / kelvin - 1.0 / ZERO_C_K) / BOLTZMANN_EV_PER_K
        ratio = kelvin / ZERO_C_K
        generation = self.generation_adu_s * ratio**1.5 * np.exp(-0.5 * GAP_EV * distance)
        diffusion = self.diffusion_adu_s * ratio**3 * np.exp(-GAP_EV * distance)
        return np.asarray(exposure_s * (generation + diffusion))

    def expose(self, temperature_c: float, exposure_s: float, seed: int = 0) -> NDArray[np.uint16]:
        """One more raw frame (rows, cols); exposure 0 is a bias."""
        rng = np.random.default_rng([seed, round(temperature_c * 100) + 30_000, round(exposure_s * 1000)])
        signal = self.truth(temperature_c, exposure_s)
        charge = rng.poisson(signal * self.gain_e_per_adu) / self.gain_e_per_adu
        read = self.bias_adu + charge + rng.normal(0.0, self.read_noise_adu, signal.shape)
        return np.clip(np.rint(read), 0, 65535).astype(np.uint16)


def simulate_campaign(
    rows: int = 64,
    cols: int = 96,
    *,
    temperatures_c: tuple[float, ...] = (-15.0, -10.0, -5.0, 0.0),
    exposures_s: tuple[float, ...] = (30.0, 100.0, 300.0),
    n_darks: int = 4,
    n_biases: int = 8,
    seed: int = 1,
) -> SimulatedCampaign:
    """Darks and biases of a simulated sensor: bulk dark current of 0.5 ADU/s at 0 °C, 1 % hot pixels, 1.2 e-/ADU, a
    read noise of 4 ADU. The same arguments give the same frames.

    Parameters
    ----------
    n_darks : of each temperature and exposure. n_biases : of each temperature.

    Examples
    --------
    >>> import darkpipe
    >>> sky = darkpipe.simulate_campaign(rows=16, cols=24, n_darks=2)
    >>> sky.darks.shape, sky.biases.dtype.name
    ((24, 16, 24), 'uint16')
    """
    rng = np.random.default_rng(seed)
    shape = (rows, cols)
    hot = rng.random(shape) < 0.01
    excess = np.where(hot, 0.5 * 10 ** rng.uniform(0.5, 2.5, shape), 0.0)
    generation = 0.2 * np.exp(rng.normal(0.0, 0.3, shape)) + excess
    diffusion = 0.3 * np.exp(rng.normal(0.0, 0.2, shape))
    bias = 1000.0 + rng.normal(0.0, 3.0, cols)[None, :] + rng.normal(0.0, 1.5, shape)
    cells = [(t, e, i) for t in temperatures_c for e in exposures_s for i in range(n_darks)]
    at = [t for t in temperatures_c for _ in range(n_biases)]
    empty = np.zeros((0, rows, cols), np.uint16)
    sensor = SimulatedCampaign(
        empty, np.array([t for t, _, _ in cells]), np.array([e for _, e, _ in cells]), empty, np.array(at), 1.2, 4.0,
        bias, generation, diffusion,
    )  # fmt: skip
    darks = np.stack([sensor.expose(t, e, 1000 * seed + i) for t, e, i in cells])
    biases = np.stack([sensor.expose(t, 0.0, 1000 * seed + i) for i, t in enumerate(at)])
    return SimulatedCampaign(**{**vars(sensor), "darks": darks, "biases": biases})


@cache
def example_model() -> DarkModel:
    """The model of a small simulated campaign (32 x 48 pixels), for examples; fitted once."""
    made = simulate_campaign(rows=32, cols=48)
    return fit_dark_model(
        made.darks, made.temperatures_c, made.exposures_s, bias_frames=made.biases,
        bias_temperatures_c=made.bias_temperatures_c, gain_e_per_adu=made.gain_e_per_adu, camera="Simulated camera",
    )  # fmt: skip
