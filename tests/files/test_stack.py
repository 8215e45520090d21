"""Many frames as one stack, in strips."""

from __future__ import annotations

import gzip
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from made_headers import header_of

from darkpipe.errors import FrameError
from darkpipe.files import stack
from darkpipe.files.frames import FrameStack

RNG = np.random.default_rng(20250102)
CUBE = RNG.integers(0, 65536, (6, 50, 40)).astype(np.uint16)


def save(path: Path, data: np.ndarray) -> Path:
    fits.PrimaryHDU(data, header_of()).writeto(path, overwrite=True)
    return path


def plain(folder: Path, cube: np.ndarray = CUBE) -> list[Path]:
    return [save(folder / f"{number}.fits", image) for number, image in enumerate(cube)]


def test_strips_put_together_are_the_frames(tmp_path: Path) -> None:
    with FrameStack(plain(tmp_path), [0] * 6, 50, 40) as frames:
        assert len(frames) == 6
        assert frames.dtype == np.uint16
        strips = [frames.read_rows(r0, min(r0 + 16, 50)) for r0 in range(0, 50, 16)]
        again = frames.read_rows(7, 8)
    assert [strip.shape for strip in strips] == [(6, 16, 40)] * 3 + [(6, 2, 40)]
    assert strips[0].dtype == np.uint16
    np.testing.assert_array_equal(np.concatenate(strips, axis=1), CUBE)
    np.testing.assert_array_equal(again, CUBE[:, 7:8])


def test_no_rows_are_an_empty_strip_and_rows_outside_are_a_bug(tmp_path: Path) -> None:
    with FrameStack(plain(tmp_path), [0] * 6, 50, 40) as frames:
        assert frames.read_rows(5, 5).shape == (6, 0, 40)
        with pytest.raises(ValueError, match="rows"):
            frames.read_rows(40, 51)


def test_more_frames_than_files_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_OPEN_FILES", 2)
    with FrameStack(plain(tmp_path), [0] * 6, 50, 40) as frames:
        np.testing.assert_array_equal(frames.read_rows(10, 30), CUBE[:, 10:30])


