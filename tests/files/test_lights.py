"""Light frames: their pixels, and the cards that stay."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import FrameError
from darkpipe.files.lights import describe, kept_cards, native, read_light
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.values import Card


def raw_frame(path: Path, **cards: object) -> np.ndarray:
    image = np.random.default_rng(1).integers(900, 5000, (12, 16)).astype(np.uint16)
    header = fits.Header()
    header["IMAGETYP"], header["EXPTIME"], header["CCD-TEMP"] = "Light Frame", 30.0, -5.0
    for key, value in cards.items():
        header[key] = value
    fits.PrimaryHDU(image, header).writeto(path)
    return image


def test_pixels_are_those_of_the_file_packed_or_not(tmp_path: Path) -> None:
    image = raw_frame(tmp_path / "a.fits")
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    fits.CompImageHDU(image).writeto(tmp_path / "c.fits.fz")
    for name in ("a.fits", "b.fits.gz", "c.fits.fz"):
        assert np.array_equal(read_light(tmp_path / name).raw, image), name
    with pytest.raises(FrameError, match="cannot be read"):
        read_light(tmp_path / "none.fits")
    (tmp_path / "bad.fits").write_bytes(b"no frame")
    with pytest.raises(FrameError, match=r"bad\.fits"):
        read_light(tmp_path / "bad.fits")
    np.testing.assert_array_equal(native(image, 16.0, -100.0), image.astype(np.float32) / 16 - 100)


def test_cards_of_the_raw_frame_stay_but_for_those_of_its_pixels(tmp_path: Path) -> None:
    raw_frame(tmp_path / "a.fits", OBJECT="M 31", PEDESTAL=-100, CTYPE1="RA---TAN", CD1_2=0.1, DATAMAX=65535)
    with fits.open(tmp_path / "a.fits", mode="update") as hdus:
        hdus[0].header["HISTORY"] = "slewed"
        hdus[0].header["HISTORY"] = "focused"
        hdus[0].header["HIERARCH ESO TEL ALT"] = 45.5
        hdus[0].header["LONGTEXT"] = "x" * 100
    kept, coordinates = kept_cards(read_light(tmp_path / "a.fits").cards, {"EXPTIME"})
    names = [name for name, _, _ in kept]
    assert {"OBJECT", "IMAGETYP", "CCD-TEMP", "HIERARCH ESO TEL ALT", "LONGTEXT"} <= set(names)
    assert not {"EXPTIME", "PEDESTAL", "BZERO", "BSCALE", "BITPIX", "NAXIS", "NAXIS1", "SIMPLE", "DATAMAX"} & set(names)
    assert [value for name, value, _ in kept if name == "HISTORY"] == ["slewed", "focused"]
    assert {name for name, _, _ in coordinates} == {"CTYPE1", "CD1_2"}
    plane = np.zeros((4, 5), np.float32)
    write_frame(tmp_path / "out.fits", Frame(plane, header=kept, image_header=coordinates))
    with fits.open(tmp_path / "out.fits", checksum=True) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["OBJECT"] == "M 31"
        assert hdus[0].header["ESO TEL ALT"] == 45.5
        assert hdus[0].header["LONGTEXT"] == "x" * 100
        assert list(hdus[0].header["HISTORY"]) == ["slewed", "focused"]
        assert hdus["SCI"].header["CTYPE1"] == "RA---TAN"


def test_cards_that_fits_does_not_allow_are_dropped() -> None:
    odd = [Card("GOOD", 1), Card("", 2), Card("NOTHING", None), Card("NOTNUM", float("nan")), Card("BAD KEY", 1)]
    odd.append(Card("TOO.LONG.A.NAME", "y" * 90))
    kept, _ = kept_cards(odd, ())
    assert ("GOOD", 1, "") in kept
    assert not {"", "NOTHING", "NOTNUM"} & {name for name, _, _ in kept}
    header = fits.Header()
    for name, value, comment in kept:
        header[name] = (value, comment)
    assert header["GOOD"] == 1


def test_a_header_is_described_without_its_pixels(tmp_path: Path) -> None:
    raw_frame(tmp_path / "a.fits", GAIN=100, INSTRUME="Cam")
    found = describe(tmp_path / "a.fits")
    assert (found.info.kind, found.info.exposure_s, found.info.temperature_c) == ("light", 30.0, -5.0)
    assert found.configuration == "Cam_g100_b1_12x16"
    raw_frame(tmp_path / "b.fits", INTTIME=77.0)
    assert describe(tmp_path / "b.fits", {"exposure": ["INTTIME"]}).info.exposure_s == 77.0
    raw_frame(tmp_path / "c.fits", CALSTAT="BDF")
    with pytest.raises(FrameError, match="calibrated"):
        describe(tmp_path / "c.fits")
    with pytest.raises(FrameError, match="cannot be read"):
        describe(tmp_path / "none.fits")
