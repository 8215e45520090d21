"""Frames of the library: what they hold, and as CCDData."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, StdDevUncertainty

import darkpipe
from darkpipe import DQ, Frame
from darkpipe.errors import SettingsError

BITS = np.array([[0, DQ.HOT, DQ.UNSTABLE], [DQ.FIT_FAILED, DQ.EXTRAPOLATED, 0]], np.uint16)
IMAGE = np.array([[1.0, 2.0, 3.0], [np.nan, 5.0, 70_000.4]], np.float32)


def frame() -> Frame:
    return Frame(
        IMAGE, np.full(IMAGE.shape, 0.5, np.float32), BITS, cards=(("SCALE", 1.0, ""), ("EXPTIME", 30.0, "[s]"))
    )


def test_ccddata_keeps_everything() -> None:
    found = frame().to_ccddata()
    assert isinstance(found, CCDData)
    assert isinstance(found.uncertainty, StdDevUncertainty)
    assert found.unit == "adu"
    np.testing.assert_array_equal(found.data, IMAGE)
    np.testing.assert_array_equal(found.uncertainty.array, 0.5)
    assert found.mask.tolist() == [[False, False, True], [True, False, False]]
    np.testing.assert_array_equal(found.flags, BITS)
    assert found.meta["EXPTIME"] == 30.0
    assert frame().to_ccddata(DQ.HOT).mask.tolist() == [[False, True, False], [True, False, False]]
    found.data[:] = 0  # a copy: the frame stays
    assert frame().science[0, 0] == 1.0


def test_errors_add_up_in_ccddata() -> None:
    total = frame().to_ccddata().add(frame().to_ccddata())
    np.testing.assert_allclose(total.uncertainty.array, np.sqrt(0.5), rtol=1e-6)


def test_a_frame_without_error_and_bits() -> None:
    bare = Frame(IMAGE)
    assert bare.dq.shape == IMAGE.shape
    assert bare.flagged().sum() == 1
    assert bare.to_ccddata().uncertainty is None


def test_a_frame_is_shown_in_a_line() -> None:
    assert repr(Frame(np.ones((2, 3), np.float32))) == "<Frame 2 x 3, adu, with dq>"


def test_planes_must_fit() -> None:
    with pytest.raises(SettingsError, match="error has the shape"):
        Frame(IMAGE, np.zeros((1, 1), np.float32))


def test_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not 'int8'"):
        frame().write(tmp_path / "a.fits", "int8")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_ccddata_is_written_and_subtracted(tmp_path: Path) -> None:
    ccdproc = pytest.importorskip("ccdproc", reason="ccdproc is not there: install requirements-dev.txt")
    model = darkpipe.example_model()
    dark = model.synthesize(-7.0, 120.0)
    ccd = dark.to_ccddata()
    ccd.write(tmp_path / "dark.fits")
    again = CCDData.read(tmp_path / "dark.fits")
    np.testing.assert_array_equal(again.data, dark.science)
    np.testing.assert_array_equal(again.uncertainty.array, dark.error)
    assert (again.meta["EXPTIME"], again.meta["CCD-TEMP"], again.meta["MODEL"]) == (120.0, -7.0, dark.header["MODEL"])
    light = CCDData(dark.science + 10.0, unit="adu", meta={"EXPTIME": 120.0})
    left = ccdproc.subtract_dark(light, ccd, exposure_time="EXPTIME", exposure_unit=u.s)
    np.testing.assert_allclose(left.data[~dark.flagged()], 10.0, rtol=1e-4)
