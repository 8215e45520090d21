"""What is measured in a good frame, of whatever type and packing."""

from __future__ import annotations

import gzip
import json
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xxhash
from astropy.io import fits
from made_headers import header_of

from darkpipe.errors import ProductError, SettingsError
from darkpipe.files.frames import FrameSurvey, find_frames, survey_frame
from darkpipe.files.headers import usable_as

RNG = np.random.default_rng(20250101)
IMAGE = np.clip(np.rint(RNG.normal(1000.3, 8.0, (96, 128))), 0, 65535).astype(np.uint16)


def save(path: Path, data: np.ndarray = IMAGE, **cards: object) -> Path:
    fits.PrimaryHDU(data, header_of(**cards)).writeto(path, overwrite=True)
    return path


def test_a_frame_is_in_memory_once(tmp_path: Path) -> None:
    path = tmp_path / "large.fits"  # too large for the buffers that a thread keeps
    fits.PrimaryHDU(np.tile(IMAGE, (52, 40)), header_of()).writeto(path)
    size = path.stat().st_size
    first = survey_frame(path)
    tracemalloc.start()
    again = survey_frame(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size < peak < 1.3 * size
    assert again == first
    assert again.pixel_digest == xxhash.xxh3_128_hexdigest(np.tile(IMAGE, (52, 40)).tobytes())


def test_survey_of_a_good_frame(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits", PEDESTAL=-100)
    found = survey_frame(path)
    assert found.rejected is None
    assert found.info is not None
    assert (found.info.kind, found.info.exposure_s, found.info.pedestal_adu) == ("dark", 60.0, -100.0)
    assert (found.rows, found.cols, found.hdu, found.dtype) == (96, 128, 0, "uint16")
    assert (found.minimum, found.maximum) == (IMAGE.min(), IMAGE.max())
    assert found.bit_mask == int(np.bitwise_or.reduce(IMAGE, axis=None))
    assert found.change_mask == int(np.bitwise_or.reduce(IMAGE ^ IMAGE.min(), axis=None))
    assert (found.divisor, found.top_adu, found.n_low, found.n_high, found.n_nan) == (1, 65535.0, 0, 0, 0)
    assert not found.constant
    assert found.median_adu == pytest.approx(1000.3, abs=0.3)
    assert found.median_adu != round(found.median_adu)
    assert found.sigma_adu == pytest.approx(8.0, rel=0.03)
    assert found.p999_adu == pytest.approx(1000.3 + 3.09 * 8.0, abs=4.0)
    assert found.file_digest == xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert found.pixel_digest == xxhash.xxh3_128_hexdigest(IMAGE.astype("<u2").tobytes())
    assert found.bytes == path.stat().st_size


def test_the_median_is_finer_than_an_adu(tmp_path: Path) -> None:
    """Levels differ by a tenth of an ADU: medians of integers alone would be equal or a whole ADU apart."""
    noise = np.random.default_rng(5).normal(0.0, 2.0, (512, 512))
    levels = [100.0, 100.1, 100.2, 100.3]
    found = [
        survey_frame(save(tmp_path / f"{level}.fits", np.rint(level + noise).astype(np.uint16))) for level in levels
    ]
    assert [f.median_adu - found[0].median_adu for f in found] == pytest.approx([0.0, 0.1, 0.2, 0.3], abs=0.02)
    assert [f.sigma_adu for f in found] == pytest.approx([2.0] * 4, rel=0.03)


def test_corners_are_where_they_should_be(tmp_path: Path) -> None:
    image = IMAGE.copy()
    image[:12, :16] += 100
    image[:12, -16:] += 200
    image[-12:, :16] += 300
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert found.corner_medians_adu == pytest.approx((1100.3, 1200.3, 1300.3, 1000.3), abs=2.5)


@pytest.mark.parametrize(("shift", "divisor", "top"), [(0, 1, 65535.0), (2, 4, 65532.0), (4, 16, 65520.0)])
def test_left_aligned_converters(tmp_path: Path, shift: int, divisor: int, top: float) -> None:
    image = (IMAGE // 16) << shift
    image[0, :5], image[1, :7] = 0, 65535  # clipped values do not vote
    image[2, :3] = int(top)
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert (found.divisor, found.top_adu) == (divisor, top)
    assert (found.n_low, found.n_high) == (5, 10)
    assert found.bit_mask == 65535


def test_sigma_of_left_aligned_values_is_not_quantised(tmp_path: Path) -> None:
    noise = np.random.default_rng(6).normal(0.0, 1.0, (256, 256))
    image = (np.rint(60.25 + noise) * 16).astype(np.uint16)
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert found.sigma_adu / 16 == pytest.approx(math.sqrt(1 + 1 / 12), rel=0.05)
    assert found.median_adu / 16 == pytest.approx(60.25, abs=0.03)


def test_a_constant_frame_has_no_vote(tmp_path: Path) -> None:
    found = survey_frame(save(tmp_path / "a.fits", np.full((8, 8), 1024, np.uint16)))
    assert (found.constant, found.divisor, found.median_adu, found.sigma_adu) == (True, 0, 1024.0, 0.0)
    assert found.change_mask == 0


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
)
def test_all_types_of_pixels(tmp_path: Path, dtype: type) -> None:
    image = (IMAGE // 10).astype(dtype)
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert found.rejected is None
    assert (found.minimum, found.maximum) == (image.min(), image.max())
    assert found.median_adu == pytest.approx(float(np.median(image)), abs=0.5)
    assert found.divisor == 1
    same = survey_frame(save(tmp_path / "b.fits", (IMAGE // 10).astype(np.uint16)))
    assert found.pixel_digest == same.pixel_digest  # a copy in another type is a copy


def test_negative_values(tmp_path: Path) -> None:
    image = IMAGE.astype(np.int16) - 1000
    image[0, 0] = -32768
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert (found.dtype, found.n_low, found.top_adu) == ("int16", 1, 32767.0)
    assert found.median_adu == pytest.approx(0.3, abs=0.3)


@pytest.mark.parametrize(("bzero", "bscale"), [(1001.0, 2.0), (0.0, 0.5), (-100.0, 1.0), ("32768", "1"), (0.25, 1.0)])
def test_scaled_pixels(tmp_path: Path, bzero: object, bscale: object) -> None:
    stored = (IMAGE // 10).astype(np.int16)
    hdu = fits.PrimaryHDU(stored, header_of())
    hdu.header["BSCALE"], hdu.header["BZERO"] = 1.0, 0.0
    hdu.writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    for key, value in (("BSCALE", bscale), ("BZERO", bzero)):
        card = str(fits.Card(key, value)).encode()
        content = re.sub(key.encode().ljust(8) + b"=.{71}", card, content, count=1)
    (tmp_path / "a.fits").write_bytes(content)
    found = survey_frame(tmp_path / "a.fits")
    assert found.rejected is None
    assert found.minimum == pytest.approx(float(bzero) + float(bscale) * stored.min())  # type: ignore[arg-type]
    assert found.median_adu == pytest.approx(float(bzero) + float(bscale) * np.median(stored), abs=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("card", [("BSCALE", 0.0), ("BZERO", "many"), ("BITPIX", 12)])
def test_scaling_that_cannot_be(tmp_path: Path, card: tuple[str, object]) -> None:
    header = fits.PrimaryHDU(IMAGE.astype(np.int16), header_of()).header
    header["BSCALE"], header["BZERO"] = 1.0, 0.0
    text = header.tostring()
    for key in ("BSCALE", "BZERO", "BITPIX"):
        if key == card[0]:
            text = re.sub(key.ljust(8) + "=.{71}", str(fits.Card(*card)), text)
    (tmp_path / "a.fits").write_bytes(text.encode() + IMAGE.tobytes() + b"\0" * 2880)
    assert card[0] in (survey_frame(tmp_path / "a.fits").rejected or "")


def test_blank_pixels_are_nan(tmp_path: Path) -> None:
    image = IMAGE.astype(np.int16)
    image[3, :5] = -1
    found = survey_frame(save(tmp_path / "a.fits", image, BLANK=-1))
    assert (found.n_nan, found.dtype, found.minimum) == (5, "float32", IMAGE.min())


def test_nan_and_infinity_are_counted_and_left_out(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[0, :3], image[1, :4], image[2, 0] = np.nan, np.inf, -np.inf
    found = survey_frame(save(tmp_path / "a.fits", image))
    assert (found.rejected, found.n_nan) == (None, 8)
    assert found.maximum == IMAGE[3:].max() or found.maximum == IMAGE.max()
    assert found.median_adu == pytest.approx(1000.3, abs=0.3)


def test_fractions_are_not_raw(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32) + np.float32(0.25)
    assert "BITPIX = -32" in (survey_frame(save(tmp_path / "a.fits", image)).rejected or "")
    light = survey_frame(save(tmp_path / "b.fits", image, IMAGETYP="Light"))
    assert light.rejected is None  # its type is reason enough, and that is not judged here
    assert light.info is not None
    assert "IMAGETYP" in (usable_as(light.info) or "")


def test_a_degenerate_third_axis_is_no_cube(tmp_path: Path) -> None:
    found = survey_frame(save(tmp_path / "a.fits", IMAGE[None]))
    assert (found.rejected, found.rows, found.cols) == (None, 96, 128)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32])
def test_compressed_images(tmp_path: Path, compression: str, dtype: type) -> None:
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(IMAGE.astype(dtype), header_of(), compression_type=compression)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    found = survey_frame(path)
    assert (found.rejected, found.hdu, found.rows, found.cols) == (None, 1, 96, 128)
    assert found.pixel_digest == survey_frame(save(tmp_path / "b.fits")).pixel_digest
    (tmp_path / "plain_name.fits").write_bytes(path.read_bytes())  # the content counts, not the name
    assert survey_frame(tmp_path / "plain_name.fits").pixel_digest == found.pixel_digest
    (tmp_path / "c.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert survey_frame(tmp_path / "c.fits.gz").pixel_digest == found.pixel_digest


@pytest.mark.parametrize("compression", ["HCOMPRESS_1", "PLIO_1"])
def test_tiles_whose_decoders_are_not_safe_are_refused(tmp_path: Path, compression: str) -> None:
    """A damaged stream would make them write outside of their memory."""
    path = tmp_path / "a.fits.fz"
    hdu = fits.CompImageHDU(np.int16(IMAGE % 1000), header_of(), compression_type=compression)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    assert f"ZCMPTYPE = '{compression}'" in (survey_frame(path).rejected or "")


def test_gzip_whatever_the_name(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.fits")
    for name in ("b.fits.gz", "c.fits"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        found = survey_frame(tmp_path / name)
        assert found.rejected is None
        assert found.pixel_digest == survey_frame(plain).pixel_digest
        assert found.file_digest == xxhash.xxh3_128_hexdigest((tmp_path / name).read_bytes())


def test_json_comes_back(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[0, 0] = np.nan
    for data in (IMAGE, image, np.full((4, 4), np.nan, np.float32)):
        found = survey_frame(save(tmp_path / "a.fits", data, GAIN=100, XBINNING=2, YBINNING=1))
        text = found.to_json()
        back = FrameSurvey.from_json(text)
        assert back.to_json() == text
        assert back.info == found.info
        assert back.corner_medians_adu == pytest.approx(found.corner_medians_adu, nan_ok=True)
        json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
        assert text.count("\n") == 1
    assert FrameSurvey.from_json(FrameSurvey(rejected="why").to_json()).rejected == "why"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"info": 3}', '{"rejected": null}', "{"])
def test_damaged_json_is_a_product_error(text: str) -> None:
    with pytest.raises(ProductError, match="survey"):
        FrameSurvey.from_json(text)


def test_json_with_an_unknown_field_of_the_header_is_a_product_error(tmp_path: Path) -> None:
    found = json.loads(survey_frame(save(tmp_path / "a.fits")).to_json())
    found["info"]["colour"] = "red"
    with pytest.raises(ProductError):
        FrameSurvey.from_json(json.dumps(found))


def test_settings_reach_the_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits", MYTEMP=-33.0, EXPTIME=0.5)
    found = survey_frame(path, synonyms={"temperature": ["MYTEMP"]}, bias_max_exposure_s=1.0)
    assert found.info is not None
    assert (found.info.temperature_c, found.info.kind) == (-33.0, "bias")
    with pytest.raises(SettingsError):
        survey_frame(path, synonyms={"colour": ["X"]})


@pytest.mark.real
def test_all_real_campaign_frames_are_read(real_data: Path) -> None:
    frames = [path for path in find_frames(real_data) if path.relative_to(real_data).parts[0] != "headers"]
    kinds: dict[str, dict[str, int]] = {}
    for path in frames:
        found = survey_frame(path)
        assert found.rejected is None, path
        assert found.info is not None
        assert usable_as(found.info) is None, path
        assert (found.dtype, found.n_nan, found.constant) == ("uint16", 0, False)
        assert found.median_adu == pytest.approx(float(np.median(fits.getdata(path))), abs=1.0)
        counts = kinds.setdefault(path.relative_to(real_data).parts[0], {"bias": 0, "dark": 0})
        counts[found.info.kind] += 1
    assert kinds == {
        "apogee_arcsat": {"bias": 4, "dark": 4},
        "atik_toronto2022": {"bias": 3, "dark": 13},
        "cmos_dl_nrc_bias": {"bias": 11, "dark": 0},
        "st402_sbu": {"bias": 0, "dark": 15},
        "st7_wesleyan2018": {"bias": 0, "dark": 7},
        "st8_itb_cc0": {"bias": 3, "dark": 13},
        "stl1001e_sbu_dev": {"bias": 31, "dark": 43},
    }
