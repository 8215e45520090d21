"""Any header at all gives a reading or a FrameError, never anything else."""

from __future__ import annotations

import contextlib
import math
import string

from hypothesis import given
from hypothesis import strategies as st

from darkpipe.errors import FrameError
from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.headers import configuration_name, read_cards, usable_as
from darkpipe.files.values import Card

KNOWN = ["EXPTIME", "CCD-TEMP", "IMAGETYP", "SET-TEMP", "GAIN", "EGAIN", "OFFSET", "XBINNING", "CCDSUM", "DETSEC"]
KNOWN += [
    "DATE-OBS",
    "TIME-OBS",
    "PEDESTAL",
    "DATAMAX",
    "READOUTM",
    "INSTRUME",
    "NCOMBINE",
    "CALSTAT",
    "FRAME",
    "MJD-OBS",
]
KNOWN += [
    "DATE-END",
    "MJD-OBS",
    "SUBRECT",
    "BAYERPAT",
    "XBAYROFF",
    "SUBEXP",
    "OBJECT",
    "EMGAIN",
    "PICTTYPE",
    "HISTORY",
    "UT",
]
CONTENT = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=80)
    | st.from_regex(r"[+-]?[0-9]{1,4}[.,/:x -]{0,2}[0-9]{0,4} ?[a-zA-Z°%\"]{0,6}", fullmatch=True)
    | st.from_regex(
        r"[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,4}(T[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}.?[0-9]*)?", fullmatch=True
    )
)
COMMENTS = st.sampled_from(["", "[s]", "ms", "[K]", "Kelvin", "e-/ADU", "ambient", "minutes", "deg F"]) | st.text(
    max_size=40
)
ANY_CARDS = st.lists(st.builds(Card, st.sampled_from(KNOWN) | st.text(max_size=8), CONTENT, COMMENTS), max_size=12)


@given(ANY_CARDS)
def test_any_header_gives_an_info_or_a_frame_error(cards: list[Card]) -> None:
    try:
        info = read_cards(cards)
    except FrameError:
        return
    reason = usable_as(info)
    assert info.kind in ("dark", "bias", "light", "flat", "master", "other", "unknown")
    assert reason is None or len(reason) > 5
    if reason is None:
        assert info.kind in ("dark", "bias")
        assert info.exposure_s is not None
        assert 0 <= info.exposure_s < math.inf
        assert info.temperature_c is not None
        assert -273.15 < info.temperature_c <= 100.0
    name = configuration_name(info, 10, 20)
    assert set(name) <= set(string.ascii_letters + string.digits + "._+-")
    assert ".." not in name
    assert name[0] not in ".-"


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=80).map(lambda text: text.ljust(80)), max_size=10))
def test_any_text_parses_as_cards(images: list[str]) -> None:
    with contextlib.suppress(FrameError):
        cards = parse_cards(images)
        assert all(card.keyword == card.keyword.upper() for card in cards)
        read_cards(cards)
