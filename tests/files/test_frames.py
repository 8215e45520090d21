"""Finding frames, and files that are none: damaged, odd, lying."""

from __future__ import annotations

import gzip
import logging
import math
import os
import re
import subprocess
import threading
import time
import tracemalloc
from pathlib import Path

import bad_frames
import numpy as np
import pytest
import xxhash
from astropy.io import fits
from made_headers import header_of

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files import survey
from darkpipe.files.frames import FrameSurvey, find_frames, frames_beside, survey_frame
from darkpipe.files.headers import usable_as

RNG = np.random.default_rng(20250101)
IMAGE = np.clip(np.rint(RNG.normal(1000.3, 8.0, (96, 128))), 0, 65535).astype(np.uint16)


def save(path: Path, data: np.ndarray = IMAGE, **cards: object) -> Path:
    fits.PrimaryHDU(data, header_of(**cards)).writeto(path, overwrite=True)
    return path


# --- finding


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_frames(root)]


def test_names_of_frames(tmp_path: Path) -> None:
    frames = ["a.fit", "b.FITS", "c.Fts", "d.fits.gz", "e.FIT.FZ", "f.xisf", "g.tar.fits", "sub dir/h.fit", "µ.fits"]
    others = [".hidden.fits", ".x.fits.1-0.draft", "x.txt", "fits", ".fits", "x.fits.bak", "x.gz", ".git/i.fits"]
    for name in frames + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.fits").mkdir()
    assert sorted(names(tmp_path)) == sorted(frames)
    assert names(tmp_path) == sorted(frames, key=lambda name: Path(name).parts)
    assert find_frames(tmp_path) == find_frames(tmp_path)