@pytest.mark.parametrize("packing", ["gz", "fz", "fz.gz"])
def test_packed_frames_stay_uint16(tmp_path: Path, packing: str) -> None:
    paths = []
    for number, image in enumerate(CUBE):
        path = tmp_path / f"{number}.fits"
        if packing.startswith("fz"):
            fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, header_of())]).writeto(path)
        else:
            save(path, image)
        if packing.endswith("gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
        paths.append(path.rename(path.with_suffix(f".fits.{packing}")))
    hdu = 1 if packing.startswith("fz") else 0
    with FrameStack(paths, [hdu] * 6, 50, 40) as frames:
        assert frames.dtype == np.uint16
        np.testing.assert_array_equal(frames.read_rows(10, 30), CUBE[:, 10:30])
        np.testing.assert_array_equal(frames.read_rows(0, 50), CUBE)


def test_what_was_unpacked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.fits", CUBE[0])
    path.write_bytes(gzip.compress(path.read_bytes()))
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with FrameStack([path], [0], 50, 40) as frames:
        assert len(list(folder.iterdir())) == 1
        np.testing.assert_array_equal(frames.read_rows(0, 50)[0], CUBE[0])
    assert list(folder.iterdir()) == []


def test_mixed_types_become_float32(tmp_path: Path) -> None:
    small = CUBE[0] // 8
    real = small.astype(np.float32)
    real[0, 0] = np.nan
    extension = tmp_path / "extension.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(small, header_of())]).writeto(extension)
    paths = [
        save(tmp_path / "u2.fits", small),
        save(tmp_path / "i2.fits", small.astype(np.int16)),
        save(tmp_path / "i4.fits", small.astype(np.int32)),
        save(tmp_path / "f4.fits", real),
        save(tmp_path / "f8.fits", small.astype(np.float64)),
        extension,
    ]
    with FrameStack(paths, [0, 0, 0, 0, 0, 1], 50, 40) as frames:
        strip = frames.read_rows(0, 50)
    assert strip.dtype == np.float32
    for image in (*strip[:3], *strip[4:]):
        np.testing.assert_array_equal(image, small.astype(np.float32))
    assert np.isnan(strip[3, 0, 0])
    np.testing.assert_array_equal(strip[3, 1:], small[1:].astype(np.float32))


def test_memory_is_bounded_by_the_strip(tmp_path: Path) -> None:
    image = np.zeros((1000, 500), np.uint16)
    paths = [save(tmp_path / "a.fits", image)] * 40
    tracemalloc.start()
    with FrameStack(paths, [0] * 40, 1000, 500) as frames:
        for r0 in range(0, 1000, 50):
            strip = frames.read_rows(r0, r0 + 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * strip.nbytes + 1e6  # two strips at a change-over
    assert peak < 40 * image.nbytes / 4


@pytest.mark.parametrize("damage", ["gone", "short", "grown", "other shape", "no fits"])
def test_frames_that_are_not_what_they_were_are_named(tmp_path: Path, damage: str) -> None:
    paths = plain(tmp_path)
    if damage == "gone":
        paths[3].unlink()
    elif damage == "short":
        paths[3].write_bytes(paths[3].read_bytes()[:4000])
    elif damage == "grown":
        save(paths[3], np.zeros((60, 40), np.uint16))
    elif damage == "other shape":
        save(paths[3], CUBE[3].T.copy())
    else:
        paths[3].write_bytes(b"text")
    with pytest.raises(FrameError, match=r"3\.fits"):
        FrameStack(paths, [0] * 6, 50, 40)


@pytest.mark.parametrize("kept_open", [True, False])
def test_a_frame_that_changes_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_open: bool) -> None:
    monkeypatch.setattr(stack, "_OPEN_FILES", 128 if kept_open else 0)
    paths = plain(tmp_path)
    with FrameStack(paths, [0] * 6, 50, 40) as frames:
        frames.read_rows(0, 10)
        os.truncate(paths[3], 4000)
        with pytest.raises(FrameError, match=r"changed its size.*3\.fits"):
            frames.read_rows(10, 20)


def test_a_frame_that_vanishes_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_OPEN_FILES", 0)
    paths = plain(tmp_path)
    with FrameStack(paths, [0] * 6, 50, 40) as frames:
        paths[3].unlink()
        with pytest.raises(FrameError, match=r"No such file.*3\.fits"):
            frames.read_rows(10, 20)


def test_a_unit_that_is_not_the_first_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="no image in unit 1"):
        FrameStack(plain(tmp_path), [1] * 6, 50, 40)


@pytest.mark.real
def test_real_frames(real_data: Path) -> None:
    paths = sorted((real_data / "stl1001e_sbu_dev" / "2017_cgs").glob("bias-Neg10*"))
    with FrameStack(paths, [0] * len(paths), 512, 512) as frames:
        strip = frames.read_rows(100, 164)
    expected = np.stack([fits.getdata(path)[100:164] for path in paths])
    np.testing.assert_array_equal(strip, expected)


def test_frames_in_memory_are_frames(tmp_path: Path) -> None:
    paths = plain(tmp_path)
    images = [np.asarray(fits.getdata(path), np.uint16) for path in paths]
    mixed = [*paths[:3], *images[3:]]
    with FrameStack(paths, [0] * 6, 50, 40) as disk, FrameStack(mixed, [0] * 6, 50, 40) as held:
        np.testing.assert_array_equal(held.read_rows(11, 30), disk.read_rows(11, 30))
        assert held.dtype == np.uint16
    with FrameStack([images[0].astype(np.float32) + 0.5, images[1]], [0, 0], 50, 40) as real:
        assert real.dtype == np.float32
        assert real.read_rows(0, 1)[0, 0, 0] == images[0][0, 0] + 0.5
    with pytest.raises(FrameError, match=r"shape \(50, 40\), not \(40, 50\)"):
        FrameStack(images, [0] * 6, 40, 50)
