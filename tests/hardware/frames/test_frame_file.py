"""Frames on disk: every header, the checksums, and what damage is found."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkpipe.files.headers import usable_as
from darkpipe.files.survey import survey_frame
from hardware.camera import CameraInfo, Exposure
from hardware.errors import CaptureError, DiskSpaceError
from hardware.frames import frame_file
from hardware.frames.fits_sum import checksum_text, ones_sum
from hardware.frames.frame_file import FrameTemperatures, read_pixels, verify_frame, write_dark
from hardware.planning.estimate import frame_bytes
from hardware.planning.slots import Slot

START = datetime(2025, 7, 29, 14, 30, 22, 123456, tzinfo=UTC)
INFO = CameraInfo(
    "Simulated IMX571",
    camera_id="SN-7",
    driver="driver 1.2",
    sensor_name="IMX571",
    sensor_cols=30,
    sensor_rows=20,
    pixel_size_um=(3.76, 3.76),
    gain=100,
    offset=50,
    readout_mode="High Gain",
    electrons_per_adu=0.25,
)
DARK = Slot("dark", 300.0, -10.0, 3)
WARM = FrameTemperatures(start=-10.0, middle=-9.9, end=-9.8, set_point=-10.0, power=45.5, heat_sink=22.25)


def noise(shape: tuple[int, int] = (20, 30)) -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)


def exposure(pixels: NDArray[np.uint16], seconds: float = 300.01, started: datetime = START) -> Exposure:
    return Exposure(pixels, seconds, started, started + timedelta(seconds=seconds), seconds)


def write(
    path: Path,
    pixels: NDArray[np.uint16],
    *,
    slot: Slot = DARK,
    info: CameraInfo = INFO,
    taken: Exposure | None = None,
    frame_id: str = "",
    temperatures: FrameTemperatures = WARM,
    qc: Sequence[str] = (),
    **more: Any,
) -> str:
    return write_dark(
        path,
        taken or exposure(pixels),
        info=info,
        slot=slot,
        frame_id=frame_id or f"s/{slot.key}",
        session="first",
        temperatures=temperatures,
        qc=qc,
        **more,
    )


def header(path: Path) -> fits.Header:
    with fits.open(path, checksum=True) as units:  # a wrong checksum is a warning, hence an error here
        assert len(units) == 1
        return units[0].header


def test_everything_that_is_known_stands_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    write(path, noise(), retries=2, qc=["odd", "very odd"], clock_jump_s=3600.0)
    wanted = {
        "BITPIX": 16,
        "BZERO": 32768,
        "IMAGETYP": "Dark Frame",
        "EXPTIME": 300.01,
        "EXPREQ": 300.0,
        "DATE-OBS": "2025-07-29T14:30:22.123",
        "DATE-END": "2025-07-29T14:35:22.133",
        "CCD-TEMP": -9.9,
        "T-START": -10.0,
        "T-END": -9.8,
        "SET-TEMP": -10.0,
        "COOL-POW": 45.5,
        "HSINKTMP": 22.25,
        "TEMPGATE": True,
        "GAIN": 100,
        "OFFSET": 50,
        "EGAIN": 0.25,
        "XBINNING": 1,
        "YBINNING": 1,
        "READOUTM": "High Gain",
        "INSTRUME": "Simulated IMX571",
        "CAMERAID": "SN-7",
        "FRAMEID": "s/T-10.0C/dark/300s/003",
        "SESSION": "first",
        "RETRIES": 2,
        "QCFLAGS": 2,
        "QC1": "odd",
        "QC2": "very odd",
        "CLKJUMP": 3600.0,
    }
    found = header(path)
    assert {key: found[key] for key in wanted} == wanted
    assert found["SWCREATE"].startswith("darkpipe ")
    assert found["MJD-OBS"] == pytest.approx(60885.604422, abs=1e-6)  # of 2025-07-29T14:30:22.12, by astropy.time
    assert all(found.comments[key] for key in ("EXPTIME", "CCD-TEMP", "FRAMEID"))


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    nothing = FrameTemperatures(start=math.nan, heat_sink=math.inf)
    write(path, noise(), info=CameraInfo("C"), temperatures=nothing, clock_jump_s=0.4)
    found = header(path)
    absent = ["CCD-TEMP", "T-START", "SET-TEMP", "COOL-POW", "HSINKTMP", "GAIN", "OFFSET", "EGAIN", "READOUTM"]
    assert [key for key in [*absent, "CAMERAID", "XPIXSZ", "CLKJUMP", "QC1"] if key in found] == []


@pytest.mark.parametrize(
    ("slot", "seconds", "kind"), [(DARK, 300.01, "dark"), (Slot("bias", 3.2e-5, -10.0, 1), 3.2e-5, "bias")]
)
def test_the_pipeline_reads_it_as_it_is(tmp_path: Path, slot: Slot, seconds: float, kind: str) -> None:
    pixels = noise()
    write(tmp_path / "frame.fits", pixels, slot=slot, taken=exposure(pixels, seconds))
    found = survey_frame(tmp_path / "frame.fits")
    assert found.rejected is None
    info = found.info
    assert info is not None
    assert usable_as(info) is None
    assert (info.kind, info.exposure_s, info.temperature_c, info.set_point_c) == (kind, seconds, -9.9, -10.0)
    assert (info.gain_setting, info.offset_setting, info.egain_e_per_adu) == (100, 50, 0.25)
    assert (info.readout_mode, info.camera, info.binning) == ("High Gain", "Simulated IMX571", (1, 1))
    assert info.date_obs == "2025-07-29T14:30:22.123"
    assert (found.dtype, found.rows, found.cols) == ("uint16", 20, 30)
    assert info.notes == ()


def test_times_of_another_zone_are_written_as_utc(tmp_path: Path) -> None:
    pixels, zone = noise(), timezone(timedelta(hours=9))
    write(tmp_path / "frame.fits", pixels, taken=exposure(pixels, started=START.astimezone(zone)))
    assert header(tmp_path / "frame.fits")["DATE-OBS"] == "2025-07-29T14:30:22.123"


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (37, 41), (720, 1), (1100, 1001)])
def test_pixels_come_back_and_astropy_agrees_with_the_checksum(tmp_path: Path, shape: tuple[int, int]) -> None:
    path, pixels = tmp_path / "frame.fits", noise(shape)
    write(path, pixels)
    with fits.open(path, checksum=True) as units:
        units.verify("exception")
        np.testing.assert_array_equal(units[0].data, pixels)
    np.testing.assert_array_equal(read_pixels(path), pixels)
    assert verify_frame(path, f"s/{DARK.key}") is None
    if shape != (1, 1):
        assert path.stat().st_size == frame_bytes(shape)


def test_pixels_in_another_order_are_written_as_they_are(tmp_path: Path) -> None:
    pixels = np.asfortranarray(noise((33, 21)))[::2, ::-1]
    write(tmp_path / "frame.fits", pixels)
    np.testing.assert_array_equal(read_pixels(tmp_path / "frame.fits"), pixels)


@given(st.integers(0, 0xFFFFFFFF))
def test_the_text_of_a_checksum_brings_the_sum_to_minus_zero(total: int) -> None:
    text = checksum_text(total)
    assert text.isalnum()
    turned = (text[1:] + text[0]).encode()  # as its words stand in a file
    words = ones_sum(turned) + 0xFFFFFFFF - ones_sum(b"0" * 16)
    assert (words + total) % 0xFFFFFFFF == 0


@given(st.binary(max_size=4100), st.integers(0, 1000))
def test_the_sum_is_that_of_big_endian_words(content: bytes, start: int) -> None:
    padded = content + b"\0" * (-len(content) % 4)
    plain = start + sum(int.from_bytes(padded[at : at + 4], "big") for at in range(0, len(padded), 4))
    assert ones_sum(content, start) % 0xFFFFFFFF == plain % 0xFFFFFFFF
    assert 0 <= ones_sum(content, start) <= 0xFFFFFFFF


def test_long_and_foreign_texts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    flag = "light leak: it's " + "bright " * 30
    info = CameraInfo("Камера 'Ü'", driver="d" * 100, readout_mode="mode\nof two lines")
    write(path, noise(), info=info, qc=[flag, "temperature −10 °C"])
    found = header(path)
    assert found["QC1"] == flag.rstrip()
    assert found["QC2"] == r"temperature \u221210 \xb0C"
    assert found["INSTRUME"] == r"\u041a\u0430\u043c\u0435\u0440\u0430 '\xdc'"
    assert found["READOUTM"] == r"mode\nof two lines"
    assert found["CAMDRV"] == "d" * 100


@pytest.mark.parametrize("place", [100, 1500, 2879, 2880 * 2 + 5, 2880 * 2 + 1199])
def test_a_changed_byte_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "frame.fits"
    write(path, noise())
    content = bytearray(path.read_bytes())
    content[place] ^= 0x04
    path.write_bytes(content)
    assert verify_frame(path, f"s/{DARK.key}") is not None


def test_damage_in_pixels_and_header_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    write(path, noise())
    good = path.read_bytes()
    path.write_bytes(good[:-2800] + b"\1" + good[-2799:])
    assert "DATASUM" in str(verify_frame(path, f"s/{DARK.key}"))
    path.write_bytes(good.replace(b"High Gain", b"Low  Gain"))
    assert "CHECKSUM" in str(verify_frame(path, f"s/{DARK.key}"))


def test_another_frame_and_no_frame_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    write(path, noise())
    whole = path.read_bytes()
    assert "another frame" in str(verify_frame(path, "s/T-10.0C/dark/300s/004"))
    for content in (b"", b"rubbish", whole[:-1], whole[:3000], whole + b"\0" * 2880):
        path.write_bytes(content)
        assert verify_frame(path, f"s/{DARK.key}") is not None
    assert "cannot be read" in str(verify_frame(tmp_path / "nowhere", "s"))
    fits.PrimaryHDU(np.zeros((5, 5), np.float32)).writeto(tmp_path / "other.fits")
    assert "another type" in str(verify_frame(tmp_path / "other.fits", "s"))


def test_a_file_is_replaced_as_a_whole_and_no_draft_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "frame.fits"
    first = write(path, noise())
    second = write(path, noise()[::-1].copy())
    assert first != second
    assert [p.name for p in path.parent.iterdir()] == ["frame.fits"]


def test_a_full_disk_is_told_as_such_and_leaves_the_old_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frame.fits"
    write(path, noise())
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(frame_file.os, "fsync", full)
    with pytest.raises(DiskSpaceError, match="the disk is full"):
        write(path, noise()[::-1].copy())
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["frame.fits"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match="cannot write"):
        write(tmp_path / "file" / "frame.fits", noise())


def test_pixels_of_another_type_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="float64"):
        write(tmp_path / "frame.fits", noise().astype(float))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        read_pixels(tmp_path / "nowhere.fits")
    (tmp_path / "bad.fits").write_bytes(b"rubbish")
    with pytest.raises(CaptureError, match="not a FITS file"):
        read_pixels(tmp_path / "bad.fits")
    fits.PrimaryHDU(np.zeros((5, 5), np.float32)).writeto(tmp_path / "other.fits")
    with pytest.raises(CaptureError, match="float32"):
        read_pixels(tmp_path / "other.fits")
