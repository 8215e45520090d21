"""Cards that are put together here against a header of astropy that was filled in the same way."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from darkpipe.files.fits_cards import Cards, card_text

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=100)
VALUES = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXTS,
    st.sampled_from([1, 1.0, True, 0, 0.0, -0.0, False, "", "AXIS.1: 2", "it's", 1e22, 1e-7]),
)  # fmt: skip
NAMES = st.sampled_from(["A", "B", "DP1", "CCD-TEMP", "HIERARCH a b", "COMMENT", "HISTORY", "HISTORY", "LONG_ONE"])
SETTINGS = st.lists(st.tuples(NAMES, VALUES, st.sampled_from(["", "[s]", "what it is"])), max_size=12)


def by_astropy(settings: list[tuple[str, Any, str]]) -> str:
    header = fits.Header()
    for keyword, value, comment in settings:
        header[keyword] = (value, comment)
    return str(header.tostring(endcard=False, padding=False))


@given(SETTINGS)
def test_the_text_is_that_of_astropy(settings: list[tuple[str, Any, str]]) -> None:
    cards = Cards()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of comments that are cut
        for keyword, value, comment in settings:
            cards.set(keyword, value, comment)
        try:
            expected = by_astropy(settings)
        except Exception as error:  # what astropy refuses has no common base
            with pytest.raises(type(error)):
                cards.text()
            return
        assert cards.text() == expected
        assert cards.text() == expected  # now that each card was written before


def test_numbers_that_are_equal_are_written_apart() -> None:
    written = [card_text("A", value, "") for value in (1, 1.0, True, 0.0, -0.0, 0, False)]
    assert len(set(written)) == 7
    assert written[2].rstrip().endswith("T")
    assert all(len(text) == 80 for text in written)