def test_loops_and_repeated_links_list_each_file_once(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.fits").write_bytes(b"1")
    for name in ("again", "also"):
        (tmp_path / name).symlink_to("real", target_is_directory=True)
    (real / "up").symlink_to("..", target_is_directory=True)
    (real / "b.fits").symlink_to("a.fits")
    (tmp_path / "c.fits").symlink_to("real/a.fits")
    assert names(tmp_path) == ["real/a.fits"]


def test_links_to_other_places_are_followed(tmp_path: Path) -> None:
    night = tmp_path / "elsewhere" / "night"
    night.mkdir(parents=True)
    (night / "a.fits").write_bytes(b"1")
    (night / "b.fits").write_bytes(b"2")
    root = tmp_path / "root"
    root.mkdir()
    (root / "night").symlink_to(night, target_is_directory=True)
    (root / "zz").symlink_to(night, target_is_directory=True)
    (root / "one.fits").symlink_to(night / "b.fits")
    (root / "nothing.fits").symlink_to(tmp_path / "gone.fits")
    assert names(root) == ["night/a.fits", "night/b.fits", "nothing.fits"]


def mounted_again(folder: Path, place: Path) -> None:
    """The same folder at a second place, which no name tells; skips where that is not permitted."""
    place.mkdir()
    try:
        subprocess.run(["mount", "--bind", folder, place], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a folder twice takes root on Linux")


def test_an_output_directory_is_none_of_the_frames_however_it_is_reached(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for path in (raw / "a.fits", out / "deep" / "product.fits", raw / "own" / "b.fits"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (raw / "up").symlink_to(tmp_path)
    (raw / "products").symlink_to(out / "deep" / "..")
    names = {p.name for p in find_frames(raw)}
    assert names == {"a.fits", "b.fits", "product.fits"}
    assert [p.name for p in frames_beside("raw frames", raw, out)] == ["a.fits", "b.fits"]
    assert [p.name for p in frames_beside("raw frames", raw, raw / "own")] == ["a.fits", "product.fits"]
    for same in (raw, raw / "own" / ".."):
        with pytest.raises(SettingsError, match="this is the folder of the raw frames"):
            frames_beside("raw frames", raw, same)
    assert len(frames_beside("raw frames", raw, tmp_path / "not yet made")) == 3


def test_a_folder_that_is_mounted_twice_is_one(tmp_path: Path) -> None:
    raw, again = tmp_path / "raw", tmp_path / "again"
    (raw / "out").mkdir(parents=True)
    (raw / "a.fits").touch()
    (raw / "out" / "product.fits").touch()
    mounted_again(raw, again)
    try:
        with pytest.raises(SettingsError, match="this is the folder of the raw frames"):
            frames_beside("raw frames", raw, again)
        assert [p.name for p in frames_beside("raw frames", raw, again / "out")] == ["a.fits"]
    finally:
        subprocess.run(["umount", again], check=True)


def test_a_missing_root_is_a_frame_error(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="nowhere"):
        find_frames(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.fits").write_bytes(b"")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with caplog.at_level(logging.WARNING):
        assert names(tmp_path) == ["a.fits"]
    assert "closed" in caplog.text


# --- files that are no frames


@pytest.mark.parametrize("name", bad_frames.CASES)
def test_files_as_they_are_met(tmp_path: Path, name: str) -> None:
    if name == "unreadable" and bad_frames.can_read_everything():
        pytest.skip("this user can read everything")
    case = bad_frames.write_case(tmp_path, name)
    if case.expectation == "ignored":
        assert case.path not in find_frames(tmp_path)
        return
    assert case.path in find_frames(tmp_path)
    found = survey_frame(case.path)
    reason = found.rejected or (usable_as(found.info) if found.info else "nothing was read")
    if case.expectation == "rejected" and case.level == "frame":
        assert reason
        assert re.search(case.word, reason, re.IGNORECASE)
    elif case.expectation == "accepted":
        assert reason is None


def test_permission_denied_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.fits")

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(survey, "open", denied, raising=False)
    assert "Permission denied" in (survey_frame(path).rejected or "")


def test_pipes_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.fits").mkdir()
    assert "not a regular file" in (survey_frame(tmp_path / "folder.fits").rejected or "")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.fits")
        assert "not a regular file" in (survey_frame(tmp_path / "pipe.fits").rejected or "")
    assert "No such file" in (survey_frame(tmp_path / "gone.fits").rejected or "")


def test_a_frame_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.fits")
    real = os.fstat

    def fstat(handle: int) -> os.stat_result:
        status = real(handle)
        with open(path, "ab") as stream:  # a capture program goes on writing
            stream.write(b"more")
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    assert "changed while it was read" in (survey_frame(path).rejected or "")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    content = save(tmp_path / "a.fits").read_bytes()
    whole = 2880 + IMAGE.nbytes
    for length in [1, 79, 80, 500, 2879, 2880, 2881, 10000, whole - 1]:
        (tmp_path / "b.fits").write_bytes(content[:length])
        found = survey_frame(tmp_path / "b.fits")
        assert found.rejected, length
        assert found.file_digest == xxhash.xxh3_128_hexdigest(content[:length])
    (tmp_path / "b.fits").write_bytes(content[:whole])
    assert survey_frame(tmp_path / "b.fits").rejected is None


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.fz"])
def test_lies_about_the_size_take_no_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    lie = b"16000"
    if suffix == ".fits.fz":
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, header_of())]).writeto(path)
        content = re.sub(rb"ZNAXIS([12]) = {17}(  96| 128)", rb"ZNAXIS\1 = " + b" " * 15 + lie, path.read_bytes())
        content = re.sub(rb"ZTILE1  = {18}128", b"ZTILE1  = " + b" " * 15 + lie, content)
    else:
        content = save(tmp_path / "plain.fits").read_bytes()
        content = re.sub(rb"NAXIS([12])  = {17}(  96| 128)", rb"NAXIS\1  = " + b" " * 15 + lie, content)
    assert content.count(b" " + lie) == (3 if suffix == ".fits.fz" else 2)
    path.write_bytes(gzip.compress(content) if suffix == ".fits.gz" else content)
    tracemalloc.start()
    found = survey_frame(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "NAXIS" in (found.rejected or "")
    assert peak < 20e6


def test_damaged_compression_is_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, header_of(), compression_type="GZIP_1")]).writeto(path)
    content = bytearray(path.read_bytes())
    content[-6000:-3000] = bytes(3000)
    path.write_bytes(content)
    assert "damaged" in (survey_frame(path).rejected or "")
    packed = bytearray(gzip.compress(save(tmp_path / "b.fits").read_bytes()))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "b.fits.gz").write_bytes(packed)
    assert "damaged" in (survey_frame(tmp_path / "b.fits.gz").rejected or "")


def test_random_damage_never_raises(tmp_path: Path) -> None:
    """Bytes of the header are overwritten at random: a reason or a frame, nothing else."""
    rng = np.random.default_rng(7)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, header_of())]).writeto(tmp_path / "c.fits")
    originals = [save(tmp_path / "a.fits").read_bytes(), (tmp_path / "c.fits").read_bytes()]
    fates = set()
    for number in range(120):
        content = bytearray(originals[number % 2])
        for _ in range(int(rng.integers(1, 12))):
            at = int(rng.integers(0, min(len(content), 9000)))
            content[at] = int(rng.choice(np.frombuffer(b"0123456789 '=/TF\xff\x00-.E", np.uint8)))
        (tmp_path / "b.fits").write_bytes(content)
        found = survey_frame(tmp_path / "b.fits")
        fates.add(found.rejected is None)
        assert FrameSurvey.from_json(found.to_json()).to_json() == found.to_json()
    assert fates == {True, False}


def test_surveys_in_threads_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, header_of())]).writeto(path)
    expected, results = survey_frame(path), []
    threads = [threading.Thread(target=lambda: results.append(survey_frame(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.to_json() for found in results] == [expected.to_json()] * 8


def test_a_large_frame_is_quick(tmp_path: Path) -> None:
    image = np.random.default_rng(8).integers(900, 1100, (2048, 2048)).astype(np.uint16)
    path = save(tmp_path / "a.fits", image)
    best = math.inf
    for _ in range(5):
        begin = time.perf_counter()
        survey_frame(path)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.25  # 0.025 s on an idle core; the machine may be busy
