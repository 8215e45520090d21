"""Residuals with and without order."""

from __future__ import annotations

import numpy as np
import pytest

from darkpipe.science import residuals
from darkpipe.science.residuals import smooth_terms

GRID = np.array([(t, s) for t in (-10.0, -5.0, 0.0) for s in (10.0, 30.0, 100.0, 300.0)])
T, S = GRID.T
PIXELS = 2000


def scattered(pull: np.ndarray, t: np.ndarray, s: np.ndarray) -> np.ndarray:
    """With the same relative error in all cells."""
    return residuals.scattered(pull, np.ones_like(pull), t, s)


def test_noise_large_or_small_has_no_order() -> None:
    pull = np.random.default_rng(1).normal(0, 8, (12, PIXELS))
    # six of twelve are left: one in ten has less than half of its mean square there by chance, Beta(3, 3) below 1/4
    assert scattered(pull, T, S).mean() == pytest.approx(0.897, abs=0.03)


@pytest.mark.parametrize("bend", [lambda t, s: np.log(s / 30) ** 2 - 1.5, lambda t, s: (t + 5) * np.log(s / 60)])
def test_a_bend_in_exposure_or_temperature_has(bend) -> None:
    rng = np.random.default_rng(2)
    pull = 8 * bend(T, S)[:, None] + rng.normal(0, 1, (12, PIXELS))
    assert scattered(pull, T, S).mean() < 0.01


def test_the_surface_is_one_of_relative_residuals() -> None:
    strength = (S * 2.0 ** (T / 6.5))[:, None] ** 0.25 * np.ones(PIXELS)
    bent = strength * (np.log(S / 60) ** 2)[:, None]
    assert not residuals.scattered(bent, strength, T, S).any()
    rough = strength * np.random.default_rng(5).normal(0, 1, strength.shape)
    assert (
        residuals.scattered(rough, strength, T, S).mean() > 0.75
    )  # where few cells carry them, order is easily feigned


def test_cells_that_are_missing_take_no_part() -> None:
    rng = np.random.default_rng(3)
    t, s = np.tile(T, 2), np.tile(S, 2)
    pull = np.tile(8 * (np.log(S / 30) ** 2 - 1.5), 2)[:, None] + rng.normal(0, 1, (24, 50))
    pull[5, :25] = np.nan
    pull[:, :5] = np.nan
    assert not scattered(pull, t, s).any()
    noise = rng.normal(0, 8, (24, 50))
    noise[5, :25] = np.nan
    assert scattered(noise, t, s).mean() > 0.9


def test_few_cells_do_not_tell() -> None:
    assert smooth_terms(T[:5], S[:5]) is None
    assert smooth_terms(np.zeros(8), np.ones(8)) is None
    assert not scattered(np.random.default_rng(4).normal(0, 8, (5, 10)), T[:5], S[:5]).any()


def test_one_temperature_or_one_exposure_is_a_curve() -> None:
    one = smooth_terms(np.zeros(6), np.geomspace(1, 300, 6))
    assert one is not None
    assert one.shape == (6, 3)
    both = smooth_terms(T, S)
    assert both is not None
    assert both.shape == (12, 6)
