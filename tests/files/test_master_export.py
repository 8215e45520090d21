from __future__ import annotations

import pytest
from astropy.io import fits

from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.headers import configuration_name, read_cards
from darkpipe.files.master_export import camera_cards, cards_by_name, setting_name
from darkpipe.files.products import Card
from darkpipe.files.values import Card as RawCard

HEADER = {
    "IMAGETYP": "DARK", "EXPTIME": 30.0, "CCD-TEMP": -10.0, "DATE-OBS": "2025-01-01T20:00:00", "OBJECT": "none",
    "CAM-GAIN": 100.0, "OFFSET": 50, "XBINNING": 2, "YBINNING": 1, "INSTRUME": "A camera", "XPIXSZ": 3.76,
    "PEDESTAL": -25, "ROWORDER": "TOP-DOWN", "BAYERPAT": "RGGB", "XBAYROFF": 1, "FOCALLEN": 500, "EGAIN": 0.25,
    "CHECKSUM": "x", "FILTER": "Ha",
}  # fmt: skip


def cards(changes: dict[str, object] | None = None) -> tuple[RawCard, ...]:
    header = fits.Header()
    for key, value in {**HEADER, **(changes or {})}.items():
        if value is not None:
            header[key] = value
    return tuple(parse_cards([str(card) for card in header.cards]))


def told(found: list[Card]) -> dict[str, object]:
    return {key: value for key, value, _ in found}


def test_what_holds_for_the_camera_is_taken_over_as_it_stands() -> None:
    raw = cards()
    found = told(camera_cards(raw, read_cards(raw), include_bias=True))
    assert found == {
        "CAM-GAIN": 100.0, "GAIN": 100, "OFFSET": 50, "XBINNING": 2, "YBINNING": 1, "INSTRUME": "A camera",
        "XPIXSZ": 3.76, "PEDESTAL": -25.0, "ROWORDER": "TOP-DOWN", "BAYERPAT": "RGGB", "XBAYROFF": 1, "EGAIN": 0.25,
    }  # fmt: skip
    assert isinstance(found["GAIN"], int)  # programs compare it as such
    assert "PEDESTAL" not in told(camera_cards(raw, read_cards(raw), include_bias=False))


def test_without_the_raw_frame_its_survey_tells() -> None:
    found = told(camera_cards((), read_cards(cards()), include_bias=True))
    assert found == {
        "INSTRUME": "A camera", "GAIN": 100, "OFFSET": 50, "XBINNING": 2, "YBINNING": 1, "PEDESTAL": -25.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({}, "g100_o50_b2x1", {"GAIN": 100, "OFFSET": 50, "XBINNING": 2, "YBINNING": 1}),
        (
            {"CAM-GAIN": None, "OFFSET": None, "YBINNING": 2, "ROWORDER": "BOTTOM-UP", "EMGAIN": 300},
            "em300_b2",
            {"EMGAIN": 300, "XBINNING": 2, "YBINNING": 2, "ROWORDER": "BOTTOM-UP"},
        ),
    ],
)
def test_the_name_of_a_configuration_tells_the_rest(
    changes: dict[str, object], name: str, expected: dict[str, object]
) -> None:
    configuration = configuration_name(read_cards(cards(changes)), 40, 50)
    assert setting_name(configuration) == name
    assert told(cards_by_name(configuration)) == expected


def test_a_name_that_is_none_of_ours_tells_nothing() -> None:
    assert setting_name("my model") == ""
    assert told(cards_by_name("my model")) == {"XBINNING": 1, "YBINNING": 1}
