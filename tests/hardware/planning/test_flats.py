"""The exposure of flats from their headers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from hardware.planning.flats import detect_flat_exposure


def frame(path: Path, exposure_s: float | None, kind: str | None = "Flat Field", **cards: Any) -> Path:
    """A small frame as capture programs write them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu = fits.PrimaryHDU(np.full((8, 8), 20_000, np.uint16))
    if exposure_s is not None:
        hdu.header["EXPTIME"] = exposure_s
    if kind is not None:
        hdu.header["IMAGETYP"] = kind
    hdu.header.update(cards)
    hdu.writeto(path)
    return path


def test_the_exposure_that_all_flats_have(tmp_path: Path) -> None:
    paths = [frame(tmp_path / "B" / f"flat{n}.fits", 2.5) for n in range(3)]
    found = detect_flat_exposure(tmp_path)
    assert found.seconds == 2.5
    assert found.files == tuple(paths)
    assert "3 of 3 flats" in found.why


def test_of_mixed_exposures_the_most_frequent_is_taken_and_said(tmp_path: Path) -> None:
    for number, exposure_s in enumerate([0.8, 2.5, 2.5, 4.0]):
        frame(tmp_path / f"{number}.fits", exposure_s)
    found = detect_flat_exposure(tmp_path)
    assert found.seconds == 2.5
    assert "2 of 4" in found.why
    assert "1 × 0.8 s, 1 × 4 s" in found.why


def test_exposures_that_differ_by_rounding_are_one(tmp_path: Path) -> None:
    for number, exposure_s in enumerate([0.4998, 0.5, 0.5, 0.5001, 1.0, 1.0, 1.0]):
        frame(tmp_path / f"{number}.fits", exposure_s)
    found = detect_flat_exposure(tmp_path)
    assert found.seconds == 0.5
    assert len(found.files) == 4


def test_of_equally_frequent_ones_the_longest_is_taken(tmp_path: Path) -> None:
    frame(tmp_path / "a.fits", 1.0)
    frame(tmp_path / "b.fits", 3.0)
    assert detect_flat_exposure(tmp_path).seconds == 3.0


@pytest.mark.parametrize("kind", ["Light Frame", "Dark Frame", "Bias Frame", "Master Flat"])
def test_other_frames_are_no_flats(tmp_path: Path, kind: str) -> None:
    frame(tmp_path / "a.fits", 1.0, kind)
    found = detect_flat_exposure(tmp_path)
    assert found.seconds is None
    assert "no flat" in found.why


def test_where_no_frame_says_what_it_is_all_count(tmp_path: Path) -> None:
    frame(tmp_path / "a.fits", 1.5, None)
    frame(tmp_path / "b.fits", 1.5, None)
    assert detect_flat_exposure(tmp_path).seconds == 1.5
    frame(tmp_path / "c.fits", 60.0, "Light Frame")
    assert detect_flat_exposure(tmp_path).seconds is None


def test_nothing_is_assumed(tmp_path: Path) -> None:
    assert detect_flat_exposure(tmp_path).seconds is None
    missing = detect_flat_exposure(tmp_path / "nowhere")
    assert missing.seconds is None
    assert "cannot be read" in missing.why
    frame(tmp_path / "no_exposure.fits", None)
    frame(tmp_path / "zero.fits", 0.0)
    (tmp_path / "broken.fits").write_bytes(b"no FITS at all")
    found = detect_flat_exposure(tmp_path)
    assert found.seconds is None
    assert "3 of them without a readable exposure" in found.why


def test_packed_flats_are_read(tmp_path: Path) -> None:
    plain = frame(tmp_path / "a.fits", 1.25)
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert len(detect_flat_exposure(tmp_path).files) == 2
