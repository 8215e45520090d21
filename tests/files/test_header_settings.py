"""Settings of the camera, dates, odd cards and names of configurations from made-up headers."""

from __future__ import annotations

import pickle
import string

import pytest
from astropy.io import fits
from made_headers import header_of, info_of

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.headers import FrameInfo, configuration_name, read_cards, read_info
from darkpipe.files.values import Card

# --- settings of the camera


@pytest.mark.parametrize(
    ("cards", "setting", "egain"),
    [
        ({"GAIN": 120, "EGAIN": 1.002}, 120.0, 1.002),
        ({"GAIN": "100"}, 100.0, None),
        ({"GAIN": (1.9, "e-/ADU")}, None, 1.9),
        ({"GAIN": (2.3, "[electrons/count] Pixel gain")}, None, 2.3),
        ({"GAIN": 1.6}, 1.6, None),  # may be e-/ADU: never taken for it
        ({"GAIN": "1.6"}, 1.6, None),
        ({"GAIN": 1.6, "EGAIN": 1.6}, None, 1.6),
        ({"GAIN": -1, "EGAIN": "3.62"}, None, 3.62),
        ({"CAM_GAIN": 100}, 100.0, None),
        ({"ISOSPEED": "ISO 800"}, 800.0, None),
        ({"E_GAIN": 0.46}, None, 0.46),
        ({"EGAIN": 0.0}, None, None),
        ({"EGAIN": "NaN", "CVF": 0.25}, None, 0.25),
    ],
)
def test_gain_setting_and_conversion_gain_are_never_mixed(
    cards: dict[str, object], setting: float | None, egain: float | None
) -> None:
    info = info_of(**cards)
    assert (info.gain_setting, info.egain_e_per_adu) == (setting, egain)


def test_a_doubtful_gain_is_said() -> None:
    assert any("GAIN = '1.6' may be e-/ADU" in note for note in info_of(GAIN="1.6").notes)


def test_a_gain_in_words_is_part_of_the_mode() -> None:
    info = info_of(GAIN="High", READOUTM="Fast", USBLIMIT=40)
    assert (info.gain_setting, info.readout_mode) == (None, "Fast High usb40")


def test_offset_and_pedestal_are_different_things() -> None:
    info = info_of(OFFSET=50, PEDESTAL=-100)
    assert (info.offset_setting, info.pedestal_adu) == (50.0, -100.0)
    assert info_of(BLKLEVEL="8").offset_setting == 8.0
    assert info_of(OFFSET=-1).offset_setting is None
    assert info_of(PEDESTAL="none").pedestal_adu == 0.0


def test_em_gain() -> None:
    assert info_of(EMGAIN=300).em_gain == 300.0
    assert read_cards([Card("EXPTIME", 5), Card("EMGAIN_C", 100.0), Card("EMGAIN_A", 98.5)]).em_gain == 100.0
    assert info_of(EMREALGN=0).em_gain is None


@pytest.mark.parametrize(
    ("cards", "binning"),
    [
        ({}, (1, 1)),
        ({"XBINNING": 2, "YBINNING": 3}, (2, 3)),
        ({"XBINNING": "2", "YBINNING": "2"}, (2, 2)),
        ({"CCDXBIN": 1, "CCDYBIN": 2}, (1, 2)),
        ({"BINX": 4, "BINY": 4}, (4, 4)),
        ({"HBIN": 1, "VBIN": 8}, (1, 8)),
        ({"XBINNING": 2}, (2, 2)),
        ({"CCDSUM": "2 4"}, (2, 4)),
        ({"BINNING": "2*2"}, (2, 2)),
        ({"BINNING": "3x3"}, (3, 3)),
        ({"BINNING": 2}, (2, 2)),
        ({"XBINNING": "auto", "CCDSUM": "2 2"}, (2, 2)),
    ],
)
def test_binning(cards: dict[str, object], binning: tuple[int, int]) -> None:
    assert info_of(**cards).binning == binning


