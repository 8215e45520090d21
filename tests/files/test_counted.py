"""Pixels that are taken piece by piece, against the same that are decoded and counted at once."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.files import survey
from darkpipe.files.counted import CountedPixels
from darkpipe.files.survey import survey_frame

IMAGE = np.random.default_rng(5).normal(900.0, 30.0, (37, 41)).astype(np.uint16)
CARDS = {"IMAGETYP": "Dark Frame", "EXPTIME": 30.0, "CCD-TEMP": -10.0}


def _saved(path: Path, comments: int = 0) -> Path:
    unit = fits.PrimaryHDU(IMAGE, fits.Header(CARDS))
    for number in range(comments):
        unit.header["COMMENT"] = f"number {number}"
    unit.writeto(path)
    return path


@pytest.mark.parametrize("piece", [100, 2880, 2881, 3001, 1 << 19])
@pytest.mark.parametrize("comments", [0, 200])
def test_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, comments: int) -> None:
    """Headers end in the first piece or behind it; a piece may end within a pixel."""
    path = _saved(tmp_path / "a.fits", comments)
    monkeypatch.setattr(survey, "_PIECE_BYTES", piece)
    found = survey_frame(path)
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    other = survey_frame(packed)
    assert found.rejected is None
    assert (found.minimum, found.maximum) == (IMAGE.min(), IMAGE.max())
    assert replace(found, file_digest="", bytes=0) == replace(other, file_digest="", bytes=0)


def test_what_it_takes_on_itself(tmp_path: Path) -> None:
    """Sixteen unsigned bits whose header has come; nothing else."""
    content = _saved(tmp_path / "a.fits").read_bytes()
    for changed, done, wanted in (
        (content, len(content), True),
        (content, 2000, False),
        (content.replace(b"32768", b"    0"), len(content), False),
        (b"SIMPLE" + bytes(9000), 9006, False),
        (gzip.compress(content), 100, False),
    ):
        counted = CountedPixels()
        counted.take(memoryview(bytearray(changed)), done)
        assert (counted.layout is not None) == wanted
