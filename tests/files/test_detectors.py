"""Images of many detectors in one file: their names, and reading one of them alone."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.errors import SettingsError
from darkpipe.files.detectors import (
    chosen,
    folders_with_frames,
    read_detectors,
    remove_common_drafts,
    units_of_file,
    write_detectors,
)
from darkpipe.files.fits_bytes import locate_image
from darkpipe.files.lights import read_light
from darkpipe.files.sources import BytesSource
from darkpipe.files.stack import FrameStack
from darkpipe.files.survey import survey_frame

RNG = np.random.default_rng(20)
IMAGES = RNG.integers(900, 1100, (3, 16, 24)).astype(np.uint16)


def header(name: str | None = None, **cards: Any) -> fits.Header:
    made = fits.Header()
    if name is not None:
        made["EXTNAME"] = name
    made["IMAGETYP"], made["EXPTIME"], made["CCD-TEMP"] = "Dark Frame", 10.0, -10.0
    made.update(cards)
    return made


def write(path: Path, kind: Any = fits.ImageHDU, names: tuple[str | None, ...] = ("A", "B", "C"), **more: Any) -> Path:
    units = [kind(image, header(name, **more)) for image, name in zip(IMAGES, names, strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("CCD1", "CCD2", "CCD3"), ["CCD1", "CCD2", "CCD3"]),
        ((None, "b", ""), ["hdu1", "b", "hdu3"]),
        (("north side/1", "../x", "."), ["north-side-1", "x", "hdu3"]),
    ],
)
def test_images_have_names_that_folders_can_have(tmp_path: Path, names: Any, found: list[str]) -> None:
    assert units_of_file(write(tmp_path / "a.fits", names=names)) == {
        "units": {name: number for number, name in enumerate(found, 1)}
    }


def test_versions_tell_images_of_one_name_apart(tmp_path: Path) -> None:
    units = [fits.ImageHDU(image, name="SCI", ver=n) for n, image in enumerate(IMAGES[:2], 1)]
    units.insert(1, fits.ImageHDU(name="EMPTY"))
    fits.HDUList([fits.PrimaryHDU(IMAGES[2]), *units]).writeto(tmp_path / "a.fits")
    assert units_of_file(tmp_path / "a.fits")["units"] == {"hdu0": 0, "SCI_1": 1, "SCI_2": 3}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [fits.ImageHDU, fits.CompImageHDU])
def test_each_image_is_read_by_itself(tmp_path: Path, kind: Any, packed: bool) -> None:
    path = write(tmp_path / "a.fits", kind)
    if packed:
        path = tmp_path / "a.fits.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    assert list(units_of_file(path)["units"]) == ["A", "B", "C"]
    for number, name in enumerate("ABC", 1):
        whole = survey_frame(path, detector=name)
        assert whole.rejected is None
        assert whole.hdu == number
        assert whole.bit_mask == np.bitwise_or.reduce(IMAGES[number - 1], axis=None)
        assert survey_frame(path, detector=name, file_digest=whole.file_digest) == whole
        np.testing.assert_array_equal(read_light(path, number).raw, IMAGES[number - 1])
        if not (packed and kind is fits.CompImageHDU):
            with FrameStack([path], [number], 16, 24) as stack:
                np.testing.assert_array_equal(stack.read_rows(3, 9)[0], IMAGES[number - 1, 3:9])
    assert survey_frame(path) == survey_frame(path, detector="A")


def test_an_image_that_is_not_there_rejects_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    for digest in ("", "known"):
        found = survey_frame(path, detector="D", file_digest=digest)
        assert "no image of this file is called D (there are: A, B, C)" in (found.rejected or "")
    missing = survey_frame(tmp_path / "none.fits", detector="A", file_digest="known")
    assert "No such file" in (missing.rejected or "")
    with pytest.raises(Exception, match="no image in unit 7"):
        locate_image(BytesSource(path.read_bytes()), 7)


def test_only_the_part_that_is_asked_for_is_read(tmp_path: Path) -> None:
    """What stands behind it may be damaged: no other detector hears of that."""
    path = write(tmp_path / "a.fits")
    content = path.read_bytes()
    path.write_bytes(content[:-2880])
    assert survey_frame(path, detector="A", file_digest="known").rejected is None
    assert "truncated" in (survey_frame(path, detector="C", file_digest="known").rejected or "")


def test_rubbish_holds_no_detectors(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"rubbish")
    assert "not a FITS file" in units_of_file(tmp_path / "a.fits")["rejected"]


def test_folders_are_those_with_frames(tmp_path: Path) -> None:
    for name in ("b", "a/deep", ".hidden", "empty", "out"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("b/1.fits", "a/deep/1.fit", ".hidden/1.fits", "out/1.fits", "1.fits"):
        (tmp_path / name).touch()
    assert folders_with_frames(tmp_path, tmp_path / "out") == ["a", "b"]


def test_chosen_detectors() -> None:
    assert chosen(["b", "a"], []) == ["b", "a"]
    assert chosen(["b", "a", "c"], ["c", "b"]) == ["b", "c"]
    with pytest.raises(SettingsError, match="there is no detector 'd'"):
        chosen(["b"], ["d"])
    with pytest.raises(SettingsError, match="no detector was found"):
        chosen([], [])
    with pytest.raises(SettingsError, match="'survey' cannot be the name"):
        chosen(["survey", "a"], [])
    assert chosen(["survey", "a"], ["a"]) == ["a"]


def test_the_table_gives_the_names_back(tmp_path: Path) -> None:
    write_detectors(tmp_path / "t.ecsv", "hdus", {"B": 2, "10": 3})
    assert read_detectors(tmp_path / "t.ecsv") == ["B", "10"]
    write_detectors(tmp_path / "t.ecsv", "folders", {"10": 0, "11": 0})
    assert read_detectors(tmp_path / "t.ecsv") == ["10", "11"]


def test_drafts_of_a_detector_are_left_to_its_own_run(tmp_path: Path) -> None:
    names = [".t.ecsv.1-1.draft", "survey/aa/.x.json.1-2.draft", "CCD1/.y.fits.1-3.draft"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_common_drafts(tmp_path)
    assert [name for name in names if (tmp_path / name).exists()] == names[2:]