@pytest.mark.parametrize("cards", [{"XBINNING": 0, "YBINNING": 0}, {"CCDSUM": "two"}, {"BINNING": "1.5"}])
def test_nonsense_for_a_binning_is_refused_by_name(cards: dict[str, object]) -> None:
    with pytest.raises(FrameError, match=next(iter(cards))):
        info_of(**cards)


def test_subframes() -> None:
    assert info_of(XORGSUBF=128, YORGSUBF="64").subframe == (128, 64)
    assert info_of(DETSEC="[101:612,201:712]").subframe == (100, 200)
    assert info_of(DETSEC="UNKNOWN").subframe == (0, 0)
    assert info_of(SUBRECT="101, 700, 612, 201").subframe == (100, 200)


def test_colour_orientation_and_saturation() -> None:
    info = info_of(BAYERPAT="rggb", XBAYROFF=1, YBAYROFF=0, ROWORDER="bottom-up")
    assert (info.bayer, info.roworder) == ("RGGB+1+0", "BOTTOM-UP")
    assert info_of(COLORTYP="MONO").bayer == ""
    assert info_of(DATAMAX=5321).saturation_adu is None  # the image's own maximum
    assert info_of(DATAMAX=4095).saturation_adu == 4095
    assert info_of(SATURATE=60000.0).saturation_adu == 60000


# --- time


@pytest.mark.parametrize(
    ("cards", "date"),
    [
        ({"DATE_OBS": "2019-05-06", "TIME_OBS": "23:49:21"}, "2019-05-06T23:49:21.000"),
        ({"DATE_OBS": "2019-05-06"}, "2019-05-06"),
        ({"DATE_OBS": "2020-05-30T00:22:49.0968820"}, "2020-05-30T00:22:49.097"),
        ({"DATE_OBS": "2017-12-19T18:33:43.317-0700"}, "2017-12-20T01:33:43.317"),
        ({"DATE_OBS": "2017-12-19T18:33:43Z"}, "2017-12-19T18:33:43.000"),
        ({"DATE_OBS": "04/07/18", "TIME_OBS": "14:03:03"}, "2018-07-04T14:03:03.000"),
        ({"DATE_OBS": "25/12/97"}, "1997-12-25"),
        ({"DATE_OBS": "12/25/2018"}, "2018-12-25"),
        ({"DATE_OBS": "2019-05-06 23:49:21"}, "2019-05-06T23:49:21.000"),
        ({"DATE_OBS": "2019-05-06T23:59:59.9999"}, "2019-05-07T00:00:00.000"),
        ({"DATE_OBS": "0001-01-01T00:00:00"}, ""),
        ({"DATE_OBS": "0001-01-01T00:00:00", "MJD_OBS": 58607.5}, "2019-05-04T12:00:00.000"),
        ({"JD": 2458608.0}, "2019-05-04T12:00:00.000"),
        ({"DATE_END": "2019-05-06T00:00:30"}, "2019-05-05T23:59:30.000"),
        ({"DATE_OBS": "yesterday"}, ""),
        ({"DATE_OBS": 20190506}, ""),
        ({}, ""),
    ],
)
def test_dates(cards: dict[str, object], date: str) -> None:
    assert info_of(**cards).date_obs == date


# --- synonyms, odd headers


def test_synonyms_are_trusted_first() -> None:
    header = header_of(MYTEMP=-33.0, MYEXP="2000")
    info = read_info(header, synonyms={"temperature": ["mytemp"], "exposure": ["MYEXP"]})
    assert (info.temperature_c, info.exposure_s) == (-33.0, 2000.0)


def test_synonyms_of_unknown_quantities_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"colour.*Known are exposure"):
        read_info(header_of(), synonyms={"colour": ["X"]})


def test_cards_that_astropy_cannot_parse_do_no_harm() -> None:
    raw = header_of().tostring().replace("END".ljust(80), "")
    raw += "BROKEN  = 'no end quote".ljust(80) + "EXPOSURE= 1.2.3".ljust(80) + "INSTRUME= 'CAM \x07 ".ljust(80)
    header = fits.Header.fromstring(raw)
    assert read_info(header).exposure_s == 60.0


