"""Stretches against the formula written out for one value at a time."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from darkpipe.science import stretch as module
from darkpipe.science.stretch import Stretch


def shade(value: float, black: float, white: float, kind: str) -> int:
    """One value, by hand."""
    distance, span = value - black, white - black
    if distance >= span:
        return 255
    if kind == "linear":
        return max(0, math.floor(256 * distance / span))
    return 0 if distance <= 1.0 else min(255, math.floor(256 * math.log10(distance) / math.log10(span)))


@pytest.mark.parametrize(("black", "white", "kind"), [(5000, 30000, "log"), (-1000, 1000, "linear"), (-20, 3, "log")])
def test_every_shade_is_that_of_the_formula(black: float, white: float, kind: str) -> None:
    values = np.linspace(black - 50, white + 50, 5003)
    found = Stretch(black, white, kind).levels(values)  # type: ignore[arg-type]
    assert found.dtype == np.uint8
    assert found.tolist() == [shade(v, black, white, kind) for v in values]
    assert (np.diff(found.astype(int)) >= 0).all()


def test_negative_values_zeros_and_what_is_no_number() -> None:
    log = Stretch(0, 1000, "log")
    assert log.levels(np.array([-5.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 0, 25]
    assert log.levels(np.array([np.nan, np.inf, -np.inf])).tolist() == [0, 255, 0]
    assert log.levels(np.zeros((3, 2), np.uint16)).shape == (3, 2)
    assert np.isnan(log.fraction(np.array([np.nan])))[0]
    assert Stretch(-10, 10, "linear").levels(np.array([0], np.uint16)).tolist() == [128]


@pytest.mark.parametrize("kind", ["log", "linear"])
def test_values_come_back_from_their_fraction(kind: str) -> None:
    stretch = Stretch(100, 5000, kind)  # type: ignore[arg-type]
    for fraction in (0.1, 0.5, 1.0):
        assert float(stretch.fraction(stretch.value(fraction))) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("black", "white", "kind", "told"),
    [
        (5, 5, "linear", "black point .5. must lie below the white point .5."),
        (30000, 5000, "log", "must lie below"),
        (0, 1, "log", "more than one unit"),
        (math.nan, 1, "linear", "finite"),
        (0, math.inf, "linear", "finite"),
        (0, 10, "sqrt", "'log' or 'linear'"),
    ],
)
def test_points_that_make_no_stretch_are_refused(black: float, white: float, kind: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Stretch(black, white, kind)  # type: ignore[arg-type]


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0
