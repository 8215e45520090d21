"""Biases on disk: masters, lines, levels, and models made elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import ProductError
from darkpipe.files.bias_files import (
    BiasSource,
    adopt_bias_model,
    bias_of_model,
    find_bias_model,
    line_of_levels,
    line_through,
)
from darkpipe.files.products import Frame, write_frame
from darkpipe.science.flags import DQ

SHAPE = (4, 5)
B0 = np.arange(20, dtype=np.float32).reshape(SHAPE) + 1000


def master(path: Path, temperature_c: float, error: float = 0.5) -> Path:
    """A master bias on the line B0 + 0.3 (T + 5)."""
    value = (B0 + 0.3 * (temperature_c + 5)).astype(np.float32)
    cards = [("CCD-TEMP", temperature_c, "[deg C]")]
    planes = (np.full(SHAPE, error, np.float32), np.zeros(SHAPE, np.uint16))
    write_frame(path, Frame(value, *planes, header=cards))
    return path


def test_a_line_goes_through_masters(tmp_path: Path) -> None:
    paths = [master(tmp_path / f"{t}.fits", t) for t in (-10.0, -5.0, 0.0)]
    write_frame(tmp_path / "line.fits", line_through(paths, [-10.0, -5.0, 0.0], -5.0, ["a"]))
    value, error, bits = BiasSource(tmp_path / "line.fits", -2.0).read()
    np.testing.assert_allclose(value, B0 + 0.9, atol=1e-3)
    assert error[0, 0] == pytest.approx(np.hypot(0.5 / np.sqrt(3), 3 * 0.5 / np.sqrt(50)), rel=1e-3)
    assert not bits.any()
    rows = BiasSource(tmp_path / "line.fits", -2.0).read(slice(1, 3))[0]
    np.testing.assert_array_equal(rows, value[1:3])


def test_a_master_without_a_value_is_no_bias(tmp_path: Path) -> None:
    value = B0.copy()
    value[2, 2] = np.nan
    write_frame(tmp_path / "m.fits", Frame(value, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.uint16)))
    _, error, bits = BiasSource(tmp_path / "m.fits").read()
    assert np.isinf(error[2, 2])
    assert bits[2, 2] & DQ.NO_BIAS
    assert np.isfinite(error).sum() == 19


def test_a_single_master_becomes_a_line_without_slope(tmp_path: Path) -> None:
    bias_of_model(master(tmp_path / "m.fits", -10.0), "m.fits", line=False).write(tmp_path / "line.fits")
    for temperature in (-30.0, 10.0):
        value, error, _ = BiasSource(tmp_path / "line.fits", temperature).read()
        np.testing.assert_allclose(value, B0 - 1.5, atol=1e-3)
        np.testing.assert_allclose(error, 0.5)


@pytest.mark.parametrize("pattern", ["bias_{}_map.fits", "{}_map.fits", "bias_{}.fits", "{}.fits"])
def test_two_maps_in_a_folder_are_a_bias_model(tmp_path: Path, pattern: str) -> None:
    for name, image in (("b0", B0), ("b1", np.full(SHAPE, 0.3, np.float32))):
        hdu = fits.PrimaryHDU(image)
        hdu.header["T_REF"] = -5.0
        hdu.writeto(tmp_path / pattern.format(name))
    given = find_bias_model(tmp_path)
    assert [p.name for p in given] == [pattern.format("b0"), pattern.format("b1")]
    adopt_bias_model(given, tmp_path / "out" / "bias_model.fits")
    value, error, _ = BiasSource(tmp_path / "out" / "bias_model.fits", 5.0).read()
    np.testing.assert_allclose(value, B0 + 3.0, atol=1e-3)
    assert not error.any()
    # and what we wrote is itself a bias model
    assert find_bias_model(tmp_path / "out") == [tmp_path / "out" / "bias_model.fits"]
    adopt_bias_model([tmp_path / "out" / "bias_model.fits"], tmp_path / "again.fits")
    np.testing.assert_array_equal(BiasSource(tmp_path / "again.fits", 5.0).read()[0], value)


def test_a_wrong_bias_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="no bias model"):
        find_bias_model(tmp_path)
    fits.PrimaryHDU(B0).writeto(tmp_path / "b0.fits")
    fits.PrimaryHDU(B0[:2]).writeto(tmp_path / "b1.fits")
    with pytest.raises(ProductError, match="shapes"):
        adopt_bias_model(find_bias_model(tmp_path), tmp_path / "x.fits")
    with pytest.raises(ProductError, match=r"B0|B1"):
        adopt_bias_model([tmp_path / "b0.fits"], tmp_path / "x.fits")


def test_fitted_levels_become_a_line_in_temperature(tmp_path: Path) -> None:
    temperatures = [-10.0, 0.0]
    levels = np.stack([B0 + 0.3 * (t + 5) for t in temperatures]).astype(np.float32)
    write_frame(tmp_path / "l.fits", line_of_levels(levels, np.full((2, *SHAPE), 0.25, np.float32), temperatures))
    value, error, _ = BiasSource(tmp_path / "l.fits", -10.0).read()
    np.testing.assert_allclose(value, levels[0], atol=1e-3)
    np.testing.assert_allclose(error, 0.5, rtol=1e-3)
    write_frame(tmp_path / "one.fits", line_of_levels(levels[:1], np.full((1, *SHAPE), 0.25, np.float32), [-10.0]))
    np.testing.assert_allclose(BiasSource(tmp_path / "one.fits", 20.0).read()[0], levels[0])
