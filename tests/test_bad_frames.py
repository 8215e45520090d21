"""The corpus itself: it is what it says, and the frames that must be accepted hold the pixels of a good one."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from bad_frames import CASES, can_read_everything, good_frame, write_all, write_case


def test_every_case_is_written_and_says_what_it_expects(tmp_path: Path) -> None:
    cases = write_all(tmp_path)
    assert set(CASES) - set(cases) <= {"unreadable"}
    assert {case.expectation for case in cases.values()} == {"accepted", "rejected", "apart", "ignored"}
    for name, case in cases.items():
        assert os.path.lexists(case.path), name
        assert case.path.is_relative_to(tmp_path)
        assert bool(case.word) == (case.expectation == "rejected"), name
        re.compile(case.word)


@pytest.mark.skipif(can_read_everything(), reason="this user can read any file")
def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        write_case(tmp_path, "unreadable").path.read_bytes()


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("unreadable", "duplicate", "duplicate_pixels")])
def test_accepted_frames_hold_a_good_image(tmp_path: Path, name: str) -> None:
    case = write_case(tmp_path, name)
    if case.expectation != "accepted":
        return
    _, image = good_frame(list(CASES).index(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy complains about filling and strange ends
        with fits.open(case.path) as hdus:
            data = next(hdu.data for hdu in hdus if hdu.data is not None)
    difference = np.abs(data.astype(float) - image)
    assert difference.shape == (32, 32)
    assert np.isnan(difference).sum() == (name == "float32_with_nan")
    assert np.nanmedian(difference) <= (1 if name == "bzero_bscale" else 0)


def test_damage_is_damage(tmp_path: Path) -> None:
    for name in ("not_fits", "text", "zero_byte", "link_to_itself", "link_to_nothing"):
        case = write_case(tmp_path, name)
        with pytest.raises(OSError, match=r".+"):
            fits.getdata(case.path)
