"""Cramér–Rao expectations of a simulated campaign, from its truth alone.

The data of a pixel are its master darks minus the master bias of their temperature. Their covariance is
``Var(frame)/n`` of each cell plus the variance of the master bias, shared by all cells of a temperature; the Fisher
information of the law's parameters is ``J^T C^-1 J`` with J at the truth. (What the dependence of the variance on the
signal adds to it, a fraction 1/(2 g S) with S in ADU, is left out.) Cells in which the pixel saturates hold nothing.
Without bias frames each temperature has a free level; drift of the pedestal and of the temperature are not in it.

The importer has the folder of the tests on its path.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from simulated import Sensor, shots

Array = NDArray[np.float64]


def cells(sensor: Sensor) -> dict[tuple[float, float], int]:
    """Number of darks of each (temperature, exposure)."""
    counts: dict[tuple[float, float], int] = {}
    for shot in shots(sensor.recipe):
        if shot.kind == "dark":
            key = (shot.temperature_c, shot.exposure_s)
            counts[key] = counts.get(key, 0) + 1
    return counts


def derivatives(sensor: Sensor, temperature_c: float, exposure_s: float) -> Array:
    """dS/d(parameter) at the truth, (k, pixels): of ln A, B, gamma for the law 'exponential'; of G, D for 'physics'.

    Predictions do not depend on the choice of ln A for A.
    """
    shape = (sensor.recipe.rows, sensor.recipe.cols)
    if sensor.recipe.law == "exponential":
        signal = sensor.signal_adu(temperature_c, exposure_s) - sensor.maps["E"] * exposure_s
        rows = [signal, signal * (temperature_c - sensor.t_min_c), signal * np.log(exposure_s)]
    else:
        gap = sensor.recipe.band_gap_ev
        rates = (sensor.arrhenius(temperature_c, gap / 2, 1.5), sensor.arrhenius(temperature_c, gap, 3.0))
        rows = [np.full(shape, exposure_s * rate) for rate in rates]
    return np.stack([row.ravel() for row in rows])


def _groups(sensor: Sensor) -> Iterator[tuple[float, list[tuple[float, int]]]]:
    counts = cells(sensor)
    for temperature_c in sensor.recipe.temperatures_c:
        yield temperature_c, [(t_s, n) for (t_c, t_s), n in counts.items() if t_c == temperature_c]


def fisher_information(sensor: Sensor) -> tuple[Array, NDArray[np.int_]]:
    """Information (pixels, k, k) of the whole campaign, and the number of unsaturated cells (pixels,)."""
    r = sensor.recipe
    k, n_pixels = derivatives(sensor, r.temperatures_c[0], 1.0).shape
    information, used = np.zeros((n_pixels, k, k)), np.zeros(n_pixels, dtype=int)
    for temperature_c, exposures in _groups(sensor):
        one_bias = ((sensor.read_noise_e / r.gain_e_per_adu) ** 2 + 1 / 12).ravel()
        jacobian, weight = [], []
        for exposure_s, n in exposures:
            variance = sensor.frame_variance_adu2(temperature_c, exposure_s).ravel()
            level = (sensor.bias_adu(temperature_c) + sensor.signal_adu(temperature_c, exposure_s)).ravel()
            inside = level + 4 * np.sqrt(variance) < r.top_adu
            weight.append(inside * n / variance)
            used += inside
            jacobian.append(derivatives(sensor, temperature_c, exposure_s))
        j, w = np.stack(jacobian), np.stack(weight)  # (cells, k, pixels), (cells, pixels)
        information += np.einsum("cap,cp,cbp->pab", j, w, j, optimize=True)
        # Woodbury: the shared bias error takes away what the weighted sum of the cells knew
        total = np.einsum("cap,cp->pa", j, w, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.nan_to_num(1 / (r.n_biases / one_bias + w.sum(0)), nan=0.0, posinf=0.0)
        information -= total[:, :, None] * total[:, None, :] * loss[:, None, None]
    return information, used


def parameter_sigma(sensor: Sensor) -> Array:
    """Cramér–Rao 1 sigma of each parameter (k, rows, cols): ln A, B, gamma or G, D; NaN where there is no bound."""
    covariance = _covariance(sensor)
    sigma = np.sqrt(np.einsum("paa->ap", covariance))
    return np.asarray(sigma.reshape(-1, sensor.recipe.rows, sensor.recipe.cols))


def prediction_sigma(sensor: Sensor, temperature_c: float, exposure_s: float) -> Array:
    """Cramér–Rao 1 sigma (rows, cols), ADU, of the dark signal at any (temperature, exposure); NaN: no bound."""
    j = derivatives(sensor, temperature_c, exposure_s)
    variance = np.einsum("ap,pab,bp->p", j, _covariance(sensor), j, optimize=True)
    return np.asarray(np.sqrt(variance).reshape(sensor.recipe.rows, sensor.recipe.cols))


def expected_mae(sigma: Array) -> float:
    """Expectation of the mean absolute error over the pixels that have a bound: sqrt(2/pi) * mean(sigma)."""
    return float(np.sqrt(2 / np.pi) * np.nanmean(sigma))


def _covariance(sensor: Sensor) -> Array:
    information, used = fisher_information(sensor)
    k = information.shape[1]
    scale = np.sqrt(np.einsum("paa->pa", information))
    good = (used > k) & (scale > 0).all(1)
    scaled = np.zeros_like(information) + np.eye(k)
    scaled[good] = information[good] / (scale[good, :, None] * scale[good, None, :])
    good &= np.linalg.cond(scaled) < 1e10
    covariance = np.full(information.shape, np.nan)
    covariance[good] = np.linalg.inv(scaled[good]) / (scale[good, :, None] * scale[good, None, :])
    return covariance
