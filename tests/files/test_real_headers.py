"""Headers of real programs; the expected values were read off the cards by eye."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
from astropy.io import fits

from darkpipe.files.fits_bytes import parse_cards
from darkpipe.files.headers import FrameInfo, read_cards, read_info, usable_as
from darkpipe.files.survey import survey_frame


class Real(NamedTuple):
    """What a header says. Empty: kind and whatever follows are as the defaults say."""

    kind: str
    exposure_s: float | None
    temperature_c: float | None
    set_point_c: float | None = None
    gain: float | None = None
    egain: float | None = None
    binning: tuple[int, int] = (1, 1)
    camera: str = ""
    date_obs: str = ""
    pedestal: float = 0.0
    refused: str = ""  # a part of the reason, with its keyword; '' if it is a usable dark or bias


REAL = {
    "andor_solis_EXPOSURE_TEMP-999_UNSTTEMP_FRAME_is_date.fits": Real(
        "dark", 2.999999, 19.09, gain=0.0, date_obs="2019-12-23T20:02:22.000"
    ),
    "ccdops_sbig_st7_dark10s_no_IMAGETYP_PEDESTAL-100.fit": Real(
        *("dark", 10.0, -0.231815405223, None, None, 2.69, (1, 1), "SBIG ST-7", "2018-12-05T21:01:13.000", -100.0),
    ),
    "ccdops_sbig_st7_dark300s_22.8C_odd_IMAGETYP.fit": Real(
        *("dark", 300.0, 22.76414836716, None, None, 2.69, (1, 1), "SBIG ST-7", "2018-12-03T20:21:05.000", -100.0),
    ),
    "ccdsoft_sbig_st402_dark1200s_-15C.fit": Real(
        *("dark", 1200.0, -14.80951678064, -15.0, None, 1.49, (1, 2)),
        *("SBIG ST-402 CCD Camera", "2017-10-18T22:18:22.658"),
    ),
    "ccdsoft_sbig_stl1001_bias_+10C.fit": Real(
        *("bias", 0.0, 10.23831559782, 10.0, None, 2.06, (1, 1)),
        *("SBIG STL-1001 3 CCD Camera", "2019-09-06T20:33:02.805"),
    ),
    "ccdsoft_sbig_stl1001_dark60s_-5C.fit": Real(
        *("dark", 60.0, -4.817803680962, -5.0, None, 2.06, (1, 1)),
        *("SBIG STL-1001 3 CCD Camera", "2017-09-08T21:05:05.501"),
    ),
    "ccdsoft_st402_processed_float_light.fit": Real(
        *("light", 10.0, -10.20308403674, -10.0, None, 1.49, (1, 2)),
        *("SBIG ST-402 CCD Camera", "2016-10-07T00:15:38.088"),
        refused="IMAGETYP = 'Light Frame'",
    ),
    "dl_imaging_scmos_bias_EXPTIME_3.4e-05_T12.8.fit": Real(
        *("bias", 3.415488390601e-05, 12.789999961853027, 15.0, None, 2.4466311931610107, (2, 2)),
        *("DL Imaging", "2023-09-13T16:47:58.530"),
    ),
    "kast_OBSTYPE_DARK_360s_no_INSTRUME.fits": Real(
        "dark", 360.0, -96.80000305176, gain=1.0, camera="140", date_obs="2019-09-26T00:04:57.440"
    ),
    "kmtnet_CCDTEMP_string_EXPTIME_int.fits": Real(
        "light", 60.0, -88.45, camera="KMTS", date_obs="2015-10-29T00:21:42.000", refused="IMAGETYP = 'OBJECT'"
    ),
    "lco_floyds_raw_CCDATEMP_CCDSTEMP.fits.fz": Real(
        *("light", 2700.084, -70.1610031, -70.0, None, 2.3, (1, 1), "en12", "2020-03-21T18:14:26.411"),
        refused="OBSTYPE = 'SPECTRUM'",
    ),
    "lt_sprat_light_CCDATEMP_kelvin_uint16.fits": Real(
        *("light", 60.0, -59.479, -60.0, None, 2.45, (1, 1), "SPRAT", "2018-08-11T01:36:54.136"),
        refused="OBSTYPE = 'STANDARD'",
    ),
    "lt_sprat_master_DARK_600s_CCDATEMP_kelvin_float.fits": Real(
        "dark", 600.0, -59.479, -60.0, date_obs="2019-09-12T15:37:39.697", refused="BITPIX = -32"
    ),
    "maximdl410_apogee_alta_sip.fit": Real(
        *("light", 120.0, -19.01545425, -18.899999618530273),
        camera="Apogee Alta",
        date_obs="2011-09-01T02:09:05.000",
        refused="IMAGETYP = 'LIGHT'",
    ),
    "maximdl523_apogee_light.fit": Real(
        *("light", 36.6, -20.20166775, -20.0, None, 1.34967, (1, 1), "Apogee USB/Net", "2019-02-18T02:10:36.000"),
        refused="IMAGETYP = 'Light Frame'",
    ),
    "maximdl524_sbig_st8_dark25s_-10C.fit": Real(
        *("dark", 25.0, -9.7878172678115689, -10.0, None, 2.619999885559082, (1, 1)),
        *("SBIG ST-8 3 CCD Camera", "2015-10-16T15:49:47.000"),
    ),
    "maximdl613_apogee_arcsat_dark80s_-25C.fit": Real(
        "dark", 80.0, -25.10513775, -25.0, camera="Apogee USB/Net", date_obs="2019-05-03T10:40:30.000"
    ),
    "maximdl618_fli_aspen_float_PEDESTAL.fit": Real(
        *("master", 90.0, -20.04450525, -20.0),
        camera="AspenCG16",
        date_obs="2018-08-23T05:55:39.000",
        refused="FLATCOR",
    ),
    # the header cannot tell that this one holds Jupiter: its pixels are judged against its cell later
    "maximdl630_atik_MISLABELLED_dark_is_jupiter.fit": Real(
        *("dark", 10.0, -10.03, -10.0, None, None, (2, 2), "Atik Cameras", "2022-10-20T23:53:10.070"),
    ),
    "maximdl630_atik_dark10s_-10C.fit": Real(
        *("dark", 10.0, -10.03, -10.0, None, None, (2, 2), "Atik Cameras", "2022-10-14T21:26:58.000"),
    ),
    "maximdl630_atik_guider_no_temp.fit": Real(
        "light", 0.01, None, camera="Atik Cameras 2", date_obs="2022-10-14T03:20:02.440", refused="IMAGETYP"
    ),
    "maximdl650_apogee_arcsat_DARK_30s_-25C.fit": Real(
        "dark", 30.0, -25.04855925, -25.0, camera="dcam-spare", date_obs="2025-05-30T02:06:32.140"
    ),
    "microobservatory_CAMTEMP_kelvin_light.fits": Real(
        "light", 60.0, -2.15, camera="Main", date_obs="2017-12-20T01:33:43.317", refused="OBJECT = 'HATP-32'"
    ),
    "msdp_meudon_dark_minimal_header_no_exp_no_temp.fit": Real("unknown", None, None, refused="EXPTIME"),
    "nickel_OBSTYPE_DARK_0s_is_bias.fits": Real(
        "bias", 0.0, -111.0, gain=1.0, camera="Nickel Direct Camera", date_obs="2019-09-23T22:00:01.090"
    ),
    "nickel_OBSTYPE_DARK_15s_no_CCDTEMP_TEMPDET.fits": Real(
        "dark", 15.0, -107.5999984741, gain=1.0, camera="Nickel Direct Camera", date_obs="2019-09-23T00:34:09.440"
    ),
    "phd2_savetest_minimal_header.fit": Real("unknown", None, None, refused="EXPTIME"),
    "pocs_huntsman_DarkFrame_300s_STUBPIXELS.fits": Real(
        *("dark", 300.0, -1.5, 0.0, 100.0, 1.144744515419006, (1, 1), "371d420013090900", "2021-01-07T01:31:35.403"),
    ),
    "pocs_huntsman_bias_EXPTIME_1e-32_STUBPIXELS.fits": Real(
        *("bias", 1e-32, -1.5, 0.0, 100.0, 1.144744515419006, (1, 1), "371d420013090900", "2021-01-07T01:32:35.403"),
    ),
    "ste3_CCD-TEMP_in_kelvin.fits": Real(
        *("light", 150.04, -92.95, None, None, 1.9, (1, 1), "STE3 CCD", "2013-07-13T00:57:33.000"),
        refused="IMAGETYP = 'object'",
    ),
    # CCDSFPT = 4: the program's own picture type says flat, though no IMAGETYP does
    "uw_sbig_st7_EXPOSURE_TEMPERAT_only_date_only.fit": Real(
        *("flat", 126.0, -5.23215684599, None, None, 0.46, (1, 1), "SBIG ST-7/7E/7XE", "2019-05-06T23:49:21.000"),
        refused="CCDSFPT = 4",
    ),
    "uw_sbig_st7_bias_EXPOSURE0_TEMPERAT.fit": Real(
        *("bias", 0.0, -4.817803680962, None, None, 0.46, (1, 1), "SBIG ST-7/7E/7XE", "2019-05-01T23:05:12.000"),
    ),
}

TEXT = {
    "sample_headers__header_app.hdr": Real("master", 900.0, None, gain=0.0, refused="INTEGRAT"),
    "sample_headers__header_app2.hdr": Real(
        "master", 1.28, None, gain=120.0, camera="ZWO ASI294MC Pro", refused="CALFRAME = 'MasterFlat'"
    ),
    "sample_headers__header_apt.hdr": Real(
        *("light", 240.0, -15.0, -15.0, 120.0, 1.00224268436432, (1, 1), "ZWO ASI294MC Pro", "2018-09-17T21:04:46.000"),
        refused="IMAGETYP = 'Light Frame'",
    ),
    "sample_headers__header_dwarflab.hdr": Real(
        *("dark", 15.0, None, None, 110.0, None, (2, 2), "DWARFII", "2023-06-10T21:38:19.442"),
        refused="no temperature: none of CCD-TEMP",
    ),
    "sample_headers__header_maximdl.hdr": Real(
        *("master", 300.0, -34.99380225, -35.0, None, None, (1, 1), "Apogee USB/Net", "2018-07-04T14:03:03.000"),
        pedestal=-100.0,
        refused="CALSTAT = 'BDF'",
    ),
    "sample_headers__header_nina.hdr": Real(
        *("light", 30.0, -10.0, -10.0, 120.0, 1.00224268436432, (1, 1), "ZWO ASI294MC Pro", "2021-03-02T20:19:00.455"),
        refused="IMAGETYP = 'LIGHT'",
    ),
    "sample_headers__header_pixinsight.hdr": Real(
        *("master", 120.0, None, None, None, 3.62, (1, 1), "ZWO ASI183MC Pro", "2022-03-07T21:58:44.060"),
        refused="IMAGETYP = 'Master Light'",
    ),
    "sample_headers__header_seestar.hdr": Real(
        *("master", 10.0, 21.875, None, 80.0, None, (1, 1), "Seestar S50", "2025-05-13T22:48:35.752"),
        refused="STACKCNT = 187",
    ),
    "sample_headers__header_sgp_fixed_wcs.hdr": Real(
        *("light", 30.0, -17.5, -18.0, 120.0, 3.99000000953674, (1, 1), "ZWO ASI294MC Pro", "2020-05-30T00:22:49.097"),
        refused="IMAGETYP = 'LIGHT'",
    ),
    "sample_headers__header_sharpcap.hdr": Real(
        "dark", 2.0, 12.7, camera="ZWO ASI290MM Mini", date_obs="2019-04-29T20:25:29.822"
    ),
    "sample_headers__sgp_header.hdr": Real(
        *("light", 30.0, -17.5, -18.0, 120.0, 3.99000000953674, (1, 1), "ZWO ASI294MC Pro", "2020-05-30T00:22:49.097"),
        refused="IMAGETYP = 'LIGHT'",
    ),
    "sample_headers__wcs_header_m106.hdr": Real("unknown", None, None, refused="EXPTIME"),
    "test_fits_handlers__nina_header.hdr": Real(
        *("light", 30.0, -10.0, -10.0, 120.0, 1.00224268436432, (1, 1), "ZWO ASI294MC Pro", "2021-03-02T20:19:00.455"),
        refused="IMAGETYP = 'LIGHT'",
    ),
    "test_fits_handlers__sharpcap_header.hdr": Real(
        *("master", 280.0, -0.5, 0.0, 300.0, 0.1226, (1, 1), "ZWO ASI183MC Pro", "2025-03-19T22:51:59.385"),
        refused="SUBEXP = 8",
    ),
}


def compare(info: FrameInfo, expected: Real, reason: str | None) -> None:
    def near(value: float | None) -> object:
        return value if value is None else pytest.approx(value, rel=1e-9, abs=1e-40)

    assert info.kind == expected.kind
    assert info.exposure_s == near(expected.exposure_s)
    assert info.temperature_c == near(expected.temperature_c)
    assert info.set_point_c == near(expected.set_point_c)
    assert info.gain_setting == expected.gain
    assert info.egain_e_per_adu == near(expected.egain)
    assert (info.binning, info.camera, info.date_obs) == (expected.binning, expected.camera, expected.date_obs)
    assert info.pedestal_adu == expected.pedestal
    assert info.temperature_assumed == (expected.temperature_c is not None and "set point" in " ".join(info.notes))
    if expected.refused:
        assert reason is not None
        assert expected.refused in reason
    else:
        assert reason is None


@pytest.mark.real
def test_the_table_names_every_real_header(real_data: Path) -> None:
    folder = real_data / "headers"
    assert {path.name for path in folder.iterdir() if ".fit" in path.name} == set(REAL)
    assert {path.name for path in (folder / "text").iterdir()} == set(TEXT)


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_file(real_data: Path, name: str) -> None:
    found = survey_frame(real_data / "headers" / name)
    assert found.info is not None
    compare(found.info, REAL[name], found.rejected or usable_as(found.info))


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_header_of_astropy_says_the_same(real_data: Path, name: str) -> None:
    path = real_data / "headers" / name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.getheader(path, 1 if name.endswith(".fz") else 0)
    assert read_info(header) == survey_frame(path).info


@pytest.mark.real
@pytest.mark.parametrize("name", TEXT)
def test_real_listing(real_data: Path, name: str) -> None:
    lines = (real_data / "headers" / "text" / name).read_text(encoding="latin-1").splitlines()
    info = read_cards(parse_cards([line.ljust(80)[:80] for line in lines]))
    compare(info, TEXT[name], usable_as(info))


@pytest.mark.real
def test_details_of_real_headers(real_data: Path) -> None:
    def info(name: str) -> FrameInfo:
        found = survey_frame(real_data / "headers" / name).info
        assert found is not None
        return found

    scmos = info("dl_imaging_scmos_bias_EXPTIME_3.4e-05_T12.8.fit")
    assert (scmos.readout_mode, scmos.serial, scmos.roworder) == ("High Gain", "STC428M-20092901", "TOP-DOWN")
    assert info("ccdops_sbig_st7_dark10s_no_IMAGETYP_PEDESTAL-100.fit").saturation_adu == 65535
    assert info("ccdops_sbig_st7_dark10s_no_IMAGETYP_PEDESTAL-100.fit").kind_assumed
    assert info("lco_floyds_raw_CCDATEMP_CCDSTEMP.fits.fz").saturation_adu == 38400
    assert info("maximdl613_apogee_arcsat_dark80s_-25C.fit").flip == "Flip/Rotate 90 CW"
    assert any(
        "TEMP = -999" in note for note in info("andor_solis_EXPOSURE_TEMP-999_UNSTTEMP_FRAME_is_date.fits").notes
    )
