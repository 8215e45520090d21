"""Exposure, temperature and kind of frames from made-up headers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_headers import header_of, info_of

from darkpipe.errors import FrameError
from darkpipe.files import values
from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.frame_kinds import kind_of
from darkpipe.files.headers import read_cards, read_info, usable_as
from darkpipe.files.values import Card

# --- exposure


@pytest.mark.parametrize(
    ("value", "comment", "seconds"),
    [
        ("60.0", "", 60.0),
        (" +1.2E+003", "", 1200.0),
        ("1,5", "", 1.5),
        ("30 s", "", 30.0),
        ("500 ms", "", 0.5),
        ("1/100", "", 0.01),
        (500, "[ms] exposure", 0.5),
        (500.0, "Exposure time in milliseconds", 0.5),
        (250000, "exposure (us)", 0.25),
        (2, "[min] exposure", 120.0),
        (2, "in minutes", 120.0),
        (60, "Exposure time in seconds (not ms)", 60.0),
        (3.4e-05, "[s]", 3.4e-05),
        (1e-32, "", 1e-32),
        (0, "", 0.0),
    ],
)
def test_exposure_in_its_many_forms(value: object, comment: str, seconds: float) -> None:
    assert info_of(EXPTIME=(value, comment)).exposure_s == pytest.approx(seconds, rel=1e-12, abs=0)


@pytest.mark.parametrize("value", ["long", "", -5.0, 1e12, True, "60 parsecs", "5 of 7"])
def test_nonsense_for_an_exposure_is_refused_by_name(value: object) -> None:
    if value == "":
        assert "EXPTIME" in (usable_as(info_of(EXPTIME=value)) or "")
        return
    with pytest.raises(FrameError, match="EXPTIME"):
        info_of(EXPTIME=value)


@pytest.mark.parametrize("key", ["EXPOSURE", "EXP", "EXP_TIME", "EXPOSED", "XPOSURE", "DARKTIME"])
def test_other_keywords_of_the_exposure(key: str) -> None:
    header = header_of(EXPTIME=None)
    header[key] = 12.5
    assert read_info(header).exposure_s == 12.5


def test_the_left_keyword_is_trusted() -> None:
    assert info_of(EXPTIME=60.0, EXPOSURE=10.0, DARKTIME=0.0).exposure_s == 60.0


def test_an_unreadable_keyword_gives_way_to_a_readable_one() -> None:
    info = info_of(EXPTIME="??", EXPOSURE=10.0)
    assert info.exposure_s == 10.0
    assert any("EXPTIME = '??'" in note for note in info.notes)


def test_lower_case_and_hierarch_keywords() -> None:
    cards = parse_cards(
        [
            "HIERARCH exposure = 20.0 / [s]".ljust(80),
            "HIERARCH temperature = '-7.5 C'".ljust(80),
            "imagetyp= 'dark'".ljust(80),
        ]
    )
    info = read_cards(cards)
    assert (info.kind, info.exposure_s, info.temperature_c) == ("dark", 20.0, -7.5)


# --- temperature


@pytest.mark.parametrize(
    ("value", "comment", "celsius"),
    [
        ("43 C", "", 43.0),
        ("-10,5", "", -10.5),
        ("-20.0 degC", "", -20.0),
        ("-20°C", "", -20.0),
        (263.15, "", -10.0),
        (180.2, "CCD Cu block temperature", -92.95),
        (77.0, "[K] detector", -196.15),
        (271.0, "CCD Camera Temperature in Kelvin, =-1 if no data", -2.15),
        ("263.15 K", "", -10.0),
        (14.0, "degrees F", -10.0),
        (0.0, "", 0.0),
        (-0.0, "", 0.0),
        (-15, "Camera cooler temperature", -15.0),
        (100, "", 100.0),
    ],
)
def test_temperature_in_its_many_forms(value: object, comment: str, celsius: float) -> None:
    cards = [Card("IMAGETYP", "dark"), Card("EXPTIME", 60.0), Card("CCD-TEMP", value, comment)]
    info = read_cards(cards)
    assert info.temperature_c == pytest.approx(celsius, abs=1e-9)
    assert not info.temperature_assumed


@pytest.mark.parametrize(
    ("value", "comment"),
    [
        *[(value, "") for value in (999, -999.0, -273.15, 9999, "-999", "warm", 120.0, 500.0, 1e300, -300, True)],
        *[(value, "") for value in (math.nan, math.inf, "NaN", "-10 V")],
        (-1, "Kelvin, =-1 if no data"),
        (15.0, "ambient temperature"),
        (15.0, "[degC] focuser"),
        (35.0, "CCD heat sink"),
    ],
)
def test_no_temperature_is_refused_by_name(value: object, comment: str) -> None:
    with pytest.raises(FrameError, match="CCD-TEMP"):
        read_cards([Card("IMAGETYP", "dark"), Card("EXPTIME", 60.0), Card("CCD-TEMP", value, comment)])


@pytest.mark.parametrize("key", ["FOCTEMP", "FOCUSTEM", "AMBTEMP", "TUBETEMP", "WMSTEMP", "TEMPCON", "HSINKT"])
def test_temperatures_of_other_things_are_never_taken(key: str) -> None:
    header = header_of(CCD_TEMP=None)
    header[key] = 12.0
    info = read_info(header)
    assert info.temperature_c is None
    assert "no temperature" in (usable_as(info) or "")


def test_a_set_point_alone_is_used_and_said() -> None:
    info = info_of(CCD_TEMP=None, SET_TEMP=0.0)
    assert (info.temperature_c, info.temperature_assumed, info.set_point_c) == (0.0, True, 0.0)
    assert any("SET-TEMP" in note for note in info.notes)
    assert usable_as(info) is None


def test_a_set_point_replaces_a_sentinel() -> None:
    info = info_of(CCD_TEMP=-999.0, SET_TEMP=-10.0)
    assert (info.temperature_c, info.temperature_assumed) == (-10.0, True)
    assert any("CCD-TEMP = -999" in note for note in info.notes)


def test_a_good_keyword_further_right_replaces_a_sentinel() -> None:
    info = info_of(CCD_TEMP=-273.15, TEMPERAT="-10.0")
    assert (info.temperature_c, info.temperature_assumed) == (-10.0, False)


@pytest.mark.parametrize("key", ["EXPTIME", "CCD-TEMP", "IMAGETYP"])
def test_keywords_that_contradict_themselves_are_refused(key: str) -> None:
    header = header_of()
    header.append((key, "Flat" if key == "IMAGETYP" else 33.0), end=True)
    with pytest.raises(FrameError, match=f"{key}.*more than once"):
        read_info(header)


def test_keywords_that_repeat_themselves_are_fine() -> None:
    header = header_of()
    header.append(("EXPTIME", "60.0"), end=True)
    header.append(("CCD-TEMP", -10), end=True)
    assert read_info(header).exposure_s == 60.0


@given(st.floats(-120.0, 60.0))
def test_kelvin_and_fahrenheit_come_back(celsius: float) -> None:
    for value, comment in ((celsius + 273.15, "[K]"), (celsius * 1.8 + 32.0, "deg F"), (celsius, "[degC]")):
        assert values.celsius_of(value, comment)[0] == pytest.approx(celsius, abs=1e-8)
        assert values.celsius_of(repr(value), comment)[0] == pytest.approx(celsius, abs=1e-8)


@given(st.floats(1e-6, 9e5))
def test_units_of_time_come_back(seconds: float) -> None:
    forms = ((seconds * 1e3, "ms"), (seconds * 1e6, "us"), (seconds / 60.0, "min"), (seconds, "s"))
    for value, unit in forms:
        assert values.seconds_of(value, f"[{unit}] exposure")[0] == pytest.approx(seconds, rel=1e-12)
        assert values.seconds_of(f"{value!r} {unit}")[0] == pytest.approx(seconds, rel=1e-12)


# --- kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *[(text, "dark") for text in ("Dark Frame", "DARK", "dark", "Darks", "DarkFrame", "Dark Flat", "FLATDARK")],
        *[(text, "bias") for text in ("Bias Frame", "BIAS", "zero", "Zero Frame", "Offset", "bias_frame")],
        *[(text, "light") for text in ("Light Frame", "LIGHT", "object", "Science", "SPECTRUM")],
        *[(text, "flat") for text in ("Flat Field", "FLAT", "SkyFlat", "Dome flat", "flat frame", "Twilight Flats")],
        *[(text, "master") for text in ("Master Dark", "masterdark", "MASTER_BIAS", "stacked dark", "dark corrected")],
        *[(text, "other") for text in ("Neon", "arc", "comp")],
        *[(text, None) for text in ("", " ", "unknown", "frame", "0", "12")],
    ],
)
def test_kinds_by_their_words(text: str, kind: str | None) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    "key", ["IMAGETYP", "IMAGETYPE", "FRAME", "FRAMETYP", "OBSTYPE", "IMG_TYPE", "PICTTYPE", "CCDSFPT"]
)
def test_keywords_of_the_type(key: str) -> None:
    cards = [Card(key, "Bias Frame"), Card("EXPTIME", 0.001), Card("CCD-TEMP", -10.0)]
    info = read_cards(cards)
    assert (info.kind, info.kind_assumed) == ("bias", False)


@pytest.mark.parametrize(("number", "kind"), [(1, "light"), (2, "bias"), (3, "dark"), (4, "flat")])
def test_picture_types_by_number(number: int, kind: str) -> None:
    exposure = 0.0 if kind == "bias" else 5.0
    assert info_of(IMAGETYP=None, PICTTYPE=number, EXPTIME=exposure).kind == kind


def test_frame_that_holds_a_date_is_no_type() -> None:
    info = info_of(IMAGETYP=None, FRAME="2019-12-23T20:02:22.000")
    assert (info.kind, info.kind_assumed, info.date_obs) == ("dark", True, "2019-12-23T20:02:22.000")


@pytest.mark.parametrize(("exposure", "kind"), [(0.0, "bias"), (0.01, "bias"), (0.011, "dark"), (1e-32, "bias")])
def test_short_darks_are_biases(exposure: float, kind: str) -> None:
    assert info_of(EXPTIME=exposure).kind == kind
    untyped = info_of(EXPTIME=exposure, IMAGETYP=None)
    assert (untyped.kind, untyped.kind_assumed) == (kind, True)


def test_the_limit_of_biases_is_a_setting() -> None:
    assert read_info(header_of(EXPTIME=0.5), bias_max_exposure_s=1.0).kind == "bias"


def test_a_bias_without_exposure_is_taken_for_zero_seconds() -> None:
    info = info_of(IMAGETYP="Bias", EXPTIME=None)
    assert info.exposure_s == 0.0
    assert usable_as(info) is None


def test_a_long_bias_is_mislabelled() -> None:
    reason = usable_as(info_of(IMAGETYP="Bias Frame", EXPTIME=300.0))
    assert reason is not None
    assert "IMAGETYP" in reason
    assert "EXPTIME" in reason


@pytest.mark.parametrize(("target", "kind"), [("He-dark", "dark"), ("", "dark"), ("M 31", "light"), ("bias", "bias")])
def test_without_a_type_the_object_tells(target: str, kind: str) -> None:
    exposure = 0.0 if kind == "bias" else 5.0
    info = info_of(IMAGETYP=None, OBJECT=target, EXPTIME=exposure)
    assert (info.kind, info.kind_assumed) == (kind, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("NCOMBINE", 20), ("STACKCNT", 2), ("SNAPSHOT", 5), ("NCOADDS", "4"), ("SUBEXP", 8.0)],
        *[("CALSTAT", "BD"), ("ZEROCOR", "Feb 12 Zero is z.fits"), ("DARKCORR", "COMPLETE"), ("CALSTAT", True)],
        *[
            ("CREATOR", "darkpipe 0.1.0"),
            ("IMAGETYP", "Master Dark"),
            ("HISTORY", "Dark Subtraction (Dark 10, 4864 x 3232)"),
        ],
    ],
)
def test_masters_and_calibrated_frames_are_refused(key: str, value: object) -> None:
    info = info_of(**{key: value})
    assert info.kind == "master"
    assert key in (usable_as(info) or "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("NCOMBINE", 1), ("SNAPSHOT", 1), ("STACKCNT", 0), ("CALSTAT", ""), ("CALSTAT", "none"), ("CALSTAT", False)],
        *[("CREATOR", "NINA 3.1"), ("CREATOR", "darkpipeline of somebody else"), ("CREATOR", 7)],
        *[("DARKCORR", "OMIT"), ("DARKCORR", "PERFORM"), ("SUBEXP", 60.0), ("HISTORY", "cropped")],
    ],
)
def test_marks_of_raw_frames(key: str, value: object) -> None:
    assert usable_as(info_of(**{key: value})) is None


def test_lights_are_never_raised_for() -> None:
    info = info_of(IMAGETYP="Light", EXPTIME="long", CCD_TEMP="??")
    assert "IMAGETYP" in (usable_as(info) or "")