def test_numbers_beyond_all_bounds() -> None:
    cards = [Card("IMAGETYP", "dark"), Card("EXPTIME", 10**400), Card("CCD-TEMP", -10.0), Card("GAIN", 10**5000)]
    with pytest.raises(FrameError, match="EXPTIME"):
        read_cards(cards)


def test_parsing_of_cards() -> None:
    cards = parse_cards(
        [
            "NAME    = 'O''Neill  '         / a man".ljust(80),
            "LONG    = 'one &'".ljust(80),
            "CONTINUE  'two'   / both".ljust(80),
            "REAL    = 1.5D-3".ljust(80),
            "FLAG    =                    T / yes".ljust(80),
            "EMPTY   =".ljust(80),
            "HIERARCH ESO DET X = 5 / long".ljust(80),
            "COMMENT = not a value".ljust(80),
            "HISTORY some words".ljust(80),
        ]
    )
    assert cards[0] == Card("NAME", "O'Neill", "a man")
    assert cards[1] == Card("LONG", "one two", "both")
    assert [card.value for card in cards[2:5]] == [1.5e-3, True, None]
    assert cards[5] == Card("ESO DET X", 5, "long")
    assert cards[7] == Card("HISTORY", "some words")


# --- names of configurations


def test_name_of_a_configuration() -> None:
    info = FrameInfo("dark", camera="ASI2600", gain_setting=100.0, offset_setting=50.0)
    assert configuration_name(info, 4176, 6248) == "ASI2600_g100_o50_b1_4176x6248"
    sbig = FrameInfo("dark", camera="SBIG STL-1001 3 CCD Camera", binning=(1, 2), subframe=(8, 16))
    assert configuration_name(sbig, 512, 512) == "SBIG-STL-1001-3-CCD-Camera_b1x2_at8x16_512x512"
    assert configuration_name(FrameInfo("bias"), 4, 5) == "b1_4x5"


def test_whatever_tells_configurations_apart_is_in_the_name() -> None:
    base = FrameInfo("dark", camera="ASI 2600", gain_setting=100.0)
    fields: list[dict[str, object]] = [
        *[
            {"camera": text}
            for text in ("ASI 1600", "ASI/2600", "ASI:2600", "äsi", "asi", "../..", "", "x" * 40, "x" * 41)
        ],
        *[{"serial": "A1"}, {"gain_setting": None}, {"gain_setting": 100.5}, {"em_gain": 100.0}],
        *[{"offset_setting": 100.0}, {"binning": (2, 2)}, {"binning": (2, 1)}, {"binning": (1, 2)}],
        *[{"subframe": (1, 0)}, {"subframe": (0, 1)}, {"roworder": "BOTTOM-UP"}, {"flip": "Flip/Rotate 90 CW"}],
        *[{"readout_mode": mode} for mode in ("High Gain", "High/Gain", "Low Gain", "usb40")],
    ]
    names = [configuration_name(base, 100, 200)] + [
        configuration_name(FrameInfo(**({"kind": "dark", "camera": "ASI 2600", "gain_setting": 100.0} | f)), 100, 200)  # type: ignore[arg-type]
        for f in fields
    ]
    names += [configuration_name(base, 200, 100)]
    assert len({name.casefold() for name in names}) >= len(names) - 1  # 'äsi' and 'asi' differ by their hash
    assert len(set(names)) == len(names)
    assert all(set(name) <= set(string.ascii_letters + string.digits + "._+-") and ".." not in name for name in names)
    assert max(map(len, names)) < 80


@pytest.mark.parametrize(
    "same",
    [{"exposure_s": 5.0}, {"temperature_c": 3.0}, {"kind": "bias"}, {"filter_name": "R"}, {"egain_e_per_adu": 2.0}],
)
def test_what_does_not_tell_configurations_apart(same: dict[str, object]) -> None:
    base = configuration_name(FrameInfo("dark", camera="A"), 10, 10)
    assert configuration_name(FrameInfo(**({"kind": "dark", "camera": "A"} | same)), 10, 10) == base  # type: ignore[arg-type]


def test_info_crosses_process_borders() -> None:
    info = info_of(GAIN=100, INSTRUME="Cam")
    assert pickle.loads(pickle.dumps(info)) == info
